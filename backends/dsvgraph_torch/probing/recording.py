"""probes.jsonl of a run: what was measured on the way, a line for each probe."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from pydantic import TypeAdapter, ValidationError

from dsvgraph.backends.probes import Snapshot
from dsvgraph.errors import DsvError
from dsvgraph.graph import Model
from dsvgraph_torch.data.batch import Batch
from dsvgraph_torch.probing.gradients import gradients
from dsvgraph_torch.probing.heads import heads_of
from dsvgraph_torch.probing.scores import score
from dsvgraph_torch.runs.files import append_line, read
from dsvgraph_torch.runs.folder import Run

SNAPSHOT = TypeAdapter(Snapshot)
NAME = "probes.jsonl"


def record(run: Run, graph: Model, module: Any, batches: Sequence[Batch], step: int, tokens: int) -> None:
    """Measure a model in training and append the result to the run's probes; the module stays as it was."""
    heads, was_training = heads_of(graph), module.training
    module.eval()
    try:
        scores, acceptance = score(module, heads, batches, tokens, step)
        found = gradients(graph, module, heads, batches)
    finally:
        module.train(was_training)
    snapshot = Snapshot(step=step, tokens=tokens, scores=scores, acceptance=acceptance, gradients=found)
    append_line(run.path / NAME, SNAPSHOT.dump_json(snapshot).decode())


def recorded(run: Run, measured: Iterable[Snapshot] = ()) -> tuple[Snapshot, ...]:
    """Return what was recorded while a run trained, but for the steps of ``measured``; of a step taken twice the last.

    Raise DsvError if a line is damaged.
    """
    path = run.path / NAME
    found: dict[int, Snapshot] = {}
    lines = read(path).split(b"\n")[:-1] if path.exists() else []
    for number, line in enumerate(lines, 1):
        try:
            snapshot = SNAPSHOT.validate_json(line)
        except ValidationError as error:
            raise DsvError(f"{path}:{number} is damaged: {error.error_count()} values are not as expected") from None
        found[snapshot.step] = snapshot
    known = {snapshot.step for snapshot in measured}
    return tuple(snapshot for step, snapshot in sorted(found.items()) if step not in known)
