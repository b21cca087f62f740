"""Numbers as they are written: how large, and how small, they may be."""

from __future__ import annotations

import re

from dsvgraph.codes import Code
from dsvgraph.errors import DsvError, Span


def bounded(value: int | float, text: str, span: Span) -> int | float:
    """``value``, written as ``text``; raise DsvError if it is too large, or not zero and read as zero."""
    if abs(value) > 10**30 and abs(value) != 1e30:
        raise DsvError("a number is at most 1e30 in magnitude", span, code=Code.NUMBER_LIMIT)
    if value == 0 and re.search(r"[1-9]", re.split("[eE]", text)[0]):
        raise DsvError(f"`{text}` is too small to be told from 0", span, code=Code.NUMBER_LIMIT)
    return value
