"""The examples of a task as rows of tokens.

Shape legend: B rows, T tokens of a row, R = T + 1.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property, lru_cache

import numpy as np
import torch

from dsvgraph.errors import DsvError
from dsvgraph_torch.data.batch import IGNORED, Batch
from dsvgraph_torch.data.corpus import visits
from dsvgraph_torch.data.tasks.task import DUMMY, Example, Task, runs
from dsvgraph_torch.data.words import WordTokens

GENERATOR = 1
"""Of the generators: a change of what they draw is a new number, so that no run goes on with other rows."""


@dataclass(frozen=True)
class TaskCorpus:
    """Examples of ``task``, one to a row, or with ``packed`` as many as every row has room for."""

    task: Task
    packed: bool = False
    left_out: tuple[str, ...] = ()

    @property
    def source(self) -> str:
        """The task, as --task takes it."""
        return f"the task {self.task.spelled()}"

    @property
    def digest(self) -> str:
        """The SHA-256 of the task and its options."""
        return hashlib.sha256(json.dumps([GENERATOR, self.task.name, self.task.model_dump()]).encode()).hexdigest()

    @cached_property
    def tokens(self) -> WordTokens:
        """The words of the task."""
        return WordTokens(self.task.name, self.task.vocabulary)

    @property
    def least_seq(self) -> int:
        """The tokens of the shortest rows that hold every example."""
        return self.task.length - 1

    def check(self, seq: int) -> None:
        """Raise DsvError if rows of ``seq`` tokens do not hold every example."""
        if seq < self.least_seq:
            words = f"an example of {self.task.spelled()} takes rows of {self.least_seq} tokens, got {seq}"
            raise DsvError(f"--seq: {words}", hint=f"--seq {self.least_seq}, which is the default for this task")

    def batch(self, batch: int, seq: int, seed: int, index: int) -> Batch:
        """Return training batch number ``index``: new examples, or those of ``train`` in the order of an epoch."""
        per_row = self._per_row(seq)
        count = batch * per_row
        if self.task.train:
            found = [self.task.example(i, False) for i in visits(self.task.train, count, seed, index)]
        else:
            found = [self.task.example(index * count + i, False, seed) for i in range(count)]
        return self._rows(found, seq, per_row)

    def heldout_batches(self, batch: int, seq: int, rows: int) -> Iterator[Batch]:
        """Yield ``rows`` held-out rows, at most ``batch`` at once."""
        per_row = self._per_row(seq)
        for first in range(0, rows, batch):
            numbers = range(first * per_row, min(rows, first + batch) * per_row)
            yield self._rows([_heldout(self.task, i) for i in numbers], seq, per_row)

    def prompt(self, length: int = 64) -> list[int]:
        """Return the first held-out example up to its first answer."""
        example = _heldout(self.task, 0)
        return self._ids(example)[: example.answers.index(True)]

    @property
    def sample_tokens(self) -> int:
        """The length of the answer to the prompt."""
        (start, stop), *_ = runs(_heldout(self.task, 0).answers)
        return stop - start

    def right(self, asked: list[int], answer: list[int], found: list[int]) -> bool:
        """Return whether the tokens ``found`` answer the tokens ``asked``; ``answer`` is what was drawn."""
        way = -1 if self.task.reverse else 1
        words = self.tokens.vocabulary
        first, second, third = ([words[i] for i in ids] for ids in (asked, answer[::way], found[::way]))
        return self.task.accepts(first, second, third)

    def _per_row(self, seq: int) -> int:
        return (seq + 1) // self.task.length if self.packed else 1

    def _ids(self, example: Example) -> list[int]:
        return [self.tokens.ids[word] for word in example.words]

    def _rows(self, examples: list[Example], seq: int, per_row: int) -> Batch:
        """Return rows of ``per_row`` examples each, filled up with a token whose targets are not counted."""
        shape = len(examples) // per_row, seq + 1
        ids_BR, documents_BR = np.full(shape, self.tokens.size - 1), np.full(shape, per_row)
        answers_BR, counted_BR = np.zeros(shape, bool), np.zeros(shape, bool)
        stop = 0
        for number, example in enumerate(examples):
            row, place = divmod(number, per_row)
            start = stop if place else 0
            stop = start + len(example.words)
            ids_BR[row, start:stop] = self._ids(example)
            answers_BR[row, start:stop] = example.answers
            counted_BR[row, start + 1 : stop] = self.task.loss == "all" or example.answers[1:]
            documents_BR[row, start:stop] = place
        given_BR = np.where(answers_BR, self.tokens.ids[DUMMY], ids_BR) if self.task.teacherless else ids_BR
        targets_BR = np.where(counted_BR, ids_BR, IGNORED)
        documents_BT = torch.from_numpy(documents_BR[:, :-1]) if self.packed else None
        inputs_BT, targets_BT, answers_BT = map(
            torch.from_numpy, (given_BR[:, :-1], targets_BR[:, 1:], answers_BR[:, 1:])
        )
        return Batch(inputs_BT, targets_BT, documents_BT, answers_BT)


@lru_cache(maxsize=4096)
def _heldout(task: Task, number: int) -> Example:
    """Return a held-out example; every evaluation asks for the same ones."""
    return task.example(number, True)
