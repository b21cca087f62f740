"""The residual stream behind each layer, and what lines of the layer add to it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

from torch import Tensor, nn

from dsvgraph.backends.probes import StateNorms
from dsvgraph.graph import Mode, Model, Node
from dsvgraph.ops.pointwise import Add
from dsvgraph.types import ElementType
from dsvgraph_torch.probing.tracing import Means, hooked, rms, runs


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
                stack.enter_context(hooked(layer, self._layer(path, places)))
                for name, at in branches(self.runs[places[0]].node):
                    child = _submodule(layer, at)
                    if child is not None:
                        stack.enter_context(hooked(child, self._branch(path, places, name)))
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
    own = [(line.name, line.at) for line in lines if line.at and not isinstance(line.op, Add)]
    inlined = [line for line in graph.nodes.values() if line.op is None and line.mode is Mode.CALL and not line.at]
    return [*own, *(found for line in inlined for found in branches(line))]


def _submodule(module: nn.Module, path: str) -> nn.Module | None:
    """Return what is below ``path``, or None where the line has no module of its own."""
    try:
        return module.get_submodule(path)
    except AttributeError:
        return None
