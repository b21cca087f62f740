"""`dsvgraph data tasks`: the tasks with exact answers, and their options."""

from __future__ import annotations

from typing import Annotated

import typer

from dsvgraph import backends
from dsvgraph.cli import output
from dsvgraph.cli.options import BackendOption, JsonOption

Name = Annotated[
    str | None, typer.Argument(metavar="[NAME]", help="One task, with all of its options.", show_default=False)
]


def run(name: Name = None, as_json: JsonOption = False, backend: BackendOption = None) -> None:
    """List the tasks that `compile --train --task` takes; with a NAME, one of them with its options and an example."""
    found = backends.datasets(backend).tasks(name)
    if as_json:
        output.data(found)
    elif name is None:
        rows = ((task["name"], task["tokens"], task["length"], task["about"]) for task in found)
        output.write(output.table(["task", ">tokens", ">length", "about"], rows, wraps=["about"]))
    else:
        (task,) = found
        output.write(
            output.pairs((key, task[key]) for key in ("name", "about", "source", "tokens", "length", "example"))
        )
        options = ((f"{o['name']}={o['default']}", o["about"]) for o in task["options"])
        output.write("", output.table(["option=default", "values"], options, wraps=["values"]))
