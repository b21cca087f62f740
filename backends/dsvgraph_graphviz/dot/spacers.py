"""Room in frames: unseen lines and points that keep graphviz from bending wires and from crossing names."""

from __future__ import annotations

from dsvgraph_graphviz.dot.rails import THIN, Rails
from dsvgraph_graphviz.scene.parts import Cluster, Wire

LETTER, CARD, CIRCLE, NEAR = 0.105, 0.8, 0.14, 0.5  # inches: a letter of a name, half a card, what lies between
PILL = 1.6  # inches
UNSEEN = {"style": "invis"}


def keep_room(rails: Rails) -> None:
    """Adds what is unseen to the points and pieces of ``rails``."""
    _fences(rails)
    _doorways(rails)


def _fences(rails: Rails) -> None:
    """An unseen line along the right of every frame that lies in another frame or beside the model.

    Graphviz bends a wire with a label to the left where its neighbour on the right is of an outer
    frame. The upper end of the line keeps the room free that the frame's name takes.
    """
    clusters = rails.scene.clusters
    for frame in clusters.values():
        inner = frame.parent and (clusters[frame.parent].parent or frame.parent in rails.lanes)
        cards = (card.id for card in rails.scene.cards.values() if card.cluster == frame.id)
        names = sorted(cards, key=lambda name: (rails.heights[name], name in rails.row))
        railed = rails.right.keys() & names and not frame.on_the_right
        if (inner or frame.aside) and len(names) > 1 and not railed:
            _fence(rails, frame, names[0], names[-1])


def _fence(rails: Rails, frame: Cluster, low: str, high: str) -> None:
    group = f"{frame.id}-fence"
    a = rails.point(low, frame.id, group, "transparent")
    b = rails.point(high, frame.id, group, "transparent", _room(rails, frame, high))
    for tail, head in ((rails.right.get(low, low), a), (a, b), (rails.right.get(high, high), b)):
        rails.piece(tail, head, UNSEEN)


def _room(rails: Rails, frame: Cluster, card: str) -> float:
    """How wide a name on the right is beyond the card below it."""
    beside = CIRCLE if rails.scene.cards[card].shape == "circle" else CARD
    return max(THIN, LETTER * len(frame.name) - beside - NEAR) if frame.on_the_right else THIN


def _doorways(rails: Rails) -> None:
    """Room on the left for the name of a strand, so that what leaves the frame does not cross it."""
    for frame in rails.scene.clusters.values():
        leaving = [w.src.card for w in rails.scene.wires if _leaves(rails, w, frame.id)] if frame.strand else []
        wide = LETTER * len(frame.name) - PILL / 2
        if leaving and wide > THIN:
            corner = rails.point(leaving[0], frame.id, f"{frame.id}-name", "transparent", wide)
            rails.piece(corner, leaving[0], UNSEEN)


def _leaves(rails: Rails, wire: Wire, frame: str) -> bool:
    cards = rails.scene.cards
    return cards[wire.src.card].cluster == frame != cards[wire.dst.card].cluster
