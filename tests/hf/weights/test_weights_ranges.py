"""Ranges of names: written out they are the same names, and as many as is said."""

import re
from itertools import product

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dsvgraph_hf.weights.ranges import as_ranges

NAMES = st.sets(
    st.tuples(st.integers(0, 6), st.sampled_from(["gate", "up", "norm"]), st.integers(0, 4)).map(
        lambda parts: "model.layers.{}.{}.{}.weight".format(*parts)
    )
)


def written_out(pattern):
    """Every name that a pattern with ranges stands for."""
    axes = [
        [str(n) for part in found[1].split(",") for n in range(int(part.split("-")[0]), int(part.split("-")[-1]) + 1)]
        for found in re.finditer(r"\[([\d,-]+)\]", pattern)
    ]
    text = re.sub(r"\[[\d,-]+\]", "{}", pattern)
    return [text.format(*numbers) for numbers in product(*axes)]


@settings(max_examples=200, deadline=None)
@given(NAMES)
def test_patterns_stand_for_the_names_and_no_others(names):
    found = as_ranges(names)
    out = [name for pattern in found for name in written_out(pattern)]
    assert sorted(out) == sorted(names)
    assert all(len(written_out(pattern)) == count for pattern, count in found.items())


@settings(max_examples=200, deadline=None)
@given(NAMES, NAMES)
def test_a_part_that_is_gone_is_told_as_a_whole(names, others):
    names = names - others
    found = as_ranges(names, others)
    assert sum(found.values()) == len(names)
    for pattern in (p for p in found if p.endswith(".**")):
        for head in written_out(pattern[:-3]):
            assert not any(other.startswith(f"{head}.") for other in others)


@pytest.mark.parametrize(
    ("names", "patterns"),
    [
        ([], {}),
        (["a.{0}.b"], {"a.{0}.b": 1}),
        (["l.0.w", "l.10.w", "l.9.w"], {"l.[0,9-10].w": 3}),
        ([f"l.{2 * i}.w" for i in range(20)], {"l.[0,2,4,...,38].w": 20}),
        (["x1.w", "x2.w"], {"x1.w": 1, "x2.w": 1}),
    ],
)
def test_some_patterns(names, patterns):
    assert as_ranges(names) == patterns


def test_a_large_checkpoint_is_told_in_a_line():
    names = [f"model.layers.{i}.mlp.experts.{e}.gate_proj.weight" for i in range(3, 61) for e in range(256)]
    assert as_ranges(names) == {"model.layers.[3-60].mlp.experts.[0-255].gate_proj.weight": 14848}
