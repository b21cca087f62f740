"""One set of weights for several copies, against as many copies that hold the same numbers."""

from pathlib import Path

import pytest

import dsvgraph

torch = pytest.importorskip("torch")

from bodies import LAYER, D, close, loaded, logits, model  # noqa: E402
from helpers import V3, built, furthest, gradients, small, split, tokens  # noqa: E402
from torch.utils.flop_counter import FlopCounterMode  # noqa: E402

from dsvgraph_torch import after_step, expert_load  # noqa: E402

SPECS = Path(dsvgraph.__file__).parents[1] / "specs"
GATES = [f"model.layers.{i}.mlp.gate" for i in (3, 4)]
KERNELS = pytest.mark.parametrize("kernels", ["plain", "fast"])


CHAIN = ("repeat: num_nextn_predict_layers", "\n      tied: true")
LAYERS = ("repeat: num_hidden_layers - first_k_dense_replace", ", tied: true")


def tied(line, balanced="**.gate"):
    """DeepSeek-V3, small, with `tied: true` on a line; ``balanced`` routers have a balance loss."""
    text = (SPECS / "deepseek_v3.yaml").read_text(encoding="utf-8")
    text = text.replace(line[0], "".join(line)).replace('balance: "**.gate"', f'balance: "{balanced}"')
    return dsvgraph.loads(text, V3)


def pair(kernels="plain"):
    """The chain with one module, and with two that hold its numbers."""
    one, two = built(tied(CHAIN), kernels=kernels), built("deepseek_v3", kernels=kernels)
    state = one.state_dict()
    again = {k.replace(".layers.3.", ".layers.4."): w for k, w in state.items() if ".layers.3." in k}
    two.load_state_dict({**state, **again}, strict=True)
    return one, two


def test_the_weights_are_there_once():
    one, two = pair()
    assert len(one.model.layers) == 4 and len(two.model.layers) == 5
    assert not any(".layers.4." in path for path in one.state_dict())
    held = sum(p.numel() for p in one.parameters())
    assert held == sum(p.numel() for p in two.parameters()) - sum(p.numel() for p in two.model.layers[4].parameters())
    assert held == dsvgraph.cost(tied(CHAIN), formulas=False).parameters.trained


@KERNELS
def test_losses_are_those_of_equal_copies_and_gradients_add_up(kernels):
    one, two = pair(kernels)
    batch = split(tokens(2, 12))
    got, want = one(*batch), two(*batch)
    assert got.keys() == want.keys() and {"mtp.1", "mtp.2", "balance"} <= got.keys()
    for name in want:
        close(got[name], want[name])
    close(one(batch[0])["mtp_logits"], two(batch[0])["mtp_logits"])
    got["loss"].backward(), want["loss"].backward()
    found, wanted = gradients(one), gradients(two)
    for path in [p for p in wanted if ".layers.4." in p]:
        wanted[path.replace(".layers.4.", ".layers.3.")] += wanted.pop(path)
    assert furthest(found, wanted) < 1e-4


def test_a_router_counts_the_tokens_of_every_use_but_no_fill():
    one, two = pair()
    batch = split(tokens(2, 12))
    one(*batch), two(*batch)
    load, loads = expert_load(one)[GATES[0]].clone(), expert_load(two)
    assert [int(loads[path].sum()) for path in GATES] == [2 * (11 - k) * 3 for k in (1, 2)]
    assert torch.equal(load, loads[GATES[0]] + loads[GATES[1]])
    before = one.get_submodule(GATES[0]).e_score_correction_bias.clone()
    after_step(one)
    moved = one.get_submodule(GATES[0]).e_score_correction_bias - before
    close(moved, 0.001 * (load.mean() - load).sign())


def test_balance_of_some_routers_has_every_use():
    one, two = built(tied(CHAIN, "model.layers.3.**")), pair()[1]
    parts, batch = {}, split(tokens(2, 12))
    for path in GATES:
        two.get_submodule(path).register_forward_hook(lambda r, x, _: parts.update({r: x[1].balance[r]}))
    two(*batch)
    assert len(parts) == 2
    close(one(*batch)["balance"], sum(parts.values()))


