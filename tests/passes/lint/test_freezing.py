"""What is frozen, in copies that differ: counts and plans follow each copy."""

from __future__ import annotations

import pytest

import dsvgraph
from dsvgraph.build.checks.freezing import alike, root
from dsvgraph.passes.count.cost import cost
from dsvgraph.passes.estimate.memory import training

torch = pytest.importorskip("torch")

import dsvgraph_torch  # noqa: E402

SIDE = """
blocks:
  part: {in: {x: [B, T, 8]}, body: {up: {linear: x, out: 8}, act: {silu: up}, y: {linear: act, out: 8}}, out: {y: y}}
  wide: {in: {x: [..., 8]}, body: {up: {linear: x, out: 24}, act: {silu: up}, y: {linear: act, out: 8}}, out: {y: y}}
  thin: {in: {x: [..., 8]}, body: {y: {silu: x}}, out: {y: y}}
  either: {args: {f}, in: {x: [..., 8]}, body: {y: {f: x, at: .}}, out: {y: y}}
graph:
  in: {ids: "int[B, T]"}
  body:
    e: {embedding: ids, num: 16, dim: 8}
%s
    head: {linear: n, out: 16}
  out: {logits: head}
loss: {next: {cross_entropy: logits, target: ids, shift: 1}}
"""
CHAIN = SIDE.replace("out: {y: y}}\n  wide", "out: {x: y}}\n  wide") % "    n: {part: e, repeat: 5}"
EXPERTS = (
    SIDE
    % """    g: {router: e, experts: 6, top_k: 2, correction_bias: false}
    s: {dispatch: {x: e, index: g.index}, experts: 6}
    x: {either: s, f: 'thin if index >= 4 else wide', each: 6}
    n: {combine: {x: x, index: g.index, score: g.score}}"""
)


@pytest.mark.parametrize(
    "rules",
    [
        '{"n.0.**": false}', '{"n.1.**": false, "e.weight": false}', '{"n.[0-9].up.weight": false}',
        '{"e.weight": false, "n.0.**": false, "n.1.up.weight": false, "n.3.**": false}',
        '{"**": false, "n.4.y.weight": true}', '{"**": false, "n.2.**": true}',
    ],
)  # fmt: skip
def test_the_backward_of_chains_with_frozen_copies_is_torchs(rules: str) -> None:
    model = dsvgraph.loads(f"{CHAIN}trained: {rules}\n")
    assert dsvgraph_torch.verify(model, 1, 12).equal


def test_copies_that_freeze_the_same_are_found_together() -> None:
    model = dsvgraph.loads(f'{CHAIN}trained: {{"n.2.**": false, "n.4.up.*": false}}\n')
    parts = alike(model.nodes["n"], root(model))
    assert [(part.first, part.count) for part in parts] == [(0, 2), (2, 1), (3, 1), (4, 1)]
    assert parts[0].place.freezes("up.weight") is False and parts[1].place.freezes("up.weight")
    assert parts[3].place.freezes("up.weight") and not parts[3].place.freezes("y.weight")


def test_a_model_of_many_copies_is_counted_by_the_kinds_of_them() -> None:
    """Twelve thousand layers' worth of experts: the places are as many as the patterns tell apart."""
    config = {"num_hidden_layers": 700, "n_routed_experts": 256}
    trained = 'trained: {"model.layers.1*.mlp.**": false, "**.gate.weight": false}'
    model = dsvgraph.loads(f"extends: deepseek_v3.yaml\n{trained}\n", config)
    plain = cost(dsvgraph.load("deepseek_v3", config), 1, 64)
    found = cost(model, 1, 64)
    assert found.parameters.total == plain.parameters.total and found.parameters.trained < plain.parameters.trained
    assert len({part.place for part in alike(model.nodes["sparse"], root(model).inside("model"))}) < 20


def test_activations_of_experts_that_differ_are_those_of_each_kind() -> None:
    """Two of six experts keep their input alone; the plan counted all as the first."""
    model = dsvgraph.loads(EXPERTS)
    planned = training(model, 2, 12, cost(model).parameters.trained, "float32", fused=False)
    module = dsvgraph_torch.compile(model).train()
    weights = {t.untyped_storage().data_ptr() for t in [*module.parameters(), *module.buffers()]}
    ids = torch.randint(0, 16, (2, 12), generator=torch.Generator().manual_seed(0))
    alive, found = [], {}

    def pack(tensor):
        alive.append(tensor)
        found[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        module(ids, ids.flip(1))["loss"]
    kept = sum(size for address, size in found.items() if address not in weights)
    chosen = module.g(module.e(ids), quiet())[0]
    wide = int((chosen < 4).sum())
    even = 2 * 12 * 2 * 4 / 6  # rows of the wide experts where all get as many
    counted = planned.activations.value + planned.logits.value
    assert counted == pytest.approx(kept - (wide - even) * 2 * 24 * 4, rel=0.08)


def quiet():
    return type("Quiet", (), {"collect": False, "documents": None, "cache": None})()
