"""The output of attention, its largest logit, and the entropy of its weights.

Shape legend: B rows, T tokens of a row, C positions of keys, H heads, G key heads, Q and V widths of a head.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from dsvgraph.backends.probes import AttentionNorms
from dsvgraph.graph import Model
from dsvgraph.ops.attention import Attention
from dsvgraph_torch.probing.tracing import Means, entropy, rms, runs


class Attentions:
    """Measures the uses of attention in the order of the pass: the emitted source calls one function for all."""

    def __init__(self, graph: Model, module: nn.Module) -> None:
        self.runs = [run for run in runs(graph) if isinstance(run.node.op, Attention)]
        self.names = type(module).forward.__globals__
        self.means = [Means() for _ in self.runs]
        self.largest = [-math.inf for _ in self.runs]
        self.calls = 0

    @contextmanager
    def watched(self, packed: bool = False) -> Iterator[None]:
        """Measure the passes that run within; ``packed`` rows hold documents, of which each sees its own alone."""
        function = self.names.get("attention")
        if function is None:
            yield
            return

        def measured(q_BTHQ: Tensor, k_BCGQ: Tensor, v_BCGV: Tensor, *args: Any, **more: Any) -> Tensor:
            y_BTHV: Tensor = function(q_BTHQ, k_BCGQ, v_BCGV, *args, **more)
            self._add(self.calls % len(self.runs), q_BTHQ, k_BCGQ, y_BTHV, packed)
            self.calls += 1
            return y_BTHV

        self.names["attention"] = measured
        try:
            yield
        finally:
            self.names["attention"] = function

    def _add(self, place: int, q_BTHQ: Tensor, k_BCGQ: Tensor, y_BTHV: Tensor, packed: bool) -> None:
        op: Any = self.runs[place].node.op
        self.means[place].add("output", rms(y_BTHV))
        if packed or not known(op, q_BTHQ, k_BCGQ):
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
