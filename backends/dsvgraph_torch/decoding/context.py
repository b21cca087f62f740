"""What ops read besides their inputs while a model is decoded: a preallocated cache, and rows of different lengths.

Letters in names of tensors: B rows, T new positions, C positions in the cache, H heads, G key and value heads, Q and V
widths of a head.

``past`` is how many positions of the cache count: one number for all rows, or a tensor [B] where rows differ. New
positions are written behind them, so that a row is taken back by a smaller number.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, TypeAlias

import torch
import torch.nn.functional as F
from torch import Tensor

from dsvgraph_torch.runtime import plain

Past: TypeAlias = int | Tensor


class Cache:
    """Buffers of ``slots`` positions for every value that decoding keeps, allocated when it is first kept.

    ``forgets``: of values of which only the last positions are needed, no more are kept. Such rows cannot be taken
    back and have to be equally long. ``states`` are what ops carry from position to position.
    """

    def __init__(self, rows: int, slots: int, forgets: bool = False) -> None:
        self.rows, self.slots, self.forgets = rows, slots, forgets
        self.buffers: dict[Any, Tensor] = {}
        self.latest: dict[Any, Tensor] = {}
        self.states: dict[Any, Any] = {}
        self.products: dict[Any, Any] = {}  # of weights, which do not change while a cache lives

    def extended(self, key: Any, value: Tensor, past: Past, last: int | None) -> Tensor:
        """Write ``value`` behind the positions that count, and return those and it."""
        if last is not None and self.forgets:
            kept = self.latest[key] if past else value[:, :0]
            value = torch.cat([kept, value], 1)
            self.latest[key] = value[:, -last:].clone()
            return value
        if key not in self.buffers:
            self.buffers[key] = value.new_zeros(self.rows, self.slots, *value.shape[2:])
        buffer, length = self.buffers[key], value.shape[1]
        if isinstance(past, int):
            buffer[:, past : past + length] = value
            return buffer[:, : past + length]
        at_BT = (past[:, None] + torch.arange(length, device=value.device)).clamp(max=self.slots - 1)
        buffer[torch.arange(len(past), device=value.device)[:, None], at_BT] = value
        return buffer[:, : int(past.max()) + length]

    def only(self, row: int) -> Cache:
        """Return a cache that is one row of this one: what is written there is written here."""
        found = Cache(1, self.slots, self.forgets)
        found.buffers, found.products = _Row(self.buffers, row, self), self.products
        return found

    def elements(self) -> int:
        """Return how many numbers are kept: of buffers all, filled or not."""
        held = [*self.buffers.values(), *self.latest.values(), *self.states.values()]
        return sum(tensor.numel() for tensor in held)


class _Row(dict[Any, Tensor]):
    """The buffers of a cache, seen as those of one of its rows; a new one is made for all rows."""

    def __init__(self, whole: dict[Any, Tensor], row: int, cache: Cache) -> None:
        super().__init__({key: buffer[row : row + 1] for key, buffer in whole.items()})
        self.whole, self.row, self.cache = whole, row, cache

    def __setitem__(self, key: Any, buffer: Tensor) -> None:
        self.whole[key] = buffer.new_zeros(self.cache.rows, *buffer.shape[1:])
        super().__setitem__(key, self.whole[key][self.row : self.row + 1])


class StepContext(plain.Context):
    """The context of one step of ``length`` new positions behind ``past`` ones."""

    def __init__(self, cache: Cache, past: Past, length: int) -> None:
        super().__init__()
        self.cache, self.past, self.length = cache, past, length

    def at(self, x: Tensor, counted: bool = False) -> Tensor:
        """Return the positions of x, [T] or [B, T]; all are counted from 0."""
        if isinstance(self.past, int):
            return torch.arange(self.past + self.length, device=x.device)[-x.shape[1] :]
        at_T = torch.arange(x.shape[1], device=x.device)
        return self.past[:, None] + at_T if x.shape[1] == self.length else at_T

    def with_earlier(self, key: Any, value: Tensor, last: int | None = None) -> Tensor:
        """Return the cached values of earlier positions followed by ``value``, and cache them."""
        return self.cache.extended(key, value, self.past, last)

    def newest(self, value: Tensor, axis: int = 1) -> Tensor:
        """Return the part of the value at the new positions."""
        if isinstance(self.past, int):
            return value.narrow(axis, value.shape[axis] - self.length, self.length)
        at_BT = self.past[:, None] + torch.arange(self.length, device=value.device)
        rows = value.movedim(axis, 1)
        found = rows[torch.arange(len(at_BT), device=value.device)[:, None], at_BT]
        return found.movedim(1, axis)

    def state(self, key: Any) -> Any:
        """Return the state that `keep` stored at the last position before these; None at the start of a row."""
        return self.cache.states.get(key) if self.past else None

    def keep(self, key: Any, state: Any) -> None:
        """Store a state for the next positions."""
        self.cache.states[key] = state

    def copied(self, i: int) -> StepContext:
        """Return the context of copy i of a module whose copies share their weights."""
        found = object.__new__(type(self))
        found.__dict__ = {**self.__dict__, "copy_index": (*self.copy_index, i)}
        return found

    def visible(self, queries: int, keys: int, window: int | None, like: Tensor, seen: Any = None) -> Tensor:
        """Return which keys each new position sees, [B, 1, T, C]: rows differ in how many positions count."""
        assert isinstance(self.past, Tensor)
        at_BT1 = (self.past[:, None] + torch.arange(queries, device=like.device))[:, :, None]
        at_C = torch.arange(keys, device=like.device)
        seen_BTC = at_C <= at_BT1
        if window is not None:
            seen_BTC = seen_BTC & (at_C > at_BT1 - window)
        if seen is not None:
            seen_BTC = seen_BTC & seen(at_BT1, at_C)
        return seen_BTC[:, None]


class DraftContext(StepContext):
    """The context of heads that draft: tokens after the new positions are known, and become more as drafts are made.

    ``row`` holds the tokens of the rows, [B, slots], and changes while the heads run. ``depths`` is how many copies of
    a chain run, None for as many as there are.
    """

    def __init__(self, cache: Cache, past: Past, length: int, row: Tensor, depths: int | None) -> None:
        super().__init__(cache, past, length)
        self.row, self.depths, self.again = row, depths, [0]
        self.views: list[tuple[Tensor, int]] = []

    def tokens(self, ahead: int) -> Tensor:
        """Return the tokens ``ahead`` positions after the new ones, as far as they are known, [B, T]."""
        at_T = torch.arange(self.length, device=self.row.device) + ahead
        at_BT = (self.past if isinstance(self.past, int) else self.past[:, None]) + at_T
        at_BT = at_BT.clamp(0, self.row.shape[1] - 1)
        found = self.row[:, at_BT] if at_BT.dim() == 1 else self.row.gather(1, at_BT)
        self.views.append((found, ahead))
        return found

    def ahead_of(self, x: Tensor) -> int | None:
        """Return by how much x is the row's tokens moved; None if it is something else."""
        return next((ahead for tensor, ahead in self.views if tensor is x), None)

    def copies(self, modules: Sequence[Any]) -> Iterator[Any]:
        """Yield the copies of a chain, the last one again for depths that it was not trained for."""
        for i in range(self.depths or len(modules)):
            self.again[0] = max(0, i + 1 - len(modules))
            yield modules[min(i, len(modules) - 1)]
        self.again[0] = 0

    def with_earlier(self, key: Any, value: Tensor, last: int | None = None) -> Tensor:
        """Return the cached values of earlier positions followed by ``value``; a copy used again has its own."""
        return super().with_earlier((key, self.again[0]) if self.again[0] else key, value, last)


