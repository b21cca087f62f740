"""The acceptance of every wiring of a chain with the same weights, teacher-forced.

Shape legend: B rows, T tokens of a row, R rows of all batches.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call

from dsvgraph.backends.probes import Estimate, Matrix, Wiring
from dsvgraph.graph import Model
from dsvgraph_torch.data.batch import Batch
from dsvgraph_torch.module import constructed
from dsvgraph_torch.probing.heads import Head, run
from dsvgraph_torch.probing.scores import Agreement, check_vocabularies
from dsvgraph_torch.probing.statistics import pooled, ratio, sigmas
from dsvgraph_torch.probing.wirings import Variant, variants

CONTROLS = {"one token before the right one": -1, "one token behind the right one": 1}
"""The targets of the controls, and how far they are from the right one."""


class Rewired(nn.Module):
    """The module of a variant on the weights of another one, which are not copied."""

    def __init__(self, variant: Model, base: nn.Module) -> None:
        super().__init__()
        object.__setattr__(self, "inner", constructed(variant, "meta", "fast").eval())
        inner: Any = self.inner
        known: Mapping[str, Tensor] = dict([*base.named_parameters(), *base.named_buffers()])
        names = [name for name, _ in [*inner.named_parameters(), *inner.named_buffers()]]
        object.__setattr__(self, "tensors", {name: known[name] for name in names})

    def forward(self, *args: Any, **more: Any) -> Any:
        """Return what the variant computes with these weights."""
        return functional_call(self.inner, self.tensors, args, more)


@torch.inference_mode()
def measure(
    graph: Model, module: nn.Module, heads: Sequence[Head], batches: Sequence[Batch], notify: Callable[[str], object]
) -> Matrix:
    """Return the acceptance of all wirings over ``batches``; ``notify`` is called with the name of each.

    Raise DsvError if the model has no chain, or nothing about it could be wired otherwise.
    """
    chain, found, left_out = variants(graph, heads)
    chosen = [heads[0], *chain.heads]
    references = []
    for batch in batches:
        outputs = run(module, batch)
        check_vocabularies(chosen, outputs)
        references.append(heads[0].guesses(outputs))
    counted: list[tuple[Variant, Agreement]] = []
    for number, variant in enumerate(found, 1):
        notify(f"wiring {number} of {len(found)}")
        rewired = module if variant.declared else Rewired(variant.model, module)
        counted.append((variant, _agreement(rewired, chosen, batches, references, 0)))
    declared = counted[0][1]
    controls = {words: _agreement(module, chosen, batches, references, off) for words, off in CONTROLS.items()}
    rows = [_wiring(variant, agreement, declared) for variant, agreement in counted]
    return Matrix(
        line=chain.node.name,
        heads=tuple(head.name for head in chain.heads),
        wirings=tuple(sorted(rows, key=lambda row: -row.pooled.value)),
        controls={words: _estimates(agreement) for words, agreement in controls.items()},
        left_out=tuple(left_out),
    )


def _agreement(
    module: nn.Module, heads: Sequence[Head], batches: Sequence[Batch], references: Sequence[Tensor], off: int
) -> Agreement:
    agreement = Agreement(heads, off)
    for batch, reference_BT in zip(batches, references, strict=True):
        agreement.add(run(module, batch), batch, reference_BT)
    return agreement


def _estimates(agreement: Agreement) -> tuple[Estimate, ...]:
    return tuple(sums.estimate() for sums in agreement.single.values())


def _wiring(variant: Variant, agreement: Agreement, declared: Agreement) -> Wiring:
    sums_R, counts_R = pooled(list(agreement.single.values()))
    best_R, _ = pooled(list(declared.single.values()))
    below = None if variant.declared else ratio(best_R - sums_R, counts_R)
    return Wiring(
        state=variant.state,
        handed_on=variant.handed_on,
        order=variant.order,
        module=variant.module,
        declared=variant.declared,
        agreement=_estimates(agreement),
        pooled=ratio(sums_R, counts_R),
        below=below,
        sigma=None if below is None else sigmas(below),
    )
