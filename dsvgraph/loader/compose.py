"""YAML text to plain data with positions: YAML 1.2 scalars, no tags, no code, with limits."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from functools import lru_cache
from typing import Any

from ruamel.yaml.error import MarkedYAMLError, YAMLError

from dsvgraph.codes import Code
from dsvgraph.errors import DsvError, Source, Span, printable
from dsvgraph.loader import regular
from dsvgraph.loader.events import Event, EventKind, translated
from dsvgraph.loader.numbers import bounded
from dsvgraph.loader.scan import MAX_DEPTH, TOO_DEEP, yaml

MAX_BYTES = 150_000
MAX_VALUES = 5_000  # after aliases are followed, as their depth
MAX_ROWS = 10_000

Key = tuple[Any, ...]

BREAK = re.compile(r"\r\n|\n|\r")  # as YAML 1.2 counts lines
MARGIN = re.compile(r"\s*")
HALF = re.compile("[\ud800-\udfff]")
INT = re.compile(r"[-+]?[0-9][0-9_]*\Z")
FLOAT = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?\Z")
HINTS = {  # by a part of the parser's words
    "'['": 'inside braces and lists, quote what holds a bracket: {ids: "int[B, T]"}',
    "mapping values are not allowed": "quote a value that holds a colon, and look at the indentation",
    "cannot start any token": "quote a value that begins with a sign",
    "but got '{' after $": "names of config values stand bare: hidden_size, and not ${hidden_size}",
    "could not find expected ':'": "this needs a colon: `name: value`",
    "but found '-'": "the lines above are a mapping, `- ` begins an item of a list: remove it",
    "but found '<scalar>'": "look for quotes that are left open above",
    "expected '<document start>'": "is there a colon after each key above?",
    "expected <block end>": "this line begins in another column than those it belongs to",
    "parsing a flow mapping": "close the braces, or look for a missing comma",
    "parsing a flow sequence": "close the bracket, or look for a missing comma",
    "scanning a quoted scalar": "close the quotes",
}
TABS = "indent with spaces, never with tabs"
BEGINNINGS = ("scanning a simple key", "scanning a quoted scalar")  # what is wrong is where this began
CONSTANTS = {"true": True, "false": False, "null": None, "~": None, "": None}


@dataclass(eq=False)
class Doc:
    """A text as data, and where each key and value of it stands."""

    source: Source
    data: Any
    keys: dict[Key, Span] = field(default_factory=dict, repr=False)
    values: dict[Key, Span] = field(default_factory=dict, repr=False)
    aliases: dict[Key, Key] = field(default_factory=dict, repr=False)  # what stands there by `*name` or `<<`

    def key(self, *path: Any) -> Span | None:
        """Return where the key at ``path`` stands (for a list item, the item)."""
        return self.keys.get(path) or self._behind(self.keys, path) or self.value(*path)

    def value(self, *path: Any) -> Span | None:
        """Return where the value at ``path`` stands, or the nearest thing that encloses it."""
        while path not in self.values and path:
            found = self._behind(self.values, path)
            if found:
                return found
            path = path[:-1]
        return self.values.get(path)

    def _behind(self, places: dict[Key, Span], path: Key) -> Span | None:
        """Return the alias that gives what is at ``path``, with the place where that was written."""
        alias: Span | None = None
        for _ in range(MAX_DEPTH):
            end = next((n for n in range(1, len(path) + 1) if path[:n] in self.aliases), None)
            if end is None:
                break
            alias = alias or self.values.get(path[:end])
            path = self.aliases[path[:end]] + path[end:]
        written = places.get(path)
        return replace(alias, written=written) if alias and written else written if alias else None


def parse(text: str, name: str = "<spec>") -> Doc:
    """Parse YAML text; raise DsvError at file:line:col."""
    if len(text) > MAX_BYTES:
        raise DsvError(f"`{name}` is larger than {MAX_BYTES:,} bytes, the most a spec may have", code=Code.TEXT_LIMIT)
    if text.count("\n") > MAX_ROWS:
        raise DsvError(f"`{name}` has more than {MAX_ROWS:,} lines, the most a spec may have", code=Code.TEXT_LIMIT)
    return _composed(text, name)


@lru_cache(maxsize=64)
def _composed(text: str, name: str) -> Doc:
    """Return the text as data; nobody changes a Doc, so equal texts share one."""
    source = Source(name, tuple(BREAK.split(text)))
    doc = Doc(source, None)
    try:
        _Composer(doc).run(regular.events(text) or translated(yaml().parse(text)))
    except MarkedYAMLError as error:
        raise _yaml_error(source, error) from None
    except (YAMLError, ValueError, AssertionError) as error:  # the last for `%YAML 1.0`
        raise DsvError(
            f"this is not YAML: {str(error).splitlines()[0]}", _special(source), code=Code.NOT_YAML
        ) from None
    doc.values.setdefault((), Span(source, 1, 1))
    return doc


def _yaml_error(source: Source, error: MarkedYAMLError) -> DsvError:
    if error.problem == TOO_DEEP:
        return DsvError(TOO_DEEP, _mark(source, error.problem_mark), code=Code.TEXT_LIMIT)
    words = " ".join(p for p in (error.context, error.problem) if p)
    first, last = (_mark(source, mark) for mark in (error.context_mark, error.problem_mark))
    span = first if first and any(part in words for part in BEGINNINGS) else last or first
    notes = [("opened here", first)] if first and last and first.line < last.line and "a flow" in words else []
    before = source.line(last.line)[: last.column - 1][-1:] if last else ""
    hint = next((hint for part, hint in HINTS.items() if part in f"{words} after {before}"), "")
    if last and "\t" in MARGIN.match(source.line(last.line))[0]:  # type: ignore[index]
        hint = TABS
    return DsvError(f"this is not YAML: {words}", span, code=Code.NOT_YAML, notes=notes, hint=hint)


def _mark(source: Source, mark: Any) -> Span | None:
    return Span(source, mark.line + 1, mark.column + 1) if mark else None


def _special(source: Source) -> Span:
    """Return where the first character stands that YAML does not allow."""
    for number, line in enumerate(source.lines, 1):
        for column, char in enumerate(line, 1):
            if printable(char) != char and char != "\t":
                return Span(source, number, column)
    return Span(source, 1, 1)


@dataclass
class _Open:
    """A mapping or a list that is being read."""

    path: Key
    value: Any
    key: Any = None
    depth: int = 1  # of what it holds
    merges: list[tuple[Key, Any]] = field(default_factory=list)


class _Composer:
    """Builds data from parser events, so that nothing recurses and every limit is ours."""

    def __init__(self, doc: Doc) -> None:
        self.doc = doc
        self.stack: list[_Open] = []
        self.anchors: dict[str, tuple[Any, int, int, Key]] = {}  # value, number of values, depth, path
        self.names: list[tuple[str, int, int]] = []  # open anchors: name, depth, count before
        self.count = 0
        self.documents = 0

    def run(self, events: Iterable[Event]) -> None:
        for event in events:
            if event.kind is EventKind.SCALAR:
                self.scalar(event)
            elif event.kind is EventKind.END:
                self.close()
            elif event.kind is EventKind.ALIAS:
                self.alias(event)
            elif event.kind is EventKind.DOCUMENT:
                self.documents += 1
                if self.documents > 1:
                    raise DsvError("a file holds one document", self.span(event), code=Code.SECOND_DOCUMENT)
            else:
                self.open(event)

    def span(self, event: Event) -> Span:
        return Span(self.doc.source, event.line, event.column, event.width)

    def untagged(self, event: Event) -> None:
        if event.tag is not None:
            words = f"tags such as `{event.tag}` have no place in a spec"
            raise DsvError(words, self.span(event), code=Code.TAG, hint="remove the tag")

    def path(self) -> Key:
        if not self.stack:
            return ()
        top = self.stack[-1]
        return (*top.path, len(top.value) if isinstance(top.value, list) else top.key)

    def counted(self, event: Event, number: int = 1) -> None:
        self.count += number
        if self.count > MAX_VALUES:
            raise DsvError(
                f"the text holds more than {MAX_VALUES:,} values once its aliases are followed",
                self.span(event),
                code=Code.TEXT_LIMIT,
            )

    def check_depth(self, event: Event, depth: int) -> None:
        if len(self.stack) + depth > MAX_DEPTH:
            raise DsvError(TOO_DEEP, self.span(event), code=Code.TEXT_LIMIT)

    def open(self, event: Event) -> None:
        self.untagged(event)
        self.counted(event)
        if self.wants_key():
            raise DsvError("a key must be a plain word", self.span(event), code=Code.BAD_KEY)
        self.check_depth(event, 1)
        path = self.path()
        self.doc.values.setdefault(path, self.span(event))
        if event.anchor:
            self.names.append((event.anchor, len(self.stack), self.count - 1))
        self.stack.append(_Open(path, {} if event.kind is EventKind.MAPPING else []))

    def close(self) -> None:
        top = self.stack.pop()
        for source, merged in top.merges:
            for key, value in merged.items():
                if key not in top.value:
                    self.merge((*top.path, key), (*source, key))
                    top.value[key] = value
        if self.names and self.names[-1][1] == len(self.stack):
            name, _, before = self.names.pop()
            self.anchors[name] = (top.value, self.count - before, top.depth, top.path)
        self.put(top.value, top.depth)

    def merge(self, path: Key, source: Key) -> None:
        """The key at ``path`` is that of ``source``, in what `<<` merges."""
        self.doc.aliases[path] = source
        for places, found in ((self.doc.keys, self.doc.key(*source)), (self.doc.values, self.doc.value(*source))):
            if found:
                places.setdefault(path, found)

    def wants_key(self) -> bool:
        return bool(self.stack) and isinstance(self.stack[-1].value, dict) and self.stack[-1].key is None

    def scalar(self, event: Event) -> None:
        self.untagged(event)
        if not event.text.isascii() and HALF.search(event.text):  # written "\ud800"
            raise DsvError("half of a surrogate pair is no character", self.span(event), code=Code.NOT_TEXT)
        self.counted(event)
        if self.wants_key():
            self.set_key(event)
            return
        path, span = self.path(), self.span(event)
        value = _resolve(event.text, span) if event.plain else event.text
        key = self.doc.keys.get(path) if event.text == "" else None  # what is not there stands at its key
        self.doc.values.setdefault(path, key or span)
        if event.anchor:
            self.anchors[event.anchor] = (value, 1, 0, path)
        self.put(value)

    def set_key(self, event: Event) -> None:
        top, span = self.stack[-1], self.span(event)
        if not event.text or printable(event.text) != event.text or len(event.text) > 200:
            raise DsvError("a key is a printable word of at most 200 characters", span, code=Code.BAD_KEY)
        if event.text in top.value:
            raise DsvError(
                f"`{event.text}` is given twice",
                span,
                code=Code.GIVEN_TWICE,
                notes=[("first here", self.doc.key(*top.path, event.text))],
            )
        top.key = event.text
        self.doc.keys.setdefault(self.path(), span)

    def alias(self, event: Event) -> None:
        if event.anchor not in self.anchors:
            raise DsvError(f"there is no anchor `&{event.anchor}` before this", self.span(event), code=Code.NO_ANCHOR)
        value, size, depth, source = self.anchors[event.anchor]
        self.counted(event, size)
        self.check_depth(event, depth)
        if self.wants_key():
            raise DsvError("a key must be a plain word", self.span(event), code=Code.BAD_KEY)
        self.doc.values.setdefault(self.path(), self.span(event))
        self.doc.aliases[self.path()] = source
        self.put(value, depth)

    def put(self, value: Any, depth: int = 0) -> None:
        if not self.stack:
            self.doc.data = value
            return
        top = self.stack[-1]
        top.depth = max(top.depth, depth + 1)
        if isinstance(top.value, list):
            top.value.append(value)
            return
        if top.key == "<<":
            path = (*top.path, "<<")
            items = enumerate(value) if isinstance(value, list) else [(None, value)]
            top.merges += [(path if i is None else (*path, i), v) for i, v in items]
            if not all(isinstance(v, dict) for _, v in top.merges):
                raise DsvError("`<<` merges mappings", self.doc.value(*top.path, "<<"), code=Code.BAD_MERGE)
        else:
            top.value[top.key] = value
        top.key = None


def _resolve(text: str, span: Span) -> Any:
    """Return a plain scalar by YAML 1.2's core schema: `no` is a word, `1e-6` a number."""
    if text.lower() in CONSTANTS and text in (text.lower(), text.upper(), text.capitalize()):
        return CONSTANTS[text.lower()]
    if INT.match(text):
        if len(text) > 40:
            raise DsvError("a number has at most 40 digits", span, code=Code.NUMBER_LIMIT)
        return bounded(int(text), text, span)
    return bounded(float(text), text, span) if FLOAT.match(text) and len(text) <= 60 else text
