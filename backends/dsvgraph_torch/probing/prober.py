"""All measurements of one run, or of one folder of weights."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from dsvgraph.backends.probes import Gradients, Matrix, Passage, Probe, ProbeOptions, Snapshot
from dsvgraph_torch.probing.activations import trace
from dsvgraph_torch.probing.gradients import gradients
from dsvgraph_torch.probing.heads import Head, heads_of
from dsvgraph_torch.probing.matrix import measure
from dsvgraph_torch.probing.passage import passage
from dsvgraph_torch.probing.recording import recorded
from dsvgraph_torch.probing.scores import score
from dsvgraph_torch.probing.subject import Stage, Subject, opened

Notify = Callable[[str], object]


def probe(folder: Path, options: ProbeOptions, notify: Notify = lambda words: None) -> Probe:
    """Measure a run, or a folder of weights; ``notify`` is called with the name of each step that begins.

    Raise DsvError if there is nothing to probe in ``folder``, or if what was asked for is not there.
    """
    subject = opened(folder, options)
    heads = heads_of(subject.graph)
    snapshots = tuple(_snapshot(subject, heads, stage, options, notify) for stage in subject.stages)
    notify("activations")
    states, routers, attention, notes = trace(subject.graph, subject.module, subject.batches)
    before = recorded(subject.run, snapshots) if subject.run and options.over_training else ()
    return Probe(
        name=subject.graph.name,
        folder=str(folder),
        data=subject.data,
        rows=subject.rows,
        row_tokens=subject.row_tokens,
        unit=subject.tokens.unit,
        gradient_tokens=subject.gradient_rows * subject.row_tokens,
        snapshots=tuple(sorted([*before, *snapshots], key=lambda one: one.step)),
        passage=_passage(subject, heads, options, notify),
        routers=routers,
        states=states,
        attention=attention,
        matrix=_matrix(subject, heads, notify) if options.mtp_matrix else None,
        notes=tuple(notes),
    )


def _snapshot(subject: Subject, heads: Sequence[Head], stage: Stage, options: ProbeOptions, notify: Notify) -> Snapshot:
    """Measure one state of the weights, and leave them in the module."""
    notify(f"step {stage.step:,}: predictions" if stage.step else "predictions")
    subject.load(stage)
    scores, acceptance = score(subject.module, heads, subject.batches, stage.tokens, stage.step)
    found: tuple[Gradients, ...] = ()
    if options.gradients:
        notify(f"step {stage.step:,}: gradients" if stage.step else "gradients")
        found = gradients(subject.graph, subject.module, heads, subject.gradient_batches())
    return Snapshot(step=stage.step, tokens=stage.tokens, scores=scores, acceptance=acceptance, gradients=found)


def _passage(subject: Subject, heads: Sequence[Head], options: ProbeOptions, notify: Notify) -> Passage:
    """Measure the text that was given, or else one of the measured rows, token by token."""
    notify("text")
    if options.text is not None:
        ids = subject.tokens.encode(options.text)[: options.tokens]
    else:
        batch = subject.batches[len(subject.batches) // 2]
        row = len(batch.inputs) // 2
        ids = [*batch.inputs[row].tolist(), int(batch.targets[row, -1])][: options.tokens]
    return passage(subject.module, heads, ids, subject.tokens, subject.row_tokens)


def _matrix(subject: Subject, heads: Sequence[Head], notify: Notify) -> Matrix:
    return measure(subject.graph, subject.module, heads, subject.batches, notify)
