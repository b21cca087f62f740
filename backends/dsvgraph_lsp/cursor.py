"""Where the cursor is: the keys around it, found in text that need not be whole."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Any

Path = tuple[Any, ...]

BREAK = re.compile(r"\r\n|\n|\r")
KEY = re.compile(r"""(\s*)((?:-\s+)?)("[^"]*"|'[^']*'|[^\s#:{}\[\],&*!|>'"%@`][^:#{}\[\],]*?)\s*:(?=\s|$)""")
ITEM = re.compile(r"(\s*)-(?:\s+|$)")
SCALAR = re.compile(r"\s*[|>][-+0-9]*\s*(?:#.*)?$")
WORD = re.compile(r"[\w.]")
TEXT = re.compile(r"[^\s,{}\[\]:]")  # of a path or a pattern
NAME = re.compile(r"[A-Za-z_]\w*(?:\.\w*)?", re.ASCII)


@dataclass
class _Level:
    """A mapping or a list that is open where the reading has come to."""

    indent: int  # of a block's keys; -1 inside braces
    kind: str  # { or [
    keys: list[str] = field(default_factory=list)
    key: Any = None  # the key or the number whose value comes next
    pending: str = ""  # what stands before the colon, in braces


@dataclass(frozen=True)
class Place:
    """A cursor in a text. ``path`` are the keys around it; for a value its own key is the last one.

    ``word`` is what stands under it, from ``start`` to ``end`` of its line; ``above`` tells for every
    mapping around it, by path, the keys that stand before.
    """

    path: Path
    is_key: bool
    row: int
    column: int
    word: str
    start: int
    end: int
    line: str
    above: dict[Path, tuple[str, ...]]

    @property
    def text(self) -> tuple[int, int]:
        """The columns of the path or pattern under the cursor, with its quotes."""
        return _around(self.line, self.column, TEXT)

    @property
    def typed(self) -> str:
        """The part of the word that stands before the cursor."""
        return self.line[self.start : self.column]

    @property
    def siblings(self) -> tuple[str, ...]:
        """The keys before the cursor in its own mapping."""
        return self.above.get(self.path if self.is_key else self.path[:-1], ())


def find(text: str, row: int, column: int) -> Place:
    """The place of a position (from 0, in code points), whatever the text is."""
    lines = BREAK.split(text)
    row = min(max(row, 0), len(lines) - 1)
    line = lines[row]
    column = min(max(column, 0), len(line))
    reader = _Reader()
    for other in lines[:row]:
        reader.line(other)
    path, is_key = reader.last(line, column)
    start, end = _around(line, column, WORD)
    return Place(path, is_key, row, column, line[start:end], start, end, line, reader.above())


def _around(line: str, column: int, char: re.Pattern[str]) -> tuple[int, int]:
    start = end = column
    while start and char.match(line[start - 1]):
        start -= 1
    while end < len(line) and char.match(line[end]):
        end += 1
    return start, end


class _Reader:
    """Reads lines as an editor's user sees them: by indentation, braces and commas."""

    def __init__(self) -> None:
        self.blocks: list[_Level] = [_Level(0, "{")]
        self.flow: list[_Level] = []
        self.prose: int | None = None  # indentation of the key whose text is in the lines that follow
        self.quote = ""

    def line(self, line: str) -> None:
        """Takes in one whole line."""
        if not self._skips(line):
            self._scan(line, self._begin(line), len(line))
            self.quote = ""

    def last(self, line: str, column: int) -> tuple[Path, bool]:
        """Takes in the line of the cursor as far as the cursor; the path there, and whether a key is written."""
        if self.prose is not None and self._skips(line or " " * column):
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
        """Whether a line is empty, a comment, or prose."""
        if not line.strip():
            return True
        indent = len(line) - len(line.lstrip())
        if self.prose is not None and indent > self.prose:
            return True
        self.prose = None
        return line.lstrip().startswith("#") and not self.flow

    def _begin(self, line: str) -> int:
        """Opens the keys at the beginning of a line; where its rest begins."""
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
            self.prose = len(key[1])
            return len(line)
        return key.end()

    def _ends_braces(self, key: re.Match[str] | None) -> bool:
        """Whether a key stands where it cannot be in braces: those before it were never closed."""
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
        """The path of the mapping that a key of this indentation belongs to."""
        self._close(indent)
        if self.blocks[-1].indent < indent:
            self.blocks.append(_Level(indent, "{"))
        return self._path()[:-1]

    # -- braces -----------------------------------------------------------------------------

    def _scan(self, line: str, start: int, end: int) -> None:
        """Follows braces, commas and colons."""
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
                self._mark(char, line[i + 1 : i + 2])
            if self.flow and char not in "{[,:}]":
                self.flow[-1].pending += char

    def _mark(self, char: str, after: str) -> None:
        top = self.flow[-1]
        if char in "}]":
            self.flow.pop()
        elif char == ",":
            top.key, top.pending = (None if top.kind == "{" else top.key + 1), ""
        elif char == ":" and top.kind == "{" and top.key is None and (not after or after in " ,}\t"):
            top.key, top.pending = top.pending.strip().strip("\"'"), ""
            top.keys.append(top.key)

    # -- the answer -------------------------------------------------------------------------

    def _levels(self) -> list[_Level]:
        return [*self.blocks, *self.flow]

    def _path(self) -> Path:
        return tuple(level.key for level in self._levels())

    def above(self) -> dict[Path, tuple[str, ...]]:
        found: dict[Path, tuple[str, ...]] = {}
        path: Path = ()
        for level in self._levels():
            found[path] = tuple(level.keys)
            path = (*path, level.key)
        return found
