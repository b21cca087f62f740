"""`dsvgraph sweep`: count every combination of some config values; choose, sort and plot them."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from math import prod
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple

import typer

from dsvgraph import loader
from dsvgraph.cli import csv_table, output, progress
from dsvgraph.cli.exits import WRONG
from dsvgraph.cli.options import (
    Attention,
    AttentionOption,
    BatchOption,
    CsvOption,
    JsonOption,
    SeqOption,
    SetOption,
    SpecArgument,
    load,
    outputs_apart,
)
from dsvgraph.errors import DsvError, printable
from dsvgraph.names import NAME

if TYPE_CHECKING:
    from dsvgraph.passes.compare.sweep import Condition, Point

KINDS = 5  # of reasons that are printed
SHOWN = ("total", "active", "inference_flops", "cache")


class Axis(NamedTuple):
    """One `--over name=value,value`."""

    name: str
    values: list[Any]


class Aim(NamedTuple):
    """One axis of the Pareto front: a name, and `less` or `more` for what is better, or nothing."""

    name: str
    better: str = ""


def axis(text: str) -> Axis:
    """Read ``name=1,2,4``; the values are YAML, so a list or a text may be one."""
    name, equals, values = (part.strip() for part in text.partition("="))
    if not equals or not NAME.match(name):
        raise typer.BadParameter(f"`{text}` is not of the form name=value,value")
    try:
        found = loader.parse(f"[{values}]", "--over").data
    except DsvError as error:
        raise typer.BadParameter(f"`{text}`: {error.diagnostics[0].message}") from None
    if not found:
        raise typer.BadParameter(f"`{text}` has no values")
    return Axis(name, list(found))


def aim(text: str) -> Aim:
    """Read ``name``, ``name:less`` or ``name:more``."""
    name, _, word = text.partition(":")
    if word not in ("", "less", "more"):
        raise typer.BadParameter(f"`{text}` ends in `{word}`, expected less or more")
    return Aim(name, word)


Over = Annotated[
    list[Axis], typer.Option("--over", metavar="NAME=V,V,...", parser=axis, help="Values to try; repeatable.")
]
Where = Annotated[str | None, typer.Option("--where", metavar="EXPR", help="Keep those: active < 3e9.")]
Sort = Annotated[str | None, typer.Option("--sort", metavar="NAME", help="Sort by this; -NAME turns it round.")]
Show = Annotated[
    list[str] | None, typer.Option("--show", metavar="NAME", help="One more quantity: train_flops; repeatable.")
]
Top = Annotated[int, typer.Option("--top", metavar="N", min=1, help="Rows to print.")]
X = Annotated[Any, typer.Option("--x", metavar="NAME[:more]", parser=aim, help="Less of it is better. [active]")]
Y = Annotated[Any, typer.Option("--y", metavar="NAME[:less]", parser=aim, help="More of it is better. [total]")]
Plot = Annotated[Path | None, typer.Option("--plot", metavar="FILE", help="Plot --y over --x with its front.")]


def run(
    spec: SpecArgument,
    over: Over,
    where: Where = None,
    sort: Sort = None,
    show: Show = None,
    top: Top = 30,
    x: X = None,
    y: Y = None,
    plot: Plot = None,
    batch: BatchOption = 1,
    seq: SeqOption = 4096,
    attention: AttentionOption = Attention.CAUSAL,
    settings: SetOption = None,
    as_json: JsonOption = False,
    csv: CsvOption = None,
) -> None:
    """Count every combination of config values, and mark those that no other beats.

    A combination that does not check is a row that says why.
    """
    from dsvgraph.passes.compare.sweep import Condition, pareto_front, sweep

    outputs_apart(csv, plot, as_json)
    model = load(spec, settings)
    assert model.spec is not None
    grid = _grid(over)
    condition = None if where is None else Condition(where, model.spec, grid)
    aims = x or Aim("active"), y or Aim("total")
    asked = [*(show or []), aims[0].name, aims[1].name, *([sort.removeprefix("-")] if sort else [])]
    columns = _columns(grid, asked, condition)
    for aim in aims:
        if not all(map(_is_number, grid.get(aim.name, ()))):
            raise typer.BadParameter(f"`{aim.name}` has values that are no numbers, so none is better")
    with progress.items_done(prod(map(len, grid.values()))) as advance:
        every = sweep(model.spec, grid, batch, seq, attention.value, columns, None, advance)
    found = _chosen(model.name, grid, columns, every, condition, sort)
    found.front = pareto_front(
        found.points, aims[0].name, aims[1].name, (aims[0].better != "more", aims[1].better == "less")
    )
    _report(found, top, aims, as_json, csv, plot)
    if not found.points and len(found.failed) == found.tried:
        sys.exit(WRONG)


def _grid(over: Iterable[Axis]) -> dict[str, list[Any]]:
    """Return the values of each name. Raise a usage error for one that is given twice."""
    grid: dict[str, list[Any]] = {}
    for name, values in over:
        if name in grid:
            raise typer.BadParameter(f"`{name}` is given twice; all its values go into one", param_hint="--over")
        grid[name] = values
    return grid


@dataclass
class Found:
    """The result of a sweep, as it is printed."""

    name: str
    grid: dict[str, list[Any]]
    columns: list[str]  # quantities
    tried: int
    points: list[Point]
    failed: list[Point]
    front: list[Point] = field(default_factory=list)

    @property
    def names(self) -> list[str]:
        """The names of settings and quantities, in the order of the columns."""
        return [*self.grid, *self.columns]


def _columns(grid: Mapping[str, Any], asked: Iterable[str], condition: Condition | None) -> list[str]:
    """Return the quantities to count. Raise a usage error for a name that is none."""
    from dsvgraph.passes.compare.sweep import UNITS

    for name in asked:
        if name not in UNITS and name not in grid:
            raise typer.BadParameter(f"there is no quantity `{name}`; there are {', '.join([*grid, *UNITS])}")
    wanted = {*SHOWN, *asked, *(condition.tree.names() if condition else ())}
    return [name for name in UNITS if name in wanted]


def _chosen(
    name: str, grid: dict[str, list[Any]], columns: list[str], every: list[Point], condition: Condition | None,
    sort: str | None,
) -> Found:  # fmt: skip
    """Return the points that meet the condition, sorted, and those that do not check."""
    every = every if condition is None else condition.decided(every)
    points = [p for p in every if not p.error and (condition is None or condition.holds(p))]
    if sort:
        key, down = sort.removeprefix("-"), sort.startswith("-")
        numbers = all(isinstance(p.get(key), (int, float)) for p in points)
        points.sort(key=lambda p: p.get(key) if numbers else str(p.get(key)), reverse=down)
    return Found(
        name=name, grid=grid, columns=columns, tried=len(every), points=points, failed=[p for p in every if p.error]
    )


def _report(found: Found, top: int, aims: tuple[Aim, Aim], as_json: bool, csv: Path | None, plot: Path | None) -> None:
    best = {id(point) for point in found.front}
    if csv:
        rows = ([*map(p.get, found.names), int(id(p) in best), p.error] for p in [*found.points, *found.failed])
        csv_table.write(csv, [*found.names, "front", "error"], rows)
    if plot:
        _plot(found, aims, plot)
    if as_json:
        output.data(_data(found, best))
    elif str(csv) != "-":
        output.write(*_text(found, best, top, aims))


def _data(found: Found, best: set[int]) -> dict[str, Any]:
    from dsvgraph.passes.compare.sweep import UNITS

    points = [{**p.settings, **p.quantities, "front": id(p) in best} for p in found.points]
    failed = [{**p.settings, "error": p.error} for p in found.failed]
    units = {name: UNITS[name] for name in found.columns}
    return {"name": found.name, "tried": found.tried, "units": units, "points": points, "failed": failed}


def _text(found: Found, best: set[int], top: int, aims: tuple[Aim, Aim]) -> Iterator[Any]:
    from dsvgraph.types import shown

    yield f"{output.cell(found.name)}: {_counts(found)}\n"
    columns = [*(f">{name}" for name in found.grid), *(f">{name}" for name in found.columns), ""]
    rows = [[*_cells(found, point), "*" if id(point) in best else ""] for point in found.points[:top]]
    if rows:
        yield output.table(columns, rows, wraps=columns[:-1])
    if len(found.points) > top:
        yield f"and {len(found.points) - top:,} more: --top N prints them, --csv FILE writes all"
    if rows:
        yield f"* on the front: no other has {_words(aims[0], 'less')} and {_words(aims[1], 'more')}"
    kinds = Counter(point.error for point in found.failed)
    for words, count in kinds.most_common(KINDS):
        first = next(point for point in found.failed if point.error == words)
        settings = ", ".join(f"{name}={shown(v)}" for name, v in first.settings.items())
        lead = "1 does not check, with" if count == 1 else f"{count:,} do not check, the first with"
        yield f"\n{lead} {printable(settings)}:\n  {output.cell(words)}"
    if len(kinds) > KINDS:
        yield f"\nand {len(kinds) - KINDS:,} other reasons: --csv FILE writes all"


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _counts(found: Found) -> str:
    checked = found.tried - len(found.failed)
    kept = f", {len(found.points):,} chosen" if len(found.points) != checked else ""
    return f"{found.tried:,} combinations, {checked:,} that check{kept}, {len(found.front):,} on the front"


def _words(aim: Aim, default: str) -> str:
    return f"{aim.better or default} {aim.name}"


def _cells(found: Found, point: Point) -> list[str]:
    from dsvgraph.passes.compare.sweep import UNITS

    numbers = [output.short(point.quantities[n], "KMBT" if UNITS[n] == "weight" else "KMGTPEZY") for n in found.columns]
    return [*(output.cell(point.settings[name]) for name in found.grid), *numbers]


def _plot(found: Found, aims: tuple[Aim, Aim], path: Path) -> None:
    from dsvgraph.passes.compare.plots import scatter
    from dsvgraph.passes.compare.sweep import UNITS

    x, y = (aim.name for aim in aims)
    points, best = (
        [(p.get(x), p.get(y)) for p in some if isinstance(p.get(x), (int, float))]
        for some in (found.points, found.front)
    )
    labels = [f"{name}, {UNITS[name]}" if name in UNITS else name for name in (x, y)]
    scatter(path, points, best, labels[0], labels[1], found.name)
