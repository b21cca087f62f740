"""The report as one HTML file, which needs no network."""

from __future__ import annotations

import base64
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from html import escape
from importlib.resources import files

from dsvgraph.backends import BudgetKind
from dsvgraph.errors import printable
from dsvgraph_testbed.identity import versions
from dsvgraph_testbed.report import facts, tables
from dsvgraph_testbed.report import plots as drawing
from dsvgraph_testbed.report.words import EQUAL, method, question, sentence
from dsvgraph_testbed.results import Results
from dsvgraph_testbed.statistics import Judgement, Verdict

SENTENCES = 3
"""Verdicts of a budget that are written as sentences too."""


@dataclass(frozen=True)
class Plot:
    """A picture of the report with what it shows."""

    title: str
    caption: str
    svg: str


def plots(results: Results) -> dict[str, Plot]:
    """Return the pictures by the names of their files."""
    if not results.budgets:
        return {}
    level = f"{100 * results.comparison.confidence:g} %"
    found = {}
    for measure in results.measures:
        if measure.main and any(at.cells[measure] for at in results.budgets):
            title = measure.label.capitalize() if measure.higher_is_better else f"Held-out loss of the {measure.label}"
            caption = f"Mean over seeds with its {level} interval; dashed: the budget. The first tenth sets no limit."
            found[f"curve-{_file(measure.label)}"] = Plot(title, caption, drawing.curves(results, measure))
    for detail, title in ((False, "Differences"), (True, "Differences at farther tokens")):
        found |= _differences(results, detail, title)
    if len([m for m in results.measures if not m.higher_is_better]) > 1:
        caption = f"Mean over seeds with its {level} interval, of each token that a variant predicts."
        found["depths"] = Plot("Loss by predicted token", caption, drawing.depths(results, results.budgets[0]))
    return found


def _differences(results: Results, detail: bool, title: str) -> dict[str, Plot]:
    """Return the pictures of paired differences: one in nats, one of accuracy."""
    judged = [at.detail if detail else at.main for at in results.budgets]
    known = {_key(j) for table in judged for j in table.judgements if j.verdict is not Verdict.NONE}
    caption = "Dots: seeds. Bar: the interval that holds together with all others of its budget; grey ones include 0."
    found = {}
    for name, unit, exact in (("losses", "nats, left is better", False), ("accuracy", "share, right is better", True)):
        by_budget: dict[BudgetKind, list[Judgement]] = {}
        for at, table in zip(results.budgets, judged, strict=True):
            chosen = [j for j in table.judgements if j.pair.higher_is_better == exact and _key(j) in known]
            by_budget |= {at.kind: chosen} if chosen else {}
        if by_budget:
            key = f"differences-{name}{'-farther' if detail else ''}"
            found[key] = Plot(f"{title}: accuracy" if exact else title, caption, drawing.differences(by_budget, unit))
    return found


def _key(found: Judgement) -> tuple[str, str, str]:
    return found.pair.first, found.pair.second, found.pair.measure


def _file(label: str) -> str:
    return "".join(c if c.isalnum() else "-" for c in label)


# -- the page -----------------------------------------------------------------------------------


def page(
    results: Results, costs: list[facts.Cost], differences: list[facts.Difference], pictures: dict[str, Plot]
) -> str:
    """Return the page."""
    name = text(question(results))
    body = "\n".join([
        f"<header><h1>{name}</h1>{_lead(results)}</header>",
        _verdicts(results),
        *(_figure(plot) for plot in pictures.values()),
        _section("Held-out values", _values(results)),
        _detail(results),
        _section("Cost", _table(tables.COSTS, tables.cost_rows(costs), numbers=1)),
        _section("What differs", "".join(_difference(one) for one in differences)),
        _section("How the verdicts were reached", _list(method(results))),
        _section("Runs", _runs(results)),
        _section("Again", _again(results)),
    ])  # fmt: skip
    style = files("dsvgraph_testbed.report").joinpath("style.css").read_text(encoding="utf-8")
    return (
        f'<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8"><title>{name}</title>'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<style>\n{style}</style></head>\n<body><main>\n{body}\n</main></body></html>\n"
    )


def text(words: str) -> str:
    """Return words as text of a page."""
    return escape(printable(words))


def _lead(results: Results) -> str:
    """Return what there is to know before the verdicts."""
    seeds = len(results.comparison.seeds)
    words = f"{len(results.names)} variants, {seeds} seed{'s' * (seeds != 1)}, baseline {results.names[0]}. "
    notes = "".join(f'<p class="note">{text(note)}</p>' for note in results.notes)
    return f'<p class="lead">{text(words + results.places)}</p>{notes}'


