"""The text of `dsvgraph bench`, as tables or as Markdown."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, NamedTuple

from dsvgraph.backends.benchmark import Benchmark, BlockTimes, DecodingSteps, TrainingSteps
from dsvgraph.cli import output

if TYPE_CHECKING:
    from rich.console import RenderableType

GIB = 2**30


class Section(NamedTuple):
    """A table with a sentence above it."""

    words: str
    columns: Sequence[str]
    rows: Sequence[tuple[str, ...]]


def parts(found: Benchmark) -> Iterator[RenderableType]:
    """Yield the tables, and what the figures do not hold."""
    yield from title(found)
    for words, columns, rows in sections(found):
        yield f"\n{words}"
        yield output.table(columns, rows)
    yield from (f"\n{output.cell(note)}" for note in found.notes)


def markdown(found: Benchmark) -> str:
    """Return the same as Markdown."""
    lines = [*title(found)]
    for words, columns, rows in sections(found):
        sides = ["---:" if column.startswith(">") else "---" for column in columns]
        cells = [[column.removeprefix(">") for column in columns], sides, *([*row] for row in rows)]
        lines += ["", words, "", *(f"| {' | '.join(row)} |" for row in cells)]
    return "\n".join([*lines, *(f"\n{note}" for note in found.notes)]) + "\n"


def title(found: Benchmark) -> Iterator[str]:
    """Yield what was measured, and where."""
    o, machine = found.options, found.machine
    how = [o.precision, *(["compiled"] if o.compile else [])]
    steps = [f"{o.steps} steps in turns"] if o.steps else []
    yield f"{output.cell(found.name)}: {', '.join([f'{o.batch:,} x {o.seq:,} tokens', *steps, *how])}"
    threads = f", {machine.threads} threads" if machine.threads else ""
    peak = f"; nominal peak {flops(machine.peak)}" if machine.peak else ""
    yield f"{machine.device}, {machine.software}{threads}; matrix products at {flops(machine.rate)}{peak}"


def flops(rate: float) -> str:
    """Return FLOPs per second with a unit."""
    return f"{output.short(rate)}FLOP/s"


def sections(found: Benchmark) -> Iterator[Section]:
    """Yield the tables: training, blocks, decoding."""
    if found.steps:
        yield _training(found)
    if found.blocks:
        yield _blocks(found.blocks, found)
    if found.decoding:
        yield _decoding(found)


def _training(found: Benchmark) -> Section:
    peers = len(found.steps) > 1
    columns = [
        "training",
        ">tokens/s",
        ">step, ms",
        ">from",
        ">to",
        ">MFU",
        ">of peak",
        ">GiB",
        ">predicted",
        ">1st, s",
    ]
    if not found.machine.peak:
        columns.remove(">of peak")
    columns += [">ours"] if peers else []
    rows = [_step_row(one, found, peers) for one in found.steps]
    words = "MFU: the model's own FLOPs, by the graph, over those of matrix products in the same time"
    words += "; ours: how many times faster ours is" if peers else ""
    return Section(words, columns, rows)


def _step_row(one: TrainingSteps, found: Benchmark, peers: bool) -> tuple[str, ...]:
    low, high = min(one.seconds), max(one.seconds)
    machine, ratio = found.machine, found.ratio(one)
    return (
        one.name,
        f"{one.tokens_per_second:,.0f}",
        milliseconds(one.median),
        milliseconds(low),
        milliseconds(high),
        f"{one.share(machine.rate):.1%}",
        *([f"{one.share(machine.peak):.1%}"] if machine.peak else []),
        f"{one.peak / GIB:.3g}",
        "-" if one.predicted is None else f"{one.predicted / GIB:.3g}",
        f"{one.first:.3g}",
        *([ratio_text(ratio)] if peers else []),
    )


def _blocks(times: BlockTimes, found: Benchmark) -> Section:
    columns = ["block", "", ">copies", ">forward, ms", ">backward, ms", ">of the step", ">of the FLOPs"]
    rows = [
        (
            label,
            b.block,
            f"{b.copies}",
            milliseconds(b.forward),
            "-" if b.backward is None else milliseconds(b.backward),
            "-" if b.backward is None else f"{(b.forward + b.backward) / times.step:.1%}",
            f"{b.flops:.1%}",
        )
        for b, label in zip(times.blocks, output.nested(times.blocks), strict=True)
    ]
    for words, seconds in (("(optimizer)", times.optimizer), ("(losses and rest)", times.rest)):
        rows.append((words, "", "", milliseconds(seconds), "", f"{seconds / times.step:.1%}", ""))
    plain = next(one.median for one in found.steps if one.ours)
    words = f"one step with a clock at every block: {milliseconds(times.step)} ms, without {milliseconds(plain)} ms"
    return Section(words, columns, rows)


def _decoding(found: Benchmark) -> Section:
    peers = len(found.decoding) > 1
    columns = ["decoding", ">rows", ">prompt, ms", ">ms/token", ">from", ">to", ">tokens/s"]
    first = found.decoding[0]
    many = f"{len(first.seconds)} tokens behind {first.context:,}"
    words = f"decoding {many}, greedily, weights in {found.options.dtype}"
    rows = [_decoding_row(one, found, peers) for one in found.decoding]
    return Section(words, [*columns, *([">ours"] if peers else [])], rows)


def _decoding_row(one: DecodingSteps, found: Benchmark, peers: bool) -> tuple[str, ...]:
    spread = milliseconds(min(one.seconds)), milliseconds(max(one.seconds))
    numbers = milliseconds(one.prompt), milliseconds(one.median), *spread, f"{one.tokens_per_second:,.0f}"
    return one.name, f"{one.rows}", *numbers, *([ratio_text(found.ratio(one))] if peers else [])


def ratio_text(ratio: float | None) -> str:
    """Return how many times faster ours is; nothing for ours."""
    return "" if ratio is None else f"{ratio:.2f}"


def milliseconds(seconds: float) -> str:
    """Return milliseconds with three digits or more."""
    value = seconds * 1e3
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"
