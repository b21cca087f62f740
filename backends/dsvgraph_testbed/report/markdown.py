"""The report as Markdown, with its pictures as files beside it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence

from dsvgraph.errors import printable
from dsvgraph_testbed.identity import versions
from dsvgraph_testbed.report import facts, tables
from dsvgraph_testbed.report.page import Plot
from dsvgraph_testbed.report.words import method, question
from dsvgraph_testbed.results import Results


def text(
    results: Results, costs: list[facts.Cost], differences: list[facts.Difference], plots: Mapping[str, Plot]
) -> str:
    """Return the report."""
    heads = tables.budget_heads(results)
    parts = [
        f"# {plain(question(results))}",
        f"{len(results.names)} variants, seeds {', '.join(map(str, results.comparison.seeds))}, baseline "
        f"{plain(results.names[0])}. {plain(results.places)}",
        *(f"> {plain(note)}" for note in results.notes),
        "## Verdicts",
        table(["", *heads], _verdicts(results, False)) if results.budgets else "Nothing has been measured yet.",
        *(part for name, plot in plots.items() for part in _plot(name, plot)),
        "## Held-out values",
        table(["", "variant", *heads], tables.value_rows(results)),
        *_farther(results, heads),
        "## Cost",
        table(tables.COSTS, tables.cost_rows(costs)),
        "## What differs",
        *(part for one in differences for part in _difference(one)),
        "## How the verdicts were reached",
        "\n".join(f"- {plain(line)}" for line in method(results)),
        "## Runs",
        table(tables.RUNS, tables.run_rows(results)),
        "## Again",
        f"```console\n$ {results.comparison.command}\n```",
        table(["", ""], [*tables.settings(results), *((f"version of {n}", v) for n, v in versions().items())]),
        "```console\n" + "\n".join(_commands(results)) + "\n```",
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def plain(words: str) -> str:
    """Return words as text of a Markdown file."""
    return "".join(f"\\{c}" if c in r"\`*_<>|#[]" else c for c in printable(words))


def table(heads: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return a table."""
    lines = [heads, ["---"] * len(heads), *rows]
    return "\n".join(f"| {' | '.join(_cell(cell, i == 1) for cell in row)} |" for i, row in enumerate(lines))


def _cell(words: str, rule: bool) -> str:
    return words if rule else "<br>".join(plain(line) for line in words.split("\n"))


def _verdicts(results: Results, detail: bool) -> Iterator[list[str]]:
    for row in tables.verdict_rows(results, detail):
        cells = ["\n".join([found.verdict.value, *tables.cell_lines(found)]) for found in row.cells]
        yield [f"{row.second}\nagainst {row.first}, {row.measure}", *cells]


def _farther(results: Results, heads: list[str]) -> list[str]:
    rows = list(_verdicts(results, True)) if results.budgets else []
    return ["## Farther tokens", table(["", *heads], rows)] if rows else []


def _plot(name: str, plot: Plot) -> list[str]:
    return [f"## {plain(plot.title)}", f"![{plain(plot.title)}](plots/{name}.svg)", plain(plot.caption)]


def _difference(one: facts.Difference) -> list[str]:
    picture = f"![{plain(one.variant)}](diffs/{one.picture.name})" if one.picture else ""
    return [f"### {plain(one.variant)}", "```text\n" + "\n".join(one.lines) + "\n```", picture]


def _commands(results: Results) -> Iterator[str]:
    for run in results.experiment.runs():
        curve = results.experiment.curves.get(run)
        yield f"$ {run.printed(curve.steps if curve else 1)}"
