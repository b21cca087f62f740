"""Weights that are ports: computed by other lines, and lines of which nothing but the weight is read."""

from __future__ import annotations

import pytest

torch = pytest.importorskip("torch")

import torch.nn.functional as F  # noqa: E402
from bodies import V, close, loaded, logits, model  # noqa: E402
from helpers import tokens  # noqa: E402
from verifying import differences, verified  # noqa: E402

import dsvgraph  # noqa: E402
from dsvgraph.passes.count.cost import cost  # noqa: E402
from dsvgraph.passes.estimate import PlanOptions, plan  # noqa: E402
from dsvgraph_torch import emit  # noqa: E402

LENT = """gain: {rms_norm: e}
    square: {linear: e, out: d}
    g: {tanh: gain.weight}
    w: {silu: square.weight}
    p: {linear: square.weight, out: d}
    t: {sigmoid: e.weight}
    four: {linear: e, out: [2, 4]}"""
COMPUTED = {
    "rms_norm": "y: {rms_norm: e, weight: g}",
    "rms_norm of a gain": "own: {rms_norm: gain.weight, weight: gain.weight}\n    y: {rms_norm: e, weight: own}",
    "layer_norm": "y: {layer_norm: e, weight: g, bias: gain.weight}",
    "linear": "y: {linear: e, out: d, weight: w}",
    "linear, a product": "y: {linear: e, out: d, weight: p}",
    "linear with a bias": "y: {linear: e, out: d, weight: w, bias: true}",
    "embedding": "y: {embedding: ids, weight: t}",
    "affine": "y: {affine: e, weight: g}",
}


def computed(case: str, **sections: str) -> dsvgraph.Model:
    return loaded(f"{LENT}\n    {COMPUTED[case]}\n    head: {{linear: y, out: V}}", out="logits: head", **sections)


@pytest.mark.parametrize("case", COMPUTED)
def test_computed_weights_are_counted_as_they_run(case: str) -> None:
    """Every op whose weight is the output of other lines: forward, backward, step and a run's plan."""
    graph = computed(case)
    found = verified(graph, 3, 10)
    assert found.equal and found.step.equal, differences(found)
    counted, planned = cost(graph, 3, 10).flops, plan(graph, PlanOptions(batch=3, seq=10)).flops
    assert (counted.forward, counted.backward) == (planned.forward.value, planned.backward.value)


@pytest.mark.parametrize("frozen", ["gain.weight", "square.weight", "e.weight"])
@pytest.mark.parametrize("case", COMPUTED)
def test_computed_weights_may_be_frozen(case: str, frozen: str) -> None:
    graph = computed(case, more=f'trained: {{"{frozen}": false}}')
    assert verified(graph, 1, 10).equal


def told(graph: dsvgraph.Model) -> dict[str, str]:
    """What is warned of unused lines, and why."""
    return {d.message: d.hint for d in dsvgraph.lint(graph) if d.code == "W0102"}


def test_a_line_of_which_only_the_weight_is_read_does_not_run() -> None:
    """131,072 of 786,432 FLOPs were of a product that nothing reads."""
    body = """donor: {linear: e, out: d}
    same: {linear: e, out: d, weight: donor.weight}
    y:    {linear: same, out: V}"""
    graph = loaded(body)
    assert (
        cost(graph, 1, 10).flops.forward
        == plan(graph, PlanOptions(seq=10)).flops.forward.value
        == 10 * 2 * (64 + 8 * V)
    )
    assert cost(graph).parameters.total == 8 * V + 64 + 8 * V
    assert verified(graph).equal and not told(graph)
    lines = [line.split("  #")[0].strip() for line in emit(graph).splitlines() if "self.donor" in line]
    assert lines == ["self.donor = nn.Linear(8, 8, bias=False)", "same = F.linear(e, self.donor.weight)"]
    module, w, ids = model(body)
    close(logits(module, ids), F.embedding(ids, w["e.weight"]) @ w["donor.weight"].T @ w["y.weight"].T)


def test_what_only_such_a_line_reads_does_not_run_and_is_told() -> None:
    """`unread`, which nothing reads, runs as it is written."""
    body = """up:     {linear: e, out: d}
    act:    {silu: up}
    donor:   {linear: act, out: d}
    same:   {linear: e, out: d, weight: donor.weight}
    unread: {linear: same, out: 5}
    y:      {linear: same, out: V}"""
    graph, hint = loaded(body), "what reads it does not run: only its weights are used"
    assert told(graph) == {
        "nothing depends on `up`": hint,
        "nothing depends on `act`": hint,
        "nothing depends on `unread`": "",
    }
    assert verified(graph).equal
    assert cost(graph, 1, 10).flops.forward == 10 * 2 * (64 + 8 * 5 + 8 * V)
    module, w, ids = model(body)
    assert {"up.weight", "donor.weight", "unread.weight"} <= w.keys()
    close(logits(module, ids), F.embedding(ids, w["e.weight"]) @ w["donor.weight"].T @ w["y.weight"].T)


def test_a_line_is_weight_only_for_one_output_and_runs_for_another() -> None:
    """A run's plan counts what `cost` counts where the first output needs the weight and the second the value."""
    body = """a: {linear: e, out: d}
    h: {linear: e, out: d, weight: a.weight}
    y: {linear: h, out: V}
    o: {linear: a, out: V}"""
    graph = loaded(body, out="logits: y, others: o")
    counted, planned = cost(graph, 1, 10).flops, plan(graph, PlanOptions(seq=10)).flops
    assert counted.forward == planned.forward.value == 10 * 2 * (2 * 64 + 2 * 8 * V)
    assert plan(graph, PlanOptions(phase="prefill", seq=10)).flops.forward.value == counted.inference_forward
    assert counted.inference_forward == 10 * 2 * (64 + 8 * V)
    assert verified(graph).equal


def test_a_router_runs_for_its_balance_though_only_its_weight_is_read() -> None:
    body = """r: {router: e, experts: 4, top_k: 2}
    g: {linear: e, out: 4, weight: r.weight}
    y: {linear: g, out: V}"""
    loss = "next: {cross_entropy: logits, target: ids, shift: 1}\n  even: {sequence_balance: '**'}"
    assert "router" in cost(loaded(body, loss=loss)).flops.by_op
    module, _, ids = model(body, loss=loss)
    assert module.train()(ids, tokens(2, 5, V, seed=1))["even"] > 0
