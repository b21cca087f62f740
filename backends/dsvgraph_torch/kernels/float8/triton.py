"""The kernels behind `grouped` on a GPU, in Triton: the grouped products of torch take one scale for a whole row.

Rows are taken in blocks of 128 that begin at the first row of each expert. How many blocks there are is known on the
device alone: as many as there could be are started, and those behind the last do nothing.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from dsvgraph_torch.kernels.float8.tiles import LARGEST, TILE, Tiles, most_blocks

COLUMNS = 128
"""Columns of a block of a product."""

WARPS, STAGES = 8, 3
"""How many warps make tiles, and how far ahead a product loads."""


def blocks_of(offsets_E: Tensor | None, x_SD: Tensor) -> tuple[Tensor, Tensor, Tensor, int]:
    """Return the expert of each block of 128 rows and its first row, where experts end, and how many there could be.

    The expert is E behind the last block. Without ``offsets_E`` all rows are of one.
    """
    if offsets_E is None:
        blocks = most_blocks(x_SD, None)
        first = TILE * torch.arange(blocks, dtype=torch.int32, device=x_SD.device)
        return torch.zeros_like(first), first, torch.full_like(first[:1], len(x_SD)), blocks
    experts = offsets_E.numel()
    most = most_blocks(x_SD, offsets_E)
    counts = counts_of(offsets_E)
    blocks_E = (counts + TILE - 1) // TILE
    ends = blocks_E.cumsum(0)
    number = torch.arange(most, device=x_SD.device)
    expert = torch.searchsorted(ends, number, right=True)
    inside = expert.clamp(max=experts - 1)
    first = (offsets_E - counts)[inside] + (number - (ends - blocks_E)[inside]) * TILE
    return expert.int(), first.int(), offsets_E, most


def counts_of(offsets_E: Tensor) -> Tensor:
    """Return how many rows each expert has."""
    return offsets_E.diff(prepend=torch.zeros_like(offsets_E[:1]))


@triton.jit
def split_tiles(x, values, scales, turned, turned_scales, expert, first, offsets, columns, experts, height,
                LARGEST: tl.constexpr, TILE: tl.constexpr, ROWS: tl.constexpr, TURNED: tl.constexpr):  # fmt: skip
    """Up to 128 rows of one expert by 128 columns, read once.

    With ROWS tiles of 1 x 128: values [height, tiles * 128], scales [tiles, height]. With TURNED tiles of 128 x 1,
    transposed: turned [tiles * 128, blocks * 128], turned_scales [blocks, tiles * 128].
    """
    block, tile = tl.program_id(1), tl.program_id(0)
    own = tl.load(expert + block)
    if own < experts:
        row = tl.load(first + block).to(tl.int64) + tl.arange(0, TILE)
        column = tile * TILE + tl.arange(0, TILE)
        here = row < tl.load(offsets + own)
        at = x + row[:, None] * columns + column[None, :]
        numbers = tl.load(at, mask=here[:, None] & (column[None, :] < columns), other=0.0).to(tl.float32)
        sizes = tl.abs(numbers)
        width = tl.num_programs(0) * TILE
        if ROWS:
            largest = tl.max(sizes, 1)
            scale = tl.where(largest > 0, tl.div_rn(largest, LARGEST), 1.0)
            rounded = tl.div_rn(numbers, scale[:, None]).to(tl.float8e4nv)
            tl.store(values + row[:, None] * width + column[None, :], rounded, mask=here[:, None])
            tl.store(scales + tile * height + row, scale, mask=here)
        if TURNED:
            largest = tl.max(sizes, 0)
            scale = tl.where(largest > 0, tl.div_rn(largest, LARGEST), 1.0)
            rounded = tl.trans(tl.div_rn(numbers, scale[None, :]).to(tl.float8e4nv))
            long = tl.num_programs(1) * TILE
            to = turned + column[:, None].to(tl.int64) * long + block * TILE + tl.arange(0, TILE)[None, :]
            tl.store(to, rounded)
            tl.store(turned_scales + block * width + column, scale)


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
def forward(x, x_scales, w, w_scales, y, expert, first, offsets, rows, outputs, inputs, experts,
            TILE: tl.constexpr, COLUMNS: tl.constexpr):  # fmt: skip
    """A block of y: rows of one expert times 128 rows of its weight."""
    block = tl.program_id(1)
    own = tl.load(expert + block)
    if own < experts:
        row = tl.load(first + block) + tl.arange(0, TILE)
        there = row < tl.load(offsets + own)
        row = tl.minimum(row, rows - 1)  # rows of the next expert are read, and not written
        column = tl.program_id(0) * COLUMNS + tl.arange(0, COLUMNS)
        along = tl.arange(0, TILE)
        tiles = inputs // TILE
        x_at = x + row[:, None].to(tl.int64) * inputs + along[None, :]
        w_at = w + (own.to(tl.int64) * outputs + column[None, :]) * inputs + along[:, None]
        w_scale = w_scales + (own * (outputs // TILE) + tl.program_id(0) * COLUMNS // TILE) * tiles
        total = tl.zeros((TILE, COLUMNS), tl.float32)
        for tile in range(tiles):
            a, b = tl.load(x_at + tile * TILE), tl.load(w_at + tile * TILE)
            a_scale = tl.load(x_scales + tile * rows + row)
            total += tl.dot(a, b) * (a_scale * tl.load(w_scale + tile))[:, None]
        tl.store(y + row[:, None].to(tl.int64) * outputs + column[None, :], total.to(y.dtype.element_ty),
                 mask=there[:, None])  # fmt: skip


@triton.jit
def weight_gradient(g, g_scales, x, x_scales, out, ends, outputs, inputs, width,
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
        a_scale = tl.load(g_scales + block * outputs + output)
        b_scale = tl.load(x_scales + block * inputs + column)
        total += tl.dot(a, b) * a_scale[:, None] * b_scale[None, :]
    at = out + (own.to(tl.int64) * outputs + output[:, None]) * inputs + column[None, :]
    tl.store(at, total.to(out.dtype.element_ty))


def split(x_SD: Tensor, offsets_E: Tensor | None, rows: bool, turned: bool) -> tuple[Tiles | None, Tiles | None]:
    """tiles.split."""
    x_SD = x_SD.contiguous()
    expert, first, offsets, blocks = blocks_of(offsets_E, x_SD)
    tiles, height = -(-x_SD.shape[1] // TILE), -(-len(x_SD) // TILE) * TILE
    low, full = torch.float8_e4m3fn, len(x_SD) == height
    values = (x_SD.new_empty if full else x_SD.new_zeros)(height if rows else 0, tiles * TILE, dtype=low)
    scales = (x_SD.new_empty if full else x_SD.new_ones)(tiles, height if rows else 0, dtype=torch.float32)
    long = blocks if turned else 0
    other = (
        x_SD.new_empty(tiles * TILE, long * TILE, dtype=low),
        x_SD.new_empty(long, tiles * TILE, dtype=torch.float32),
    )
    split_tiles[(tiles, blocks)](
        x_SD, values, scales, *other, expert, first, offsets, x_SD.shape[1], len(offsets), height,
        LARGEST, TILE, rows, turned, num_warps=WARPS,
    )  # fmt: skip
    return Tiles(values, scales.t()) if rows else None, Tiles(other[0], other[1].t()) if turned else None


def by_block(w_NK: Tensor) -> Tiles:
    """tiles.by_block."""
    w_ENK = w_NK.contiguous().view(-1, *w_NK.shape[-2:])
    experts, rows, columns = w_ENK.shape
    blocks, tiles = triton.cdiv(rows, TILE), triton.cdiv(columns, TILE)
    values = w_ENK.new_empty(experts, blocks * TILE, tiles * TILE, dtype=torch.float8_e4m3fn)
    scales = w_ENK.new_empty(experts, blocks, tiles, dtype=torch.float32)
    block_tiles[(blocks, tiles, experts)](w_ENK, values, scales, rows, columns, LARGEST, TILE)
    return Tiles(values.view(*w_NK.shape[:-2], *values.shape[-2:]), scales.view(*w_NK.shape[:-2], *scales.shape[-2:]))


def grouped_product(x: Tiles, weight_EFD: Tiles, offsets_E: Tensor, rows: int, dtype: torch.dtype) -> Tensor:
    """grouped.grouped_product."""
    experts, outputs, inputs = weight_EFD.values.shape
    expert, first, offsets, most = blocks_of(offsets_E, x.values[:rows])
    y_SF = x.values.new_empty(rows, outputs, dtype=dtype)
    forward[(outputs // COLUMNS, most)](
        x.values, x.scales, weight_EFD.values, weight_EFD.scales.contiguous(), y_SF, expert, first, offsets,
        len(x.values), outputs, inputs, experts, TILE, COLUMNS, num_warps=8, num_stages=STAGES,
    )  # fmt: skip
    return y_SF


def grouped_weight_gradient(g: Tiles, x: Tiles, offsets_E: Tensor, dtype: torch.dtype) -> Tensor:
    """grouped.grouped_weight_gradient."""
    (outputs, width), inputs, experts = g.values.shape, len(x.values), offsets_E.numel()
    ends = ((counts_of(offsets_E) + TILE - 1) // TILE).cumsum(0)
    out = g.values.new_empty(experts, outputs, inputs, dtype=dtype)
    weight_gradient[(outputs // TILE, inputs // COLUMNS, experts)](
        g.values, g.scales, x.values, x.scales, out, ends, outputs, inputs, width,
        TILE, COLUMNS, num_warps=8, num_stages=STAGES,
    )  # fmt: skip
    return out
