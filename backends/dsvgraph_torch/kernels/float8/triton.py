"""The kernels behind `grouped` on a GPU, in Triton: the grouped products of torch take one scale for a whole row.

Rows are taken in blocks of 128 that begin at the first row of each expert. How many blocks there are is known on the
device alone: as many as there could be are started, and those behind the last do nothing.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from dsvgraph_torch.kernels.float8.tiles import LARGEST, TILE, Tiles

COLUMNS = 128
"""Columns of a block of the result."""


def blocks_of(offsets_E: Tensor, rows: int) -> tuple[Tensor, Tensor, int]:
    """Return the expert of each block of 128 rows and its first row, [most] each, and how many there could be.

    The expert is E behind the last block.
    """
    experts = offsets_E.numel()
    most = -(-rows // TILE) + experts
    begins = torch.cat([offsets_E.new_zeros(1), offsets_E[:-1]])
    blocks = (offsets_E - begins + TILE - 1) // TILE
    ends = blocks.cumsum(0)
    number = torch.arange(most, device=offsets_E.device)
    expert = torch.searchsorted(ends, number, right=True)
    inside = expert.clamp(max=experts - 1)
    first = begins[inside] + (number - (ends - blocks)[inside]) * TILE
    return expert.int(), first.int(), most


@triton.jit
def row_tiles(x, values, scales, rows, columns, LARGEST: tl.constexpr, TILE: tl.constexpr):
    """Tiles of 1 x 128: values [blocks * 128, tiles * 128], scales [tiles, blocks * 128]; zeros around x."""
    row = tl.program_id(0).to(tl.int64) * TILE + tl.arange(0, TILE)
    tile = tl.program_id(1)
    column = tile * TILE + tl.arange(0, TILE)
    there = (row[:, None] < rows) & (column[None, :] < columns)
    numbers = tl.load(x + row[:, None] * columns + column[None, :], mask=there, other=0.0).to(tl.float32)
    largest = tl.max(tl.abs(numbers), 1)
    scale = tl.where(largest > 0, tl.div_rn(largest, LARGEST), 1.0)
    width = tl.num_programs(1) * TILE
    at = values + row[:, None] * width + column[None, :]
    tl.store(at, tl.div_rn(numbers, scale[:, None]).to(tl.float8e4nv))
    tl.store(scales + tile * (tl.num_programs(0) * TILE) + row, scale)


@triton.jit
def block_tiles(w, values, scales, rows, columns, LARGEST: tl.constexpr, TILE: tl.constexpr):
    """Tiles of 128 x 128 of each matrix of a stack: values [E, blocks * 128, tiles * 128], scales for each tile."""
    block, tile, matrix = tl.program_id(0), tl.program_id(1), tl.program_id(2).to(tl.int64)
    blocks, tiles = tl.num_programs(0), tl.num_programs(1)
    row, column = block * TILE + tl.arange(0, TILE), tile * TILE + tl.arange(0, TILE)
    there = (row[:, None] < rows) & (column[None, :] < columns)
    at = w + (matrix * rows + row[:, None]) * columns + column[None, :]
    numbers = tl.load(at, mask=there, other=0.0).to(tl.float32)
    largest = tl.max(tl.max(tl.abs(numbers), 1), 0)
    scale = tl.where(largest > 0, tl.div_rn(largest, LARGEST), 1.0)
    to = values + (matrix * blocks * TILE + row[:, None]) * (tiles * TILE) + column[None, :]
    tl.store(to, tl.div_rn(numbers, scale).to(tl.float8e4nv))
    tl.store(scales + (matrix * blocks + block) * tiles + tile, scale)


@triton.jit
def column_tiles(
    x, values, scales, expert, first, offsets, columns, experts, LARGEST: tl.constexpr, TILE: tl.constexpr
):
    """Tiles of 128 x 1, transposed: values [tiles * 128, blocks * 128], scales [blocks, tiles * 128]."""
    block = tl.program_id(0)
    own = tl.load(expert + block)
    if own < experts:
        row = tl.load(first + block).to(tl.int64) + tl.arange(0, TILE)
        column = tl.program_id(1) * TILE + tl.arange(0, TILE)
        there = (row[:, None] < tl.load(offsets + own)) & (column[None, :] < columns)
        numbers = tl.load(x + row[:, None] * columns + column[None, :], mask=there, other=0.0).to(tl.float32)
        largest = tl.max(tl.abs(numbers), 0)
        scale = tl.where(largest > 0, tl.div_rn(largest, LARGEST), 1.0)
        width = tl.num_programs(0) * TILE
        at = values + column[:, None].to(tl.int64) * width + block * TILE + tl.arange(0, TILE)[None, :]
        tl.store(at, tl.trans(tl.div_rn(numbers, scale[None, :])).to(tl.float8e4nv))
        tl.store(scales + block * (tl.num_programs(1) * TILE) + column, scale)


@triton.jit
def forward(x, x_scales, w, w_scales, y, expert, first, offsets, rows, outputs, inputs, experts,
            TILE: tl.constexpr, COLUMNS: tl.constexpr):  # fmt: skip
    """A block of y: rows of one expert times 128 rows of its weight."""
    block = tl.program_id(1)
    own = tl.load(expert + block)
    if own < experts:
        row = tl.load(first + block) + tl.arange(0, TILE)
        there = row < tl.load(offsets + own)
        column = tl.program_id(0) * COLUMNS + tl.arange(0, COLUMNS)
        along = tl.arange(0, TILE)
        tiles = inputs // TILE
        x_at = x + row[:, None].to(tl.int64) * inputs + along[None, :]
        w_at = w + (own.to(tl.int64) * outputs + column[None, :]) * inputs + along[:, None]
        w_scale = w_scales + (own * (outputs // TILE) + tl.program_id(0) * COLUMNS // TILE) * tiles
        total = tl.zeros((TILE, COLUMNS), tl.float32)
        for tile in range(tiles):
            a = tl.load(x_at + tile * TILE, mask=there[:, None], other=0.0)
            b = tl.load(w_at + tile * TILE)
            a_scale = tl.load(x_scales + tile * rows + row, mask=there, other=0.0)
            total += tl.dot(a, b) * (a_scale * tl.load(w_scale + tile))[:, None]
        tl.store(y + row[:, None].to(tl.int64) * outputs + column[None, :], total.to(y.dtype.element_ty),
                 mask=there[:, None])  # fmt: skip


@triton.jit
def weight_gradient(g, g_scales, x, x_scales, out, ends, outputs, inputs, width, g_width, x_width,
                    TILE: tl.constexpr, COLUMNS: tl.constexpr):  # fmt: skip
    """A block of the gradient of one expert's weight: over the blocks of its rows."""
    own = tl.program_id(2)
    output = tl.program_id(0) * TILE + tl.arange(0, TILE)
    column = tl.program_id(1) * COLUMNS + tl.arange(0, COLUMNS)
    along = tl.arange(0, TILE)
    begin = tl.load(ends + own - 1, mask=own > 0, other=0)
    end = tl.load(ends + own)
    g_at = g + output[:, None].to(tl.int64) * width + along[None, :]
    x_at = x + column[None, :].to(tl.int64) * width + along[:, None]
    total = tl.zeros((TILE, COLUMNS), tl.float32)
    for block in range(begin, end):
        a, b = tl.load(g_at + block * TILE), tl.load(x_at + block * TILE)
        a_scale = tl.load(g_scales + block * g_width + output)
        b_scale = tl.load(x_scales + block * x_width + column)
        total += tl.dot(a, b) * a_scale[:, None] * b_scale[None, :]
    at = out + (own.to(tl.int64) * outputs + output[:, None]) * inputs + column[None, :]
    tl.store(at, total.to(out.dtype.element_ty), mask=(output < outputs)[:, None] & (column < inputs)[None, :])


