"""A compiled model is an nn.Module like any other: weights by name, copies, hooks, dtypes, compilers."""

import copy
import io
import pickle
from pathlib import Path

import pytest

import dsvgraph

torch = pytest.importorskip("torch")

from helpers import SMALL, built, furthest, gradients, small, split, tokens  # noqa: E402
from torch.utils.checkpoint import checkpoint  # noqa: E402

from dsvgraph.passes.graph.instances import aliases  # noqa: E402
from dsvgraph_torch import after_step, compile, prove, weights  # noqa: E402

EVERY = pytest.mark.parametrize("name", SMALL, ids=lambda name: Path(name).stem)


@pytest.fixture
def module():
    return built("deepseek_v3")


def same(a, b, ids=None):
    """Whether two modules give the same, to the bit."""
    ids = tokens() if ids is None else ids
    with torch.no_grad():
        return all(torch.equal(x, y) for x, y in zip(a(ids).values(), b(ids).values(), strict=True))


# -- weights by name ----------------------------------------------------------------------------------


@EVERY
def test_the_state_dict_has_the_graphs_paths_and_shapes_and_loads_strictly(name):
    graph = small(name)
    first, second = built(graph), built(graph, seed=1)
    state = first.state_dict()
    assert {k: tuple(v.shape) for k, v in state.items()} == weights(graph)
    assert prove(first, graph) == sum(v.numel() for v in state.values())
    assert not same(first, second)
    second.load_state_dict(state, strict=True)
    assert same(first, second)


def test_each_expert_has_its_name_and_shares_the_storage(module):
    state, experts = module.state_dict(), module.model.layers[1].mlp.experts
    stacked = experts.gate_proj.weight
    assert stacked.shape == (8, 12, 32)
    for i in range(8):
        assert torch.equal(state[f"model.layers.1.mlp.experts.{i}.gate_proj.weight"], stacked[i])
    with torch.no_grad():
        stacked[3].zero_()
    assert not state["model.layers.1.mlp.experts.3.gate_proj.weight"].any()
    assert not any(".experts.gate_proj" in k for k in state)
    assert "model.layers.1.mlp.experts.gate_proj.weight" in dict(module.named_parameters())


def test_what_does_not_fit_is_told_by_name(module):
    name, state = "model.layers.1.mlp.experts.5.up_proj.weight", module.state_dict()
    with pytest.raises(RuntimeError, match=rf"Missing key.*{name}"):
        module.load_state_dict({k: v for k, v in state.items() if k != name})
    with pytest.raises(RuntimeError, match=rf"size mismatch for {name}.*\[3, 3\] for \[12, 32\]"):
        module.load_state_dict({**state, name: torch.zeros(3, 3)})
    with pytest.raises(RuntimeError, match=r"Unexpected key.*experts\.8\.up_proj"):
        module.load_state_dict({**state, name.replace(".5.", ".8."): state[name]})
    with pytest.raises(RuntimeError, match=r"size mismatch for lm_head\.weight"):
        module.load_state_dict({**state, "lm_head.weight": torch.zeros(2, 2)})


def test_a_refused_or_partial_state_leaves_what_it_does_not_name(module):
    before = copy.deepcopy(module)
    state = {"model.norm.weight": torch.full((32,), 2.0)}
    answer = module.load_state_dict(state, strict=False)
    assert "model.layers.1.mlp.experts.0.up_proj.weight" in answer.missing_keys and not answer.unexpected_keys
    with torch.no_grad():
        before.model.norm.weight.fill_(2.0)
    assert same(module, before)


def test_loading_does_not_touch_the_given_state(module):
    state = module.state_dict()
    keys = list(state)
    module.load_state_dict(state)
    assert list(state) == keys


def test_some_experts_of_a_state_can_be_loaded(module):
    name = "model.layers.1.mlp.experts.{}.up_proj.weight"
    answer = module.load_state_dict({name.format(2): torch.ones(12, 32)}, strict=False)
    assert name.format(2) not in answer.missing_keys and name.format(3) in answer.missing_keys
    stacked = module.model.layers[1].mlp.experts.up_proj.weight
    assert (stacked[2] == 1).all() and not (stacked[3] == 1).any()


