"""`dsvgraph diff`: what differs between two models, or over the depths of one's MTP chain."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated, Any

import typer

from dsvgraph.cli import output
from dsvgraph.cli.options import (
    Attention,
    AttentionOption,
    BatchOption,
    JsonOption,
    SeqOption,
    SetOption,
    Setting,
    SpecArgument,
    bundled_names,
    load,
)

if TYPE_CHECKING:
    from dsvgraph.passes.compare import Change
    from dsvgraph.passes.cost import Cost
    from dsvgraph.passes.diff import Diff

COUNTED = {
    "parameters": ("total", "inference", "active"),
    "flops": ("forward_per_token", "train_per_token", "inference_forward_per_token"),
    "kv_cache": ("elements_per_token",),
}
COLUMNS = [">depth", ">parameters", ">more", ">FLOPs", ">more", ">inference", ">KV cache"]


def _depths(text: str) -> list[int]:
    """Reads `0,1,2`."""
    words = [word.strip() for word in text.split(",")]
    if not all(word.isdecimal() and len(word) < 7 for word in words):
        raise typer.BadParameter(f"`{text}` is no list of depths such as 0,1,2")
    return [int(word) for word in words]


Other = Annotated[
    str | None,
    typer.Argument(metavar="OTHER", help="The spec to compare with.", autocompletion=bundled_names),
]
Mtp = Annotated[Any, typer.Option("--mtp", metavar="0,1,2", parser=_depths, help="Compare these MTP depths.")]


def run(
    spec: SpecArgument,
    other: Other = None,
    mtp: Mtp = None,
    batch: BatchOption = 1,
    seq: SeqOption = 4096,
    attention: AttentionOption = Attention.causal,
    settings: SetOption = None,
    as_json: JsonOption = False,
) -> None:
    """Tell what differs between two specs and what it costs.

    With one spec and --mtp: a table over MTP depths. With one spec and --set: what the settings change.
    With two specs, --set holds for both.
    """
    if other is not None and mtp is not None:
        raise typer.BadParameter("goes with one spec, not two", param_hint="--mtp")
    if other is None and mtp is None and not settings:
        raise typer.BadParameter("give a second spec, or --mtp 0,1,2, or --set", param_hint="OTHER")
    counting = (batch, seq, attention.value)
    if mtp is not None:
        _over_depths(spec, settings, mtp, counting, as_json)
    else:
        _compare(spec, other, settings, counting, as_json)


# -- two models ---------------------------------------------------------------------------------


def _compare(spec: str, other: str | None, settings: list[Setting] | None, counting: Any, as_json: bool) -> None:
    from dsvgraph.passes.diff import diff

    before = load(spec, settings if other is not None else None)
    found = diff(before, load(other or spec, settings), *counting)
    if as_json:
        output.data(found.as_dict())
        return
    names = f"{output.cell(found.a)} -> {output.cell(found.b)}"
    if not found:
        print(f"{names}: no difference")
        return
    output.write(names, *_told(found), "", _costs(found))


def _told(found: Diff) -> Iterator[Any]:
    """The changes in words, section by section."""
    for change in found.changes:
        yield _change(change)
    for title in ("config", "losses", "sections"):
        settings = getattr(found, title)
        if settings:
            yield f"\n{title}"
            yield output.pairs((s.name, f"{_side(s.before)} -> {_side(s.after)}") for s in settings)


def _side(text: str | None) -> str:
    return "nothing" if text is None else text


def _change(change: Change) -> Any:
    """One change: what, where, before and after, and the outputs that may differ for it."""
    from rich.text import Text

    also = f" and {len(change.also)} more" if change.also else ""
    text = Text(f"\n{change.kind} {change.line}", style="bold")
    text.append(f"  at {change.path}{also}" if change.path != change.line else "", style="not bold")
    for sign, side, style in (("-", change.before, "red"), ("+", change.after, "green")):
        text.append(f"\n  {sign} {output.cell(side)}" if side else "", style=f"not bold {style}")
    text.append(f"\n  reaches {', '.join(change.reaches)}" if change.reaches else "", style="not bold")
    return text


def _costs(found: Diff) -> Any:
    return output.table(["", ">before", ">after", ">more"], _deltas(found), wraps=[""])


def _deltas(found: Diff) -> Iterator[tuple[str, str, str, str]]:
    deltas = found.deltas()
    for section, names in COUNTED.items():
        for name in names:
            before, after = (getattr(getattr(cost, section), name) for cost in found.costs)
            more = deltas[section][name]
            label = output.title(section, name)
            yield label, f"{before:,.0f}", f"{after:,.0f}", f"{more:+,.0f}" if more else ""


# -- depths of one ------------------------------------------------------------------------------


def _over_depths(spec: str, settings: list[Setting] | None, mtp: list[int], counting: Any, as_json: bool) -> None:
    from dsvgraph.passes.diff import depths

    costs = depths(load(spec, settings), mtp, *counting)
    if as_json:
        output.data([cost.as_dict() for cost in costs])
        return
    batch, seq, attention = counting
    output.write(
        f"{output.cell(costs[0].name)} by MTP depth: {batch:,} x {seq:,} tokens, {attention} attention\n",
        output.table(COLUMNS, _by_depth(mtp, costs)),
        "\nFLOPs are those of training and KV cache the elements at inference, both per token.",
    )


def _by_depth(mtp: list[int], costs: list[Cost]) -> Iterator[tuple[object, ...]]:
    """One row a depth, with what it has more than the row before."""
    last: Cost | None = None
    for depth, cost in zip(mtp, costs, strict=True):
        total, train = cost.parameters.total, cost.flops.train_per_token
        more = f"{total - last.parameters.total:+,}" if last else ""
        dearer = output.short(train - last.flops.train_per_token, sign="+") if last else ""
        kept, cache = output.short(cost.parameters.inference, "KMBT"), cost.kv_cache.elements_per_token
        yield depth, total, more, output.short(train), dearer, kept, round(cache)
        last = cost
