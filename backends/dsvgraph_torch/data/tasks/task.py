"""What a task is: a generator of examples, each a row of words in which the answers are marked."""

from __future__ import annotations

import hashlib
import json
from abc import ABC, abstractmethod
from collections.abc import Iterable
from dataclasses import dataclass, field
from random import Random
from typing import Any, ClassVar, Literal

from pydantic import BaseModel, ConfigDict, Field

from dsvgraph.errors import DsvError

DUMMY, END = "$", "<end>"
"""The word that stands for every answer in a teacherless input, and the one that ends and fills rows."""

HELDOUT_SHARE = 10
"""One problem in so many is held out."""

ATTEMPTS = 10_000
"""Examples drawn before a task is found to have none of a split."""


@dataclass
class Example:
    """One problem and its answers. ``key`` is the problem without what does not matter: equal keys, equal problems."""

    key: object
    words: list[str] = field(default_factory=list)
    answers: list[bool] = field(default_factory=list)

    def ask(self, *words: str) -> None:
        """Add words that are given."""
        self.words += words
        self.answers += [False] * len(words)

    def answer(self, words: Iterable[str]) -> None:
        """Add words that are to be found."""
        found = list(words)
        self.words += found
        self.answers += [True] * len(found)


class Task(BaseModel, ABC):
    """The options that every task has; its own are fields of its class.

    ``loss`` says which targets are counted; ``teacherless`` hides the answer from the input; ``reverse`` turns every
    answer round; ``train`` is how many examples training repeats, 0 for new ones without end; ``seed`` chooses them.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: ClassVar[str]
    source: ClassVar[str]
    """Where the task is defined."""

    loss: Literal["answer", "all"] = "answer"
    teacherless: bool = False
    reverse: bool = False
    train: int = Field(0, ge=0)
    seed: int = Field(0, ge=0)

    @abstractmethod
    def alphabet(self) -> list[str]:
        """Return the words of the task, less those that every task has."""

    @property
    @abstractmethod
    def length(self) -> int:
        """The words of the longest example."""

    @abstractmethod
    def draw(self, rng: Random, heldout: bool) -> Example:
        """Return an example by chance; ``heldout`` for those that measure, where they are drawn otherwise."""

    def accepts(self, asked: list[str], answer: list[str], found: list[str]) -> bool:
        """Return whether ``found`` is a right answer to ``asked``; ``answer`` is the one that was drawn."""
        return answer == found

    # -- what follows from these ----------------------------------------------------------------

    @property
    def vocabulary(self) -> tuple[str, ...]:
        """Every word of the task."""
        return (*self.alphabet(), DUMMY, END)

    def spelled(self) -> str:
        """Return the task as `--task` takes it, with the options that are not the default."""
        given = self.model_dump(mode="json", exclude_defaults=True)
        options = ",".join(f"{name}={_plain(value)}" for name, value in given.items())
        return self.name + (f":{options}" if options else "")

    def is_heldout(self, key: object) -> bool:
        """Return whether a problem is held out, which depends on the problem alone."""
        text = json.dumps([self.name, key], default=_sorted)
        digest = hashlib.blake2b(text.encode(), digest_size=8).digest()
        return int.from_bytes(digest) % HELDOUT_SHARE == 0

    def example(self, number: int, heldout: bool, *seeds: object) -> Example:
        """Return example ``number`` of a split, the same each time; no problem is in both splits."""
        part = "heldout" if heldout else "train"
        rng = Random(":".join(map(str, (self.name, self.seed, part, number, *seeds))))
        for _ in range(ATTEMPTS):
            found = self.draw(rng, heldout)
            if self.is_heldout(found.key) == heldout:
                return self._reversed(found) if self.reverse else found
        raise DsvError(f"--task: {self.spelled()} has too few different problems to hold one out of {HELDOUT_SHARE}")

    def _reversed(self, example: Example) -> Example:
        words = list(example.words)
        for start, stop in runs(example.answers):
            words[start:stop] = words[start:stop][::-1]
        return Example(example.key, words, example.answers)


def runs(answers: list[bool]) -> list[tuple[int, int]]:
    """Return start and stop of every run of True."""
    edges = [i for i, (a, b) in enumerate(zip([False, *answers], [*answers, False], strict=True)) if a != b]
    return list(zip(edges[::2], edges[1::2], strict=True))


def _plain(value: Any) -> str:
    return str(int(value)) if isinstance(value, bool) else str(value)


def _sorted(value: Any) -> Any:
    """Return sets as sorted lists, for JSON."""
    return sorted(value)
