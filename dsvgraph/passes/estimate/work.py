"""What a phase computes and moves, op by op: FLOPs, and bytes between memory and the chip.

Bytes are those of matrix products, attention, norms and lookups: each reads its inputs and weights and
writes its result once, and everything pointwise is fused into them. A weight that only some tokens
meet is read if one of them does: of n tokens that meet it with share s, 1 - (1 - s)^n.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from fractions import Fraction
from typing import Literal, NamedTuple

from dsvgraph.build.decoding.state import Decoder, Decoding
from dsvgraph.dims import Size, evaluate, substitute, symbol, total
from dsvgraph.graph import Graph, Mode, Model, Node, Ref, join, span_text
from dsvgraph.ops.base import Kind
from dsvgraph.ops.decoding import Past
from dsvgraph.ops.tape import HALF, Key
from dsvgraph.passes.count.gradients import Costs
from dsvgraph.passes.count.quantity import number
from dsvgraph.passes.count.tally import Attention, Meter, input_axes, input_sizes, known_types, tokens
from dsvgraph.passes.estimate.logits import heads_behind
from dsvgraph.passes.estimate.moved import Moved, of_states
from dsvgraph.passes.graph.decoding import decoding, looks_ahead
from dsvgraph.passes.graph.needs import Needs, Ports
from dsvgraph.passes.graph.paths import copy_paths, decided
from dsvgraph.types import WeightKind

Phase = Literal["train", "prefill", "decode"]
Way = Literal["causal", "full", "absorbed"]
ROLES = ("embedding", "attention", "dense", "experts", "router", "norms", "head", "extra heads")
Refs = frozenset[Ref]
LINKS = {"linear", "split", "concat", "expand"}  # what absorbing can move from keys to queries


@dataclass(frozen=True)
class Setting:
    """What is run: ``batch`` rows of ``seq`` tokens, or of one (``queries``) behind ``context`` cached ones."""

    phase: Phase
    batch: int
    seq: int
    context: int
    attention: Way
    width: int  # bytes of a number
    heads: bool  # whether what only other outputs need runs too
    queries: int = 1

    @property
    def rows(self) -> int:
        """New tokens of a row."""
        return self.queries if self.phase == "decode" else self.seq


class Sizes(NamedTuple):
    """What an op takes in all its copies, as sizes in the names of the setting."""

    forward: Size
    backward: Size
    read: Moved
    cache: Size  # numbers kept for the whole context, with what windows forget left out
    kept: Size = 0  # bytes from a training step's forward to its backward


class Work(NamedTuple):
    """One op, all its copies: where it stands, and what its forward and backward compute and move."""

    path: str
    block: str
    role: str
    op: str
    parameters: int
    trained: int  # of them, by gradients
    forward: float  # FLOPs
    backward: float
    read: float  # bytes that the forward moves
    sizes: Sizes


class _Place(NamedTuple):
    graph: Graph
    path: str
    copies: Size
    stored: Size
    outputs: Ports | None
    role: str
    key: Key
    exact: tuple[str, ...]  # the path without lists of copies: as many as runs, and none where nothing is frozen
    found: Decoding  # what it keeps while decoding
    long: bool = False  # whether all of it runs over the context


class Worker:
    """Walks a model with numbers for its sizes."""

    def __init__(self, model: Model, setting: Setting, costs: Costs, kept: Costs | None = None) -> None:
        self.model, self.setting, self.costs = model, setting, costs
        self.kept = kept or {}  # activations by op, those of checkpoints by block
        rows, length = input_axes(model)
        decoding = setting.phase == "decode"
        name = "C" if "C" not in rows | length else "context"
        self.context: Size = symbol(name) if decoding else next(iter(map(symbol, length)), setting.seq)
        self.now: Mapping[str, Size] = dict.fromkeys(length, setting.queries) if decoding else {}
        self.then: Mapping[str, Size] = dict.fromkeys(length, self.context)
        self.one: Mapping[str, Size] = dict.fromkeys(length, 1)
        self.values = input_sizes(model, setting.batch, setting.rows) | ({name: setting.context} if decoding else {})
        attention: Attention = "causal" if setting.attention == "causal" and not decoding else "full"
        self.meter = Meter(tokens(model), self.values, attention)
        self.tokens = substitute(self.meter.tokens, self.now)
        self.decoder = Decoder.of_model(model)
        self.heads = {key for ref in model.outputs.values() for key in heads_behind(model, ref)}

    @property
    def rows(self) -> Size:
        """Rows of the batch."""
        return substitute(self.meter.tokens, self.one)

    def work(self) -> Iterator[Work]:
        """Every op that computes, owns or moves something."""
        first = frozenset([next(iter(self.model.outputs))])
        exact = ("",) if self.model.trained else ()
        yield from self._inside(_Place(self.model, "", 1, 1, first, "dense", (), exact, self._found()))

    def _found(self) -> Decoding:
        """What the whole keeps while decoding: nothing if its first output looks ahead."""
        if not self.setting.heads and looks_ahead(self.model):
            return Decoding(self.model)
        return decoding(self.model, self.decoder, self.setting.heads)

    def _inside(self, place: _Place) -> Iterator[Work]:
        needs = self.meter.depends.of(place.graph, place.outputs or ())
        role = "attention" if _attends(place.graph) and place.role != "extra heads" else place.role
        place = place._replace(role=role)
        behind, graph = self._behind_cache(place.found), place.graph
        yield from (self._caches(place, name) for name in graph.inputs if name in place.found.keeping)
        for node in graph.nodes.values():
            kept = node.name in needs.ports
            if node.op and (kept or self.setting.heads):
                yield self._line(place, node, needs if kept else None, behind)
            if node.name in place.found.keeping:
                yield self._caches(place, node.name)
            if kept or self.setting.heads or node.name in place.found.inner:
                yield from self._runs(place, node, needs)

    def _runs(self, place: _Place, node: Node, needs: Needs) -> Iterator[Work]:
        wanted = needs.copies.get(node.name, (None,) * len(node.copies))
        united: dict[Graph, Ports] = {}
        for copies, outputs in zip(node.copies, wanted, strict=True):
            united[copies.graph] = united.get(copies.graph, frozenset()) | (outputs or frozenset())
        for i, (graph, (path, count)) in enumerate(copy_paths(node, join(place.path, node.at)).items()):
            outputs, found = united[graph], self._found_inside(place, node, graph)
            role = "experts" if node.mode is Mode.EACH else place.role if place.role != "attention" else "dense"
            inside = _Place(
                graph, path, place.copies * count, place.stored * (1 if node.reused else count), outputs,
                role if outputs else "extra heads", (*place.key, (node.name, i)), _exact(place, node, graph),
                found, place.long or node.name in place.found.between,
            )  # fmt: skip
            if inside.key in self.kept:
                yield self._checkpoint(inside)
            yield from self._inside(inside)

    def _found_inside(self, place: _Place, node: Node, graph: Graph) -> Decoding:
        inner = place.found.inner.get(node.name, ())
        return next((one for one in inner if one.graph is graph), None) or Decoding(graph)

    def _line(self, place: _Place, node: Node, needs: Needs | None, behind: Mapping[str, Refs]) -> Work:
        every = self.meter.depends.whole(place.graph) if self.setting.heads else needs
        computes = every is not None and every.computes(node)
        forward, moved = self._costs(place, node, behind) if computes else (0, Moved())
        back = substitute(self.costs.get((*place.key, (node.name, 0)), 0), self.now)
        kept = self.kept.get((*place.key, (node.name, 0)), 0)
        sizes = Sizes(forward * place.copies, back, moved.times(place.copies), 0, kept)
        path = join(place.path, node.at)
        owned, trained = self._owned(place, node)
        role = "extra heads" if needs is None else self._role(place, node)
        read = sizes.read.at(self.values, self.tokens)
        return Work(
            path, place.graph.name, role, node.callee, owned, trained,
            number(sizes.forward, self.values), number(back, self.values), read, sizes,
        )  # fmt: skip

    def _caches(self, place: _Place, name: str) -> Work:
        """What a line or an input gives the cache, beside the line's own work: that is attention's."""
        node = place.graph.nodes.get(name)
        sizes = Sizes(0, 0, Moved(), self._cached(place.found, name) * place.copies)
        path = join(place.path, node.at if node else "")
        return Work(path, place.graph.name, place.role, "cache", 0, 0, 0, 0, 0, sizes)

    def _checkpoint(self, place: _Place) -> Work:
        """What a block keeps as a whole."""
        sizes = Sizes(0, 0, Moved(), 0, self.kept[place.key])
        return Work(place.path, place.graph.name, place.role, "checkpoint", 0, 0, 0, 0, 0, sizes)

    def _owned(self, place: _Place, node: Node) -> tuple[int, int]:
        """Weights of all copies, and how many of them gradients train."""
        owned = trained = 0
        copies = int(number(place.stored, self.values))
        for name, weight in node.weights.items():
            numel = int(number(weight.numel, self.values))
            frozen = self._frozen(place, node, name) if weight.trained else copies
            owned, trained = owned + numel * copies, trained + numel * (copies - frozen)
        return owned, trained

    def _frozen(self, place: _Place, node: Node, name: str) -> int:
        """How many copies of a weight the section `trained` freezes."""
        found = (c for path in place.exact for c in decided(join(path, node.at, name), self.model.trained))
        return sum(count for trained, count in found if trained is False)

    def _role(self, place: _Place, node: Node) -> str:
        if place.role == "extra heads":
            return place.role
        assert node.op is not None
        if node.op.kind is Kind.LOOKUP:
            return "embedding"
        if any(weight.kind is WeightKind.CHOICE for weight in node.weights.values()):
            return "router"
        if node.op.kind is Kind.NORM and place.role != "experts":
            return "norms"
        return "head" if (place.graph, node.name) in self.heads else place.role

    # -- one op ------------------------------------------------------------------------------

    def _costs(self, place: _Place, node: Node, behind: Mapping[str, Refs]) -> tuple[Size, Moved]:
        """FLOPs and bytes of one copy."""
        graph, decoding = place.graph, self.setting.phase == "decode"
        if decoding and node.callee == "attention":
            return self._step(graph, node, behind)
        long = decoding and (place.long or (node.name in behind and not self._absorbs(graph, behind)))
        when = self.then if long else self.now
        assert node.op is not None
        op, known = self.meter.seen(node.op, node.ins), known_types(graph, node)
        flops = substitute(op.flops(known, node.outputs, self.meter.attention), when)
        if not flops and node.op.kind is not Kind.LOOKUP:
            return 0, Moved()
        moved = self._moved(graph, node, when)
        if decoding:
            moved = moved + Moved(substitute(of_states(node, op.decoding_state(known, node.outputs)), self.one))
        return flops, moved

    def _moved(self, graph: Graph, node: Node, when: Mapping[str, Size]) -> Moved:
        width = self.setting.width
        floats = [t.numel for t in [*node.ins.values(), *node.outputs.values()] if t.dtype == "float"]
        passed = substitute(total(floats), when) * width
        if node.op is not None and node.op.kind is Kind.LOOKUP:
            return Moved(2 * passed)
        weights = [w.numel for w in node.weights.values()] + [graph.type(r).numel for r in node.tied.values()]
        read = total(weights) * width
        share = evaluate(substitute(self.meter.share(node), self.now), self.values)
        return Moved(passed + read) if share >= 1 else Moved(passed, {Fraction(share): read})

    # -- decoding ----------------------------------------------------------------------------

    def _cached(self, found: Decoding, name: str) -> Size:
        """Numbers in the cache of a line or an input, of the whole context and every row."""
        kept = [self._rows(rows) * found.graph.type(ref).numel for ref, rows in found.kept.items() if ref.node == name]
        return substitute(total([*kept, *(s.type.numel for (n, _), s in found.states.items() if n == name)]), self.one)

    def _rows(self, rows: Past) -> Size:
        """Positions of a row in the cache: no more than are looked at."""
        return self._seen(rows.read if rows.last is None else rows.last)

    def _seen(self, window: Size | None) -> Size:
        if window is None or number(window, self.values) >= self.setting.context:
            return self.context
        return window

    def _behind_cache(self, found: Decoding) -> dict[str, Refs]:
        """The lines that run over the context, with the cached values that each is made of."""
        behind: dict[str, Refs] = {}
        for node in found.graph.nodes.values():
            if node.name in found.between:
                behind[node.name] = frozenset[Ref]().union(*(_made_of(ref, behind) for ref in node.sources.values()))
                behind[node.name] &= found.rows.keys()
        return behind

    def _absorbs(self, graph: Graph, behind: Mapping[str, Refs]) -> bool:
        """Whether the products behind the cache can be moved to the queries and the result."""
        return self.setting.attention == "absorbed" and all(graph.nodes[n].callee in LINKS for n in behind)

    def _step(self, graph: Graph, node: Node, behind: Mapping[str, Refs]) -> tuple[Size, Moved]:
        """Attention of the new queries over the cached positions."""
        q, k, v = (node.ins[p] for p in ("q", "k", "v"))
        keys = self._seen(getattr(node.op, "window", None))
        widths: tuple[Size, ...] = k.shape[-1], v.shape[-1]
        cached = k.numel + v.numel
        if self._absorbs(graph, behind):
            made = [_made_of(node.sources[p], behind) for p in ("k", "v")]
            widths = tuple(total(graph.type(ref).shape[-1] for ref in refs) for refs in made)
            cached = total(graph.type(ref).numel for ref in made[0] | made[1])
        queries = substitute(q.shape[0] * q.shape[2], self.one) * self.setting.queries
        width = self.setting.width
        moved = queries * total(widths) * width + substitute(cached, self.one) * keys * max(width, HALF)
        return 2 * queries * keys * total(widths), Moved(moved)


def _made_of(ref: Ref, behind: Mapping[str, Refs]) -> Refs:
    """The cached values that a value is made of: itself, if no line is between."""
    return behind.get(ref.node, frozenset([ref]))


def _exact(place: _Place, node: Node, graph: Graph) -> tuple[str, ...]:
    """The paths of one graph's copies, a run each."""
    found, start = [], node.start
    for copies in node.stored:
        if copies.graph is graph:
            inner = node.at if node.mode is Mode.CALL else join(node.at, span_text(start, copies.count))
            found += [join(path, inner) for path in place.exact]
        start = start + copies.count
    return tuple(found)


def _attends(graph: Graph) -> bool:
    return any(node.op is not None and node.op.kind is Kind.ATTENTION for node in graph.nodes.values())
