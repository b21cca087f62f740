"""Text of one row as its tokens come, up to a text that ends it."""

from __future__ import annotations

from collections.abc import Sequence
from enum import StrEnum

from dsvgraph_torch.data.tokens import Tokens


class End(StrEnum):
    """Why a row ended."""

    LENGTH = "length"  # as many tokens as were asked for
    STOP = "stop"  # one of the texts of --stop
    TOKEN = "end"  # a token that ends a text


class TextStream:
    """Hands out text as soon as it can be no part of a stop text; such a text, and all behind it, is left out."""

    def __init__(self, tokens: Tokens, stops: Sequence[str], ends: Sequence[int]) -> None:
        self.decoder, self.stops, self.ends = tokens.decoder(), [s for s in stops if s], ends
        self.held, self.end = "", End.LENGTH
        self.count = 0
        self.ended = False

    def add(self, token: int) -> tuple[str, bool]:
        """Return the text that ``token`` settles, and whether the row has ended."""
        self.count += 1
        if token in self.ends:
            self.end = End.TOKEN
            return self.rest(), True
        self.held += self.decoder.add(token)
        piece, self.ended = self._settled()
        return piece, self.ended

    def _settled(self) -> tuple[str, bool]:
        found = [at for stop in self.stops if (at := self.held.find(stop)) >= 0]
        if found:
            piece, self.held, self.end = self.held[: min(found)], "", End.STOP
            return piece, True
        keep = max((_overlap(self.held, stop) for stop in self.stops), default=0)
        piece, self.held = self.held[: len(self.held) - keep], self.held[len(self.held) - keep :]
        return piece, False

    def rest(self) -> str:
        """Return what was held back when no more tokens come; nothing if the row has ended."""
        if self.ended:
            return ""
        self.ended = True
        self.held += self.decoder.rest()
        piece, _ = self._settled()
        piece, self.held = piece + self.held, ""
        return piece


def _overlap(text: str, stop: str) -> int:
    """Return the length of the longest end of ``text`` that a stop text, not all of it, begins with."""
    most = min(len(text), len(stop) - 1)
    return next((n for n in range(most, 0, -1) if text.endswith(stop[:n])), 0)
