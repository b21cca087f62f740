"""`cost --verify`: what torch counts when the compiled module runs, against the cost, block by block.

The module runs forward to every output and backward from them, under torch's FlopCounterMode: in the
spec's own sizes on the meta device, which allocates nothing, and with real numbers on the CPU, where
a large spec is scaled down first. Attention is compared as whole squares, as torch counts it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import nn

from dsvgraph.backends.verification import Block, Measurement, Pair, Step, Uncounted, Verification
from dsvgraph.dims import evaluate
from dsvgraph.graph import Model, walk
from dsvgraph.ops.tape import Key
from dsvgraph.passes.count.cost import Cost, cost
from dsvgraph.passes.count.inputs import input_sizes
from dsvgraph.types import ElementType
from dsvgraph_torch.module import compile
from dsvgraph_torch.runs.tokens import check_embeddings
from dsvgraph_torch.verification.counter import CallSite, Counts, counted, counted_step
from dsvgraph_torch.verification.lines import OpCopies, op_copies
from dsvgraph_torch.verification.reduced import even_length, even_routing, reduced_model
from dsvgraph_torch.verification.step_flops import expected

SHORT = (2, 24)  # rows and tokens of the run with real numbers
REAL = 40_000_000  # parameters that are run with real numbers as they are


def verify(model: Model, batch: int = 1, seq: int = 4096, notify: Any = lambda words: None) -> Verification:
    """Run the compiled module and compare; ``notify`` is called with the name of each step that begins.

    ``batch`` rows of ``seq`` tokens go through the run on the meta device.

    Raise DsvError if the model cannot be compiled, or if an embedding has no row for what a shift fills in.
    """
    check_embeddings(model, 1)
    if cost(model, formulas=False).parameters.total <= REAL:
        notify("running it with real numbers")
        module = compile(model)
        real = _run(model, module, SHORT[0], even_length(model, SHORT[1]))
        module.zero_grad()
        module.to("meta")
    else:
        notify("running a reduced model with real numbers")
        small, changed = reduced_model(model)
        real = _run(small, compile(small), SHORT[0], even_length(small, SHORT[1]), changed)
        module = compile(model, "meta")
    notify("running it on the meta device")
    try:
        first = _run(model, module, batch, seq)
        module.zero_grad()
        return _verification(model, (first, real), step=_step(model, module, batch, seq))
    except RuntimeError as error:
        words = str(error).splitlines()[0]
        if "meta" not in words:
            raise
        return _verification(model, (real,), skipped=f"it cannot run on the meta device: {words}")


def _verification(model: Model, runs: tuple[Measurement, ...], **more: Any) -> Verification:
    return Verification(name=model.name, backend="torch", counter="torch's FlopCounterMode", runs=runs, **more)


def _step(model: Model, module: nn.Module, batch: int, seq: int) -> Step | None:
    target = next((loss.target for loss in model.losses if loss.target), None)
    if target is None or model.trained:
        return None
    forward, back, less = expected(model, batch, seq)
    inputs = _inputs(model, "meta", batch, seq)
    counts = counted_step(module, inputs, torch.zeros_like(inputs[target]))
    sums = [sum(n for p, n in counts.sites.items() if p.backward is b) for b in (False, True)]
    again = sum(counts.recomputed.values())
    return Step(Pair(forward, sums[0]), Pair(back, sums[1]), less, again)


def _run(
    model: Model, module: nn.Module, batch: int, seq: int, changed: Mapping[str, int] | None = None
) -> Measurement:
    ours = cost(model, batch, seq, attention="square", formulas=False)
    device = next(module.parameters()).device.type
    with even_routing(model, module):
        counts = counted(module, _inputs(model, device, batch, seq))
    found = SortedCounts(model, ours, counts)
    return Measurement(
        device=device,
        batch=batch,
        seq=seq,
        changed=changed or {},
        total=found.total(),
        blocks=tuple(found.blocks()),
        lines=tuple(found.lines()),
        by_op=dict(counts.by_op),
        registered=tuple(sorted(counts.registered)),
        padding=sum(counts.padding.values()),
        recomputed=sum(counts.recomputed.values()),
        uncounted=tuple(Uncounted(op, calls, counts.elements[op]) for op, calls in counts.calls.most_common()),
    )


def _inputs(model: Model, device: str, batch: int, seq: int) -> dict[str, torch.Tensor]:
    """Return random inputs: ids that every table of the model has, or normal numbers."""
    values = input_sizes(model, batch, seq)
    tables = [v.node.weights["weight"].shape for v in walk(model) if v.node.callee == "embedding" and v.node.weights]
    many = min((int(shape[0]) for shape in tables), default=2)  # type: ignore[arg-type]
    made = {}
    for name, type_ in model.inputs.items():
        shape = [int(evaluate(size, values)) for size in type_.shape]
        ids = type_.dtype is ElementType.INT
        made[name] = torch.randint(many, shape) if ids else torch.randn(shape)
    return {name: value.to(device) for name, value in made.items()}


class SortedCounts:
    """What was counted, sorted into the rows of the cost."""

    def __init__(self, model: Model, cost: Cost, counts: Counts) -> None:
        self.cost, self.counts = cost, counts
        self.units = list(op_copies(model, cost.batch, cost.seq))
        self.places: dict[str, list[OpCopies]] = {}
        for unit in self.units:
            self.places.setdefault(unit.place, []).append(unit)
        self.found: Counter[tuple[frozenset[Key], bool]] = Counter()
        for phase, flops in counts.sites.items():
            self.found[self._keys(phase.site), phase.backward] += flops

    def _keys(self, site: CallSite) -> frozenset[Key]:
        """Return the ops that may have run at a site: one, unless two stand on one line of the spec."""
        return frozenset(unit.key for unit in self.places.get(site.place, ()) if unit.holds(site))

    def _torch(self, key: Key, backward: bool) -> int | None:
        """Return what torch counted below ``key``; None where a line there may be one elsewhere too."""
        total = 0
        for (keys, found), flops in self.found.items():
            inside = [k[: len(key)] == key for k in keys]
            if any(inside) and not all(inside):
                return None
            total += flops if found is backward and any(inside) else 0
        return total

    def total(self) -> Block:
        """Return the whole model."""
        sums = [sum(n for p, n in self.counts.sites.items() if p.backward is back) for back in (False, True)]
        flops = self.cost.flops
        forward, back = Pair(int(flops.forward), sums[0]), Pair(int(flops.backward), sums[1])
        name = self.cost.name
        return Block(path="", line=name, block=name, depth=0, copies=1, forward=forward, backward=back)

    def blocks(self) -> Iterator[Block]:
        """Yield the rows of the cost that can be distinguished."""
        for row in self.cost.blocks:
            sums = [self._torch(row.key, back) for back in (False, True)]
            if None not in sums and (row.flops or any(sums)):
                forward, back = Pair(int(row.flops), sums[0] or 0), Pair(int(row.backward), sums[1] or 0)
                yield Block(
                    path=row.path,
                    line=row.line,
                    block=row.block,
                    depth=row.depth,
                    copies=row.copies,
                    forward=forward,
                    backward=back,
                )

    def lines(self) -> Iterator[Block]:
        """Yield lines of the spec that differ, and what ran outside of all lines."""
        groups = {keys for keys, _ in self.found} | {frozenset([unit.key]) for unit in self.units}
        groups -= {g for g in groups if any(g < other for other in groups)}
        for group in groups:
            mine = [unit for unit in self.units if unit.key in group]
            forward = Pair(sum(u.forward for u in mine), self.found[group, False])
            back = Pair(sum(u.backward for u in mine), self.found[group, True])
            path, line, place = (mine[0].path, mine[0].key[-1][0], mine[0].place) if mine else ("", "(elsewhere)", "")
            block = Block(path=path, line=line, block=place, depth=0, copies=1, forward=forward, backward=back)
            if not block.equal:
                yield block
