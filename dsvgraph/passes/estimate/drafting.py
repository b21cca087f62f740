"""Drafting: what heads that predict further tokens are worth when decoding."""

from __future__ import annotations

from dataclasses import dataclass

from dsvgraph.passes.count.quantity import Quantity
from dsvgraph.passes.estimate.roofline import Seconds

ACCEPTANCES = (0.5, 0.6, 0.7, 0.8, 0.85, 0.9)


@dataclass(frozen=True)
class Draft:
    """What drafting gives where each drafted token is accepted with chance ``acceptance``."""

    acceptance: float
    tokens_per_step: Quantity  # in a, the acceptance
    speedup: Quantity | None  # in the roofline's time; None without a device


def expected_tokens(acceptance: float, drafts: int) -> float:
    """Tokens per step with ``drafts`` drafted ones, each accepted with chance ``acceptance`` if those before are.

    The longest accepted prefix and one token more: 1 + a + ... + a^K = (1 - a^(K+1)) / (1 - a).
    """
    return sum(acceptance**k for k in range(drafts + 1))


def drafted(
    drafts: int, times: tuple[Seconds, Seconds] | None, acceptances: tuple[float, ...] = ACCEPTANCES
) -> tuple[Draft, ...]:
    """What ``drafts`` drafted tokens give; ``times``: of a step with them, and of one without."""
    formula = " + ".join(["1", "a", *(f"a**{k}" for k in range(2, drafts + 1))][: drafts + 1])
    tokens = [Quantity(expected_tokens(a, drafts), formula) for a in acceptances]
    return tuple(Draft(a, n, _speedup(n, *times) if times else None) for a, n in zip(acceptances, tokens, strict=True))


def _speedup(tokens: Quantity, with_drafts: Seconds, without: Seconds) -> Quantity:
    long, short = with_drafts.best, without.best
    formula = f"({tokens.formula})/({long.formula})*({short.formula})"
    return Quantity(tokens.value / (long.value / short.value), formula)
