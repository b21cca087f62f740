"""`dsvgraph check`: check a spec and sum the model up."""

from __future__ import annotations

import sys
from dataclasses import replace
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated

import typer

from dsvgraph.cli import output
from dsvgraph.cli.options import JsonOption, SetOption, SpecArgument, load
from dsvgraph.errors import DsvError

if TYPE_CHECKING:
    from dsvgraph.errors import Diagnostic
    from dsvgraph.graph import Model


class Form(StrEnum):
    """The form of errors and warnings."""

    text = "text"
    short = "short"
    json = "json"
    sarif = "sarif"


class Extra(StrEnum):
    """Warnings that are off by default."""

    alignment = "alignment"


FormOption = Annotated[
    Form,
    typer.Option("--format", help="As a compiler does, a line each, JSON, or SARIF 2.1.0 for code hosts."),
]
StrictOption = Annotated[bool, typer.Option("--strict", help="Warnings are errors.")]
WarnOption = Annotated[
    list[Extra] | None,
    typer.Option("--warn", help="Warn of more: sizes that tensor cores do not like."),
]


def run(
    spec: SpecArgument,
    settings: SetOption = None,
    as_json: JsonOption = False,
    form: FormOption = Form.text,
    strict: StrictOption = False,
    warn: WarnOption = None,
) -> None:
    """Check a spec and say what the model is in a few lines, or what is wrong with it."""
    from dsvgraph.passes.lint.unused import lint

    model = load(spec, settings)
    warnings = lint(model, Extra.alignment in (warn or ()))
    if strict and warnings:
        raise DsvError.collect([_as_error(warning) for warning in warnings])
    _print(model, warnings, Form.json if as_json else form)


def _as_error(warning: Diagnostic) -> DsvError:
    error = DsvError(warning.message)
    error.diagnostics = (replace(warning, severity="error"),)
    return error


def _print(model: Model, warnings: list[Diagnostic], form: Form) -> None:
    """Print the summary of the model and its warnings."""
    from dsvgraph.passes.text.summary import summary

    if form == Form.json:
        found = [w.as_dict() for w in warnings]
        output.data({"name": model.name, "ok": True, "warnings": found, "summary": dict(summary(model))})
    elif form != Form.text:
        output.diagnostics_as(form, warnings)
    else:
        output.write(output.pairs(summary(model)))
        if warnings:
            print()
            output.diagnostics(warnings, sys.stdout)
