"""Path patterns against a matcher that tries everything."""

from __future__ import annotations

import time
from collections import Counter

from hypothesis import given, settings
from hypothesis import strategies as st
from pace import too_long

from dsvgraph.patterns import fitting, matches, matches_some


def judge(pattern: str, path: str) -> bool:
    """Whether some way of filling the stars gives the path."""
    if not pattern:
        return not path
    if pattern.startswith("**"):
        return any(judge(pattern[2:], path[i:]) for i in range(len(path) + 1))
    if pattern[0] == "*":
        stop = path.find(".") if "." in path else len(path)
        return any(judge(pattern[1:], path[i:]) for i in range(stop + 1))
    return path[:1] == pattern[0] and judge(pattern[1:], path[1:])


paths = st.lists(st.sampled_from(["a", "b", "ab", "0", "12"]), min_size=1, max_size=6).map(".".join)
patterns = st.lists(st.sampled_from(["a", "b", ".", "*", "**", "0", "ab."]), max_size=7).map("".join)


@given(patterns, paths)
@settings(max_examples=500, deadline=None)
def test_matches(pattern: str, path: str) -> None:
    assert matches(pattern, path) == judge(pattern, path)


@given(patterns, st.integers(0, 12), st.integers(0, 3))
@settings(max_examples=200, deadline=None)
def test_folded_paths_match_where_a_copy_does(pattern: str, start: int, more: int) -> None:
    wanted = any(judge(pattern, f"a.{i}.b") for i in range(start, start + more + 1))
    assert matches_some(pattern, f"a.[{start}-{start + more}].b") == wanted


def test_a_hostile_pattern_is_quick() -> None:
    start = time.process_time()
    assert not matches("**a" * 40 + "b", "a." * 100 + "c")
    assert not matches("*a" * 40 + "b", "a" * 200)
    assert not too_long(time.process_time() - start)


@given(st.lists(patterns, min_size=1, max_size=4), st.integers(0, 12), st.integers(0, 130))
@settings(max_examples=200, deadline=None)
def test_kinds_of_a_folded_path_are_those_of_its_copies(some: list[str], start: int, more: int) -> None:
    """Numbers of one, two and three digits, under stars within them too."""
    numbers = range(start, start + more + 1)
    wanted = Counter(tuple(i for i, p in enumerate(some) if judge(p, f"a.{n}.b.{m}")) for n in numbers for m in (0, 1))
    found = fitting(some, f"a.[{start}-{start + more}].b.[0-1]")
    assert {tuple(kind): count for kind, count in found} == wanted


def test_patterns_over_nested_copies_are_quick() -> None:
    start = time.process_time()
    path = ".".join(f"c.[0-{9999}]" for _ in range(7))
    named = [f"**.{i}.**.{i + 1}.**" for i in range(60)]
    assert all(matches_some(p, path) for p in named)
    found = fitting(["**", "c.1*.**"], path)
    assert sum(count for _, count in found) == 10**28
    assert {tuple(kind): n for kind, n in found}[0, 1] == 1111 * 10**24  # 1, 10 to 19, 100 to 199, 1000 to 1999
    assert not too_long(time.process_time() - start)
