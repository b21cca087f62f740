"""Token ids as a text: single ids and ranges, `0..127 200 1000..1999`, in a spec or in a file that it names."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator

from dsvgraph.codes import Code
from dsvgraph.errors import DsvError, Source, Span

MAX_VOCABULARY = 2**20
MAX_TEXT = 100_000  # characters of the ids of one loss: a spec that holds them has at most 150,000
MAX_FILE = 16 * 2**20  # bytes
ENDING = ".txt"  # of a file of token ids
IDS = re.compile(r"\s*(\d+\.\.\d+|\d+\s+\d+)[\d\s.]*\Z")
PIECE = re.compile(r"(\d{1,9})(?:\.\.(\d{1,9}))?\Z")


def is_ids(value: object) -> bool:
    """Return whether a value is a text of several token ids, and no arithmetic."""
    return isinstance(value, str) and bool(IDS.match(value))


def token_ids(text: str, name: str, at: Span | None = None) -> tuple[int, ...]:
    """Return the token ids of a text, whose lines may end in comments, `# ...`.

    Raise DsvError at the place in the text ``name``, or at ``at`` where that is given, if a piece is no id or no range,
    or if an id stands there twice.
    """
    source = Source(name, tuple(text.splitlines()))
    found: dict[int, None] = {}
    for piece, span in _pieces(source):
        first, last = _ends(piece, at or span)
        for token in range(first, last + 1):
            if token in found:
                raise DsvError(f"the token id {token} stands there twice", at or span, code=Code.LOSS_NUMBER)
            found[token] = None
    if not found:
        raise DsvError(f"`{name}` has no token ids", at or Span(source, 1, 1), code=Code.LOSS_NUMBER)
    return tuple(found)


def _pieces(source: Source) -> Iterator[tuple[str, Span]]:
    for number, line in enumerate(source.lines, 1):
        for match in re.finditer(r"\S+", line.partition("#")[0]):
            yield match.group(), Span(source, number, match.start() + 1, len(match.group()))


def _ends(piece: str, span: Span) -> tuple[int, int]:
    """Return the first and the last id of a piece."""
    match = PIECE.match(piece)
    first, last = (int(match[1]), int(match[2] or match[1])) if match else (0, -1)
    if match is None or last < first or last >= MAX_VOCABULARY:
        words = f"token ids are numbers below {MAX_VOCABULARY:,}, such as `7`, or ranges such as `0..127`"
        raise DsvError(f"{words}; found `{piece[:40]}`", span, code=Code.LOSS_NUMBER)
    return first, last


def written(ids: Iterable[int]) -> str:
    """Return token ids as the shortest text of ids and ranges in their order.

    >>> written([0, 1, 2, 9, 7])
    '0..2 9 7'
    """
    runs: list[list[int]] = []
    for token in ids:
        if runs and token == runs[-1][1] + 1:
            runs[-1][1] = token
        else:
            runs.append([token, token])
    text = " ".join(f"{a}..{b}" if b > a else str(a) for a, b in runs)
    return text if is_ids(text) else f"{text}..{text}"
