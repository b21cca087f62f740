"""The runtime against loops, autograd and transformers: values and gradients."""

import itertools
import math

import pytest

torch = pytest.importorskip("torch")
import torch.nn.functional as F  # noqa: E402
from dsvgraph_torch import runtime as R  # noqa: E402
from dsvgraph_torch.runtime import Context  # noqa: E402

CLOSE = dict(rtol=1e-5, atol=1e-5)


@pytest.fixture(autouse=True)
def seed():
    torch.manual_seed(0)


def same_gradients(ours, theirs, *inputs, **close):
    """Both functions of the inputs agree in value and in every gradient."""
    got, want = ours(*inputs), theirs(*inputs)
    torch.testing.assert_close(got, want, **(close or CLOSE))
    wanted = [t for t in inputs if t.is_floating_point()]
    g = torch.randn_like(want)
    grads = torch.autograd.grad(got, wanted, g), torch.autograd.grad(want, wanted, g)
    for a, b in zip(*grads):
        torch.testing.assert_close(a, b, **(close or CLOSE))


def leaf(*shape, dtype=torch.float32):
    return torch.randn(*shape, dtype=dtype, requires_grad=True)


# rope


def test_rope_matches_llama():
    from transformers.models.llama.modeling_llama import apply_rotary_pos_emb

    x, ctx = leaf(2, 5, 3, 8), Context()
    angle = torch.outer(torch.arange(5.0), 10000.0 ** (-torch.arange(0, 8, 2) / 8))
    cos, sin = (t.repeat(1, 2)[None] for t in (angle.cos(), angle.sin()))
    same_gradients(
        lambda x: R.rope(x, ctx, 10000.0),
        lambda x: apply_rotary_pos_emb(x, x, cos, sin, unsqueeze_dim=2)[0],
        x,
    )


def test_rope_interleaved_matches_deepseek():
    from transformers.models.deepseek_v3.modeling_deepseek_v3 import apply_rotary_pos_emb_interleave

    x = leaf(2, 5, 3, 8)
    angle = torch.outer(torch.arange(5.0) + 7, 10000.0 ** (-torch.arange(0, 8, 2) / 8))
    cos, sin = (t.repeat(1, 2)[None] for t in (angle.cos(), angle.sin()))

    def theirs(x):  # writes [all even | all odd]; ours keeps neighbours side by side
        y = apply_rotary_pos_emb_interleave(x, x, cos, sin, unsqueeze_dim=2)[0]
        return y.unflatten(-1, (2, -1)).transpose(-1, -2).flatten(-2)

    for ctx in Context(positions=torch.arange(7, 12)), Context(positions=torch.arange(7, 12).expand(2, 5)):
        same_gradients(lambda x: R.rope(x, ctx, 10000.0, interleave=True), theirs, x)


@pytest.mark.parametrize("interleave", [False, True])
def test_rope_of_a_shared_key_is_that_of_every_head(interleave):
    x, ctx = torch.randn(2, 5, 8), Context()
    heads = R.rope(x[:, :, None].expand(-1, -1, 3, -1), ctx, 100.0, interleave)
    torch.testing.assert_close(R.rope(x, ctx, 100.0, interleave), heads[:, :, 1])


@pytest.mark.parametrize("interleave", [False, True])
def test_rope_of_a_slice_has_the_gradient_of_a_copy(interleave):
    x, ctx = leaf(2, 5, 3, 13), Context()
    same_gradients(
        lambda x: R.rope(x[..., 5:], ctx, 100.0, interleave),
        lambda x: R.rope(x[..., 5:].clone(), ctx, 100.0, interleave),
        x,
    )


SCALINGS = [
    dict(type="linear", factor=4.0),
    dict(type="llama3", factor=8.0, low_freq_factor=1.0, high_freq_factor=4.0, original_max_position_embeddings=64),
    dict(type="yarn", factor=40, original_max_position_embeddings=64, beta_fast=32, beta_slow=1, mscale=1.0, mscale_all_dim=1.0),
    dict(type="yarn", factor=8, original_max_position_embeddings=256, mscale=1.0, mscale_all_dim=0.707),
    dict(type="yarn", factor=8, original_max_position_embeddings=32),
]


