"""Losses against outputs and windows: what a line may say, what it is refused for, and which comparisons are leaks."""

from __future__ import annotations

import pytest
from small import messages, model

from dsvgraph.expr import to_text
from dsvgraph.graph import Loss

STEP = """
step:
  args: {d, V}
  in: {h: [B, T, d], ids: "int[B, T]"}
  body:
    n: {shift: ids}
    e: {embedding: n, num: V, dim: d}
    s: {add: [h, e]}
    o: {linear: s, out: V}
  out: {h: s, ids: n, o: o, state: s}
"""
BODY = """
l: {linear: e, out: V}
few: {linear: e, out: 3}
m: {step: {h: e, ids: ids}, repeat: D}
q: {linear: e, out: [2, 2]}
a: {attention: {q: q, k: q, v: q}, causal: false}
r: {linear: a, contract: 2, out: V}
"""
OUT = "{logits: l, few: few, ahead: m.o, states: m.state, trunk: e, both_ways: r}"
CONFIG = "{d: 4, V: 9, D: 3, ids3: [8, 0, 4], twice: [1, 1, 2]}"
MAIN = "main: {cross_entropy: logits, target: ids}"


def built(*lines: str) -> Loss:
    found = model(BODY, OUT, blocks=STEP, config=CONFIG, rest="loss:\n" + "\n".join(f"  {x}" for x in lines))
    return found.losses[-1]


def refused(*lines: str) -> str:
    rest = "loss:\n" + "\n".join(f"  {x}" for x in lines)
    (found,) = messages(BODY, OUT, blocks=STEP, config=CONFIG, rest=rest)
    return found


def test_the_default_of_shift_is_the_same_position_where_outputs_are_compared() -> None:
    lines = ["kl: few, against: logits, vocabulary: 3", "smooth_l1: logits, against: both_ways", "z_loss: logits"]
    found = [built(f"a: {{{line}}}").shift for line in lines]
    assert [shift and to_text(shift) for shift in found] == ["0", "0", "1"]


def test_names_of_values() -> None:
    line = "kl: ahead, against: logits, shift: depth"
    assert built(f"a: {{{line}}}").names == ("a.1", "a.2", "a.3")
    joint = "total_variation: ahead, against: logits, shift: depth, end_to_end: true"
    assert built(f"a: {{{joint}}}").names == ("a",)
    assert built("a: {z_loss: logits}").names == ("a",)


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("kl: ahead", "`against` is missing: the output that `ahead` is compared with"),
        ("kl: ahead, against: nothing", "there is no output `nothing`"),
        ("kl: logits, against: logits", "`logits` is compared with itself, at the same position"),
        ("kl: logits, against: logits, shift: -1", "`shift` is a whole number of at least 0, found -1"),
        ("kl: few, against: logits", "`few` is [B, T, 3], and cannot be compared with `logits`, which is [B, T, 9]"),
        (
            "kl: logits, against: ahead",
            "`logits` is [B, T, 9], and cannot be compared with `ahead`, which is [3, B, T, 9]",
        ),
        (
            "smooth_l1: states, against: logits",
            "`states` is [3, B, T, 4], and cannot be compared with `logits`, which is [B, T, 9]",
        ),
        (
            "kl: few, against: logits, vocabulary: twice",
            "`vocabulary` is a list of different token ids; one of these stands in it twice",
        ),
        ("kl: few, against: logits, vocabulary: [7, 8, 9]", "`vocabulary` has the token id 9, and `logits` 9 logits"),
        ("cross_entropy: few, target: ids, vocabulary: 4", "`vocabulary` has 4 token ids, and `few` 3 logits"),
        (
            "cross_entropy: few, target: ids, vocabulary: 1.5",
            "`vocabulary` is how many token ids are kept, a list of them, or a file of them, NAME.txt, found `1.5`",
        ),
        (
            "cross_entropy: logits, target: ids, smoothing: 1",
            "`smoothing` is a number at least 0 and below 1, found `1`",
        ),
        ("cross_entropy: logits, target: ids, detach: trunk", "`detach` is a list of `head`, found `trunk`"),
        ("listnet: logits, target: ids, window: 0", "`window` is a whole number from 1 to 65,536, found `0`"),
        ("binary_cross_entropy: logits, target: ids, decay: 0", "`decay` is a number above 0, at most 1, found `0`"),
        ("kl: ahead, against: logits, shift: depth, temperature: 0", "`temperature` is a number above 0, found `0`"),
        (
            "kl: ahead, against: logits, shift: depth, target_gradient: 1",
            "`target_gradient` is `true` or `false`, found `1`",
        ),
        ("confidence: few, against: logits", "`draft` is missing: the logits whose drafts may be accepted"),
        (
            "confidence: few, draft: logits, against: logits",
            "`few` is [B, T, 3], and the drafts of `logits` are [B, T, 9]: each has one confidence",
        ),
        ("z_loss: logits, sample: 1", "`sample` speaks of depths, and `logits` is not stacked"),
        ("z_loss: ahead, shift: depth + 1, sample: 4", "`sample` is at most the number of depths, 3, found 4"),
        (
            "total_variation: ahead, against: logits, shift: depth, end_to_end: true, weight: depth",
            "a loss that is `end_to_end` has one value for all depths: no `sample`, and no `depth` in its weight",
        ),
        ("z_loss: logits, temperature: 2", "there is no attribute `temperature` on `z_loss`"),
        ("z_loss: logits, weight: 1 / (step - 100)", "`weight`: division by zero (at step 100)"),
    ],
)
def test_what_is_refused(line: str, words: str) -> None:
    assert refused(MAIN, f"a: {{{line}}}") == words


