"""Differences between variants, paired by seed: t intervals, Holm's correction, and verdicts in words."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum

import numpy as np
from scipy.special import stdtr, stdtrit


class Verdict(StrEnum):
    """How a variant stands against another."""

    BETTER = "better"
    WORSE = "worse"
    NOT_SIGNIFICANT = "not significant"
    NONE = "no verdict"


@dataclass(frozen=True, kw_only=True)
class Pair:
    """One measured quantity of two variants: ``values`` of both by seed, and why they cannot be compared, if so."""

    measure: str
    first: str
    second: str
    values: Mapping[int, tuple[float, float]]
    higher_is_better: bool = False
    obstacle: str = ""

    @property
    def differences(self) -> np.ndarray:
        """Second minus first, by seed."""
        return np.array([second - first for first, second in self.values.values()], dtype=float)


@dataclass(frozen=True, kw_only=True)
class Judgement:
    """What came of a pair: the mean difference (second minus first), its interval, and the verdict on the second.

    ``p`` is that of the two-sided paired t test, ``p_adjusted`` Holm's. ``single`` is the interval of this pair
    alone, ``interval`` the one that holds together with all others of its table.
    """

    pair: Pair
    verdict: Verdict
    effect: float = math.nan
    percent: float = math.nan
    interval: tuple[float, float] = (math.nan, math.nan)
    single: tuple[float, float] = (math.nan, math.nan)
    p: float = math.nan
    p_adjusted: float = math.nan
    note: str = ""


@dataclass(frozen=True)
class Table:
    """The verdicts that are corrected together. ``tested`` is their number, less those without a test."""

    judgements: tuple[Judgement, ...]
    confidence: float
    tested: int = field(default=0)


def judged(pairs: Sequence[Pair], confidence: float = 0.95) -> Table:
    """Return a verdict for each pair, corrected for their number.

    Whether a difference is significant is Holm's step-down test at 1 - ``confidence`` over all pairs that can be
    tested. Their intervals are Bonferroni's: with probability ``confidence``, all of them cover at once.
    """
    whys = [_obstacle(pair) for pair in pairs]
    tested = [pair for pair, why in zip(pairs, whys, strict=True) if not why]
    adjusted = iter(holm([p_value(pair.differences) for pair in tested]))
    level = 1 - (1 - confidence) / max(1, len(tested))
    found = [
        _unjudged(pair, why) if why else _judged(pair, next(adjusted), confidence, level)
        for pair, why in zip(pairs, whys, strict=True)
    ]
    return Table(tuple(found), confidence, len(tested))


def _obstacle(pair: Pair) -> str:
    """Return why a pair cannot be tested, or nothing."""
    if pair.obstacle:
        return pair.obstacle
    return "" if len(pair.values) > 1 else f"a test needs 2 seeds, there {['are none', 'is one'][len(pair.values)]}"


def _unjudged(pair: Pair, why: str) -> Judgement:
    effect, percent = _effect(pair)
    return Judgement(pair=pair, verdict=Verdict.NONE, note=why, effect=effect, percent=percent)


def _effect(pair: Pair) -> tuple[float, float]:
    """Return the mean difference of a pair, as it is and in percent of the first; NaN where no seed has both."""
    if not pair.values:
        return math.nan, math.nan
    effect = float(pair.differences.mean())
    base = float(np.mean([first for first, _ in pair.values.values()]))
    return effect, 100 * effect / base if base else math.nan


def _judged(pair: Pair, p_adjusted: float, confidence: float, level: float) -> Judgement:
    differences, interval = pair.differences, t_interval(pair.differences, level)
    effect, percent = _effect(pair)
    significant = p_adjusted <= 1 - confidence
    return Judgement(
        pair=pair,
        effect=effect,
        percent=percent,
        verdict=_verdict(effect, pair.higher_is_better) if significant else Verdict.NOT_SIGNIFICANT,
        interval=interval,
        single=t_interval(differences, confidence),
        p=p_value(differences),
        p_adjusted=p_adjusted,
        note=_note(differences, significant, interval),
    )


def _verdict(mean: float, higher_is_better: bool) -> Verdict:
    return Verdict.BETTER if (mean > 0) == higher_is_better else Verdict.WORSE


def _note(differences: np.ndarray, significant: bool, interval: tuple[float, float]) -> str:
    """Return what a reader of the numbers may stumble over, or nothing."""
    if not differences.any():
        return "equal to the last bit"
    if significant and interval[0] <= 0 <= interval[1]:
        return "significant by Holm's test; Bonferroni's interval is wider and reaches 0"
    return ""


def p_value(differences: np.ndarray) -> float:
    """Return the p-value of the two-sided t test that the mean of at least two differences is 0."""
    if np.ptp(differences) == 0:  # no spread: the t statistic is 0/0 or infinite
        return 0.0 if differences[0] else 1.0
    freedom, error = len(differences) - 1, _standard_error(differences)
    return float(2 * stdtr(freedom, -abs(differences.mean()) / error))


def t_interval(differences: np.ndarray, level: float) -> tuple[float, float]:
    """Return the t interval of the mean of at least two differences."""
    mean = float(differences.mean())
    half = float(stdtrit(len(differences) - 1, (1 + level) / 2)) * _standard_error(differences)
    return mean - half, mean + half


def _standard_error(differences: np.ndarray) -> float:
    return float(differences.std(ddof=1)) / math.sqrt(len(differences))


def holm(p_values: Sequence[float]) -> list[float]:
    """Return p-values adjusted by Holm's step-down method (1979), in the order given."""
    count, adjusted, highest = len(p_values), [0.0] * len(p_values), 0.0
    for rank, index in enumerate(sorted(range(count), key=p_values.__getitem__)):
        highest = max(highest, min(1.0, (count - rank) * p_values[index]))
        adjusted[index] = highest
    return adjusted


def mean_interval(values: Sequence[float], level: float) -> tuple[float, float, float]:
    """Return mean and t interval of ``values``; the mean alone, three times, where there are fewer than two."""
    found = np.array(values, dtype=float)
    if len(found) < 2:
        mean = float(found.mean()) if len(found) else math.nan
        return mean, mean, mean
    return float(found.mean()), *t_interval(found, level)
