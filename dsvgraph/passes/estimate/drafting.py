"""What drafting gives on a device: tokens per step, speed-up, and where it stops to pay."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import accumulate, pairwise
from operator import mul

from dsvgraph.errors import DsvError
from dsvgraph.passes.count.quantity import Quantity
from dsvgraph.passes.estimate.roofline import Seconds

MOST_ROWS = 2**16
"""The largest batch that is looked at."""

TOLERANCE = 1e-6


@dataclass(frozen=True, kw_only=True)
class DraftingEstimate:
    """What ``drafts`` tokens a step give, the k-th accepted with chance ``acceptance[k - 1]`` if those before it are.

    ``break_even_acceptance`` is the chance, one for all drafts, at which a step with drafts makes as many tokens a
    second as plain ones; None if even all accepted drafts do not pay. ``paying_batches`` are the numbers of rows for
    which drafting pays at this acceptance, as pairs of the first and the last one: drafts may read more experts of few
    rows, and need more FLOPs of many. ``break_even_batch`` is the largest of them, 0 if there is none, None if it
    still pays for 65,536. What needs a device, or an acceptance, is None without.
    """

    drafts: int
    acceptance: tuple[float, ...] | None
    tokens_per_step: Quantity | None  # in a1, a2, ..., the acceptances
    seconds: Quantity | None  # of a step with drafts
    seconds_plain: Quantity | None  # of a step without
    speedup: Quantity | None
    break_even_acceptance: float | None
    break_even_batch: int | None
    paying_batches: tuple[tuple[int, int | None], ...] | None


StepTimes = Callable[[int], tuple[Seconds, Seconds]]
"""Seconds of a step with drafts and of one without, for a number of rows."""


def tokens_per_step(acceptance: Sequence[float]) -> float:
    """Return 1 + a1 + a1 a2 + ...: the longest accepted prefix of the drafts, and one token more."""
    return 1.0 + sum(accumulate(acceptance, mul), start=0.0)


def estimated(drafts: int, acceptance: Sequence[float] | None, batch: int, times: StepTimes | None) -> DraftingEstimate:
    """Return what drafting gives; ``acceptance`` has one number for all drafts, or one for each.

    Raise DsvError if it has another length, or a number is not a chance.
    """
    chances = None if acceptance is None else _chances(acceptance, drafts)
    formula = " + ".join(["1", *("*".join(f"a{i}" for i in range(1, k + 1)) for k in range(1, drafts + 1))])
    made = None if chances is None else Quantity(tokens_per_step(chances), formula)
    both = times(batch) if times else None
    ratio = both[0].best.value / both[1].best.value if both else None
    paying = paying_batches(times, made.value) if times and made else None
    return DraftingEstimate(
        drafts=drafts,
        acceptance=chances,
        tokens_per_step=made,
        seconds=both[0].best if both else None,
        seconds_plain=both[1].best if both else None,
        speedup=_speedup(made, both) if made and both else None,
        break_even_acceptance=None if ratio is None else break_even_acceptance(ratio, drafts),
        break_even_batch=None if paying is None else paying[-1][1] if paying else 0,
        paying_batches=paying,
    )


def _chances(acceptance: Sequence[float], drafts: int) -> tuple[float, ...]:
    found = tuple(acceptance) * (drafts if len(acceptance) == 1 else 1)
    if len(found) != drafts:
        raise DsvError(f"`acceptance` has a number for each of {drafts} drafts, or one for all; found {len(found)}")
    if wrong := [a for a in found if not 0 <= a <= 1]:
        raise DsvError(f"`acceptance` is a chance, from 0 to 1; found {wrong[0]}")
    return found


def _speedup(made: Quantity, both: tuple[Seconds, Seconds]) -> Quantity:
    long, short = both[0].best, both[1].best
    formula = f"({made.formula})/({long.formula})*({short.formula})"
    return Quantity(made.value * short.value / long.value, formula)


def break_even_acceptance(ratio: float, drafts: int) -> float | None:
    """Return a with 1 + a + ... + a^K = ``ratio``, the time of a step with K drafts over that of a plain one."""
    if ratio > drafts + 1:
        return None
    low, high = 0.0, 1.0
    while high - low > TOLERANCE:
        middle = (low + high) / 2
        low, high = (middle, high) if tokens_per_step([middle] * drafts) < ratio else (low, middle)
    return high if ratio > 1 else 0.0


def paying_batches(times: StepTimes, tokens: float) -> tuple[tuple[int, int | None], ...]:
    """Return from how many rows to how many a step with drafts makes more tokens a second than plain ones.

    The last number is None where it still does at 65,536 rows. Powers of two are tried, and where two of them that
    follow each other differ, the numbers between are halved: it is taken to change there once, and elsewhere not.
    """

    def pays(rows: int) -> bool:
        long, short = times(rows)
        return bool(tokens * short.best.value > long.best.value)

    powers = [2**k for k in range(MOST_ROWS.bit_length())]
    paid = [pays(n) for n in powers]
    starts = [1] if paid[0] else []
    ends = list[int | None]()
    for k, (before, after) in enumerate(pairwise(paid)):
        if before == after:
            continue
        low, high = powers[k], powers[k + 1]
        while high - low > 1:
            middle = (low + high) // 2
            low, high = (middle, high) if pays(middle) == before else (low, middle)
        if after:
            starts.append(high)
        else:
            ends.append(low)
    return tuple(zip(starts, [*ends, *([None] if paid[-1] else [])], strict=True))
