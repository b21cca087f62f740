"""The command line: one file for each command."""

from __future__ import annotations

import gc
import sys
from typing import Annotated

import typer

from dsvgraph import __version__
from dsvgraph.cli import data
from dsvgraph.cli.data import prepare, tasks, vocabulary
from dsvgraph.cli.data import show as show_rows
from dsvgraph.cli.exits import Command, exit_on_error, report_internal
from dsvgraph.cli.make import compare, compile, export, fmt, generate, import_, new, render, report
from dsvgraph.cli.output import coloured
from dsvgraph.cli.read import bench, blocks, check, cost, diff, explain, lsp, ops, probe, runs, schema, show, sweep, zoo

__all__ = ["app", "main"]

PANELS = {
    "Read": (check, explain, show, cost, diff, sweep, bench, runs, probe, zoo, ops, blocks, schema, lsp),
    "Make": (new, import_, fmt, render, compile, compare, report, generate, export),
}

GROUPS = {"data": (data, {"prepare": prepare, "show": show_rows, "tasks": tasks, "vocabulary": vocabulary})}
"""Commands that have commands of their own."""

app = typer.Typer(
    name="dsvgraph",
    help="One YAML file is the model: it is checked, counted, compared, drawn, compiled and trained.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich" if coloured(sys.stdout) else None,
    context_settings={"help_option_names": ["-h", "--help"]},
)
for panel, modules in PANELS.items():
    for module in modules:
        app.command(module.__name__.split(".")[-1].rstrip("_"), cls=Command, rich_help_panel=panel)(module.run)
for name, (group, commands) in GROUPS.items():
    inner = typer.Typer(name=name, help=group.__doc__, no_args_is_help=True, rich_markup_mode=app.rich_markup_mode)
    for word, command in commands.items():
        inner.command(word, cls=Command)(command.run)
    app.add_typer(inner, name=name, rich_help_panel="Make")


def _version(asked: bool) -> None:
    if asked:
        print(f"dsvgraph {__version__}")
        raise typer.Exit


Version = Annotated[bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")]


@app.callback()
def root(
    version: Version = False,
) -> None:
    """One YAML file is the model: it is checked, counted, compared, drawn, compiled and trained."""


def main() -> None:
    """Run the program ``dsvgraph``."""
    gc.freeze()  # what is imported stays: no collection needs to look at it again
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")  # for terminals without Unicode
    try:
        with exit_on_error():
            app(prog_name="dsvgraph")
    except Exception as error:  # noqa: BLE001 - the last place where it can be reported without a traceback
        sys.exit(report_internal(error))
