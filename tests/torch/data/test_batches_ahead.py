"""Batches made by other processes are those that this one makes."""

from __future__ import annotations

import os
import signal

import pytest

torch = pytest.importorskip("torch")

from dsvgraph_torch.data.corpus import Numbered, batches, take  # noqa: E402
from dsvgraph_torch.data.examples import TaskCorpus  # noqa: E402
from dsvgraph_torch.data.tasks.registry import task_of  # noqa: E402


def test_workers_make_the_same_batches_and_outlast_a_signal() -> None:
    numbered = Numbered(TaskCorpus(task_of("star_graph")), batch=3, seq=31, seed=1)
    alone, made = batches(numbered, 5, 0), batches(numbered, 5, 1)
    for _ in range(2):
        for one, two in zip(take(alone, 9), take(made, 9), strict=True):
            assert torch.equal(one.inputs, two.inputs) and torch.equal(one.targets, two.targets)
            assert one.answers is not None and two.answers is not None and torch.equal(one.answers, two.answers)
        for worker in made._workers:  # type: ignore[attr-defined]
            os.kill(worker.pid, signal.SIGINT)
