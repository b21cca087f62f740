"""The tensors of a checkpoint: one for each weight of the spec, or the experts of a layer packed, as in gpt-oss.

gpt-oss keeps the experts of a layer in four tensors (transformers, modeling_gpt_oss.py): `gate_up_proj`
[E, in, 2 out] with the columns of gate and up in turn, `down_proj` [E, in, out], and a bias of each. The
spec names them one by one, [out, in], as every other family's checkpoint does.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from torch import Tensor

Shape = tuple[int, ...]

PACKING_FAMILY = "gpt_oss"
"""The model_type whose checkpoints pack experts so."""

EXPERT = re.compile(r"(.+\.experts)\.(\d+)\.(gate_proj|up_proj|down_proj)\.(weight|bias)")
COLUMNS = {
    "gate_proj": ("gate_up_proj", slice(0, None, 2), 2),
    "up_proj": ("gate_up_proj", slice(1, None, 2), 2),
    "down_proj": ("down_proj", slice(None), 1),
}
"""Of each matrix of an expert: the packed tensor, the columns there, and how many matrices share them."""


class Slice(NamedTuple):
    """A weight of the spec as a part of a stored tensor, which may be transposed."""

    path: str
    region: tuple[Any, ...] = ()
    transposed: bool = False

    def of(self, stored: Tensor) -> Tensor:
        """Return the view of ``stored`` that is this weight."""
        return stored[self.region].mT if self.transposed else stored[self.region]


@dataclass
class StoredTensor:
    """A tensor of a checkpoint: its shape, and the weights of the spec in it."""

    shape: Shape
    slices: list[Slice] = field(default_factory=list)


def one_by_one(shapes: Mapping[str, Shape]) -> dict[str, StoredTensor]:
    """Return the tensors of a checkpoint in which every weight is one."""
    return {path: StoredTensor(shape, [Slice(path)]) for path, shape in shapes.items()}


def packed(shapes: Mapping[str, Shape]) -> dict[str, StoredTensor]:
    """Return the tensors of a checkpoint that packs experts; every other weight is one."""
    found: dict[str, StoredTensor] = {}
    for path, shape in shapes.items():
        match = EXPERT.fullmatch(path)
        if match is None:
            found[path] = StoredTensor(shape, [Slice(path)])
            continue
        head, number, kind = match[1], int(match[2]), match[4]
        name, columns, sharing = COLUMNS[match[3]]
        stored = found.setdefault(f"{head}.{name}" + ("_bias" if kind == "bias" else ""), StoredTensor(()))
        stored.slices.append(Slice(path, (number, ..., columns), transposed=kind == "weight"))
        stored.shape = (number + 1, *shape[:0:-1], shape[0] * sharing)
    return found


def is_packed(names: Iterable[str]) -> bool:
    """Return whether a checkpoint with these names packs its experts."""
    return any(name.endswith(".experts.gate_up_proj") for name in names)
