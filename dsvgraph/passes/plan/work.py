"""What a phase computes and moves, op by op: FLOPs, and bytes between memory and the chip.

Bytes are those of matrix products, attention, norms and lookups: each reads its inputs and weights and
writes its result once, and everything pointwise is fused into them. A weight that only some tokens
meet is read if one of them does: of n tokens that meet it with share s, 1 - (1 - s)^n.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Literal, NamedTuple

from dsvgraph.dims import Size, total
from dsvgraph.graph import Graph, Model, Node, Ref, join
from dsvgraph.ops.weighted import RMSNorm
from dsvgraph.passes.gradients import Costs, Key
from dsvgraph.passes.needs import Needs, Ports
from dsvgraph.passes.paths import run_paths
from dsvgraph.passes.plan.logits import heads_behind
from dsvgraph.passes.tally import Meter, input_sizes, number, tokens

Phase = Literal["train", "prefill", "decode"]
ROLES = ("embedding", "attention", "dense", "experts", "router", "norms", "head", "extra heads")
LINKS = {"linear", "split", "concat", "expand"}  # what absorbing can move from keys to queries


@dataclass(frozen=True)
class Setting:
    """What is run: ``batch`` rows of ``seq`` tokens, or of one (``queries``) behind ``context`` cached ones."""

    phase: Phase
    batch: int
    seq: int
    context: int
    attention: str  # causal, full, absorbed
    width: int  # bytes of a number
    heads: bool  # whether what only other outputs need runs too
    queries: int = 1

    @property
    def rows(self) -> int:
        """New tokens of a row."""
        return self.queries if self.phase == "decode" else self.seq


class Work(NamedTuple):
    """One op, all its copies: where it stands, and what its forward and backward compute and move."""

    path: str
    block: str
    role: str
    op: str
    parameters: float
    forward: float  # FLOPs
    backward: float
    read: float  # bytes that the forward moves


class _Place(NamedTuple):
    graph: Graph
    path: str
    copies: float
    stored: float
    outputs: Ports | None
    role: str
    key: Key


class Worker:
    """Walks a model with numbers for its sizes."""

    def __init__(self, model: Model, setting: Setting, costs: Costs) -> None:
        self.model, self.setting, self.costs = model, setting, costs
        self.now = input_sizes(model, setting.batch, setting.rows)
        self.then = input_sizes(model, setting.batch, setting.context)
        self.one = input_sizes(model, setting.batch, 1)
        attention = "causal" if setting.attention == "causal" and setting.phase != "decode" else "full"
        self.meter = Meter(tokens(model), self.now, attention)
        self.heads = {key for ref in model.outputs.values() for key in heads_behind(model, ref)}

    def work(self) -> Iterator[Work]:
        """Every op that computes, owns or moves something."""
        first = frozenset([next(iter(self.model.outputs))])
        yield from self._inside(_Place(self.model, "", 1, 1, first, "dense", ()))

    def _inside(self, place: _Place) -> Iterator[Work]:
        needs = self.meter.depends.of(place.graph, place.outputs or ())
        role = "attention" if _attends(place.graph) and place.role != "extra heads" else place.role
        place = place._replace(role=role)
        behind = self._behind_cache(place.graph)
        for node in place.graph.nodes.values():
            kept = node.name in needs.ports
            if not kept and not self.setting.heads:
                continue
            if node.op:
                yield self._op(place, node, needs if kept else None, behind)
            yield from self._runs(place, node, needs)

    def _runs(self, place: _Place, node: Node, needs: Needs) -> Iterator[Work]:
        wanted = needs.runs.get(node.name, (None,) * len(node.runs))
        united: dict[Graph, Ports] = {}
        for run, outputs in zip(node.runs, wanted, strict=True):
            united[run.graph] = united.get(run.graph, frozenset()) | (outputs or frozenset())
        for i, (graph, (path, count)) in enumerate(run_paths(node, join(place.path, node.at)).items()):
            outputs = united[graph]
            n = float(number(count, self.now))
            role = "experts" if node.mode == "each" else place.role if place.role != "attention" else "dense"
            yield from self._inside(_Place(
                graph, path, place.copies * n, place.stored * (1 if node.reused else n), outputs,
                role if outputs else "extra heads", (*place.key, (node.name, i)),
            ))  # fmt: skip

    def _op(self, place: _Place, node: Node, needs: Needs | None, behind: Mapping[str, Ports]) -> Work:
        assert node.op is not None
        computes = needs is None or needs.computes(node)
        forward, moved = self._costs(place.graph, node, behind) if computes else (0.0, 0.0)
        key = (*place.key, (node.name, 0))
        back = float(number(self.costs.get(key, 0), self.now))
        owned = float(number(total(w.numel for w in node.weights.values()), self.now))
        role = "extra heads" if needs is None else self._role(place, node)
        return Work(
            join(place.path, node.at), place.graph.name, role, node.callee, owned * place.stored,
            forward * place.copies, back, moved * place.copies,
        )  # fmt: skip

    def _role(self, place: _Place, node: Node) -> str:
        if place.role == "extra heads":
            return place.role
        if node.callee in ("embedding", "router"):
            return node.callee
        if isinstance(node.op, RMSNorm) and place.role != "experts":
            return "norms"
        return "head" if (place.graph, node.name) in self.heads else place.role

    # -- one op ------------------------------------------------------------------------------

    def _costs(self, graph: Graph, node: Node, behind: Mapping[str, Ports]) -> tuple[float, float]:
        """FLOPs and bytes of one copy."""
        decoding = self.setting.phase == "decode"
        if decoding and node.callee == "attention":
            return self._step(graph, node, behind)
        long = decoding and node.name in behind and not self._absorbs(graph, behind)
        values = self.then if long else self.now
        known = {**node.ins, **{p: graph.type(r) for p, r in node.tied.items()}}
        op = self.meter.seen(node.op, node.ins)  # type: ignore[arg-type]
        flops = float(number(op.flops(known, node.outputs, self.meter.attention), values))
        if not flops and node.callee != "embedding":
            return 0.0, 0.0
        return flops, self._moved(graph, node, values)

    def _moved(self, graph: Graph, node: Node, values: Mapping[str, int]) -> float:
        floats = [t.numel for t in [*node.ins.values(), *node.outputs.values()] if t.dtype == "float"]
        values_moved = float(number(total(floats), values))
        if node.callee == "embedding":
            return 2 * values_moved * self.setting.width
        weights = [w.numel for w in node.weights.values()] + [graph.type(r).numel for r in node.tied.values()]
        read = float(number(total(weights), values)) * self._touched(node)
        return (values_moved + read) * self.setting.width

    def _touched(self, node: Node) -> float:
        """The share of a weight's copies that some token meets."""
        share = self.meter.share(node)
        met = float(number(share, self.now))
        count = float(number(self.meter.tokens, self.now))
        return 1.0 if met >= 1 else 1 - (1 - met) ** count

    # -- decoding ----------------------------------------------------------------------------

    def _behind_cache(self, graph: Graph) -> dict[str, Ports]:
        """The lines between what is cached and attention, with the cached values that they read."""
        found: dict[str, Ports] = {}
        cached = set(graph.cache)
        for node in graph.nodes.values():
            read = frozenset(str(ref) for ref in node.sources.values() if ref in cached)
            read = read.union(*(found.get(ref.node, frozenset()) for ref in node.sources.values()))
            if read and node.callee != "attention" and Ref(node.name, node.first) not in cached:
                found[node.name] = read
        return found

    def _absorbs(self, graph: Graph, behind: Mapping[str, Ports]) -> bool:
        """Whether the products behind the cache can be moved to the queries and the result."""
        return self.setting.attention == "absorbed" and all(graph.nodes[n].callee in LINKS for n in behind)

    def _step(self, graph: Graph, node: Node, behind: Mapping[str, Ports]) -> tuple[float, float]:
        """Attention of the new queries over the cached positions."""
        q, k, v = (node.ins[p] for p in ("q", "k", "v"))
        window = getattr(node.op, "window", None)
        keys = self.setting.context if window is None else min(self.setting.context, int(number(window, self.now)))
        widths, cached = (k.shape[-1], v.shape[-1]), self._number(k.numel + v.numel)
        if graph.cache and self._absorbs(graph, behind):
            widths = tuple(self._width(graph, node.sources[p], behind) for p in ("k", "v"))  # type: ignore[assignment]
            cached = self._number(total(graph.type(ref).numel for ref in graph.cache))
        width = self._number(total(widths))
        pairs = self._number(q.shape[0] * q.shape[2]) * self.setting.queries * keys
        moved = self._number(q.shape[0] * q.shape[2]) * self.setting.queries * width + cached * keys
        return 2 * pairs * width, moved * self.setting.width

    def _width(self, graph: Graph, ref: Ref, behind: Mapping[str, Ports]) -> Size:
        """Numbers of one cached position that keys (or values) are made of, as one head reads them."""
        if ref in graph.cache:
            return graph.type(ref).shape[-1]
        read = [graph.type(c).shape[-1] for c in graph.cache if str(c) in behind.get(ref.node, ())]
        return total(read) if read else graph.type(ref).shape[-1]

    def _number(self, size: Size) -> float:
        """A size with one position a row."""
        return float(number(size, self.one))


def _attends(graph: Graph) -> bool:
    return any(node.callee == "attention" for node in graph.nodes.values())
