"""Path patterns: `*` is within one segment, `**` any number of segments."""

from __future__ import annotations

import re
from functools import lru_cache

RANGE = re.compile(r"\[(\d+)(?:-\d+)?\]")


@lru_cache(maxsize=1024)
def _compiled(pattern: str) -> re.Pattern[str]:
    parts = [re.escape(p) for p in pattern.split("**")]
    return re.compile(".*".join(p.replace(r"\*", "[^.]*") for p in parts) + "$")


def matches(pattern: str, path: str) -> bool:
    """Whether ``path`` (ranges of copies as [3-60] allowed) fits ``pattern``.

    >>> matches("**.gate", "model.layers.[3-60].mlp.gate")
    True
    """
    plain = RANGE.sub(r"\1", path)
    return bool(_compiled(pattern).match(plain))


def regex(pattern: str) -> str:
    """The pattern as a regular expression, for ``re.fullmatch``."""
    return ".*".join(re.escape(p).replace(r"\*", "[^.]*") for p in pattern.split("**"))


def ranged(path: str) -> str:
    """A folded path (ranges of copies as [3-60]) as a regular expression over its copies."""
    return r"\d+".join(re.escape(p) for p in RANGE.split(path)[::2])
