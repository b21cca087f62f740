"""Steps of decoding for all rows: their tensors stay where they are, so that a GPU repeats a step as one graph.

Shape legend: B rows, N steps that follow each other without a look at what they drew, U uniform numbers of a step, M
what a step makes, C tokens of a row, K drafts, T positions that are checked, V vocabulary.

What a step draws is the input of the next one. On a GPU nobody waits for it: the steps of a burst are queued, and their
tokens are read when the next burst is queued already.
"""

from __future__ import annotations

import time
import warnings
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from dsvgraph_torch.decoding.context import Cache, StepContext
from dsvgraph_torch.decoding.experts import equal_shapes
from dsvgraph_torch.decoding.heads import Drafted
from dsvgraph_torch.decoding.sampling import Sampler, Sampling, drawn

BURST = 8
"""Steps that are queued at once on a GPU; on a CPU every token is seen before the next."""

SHORTEST = 256
"""Positions that a graph of a step sees at least; there is one graph for each doubling."""

WARM = 2
"""Steps before a graph is recorded: libraries choose their kernels, and what a cache makes once is made."""


@dataclass
class Burst:
    """What steps that were queued have made, [N, B, M], on its way to the host."""

    made_NBM: Tensor
    done: Any = None

    def read(self) -> list[list[list[int]]]:
        """Return the tokens of each step and row; wait until they are there."""
        if self.done is not None:
            self.done.synchronize()
        return [[made[1 : 1 + made[0]] for made in step] for step in self.made_NBM.tolist()]


class Step:
    """Draws the next token of every row of a cache, of which prompts were read."""

    most = 1  # tokens that a step makes
    numbers = 1  # uniform ones that it takes for a row

    def __init__(self, module: Any, cache: Cache, sampler: Sampler, size: int) -> None:
        self.module, self.cache, self.sampler, self.size = module, cache, sampler, size
        self.device = next(module.parameters()).device
        self.graphed = self.device.type == "cuda"
        self.burst, self.ahead = (BURST, 1) if self.graphed else (1, 0)
        # shapes do not depend on how many positions count: for graphs, and for kernels that are made for each shape
        self.static = self.graphed or next(module.parameters()).dtype in (torch.bfloat16, torch.float16)
        whole = dict(dtype=torch.long, device=self.device)
        self.rows_B = torch.arange(cache.rows, device=self.device)
        self.ids_BC, self.read_B = torch.zeros(cache.rows, 1, **whole), torch.zeros(cache.rows, **whole)
        self.number_1 = torch.zeros(1, **whole)
        self.made_NBM = torch.ones(BURST, cache.rows, 1 + self.most, **whole)  # how many, and the tokens
        self.uniform_NBU = torch.zeros(BURST, cache.rows, self.numbers, dtype=torch.float64, device=self.device)
        self.graphs: dict[int, Any] = {}
        self.recording = 0.0  # seconds

    @torch.inference_mode()
    def begin(self, windows: list[list[int]], read: list[int]) -> None:
        """Go on from the last token of each row, ``read`` positions of which are in the cache."""
        self.ids_BC.copy_(torch.tensor([window[-1:] for window in windows]))
        self.read_B.copy_(torch.tensor(read))

    @torch.inference_mode()
    def run(self, count: int, read: list[int]) -> Burst:
        """Take ``count`` steps behind at most so many positions of each row."""
        if not self.sampler.sampling.greedy:
            uniform_BN = self.sampler.uniform(count * self.numbers, range(self.cache.rows))
            self.uniform_NBU[:count].copy_(uniform_BN.unflatten(1, (count, -1)).transpose(0, 1), non_blocking=True)
        if self.graphed:
            return self._replayed(count, self._limit(max(read) + count * self.most))
        made = []
        for number in range(count):
            past = self.read_B if self.static or len(set(read)) > 1 else read[0] + number
            limit = None if isinstance(past, int) else self._limit(max(read) + (number + 1) * self.most)
            made.append(self.next(past, limit, self.uniform_NBU[number]))
        return Burst(torch.stack(made))

    def next(self, past: int | Tensor, limit: int | None, uniform_BU: Tensor) -> Tensor:
        """Take a step; return how many tokens of each row it makes, and these, [B, M]."""
        found = self.module._trunk(self.ids_BC, StepContext(self.cache, past, 1, limit))
        logits_BV = (found[-1] if isinstance(found, tuple) else found)[:, -1, : self.size]
        if self.sampler.sampling.greedy:
            token_B = logits_BV.argmax(-1)
        else:
            token_B = drawn(self.sampler.sampling.chances(_wide(logits_BV)), uniform_BU[:, 0])
        self.ids_BC.copy_(token_B[:, None])
        self.read_B.add_(1).clamp_(max=self.cache.slots - 1)
        return torch.stack([torch.ones_like(token_B), token_B], 1)

    def held(self) -> list[Tensor]:
        """Return what a step changes besides the positions behind those that count."""
        return [self.ids_BC, self.read_B, *self.cache.states.values()]

    # -- graphs ------------------------------------------------------------------------------------

    def _limit(self, needed: int) -> int:
        """Return how many positions a step sees that serves so many: as few graphs as lengths double."""
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
        made_NBM = torch.empty(count, *self.made_NBM.shape[1:], dtype=torch.long, pin_memory=True)
        made_NBM.copy_(self.made_NBM[:count], non_blocking=True)
        done = torch.cuda.Event()
        done.record()
        return Burst(made_NBM, done)

    def _numbered(self, limit: int) -> None:
        """Take a step whose uniform numbers and tokens lie at the number of the step."""
        uniform_BU = self.uniform_NBU.index_select(0, self.number_1)[0]
        made_BM = self.next(self.read_B, limit, uniform_BU)
        self.made_NBM.index_copy_(0, self.number_1, made_BM[None])
        self.number_1.add_(1)

    def _recorded(self, limit: int) -> Any:
        """Return what repeats a step: a graph, or the step itself where a line of the model cannot be recorded."""
        started, held = time.perf_counter(), [*self.held(), self.number_1]
        before = [x.clone() for x in held]
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
        for now, then in zip(held, before, strict=True):
            now.copy_(then)
        torch.cuda.synchronize()
        self.recording += time.perf_counter() - started
        return found


