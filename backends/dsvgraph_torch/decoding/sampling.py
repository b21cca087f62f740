"""Drawing tokens: the distribution that the options of sampling make of logits, and a model that is asked whole rows.

Shape legend: B rows, T tokens, V vocabulary; a row of one sequence is written [1, T].
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from dsvgraph.errors import DsvError
from dsvgraph_torch.data.corpus import seeded
from dsvgraph_torch.data.tokens import BYTES


@dataclass(frozen=True, kw_only=True)
class Sampling:
    """How a token is drawn: the likeliest at temperature 0, else by chance among those that the rest leaves.

    ``top_k`` keeps the likeliest, ``top_p`` the smallest number of likeliest whose chances reach it together, ``min_p``
    those that are at least this share of the likeliest one's chance.
    """

    temperature: float = 0.8
    top_k: int | None = 50
    top_p: float = 1.0
    min_p: float = 0.0
    seed: int = 0

    @property
    def greedy(self) -> bool:
        return self.temperature == 0

    def check(self) -> None:
        """Raise DsvError if an option makes no sense."""
        if not 0 <= self.temperature < float("inf"):
            raise DsvError(f"--temperature: must be 0 (greedy) or more, got {self.temperature}")
        if self.top_k is not None and self.top_k < 1:
            raise DsvError(f"--top-k: must be at least 1, got {self.top_k}")
        if not 0 < self.top_p <= 1:
            raise DsvError(f"--top-p: must be above 0 and at most 1, got {self.top_p}")
        if not 0 <= self.min_p <= 1:
            raise DsvError(f"--min-p: must be from 0 to 1, got {self.min_p}")

    def chances(self, logits_V: Tensor) -> Tensor:
        """Return the distribution, [..., V], that tokens are drawn from."""
        if self.greedy:
            return torch.zeros_like(logits_V).scatter_(-1, logits_V.argmax(-1, keepdim=True), 1)
        scaled_V = logits_V / self.temperature
        if self.top_k is not None and self.top_k < logits_V.shape[-1]:
            kept = scaled_V.topk(self.top_k)
            scaled_V = torch.full_like(scaled_V, -torch.inf).scatter_(-1, kept.indices, kept.values)
        p_V = scaled_V.softmax(-1)
        if self.top_p < 1:
            sorted_V, order_V = p_V.sort(-1, descending=True)
            before_V = sorted_V.cumsum(-1) - sorted_V
            p_V = torch.zeros_like(p_V).scatter_(-1, order_V, sorted_V.where(before_V < self.top_p, 0))
        if self.min_p > 0:
            p_V = p_V.where(p_V >= self.min_p * p_V.amax(-1, keepdim=True), 0)
        return p_V / p_V.sum(-1, keepdim=True)


class Sampler:
    """Draws tokens for rows, each with chance of its own: what a row draws does not depend on the others.

    A token is drawn by one number from 0 to 1, in float64 from a generator on the CPU: where the sum of the chances up
    to a token is first above it. So a seed draws the same on every device. ``together``: one generator for all rows,
    which is much faster for many.
    """

    def __init__(self, sampling: Sampling, rows: int = 1, together: bool = False) -> None:
        names = [("sample",), *(("sample", row) for row in range(1, 1 if together else rows))]
        self.sampling, self.together = sampling, together
        self.generators = [seeded(sampling.seed, *name) for name in names]

    def __call__(self, logits_V: Tensor) -> int:
        return int(self.draw(self.sampling.chances(logits_V)[None], [0])[0])

    def draw(self, p_BV: Tensor, rows: Sequence[int]) -> Tensor:
        """Return one token for each of ``rows``, [B]."""
        if self.sampling.greedy:
            return p_BV.argmax(-1)
        return drawn(p_BV, self.uniform(1, rows)[:, 0].to(p_BV.device))

    def uniform(self, count: int, rows: Sequence[int]) -> Tensor:
        """Return ``count`` numbers from 0 to 1 for each of ``rows``, [B, count], in float64."""
        if self.together:
            return torch.rand(len(rows), count, generator=self.generators[0], dtype=torch.float64)
        return torch.stack([torch.rand(count, generator=self.generators[r], dtype=torch.float64) for r in rows])


def drawn(p_BV: Tensor, uniform_B: Tensor) -> Tensor:
    """Return the first token of each row up to which the chances add up to more than a number from 0 to 1."""
    sums_BV = p_BV.cumsum(-1, dtype=torch.float64)
    total_B1 = sums_BV[:, -1:]
    below_B1 = torch.minimum(uniform_B[:, None] * total_B1, torch.nextafter(total_B1, torch.zeros_like(total_B1)))
    return torch.searchsorted(sums_BV, below_B1, right=True)[:, 0]


def sample(
    model: Any, prompt: list[int], tokens: int, context: int, sampler: Sampler, cached: bool = True,
    size: int = BYTES.size,
) -> Iterator[int]:  # fmt: skip
    """Yield token ids after those of ``prompt``, at most ``tokens`` of them, each below ``size``.

    It asks ``model.predict`` as any caller can, so it takes a model in training, and one that looks ahead. The model
    sees at most ``context`` tokens; when they are full it goes on from the later half.
    """
    window = prompt[-context:]
    cache: dict[str, Any] = {}
    fresh = window
    for _ in range(tokens):
        logits_V = next_logits(model, fresh if cached else window, cache if cached else None, size)
        token = sampler(logits_V)
        yield token
        window.append(token)
        fresh = [token]
        if len(window) > context:
            window = later_half(window, context)
            cache, fresh = {}, window


def later_half(window: list[int], context: int) -> list[int]:
    """Return what a model goes on from when ``context`` tokens are full."""
    return window[-max(1, context // 2) :]


@torch.inference_mode()
def next_logits(model: Any, ids: list[int], cache: dict[str, Any] | None, size: int = BYTES.size) -> Tensor:
    """Return the first ``size`` logits [V] of the token after ``ids``, in float32 on the CPU."""
    device = next(model.parameters()).device
    ids_1T = torch.tensor([ids], device=device)
    logits_1TV: Tensor = model.predict(ids_1T, cache=cache)
    return logits_1TV[0, -1, :size].float().cpu()
