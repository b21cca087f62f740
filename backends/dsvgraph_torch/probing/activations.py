"""Activations of one traced pass: the residual stream, attention, and the load of experts, by paths of the graph.

Shape legend: B rows, T tokens of a row, C positions of keys, D width, H heads, G key heads, Q and V widths of a head,
E experts, K experts of a token.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dsvgraph.backends.probes import AttentionNorms, RouterLoad, StateNorms
from dsvgraph.graph import Graph, Mode, Model, Node, join
from dsvgraph.ops.pointwise import Add
from dsvgraph.ops.routing import Router
from dsvgraph.ops.sequence import Attention
from dsvgraph.passes.graph.instances import CopyIndex, fills
from dsvgraph.types import ElementType
from dsvgraph_torch.data.batch import Batch
from dsvgraph_torch.probing.heads import run


@dataclass(frozen=True)
class Run:
    """One run of a line in a forward pass: its address, its node, and which use of its weights it is."""

    path: str
    node: Node
    use: int = 0
    index: CopyIndex = ()


def runs(graph: Graph, prefix: str = "", index: CopyIndex = ()) -> Iterator[Run]:
    """Yield the lines of a model in the order in which a forward pass runs them, copies written out."""
    for node in graph.nodes.values():
        if node.name in graph.weight_only:
            continue
        if node.op is not None or node.mode is Mode.EACH:
            yield Run(join(prefix, node.at), node, index=index)
            continue
        for use, (number, copy) in enumerate(node.copy_graphs()):
            path = join(prefix, node.segment(number))
            yield Run(path, node, use=use if node.reused else 0, index=index)
            yield from runs(copy, path, (*index, use) if node.reused else index)


@dataclass
class Means:
    """Means by name, over positions of all batches."""

    sums: dict[str, float] = field(default_factory=dict)
    counts: dict[str, int] = field(default_factory=dict)

    def add(self, name: str, values: Tensor) -> None:
        """Add the values of some positions."""
        self.sums[name] = self.sums.get(name, 0.0) + float(values.double().sum())
        self.counts[name] = self.counts.get(name, 0) + values.numel()

    def __getitem__(self, name: str) -> float:
        return self.sums[name] / self.counts[name] if self.counts.get(name) else math.nan


def rms(x: Tensor) -> Tensor:
    """Return the root mean square of every position, [B, T]."""
    return x.float().flatten(2).square().mean(-1).sqrt()


# -- the residual stream -------------------------------------------------------------------------


class States:
    """Measures what the copies of repeated lines carry, and what lines within add to it."""

    def __init__(self, graph: Model, module: nn.Module) -> None:
        self.module = module
        self.runs = [run for run in runs(graph) if run.node.mode is Mode.REPEAT and _carried(run.node)]
        self.means = [Means() for _ in self.runs]
        self.calls: dict[str, int] = {}

    @contextmanager
    def watched(self) -> Iterator[None]:
        """Measure the passes that run within."""
        with ExitStack() as stack:
            for path in dict.fromkeys(run.path for run in self.runs):
                places = [i for i, run in enumerate(self.runs) if run.path == path]
                layer = self.module.get_submodule(path)
                stack.enter_context(_hooked(layer, self._layer(path, places)))
                for name, at in branches(self.runs[places[0]].node):
                    child = _submodule(layer, at)
                    if child is not None:
                        stack.enter_context(_hooked(child, self._branch(path, places, name)))
            yield

    def _layer(self, path: str, places: list[int]) -> Callable[..., None]:
        node = self.runs[places[0]].node

        def measure(module: nn.Module, given: tuple[Any, ...], result: Any) -> None:
            place = places[self.calls.get(path, 0) % len(places)]
            self.calls[path] = self.calls.get(path, 0) + 1
            port = _carried(node)
            before = given[[*node.copies[0].graph.inputs].index(port)]
            after = result if isinstance(result, Tensor) else result[[*node.outputs].index(port)]
            kept = after.shape[1] - _fill(node, self.runs[place].use if node.reused else _number(node, path))
            before, after = before[:, :kept], after[:, :kept]
            self.means[place].add("state", rms(after))
            self.means[place].add("change", rms(after - before) / rms(before).clamp(min=1e-30))

        return measure

    def _branch(self, path: str, places: list[int], name: str) -> Callable[..., None]:
        def measure(module: nn.Module, given: tuple[Any, ...], result: Any) -> None:
            place = places[self.calls.get(path, 0) % len(places)]  # a layer is counted when it ends
            value = result if isinstance(result, Tensor) else result[0]
            self.means[place].add(f"branch {name}", rms(value))

        return measure

    def found(self) -> tuple[StateNorms, ...]:
        """Return what was measured, layer by layer."""
        return tuple(
            StateNorms(
                path=run.path,
                use=run.use,
                state=means["state"],
                change=means["change"],
                branches={n.removeprefix("branch "): means[n] for n in means.sums if n.startswith("branch ")},
            )
            for run, means in zip(self.runs, self.means, strict=True)
        )


def _carried(node: Node) -> str:
    """Return the first port of numbers, not of ids, that goes from copy to copy; nothing where there is none."""
    return next((port for port in node.carried if node.outputs[port].dtype is not ElementType.INT), "")


def _number(node: Node, path: str) -> int:
    """Return which copy of a repeated line has the address ``path``, from 0."""
    return int(path.rpartition(".")[2]) - int(node.start)  # type: ignore[arg-type]


def _fill(node: Node, copy: int) -> int:
    """Return how many last positions hold fill in what a copy gives."""
    pieces = next(iter(node.copy_horizons.values()), [])
    return pieces[copy].fill if copy < len(pieces) else 0


def branches(node: Node) -> list[tuple[str, str]]:
    """Return name and address of the lines of a repeated block of which the values are added to another one."""
    graph = node.copies[0].graph
    added = [ref.node for inner in graph.nodes.values() if isinstance(inner.op, Add) for ref in inner.inputs.values()]
    lines = [graph.nodes[name] for name in dict.fromkeys(added) if name in graph.nodes]
    return [(line.name, line.at) for line in lines if line.at and line.mode is Mode.CALL and not _adds(line)]


def _adds(node: Node) -> bool:
    return isinstance(node.op, Add)


def _submodule(module: nn.Module, path: str) -> nn.Module | None:
    """Return what is below ``path``, or None where the line has no module of its own."""
    try:
        return module.get_submodule(path)
    except AttributeError:
        return None


@contextmanager
def _hooked(module: nn.Module, measure: Callable[..., None]) -> Iterator[None]:
    handle = module.register_forward_hook(measure)
    try:
        yield
    finally:
        handle.remove()


# -- routers -------------------------------------------------------------------------------------


class Routers:
    """Counts the choices of routers, and the entropy of their scores; fill at the end of rows is left out."""

    def __init__(self, graph: Model, module: nn.Module) -> None:
        self.module = module
        self.runs = [run for run in runs(graph) if isinstance(run.node.op, Router)]
        self.fills = fills(graph)
        self.counts: list[Tensor | None] = [None for _ in self.runs]
        self.means = [Means() for _ in self.runs]
        self.calls: dict[str, int] = {}

    @contextmanager
    def watched(self) -> Iterator[None]:
        """Count the passes that run within."""
        with ExitStack() as stack:
            for path in dict.fromkeys(run.path for run in self.runs):
                places = [i for i, run in enumerate(self.runs) if run.path == path]
                stack.enter_context(_hooked(self.module.get_submodule(path), self._router(path, places)))
            yield

    def _router(self, path: str, places: list[int]) -> Callable[..., None]:
        def count(router: Any, given: tuple[Any, ...], result: Any) -> None:
            place = places[self.calls.get(path, 0) % len(places)]
            self.calls[path] = self.calls.get(path, 0) + 1
            kept = given[0].shape[1] - self._fill(self.runs[place])
            s_BTE = scores(router, self.runs[place].node.op, given[0][:, :kept])
            experts = s_BTE.shape[-1]
            load_E = torch.bincount(result[0][:, :kept].flatten(), minlength=experts).double().cpu()
            self.counts[place] = load_E if self.counts[place] is None else self.counts[place] + load_E
            self.means[place].add("entropy", entropy(s_BTE) / math.log(experts))

        return count

    def _fill(self, run: Run) -> int:
        fill = self.fills.get(run.path, 0)
        return fill if isinstance(fill, int) else fill.get(run.index, 0)

    def found(self) -> tuple[RouterLoad, ...]:
        """Return the load of each router in the order of the pass."""
        uses: dict[str, int] = {}
        found = []
        for run, counts_E, means in zip(self.runs, self.counts, self.means, strict=True):
            use = uses[run.path] = uses.get(run.path, -1) + 1
            if counts_E is not None:
                found.append(_load(run, use, counts_E / counts_E.sum(), means["entropy"]))
        return tuple(found)


def _load(run: Run, use: int, load_E: Tensor, spread: float) -> RouterLoad:
    op = run.node.op
    assert isinstance(op, Router)
    balance = float(entropy(load_E)) / math.log(len(load_E))
    load = tuple(load_E.tolist())
    return RouterLoad(path=run.path, use=use, top_k=int(op.top_k), load=load, entropy=spread, balance=balance)  # type: ignore[arg-type]


def scores(router: Any, op: Any, x_BTD: Tensor) -> Tensor:
    """Return the scores of all experts that sum to 1, [B, T, E], as the op declares them: before any correction."""
    logits_BTE = F.linear(x_BTD.float(), router.weight.float(), router.bias.float() if op.bias else None)
    if op.score == "softmax":
        return logits_BTE.softmax(-1)
    s_BTE = logits_BTE.sigmoid()
    return s_BTE / s_BTE.sum(-1, keepdim=True)


def entropy(p: Tensor) -> Tensor:
    """Return the entropy of distributions along the last axis, in nats."""
    return torch.special.entr(p).sum(-1)


# -- attention -----------------------------------------------------------------------------------


class Attentions:
    """Measures the uses of attention in the order of the pass: the emitted source calls one function for all."""

    def __init__(self, graph: Model, module: nn.Module) -> None:
        self.runs = [run for run in runs(graph) if isinstance(run.node.op, Attention)]
        self.names = type(module).forward.__globals__
        self.means = [Means() for _ in self.runs]
        self.largest = [-math.inf for _ in self.runs]
        self.calls = 0

    @contextmanager
    def watched(self) -> Iterator[None]:
        """Measure the passes that run within."""
        function = self.names.get("attention")
        if function is None:
            yield
            return

        def measured(q_BTHQ: Tensor, k_BCGQ: Tensor, v_BCGV: Tensor, *args: Any, **more: Any) -> Tensor:
            y_BTHV: Tensor = function(q_BTHQ, k_BCGQ, v_BCGV, *args, **more)
            self._add(self.calls % len(self.runs), q_BTHQ, k_BCGQ, y_BTHV)
            self.calls += 1
            return y_BTHV

        self.names["attention"] = measured
        try:
            yield
        finally:
            self.names["attention"] = function

    def _add(self, place: int, q_BTHQ: Tensor, k_BCGQ: Tensor, y_BTHV: Tensor) -> None:
        op: Any = self.runs[place].node.op
        self.means[place].add("output", rms(y_BTHV))
        if not known(op, q_BTHQ, k_BCGQ):
            return
        logits_BHTC = causal_logits(op, q_BTHQ, k_BCGQ)
        self.largest[place] = max(self.largest[place], float(logits_BHTC.max()))
        self.means[place].add("entropy", entropy(logits_BHTC.softmax(-1)))

    def found(self) -> tuple[AttentionNorms, ...]:
        """Return what was measured; nothing if the pass did not use attention once for each line."""
        passes, rest = divmod(self.calls, max(1, len(self.runs)))
        if rest or not passes:
            return ()
        uses: dict[str, int] = {}
        found = []
        for run, means, largest in zip(self.runs, self.means, self.largest, strict=True):
            use = uses[run.path] = uses.get(run.path, -1) + 1
            there = math.isfinite(largest)
            found.append(
                AttentionNorms(
                    path=run.path,
                    use=use,
                    output=means["output"],
                    logit=largest if there else None,
                    entropy=means["entropy"] if there else None,
                )
            )
        return tuple(found)


def known(op: Any, q_BTHQ: Tensor, k_BCGQ: Tensor) -> bool:
    """Return whether `causal_logits` are all that a use of attention sees: causal, of its own row, without sinks."""
    return bool(op.causal) and not op.sinks and q_BTHQ.shape[1] == k_BCGQ.shape[1]


def causal_logits(op: Any, q_BTHQ: Tensor, k_BCGQ: Tensor) -> Tensor:
    """Return the logits that positions see, [B, H, T, C]; minus infinity where they see nothing."""
    groups = q_BTHQ.shape[2] // k_BCGQ.shape[2]
    scale = op.scale if op.scale is not None else q_BTHQ.shape[-1] ** -0.5
    keys_BCHQ = k_BCGQ.repeat_interleave(groups, 2)
    logits_BHTC = torch.einsum("bthq,bchq->bhtc", q_BTHQ.float(), keys_BCHQ.float()) * scale
    seen_TC = torch.ones(logits_BHTC.shape[-2:], dtype=torch.bool, device=logits_BHTC.device).tril()
    if op.window is not None:
        seen_TC = seen_TC.triu(1 - int(op.window))
    return logits_BHTC.masked_fill(~seen_TC, -math.inf)


# -- all together --------------------------------------------------------------------------------


@torch.inference_mode()
def trace(
    graph: Model, module: nn.Module, batches: Iterable[Batch]
) -> tuple[tuple[StateNorms, ...], tuple[RouterLoad, ...], tuple[AttentionNorms, ...], list[str]]:
    """Return norms of the residual stream, loads of routers and norms of attention over ``batches``, and notes."""
    states, routers, attentions = States(graph, module), Routers(graph, module), Attentions(graph, module)
    for batch in batches:
        with states.watched(), routers.watched(), attentions.watched():
            run(module, batch)
    measured = attentions.found()
    odd = attentions.runs and not measured
    notes = ["attention is not measured: this model does not run its lines of attention once each"] if odd else []
    return states.found(), routers.found(), measured, notes
