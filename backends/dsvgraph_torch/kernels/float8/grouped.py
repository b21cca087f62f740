"""Products of 8-bit tiles over rows that are sorted by expert.

Letters in names of tensors are those of plain.py.
"""

from __future__ import annotations

import torch
from torch import Tensor

from dsvgraph_torch.kernels.float8.tiles import TILE, Tiles, groups_of, kernels


def grouped_product(x: Tiles, weight_EFD: Tiles, offsets_E: Tensor, rows: int, dtype: torch.dtype) -> Tensor:
    """Return each of ``rows`` rows of x times the transpose of its expert's weight: [S, F], F filled up."""
    if x.values.is_cuda:
        return kernels().grouped_product(x, weight_EFD, offsets_E, rows, dtype)
    exact, out = x.exact[:rows], x.scales.new_zeros(rows, weight_EFD.values.shape[1])
    for own, weight in zip(groups_of(offsets_E), weight_EFD.exact, strict=True):
        out[own] = exact[own] @ weight.mT
    return out.to(dtype)


def grouped_weight_gradient(g: Tiles, x: Tiles, offsets_E: Tensor, dtype: torch.dtype) -> Tensor:
    """Return the sum of g^T x over each expert's rows, [E, F, D], of tiles of the transposes."""
    if x.values.is_cuda:
        return kernels().grouped_weight_gradient(g, x, offsets_E, dtype)
    sizes = [-(-(own.stop - own.start) // TILE) * TILE for own in groups_of(offsets_E)]
    sizes.append(g.values.shape[1] - sum(sizes))
    parts = list(zip(g.exact.split(sizes, 1), x.exact.split(sizes, 1), strict=True))[:-1]
    return torch.stack([one @ other.t() for one, other in parts]).to(dtype)
