"""The verdicts as they are printed at the end."""

from __future__ import annotations

from collections.abc import Iterator

from rich.console import RenderableType
from rich.table import Table
from rich.text import Text

from dsvgraph_testbed.report import tables
from dsvgraph_testbed.report.words import heading, question
from dsvgraph_testbed.results import Results
from dsvgraph_testbed.statistics import Judgement, Verdict

STYLES = {Verdict.BETTER: "bold green", Verdict.WORSE: "bold red", Verdict.NOT_SIGNIFICANT: "bold", Verdict.NONE: "dim"}


def verdicts(results: Results) -> Iterator[RenderableType]:
    """Yield the question, what one has to know beside the verdicts, and the verdicts at each budget."""
    yield Text(question(results), style="bold")
    for note in results.notes:
        yield Text(note, style="yellow")
    rows = tables.verdict_rows(results) if results.budgets else []
    for i, at in enumerate(results.budgets):
        yield Text(f"\nat {heading(at)}")
        shown = Table(box=None, pad_edge=False, show_header=False, padding=(0, 2, 0, 0))
        for row in rows:
            name = f"{row.second} against {row.first}, {row.measure}"
            shown.add_row(Text(name), *_cells(row.cells[i]))
        yield shown


def _cells(found: Judgement) -> tuple[Text, Text]:
    return Text(found.verdict.value, style=STYLES[found.verdict]), Text("  ".join(tables.cell_lines(found)))
