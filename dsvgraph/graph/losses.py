"""The lines of the section `loss`, as checked: their kinds, and what one of them says."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from dsvgraph.errors import Span
from dsvgraph.expr import Expr


class LossKind(StrEnum):
    """What a line of the section `loss` is."""

    CROSS_ENTROPY = "cross_entropy"
    BINARY_CROSS_ENTROPY = "binary_cross_entropy"
    LISTNET = "listnet"
    KL = "kl"
    SOFT_CROSS_ENTROPY = "soft_cross_entropy"
    TOTAL_VARIATION = "total_variation"
    SMOOTH_L1 = "smooth_l1"
    CONFIDENCE = "confidence"
    Z_LOSS = "z_loss"
    SEQUENCE_BALANCE = "sequence_balance"
    BIAS_UPDATE = "bias_update"

    @property
    def scores_tokens(self) -> bool:
        """Return whether an output is scored against tokens of an input, `target`."""
        return self in (LossKind.CROSS_ENTROPY, LossKind.BINARY_CROSS_ENTROPY, LossKind.LISTNET)

    @property
    def compares(self) -> bool:
        """Return whether an output is scored against another output, `against`."""
        kinds = (LossKind.KL, LossKind.SOFT_CROSS_ENTROPY, LossKind.TOTAL_VARIATION)
        return self in (*kinds, LossKind.SMOOTH_L1, LossKind.CONFIDENCE)

    @property
    def of_logits(self) -> bool:
        """Return whether what is scored are logits, over the vocabulary."""
        return self not in (LossKind.SMOOTH_L1, LossKind.CONFIDENCE) and not self.of_routers

    @property
    def of_routers(self) -> bool:
        """Return whether the line is over routers, named by path, and no output."""
        return self in (LossKind.SEQUENCE_BALANCE, LossKind.BIAS_UPDATE)


@dataclass(frozen=True, kw_only=True)
class Loss:
    """One line of the loss: what it scores, against what, with which weight.

    ``weight``, ``shift``, ``divide`` and ``stride`` are expressions over config names (already filled in),
    ``depth`` (1, 2, ... of a stacked output), ``tokens`` and ``step`` (seen and taken so far), ``valid`` (targets
    counted), B and T. ``depths`` holds 0 for an output that is not stacked. The other attributes have their defaults
    where the kind has no such attribute.
    """

    name: str
    kind: LossKind
    weight: Expr
    output: str | None = None
    target: str | None = None
    against: str | None = None
    draft: str | None = None  # of a confidence: the output of logits whose acceptance it tells
    shift: Expr | None = None
    stride: Expr | None = None
    divide: Expr | None = None
    depths: tuple[int, ...] = (0,)
    routers: str | None = None
    span: Span | None = None
    smoothing: float = 0  # the share of the target that all tokens have alike
    temperature: float = 1  # that both sides' logits are divided by
    beta: float = 1  # where smooth L1 goes from squares to absolute values
    window: int = 1  # how many tokens, from the target on, are scored together
    decay: float = 1  # what a token of the window counts less than the one before it
    vocabulary: int | tuple[int, ...] | None = None  # token ids of the logits: the first so many, or these
    sample: int = 0  # how many depths are trained in a step, drawn at random; 0: all
    end_to_end: bool = False  # over the product of the depths so far, one value for all depths
    detach: tuple[str, ...] = ()  # what gets no gradient: `head`
    target_gradient: bool = False  # whether `against` gets a gradient

    @property
    def names(self) -> tuple[str, ...]:
        """Return the names of its values, one for each depth."""
        if self.end_to_end:
            return (self.name,)
        return tuple(f"{self.name}.{depth}" if depth else self.name for depth in self.depths)
