"""What ops of emitted models ask for and nobody wires: positions, documents, and what decoding keeps.

Letters in names of tensors: B batch, T positions, C positions and those before them.
"""

import torch
import torch.nn.functional as F


class Context:
    """What ops ask for and nobody wires: one per forward pass. ``collect``: losses are wanted."""

    def __init__(self, positions=None, documents=None, cache=None, row=None, collect=False, numbered=False):
        self.positions, self.documents, self.cache, self.collect = positions, documents, cache, collect
        self.balance, self.memo, self.turn = {}, {}, ()
        if cache is not None:
            # the entry that counts has no elements: entries are [B, positions, ...] and add up to what is kept
            self.past, self.length = (cache["past"].shape[1] if cache else 0), row.shape[1]
            cache["past"] = row.new_empty(row.shape[0], self.past + self.length, 0)
            if numbered and (positions is not None or "positions" in cache):
                self.positions = self.extend("positions", positions.expand(row.shape[0], -1))

    def at(self, x):
        """Positions of x, [T] or [B, T]: those given, else from 0 in the row, or in each of its documents."""
        at_C = torch.arange(x.shape[1] if self.cache is None else self.past + self.length, device=x.device)
        if self.documents is not None:
            at_C = at_C - torch.where(F.pad(self.documents.diff() != 0, (1, 0), value=True), at_C, 0).cummax(1).values
        return (at_C if self.positions is None else self.positions)[..., -x.shape[1] :]

    def within(self, by, x):
        """Whether the position ``by`` beyond those of x lies in the same document, [B, T]; rows are rings here."""
        return (torch.roll(self.documents, -by, 1) == self.documents)[:, self.documents.shape[1] - x.shape[1] :]

    def extend(self, key, value, last=None):
        """The value behind what the cache holds of earlier positions; it keeps both, or the last rows of them."""
        if self.cache is not None:
            kept = self.cache.get(key, value[:, :0])
            if kept.shape[1] != min(self.past, last or self.past):
                raise ValueError("the cache was filled otherwise: by another model, or by a step that failed")
            value = torch.cat([kept, value], 1)
            self.cache[key] = value if last is None else value[:, -last:].clone()
        return value

    def new(self, value, axis=1):
        """The value at the new positions, which are the last ones."""
        return value if self.cache is None else value.narrow(axis, value.shape[axis] - self.length, self.length)

    def state(self, key):
        """What an op carried here from the positions before, if there are any."""
        if self.cache is not None and self.past and key not in self.cache:
            raise ValueError("the cache was filled otherwise: by another model, or by a step that failed")
        return None if self.cache is None else self.cache.get(key)

    def keep(self, key, state):
        """Carries a state to the next positions."""
        if self.cache is not None:
            self.cache[key] = state


class Turn(Context):
    """The context of the i-th use of one set of weights: entries of its own in the cache, fill of its own."""

    def __init__(self, ctx, i):
        self.__dict__ = {**ctx.__dict__, "turn": (*ctx.turn, i)}
