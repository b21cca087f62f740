"""`dsvgraph diff`: what differs between two models, over many, or over the depths of one's MTP chain."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple

import typer

from dsvgraph.cli import csv_table, output
from dsvgraph.cli.options import (
    Attention,
    AttentionOption,
    BatchOption,
    CsvOption,
    JsonOption,
    SeqOption,
    SetOption,
    Setting,
    SpecArgument,
    bundled_names,
    load,
    outputs_apart,
)

if TYPE_CHECKING:
    from dsvgraph.graph import Model
    from dsvgraph.passes.compare.diff import Diff
    from dsvgraph.passes.compare.lines import Change
    from dsvgraph.passes.count.cost import Cost

COUNTED = {
    "parameters": ("total", "inference", "active"),
    "flops": ("forward_per_token", "train_per_token", "inference_forward_per_token"),
    "kv_cache": ("elements_per_token",),
}
COLUMNS = [">depth", ">parameters", ">more", "", ">FLOPs", ">more", "", ">inference", ">KV cache"]
QUANTITIES = {
    "parameters": ("parameters", "total"),
    "active": ("parameters", "active"),
    "training": ("flops", "train_per_token"),
    "inference": ("flops", "inference_forward_per_token"),
    "cache": ("kv_cache", "bytes_per_token"),
}  # of the table over many models
SHEET = ("model", "name", "value", "unit", "more", "percent")


def _depths(text: str) -> list[int]:
    """Reads `0,1,2`."""
    words = [word.strip() for word in text.split(",")]
    if not all(word.isdecimal() and len(word) < 7 for word in words):
        raise typer.BadParameter(f"`{text}` is no list of depths such as 0,1,2")
    return [int(word) for word in words]


Others = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="[OTHER]...", help="Specs to compare with.", autocompletion=bundled_names, show_default=False
    ),
]
Plot = Annotated[Path | None, typer.Option("--plot", metavar="FILE", help="Plot the costs side by side.")]
Mtp = Annotated[Any, typer.Option("--mtp", metavar="0,1,2", parser=_depths, help="Compare these MTP depths.")]


def run(
    spec: SpecArgument,
    others: Others = None,
    mtp: Mtp = None,
    batch: BatchOption = 1,
    seq: SeqOption = 4096,
    attention: AttentionOption = Attention.CAUSAL,
    settings: SetOption = None,
    as_json: JsonOption = False,
    csv: CsvOption = None,
    plot: Plot = None,
) -> None:
    """Tell what differs between two specs and what it costs, or what each of many costs.

    With one spec and --mtp: a table over MTP depths. With one spec and --set: what the settings change.
    With several specs, --set holds for all.
    """
    if others and mtp is not None:
        raise typer.BadParameter("goes with one spec, not two", param_hint="--mtp")
    if not others and mtp is None and not settings:
        raise typer.BadParameter("give a second spec, or --mtp 0,1,2, or --set", param_hint="OTHER")
    outputs_apart(csv, plot, as_json)
    counting = (batch, seq, attention.value)
    to = To(as_json, csv, plot)
    if mtp is not None:
        _over_depths(spec, settings, mtp, counting, to)
    elif others and len(others) > 1:
        _many([load(name, settings) for name in (spec, *others)], counting, to)
    else:
        _compare(spec, others[0] if others else None, settings, counting, to)


class To(NamedTuple):
    """Where the result goes besides, or instead of, the text."""

    as_json: bool
    csv: Path | None
    plot: Path | None

    def files(self, names: Sequence[str], costs: Sequence[Cost]) -> None:
        """Writes the table and the picture that were asked for."""
        if self.csv:
            csv_table.write(self.csv, SHEET, _rows(names, costs))
        if self.plot:
            from dsvgraph.passes.compare.plots import bars

            panels = {title: [_of(cost, title) for cost in costs] for title in QUANTITIES}
            bars(self.plot, names, panels, "parameters; FLOPs of training, of inference and bytes of cache per token")

    @property
    def silent(self) -> bool:
        """Whether standard output belongs to the CSV."""
        return str(self.csv) == "-"


def _rows(names: Sequence[str], costs: Sequence[Cost]) -> Iterator[tuple[object, ...]]:
    """Yield each quantity of each model, and how much more it is than the first one's; of a missing op 0."""
    facts = [_facts(cost) for cost in costs]
    for model, own in zip(names, facts, strict=True):
        for name in dict.fromkeys(name for found in facts for name in found):
            value, base = own.get(name, 0), facts[0].get(name, 0)
            percent = 100 * (value - base) / base if base else None
            yield model, name, value, csv_table.unit(name, value), value - base, percent


def _facts(cost: Cost) -> dict[str, float]:
    """The numbers of a cost by name."""
    sections = {name: part for name, part in cost.as_dict().items() if name in COUNTED}
    return {name: value for name, value, _ in csv_table.facts(sections) if isinstance(value, (int, float))}


# -- two models ---------------------------------------------------------------------------------


