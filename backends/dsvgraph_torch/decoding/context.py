"""What ops read besides their inputs while a model is decoded: a preallocated cache, and rows of different lengths.

Letters in names of tensors: B rows, T new positions, C positions in the cache, H heads, G key and value heads, Q and V
widths of a head.

``past`` is how many positions of the cache count: one number for all rows, or a tensor [B] where rows differ, or where
a step has to have the same shapes whatever counts. New positions are written behind them, so that a row is taken back
by a smaller number.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import cached_property
from typing import Any, TypeAlias

import torch
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
        self.tables: dict[Any, Any] = {}  # of numbers that depend on the position alone
        self.whole: dict[Any, Tensor] = {}  # of values side by side, which are parts of it

    def extended(self, key: Any, value: Tensor, past: int, last: int | None) -> Tensor:
        """Write ``value`` behind the positions that count, and return those and it."""
        if last is not None and self.forgets:
            kept = self.latest[key] if past else value[:, :0]
            value = torch.cat([kept, value], 1)
            self.latest[key] = value[:, -last:].clone()
            return value
        buffer, end = self.buffer(key, value), past + value.shape[1]
        buffer[:, past:end] = value
        return buffer[:, :end]

    def buffer(self, key: Any, like: Tensor) -> Tensor:
        """Return the buffer of a value, made for values ``like`` this if there is none."""
        if key not in self.buffers:
            self.buffers[key] = like.new_zeros(self.rows, self.slots, *like.shape[2:])
        return self.buffers[key]

    def joined(self, keys: tuple[Any, ...], kept: tuple[Tensor, ...]) -> Tensor:
        """Return kept values side by side in their last axis, without a copy once they lie so."""
        if len(keys) == 1:
            return kept[0]
        if keys not in self.whole:
            if isinstance(self.buffers, _Row):  # the other rows lie elsewhere
                return torch.cat(kept, -1)
            self.whole[keys] = torch.cat([self.buffers[key] for key in keys], -1)
            widths = [kept_BCR.shape[-1] for kept_BCR in kept]
            self.buffers.update(zip(keys, self.whole[keys].split(widths, -1), strict=True))
        return self.whole[keys][:, : kept[0].shape[1]]

    def only(self, row: int) -> Cache:
        """Return a cache that is one row of this one: what is written there is written here."""
        found = Cache(1, self.slots, self.forgets)
        found.buffers, found.products, found.tables = _Row(self.buffers, row, self), self.products, self.tables
        found.whole = {keys: whole[row : row + 1] for keys, whole in self.whole.items()}
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
    """The context of one step of ``length`` new positions behind ``past`` ones.

    ``limit``: where ``past`` is a tensor, every kept value has this many positions, so that no shape depends on what
    the tensor holds. ``last_B``: the one position of each row whose logits are wanted; None for all.
    """

    def __init__(
        self, cache: Cache, past: Past, length: int, limit: int | None = None, last_B: Tensor | None = None
    ) -> None:
        super().__init__()
        self.cache, self.past, self.length, self.last_B = cache, past, length, last_B
        self.limit = int(past.max()) + length if isinstance(past, Tensor) and limit is None else limit

    @cached_property
    def rows_B1(self) -> Tensor:
        assert isinstance(self.past, Tensor)
        return torch.arange(len(self.past), device=self.past.device)[:, None]

    @cached_property
    def at_BT(self) -> Tensor:
        """The new positions; those behind the last slot, of rows that are done, are the last."""
        assert isinstance(self.past, Tensor)
        at_BT = self.past[:, None]
        if self.length > 1:
            at_BT = at_BT + torch.arange(self.length, device=self.past.device)
        return at_BT.clamp(max=self.cache.slots - 1)

    def at(self, x: Tensor, counted: bool = False) -> Tensor:
        """Return the positions of x, [T] or [B, T]; all are counted from 0."""
        if isinstance(self.past, int):
            return torch.arange(self.past + self.length, device=x.device)[-x.shape[1] :]
        return self.at_BT if x.shape[1] == self.length else torch.arange(x.shape[1], device=x.device)

    def place(self, key: Any) -> Any:
        """Return under which key the cache has what a line keeps."""
        return key

    def with_earlier(self, key: Any, value: Tensor, last: int | None = None) -> Tensor:
        """Return the cached values of earlier positions followed by ``value``, and cache them."""
        key = self.place(key)
        if isinstance(self.past, int):
            return self.cache.extended(key, value, self.past, last)
        buffer = self.cache.buffer(key, value)
        buffer[self.rows_B1, self.at_BT] = value
        return buffer[:, : self.limit]

    def newest(self, value: Tensor, axis: int = 1) -> Tensor:
        """Return the part of the value at the new positions."""
        if isinstance(self.past, int):
            return value.narrow(axis, value.shape[axis] - self.length, self.length)
        return value.movedim(axis, 1)[self.rows_B1, self.at_BT].movedim(1, axis)

    def state(self, key: Any) -> Any:
        """Return the state that `keep` stored at the last position before these; None at the start of a row."""
        start = isinstance(self.past, int) and self.past == 0
        return None if start else self.cache.states.get(key)

    def keep(self, key: Any, state: Any) -> None:
        """Store a state for the next positions, in place where all shapes stay the same."""
        if isinstance(self.past, Tensor) and key in self.cache.states:
            self.cache.states[key].copy_(state)
        else:
            self.cache.states[key] = state

    def copied(self, i: int) -> StepContext:
        """Return the context of copy i of a module whose copies share their weights."""
        found = object.__new__(type(self))
        found.__dict__ = {**self.__dict__, "copy_index": (*self.copy_index, i)}
        return found

    def visible(self, keys: int, window: int | None, seen: Any = None) -> Tensor:
        """Return which of the first ``keys`` positions each new one sees, [B, 1, T, C]."""
        key = "visible", keys, window
        if seen is None and key in self.memo:
            return self.memo[key]
        at_BT1 = self.at_BT[:, :, None]
        at_C = torch.arange(keys, device=at_BT1.device)
        seen_BTC = at_C <= at_BT1
        if window is not None:
            seen_BTC = seen_BTC & (at_C > at_BT1 - window)
        if seen is not None:
            return (seen_BTC & seen(at_BT1, at_C))[:, None]
        self.memo[key] = seen_BTC[:, None]
        return self.memo[key]

    def bias(self, keys: int, window: int | None, dtype: torch.dtype) -> Tensor:
        """Return what is added to scores: 0 where a position is seen, else minus infinity, [B, 1, T, C]."""
        key = "bias", keys, window, dtype
        if key not in self.memo:
            seen = self.visible(keys, window)
            self.memo[key] = torch.zeros_like(seen, dtype=dtype).masked_fill_(~seen, -torch.inf)
        return self.memo[key]


class DraftContext(StepContext):
    """The context of heads that draft: tokens after the new positions are known, and become more as drafts are made.

    ``row`` holds the tokens of the rows, [B, slots], and changes while the heads run. ``depths`` is how many copies of
    a chain run, None for as many as there are.
    """

    def __init__(
        self, cache: Cache, past: Past, length: int, row: Tensor, depths: int | None, limit: int | None = None,
        last_B: Tensor | None = None,
    ) -> None:  # fmt: skip
        super().__init__(cache, past, length, limit, last_B)
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

    def place(self, key: Any) -> Any:
        """Return under which key the cache has what a line keeps; a copy used again has entries of its own."""
        return (key, self.again[0]) if self.again[0] else key
