"""A page about a run, for a browser without a network, and the same as Markdown."""

from __future__ import annotations

import math
import shlex
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path

import dsvgraph
from dsvgraph.errors import DsvError, printable
from dsvgraph_torch.reports import plots
from dsvgraph_torch.reports.listing import summary
from dsvgraph_torch.runs.files import write_text
from dsvgraph_torch.runs.folder import Run
from dsvgraph_torch.runs.schema import About
from dsvgraph_torch.training.options import TrainOptions, option_name
from dsvgraph_torch.training.predictions import Prediction, always_computed, predictions_of

STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; color: #1f2430; max-width: 60rem; margin: 2rem auto; padding: 0 1rem; }
h1 { font-size: 1.5rem; } h2 { font-size: 1.1rem; margin-top: 2rem; }
table { border-collapse: collapse; } td, th { padding: .2rem .9rem .2rem 0; text-align: left; }
th { font-weight: 600; border-bottom: 1px solid #d5d8e0; } td + td, th + th { text-align: right; }
pre { background: #f4f5f8; padding: .8rem; overflow-x: auto; white-space: pre-wrap; }
svg { max-width: 100%; height: auto; }
"""
CAPTIONS = {
    "losses": "Losses by depth, in nats: training (thin, smoothed) and held-out (dots)",
    "rate": "Learning rate",
    "gradient": "Norm of the gradient before clipping",
    "balance": "Load of the busiest expert over the mean, averaged over routers",
    "load": "Load of each expert over the mean of its router, at the last evaluation",
}
Row = Sequence[object]


@dataclass(frozen=True)
class Report:
    """What both forms of a report say."""

    title: str
    facts: list[Row]
    results: list[Row]
    options: list[Row]
    spikes: list[Row]
    command: str
    pictures: dict[str, str]
    sample: str


def report(run: Path, folder: Path) -> list[Path]:
    """Write `report.html` and `report.md` with its pictures into ``folder``; return the files, the page first.

    Raise DsvError if ``run`` is no run or is damaged, or if a file cannot be written.
    """
    found = report_of(Run(run))
    files = {"report.html": html(found), "report.md": markdown(found)}
    files |= {f"report-{name}.svg": f'<?xml version="1.0"?>\n{text}' for name, text in found.pictures.items()}
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise DsvError(f"cannot write {folder}: {error.strerror}") from error
    for name, content in files.items():
        write_text(folder / name, content)
    return [folder / name for name in files]


def report_of(run: Run) -> Report:
    """Return the report of a run. Raise DsvError if it is none, was changed or is damaged."""
    about = run.read_about()
    graph = dsvgraph.load(str(run.spec))
    predictions = predictions_of(graph)
    names = [prediction.name for prediction in predictions]
    records = [record.model_dump() for record in run.records(always_computed(graph))]
    drawn = {
        "losses": plots.losses(records, names), "rate": plots.rate(records), "gradient": plots.gradient(records),
        "balance": plots.balance(records), "load": plots.load(records),
    } if records else {}  # fmt: skip
    return Report(
        title=f"{summary(run).spec or 'model'}: {run.path.resolve().name}",
        facts=list(facts(run, about, records)),
        results=list(results(predictions, about)),
        options=list(options(about.options)),
        spikes=[(r["step"], r["spike"]) for r in records if r.get("spike")],
        command=command(run, about.options),
        pictures={name: text for name, text in drawn.items() if text},
        sample=about.result.sample if about.result else "",
    )


def facts(run: Run, about: About, records: plots.Records) -> Iterable[Row]:
    """Yield what the run is and how far it came."""
    found = summary(run)
    last = records[-1] if records else {}
    yield "state", found.state + (f": {found.words}" if found.words else "")
    yield "steps", f"{found.step or 0:,}" + (f" of {found.steps:,}" if found.steps else "")
    yield "tokens", f"{found.tokens or 0:,}"
    if "flops" in last:
        yield "FLOPs, by the count of the graph", f"{last['flops']:.4g}"
    if records:
        yield "time", f"{last['seconds']:,.1f} s, of which training {last['train_seconds']:,.1f} s"
        spent = last["train_seconds"]
        yield "tokens per second of training", f"{last['tokens'] / spent:,.0f}" if spent else "not measured"
    yield "data", about.data.source
    yield from ((f"version of {name}", version) for name, version in about.versions.items())


def results(predictions: list[Prediction], about: About) -> Iterable[Row]:
    """Yield the held-out numbers of each prediction: nats, bits, accuracy, nats with averaged weights."""
    if not about.result:
        return
    for prediction in predictions:
        nats, name = about.result.heldout[prediction.name], prediction.name
        right, average = about.result.accuracy.get(name), about.result.heldout_ema.get(name)
        shown = "-" if right is None else f"{right:.1%}"
        averaged = "-" if average is None else f"{average:.4f}"
        yield f"{name} (token i + {prediction.shift})", f"{nats:.4f}", f"{nats / math.log(2):.4f}", shown, averaged


def options(given: TrainOptions) -> Iterable[Row]:
    """Yield the options that are not at their defaults, and the seed."""
    shown = given.model_dump(mode="json", exclude_defaults=True, exclude={"out", "resume"}) | {"seed": given.seed}
    for name, value in shown.items():
        yield f"--{option_name(name)}", value


def command(run: Run, given: TrainOptions) -> str:
    """Return the command that repeats the run into another folder."""
    parts = ["dsvgraph", "compile", str(run.spec), "--train", "--out", "DIR"]
    for name, value in given.model_dump(mode="json", exclude_defaults=True, exclude={"out", "resume"}).items():
        option = f"--{option_name(name)}"
        for each in value if isinstance(value, list) else [value]:
            text = "=".join(map(str, each)) if isinstance(each, list) else str(each)
            parts += [option] if each is True else [option, text]
    return shlex.join(parts)


# -- the two forms -------------------------------------------------------------------------------

TABLES = {
    "Result": ("held-out", "nats", "bits", "right", "nats, averaged weights"),
    "Options": ("option", "value"),
    "Suspect steps": ("step", "why"),
}


def tables(found: Report) -> dict[str, tuple[Row, list[Row]]]:
    """Return the tables that have rows, by their titles."""
    rows = {"Result": found.results, "Options": found.options, "Suspect steps": found.spikes}
    return {title: (TABLES[title], rows[title]) for title in TABLES if rows[title]}


def html(found: Report) -> str:
    """Return the page."""
    parts = [f"<h1>{text(found.title)}</h1>", _html_table((), found.facts)]
    for title, (columns, rows) in tables(found).items():
        parts += [f"<h2>{title}</h2>", _html_table(columns, rows)]
    for name, picture in found.pictures.items():
        parts += [f"<h2>{CAPTIONS[name]}</h2>", picture]
    parts += ["<h2>The same run again</h2>", f"<pre>{text(found.command)}</pre>"]
    if found.sample:
        parts += ["<h2>Sample</h2>", f"<pre>{text(found.sample)}</pre>"]
    head = f'<meta charset="utf-8"><title>{text(found.title)}</title><style>{STYLE}</style>'
    body = "\n".join(parts)
    return f'<!doctype html>\n<html lang="en"><head>{head}</head><body>\n{body}\n</body></html>\n'


def text(value: object) -> str:
    """Return a value as text of a page, without control characters but line breaks and tabs."""
    return escape("".join(c if c in "\n\t" else printable(c) for c in str(value)))


def _html_table(columns: Row, rows: Iterable[Row]) -> str:
    head = f"<tr>{''.join(f'<th>{text(c)}</th>' for c in columns)}</tr>" if columns else ""
    body = "".join(f"<tr>{''.join(f'<td>{text(c)}</td>' for c in row)}</tr>" for row in rows)
    return f"<table>{head}{body}</table>"


def markdown(found: Report) -> str:
    """Return the report as Markdown; its pictures are files beside it."""
    parts = [f"# {cell(found.title)}", _markdown_table(("run", ""), found.facts)]
    for title, (columns, rows) in tables(found).items():
        parts += [f"## {title}", _markdown_table(columns, rows)]
    for name in found.pictures:
        parts += [f"## {CAPTIONS[name]}", f"![{name}](report-{name}.svg)"]
    parts += ["## The same run again", f"```\n{found.command}\n```"]
    if found.sample:
        lines = [printable(line) for line in found.sample.split("\n")]
        parts += ["## Sample", "\n".join(f"    {line}" for line in lines)]
    return "\n\n".join(parts) + "\n"


def cell(value: object) -> str:
    """Return a value as text of a Markdown table."""
    return printable(str(value).replace("\n", " ")).replace("|", "\\|")


def _markdown_table(columns: Row, rows: Iterable[Row]) -> str:
    lines = [columns, ["---"] * len(columns), *rows]
    return "\n".join(f"| {' | '.join(map(cell, line))} |" for line in lines)
