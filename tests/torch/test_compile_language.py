"""Each construct of the language, run, against the same written in plain torch with the module's weights."""

import pytest

import dsvgraph

torch = pytest.importorskip("torch")

import torch.nn.functional as F  # noqa: E402
from helpers import randomised, tokens  # noqa: E402

from dsvgraph_torch import compile, emit, expert_load, prove  # noqa: E402
from dsvgraph_torch.module import load_source  # noqa: E402

V, D = 13, 8
HEAD = """
config: {V: 13, d: 8, n: 3, eps: 1e-6}
"""
TAIL = """
loss: {next: {cross_entropy: logits, target: ids, shift: 1}}
"""


def model(body, blocks="", out="logits: y", **config):
    """The module of a body from `e`, the embedded ids, and its weights by name."""
    graph = dsvgraph.loads(f"""
config: {{V: 13, d: 8, n: 3}}
{"blocks:" if blocks else ""}
{blocks}
graph:
  in: {{ids: "int[B, T]"}}
  body:
    e: {{embedding: ids, num: V, dim: d}}
    {body.strip()}
  out: {{{out}}}
loss: {{next: {{cross_entropy: logits, target: ids, shift: 1}}}}
""", config)  # fmt: skip
    module = randomised(compile(graph))
    prove(module, graph)
    ids = tokens(2, 5, V)
    alone = load_source(emit(graph), "alone")
    twin = getattr(alone, type(module).__name__)()
    twin.load_state_dict(module.state_dict())
    with torch.no_grad():
        first = next(iter(graph.outputs))
        assert torch.equal(twin.eval().predict(ids), module.eval()(ids)[first])
        assert torch.equal(module.predict(ids), module(ids)[first])
    module.train()(ids, tokens(2, 5, V, seed=1))["loss"].backward()
    module.zero_grad()
    return module, module.state_dict(), ids


def logits(module, ids):
    return module(ids)["logits"]


def close(got, want):
    torch.testing.assert_close(got, want, rtol=1e-5, atol=1e-5)


LAYER = """
  layer:
    in: {x: "[B, T, d]"}
    body:
      up: {linear: x, out: d}
      y:  {add: [x, up]}
    out: {x: y}
"""


def test_repeat_is_a_chain():
    module, w, ids = model("l: {layer: e, repeat: n}\n    y: {linear: l, out: V}", LAYER)
    x = w["e.weight"][ids]
    for i in range(3):
        x = x + x @ w[f"l.{i}.up.weight"].T
    close(logits(module, ids), x @ w["y.weight"].T)


def test_repeat_nought_times_is_nothing():
    module, w, ids = model("l: {layer: e, repeat: n}\n    y: {linear: l, out: V}", LAYER, n=0)
    assert set(w) == {"e.weight", "y.weight"}
    close(logits(module, ids), w["e.weight"][ids] @ w["y.weight"].T)


def test_an_op_repeats():
    module, w, ids = model("l: {linear: e, out: d, bias: true, repeat: n, at: deep.l}\n    y: {linear: l, out: V}")
    x = w["e.weight"][ids]
    for i in range(3):
        x = x @ w[f"deep.l.{i}.weight"].T + w[f"deep.l.{i}.bias"]
    close(logits(module, ids), x @ w["y.weight"].T)


def test_an_op_without_weights_repeats():
    module, w, ids = model("l: {silu: e, repeat: n}\n    y: {linear: l, out: V}")
    close(logits(module, ids), F.silu(F.silu(F.silu(w["e.weight"][ids]))) @ w["y.weight"].T)


def test_copies_that_differ_by_index_have_arguments():
    blocks = """
  wide:
    args: {width: , act: silu}
    in: {x: "[B, T, d]"}
    body:
      up:   {linear: x, out: width}
      a:    {act: up}
      down: {linear: a, out: d}
    out: {x: down}
"""
    body = "l: {wide: e, width: 2 * index + 3, act: [silu, gelu], repeat: n}\n    y: {linear: l, out: V}"
    module, w, ids = model(body, blocks)
    x = w["e.weight"][ids]
    for i, act in enumerate((F.silu, F.gelu, F.silu)):
        assert w[f"l.{i}.up.weight"].shape == (2 * i + 3, D)
        x = act(x @ w[f"l.{i}.up.weight"].T) @ w[f"l.{i}.down.weight"].T
    close(logits(module, ids), x @ w["y.weight"].T)


