"""Training speed on a CPU beside transformers' DeepseekV3ForCausalLM: same sizes, batch and optimizer, no MTP.

Three models: the mixture of 14 million parameters, a dense one of as many, and the tiny spec. Every figure is a median
over rounds in which all models take one step each in turn, so that a busy machine slows all alike; what counts are the
ratios: to the faster of transformers' experts implementations, and to the machine's own rate of matrix products. The
last table takes one fast function away at a time.

    python benchmarks/training.py [--rounds 7] [--threads 2] [--models moe,dense,tiny] [--json FILE]
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Callable
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from machine import described, left_out, rate
from rich.console import Console
from rich.table import Table

import dsvgraph
import dsvgraph_torch
from dsvgraph_hf import peer
from dsvgraph_torch.kernels import cpu
from dsvgraph_torch.kernels.cpu.memory import keep_memory

SIZES = {
    "vocab_size": 4096,
    "hidden_size": 256,
    "num_hidden_layers": 6,
    "first_k_dense_replace": 1,
    "num_attention_heads": 8,
    "q_lora_rank": 192,
    "kv_lora_rank": 128,
    "qk_nope_head_dim": 32,
    "qk_rope_head_dim": 16,
    "v_head_dim": 32,
    "intermediate_size": 768,
    "moe_intermediate_size": 144,
    "n_routed_experts": 16,
    "n_shared_experts": 1,
    "num_experts_per_tok": 4,
    "n_group": 4,
    "topk_group": 2,
}
DENSE = {
    "vocab_size": 4096,
    "hidden_size": 384,
    "num_hidden_layers": 6,
    "num_attention_heads": 6,
    "num_key_value_heads": 6,
    "head_dim": 64,
    "intermediate_size": 1152,
}
MODELS = {
    "moe": ("deepseek_v3_tiny", {**SIZES, "num_nextn_predict_layers": 0}, 8, 256),
    "dense": ("qwen3_8b", DENSE, 8, 256),
    "tiny": ("deepseek_v3_tiny", {"num_nextn_predict_layers": 0}, 16, 128),
}
"""Spec, config, and the rows and tokens of a batch."""

GROUPS = {
    "attention": ("attention",),
    "rope": ("rope",),
    "norms": ("RMSNorm",),
    "gated experts": (cpu.NAME,),
    "experts": (cpu.NAME, "Linears", "Ragged", "combine", "dispatch", "grouped"),
    "loss": ("head_cross_entropy",),
    "linear": ("Linear", "linear"),
}
"""Fast functions that are taken away together."""

Step = Callable[[bool], None]


def stepper(model: torch.nn.Module, loss: Callable[[], torch.Tensor]) -> Step:
    """Return one optimizer step of a model, in float32 or under bfloat16 autocast."""
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4, fused=True)

    def step(autocast: bool) -> None:
        optimizer.zero_grad()
        with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
            value = loss()
        value.backward()
        optimizer.step()

    return step


class Bench:
    """One of MODELS: its graph, and one batch."""

    def __init__(self, name: str) -> None:
        spec, self.config, batch, seq = MODELS[name]
        self.name, self.graph = name, dsvgraph.load(spec, self.config)
        row = torch.randint(0, int(self.graph.config["vocab_size"]), (batch, seq + 1))
        self.ids, self.targets = row[:, :-1].contiguous(), row[:, 1:].contiguous()
        self.flops = dsvgraph.cost(self.graph, batch, seq, formulas=False).flops.train

    def ours(self, kernels: str) -> Step:
        """Return our step, by the plain or the fast functions."""
        model = dsvgraph_torch.compile(self.graph, kernels=kernels).train()
        return stepper(model, lambda: model(self.ids, self.targets)["loss"])

    def theirs(self, way: str) -> Step:
        """Return transformers' step, run in one of its ways."""
        model = peer.build(self.graph, way, "cpu", 0, self.ids.shape[1]).train()
        return stepper(model, lambda: peer.loss(model, self.ids))

    def contenders(self) -> dict[str, Step]:
        """Return every model that takes part, ready to step on one batch."""
        steps = {f"transformers, {way}": self.theirs(way) for way in peer.ways(self.graph, "cpu", False)}
        return steps | {f"dsvgraph, {kernels}": self.ours(kernels) for kernels in ("plain", "fast")}

    def less(self) -> dict[str, Step]:
        """Return our steps with one group of fast functions away in each."""
        steps = {"all": self.ours("fast")}
        for group, names in GROUPS.items():
            with without(names):
                steps[f"without {group}"] = self.ours("fast")
        return steps


@contextmanager
def without(names: tuple[str, ...]) -> Any:
    """Take fast functions away in the block."""
    away = {name: cpu.FUNCTIONS.pop(name) for name in names if name in cpu.FUNCTIONS}
    try:
        yield
    finally:
        cpu.FUNCTIONS.update(away)


def measure(steps: dict[str, Step], rounds: int, autocast: bool) -> dict[str, float]:
    """Return the median seconds of a step, the models taking turns; one round of warm-up."""
    times: dict[str, list[float]] = {name: [] for name in steps}
    for turn in range(rounds + 1):
        for name, step in steps.items():
            start = time.perf_counter()
            step(autocast)
            if turn:
                times[name].append(time.perf_counter() - start)
    return {name: statistics.median(t) for name, t in times.items()}


def records(bench: Bench, rounds: int, autocast: bool) -> list[dict[str, Any]]:
    """Return a record of each contender, with its ratios."""
    dtype = torch.bfloat16 if autocast else torch.float32
    seconds, peak = measure(bench.contenders(), rounds, autocast), rate(dtype)
    best = min(t for name, t in seconds.items() if name.startswith("transformers"))
    return [
        {"model": bench.name, "dtype": str(dtype)[6:], "who": name, "tokens_per_second": bench.ids.numel() / t,
         "to_transformers": best / t, "of_matrix_rate": bench.flops / t / peak}
        for name, t in seconds.items()
    ]  # fmt: skip


def gains(bench: Bench, rounds: int) -> list[dict[str, Any]]:
    """Return how much longer a step takes without each group of fast functions."""
    seconds = measure(bench.less(), rounds, False)
    return [{"model": bench.name, "who": name, "time": t / seconds["all"]} for name, t in seconds.items()]


def shown(found: list[dict[str, Any]], title: str) -> Table:
    """Return records as a table, shares in percent."""
    keys = [key for key in found[0] if key not in ("model", "dtype")]
    table = Table(*(key.replace("_", " ") for key in keys), title=title, caption=described())
    text = {"tokens_per_second": "{:,.0f}", "of_matrix_rate": "{:.0%}", "to_transformers": "{:.2f}", "time": "{:.3f}"}
    for record in found:
        table.add_row(*(text.get(key, "{}").format(record[key]) for key in keys))
    return table


def main() -> None:
    """Print the tables, and write them as JSON if asked."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--models", default=",".join(MODELS))
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    torch.manual_seed(0)
    keep_memory()
    emulation, console, found, less = left_out(), Console(), [], []
    for name in options.models.split(","):
        bench = Bench(name)
        for autocast in (False,) if emulation else (False, True):
            found += (own := records(bench, options.rounds, autocast))
            console.print(shown(own, f"{name}, {own[0]['dtype']}"))
        less += gains(bench, options.rounds)
        console.print(shown(less[-1 - len(GROUPS) :], f"{name}, float32: time without some of the fast functions"))
        if options.json:
            options.json.write_text(json.dumps({"training": found, "without": less}, indent=1) + "\n", encoding="utf-8")
    if emulation:
        console.print(emulation)


if __name__ == "__main__":
    main()
