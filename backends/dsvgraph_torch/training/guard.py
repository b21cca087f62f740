"""Signs that a run goes wrong: loss spikes and gradients out of all proportion to those before.

The judgement follows from the steps so far alone, so that a resumed run judges as one that was never stopped.
"""

from __future__ import annotations

from collections import deque
from statistics import median

WINDOW = 32
"""Steps that a step is compared with."""

LEAST = 16
"""Steps before which nothing is judged: the first losses fall too fast."""

PATIENCE = 50
"""Steps in a row that may be suspect before a run ends as diverged."""

GRADIENT = 20.0
"""How many times the median norm of the gradient is suspect."""


class Guard:
    """Judges each step by those before it.

    A loss is a spike if it lies above the median of the good steps before by more than ``limit`` times their spread
    (1.4826 median absolute deviations, 2 % of the median at least). A suspect step is no part of what later ones
    are compared with. ``limit`` 0 judges nothing.
    """

    def __init__(self, limit: float) -> None:
        self.limit = limit
        self.losses: deque[float] = deque(maxlen=WINDOW)
        self.norms: deque[float] = deque(maxlen=WINDOW)
        self.suspect = 0

    def judge(self, loss: float, norm: float) -> str:
        """Return what is wrong with a step, in words, or nothing."""
        words = self._words(loss, norm) if self.limit and len(self.losses) >= LEAST else ""
        self.suspect = self.suspect + 1 if words else 0
        if not words:
            self.losses.append(loss)
            self.norms.append(norm)
        return words

    def _words(self, loss: float, norm: float) -> str:
        middle = median(self.losses)
        spread = max(1.4826 * median(abs(x - middle) for x in self.losses), 0.02 * abs(middle))
        if loss > middle + self.limit * spread:
            return f"the loss is {loss:.4g}, and was {middle:.4g} (median of {len(self.losses)} steps)"
        usual = median(self.norms)
        if norm > GRADIENT * usual > 0:
            return f"the gradient's norm is {norm:.4g}, and was {usual:.4g} (median of {len(self.norms)} steps)"
        return ""

    @property
    def exhausted(self) -> bool:
        """Whether too many steps in a row were suspect."""
        return self.suspect >= PATIENCE
