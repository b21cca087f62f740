"""Which box of a picture each node of a model is drawn in: exactly one, or something was dropped or drawn twice."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from dsvgraph.graph import Graph, Node, join
from dsvgraph_graphviz.scene.parts import Body, Scene

Holder = str | Body
"""What a line lies in: the box of a block that is closed, or a body that is drawn line by line."""


class NodeBoxes(NamedTuple):
    """A line as `dsvgraph.graph.walk` visits it, and its boxes: cards and frames of the scene, by their ids.

    ``boxes`` has one entry for all copies that are drawn together. Each is one box in a picture that drops
    nothing and draws nothing twice; a line without copies has no entry, since nothing of it is in the model.
    """

    path: str
    node: Node
    boxes: tuple[tuple[str, ...], ...]


def node_boxes(scene: Scene, body: Body | None = None, path: str = "") -> list[NodeBoxes]:
    """Return the boxes of every line below ``body``, which has the address ``path``; by default the model's.

    Blocks that are open beside the model are bodies of their own: `Scene.bodies` without a ``line``.
    """
    body = body or scene.bodies[0]
    return list(_BoxFinder(scene).lines(body.graph, path, [(body,)]))


class _BoxFinder:
    """Looks boxes up by body and line."""

    def __init__(self, scene: Scene) -> None:
        self.cards: dict[tuple[str, int], list[str]] = {}
        self.inner: dict[tuple[str, int], list[Body]] = {}
        for card in scene.cards.values():
            for node in card.nodes:
                self.cards.setdefault((card.body, id(node)), []).append(card.id)
        for body in scene.bodies:
            if body.node is not None:
                self.inner.setdefault((body.within, id(body.node)), []).append(body)

    def lines(self, graph: Graph, path: str, drawn: list[tuple[Holder, ...]]) -> Iterator[NodeBoxes]:
        """The lines of ``graph``, which is drawn in each of ``drawn``, for other copies of the lines around it."""
        for node in graph.nodes.values():
            here = join(path, node.at)
            held = [self._held(node, holders) for holders in drawn] if node.op or node.copies else []
            own = [kind for holders in held for kind in self._kinds(holders)]
            yield NodeBoxes(here, node, tuple(tuple(map(_name, holders)) for holders in own))
            for i, (numbers, copies) in enumerate(node.numbered()):
                parts = [part for holders in held for part in self._parts(node, i, holders)]
                yield from self.lines(copies.graph, join(here, numbers), parts)

    def _held(self, node: Node, holders: tuple[Holder, ...]) -> tuple[Holder, ...]:
        found: list[Holder] = []
        for holder in holders:
            if isinstance(holder, str):
                found.append(holder)
            else:
                key = (holder.id, id(node))
                found += [*self.cards.get(key, ()), *self.inner.get(key, ())]
        return tuple(found)

    @staticmethod
    def _kinds(holders: tuple[Holder, ...]) -> list[tuple[Holder, ...]]:
        """Return the boxes of an open node apart, one for each kind of copies; those of another node together."""
        frames = [holder for holder in holders if isinstance(holder, Body)]
        return [(frame,) for frame in frames] if len(frames) == len(holders) > 0 else [holders]

    @staticmethod
    def _parts(node: Node, group: int, holders: tuple[Holder, ...]) -> list[tuple[Holder, ...]]:
        """Return what equal copies in a row lie in: a closed box, one frame for all, or one for each."""
        closed = tuple(holder for holder in holders if isinstance(holder, str))
        frames = [holder for holder in holders if isinstance(holder, Body)]
        if not any(frame.copy is not None for frame in frames):
            return [(*closed, *(frame for frame in frames if group in frame.groups))]
        before: list[int] = [int(other.count) for other in node.copies[:group]]  # type: ignore[arg-type]
        first = sum(before)
        count = int(node.count if node.reused else node.copies[group].count)  # type: ignore[arg-type]
        return [
            (*closed, *(frame for frame in frames if frame.copy == number)) for number in range(first, first + count)
        ]


def _name(holder: Holder) -> str:
    return holder if isinstance(holder, str) else holder.cluster
