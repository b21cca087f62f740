"""`dsvgraph check`: is the spec right, and what is it."""

from __future__ import annotations

import sys

from dsvgraph.cli import output
from dsvgraph.cli.options import JsonOption, SetOption, SpecArgument, load


def run(spec: SpecArgument, settings: SetOption = None, as_json: JsonOption = False) -> None:
    """Check a spec and say what the model is in a few lines, or what is wrong with it."""
    from dsvgraph.passes.lint import lint
    from dsvgraph.passes.summary import summary

    model = load(spec, settings)
    warnings, facts = lint(model), summary(model)
    if as_json:
        found = [w.as_dict() for w in warnings]
        output.data({"name": model.name, "ok": True, "warnings": found, "summary": dict(facts)})
        return
    output.write(output.pairs(facts))
    if warnings:
        print()
        output.diagnostics(warnings, sys.stdout)
