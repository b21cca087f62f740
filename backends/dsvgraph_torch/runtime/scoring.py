"""What the losses of emitted models call: targets and cross-entropies, copied as far as they are used.

Letters in names of tensors: B batch, T positions, n positions with a target, N rows of logits.
"""

import torch
import torch.nn.functional as F
from torch.utils.checkpoint import checkpoint

from dsvgraph_torch.runtime.plain import precise


def head(x, weight, ctx):
    """Return logits, or x and the weight if a loss will multiply them in chunks."""
    return (x, weight) if ctx.collect else F.linear(x, weight)


def heads(x, weight, ctx):
    """Return logits, or for each of the stacked x the pair of it and the weight if losses are computed."""
    return [(piece, weight) for piece in x] if ctx.collect else F.linear(x, weight)


def next_tokens(ids_BT, targets_BT, labels_BT, documents_BT):
    """Return the token after each position, -100 where its document ends: targets, or labels moved by one.

    Raise ValueError unless they have the shape of the ids, and if the targets are the ids.
    """
    given = labels_BT if targets_BT is None else targets_BT
    if given is None:
        return None
    found = f"{[*given.shape]} for ids {[*ids_BT.shape]}" if given.shape != ids_BT.shape else ""
    found = "both" if targets_BT is not None and labels_BT is not None else found
    values = ids_BT.device.type == "cpu" and not torch.compiler.is_compiling()  # comparing them elsewhere has to wait
    same = torch.equal(ids_BT, given) and bool((ids_BT.diff() != 0).any()) if values else given is ids_BT
    if found or (same and labels_BT is None):
        raise ValueError(
            "targets are the token after each position, row[:, 1:] for row[:, :-1], labels the tokens; "
            f"found {found or 'the ids'}"
        )
    after_BT = F.pad(labels_BT[:, 1:], (0, 1), value=-100) if targets_BT is None else targets_BT
    return after_BT if documents_BT is None else after_BT.masked_fill(F.pad(documents_BT.diff() != 0, (0, 1)), -100)


def scored(targets_BT, ahead, fill, ctx):
    """Return the targets of the first positions, [B, n], for position i the token i + ahead, targets[i + ahead - 1].

    They are -100 past the end of a document. ``fill``: how many tokens ahead the prediction at i has read.
    """
    last = max(0, targets_BT.shape[1] - max(0, fill - ahead + 1)) if fill else None
    t_Bn = targets_BT[:, ahead - 1 : last]
    if ctx.documents is not None:
        t_Bn = t_Bn.where(ctx.within(max(ahead - 1, fill) if fill else ahead - 1, targets_BT)[:, : t_Bn.shape[1]], -100)
    return t_Bn


def cross_entropy(logits, targets_BT, ahead, ctx, fill=0):
    """Return the sum of losses against the tokens ``ahead`` positions further on, and the number of targets."""
    t_Bn = scored(targets_BT, ahead, fill, ctx)
    loss = F.cross_entropy(precise(logits[:, : t_Bn.shape[1]].flatten(0, 1)), t_Bn.flatten(), reduction="sum")
    return loss, (t_Bn != -100).sum().clamp(min=1)


def head_cross_entropy(factors, targets_BT, ahead, ctx, fill=0):
    """Return what cross_entropy of logits x weight^T is, in chunks of rows: all logits never exist at once."""
    t_Bn = scored(targets_BT, ahead, fill, ctx)
    size = max(1, 2**25 // len(factors[1]))
    part = lambda x, t: F.cross_entropy(precise(F.linear(x, factors[1])), t, reduction="sum")  # noqa: E731
    run = part if t_Bn.numel() <= size else lambda x, t: checkpoint(part, x, t, use_reentrant=False)
    loss = sum(map(run, factors[0][:, : t_Bn.shape[1]].flatten(0, 1).split(size), t_Bn.flatten().split(size)))
    return loss, (t_Bn != -100).sum().clamp(min=1)


def real(formula, words, tokens, positive=False):
    """Return the value of a formula of the spec. Raise ArithmeticError, which names it, if it is not a finite number.

    A number is at most 1e30 in magnitude, as in the spec.
    """
    try:
        value = formula()
        if (value > 0 if positive else value >= -1e30) and value <= 1e30:
            return value
    except (ArithmeticError, TypeError, ValueError) as error:
        value = error
    raise ArithmeticError(words + " has no value at " + str(tokens) + " tokens: " + str(value))