def test_sliced_ports_are_skip_connections():
    blocks = """
  down:
    in: {x: "[B, T, d]"}
    body: {y: {linear: x, out: d}}
    out: {x: y, kept: y}
  up:
    in: {x: "[B, T, d]", skip: "[B, T, d]"}
    body: {y: {linear: x, out: d}, z: {mul: [y, skip]}}
    out: {x: z}
"""
    body = """
    a: {down: e, repeat: n}
    b: {up: {x: a.x, skip: a.kept}, slice: skip, repeat: n}
    y: {linear: b, out: V}"""
    module, w, ids = model(body, blocks)
    x, kept = w["e.weight"][ids], []
    for i in range(3):
        x = x @ w[f"a.{i}.y.weight"].T
        kept.append(x)
    for i in range(3):
        x = x @ w[f"b.{i}.y.weight"].T * kept[i]
    close(logits(module, ids), x @ w["y.weight"].T)


def test_each_over_a_stacked_value():
    blocks = """
  step:
    in: {x: "[B, T, d]"}
    body: {y: {linear: x, out: d}}
    out: {x: y, kept: y}
  head:
    in: {x: "[B, T, d]", table: "[V, d]"}
    args: {V}
    body: {norm: {rms_norm: x}, y: {linear: norm, out: V, weight: table}}
    out: {y: y}
"""
    body = """
    a: {step: e, repeat: n}
    y: {linear: a.x, out: V}
    h: {head: {x: a.kept, table: y.weight}, each: n, share: table}"""
    module, w, ids = model(body, blocks, out="logits: y, more: h.y")
    x, more = w["e.weight"][ids], []
    for i in range(3):
        x = x @ w[f"a.{i}.y.weight"].T
        more.append(F.rms_norm(x, (D,), w[f"h.{i}.norm.weight"], 1e-6) @ w["y.weight"].T)
    close(module(ids)["more"], torch.stack(more))
    close(logits(module, ids), x @ w["y.weight"].T)


@pytest.mark.parametrize("n", [0, 1, 3])
def test_a_stacked_output_of_any_length(n):
    blocks = """
  step:
    in: {x: "[B, T, d]", table: "[V, d]"}
    args: {V}
    body: {y: {linear: x, out: d}, z: {linear: y, out: V, weight: table}}
    out: {x: y, z: z}
"""
    body = "y: {linear: e, out: V}\n    a: {step: {x: e, table: y.weight}, repeat: n}"
    module, _, ids = model(body, blocks, out="logits: y, more: a.z", n=n)
    found = module(ids)
    assert ("more" in found) == (n > 0) and (n == 0 or found["more"].shape == (n, 2, 5, V))


def test_tied_embeddings_are_one_weight_and_sum_their_gradients():
    module, w, ids = model("y: {linear: e, out: V, weight: e.weight}")
    assert set(w) == {"e.weight"} and len(list(module.parameters())) == 1
    table = w["e.weight"].clone().requires_grad_()
    close(logits(module, ids), table[ids] @ table.T)
    (table[ids] @ table.T).square().sum().backward()
    logits(module, ids).square().sum().backward()
    close(module.e.weight.grad, table.grad)


def test_tied_norms_and_biases():
    body = """
    a: {rms_norm: e}
    b: {rms_norm: a, weight: a.weight}
    c: {layer_norm: b}
    d2: {layer_norm: c, weight: c.weight, bias: c.bias}
    l: {linear: d2, out: d, bias: true}
    m: {linear: l, out: d, bias: true, weight: l.weight, bias: true}
    y: {linear: m, out: V}"""
    body = body.replace(", weight: l.weight, bias: true}", ", weight: l.weight}")
    module, w, ids = model(body)
    x = w["e.weight"][ids]
    for _ in range(2):
        x = F.rms_norm(x, (D,), w["a.weight"], 1e-6)
    for _ in range(2):
        x = F.layer_norm(x, (D,), w["c.weight"], w["c.bias"], 1e-5)
    x = x @ w["l.weight"].T + w["l.bias"]
    close(logits(module, ids), (x @ w["l.weight"].T + w["m.bias"]) @ w["y.weight"].T)


def test_dropout_in_training_only():
    module, w, ids = model("a: {dropout: e, p: 0.5}\n    y: {linear: a, out: V}")
    want = w["e.weight"][ids] @ w["y.weight"].T
    torch.manual_seed(0)
    first, second = logits(module, ids), logits(module, ids)
    assert not torch.equal(first, second)
    torch.manual_seed(0)
    close(first, F.dropout(w["e.weight"][ids], 0.5) @ w["y.weight"].T)
    close(logits(module.eval(), ids), want)


