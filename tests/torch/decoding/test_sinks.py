"""Attention with sinks and clamped numbers, against gpt-oss in transformers and plain torch."""

import math
from types import SimpleNamespace

import pytest

torch = pytest.importorskip("torch")

from bodies import D, close, logits, model  # noqa: E402

from dsvgraph_torch.kernels import cpu  # noqa: E402
from dsvgraph_torch.runtime import plain  # noqa: E402

BOTH = pytest.mark.parametrize("R", [plain, cpu], ids=["plain", "fast"])
IDS = torch.tensor([[0, 0, 0, 1, 1, 1, 1], [0, 1, 1, 1, 2, 2, 2]])


def theirs(q, k, v, sinks, scale, seen):
    """gpt-oss's eager attention; ``seen`` is [B or 1, T, C]."""
    from transformers.models.gpt_oss.modeling_gpt_oss import eager_attention_forward

    groups = SimpleNamespace(num_key_value_groups=q.shape[2] // k.shape[2], sinks=sinks, training=False)
    mask = torch.zeros(seen.shape).masked_fill(~seen, -math.inf)[:, None]
    q, k, v = (t.transpose(1, 2) for t in (q, k, v))
    return eager_attention_forward(groups, q, k, v, mask, scale)[0]


def seen(queries, window=None, documents=None):
    """Which of 7 keys the last ``queries`` positions see, [B or 1, queries, 7]."""
    i, j = torch.arange(7 - queries, 7)[:, None], torch.arange(7)
    near = (j <= i) & (j > i - (window or 7))
    return near[None] if documents is None else near & (documents[:, 7 - queries :, None] == documents[:, None])


@BOTH
@pytest.mark.parametrize("queries", [1, 4, 7])
@pytest.mark.parametrize("window", [None, 3])
@pytest.mark.parametrize("documents", [None, IDS], ids=["whole rows", "documents"])
def test_sinks_are_gpt_osss(R, queries, window, documents):
    generator = torch.Generator().manual_seed(queries)
    shapes = [(2, queries, 4, 8), (2, 7, 2, 8), (2, 7, 2, 4), (4,)]
    q, k, v, sinks = inputs = [torch.randn(s, generator=generator, requires_grad=True) for s in shapes]
    ctx = plain.Context(documents=documents)
    got = R.attention(q, k, v, ctx, 0.3, window=window, sinks=sinks)
    want = theirs(q, k, v, sinks, 0.3, seen(queries, window, documents))
    close(got, want)
    g = torch.randn(want.shape, generator=generator)
    for a, b in zip(torch.autograd.grad(got, inputs, g), torch.autograd.grad(want, inputs, g), strict=True):
        close(a, b)


BODY = """
    q: {linear: e, out: [4, 6]}
    k: {linear: e, out: [2, 6]}
    a: {attention: {q: q, k: k, v: k}, WINDOWsinks: true, at: deep.attn}
    y: {linear: a, contract: 2, out: V}"""


@pytest.mark.parametrize("window", ["", "window: 2, "])
def test_a_line_with_sinks_owns_them(window):
    module, w, ids = model(BODY.replace("WINDOW", window))
    assert w["deep.attn.sinks"].shape == (4,)
    e = w["e.weight"][ids]
    q, k = (e @ w["q.weight"].T).view(2, 5, 4, 6), (e @ w["k.weight"].T).view(2, 5, 2, 6)
    mask = torch.ones(1, 5, 5).tril().triu(-1 if window else -9).bool()
    y = theirs(q, k, k, w["deep.attn.sinks"], 6**-0.5, mask)
    close(logits(module, ids), y.flatten(2) @ w["y.weight"].T)
    with torch.no_grad():
        module.deep.attn.sinks.fill_(40.0)  # every head looks at nothing
        assert logits(module, ids).abs().max() < 1e-6
        module.deep.attn.sinks.fill_(-40.0)  # as without sinks
        s = torch.einsum("bthq,bchq->bhtc", q, k.repeat_interleave(2, 2)) * 6**-0.5
        y = s.masked_fill(~mask, -math.inf).softmax(-1) @ k.repeat_interleave(2, 2).transpose(1, 2)
        close(logits(module, ids), y.transpose(1, 2).flatten(2) @ w["y.weight"].T)


def test_clamp_cuts_on_either_side_or_both():
    lines = "a: {clamp: e, max: 0.1}\n    b: {clamp: a, min: -0.2, max: 0.05}\n    c: {clamp: e, min: 0}"
    module, w, ids = model(f"{lines}\n    s: {{add: [b, c]}}\n    y: {{linear: s, out: V}}")
    e = w["e.weight"][ids].clone().requires_grad_()
    b, c = torch.minimum(e, torch.tensor(0.1)), torch.relu(e)
    b = torch.where(b < -0.2, -0.2, torch.where(b > 0.05, 0.05, b))
    close(logits(module, ids), (b + c) @ w["y.weight"].T)


def test_clamp_inside_experts():
    body = """
    r: {router: e, experts: 4, top_k: 4, normalize: true}
    t: {dispatch: {x: e, index: r.index}, experts: 4}
    x: {low: t, each: 4}
    c: {combine: {x: x, index: r.index, score: r.score}}
    y: {linear: c, out: V}"""
    block = "\n  low: {in: {x: '[..., d]'}, body: {l: {linear: x, out: d}, c: {clamp: l, max: -1}}, out: c}"
    module, w, ids = model(body, block)
    close(logits(module, ids), (-torch.ones(2, 5, D)) @ w["y.weight"].T)
