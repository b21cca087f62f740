"""A config.json as data with the span of each value, so that errors point into the file."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NoReturn

from dsvgraph import loader
from dsvgraph.errors import Diagnostic, DsvError, Source, Span, clipped
from dsvgraph.files import opened
from dsvgraph.loader import MAX_BYTES, Doc
from dsvgraph.names import nearest

NAME = "config.json"
HASH = re.compile(r"[0-9a-f]{40}$")
KEY = re.compile(r'"(\w+)"\s*:\s*(?:\[[^\]"]*)?$')  # before a value, or in a list of numbers
DIGITS = 4000  # of a whole number that Python reads; the loader says which are too many


@dataclass(frozen=True)
class ConfigFile:
    """The data of a config.json, the span of each value, and the name of the model."""

    data: dict[str, Any]
    doc: Doc
    name: str

    def span(self, *path: Any) -> Span | None:
        """Return the span of the value at ``path``; that of the whole file for a value that is not in it."""
        return self.doc.value(*path)

    def error(self, field: str, message: str, hint: str = "", *below: Any) -> DsvError:
        """Return an error at the value of ``field``, or at that of the keys ``below`` it."""
        return DsvError(message, self.span(field, *below), hint=hint)


def read(path: Path) -> ConfigFile:
    """Read a config.json, or that of a model folder. Raise DsvError if there is none or it cannot be read."""
    file = path / NAME if path.is_dir() else path
    if path.is_dir() and not file.is_file():
        raise DsvError(f"there is no {NAME} in {path}")
    return parse(_text(file), str(file), _model_name(file))


def parse(text: str, shown: str = NAME, name: str = "") -> ConfigFile:
    """Parse the text of a config.json. Raise DsvError at its line and column if it is not a JSON object."""
    try:
        data = json.loads(text, parse_constant=_refuse_constant, parse_int=parse_int)
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
        return ConfigFile(data, loader.parse(text.replace("\t", " "), shown), name)  # JSON is YAML, tabs apart
    except DsvError as error:
        error.diagnostics = tuple(map(_with_field_name, error.diagnostics))
        raise


def from_dict(data: dict[str, Any], name: str = "") -> ConfigFile:
    """Return a config that is in no file; its errors have no place."""
    return ConfigFile(data, Doc(Source(NAME, ()), data), name)


def unknown_field(config: ConfigFile, field: str, known: list[str]) -> NoReturn:
    """Raise the error for an attribute that is not known, with the nearest of ``known``."""
    hint = nearest(field, known) or "remove it if it does not change the model"
    raise DsvError(f"`{field}` is no attribute that is known", config.doc.key(field), hint=hint)


def shown(value: Any, quoted: bool = False) -> str:
    """Return a value as JSON, cut to 60 characters; a string without its quotes, unless ``quoted``.

    >>> shown(None), shown("32"), shown("32", quoted=True), shown({"a": True})
    ('null', '32', '"32"', '{"a": true}')
    """
    return clipped(value if isinstance(value, str) and not quoted else json.dumps(value, ensure_ascii=False), 60)


def _with_field_name(diagnostic: Diagnostic) -> Diagnostic:
    """Return an error of the loader at a value with the name of its field."""
    if (span := diagnostic.span) is None:
        return diagnostic
    key = KEY.search(span.source.lines[span.line - 1][: span.column - 1])
    return replace(diagnostic, message=f"`{key[1]}`: {diagnostic.message}") if key else diagnostic


def _refuse_constant(word: str) -> NoReturn:
    raise ValueError(f"`{word}` is no number")


def parse_int(word: str) -> int:
    """Return an integer of JSON; of too many digits for Python, the first are read."""
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


def _model_name(file: Path) -> str:
    """Return the name of the model, cut to the 100 characters that a spec's name may have."""
    return "".join(c for c in _folder_name(file) if c.isprintable())[:100].strip()


def _folder_name(file: Path) -> str:
    """Return the name of the model's folder, of its repository in a download cache, or of the file."""
    if file.name != NAME:
        return file.stem
    folder = file.resolve().parent
    if HASH.match(folder.name) and folder.parent.name == "snapshots":
        return folder.parents[1].name.rpartition("--")[2]
    return folder.name
