"""The load of experts and the entropy of routers.

Shape legend: B rows, T tokens of a row, D width, E experts.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dsvgraph.backends.probes import RouterLoad
from dsvgraph.graph import Model
from dsvgraph.ops.routing import Router, RouterScore
from dsvgraph.passes.graph.instances import fills
from dsvgraph_torch.probing.tracing import LineRun, Means, entropy, hooked, runs


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
                stack.enter_context(hooked(self.module.get_submodule(path), self._router(path, places)))
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

    def _fill(self, run: LineRun) -> int:
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


def _load(run: LineRun, use: int, load_E: Tensor, spread: float) -> RouterLoad:
    op = run.node.op
    assert isinstance(op, Router)
    balance = float(entropy(load_E)) / math.log(len(load_E))
    load = tuple(load_E.tolist())
    return RouterLoad(path=run.path, use=use, top_k=int(op.top_k), load=load, entropy=spread, balance=balance)


def scores(router: Any, op: Any, x_BTD: Tensor) -> Tensor:
    """Return the scores of all experts that sum to 1, [B, T, E], as the op declares them: before any correction."""
    logits_BTE = F.linear(x_BTD.float(), router.weight.float(), router.bias.float() if op.bias else None)
    if op.score is RouterScore.SOFTMAX:
        return logits_BTE.softmax(-1)
    s_BTE = logits_BTE.sigmoid()
    return s_BTE / s_BTE.sum(-1, keepdim=True)
