"""The scene as Mermaid's text, for places that draw it themselves (Markdown on GitHub, notebooks, wikis)."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from html import unescape

from dsvgraph.errors import printable
from dsvgraph_graphviz.scene.parts import Card, CardShape, Scene, Wire, WireKind
from dsvgraph_graphviz.style import theme
from dsvgraph_graphviz.style.theme import Role
from dsvgraph_graphviz.text.losses import Term

ARROWS = {
    WireKind.FLOW: "-->", WireKind.HANDED: "==>", WireKind.SHARED: "-.-", WireKind.ENTERING: "-.-",
    WireKind.GONE: "-.->",
}  # fmt: skip
CELL = re.compile(r"<td[^>]*>((?:(?!</?t[dr]\b|</?table).)*)</td>")
ROW = re.compile(r"</tr>")
OUTLINES = {CardShape.CIRCLE: ("((", "))"), CardShape.TEXT: ("([", "])"), CardShape.CARD: ("[", "]")}


def mermaid(scene: Scene, direction: str, title: str, terms: list[Term], formula: str) -> str:
    """Return a flowchart: frames as subgraphs, cards with their words, wires with their shapes."""
    ids = {name: f"n{i}" for i, name in enumerate(scene.cards)}
    roles = sorted({card.role for card in scene.cards.values()})
    lines = ["---", f"title: {_title(title)}", "---", f"flowchart {direction}"]
    lines += [
        line for frame in scene.clusters if not scene.clusters[frame].parent for line in _frame(scene, frame, ids)
    ]
    lines += [f"  {_wire(wire, ids)}" for wire in scene.wires]
    if terms:
        lines.append(f'  sum["{escaped(formula)}"]:::loss')
        lines += [f'  {ids[term.card]} -->|"{escaped("× " + term.weight)}"| sum' for term in terms]
        roles = sorted({*roles, Role.LOSS})
    return "\n".join([*lines, *map(_style, roles)]) + "\n"


def _frame(scene: Scene, name: str, ids: dict[str, str]) -> Iterator[str]:
    frame = scene.clusters[name]
    cards = [card for card in scene.cards.values() if card.cluster == name]
    inner = [child for child, cluster in scene.clusters.items() if cluster.parent == name]
    if frame.name:
        yield f'  subgraph f{list(scene.clusters).index(name)}["{escaped(frame.name)}"]'
    yield from (f"    {_card(card, ids[card.id])}" for card in cards)
    for child in inner:
        yield from _frame(scene, child, ids)
    if frame.name:
        yield "  end"


def _card(card: Card, id_: str) -> str:
    opening, closing = OUTLINES[card.shape]
    first, *rest = spoken(card.label) or [card.id]
    first = f"<b>{escaped(first)}</b>" if card.shape is CardShape.CARD else escaped(first)
    text = "<br>".join([first, *map(escaped, rest)])
    return f'{id_}{opening}"{text}"{closing}:::{card.role.value}'


def _wire(wire: Wire, ids: dict[str, str]) -> str:
    named = wire.kind in (WireKind.HANDED, WireKind.GONE)
    text = wire.label if wire.kind is WireKind.FLOW else wire.name if named else ""
    words = f'|"{escaped(text)}"|' if text else ""
    return f"{ids[wire.src.card]} {ARROWS[wire.kind]}{words} {ids[wire.dst.card]}"


def _style(role: Role) -> str:
    hue = theme.HUES[role]
    return f"  classDef {role.value} fill:{hue.fill},stroke:{hue.border},color:{hue.title}"


def spoken(label: str) -> list[str]:
    """Return the words of a label, row by row; a label that is no table is one word."""
    if not label.startswith("<"):
        return [label]
    rows = ([re.sub(r"<[^>]*>", "", words) for words in CELL.findall(row)] for row in ROW.split(label))
    return [" ".join(unescape("  ".join(cells)).split()) for cells in rows if any(c.strip() for c in cells)]


def escaped(text: str) -> str:
    """``text`` between quotes: Mermaid writes marks as entities, and reads directives and formulas anywhere."""
    return "".join(f"#{ord(c)};" if c in '"<>&#;`\\%{}$' else c for c in printable(text))


def _title(text: str) -> str:
    """``text`` as a string of YAML."""
    return json.dumps(printable(text), ensure_ascii=False).replace("%", "\\u0025")
