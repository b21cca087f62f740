"""Which weights the section `trained` freezes, asked from any place of a graph; copies are never written out."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from itertools import groupby
from typing import NamedTuple

from dsvgraph.codes import Code
from dsvgraph.dims import Size
from dsvgraph.errors import DsvError
from dsvgraph.graph import Graph, Mode, Model, Node, join
from dsvgraph.patterns import Patterns


class Rules:
    """The section `trained` of one spec: its patterns, matched at once, and what each says."""

    def __init__(self, trained: tuple[tuple[str, bool], ...]) -> None:
        self.patterns = Patterns([pattern for pattern, _ in trained])
        self.trains = [trains for _, trains in trained]


class PathState(NamedTuple):
    """How far the patterns of the section `trained` match at a path: equal states freeze the same below them."""

    rules: Rules
    state: int

    def said(self, path: str) -> int | None:
        """Return the number of the last rule that fits a path below this place; None if none does."""
        return self.rules.patterns.last(self.rules.patterns.after(self.state, path)) if self.state else None

    def freezes(self, path: str) -> bool:
        """Return whether the weight at a path below this place is taken out of training."""
        rule = self.said(path)
        return rule is not None and not self.rules.trains[rule]

    def inside(self, segment: str) -> PathState:
        """Return the place below a segment of a path; "" adds nothing."""
        if not segment or not self.state:
            return self
        return PathState(self.rules, self.rules.patterns.after(self.state, f"{segment}."))


def root(model: Model) -> PathState:
    """Return the place before every path of a model."""
    rules = _rules(model.trained)
    return PathState(rules, rules.patterns.begin())


_rules = lru_cache(maxsize=64)(Rules)


@dataclass(frozen=True)
class Alike:
    """Copies in a row of one graph that freeze the same: the number of the first, and how many."""

    graph: Graph
    place: PathState
    first: Size
    count: Size


def alike(node: Node, place: PathState) -> list[Alike]:
    """Return the copies of a line at ``place``, those in a row together that are the same.

    Where no rule can fit below, or where their number is open, all copies of a run are the same.
    """
    found, number = list[Alike](), node.start
    for copies in node.copies:
        below = place.inside(node.at) if node.mode is not Mode.CALL else place.inside(node.segment(number))
        if node.mode is Mode.CALL or not below.state or not isinstance(copies.count, int):
            found.append(Alike(copies.graph, below, number, copies.count))
        else:
            first = int(number)  # type: ignore[arg-type]
            numbers = [first] * copies.count if node.reused else range(first, first + copies.count)
            found += _parted(copies.graph, below, numbers)
        number = number if node.reused else number + copies.count
    return found


def _parted(graph: Graph, place: PathState, numbers: Iterable[Size]) -> Iterator[Alike]:
    for below, equal in groupby(numbers, key=lambda number: place.inside(str(number))):
        first, *others = equal
        yield Alike(graph, below, first, 1 + len(others))


def check_stacks(model: Model) -> None:
    """Raise DsvError if experts differ in what is trained: the weights of all are one parameter."""
    if model.trained:
        _check(model, root(model), model, set())


def _check(graph: Graph, place: PathState, model: Model, seen: set[tuple[Graph, PathState]]) -> None:
    if (graph, place) in seen or not place.state:
        return
    seen.add((graph, place))
    for node in graph.nodes.values():
        parts = alike(node, place) if node.copies else []
        if node.mode is Mode.EACH and any(type_.order for type_ in node.input_types.values()):
            for _, copies in groupby(
                parts, key=lambda part: part.graph
            ):  # equal copies in a row have parameters of its own
                _check_stack(list(copies), model)
        for part in parts:
            _check(part.graph, part.place, model, seen)


def _check_stack(parts: list[Alike], model: Model) -> None:
    """Raise DsvError unless all copies of a run have the same weights trained."""
    first = dict(_decided(parts[0].graph, parts[0].place, ""))
    for part in parts[1:]:
        for path, rule in _decided(part.graph, part.place, ""):
            rules = [r for r in (rule, first[path]) if r is not None]
            if _trains(rule, model) != _trains(first[path], model):
                words = f"`{path}` trains in some experts and not in others: `each` runs all copies as one parameter"
                at = model.spec.trained[model.trained[max(rules)][0]].key() if model.spec else None
                raise DsvError(words, at, code=Code.NOT_LOWERED, hint="freeze all of them, or none")


def _decided(graph: Graph, place: PathState, prefix: str) -> Iterator[tuple[str, int | None]]:
    """Yield the path of every weight below a place, with the number of the rule that decides."""
    for node in graph.nodes.values():
        for name in node.weights:
            path = join(node.at, name)
            yield join(prefix, path), place.said(path)
        for part in alike(node, place) if node.copies else ():
            yield from _decided(part.graph, part.place, join(prefix, node.segment(part.first)))


def _trains(rule: int | None, model: Model) -> bool:
    return rule is None or model.trained[rule][1]
