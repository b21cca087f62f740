"""Which tokens are met most in what a model is trained on."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from dsvgraph.errors import DsvError
from dsvgraph_torch.data.corpus import Corpus
from dsvgraph_torch.data.rows.packed import PackedCorpus
from dsvgraph_torch.data.stream import TextCorpus

BLOCK = 2**24  # tokens that are counted at once

Ids = NDArray[np.integer[Any]]


def token_counts(corpus: Corpus) -> NDArray[np.int64]:
    """Return how often each token stands in the training part of a corpus.

    Raise DsvError if it is a task, which makes its examples as they are asked for.
    """
    if isinstance(corpus, PackedCorpus):
        ids_N, spans = corpus.pieces.ids_N, list(zip(*corpus.pieces.part(heldout=True), strict=True))
    elif isinstance(corpus, TextCorpus):
        ids_N, spans = corpus.train.ids_N.numpy(), list(corpus.heldout.spans)
    else:
        raise DsvError(f"{corpus.source} makes its examples without end, so its tokens are not counted")
    found = np.zeros(corpus.tokens.size, np.int64)
    for first in range(0, len(ids_N), BLOCK):
        found += _counted(ids_N[first : first + BLOCK], corpus.tokens.size)
    heldout = [ids_N[int(start) : int(stop)] for start, stop in spans]
    return found - _counted(np.concatenate(heldout) if heldout else ids_N[:0], corpus.tokens.size)


def _counted(ids: Ids, size: int) -> NDArray[np.int64]:
    return np.bincount(ids.astype(np.int64), minlength=size)


def most(counts: NDArray[np.int64], wanted: int) -> list[int]:
    """Return the ``wanted`` tokens that are met most, in ascending order; of equally frequent ones the smaller ids."""
    return sorted(np.argsort(-counts, kind="stable")[:wanted].tolist())
