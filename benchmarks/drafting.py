"""Does drafting pay, predicted and measured: `python benchmarks/drafting.py [-o device.yaml]`, on the CPU.

Peak rates of this machine are measured and written as a device file, as `cost --device` reads it. For each setting a
step with drafts and a plain one are timed; the gain at the setting's acceptance follows from the two, as the text that
random weights make has none of its own. Beside it stands what `cost --drafting` says with the device file.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import torch

import dsvgraph
import dsvgraph_torch
from dsvgraph.files import write_atomic
from dsvgraph.passes.estimate import PlanOptions, device, plan
from dsvgraph.passes.estimate.drafting import tokens_per_step
from dsvgraph.passes.graph.drafting import drafting
from dsvgraph_torch.decoding.heads import Heads
from dsvgraph_torch.decoding.rows import Rows
from dsvgraph_torch.decoding.sampling import Sampler, Sampling

DENSE = dict(
    hidden_size=512, num_hidden_layers=10, first_k_dense_replace=10, intermediate_size=2048, num_attention_heads=8,
    q_lora_rank=256, kv_lora_rank=128, qk_nope_head_dim=64, qk_rope_head_dim=32, v_head_dim=64, vocab_size=2048,
    moe_intermediate_size=512, n_routed_experts=4, num_experts_per_tok=2, n_group=1, topk_group=1,
)  # fmt: skip
EXPERTS = DENSE | dict(num_hidden_layers=6, first_k_dense_replace=1, n_routed_experts=16, num_experts_per_tok=2)
SPECS = {
    "dense": ("deepseek_v3_tiny", DENSE),
    "experts": ("deepseek_v3_tiny", EXPERTS),
    "tutorial": ("tutorial_mtp", {}),
}


class Setting(NamedTuple):
    """One of SPECS, rows, drafts a step, and the chance that a draft is accepted."""

    name: str
    batch: int
    drafts: int
    acceptance: float


SETTINGS = [
    Setting("dense", 1, 1, 0.8), Setting("dense", 1, 2, 0.9), Setting("dense", 1, 1, 0.05), Setting("dense", 1, 4, 0.2),
    Setting("dense", 8, 1, 0.8), Setting("dense", 8, 2, 0.1), Setting("tutorial", 1, 1, 0.3),
    Setting("tutorial", 1, 2, 0.9), Setting("experts", 1, 1, 0.1), Setting("experts", 4, 2, 0.9),
]  # fmt: skip
OTHERS = [
    Setting("dense", 2, 1, 0.5), Setting("dense", 4, 3, 0.7), Setting("dense", 16, 1, 0.3), Setting("dense", 1, 3, 0.6),
    Setting("tutorial", 4, 1, 0.6), Setting("tutorial", 8, 2, 0.3), Setting("experts", 1, 2, 0.7),
    Setting("experts", 2, 1, 0.4), Setting("experts", 8, 1, 0.9), Setting("experts", 1, 4, 0.5),
]  # fmt: skip
"""Settings that were chosen before anything was measured of them, by which nothing was calibrated."""

CONTEXT, STEPS = 128, 24


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("-o", "--output", type=Path, default=Path("this_cpu.yaml"), help="the device file")
    parser.add_argument("--others", action="store_true", help="ten other settings")
    asked = parser.parse_args()
    path, settings = asked.output, OTHERS if asked.others else SETTINGS
    torch.set_num_threads(1)
    write_device(path)
    print(path.read_text(encoding="utf-8"))
    print(f"{'model':9} {'rows':>4} {'K':>2} {'a':>5} {'plain':>9} {'drafts':>9} {'measured':>9} {'predicted':>9}")
    right = sum(report(setting, path) for setting in settings)
    print(f"the sign is right in {right} of {len(settings)}")


def write_device(path: Path) -> None:
    """Measure the rates of one thread in float32: a large product, and a product that reads a large matrix once."""
    x, w, v = torch.randn(384, 384), torch.randn(2048, 4096), torch.randn(1, 4096)
    flops = 2 * 384**3 / fastest(lambda: x @ x)
    bandwidth = w.numel() * 4 / fastest(lambda: v @ w.t())
    rates = f"flops: {{float32: {flops:.4g}}}, bandwidth: {bandwidth:.4g}, memory: 8e9"
    write_atomic(path, f"this_cpu: {{name: one thread of this CPU, {rates}, source: measured}}\n")


def fastest(run: Callable[[], Any]) -> float:
    """Return the least seconds of many runs."""
    times = []
    for _ in range(200):  # the least of many: others use the machine too
        started = time.perf_counter()
        run()
        times.append(time.perf_counter() - started)
    return min(times)


def report(setting: Setting, path: Path) -> bool:
    """Print a line for a setting; return whether the sign of its gain was predicted."""
    model = dsvgraph.load(*SPECS[setting.name])
    plain, drafted = seconds(model, setting)
    measured = tokens_per_step([setting.acceptance] * setting.drafts) * plain / drafted
    options = PlanOptions(
        phase="decode", batch=setting.batch, context=CONTEXT, dtype="float32", drafting=True, drafts=setting.drafts,
        reuse_last=True, acceptance=(setting.acceptance,), device=device(str(path)),
    )  # fmt: skip
    found = plan(model, options).drafting_estimate
    assert found and found.speedup
    print(
        f"{setting.name:9} {setting.batch:4} {setting.drafts:2} {setting.acceptance:5.2f} {plain * 1e3:6.1f} ms "
        f"{drafted * 1e3:6.1f} ms {measured:8.2f}x {found.speedup.value:8.2f}x",
        flush=True,
    )
    return (measured > 1) == (found.speedup.value > 1)


def seconds(model: dsvgraph.Model, setting: Setting) -> tuple[float, float]:
    """Return the seconds of a plain step and of one with drafts, the medians of steps that take turns."""
    module = dsvgraph_torch.compile(model, kernels="decoding").eval()
    heads = Heads(module, drafting(model, setting.drafts, reuse_last=True))
    steps = [timed(module, setting, None), timed(module, setting, heads)]
    times = [[next(step) for step in steps] for _ in range(STEPS)]
    return statistics.median(t[0] for t in times), statistics.median(t[1] for t in times)


def timed(module: Any, setting: Setting, heads: Heads | None) -> Any:
    """Yield the seconds of one step after another."""
    prompts = torch.randint(200, (setting.batch, CONTEXT), generator=torch.Generator().manual_seed(0)).tolist()
    sampler = Sampler(Sampling(temperature=0), setting.batch)
    rows = Rows(module, prompts, 10 * STEPS, 2 * CONTEXT + 10 * STEPS, sampler, 10**9, heads)
    made = rows.run()
    while True:
        steps, started = rows.counts.steps, time.perf_counter()
        while rows.counts.steps == steps:
            next(made)
            started = started if rows.counts.steps > steps else time.perf_counter()
        yield time.perf_counter() - started
        for _ in range(setting.batch - 1):
            next(made)


if __name__ == "__main__":
    main()
