"""Documents as one array of tokens, cut into pieces of which each is for training or held out.

Shape legend: N tokens, P pieces.
"""

from __future__ import annotations

import hashlib
from array import array
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import islice
from typing import IO

import numpy as np

from dsvgraph_torch.data.stream import BLOCK, HELDOUT_SHARE, interleaved
from dsvgraph_torch.data.tokenizer import FileTokens
from dsvgraph_torch.data.tokens import BYTES, Tokens

AT_ONCE = 256
"""Documents that are encoded at once."""

ENOUGH = 100
"""Documents from which on whole ones are held out."""

ONE_OF = 25
"""Of documents, one in so many is held out, chosen by its text."""

Array = np.ndarray


@dataclass(frozen=True)
class Pieces:
    """``ids_N`` are the tokens; piece p is ids_N[starts[p]:starts[p + 1]], and held out where ``heldout_P`` says so."""

    ids_N: Array
    starts: Array
    heldout_P: Array

    def part(self, heldout: bool) -> tuple[Array, Array]:
        """Return starts and stops of the pieces of one split."""
        chosen_P = self.heldout_P == heldout
        return self.starts[:-1][chosen_P], self.starts[1:][chosen_P]


@dataclass
class Encoder:
    """Encodes documents one after the other, and keeps where each begins and what its text is."""

    tokens: Tokens

    def __post_init__(self) -> None:
        self.starts, self.digests, self.text = array("q", [0]), array("Q"), hashlib.sha256()

    @property
    def dtype(self) -> np.dtype:
        """The narrowest numbers that hold every token."""
        return np.dtype("<u1" if self.tokens.size <= 1 << 8 else "<u2" if self.tokens.size <= 1 << 16 else "<u4")

    def encode(self, texts: Iterable[str]) -> Iterator[Array]:
        """Yield the tokens of the documents, several at once, each with what ends it."""
        iterator = iter(texts)
        while some := list(islice(iterator, AT_ONCE)):
            for text, ids in zip(some, self._ids(some), strict=True):
                ended = np.concatenate([ids, self._end(text)])
                digest = hashlib.sha256(text.encode(errors="replace")).digest()
                self.text.update(digest)
                self.digests.append(int.from_bytes(digest[:8]))
                self.starts.append(self.starts[-1] + len(ended))
                yield ended

    def _ids(self, texts: list[str]) -> Iterator[Array]:
        if self.tokens is BYTES:
            return (np.frombuffer(text.encode(errors="replace"), self.dtype) for text in texts)
        many = self.tokens.encode_all(texts) if isinstance(self.tokens, FileTokens) else map(self.tokens.encode, texts)
        return (np.array(ids, self.dtype) for ids in many)

    def _end(self, text: str) -> Array:
        """Return what ends a document: the token for it, else a line break where the text has none."""
        if self.tokens.end is not None:
            return np.array([self.tokens.end], self.dtype)
        return np.array([] if text.endswith("\n") else self.tokens.encode("\n"), self.dtype)

    @property
    def digest(self) -> str:
        """The SHA-256 of the documents and the vocabulary."""
        return hashlib.sha256(self.text.digest() + self.tokens.sha256.encode()).hexdigest()

    def cut(self) -> tuple[Array, Array]:
        """Return starts of pieces, [P + 1], and which of them are held out, [P]."""
        starts = np.array(self.starts, np.int64)
        heldout_P = np.array(self.digests, np.uint64) % ONE_OF == 0
        share = float(np.diff(starts)[heldout_P].sum()) / max(1, starts[-1])
        if len(heldout_P) >= ENOUGH and HELDOUT_SHARE / 4 < share < HELDOUT_SHARE * 4:
            return starts, heldout_P
        return _in_blocks(starts)


def _in_blocks(starts: Array) -> tuple[Array, Array]:
    """Hold out equal blocks evenly spread over the tokens, which cut documents where a block begins or ends."""
    total = int(starts[-1])
    held = int(total * HELDOUT_SHARE)
    blocks = max(1, held // BLOCK)
    _, heldout = interleaved(total, blocks, held // blocks)
    cuts = np.union1d(starts, np.array(heldout, np.int64).ravel())
    edges = np.array(heldout, np.int64)
    index = np.searchsorted(edges[:, 1], cuts[:-1], side="right")
    inside_P = (index < len(edges)) & (edges[np.minimum(index, len(edges) - 1), 0] <= cuts[:-1])
    return cuts, inside_P


def encoded(texts: Iterable[str], tokens: Tokens) -> tuple[Pieces, str]:
    """Return documents as pieces in memory, and their digest."""
    encoder = Encoder(tokens)
    ids_N = np.concatenate([np.empty(0, encoder.dtype), *encoder.encode(texts)])
    return Pieces(ids_N, *encoder.cut()), encoder.digest


def write_ids(encoder: Encoder, texts: Iterable[str], file: IO[bytes]) -> Iterator[int]:
    """Write the tokens of documents to ``file``; yield their number so far."""
    for ids in encoder.encode(texts):
        file.write(ids.tobytes())
        yield encoder.starts[-1]
