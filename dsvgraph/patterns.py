"""Path patterns: `*` is within one segment, `**` any number of segments."""

from __future__ import annotations

import re
from collections.abc import Iterable
from functools import lru_cache

DIGITS = "0123456789"
RANGE = re.compile(r"\[(\d+)(?:-\d+)?\]")
BOTH_ENDS = re.compile(r"\[(\d+)(?:-(\d+))?\]")


class Patterns:
    """Many patterns that are matched at once, in one pass over a path.

    A state is a set of places in the patterns, a bit for each: before its first token, behind it, and so
    on to the end (the glob form of the shift-and algorithm, Baeza-Yates and Gonnet, 1992). A number in a
    folded path is read digit by digit, numbers that lead to one state together, so that the copies that
    it stands for are never written out.
    """

    def __init__(self, patterns: Iterable[str]) -> None:
        self.starts = self.ends = self.any = self.within = 0
        self.letters: dict[str, int] = {}
        self.end_of: dict[int, int] = {}  # the bit behind a pattern's last token -> the pattern's number
        self.known: dict[tuple[int, str], int] = {}
        self.spans: dict[tuple[int, str, str], dict[int, int]] = {}
        bit = 1
        for number, pattern in enumerate(patterns):
            self.starts |= bit
            for token in re.findall(r"\*\*|[\s\S]", pattern):
                self._token(token, bit)
                bit <<= 1
            self.ends |= bit
            self.end_of[bit] = number
            bit <<= 1

    def _token(self, token: str, bit: int) -> None:
        if token == "**":
            self.any |= bit
        elif token == "*":
            self.within |= bit
        else:
            self.letters[token] = self.letters.get(token, 0) | bit

    def begin(self) -> int:
        """Return the state before a path."""
        return self._closed(self.starts)

    def after(self, state: int, text: str) -> int:
        """Return the state behind ``text``."""
        if (state, text) not in self.known:
            self.known[state, text] = self._after(state, text)
        return self.known[state, text]

    def _after(self, state: int, text: str) -> int:
        for letter in text:
            if not state:
                break
            stays = state & (self.any if letter == "." else self.any | self.within)
            state = self._closed((state & self.letters.get(letter, 0)) << 1 | stays)
        return state

    def _closed(self, state: int) -> int:
        """With the places behind stars, which may stand for nothing."""
        stars = self.any | self.within
        while (more := state | (state & stars) << 1) != state:
            state = more
        return state

    def matched(self, state: int) -> list[int]:
        """Return the numbers of the patterns that end in ``state``, in order."""
        found, left = [], state & self.ends
        while left:
            bit = left & -left
            found.append(self.end_of[bit])
            left ^= bit
        return found

    def last(self, state: int) -> int | None:
        """Return the number of the last pattern that ends in ``state``, or None."""
        ends = state & self.ends
        return self.end_of[1 << (ends.bit_length() - 1)] if ends else None

    def of(self, path: str) -> list[tuple[list[int], int]]:
        """Return the patterns that fit, for every kind of path that a folded one stands for, and how many are of it."""
        states, at = {self.begin(): 1}, 0
        for found in BOTH_ENDS.finditer(path):
            states = self._moved(states, path[at : found.start()])
            states = self._numbered(states, int(found[1]), int(found[2] or found[1]))
            at = found.end()
        kinds: dict[int, int] = {}
        for state, count in self._moved(states, path[at:]).items():
            kinds[state & self.ends] = kinds.get(state & self.ends, 0) + count
        return [(self.matched(state), count) for state, count in kinds.items()]

    def _moved(self, states: dict[int, int], text: str) -> dict[int, int]:
        found: dict[int, int] = {}
        for state, count in states.items():
            state = self.after(state, text)
            found[state] = found.get(state, 0) + count
        return found

    def _numbered(self, states: dict[int, int], first: int, last: int) -> dict[int, int]:
        """Return the states behind each number from ``first`` to ``last``."""
        found: dict[int, int] = {}
        for digits in range(len(str(first)), len(str(last)) + 1):
            least = str(max(first, 10 ** (digits - 1) if digits > 1 else 0))
            most = str(min(last, 10**digits - 1))
            for state, count in states.items():
                for behind, times in self._span(state, least, most).items():
                    found[behind] = found.get(behind, 0) + count * times
        return found

    def _span(self, state: int, least: str, most: str) -> dict[int, int]:
        """Return the states behind the numbers of equally many digits from ``least`` to ``most``, with their counts."""
        if not least:
            return {state: 1}
        key = (state, least, most)
        if key not in self.spans:
            found: dict[int, int] = {}
            for digit in DIGITS[int(least[0]) : int(most[0]) + 1]:
                low = least[1:] if digit == least[0] else "0" * (len(least) - 1)
                high = most[1:] if digit == most[0] else "9" * (len(least) - 1)
                for behind, times in self._span(self.after(state, digit), low, high).items():
                    found[behind] = found.get(behind, 0) + times
            self.spans[key] = found
        return self.spans[key]


@lru_cache(maxsize=64)
def _patterns(patterns: tuple[str, ...]) -> Patterns:
    return Patterns(patterns)


def fitting(patterns: Iterable[str], path: str) -> list[tuple[list[int], int]]:
    """Return which ``patterns`` fit the paths that a folded path stands for, by their numbers, and how many paths.

    >>> fitting(["**.gate", "layers.7.*", "layers.1*.*"], "layers.[3-60].gate")
    [([0], 47), ([0, 1], 1), ([0, 2], 10)]
    """
    return _patterns(tuple(patterns)).of(path)


def matches(pattern: str, path: str) -> bool:
    """Return whether ``path`` (ranges of copies as [3-60] stand for their first) fits ``pattern``.

    >>> matches("**.gate", "model.layers.[3-60].mlp.gate")
    True
    """
    return bool(fitting([pattern], RANGE.sub(r"\1", path))[0][0])


def matches_all(pattern: str, path: str) -> bool:
    """Return whether every path that a folded path stands for fits ``pattern``.

    >>> matches_all("model.layers.3.**", "model.layers.[3-60].mlp.gate")
    False
    """
    return all(found for found, _ in fitting([pattern], path))


def matches_some(pattern: str, path: str) -> bool:
    """Return whether one of the paths that a folded path stands for fits ``pattern``.

    >>> matches_some("model.layers.7.**", "model.layers.[3-60].mlp.gate")
    True
    """
    return any(found for found, _ in fitting([pattern], path))


def regex(pattern: str) -> str:
    """Return the pattern as a regular expression, for ``re.fullmatch``.

    The first place where a part fits is taken for good, so that matching stays fast.

    >>> regex("**norm.weight")
    '.*norm\\\\.weight'
    """
    first, *rest = pattern.split("**")
    if not rest:
        return _within(first, last=True)
    inner = "".join(f"(?>.*?{_within(part)})" for part in rest[:-1])
    return f"{_within(first)}{inner}.*{_within(rest[-1], last=True)}"


def _within(text: str, last: bool = False) -> str:
    """Return a part without `**`; the last star of the last part is free to end where the path ends."""
    first, *rest = map(re.escape, text.split("*"))
    final = rest.pop() if last and rest else None
    inner = "".join(f"(?>[^.]*?{part})" for part in rest)
    return first + inner + (f"[^.]*{final}" if final is not None else "")


def ranged(path: str) -> str:
    """Return a folded path (ranges of copies as [3-60]) as a regular expression over its copies."""
    return r"\d+".join(re.escape(p) for p in RANGE.split(path)[::2])
