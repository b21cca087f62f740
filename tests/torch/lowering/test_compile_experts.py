"""Experts of any ops, routers by path, and what experts cannot be, against loops over tokens."""

import pytest

import dsvgraph

torch = pytest.importorskip("torch")

import torch.nn.functional as F  # noqa: E402
from bodies import NEXT, D, V, close, loaded, logits, model  # noqa: E402
from helpers import tokens  # noqa: E402

from dsvgraph_torch import compile, expert_load  # noqa: E402
from dsvgraph_torch.runtime.plain import Context  # noqa: E402

EXPERT = """
  expert:
    in: {x: "[..., d]"}
    body:
      n1: {rms_norm: x}
      a:  {linear: n1, out: [2, 6], bias: true}
      s:  {split: a, into: {p: 2, q: 4}}
      f:  {silu: s.q}
      c:  {concat: [f, s.p]}
      l:  {linear: c, contract: 2, out: d, bias: true}
      t:  {times: l, by: 0.5}
      y:  {add: [t, x]}
    out: y
"""


@pytest.mark.parametrize("score, bias, groups", [("sigmoid", True, 1), ("softmax", False, 2)])
def test_experts_of_any_ops(score, bias, groups):
    expert = EXPERT.replace("[2, 6]", "12").replace("p: 2, q: 4", "p: 5, q: 7").replace("contract: 2, ", "")
    body = f"""
    r: {{router: e, experts: 4, top_k: 2, score: {score}, correction_bias: {str(bias).lower()}, groups: {groups}}}
    t: {{dispatch: {{x: e, index: r.index}}, experts: 4}}
    x: {{expert: t, each: 4, at: deep.experts}}
    c: {{combine: {{x: x, index: r.index, score: r.score}}}}
    y: {{linear: c, out: V}}"""
    module, w, ids = model(body, expert)
    e, want = w["e.weight"][ids], torch.zeros(2, 5, D)
    index, weight = module.r(e, Context())
    assert weight.sum(-1).sub(1).abs().max() < 1e-6
    for b in range(2):
        for t in range(5):
            for i, s in zip(index[b, t].tolist(), weight[b, t]):
                p = {k.removeprefix(f"deep.experts.{i}."): v for k, v in w.items()}
                a = F.rms_norm(e[b, t], (D,), p["n1.weight"], 1e-6) @ p["a.weight"].T + p["a.bias"]
                l = torch.cat([F.silu(a[5:]), a[:5]]) @ p["l.weight"].T + p["l.bias"]  # noqa: E741
                want[b, t] += s * (0.5 * l + e[b, t])
    close(logits(module, ids), want @ w["y.weight"].T)
    assert set(expert_load(module)) == {"r"}


def test_experts_of_heads():
    body = """
    r: {router: e, experts: 4, top_k: 2}
    t: {dispatch: {x: e, index: r.index}, experts: 4}
    x: {expert: t, each: 4}
    c: {combine: {x: x, index: r.index, score: r.score}}
    y: {linear: c, out: V}"""
    model(body, EXPERT)


ROUTED = """
  moe:
    args: {bias: true}
    in: {x: "[B, T, d]"}
    body:
      r: {router: x, experts: 4, top_k: 2, correction_bias: bias}
      t: {dispatch: {x: x, index: r.index}, experts: 4}
      z: {one: t, each: 4}
      c: {combine: {x: z, index: r.index, score: r.score}}
    out: {x: c}
  one:
    in: {x: "[..., d]"}
    body: {a: {linear: x, out: 4}, b: {linear: a, out: d}}
    out: b
"""


@pytest.mark.parametrize(
    "pattern, chosen", [("**.r", [0, 1, 2]), ("l.1.r", [1]), ("l.*.r", [0, 1, 2]), ("**.2.**", [2])]
)
def test_losses_and_updates_of_some_routers(pattern, chosen):
    loss = f"{NEXT}\n  even: {{sequence_balance: '{pattern}'}}\n  bias: {{bias_update: '{pattern}', speed: 0.5}}"
    module = compile(loaded("l: {moe: e, repeat: n}\n    y: {linear: l, out: V}", ROUTED, loss=loss))
    losses = module(tokens(2, 5, V), tokens(2, 5, V, seed=1))
    assert losses["even"].item() == pytest.approx(len(chosen), rel=0.1)  # about one each where weights are small
    module.after_step()
    assert [i for i in range(3) if module.l[i].r.e_score_correction_bias.any()] == chosen
    assert not any(load.any() for load in expert_load(module).values())


