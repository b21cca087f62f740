"""`dsvgraph cost`: parameters, FLOPs and cache, in numbers and formulas, whole and by block."""

from __future__ import annotations

from collections.abc import Iterator
from enum import Enum
from typing import TYPE_CHECKING, Annotated, Any

import typer

from dsvgraph.cli import output
from dsvgraph.cli.options import JsonOption, SetOption, SpecArgument, load

if TYPE_CHECKING:
    from dsvgraph.passes.cost import Cost

TOTALS = {
    "parameters": ("total", "inference", "active", "active_without_embedding", "trained", "untrained"),
    "flops": ("forward", "train", "inference_forward", "forward_per_token", "train_per_token"),
    "kv_cache": ("elements_per_token", "bytes_per_token"),
}
TITLES = {"parameters": "parameters", "flops": "FLOPs", "kv_cache": "KV cache"}


class Attention(str, Enum):
    """How the two products of attention are counted."""

    causal = "causal"
    full = "full"


BatchOption = Annotated[int, typer.Option("--batch", metavar="B", min=1, help="Rows of the batch.")]
SeqOption = Annotated[int, typer.Option("--seq", metavar="T", min=1, help="Tokens of a row.")]
AttentionOption = Annotated[Attention, typer.Option("--attention", help="Count half of the square, or all of it.")]


def run(
    spec: SpecArgument,
    batch: BatchOption = 1,
    seq: SeqOption = 4096,
    attention: AttentionOption = Attention.causal,
    settings: SetOption = None,
    as_json: JsonOption = False,
) -> None:
    """Count parameters, active parameters, FLOPs and KV cache, by block, with formulas."""
    from dsvgraph.passes.cost import cost

    found = cost(load(spec, settings), batch, seq, attention.value)
    if as_json:
        output.data(found.as_dict())
        return
    console = output.console()
    console.print(f"{output.cell(found.name)}: {batch} x {seq:,} tokens, {attention.value} attention\n")
    console.print(output.table(["", ">number", "", "formula"], _totals(found), wraps=["formula"]))
    console.print()
    console.print(output.table(["block", "is", ">copies", ">parameters", ">active", ">FLOPs", ">share"], _blocks(found)))
    formulas = _formulas(found)
    if formulas:
        console.print("\nparameters of one copy")
        console.print(output.pairs(formulas.items()))


def _totals(found: Cost) -> Iterator[tuple[str, object, str, str]]:
    """The quantities of the whole model: label, number, the same in short, formula."""
    for section, names in TOTALS.items():
        formulas = found.symbolic.get(section, {})
        for name in names:
            value = getattr(getattr(found, section), name)
            formula = formulas.get(name, "")
            label = f"{TITLES[section]}, {name.replace('_', ' ')}"
            yield label, round(value), output.short(value), "" if formula.isdigit() else formula


def _blocks(found: Cost) -> Iterator[tuple[object, ...]]:
    """One row for all equal copies of a block, indented as they nest."""
    parents: list[str] = []
    for row in found.blocks:
        parents = parents[: row.depth]
        inner = row.path.removeprefix(parents[-1]).lstrip(".") if parents else row.path
        label = "  " * row.depth + (inner or f"({row.line})")
        parents.append(row.path)
        share = f"{row.share:.1%}"
        yield label, row.block, row.copies, row.parameters, output.short(row.active), output.short(row.flops), share


def _formulas(found: Cost) -> dict[str, Any]:
    """The formula of each distinct block that has one, callees first."""
    return {row.block: row.formula for row in sorted(found.blocks, key=lambda r: -r.depth) if row.formula}