def test_second_names_of_shared_weights():
    assert aliases(small("deepseek_v3")) == {
        f"model.layers.{k}.{second}": first
        for k in (3, 4)
        for second, first in (
            ("embed_tokens.weight", "model.embed_tokens.weight"),
            ("shared_head.head.weight", "lm_head.weight"),
        )
    }
    tutorial = aliases(small("tutorial_mtp"))
    assert tutorial["lm_head.weight"] == tutorial["model.heads.1.logits.weight"] == "model.embed_tokens.weight"
    assert tutorial["model.heads.0.normed.weight"] == "model.norm.weight"


# -- copies, files, dtypes, modes -----------------------------------------------------------------------


@EVERY
def test_deepcopy_is_a_model_of_its_own(name):
    first = built(name)
    second = copy.deepcopy(first)
    assert same(first, second)
    with torch.no_grad():
        next(second.parameters()).add_(1.0)
    assert not same(first, second)


@EVERY
def test_a_saved_state_is_the_same_model(name):
    first, file = built(name), io.BytesIO()
    torch.save(first.state_dict(), file)
    file.seek(0)
    second = compile(small(name))
    second.load_state_dict(torch.load(file))
    assert same(first, second)
    assert same(first, pickle.loads(pickle.dumps(first)))


def test_two_models_of_one_name_do_not_meet():
    first, other = built("deepseek_v3"), built("deepseek_v3", hidden_size=16)
    assert type(first).__name__ == type(other).__name__ and type(first) is not type(other)
    assert first(tokens())["logits"].shape == other(tokens())["logits"].shape
    assert same(pickle.loads(pickle.dumps(first)), first) and same(pickle.loads(pickle.dumps(other)), other)


@EVERY
def test_dtypes_and_precisions(name):
    module, (ids, targets) = built(name), split(tokens(2, 9))
    want = module.predict(ids)
    double = copy.deepcopy(module).to(torch.float64)
    assert double.predict(ids).dtype == torch.float64
    torch.testing.assert_close(double.predict(ids).float(), want, rtol=1e-4, atol=1e-5)
    with torch.autocast("cpu", torch.bfloat16):
        loss = module(ids, targets)["loss"]
    loss.backward()
    torch.testing.assert_close(loss, module(ids, targets)["loss"], rtol=0.1, atol=0.1)
    low = copy.deepcopy(module).to(torch.bfloat16)
    assert low.predict(ids).dtype == torch.bfloat16
    low(ids, targets)["loss"].backward()


def test_meta_device_allocates_nothing():
    module = compile(small("deepseek_v3"), device="meta")
    assert all(p.is_meta for p in module.parameters())
    module.to_empty(device="cpu").load_state_dict(built("deepseek_v3").state_dict())
    assert module.predict(tokens()).isfinite().all()


def test_the_same_seed_begins_the_same_and_the_section_says_how():
    graph = small("deepseek_v3", initializer_range=0.05)
    first, second, other = compile(graph), compile(graph), compile(graph, seed=1)
    assert same(first, second) and not same(first, other)
    state = first.state_dict()
    assert (state["model.norm.weight"] == 1).all() and (state["model.layers.3.shared_head.norm.weight"] == 1).all()
    assert not state["model.layers.1.mlp.gate.e_score_correction_bias"].any()
    assert state["model.embed_tokens.weight"].std().item() == pytest.approx(0.05, rel=0.1)
    expert = state["model.layers.1.mlp.experts.7.down_proj.weight"]
    assert expert.std().item() == pytest.approx(0.05, rel=0.2)


# -- hooks, checkpointing, compilers ---------------------------------------------------------------------


