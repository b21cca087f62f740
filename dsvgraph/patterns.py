"""Path patterns: `*` is within one segment, `**` any number of segments."""

from __future__ import annotations

import re
from functools import lru_cache
from itertools import product

RANGE = re.compile(r"\[(\d+)(?:-\d+)?\]")
BOTH_ENDS = re.compile(r"\[(\d+)(?:-(\d+))?\]")


@lru_cache(maxsize=1024)
def _compiled(pattern: str) -> re.Pattern[str]:
    return re.compile(regex(pattern))


def matches(pattern: str, path: str) -> bool:
    """Whether ``path`` (ranges of copies as [3-60] stand for their first) fits ``pattern``.

    >>> matches("**.gate", "model.layers.[3-60].mlp.gate")
    True
    """
    return bool(_compiled(pattern).fullmatch(RANGE.sub(r"\1", path)))


def matches_all(pattern: str, path: str) -> bool:
    """Whether every path that a folded path stands for fits ``pattern``, whatever the numbers.

    >>> matches_all("model.layers.3.**", "model.layers.[3-60].mlp.gate")
    False
    """
    return bool(_compiled(pattern).fullmatch(BOTH_ENDS.sub(_kept, path)))


def _kept(found: re.Match[str]) -> str:
    """One copy is its number; of several, no number is told."""
    alone = found[2] is None or found[2] == found[1]
    return found[1] if alone else "#"


def matches_some(pattern: str, path: str) -> bool:
    """Whether one of the paths that a folded path stands for fits ``pattern``.

    >>> matches_some("model.layers.7.**", "model.layers.[3-60].mlp.gate")
    True
    """
    named = {int(n) for n in re.findall(r"\d{1,9}", pattern)}
    ends = [(int(a), int(b or a)) for a, b in BOTH_ENDS.findall(path)]
    axes = [sorted({a, b, *(n for n in named if a <= n <= b), *range(a, min(b, a + 99))}) for a, b in ends]
    text = BOTH_ENDS.sub("{}", path)
    return any(_compiled(pattern).fullmatch(text.format(*numbers)) for numbers in product(*axes))


def regex(pattern: str) -> str:
    """The pattern as a regular expression, for ``re.fullmatch``.

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
    """A part without `**`; the last star of the last part is free to end where the path ends."""
    first, *rest = map(re.escape, text.split("*"))
    final = rest.pop() if last and rest else None
    inner = "".join(f"(?>[^.]*?{part})" for part in rest)
    return first + inner + (f"[^.]*{final}" if final is not None else "")


def ranged(path: str) -> str:
    """A folded path (ranges of copies as [3-60]) as a regular expression over its copies."""
    return r"\d+".join(re.escape(p) for p in RANGE.split(path)[::2])
