"""Rows of tokens that grow step by step: prompts are read, steps are queued, what they made is taken.

Shape legend: B rows, T positions of a prompt, C tokens of a row, V vocabulary.

A row's ``window`` are the tokens that the model sees of it. ``read`` of them are in the cache; the last one, which is
drawn but not read yet, is what a step begins with.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from dsvgraph_torch.decoding.context import Cache, StepContext
from dsvgraph_torch.decoding.sampling import Sampler, later_half
from dsvgraph_torch.decoding.step import Burst, DraftedStep, Step


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

    ``heads`` draft; ``width``: see DraftedStep.
    """

    def __init__(
        self, module: Any, prompts: list[list[int]], tokens: int, context: int, sampler: Sampler, size: int,
        heads: Any = None, width: int | None = None,
    ) -> None:  # fmt: skip
        self.module, self.sampler, self.size, self.heads, self.width = module, sampler, size, heads, width
        self.context = min(context, max(map(len, prompts)) + tokens)
        self.rows = [DecodedRow(prompt[-self.context :], tokens) for prompt in prompts]
        self.device = next(module.parameters()).device
        drafted = heads is not None or width is not None
        self.cache = Cache(len(prompts), self._slots(drafted))
        self.step = Step(module, self.cache, sampler, size)
        if drafted:
            self.step = DraftedStep(module, self.cache, sampler, size, heads, width)
        self.cache.forgets = len(prompts) == 1 and not self.step.static
        self.counts = Counts(reached=[0] * self.most, accepted=[0] * self.most)
        if heads:
            heads.begin(len(prompts), self.cache.slots)

    def _slots(self, drafted: bool) -> int:
        """Return how many positions a cache needs: those of a step that goes beyond the context too."""
        slots = self.context + (max(self.width or 0, self.most + 1) if drafted else 0)
        return -(-slots // 64) * 64 if self.device.type == "cuda" else slots  # kernels want whole blocks of positions

    @property
    def most(self) -> int:
        """Return how many tokens a step drafts at most."""
        return self.heads.drafting.count if self.heads else 0

    def run(self) -> Iterator[tuple[int, list[int]]]:
        """Yield row and new tokens until all rows are done; `stop` ends a row before."""
        with torch.inference_mode():
            while going := [b for b, row in enumerate(self.rows) if not row.done]:
                fresh = [b for b in going if self.rows[b].fresh]
                yield from self._begin(fresh) if fresh else self._bursts(going)

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
        ids_BC = torch.tensor([row.window + [0] * (max(lengths) + self.most + 1 - len(row.window)) for row in rows])
        ids_BC, last_B = ids_BC.to(self.device), torch.tensor(lengths, device=self.device) - 1
        logits_BTV, handed = self._trunk(ids_BC[:, : max(lengths)], cache, last_B)
        at_B = torch.arange(len(rows), device=self.device)
        last_BV = logits_BTV[at_B, last_B if logits_BTV.shape[1] == max(lengths) else 0]
        drawn_B = self.sampler.draw(self.sampler.sampling.chances(last_BV), chosen)
        if self.heads:
            ids_BC[at_B, last_B + 1] = drawn_B
            self.heads.read(chosen, ids_BC, handed, lengths)
        for row, b, length, token in zip(rows, chosen, lengths, drawn_B.tolist(), strict=True):
            row.read = length
            yield self._grown(b, [token])

    def _trunk(self, ids_BT: Tensor, cache: Cache, last_B: Tensor) -> tuple[Tensor, list[Tensor]]:
        """Return logits in float32 or wider, of the last positions alone where it can, and what heads take."""
        found = self.module._trunk(ids_BT, StepContext(cache, 0, ids_BT.shape[1], last_B=last_B))
        handed = list(found) if isinstance(found, tuple) else [found]
        logits = handed[-1][..., : self.size]
        return logits.to(torch.promote_types(logits.dtype, torch.float32)), handed

    def _grown(self, b: int, tokens: list[int]) -> tuple[int, list[int]]:
        """Add tokens to a row; when it is full, it goes on from its later half, and what comes behind is left out."""
        row = self.rows[b]
        tokens = tokens[: min(row.left, self.context + 1 - len(row.window))]
        row.window += tokens
        row.left -= len(tokens)
        if len(row.window) > self.context:
            row.window, row.read = later_half(row.window, self.context), 0
        return b, tokens

    # -- steps -------------------------------------------------------------------------------------

    def _bursts(self, going: list[int]) -> Iterator[tuple[int, list[int]]]:
        """Take steps until a row is full or all have what they want; what a row draws after it has ended is cut."""
        rows = [row if b in going else self.rows[going[0]] for b, row in enumerate(self.rows)]
        read = [row.read for row in rows]
        self.step.begin([row.window for row in rows], read)
        flying = deque[Burst]()
        while live := [self.rows[b] for b in going if not self.rows[b].done]:
            queued = sum(len(burst.made_NBM) for burst in flying)
            count = 0 if any(row.fresh for row in live) else self._count(live, queued)
            if count > 0:
                flying.append(self.step.run(count, self._reach(live, read, queued)))
                read = [n + count for n in read]
            elif not flying:
                return
            if count <= 0 or len(flying) > self.step.ahead:
                yield from self._taken(flying.popleft())

    def _count(self, live: list[DecodedRow], queued: int) -> int:
        """Return how many steps to queue behind ``queued`` ones, so that no row gets much more than it wants."""
        room = (self.context + 1 - max(len(row.window) for row in live)) // self.step.most
        made = self.counts.tokens / max(1, self.counts.steps * len(self.rows))  # of a step, for each row
        wanted = -(-max(row.left for row in live) // max(1.0, made))
        return min(self.step.burst, min(max(1, room), int(wanted)) - queued)

    def _reach(self, live: list[DecodedRow], read: list[int], queued: int) -> list[int]:
        """Return how many positions of each row may be in the cache when the queued steps are done."""
        if self.step.most > 1:
            read = [max(row.read for row in live) + queued * self.step.most]
        return [min(n, self.cache.slots - self.step.most) for n in read]

    def _taken(self, burst: Burst) -> Iterator[tuple[int, list[int]]]:
        """Add to each row the tokens of steps, as long as it goes on."""
        made = burst.read()
        self.counts.reads += 1
        for step in made:
            self.counts.steps += 1
            for b, tokens in enumerate(step):
                row = self.rows[b]
                if row.done or row.fresh:
                    continue
                row.read += len(tokens)
                self._measure(len(tokens) - 1)
                found = self._grown(b, tokens)
                self.counts.tokens += len(found[1])
                yield found

    def _measure(self, accepted: int) -> None:
        """Count which drafts of a step were reached and accepted."""
        for i in range(self.most):
            self.counts.reached[i] += accepted >= i
            self.counts.accepted[i] += accepted > i
