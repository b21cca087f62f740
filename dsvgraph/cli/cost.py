"""`dsvgraph cost`: parameters, FLOPs and cache, in numbers and formulas, whole and by block."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated

import typer

from dsvgraph.backends import backend
from dsvgraph.cli import output, verified
from dsvgraph.cli.border import WRONG
from dsvgraph.cli.options import (
    Attention,
    AttentionOption,
    BatchOption,
    JsonOption,
    Recompute,
    RecomputeOption,
    SeqOption,
    SetOption,
    SpecArgument,
    load,
)

if TYPE_CHECKING:
    from rich.console import RenderableType

    from dsvgraph.graph import Model
    from dsvgraph.passes.cost import Cost
    from dsvgraph.passes.rows import Row

TOTALS = {
    "parameters": (
        "total", "inference", "active", "active_without_embedding", "active_without_embedding_and_head",
        "active_all_outputs", "routers", "trained", "untrained",
    ),
    "flops": ("forward", "backward", "train", "inference_forward", "forward_per_token", "train_per_token"),
    "kv_cache": ("elements_per_token", "bytes_per_token"),
}  # fmt: skip
WIDE = 96  # room for parameters to the unit
TERMS = 10  # of a formula that is still read
RECOMPUTED = {"none": "nothing recomputed", "full": "the forward recomputed"}

Verify = Annotated[
    bool,
    typer.Option("--verify", help="Run the compiled module and compare with what torch counts; 1 if they differ."),
]


def run(
    spec: SpecArgument,
    batch: BatchOption = 1,
    seq: SeqOption = 4096,
    attention: AttentionOption = Attention.causal,
    recompute: RecomputeOption = Recompute.none,
    verify: Verify = False,
    settings: SetOption = None,
    as_json: JsonOption = False,
) -> None:
    """Count parameters, active parameters, FLOPs and KV cache, by block, with formulas."""
    from dsvgraph.passes.cost import cost

    model = load(spec, settings)
    if verify:
        sys.exit(_verify(model, batch, seq, as_json))
    found = cost(model, batch, seq, attention.value, recompute.value)
    if as_json:
        output.data(found.as_dict())
    else:
        _write(found)


def _verify(model: Model, batch: int, seq: int, as_json: bool) -> int:
    """Tells what torch counted; returns the exit code."""
    with verified.told("compiling") as tell:
        found = backend("torch", "verifying").verify(model, batch, seq, tell)
    if as_json:
        output.data(found.as_dict())
    else:
        output.write(*verified.parts(found))
    return 0 if found.equal else WRONG


def _write(found: Cost) -> None:
    """The cost as tables, with the conventions that it was counted by."""
    wide = output.console().width >= WIDE
    counted = ">parameters" if wide else ">weights"
    columns = ["path", "block", ">copies", counted, ">active", ">FLOPs", ">share"]
    output.write(
        f"{output.cell(found.name)}: {found.batch:,} x {found.seq:,} tokens, "
        f"{found.flops.attention} attention, {RECOMPUTED[found.flops.recompute]}\n",
        output.table(["", ">", ""], _totals(found)),
        *_symbolic(found),
        "",
        output.table(columns, _blocks(found, wide), wraps=columns[:2]),
        *_notes(found),
    )


def _totals(found: Cost) -> Iterator[tuple[str, str, str]]:
    """The quantities of the whole model: label, number, the same in short."""
    for section, names in TOTALS.items():
        units = "KMBT" if section == "parameters" else "KMGTPEZY"
        for name in names:
            value = getattr(getattr(found, section), name)
            yield output.title(section, name), f"{value:,.0f}", output.short(value, units)


def _symbolic(found: Cost) -> Iterator[RenderableType]:
    """The quantities that are more than a number, with D for the one name that they speak of."""
    heads = found.symbolic.get("heads", [])
    formulas = [(s, n, found.symbolic.get(s, {}).get(n, "")) for s, names in TOTALS.items() for n in names]
    told = [(output.title(s, n), f) for s, n, f in formulas if f and not f.isdigit()]
    if len(heads) == 1:
        told = [(title, formula.replace(heads[0], "D")) for title, formula in told]
    if told:
        yield f"\nformulas, D = {heads[0]}" if len(heads) == 1 else "\nformulas"
        yield output.pairs(told)


def _blocks(found: Cost, wide: bool) -> Iterator[tuple[object, ...]]:
    """One row for all equal copies of a block, indented as they nest."""
    for row, label in zip(found.blocks, output.nested(found.blocks), strict=True):
        block = row.block if row.inference else f"{row.block} *"
        parameters = f"{row.parameters:,}" if wide else output.short(row.parameters, "KMBT")
        numbers = output.short(row.active, "KMBT"), output.short(row.flops), f"{row.share:.1%}"
        yield label, block, row.copies, parameters, *numbers


def _notes(found: Cost) -> Iterator[RenderableType]:
    """What the stars mean, and the formulas of the smaller blocks."""
    if not all(row.inference for row in found.blocks):
        first = "the first output does not depend on it, so inference drops it"
        yield f"* {first}"
    found_of = {(_label(row), row.formula): row.formula for row in found.blocks if row.formula}
    plain = [(label, text) for (label, _), text in found_of.items() if text.count(" ") < 2 * TERMS]
    if plain:
        yield "\nparameters of one copy"
        yield output.pairs(plain)
    long = dict.fromkeys(label for label, text in found_of if text.count(" ") >= 2 * TERMS)
    if long:
        yield f"longer ones, sums of these, are in --json: {', '.join(long)}"


def _label(row: Row) -> str:
    return row.line if row.line == row.block else f"{row.line} ({row.block})"
