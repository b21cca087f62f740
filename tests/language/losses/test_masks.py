"""How far ahead the mask of an attention lets a query look: by brute force, and as an error where it leaks."""

from __future__ import annotations

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from small import message, model

from dsvgraph.ops.masks import horizon

LENGTH = 60
POSITION = st.sampled_from(["query", "key"])
SMALL = st.integers(-6, 9).map(str)
NUMBERS = st.one_of(
    POSITION,
    SMALL,
    st.tuples(POSITION, st.sampled_from(["//", "%"]), st.sampled_from(["2", "3", "4"])).map(" ".join),
    st.tuples(POSITION, SMALL, st.sampled_from(["2", "3"])).map(lambda t: f"({t[0]} + {t[1]}) // {t[2]}"),
    st.tuples(st.sampled_from(["query - key", "key - query"]), SMALL).map(" + ".join),
)
COMPARISONS = st.tuples(NUMBERS, st.sampled_from(["<", "<=", ">", ">=", "==", "!="]), NUMBERS).map(" ".join)
MASKS = st.recursive(
    COMPARISONS,
    lambda inner: st.one_of(
        st.tuples(inner, st.sampled_from(["and", "or"]), inner).map(lambda t: f"({' '.join(t)})"),
        inner.map(lambda text: f"not ({text})"),
    ),
    max_leaves=4,
)


def by_hand(mask: str) -> float:
    """The furthest key ahead of a query that a mask lets it see; more than half of a row is infinitely far."""
    code = compile(mask, "mask", "eval")
    pairs = ((q, k) for q in range(LENGTH) for k in range(LENGTH))
    furthest = max((k - q for q, k in pairs if eval(code, {"query": q, "key": k})), default=-math.inf)
    return math.inf if furthest > LENGTH // 2 else furthest


@pytest.mark.parametrize(
    ("mask", "ahead"),
    [
        ("key <= query", 0),
        ("key < query", -1),
        ("query - key < 8", math.inf),
        ("key // 8 == query // 8", 7),  # blocks that see themselves whole
        ("key // 8 <= query // 8", 7),
        ("key // 8 < query // 8", -1),
        ("key <= query or key < 5", 4),  # a prefix that all see
        ("(query - key) % 4 == 0", math.inf),
        ("(query - key) % 4 == 0 and key <= query", 0),
        ("key < 2 * query", None),
        ("query % 4 == key % 4 and key <= query", 0),
        ("key == query or key % 2 == 0 and key <= query", 0),
    ],
)
def test_by_hand(mask: str, ahead: float | None) -> None:
    if ahead is None:
        with pytest.raises(ValueError, match="not decided"):
            horizon(mask)
    else:
        assert horizon(mask) == ahead == by_hand(mask)


@settings(max_examples=120)
@given(MASKS)
def test_by_brute_force(mask: str) -> None:
    try:
        found = horizon(mask)
    except ValueError as error:
        assert "not decided" in str(error) or "by their difference" in str(error) or "hides every key" in str(error)
        assert "hides every key" not in str(error) or by_hand(mask) == -math.inf
        return
    assert found == by_hand(mask)


LOOK = """
look:
  args: {d, size: 4}
  in: {x: [B, T, d]}
  body:
    q: {linear: x, out: [2, 2]}
    a: {attention: {q: q, k: q, v: q}, causal: CAUSAL, mask: MASK}
    o: {linear: a, contract: 2, out: d}
  out: {x: o}
"""


def looked(mask: str, causal: str = "false") -> float:
    found = model("y: {look: e}", blocks=LOOK.replace("MASK", mask).replace("CAUSAL", causal))
    return found.nodes["y"].horizons["x"].ahead("ids")


def test_a_mask_reads_values_of_the_block() -> None:
    assert looked("key // size == query // size") == 3
    assert looked("key // size == query // size", "true") == 0


@pytest.mark.parametrize(
    ("mask", "words"),
    [
        ("key < 2 * query", "not decided"),
        ("key * query < 9", "multiplies two positions"),
        ("key", "a mask is a condition"),
        ("3", "a mask is a condition such as `query - key < 8`, found `3`"),
        ("key < seize", "no name `seize`"),
        ("key < 0.5", "numbers of a mask are whole"),
        ("key // 100 == query", "multiply to at most 64"),
        ("key < 0", "hides every key"),
        ("key <", "ends where a value is expected"),
        ("key // query == 0", "divided by a number"),
    ],
)
def test_what_is_no_mask_is_told_at_its_line(mask: str, words: str) -> None:
    assert words in message("y: {look: e}", blocks=LOOK.replace("MASK", mask).replace("CAUSAL", "false"))