@torch.no_grad()
@pytest.mark.parametrize("sizes", [[1] * 9, [4, 1, 1, 3]], ids=["token by token", "pieces"])
def test_every_use_has_its_own_part_of_the_cache(sizes):
    graph = tied(LAYERS)
    module, ids = built(graph).eval(), tokens(2, 9)
    assert len(module.model.layers) == 1 + 1 + 2
    cache, found = {}, []
    for piece in ids.split(sizes, 1):
        found.append(module.predict(piece, cache))
    torch.testing.assert_close(torch.cat(found, 1), module.predict(ids), rtol=1e-4, atol=1e-5)
    counted = dsvgraph.cost(graph, formulas=False).kv_cache.elements_per_token
    assert sum(kept.numel() for kept in cache.values()) == counted * ids.numel()
    plain = dsvgraph.cost(small("deepseek_v3"), formulas=False).kv_cache
    assert counted == plain.elements_per_token  # three layers' worth, though two have weights


STEP = """
  step:
    args: {k: 2}
    in: {x: "[B, T, d]", side: "[B, T, d]"}
    body:
      inner: {layer: x, repeat: k, tied: true}
      y:     {add: [inner, side]}
    out: {x: y, seen: inner}
"""


def test_chains_inside_chains_with_slices_and_stacks():
    body = """
    sides: {linear: e, out: d, each: n, share: [x], at: sides}
    s: {step: {x: e, side: sides}, slice: [side], repeat: n, tied: true}
    last: {add: [s, e]}
    y: {linear: last, out: V}"""
    module, w, ids = model(body, LAYER + STEP)
    assert {k for k in w if k.startswith("s.")} == {"s.0.inner.0.up.weight"}
    x = e = w["e.weight"][ids]
    for i in range(3):
        for _ in range(2):
            x = x + x @ w["s.0.inner.0.up.weight"].T
        x = x + e @ w[f"sides.{i}.weight"].T
    close(logits(module, ids), (x + e) @ w["y.weight"].T)


def test_flops_are_those_that_torch_counts():
    body = "s: {linear: e, out: d, repeat: 4, tied: true}\n    y: {linear: s, out: V}"
    module, w, ids = model(body)
    assert w["s.0.weight"].shape == (D, D)
    with FlopCounterMode(display=False) as counter:
        logits(module, ids)
    graph = loaded(body)
    assert counter.get_total_flops() == dsvgraph.cost(graph, 2, 5).flops.forward


@torch.no_grad()
def test_the_eagle_variant_is_one_module_by_hand():
    """Depth k: [Emb(t_{i+k}) ; state] through one matrix and the one layer, scored by the model's head."""
    module = built(dsvgraph.load("variants/eagle", {**V3, "num_nextn_predict_layers": 3}))
    state, ids, seen = module.state_dict(), tokens(2, 9), []
    draft = module.model.layers[3]
    kept = {k.removeprefix("model.layers.3.") for k in state if ".layers.3." in k}
    handle = module.model.layers[0].register_forward_pre_hook(lambda _, x: seen.append(x[1]))
    found = module(ids)
    handle.remove()
    assert not any("norm" in k and "layernorm" not in k for k in kept) and state["model.layers.3.fc.weight"].shape == (
        32,
        64,
    )
    h, table = hidden(module, ids), state["model.embed_tokens.weight"]
    for k in (1, 2, 3):
        future = torch.cat([table[ids[:, k:]], table[ids.new_zeros(2, k)]], 1)
        x = torch.cat([future, h], -1) @ state["model.layers.3.fc.weight"].T
        x = x + draft.self_attn(draft.input_layernorm(x), seen[0])
        h = x + draft.mlp(draft.post_attention_layernorm(x), seen[0])
        close(h @ state["lm_head.weight"].T, found["mtp_logits"][k - 1])


def hidden(module, ids):
    """The state that the head of the main model scores."""
    found = []
    handle = module.model.norm.register_forward_hook(lambda _, x, y: found.append(y))
    module.predict(ids)
    handle.remove()
    return found[0]