def test_detach_stops_gradients():
    module, _, ids = model("a: {detach: e}\n    y: {linear: a, out: V}")
    module(ids, ids)["loss"].backward()
    assert module.e.weight.grad is None and module.y.weight.grad is not None


def test_pointwise_ops():
    body = """
    a: {times: e, by: -0.5}
    s: {sigmoid: a}
    r: {relu: e}
    g: {gelu: e}
    m: {mul: [s, r, g]}
    p: {add: [m, a, e]}
    f: {linear: e, out: 1}
    q: {mul: [p, f]}
    y: {linear: q, out: V}"""
    module, w, ids = model(body)
    e = w["e.weight"][ids]
    p = (-0.5 * e).sigmoid() * e.relu() * F.gelu(e) + 0.5 * e
    close(logits(module, ids), (p * (e @ w["f.weight"].T)) @ w["y.weight"].T)


def test_cutting_and_joining():
    body = """
    h: {linear: e, out: [2, 6]}
    s: {split: h, into: {a: 2, b: 4}}
    w1: {split: s.a, into: {only: 2}}
    c: {concat: [s.b, w1.only]}
    j: {linear: c, contract: 2, out: [1, 3]}
    x: {expand: e, size: 2}
    k: {linear: x, contract: 2, out: 3}
    l: {linear: j, contract: 2, out: 3}
    z: {add: [k, l]}
    y: {linear: z, out: V}"""
    module, w, ids = model(body)
    e = w["e.weight"][ids]
    h = (e @ w["h.weight"].T).unflatten(-1, (2, 6))
    j = torch.cat([h[..., 2:], h[..., :2]], -1).flatten(2) @ w["j.weight"].T
    k = torch.stack([e, e], 2).flatten(2) @ w["k.weight"].T
    close(logits(module, ids), (k + j @ w["l.weight"].T) @ w["y.weight"].T)


@pytest.mark.parametrize("by, fill", [(1, 0), (2, 5), (-1, 0), (-3, 7), (0, 0), (9, 1), (-9, 2)])
def test_shifts_of_ids(by, fill):
    body = f"s: {{shift: ids, by: {by}, fill: {fill}}}\n    f: {{embedding: s, weight: e.weight}}"
    graph_out = "logits: y, moved: f"
    module, w, ids = model(f"{body}\n    y: {{linear: e, out: V}}", out=graph_out)
    want = torch.full_like(ids, fill)
    for i in range(5):
        if 0 <= i + by < 5:
            want[:, i] = ids[:, i + by]
    close(module(ids)["moved"], w["e.weight"][want])


