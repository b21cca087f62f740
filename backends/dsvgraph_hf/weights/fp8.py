"""Weights that are stored as float8 with a scale for each block, as DeepSeek-V3's are.

A matrix [out, in] of float8_e4m3 has a companion `<name>_scale_inv` [ceil(out / b), ceil(in / c)] in
float32; the weight is each block of b x c numbers times its scale (README_WEIGHTS.md of
deepseek-ai/DeepSeek-V3). b and c stand in config.json: quantization_config.weight_block_size.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from dsvgraph.errors import DsvError
from dsvgraph_hf.weights.ranges import as_ranges
from dsvgraph_hf.weights.shards import SIZES, Folder

SCALE = "_scale_inv"
BLOCK = (128, 128)


def scales_of(folder: Folder) -> dict[str, str]:
    """Return the name of the scales of each float8 matrix.

    Raise DsvError if a scale is missing or of another shape, if a float8 tensor is no matrix, or if numbers are of a
    type that is not read.
    """
    entries, block = folder.entries, block_size(folder)
    _check_types(folder)
    found = {name: name + SCALE for name, entry in entries.items() if entry.dtype == "F8_E4M3"}
    if lost := as_ranges(scale for scale in found.values() if scale not in entries):
        raise DsvError(f"{folder.path}: scales of float8 matrices are missing", notes=_notes(lost))
    for name, scale in found.items():
        if len(entries[name].shape) != 2:
            raise DsvError(f"{folder.path}: `{name}` {[*entries[name].shape]} is float8, and only matrices are read so")
        shape, want = entries[scale].shape, blocks(entries[name].shape, block)
        if shape != want:
            words = f"{[*shape]}, not {[*want]} as `{name}` {[*entries[name].shape]} in blocks of {[*block]} needs"
            raise DsvError(f"{folder.path}: `{scale}` is {words}")
    return found


def block_size(folder: Folder) -> tuple[int, int]:
    """Return the rows and columns that share a scale. Raise DsvError if the folder is quantized otherwise."""
    config: Any = folder.config.get("quantization_config") or {}
    method = config.get("quant_method", "fp8") if isinstance(config, dict) else config
    if method != "fp8" or any(n.endswith("_blocks") and n[:-7] + "_scales" in folder.entries for n in folder.entries):
        kind = method if method != "fp8" else "mxfp4"
        raise DsvError(f"{folder.path} holds weights quantised as {kind}: only fp8 with scales of blocks is read")
    block = config.get("weight_block_size", BLOCK)
    if not isinstance(block, list | tuple) or len(block) != 2 or any(type(b) is not int or b < 1 for b in block):
        where = folder.path / "config.json"
        raise DsvError(f"{where}: quantization_config.weight_block_size is {block!r}, not two numbers of rows, columns")
    return block[0], block[1]


def blocks(shape: tuple[int, ...], block: tuple[int, int]) -> tuple[int, ...]:
    """Return the number of blocks along each axis of a matrix, with the incomplete ones at its edges."""
    return tuple(-(-size // b) for size, b in zip(shape, block, strict=False))


def dequantize(stored: Tensor, scale: Tensor, block: tuple[int, int]) -> Tensor:
    """Return ``stored`` [out, in] times its scales, in float32, computed by rows of blocks."""
    columns = scale.float().repeat_interleave(block[1], 1)[:, : stored.shape[1]]
    out = torch.empty(stored.shape)
    for rows, numbers, factors in zip(out.split(block[0]), stored.split(block[0]), columns, strict=True):
        torch.mul(numbers.float(), factors, out=rows)
    return out


def _check_types(folder: Folder) -> None:
    """Raise DsvError if a tensor is of a type that is not read."""
    other = {name: entry.dtype for name, entry in folder.entries.items() if entry.dtype not in SIZES}
    if other:
        kinds = ", ".join(sorted(set(other.values())))
        raise DsvError(f"{folder.path}: weights of type {kinds} are not read", notes=_notes(as_ranges(other)))


def _notes(found: dict[str, int]) -> list[tuple[str, None]]:
    return [(f"{text}: {count:,}", None) for text, count in list(found.items())[:12]]
