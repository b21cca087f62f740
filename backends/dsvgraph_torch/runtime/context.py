"""What ops of emitted models read besides their inputs: positions, documents, and the cache of decoding.

Letters in names of tensors: B batch, T positions, C positions and those before them.
"""

import torch
import torch.nn.functional as F


class Context:
    """What ops read besides their inputs; one object per forward pass. ``collect``: losses are computed."""

    def __init__(self, positions=None, documents=None, cache=None, row=None, collect=False, numbered=False):
        self.positions, self.cache, self.collect, self.balance, self.memo = positions, cache, collect, {}, {}
        # numbered anew: a number that comes again is another document
        self.documents = None if documents is None else F.pad((documents.diff() != 0).cumsum(1), (1, 0))
        self.copy_index = ()
        if cache is not None:
            # the entry that counts has no elements: entries are [B, positions, ...] and add up to what is kept
            self.past, self.length = (cache["past"].shape[1] if cache else 0), row.shape[1]
            cache["past"] = row.new_empty(row.shape[0], self.past + self.length, 0)
            if numbered and (positions is not None or "positions" in cache):
                self.positions = self.with_earlier("positions", positions.expand(row.shape[0], -1))

    def at(self, x, counted=False):
        """Return the positions of x, [T] or [B, T]: those given, or those counted from 0.

        counted: those counted, whatever is given.
        """
        at_C = torch.arange(x.shape[1] if self.cache is None else self.past + self.length, device=x.device)
        if self.documents is not None:  # counted in each document
            at_C = at_C - torch.where(F.pad(self.documents.diff() != 0, (1, 0), value=True), at_C, 0).cummax(1).values
        return (at_C if counted or self.positions is None else self.positions)[..., -x.shape[1] :]

    def within(self, by, x):
        """Return whether the position ``by`` behind each of x, [B, T], lies in its document; the row is a ring."""
        return (torch.roll(self.documents, -by, 1) == self.documents)[:, self.documents.shape[1] - x.shape[1] :]  # type: ignore[union-attr]

    def with_earlier(self, key, value, last=None):
        """Return the cached values of earlier positions followed by ``value``, and cache them."""
        if self.cache is not None:
            kept = self.cache.get(key, value[:, :0])
            if kept.shape[1] != (self.past if last is None else min(self.past, last)):
                raise ValueError("the cache was filled otherwise: by another model, or by a step that failed")
            value = self.cache[key] = torch.cat([kept, value], 1)
            if last is not None:
                self.cache[key] = value[:, -last:].clone()
        return value

    def newest(self, value, axis=1):
        """Return the part of the value at the new positions, which are the last ones."""
        return value if self.cache is None else value.narrow(axis, value.shape[axis] - self.length, self.length)

    def state(self, key):
        """Return the state that `keep` stored at the last position before these; None at the start of a row."""
        if self.cache is not None and self.past and key not in self.cache:
            raise ValueError("the cache was filled otherwise: by another model, or by a step that failed")
        return None if self.cache is None else self.cache.get(key)

    def keep(self, key, state):
        """Store a state for the next positions."""
        if self.cache is not None:
            self.cache[key] = state


class CopyContext(Context):
    """The context of copy i of a module whose copies share their weights: each copy has its own cache entries."""

    def __init__(self, ctx, i):
        self.__dict__ = {**ctx.__dict__, "copy_index": (*ctx.copy_index, i)}
