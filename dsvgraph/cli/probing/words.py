"""Numbers and sentences that the terminal and the page of `dsvgraph probe` share."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping

from dsvgraph.backends.probes import Estimate, Gradients, Matrix, Probe, Snapshot

DECISIVE = 10
"""Standard errors from which on the declared wiring is said to be confirmed."""

NOTICEABLE = 3
"""Standard errors from which on two wirings are said to differ."""


def estimate(found: Estimate | None, digits: int = 3, factor: float = 1) -> str:
    """Return a mean and its standard error: 0.647 ± 0.020."""
    if found is None or math.isnan(found.value):
        return "-"
    error = "" if found.error is None else f" ± {found.error * factor:.{digits}f}"
    return f"{found.value * factor:.{digits}f}{error}"


def percent(found: Estimate | None) -> str:
    """Return a share and its standard error in percent: 64.7 ± 2.0 %."""
    text = estimate(found, 1, 100)
    return text if text == "-" else f"{text} %"


def about(probe: Probe) -> str:
    """Return on what was measured, in a sentence."""
    newest = probe.newest
    trained = f"after step {newest.step:,} ({newest.tokens:,} tokens), " if newest.step else ""
    return f"{trained}on {probe.rows:,} rows of {probe.row_tokens:,} {probe.unit}s: {probe.data}"


def ahead(shift: int) -> str:
    """Return which token position i predicts."""
    return f"i + {shift}"


def label(path: str, use: int, uses: Mapping[str, int]) -> str:
    """Return a path, with the number of its use where its weights are used more than once."""
    return f"{path} (use {use + 1})" if uses.get(path, 1) > 1 else path


def uses(paths: Iterable[str]) -> dict[str, int]:
    """Return how often each path occurs."""
    found: dict[str, int] = {}
    for path in paths:
        found[path] = found.get(path, 0) + 1
    return found


def losses(snapshot: Snapshot) -> list[str]:
    """Return the names of the losses whose gradients were measured, the reference first."""
    return list(snapshot.gradients[0].norms) if snapshot.gradients else []


def trunk(snapshot: Snapshot) -> list[Gradients]:
    """Return the layers from which the reference is computed."""
    return [row for row in snapshot.gradients if row.trunk]


def length(snapshot: Snapshot) -> str:
    """Return the expected length of a drafted step, in a sentence."""
    return f"expected tokens of a drafted step, by the products: {snapshot.accepted_length:.2f}"


def verdict(matrix: Matrix) -> list[str]:
    """Return what the matrix says about the declared wiring, in sentences."""
    declared, margin = matrix.declared, matrix.margin
    others = [wiring for wiring in matrix.wirings if not wiring.declared and wiring.sigma is not None]
    alike = [wiring for wiring in others if abs(wiring.sigma or 0) < NOTICEABLE]
    better = [wiring for wiring in others if (wiring.sigma or 0) <= -NOTICEABLE]
    head = f"declared: {declared.words} (acceptance {percent(declared.pooled)})"
    if better:
        best = better[0]
        return [head, f"ANOTHER WIRING DOES BETTER: {best.words}, by {-(best.sigma or 0):.1f} standard errors"]
    if alike:
        rest = min((w.sigma or 0 for w in others if w not in alike), default=math.inf)
        changes = "; ".join(_changed(wiring.words, declared.words) for wiring in alike)
        over = f"; it is {rest:.1f} standard errors above every other" if math.isfinite(rest) else ""
        return [head, f"these weights do not tell it from {len(alike)} other: {changes}{over}"]
    sure = "confirmed" if margin >= DECISIVE else "ahead"
    return [head, f"{sure}: {margin:.1f} standard errors above the best other wiring"]


def _changed(words: str, declared: str) -> str:
    """Return the choices of a wiring that differ from the declared one."""
    return ", ".join(part for part in words.split(", ") if part not in declared.split(", "))
