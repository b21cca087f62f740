"""Two graphs line by line: what was added, removed, replaced, resized, changed, rewired, renamed."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from enum import StrEnum
from itertools import accumulate
from typing import Any

from dsvgraph.dims import total
from dsvgraph.errors import Span
from dsvgraph.graph import Graph, Mode, Model, Node, PortRole, join, span_text
from dsvgraph.graph.dependencies import DependencyAnalysis
from dsvgraph.passes.compare.matching import CopyRange, aligned_copies, matched_lines, named
from dsvgraph.passes.graph.paths import bracketed, weights
from dsvgraph.types import shown


class ChangeKind(StrEnum):
    """What a change is."""

    ADDED = "added"
    REMOVED = "removed"
    REPLACED = "replaced"  # by a line that calls another op, or a block of other lines
    RESIZED = "resized"  # other shapes, or another number of copies
    CHANGED = "changed"  # another value of an attribute
    REWIRED = "rewired"
    RENAMED = "renamed"


@dataclass(frozen=True)
class Change:
    """One difference: a line (``path``, and ``also`` where the same block is used again).

    ``before`` and ``after`` hold only what differs. ``reaches`` names the outputs of the model
    that may differ for it; all others compute what they computed. ``places`` are the lines of
    YAML before and after, where there are such.
    """

    kind: ChangeKind
    path: str
    line: str
    before: str
    after: str
    reaches: tuple[str, ...] = ()
    also: tuple[str, ...] = ()
    places: tuple[Span | None, Span | None] = (None, None)

    def as_dict(self) -> dict[str, Any]:
        """Return the change as plain data."""
        places = [None if span is None else span.as_dict() for span in self.places]
        return {**vars(self), "reaches": list(self.reaches), "also": list(self.also), "places": places}


def compare(a: Model, b: Model) -> list[Change]:
    """Return the changes from ``a`` to ``b``; equal changes in equal blocks are one."""
    merged: dict[tuple[str, ...], list[Change]] = defaultdict(list)
    for change in _graphs(a, b, "", ()):
        merged[change.kind, change.line, change.before, change.after].append(change)
    return [_one(found) for found in merged.values()]


def _one(found: list[Change]) -> Change:
    outputs = dict.fromkeys(o for change in found for o in change.reaches)
    return replace(found[0], reaches=tuple(outputs), also=tuple(dict.fromkeys(c.path for c in found[1:])))


def _graphs(a: Graph, b: Graph, prefix: str, reaches: tuple[str, ...]) -> Iterator[Change]:
    found = matched_lines(a, b)
    names = {old.name: new.name for old, new in found}
    for old, new in found:
        outputs = reaches or _reached(a, old.name) + _reached(b, new.name)
        yield from _nodes(a, b, old, new, prefix, names, tuple(dict.fromkeys(outputs)))
    for graph, matched, kind in ((a, names.keys(), ChangeKind.REMOVED), (b, names.values(), ChangeKind.ADDED)):
        for node in graph.nodes.values():
            if node.name not in matched:
                texts = ("", _described(node)) if kind == ChangeKind.ADDED else (_described(node), "")
                outputs = reaches or _reached(graph, node.name)
                places = (None, node.span) if kind == ChangeKind.ADDED else (node.span, None)
                yield Change(
                    kind=kind,
                    path=join(prefix, node.at),
                    line=node.name,
                    before=texts[0],
                    after=texts[1],
                    reaches=outputs,
                    places=places,
                )
    yield from _interface(a, b, prefix, names, reaches)


def _reached(graph: Graph, name: str) -> tuple[str, ...]:
    """Return the outputs that depend on a line (not those that only borrow a weight from what follows it)."""
    dependencies = DependencyAnalysis()
    return tuple(o for o in graph.outputs if name in dependencies.of(graph, [o]).ports)


def _nodes(
    a: Graph, b: Graph, old: Node, new: Node, prefix: str, names: Mapping[str, str], reaches: tuple[str, ...]
) -> Iterator[Change]:
    path = join(prefix, new.at)
    for kind, before, after in differences(a, b, old, new, names):
        if kind == ChangeKind.RENAMED:
            before, after = before or ".", after or "."
        yield Change(
            kind=kind,
            path=path,
            line=new.name,
            before=before,
            after=after,
            reaches=reaches,
            places=(old.span, new.span),
        )
    if is_variant(old, new):
        yield from _more_copies(old, new, path, reaches)
        for inner, one, other in _copies(old, new, path):
            yield from _graphs(one, other, inner, reaches)


def differences(
    a: Graph, b: Graph, old: Node, new: Node, names: Mapping[str, str]
) -> Iterator[tuple[ChangeKind, str, str]]:
    """Yield what differs between two lines themselves: kind, before and after; ``names`` translates lines of ``a``."""
    wires = _wires(a, old, names), _wires(b, new, {})
    if wires[0] != wires[1]:
        yield ChangeKind.REWIRED, *_differing(_owning(old, *wires), _owning(new, *reversed(wires)))
    if old.at != new.at:
        yield ChangeKind.RENAMED, old.at, new.at
    if not is_variant(old, new):
        yield ChangeKind.REPLACED, _described(old), _described(new)
        return
    sizes = _sizes(old), _sizes(new)
    if sizes[0] != sizes[1]:
        yield (ChangeKind.RESIZED if _shapes(old) != _shapes(new) else ChangeKind.CHANGED), *_differing(*sizes)


def is_variant(old: Node, new: Node) -> bool:
    """Return whether two lines call the same, or blocks that are variants: half of the lines have equal names."""
    if old.callee == new.callee or old.op or new.op or not (old.copies and new.copies):
        return old.callee == new.callee
    lines, others = set(old.copies[0].graph.nodes), set(new.copies[0].graph.nodes)
    return 2 * len(lines & others) >= max(len(lines), len(others))


def _wires(graph: Graph, node: Node, names: Mapping[str, str]) -> dict[str, str]:
    """Return what is wired into a node by port, with its role under repeat; ``names`` translates lines."""
    return {port: named(graph, ref, names) + _role(node, port) for port, ref in node.sources.items()}


def _owning(node: Node, own: Mapping[str, str], other: Mapping[str, str]) -> dict[str, str]:
    """Return the wires of a node, with the weights that it owns where the other side has them wired."""
    return {**own, **{port: "its own" for port in node.weights if port in other}}


def _role(node: Node, port: str) -> str:
    """Return how a repeated block gets a port, where that is not one value for all copies."""
    role = node.roles.get(port, PortRole.SHARED) if node.mode is Mode.REPEAT else PortRole.SHARED
    return "" if role is PortRole.SHARED else f" ({role})"


def _differing(before: Mapping[str, str], after: Mapping[str, str]) -> tuple[str, str]:
    """Return the entries that differ, as text."""
    keys = [k for k in {**before, **after} if before.get(k) != after.get(k)]
    return _entries(before, keys), _entries(after, keys)


def _entries(found: Mapping[str, str], keys: list[str]) -> str:
    return ", ".join(f"{k} {found[k]}" for k in keys if k in found)


def _sizes(node: Node) -> dict[str, str]:
    """Return attributes, owned weights and the number of copies, as text."""
    found = {k: shown(v) for k, v in node.op.model_dump().items()} if node.op else {}
    found |= {name: str(weight.type) for name, weight in node.weights.items()}
    return found if node.mode is Mode.CALL else {**found, "copies": f"{node.count}{_one_set(node)}"}


def _one_set(node: Node) -> str:
    return " with one set of weights" if node.reused else ""


def _shapes(node: Node) -> tuple[Any, ...]:
    return [str(t) for t in node.outputs.values()], [str(w.type) for w in node.weights.values()], node.count


def _copies(old: Node, new: Node, path: str) -> Iterator[tuple[str, Graph, Graph]]:
    """Yield pairs of graphs that stand at the same copies, with their path in the new model."""
    if new.mode is Mode.CALL or old.mode is Mode.CALL:
        if old.copies and new.copies:
            yield path, old.copies[0].graph, new.copies[0].graph
        return
    spans: dict[tuple[Graph, Graph], list[str]] = {}
    for _, at, count, (one, other) in aligned_copies(old, new):
        if one and other and at is not None:
            spans.setdefault((one, other), []).append(span_text(new.start + at, count)[1:-1])
    if new.reused:
        spans = {pair: [span_text(new.start, 1)[1:-1]] for pair in spans}
    for (one, other), found in spans.items():
        yield join(path, bracketed(found)), one, other


def _more_copies(old: Node, new: Node, path: str, reaches: tuple[str, ...]) -> Iterator[Change]:
    """Yield copies that one side alone has between others, or that are of another kind than the last."""
    if new.mode is not Mode.REPEAT or old.mode is not Mode.REPEAT:
        return
    found = list(aligned_copies(old, new))
    for i, range_ in enumerate(found):
        if None in range_.graphs and not _goes_on(found, i):
            node, at = (new, range_.new) if range_.old is None else (old, range_.old)
            graph = next(filter(None, range_.graphs))
            owned = total(w.weight.numel * w.copies for w in weights(graph)) * range_.copies
            text = f"{graph.name} x {range_.copies}, {owned:,} parameters"
            here = join(path, span_text(node.start + (at or 0), range_.copies))
            texts = ("", text) if node is new else (text, "")
            places = (None, new.span) if node is new else (old.span, None)
            yield Change(
                kind=ChangeKind.ADDED if node is new else ChangeKind.REMOVED,
                path=here,
                line=node.name,
                before=texts[0],
                after=texts[1],
                reaches=reaches,
                places=places,
            )


def _goes_on(found: list[CopyRange], i: int) -> bool:
    """Return whether copies are at the end and like those before them, so that their number describes them."""
    last = next((s for s in reversed(found[:i]) if None not in s.graphs), None)
    here = next(filter(None, found[i].graphs))
    return all(None in s.graphs for s in found[i:]) and (last is None or here in last.graphs)


def aligned(old: Node, new: Node) -> Iterator[tuple[tuple[Graph, Graph], int]]:
    """Yield the copies that both have, side by side, cut where either changes."""
    ends = sorted({*_ends(old), *_ends(new)})
    start = 0
    for end in ends:
        one, other = _copy(old, start), _copy(new, start)
        if one and other:
            yield (one, other), end - start
        start = end


def _copy(node: Node, index: int) -> Graph | None:
    """Return the graph of one copy, counted from the first."""
    ends = zip(node.copies, _ends(node), strict=True)
    return next((copies.graph for copies, end in ends if index < end), None)


def _ends(node: Node) -> list[int]:
    """Return where the groups of equal copies of a node end, counted from its first copy."""
    return list(accumulate(int(copies.count) for copies in node.copies))  # type: ignore[arg-type]


def _described(node: Node) -> str:
    """Return what a line is, with the weights that it brings."""
    owned = sum(w.numel * w_copies for w, w_copies in _owned(node))
    copies = "" if node.mode is Mode.CALL else f" x {node.count}{_one_set(node)}"
    return f"{node.callee}{copies}" + (f", {owned:,} parameters" if owned else "")


def _owned(node: Node) -> Iterator[tuple[Any, Any]]:
    for weight in node.weights.values():
        yield weight, 1
    for copies in node.stored:
        for owned in weights(copies.graph):
            yield owned.weight, owned.copies * copies.count


def _interface(a: Graph, b: Graph, prefix: str, names: Mapping[str, str], reaches: tuple[str, ...]) -> Iterator[Change]:
    """Yield outputs and cache of a block, and the inputs of the whole graph."""
    for name in {**a.outputs, **b.outputs}:
        before, after = _out(a, name, names), _out(b, name, {})
        if before != after:
            yield _interface_change(prefix, f"out {name}", (before, after), reaches or (name,))
    before, after = _cached(a, names), _cached(b, {})
    if before != after:
        yield _interface_change(prefix, "cache", (before, after), ())
    if isinstance(a, Model):
        yield from _inputs(a, b)


def _inputs(a: Graph, b: Graph) -> Iterator[Change]:
    for name in {**a.inputs, **b.inputs}:
        before, after = (str(g.inputs.get(name, "")) for g in (a, b))
        if before != after:
            kind = ChangeKind.RESIZED if before and after else ChangeKind.ADDED if after else ChangeKind.REMOVED
            yield _interface_change(name, name, (before, after), tuple(b.outputs), kind)


def _cached(graph: Graph, names: Mapping[str, str]) -> str:
    return ", ".join(named(graph, ref, names) for ref in graph.cache)


def _out(graph: Graph, name: str, names: Mapping[str, str]) -> str:
    return named(graph, graph.outputs[name], names) if name in graph.outputs else ""


def _interface_change(
    path: str, line: str, texts: tuple[str, str], reaches: tuple[str, ...], kind: ChangeKind = ChangeKind.REWIRED
) -> Change:
    return Change(kind=kind, path=path, line=line, before=texts[0], after=texts[1], reaches=reaches)
