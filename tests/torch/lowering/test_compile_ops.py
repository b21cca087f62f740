"""Ops in company, run, against the same written in plain torch with the module's weights."""

import pytest

import dsvgraph

torch = pytest.importorskip("torch")

import torch.nn.functional as F  # noqa: E402
from bodies import D, V, close, logits, model  # noqa: E402
from helpers import tokens  # noqa: E402

from dsvgraph_torch import compile  # noqa: E402


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
    module(ids, labels=ids)["loss"].backward()
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
    assert module(ids, side, labels=ids)["loss"].isfinite()


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


def test_rotations_of_one_pass_do_not_meet():
    graph = dsvgraph.loads("""
graph:
  in: {x: "[B, T, 2, 64]"}
  body:
    a: {rope: x}
    b: {rope: x, interleave: true}
    c: {rope: x, theta: 100}
    d: {rope: x, scaling: {type: linear, factor: 4}}
    e: {rope: x, scaling: {type: yarn, factor: 4, original_max_position_embeddings: 64}}
    f: {rope: x, scaling: {type: yarn, factor: 4, original_max_position_embeddings: 8}}
    g: {rope: x, scaling: {type: yarn, factor: 4, original_max_position_embeddings: 64, truncate: false}}
  out: {a: a, b: b, c: c, d: d, e: e, f: f, g: g}
""")
    x = torch.randn(1, 9, 2, 64)
    together = compile(graph)(x)
    for name, value in together.items():
        alone = dsvgraph.loads(f"graph: {{in: {{x: '[B, T, 2, 64]'}}, body: {{{line(graph, name)}}}, out: {name}}}")
        assert torch.equal(value, compile(alone)(x)["y"])
    assert all(not torch.equal(a, b) for i, a in enumerate(together.values()) for b in [*together.values()][:i])


def line(graph, name):
    span = graph.nodes[name].span
    return span.source.line(span.line).strip()


@pytest.mark.parametrize("op", ["add", "mul"])
def test_sums_and_products_of_many_inputs(op):
    """Python's own nesting has an end: 21 inputs and more are one call."""
    many = 64 if op == "add" else 21
    module, w, ids = model(f"m: {{{op}: [{', '.join(['e'] * many)}]}}\n    y: {{linear: m, out: V}}")
    e = w["e.weight"][ids]
    close(logits(module, ids), (many * e if op == "add" else e**many) @ w["y.weight"].T)
