"""Numbers and verdicts in words, the same on the page, in Markdown and on a terminal."""

from __future__ import annotations

import math

from dsvgraph.backends import BudgetKind
from dsvgraph_testbed.measures import NEXT
from dsvgraph_testbed.results import AtBudget, Results
from dsvgraph_testbed.statistics import Judgement, Verdict

EQUAL = {BudgetKind.TOKENS: "equal tokens", BudgetKind.FLOPS: "equal FLOPs", BudgetKind.MINUTES: "equal wall clock"}
MINUS = "\N{MINUS SIGN}"


def short(value: float, units: str = "KMGTPE") -> str:
    """Return a number with three digits and a unit: 20 M, 1.35 P."""
    steps = ["", *units]
    while abs(value) >= 999.5 and len(steps) > 1:
        value, steps = value / 1000, steps[1:]
    return f"{value:.3g} {steps[0]}".rstrip()


def duration(minutes: float) -> str:
    """Return a time: 42 s, 3.5 min, 2.1 h."""
    if minutes < 2:
        return f"{60 * minutes:.3g} s"
    return f"{minutes:.3g} min" if minutes < 120 else f"{minutes / 60:.3g} h"


def amount(kind: BudgetKind, value: float) -> str:
    """Return an amount of a budget."""
    if kind is BudgetKind.MINUTES:
        return duration(value)
    return f"{short(value, 'KMBT')} tokens" if kind is BudgetKind.TOKENS else f"{short(value)}FLOPs"


def heading(at: AtBudget) -> str:
    """Return what a budget holds equal, and how much of it."""
    return f"{EQUAL[at.kind]}, {amount(at.kind, at.amount)}"


def signed(value: float, digits: int = 4) -> str:
    """Return a difference with its sign."""
    if math.isnan(value):
        return "–"
    return f"{value:+.{digits}f}".replace("-", MINUS)


def effect(found: Judgement) -> str:
    """Return a mean difference in nats, or in points of accuracy, and in percent."""
    if found.pair.higher_is_better:
        return f"{signed(100 * found.effect, 2)} points"
    return f"{signed(found.effect)} nats, {signed(found.percent, 2)} %"


def interval(found: Judgement) -> str:
    """Return the simultaneous interval of a difference."""
    if math.isnan(found.interval[0]):
        return ""
    scale, digits = (100, 2) if found.pair.higher_is_better else (1, 4)
    low, high = (signed(scale * end, digits) for end in found.interval)
    return f"[{low}, {high}]"


def p_text(value: float) -> str:
    """Return a p-value."""
    if math.isnan(value):
        return ""
    return "p < 0.0001" if value < 1e-4 else f"p = {value:.2g}"


def sentence(found: Judgement) -> str:
    """Return a verdict as a sentence."""
    pair = found.pair
    what = "" if pair.measure == NEXT else f" ({pair.measure})"
    if found.verdict is Verdict.NONE:
        return f"{pair.second} and {pair.first}{what}: no verdict, because {found.note}."
    numbers = f"{effect(found)}, {interval(found)}, {p_text(found.p_adjusted)}"
    note = f"; {found.note}" if found.note else ""
    if found.verdict is Verdict.NOT_SIGNIFICANT:
        return f"{pair.second} against {pair.first}{what}: not significant ({numbers}{note})."
    return f"{pair.second} is {found.verdict} than {pair.first}{what}: {numbers}{note}."


def method(results: Results) -> list[str]:
    """Return how the verdicts were reached, in sentences."""
    comparison, percent = results.comparison, f"{100 * results.comparison.confidence:g} %"
    seeds = len(comparison.seeds)
    first = results.names[0]
    found = [
        f"Every variant is trained with the seeds {', '.join(map(str, comparison.seeds))}: for one seed all see the "
        "same batches in the same order, and begin with weights drawn from that seed.",
        f"A difference is the second variant's held-out value less the first's, paired by seed ({seeds} pairs), on "
        "the same held-out tokens. The test is a two-sided paired t test.",
        f"Verdicts are corrected for their number by Holm's method, all of one budget together, at {percent}; "
        f"intervals are Bonferroni's, which hold all at once with {percent}. The table of farther tokens is "
        "corrected by itself.",
        f"Budgets are what {first} uses up: its tokens; its FLOPs of training by the graph's count; the mean of its "
        "wall clock over seeds, of training steps alone, without evaluations, checkpoints and the preparation of a "
        "process's first step.",
    ]
    return [*found, _reading(results)]


def _reading(results: Results) -> str:
    """Return how losses are read at a budget."""
    if results.comparison.anneal:
        return (
            "Each budget has runs of its own, whose learning rate falls to its end there, and is read after their last "
            "step. The steps for equal wall clock follow from the speed of the variant's run of equal tokens."
        )
    return (
        "The learning rate is constant after warm-up, so that a run is as good at any step as one that ends there. "
        "Tokens and FLOPs are read from an evaluation within half a step of the budget; wall clock, unless an "
        "evaluation lies there, between the evaluations before and after, on a straight line over the logarithm of "
        "the step."
    )


def question(results: Results) -> str:
    """Return the question, as it was asked or as the variants imply it."""
    names = results.names
    others = names[1] if len(names) == 2 else f"{', '.join(names[1:-1])} or {names[-1]}"
    return results.comparison.question or f"Does {others} train better than {names[0]}?"
