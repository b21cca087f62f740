"""Differences, intervals and verdicts, judged by scipy.stats, permutations, closed testing and simulation."""

from __future__ import annotations

from itertools import combinations, product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from dsvgraph_testbed.statistics import Pair, Verdict, holm, judged, mean_interval, p_value, t_interval


def pair(first, second, **more) -> Pair:
    return Pair(measure="m", first="a", second="b", values=dict(enumerate(zip(first, second))), **more)


def test_p_values_and_intervals_are_those_of_scipy() -> None:
    random = np.random.default_rng(1)
    for seeds in (2, 3, 5, 9):
        a, b = random.normal(3, 0.5, seeds), random.normal(2.9, 0.5, seeds)
        found = judged([pair(a, b)]).judgements[0]
        test = stats.ttest_rel(b, a)
        assert found.p == pytest.approx(test.pvalue) and found.p_adjusted == found.p
        assert found.interval == pytest.approx(tuple(test.confidence_interval(0.95))) and found.single == found.interval
        assert found.effect == pytest.approx((b - a).mean())
        assert found.percent == pytest.approx(100 * (b - a).mean() / a.mean())


def test_the_p_value_is_near_that_of_all_permutations() -> None:
    random = np.random.default_rng(4)
    differences = random.normal(0.35, 1, 12)
    flipped = np.array([abs((differences * signs).mean()) for signs in product((1, -1), repeat=12)])
    exact = (flipped >= abs(differences.mean()) - 1e-12).mean()
    assert 0.02 < exact < 0.6 and p_value(differences) == pytest.approx(exact, abs=0.02)


@given(st.lists(st.floats(0, 1), min_size=1, max_size=6))
@settings(max_examples=60, deadline=None)
def test_holm_is_the_closed_test_of_bonferroni(found: list[float]) -> None:
    """A hypothesis falls when every set that it is in falls: its p-value is the largest of those sets'."""
    sets = [s for size in range(1, len(found) + 1) for s in combinations(range(len(found)), size)]
    closed = [max(min(1, len(s) * min(found[j] for j in s)) for s in sets if i in s) for i in range(len(found))]
    assert holm(found) == pytest.approx(closed)


def test_all_intervals_cover_at_once_and_no_verdict_is_false_as_often_as_promised() -> None:
    """Four variants without a difference, seeds that move all of them alike: 6 verdicts, 5 seeds."""
    random, rounds = np.random.default_rng(7), 400
    covered = false = apart = 0
    for _ in range(rounds):
        values = random.normal(size=(4, 5)) + 3 * random.normal(size=5)
        table = judged([pair(values[a], values[b]) for a, b in combinations(range(4), 2)])
        covered += all(one.interval[0] <= 0 <= one.interval[1] for one in table.judgements)
        false += any(one.verdict is not Verdict.NOT_SIGNIFICANT for one in table.judgements)
        apart += any(not one.single[0] <= 0 <= one.single[1] for one in table.judgements)
    error = 3 * (0.05 * 0.95 / rounds) ** 0.5
    assert covered / rounds > 0.95 - error and false / rounds < 0.05 + error
    assert apart / rounds > 0.1  # uncorrected, chance alone would be told as an effect


def test_a_difference_is_told_by_its_direction() -> None:
    low, high = [1.0, 1.1, 1.2], [2.0, 2.1, 2.21]
    assert judged([pair(high, low)]).judgements[0].verdict is Verdict.BETTER
    assert judged([pair(low, high)]).judgements[0].verdict is Verdict.WORSE
    assert judged([pair(low, high, higher_is_better=True)]).judgements[0].verdict is Verdict.BETTER
    spread = pair(low, [2.0, 2.5, 3.0])  # p is 0.026
    assert judged([spread]).judgements[0].verdict is Verdict.WORSE
    assert judged([spread], 0.99).judgements[0].verdict is Verdict.NOT_SIGNIFICANT


def test_equal_losses_are_no_difference_and_a_constant_one_is() -> None:
    same, moved = judged([pair([1.0, 2.0], [1.0, 2.0]), pair([1.0, 2.0], [1.5, 2.5])]).judgements
    assert (same.verdict, same.interval, same.p) == (Verdict.NOT_SIGNIFICANT, (0, 0), 1)
    assert same.note == "equal to the last bit"
    assert (moved.verdict, moved.interval, moved.p) == (Verdict.WORSE, (0.5, 0.5), 0)


def test_what_cannot_be_tested_gets_no_verdict_and_costs_the_others_nothing() -> None:
    clear = pair([1.0, 1.1, 1.2], [2.0, 2.1, 2.2001])
    table = judged([pair([1.0], [2.0]), clear, pair([1, 2], [3, 4], obstacle="`b` diverged")])
    one, tested, diverged = table.judgements
    assert one.verdict is Verdict.NONE and "there is one" in one.note and one.effect == 1
    assert diverged.verdict is Verdict.NONE and diverged.note == "`b` diverged"
    assert table.tested == 1 and tested.p_adjusted == tested.p


def test_where_holm_decides_and_bonferroni_reaches_zero_it_is_said() -> None:
    pairs = [pair(np.zeros(5), np.array(d)) for d in ([5, 5.1, 5.2, 5.1, 5], [0.1, 1, 1.4, 0.6, 1.9])]
    second = judged(pairs).judgements[1]
    assert second.verdict is Verdict.WORSE and second.interval[0] < 0 < second.single[0]
    assert second.note.startswith("significant by Holm's test")


def test_means_have_the_interval_of_scipy() -> None:
    values = [1.0, 1.5, 1.2]
    low, high = stats.t.interval(0.9, 2, np.mean(values), stats.sem(values))
    assert mean_interval(values, 0.9) == pytest.approx((np.mean(values), low, high))
    assert mean_interval([2.0], 0.9) == (2, 2, 2) and t_interval(np.array([1.0, 1.0]), 0.9) == (1, 1)
