"""Kernels of a step on a GPU, in Triton: what takes dozens of launches otherwise, for a few tokens.

Shape legend: N tokens, E experts, K of them for a token, S pairs of token and expert (N * K), D and F widths, Q queries
of all heads of a row, C positions.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

MOST_PAIRS = 1024
"""Pairs of token and expert that one program puts into order."""


@triton.jit
def _choose(
    logits, bias, index, score, scaling,
    E: tl.constexpr, G: tl.constexpr, TOP_G: tl.constexpr, K: tl.constexpr, K2: tl.constexpr,
    SIGMOID: tl.constexpr, CORRECTED: tl.constexpr, TOP2: tl.constexpr, NORMALIZE: tl.constexpr,
):  # fmt: skip
    row = tl.program_id(0)
    each = tl.arange(0, E)
    numbers = tl.load(logits + row * E + each)
    if SIGMOID:
        s = 1.0 / (1.0 + tl.exp(-numbers))
    else:
        s = tl.exp(numbers - tl.max(numbers, 0))
        s = s / tl.sum(s, 0)
    c = s
    if CORRECTED:
        c = c + tl.load(bias + each)
    if G > 1:
        grouped = tl.reshape(c, (G, E // G))
        best = tl.max(grouped, 1)
        if TOP2:
            first = tl.argmax(grouped, 1)
            others = tl.where(tl.arange(0, E // G)[None, :] == first[:, None], float("-inf"), grouped)
            best = best + tl.max(others, 1)
        group = tl.arange(0, G)
        kept = group < 0
        for _ in tl.static_range(TOP_G):
            one = tl.argmax(best, 0)
            kept = kept | (group == one)
            best = tl.where(group == one, float("-inf"), best)
        c = tl.reshape(tl.where(kept[:, None], grouped, float("-inf")), (E,))
    number = tl.arange(0, K2)
    chosen = tl.zeros((K2,), tl.int64)
    found = tl.zeros((K2,), tl.float32)
    for k in tl.static_range(K):
        one = tl.argmax(c, 0)
        chosen = tl.where(number == k, one.to(tl.int64), chosen)
        found = tl.where(number == k, tl.sum(tl.where(each == one, s, 0.0), 0), found)
        c = tl.where(each == one, float("-inf"), c)
    if NORMALIZE:
        found = found / (tl.sum(found, 0) + 1e-20)
    tl.store(index + row * K + number, chosen, mask=number < K)
    tl.store(score + row * K + number, found * scaling, mask=number < K)


def choose(router, logits_NE: Tensor) -> tuple[Tensor, Tensor]:
    """Return the experts of each token and their scores, as plain.Router does, [N, K]."""
    N, E = logits_NE.shape
    index_NK = torch.empty(N, router.top_k, dtype=torch.long, device=logits_NE.device)
    score_NK = torch.empty(N, router.top_k, dtype=torch.float32, device=logits_NE.device)
    bias = router.e_score_correction_bias if router.corrected else logits_NE
    _choose[(N,)](
        logits_NE, bias, index_NK, score_NK, float(router.scaling),
        E=E, G=router.groups, TOP_G=router.top_groups, K=router.top_k, K2=triton.next_power_of_2(router.top_k),
        SIGMOID=router.score == "sigmoid", CORRECTED=router.corrected, TOP2=router.group_score != "max",
        NORMALIZE=router.normalize, num_warps=1,
    )  # fmt: skip
    return index_NK, score_NK


@triton.jit
def _order(
    index, rank, token, offsets, S, K: tl.constexpr, E: tl.constexpr, S2: tl.constexpr, E2: tl.constexpr,
    PART: tl.constexpr,
):  # fmt: skip
    place = tl.arange(0, S2)
    each = tl.arange(0, E2)
    mine = tl.load(index + place, mask=place < S, other=E).to(tl.int32)
    before = tl.zeros((S2,), tl.int32)
    ends = tl.zeros((E2,), tl.int32)
    for start in range(0, S, PART):
        at = start + tl.arange(0, PART)
        other = tl.load(index + at, mask=at < S, other=E).to(tl.int32)
        less = (other[None, :] < mine[:, None]) | ((other[None, :] == mine[:, None]) & (at[None, :] < place[:, None]))
        before += tl.sum(less.to(tl.int32), 1)
        ends += tl.sum((other[None, :] <= each[:, None]).to(tl.int32), 1)
    there = place < S
    tl.store(rank + place, before.to(tl.int64), mask=there)
    tl.store(token + before, (place // K).to(tl.int64), mask=there)
    tl.store(offsets + each, ends, mask=each < E)


def order(index_NK: Tensor, experts: int) -> tuple[Tensor, Tensor, Tensor]:
    """Return of pairs sorted by expert: the row of each pair [N, K], the token of each row [S], ends [E]."""
    S, K = index_NK.numel(), index_NK.shape[-1]
    rank, token = torch.empty_like(index_NK), index_NK.new_empty(S)
    offsets = index_NK.new_empty(experts, dtype=torch.int32)
    S2, E2 = max(16, triton.next_power_of_2(S)), triton.next_power_of_2(experts)
    _order[(1,)](index_NK, rank, token, offsets, S, K, experts, S2, E2, PART=16, num_warps=4)
    return rank, token, offsets


@triton.jit
def _expert_rows(
    x, weight, second, offsets, y, F, D, GATED: tl.constexpr, ROWS: tl.constexpr, BLOCK_F: tl.constexpr,
    BLOCK_D: tl.constexpr,
):  # fmt: skip
    expert = tl.program_id(1).to(tl.int64)
    f = tl.program_id(0) * BLOCK_F + tl.arange(0, BLOCK_F)
    start = tl.load(offsets + expert - 1, mask=expert > 0, other=0)
    end = tl.load(offsets + expert)
    for first in range(start, end, ROWS):
        row = first + tl.arange(0, ROWS)
        total = tl.zeros((ROWS, BLOCK_F), tl.float32)
        other = tl.zeros((ROWS, BLOCK_F), tl.float32)
        for at in range(0, D, BLOCK_D):
            d = at + tl.arange(0, BLOCK_D)
            mine = (row[:, None] < end) & (d[None, :] < D)
            numbers = tl.load(x + row[:, None].to(tl.int64) * D + d[None, :], mask=mine, other=0.0)
            place = expert * F * D + f[None, :] * D + d[:, None]
            there = (f[None, :] < F) & (d[:, None] < D)
            total = tl.dot(numbers, tl.load(weight + place, mask=there, other=0.0), total, input_precision="ieee")
            if GATED:
                other = tl.dot(numbers, tl.load(second + place, mask=there, other=0.0), other, input_precision="ieee")
        if GATED:
            total = total / (1.0 + tl.exp(-total)) * other
        to = y + row[:, None].to(tl.int64) * F + f[None, :]
        tl.store(to, total.to(y.dtype.element_ty), mask=(row[:, None] < end) & (f[None, :] < F))


def expert_rows(x_SD: Tensor, weight_EFD: Tensor, offsets_E: Tensor, second_EFD: Tensor | None = None) -> Tensor:
    """Multiply the rows of each expert by its weight, each weight read once: x W^T, or silu(x W^T) * (x V^T)."""
    (S, D), (E, F, _) = x_SD.shape, weight_EFD.shape
    y_SF = x_SD.new_empty(S, F)
    wide = 16 if S * F <= 2**15 else 32  # few rows: more programs that read at once
    _expert_rows[(triton.cdiv(F, wide), E)](
        x_SD, weight_EFD, weight_EFD if second_EFD is None else second_EFD, offsets_E, y_SF, F, D,
        GATED=second_EFD is not None, ROWS=16, BLOCK_F=wide, BLOCK_D=128, num_warps=4, num_stages=4,
    )  # fmt: skip
    return y_SF


@triton.jit
def _combine(x, rank, score, y, D, K: tl.constexpr, BLOCK: tl.constexpr):
    row = tl.program_id(0).to(tl.int64)
    d = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    total = tl.zeros((BLOCK,), tl.float32)
    for k in tl.static_range(K):
        at = tl.load(rank + row * K + k)
        factor = tl.load(score + row * K + k).to(y.dtype.element_ty).to(tl.float32)
        total += tl.load(x + at * D + d, mask=d < D, other=0.0).to(tl.float32) * factor
    tl.store(y + row * D + d, total.to(y.dtype.element_ty), mask=d < D)


def combine(x_SD: Tensor, rank_NK: Tensor, score_NK: Tensor) -> Tensor:
    """Return the sum of what the experts made of each token, weighted by score, [N, D]."""
    (N, K), D = score_NK.shape, x_SD.shape[1]
    y_ND = x_SD.new_empty(N, D)
    block = min(1024, triton.next_power_of_2(D))
    _combine[(N, triton.cdiv(D, block))](x_SD, rank_NK, score_NK, y_ND, D, K, BLOCK=block, num_warps=4)
    return y_ND


@triton.jit
def _softmax(scores, bias, p, scale, C, per_row, T: tl.constexpr, BLOCK: tl.constexpr):
    row = tl.program_id(0).to(tl.int64)
    c = tl.arange(0, BLOCK)
    there = c < C
    own = bias + (row // per_row * T + row % T) * C
    numbers = tl.load(scores + row * C + c, mask=there, other=float("-inf")) * scale
    numbers += tl.load(own + c, mask=there, other=0.0).to(tl.float32)
    numbers = tl.exp(numbers - tl.max(numbers, 0))
    tl.store(p + row * C + c, (numbers / tl.sum(numbers, 0)).to(p.dtype.element_ty), mask=there)


def softmax(scores_BQC: Tensor, bias_B1TC: Tensor, scale: float, dtype: torch.dtype) -> Tensor:
    """Return softmax(scale scores + bias), [B, Q, C]; query q of a row is of position q % T."""
    B, Q, C = scores_BQC.shape
    p_BQC = torch.empty(B, Q, C, dtype=dtype, device=scores_BQC.device)
    block = triton.next_power_of_2(C)
    warps = 4 if block <= 4096 else 16
    _softmax[(B * Q,)](
        scores_BQC, bias_B1TC, p_BQC, scale, C, Q, T=bias_B1TC.shape[2], BLOCK=block, num_warps=warps
    )  # fmt: skip
    return p_BQC
