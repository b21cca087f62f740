"""What a prober reports of a trained model: numbers per depth, per token, per layer, and per wiring of its chain."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from dsvgraph.backends.training import RunWeights
from dsvgraph.graph import Model


@dataclass(frozen=True, kw_only=True)
class ProbeOptions:
    """What is asked of a prober.

    ``text`` is shown token by token, at most ``tokens`` of it; None for held-out text of the run. Numbers are taken
    over about ``measured`` held-out tokens. ``weights`` are those of a run that are measured, ``spec`` is
    the model of a folder of weights that has no config.json.
    """

    text: str | None = None
    tokens: int = 256
    measured: int = 16384
    over_training: bool = False
    mtp_matrix: bool = False
    gradients: bool = True
    device: str = "auto"
    weights: RunWeights = RunWeights.LAST
    spec: Model | None = None


@dataclass(frozen=True)
class Estimate:
    """A mean over ``count`` positions; ``error`` is its standard error over rows, None where there is one row."""

    value: float
    error: float | None
    count: int


@dataclass(frozen=True, kw_only=True)
class DepthScores:
    """How well one output at one depth predicts: position i predicts token i + ``ahead``.

    ``loss`` is the mean of -log p(right token) in nats, ``entropy`` that of its distribution in nats, ``confidence``
    the mean probability of its likeliest token. ``weight`` is that of the loss after the tokens so far, as text.
    """

    name: str
    depth: int
    ahead: int
    weight: str
    loss: Estimate
    accuracy: Estimate
    entropy: Estimate
    confidence: Estimate


@dataclass(frozen=True, kw_only=True)
class Acceptance:
    """How often a depth names the token that the reference output names at the position whose token it predicts.

    ``agreement`` is the share of positions, ``prefix`` the share where this depth and all nearer ones agree at the
    same position, ``product`` the product of the agreements up to this depth.
    """

    name: str
    depth: int
    ahead: int
    agreement: Estimate
    prefix: Estimate
    product: float


@dataclass(frozen=True, kw_only=True)
class Gradients:
    """The gradients of the losses in the weights below ``path``, one batch at a time.

    ``trunk``: the reference output is computed from these weights. ``norms`` holds, by the name of the loss, the
    norm of the gradient of the unweighted loss; ``cosines`` those to the gradient of the reference's loss, for
    every other one. A weight that a loss does not reach has the norm 0 and no cosine.
    """

    path: str
    trunk: bool
    parameters: int
    norms: Mapping[str, Estimate]
    cosines: Mapping[str, Estimate]


@dataclass(frozen=True, kw_only=True)
class RouterLoad:
    """The load of one router: ``load`` is each expert's share of the choices.

    ``entropy`` is the mean over tokens of the entropy of the normalised scores, as a share of that of equal scores;
    ``balance`` the entropy of the load, as a share of that of an even load.
    """

    path: str
    use: int
    top_k: int
    load: tuple[float, ...]
    entropy: float
    balance: float

    @property
    def peak(self) -> float:
        """The largest load as a multiple of the mean load."""
        return max(self.load) * len(self.load)


@dataclass(frozen=True, kw_only=True)
class StateNorms:
    """The residual stream behind one layer: root mean squares per position, averaged over positions.

    ``change`` is the norm of what the layer adds divided by that of what it reads. ``branches`` holds what lines of
    the layer add to the stream, by their names.
    """

    path: str
    use: int
    state: float
    change: float
    branches: Mapping[str, float]


@dataclass(frozen=True, kw_only=True)
class AttentionNorms:
    """One use of attention: the root mean square of its output, its largest logit, and the entropy of its weights.

    ``entropy`` is in nats, averaged over heads and positions. ``logit`` and ``entropy`` are None where positions see
    others than the causal ones in a window.
    """

    path: str
    use: int
    output: float
    logit: float | None
    entropy: float | None


@dataclass(frozen=True, kw_only=True)
class Snapshot:
    """What was measured of one checkpoint, after ``step`` steps and ``tokens`` tokens of training."""

    step: int
    tokens: int
    scores: tuple[DepthScores, ...]
    acceptance: tuple[Acceptance, ...] = ()
    gradients: tuple[Gradients, ...] = ()

    @property
    def accepted_length(self) -> float:
        """The expected number of tokens of a drafted step by the products: 1 and each depth's."""
        return 1 + sum(row.product for row in self.acceptance)


@dataclass(frozen=True, kw_only=True)
class Passage:
    """A text token by token. For each prediction one number for each token, None where the model does not predict it.

    ``probability`` is that of the right token, ``entropy`` that of the distribution in nats, ``confidence`` the
    probability of the likeliest token, which ``likeliest`` names.
    """

    tokens: tuple[str, ...]
    probability: Mapping[str, tuple[float | None, ...]]
    entropy: Mapping[str, tuple[float | None, ...]]
    confidence: Mapping[str, tuple[float | None, ...]]
    likeliest: Mapping[str, tuple[str | None, ...]]


@dataclass(frozen=True, kw_only=True)
class Wiring:
    """One wiring of the chain: `declared` is the spec's own.

    ``agreement`` holds each depth's acceptance; ``pooled`` is that of all depths. ``below`` is how far it lies below
    the declared one, paired by row, and ``sigma`` that difference in standard errors (None for the declared one).
    """

    state: str
    handed_on: str
    order: str
    module: str
    declared: bool
    agreement: tuple[Estimate, ...]
    pooled: Estimate
    below: Estimate | None
    sigma: float | None

    @property
    def words(self) -> str:
        """The wiring in words, without the choices that the model does not have."""
        state = self.state and f"first state {self.state}"
        handed_on = self.handed_on and f"handed on {self.handed_on}"
        return ", ".join(filter(None, (state, handed_on, self.order, self.module)))


@dataclass(frozen=True, kw_only=True)
class Matrix:
    """The acceptance of every wiring of the chain with the same weights, the best first.

    ``controls`` is the declared wiring against the reference output at the position before and behind the right one.
    ``left_out`` says of the choices that this graph does not have, why.
    """

    line: str
    heads: tuple[str, ...]
    wirings: tuple[Wiring, ...]
    controls: Mapping[str, tuple[Estimate, ...]]
    left_out: tuple[str, ...] = ()

    @property
    def declared(self) -> Wiring:
        """The wiring that the spec declares."""
        return next(wiring for wiring in self.wirings if wiring.declared)

    @property
    def margin(self) -> float:
        """By how many standard errors the declared wiring is above the best other one; negative if it is below."""
        return min((w.sigma for w in self.wirings if w.sigma is not None), default=math.inf)


@dataclass(frozen=True, kw_only=True)
class Probe:
    """What `dsvgraph probe` found. Numbers are over ``rows`` rows of ``row_tokens`` tokens.

    Gradients are of batches of ``gradient_tokens`` tokens. ``history`` are states of the weights in the order of
    training, all on the same ``history_rows`` rows.
    """

    name: str
    folder: str
    data: str
    rows: int
    row_tokens: int
    unit: str
    newest: Snapshot
    passage: Passage
    routers: tuple[RouterLoad, ...] = ()
    states: tuple[StateNorms, ...] = ()
    attention: tuple[AttentionNorms, ...] = ()
    matrix: Matrix | None = None
    history: tuple[Snapshot, ...] = ()
    history_rows: int = 0
    gradient_tokens: int = 0
    notes: tuple[str, ...] = ()

    def as_dict(self) -> dict[str, Any]:
        """Return everything as plain data."""
        found = asdict(self)
        found["accepted_length"] = self.newest.accepted_length
        return found
