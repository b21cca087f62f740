"""What the trainer asks of its data, and how order and chance depend on nothing but a seed and a number."""

from __future__ import annotations

import hashlib
import signal
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from itertools import count, islice
from typing import Protocol

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from dsvgraph_torch.data.batch import Batch
from dsvgraph_torch.data.tokens import Tokens

AHEAD = 8
"""Batches that each process makes ahead."""


class Corpus(Protocol):
    """Training rows and held-out rows. ``digest`` is equal where two runs read the same ones."""

    @property
    def source(self) -> str:
        """Where they come from, for people."""

    @property
    def digest(self) -> str:
        """The SHA-256 of all that the rows depend on."""

    @property
    def left_out(self) -> tuple[str, ...]:
        """What of a folder is not in it, and why."""

    @property
    def tokens(self) -> Tokens:
        """The vocabulary."""

    @property
    def sample_tokens(self) -> int:
        """How many tokens are worth generating after a prompt."""

    def batch(self, batch: int, seq: int, seed: int, index: int) -> Batch:
        """Return training batch number ``index``: ``batch`` rows of ``seq`` tokens.

        It depends on nothing but ``seed`` and ``index``, so a resumed run needs no state.
        """

    def heldout_batches(self, batch: int, seq: int, rows: int) -> Iterator[Batch]:
        """Yield about ``rows`` held-out rows, always the same, at most ``batch`` at once."""

    def prompt(self, length: int = 64) -> list[int]:
        """Return some held-out tokens to continue in a sample, about ``length``."""


def seeded(seed: int, *names: object) -> torch.Generator:
    """Return a CPU generator that depends on ``seed`` and ``names`` alone."""
    text = ":".join(map(str, (seed, *names)))
    number = int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big")
    return torch.Generator().manual_seed(number >> 1)


def visits(rows: int, batch: int, seed: int, index: int) -> list[int]:
    """Return the rows of batch ``index`` out of ``rows``: every row once an epoch, in an order of its own in each."""
    places = range(index * batch, (index + 1) * batch)
    return [int(_order(rows, seed, place // rows)[place % rows]) for place in places]


@lru_cache(maxsize=2)
def _order(rows: int, seed: int, epoch: int) -> Tensor:
    return torch.randperm(rows, generator=seeded(seed, "epoch", epoch))


# -- batches ahead ---------------------------------------------------------------------------------


@dataclass(frozen=True)
class Numbered(Dataset[Batch]):
    """The batches of a corpus by number: one is a function of the seed and its number alone."""

    corpus: Corpus
    batch: int
    seq: int
    seed: int

    def __getitem__(self, index: int) -> Batch:
        return self.corpus.batch(self.batch, self.seq, self.seed, index)


def batches(numbered: Numbered, first: int, workers: int) -> Iterator[Batch]:
    """Yield batch number ``first`` and those that follow, without end; with 0 ``workers`` this process makes them."""
    if not workers:
        return map(numbered.__getitem__, count(first))
    loader = DataLoader(
        numbered,
        batch_size=None,
        sampler=count(first),
        num_workers=workers,
        prefetch_factor=AHEAD,
        worker_init_fn=_leave_signals,
    )
    return iter(loader)


def take(made: Iterator[Batch], number: int) -> list[Batch]:
    """Return the next ``number`` batches."""
    return list(islice(made, number))


def _leave_signals(_: int) -> None:
    """Ignore what asks the training to stop: the process that trains decides, and ends the others."""
    for name in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(name, signal.SIG_IGN)
