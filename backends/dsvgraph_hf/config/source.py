"""A config.json as data with positions, and errors that point into it."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NoReturn

from dsvgraph import loader
from dsvgraph.errors import Diagnostic, DsvError, Source, Span, clipped, nearest
from dsvgraph.files import opened
from dsvgraph.loader import MAX_BYTES, Doc

NAME = "config.json"
HASH = re.compile(r"[0-9a-f]{40}$")
KEY = re.compile(r'"(\w+)"\s*:\s*(?:\[[^\]"]*)?$')  # before a value, or in a list of numbers
DIGITS = 4000  # of a whole number that Python reads; the loader says which are too many


@dataclass(frozen=True)
class Config:
    """What a config.json says, where each value stands, and what the model is called."""

    data: dict[str, Any]
    doc: Doc
    name: str

    def span(self, *path: Any) -> Span | None:
        """Where the value at ``path`` stands; the whole for what the file does not say."""
        return self.doc.value(*path)

    def fault(self, field: str, words: str, hint: str = "", *below: Any) -> DsvError:
        """The error that ``field`` (or what is ``below`` it) is wrong."""
        return DsvError(words, self.span(field, *below), hint=hint)


def read(path: Path) -> Config:
    """Reads a config.json, or that of a model folder; raises DsvError where it is none."""
    file = path / NAME if path.is_dir() else path
    if path.is_dir() and not file.is_file():
        raise DsvError(f"there is no {NAME} in {path}")
    return parse(_text(file), str(file), _called(file))


def parse(text: str, shown: str = NAME, name: str = "") -> Config:
    """The text of a config.json; raises DsvError at file:line:col where it is not a JSON object."""
    try:
        data = json.loads(text, parse_constant=_no_number, parse_int=whole)
    except RecursionError:
        raise DsvError(f"{shown}: values nest too deep") from None
    except json.JSONDecodeError as error:
        lines = tuple(text.splitlines())
        span = Span(Source(shown, lines), error.lineno, error.colno)
        raise DsvError(f"this is not JSON: {error.msg}", span) from None
    except ValueError as error:
        raise DsvError(f"{shown}: this is not JSON: {error}") from None
    if not isinstance(data, dict):
        raise DsvError(f"{shown}: a config is a JSON object {{...}}")
    try:
        return Config(data, loader.parse(text.replace("\t", " "), shown), name)  # JSON is YAML, tabs apart
    except DsvError as error:
        error.diagnostics = tuple(map(_told, error.diagnostics))
        raise


def of(data: dict[str, Any], name: str = "") -> Config:
    """A config that stands in no file, so that its mistakes stand nowhere."""
    return Config(data, Doc(Source(NAME, ()), data), name)


def unknown(config: Config, field: str, known: list[str]) -> NoReturn:
    """Raises the error for an attribute that nobody knows."""
    hint = nearest(field, known) or "remove it if it does not change the model"
    raise DsvError(f"`{field}` is no attribute that is known", config.doc.key(field), hint=hint)


def shown(value: Any, quoted: bool = False) -> str:
    """A value as the file has it, cut short; a text without its marks, unless ``quoted`` tells it from a number.

    >>> shown(None), shown("32"), shown("32", quoted=True), shown({"a": True})
    ('null', '32', '"32"', '{"a": true}')
    """
    return clipped(value if isinstance(value, str) and not quoted else json.dumps(value, ensure_ascii=False), 60)


def _told(diagnostic: Diagnostic) -> Diagnostic:
    """What the loader finds wrong with a value, with the name of the value."""
    if (span := diagnostic.span) is None:
        return diagnostic
    key = KEY.search(span.source.lines[span.line - 1][: span.column - 1])
    return replace(diagnostic, message=f"`{key[1]}`: {diagnostic.message}") if key else diagnostic


def _no_number(word: str) -> NoReturn:
    raise ValueError(f"`{word}` is no number")


def whole(word: str) -> int:
    """An integer of JSON, of its first digits where there are more than Python reads."""
    return int(word[:DIGITS])


def _text(file: Path) -> str:
    if not file.exists():
        raise DsvError(f"there is no file {file}")
    try:
        with opened(file) as stream:
            raw = stream.read(MAX_BYTES + 1)
    except OSError as error:
        raise DsvError(f"{file} cannot be read: {error.strerror}") from None
    if len(raw) > MAX_BYTES:
        raise DsvError(f"{file} is larger than {MAX_BYTES:,} bytes, the most a config may have")
    try:
        return raw.decode("utf-8")
    except UnicodeDecodeError as error:
        raise DsvError(f"{file} is not UTF-8 text (byte {error.start})") from None


def _called(file: Path) -> str:
    """What the model is called, in the 100 letters that a spec's name may have."""
    return "".join(c for c in _named(file) if c.isprintable())[:100].strip()


def _named(file: Path) -> str:
    """The folder, its repository in a download cache, or the file."""
    if file.name != NAME:
        return file.stem
    folder = file.resolve().parent
    if HASH.match(folder.name) and folder.parent.name == "snapshots":
        return folder.parents[1].name.rpartition("--")[2]
    return folder.name
