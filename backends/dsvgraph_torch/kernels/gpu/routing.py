"""The router, for training on a GPU.

Letters in names of tensors are those of plain.py.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F

from dsvgraph_torch.runtime import plain

MOST_EXPERTS = 128
"""With more of them torch's topk is faster than comparing all pairs."""


class Router(plain.Router):
    """plain.Router, whose experts are chosen by ranks, which fuse, in place of topk, scatter and gather.

    Where layers are compiled once for all their copies, ``place`` is the key of its balance in the context, a number in
    place of the router itself, and ``fill_count`` is ``fill`` as a tensor.
    """

    place: int | None = None
    fill_count: torch.Tensor | None = None

    def forward(self, x_BTD, ctx):
        return self.by_ranks(x_BTD, ctx) if torch.compiler.is_compiling() else super().forward(x_BTD, ctx)

    def by_ranks(self, x_BTD, ctx):
        """plain.Router.forward."""
        rows = x_BTD.shape[:2]
        s_NE = self.scores(x_BTD.flatten(0, 1))
        rank_NE = self.ranked(s_NE.detach())
        each_K = torch.arange(self.top_k, device=x_BTD.device)
        each_E = torch.arange(s_NE.shape[-1], device=x_BTD.device)
        hit_NKE = rank_NE[:, None] == each_K[:, None]
        # where a score is no number ranks are not unique: the sum must still be an expert's
        index_NK = (hit_NKE * each_E).sum(-1).clamp(max=s_NE.shape[-1] - 1)
        score_NK = (s_NE[:, None] * hit_NKE).sum(-1)
        if self.normalize:
            score_NK = score_NK / (score_NK.sum(-1, keepdim=True) + 1e-20)
        if ctx.collect:
            self.collect(s_NE.unflatten(0, rows), (rank_NE < self.top_k).unflatten(0, rows), ctx)
        return index_NK.unflatten(0, rows), (score_NK * self.scaling).unflatten(0, rows)

    def scores(self, x_ND):
        """The score of each expert, in float32 or better."""
        with torch.autocast(x_ND.device.type, enabled=False):
            logits = router_logits(x_ND, self.weight)
            if self.biased:
                logits = logits + plain.precise(self.bias)
        return logits.sigmoid() if self.score == "sigmoid" else logits.softmax(-1)

    def ranked(self, c_NE):
        """How many experts come before each one."""
        if self.corrected:
            c_NE = c_NE + self.e_score_correction_bias
        if self.groups > 1:
            c_NGE = c_NE.unflatten(-1, (self.groups, -1))
            best_NG = c_NGE.amax(-1)
            if self.group_score != "max":
                first_NGE = ranks(c_NGE) == 0
                best_NG = best_NG + c_NGE.masked_fill(first_NGE, -math.inf).amax(-1)
            closed_NG = ranks(best_NG) >= self.top_groups
            c_NE = c_NGE.masked_fill(closed_NG[..., None], -math.inf).flatten(-2)
        return ranks(c_NE)

    def collect(self, s_BTE, chosen_BTE, ctx):
        """Count the tokens of each expert, and add up the balance."""
        kept_BT1 = self.kept(s_BTE, ctx)
        if self.training:
            self.tokens_per_expert += (chosen_BTE * kept_BT1).sum((0, 1)).type_as(self.tokens_per_expert)
        if self.balanced:
            key = self if self.place is None else self.place
            ctx.balance[key] = ctx.balance.get(key, 0.0) + sequence_balance(s_BTE, self.top_k, kept_BT1)

    def kept(self, s_BTE, ctx):
        """1 where a position counts, 0 where it is fill, [B, T, 1]."""
        ones_BT1 = torch.ones_like(s_BTE[..., :1])
        if not self.filled:
            return ones_BT1
        if self.fill_count is not None and ctx.documents is None:
            at_T = torch.arange(s_BTE.shape[1], device=s_BTE.device)
            return ones_BT1 * (at_T < len(at_T) - self.fill_count)[:, None]
        fill = self.fill[ctx.copy_index] if self.shared and self.fill else self.fill  # type: ignore[index]
        return plain.shift(ones_BT1, fill, ctx)


