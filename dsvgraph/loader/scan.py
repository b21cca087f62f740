"""Tokens of YAML text: ruamel.yaml's, with tabs as YAML 1.2 has them, and no deeper nesting than a spec may have."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.scanner import Scanner, ScannerError

MAX_DEPTH = 40  # of values; the composer holds it for blocks and aliases too
TOO_DEEP = f"values nest at most {MAX_DEPTH} deep"
BLANKS = " \t"
BREAKS = "\r\n\x85\u2028\u2029"
ENDS = BREAKS + "\0"
SIGNS = re.compile(r"[-+]?[1-9]?|[1-9][-+]")


class Tokens(Scanner):
    """Raises ScannerError with the words TOO_DEEP at the bracket that nests too deep."""

    def fetch_flow_collection_start(self, TokenClass: Any, to_push: str) -> None:
        # An open bracket may begin a key of 1,024 characters: the base asks that of all that are open, at each.
        if self.flow_level >= MAX_DEPTH:
            raise ScannerError(None, None, TOO_DEEP, self.reader.get_mark())
        super().fetch_flow_collection_start(TokenClass, to_push)

    def need_more_tokens(self) -> bool:
        # As the base has it, without asking the keys that may be open where there is none.
        if self.tokens and not self.possible_simple_keys:
            return False
        more: bool = super().need_more_tokens()
        return more

    # -- tabs: they separate words and values as blanks do, and never indent -------------------

    def scan_to_next_token(self) -> None:
        if self.reader.index == 0 and self.reader.peek() == "\ufeff":
            self.reader.forward()
        self.pass_blanks(begins=self.reader.column == 0)
        while True:
            if self.reader.peek() == "#":
                self.reader.forward(self.ahead(lambda char: char not in ENDS))
            if not self.scan_line_break():
                return
            if not self.flow_level:
                self.allow_simple_key = True
            self.pass_blanks(begins=True)

    def pass_blanks(self, begins: bool) -> None:
        """Pass blanks and tabs, at the beginning of a line only tabs that do not indent what follows."""
        if begins:
            self.reader.forward(self.ahead(" ".__contains__))
        length = self.ahead(BLANKS.__contains__)
        rest = self.reader.peek(length) not in "#" + ENDS
        if begins and rest and not self.flow_level and not 0 <= self.indent < self.reader.column:
            return
        tab = "\t" in self.reader.prefix(length)
        self.reader.forward(length)
        if tab and rest and not self.flow_level:
            self.allow_simple_key = False  # a block mapping or list begins after blanks alone

    def scan_plain_spaces(self, indent: int, start_mark: Any) -> list[str] | None:
        """Return what stands between two words of a plain scalar; nothing where a document ends."""
        blanks = self.reader.prefix(self.ahead(BLANKS.__contains__))
        self.reader.forward(len(blanks))
        if self.reader.peek() not in BREAKS:
            return [blanks] if blanks else []
        first, more = self.scan_line_break(), list[str]()
        self.allow_simple_key = True
        while not (self.reader.prefix(3) in ("---", "...") and self.reader.peek(3) in BLANKS + ENDS):
            self.pass_blanks(begins=True)
            if self.reader.peek() not in BREAKS:
                return ([first] if first != "\n" else [] if more else [" "]) + more
            more.append(self.scan_line_break())
        return None

    def scan_block_scalar_indicators(self, start_mark: Any) -> Any:
        signs = self.reader.prefix(self.ahead("+-0123456789".__contains__))
        if not SIGNS.fullmatch(signs) or self.reader.peek(len(signs)) != "\t":
            return super().scan_block_scalar_indicators(start_mark)
        self.reader.forward(len(signs))
        digits = signs.strip("+-")
        return ("+" in signs if digits != signs else None), int(digits) if digits else None

    def scan_block_scalar_ignored_line(self, start_mark: Any) -> Any:
        self.reader.forward(self.ahead(BLANKS.__contains__))
        return super().scan_block_scalar_ignored_line(start_mark)

    def ahead(self, passes: Callable[[str], bool]) -> int:
        """Return how many characters from here on ``passes`` holds for."""
        length = 0
        while passes(self.reader.peek(length)):
            length += 1
        return length


def yaml() -> YAML:
    """Return the reader of YAML 1.2 that every text goes through."""
    found = YAML(typ="safe", pure=True)
    found.Scanner = Tokens
    return found
