"""All measurements of one run, or of one folder of weights."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from dsvgraph.backends.probes import Gradients, Passage, Probe, ProbeOptions, Snapshot
from dsvgraph_torch.data.batch import IGNORED
from dsvgraph_torch.probing.activations import trace
from dsvgraph_torch.probing.gradients import gradients
from dsvgraph_torch.probing.heads import Head, heads_of
from dsvgraph_torch.probing.matrix import measure
from dsvgraph_torch.probing.passage import passage
from dsvgraph_torch.probing.recording import recorded, snapshot
from dsvgraph_torch.probing.scores import score
from dsvgraph_torch.probing.subject import Subject, opened

Notify = Callable[[str], object]


def probe(folder: Path, options: ProbeOptions, notify: Notify = lambda words: None) -> Probe:
    """Measure a run, or a folder of weights; ``notify`` is called with the name of each step that begins.

    Raise DsvError if there is nothing to probe in ``folder``, or if what was asked for is not there.
    """
    subject = opened(folder, options)
    graph, module, heads = subject.graph, subject.module, heads_of(subject.graph)
    history = _history(subject, heads, notify)
    subject.load(subject.stages[-1])
    newest = _newest(subject, heads, options, notify)
    notify("activations")
    states, routers, attention, notes = trace(graph, module, subject.batches)
    return Probe(
        name=graph.name,
        folder=str(folder),
        data=subject.data,
        rows=subject.rows,
        row_tokens=subject.row_tokens,
        unit=subject.tokens.unit,
        gradient_tokens=subject.gradient_rows * subject.row_tokens,
        newest=newest,
        history=history,
        history_rows=sum(len(batch.inputs) for batch in subject.followed),
        passage=_passage(subject, heads, options, notify),
        routers=routers,
        states=states,
        attention=attention,
        matrix=measure(graph, module, heads, subject.batches, notify) if options.mtp_matrix else None,
        notes=tuple(notes),
    )


def _history(subject: Subject, heads: Sequence[Head], notify: Notify) -> tuple[Snapshot, ...]:
    """Return what was recorded while the run trained, and the same of the checkpoints that were not recorded."""
    if subject.run is None or not subject.followed:
        return ()
    found = recorded(subject.run)
    for stage in subject.stages:
        if stage.step not in found:
            notify(f"step {stage.step:,}")
            subject.load(stage)
            args = subject.graph, subject.module, heads, subject.followed
            found[stage.step] = snapshot(*args, stage.step, stage.tokens)
    return tuple(one for _, one in sorted(found.items()))


def _newest(subject: Subject, heads: Sequence[Head], options: ProbeOptions, notify: Notify) -> Snapshot:
    """Measure the weights that are in the module, the newest ones."""
    stage = subject.stages[-1]
    notify("predictions")
    scores, acceptance = score(subject.module, heads, subject.batches, stage.tokens, stage.step)
    found: tuple[Gradients, ...] = ()
    if options.gradients:
        notify("gradients")
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
        last = int(batch.targets[row, -1])
        ids = [*batch.inputs[row].tolist(), *([] if last == IGNORED else [last])][: options.tokens]
    return passage(subject.module, heads, ids, subject.tokens, subject.row_tokens)
