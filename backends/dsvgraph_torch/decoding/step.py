"""Steps of one token for all rows: their tensors stay where they are, so that a GPU repeats a step as one graph.

Shape legend: B rows, N steps that follow each other without a look at what they drew, V vocabulary.

What a step draws is the input of the next one. On a GPU nobody waits for it: the steps of a burst are queued, and their
tokens are read when the next burst is queued already.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from dsvgraph_torch.decoding.context import Cache, StepContext
from dsvgraph_torch.decoding.sampling import Sampler, drawn

BURST = 8
"""Steps that are queued at once on a GPU; on a CPU every token is seen before the next."""

SHORTEST = 256
"""Positions that a graph of a step sees at least; there is one graph for each doubling."""

WARM = 2
"""Steps before a graph is recorded: libraries choose their kernels, and what a cache makes once is made."""


@dataclass
class Burst:
    """Tokens of steps that were queued, [N, B], on their way to the host."""

    tokens_NB: Tensor
    done: Any = None

    def read(self) -> list[list[int]]:
        """Return the tokens; wait until they are there."""
        if self.done is not None:
            self.done.synchronize()
        return self.tokens_NB.tolist()


class Step:
    """Draws the next token of every row of a cache, of which prompts were read."""

    def __init__(self, module: Any, cache: Cache, sampler: Sampler, size: int) -> None:
        self.module, self.cache, self.sampler, self.size = module, cache, sampler, size
        self.device = next(module.parameters()).device
        self.graphed = self.device.type == "cuda"
        self.burst, self.ahead = (BURST, 1) if self.graphed else (1, 0)
        self.static = self.graphed  # shapes do not depend on how many positions count
        whole = dict(dtype=torch.long, device=self.device)
        self.token_B1, self.read_B = torch.zeros(cache.rows, 1, **whole), torch.zeros(cache.rows, **whole)
        self.made_NB, self.number_1 = torch.zeros(BURST, cache.rows, **whole), torch.zeros(1, **whole)
        self.uniform_NB = torch.zeros(BURST, cache.rows, dtype=torch.float64, device=self.device)
        self.graphs: dict[int, Any] = {}

    @torch.inference_mode()
    def begin(self, tokens: list[int], read: list[int]) -> None:
        """Go on from the last token of each row, ``read`` positions of which are in the cache."""
        self.token_B1.copy_(torch.tensor(tokens)[:, None])
        self.read_B.copy_(torch.tensor(read))

    @torch.inference_mode()
    def run(self, count: int, read: list[int]) -> Burst:
        """Take ``count`` steps behind so many positions of each row."""
        if not self.sampler.sampling.greedy:
            uniform_BN = self.sampler.uniform(count, range(self.cache.rows))
            self.uniform_NB[:count].copy_(uniform_BN.t(), non_blocking=True)
        if self.graphed:
            return self._replayed(count, self._limit(max(read) + count))
        made = []
        for number in range(count):
            past = self.read_B if self.static or len(set(read)) > 1 else read[0] + number
            limit = None if isinstance(past, int) else self._limit(max(read) + number + 1)
            made.append(self._next(past, limit, self.uniform_NB[number]))
        return Burst(torch.stack(made))

    def _next(self, past: int | Tensor, limit: int | None, uniform_B: Tensor) -> Tensor:
        """Take a step; return the tokens that it draws, [B]."""
        found = self.module._trunk(self.token_B1, StepContext(self.cache, past, 1, limit))
        logits_BV = (found[-1] if isinstance(found, tuple) else found)[:, -1, : self.size]
        if self.sampler.sampling.greedy:
            token_B = logits_BV.argmax(-1)
        else:
            wide = torch.promote_types(logits_BV.dtype, torch.float32)
            token_B = drawn(self.sampler.sampling.chances(logits_BV.to(wide)), uniform_B)
        self.token_B1.copy_(token_B[:, None])
        self.read_B.add_(1).clamp_(max=self.cache.slots - 1)
        return token_B

    # -- graphs ------------------------------------------------------------------------------------

    def _limit(self, needed: int) -> int:
        """Return how many positions a graph sees that serves so many: as few graphs as lengths double."""
        limit = SHORTEST if self.static else -(-needed // 32) * 32
        while limit < needed:
            limit *= 2
        return min(limit, self.cache.slots)

    def _replayed(self, count: int, limit: int) -> Burst:
        if limit not in self.graphs:
            self.graphs[limit] = self._recorded(limit)
        self.number_1.zero_()
        for _ in range(count):
            self.graphs[limit]()
        tokens_NB = torch.empty(count, self.cache.rows, dtype=torch.long, pin_memory=True)
        tokens_NB.copy_(self.made_NB[:count], non_blocking=True)
        done = torch.cuda.Event()
        done.record()
        return Burst(tokens_NB, done)

    def _numbered(self, limit: int) -> None:
        """Take a step whose uniform numbers and tokens lie at the number of the step."""
        uniform_B = self.uniform_NB.index_select(0, self.number_1)[0]
        token_B = self._next(self.read_B, limit, uniform_B)
        self.made_NB.index_copy_(0, self.number_1, token_B[None])
        self.number_1.add_(1)

    def _recorded(self, limit: int) -> Any:
        """Return what repeats a step: a graph, or the step itself where a line of the model cannot be recorded."""
        before = [x.clone() for x in self._held()]
        side = torch.cuda.Stream()
        side.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(side):
            for _ in range(WARM):
                self.number_1.zero_()
                self._numbered(limit)
        torch.cuda.current_stream().wait_stream(side)
        graph = torch.cuda.CUDAGraph()
        try:
            with torch.cuda.graph(graph):
                self._numbered(limit)
            found = graph.replay
        except RuntimeError as error:
            words = str(error).strip().partition("\n")[0]
            warnings.warn(f"a step cannot be recorded as a CUDA graph and runs line by line: {words}", stacklevel=2)
            found = lambda: self._numbered(limit)  # noqa: E731
        for now, then in zip(self._held(), before, strict=True):
            now.copy_(then)
        return found

    def _held(self) -> list[Tensor]:
        """Return what a step changes besides the positions behind those that count."""
        return [self.token_B1, self.read_B, self.number_1, *self.cache.states.values()]
