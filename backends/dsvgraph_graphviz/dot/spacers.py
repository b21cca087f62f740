"""Spacers: invisible edges and points that keep graphviz from bending wires and from drawing them over titles."""

from __future__ import annotations

from dsvgraph_graphviz.dot.orthogonal import THIN, OrthogonalEdges
from dsvgraph_graphviz.scene.parts import CardShape, Cluster, Wire

LETTER, CARD, CIRCLE, NEAR = 0.105, 0.8, 0.14, 0.5  # inches: a letter of a name, half a card, what lies between
PILL = 1.6  # inches
UNSEEN = {"style": "invis"}


def add_spacers(edges: OrthogonalEdges) -> None:
    """Add spacers to the bends and pieces of ``edges``."""
    _frame_spacers(edges)
    _title_spacers(edges)


def _frame_spacers(edges: OrthogonalEdges) -> None:
    """Add an invisible edge along the right of every frame that lies in another frame or beside the model.

    Graphviz bends a wire with a label to the left where its neighbour on the right is of an outer
    frame. The upper end of the line keeps the room free that the frame's name takes.
    """
    clusters = edges.scene.clusters
    for frame in clusters.values():
        inner = frame.parent and (clusters[frame.parent].parent or frame.parent in edges.lanes)
        cards = (card.id for card in edges.scene.cards.values() if card.cluster == frame.id)
        names = sorted(cards, key=lambda name: (edges.heights[name], name in edges.rank))
        railed = edges.right.keys() & names and not frame.on_the_right
        if (inner or frame.aside) and len(names) > 1 and not railed:
            _frame_spacer(edges, frame, names[0], names[-1])


def _frame_spacer(edges: OrthogonalEdges, frame: Cluster, low: str, high: str) -> None:
    group = f"{frame.id}-spacers"
    a = edges.bend(low, frame.id, group, "transparent")
    b = edges.bend(high, frame.id, group, "transparent", _room(edges, frame, high))
    for tail, head in ((edges.right.get(low, low), a), (a, b), (edges.right.get(high, high), b)):
        edges.piece(tail, head, UNSEEN)


def _room(edges: OrthogonalEdges, frame: Cluster, card: str) -> float:
    """Return how wide a name on the right is beyond the card below it."""
    beside = CIRCLE if edges.scene.cards[card].shape is CardShape.CIRCLE else CARD
    return max(THIN, LETTER * len(frame.name) - beside - NEAR) if frame.on_the_right else THIN


def _title_spacers(edges: OrthogonalEdges) -> None:
    """Add a point on the left of a strand, as wide as its title, so that no wire that leaves the frame crosses it."""
    for frame in edges.scene.clusters.values():
        leaving = [w.src.card for w in edges.scene.wires if _leaves(edges, w, frame.id)] if frame.strand else []
        wide = LETTER * len(frame.name) - PILL / 2
        if leaving and wide > THIN:
            corner = edges.bend(leaving[0], frame.id, f"{frame.id}-name", "transparent", wide)
            edges.piece(corner, leaving[0], UNSEEN)


def _leaves(edges: OrthogonalEdges, wire: Wire, frame: str) -> bool:
    cards = edges.scene.cards
    return cards[wire.src.card].cluster == frame != cards[wire.dst.card].cluster
