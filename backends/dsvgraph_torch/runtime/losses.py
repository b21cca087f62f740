"""Losses other than the cross-entropy against one token, as emitted models call them, copied as far as they are used.

Each returns the sum over the positions that count, and their number. What it computes of a row of logits is a function,
`part`, taken in chunks of rows. Letters in names of tensors: B batch, T positions, n positions with a target, N rows of
logits, V vocabulary, W tokens of a window.
"""

import torch
import torch.nn.functional as F
from torch.utils.checkpoint import checkpoint

from dsvgraph_torch.runtime.plain import precise
from dsvgraph_torch.runtime.scoring import scored

CHUNK = 2**25  # logits that exist at once


def cut(value, first, count):
    """Return `count` positions from `first` on as rows, of logits or of the pair whose product they are."""
    x, *weight = value if isinstance(value, tuple) else (value,)
    return x[:, first : first + count].flatten(0, 1), *weight


def fixed(value):
    """Return logits, states, or the pair whose product they are, without gradients."""
    return tuple(x.detach() for x in value) if isinstance(value, tuple) else value.detach()


def fixed_head(value):
    """Return the pair whose product logits are, without a gradient of its weight."""
    return value[0], value[1].detach()


def by_rows(part, values, *more, width=1):
    """Return part(logits, ..., *more) of every row, [N], never the logits of more rows at once than a chunk has.

    ``values`` are rows of `cut`, ``more`` tensors with a row each; ``width``: what else there is of a row at least.
    """
    size = max(1, CHUNK // max(width, *(len(weight[0]) if weight else x.shape[-1] for x, *weight in values)))

    def run(first):
        logits = [precise(F.linear(x[first : first + size], *w) if w else x[first : first + size]) for x, *w in values]
        return part(*logits, *(m[first : first + size] for m in more))

    count = len(values[0][0])
    if count <= size:
        return run(0)
    return torch.cat([checkpoint(run, first, use_reentrant=False) for first in range(0, count, size)])


def counted(values_N, keep_Bn):
    """Return the sum of the values of rows that count, and the number of these rows, at least 1."""
    return values_N.where(keep_Bn.flatten(), 0.0).sum(), keep_Bn.sum().clamp(min=1)


def smoothed_cross_entropy(value, targets_BT, ahead, ctx, fill=0, smoothing=0.0):
    """Return cross_entropy against a target of which a share ``smoothing`` lies on all tokens alike."""
    t_Bn = scored(targets_BT, ahead, fill, ctx)
    part = lambda x, t: F.cross_entropy(x, t, reduction="none", label_smoothing=smoothing)  # noqa: E731
    return counted(by_rows(part, [cut(value, 0, t_Bn.shape[1])], t_Bn.flatten()), t_Bn != -100)


def z_loss(value, targets_BT, ahead, ctx, fill=0):
    """Return the sum of the squared logarithms of the softmax's denominators, and the number of targets."""
    keep_Bn = scored(targets_BT, ahead, fill, ctx) != -100
    return counted(by_rows(lambda x: x.logsumexp(-1).square(), [cut(value, 0, keep_Bn.shape[1])]), keep_Bn)


# -- windows of tokens ----------------------------------------------------------------------------------------------


def windows(targets_BT, numbers_N, first, width, ctx, fill=0):
    """Return the targets at i + first, ..., i + first + width - 1 for the positions i with these numbers, [N, W].

    They are -100 past the end of the row or of the document of i, or if i + fill lies there.
    """
    T, by_W = targets_BT.shape[1], torch.arange(first, first + width, device=targets_BT.device)
    inside_NW = torch.maximum(by_W, by_W.new_tensor(fill)) < T - (numbers_N % T)[:, None]
    at_NW = (numbers_N[:, None] + by_W).where(inside_NW, 0)
    if ctx.documents is not None:
        documents = ctx.documents.flatten()
        inside_NW = inside_NW & (documents[at_NW] == documents[numbers_N, None])
        if fill:
            last_N = (numbers_N + fill).clamp(max=len(documents) - 1)
            inside_NW = inside_NW & (documents[last_N] == documents[numbers_N])[:, None]
    return targets_BT.flatten()[at_NW].where(inside_NW, -100)


def marked(logits_NV, window_NW, marks, empty):
    """Return for each token of the vocabulary the largest mark of those of its places in the window, or ``empty``."""
    marks_NW = logits_NV.new_tensor(marks).expand_as(window_NW).masked_fill(window_NW == -100, empty)
    return torch.full_like(logits_NV, empty).scatter_reduce(1, window_NW.clamp(min=0), marks_NW, "amax")


def over_windows(part, value, targets_BT, ahead, marks, empty, ctx, fill=0):
    """Return part(logits, marks by token) summed over the positions whose window holds a target, and their number.

    A token that comes in the window of i, first at i + ahead + d, has the mark marks[d], any other one ``empty``.
    """
    B, T = targets_BT.shape
    count = max(0, T - max(ahead - 1, fill))
    numbers_N = torch.arange(B * T, device=targets_BT.device).view(B, T)[:, :count].flatten()

    def scored_window(x_NV, numbers_N):
        window_NW = windows(targets_BT, numbers_N, ahead - 1, len(marks), ctx, fill)
        keep_N = (window_NW != -100).any(-1)
        values_N = part(x_NV, marked(x_NV.detach(), window_NW, marks, empty))
        return torch.stack([values_N.where(keep_N, 0.0), keep_N.to(values_N)], -1)

    found_N2 = by_rows(scored_window, [cut(value, 0, count)], numbers_N, width=len(marks))
    return found_N2[:, 0].sum(), found_N2[:, 1].sum().clamp(min=1)


def binary_cross_entropy(value, targets_BT, ahead, ctx, fill=0, window=1, decay=1.0):
    """Return the sum of the binary cross-entropies of every token of the vocabulary, and the number of windows.

    A token that comes in the window, first at its place d = 0, 1, ..., has the target decay ** d, any other one 0
    (arXiv 2510.14751).
    """
    part = lambda x, y: F.binary_cross_entropy_with_logits(x, y, reduction="none").sum(-1)  # noqa: E731
    marks = [decay**d for d in range(min(window, targets_BT.shape[1]))]
    return over_windows(part, value, targets_BT, ahead, marks, 0.0, ctx, fill)


def listnet(value, targets_BT, ahead, ctx, fill=0, window=1):
    """Return the sum of the cross-entropies against the order of tokens in the window, and the number of windows.

    The target is the softmax of window - d over the tokens that come in it, first at their place d = 0, 1, ...
    (arXiv 2508.19228).
    """
    part = lambda x, y: -(y.softmax(-1).nan_to_num(0.0) * x.log_softmax(-1)).sum(-1)  # noqa: E731
    marks = [-d for d in range(min(window, targets_BT.shape[1]))]
    return over_windows(part, value, targets_BT, ahead, marks, -torch.inf, ctx, fill)


# -- an output against another ---------------------------------------------------------------------------------------


def compared(part, value, against, targets_BT, shift, ctx, fill=0, vocabulary=None):
    """Return part(logits, logits of ``against`` at i + shift) summed over positions i, and their number.

    A position counts if the token behind i + shift is a target. ``fill``: how many tokens ahead of i either has read.
    """
    keep_Bn = scored(targets_BT, shift + 1, fill, ctx) != -100
    pair = [cut(value, 0, keep_Bn.shape[1]), cut(kept_tokens(against, vocabulary), shift, keep_Bn.shape[1])]
    return counted(by_rows(part, pair), keep_Bn)


def kept_tokens(value, vocabulary):
    """Return logits of the tokens in ``vocabulary`` alone: the first so many, a list of ids, or all for None."""
    if vocabulary is None:
        return value
    ids = slice(vocabulary) if isinstance(vocabulary, int) else list(vocabulary)
    return (value[0], value[1][ids]) if isinstance(value, tuple) else value[..., ids]


def kl(value, against, targets_BT, shift, ctx, fill=0, vocabulary=None, temperature=1.0):
    """Return the divergence KL(against, value) of softmaxes at a temperature, times its square (arXiv 1503.02531)."""

    def part(x_NV, y_NV):
        log_q, log_p = ((z / temperature).log_softmax(-1) for z in (x_NV, y_NV))
        return temperature**2 * F.kl_div(log_q, log_p, reduction="none", log_target=True).sum(-1)

    return compared(part, value, against, targets_BT, shift, ctx, fill, vocabulary)


def soft_cross_entropy(value, against, targets_BT, shift, ctx, fill=0, vocabulary=None, temperature=1.0):
    """Return the cross-entropy against the softmax of ``against``, at a temperature, times its square."""

    def part(x_NV, y_NV):
        p_NV = (y_NV / temperature).softmax(-1)
        return -(temperature**2) * (p_NV * (x_NV / temperature).log_softmax(-1)).sum(-1)

    return compared(part, value, against, targets_BT, shift, ctx, fill, vocabulary)


def overlap(x_NV, y_NV, temperature):
    """Return how much of two softmaxes is common: the share of draws of the one that the other accepts, [N]."""
    return torch.minimum((x_NV / temperature).softmax(-1), (y_NV / temperature).softmax(-1)).sum(-1)


def total_variation(value, against, targets_BT, shift, ctx, fill=0, vocabulary=None, temperature=1.0):
    """Return the total variation distance of two softmaxes, 1 - sum of the lesser of both."""
    part = lambda x, y: 1 - overlap(x, y, temperature)  # noqa: E731
    return compared(part, value, against, targets_BT, shift, ctx, fill, vocabulary)


def accepted(values, againsts, targets_BT, shifts, ctx, fill=0, vocabulary=None, temperature=1.0):
    """Return 1 - mean over the depths of the product of their overlaps so far (arXiv 2606.12370, equation 13), summed
    over the positions at which every depth has a target, and their number."""
    keeps = [scored(targets_BT, shift + 1, fill, ctx) != -100 for shift in shifts]
    whole, found = 1.0, 0.0
    count = min(keep_Bn.shape[1] for keep_Bn in keeps)
    keep_Bn = torch.stack([keep_Bn[:, :count] for keep_Bn in keeps]).all(0)
    for value, against, shift in zip(values, againsts, shifts, strict=True):
        pair = [cut(value, 0, count), cut(kept_tokens(against, vocabulary), shift, count)]
        whole = whole * by_rows(lambda x, y: overlap(x, y, temperature), pair)
        found = found + whole
    return counted(1 - found / len(values), keep_Bn)


def smooth_l1(value, against, targets_BT, shift, ctx, fill=0, beta=1.0):
    """Return the smooth L1 distance to ``against`` at i + shift, mean over features, summed over positions."""
    part = lambda x, y: F.smooth_l1_loss(x, y, reduction="none", beta=beta).mean(-1)  # noqa: E731
    return compared(part, value, against, targets_BT, shift, ctx, fill)


def confidence(value, draft, against, targets_BT, shift, ctx, fill=0, vocabulary=None, temperature=1.0):
    """Return the sum of the binary cross-entropies of how likely a draft is accepted, against how likely it is: what
    its distribution and that of ``against`` at i + shift have in common."""
    keep_Bn = scored(targets_BT, shift + 1, fill, ctx) != -100
    ids = slice(vocabulary) if vocabulary is None or isinstance(vocabulary, int) else list(vocabulary)

    def part(x_NV, y_NV):
        q_NV, p_NV = ((z / temperature).softmax(-1) for z in (x_NV, y_NV))
        return torch.minimum(q_NV, p_NV[:, ids]).sum(-1)

    count = keep_Bn.shape[1]
    accepted_N = by_rows(part, [cut(draft, 0, count), cut(against, shift, count)])
    said_N = precise(value[:, :count].flatten())
    return counted(F.binary_cross_entropy_with_logits(said_N, accepted_N, reduction="none"), keep_Bn)


# -- what a step leaves out -------------------------------------------------------------------------------------------


def skips(model, weight):
    """Return whether a loss of this weight is left out: while training, one that weighs 0 changes nothing."""
    return model.training and not weight


def needed(model, weights, count, *names, chain=False):
    """Return for each copy whether it runs: all do where nothing is trained, else those whose depth one of the named
    losses weighs, and in a ``chain`` those before them."""
    if weights is None:
        return [True] * count
    runs = [not all(skips(model, weights[name][depth]) for name in names) for depth in range(count)]
    return [any(runs[depth:]) for depth in range(count)] if chain else runs


# -- vocabularies and draws -------------------------------------------------------------------------------------------


def mapped(targets_BT, vocabulary):
    """Return targets as numbers of the logits that stand for ``vocabulary``, -100 for other tokens."""
    if isinstance(vocabulary, int):
        return targets_BT.masked_fill(targets_BT >= vocabulary, -100)
    places = targets_BT.new_full([max(vocabulary) + 1], -100)
    places[list(vocabulary)] = torch.arange(len(vocabulary), device=places.device)
    inside_BT = (targets_BT >= 0) & (targets_BT < len(places))
    return places[targets_BT.where(inside_BT, 0)].where(inside_BT, -100)


def drawn(model, depths, count):
    """Return a factor for each depth: depths / count for ``count`` of them, drawn by torch's generator, 0 for the
    others, so that the mean over draws is that of all; 1 for all while the model is evaluated."""
    if not model.training:
        return [1.0] * depths
    chosen = torch.randperm(depths)[:count].tolist()
    return [depths / count * (depth in chosen) for depth in range(depths)]