def sequence_balance(s_BTE, top_k, kept_BT1):
    """plain.sequence_balance without atomics."""
    chosen_BTE = (ranks(s_BTE.detach().flatten(0, 1)) < top_k).unflatten(0, s_BTE.shape[:2])
    f_BE = (chosen_BTE * kept_BT1).sum(1)
    P_BE = (s_BTE / s_BTE.sum(-1, keepdim=True) * kept_BT1).sum(1)
    return ((f_BE * P_BE).sum(-1) / kept_BT1.sum((1, 2)).clamp(min=1) ** 2).mean() * s_BTE.shape[-1] / top_k


def ranks(c_E):
    """How many along the last axis are larger, or as large and in front."""
    if c_E.shape[-1] > MOST_EXPERTS:
        return c_E.argsort(dim=-1, descending=True, stable=True).argsort(-1)
    place_E = torch.arange(c_E.shape[-1], device=c_E.device)
    other, mine = c_E.unsqueeze(-2), c_E.unsqueeze(-1)
    return ((other > mine) | ((other == mine) & (place_E < place_E[:, None]))).sum(-1)


def router_logits(x_ND, weight_ED):
    """x weight^T in float32 or better: on tensor cores where x is bfloat16, in three parts where the weight is not."""
    if x_ND.device.type != "cuda" or x_ND.dtype != torch.bfloat16:
        return F.linear(plain.precise(x_ND), plain.precise(weight_ED))
    return NarrowLogits.apply(x_ND, weight_ED)


class NarrowLogits(torch.autograd.Function):
    """Products of bfloat16 numbers are exact in float32; what is not bfloat16 is the sum of its parts."""

    @staticmethod
    def forward(ctx, x_ND, weight_ED):
        ctx.save_for_backward(x_ND, weight_ED)
        return narrow_logits(x_ND, weight_ED)

    @staticmethod
    def backward(ctx, g_NE):
        x_ND, weight_ED = ctx.saved_tensors
        return narrow_logits_backward(g_NE, x_ND, weight_ED)


# Ops of their own: torch.compile leaves out roundings to bfloat16 inside of a kernel, and the parts are such roundings.
@torch.library.custom_op("dsvgraph::narrow_logits", mutates_args=())
def narrow_logits(x_ND: torch.Tensor, weight_ED: torch.Tensor) -> torch.Tensor:
    """x weight^T in float32, x in bfloat16: [N, E]."""
    weights = parts(weight_ED)
    found = float32_mm(x_ND, torch.cat(weights).t())
    return found if len(weights) == 1 else found.unflatten(1, (len(weights), -1)).sum(1)


@narrow_logits.register_fake
def _(x_ND, weight_ED):
    return x_ND.new_empty(x_ND.shape[0], weight_ED.shape[0], dtype=torch.float32)


@torch.library.custom_op("dsvgraph::narrow_logits_backward", mutates_args=())
def narrow_logits_backward(
    g_NE: torch.Tensor, x_ND: torch.Tensor, weight_ED: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """The gradients of `narrow_logits`: of x in bfloat16, whose digits two parts of g hold, and of the weight."""
    gradients, weights = parts(g_NE), parts(weight_ED)
    pairs = [(g, w) for i, g in enumerate(gradients) for j, w in enumerate(weights) if i + j < 2]
    gx = torch.cat([g for g, _ in pairs], 1) @ torch.cat([w for _, w in pairs])
    gw = float32_mm(torch.cat(gradients, 1).t(), x_ND).unflatten(0, (len(gradients), -1)).sum(0)
    return gx, gw.to(weight_ED.dtype)


@narrow_logits_backward.register_fake
def _(g_NE, x_ND, weight_ED):
    return torch.empty_like(x_ND), torch.empty_like(weight_ED)


PARTS = 3
"""Three bfloat16 numbers hold the 24 digits of a float32 number."""


def parts(x):
    """Bfloat16 tensors that add up to x, the largest first."""
    found = []
    for _ in range(1 if x.dtype == torch.bfloat16 else PARTS):
        found.append(x.to(torch.bfloat16))
        x = x - found[-1].to(x.dtype)
    return found


def float32_mm(a, b):
    """The product of bfloat16 matrices, added up and returned in float32."""
    if a.device.type == "cuda":
        return torch.mm(a, b, out_dtype=torch.float32)
    return a.float() @ b.float()
