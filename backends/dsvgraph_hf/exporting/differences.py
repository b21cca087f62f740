"""How two graphs differ, by path: weights that are added, missing or of another shape, attributes, wires."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator

from dsvgraph.errors import Note, Span
from dsvgraph.graph import Model, Node, join
from dsvgraph.passes.compare.lines import Change, compare
from dsvgraph.passes.text.signature import value
from dsvgraph_hf.exporting.numbering import Numbered, attributes
from dsvgraph_hf.weights.ranges import folded

SAME = {"scaling {}", "scaling null"}  # two spellings of the plain rope


def differences(theirs: Model, ours: Model, a: Numbered, b: Numbered) -> list[Note]:
    """What ``ours`` has that ``theirs`` has not, and the other way round, one difference a line, at its line of ours.

    ``a`` and ``b`` are their values. Wires are told only where weights and attributes agree.
    """
    found = [*_weights(shapes(a), shapes(b), b), *_attributes(a, b)]
    if found:
        return found
    return [(_told(change), None) for change in compare(theirs, ours) if not {change.before, change.after} <= SAME]


def _told(change: Change) -> str:
    sides = " -> ".join(side for side in (change.before, change.after) if side)
    return f"{change.path or change.line} is {change.kind}: {sides}"


def shapes(numbered: Numbered) -> dict[str, str]:
    """The shape of each weight by its path; copies side by side are a range."""
    nodes = ((path, node) for path, found in numbered.ops.items() for node in found)
    return {join(path, name): str(w.type) for path, node in nodes for name, w in node.weights.items()}


def _weights(theirs: dict[str, str], ours: dict[str, str], b: Numbered) -> Iterator[Note]:
    def owner(path: str) -> Span | None:
        return _line(b, path.rpartition(".")[0])

    for text, path in _ranges(ours.keys() - theirs.keys(), theirs):
        yield f"{text} is added", owner(path)
    for text, path in _ranges(theirs.keys() - ours.keys(), ours):
        yield f"{text} is missing", owner(path)
    other = {
        path: f"{theirs[path]} -> {ours[path]}" for path in theirs.keys() & ours.keys() if theirs[path] != ours[path]
    }
    yield from _together(other, owner)


def _line(numbered: Numbered, path: str) -> Span | None:
    """Where the op at a path is written."""
    return next((node.span for node in numbered.ops.get(path, ())), None)


def _attributes(a: Numbered, b: Numbered) -> Iterator[Note]:
    found: dict[str, str] = {}
    for path in a.ops.keys() & b.ops.keys():
        for old, new in zip(a.ops[path], b.ops[path], strict=False):
            if old.op and new.op and (words := _changed(old, new)):
                found[path] = words
    yield from _together(found, lambda path: _line(b, path))


def _changed(old: Node, new: Node) -> str:
    """Which attributes differ; a bias is told as a weight that is there or not."""
    assert old.op and new.op
    if old.op.op != new.op.op:
        return f"{old.op.op} -> {new.op.op}"
    before, after = attributes(old, old.op), attributes(new, new.op)
    names = [name for name in {**before, **after} if before.get(name) != after.get(name)]
    told = [name for name in names if name not in (old.weights.keys() ^ new.weights.keys())]
    return ", ".join(f"{name} {value(before.get(name))} -> {value(after.get(name))}" for name in told)


def _together(found: dict[str, str], line: Callable[[str], Span | None]) -> Iterator[Note]:
    """Paths for which the same is told, as ranges."""
    for words in dict.fromkeys(found.values()):
        for text, path in _ranges([path for path, other in found.items() if other == words]):
            yield f"{text}: {words}", line(path)


def _ranges(paths: Iterable[str], others: Iterable[str] = ()) -> Iterator[tuple[str, str]]:
    """Paths in ranges, each with its first path; with none where the range is a part of the tree."""
    ordered = _sorted(paths)
    for text in folded(ordered, others):
        pattern = re.sub(r"\\\[[^]]*\]", r"(\\d+|\\[[^]]*\\])", re.escape(text))
        yield text, next((path for path in ordered if re.fullmatch(pattern, path)), "")


def _sorted(paths: Iterable[str]) -> list[str]:
    return sorted(
        paths,
        key=lambda path: [(part.isdecimal(), int(part) if part.isdecimal() else 0, part) for part in path.split(".")],
    )
