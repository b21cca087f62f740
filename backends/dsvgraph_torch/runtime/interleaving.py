"""Rows in which further tokens stand behind each token, as emitted models make them and take them apart.

While a cache is filled the row's own tokens are there alone: masks let none of them see an inserted one.
"""

import torch

from dsvgraph_torch.runtime.context import Context as Context


class InterleavedContext(Context):
    """The context of such rows: token j behind one at position i is at position i + ahead[j], ahead[0] being 0."""

    def __init__(self, ctx, x, ahead):
        at = ctx.at(x[:, :: len(ahead)])[..., None] + torch.tensor(ahead, device=x.device)
        documents = None if ctx.documents is None else ctx.documents.repeat_interleave(len(ahead), 1)
        self.__dict__ = {**ctx.__dict__, "positions": at.flatten(-2), "documents": documents, "memo": {}}


def interleaved(ctx, x, ahead):
    """Return the context of the rows of ``x``."""
    return ctx if ctx.cache is not None else InterleavedContext(ctx, x, ahead)


def interleave_tokens(x_BT, inserted_NBT, ctx):
    """Return the rows in which the tokens of ``inserted`` stand behind each token, [B, (N + 1) * T, ...]."""
    return x_BT if ctx.cache is not None else torch.stack([x_BT, *inserted_NBT], 2).flatten(1, 2)


def separate_tokens(x, lanes, ctx):
    """Return the tokens of such rows apart: the rows' own, [B, T, ...], and the inserted ones, [N, B, T, ...]."""
    parts = x[None] if ctx.cache is not None else x.unflatten(1, (-1, lanes)).movedim(2, 0)
    return parts[0], parts[1:]
