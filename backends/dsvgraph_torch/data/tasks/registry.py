"""Tasks by name, and how `--task NAME:option=value,...` becomes one."""

from __future__ import annotations

from pydantic import ValidationError

from dsvgraph.errors import DsvError
from dsvgraph.names import listed, nearest
from dsvgraph_torch.data.tasks.arithmetic import Addition, Countdown
from dsvgraph_torch.data.tasks.physics import Brevo, Depo
from dsvgraph_torch.data.tasks.recall import Copying, Induction
from dsvgraph_torch.data.tasks.star_graph import StarGraph
from dsvgraph_torch.data.tasks.sudoku import Sudoku
from dsvgraph_torch.data.tasks.task import Task
from dsvgraph_torch.training.options import first_fault

TASKS: dict[str, type[Task]] = {
    kind.name: kind for kind in (StarGraph, Induction, Copying, Addition, Countdown, Sudoku, Depo, Brevo)
}


def task_of(text: str) -> Task:
    """Return the task that ``text`` names, with its options. Raise DsvError if there is none, or an option is wrong."""
    name, colon, rest = text.partition(":")
    if name not in TASKS:
        hint = nearest(name, TASKS) or f"the tasks are {listed(sorted(TASKS))}"
        raise DsvError(f"--task: there is no task `{name}`", hint=hint)
    options: dict[str, str] = {}
    for part in rest.split(",") if colon else []:
        key, equals, value = part.partition("=")
        if not (key and equals and value) or key in options:
            words = f"`{part}` is given twice" if key in options else f"`{part}` is no option=value"
            raise DsvError(f"--task: {words}", hint=f"{name}:{next(iter(TASKS[name].model_fields))}=...")
        options[key] = value
    try:
        return TASKS[name].model_validate_strings(options)
    except ValidationError as error:
        raise _refusal(name, error) from None


def _refusal(name: str, error: ValidationError) -> DsvError:
    """Return what is wrong with the options of a task, as an error."""
    place, words = first_fault(error)
    fields = TASKS[name].model_fields
    if error.errors()[0]["type"] == "extra_forbidden":
        hint = nearest(place, fields) or f"the options of {name} are {listed(list(fields))}"
        return DsvError(f"--task: {name} has no option `{place}`", hint=hint)
    if not place:
        return DsvError(f"--task: {name}: {error.errors()[0]['ctx']['error']}")
    return DsvError(f"--task: {name}:{place}: {words}")
