"""What two models share: weights with one path and one shape in both, copies counted without writing them out."""

from __future__ import annotations

from math import prod
from typing import NamedTuple

from dsvgraph.dims import Size
from dsvgraph.graph import Graph
from dsvgraph.passes.graph.paths import SPAN, weights


class _Box(NamedTuple):
    """The numbers in a folded path, axis by axis, from and to; and the elements of one weight."""

    axes: tuple[tuple[int, int], ...]
    numel: int


_Key = tuple[str, tuple[Size, ...]]


def shared(a: Graph, b: Graph) -> int:
    """Elements of the weights that both models have at the same path and with the same shape."""
    ours, theirs = _boxes(a), _boxes(b)
    return sum(
        _common(one, other) * one.numel
        for key, boxes in ours.items()
        for one in boxes
        for other in theirs.get(key, ())
    )  # fmt: skip


def _boxes(model: Graph) -> dict[_Key, list[_Box]]:
    found: dict[_Key, list[_Box]] = {}
    for path, weight, _ in weights(model):
        axes = tuple((int(m[1]), int(m[2] or m[1])) for m in SPAN.finditer(path))
        box = _Box(axes, int(weight.numel))  # type: ignore[arg-type]
        found.setdefault((SPAN.sub("{}", path), weight.shape), []).append(box)
    return found


def _common(a: _Box, b: _Box) -> int:
    """How many paths two boxes have in common."""
    spans = zip(a.axes, b.axes, strict=True)
    return prod(max(0, min(x[1], y[1]) - max(x[0], y[0]) + 1) for x, y in spans)
