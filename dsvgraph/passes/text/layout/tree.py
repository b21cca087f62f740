"""YAML text as a tree that keeps what data forgets: comments, blank lines, braces, anchors."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from ruamel.yaml.events import (
    AliasEvent,
    Event,
    MappingEndEvent,
    MappingStartEvent,
    ScalarEvent,
    SequenceEndEvent,
)
from ruamel.yaml.tokens import AliasToken, AnchorToken, ScalarToken

from dsvgraph.loader.scan import yaml

Position = tuple[int, int]  # line and column, from 0

ENDS = re.compile("[\x85\u2028\u2029]")
AROUND = ("StreamStartEvent", "StreamEndEvent", "DocumentStartEvent", "DocumentEndEvent")


class TreeKind(StrEnum):
    """What a tree is."""

    SCALAR = "scalar"
    ALIAS = "alias"
    MAPPING = "mapping"
    LIST = "list"


@dataclass(eq=False)
class Tree:
    """A scalar (``text``, ``style``), an alias (``text``), or a mapping or list with ``items``."""

    kind: TreeKind
    start: Position
    end: Position = (0, 0)
    text: str = ""
    style: str = ""  # of a scalar: "" plain, otherwise its first character
    flow: bool = False
    anchor: str = ""
    items: list[Item] = field(default_factory=list)
    below: list[str] = field(default_factory=list)  # comments after the last item

    @property
    def commented(self) -> bool:
        """Whether a comment or a blank line stands inside."""
        return bool(self.below) or any(i.above or i.beside or i.value.commented for i in self.items)


@dataclass(eq=False)
class Item:
    """A key and its value (a list's item has no key), the comments above and the one beside."""

    key: Tree | None
    value: Tree
    parent: Tree
    above: list[str] = field(default_factory=list)  # "" is a blank line
    beside: str = ""

    @property
    def start(self) -> Position:
        return self.key.start if self.key else self.value.start

    @property
    def column(self) -> int:
        """Where it begins: at its dash, in a list that is opened."""
        if self.key or self.parent.flow:
            return self.start[1]
        return self.value.start[1] - 2 if self.parent.anchor else self.parent.start[1]


def tree(text: str) -> Tree | None:
    """Return the tree of a text that the loader has accepted, with Unix line ends; nothing where it is empty."""
    events = [e for e in yaml().parse(text) if type(e).__name__ not in AROUND]
    if not events:
        return None
    reader = _Reader(events)
    root = reader.value(None)
    _hang(text, reader.items, root)
    return root


class _Reader:
    """Events to a tree; the loader has limited its depth. ``items`` are in the order of the text."""

    def __init__(self, events: list[Event]) -> None:
        self.events = iter(events)
        self.items: list[tuple[Item, list[Item]]] = []  # with what they stand in
        self.open: list[Item] = []

    def value(self, event: Any) -> Tree:
        event = event or next(self.events)
        start, end = _position(event.start_mark), _position(event.end_mark)
        anchor = getattr(event, "anchor", None) or ""
        if isinstance(event, AliasEvent):
            return Tree(TreeKind.ALIAS, start, end, anchor)
        if isinstance(event, ScalarEvent):
            return Tree(TreeKind.SCALAR, start, end, text=event.value, style=event.style or "", anchor=anchor)
        kind = TreeKind.MAPPING if isinstance(event, MappingStartEvent) else TreeKind.LIST
        found = Tree(kind, start, flow=bool(event.flow_style), anchor=anchor)
        while not isinstance(event := next(self.events), (MappingEndEvent, SequenceEndEvent)):
            found.items.append(self.item(found, event))
        found.end = _position(event.end_mark)
        return found

    def item(self, parent: Tree, event: Event) -> Item:
        key = self.value(event) if parent.kind is TreeKind.MAPPING else None
        found = Item(key, parent, parent)
        self.items.append((found, list(self.open)))
        self.open.append(found)
        found.value = self.value(None if key else event)
        self.open.pop()
        return found


def _position(mark: Any) -> Position:
    return int(mark.line), int(mark.column)


def _hang(text: str, items: list[tuple[Item, list[Item]]], root: Tree) -> None:
    """Attach every comment and blank line onto an item: beside it, above it, or below the last."""
    signs, inside = _texts(text)
    blank: list[str] = []
    at = 0
    for number, line in enumerate(text.split("\n")):
        column = next((c for c, char in enumerate(line) if char == "#" and at + c not in signs), None)
        at += len(line) + 1
        if column is None:
            blank = _after(blank, items, number) if line.strip() or number in inside else [""]
        elif line[:column].strip() and items and items[0][0].start < (number, column):
            blank = _after(blank, items, number)
            _put_beside(_beside(items, (number, column)), _comment(line[column:]))
        else:
            _alone(items, root, (number, column)).extend([*blank, _comment(line[column:])])
            blank = []


def _comment(text: str) -> str:
    """Return a comment, as far as the parser takes it for one."""
    return ENDS.split(text)[0].rstrip()


def _put_beside(item: Item, comment: str) -> None:
    """Only one has room beside an item: what stood on its first line goes above."""
    if item.beside:
        item.above.append(item.beside)
    item.beside = comment


def _after(blank: list[str], items: list[tuple[Item, list[Item]]], number: int) -> list[str]:
    """Attach a blank line above the item that begins on the line after it."""
    if blank:
        item = next((item for item, _ in items if item.start[0] >= number), None)
        if item and item.start[0] == number and item is not items[0][0]:
            item.above.extend(blank)
    return []


def _texts(text: str) -> tuple[set[int], set[int]]:
    """Return the places of each `#` that begins no comment, and the lines that are inside a text of several."""
    signs: set[int] = set()
    inside: set[int] = set()
    for token in yaml().scan(text):
        if isinstance(token, (ScalarToken, AnchorToken, AliasToken)):
            start, end = token.start_mark.index, token.end_mark.index
            if getattr(token, "style", None) in ("|", ">"):  # blank lines at its end are those of the page
                start, end = text.index("\n", start), start + len(text[start:end].rstrip())
            signs.update(place for place in range(start, end) if text[place] == "#")
            first = text.count("\n", 0, start)
            inside.update(range(first + 1, first + 1 + text.count("\n", start, end)))
    return signs, inside


def _beside(items: list[tuple[Item, list[Item]]], place: Position) -> Item:
    """Return the item of a comment at the end of a line: the last begun, or the braces that closed since."""
    item, around = [entry for entry in items if entry[0].start < place][-1]
    closed = (a for a in around if a.value.flow and a.value.end <= place)
    return next(closed, item)


def _alone(items: list[tuple[Item, list[Item]]], root: Tree, place: Position) -> list[str]:
    """Return where a comment on its own line belongs: above the next item, or below the last of a mapping."""
    before = [entry for entry in items if entry[0].start < place]
    after = next((item for item, _ in items if item.start > place), None)
    column = after.column if after else 0
    if before and place[1] > column:
        item, around = before[-1]
        inside = [i.parent for i in [item, *reversed(around)] if column < i.column <= place[1]]
        if inside:
            return inside[0].below
    return after.above if after else root.below
