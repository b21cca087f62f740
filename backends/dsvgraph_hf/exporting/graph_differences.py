"""The differences of two graphs by path: added, missing and reshaped weights, attributes, and wiring."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator

from dsvgraph.errors import Note, Span
from dsvgraph.graph import Model, Node, join
from dsvgraph.passes.compare.lines import Change, compare
from dsvgraph.types import shown
from dsvgraph_hf.exporting.value_numbering import NumberedModel, attributes
from dsvgraph_hf.weights.ranges import as_ranges

PLAIN_ROPE = {"scaling {}", "scaling null"}  # two spellings of it


def differences(theirs: Model, ours: Model, a: NumberedModel, b: NumberedModel) -> list[Note]:
    """Return the differences of ``ours`` from ``theirs``, each with its span in ours.

    ``a`` and ``b`` are their numbered values. Wiring is compared only if weights and attributes agree.
    """
    found = [*_weights(_shapes(a), _shapes(b), b), *_attributes(a, b)]
    if found:
        return found
    changes = [c for c in compare(theirs, ours) if not {c.before, c.after} <= PLAIN_ROPE]
    return [(_change_text(change), None) for change in changes]


def _change_text(change: Change) -> str:
    sides = " -> ".join(side for side in (change.before, change.after) if side)
    return f"{change.path or change.line} is {change.kind}: {sides}"


def _shapes(numbered: NumberedModel) -> dict[str, str]:
    """Return the shape of each weight by path; parallel copies are one path with a range."""
    nodes = ((path, node) for path, found in numbered.ops.nodes.items() for node in found)
    return {join(path, name): str(w.type) for path, node in nodes for name, w in node.weights.items()}


def _weights(theirs: dict[str, str], ours: dict[str, str], b: NumberedModel) -> Iterator[Note]:
    def owner(path: str) -> Span | None:
        return _line(b, path.rpartition(".")[0])

    for text, path in _ranges(ours.keys() - theirs.keys(), theirs):
        yield f"{text} is added", owner(path)
    for text, path in _ranges(theirs.keys() - ours.keys(), ours):
        yield f"{text} is missing", owner(path)
    other = {
        path: f"{theirs[path]} -> {ours[path]}" for path in theirs.keys() & ours.keys() if theirs[path] != ours[path]
    }
    yield from _grouped(other, owner)


def _line(numbered: NumberedModel, path: str) -> Span | None:
    """Return the span of the op at a path."""
    return next((node.span for node in numbered.ops.at(path)), None)


def _attributes(a: NumberedModel, b: NumberedModel) -> Iterator[Note]:
    found: dict[str, str] = {}
    for path in a.ops.nodes.keys() & b.ops.nodes.keys():
        for old, new in zip(a.ops.at(path), b.ops.at(path), strict=False):
            if old.op and new.op and (words := _changed(old, new)):
                found[path] = words
    yield from _grouped(found, lambda path: _line(b, path))


def _changed(old: Node, new: Node) -> str:
    """Return the attributes that differ; a bias is left out, as it is added or missing as a weight."""
    assert old.op and new.op
    if old.op.op != new.op.op:
        return f"{old.op.op} -> {new.op.op}"
    before, after = attributes(old, old.op), attributes(new, new.op)
    names = [name for name in {**before, **after} if before.get(name) != after.get(name)]
    differ = [name for name in names if name not in (old.weights.keys() ^ new.weights.keys())]
    return ", ".join(f"{name} {shown(before.get(name))} -> {shown(after.get(name))}" for name in differ)


def _grouped(found: dict[str, str], line: Callable[[str], Span | None]) -> Iterator[Note]:
    """Yield each text once, with its paths as ranges."""
    for words in dict.fromkeys(found.values()):
        for text, path in _ranges([path for path, other in found.items() if other == words]):
            yield f"{text}: {words}", line(path)


def _ranges(paths: Iterable[str], others: Iterable[str] = ()) -> Iterator[tuple[str, str]]:
    """Yield paths as ranges, each with its first path (empty for a range that ends in `**`)."""
    ordered = _sorted(paths)
    for text in as_ranges(ordered, others):
        pattern = re.sub(r"\\\[[^]]*\]", r"(\\d+|\\[[^]]*\\])", re.escape(text))
        yield text, next((path for path in ordered if re.fullmatch(pattern, path)), "")


def _sorted(paths: Iterable[str]) -> list[str]:
    return sorted(
        paths,
        key=lambda path: [(part.isdecimal(), int(part) if part.isdecimal() else 0, part) for part in path.split(".")],
    )
