"""Tensors as 8-bit numbers with a scale for each tile, and their products.

Letters in names of tensors: M rows, K contraction, N outputs, k tiles along K, n tiles along N; E experts, S rows
sorted by expert.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

TILE = 128
LARGEST = 448.0
"""The largest E4M3 number."""


class Tiles(NamedTuple):
    """8-bit ``values``, [..., M, K], and ``scales`` of tiles of 1 x 128, [..., M, k], or of 128 x 128, [..., m, k].

    Both sizes of the values are multiples of 128; what was added to a tensor is zero.
    """

    values: Tensor
    scales: Tensor

    @property
    def exact(self) -> Tensor:
        """What the values stand for, in float32."""
        rows = self.values.shape[-2] // max(1, self.scales.shape[-2])
        scales = self.scales.repeat_interleave(TILE, -1).repeat_interleave(rows, -2)
        return self.values.float() * scales

    @property
    def mT(self) -> Tiles:
        """The transpose of tiles of 128 x 128."""
        return Tiles(self.values.mT.contiguous(), self.scales.mT.contiguous())


def kernels() -> Any:
    """Return the kernels of a GPU."""
    from dsvgraph_torch.kernels.float8 import triton

    return triton


def padded(x: Tensor) -> Tensor:
    """Return ``x`` with zeros behind its last two axes, up to multiples of 128."""
    rows, columns = (-size % TILE for size in x.shape[-2:])
    return F.pad(x, (0, columns, 0, rows)) if rows or columns else x


def scale_of(largest: Tensor) -> Tensor:
    """Return the scale of tiles whose largest magnitudes are given."""
    return torch.where(largest > 0, largest / LARGEST, 1.0)


def split(
    x_SD: Tensor, offsets_E: Tensor | None = None, rows: bool = True, turned: bool = True
) -> tuple[Tiles | None, Tiles | None]:
    """Return tiles of 1 x 128, and those of the transpose, whose blocks along the rows begin anew with each expert."""
    if x_SD.is_cuda:
        return kernels().split(x_SD, offsets_E, rows, turned)
    groups = [slice(0, len(x_SD))] if offsets_E is None else groups_of(offsets_E)
    parts = [padded(x_SD[rows_of]) for rows_of in groups] if turned else []
    spare = most_blocks(x_SD, offsets_E) * TILE - sum(map(len, parts))
    other = by_row(F.pad(torch.cat(parts), (0, 0, 0, spare)).t().contiguous()) if turned else None
    return by_row(x_SD) if rows else None, other


def most_blocks(x_SD: Tensor, offsets_E: Tensor | None) -> int:
    """Return into how many blocks of 128 the rows of x can fall, whose blocks begin anew with each expert."""
    return -(-x_SD.shape[0] // TILE) + (0 if offsets_E is None else offsets_E.shape[0])


def groups_of(offsets_E: Tensor) -> list[slice]:
    """Return the rows of each expert."""
    ends = offsets_E.tolist()
    return [slice(start, end) for start, end in zip([0, *ends[:-1]], ends, strict=True)]


def by_row(x_MK: Tensor) -> Tiles:
    """Return tiles of 1 x 128."""
    tiles = padded(x_MK).float().unflatten(-1, (-1, TILE))
    scales = scale_of(tiles.abs().amax(-1))
    return Tiles((tiles / scales[..., None]).flatten(-2).to(torch.float8_e4m3fn), scales)


def by_block(w_NK: Tensor) -> Tiles:
    """Return tiles of 128 x 128; of a stack for each of its matrices."""
    if w_NK.is_cuda:
        return kernels().by_block(w_NK)
    tiles = padded(w_NK).float().unflatten(-1, (-1, TILE)).unflatten(-3, (-1, TILE))
    scales = scale_of(tiles.abs().amax((-1, -3)))
    values = (tiles / scales[..., :, None, :, None]).to(torch.float8_e4m3fn)
    return Tiles(values.flatten(-2).flatten(-3, -2), scales)


def product(a: Tiles, b: Tiles, dtype: torch.dtype) -> Tensor:
    """Return a b^T, summed in float32; ``a`` has tiles of 1 x 128."""
    if a.values.device.type == "cuda":
        return scaled_product(a, b, dtype)
    return (a.exact @ b.exact.mT).to(dtype)


def scaled_product(a: Tiles, b: Tiles, dtype: torch.dtype) -> Tensor:
    """Return ``product`` by torch's scaled product, which wants scales along the rows of tiles side by side."""
    by_rows, kind = b.scales.shape[0] == b.values.shape[0], F.ScalingType
    scales_b = outer_major(b.scales) if by_rows else F.pad(b.scales, (0, -b.scales.shape[1] % 4)).t()
    return F.scaled_mm(
        a.values,
        b.values.t(),
        outer_major(a.scales),
        kind.BlockWise1x128,
        scales_b,
        kind.BlockWise1x128 if by_rows else kind.BlockWise128x128,
        output_dtype=dtype,
    )


def outer_major(scales: Tensor) -> Tensor:
    """Return a matrix whose columns are in one piece each."""
    return scales.t().contiguous().t()
