"""textDocument/publishDiagnostics: the diagnostics of a check, by the file in which they are shown."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from dsvgraph.errors import Diagnostic, Fix, Span, clipped, printable
from dsvgraph_lsp.workspace import Document, file_of


@dataclass(frozen=True, kw_only=True)
class FileDiagnostic:
    """A message at a span of one file (None: at its beginning), with related places in any file."""

    span: Span | None
    message: str
    severity: str
    related: tuple[tuple[str, Span], ...] = ()
    code: str = ""
    fix: Fix | None = None


def diagnostics(document: Document) -> Iterator[FileDiagnostic]:
    """Yield what is shown in the checked file itself.

    An error in another file is shown at the line of this one that calls or includes it.
    """
    for found in document.diagnostics:
        span = found.span
        if span is None or file_of(span.source) == document.path:
            yield _own(found)
        elif file_of(span.source) in document.dependencies and found.severity == "error":
            notes = [s for _, s in found.notes if s and file_of(s.source) == document.path]
            yield _elsewhere(found, span, notes[-1] if notes else document.dependencies[file_of(span.source)])


def diagnostics_in(document: Document, path: Path) -> Iterator[FileDiagnostic]:
    """Yield what the check of ``document`` found in ``path``, another file that it reads."""
    for found in document.diagnostics:
        if found.span and file_of(found.span.source) == path:
            yield _own(found)


def _own(found: Diagnostic) -> FileDiagnostic:
    return FileDiagnostic(
        span=found.span,
        message=_message(found),
        severity=found.severity,
        related=_related(found),
        code=found.code or "",
        fix=found.fix,
    )


def _elsewhere(found: Diagnostic, there: Span, here: Span) -> FileDiagnostic:
    """Return a diagnostic of another file, at ``there``, as it is shown at ``here``."""
    return FileDiagnostic(
        span=here,
        message=f"{file_of(there.source).name}:{there.line}: {_message(found)}",
        severity=found.severity,
        related=((_printed(found.message), there), *_related(found)),
        code=found.code or "",
    )


def _message(found: Diagnostic) -> str:
    """Return the message with its path, the notes that have no place, and the hint, one a line."""
    notes = [f"note: {_printed(words)}" for words, span in found.notes if span is None]
    path = [f"in: {_printed(found.path)}"] if found.path else []
    help_ = [f"help: {_printed(found.hint)}"] if found.hint else []
    return "\n".join([_printed(found.message), *path, *notes, *help_])


def _related(found: Diagnostic) -> tuple[tuple[str, Span], ...]:
    return tuple((_printed(words), span) for words, span in found.labels if span and Path(span.source.name).exists())


def _printed(text: str) -> str:
    return clipped(printable(text))