def test_only_routers_with_a_bias_are_moved():
    loss = f"{NEXT}\n  bias: {{bias_update: '**.r', speed: 0.5}}"
    module = compile(loaded("l: {moe: e, bias: index == 1, repeat: n}\n    y: {linear: l, out: V}", ROUTED, loss=loss))
    module(tokens(2, 5, V), tokens(2, 5, V, seed=1))
    module.after_step()
    assert [k for k in module.state_dict() if "bias" in k] == ["l.1.r.e_score_correction_bias"]
    assert module.l[1].r.e_score_correction_bias.any()


def test_a_trained_bias_on_the_logits_is_gpt_osss():
    from transformers import GptOssConfig
    from transformers.models.gpt_oss.modeling_gpt_oss import GptOssTopKRouter

    line = "r: {router: e, experts: 4, top_k: 2, score: softmax, correction_bias: false, bias: true}"
    module, w, ids = model(line + SENT.partition("top_k: 2}")[2], ROUTED)
    theirs = GptOssTopKRouter(GptOssConfig(hidden_size=D, num_local_experts=4, num_experts_per_tok=2))
    theirs.load_state_dict({k: 9 * w[f"r.{k}"] for k in ("weight", "bias")})  # far from even
    module.r.load_state_dict(theirs.state_dict())
    x = w["e.weight"][ids].requires_grad_()
    index, score = module.r(x, Context())
    _, score_hf, index_hf = theirs(x.flatten(0, 1))
    close(torch.zeros(10, 4).scatter(1, index.flatten(0, 1), score.flatten(0, 1)),
          torch.zeros(10, 4).scatter(1, index_hf, score_hf))  # fmt: skip
    g = torch.randn(10, 4)
    got = torch.autograd.grad(score.flatten(0, 1), module.r.bias, g.gather(1, index.flatten(0, 1)))
    want = torch.autograd.grad(score_hf, theirs.bias, g.gather(1, index_hf))
    close(got, want)


# -- what cannot run is refused at its line ------------------------------------------------------------

SENT = """
    r: {router: e, experts: 4, top_k: 2}
    t: {dispatch: {x: e, index: r.index}, experts: 4}
    z: {one: t, each: 4}
    c: {combine: {x: z, index: r.index, score: r.score}}
    y: {linear: c, out: V}"""
ROPE = """
    h: {linear: e, out: [2, 4]}
    q: {rope: h, scaling: SCALING}
    y: {linear: q, contract: 2, out: V}"""
REFUSED = {
    "`type` of rope scaling": "{type: dynamic, factor: 2}",
    "or default, found `nonsense`": "{type: nonsense}",
    "or default, found `.1.`": "{type: [1]}",
    "or default, found `null`": "{factor: 3}",
    "needs `original_max_position": "{type: yarn, factor: 2}",
    "has no `mscale`": "{type: linear, factor: 2, mscale: 1}",
    "`factor` of rope scaling is above zero": "{type: linear, factor: 0}",
    "`factor` of rope scaling is a number": "{type: linear, factor: true}",
    "`truncate` of rope scaling": "{type: yarn, factor: 2, original_max_position_embeddings: 9, truncate: 1}",
    "`theta` is not 1": "{type: yarn, factor: 2, original_max_position_embeddings: 9}, theta: 1",
    "factor` of rope scaling `llama3` is below": "{type: llama3, factor: 2, low_freq_factor: 1, high_freq_factor: 1,"
    " original_max_position_embeddings: 9}",
    "`rope_type` is `yarn` and `type` is `llama3`": "{type: llama3, rope_type: yarn}",
}


@pytest.mark.parametrize("words", REFUSED)
def test_a_rope_scaling_that_is_none_is_refused_by_check(words):
    with pytest.raises(dsvgraph.DsvError, match=words) as caught:
        loaded(ROPE.replace("SCALING", REFUSED[words]))
    assert all(d.span is not None for d in caught.value.diagnostics)
