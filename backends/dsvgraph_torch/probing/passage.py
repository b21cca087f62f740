"""A text token by token: how likely each depth found the right token, and how sure it was.

Shape legend: T tokens of a window, V vocabulary; a window is a batch of one row, [1, T].
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor

from dsvgraph.backends.probes import Passage
from dsvgraph.errors import DsvError
from dsvgraph_torch.data.batch import Batch
from dsvgraph_torch.data.tokens import Tokens
from dsvgraph_torch.probing.heads import Head, run
from dsvgraph_torch.probing.scores import measures


@torch.inference_mode()
def passage(module: Any, heads: Sequence[Head], ids: Sequence[int], tokens: Tokens, context: int) -> Passage:
    """Return what every head says of each token of a text of ``ids``.

    Windows of ``context`` tokens overlap by half, so that every prediction of the next token but those of the first
    window has seen at least half a window. Raise DsvError if the text has less than two tokens.
    """
    if len(ids) < 2:
        raise DsvError(f"--text: {len(ids)} tokens predict nothing: at least 2 are needed")
    kinds = ("right", "entropy", "sure", "guess")
    rows: dict[str, dict[str, list[Any]]] = {k: {head.name: [None] * len(ids) for head in heads} for k in kinds}
    device = next(module.parameters()).device
    for start, first in windows(len(ids), context):
        ids_1R = torch.tensor([ids[start : start + context + 1]], device=device)
        outputs = run(module, Batch.of_rows(ids_1R))
        for head in heads:
            for place, values in _predicted(head, outputs, ids_1R, first):
                for name, value in values.items():
                    rows[name][head.name][start + place] = value
    guesses = {name: tuple(_likeliest(tokens, guess) for guess in found) for name, found in rows["guess"].items()}
    return Passage(
        tokens=tuple(pieces(tokens, ids)),
        probability=_tuples(rows["right"]),
        entropy=_tuples(rows["entropy"]),
        confidence=_tuples(rows["sure"]),
        likeliest=guesses,
    )


def _tuples(rows: dict[str, list[Any]]) -> dict[str, tuple[Any, ...]]:
    return {name: tuple(found) for name, found in rows.items()}


def _likeliest(tokens: Tokens, guess: int | None) -> str | None:
    return None if guess is None else decoded(tokens, guess)


def windows(length: int, context: int) -> Iterator[tuple[int, int]]:
    """Yield the start of each window of a text, and its last token of which the prediction is another window's."""
    step = max(1, context // 2)
    yield 0, 0
    for start in range(step, max(1, length - 1 - context + step), step):
        yield start, context - step


def _predicted(
    head: Head, outputs: dict[str, Tensor], ids_1R: Tensor, first: int
) -> Iterator[tuple[int, dict[str, Any]]]:
    """Yield the place in the window of each token behind ``first`` that is predicted, and what is said of it."""
    batch = Batch.of_rows(ids_1R)
    targets_1T, valid_1T = head.targets(batch)
    found = measures(head.logits(outputs), targets_1T)
    guesses = head.guesses(outputs)[0].tolist()
    entropy, sure = (found[name][0].tolist() for name in ("entropy", "confidence"))
    right = found["loss"][0].neg().exp().tolist()
    for i in torch.nonzero(valid_1T[0])[:, 0].tolist():
        if i + head.ahead > first:
            yield i + head.ahead, {"right": right[i], "entropy": entropy[i], "sure": sure[i], "guess": guesses[i]}


def pieces(tokens: Tokens, ids: Sequence[int]) -> list[str]:
    """Return the text that each token completes: nothing for one after which a character is incomplete."""
    decoder = tokens.decoder()
    found = [decoder.add(token) for token in ids]
    return [*found[:-1], found[-1] + decoder.rest()]


def decoded(tokens: Tokens, token: int) -> str:
    """Return the text of one token alone."""
    decoder = tokens.decoder()
    return decoder.add(token) + decoder.rest()
