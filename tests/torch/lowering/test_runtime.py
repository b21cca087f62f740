"""The plain functions and the fast kernels against loops, autograd and transformers: values and gradients."""

from __future__ import annotations

import itertools
import math
from types import SimpleNamespace

import pytest

torch = pytest.importorskip("torch")
import torch.nn.functional as F  # noqa: E402
from helpers import small  # noqa: E402
from torch.utils.checkpoint import checkpoint  # noqa: E402

import dsvgraph_torch  # noqa: E402
from dsvgraph_torch.kernels import cpu  # noqa: E402
from dsvgraph_torch.kernels.cpu.experts import grouped_linear  # noqa: E402
from dsvgraph_torch.kernels.cpu.losses import linear_cross_entropy  # noqa: E402
from dsvgraph_torch.runtime import plain, scoring  # noqa: E402
from dsvgraph_torch.runtime.plain import Context  # noqa: E402

CLOSE = {"rtol": 1e-5, "atol": 1e-5}
ROUTES = ["random", "one token", "one choice", "every expert", "all to one", "some idle", "many"]


@pytest.fixture(autouse=True)
def seed():
    torch.manual_seed(0)


@pytest.fixture(params=["plain", "fast"])
def R(request):
    """The names that a model's classes see."""
    return SimpleNamespace(**{**vars(plain), **vars(scoring), **(cpu.FUNCTIONS if request.param == "fast" else {})})


def leaf(*shape, dtype=torch.float32):
    return torch.randn(*shape, dtype=dtype, requires_grad=True)


def same_gradients(ours, theirs, *inputs, **close):
    """Both functions of the inputs agree in value and in every gradient."""
    got, want = ours(*inputs), theirs(*inputs)
    torch.testing.assert_close(got, want, **(close or CLOSE))
    g = torch.randn_like(want)
    mine, others = torch.autograd.grad(got, inputs, g), torch.autograd.grad(want, inputs, g)
    for a, b in zip(mine, others, strict=True):
        torch.testing.assert_close(a, b, **(close or CLOSE))


# -- rope -------------------------------------------------------------------------------------------


def tables(positions, dim=8, theta=10000.0):
    angle = torch.outer(positions, theta ** (-torch.arange(0, dim, 2) / dim))
    return (t.repeat(1, 2)[None] for t in (angle.cos(), angle.sin()))


def test_rope_is_llamas(R):
    from transformers.models.llama.modeling_llama import apply_rotary_pos_emb

    x, ctx = leaf(2, 5, 3, 8), Context()
    cos, sin = tables(torch.arange(5.0))
    theirs = lambda x: apply_rotary_pos_emb(x, x, cos, sin, unsqueeze_dim=2)[0]  # noqa: E731
    same_gradients(lambda x: R.rope(x, ctx, 10000.0), theirs, x)


def test_rope_of_neighbours_is_deepseeks(R):
    from transformers.models.deepseek_v3.modeling_deepseek_v3 import apply_rotary_pos_emb_interleave

    x = leaf(2, 5, 3, 8)
    cos, sin = tables(torch.arange(5.0) + 7)

    def theirs(x):  # writes [all even | all odd]; ours keeps neighbours side by side
        y = apply_rotary_pos_emb_interleave(x, x, cos, sin, unsqueeze_dim=2)[0]
        return y.unflatten(-1, (2, -1)).transpose(-1, -2).flatten(-2)

    for positions in torch.arange(7, 12), torch.arange(7, 12).expand(2, 5):
        ctx = Context(positions=positions)
        same_gradients(lambda x, ctx=ctx: R.rope(x, ctx, 10000.0, interleave=True), theirs, x)


@pytest.mark.parametrize("interleave", [False, True])
def test_rope_of_a_shared_key_is_that_of_every_head(R, interleave):
    x, ctx = torch.randn(2, 5, 8), Context()
    heads = R.rope(x[:, :, None].expand(-1, -1, 3, -1), ctx, 100.0, interleave)
    torch.testing.assert_close(R.rope(x, ctx, 100.0, interleave), heads[:, :, 1])


