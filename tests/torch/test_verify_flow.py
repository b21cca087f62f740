"""`cost --verify` where some values need no gradient, and on ops that no bundled spec has together."""

from __future__ import annotations

import pytest

torch = pytest.importorskip("torch")

from verifying import differences, flows, verified  # noqa: E402

import dsvgraph  # noqa: E402
from dsvgraph_torch import verify  # noqa: E402

FROZEN = {
    "nothing": "{}",
    "embedding": '{"embed.weight": false}',
    "a layer": '{"layers.1.**": false}',
    "first layers and table": '{"**": false, "layers.2.**": true}',
    "queries": '{"**.q.weight": false, "embed.weight": false, "layers.0.norm.weight": false}',
    "all but a gain": '{"**": false, "layers.1.norm.weight": true}',
}


@pytest.mark.parametrize("frozen", FROZEN)
def test_frozen_weights(frozen: str) -> None:
    """A product whose weight is frozen has one backward product, and none where its input needs none either."""
    found = verified(dsvgraph.loads(flows(trained=FROZEN[frozen])))
    main, real = found.runs
    assert main.equal, differences(found)
    assert real.equal or frozen == "queries"  # there the fused kernel makes gradients that nobody wants
    idle, side = 2 * 40 * 16 * 4, 2 * 40 * 16 * 24
    most = 2 * main.total.forward.ours - 2 * idle - side
    assert (main.total.backward.ours == most) is (frozen == "nothing")
    assert main.total.backward.ours <= most


@pytest.mark.parametrize("start", ["{linear: x, out: d}", "{add: [embed, x]}", "{detach: embed}"])
def test_inputs_without_gradients(start: str) -> None:
    found = verified(dsvgraph.loads(flows(start=start)))
    assert found.equal, differences(found)


@pytest.mark.parametrize("norm", ["rms_norm", "layer_norm"])
def test_gains_of_norms(norm: str) -> None:
    found = verified(dsvgraph.loads(flows(norm)))
    assert found.equal, differences(found)
    (gain,) = (n for op, n in found.runs[0].by_op.items() if "norm" in op and "backward" not in op)
    back = found.runs[0].by_op.get("aten.native_layer_norm_backward", 0)
    assert gain + back == 3 * (3 * 2 * 40 * 16)


EXPERTS = """
config: {d: 16}
blocks:
  expert:
    in: {x: [N, d]}
    body:
      norm: {rms_norm: x}
      up:   {linear: norm, out: WIDTH, bias: true}
      down: {linear: up, out: d}
    out: down
graph:
  in: {ids: "int[B, T]"}
  body:
    embed:   {embedding: ids, num: 24, dim: d}
    gate:    {router: embed, experts: 4, top_k: 2}
    sent:    {dispatch: {x: embed, index: gate.index}, experts: 4}
    experts: {expert: sent, each: 4}
    y:       {combine: {x: experts, index: gate.index, score: gate.score}}
    head:    {linear: y, out: 24}
  out: {logits: head}
"""


def test_experts_with_norms_and_biases() -> None:
    found = verified(dsvgraph.loads(EXPERTS.replace("WIDTH", "8")))
    assert found.equal, differences(found)


def test_experts_of_odd_widths_run_with_real_numbers_alone() -> None:
    """Their loop wants to know how many tokens each got."""
    found = verify(dsvgraph.loads(EXPERTS.replace("WIDTH", "7")))
    assert [run.device for run in found.runs] == ["cpu"]
    assert found.equal, differences(found)
    assert "meta" in found.skipped