class DraftedStep(Step):
    """Drafts tokens, checks all of them at once, and draws one more; ``heads`` None: none are drafted.

    ``width``: the trunk computes so many positions, over all of the cache, however many there are to check. Then
    products have equal shapes, and greedy text is the same with any number of drafts below ``width``, to the last bit.
    """

    def __init__(
        self, module: Any, cache: Cache, sampler: Sampler, size: int, heads: Any, width: int | None = None
    ) -> None:
        self.count = heads.drafting.count if heads else 0
        self.most, self.numbers = self.count + 1, 2 * self.count + 1
        super().__init__(module, cache, sampler, size)
        self.heads, self.width, self.static = heads, width, True
        self.length = width or self.most
        self.ids_BC = torch.zeros(cache.rows, cache.slots + self.length + 1, dtype=torch.long, device=self.device)

    @torch.inference_mode()
    def begin(self, windows: list[list[int]], read: list[int]) -> None:
        ids = [window + [0] * (self.ids_BC.shape[1] - len(window)) for window in windows]
        self.ids_BC.copy_(torch.tensor(ids))
        self.read_B.copy_(torch.tensor(read))

    def next(self, past: int | Tensor, limit: int | None, uniform_BU: Tensor) -> Tensor:
        assert limit
        read_B, sampler = self.read_B, self.sampler
        drafted = self.heads.draft(self.ids_BC, read_B, sampler, uniform_BU, self.size, limit) if self.count else None
        at_BT = read_B[:, None] + torch.arange(self.length, device=self.device)
        ctx = StepContext(self.cache, read_B, self.length, self.cache.slots if self.width else limit)
        with equal_shapes() if self.width else nullcontext():
            found = self.module._trunk(self.ids_BC.gather(1, at_BT), ctx)
        handed = list(found) if isinstance(found, tuple) else [found]
        logits_BTV = _wide(handed[-1][:, : self.most, : self.size])
        accepted_B, next_B = checked(sampler.sampling, logits_BTV, drafted, uniform_BU[:, self.count :])
        self.ids_BC[self.rows_B, read_B + accepted_B + 1] = next_B
        made_BT = self.ids_BC.gather(1, at_BT[:, : self.most] + 1)
        if self.count:
            self.heads.follow(read_B, handed)
        last = self.cache.slots - self.length
        self.read_B.copy_((read_B + accepted_B + 1).clamp(max=last))
        return torch.cat([accepted_B[:, None] + 1, made_BT], 1)

    def held(self) -> list[Tensor]:
        return [*super().held(), *(self.heads.held() if self.count else [])]


def checked(
    sampling: Sampling, logits_BTV: Tensor, drafted: Drafted | None, uniform_BU: Tensor
) -> tuple[Tensor, Tensor]:
    """Return how many drafts of each row are accepted, and the token after them, [B] each.

    A draft x is accepted with chance min(1, p(x) / q(x)). After the first that is not, the token is drawn from
    max(p - q, 0), after all of them from p: what comes out is drawn from p, whatever q is.
    """
    ids_BK = drafted.ids_BK if drafted else logits_BTV.new_zeros(len(logits_BTV), 0, dtype=torch.long)
    K, rows_B = ids_BK.shape[1], torch.arange(len(logits_BTV), device=logits_BTV.device)
    if sampling.greedy:
        best_BT = logits_BTV.argmax(-1)
        accepted_B = (best_BT[:, :K] == ids_BK).long().cumprod(1).sum(1)
        return accepted_B, best_BT[rows_B, accepted_B]
    p_BTV = sampling.chances(logits_BTV)
    if drafted is None or drafted.chances_BKV is None:
        return torch.zeros_like(rows_B), drawn(p_BTV[:, 0], uniform_BU[:, 0])
    q_BKV = drafted.chances_BKV
    p_BK, q_BK = (x.gather(-1, ids_BK[..., None])[..., 0].double() for x in (p_BTV[:, :K], q_BKV))
    accepted_B = (uniform_BU[:, :K] * q_BK < p_BK).long().cumprod(1).sum(1)
    p_BV = p_BTV[rows_B, accepted_B]
    q_BV = F.pad(q_BKV, (0, 0, 0, 1))[rows_B, accepted_B]
    rest_BV = (p_BV - q_BV).clamp(min=0)
    rest_BV = rest_BV.where(rest_BV.sum(-1, keepdim=True) > 0, p_BV)  # p = q up to rounding
    return accepted_B, drawn(rest_BV, uniform_BU[:, K])


def _wide(logits: Tensor) -> Tensor:
    """Return logits in float32, or in their dtype if that is wider."""
    return logits.to(torch.promote_types(logits.dtype, torch.float32))