@pytest.mark.parametrize("start, interleave", list(itertools.product([4, 5], [False, True])))
def test_rope_of_a_slice_has_the_gradient_of_a_copy(R, start, interleave):
    x, ctx = leaf(2, 5, 3, start + 8), Context()
    ours = lambda x: R.rope(x[..., start:], ctx, 100.0, interleave)  # noqa: E731
    same_gradients(ours, lambda x: R.rope(x[..., start:].clone(), ctx, 100.0, interleave), x)


SCALINGS = [
    {"type": "linear", "factor": 4.0},
    {
        "type": "llama3",
        "factor": 8.0,
        "low_freq_factor": 1.0,
        "high_freq_factor": 4.0,
        "original_max_position_embeddings": 64,
    },
    {
        "type": "yarn",
        "factor": 40,
        "original_max_position_embeddings": 64,
        "beta_fast": 32,
        "beta_slow": 1,
        "mscale": 1.0,
        "mscale_all_dim": 1.0,
    },
    {
        "type": "yarn",
        "factor": 8,
        "original_max_position_embeddings": 256,
        "mscale": 1.0,
        "mscale_all_dim": 0.707,
    },
    {"type": "yarn", "factor": 8, "original_max_position_embeddings": 32},
]


@pytest.mark.parametrize("scaling", SCALINGS, ids=lambda s: f"{s['type']}-{s['factor']}")
def test_rope_scaling_is_that_of_transformers(scaling):
    from transformers import LlamaConfig
    from transformers.modeling_rope_utils import ROPE_INIT_FUNCTIONS

    rope = {**scaling, "rope_type": scaling["type"], "rope_theta": 10000.0}
    config = LlamaConfig(hidden_size=64, num_attention_heads=2, rope_parameters=rope, max_position_embeddings=4096)
    want, gain = ROPE_INIT_FUNCTIONS[scaling["type"]](config, "cpu")
    torch.testing.assert_close(plain.frequencies(32, 10000.0, scaling).float(), want)
    assert plain.gain(scaling) == pytest.approx(gain)


# -- attention --------------------------------------------------------------------------------------


