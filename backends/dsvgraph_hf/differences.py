"""How two graphs differ, by path: weights that are added, missing or of another shape, attributes, wires."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from dsvgraph.graph import Model, Node, join
from dsvgraph.passes.compare import Change, compare
from dsvgraph.passes.signature import value
from dsvgraph_hf.folded import folded
from dsvgraph_hf.numbering import Numbered, attributes

SAME = {"scaling {}", "scaling null"}  # two spellings of the plain rope


def differences(theirs: Model, ours: Model, a: Numbered, b: Numbered) -> list[str]:
    """What ``ours`` has that ``theirs`` has not, and the other way round, one difference a line.

    ``a`` and ``b`` are their values. Wires are told only where weights and attributes agree.
    """
    found = [*_weights(shapes(a), shapes(b)), *_attributes(a, b)]
    return found or [_told(change) for change in compare(theirs, ours) if not {change.before, change.after} <= SAME]


def _told(change: Change) -> str:
    sides = " -> ".join(side for side in (change.before, change.after) if side)
    return f"{change.path or change.line} is {change.kind}: {sides}"


def shapes(numbered: Numbered) -> dict[str, str]:
    """The shape of each weight by its path; copies side by side are a range."""
    nodes = ((path, node) for path, found in numbered.ops.items() for node in found)
    return {join(path, name): str(w.type) for path, node in nodes for name, w in node.weights.items()}


def _weights(theirs: dict[str, str], ours: dict[str, str]) -> Iterator[str]:
    for path in folded(_sorted(ours.keys() - theirs.keys()), theirs):
        yield f"{path} is added"
    for path in folded(_sorted(theirs.keys() - ours.keys()), ours):
        yield f"{path} is missing"
    other = {
        path: f"{theirs[path]} -> {ours[path]}" for path in theirs.keys() & ours.keys() if theirs[path] != ours[path]
    }
    yield from _together(other)


def _attributes(a: Numbered, b: Numbered) -> Iterator[str]:
    found: dict[str, str] = {}
    for path in a.ops.keys() & b.ops.keys():
        for old, new in zip(a.ops[path], b.ops[path], strict=False):
            if old.op and new.op and (old.op.op != new.op.op or attributes(old, old.op) != attributes(new, new.op)):
                found[path] = _changed(old, new)
    yield from _together(found)


def _changed(old: Node, new: Node) -> str:
    assert old.op and new.op
    if old.op.op != new.op.op:
        return f"{old.op.op} -> {new.op.op}"
    before, after = attributes(old, old.op), attributes(new, new.op)
    names = [name for name in {**before, **after} if before.get(name) != after.get(name)]
    return ", ".join(f"{name} {value(before.get(name))} -> {value(after.get(name))}" for name in names)


def _together(found: dict[str, str]) -> Iterator[str]:
    """Paths for which the same is told, as ranges."""
    for words in dict.fromkeys(found.values()):
        for path in folded(_sorted(path for path, other in found.items() if other == words)):
            yield f"{path}: {words}"


def _sorted(paths: Iterable[str]) -> list[str]:
    return sorted(
        paths,
        key=lambda path: [(part.isdecimal(), int(part) if part.isdecimal() else 0, part) for part in path.split(".")],
    )