# -- what stands behind the names of plain.py in a module that is decoded ---------------------------


def attention(q_BTHQ, k_BCGQ, v_BCGV, ctx, scale, causal=True, sinks=None, window=None, seen=None):
    """plain.attention; where rows differ in length, each position sees what counts of its own row."""
    whole = not causal and seen is None  # a mask that is decoded step by step lets no query look ahead
    if whole or not isinstance(ctx, StepContext) or isinstance(ctx.past, int):
        return plain.attention(q_BTHQ, k_BCGQ, v_BCGV, ctx, scale, causal, sinks, window, seen)
    mask, V = ctx.visible(q_BTHQ.shape[1], k_BCGQ.shape[1], window, q_BTHQ, seen), v_BCGV.shape[-1]
    blind = None if seen is None or sinks is not None else ~mask.any(-1, keepdim=True)
    mask = mask if blind is None else mask | blind
    if sinks is not None:
        q_BTHQ, k_BCGQ, v_BCGV, mask = plain.with_sinks(q_BTHQ, k_BCGQ, v_BCGV, mask, sinks / scale)
    wide = max(q_BTHQ.shape[-1], V)
    q, k, v = (F.pad(x, (0, wide - x.shape[-1])).transpose(1, 2) for x in (q_BTHQ, k_BCGQ, v_BCGV))
    y = F.scaled_dot_product_attention(q, k, v, mask, scale=scale, enable_gqa=q.shape[1] != k.shape[1])
    y = y if blind is None else y.masked_fill(blind, 0)
    return y.transpose(1, 2)[..., :V]


def shift(x_BT, by, ctx, fill=0):
    """plain.shift; where heads draft, the tokens of later positions are known."""
    ahead = ctx.ahead_of(x_BT) if isinstance(ctx, DraftContext) else None
    return plain.shift(x_BT, by, ctx, fill) if ahead is None else ctx.tokens(ahead + by)


def CopyContext(ctx, i):
    """The context of copy i of a module whose copies share their weights: each copy has its own cache entries."""
    return ctx.copied(i) if isinstance(ctx, StepContext) else plain.CopyContext(ctx, i)


NAMES = {"attention": attention, "shift": shift, "CopyContext": CopyContext}