@pytest.mark.parametrize("scaling", SCALINGS, ids=lambda s: f"{s['type']}-{s['factor']}")
def test_rope_scaling_matches_transformers(scaling):
    from transformers import LlamaConfig
    from transformers.modeling_rope_utils import ROPE_INIT_FUNCTIONS

    parameters = dict(scaling, rope_type=scaling["type"], rope_theta=10000.0)
    config = LlamaConfig(hidden_size=64, num_attention_heads=2, rope_parameters=parameters, max_position_embeddings=4096)
    want, gain = ROPE_INIT_FUNCTIONS[scaling["type"]](config, "cpu")
    f, our_gain = R.rope_frequencies(32, 10000.0, scaling)
    torch.testing.assert_close(f, want)
    assert our_gain == pytest.approx(gain)


def test_unknown_scaling_says_so():
    with pytest.raises(ValueError, match="longrope"):
        R.rope_frequencies(8, 1e4, dict(type="longrope"))


# attention


def plain_attention(q, k, v, scale, seen, sinks=None):
    """Scores one by one: seen(b, i, j) with i counted among the keys."""
    (B, T, H, _), (C, G) = q.shape, k.shape[1:3]
    allowed = [[[seen(b, i, j) for j in range(C)] for i in range(C - T, C)] for b in range(B)]
    rows = []
    for h in range(H):
        score = scale * torch.einsum("btq,bcq->btc", q[:, :, h], k[:, :, h * G // H])
        score = score.masked_fill(~torch.tensor(allowed), -math.inf)
        extra = [] if sinks is None else [sinks[h].expand(B, T, 1)]
        p = torch.cat([score, *extra], -1).softmax(-1)[..., :C]
        rows.append(p @ v[:, :, h * G // H])
    return torch.stack(rows, 2)


def causal(b, i, j):
    return j <= i


@pytest.mark.parametrize("heads, groups, width, value", [(4, 4, 8, 8), (4, 2, 8, 8), (4, 1, 12, 8), (3, 3, 6, 10), (4, 2, 24, 16)])
@pytest.mark.parametrize("queries", [1, 3, 7])
def test_attention(heads, groups, width, value, queries):
    q, k, v = leaf(2, queries, heads, width), leaf(2, 7, groups, width), leaf(2, 7, groups, value)
    same_gradients(
        lambda *t: R.attention(*t, Context(), 0.3),
        lambda *t: plain_attention(*t, 0.3, causal),
        q, k, v,
    )


def test_attention_without_causality():
    q, k, v = leaf(2, 3, 2, 8), leaf(2, 7, 2, 8), leaf(2, 7, 2, 4)
    same_gradients(
        lambda *t: R.attention(*t, Context(), 0.3, causal=False),
        lambda *t: plain_attention(*t, 0.3, lambda b, i, j: True),
        q, k, v,
    )


@pytest.mark.parametrize("queries", [1, 4, 7])
def test_attention_window_and_documents(queries):
    q, k, v = leaf(2, queries, 4, 8), leaf(2, 7, 2, 8), leaf(2, 7, 2, 4)
    ids = torch.tensor([[0, 0, 0, 1, 1, 1, 1], [0, 1, 1, 1, 2, 2, 2]])
    wants = [
        (Context(), 3, lambda b, i, j: i - 3 < j <= i),
        (Context(documents=ids), None, lambda b, i, j: j <= i and ids[b, i] == ids[b, j]),
        (Context(documents=ids), 2, lambda b, i, j: i - 2 < j <= i and ids[b, i] == ids[b, j]),
    ]
    for ctx, window, seen in wants:
        same_gradients(
            lambda *t: R.attention(*t, ctx, 0.3, window=window),
            lambda *t: plain_attention(*t, 0.3, seen),
            q, k, v,
        )


@pytest.mark.parametrize("queries, window", list(itertools.product([1, 4, 7], [None, 2])))
def test_attention_sinks(queries, window):
    q, k, v, sinks = leaf(2, queries, 4, 8), leaf(2, 7, 2, 8), leaf(2, 7, 2, 4), leaf(4)
    same_gradients(
        lambda q, k, v, s: R.attention(q, k, v, Context(), 0.3, window=window, sinks=s),
        lambda q, k, v, s: plain_attention(q, k, v, 0.3, lambda b, i, j: i - (window or 9) < j <= i, s),
        q, k, v, sinks,
    )


def test_attention_in_bfloat16():
    q, k, v = (torch.randn(2, 33, 4, w) for w in (24, 24, 16))
    got = R.attention(*(t.bfloat16() for t in (q, k, v)), Context(), 0.2)
    assert got.dtype == torch.bfloat16
    torch.testing.assert_close(got.float(), plain_attention(q, k, v, 0.2, causal), rtol=0.05, atol=0.05)


def test_decoding_step_by_step_equals_the_whole():
    q, k, v = torch.randn(2, 6, 4, 8), torch.randn(2, 6, 2, 8), torch.randn(2, 6, 2, 4)
    whole = R.attention(R.rope(q, Context(), 100.0), R.rope(k, Context(), 100.0), v, Context(), 0.3)
    cache, parts = {}, []
    for a, b in ((0, 3), (3, 5), (5, 6)):  # a prompt, two drafted tokens, one token
        ctx = Context(cache=cache)
        keys = ctx.extend("k", R.rope(k[:, a:b], ctx, 100.0))
        values = ctx.extend("v", v[:, a:b])
        parts.append(R.attention(R.rope(q[:, a:b], ctx, 100.0), keys, values, ctx, 0.3))
    torch.testing.assert_close(torch.cat(parts, 1), whole, **CLOSE)
    assert set(cache) == {"k", "v"} and cache["k"].shape == (2, 6, 2, 8)


def test_context_computes_tables_once():
    ctx = Context()
    first = ctx.rotary(8, 1e4, None, 5)
    assert ctx.rotary(8, 1e4, None, 5)[0] is first[0]
    assert ctx.rotary(8, 1e4, None, 6)[0].shape == (6, 4)


# norm and gate


def test_rms_norm():
    x, w = leaf(3, 5, 16), leaf(16)
    same_gradients(lambda *t: R.rms_norm(*t, 1e-6), lambda x, w: x * (x.square().mean(-1, keepdim=True) + 1e-6).rsqrt() * w, x, w)
    x, w = leaf(3, 5, dtype=torch.float64), leaf(5, dtype=torch.float64)
    assert torch.autograd.gradcheck(lambda *t: R.rms_norm(*t, 1e-6), (x, w))


def test_rms_norm_under_autocast():
    x, w = leaf(3, 5, 16), leaf(16)
    with torch.autocast("cpu", torch.bfloat16):
        y = R.rms_norm(x, w, 1e-6)
    assert y.dtype == torch.bfloat16
    torch.testing.assert_close(y.float(), F.rms_norm(x, (16,), w, 1e-6), rtol=0.01, atol=0.01)
    y.sum().backward()
    assert x.grad.dtype == w.grad.dtype == torch.float32


def test_silu_mul():
    same_gradients(R.silu_mul, lambda a, b: a * a.sigmoid() * b, leaf(4, 6), leaf(4, 6))
    assert torch.autograd.gradcheck(R.silu_mul, (leaf(3, 4, dtype=torch.float64), leaf(3, 4, dtype=torch.float64)))


# router


def sorted_choice(index, score):
    order = index.argsort(-1)
    return index.gather(-1, order), score.gather(-1, order)


@pytest.mark.parametrize("experts, top_k, groups, kept", [(8, 2, 1, 1), (16, 4, 4, 2), (16, 4, 8, 4), (6, 6, 1, 1), (64, 8, 8, 3)])
@pytest.mark.parametrize("normalize", [True, False])
def test_router_matches_deepseek_v3(experts, top_k, groups, kept, normalize):
    from transformers import DeepseekV3Config
    from transformers.models.deepseek_v3.modeling_deepseek_v3 import DeepseekV3TopkRouter

    config = DeepseekV3Config(
        hidden_size=12, num_local_experts=experts, n_routed_experts=experts, num_experts_per_tok=top_k,
        n_group=groups, topk_group=kept, norm_topk_prob=normalize, routed_scaling_factor=2.5,
    )
    theirs = DeepseekV3TopkRouter(config)
    ours = R.Router(12, experts, top_k, groups, kept, normalize=normalize, scaling=2.5)
    torch.nn.init.normal_(theirs.weight)
    torch.nn.init.normal_(theirs.e_score_correction_bias)  # some below zero: -inf and 0 masks differ
    ours.load_state_dict(theirs.state_dict())
    x = leaf(2, 9, 12)
    index, score = sorted_choice(*ours(x, Context()))
    _, score_hf, index_hf = theirs(x)
    index_hf, score_hf = sorted_choice(index_hf, score_hf)
    assert index.dtype == torch.long and score.shape == (2, 9, top_k)
    assert torch.equal(index.flatten(0, 1), index_hf)
    torch.testing.assert_close(score.flatten(0, 1), score_hf, **CLOSE)
    g = torch.randn_like(score)
    got = torch.autograd.grad(score, (x, ours.weight), g)
    want = torch.autograd.grad(score_hf, (x, theirs.weight), g.flatten(0, 1))
    for a, b in zip(got, want):
        torch.testing.assert_close(a, b, **CLOSE)


def test_router_matches_deepseek_v2():
    from transformers import DeepseekV2Config
    from transformers.models.deepseek_v2.modeling_deepseek_v2 import DeepseekV2TopkRouter

    config = DeepseekV2Config(
        hidden_size=12, num_attention_heads=2, num_experts_per_tok=4, n_group=4, topk_group=2,
        n_routed_experts=16, routed_scaling_factor=16.0, topk_method="group_limited_greedy",
    )
    theirs = DeepseekV2TopkRouter(config)
    torch.nn.init.normal_(theirs.weight)
    ours = R.Router(12, 16, 4, 4, 2, score="softmax", normalize=False, scaling=16.0, bias=False, group_score="max")
    assert list(ours.state_dict()) == ["weight"]
    ours.load_state_dict(theirs.state_dict())
    x = torch.randn(2, 9, 12)
    index, score = sorted_choice(*ours(x, Context()))
    _, score_hf, index_hf = theirs(x)
    index_hf, score_hf = sorted_choice(index_hf, score_hf)
    assert torch.equal(index.flatten(0, 1), index_hf)
    torch.testing.assert_close(score.flatten(0, 1), score_hf, **CLOSE)


def test_router_stays_in_float32_under_autocast():
    router, x = R.Router(12, 8, 2), torch.randn(2, 9, 12)
    index, score = router(x, Context())
    with torch.autocast("cpu", torch.bfloat16):
        index2, score2 = router(x, Context())
    assert score2.dtype == torch.float32 and torch.equal(index, index2) and torch.equal(score, score2)


def test_router_counts_and_moves_its_bias():
    router, x = R.Router(12, 8, 2, tail=1), torch.randn(2, 9, 12)
    index, _ = router(x, Context())
    assert router.tokens_per_expert.sum() == 0  # not asked for
    router(x, Context(collect=True))
    router.eval()(x, Context(collect=True))  # evaluation does not count
    router.train()(x, Context(collect=True))
    want = 2 * torch.bincount(index[:, :-1].flatten(), minlength=8)
    assert torch.equal(router.tokens_per_expert, want.to(router.tokens_per_expert.dtype))
    assert set(router.state_dict()) == {"weight", "e_score_correction_bias"}
    router.update_bias(0.001)
    torch.testing.assert_close(router.e_score_correction_bias, 0.001 * (want.float().mean() - want).sign())
    assert router.tokens_per_expert.sum() == 0


def test_bias_joins_the_choice_and_not_the_score():
    router, x = R.Router(12, 8, 2, normalize=False), torch.randn(1, 9, 12)
    router.e_score_correction_bias[5] = 100.0
    index, score = router(x, Context())
    assert (index == 5).any(-1).all() and score.max() <= 1


def plain_balance(s_BTE, top_k):
    B, T, E = s_BTE.shape
    total = 0
    for s in s_BTE:
        top = s.topk(top_k).indices
        for i in range(E):
            f = E / (top_k * T) * (top == i).any(-1).sum()
            total = total + f * (s[:, i] / s.sum(-1)).mean()
    return total / B


def test_sequence_balance():
    s = leaf(3, 7, 8).sigmoid()
    same_gradients(lambda s: R.sequence_balance(s, 2), lambda s: plain_balance(s, 2), s)
    even = torch.tensor([[[1.0, 1, 0, 0], [0, 0, 1, 1]]])
    assert R.sequence_balance(even, 2) == 1
    assert R.sequence_balance(even[:, :1], 2) == 2  # half of the experts do it all


def test_router_hands_its_balance_to_the_context():
    router, x = R.Router(12, 8, 2, tail=2), torch.randn(3, 9, 12)
    router.e_score_correction_bias.normal_()
    ctx = Context(balance=[])
    router(x, ctx)
    [(who, value)] = ctx.balance
    assert who is router
    s = F.linear(x, router.weight).sigmoid()[:, :-2]
    torch.testing.assert_close(value, plain_balance(s, 2), **CLOSE)
    assert torch.autograd.grad(value, router.weight)[0].abs().sum() > 0


# experts


def routes(case):
    index = {
        "random": lambda: torch.stack([torch.randperm(6)[:3] for _ in range(10)]).view(2, 5, 3),
        "one token": lambda: torch.tensor([[[4, 1, 0]]]),
        "one choice": lambda: torch.randint(0, 6, (2, 5, 1)),
        "every expert": lambda: torch.stack([torch.randperm(6) for _ in range(10)]).view(2, 5, 6),
        "all to one": lambda: torch.full((2, 5, 1), 3),
        "some idle": lambda: torch.stack([torch.randperm(2) + 2 for _ in range(10)]).view(2, 5, 2),
    }
    return index[case]()


CASES = ["random", "one token", "one choice", "every expert", "all to one", "some idle"]


def plain_moe(x, index, score, w):
    rows = []
    for b in range(x.shape[0]):
        for t in range(x.shape[1]):
            rows.append(sum(score[b, t, k] * (w[e] @ x[b, t]) for k, e in enumerate(index[b, t])))
    return torch.stack(rows).view(*x.shape[:2], -1)


def moe(x, index, score, w):
    sent = R.dispatch(x, index, 6)
    return R.combine(sent._replace(x=R.grouped_linear(sent.x, w, sent.offsets)), index, score)


@pytest.mark.parametrize("case", CASES)
def test_experts(case):
    index = routes(case)
    x, score, w = leaf(*index.shape[:2], 8), leaf(*index.shape), leaf(6, 16, 8)
    same_gradients(lambda *t: moe(t[0], index, *t[1:]), lambda *t: plain_moe(t[0], index, *t[1:]), x, score, w)


@pytest.mark.parametrize("case", CASES)
def test_dispatch(case):
    index = routes(case)
    x = torch.randn(*index.shape[:2], 8)
    sent = R.dispatch(x, index, 6)
    flat, K = index.flatten(), index.shape[-1]
    assert sent.offsets.dtype == torch.int32
    assert torch.equal(sent.offsets.long(), torch.bincount(flat, minlength=6).cumsum(0))
    assert torch.equal(flat[sent.order], flat.sort().values)
    assert torch.equal(sent.x, x.flatten(0, 1)[sent.order // K])


def test_dispatch_and_combine_gradients():
    index = routes("random")
    x, score = leaf(2, 5, 3, dtype=torch.float64), leaf(2, 5, 3, dtype=torch.float64)
    assert torch.autograd.gradcheck(lambda x: R.dispatch(x, index, 6).x, (x,))

    def through(x, score):
        sent = R.dispatch(x, index, 6)
        return R.combine(sent._replace(x=sent.x.square()), index, score)

    assert torch.autograd.gradcheck(through, (x, score))


@pytest.mark.parametrize("case", CASES)
def test_experts_in_bfloat16(case):
    index = routes(case)
    x, score, w = leaf(*index.shape[:2], 8), leaf(*index.shape), leaf(6, 16, 8)
    with torch.autocast("cpu", torch.bfloat16):
        got = moe(x, index, score, w)
    want = plain_moe(x, index, score, w)
    torch.testing.assert_close(got.float(), want, rtol=0.05, atol=0.15)
    g = torch.randn_like(want)
    ours = torch.autograd.grad(got, (x, score, w), g.to(got.dtype))
    for a, b in zip(ours, torch.autograd.grad(want, (x, score, w), g)):
        assert a.dtype == torch.float32
        torch.testing.assert_close(a, b, rtol=0.05, atol=0.3)


# losses


@pytest.mark.parametrize("rows, vocab, chunk", [(10, 7, None), (10, 7, 3), (10, 7, 1), (8, 300, 4), (1, 5, None)])
def test_linear_cross_entropy(rows, vocab, chunk):
    x, w, t = leaf(rows, 6), leaf(vocab, 6), torch.randint(0, vocab, (rows,))
    t[rows // 2] = -100 if rows > 1 else t[0]

    def plain(x, w):
        return F.cross_entropy(x @ w.t(), t, reduction="sum")

    same_gradients(lambda x, w: R.linear_cross_entropy(x, w, t, chunk=chunk), plain, x, w)
    same_gradients(lambda x, w: R.cross_entropy_sum(x @ w.t(), t), plain, x, w)


def test_linear_cross_entropy_gradcheck_and_all_ignored():
    x, w = leaf(5, 4, dtype=torch.float64), leaf(6, 4, dtype=torch.float64)
    t = torch.tensor([0, -100, 5, 2, 2])
    assert torch.autograd.gradcheck(lambda x, w: R.linear_cross_entropy(x, w, t, chunk=2), (x, w))
    loss = R.linear_cross_entropy(x, w, torch.full((5,), -100))
    assert loss == 0 and torch.autograd.grad(loss, x)[0].abs().sum() == 0


def test_linear_cross_entropy_without_gradients():
    x, w, t = torch.randn(9, 6), torch.randn(7, 6), torch.randint(0, 7, (9,))
    want = F.cross_entropy(x @ w.t(), t, reduction="sum")
    torch.testing.assert_close(R.linear_cross_entropy(x, w, t), want)
    with torch.no_grad():
        torch.testing.assert_close(R.linear_cross_entropy(x.requires_grad_(), w, t), want)


def test_linear_cross_entropy_under_autocast():
    x, w, t = leaf(40, 16), leaf(30, 16), torch.randint(0, 30, (40,))
    with torch.autocast("cpu", torch.bfloat16):
        got = R.linear_cross_entropy(x, w, t, chunk=16)
    want = F.cross_entropy(x @ w.t(), t, reduction="sum")
    assert got.dtype == torch.float32
    torch.testing.assert_close(got, want, rtol=0.01, atol=0.0)
    for a, b in zip(torch.autograd.grad(got, (x, w)), torch.autograd.grad(want, (x, w))):
        assert a.dtype == torch.float32
        torch.testing.assert_close(a, b, rtol=0.1, atol=0.1)


def test_a_weighted_loss_reaches_the_gradients():
    x, w, t = leaf(9, 6), leaf(7, 6), torch.randint(0, 7, (9,))
    (0.3 * R.linear_cross_entropy(x, w, t)).backward()
    want = torch.autograd.grad(0.3 * F.cross_entropy(x @ w.t(), t, reduction="sum"), (x, w))
    torch.testing.assert_close(x.grad, want[0], **CLOSE)
    torch.testing.assert_close(w.grad, want[1], **CLOSE)