# -- leaks ------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["kl", "soft_cross_entropy", "total_variation"])
@pytest.mark.parametrize("shift", ["depth - 1", "max(0, depth - 2)", "1 if depth < 3 else 2"])
def test_an_output_that_has_seen_the_token_which_the_other_predicts_is_a_leak(kind: str, shift: str) -> None:
    """Depth k has seen token i + k; the model at i + shift predicts token i + shift + 1."""
    first = next(k for k in (1, 2, 3) if k >= eval(shift, {"depth": k, "max": max}) + 1)
    found = refused(MAIN, f'a: {{{kind}: ahead, against: logits, shift: "{shift}"}}')
    assert found.startswith(f"label leak: `ahead` at depth {first} is compared with `logits` at i")
    assert found.endswith(f"but at position i it has already seen tokens up to i + {first}")


@pytest.mark.parametrize("kind", ["kl", "soft_cross_entropy", "total_variation"])
@pytest.mark.parametrize("shift", ["depth", "depth + 1", "2 * depth"])
def test_what_is_compared_with_may_have_seen_more(kind: str, shift: str) -> None:
    built(MAIN, f"a: {{{kind}: ahead, against: logits, shift: {shift}}}")
    built(MAIN, f"a: {{{kind}: logits, against: both_ways}}")  # the whole row


def test_a_target_counts_as_what_it_is_trained_to_predict() -> None:
    """`logits` says token i + 3 here, so depth 2, which has seen i + 2, does not know it."""
    built("main: {cross_entropy: logits, target: ids, shift: 3}", "a: {kl: ahead, against: logits, shift: depth - 1}")
    assert "does not know token i + 2" in refused(MAIN, 'a: {kl: ahead, against: logits, shift: "max(1, depth - 1)"}')


def test_states_are_judged_by_what_they_have_seen() -> None:
    built(MAIN, "a: {smooth_l1: states, against: trunk, shift: depth}")
    found = refused(MAIN, "a: {smooth_l1: states, against: trunk, shift: depth - 1}")
    assert found.startswith(
        "label leak: `states` at depth 1 is compared with `trunk` at i, which does not know token i + 1"
    )
    assert "seen the whole row" in refused(MAIN, "a: {kl: both_ways, against: logits}")
