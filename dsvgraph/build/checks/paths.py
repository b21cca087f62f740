"""Paths are the names of weights in a checkpoint, so no two may be the same."""

from __future__ import annotations

import re
from collections import defaultdict
from typing import NamedTuple

from dsvgraph.codes import Code
from dsvgraph.errors import DsvError
from dsvgraph.graph import Model, Node, join, walk

NUMBERS = re.compile(r"\[(\d+)(?:-(\d+))?\]")


class Box(NamedTuple):
    """A folded path: the numbers of its copies, from and to at each level, and whose it is."""

    ranges: tuple[tuple[int, int], ...]
    path: str
    node: Node


def check_paths(model: Model) -> None:
    """Raise DsvError if two weights would have one name, or one lie below the other."""
    boxes: dict[str, list[Box]] = defaultdict(list)
    for visit in walk(model):
        for weight in visit.node.weights:
            path = join(visit.path, weight)
            folded = "[" in path
            ranges = tuple((int(a), int(b or a)) for a, b in NUMBERS.findall(path)) if folded else ()
            boxes[NUMBERS.sub("#", path) if folded else path].append(Box(ranges, path, visit.node))
    for found in boxes.values():
        if len(found) > 1:
            _check_apart(found)
    for plain, found in boxes.items():
        end = plain.find(".")
        while end >= 0:
            for above in boxes.get(plain[:end], ()):
                _check_below(above, found)
            end = plain.find(".", end + 1)


def _check_apart(boxes: list[Box]) -> None:
    """Sweep over boxes of one shape by their first numbers."""
    live: list[Box] = []
    for box in sorted(boxes, key=lambda b: b.ranges):
        live = [b for b in live if not b.ranges or b.ranges[0][1] >= box.ranges[0][0]]
        for other in live:
            if _overlap(box, other):
                raise _collision(f"`{box.path}` would be the name of two weights, of this line", box, other)
        live.append(box)


def _check_below(above: Box, boxes: list[Box]) -> None:
    for box in boxes:
        if _overlap(above, box):
            raise _collision(f"`{box.path}` would lie below a weight, `{above.path}`, of this line", box, above)


def _overlap(a: Box, b: Box) -> bool:
    return all(x[0] <= y[1] and y[0] <= x[1] for x, y in zip(a.ranges, b.ranges, strict=False))


def _collision(words: str, box: Box, other: Box) -> DsvError:
    notes = [(f"and of this, `{other.path}`", other.node.span)]
    return DsvError(words, box.node.span, code=Code.SAME_PATH, notes=notes, hint="give one of them another `at`")
