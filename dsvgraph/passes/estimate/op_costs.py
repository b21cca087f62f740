"""What a phase computes and moves, op by op: FLOPs, and bytes between memory and the chip.

Bytes are those of matrix products, attention, norms and lookups: each reads its inputs and weights and
writes its result once, and everything pointwise is fused into them. A weight that only some tokens
meet is read if one of them does: of n tokens that meet it with share s, 1 - (1 - s)^n.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from fractions import Fraction
from typing import NamedTuple

from dsvgraph.build.decoding.state import Decoder, Decoding
from dsvgraph.dims import Size, evaluate, substitute, symbol, total
from dsvgraph.graph import Graph, Mode, Model, Node, Ref, join
from dsvgraph.graph.dependencies import Dependencies, Ports
from dsvgraph.ops.base import Kind
from dsvgraph.ops.decoding import Past
from dsvgraph.ops.tape import HALF, Key
from dsvgraph.passes.count.gradients import Costs
from dsvgraph.passes.count.graph_counts import GraphCounter, known_types
from dsvgraph.passes.count.inputs import input_axes, input_sizes, tokens
from dsvgraph.passes.count.quantity import number
from dsvgraph.passes.estimate.bytes_moved import BytesMoved, state_bytes
from dsvgraph.passes.estimate.logits import output_layers
from dsvgraph.passes.estimate.workload import OpCost, OpSizes, Role, Workload
from dsvgraph.passes.graph.decoding import decoding, looks_ahead
from dsvgraph.passes.graph.paths import copy_paths, last_matches
from dsvgraph.passes.options import AttentionMode, Phase
from dsvgraph.types import AttentionPairs, ElementType, WeightKind

Refs = frozenset[Ref]
ABSORBABLE = {"linear", "split", "concat", "expand"}  # what absorbing can move from keys to queries


class _Frame(NamedTuple):
    graph: Graph
    path: str
    copies: Size
    stored: Size
    outputs: Ports | None
    role: Role
    key: Key
    exact_paths: tuple[str, ...]  # the path without lists of copies: as many as runs, and none where nothing is frozen
    state: Decoding  # what it keeps while decoding
    over_context: bool = False  # whether all of it runs over the context


class CostWalk:
    """Walks a model with numbers for its sizes."""

    def __init__(self, model: Model, workload: Workload, costs: Costs, kept: Costs | None = None) -> None:
        self.model, self.workload, self.costs = model, workload, costs
        self.kept = kept or {}  # activations by op, those of checkpoints by block
        rows, length = input_axes(model)
        decoding = workload.phase == Phase.DECODE
        name = "C" if "C" not in rows | length else "context"
        self.context: Size = symbol(name) if decoding else next(iter(map(symbol, length)), workload.seq)
        self.new_positions: Mapping[str, Size] = dict.fromkeys(length, workload.queries) if decoding else {}
        self.context_positions: Mapping[str, Size] = dict.fromkeys(length, self.context)
        self.one_position: Mapping[str, Size] = dict.fromkeys(length, 1)
        self.values = input_sizes(model, workload.batch, workload.rows) | ({name: workload.context} if decoding else {})
        causal = workload.attention == AttentionMode.CAUSAL and not decoding
        pairs = AttentionPairs.CAUSAL if causal else AttentionPairs.FULL
        self.counter = GraphCounter(tokens(model), self.values, pairs)
        self.tokens = substitute(self.counter.tokens, self.new_positions)
        self.decoder = Decoder.of_model(model)
        self.output_layers = {key for ref in model.outputs.values() for key in output_layers(model, ref)}

    @property
    def rows(self) -> Size:
        """Rows of the batch."""
        return substitute(self.counter.tokens, self.one_position)

    def op_costs(self) -> Iterator[OpCost]:
        """Yield every op that computes, owns or moves something."""
        first = frozenset([next(iter(self.model.outputs))])
        exact_paths = ("",) if self.model.trained else ()
        yield from self._inside(
            _Frame(
                graph=self.model,
                path="",
                copies=1,
                stored=1,
                outputs=first,
                role=Role.DENSE,
                key=(),
                exact_paths=exact_paths,
                state=self._decoding(),
            )
        )

    def _decoding(self) -> Decoding:
        """Return what the whole keeps while decoding: nothing if its first output looks ahead."""
        if not self.workload.all_outputs and looks_ahead(self.model):
            return Decoding(self.model)
        return decoding(self.model, self.decoder, self.workload.all_outputs)

    def _inside(self, frame: _Frame) -> Iterator[OpCost]:
        needed = self.counter.dependencies.of(frame.graph, frame.outputs or ())
        role = Role.ATTENTION if _attends(frame.graph) and frame.role != Role.EXTRA_HEADS else frame.role
        frame = frame._replace(role=role)
        from_cache, graph = self._computed_from_cache(frame.state), frame.graph
        yield from (self._cache_cost(frame, name) for name in graph.inputs if name in frame.state.keeping)
        for node in graph.nodes.values():
            kept = node.name in needed.ports
            if node.op and (kept or self.workload.all_outputs):
                yield self._op_cost(frame, node, needed if kept else None, from_cache)
            if node.name in frame.state.keeping:
                yield self._cache_cost(frame, node.name)
            if kept or self.workload.all_outputs or node.name in frame.state.inner:
                yield from self._runs(frame, node, needed)

    def _runs(self, frame: _Frame, node: Node, needed: Dependencies) -> Iterator[OpCost]:
        wanted = needed.outputs_by_graph(node)
        for i, (graph, (path, count)) in enumerate(copy_paths(node, join(frame.path, node.at)).items()):
            outputs, state = wanted[graph], self._state_inside(frame, node, graph)
            role = Role.DENSE if frame.role == Role.ATTENTION else frame.role
            role = Role.EXPERTS if node.mode is Mode.EACH else role
            inside = _Frame(
                graph=graph,
                path=path,
                copies=frame.copies * count,
                stored=frame.stored * (1 if node.reused else count),
                outputs=outputs,
                role=role if outputs else Role.EXTRA_HEADS,
                key=(*frame.key, (node.name, i)),
                exact_paths=_exact_paths(frame, node, graph),
                state=state,
                over_context=frame.over_context or node.name in frame.state.between,
            )
            if inside.key in self.kept:
                yield self._checkpoint_cost(inside)
            yield from self._inside(inside)

    def _state_inside(self, frame: _Frame, node: Node, graph: Graph) -> Decoding:
        inner = frame.state.inner.get(node.name, ())
        return next((one for one in inner if one.graph is graph), None) or Decoding(graph)

    def _op_cost(
        self, frame: _Frame, node: Node, needed: Dependencies | None, from_cache: Mapping[str, Refs]
    ) -> OpCost:
        every = self.counter.dependencies.whole(frame.graph) if self.workload.all_outputs else needed
        computes = every is not None and every.computes(node)
        forward, moved = self._costs(frame, node, from_cache) if computes else (0, BytesMoved())
        back = substitute(self.costs.get((*frame.key, (node.name, 0)), 0), self.new_positions)
        kept = self.kept.get((*frame.key, (node.name, 0)), 0)
        sizes = OpSizes(forward=forward * frame.copies, backward=back, read=moved.times(frame.copies), kept=kept)
        owned, trained = self._owned(frame, node)
        role = Role.EXTRA_HEADS if needed is None else self._role(frame, node)
        return OpCost(
            path=join(frame.path, node.at),
            block=frame.graph.name,
            role=role,
            op=node.callee,
            parameters=owned,
            trained=trained,
            forward=number(sizes.forward, self.values),
            backward=number(back, self.values),
            read=sizes.read.value(self.values, self.tokens),
            sizes=sizes,
        )

    def _cache_cost(self, frame: _Frame, name: str) -> OpCost:
        """Return what a line or an input adds to the cache; the work on it is the attention's."""
        node = frame.graph.nodes.get(name)
        sizes = OpSizes(cache=self._cached(frame.state, name) * frame.copies)
        path = join(frame.path, node.at if node else "")
        return OpCost(path, frame.graph.name, frame.role, "cache", sizes=sizes)

    def _checkpoint_cost(self, frame: _Frame) -> OpCost:
        """Return what a checkpoint keeps of a block."""
        sizes = OpSizes(kept=self.kept[frame.key])
        return OpCost(frame.path, frame.graph.name, frame.role, "checkpoint", sizes=sizes)

    def _owned(self, frame: _Frame, node: Node) -> tuple[int, int]:
        """Return weights of all copies, and how many of them gradients train."""
        owned = trained = 0
        copies = int(number(frame.stored, self.values))
        for name, weight in node.weights.items():
            numel = int(number(weight.numel, self.values))
            frozen = self._frozen(frame, node, name) if weight.trained else copies
            owned, trained = owned + numel * copies, trained + numel * (copies - frozen)
        return owned, trained

    def _frozen(self, frame: _Frame, node: Node, name: str) -> int:
        """Return how many copies of a weight the section `trained` freezes."""
        found = (c for path in frame.exact_paths for c in last_matches(join(path, node.at, name), self.model.trained))
        return sum(count for trained, count in found if trained is False)

    def _role(self, frame: _Frame, node: Node) -> Role:
        if frame.role == Role.EXTRA_HEADS:
            return frame.role
        assert node.op is not None
        if node.op.kind is Kind.LOOKUP:
            return Role.EMBEDDING
        if any(weight.kind is WeightKind.CHOICE for weight in node.weights.values()):
            return Role.ROUTER
        if node.op.kind is Kind.NORM and frame.role != Role.EXPERTS:
            return Role.NORMS
        return Role.OUTPUT_LAYER if (frame.graph, node.name) in self.output_layers else frame.role

    # -- one op ------------------------------------------------------------------------------

    def _costs(self, frame: _Frame, node: Node, from_cache: Mapping[str, Refs]) -> tuple[Size, BytesMoved]:
        """Return FLOPs and bytes of one copy."""
        graph, decoding = frame.graph, self.workload.phase == Phase.DECODE
        if decoding and node.callee == "attention":
            return self._attention_step(graph, node, from_cache)
        over_context = decoding and (
            frame.over_context or (node.name in from_cache and not self._absorbs(graph, from_cache))
        )
        when = self.context_positions if over_context else self.new_positions
        assert node.op is not None
        op, known = self.counter.effective_op(node.op, node.input_types), known_types(graph, node)
        flops = substitute(op.flops(known, node.outputs, self.counter.attention), when)
        if not flops and node.op.kind is not Kind.LOOKUP:
            return 0, BytesMoved()
        moved = self._bytes_moved(graph, node, when)
        if decoding:
            moved = moved + BytesMoved(
                substitute(state_bytes(node, op.decoding_state(known, node.outputs)), self.one_position)
            )
        return flops, moved

    def _bytes_moved(self, graph: Graph, node: Node, when: Mapping[str, Size]) -> BytesMoved:
        width = self.workload.width
        floats = [t.numel for t in [*node.input_types.values(), *node.outputs.values()] if t.dtype is ElementType.FLOAT]
        passed = substitute(total(floats), when) * width
        if node.op is not None and node.op.kind is Kind.LOOKUP:
            return BytesMoved(2 * passed)
        weights = [w.numel for w in node.weights.values()] + [graph.type(r).numel for r in node.tied.values()]
        read = total(weights) * width
        share = evaluate(substitute(self.counter.share(node), self.new_positions), self.values)
        return BytesMoved(passed + read) if share >= 1 else BytesMoved(passed, {Fraction(share): read})

    # -- decoding ----------------------------------------------------------------------------

    def _cached(self, state: Decoding, name: str) -> Size:
        """Return numbers in the cache of a line or an input, of the whole context and every row."""
        kept = [
            self._cached_rows(rows) * state.graph.type(ref).numel
            for ref, rows in state.kept.items()
            if ref.node == name
        ]
        return substitute(
            total([*kept, *(s.type.numel for (n, _), s in state.states.items() if n == name)]), self.one_position
        )

    def _cached_rows(self, rows: Past) -> Size:
        """Return positions of a row in the cache: no more than are looked at."""
        return self._visible(rows.read if rows.last is None else rows.last)

    def _visible(self, window: Size | None) -> Size:
        if window is None or number(window, self.values) >= self.workload.context:
            return self.context
        return window

    def _computed_from_cache(self, state: Decoding) -> dict[str, Refs]:
        """Return the lines that run over the context, with the cached values that each is made of."""
        from_cache: dict[str, Refs] = {}
        for node in state.graph.nodes.values():
            if node.name in state.between:
                from_cache[node.name] = frozenset[Ref]().union(
                    *(_cached_sources(ref, from_cache) for ref in node.sources.values())
                )
                from_cache[node.name] &= state.rows.keys()
        return from_cache

    def _absorbs(self, graph: Graph, from_cache: Mapping[str, Refs]) -> bool:
        """Return whether the products behind the cache can be moved to the queries and the result."""
        return self.workload.attention == AttentionMode.ABSORBED and all(
            graph.nodes[n].callee in ABSORBABLE for n in from_cache
        )

    def _attention_step(self, graph: Graph, node: Node, from_cache: Mapping[str, Refs]) -> tuple[Size, BytesMoved]:
        """Attention of the new queries over the cached positions."""
        q, k, v = (node.input_types[p] for p in ("q", "k", "v"))
        keys = self._visible(getattr(node.op, "window", None))
        widths: tuple[Size, ...] = k.shape[-1], v.shape[-1]
        cached = k.numel + v.numel
        if self._absorbs(graph, from_cache):
            made = [_cached_sources(node.sources[p], from_cache) for p in ("k", "v")]
            widths = tuple(total(graph.type(ref).shape[-1] for ref in refs) for refs in made)
            cached = total(graph.type(ref).numel for ref in made[0] | made[1])
        queries = substitute(q.shape[0] * q.shape[2], self.one_position) * self.workload.queries
        width = self.workload.width
        moved = queries * total(widths) * width + substitute(cached, self.one_position) * keys * max(width, HALF)
        return 2 * queries * keys * total(widths), BytesMoved(moved)


def _cached_sources(ref: Ref, from_cache: Mapping[str, Refs]) -> Refs:
    """Return the cached values that a value is made of: itself, if no line is between."""
    return from_cache.get(ref.node, frozenset([ref]))


def _exact_paths(frame: _Frame, node: Node, graph: Graph) -> tuple[str, ...]:
    """Return the paths of one graph's copies, one for each group of equal copies in a row."""
    inner = [join(node.at, numbers) for numbers, copies in node.numbered() if copies.graph is graph]
    return tuple(join(path, below) for below in inner for path in frame.exact_paths)


def _attends(graph: Graph) -> bool:
    return any(node.op is not None and node.op.kind is Kind.ATTENTION for node in graph.nodes.values())
