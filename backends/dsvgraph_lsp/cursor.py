"""The cursor: the path of keys around a position, found in text that may be incomplete or wrong."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Any

Path = tuple[Any, ...]

BREAK = re.compile(r"\r\n|\n|\r")
KEY = re.compile(r"""(\s*)((?:-\s+)?)("[^"]*"|'[^']*'|[^\s#:{}\[\],&*!|>'"%@`][^:#{}\[\],]*?)\s*:(?=\s|$)""")
ITEM = re.compile(r"(\s*)-(?:\s+|$)")
SCALAR = re.compile(r"\s*[|>][-+0-9]*\s*(?:#.*)?$")
WORD_CHAR = re.compile(r"[\w.]")
TOKEN_CHAR = re.compile(r"[^\s,{}\[\]:]")  # of a path or a pattern
NAME = re.compile(r"[A-Za-z_]\w*(?:\.\w*)?", re.ASCII)


@dataclass
class _Level:
    """A mapping or a list that is open at the current position."""

    indent: int  # of a block's keys; -1 inside braces
    kind: str  # { or [
    keys: list[str] = field(default_factory=list)
    key: Any = None  # the key or the number whose value comes next
    pending: str = ""  # what stands before the colon, in braces


@dataclass(frozen=True, kw_only=True)
class Cursor:
    """A position in a text. ``path`` are the keys around it; that of a value ends with the value's own key.

    ``word`` is the word under the cursor, from ``start`` to ``end`` of its line. ``keys_before`` gives, for the path
    of every mapping around the cursor, the keys before it.
    """

    path: Path
    is_key: bool
    row: int
    column: int
    word: str
    start: int
    end: int
    line: str
    keys_before: dict[Path, tuple[str, ...]]

    @property
    def token(self) -> tuple[int, int]:
        """The columns of the file name or pattern under the cursor, with its quotes."""
        return _around(self.line, self.column, TOKEN_CHAR)

    @property
    def prefix(self) -> str:
        """The part of the word before the cursor."""
        return self.line[self.start : self.column]

    @property
    def siblings(self) -> tuple[str, ...]:
        """The keys before the cursor in its own mapping."""
        return self.keys_before.get(self.path if self.is_key else self.path[:-1], ())


def cursor_at(text: str, row: int, column: int) -> Cursor:
    """Return the cursor at a position (from 0, in code points); a position outside of the text is moved into it."""
    lines = BREAK.split(text)
    row = min(max(row, 0), len(lines) - 1)
    line = lines[row]
    column = min(max(column, 0), len(line))
    reader = _Reader()
    for other in lines[:row]:
        reader.line(other)
    path, is_key = reader.last(line, column)
    start, end = _around(line, column, WORD_CHAR)
    return Cursor(
        path=path,
        is_key=is_key,
        row=row,
        column=column,
        word=line[start:end],
        start=start,
        end=end,
        line=line,
        keys_before=reader.keys_before(),
    )


def _around(line: str, column: int, char: re.Pattern[str]) -> tuple[int, int]:
    start = end = column
    while start and char.match(line[start - 1]):
        start -= 1
    while end < len(line) and char.match(line[end]):
        end += 1
    return start, end


class _Reader:
    """Reads lines by indentation, braces and commas, without a YAML parser: the text may be incomplete."""

    def __init__(self) -> None:
        self.blocks: list[_Level] = [_Level(0, "{")]
        self.flow: list[_Level] = []
        self.scalar_indent: int | None = None  # indentation of the key of an open block scalar
        self.quote = ""

    def line(self, line: str) -> None:
        """Read one whole line."""
        if not self._skips(line):
            self._scan(line, self._begin(line), len(line))
            self.quote = ""

    def last(self, line: str, column: int) -> tuple[Path, bool]:
        """Read the line of the cursor up to the cursor; return the path there, and whether a key is expected."""
        if self.scalar_indent is not None and self._skips(line or " " * column):
            return self._path(), False
        key, before = KEY.match(line), line[:column]
        if self._ends_braces(key):
            self.flow = []
        if not self.flow and not ITEM.match(before) and not (key and key.end() <= column):
            return self._parent(len(before) - len(before.lstrip())), True
        self._scan(line[:column], self._begin(line), column)
        if self.flow and self.flow[-1].kind == "{" and self.flow[-1].key is None:
            return self._path()[:-1], True
        return self._path(), False

    # -- blocks by indentation --------------------------------------------------------------

    def _skips(self, line: str) -> bool:
        """Return whether a line is empty, a comment, or part of a block scalar."""
        if not line.strip():
            return True
        indent = len(line) - len(line.lstrip())
        if self.scalar_indent is not None and indent > self.scalar_indent:
            return True
        self.scalar_indent = None
        return line.lstrip().startswith("#") and not self.flow

    def _begin(self, line: str) -> int:
        """Open the keys at the beginning of a line; return the column after them."""
        key = KEY.match(line)
        if self.flow and not self._ends_braces(key):
            return 0
        self.flow = []
        item = ITEM.match(line)
        if item and not key:
            self._item(len(item[1]))
            return item.end()
        if not key:
            return len(line) if self.blocks[-1].key is None else 0
        if key[2]:
            self._item(len(key[1]))
        self._key(len(key[1]) + len(key[2]), key[3].strip("\"'"))
        if SCALAR.match(line[key.end() :]):
            self.scalar_indent = len(key[1])
            return len(line)
        return key.end()

    def _ends_braces(self, key: re.Match[str] | None) -> bool:
        """Return whether a key cannot be in the open braces, by its indentation: they were never closed."""
        return key is not None and len(key[1]) <= self.blocks[-1].indent

    def _close(self, indent: int) -> None:
        while len(self.blocks) > 1 and self.blocks[-1].indent > indent:
            self.blocks.pop()

    def _key(self, indent: int, key: str) -> None:
        self._close(indent)
        if self.blocks[-1].indent < indent or self.blocks[-1].kind == "[":
            self.blocks.append(_Level(indent, "{"))
        self.blocks[-1].key = key
        self.blocks[-1].keys.append(key)

    def _item(self, indent: int) -> None:
        self._close(indent)
        top = self.blocks[-1]
        if top.kind == "[" and top.indent == indent:
            top.key += 1
        else:
            self.blocks.append(_Level(indent, "[", key=0))

    def _parent(self, indent: int) -> Path:
        """Return the path of the mapping to which a key of this indentation belongs."""
        self._close(indent)
        if self.blocks[-1].indent < indent:
            self.blocks.append(_Level(indent, "{"))
        return self._path()[:-1]

    # -- braces -----------------------------------------------------------------------------

    def _scan(self, line: str, start: int, end: int) -> None:
        """Read braces, commas and colons."""
        for i in range(start, end):
            char = line[i]
            if self.quote:
                self.quote = "" if char == self.quote else self.quote
            elif char in "\"'" and not (self.flow[-1].pending if self.flow else line[start:i]).strip():
                self.quote = char
            elif char == "#" and (i == 0 or line[i - 1].isspace()):
                return
            elif char in "{[" and (self.flow or not line[start:i].strip()):
                self.flow.append(_Level(-1, char, key=None if char == "{" else 0))
            elif self.flow:
                self._separator(char, line[i + 1 : i + 2])
            if self.flow and char not in "{[,:}]":
                self.flow[-1].pending += char

    def _separator(self, char: str, after: str) -> None:
        top = self.flow[-1]
        if char in "}]":
            self.flow.pop()
        elif char == ",":
            top.key, top.pending = (None if top.kind == "{" else top.key + 1), ""
        elif char == ":" and top.kind == "{" and top.key is None and (not after or after in " ,}\t"):
            top.key, top.pending = top.pending.strip().strip("\"'"), ""
            top.keys.append(top.key)

    # -- the result -------------------------------------------------------------------------

    def _levels(self) -> list[_Level]:
        return [*self.blocks, *self.flow]

    def _path(self) -> Path:
        return tuple(level.key for level in self._levels())

    def keys_before(self) -> dict[Path, tuple[str, ...]]:
        found: dict[Path, tuple[str, ...]] = {}
        path: Path = ()
        for level in self._levels():
            found[path] = tuple(level.keys)
            path = (*path, level.key)
        return found
