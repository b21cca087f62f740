"""Diagnostics of a check by the file that they are shown in."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from dsvgraph.errors import Diagnostic, Fix, Span, clipped, printable
from dsvgraph_lsp.workspace import Page, place_of


@dataclass(frozen=True)
class Mark:
    """Words at a place of one file (None: at its beginning), and places elsewhere that belong to them."""

    span: Span | None
    words: str
    severity: str
    related: tuple[tuple[str, Span], ...] = ()
    code: str = ""
    fix: Fix | None = None


def marks(page: Page) -> Iterator[Mark]:
    """What a check has to say about its own file.

    An error in a file that this one reads stands where this one calls or includes it.
    """
    for found in page.told:
        span = found.span
        if span is None or place_of(span) == page.path:
            yield _mark(found, span)
        elif place_of(span) in page.files and found.severity == "error":
            notes = [s for _, s in found.notes if s and place_of(s) == page.path]
            yield _abroad(found, span, notes[-1] if notes else page.files[place_of(span)])


def marks_in(page: Page, path: Path) -> Iterator[Mark]:
    """What the check of ``page`` has to say about another file that it reads."""
    for found in page.told:
        if found.span and place_of(found.span) == path:
            yield _mark(found, found.span)


def _mark(found: Diagnostic, span: Span | None) -> Mark:
    return Mark(span, _words(found), found.severity, _related(found), found.code or "", found.fix)


def _abroad(found: Diagnostic, there: Span, here: Span) -> Mark:
    words = f"{place_of(there).name}:{there.line}: {_words(found)}"
    related = ((_printed(found.message), there), *_related(found))
    return Mark(here, words, found.severity, related, found.code or "")


def _words(found: Diagnostic) -> str:
    """The message with the notes that have no place, and what to do."""
    notes = [f"note: {_printed(words)}" for words, span in found.notes if span is None]
    path = [f"in: {_printed(found.path)}"] if found.path else []
    help_ = [f"help: {_printed(found.hint)}"] if found.hint else []
    return "\n".join([_printed(found.message), *path, *notes, *help_])


def _related(found: Diagnostic) -> tuple[tuple[str, Span], ...]:
    return tuple((_printed(words), span) for words, span in found.labels if span and Path(span.source.name).exists())


def _printed(text: str) -> str:
    return clipped(printable(text))