def _compare(spec: str, other: str | None, settings: list[Setting] | None, counting: Any, to: To) -> None:
    from dsvgraph.passes.compare.diff import diff

    before = load(spec, settings if other is not None else None)
    found = diff(before, load(other or spec, settings), *counting)
    to.files(["before", "after"] if found.a == found.b else [found.a, found.b], found.costs)
    if to.as_json:
        output.data(found.as_dict())
        return
    names = f"{output.cell(found.a)} -> {output.cell(found.b)}"
    if to.silent:
        return
    if not found:
        print(f"{names}: no difference")
        return
    output.write(
        names, *_told(found), "", _costs(found), f"\n{found.shared:,} parameters are shared: one path, one shape"
    )


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
    text.append(f"  at {change.path}{also}" if change.path not in ("", change.line) else "", style="not bold")
    sides = zip("-+", (change.before, change.after), change.places, ("red", "green"), strict=True)
    for sign, side, place, style in sides:
        text.append(f"\n  {sign} {output.cell(side)}" if side else "", style=f"not bold {style}")
        text.append(f"  {place.source.name}:{place.line}" if side and place else "", style="not bold dim")
    text.append(f"\n  reaches {', '.join(change.reaches)}" if change.reaches else "", style="not bold")
    return text


def _costs(found: Diff) -> Any:
    return output.table(["", ">before", ">after", ">more", ""], _deltas(found), wraps=[""])


def _deltas(found: Diff) -> Iterator[tuple[str, ...]]:
    deltas = found.deltas()
    for section, names in COUNTED.items():
        for name in names:
            before, after = (getattr(getattr(cost, section), name) for cost in found.costs)
            more = deltas[section][name]
            label = output.title(section, name)
            yield label, f"{before:,.0f}", f"{after:,.0f}", f"{more:+,.0f}" if more else "", _percent(after, before)
    before, after = (_alone(cost)[0] for cost in found.costs)
    extra = f"{after - before:+,}" if after != before else ""
    yield "parameters, for training alone", f"{before:,}", f"{after:,}", extra, _percent(after, before)


def _alone(cost: Cost) -> tuple[int, float]:
    """What training alone pays: weights, and FLOPs of the forward per token, that the first output needs not."""
    weights = cost.parameters.total - cost.parameters.inference
    return weights, cost.flops.forward_per_token - cost.flops.inference_forward_per_token


def _percent(after: float, before: float) -> str:
    """How much more, in percent; nothing where nothing changed."""
    return f"{(after - before) / before:+.1%}" if before and after != before else ""


# -- many models --------------------------------------------------------------------------------


def _many(models: list[Model], counting: Any, to: To) -> None:
    from dsvgraph.passes.compare.diff import shared_parameters
    from dsvgraph.passes.count.cost import cost

    costs = [cost(model, *counting, formulas=False) for model in models]
    common = [shared_parameters(models[0], model) for model in models]
    names = _names(models)
    to.files(names, costs)
    if to.as_json:
        plain = [{k: v for k, v in c.as_dict().items() if k not in ("blocks", "symbolic")} for c in costs]
        alone = [dict(zip(("parameters", "forward_per_token"), _alone(cost), strict=True)) for cost in costs]
        output.data([
            {**data, "shared_with_first": n, "training_alone": more}
            for data, n, more in zip(plain, common, alone, strict=True)
        ])  # fmt: skip
        return
    if to.silent:
        return
    batch, seq, attention = counting
    columns = ["spec", *(f">{title}" for title in QUANTITIES)]
    output.write(
        f"{len(models)} specs: {batch:,} x {seq:,} tokens, {attention} attention; percent: more than the first\n",
        output.table(columns, _by_model(names, costs), wraps=columns[:1]),
        "",
        output.table(["spec", ">shared with the first", ">training alone", ">of it FLOPs"],
                     _apart(names, costs, common), wraps=columns[:1]),
        "\nFLOPs of training and inference and bytes of cache are per token. Shared are weights with one",
        "path and one shape. Training alone has parameters, and FLOPs of the forward, that the first",
        "output does not depend on.",
    )  # fmt: skip


def _names(models: list[Model]) -> list[str]:
    """The models' names, numbered where two are equal."""
    names = [model.name for model in models]
    return [name if names.count(name) == 1 else f"{name} ({i})" for i, name in enumerate(names, 1)]


def _by_model(names: list[str], costs: list[Cost]) -> Iterator[tuple[str, ...]]:
    for name, cost in zip(names, costs, strict=True):
        cells = []
        for title in QUANTITIES:
            value, units = _of(cost, title), "KMBT" if title in ("parameters", "active") else "KMGTPEZY"
            cells.append(f"{output.short(value, units)} {_percent(value, _of(costs[0], title)):>6}")
        yield name, *cells


def _apart(names: list[str], costs: list[Cost], common: list[int]) -> Iterator[tuple[str, ...]]:
    """What each shares with the first, and what it pays for training alone."""
    for name, cost, same in zip(names, costs, common, strict=True):
        alone, forward = _alone(cost)
        share = f"{same / cost.parameters.total:.1%}" if cost.parameters.total else "-"
        yield name, share, output.short(alone, "KMBT"), output.short(forward)


def _of(cost: Cost, title: str) -> float:
    section, name = QUANTITIES[title]
    value: float = getattr(getattr(cost, section), name)
    return value


# -- depths of one ------------------------------------------------------------------------------


def _over_depths(spec: str, settings: list[Setting] | None, mtp: list[int], counting: Any, to: To) -> None:
    from dsvgraph.passes.compare.diff import depths

    costs = depths(load(spec, settings), mtp, *counting, formulas=to.as_json)
    to.files([f"depth {depth}" for depth in mtp], costs)
    if to.as_json:
        output.data([cost.as_dict() for cost in costs])
        return
    if to.silent:
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
        share = _percent(total, last.parameters.total) if last else ""
        slower = _percent(train, last.flops.train_per_token) if last else ""
        kept, cache = output.short(cost.parameters.inference, "KMBT"), cost.kv_cache.elements_per_token
        yield depth, total, more, share, output.short(train), dearer, slower, kept, round(cache)
        last = cost
