"""A text as a stream: a held-out split in blocks, and rows at random places.

Shape legend: N tokens of the whole text, B rows, T tokens of a row, R = T + 1.
"""

from __future__ import annotations

import hashlib
from bisect import bisect_right
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import accumulate

import torch
from torch import Tensor

from dsvgraph.errors import DsvError
from dsvgraph_torch.data.batch import Batch
from dsvgraph_torch.data.corpus import seeded
from dsvgraph_torch.data.tokens import BYTES, Tokens

Spans = tuple[tuple[int, int], ...]

HELDOUT_SHARE = 0.04
BLOCK = 32 * 1024
"""Length of one held-out block, in tokens, where the text is long enough."""


@dataclass(frozen=True)
class Split:
    """The part of a text that lies in ``spans``, each ``(start, stop)`` in tokens.

    Rows never cross the end of a span, so that no row of one split holds text of another.
    """

    ids_N: Tensor = field(repr=False)
    spans: tuple[tuple[int, int], ...]

    def __len__(self) -> int:
        return sum(stop - start for start, stop in self.spans)

    def rows(self, length: int) -> int:
        """Return how many different rows of ``length`` tokens there are."""
        return sum(self._counts(length))

    def sample(self, batch: int, length: int, generator: torch.Generator) -> Tensor:
        """``batch`` rows at random places, [B, length] int64."""
        pick_B = torch.randint(self.rows(length), (batch,), generator=generator)
        return self._gather(pick_B.tolist(), length)

    def spread(self, count: int, length: int) -> Tensor:
        """Return at most ``count`` rows, the same each time, evenly spread, [rows, length] int64."""
        found = self.rows(length)
        count = min(count, max(1, len(self) // length))
        return self._gather([i * found // count for i in range(count)], length)

    def _counts(self, length: int) -> list[int]:
        return [max(0, stop - start - length + 1) for start, stop in self.spans]

    def _gather(self, picks: list[int], length: int) -> Tensor:
        """Return the rows number ``picks``, counted over all spans."""
        ends = list(accumulate(self._counts(length)))
        starts = []
        for pick in picks:
            span = bisect_right(ends, pick)
            starts.append(self.spans[span][1] - length + 1 - (ends[span] - pick))
        return torch.stack([self.ids_N[s : s + length] for s in starts]).long()


@dataclass(frozen=True)
class TextCorpus:
    """A text in two parts. ``digest`` is equal where two runs read the same bytes.

    ``left_out`` names what of a folder is not in it, and why.
    """

    source: str
    digest: str
    train: Split
    heldout: Split
    left_out: tuple[str, ...] = ()
    tokens: Tokens = BYTES
    sample_tokens: int = 1000

    def batch(self, batch: int, seq: int, seed: int, index: int) -> Batch:
        """Return training batch number ``index``: ``batch`` rows of ``seq`` tokens at random places.

        It depends on nothing but ``seed`` and ``index``, so a resumed run needs no state.
        """
        return Batch.of_rows(self.train.sample(batch, seq + 1, seeded(seed, "batch", index)))

    def heldout_batches(self, batch: int, seq: int, rows: int) -> Iterator[Batch]:
        """Yield about ``rows`` held-out rows, at most ``batch`` at once."""
        yield from map(Batch.of_rows, self.heldout.spread(rows, seq + 1).split(batch))

    def prompt(self, length: int = 64) -> list[int]:
        """Return the tokens of some held-out text from the start of a line, to continue in a sample."""
        start, stop = self.heldout.spans[len(self.heldout.spans) // 2]
        ids = self.heldout.ids_N[start : min(stop, start + 4096)].tolist()
        if self.tokens is not BYTES:
            return list(ids[:length])
        text = bytes(ids)
        later = text[text.find(b"\n") + 1 :].lstrip(b"\n")
        return list((later or text)[:length])  # a text of one line has no later one


def split(text: bytes | bytearray, source: str, batch: int, seq: int) -> TextCorpus:
    """Return bytes as a corpus: a share of them, in equal blocks evenly spread over the text, is held out."""
    ids_N = torch.frombuffer(bytearray(text), dtype=torch.uint8) if text else torch.empty(0, dtype=torch.uint8)
    return stream(ids_N, BYTES, source, hashlib.sha256(text).hexdigest(), batch, seq)


def stream(ids_N: Tensor, tokens: Tokens, source: str, digest: str, batch: int, seq: int) -> TextCorpus:
    """Return the tokens of a text as a corpus. Raise DsvError if there is less than a batch and a held-out row."""
    total, row = len(ids_N), seq + 1
    held = max(int(total * HELDOUT_SHARE), row)
    if total < held + batch * row:
        raise DsvError(
            f"--data: {source} holds {total:,} {tokens.unit}s; one batch of {batch} x {seq} and a held-out row need "
            f"at least {held + batch * row:,}",
            hint="give more text, or a smaller --batch or --seq",
        )
    blocks = max(1, held // max(BLOCK, row))
    train, heldout = interleaved(total, blocks, held // blocks)
    return TextCorpus(source, digest, Split(ids_N, train), Split(ids_N, heldout), tokens=tokens)


def interleaved(total: int, blocks: int, size: int) -> tuple[Spans, Spans]:
    """Spans of (train, held-out): the last ``size`` tokens of each of ``blocks`` stretches are held out."""
    stops = [total * (i + 1) // blocks for i in range(blocks)]
    starts = [0, *stops[:-1]]
    train = tuple((start, stop - size) for start, stop in zip(starts, stops, strict=True))
    return train, tuple((stop - size, stop) for stop in stops)
