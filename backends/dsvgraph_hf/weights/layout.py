"""How a checkpoint holds what the spec names: one tensor each, or gpt-oss's experts in one.

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

EXPERT = re.compile(r"(.+\.experts)\.(\d+)\.(gate_proj|up_proj|down_proj)\.(weight|bias)")
COLUMNS = {
    "gate_proj": ("gate_up_proj", slice(0, None, 2), 2),
    "up_proj": ("gate_up_proj", slice(1, None, 2), 2),
    "down_proj": ("down_proj", slice(None), 1),
}
"""Of each matrix of an expert: the tensor it is packed in, its columns there, how many share them."""


class Part(NamedTuple):
    """A weight of the spec, where in the stored tensor it stands, and whether it lies on its side there."""

    path: str
    where: tuple[Any, ...] = ()
    turned: bool = False

    def of(self, stored: Tensor) -> Tensor:
        """The view of ``stored`` that is this weight."""
        return stored[self.where].mT if self.turned else stored[self.where]


@dataclass
class Stored:
    """A tensor of a checkpoint: its shape, and the weights of the spec that it is made of."""

    shape: Shape
    parts: list[Part] = field(default_factory=list)


def plain(shapes: Mapping[str, Shape]) -> dict[str, Stored]:
    """Every weight is a tensor of its own."""
    return {path: Stored(shape, [Part(path)]) for path, shape in shapes.items()}


def packed(shapes: Mapping[str, Shape]) -> dict[str, Stored]:
    """The experts of a layer are packed as gpt-oss's are; all other weights are plain."""
    found: dict[str, Stored] = {}
    for path, shape in shapes.items():
        match = EXPERT.fullmatch(path)
        if match is None:
            found[path] = Stored(shape, [Part(path)])
            continue
        head, number, kind = match[1], int(match[2]), match[4]
        name, columns, sharing = COLUMNS[match[3]]
        stored = found.setdefault(f"{head}.{name}" + ("_bias" if kind == "bias" else ""), Stored(()))
        stored.parts.append(Part(path, (number, ..., columns), turned=kind == "weight"))
        stored.shape = (number + 1, *shape[:0:-1], shape[0] * sharing)
    return found


def is_packed(names: Iterable[str]) -> bool:
    """Whether a checkpoint with these names packs its experts."""
    return any(name.endswith(".experts.gate_up_proj") for name in names)