def plain_attention(q, k, v, scale, seen):
    """Scores one by one; seen(b, i, j) with i counted among the keys."""
    (B, T, H, _), (C, G) = q.shape, k.shape[1:3]
    allowed = torch.tensor([[[seen(b, i, j) for j in range(C)] for i in range(C - T, C)] for b in range(B)])
    rows = []
    for h in range(H):
        score = scale * torch.einsum("btq,bcq->btc", q[:, :, h], k[:, :, h * G // H])
        rows.append(score.masked_fill(~allowed, -math.inf).softmax(-1) @ v[:, :, h * G // H])
    return torch.stack(rows, 2)


def causal(b, i, j):
    return j <= i


WIDTHS = [(4, 4, 8, 8), (4, 2, 8, 8), (4, 1, 12, 8), (3, 3, 6, 10), (4, 2, 24, 16)]


@pytest.mark.parametrize("heads, groups, width, value", WIDTHS)
@pytest.mark.parametrize("queries", [1, 3, 7])
def test_attention(R, heads, groups, width, value, queries):
    q, k, v = leaf(2, queries, heads, width), leaf(2, 7, groups, width), leaf(2, 7, groups, value)
    ours = lambda *t: R.attention(*t, Context(), 0.3)  # noqa: E731
    same_gradients(ours, lambda *t: plain_attention(*t, 0.3, causal), q, k, v)


@pytest.mark.parametrize("length, groups", [(64, 2), (130, 1), (150, 4)])
def test_attention_in_several_blocks(R, length, groups):
    q, k, v = leaf(1, length, 4, 6), leaf(1, length, groups, 6), leaf(1, length, groups, 4)
    ours = lambda *t: R.attention(*t, Context(), 0.3)  # noqa: E731
    same_gradients(ours, lambda *t: plain_attention(*t, 0.3, causal), q, k, v)


def test_attention_in_blocks_gradcheck():
    inputs = (leaf(1, 66, 2, 2, dtype=torch.float64) for _ in "qkv")
    assert torch.autograd.gradcheck(lambda *t: cpu.attention(*t, Context(), 0.3), tuple(inputs), fast_mode=True)


def test_attention_without_causality(R):
    q, k, v = leaf(2, 3, 2, 8), leaf(2, 7, 2, 8), leaf(2, 7, 2, 4)
    ours = lambda *t: R.attention(*t, Context(), 0.3, causal=False)  # noqa: E731
    same_gradients(ours, lambda *t: plain_attention(*t, 0.3, lambda b, i, j: True), q, k, v)


IDS = torch.tensor([[0, 0, 0, 1, 1, 1, 1], [0, 1, 1, 1, 2, 2, 2]])
MASKS = {
    "window": (None, 3, lambda b, i, j: i - 3 < j <= i),
    "documents": (IDS, None, lambda b, i, j: j <= i and IDS[b, i] == IDS[b, j]),
    "both": (IDS, 2, lambda b, i, j: i - 2 < j <= i and IDS[b, i] == IDS[b, j]),
}


@pytest.mark.parametrize("queries", [1, 4, 7])
@pytest.mark.parametrize("mask", MASKS)
def test_attention_with_masks(R, queries, mask):
    documents, window, seen = MASKS[mask]
    q, k, v = leaf(2, queries, 4, 8), leaf(2, 7, 2, 8), leaf(2, 7, 2, 4)
    ours = lambda *t: R.attention(*t, Context(documents=documents), 0.3, window=window)  # noqa: E731
    same_gradients(ours, lambda *t: plain_attention(*t, 0.3, seen), q, k, v)


def test_attention_in_bfloat16(R):
    q, k, v = (leaf(2, 133, 4, width) for width in (24, 24, 16))
    low = [t.detach().bfloat16().requires_grad_() for t in (q, k, v)]
    got, want = R.attention(*low, Context(), 0.2), plain_attention(q, k, v, 0.2, causal)
    assert got.dtype == torch.bfloat16
    g = torch.randn_like(want)
    pairs = [(got, want)]
    pairs += zip(torch.autograd.grad(got, low, g.bfloat16()), torch.autograd.grad(want, (q, k, v), g), strict=True)
    for a, b in pairs:
        assert (a - b).norm() < 0.01 * b.norm()


def test_decoding_step_by_step_is_the_whole(R):
    q, k, v = torch.randn(2, 6, 4, 8), torch.randn(2, 6, 2, 8), torch.randn(2, 6, 2, 4)
    whole = R.attention(R.rope(q, Context(), 100.0), R.rope(k, Context(), 100.0), v, Context(), 0.3)
    cache, parts = {}, []
    for a, b in ((0, 3), (3, 5), (5, 6)):  # a prompt, two drafted tokens, one token
        ctx = Context(cache=cache, row=q[:, a:b])
        keys, values = ctx.with_earlier("k", R.rope(k[:, a:b], ctx, 100.0)), ctx.with_earlier("v", v[:, a:b])
        parts.append(R.attention(R.rope(q[:, a:b], ctx, 100.0), keys, values, ctx, 0.3))
    torch.testing.assert_close(torch.cat(parts, 1), whole, **CLOSE)
    assert set(cache) == {"k", "v", "past"} and cache["past"].shape == (2, 6, 0)
    assert cache["k"].shape == (2, 6, 2, 8)


# -- norms and products -----------------------------------------------------------------------------


def plain_norm(x, weight):
    return x * (x.square().mean(-1, keepdim=True) + 1e-6).rsqrt() * weight


def test_rms_norm(R):
    x, norm = leaf(3, 5, 16), R.RMSNorm(16, eps=1e-6)
    torch.nn.init.normal_(norm.weight)
    same_gradients(lambda x, w: norm(x), plain_norm, x, norm.weight)
    same_gradients(lambda x, w: norm(x[..., 4:]), lambda x, w: plain_norm(x[..., 4:], w), leaf(3, 5, 20), norm.weight)


def test_rms_norm_gradcheck(R):
    norm = R.RMSNorm(5, eps=1e-6, dtype=torch.float64)
    assert torch.autograd.gradcheck(lambda x, w: norm(x), (leaf(3, 2, 5, dtype=torch.float64), norm.weight))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_rms_norm_under_autocast(R, dtype):
    x, norm = leaf(3, 5, 16, dtype=dtype), R.RMSNorm(16, eps=1e-6)
    want = plain_norm(x.float(), norm.weight)
    with torch.autocast("cpu", torch.bfloat16):
        got = norm(x)
    torch.testing.assert_close(got.float(), want, rtol=0.01, atol=0.01)
    g = torch.randn_like(want)
    ours = torch.autograd.grad(got, (x, norm.weight), g.to(got.dtype))
    theirs = torch.autograd.grad(want, (x, norm.weight), g)
    assert [t.dtype for t in ours] == [dtype, torch.float32]
    for a, b in zip(ours, theirs, strict=True):
        torch.testing.assert_close(a.float(), b.float(), rtol=0.02, atol=0.05)


@pytest.mark.parametrize("shape", [(6,), (4, 6), (2, 3, 6), (0, 6)])
@pytest.mark.parametrize("out, bias", [(4, False), (9, True)])
def test_linear(shape, out, bias):
    x, weight, b = leaf(*shape), leaf(out, 6), leaf(out) if bias else None
    inputs = (x, weight, b) if bias else (x, weight)
    same_gradients(cpu.linear, F.linear, *inputs)
    swapped = leaf(*shape[:-1], 6, 6).mT[..., 0, :] if len(shape) > 1 else x  # not contiguous
    torch.testing.assert_close(cpu.linear(swapped, weight, b), F.linear(swapped, weight, b), **CLOSE)


def test_linear_under_autocast():
    layer, x = cpu.Linear(6, 4), leaf(3, 6)
    with torch.autocast("cpu", torch.bfloat16):
        assert layer(x).dtype == torch.bfloat16
    assert torch.autograd.gradcheck(lambda x: layer.double()(x), (leaf(3, 6, dtype=torch.float64),))


# -- router -----------------------------------------------------------------------------------------


def in_order(index, score):
    order = index.argsort(-1)
    return index.gather(-1, order), score.gather(-1, order)


SHAPES = [(8, 2, 1, 1), (16, 4, 4, 2), (16, 4, 8, 4), (6, 6, 1, 1), (64, 8, 8, 3)]


@pytest.mark.parametrize("experts, top_k, groups, kept", SHAPES)
@pytest.mark.parametrize("normalize", [True, False])
def test_router_is_deepseek_v3s(R, experts, top_k, groups, kept, normalize):
    from transformers import DeepseekV3Config
    from transformers.models.deepseek_v3.modeling_deepseek_v3 import DeepseekV3TopkRouter

    config = DeepseekV3Config(
        hidden_size=12, n_routed_experts=experts, num_local_experts=experts, num_experts_per_tok=top_k,
        n_group=groups, topk_group=kept, norm_topk_prob=normalize, routed_scaling_factor=2.5,
    )  # fmt: skip
    theirs = DeepseekV3TopkRouter(config)
    ours = R.Router(12, experts, top_k, groups, kept, normalize=normalize, scaling=2.5)
    torch.nn.init.normal_(theirs.weight)
    torch.nn.init.normal_(theirs.e_score_correction_bias)  # some below zero: -inf and 0 masks differ
    ours.load_state_dict(theirs.state_dict())
    x = leaf(2, 9, 12)
    index, score = in_order(*ours(x, Context()))
    _, score_hf, index_hf = theirs(x)
    index_hf, score_hf = in_order(index_hf, score_hf)
    assert torch.equal(index.flatten(0, 1), index_hf)
    torch.testing.assert_close(score.flatten(0, 1), score_hf, **CLOSE)
    g = torch.randn_like(score)
    got = torch.autograd.grad(score, (x, ours.weight), g)
    want = torch.autograd.grad(score_hf, (x, theirs.weight), g.flatten(0, 1))
    for a, b in zip(got, want, strict=True):
        torch.testing.assert_close(a, b, **CLOSE)


def test_router_is_deepseek_v2s(R):
    from transformers import DeepseekV2Config
    from transformers.models.deepseek_v2.modeling_deepseek_v2 import DeepseekV2TopkRouter

    config = DeepseekV2Config(
        hidden_size=12, num_attention_heads=2, num_experts_per_tok=4, n_group=4, topk_group=2,
        n_routed_experts=16, routed_scaling_factor=16.0, topk_method="group_limited_greedy",
    )  # fmt: skip
    theirs = DeepseekV2TopkRouter(config)
    torch.nn.init.normal_(theirs.weight)
    ours = R.Router(
        12, 16, 4, 4, 2, score="softmax", normalize=False, scaling=16.0, correction_bias=False, group_score="max"
    )  # fmt: skip
    ours.load_state_dict(theirs.state_dict())
    x = torch.randn(2, 9, 12)
    index, score = in_order(*ours(x, Context()))
    _, score_hf, index_hf = theirs(x)
    index_hf, score_hf = in_order(index_hf, score_hf)
    assert torch.equal(index.flatten(0, 1), index_hf)
    torch.testing.assert_close(score.flatten(0, 1), score_hf, **CLOSE)


def fresh_router(R, **options):
    router = R.Router(12, 8, 2, **options)
    torch.nn.init.normal_(router.weight)
    return router


def test_router_stays_in_float32_under_autocast(R):
    router, x = fresh_router(R), torch.randn(2, 9, 12)
    index, score = router(x, Context())
    with torch.autocast("cpu", torch.bfloat16):
        index2, score2 = router(x, Context())
    assert score2.dtype == torch.float32
    assert torch.equal(index, index2)
    assert torch.equal(score, score2)


def test_router_counts_and_moves_its_bias(R):
    router, x = fresh_router(R), torch.randn(2, 9, 12)
    router.fill = 1
    index, _ = router(x, Context())
    assert router.tokens_per_expert.sum() == 0  # not asked for
    router(x, Context(collect=True))
    router.eval()(x, Context(collect=True))  # evaluation does not count
    router.train()(x, Context(collect=True))
    want = 2 * torch.bincount(index[:, :-1].flatten(), minlength=8)
    assert torch.equal(router.tokens_per_expert.long(), want)
    assert set(router.state_dict()) == {"weight", "e_score_correction_bias"}
    router.update_bias(0.001)
    moved = 0.001 * (want.float().mean() - want).sign()
    torch.testing.assert_close(router.e_score_correction_bias, moved)
    assert router.tokens_per_expert.sum() == 0


def test_bias_joins_the_choice_and_not_the_score(R):
    router, x = fresh_router(R, normalize=False), torch.randn(1, 9, 12)
    router.e_score_correction_bias[5] = 100.0
    index, score = router(x, Context())
    assert (index == 5).any(-1).all()
    assert score.max() <= 1


def plain_balance(s_BTE, top_k):
    B, T, E = s_BTE.shape
    total = 0
    for s in s_BTE:
        top = s.topk(top_k).indices
        for i in range(E):
            f = E / (top_k * T) * (top == i).any(-1).sum()
            total = total + f * (s[:, i] / s.sum(-1)).mean()
    return total / B


def test_sequence_balance(R):
    s = leaf(3, 7, 8)
    ours = lambda s: R.sequence_balance(s.sigmoid(), 2, torch.ones(3, 7, 1))  # noqa: E731
    same_gradients(ours, lambda s: plain_balance(s.sigmoid(), 2), s)
    even = torch.tensor([[[1.0, 1, 0, 0], [0, 0, 1, 1]]])
    assert R.sequence_balance(even, 2, torch.ones(1, 2, 1)) == 1
    assert R.sequence_balance(even[:, :1], 2, torch.ones(1, 1, 1)) == 2  # half of the experts do it all


def test_router_hands_its_balance_to_the_context(R):
    router, x, ctx = fresh_router(R), torch.randn(3, 9, 12), Context(collect=True)
    router.fill = 2
    router.e_score_correction_bias.normal_()
    router(x, ctx)
    value = ctx.balance[router]
    s = F.linear(x, router.weight).sigmoid()[:, :-2]
    torch.testing.assert_close(value, plain_balance(s, 2), **CLOSE)
    assert torch.autograd.grad(value, router.weight)[0].abs().sum() > 0


# -- experts ----------------------------------------------------------------------------------------


def choices(*shape, among):
    return torch.rand(*shape[:-1], among).topk(shape[-1]).indices


def route(case):
    """index_BTK over 6 experts."""
    made = {
        "random": lambda: choices(2, 5, 3, among=6),
        "one token": lambda: torch.tensor([[[4, 1, 0]]]),
        "one choice": lambda: choices(2, 5, 1, among=6),
        "every expert": lambda: choices(2, 5, 6, among=6),
        "all to one": lambda: torch.full((2, 75, 1), 3),
        "some idle": lambda: choices(2, 5, 2, among=2) + 2,
        "many": lambda: choices(2, 90, 2, among=6),
    }
    return made[case]()


def plain_moe(x, index, score, w):
    y_NEF = torch.einsum("nd,efd->nef", x.flatten(0, 1), w)
    picked = y_NEF.gather(1, index.flatten(0, 1)[..., None].expand(-1, -1, w.shape[1]))
    return (picked * score.flatten(0, 1)[..., None]).sum(1).unflatten(0, index.shape[:2])


def experts(R, index):
    """x, score, weight -> what 6 linear experts make of x."""
    layer = R.Linears(6, 8, 16)

    def run(x, score, w):
        sent = R.dispatch(x, index, 6)
        y = torch.func.functional_call(layer, {"weight": w}, (sent.x, sent))
        return R.combine(sent._replace(x=y), score)

    return run


@pytest.mark.parametrize("case", ROUTES)
def test_experts(R, case):
    index = route(case)
    x, score, w = leaf(*index.shape[:2], 8), leaf(*index.shape), leaf(6, 16, 8)
    same_gradients(experts(R, index), lambda x, s, w: plain_moe(x, index, s, w), x, score, w)


@pytest.mark.parametrize("case", ROUTES)
def test_dispatch(R, case):
    index = route(case)
    x = torch.randn(*index.shape[:2], 8)
    sent, flat = R.dispatch(x, index, 6), index.flatten()
    assert sent.offsets.dtype == torch.int32
    assert torch.equal(sent.offsets.long(), torch.bincount(flat, minlength=6).cumsum(0))
    order = flat.argsort(stable=True)
    assert torch.equal(sent.x, x.flatten(0, 1)[order // index.shape[-1]])
    assert torch.equal(sent.inverse.flatten()[order], torch.arange(len(order)))


def test_dispatch_and_combine_gradcheck(R):
    index = route("random")
    x, score = leaf(2, 5, 3, dtype=torch.float64), leaf(2, 5, 3, dtype=torch.float64)

    def through(x, score):
        sent = R.dispatch(x, index, 6)
        return R.combine(sent._replace(x=sent.x.square()), score)

    assert torch.autograd.gradcheck(through, (x, score))


def test_grouped_linear_gradcheck():
    offsets = torch.tensor([3, 3, 8, 10], dtype=torch.int32)
    x, w = leaf(10, 3, dtype=torch.float64), leaf(4, 2, 3, dtype=torch.float64)
    assert torch.autograd.gradcheck(lambda x, w: grouped_linear(x, w, offsets), (x, w))


@pytest.mark.parametrize("case", ROUTES)
def test_experts_in_bfloat16(R, case):
    index = route(case)
    x, score, w = leaf(*index.shape[:2], 8), leaf(*index.shape), leaf(6, 16, 8)
    with torch.autocast("cpu", torch.bfloat16):
        got = experts(R, index)(x, score, w)
    want = plain_moe(x, index, score, w)
    torch.testing.assert_close(got.float(), want, rtol=0.05, atol=0.15)
    g = torch.randn_like(want)
    ours = torch.autograd.grad(got, (x, score, w), g.to(got.dtype))
    for a, b in zip(ours, torch.autograd.grad(want, (x, score, w), g), strict=True):
        assert a.dtype == torch.float32
        assert (a - b).norm() < 0.02 * b.norm()


# -- losses -----------------------------------------------------------------------------------------


def plain_loss(x, w, targets, ahead, fill):
    """Position by position."""
    (B, T), total, valid = targets.shape, 0.0, 0
    for b in range(B):
        for i in range(T - fill):
            if i + ahead - 1 < T and (target := targets[b, i + ahead - 1]) != -100:
                total, valid = total - (w @ x[b, i]).log_softmax(0)[target], valid + 1
    return total, valid


@pytest.mark.parametrize("ahead, fill", [(1, 0), (2, 1), (3, 2), (1, 3)])
@pytest.mark.parametrize("vocab", [7, 300])
def test_losses(R, ahead, fill, vocab):
    x, w, targets = leaf(2, 6, 5), leaf(vocab, 5), torch.randint(0, vocab, (2, 6))
    targets[1, 2] = -100
    want = lambda x, w: plain_loss(x, w, targets, ahead, fill)[0]  # noqa: E731
    valid = plain_loss(x, w, targets, ahead, fill)[1]
    for ours in (
        lambda x, w: R.head_cross_entropy((x, w), targets, ahead, Context(), fill),
        lambda x, w: R.cross_entropy(x @ w.t(), targets, ahead, Context(), fill),
    ):
        assert ours(x, w)[1] == valid
        same_gradients(lambda x, w, ours=ours: ours(x, w)[0], want, x, w)


def test_a_loss_without_targets_is_zero(R):
    x, w = leaf(2, 6, 5), leaf(7, 5)
    for targets, ahead in (torch.full((2, 6), -100), 1), (torch.zeros(2, 6, dtype=torch.long), 9):
        loss, valid = R.head_cross_entropy((x, w), targets, ahead, Context())
        assert (loss, valid) == (0, 1)
        assert all((g == 0).all() for g in torch.autograd.grad(loss, (x, w)))


@pytest.mark.parametrize("rows, vocab, chunk", [(10, 7, None), (10, 7, 3), (10, 7, 1), (8, 300, 4), (1, 5, None)])
def test_linear_cross_entropy(rows, vocab, chunk):
    x, w, t = leaf(rows, 6), leaf(vocab, 6), torch.randint(0, vocab, (rows,))
    t[rows // 2] = -100 if rows > 1 else t[0]
    ours = lambda x, w: linear_cross_entropy(x, w, t, chunk=chunk)  # noqa: E731
    same_gradients(ours, lambda x, w: F.cross_entropy(x @ w.t(), t, reduction="sum"), x, w)


def test_checkpointing_and_repeating_change_no_bit():
    x, targets = torch.randint(61, (2, 70)), torch.randint(61, (2, 70))
    model = dsvgraph_torch.compile(small("deepseek_v3"), kernels="fast").train()
    runs = [
        lambda: model(x, targets)["loss"],
        lambda: model(x, targets)["loss"],
        lambda: checkpoint(lambda x: model(x, targets)["loss"], x, use_reentrant=False),
    ]
    weights = [w for w in model.parameters() if w.requires_grad]
    first, *others = (torch.autograd.grad(run(), weights, allow_unused=True) for run in runs)
    for other in others:
        assert all(a is b or torch.equal(a, b) for a, b in zip(first, other, strict=True))


def test_linear_cross_entropy_gradcheck():
    x, w = leaf(5, 4, dtype=torch.float64), leaf(6, 4, dtype=torch.float64)
    t = torch.tensor([0, -100, 5, 2, 2])
    assert torch.autograd.gradcheck(lambda x, w: 0.3 * linear_cross_entropy(x, w, t, chunk=2), (x, w))


def test_linear_cross_entropy_without_gradients():
    x, w, t = torch.randn(9, 6), torch.randn(7, 6), torch.randint(0, 7, (9,))
    want = F.cross_entropy(x @ w.t(), t, reduction="sum")
    torch.testing.assert_close(linear_cross_entropy(x, w, t), want)
    with torch.no_grad():
        torch.testing.assert_close(linear_cross_entropy(x.requires_grad_(), w, t), want)


def test_head_cross_entropy_under_autocast(R):
    x, w, t = leaf(2, 20, 16), leaf(30, 16), torch.randint(0, 30, (2, 20))
    with torch.autocast("cpu", torch.bfloat16):
        got, _ = R.head_cross_entropy((x, w), t, 1, Context())
    want = F.cross_entropy((x @ w.t()).flatten(0, 1), t.flatten(), reduction="sum")
    assert got.dtype == torch.float32
    torch.testing.assert_close(got, want, rtol=0.01, atol=0.0)
    for a, b in zip(torch.autograd.grad(got, (x, w)), torch.autograd.grad(want, (x, w)), strict=True):
        assert a.dtype == torch.float32
        assert (a - b).norm() < 0.02 * b.norm()


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_experts_under_a_compiler(R, dtype):
    layer, close = R.Linears(3, 16, 32).to(dtype), {"rtol": 0.02, "atol": 0.02}
    torch.nn.init.normal_(layer.weight)
    sent = R.dispatch(torch.randn(1, 48, 16, dtype=dtype), torch.randint(3, (1, 48, 1)), 3)
    x = sent.x.detach().requires_grad_()
    compiled = torch.compile(lambda x, _: layer(x, sent), backend="aot_eager")
    close = CLOSE if dtype == torch.float32 else close
    same_gradients(compiled, lambda x, _: layer(x, sent), x, layer.weight, **close)