def by_row(x_MK: Tensor) -> Tiles:
    """tiles.by_row."""
    x_MK = x_MK.contiguous()
    blocks, tiles = (triton.cdiv(size, TILE) for size in x_MK.shape)
    values = x_MK.new_empty(blocks * TILE, tiles * TILE, dtype=torch.float8_e4m3fn)
    scales = x_MK.new_empty(tiles, blocks * TILE, dtype=torch.float32)
    row_tiles[(blocks, tiles)](x_MK, values, scales, *x_MK.shape, LARGEST, TILE)
    return Tiles(values, scales.t())


def by_block(w_NK: Tensor) -> Tiles:
    """tiles.by_block."""
    w_ENK = w_NK.contiguous().view(-1, *w_NK.shape[-2:])
    experts, rows, columns = w_ENK.shape
    blocks, tiles = triton.cdiv(rows, TILE), triton.cdiv(columns, TILE)
    values = w_ENK.new_empty(experts, blocks * TILE, tiles * TILE, dtype=torch.float8_e4m3fn)
    scales = w_ENK.new_empty(experts, blocks, tiles, dtype=torch.float32)
    block_tiles[(blocks, tiles, experts)](w_ENK, values, scales, rows, columns, LARGEST, TILE)
    return Tiles(values.view(*w_NK.shape[:-2], *values.shape[-2:]), scales.view(*w_NK.shape[:-2], *scales.shape[-2:]))


