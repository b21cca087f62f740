"""Training speed beside transformers' DeepseekV3ForCausalLM: same sizes, batch and optimiser, no MTP.

Every figure is a median over rounds in which the models take one step each in turn, so that a busy
machine slows all alike; what counts is the ratio. transformers runs with both of its experts
implementations that suit a CPU, and is represented by the faster.

    python benchmarks/training.py [--rounds 7] [--batch 8] [--seq 256] [--threads 2]
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable

import torch
from machine import described, left_out
from rich.console import Console
from rich.table import Table
from transformers import DeepseekV3Config, DeepseekV3ForCausalLM

import dsvgraph
import dsvgraph_torch

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
EXPERTS = ("eager", "grouped_mm")  # batched_mm gathers a copy of the weights per token: 50 times slower here
Step = Callable[[bool], None]


def transformers_model(experts: str) -> torch.nn.Module:
    """transformers' model of the same sizes, with one of its experts implementations."""
    config = DeepseekV3Config(
        **SIZES,
        num_key_value_heads=SIZES["num_attention_heads"],
        max_position_embeddings=4096,
        rope_interleave=True,
    )
    config._experts_implementation = experts
    return DeepseekV3ForCausalLM(config).train()


def stepper(model: torch.nn.Module, loss: Callable[[], torch.Tensor]) -> Step:
    """One optimizer step of a model, in float32 or under bfloat16 autocast."""
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4, fused=True)

    def step(autocast: bool) -> None:
        optimizer.zero_grad()
        with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
            value = loss()
        value.backward()
        optimizer.step()

    return step


def contenders(batch: int, seq: int) -> dict[str, Step]:
    """Every model that takes part, ready to step on one batch."""
    row = torch.randint(0, SIZES["vocab_size"], (batch, seq + 1))
    ids, targets = row[:, :-1].contiguous(), row[:, 1:].contiguous()
    graph = dsvgraph.load("deepseek_v3_tiny", {**SIZES, "num_nextn_predict_layers": 0})
    steps: dict[str, Step] = {}
    for experts in EXPERTS:
        theirs = transformers_model(experts)
        steps[f"transformers, {experts}"] = stepper(theirs, lambda m=theirs: m(input_ids=ids, labels=ids).loss)  # type: ignore[misc]
    for kernels in ("plain", "fast"):
        ours = dsvgraph_torch.compile(graph, kernels=kernels).train()
        steps[f"dsvgraph, {kernels}"] = stepper(ours, lambda m=ours: m(ids, targets)["loss"])  # type: ignore[misc]
    return steps


def measure(steps: dict[str, Step], rounds: int, autocast: bool) -> dict[str, float]:
    """Median seconds of a step, the models taking turns; one round of warm-up."""
    times: dict[str, list[float]] = {name: [] for name in steps}
    for turn in range(rounds + 1):
        for name, step in steps.items():
            start = time.perf_counter()
            step(autocast)
            if turn:
                times[name].append(time.perf_counter() - start)
    return {name: statistics.median(t) for name, t in times.items()}


def main() -> None:
    """Prints tokens per second, and the ratio to transformers' fastest."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name, default in (("rounds", 7), ("batch", 8), ("seq", 256), ("threads", 2)):
        parser.add_argument(f"--{name}", type=int, default=default)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    torch.manual_seed(0)
    steps = contenders(options.batch, options.seq)
    emulation = left_out()
    for autocast in (False,) if emulation else (False, True):
        seconds = measure(steps, options.rounds, autocast)
        best = min(t for name, t in seconds.items() if name.startswith("transformers"))
        table = Table(
            "model", "tokens/s", "ratio", title="bfloat16 autocast" if autocast else "float32", caption=described()
        )
        for name, t in seconds.items():
            table.add_row(name, f"{options.batch * options.seq / t:,.0f}", f"{best / t:.2f}")
        Console().print(table)
    if emulation:
        Console().print(emulation)


if __name__ == "__main__":
    main()
