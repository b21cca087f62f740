"""Good specs at random: the cost is what torch counts, to the unit, and plans and rows add up to it."""

from __future__ import annotations

import pytest

pytest.importorskip("torch")

from specs import spec

from dsvgraph import DsvError, Model, loads
from dsvgraph.passes.count.cost import cost
from dsvgraph.passes.estimate import PlanOptions, plan
from dsvgraph_torch import verify

RUNS, PIECE = 30, 10


@pytest.mark.parametrize("first", range(0, RUNS, PIECE))
def test_counts_are_torchs(first: int) -> None:
    for seed in range(first, first + PIECE):
        try:
            model = loads(spec(seed))
        except DsvError:  # how many do is held elsewhere
            continue
        adds_up(model, seed)
        found = verify(model, 2, 12)
        wrong = [(run.device, b) for run in found.runs for b in (run.total, *run.blocks, *run.lines) if not b.equal]
        assert not wrong and found.equal, f"seed {seed}"


def adds_up(model: Model, seed: int) -> None:
    """A step's plan, inference's plan and the rows of the first page are sums of one count."""
    counted, step = cost(model, 2, 12), plan(model, PlanOptions(batch=2, seq=12))
    prefill = plan(model, PlanOptions(phase="prefill", batch=2, seq=12))
    first = [row for row in counted.blocks if row.depth == 0]
    flops, total = counted.flops, counted.parameters.total
    assert (step.flops.forward.value, step.flops.backward.value) == (flops.forward, flops.backward), f"seed {seed}"
    assert prefill.flops.forward.value == flops.inference_forward, f"seed {seed}"
    assert sum(one.parameters for one in step.op_costs) == sum(row.parameters for row in first) == total, f"seed {seed}"
    assert sum(row.flops for row in first) == flops.forward, f"seed {seed}"
    assert sum(row.backward for row in first) == flops.backward, f"seed {seed}"
    assert sum(flops.by_op.values()) == flops.forward, f"seed {seed}"
