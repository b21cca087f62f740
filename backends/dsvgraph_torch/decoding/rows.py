"""Rows of tokens that grow step by step: prompts are read, drafts are checked, rejected ones are taken back.

Shape legend: B rows, T new positions, K drafts, V vocabulary, W positions that heads are asked for.

A row's ``window`` are the tokens that the model sees of it. ``read`` of them are in the cache; the last one, which is
drawn but not read yet, is what a step begins with.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from dsvgraph_torch.decoding.context import Cache, Past, StepContext
from dsvgraph_torch.decoding.experts import equal_shapes
from dsvgraph_torch.decoding.heads import Drafted, Heads
from dsvgraph_torch.decoding.sampling import Sampler, later_half
from dsvgraph_torch.decoding.step import Burst, Step


@dataclass
class DecodedRow:
    """One row: what is seen of it, how much is read, and whether it goes on."""

    window: list[int]
    left: int  # tokens that are still to be made
    read: int = 0

    @property
    def done(self) -> bool:
        return self.left <= 0

    @property
    def fresh(self) -> bool:
        """Return whether more than the last token is to be read."""
        return len(self.window) - self.read > 1 or self.read == 0


@dataclass
class Counts:
    """Steps after the prompts, tokens made by them, and for each draft how often it was reached and accepted.

    ``reads`` is how often tokens were read from the device, those of several steps at once.
    """

    steps: int = 0
    reads: int = 0
    tokens: int = 0
    reached: list[int] = field(default_factory=list)
    accepted: list[int] = field(default_factory=list)


class Rows:
    """Decodes rows together. ``context`` is how many tokens the model sees at most, ``size`` how many ids there are.

    ``width``: every step computes so many positions of each row, over all of the cache, however many it reads. Then
    products have equal shapes, and greedy text is the same with any number of drafts below ``width``, to the last bit.
    """

    def __init__(
        self, module: Any, prompts: list[list[int]], tokens: int, context: int, sampler: Sampler, size: int,
        heads: Heads | None = None, width: int | None = None,
    ) -> None:  # fmt: skip
        self.module, self.sampler, self.size, self.heads, self.width = module, sampler, size, heads, width
        self.context = min(context, max(map(len, prompts)) + tokens)
        self.rows = [DecodedRow(prompt[-self.context :], tokens) for prompt in prompts]
        self.device = next(module.parameters()).device
        on_gpu = self.device.type == "cuda"
        slots = self.context + (width or 0)
        slots = -(-slots // 64) * 64 if on_gpu else slots  # kernels want whole blocks of positions
        forgets = len(prompts) == 1 and heads is None and width is None and not on_gpu
        self.cache = Cache(len(prompts), slots, forgets)
        self.plain = Step(module, self.cache, sampler, size)
        self.counts = Counts(reached=[0] * self.most, accepted=[0] * self.most)
        if heads:
            heads.begin(len(prompts), self.context)

    @property
    def most(self) -> int:
        """Return how many tokens a step drafts at most."""
        return self.heads.drafting.count if self.heads else 0

    def run(self) -> Iterator[tuple[int, list[int]]]:
        """Yield row and new tokens until all rows are done; `stop` ends a row before."""
        with torch.inference_mode():
            while going := [b for b, row in enumerate(self.rows) if not row.done]:
                fresh = [b for b in going if self.rows[b].fresh]
                yield from self._begin(fresh) if fresh else self._steps(going)

    def _steps(self, going: list[int]) -> Iterator[tuple[int, list[int]]]:
        return self._step(going) if self.heads or self.width else self._bursts(going)

    def stop(self, row: int) -> None:
        """End a row."""
        self.rows[row].left = 0

    # -- prompts -----------------------------------------------------------------------------------

    def _begin(self, fresh: list[int]) -> Iterator[tuple[int, list[int]]]:
        """Read what is new of rows that are not read yet, and draw a token for each."""
        begins = self.counts.steps == 0  # later, which rows are full at once may depend on drafts
        if len(fresh) == len(self.rows) and (begins or self.width is None):
            yield from self._read(fresh, self.cache)
        else:
            for b in fresh:
                yield from self._read([b], self.cache.only(b))

    def _read(self, chosen: list[int], cache: Cache) -> Iterator[tuple[int, list[int]]]:
        rows = [self.rows[b] for b in chosen]
        lengths = [len(row.window) for row in rows]
        ids_BT = torch.zeros(len(rows), max(lengths), dtype=torch.long)
        for i, row in enumerate(rows):
            ids_BT[i, : lengths[i]] = torch.tensor(row.window)
        last_B = torch.tensor(lengths, device=self.device) - 1
        logits_BTV, handed = self._trunk(ids_BT.to(self.device), cache, 0, last_B)
        whole = logits_BTV.shape[1] == ids_BT.shape[1]
        last_BV = logits_BTV[torch.arange(len(rows), device=self.device), last_B if whole else 0]
        drawn = self.sampler.draw(self.sampler.sampling.chances(last_BV), chosen).tolist()
        for i, b in enumerate(chosen):
            rows[i].read = lengths[i]
            if self.heads:
                self.heads.restart(b, [value[i, : lengths[i]] for value in handed])
            yield self._grown(b, [drawn[i]])

    def _trunk(
        self, ids_BT: Tensor, cache: Cache, past: Past, last_B: Tensor | None = None
    ) -> tuple[Tensor, list[Tensor]]:
        """Return logits in float32 or wider, of the last positions alone if these are given, and what heads take."""
        limit = None if self.width is None else cache.slots
        found = self.module._trunk(ids_BT, StepContext(cache, past, ids_BT.shape[1], limit, last_B))
        handed = list(found) if isinstance(found, tuple) else [found]
        logits = handed[-1][..., : self.size]
        return logits.to(torch.promote_types(logits.dtype, torch.float32)), handed

    def _trunk_of_step(self, ids_BT: Tensor, past: Past) -> tuple[Tensor, list[Tensor]]:
        if self.width is None:
            return self._trunk(ids_BT, self.cache, past)
        count = ids_BT.shape[1]
        ids_BW = F.pad(ids_BT, (0, self.width - count))
        past_B = past if isinstance(past, Tensor) else torch.full((len(ids_BT),), past, device=self.device)
        with equal_shapes():
            logits_BWV, handed = self._trunk(ids_BW, self.cache, past_B)
        return logits_BWV[:, :count], [value[:, :count] for value in handed]

    def _grown(self, b: int, tokens: list[int]) -> tuple[int, list[int]]:
        """Add tokens to a row; when it is full, it goes on from its later half."""
        row = self.rows[b]
        tokens = tokens[: row.left]
        row.window += tokens
        row.left -= len(tokens)
        if len(row.window) > self.context:
            row.window, row.read = later_half(row.window, self.context), 0
        return b, tokens

    # -- steps without drafts ----------------------------------------------------------------------

    def _bursts(self, going: list[int]) -> Iterator[tuple[int, list[int]]]:
        """Take steps until a row is full or all have what they want; what a row draws after it has ended is cut."""
        rows = [row if b in going else self.rows[going[0]] for b, row in enumerate(self.rows)]
        read = [row.read for row in rows]
        self.plain.begin([row.window[-1] for row in rows], read)
        flying = deque[tuple[int, Burst]]()
        while live := [self.rows[b] for b in going if not self.rows[b].done]:
            queued = sum(count for count, _ in flying)
            room = self.context + 1 - max(len(row.window) for row in live)
            count = min(self.plain.burst, min(room, max(row.left for row in live)) - queued)
            if any(row.fresh for row in live) or (count <= 0 and not flying):
                return
            if count > 0:
                flying.append((count, self.plain.run(count, [min(n, self.cache.slots - 1) for n in read])))
                read = [n + count for n in read]
            if count <= 0 or len(flying) > self.plain.ahead:
                yield from self._taken(flying.popleft()[1])

    def _taken(self, burst: Burst) -> Iterator[tuple[int, list[int]]]:
        """Add to each row the tokens of steps."""
        tokens_NB = burst.read()
        self.counts.reads += 1
        for token_B in tokens_NB:
            self.counts.steps += 1
            for row, token in enumerate(token_B):
                if not self.rows[row].done:
                    self.counts.tokens += 1
                    self.rows[row].read += 1
                    yield self._grown(row, [token])

    # -- steps with drafts -------------------------------------------------------------------------

    def _step(self, going: list[int]) -> Iterator[tuple[int, list[int]]]:
        """Read the last token of every row, behind it drafts, and keep what of these a plain step could have drawn."""
        room = min(self.context - len(self.rows[b].window) for b in going)
        left = max(self.rows[b].left for b in going) - 1
        count = max(0, min(self.most, room, left))
        rows = [row if b in going else self.rows[going[0]] for b, row in enumerate(self.rows)]
        drafted = self._drafted(rows, going) if count else None
        last_B1 = torch.tensor([[row.window[-1]] for row in rows])
        ids_BT = last_B1 if drafted is None else torch.cat([last_B1, drafted.ids_BK[:, :count]], 1)
        past = lengths([row.read for row in rows], self.device)
        logits_BTV, handed = self._trunk_of_step(ids_BT.to(self.device), past)
        logits_BTV = logits_BTV.cpu()
        self.counts.reads += 1
        accepted_B, next_B = self._checked(logits_BTV, drafted, count)
        self.counts.steps += 1
        for b in going:
            took = int(accepted_B[b])
            row = self.rows[b]
            row.read += took + 1
            if self.heads:
                self.heads.keep(b, [value[b, : took + 1] for value in handed])
            self._count(took, count)
            tokens = [*(drafted.ids_BK[b, :took].tolist() if drafted else []), int(next_B[b])]
            found = self._grown(b, tokens)
            self.counts.tokens += len(found[1])
            yield found

    def _drafted(self, rows: list[DecodedRow], going: list[int]) -> Drafted:
        """Return drafts for all rows; those that do not go on compute what the first that does."""
        assert self.heads
        for b in range(len(rows)):
            if b not in going:
                self.heads.follow(b, going[0])
        return self.heads.draft(rows, self.sampler, self.size)

    def _checked(self, logits_BTV: Tensor, drafted: Any, count: int) -> tuple[Tensor, Tensor]:
        """Return how many drafts of each row are accepted, and the token after them, [B] each.

        A draft x is accepted with chance min(1, p(x) / q(x)). After the first that is not, the token is drawn from
        max(p - q, 0), after all of them from p: what comes out is drawn from p, whatever q is.
        """
        sampling, rows = self.sampler.sampling, range(len(logits_BTV))
        if sampling.greedy:
            best_BT = logits_BTV.argmax(-1)
            same_BK = best_BT[:, :count] == (drafted.ids_BK[:, :count] if count else 0)
            accepted_B = same_BK.long().cumprod(1).sum(1)
            return accepted_B, best_BT.gather(1, accepted_B[:, None])[:, 0]
        p_BTV = sampling.chances(logits_BTV)
        if not count:
            return torch.zeros(len(p_BTV), dtype=torch.long), self.sampler.draw(p_BTV[:, 0], rows)
        ids_BK1, q_BKV = drafted.ids_BK[:, :count, None], drafted.chances_BKV[:, :count]
        p_BK, q_BK = (x.gather(-1, ids_BK1)[..., 0].double() for x in (p_BTV[:, :count], q_BKV))
        kept_BK = self.sampler.uniform(count, rows) * q_BK < p_BK
        accepted_B = kept_BK.long().cumprod(1).sum(1)
        at_B = torch.arange(len(p_BTV))
        q_BTV = torch.cat([q_BKV, torch.zeros_like(q_BKV[:, :1])], 1)
        rest_BV = (p_BTV[at_B, accepted_B] - q_BTV[at_B, accepted_B]).clamp(min=0)
        rest_BV = rest_BV.where(rest_BV.sum(-1, keepdim=True) > 0, p_BTV[at_B, accepted_B])  # p = q up to rounding
        return accepted_B, self.sampler.draw(rest_BV / rest_BV.sum(-1, keepdim=True), rows)

    def _count(self, took: int, count: int) -> None:
        for i in range(count):
            self.counts.reached[i] += took >= i
            self.counts.accepted[i] += took > i


def lengths(found: list[int], device: torch.device) -> Past:
    """Return the number that all rows have, or a tensor of theirs."""
    return found[0] if len(set(found)) == 1 else torch.tensor(found, device=device)
