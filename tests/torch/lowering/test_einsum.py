"""Einsum, affine and tanh against torch written out, and hyper-connections against the paper's equations."""

import pytest

import dsvgraph

torch = pytest.importorskip("torch")

from bodies import close, loaded, logits, model  # noqa: E402
from helpers import V3, built, randomised, split, tokens  # noqa: E402
from torch.utils.flop_counter import FlopCounterMode  # noqa: E402

import dsvgraph_torch  # noqa: E402

HEAD = "h: {linear: e, out: [3, d]}\n    g: {linear: e, out: [3, 4]}\n    "


def contracted(h, g):
    return torch.stack([sum(h[:, :, i] * g[:, :, i, j, None] for i in range(3)) for j in range(4)], 2)


def summed(h, g):
    return sum(h[:, :, i] * g[:, :, i].sum(-1, keepdim=True) for i in range(3))


def spread(h, g):
    return h[:, :, :, None] * g[..., None]


SUMS = {
    "b t i d, b t i j -> b t j d": contracted,
    "btid,btij->btd": summed,
    "btid, btij -> btijd": spread,
}


@pytest.mark.parametrize("equation", SUMS)
def test_einsum_is_the_sum_written_out(equation):
    lines = f'{HEAD}a: {{einsum: [h, g], equation: "{equation}"}}\n    '
    many = equation.replace(" ", "").partition("->")[2].removeprefix("bt")
    body = f"{lines}y: {{linear: a, contract: {len(many)}, out: V}}"
    module, w, ids = model(body)
    e = w["e.weight"][ids]
    h, g = (e @ w["h.weight"].T).view(2, 5, 3, 8), (e @ w["g.weight"].T).view(2, 5, 3, 4)
    close(logits(module, ids), SUMS[equation](h, g).flatten(2) @ w["y.weight"].T)
    graph = loaded(body)
    with FlopCounterMode(display=False) as counter:
        logits(module, ids)
    assert counter.get_total_flops() == dsvgraph.cost(graph, 2, 5).flops.forward


def test_einsum_with_a_weight_and_of_one_input():
    body = """
    h: {linear: e, out: [3, d]}
    s: {einsum: h, equation: "b t i d -> b t d"}
    m: {linear: s, out: d}
    a: {einsum: [m, m.weight], equation: "b t d, o d -> b t o"}
    y: {linear: a, out: V}"""
    module, w, ids = model(body)
    s = (w["e.weight"][ids] @ w["h.weight"].T).view(2, 5, 3, 8).sum(2)
    close(logits(module, ids), s @ w["m.weight"].T @ w["m.weight"].T @ w["y.weight"].T)


@pytest.mark.parametrize("scalar", ["true", "false"])
def test_affine_and_tanh(scalar):
    body = f"""
    h: {{linear: e, out: [3, d]}}
    t: {{tanh: h}}
    a: {{affine: t, axes: 2, scalar: {scalar}, at: deep.a}}
    b: {{affine: a, bias: false}}
    y: {{linear: b, contract: 2, out: V}}"""
    module, w, ids = model(body)
    assert w["deep.a.weight"].shape == ((1,) if scalar == "true" else (3, 8)) and w["deep.a.bias"].shape == (3, 8)
    t = (w["e.weight"][ids] @ w["h.weight"].T).view(2, 5, 3, 8)
    t = 1 - 2 / (torch.exp(2 * t) + 1)
    t = (w["deep.a.weight"] * t + w["deep.a.bias"]) * w["b.weight"]
    close(logits(module, ids), t.flatten(2) @ w["y.weight"].T)


# -- hyper-connections ------------------------------------------------------------------------------


def variant(**config):
    return dsvgraph.load("variants/hyper_connections", {**V3, **config})


def connect(w, streams, layer):
    """Equations 1, 2 and 10 to 13 of arXiv 2409.19606, stream by stream; A_r is the identity and a table."""
    n, H = len(streams), torch.stack(streams, 2)
    normed = H * (H.square().mean(-1, keepdim=True) + 1e-6).rsqrt() * w["norm.weight"]
    A_m = w["alpha_m.weight"] * (normed @ w["w_m.weight"].T).tanh()[..., 0] + w["alpha_m.bias"][:, 0]
    A_r = w["alpha_r.weight"] * (normed @ w["w_r.weight"].T).tanh() + w["alpha_r.bias"] + torch.eye(n)
    beta = w["beta.weight"] * (normed @ w["w_b.weight"].T).tanh()[..., 0] + w["beta.bias"][:, 0]
    out = layer(sum(A_m[:, :, i, None] * streams[i] for i in range(n)))
    kept = [sum(A_r[:, :, i, j, None] * streams[i] for i in range(n)) for j in range(n)]
    return [kept[j] + beta[:, :, j, None] * out for j in range(n)]


@torch.no_grad()
@pytest.mark.parametrize("kernels", ["plain", "fast"])
def test_hyper_connections_are_the_papers(kernels):
    module, ids = built(variant(hc_mult=3), kernels=kernels), tokens(2, 9)
    state, seen = module.state_dict(), []
    handle = module.model.layers[0].register_forward_pre_hook(lambda _, x: seen.append(x[1]))
    want = module(ids)["logits"]
    handle.remove()
    streams = [state["model.embed_tokens.weight"][ids]] * 3
    for i, layer in enumerate(module.model.layers[:3]):
        own = {k.removeprefix(f"model.layers.{i}."): v for k, v in state.items() if k.startswith(f"model.layers.{i}.")}
        parts = [{k.removeprefix(p): v for k, v in own.items() if k.startswith(p)} for p in ("attn_hc.", "ffn_hc.")]
        streams = connect(parts[0], streams, lambda x, b=layer: b.self_attn(b.input_layernorm(x), seen[0]))
        streams = connect(parts[1], streams, lambda x, b=layer: b.mlp(b.post_attention_layernorm(x), seen[0]))
    total = sum(streams)
    normed = total * (total.square().mean(-1, keepdim=True) + 1e-6).rsqrt() * state["model.norm.weight"]
    close(normed @ state["lm_head.weight"].T, want)


def test_one_stream_with_plain_tables_is_the_plain_model():
    hyper, plain = built(variant(hc_mult=1)), randomised(dsvgraph_torch.compile(dsvgraph.load("deepseek_v3_tiny", V3)))
    state = hyper.state_dict()
    with torch.no_grad():
        for path, weight in state.items():
            if "_hc.alpha" in path or "_hc.beta" in path:
                weight.fill_(float(path.endswith(("alpha_m.bias", "beta.bias"))))
    plain.load_state_dict({k: v for k, v in state.items() if "_hc." not in k}, strict=True)
    batch = split(tokens(2, 12))
    got, want = hyper(*batch), plain(*batch)
    for name in want:
        close(got[name], want[name])


@torch.no_grad()
def test_streams_decode_step_by_step():
    module, ids, cache = built(variant()).eval(), tokens(2, 9), {}
    found = [module.predict(piece, cache) for piece in ids.split([4, 1, 1, 3], 1)]
    torch.testing.assert_close(torch.cat(found, 1), module.predict(ids), rtol=1e-4, atol=1e-5)


def test_at_first_every_stream_gets_what_one_would():
    module = dsvgraph_torch.compile(variant())
    state = module.state_dict()
    for path in (p for p in state if p.endswith(("_hc.alpha_m.bias", "_hc.beta.bias"))):
        assert (state[path] == 1).all()
    assert all(state[p].abs().max() < 2 for p in state if p.endswith("_hc.alpha_r.bias"))
