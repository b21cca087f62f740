"""What is measured of one state of the weights, and probes.jsonl: a line of it for each probe while a run trains."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from pydantic import TypeAdapter, ValidationError

from dsvgraph.backends.probes import Snapshot
from dsvgraph.errors import DsvError
from dsvgraph.graph import Model
from dsvgraph_torch.data.batch import Batch
from dsvgraph_torch.data.corpus import Corpus
from dsvgraph_torch.probing.gradients import gradients
from dsvgraph_torch.probing.heads import Head, heads_of
from dsvgraph_torch.probing.scores import score
from dsvgraph_torch.runs.files import append_line, read
from dsvgraph_torch.runs.folder import Run
from dsvgraph_torch.training.options import TrainOptions

SNAPSHOT = TypeAdapter(Snapshot)
BATCHES = 4
"""Batches of held-out rows, each as large as one of training, on which a run is followed."""


def record(run: Run, graph: Model, module: Any, corpus: Corpus, options: TrainOptions, step: int) -> None:
    """Measure a model after ``step`` and append the result to the run's probes; the module stays as it was."""
    was_training, batches = module.training, followed(corpus, options)
    module.eval()
    try:
        found = snapshot(graph, module, heads_of(graph), batches, step, step * options.step_tokens)
    finally:
        module.train(was_training)
    append_line(run.probes, json.dumps(asdict(found)))


def followed(corpus: Corpus, options: TrainOptions) -> tuple[Batch, ...]:
    """Return the held-out rows on which a run is followed, always the same."""
    rows = corpus.heldout_batches(options.batch, options.seq, BATCHES * options.batch)
    return tuple(batch.to(options.torch_device()) for batch in rows)


def snapshot(
    graph: Model, module: Any, heads: Sequence[Head], batches: Sequence[Batch], step: int, tokens: int
) -> Snapshot:
    """Return what is measured of the weights after ``step`` on ``batches``, gradients batch by batch."""
    scores, acceptance = score(module, heads, batches, tokens, step)
    found = gradients(graph, module, heads, batches)
    return Snapshot(step=step, tokens=tokens, scores=scores, acceptance=acceptance, gradients=found)


def recorded(run: Run) -> dict[int, Snapshot]:
    """Return what was recorded while a run trained, by step. Raise DsvError if a line is damaged."""
    found: dict[int, Snapshot] = {}
    lines = read(run.probes).split(b"\n")[:-1] if run.probes.exists() else []
    for number, line in enumerate(lines, 1):
        try:
            one = SNAPSHOT.validate_json(line)
        except ValidationError as error:
            words = f"{error.error_count()} values are not as expected"
            raise DsvError(f"{run.probes}:{number} is damaged: {words}") from None
        found[one.step] = one
    return found