def by_column(x_SD: Tensor, offsets_E: Tensor | None = None) -> Tiles:
    """Return tiles.by_row of the transpose, [D, blocks * 128]; with ``offsets_E`` blocks begin with each expert."""
    x_SD = x_SD.contiguous()
    rows, columns = x_SD.shape
    if offsets_E is None:
        offsets_E = torch.full((1,), rows, dtype=torch.int32, device=x_SD.device)
        blocks = triton.cdiv(rows, TILE)
        first = TILE * torch.arange(blocks, dtype=torch.int32, device=x_SD.device)
        expert = torch.zeros_like(first)
    else:
        expert, first, blocks = blocks_of(offsets_E, rows)
    tiles = triton.cdiv(columns, TILE)
    values = x_SD.new_empty(tiles * TILE, blocks * TILE, dtype=torch.float8_e4m3fn)
    scales = x_SD.new_empty(blocks, tiles * TILE, dtype=torch.float32)
    column_tiles[(blocks, tiles)](
        x_SD, values, scales, expert, first, offsets_E, columns, len(offsets_E), LARGEST, TILE
    )
    return Tiles(values, scales.t())


def grouped_product(x_SD: Tensor, weight_EFD: Tiles, offsets_E: Tensor) -> Tensor:
    """grouped.grouped_product."""
    x = by_row(x_SD)
    experts, outputs, inputs = weight_EFD.values.shape
    expert, first, most = blocks_of(offsets_E, len(x_SD))
    y_SF = x_SD.new_empty(len(x_SD), outputs)
    forward[(outputs // COLUMNS, most)](
        x.values, x.scales, weight_EFD.values, weight_EFD.scales.contiguous(), y_SF, expert, first, offsets_E,
        len(x.values), outputs, inputs, experts, TILE, COLUMNS, num_warps=8, num_stages=3,
    )  # fmt: skip
    return y_SF


def grouped_weight_gradient(g_SF: Tensor, x_SD: Tensor, offsets_E: Tensor, dtype: torch.dtype) -> Tensor:
    """grouped.grouped_weight_gradient."""
    g, x = by_column(g_SF, offsets_E), by_column(x_SD, offsets_E)
    outputs, inputs, experts = g_SF.shape[1], x_SD.shape[1], offsets_E.numel()
    begins = torch.cat([offsets_E.new_zeros(1), offsets_E[:-1]])
    ends = ((offsets_E - begins + TILE - 1) // TILE).cumsum(0)
    out = x_SD.new_empty(experts, outputs, inputs, dtype=dtype)
    weight_gradient[(triton.cdiv(outputs, TILE), triton.cdiv(inputs, COLUMNS), experts)](
        g.values, g.scales, x.values, x.scales, out, ends, outputs, inputs, g.values.shape[1],
        len(g.values), len(x.values), TILE, COLUMNS, num_warps=8, num_stages=3,
    )  # fmt: skip
    return out
