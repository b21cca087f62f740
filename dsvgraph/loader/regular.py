"""Events of texts that keep to a regular part of YAML, as nearly all specs do, many times faster than ruamel.yaml.

It holds block mappings and lists, keys of one word or in quotes, scalars on one line, texts after `>` and `|`, braces
and brackets, comments. A text that holds anything else, right or wrong, is refused as a whole and left to ruamel.yaml,
so that no error is found here and none is worded here.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import Enum, auto

from dsvgraph.loader.events import END, Event, EventKind

MAX_NESTED = 20  # blocks in blocks, brackets in brackets
MAX_KEY = 1000  # characters; YAML allows 1,024 up to the colon

STRANGE = re.compile(
    "[^\n\x20-\x7e\xa0-\u2027\u202a-\ud7ff\ue000-\ufefe\uff00-\ufffd\U00010000-\U0010ffff]|^(?:---|\\.\\.\\.|%)", re.M
)
INNER = r"[^\s,:?\[\]{}#]"  # of a plain scalar, in braces as outside
WORD = rf"(?:[^\s\-?:,\[\]{{}}#&*!|>'\"%@`]|-(?={INNER})){INNER}*"
QUOTED = r"\"([^\"\\\n]*(?:\\(?:[\"\\/bfnrt]|u[0-9A-Fa-f]{4})[^\"\\\n]*)*)\"|'([^'\n]*)'(?!')"
ESCAPED = re.compile(r"\\(?:u(....)|(.))")
ESCAPES = {"b": "\b", "f": "\f", "n": "\n", "r": "\r", "t": "\t"}  # those of JSON; the others are themselves

SKIPPED = re.compile(r"(?: *(?:#[^\n]*)?\n)* *(?:#[^\n]*\Z)?")  # blank lines, comments, and what indents
REST = re.compile(r"(?: +(?:#[^\n]*)?)?(?:\n|\Z)")  # of a line
DASH = re.compile(r"-(?=[ \n]|\Z)")
KEY = re.compile(rf"(?:{QUOTED}|({WORD})):(?=[ \n]|\Z)")
SCALAR = re.compile(rf"{QUOTED}|({WORD}[^\n]*)")
TEXT = re.compile(r"([|>])(-?)\n( +)(?=[^ \n])")
INDENT = re.compile(r" *")
BLANK = re.compile(r"\n*( *)(?!\n)")
GAP = re.compile(r"(?:[ \n]|(?<=[ \n])#[^\n]*(?=\n))*")  # before what stands in braces
FLOW = re.compile(rf"(?:{QUOTED}|({WORD}(?: +{INNER}+)*)|([\[{{\]}},]))(:(?=[ \n]))?")


class Irregular(Exception):
    """The text holds something else."""


class Expects(Enum):
    """What comes next between braces or brackets, where they do not end."""

    KEY = auto()
    VALUE = auto()
    ITEM = auto()
    COMMA = auto()
    COMMA_AFTER_KEY = auto()  # that has no colon, and so an empty value


@dataclass(slots=True)
class _Block:
    """A block mapping or list that is open."""

    column: int
    mapping: bool
    inline: bool = False  # a list in the column of the key that it belongs to
    pending: tuple[int, int] | None = None  # line and column after the colon or dash that has no value yet


def events(text: str) -> list[Event] | None:
    """Return the events of a regular text, or nothing if it is not.

    >>> events("a: [1, 2]")[3]
    Event(kind=<EventKind.SCALAR: 'scalar'>, line=1, column=5, width=1, text='1', plain=True, anchor=None, tag=None)
    >>> events("a: &anchor 1") is None
    True
    """
    if STRANGE.search(text):
        return None
    try:
        return _Reader(text).run()
    except Irregular:
        return None


class _Reader:
    def __init__(self, text: str) -> None:
        self.text = text
        self.place = 0
        self.line = 1
        self.begin = 0  # of the line
        self.found: list[Event] = []
        self.blocks: list[_Block] = []
        self.brackets: list[str] = []  # that close those that are open
        self.colon = (0, 0)  # after the last one between brackets

    def run(self) -> list[Event]:
        while self.next_line():
            self.entry()
        while self.blocks:
            self.close()
        if not self.found:
            raise Irregular
        return self.found

    # -- places --------------------------------------------------------------------------------

    @property
    def column(self) -> int:
        return self.place - self.begin + 1

    def go(self, place: int) -> None:
        if lines := self.text.count("\n", self.place, place):
            self.line += lines
            self.begin = self.text.rindex("\n", self.place, place) + 1
        self.place = place

    def next_line(self) -> bool:
        """Go to the next line that says something; return whether there is one."""
        self.go(SKIPPED.match(self.text, self.place).end())  # type: ignore[union-attr]
        return self.place < len(self.text)

    def ends_line(self) -> bool:
        """Go to the next line if nothing but a comment follows on this one."""
        rest = REST.match(self.text, self.place)
        if rest:
            self.go(rest.end())
        return bool(rest)

    def add(self, kind: EventKind, width: int = 1, text: str = "", plain: bool = False) -> None:
        self.found.append(Event(kind, self.line, self.place - self.begin + 1, width, text, plain))

    def scalar(self, match: re.Match[str]) -> None:
        """Add the scalar that one of the first three groups holds: in quotes of two kinds, or plain."""
        plain = match[3] is not None
        text = match[3] if plain else match[1] if match[2] is None else match[2]
        width = len(text) + 2 * (not plain)
        if match[1] and "\\" in text:
            text = ESCAPED.sub(lambda sign: chr(int(sign[1], 16)) if sign[1] else ESCAPES.get(sign[2], sign[2]), text)
        self.add(EventKind.SCALAR, width, text, plain)

    # -- blocks --------------------------------------------------------------------------------

    def entry(self) -> None:
        """Read what begins a line or follows a dash: a list's item, a line of a mapping, or all of a text in braces."""
        dash = DASH.match(self.text, self.place)
        key = None if dash else KEY.match(self.text, self.place)
        if dash or key:
            self.close_before(self.column, bool(dash))
            self.go_on(self.column, mapping=bool(key))
        if dash:
            self.after(dash.end(), nested=True)
        elif key:
            self.scalar(key)
            if key.end() - self.place > MAX_KEY:
                raise Irregular
            self.after(key.end(), nested=False)
        elif self.found:
            raise Irregular
        else:
            self.flow()
            self.end_line()

    def close_before(self, column: int, dash: bool) -> None:
        """Close the blocks that an entry in this column does not belong to."""
        while self.blocks:
            top = self.blocks[-1]
            if top.column < column or (top.column == column and (dash or not top.inline)):
                return
            self.close()

    def close(self) -> None:
        self.fill(self.blocks.pop())
        self.found.append(END)

    def fill(self, block: _Block) -> None:
        """Add the empty scalar of a value that is missing: it stands after the dash, or where the next line begins."""
        if block.pending:
            line, column = (self.line, self.column) if block.mapping else block.pending
            self.found.append(Event(EventKind.SCALAR, line, column, plain=True))
            block.pending = None

    def go_on(self, column: int, mapping: bool) -> None:
        """Go on in the block of this column, or begin one where a value is missing."""
        top = self.blocks[-1] if self.blocks else None
        if top and top.column == column and top.mapping == mapping:
            return self.fill(top)
        inline = bool(top and top.column == column)
        missing = top.pending if top else not self.found
        if (inline and mapping) or not missing or len(self.blocks) == MAX_NESTED:
            raise Irregular
        if top:
            top.pending = None
        self.blocks.append(_Block(column, mapping, inline))
        self.add(EventKind.MAPPING if mapping else EventKind.LIST)

    def after(self, place: int, nested: bool) -> None:
        """Read what follows a dash, where more entries may be nested, or the colon of a key."""
        top, self.place = self.blocks[-1], place
        top.pending = (self.line, self.column)
        if self.ends_line():
            return
        self.place = INDENT.match(self.text, self.place).end()  # type: ignore[union-attr]
        if nested and (DASH.match(self.text, self.place) or KEY.match(self.text, self.place)):
            return self.entry()
        top.pending = None
        self.value(top.column)

    def value(self, column: int) -> None:
        """Read a value that begins on the line of its key or dash."""
        if self.text[self.place] in "|>":
            return self.lines(column)
        match = SCALAR.match(self.text, self.place)
        if not match:
            self.flow()
        elif match[3] is None:
            self.scalar(match)
            self.place = match.end()
        else:
            words = match[3].split(" #", 1)[0].rstrip(" ")
            if ": " in words or words[-1] == ":":
                raise Irregular
            self.add(EventKind.SCALAR, len(words), words, True)
            self.place += len(words)
        self.end_line()

    def end_line(self) -> None:
        if not self.ends_line():
            raise Irregular

    def lines(self, column: int) -> None:
        """Read a text after `>` or `|`: lines of one indentation, none of them empty."""
        head = TEXT.match(self.text, self.place)
        if not head or len(head[3]) < column or self.text[-1] != "\n":
            raise Irregular
        body = re.compile(f"(?:{head[3]}[^ \n][^\n]*\n)+").match(self.text, head.start(3))
        after = body and BLANK.match(self.text, body.end())
        if not body or not after or len(after[1]) >= len(head[3]) or (after[1] and after.end() == len(self.text)):
            raise Irregular
        lines = [line[len(head[3]) :] for line in body[0][:-1].split("\n")]
        self.add(EventKind.SCALAR, text=(" " if head[1] == ">" else "\n").join(lines) + ("" if head[2] else "\n"))
        self.go(body.end())

    # -- braces and brackets -------------------------------------------------------------------

    def flow(self) -> None:
        """Read from an opening bracket to the one that closes it."""
        expects = Expects.ITEM
        while True:
            match = FLOW.match(self.text, self.place)
            if not match:
                raise Irregular
            sign = match[4]
            if sign is None:
                expects = self.flow_scalar(match, expects)
            elif match[5]:
                raise Irregular
            elif sign in "{[":
                expects = self.opened(sign, expects)
            else:
                expects = self.ended(sign, expects)
            self.place = match.end()
            if not self.brackets:
                return
            self.go(GAP.match(self.text, self.place).end())  # type: ignore[union-attr]

    def flow_scalar(self, match: re.Match[str], expects: Expects) -> Expects:
        self.scalar(match)
        colon = match[5] is not None
        if expects is Expects.KEY and match.end() - self.place <= MAX_KEY:
            self.colon = (self.line, match.end() - self.begin + 1)
            return Expects.VALUE if colon else Expects.COMMA_AFTER_KEY
        if colon or not self.brackets or expects not in (Expects.VALUE, Expects.ITEM):
            raise Irregular
        return Expects.COMMA

    def opened(self, sign: str, expects: Expects) -> Expects:
        if expects not in (Expects.VALUE, Expects.ITEM) or len(self.brackets) == MAX_NESTED:
            raise Irregular
        self.add(EventKind.MAPPING if sign == "{" else EventKind.LIST)
        self.brackets.append("}" if sign == "{" else "]")
        return self.first()

    def first(self) -> Expects:
        return Expects.KEY if self.brackets[-1] == "}" else Expects.ITEM

    def ended(self, sign: str, expects: Expects) -> Expects:
        """Read a comma or a closing bracket, before which a value may be missing."""
        if expects is Expects.COMMA_AFTER_KEY:
            self.add(EventKind.SCALAR, plain=True)
        elif expects is Expects.VALUE:
            self.found.append(Event(EventKind.SCALAR, *self.colon, plain=True))
        if not self.brackets or sign not in ("," + self.brackets[-1]):
            raise Irregular
        if sign == ",":
            if expects in (Expects.KEY, Expects.ITEM):
                raise Irregular
            return self.first()
        self.brackets.pop()
        self.found.append(END)
        return Expects.COMMA
