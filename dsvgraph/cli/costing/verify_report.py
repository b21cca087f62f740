"""The text of `dsvgraph cost --verify`."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from dsvgraph.backends.verification import Block, Measurement, Pair, Step, Verification
from dsvgraph.cli import output

if TYPE_CHECKING:
    from rich.console import RenderableType

PASSES = ("forward", "backward")


def parts(found: Verification) -> Iterator[RenderableType]:
    """Yield how the runs ended, the blocks, the differences, and which formula counted what."""
    first, last = found.runs[0], found.runs[-1]
    yield f"{output.cell(found.name)}: the compiled module under {found.counter}, attention as whole squares\n"
    yield output.table(["", "", ">", "", ""], map(_run, found.runs))
    if found.skipped:
        yield output.cell(found.skipped)
    if last.changed:
        yield f"sizes of the reduced model: {', '.join(f'{n} {v}' for n, v in last.changed.items())}"
    yield ""
    columns = ["path", "block", ">copies", ">forward", ">backward", found.backend]
    yield output.table(columns, _blocks(first), wraps=columns[:2])
    for run in found.runs:
        yield from _differences(run, found.backend)
    if found.step:
        yield from _step(found.step, first, found.backend)
    yield from _by_formula(last, found.backend)
    yield f"\ncounted by nobody on the {_device(last)}: calls, numbers made"
    yield ", ".join(f"{u.op} ({u.calls:,}, {output.short(u.elements, 'KMBT')})" for u in last.uncounted)


def _device(run: Measurement) -> str:
    return "CPU" if run.device == "cpu" else f"{run.device} device"


def _run(run: Measurement) -> tuple[str, ...]:
    sizes = "a reduced model" if run.changed else "the spec's own sizes"
    ends = "equal" if run.equal else "DIFFERENT"
    return f"on the {_device(run)}", sizes, f"{run.batch:,} x {run.seq:,} tokens", f"{len(run.blocks)} blocks", ends


def _blocks(run: Measurement) -> Iterator[tuple[object, ...]]:
    """Yield one row for each block, indented as they nest, and one for the whole."""
    blocks = run.blocks
    for block, label in zip(blocks, output.nested(blocks), strict=True):
        yield label, block.block, block.copies, *_numbers(block)
    yield "all", "", "", *_numbers(run.total)


def _numbers(block: Block) -> tuple[object, ...]:
    return block.forward.ours, block.backward.ours, "equal" if block.equal else "DIFFERENT"


def _differences(run: Measurement, backend: str) -> Iterator[RenderableType]:
    """Yield a table of the blocks and the lines of the spec that differ, by pass."""
    found: list[tuple[Block, str, Pair]] = [
        (b, p, getattr(b, p)) for b in (run.total, *run.blocks, *run.lines) for p in PASSES
    ]
    rows = [
        (f"{b.path or 'all'} ({b.line}, {b.block})", p, pair.ours, pair.counted, f"{pair.difference:+,}")
        for b, p, pair in found
        if pair.difference
    ]
    if rows:
        yield f"\ndifferences on the {_device(run)}"
        yield output.table(["path", "pass", ">ours", f">{backend}'s", ">difference"], rows, wraps=["path"])


def _step(step: Step, run: Measurement, backend: str) -> Iterator[RenderableType]:
    """Yield the counts of a training step, and how they differ from those of the passes to and from all outputs."""
    yield f"\na training step on the {_device(run)}: {'equal' if step.equal else 'DIFFERENT'}"
    rows = [(p, getattr(step, p).ours, getattr(step, p).counted) for p in PASSES]
    yield output.table(["", ">ours", f">{backend}'s"], rows)
    if step.without_target:
        yield f"heads of positions without a target are left out: {step.without_target:,} of the forward"
    if step.recomputed:
        yield f"logits made again, a chunk at a time: {step.recomputed:,}, no part of the cost"


def _by_formula(run: Measurement, backend: str) -> Iterator[RenderableType]:
    """Yield what was counted by which formula, and what of it is no part of the cost."""
    yield f"\ncounted on the {_device(run)}, forward and backward"
    own = [(op, n, "registered" if op in run.registered else f"{backend}'s own") for op, n in run.by_op.items()]
    yield output.table(["op", ">FLOPs", "formula"], own)
    notes = [("of these with zeros, padding", run.padding), ("of these done again, recomputed", run.recomputed)]
    if any(n for _, n in notes):
        yield output.pairs((words, f"{n:,}, no part of the cost") for words, n in notes if n)
