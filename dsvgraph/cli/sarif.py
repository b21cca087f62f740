"""Diagnostics as SARIF 2.1.0 (OASIS), which code hosts show beside the lines of a change."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any
from urllib.parse import quote

from dsvgraph import __version__
from dsvgraph.codes.stories import stories
from dsvgraph.errors import Diagnostic, Span, clipped, printable

SCHEMA = "https://json.schemastore.org/sarif-2.1.0.json"


def sarif(found: Iterable[Diagnostic]) -> dict[str, Any]:
    """Return the log of one run; columns count code points, as in our messages."""
    found = list(found)
    rules = sorted({str(d.code) for d in found if d.code})
    driver = {"name": "dsvgraph", "version": __version__, "rules": [_rule(code) for code in rules]}
    run = {
        "tool": {"driver": driver},
        "columnKind": "unicodeCodePoints",
        "results": [_result(d, rules) for d in found],
    }
    return {"$schema": SCHEMA, "version": "2.1.0", "runs": [run]}


def _rule(code: str) -> dict[str, Any]:
    story = stories()[code]
    return {"id": code, "shortDescription": _text(story.title), "fullDescription": _text(story.words)}


def _result(d: Diagnostic, rules: list[str]) -> dict[str, Any]:
    notes = [words for words, span in d.labels if not _is_file(span)]
    result: dict[str, Any] = {
        "level": d.severity,
        "message": _text("\n".join([d.message, *notes, *([f"help: {d.hint}"] if d.hint else [])])),
    }
    if d.code:
        result |= {"ruleId": str(d.code), "ruleIndex": rules.index(str(d.code))}
    if d.span and _is_file(d.span):
        result["locations"] = [_location(d.span, d.path)]
    related = [(words, span) for words, span in d.labels if span and _is_file(span)]
    if related:
        result["relatedLocations"] = [_location(span) | {"message": _text(words)} for words, span in related]
    if d.fix and _is_file(d.fix.span):
        result["fixes"] = [_fix(d)]
    return result


def _is_file(span: Span | None) -> bool:
    """Whether a place is in a file, and not in `--set` or a text in memory."""
    return span is not None and Path(span.source.name).is_file()


def _location(span: Span, path: str = "") -> dict[str, Any]:
    physical = {"artifactLocation": _artifact(span), "region": _region(span)}
    found: dict[str, Any] = {"physicalLocation": physical}
    if path:
        found["logicalLocations"] = [{"fullyQualifiedName": printable(path)}]
    return found


def _artifact(span: Span) -> dict[str, str]:
    """Return the URI of the file, relative if its path is."""
    path = Path(span.source.name)
    return {"uri": path.as_uri() if path.is_absolute() else quote(path.as_posix())}


def _region(span: Span) -> dict[str, int]:
    return {
        "startLine": span.line,
        "startColumn": span.column,
        "endLine": span.line,
        "endColumn": span.column + span.width,
    }


def _fix(d: Diagnostic) -> dict[str, Any]:
    assert d.fix
    replacement = {"deletedRegion": _region(d.fix.span), "insertedContent": {"text": d.fix.text}}
    change = {"artifactLocation": _artifact(d.fix.span), "replacements": [replacement]}
    return {"description": _text(f"write `{d.fix.text}`"), "artifactChanges": [change]}


def _text(words: str) -> dict[str, str]:
    return {"text": "\n".join(clipped(printable(line), 1000) for line in words.splitlines())}