def test_attention_of_every_kind():
    body = """
    h: {linear: e, out: [4, 6]}
    k: {linear: e, out: [2, 6]}
    v: {linear: e, out: [2, 3]}
    a: {attention: {q: h, k: k, v: v}}
    b: {attention: {q: h, k: k, v: v}, window: 2, scale: 0.3}
    c: {attention: {q: h, k: k, v: v}, window: 1}
    j: {concat: [a, b, c]}
    y: {linear: j, contract: 2, out: V}
    u: {attention: {q: h, k: k, v: v}, causal: false}"""
    module, w, ids = model(body, out="logits: y, all: u")
    e = w["e.weight"][ids]
    q, k, v = (
        (e @ w[f"{n}.weight"].T).unflatten(-1, (h, -1)).transpose(1, 2) for n, h in (("h", 4), ("k", 2), ("v", 2))
    )

    def by_hand(scale, sees):
        out = torch.zeros(2, 5, 4, 3)
        for b in range(2):
            for h in range(4):
                for i in range(5):
                    seen = [j for j in range(5) if sees(i, j)]
                    p = (scale * torch.stack([q[b, h, i] @ k[b, h // 2, j] for j in seen])).softmax(0)
                    out[b, i, h] = sum(p[n] * v[b, h // 2, j] for n, j in enumerate(seen))
        return out

    a = by_hand(6**-0.5, lambda i, j: j <= i)
    b = by_hand(0.3, lambda i, j: i - 2 < j <= i)
    c = by_hand(6**-0.5, lambda i, j: j == i)
    close(logits(module, ids), torch.cat([a, b, c], -1).flatten(2) @ w["y.weight"].T)
    close(module(ids)["all"], by_hand(6**-0.5, lambda i, j: True))


def test_blocks_without_an_address_stand_where_they_are_called():
    blocks = """
  twice:
    in: {x: "[B, T, d]"}
    body:
      a: {linear: x, out: d}
      b: {inner: a, at: .}
    out: b
  inner:
    in: {x: "[B, T, d]"}
    body:
      c: {linear: x, out: d}
      y: {silu: c}
    out: y
  other:
    in: {x: "[B, T, d]"}
    body: {z: {linear: x, out: d, at: deep.er.z}}
    out: z
"""
    body = """
    t: {twice: e, at: .}
    o: {other: t, at: .}
    u: {twice: o}
    y: {linear: u, out: V, at: deep.y}"""
    module, w, ids = model(body, blocks)
    assert set(w) == {
        "e.weight",
        "a.weight",
        "c.weight",
        "deep.er.z.weight",
        "u.a.weight",
        "u.c.weight",
        "deep.y.weight",
    }
    x = F.silu(w["e.weight"][ids] @ w["a.weight"].T @ w["c.weight"].T) @ w["deep.er.z.weight"].T
    x = F.silu(x @ w["u.a.weight"].T @ w["u.c.weight"].T)
    close(logits(module, ids), x @ w["deep.y.weight"].T)


def test_weights_of_the_root_itself():
    module, w, ids = model("n1: {rms_norm: e, at: .}\n    y: {linear: n1, out: V}")
    assert set(w) == {"e.weight", "weight", "y.weight"}
    close(logits(module, ids), F.rms_norm(w["e.weight"][ids], (D,), w["weight"], 1e-6) @ w["y.weight"].T)


def test_a_block_given_with_arguments():
    blocks = """
  wide:
    args: {width: 3}
    in: {x: "[B, T, d]"}
    body: {up: {linear: x, out: width}, down: {linear: up, out: d}}
    out: down
  outer:
    args: {f: {wide: , width: 5}, g: wide}
    in: {x: "[B, T, d]"}
    body: {a: {f: x}, b: {g: a}}
    out: b
"""
    module, w, ids = model("o: {outer: e}\n    y: {linear: o, out: V}", blocks)
    assert w["o.a.up.weight"].shape == (5, D) and w["o.b.up.weight"].shape == (3, D)
    x = w["e.weight"][ids]
    for part in "ab":
        x = x @ w[f"o.{part}.up.weight"].T @ w[f"o.{part}.down.weight"].T
    close(logits(module, ids), x @ w["y.weight"].T)


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
    r: {{router: e, experts: 4, top_k: 2, score: {score}, bias: {str(bias).lower()}, groups: {groups}}}
    t: {{dispatch: {{x: e, index: r.index}}, experts: 4}}
    x: {{expert: t, each: 4, at: deep.experts}}
    c: {{combine: {{x: x, index: r.index, score: r.score}}}}
    y: {{linear: c, out: V}}"""
    module, w, ids = model(body, expert)
    e, want = w["e.weight"][ids], torch.zeros(2, 5, D)
    index, weight = module.r(e, type("Quiet", (), {"collect": False})())
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


def test_other_inputs_and_many_outputs():
    graph = dsvgraph.loads("""
graph:
  in: {words: "int[R, N]", side: "[R, N, 4]"}
  body:
    e: {embedding: words, num: 13, dim: 4}
    s: {add: [e, side]}
    y: {linear: s, out: 13}
  out: {scores: y, again: y, sum: s, given: side}
loss: {next: {cross_entropy: scores, target: words, shift: 1}}
""")
    module, ids, side = compile(graph), tokens(2, 5, V), torch.randn(2, 5, 4)
    found = module(ids, side)
    assert list(found) == ["scores", "again", "sum", "given"] and torch.equal(found["given"], side)
    close(found["sum"], module.e.weight[ids] + side)
    close(module.predict(words=ids, side=side), found["scores"])
    assert module(ids, side, ids)["loss"].isfinite()


def test_a_model_without_losses():
    module = compile(
        dsvgraph.loads("""
graph:
  in: {x: "[B, T, 6]"}
  body: {y: {linear: x, out: [2, 3]}}
  out: y
""")
    )
    x = torch.randn(2, 5, 6)
    close(module(x)["y"], (x @ module.y.weight.T).unflatten(-1, (2, 3)))
    close(module.predict(x), module(x)["y"])