def _verdicts(results: Results) -> str:
    """Return the verdicts as a table, and in sentences where there are few."""
    rows = tables.verdict_rows(results)
    if not rows:
        return _section("Verdicts", "<p>Nothing has been measured yet.</p>")
    return _section("Verdicts", _verdict_table(results, rows) + _sentences(results))


def _verdict_table(results: Results, rows: list[tables.PairRow]) -> str:
    heads = "".join(f"<th>{text(head)}</th>" for head in ("", *tables.budget_heads(results)))
    body = "".join(
        f"<tr><th>{text(row.second)} <span>against {text(row.first)}, {text(row.measure)}</span></th>"
        + "".join(_cell(found) for found in row.cells)
        + "</tr>"
        for row in rows
    )
    return (
        f'<div class="wide"><table class="verdicts"><thead><tr>{heads}</tr></thead><tbody>{body}</tbody></table></div>'
    )


def _cell(found: Judgement) -> str:
    kind = found.verdict.value.replace(" ", "-")
    lines = "".join(f"<small>{text(line)}</small>" for line in tables.cell_lines(found))
    return f'<td class="{kind}"><b>{text(found.verdict.value)}</b>{lines}</td>'


def _sentences(results: Results) -> str:
    found = []
    for at in results.budgets:
        if len(at.main.judgements) <= SENTENCES:
            words = " ".join(sentence(one) for one in at.main.judgements)
            found.append(f"<li><b>At {text(EQUAL[at.kind])}:</b> {text(words)}</li>")
    return f"<ul>{''.join(found)}</ul>" if found else ""


def _detail(results: Results) -> str:
    rows = tables.verdict_rows(results, detail=True)
    return _section("Farther tokens", _verdict_table(results, rows)) if rows else ""


def _values(results: Results) -> str:
    level = f"{100 * results.comparison.confidence:g} %"
    heads = ["", "variant", *tables.budget_heads(results)]
    words = f"Mean over seeds ± half its {level} interval; ~ marks a value between two evaluations."
    return _table(heads, tables.value_rows(results), numbers=2) + f"<p class='caption'>{words}</p>"


def _difference(one: facts.Difference) -> str:
    lines = "\n".join(one.lines)
    picture = f"<p class='caption'>No picture: {text(one.why_no_picture)}.</p>"
    if one.picture:
        data = base64.b64encode(one.picture.read_bytes()).decode()
        alt = f"{one.variant} against the baseline"
        picture = f'<img class="model" alt="{text(alt)}" src="data:image/svg+xml;base64,{data}">'
    words = "\n".join(text(line) for line in lines.split("\n"))
    return f"<details><summary>{text(one.variant)}</summary><pre>{words}</pre>{picture}</details>"


def _runs(results: Results) -> str:
    return (
        f"<details><summary>{len(results.experiment.runs())} runs</summary>"
        f"{_table(tables.RUNS, tables.run_rows(results), numbers=2)}</details>"
    )


def _again(results: Results) -> str:
    """Return what it takes to do the same again: commands, settings, versions."""
    runs = results.experiment.runs()
    commands = "\n".join(text(run.printed(_steps(results, run))) for run in runs)
    given = [*tables.settings(results), *((f"version of {n}", v) for n, v in versions().items())]
    return (
        f"<pre>{text(results.comparison.command)}</pre>"
        f"{_table(('', ''), ([name, value] for name, value in given), numbers=2)}"
        f"<details><summary>Commands of the runs</summary><pre>{commands}</pre></details>"
    )


def _steps(results: Results, run: object) -> int:
    curve = results.experiment.curves.get(run)  # type: ignore[call-overload]
    return curve.steps if curve else 1


def _figure(plot: Plot) -> str:
    caption = f"<figcaption>{text(plot.caption)}</figcaption>"
    return _section(plot.title, f"<figure>{plot.svg}{caption}</figure>")


def _section(title: str, content: str) -> str:
    return f"<section><h2>{text(title)}</h2>{content}</section>" if content else ""


def _list(lines: Iterable[str]) -> str:
    return f"<ul>{''.join(f'<li>{text(line)}</li>' for line in lines)}</ul>"


def _table(heads: Sequence[str], rows: Iterable[Sequence[str]], numbers: int) -> str:
    """Return a table whose columns from ``numbers`` on are aligned to the right."""
    head = "".join(f"<th>{text(name)}</th>" for name in heads)
    body = "".join(
        "<tr>" + "".join(f"<td{' class=n' if i >= numbers else ''}>{text(c)}</td>" for i, c in enumerate(row)) + "</tr>"
        for row in rows
    )
    top = f"<thead><tr>{head}</tr></thead>" if any(heads) else ""
    return f'<div class="wide"><table>{top}<tbody>{body}</tbody></table></div>'
