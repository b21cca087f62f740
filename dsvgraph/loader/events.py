"""What a YAML text consists of, one event after the other, as ruamel.yaml reads it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from enum import StrEnum
from typing import Any, NamedTuple

from ruamel.yaml import events as ruamel


class EventKind(StrEnum):
    """What an event says: that something begins or ends, or a scalar or an alias."""

    DOCUMENT = "document"
    MAPPING = "mapping"
    LIST = "list"
    END = "end"
    SCALAR = "scalar"
    ALIAS = "alias"


class Event(NamedTuple):
    """An event; the line and the column where it stands count from 1."""

    kind: EventKind
    line: int
    column: int
    width: int = 1
    text: str = ""  # of a scalar
    plain: bool = False  # a scalar without quotes
    anchor: str | None = None  # that an alias names, or that names what begins
    tag: str | None = None


END = Event(EventKind.END, 0, 0)  # it says nothing else

KINDS = {
    ruamel.DocumentStartEvent: EventKind.DOCUMENT,
    ruamel.MappingStartEvent: EventKind.MAPPING,
    ruamel.SequenceStartEvent: EventKind.LIST,
    ruamel.MappingEndEvent: EventKind.END,
    ruamel.SequenceEndEvent: EventKind.END,
    ruamel.ScalarEvent: EventKind.SCALAR,
    ruamel.AliasEvent: EventKind.ALIAS,
}


def translated(events: Iterable[Any]) -> Iterator[Event]:
    """Yield the events of ruamel.yaml that say something about the data."""
    for event in events:
        kind = KINDS.get(type(event))
        if kind is EventKind.END:
            yield END
        elif kind is not None:
            yield _translated(kind, event)


def _translated(kind: EventKind, event: Any) -> Event:
    start, end = event.start_mark, event.end_mark
    width = end.column - start.column if end.line == start.line else 1
    tag = getattr(event, "ctag", None) or getattr(event, "tag", None)
    implicit = getattr(event, "implicit", False)
    return Event(
        kind=kind,
        line=start.line + 1,
        column=start.column + 1,
        width=max(1, width),
        text=getattr(event, "value", ""),
        plain=kind is EventKind.SCALAR and (implicit[0] if isinstance(implicit, tuple) else bool(implicit)),
        anchor=getattr(event, "anchor", None),
        tag=str(tag) if tag else None,
    )
