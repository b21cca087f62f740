"""The most memory that a training step takes, as `dsvgraph cost --phase train` predicts it and as torch allocates it.

On a GPU the figure is `torch.cuda.max_memory_allocated` without the workspaces that cuBLAS keeps, on a CPU the
running sum of what a tracing allocator is asked for. A step is forward, backward and AdamW; the second one counts.

    python benchmarks/memory.py [--device cuda] [--batch 4] [--seq 64] [--specs deepseek_v3_tiny ...] [--depths 0 1 2 3]
"""

from __future__ import annotations

import argparse
import copy
import itertools
from collections.abc import Callable, Iterable, Iterator
from typing import Any, NamedTuple

import torch
from rich.console import Console
from rich.table import Table
from torch.utils.checkpoint import checkpoint

import dsvgraph
import dsvgraph_torch
from dsvgraph.graph import Mode
from dsvgraph.passes.count.cost import cost
from dsvgraph.passes.estimate.memory import TrainingMemory, training
from dsvgraph_torch.measuring.memory import held, on_gpu, traced

DEPTH = "num_nextn_predict_layers"
VARIANTS = "eagle hyper_connections medusa mtp_paper mtp_sum parallel parallel_heads qk_norms sandwich_norms"
SPECS = ["deepseek_v3_tiny", "tutorial_mtp", *(f"variants/{name}" for name in VARIANTS.split())]
DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}


class Case(NamedTuple):
    """One step that is measured."""

    model: dsvgraph.Model
    batch: int
    seq: int
    dtype: str = "float32"
    checkpoint: bool = False
    device: str = "cpu"


def predicted(case: Case) -> TrainingMemory:
    counts = cost(case.model, formulas=False).parameters
    fused = case.device != "cpu"
    return training(case.model, case.batch, case.seq, counts.trained, case.dtype, fused, counts.total)  # type: ignore[arg-type]


def expected(case: Case) -> int:
    """The predicted peak in bytes."""
    found = predicted(case)
    peak = found.peak_checkpointed if case.checkpoint else found.peak
    return int(peak.value)


# -- what torch takes ---------------------------------------------------------------------------


def allocated(case: Case) -> int:
    """The most bytes that a second step holds at any time, weights and AdamW's states included."""
    step, before = stepper(case)
    step()
    return on_gpu(step) if case.device != "cpu" else traced(step, before)


def stepper(case: Case) -> tuple[Callable[[], object], Callable[[], int]]:
    """One step of a compiled module, again and again, and how many bytes it holds in between."""
    module = dsvgraph_torch.compile(case.model).train().to(case.device)
    if case.checkpoint:
        checkpointed(module, case.model)
    optimizer = torch.optim.AdamW([p for p in module.parameters() if p.requires_grad], lr=1e-4, fused=True)
    ids = [torch.randint(0, case.model.config["vocab_size"], (case.batch, case.seq), device=case.device) for _ in "xy"]

    def step() -> None:
        with torch.autocast(case.device, DTYPES[case.dtype], enabled=case.dtype != "float32"):
            loss = module(*ids)["loss"]
        loss.backward()
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)

    return step, lambda: held(module, optimizer)


def checkpointed(module: torch.nn.Module, model: dsvgraph.Model) -> None:
    """Wraps every copy of a repeated line on the first page; what a copy notes in the context, it notes once."""
    for path in repeated(model):
        layer = module.get_submodule(path)
        layer.forward = Once(layer.forward)  # type: ignore[method-assign]


def repeated(model: dsvgraph.Model) -> Iterator[str]:
    """Paths of the copies."""
    for node in model.nodes.values():
        if node.mode is Mode.REPEAT:
            yield from dict.fromkeys(node.segment(number) for number, _ in node.copy_graphs())


class Once:
    """A forward under a checkpoint. What balance losses read is noted the first time alone."""

    def __init__(self, forward: Callable[..., Any]) -> None:
        self.forward = forward

    def __call__(self, *args: Any) -> Any:
        turns = iter((True,))

        def run(*inputs: Any) -> Any:
            *values, ctx = inputs
            if not next(turns, False):  # the second time: nobody reads what is noted
                ctx = copy.copy(ctx)
                ctx.balance = {}
            return self.forward(*values, ctx)

        return checkpoint(run, *args, use_reentrant=False)


# -- the table ----------------------------------------------------------------------------------


def cases(options: argparse.Namespace, dtypes: Iterable[str]) -> Iterator[tuple[str, Case]]:
    """Yield every spec at every depth that it knows, in each precision, with and without checkpoints."""
    for name in options.specs:
        known = DEPTH in dsvgraph.load(name).config
        for depth in options.depths if known else [None]:
            try:
                model = dsvgraph.load(name, {} if depth is None else {DEPTH: depth})
            except dsvgraph.DsvError:
                continue  # a loss that needs a head
            label = name if depth is None else f"{name}, depth {depth}"
            for dtype, again in itertools.product(dtypes, (False, True)):
                yield label, Case(model, options.batch, options.seq, dtype, again, options.device)


def main() -> None:
    from machine import described, left_out  # beside this file, where it is run as a program

    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu", choices=["cuda", "cpu"])
    parser.add_argument("--batch", type=int, default=4)
    parser.add_argument("--seq", type=int, default=64)
    parser.add_argument("--specs", nargs="+", default=SPECS)
    parser.add_argument("--depths", nargs="+", type=int, default=[0, 1, 2, 3])
    options = parser.parse_args()
    title = f"peak of a training step, {options.batch} x {options.seq} tokens, {options.device}"
    made = Table(
        "", "precision", "checkpoints", "predicted, bytes", "allocated, bytes", "predicted too much", title=title
    )
    off, emulation = [], left_out(options.device)
    for label, case in cases(options, [name for name in DTYPES if not (emulation and name == "bfloat16")]):
        told, found = expected(case), allocated(case)
        off.append(told / found - 1)
        made.add_row(
            label, case.dtype, "yes" if case.checkpoint else "no", f"{told:,}", f"{found:,}", f"{off[-1]:+.1%}"
        )
    console = Console(width=120)
    console.print(made)
    console.print(f"{len(off)} steps, {min(off):+.1%} to {max(off):+.1%}; {described(options.device)}")
    if emulation:
        console.print(emulation)


if __name__ == "__main__":
    main()
