"""One picture of the page as data: a DOT with gaps for what the reader opens, its cards and its wires."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from typing import Any

import graphviz

from dsvgraph.graph import Node
from dsvgraph_graphviz.dot.draw import Drawing
from dsvgraph_graphviz.model.copies import has_body
from dsvgraph_graphviz.scene import Card, Scene, Wire
from dsvgraph_graphviz.text.losses import Term

BADGE = "@@"  # in the name of a frame: how many copies there are, which its caller knows
LAST = re.compile(r"\]\s*$")
DASHED = re.compile(r'(<table[^<>]*) style="rounded,dashed"([^<>]* color="#[0-9A-F]{6})"')


@dataclass
class Picture:
    """A scene, the line that each card stands for, and which port each wire takes of its two lines."""

    scene: Scene
    nodes: dict[str, Node]
    ports: dict[int, tuple[str, str]]  # by id of the wire


class NumberedDrawing(Drawing):
    """Draws as the pictures are drawn; every wire has its number among ``wires`` as its class."""

    def __init__(self, scene: Scene, wires: list[Wire]) -> None:
        super().__init__(scene)
        self.wires = wires

    def _wire(self, dot: graphviz.Digraph, wire: Wire) -> None:
        super()._wire(dot, wire)
        number = next(i for i, other in enumerate(self.wires) if other is wire)
        dot.body.append(LAST.sub(f' class="w{number}"]\n', dot.body.pop()))


def as_data(picture: Picture, terms: list[Term], sum_label: str) -> dict[str, Any]:
    """Return the picture for the page.

    ``dot`` has ``label=<@3@>`` in place of the label of card 3 in ``labels``: the card's own or a box for its body.
    Where blocks stand beside the model, ``apart`` are they and the model in a DOT each, for when something is open:
    in one DOT a tall card would spread the rows of both.
    """
    scene, labels = picture.scene, list[str]()
    for card in scene.cards.values():
        card.tip = " "
        if _opens(picture, card):
            labels.append(_dashed(card.label))
            card.label = f"<@{len(labels) - 1}@>"
    for cluster in scene.clusters.values():
        cluster.tip = " "
    wires = [_wire(picture, wire) for wire in scene.wires]
    holes = [c.id for c in scene.cards.values() if c.label.startswith("<@")]
    found = {"dot": _source(scene, scene.wires, terms, sum_label), "labels": labels, "holes": holes, "wires": wires}
    beside, model = (_part(scene, aside) for aside in (True, False))
    if beside.cards:
        found["apart"] = [_source(beside, scene.wires, [], ""), _source(model, scene.wires, terms, sum_label)]
    return found


def _part(scene: Scene, aside: bool) -> Scene:
    """Return the blocks beside the model, or the model alone."""
    cards = {id_: card for id_, card in scene.cards.items() if (card.column < 0) == aside}
    if aside:
        cards = {id_: replace(card, column=-1 - card.column) for id_, card in cards.items()}  # columns count from 0
    wires = [wire for wire in scene.wires if wire.src.card in cards and wire.dst.card in cards]
    frames = {card.cluster for card in cards.values()}
    frames |= {parent for frame in frames if (parent := scene.clusters[frame].parent)}
    return Scene(cards, wires, {id_: frame for id_, frame in scene.clusters.items() if id_ in frames})


def _source(scene: Scene, wires: list[Wire], terms: list[Term], sum_label: str) -> str:
    return _dashed(str(NumberedDrawing(scene, wires).build("", terms, sum_label).source))


def _dashed(label: str) -> str:
    """Dashed borders of tables marked by a colour that is just not opaque.

    Graphviz 16 writes what follows the word `dashed` in its memory into the JSON that the page reads.
    """
    return DASHED.sub(r'\1 style="rounded"\2FE"', label)


def _opens(picture: Picture, card: Card) -> bool:
    node = picture.nodes.get(card.id)
    return node is not None and bool(node.copies) and has_body(node)


def _wire(picture: Picture, wire: Wire) -> dict[str, str]:
    """Return a wire as data: its ends, kind, name and shape, and the ports that it joins if an end is opened."""
    leaves, enters = picture.ports.get(id(wire), ("", ""))
    found = {
        "from": wire.src.card, "to": wire.dst.card, "kind": wire.kind, "name": wire.name, "shape": wire.label,
        "leaves": leaves, "enters": enters,
    }  # fmt: skip
    return {key: value for key, value in found.items() if value}
