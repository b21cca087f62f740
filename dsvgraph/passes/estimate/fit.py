"""Which layers, or blocks of them, a training step recomputes to fit a given memory, with the fewest FLOPs for it.

At each piece of the backward there is what the pieces up to it keep, the gradients of those behind it, and what its own
backward makes. So the choices are made piece by piece in the order of the forward: of all that have been made, those
stay that no other beats in both the bytes kept so far and the FLOPs added.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any, NamedTuple

from dsvgraph.dims import total
from dsvgraph.errors import DsvError
from dsvgraph.graph import Graph, Mode, Model, Node, join
from dsvgraph.ops.tape import FLOAT, HALF
from dsvgraph.passes.count.cost import cost
from dsvgraph.passes.count.generic import numeric_model
from dsvgraph.passes.count.graph_counts import GraphCounter
from dsvgraph.passes.count.inputs import input_sizes, tokens
from dsvgraph.passes.count.quantity import largest, number
from dsvgraph.passes.estimate.activations import Activations, Layer
from dsvgraph.passes.estimate.memory import STATES, GradientBytes, Peak, peak, update_copies
from dsvgraph.passes.options import Dtype

MOST_PARTS = 4
"""Blocks of a layer of which every choice is tried; of more, one or all."""

ROUNDS = 8
"""How often the choice is made again, for less, where its peak is over the limit."""

MARGIN = 0.03
"""The share of the limit that is left free on a CPU: its functions may keep 2 % more than those that are counted."""

CLOSE = 2**10
"""Bytes within which the least memory is found."""


@dataclass(frozen=True, kw_only=True)
class FittingOptions:
    """The step that has to fit. ``accumulated``: it has several batches; ``average``: weights have an average too.

    ``fused`` counts with the kernels of a GPU; without it with those of a CPU.
    """

    batch: int
    seq: int
    limit: int  # bytes
    dtype: str = Dtype.BFLOAT16
    fused: bool = True
    accumulated: bool = False
    average: bool = False

    @property
    def usable(self) -> float:
        """The share of the limit that a predicted peak may take."""
        return 1.0 if self.fused else 1 - MARGIN


@dataclass(frozen=True, kw_only=True)
class Fitting:
    """What is recomputed, by path of the module, and what that takes. Bytes; FLOPs of one step."""

    limit: int
    recomputed: tuple[str, ...]
    peak: int
    peak_at: str
    peak_without: int  # if nothing were recomputed
    flops: int  # of the forward that run again
    share: float  # of the FLOPs of the forward

    def as_dict(self) -> dict[str, Any]:
        """Return the choice as plain data."""
        return {**vars(self), "recomputed": list(self.recomputed)}


class RecomputeChoice(NamedTuple):
    """What a piece may recompute: by path, with the FLOPs that this adds, and bytes.

    ``kept`` are those from the forward to the backward, ``most`` those that are there besides during the backward.
    """

    paths: tuple[str, ...]
    flops: int
    kept: int
    most: int


class Piece(NamedTuple):
    """A part of the step that runs at once, what it may recompute, and the gradients that are there before it."""

    choices: tuple[RecomputeChoice, ...]
    gradients: int


class Made(NamedTuple):
    """Choices that have been made: FLOPs added and bytes kept so far, the last one, and those before it."""

    flops: int
    kept: int
    last: RecomputeChoice | None = None
    before: Made | None = None

    @property
    def paths(self) -> tuple[str, ...]:
        """The paths of all that is recomputed, in the order of the forward."""
        found, made = list[tuple[str, ...]](), self
        while made.last is not None and made.before is not None:
            found.append(made.last.paths)
            made = made.before
        return tuple(path for paths in reversed(found) for path in paths)


def fit(model: Model, options: FittingOptions) -> Fitting:
    """Return what ``model`` recomputes to train in ``options.limit`` bytes, with the fewest FLOPs that run again.

    It may be every layer of a `repeat` on the first page, or blocks that such a layer calls; not layers that share
    their weights. The peak is that of `cost --phase train`. Raise DsvError, with the least memory that recomputing
    reaches, if that is more than the limit.
    """
    return Fitter(numeric_model(model), options).fit()


class Fitter:
    """Chooses for one step of one model; ``choices`` are what a layer of ``run`` may recompute."""

    def __init__(self, model: Model, options: FittingOptions) -> None:
        self.model, self.o = model, options
        self.values = input_sizes(model, options.batch, options.seq)
        self.counter = GraphCounter(tokens(model), self.values)
        self.run = self.activations(())
        counts = cost(model, formulas=False).parameters
        self.gradients = GradientBytes(model, self.values, counts.trained)
        self.static = FLOAT * (counts.total + STATES * counts.trained + counts.total * options.average)
        self.static += HALF * counts.total * (options.average and self.run.low == HALF)

    def count(self, size: Any) -> int:
        return round(number(size, self.values))

    def activations(self, recomputed: Iterable[str]) -> Activations:
        low = HALF if self.o.dtype == Dtype.BFLOAT16 else FLOAT
        return Activations(
            model=self.model,
            values=self.values,
            low=low,
            fused=self.o.fused,
            recomputed=tuple(recomputed),
            like=getattr(self, "run", None),
        )

    def peak(self, recomputed: Iterable[str]) -> tuple[int, Peak]:
        """Return the most bytes at any time, all included, and where that is."""
        found = peak(self.activations(recomputed), self.gradients, self.o.accumulated)
        return self.static + self.count(found.bytes), found

    def fit(self) -> Fitting:
        without, at = self.peak(())
        limit = int(self.o.limit * self.o.usable)
        if without <= limit:
            return self.fitting((), without, at, without, 0)
        pieces, budget = self.pieces(), limit
        for _ in range(ROUNDS):
            if (made := self.best(pieces, budget)) is None:
                break
            found, at = self.peak(made.paths)
            if found <= limit:
                return self.fitting(made.paths, found, at, without, made.flops)
            budget -= found - limit
        raise self.refusal(pieces, without)

    def fitting(self, paths: tuple[str, ...], found: int, at: Peak, without: int, flops: int) -> Fitting:
        return Fitting(
            limit=self.o.limit,
            recomputed=paths,
            peak=found,
            peak_at=at.at,
            peak_without=without,
            flops=flops,
            share=flops / self.count(self.counter.of(self.model).forward),
        )

    def refusal(self, pieces: Sequence[Piece], without: int) -> DsvError:
        """Return the error that nothing fits, with the least that does, by halving."""
        low, high = 0, without
        while high - low > CLOSE:
            middle = (low + high) // 2
            made = self.best(pieces, middle)
            low, high = (low, middle) if made and self.peak(made.paths)[0] <= middle else (middle, high)
        words = f"{self.model.name} does not train on {self.o.batch:,} x {self.o.seq:,} tokens in {gib(self.o.limit)}"
        least, most = (gib(peak / self.o.usable) for peak in (high, without))
        return DsvError(words, hint=f"recomputing layers reaches {least}, without it {most}")

    def best(self, pieces: Sequence[Piece], limit: int) -> Made | None:
        """Return the choices that add the fewest FLOPs with a peak of at most ``limit``; None if there are none."""
        room, made = limit - self.static, [Made(0, 0)]
        for piece in pieces:
            made = undominated(
                Made(one.flops + choice.flops, one.kept + choice.kept, choice, one)
                for one in made
                for choice in piece.choices
                if one.kept + choice.kept + choice.most + piece.gradients <= room
            )
        gradients = sum(map(self.gradients.of, self.run.layers))
        losses = self.count(self.run.logits.peak_bytes()) + gradients * self.o.accumulated
        updating = gradients + update_copies(gradients, self.run.low, self.o.accumulated)
        fits = [one for one in made if one.kept + losses <= room and updating <= room]
        return min(fits, default=None)

    # -- what may be recomputed --------------------------------------------------------------

    def pieces(self) -> list[Piece]:
        """Return the pieces of the step in the order of the forward."""
        named = [self.choices(layer) for layer in self.run.layers]
        runs = [
            self.activations(path for names in named for path, _ in names[min(i, len(names) - 1)])
            for i in range(max(map(len, named)))
        ]
        behind, found = sum(map(self.gradients.of, self.run.layers)), list[Piece]()
        for i, names in enumerate(named):
            layers = [run.layers[i] for run in runs[: len(names)]]
            own = self.gradients.of(layers[0])
            behind -= 0 if self.o.accumulated else own
            pairs = zip(names, layers, strict=True)
            choices = tuple(self.choice(parts, layer) for parts, layer in pairs)
            found.append(Piece(choices, behind + own * self.o.accumulated))
        return found

    def choice(self, parts: Sequence[tuple[str, int]], layer: Layer) -> RecomputeChoice:
        recomputing = layer.peak_bytes if layer.recomputed else 0
        most = (layer.recomputed + 2 * layer.largest, recomputing, self.gradients.of_shared(layer, self.run.low))
        return RecomputeChoice(
            paths=tuple(path for path, _ in parts),
            flops=sum(flops for _, flops in parts),
            kept=self.count(layer.kept + layer.weight_copies),
            most=self.count(largest(most, self.values)),
        )

    def choices(self, layer: Layer) -> list[tuple[tuple[str, int], ...]]:
        """Return all that a piece may recompute, nothing first: paths, with the FLOPs of the forward of each."""
        if layer.node.mode is not Mode.REPEAT or layer.node.reused or layer.graph is None:
            return [()]
        parts = [
            (join(layer.path, node.at), self.flops(node.copies[0].graph))
            for node in layer.graph.nodes.values()
            if self.is_part(node)
        ]
        sizes = range(1, len(parts) + 1) if len(parts) <= MOST_PARTS else (1, len(parts))
        chosen = [names for size in sizes for names in combinations(parts, size)]
        return [(), *chosen, ((layer.path, self.flops(layer.graph)),)]

    def is_part(self, node: Node) -> bool:
        """Return whether a line is a block in a module of its own, and no loss needs logits from inside of it."""
        return bool(node.at) and not node.op and node.mode is Mode.CALL and not self.scored(node.copies[0].graph)

    def scored(self, graph: Graph) -> bool:
        """Return whether a block makes logits that a loss scores: losses keep what they need of these."""
        own = any((graph, name) in self.run.logits.output_layers for name in graph.nodes)
        return own or any(self.scored(inner) for node in graph.nodes.values() for _, inner in node.copy_graphs())

    def flops(self, graph: Graph) -> int:
        """Return FLOPs of the forward of a block without the logits that losses score."""
        whole, scored = self.counter.dependencies.whole(graph), self.run.logits.output_layers
        nodes = [node for node in graph.nodes.values() if (graph, node.name) not in scored]
        return self.count(total(self.counter.node(graph, node, whole, True).forward for node in nodes))


def gib(size: float) -> str:
    """Return bytes in GiB."""
    return f"{size / 2**30:,.4g} GiB"


def undominated(made: Iterable[Made]) -> list[Made]:
    """Return those that keep less than all that add as many FLOPs or fewer, by FLOPs."""
    found = list[Made]()
    for one in sorted(made, key=lambda one: one[:2]):
        if not found or one.kept < found[-1].kept:
            found.append(one)
    return found


def grouped(paths: Iterable[str]) -> Iterator[tuple[str, int]]:
    """Yield what is recomputed with the numbers of layers as ranges, and how many there are: `layers.[0-2].mlp`, 3."""
    found: dict[str, list[int]] = {}
    for path in paths:
        steps = path.split(".")
        at = max(i for i, step in enumerate(steps) if step.isdigit())
        found.setdefault(".".join([*steps[:at], "[]", *steps[at + 1 :]]), []).append(int(steps[at]))
    for text, numbers in found.items():
        yield text.replace("[]", f"[{','.join(ranges(numbers))}]"), len(numbers)


def ranges(numbers: Sequence[int]) -> Iterator[str]:
    """Yield sorted numbers as ranges: 0, 1, 2 and 5 as `0-2` and `5`."""
    starts = [n for n in numbers if n - 1 not in numbers]
    ends = [n for n in numbers if n + 1 not in numbers]
    yield from (f"{a}-{b}" if b > a else f"{a}" for a, b in zip(starts, ends, strict=True))