def test_hooks_of_layers_fire(module):
    seen = []
    for path, part in module.named_modules():
        part.register_forward_hook(lambda part, x, y, path=path: seen.append(path))
    module(tokens())
    wanted = [f"model.layers.{i}" for i in range(5)] + [f"model.layers.{i}.self_attn" for i in range(5)]
    wanted += ["model.layers.1.mlp.experts", "model.layers.3.mlp.gate", "model.norm", "model.layers.4.enorm", ""]
    assert set(wanted) <= set(seen) and seen.count("model.layers.2") == 1


@pytest.mark.parametrize("kernels", ["plain", "fast"])
def test_layers_can_be_checkpointed(kernels):
    batch = split(tokens())
    plain = built("deepseek_v3", kernels=kernels)
    saving = copy.deepcopy(plain)
    for layer in saving.model.layers:
        forward = layer.forward
        layer.forward = lambda *x, forward=forward: checkpoint(forward, *x, use_reentrant=False)
    for module in plain, saving:
        module(*batch)["loss"].backward()
    assert furthest(gradients(saving), gradients(plain)) < 1e-6


@pytest.mark.parametrize("name", ["deepseek_v3", "tutorial_mtp"])
def test_torch_compile_gives_the_same(name):
    few = dict(num_hidden_layers=1, num_nextn_predict_layers=1)
    module = built(name, **few) if name == "tutorial_mtp" else built(name, first_k_dense_replace=0, **few)
    ids, targets = split(tokens())
    compiled = torch.compile(module, backend="eager")
    for given in ((ids,), (ids, targets)):
        found, expected = compiled(*given), module(*given)
        assert found.keys() == expected.keys()
        torch.testing.assert_close(found, expected)


# -- training ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kernels", ["plain", "fast"])
@EVERY
def test_every_trained_weight_has_a_gradient_and_a_step_lowers_the_loss(name, kernels):
    module, batch = compile(small(name), kernels=kernels), split(tokens(8, 12))
    optimizer = torch.optim.AdamW(module.parameters(), lr=1e-2)
    losses = []
    for _ in range(8):
        loss = module(*batch)["loss"]
        optimizer.zero_grad()
        loss.backward()
        if not losses:
            assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in module.parameters())
        optimizer.step()
        after_step(module)
        losses.append(loss.item())
    assert losses[-1] < 0.8 * losses[0]


def test_what_no_loss_reaches_has_no_gradient():
    graph = dsvgraph.loads(FROZEN.replace("out: {logits: head}", "out: {logits: head, other: more}").replace(
        "    head:", "    more: {linear: layers, out: 3}\n    head:"
    ).replace("trained:", "init:").replace("false", "zeros").replace("true", "ones"))  # fmt: skip
    module = compile(graph)
    module(*split(tokens(2, 8, vocab=13)))["loss"].backward()
    unreached = [path for path, p in module.named_parameters() if p.grad is None]
    wanted = graph.needed([loss.output for loss in graph.losses])
    assert unreached == ["more.weight"] and not {"more"} & wanted


def test_frozen_weights_stay():
    graph = dsvgraph.loads(FROZEN)
    module, batch = compile(graph), split(tokens(2, 8, vocab=13))
    frozen = {k for k, w in module.state_dict(keep_vars=True).items() if not w.requires_grad}
    assert frozen == {"embed.weight", "layers.1.gate.weight"}
    module(*batch)["loss"].backward()
    assert {n for n, p in module.named_parameters() if p.grad is None} == frozen


FROZEN = """
config: {V: 13, d: 8}
blocks:
  layer:
    in: {x: "[B, T, d]"}
    body:
      gate: {linear: x, out: 8}
      y:    {add: [x, gate]}
    out: {x: y}
graph:
  in: {ids: "int[B, T]"}
  body:
    embed:  {embedding: ids, num: V, dim: d}
    layers: {layer: embed, repeat: 3}
    head:   {linear: layers, out: V}
  out: {logits: head}
loss: {next: {cross_entropy: logits, target: ids, shift: 1}}
trained: {"embed.*": false, "layers.*.gate.weight": false, "layers.0.**": true, "layers.2.**": true}
"""
