"""Documents as training rows that are visited once an epoch.

Shape legend: B rows, T tokens of a row, R = T + 1.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
import torch

from dsvgraph.backends.training import Packing
from dsvgraph.errors import DsvError
from dsvgraph_torch.data.batch import IGNORED, Batch
from dsvgraph_torch.data.corpus import visits
from dsvgraph_torch.data.rows.packing import RunOn, Segments, Whole, rows_of
from dsvgraph_torch.data.rows.pieces import Pieces
from dsvgraph_torch.data.tokens import Tokens


@dataclass(frozen=True)
class PackedCorpus:
    """Rows of ``pieces``; but for Packing.NONE, the model is given which tokens of a row are of one document."""

    source: str
    digest: str
    tokens: Tokens
    pieces: Pieces = field(repr=False)
    packing: Packing = Packing.NONE
    left_out: tuple[str, ...] = ()
    sample_tokens: int = 1000

    @cached_property
    def _rows(self) -> dict[tuple[bool, int], RunOn | Whole]:
        return {}

    def rows(self, heldout: bool, seq: int) -> RunOn | Whole:
        """Return the rows of ``seq`` tokens of one split."""
        if (heldout, seq) not in self._rows:
            self._rows[heldout, seq] = rows_of(*self.pieces.part(heldout), seq + 1, self.packing)
        return self._rows[heldout, seq]

    def check(self, seq: int) -> None:
        """Raise DsvError if there is not a row of ``seq`` tokens in each split."""
        for heldout in (False, True):
            if not len(self.rows(heldout, seq)):
                there = sum(int((stop - start).sum()) for start, stop in [self.pieces.part(heldout)])
                words = f"{self.source} has {there:,} {'held-out' if heldout else 'training'} tokens"
                raise DsvError(f"--data: {words}; a row takes {seq + 1:,}", hint="give more text, or a smaller --seq")

    def batch(self, batch: int, seq: int, seed: int, index: int) -> Batch:
        """Return training batch number ``index``; every row is visited once in each epoch."""
        rows = self.rows(False, seq)
        return self._batch([rows.segments(r) for r in visits(len(rows), batch, seed, index)], seq)

    def heldout_batches(self, batch: int, seq: int, rows: int) -> Iterator[Batch]:
        """Yield at most ``rows`` held-out rows, evenly spread, at most ``batch`` at once."""
        found = self.rows(True, seq)
        count = min(rows, len(found))
        picks = [i * len(found) // count for i in range(count)]
        for first in range(0, count, batch):
            yield self._batch([found.segments(r) for r in picks[first : first + batch]], seq)

    def prompt(self, length: int = 64) -> list[int]:
        """Return the beginning of a held-out document."""
        starts, stops = self.pieces.part(True)
        start, stop = int(starts[len(starts) // 2]), int(stops[len(starts) // 2])
        found: list[int] = self.pieces.ids_N[start : min(stop, start + length)].tolist()
        return found

    def _batch(self, rows: list[Segments], seq: int) -> Batch:
        """Return rows of segments, filled up with tokens that are a document of their own and not counted."""
        shape = len(rows), seq + 1
        ids_BR, documents_BR = np.zeros(shape, np.int64), np.zeros(shape, np.int64)
        counted_BR = np.zeros(shape, bool)
        for row, segments in enumerate(rows):
            at = 0
            for number, (start, stop) in enumerate(segments):
                end = at + stop - start
                ids_BR[row, at:end] = self.pieces.ids_N[start:stop]
                documents_BR[row, at:end] = number
                counted_BR[row, at + (self.packing is not Packing.NONE) : end] = True
                at = end
            documents_BR[row, at:] = len(segments)
        targets_BR = np.where(counted_BR, ids_BR, IGNORED)
        inputs_BT, targets_BT = torch.from_numpy(ids_BR[:, :-1]), torch.from_numpy(targets_BR[:, 1:])
        documents_BT = None if self.packing is Packing.NONE else torch.from_numpy(documents_BR[:, :-1])
        return Batch(inputs_BT, targets_BT, documents_BT)
