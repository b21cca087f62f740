"""`cost --verify` where some values need no gradient, and on ops that no bundled spec has together."""

from __future__ import annotations

import random

import pytest

torch = pytest.importorskip("torch")

from verifying import differences, flows, verified  # noqa: E402

import dsvgraph  # noqa: E402
from dsvgraph_torch import compile, verify  # noqa: E402

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


@pytest.mark.parametrize(
    "rules", ['"experts.0.**": false', '"experts.**": false, "experts.3.up.weight": true', '"**.2.norm.weight": false']
)
def test_experts_train_together(rules: str) -> None:
    """The weights of experts are one parameter, which is trained or not; what is counted is what trains."""
    text = EXPERTS.replace("WIDTH", "8")
    with pytest.raises(dsvgraph.DsvError, match="trains in some experts and not in others") as told:
        compile(dsvgraph.loads(f"{text}trained: {{{rules}}}"))
    assert told.value.diagnostics[0].span
    frozen = dsvgraph.loads(f'{text}trained: {{"experts.*.up.**": false}}')
    module = compile(frozen)
    trained = sum(p.numel() for p in module.parameters() if p.requires_grad)
    assert trained == dsvgraph.cost(frozen).parameters.trained


@pytest.mark.parametrize(
    "rules", ["{}", '{"experts.2.**": false}', '{"experts.0.up.**": false, "experts.1.**": false}']
)
def test_experts_that_differ(rules: str) -> None:
    """They are compared with tokens sent evenly, as the cost counts; runs of equal ones train or do not."""
    text = EXPERTS.replace("expert: sent", "expert: sent, width: [4, 12, 4, 8]").replace("WIDTH", "width")
    text = text.replace("    in: {x: [N, d]}", "    args: {d: , width: 8}\n    in: {x: [N, d]}")
    found = verify(dsvgraph.loads(f"{text}trained: {rules}"), 2, 10)
    assert found.equal, differences(found)
    assert found.runs[0].total.forward.ours > 0 and "meta" in found.skipped


PATTERNS = ["**", "model.embed_tokens.weight", "model.layers.0.**", "**.mlp.**", "**norm.weight", "**.experts.**"]
PATTERNS += ["lm_head.weight", "model.layers.1.self_attn.**", "**.gate.weight"]


def drawn(chance: random.Random) -> dsvgraph.Model:
    """A DeepSeek-V3 of random sizes and depths, some of whose weights are frozen."""
    layers = chance.randint(1, 4)
    config = dict(
        vocab_size=chance.randint(20, 90), hidden_size=4 * chance.randint(2, 9), num_hidden_layers=layers,
        first_k_dense_replace=chance.randint(0, layers - 1), num_nextn_predict_layers=chance.randint(0, 3),
        num_attention_heads=chance.randint(1, 4), q_lora_rank=chance.randint(3, 13),
        kv_lora_rank=chance.randint(3, 13), qk_nope_head_dim=chance.randint(2, 9),
        qk_rope_head_dim=2 * chance.randint(1, 4), v_head_dim=chance.randint(2, 12),
        intermediate_size=chance.randint(5, 40), moe_intermediate_size=4 * chance.randint(1, 5),
        n_routed_experts=8, num_experts_per_tok=chance.randint(1, 3), n_group=4, topk_group=2,
    )  # fmt: skip
    text = dsvgraph.show(dsvgraph.load(chance.choice(["deepseek_v3", "deepseek_v3_paper"]), config))
    rules = [f'"{p}": {str(chance.random() < 0.3).lower()}' for p in chance.sample(PATTERNS, chance.randint(0, 3))]
    rules = [rule for rule in rules if "layers.1." not in rule or layers > 1]
    return dsvgraph.loads(f"{text}\ntrained: {{{', '.join(rules)}}}\n" if rules else text)


@pytest.mark.parametrize("seed", range(10))
def test_random_models(seed: int) -> None:
    chance = random.Random(seed)
    found = verified(drawn(chance), seq=chance.randint(5, 20))
    assert found.equal, differences(found)


STREAMS = """
config: {d: 16, n: 4}
blocks:
  mixer:
    in: {x: [B, T, n, d]}
    body:
      maps:  {linear: x, contract: 2, out: [n, n]}
      mix:   {einsum: [x, maps], equation: "b t i d, b t i j -> b t j d"}
      gain:  {affine: mix}
      y:     {mul: [gain, mix]}
    out: {x: y}
graph:
  in: {ids: "int[B, T]"}
  body:
    embed: {embedding: ids, num: 24, dim: d}
    wide:  {expand: embed, size: n}
    trunk: {mixer: wide, at: layers, repeat: 2}
    w:     {linear: embed, out: n}
    one:   {einsum: [trunk, w], equation: "b t i d, b t i -> b t d"}
    outer: {einsum: [w, one], equation: "b t i, b t d -> b t i d"}
    head:  {linear: outer, contract: 2, out: 24}
  out: {logits: head}
"""


def test_sums_of_products() -> None:
    """Products with a sum are counted, those without are pointwise, here and there; gains of no norm are too."""
    found = verified(dsvgraph.loads(STREAMS))
    assert found.equal, differences(found)
    forward = found.runs[0].total.forward.counted
    assert forward == 2 * 40 * (2 * (64 * 16 + 4 * 4 * 16) + 16 * 4 + 4 * 16 + 64 * 24)
    assert any(u.op == "aten.mul" for u in found.runs[0].uncounted)


@pytest.mark.parametrize("block", [False, True])
def test_a_router_that_the_balance_loss_alone_reaches(block: bool) -> None:
    """Its scores go into no output: the step sends gradients through its product all the same."""
    line = "g: {choose: n}" if block else "g: {router: n, experts: 4, top_k: 2}"
    found = verify(
        dsvgraph.loads(f"""
blocks:
  choose: {{in: {{x: [B, T, 8]}}, body: {{gate: {{router: x, experts: 4, top_k: 2}}}}, out: {{y: gate.score}}}}
graph:
  in: {{ids: "int[B, T]"}}
  body:
    e: {{embedding: ids, num: 16, dim: 8}}
    n: {{rms_norm: e}}
    {line}
    head: {{linear: e, out: 16}}
  out: {{logits: head}}
loss:
  next: {{cross_entropy: logits, target: ids, shift: 1}}
  even: {{sequence_balance: "**", weight: 0.01}}
"""),
        1,
        12,
    )
    assert found.equal, differences(found)
