"""The header of a safetensors file; the same tensors give the same bytes.

The format (huggingface/safetensors): eight bytes, little-endian, with the length of the header; the
header, JSON, filled with blanks to a multiple of eight; then the numbers, without gaps.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from math import prod
from typing import NamedTuple


class TensorEntry(NamedTuple):
    """A tensor to write: ``kind`` is what safetensors call its dtype, ``width`` the bytes of one number."""

    name: str
    kind: str
    shape: tuple[int, ...]
    width: int

    @property
    def bytes(self) -> int:
        """Return what its numbers take."""
        return prod(self.shape) * self.width


def header(entries: Iterable[TensorEntry], metadata: Mapping[str, str]) -> tuple[bytes, dict[str, int]]:
    """Return the bytes before the numbers, and where in the file each tensor begins, in the order of the places.

    The widest numbers come first, so that each stands at a multiple of its width.
    """
    described: dict[str, object] = {"__metadata__": dict(sorted(metadata.items()))}
    begins, end = dict[str, int](), 0
    for entry in sorted(entries, key=lambda entry: -entry.width):
        begins[entry.name], end = end, end + entry.bytes
        described[entry.name] = {"dtype": entry.kind, "shape": [*entry.shape], "data_offsets": [end - entry.bytes, end]}
    text = json.dumps(described, separators=(",", ":")).encode()
    text = (len(text) + -len(text) % 8).to_bytes(8, "little") + text + b" " * (-len(text) % 8)
    return text, {name: len(text) + begin for name, begin in begins.items()}
