"""Products of 8-bit tiles over rows that are sorted by expert.

Letters in names of tensors are those of plain.py.
"""

from __future__ import annotations

import torch
from torch import Tensor

from dsvgraph_torch.kernels.float8.tiles import Tiles, by_row, kernels, padded


def grouped_product(x_SD: Tensor, weight_EFD: Tiles, offsets_E: Tensor) -> Tensor:
    """Return each row of x times the transpose of its expert's weight: [S, F], F with what was added to it."""
    if x_SD.device.type == "cuda":
        return kernels().grouped_product(x_SD, weight_EFD, offsets_E)
    x = by_row(x_SD).exact[: len(x_SD)]
    parts = [x[rows] @ w.mT for rows, w in zip(groups(offsets_E), weight_EFD.exact, strict=True)]
    return torch.cat([*parts, x.new_zeros(len(x_SD) - sum(map(len, parts)), weight_EFD.values.shape[1])]).to(x_SD.dtype)


def grouped_weight_gradient(g_SF: Tensor, x_SD: Tensor, offsets_E: Tensor, dtype: torch.dtype) -> Tensor:
    """Return the sum of g^T x over each expert's rows, [E, F, D], whose tiles begin at the first of them."""
    if x_SD.device.type == "cuda":
        return kernels().grouped_weight_gradient(g_SF, x_SD, offsets_E, dtype)
    found = [_gradient(g_SF[rows], x_SD[rows]) for rows in groups(offsets_E)]
    return torch.stack(found)[:, : g_SF.shape[1], : x_SD.shape[1]].to(dtype)


def _gradient(g_NF: Tensor, x_ND: Tensor) -> Tensor:
    return by_row(padded(g_NF).t()).exact @ by_row(padded(x_ND).t()).exact.t()


def groups(offsets_E: Tensor) -> list[slice]:
    """Return the rows of each expert."""
    ends = offsets_E.tolist()
    return [slice(start, end) for start, end in zip([0, *ends[:-1]], ends, strict=True)]
