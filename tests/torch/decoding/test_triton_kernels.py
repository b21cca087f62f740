"""The kernels of a step on a GPU against the plain functions; a CPU runs them by TRITON_INTERPRET=1."""

from __future__ import annotations

import os
from importlib.util import find_spec
from types import SimpleNamespace

import pytest

torch = pytest.importorskip("torch")

import torch.nn.functional as F  # noqa: E402
from hypothesis import given, settings  # noqa: E402
from hypothesis import strategies as st  # noqa: E402

from dsvgraph_torch.runtime import plain  # noqa: E402

INTERPRETED = os.environ.get("TRITON_INTERPRET") == "1"
DEVICE = "cpu" if INTERPRETED else "cuda"

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not find_spec("triton") or not (INTERPRETED or torch.cuda.is_available()), reason="no GPU"),
]

SEED = st.integers(0, 2**31)
EXPERTS = st.sampled_from([(64, 6, 8, 4), (16, 4, 1, 1), (32, 3, 4, 2), (8, 1, 2, 2)])
"""Experts, of a token, groups, of which so many."""


def kernels():
    from dsvgraph_torch.decoding import triton_kernels

    return triton_kernels


def random(seed, *shape, dtype=torch.float32):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, generator=generator).to(DEVICE, dtype)


def sorted_pairs(seed, tokens, experts, top_k):
    """Experts of tokens, each another one, and what `order` gives of them."""
    index_NK = random(seed, tokens, experts).topk(top_k).indices
    return index_NK, kernels().order(index_NK, experts)


@settings(max_examples=10, deadline=None)
@given(SEED, EXPERTS, st.integers(1, 20), st.sampled_from(["sigmoid", "softmax"]), st.booleans(), st.booleans())
def test_choose_is_the_router(seed, sizes, tokens, score, best, normalize):
    experts, top_k, groups, top_groups = sizes
    group_score = "max" if best else "top2_sum"
    router = plain.Router(24, experts, top_k, groups, top_groups, score, normalize, 2.5, group_score=group_score)
    router = router.to(DEVICE)
    x_NT1 = random(seed, tokens, 1, 24)
    with torch.no_grad():
        router.weight.copy_(random(seed + 1, experts, 24))
        router.e_score_correction_bias.copy_(random(seed + 2, experts))
        index, score_of = (x[:, 0] for x in router(x_NT1, SimpleNamespace(collect=False)))
        found, score_found = kernels().choose(router, F.linear(x_NT1[:, 0], router.weight))
    places, other = index.sort(-1), found.sort(-1)
    assert torch.equal(places.values, other.values)
    want, got = score_of.gather(1, places.indices), score_found.gather(1, other.indices)
    torch.testing.assert_close(got, want, rtol=1e-4, atol=1e-6)


@settings(max_examples=10, deadline=None)
@given(SEED, EXPERTS, st.integers(1, 40))
def test_order_is_a_stable_sort(seed, sizes, tokens):
    experts, top_k, *_ = sizes
    index_NK, (rank_NK, token_S, offsets_E) = sorted_pairs(seed, tokens, experts, top_k)
    expert_S, order_S = index_NK.flatten().sort(stable=True)
    each = torch.arange(experts, device=DEVICE)
    assert torch.equal(token_S, order_S // top_k) and torch.equal(rank_NK.flatten(), order_S.argsort())
    assert torch.equal(offsets_E, torch.searchsorted(expert_S, each, right=True, out_int32=True))


@settings(max_examples=10, deadline=None)
@given(SEED, EXPERTS, st.integers(1, 20), st.integers(1, 70), st.integers(1, 150))
def test_products_of_experts_and_their_sum(seed, sizes, tokens, width, wide):
    experts, top_k, *_ = sizes
    index_NK, (rank_NK, token_S, offsets_E) = sorted_pairs(seed, tokens, experts, top_k)
    x_SD = random(seed, len(token_S), wide)
    gate, up = (random(seed + i, experts, width, wide) * wide**-0.5 for i in (1, 2))
    own_S = index_NK.flatten().sort(stable=True).values
    a, b = (torch.bmm(w[own_S].double(), x_SD[:, :, None].double())[:, :, 0] for w in (gate, up))
    y_SF = kernels().expert_rows(x_SD, gate, offsets_E)
    torch.testing.assert_close(y_SF.double(), a, rtol=1e-4, atol=1e-4)
    gated = kernels().expert_rows(x_SD, gate, offsets_E, up)
    torch.testing.assert_close(gated.double(), F.silu(a) * b, rtol=1e-4, atol=1e-4)
    score_NK = random(seed + 3, tokens, top_k)
    want = (y_SF[rank_NK] * score_NK[..., None]).sum(1)
    torch.testing.assert_close(kernels().combine(y_SF, rank_NK, score_NK), want, rtol=1e-4, atol=1e-4)


@settings(max_examples=10, deadline=None)
@given(SEED, st.integers(1, 3), st.integers(1, 3), st.integers(1, 4), st.integers(1, 300))
def test_softmax_of_what_is_seen(seed, rows, positions, heads, keys):
    scores_BSC = random(seed, rows, heads * positions, keys)
    seen = random(seed + 1, rows, 1, positions, keys) > 0
    seen[..., 0] = True
    bias = torch.zeros_like(seen, dtype=torch.float32).masked_fill(~seen, -torch.inf)
    want = (scores_BSC.unflatten(1, (heads, positions)) * 0.3 + bias).softmax(-1).flatten(1, 2)
    torch.testing.assert_close(kernels().softmax(scores_BSC, bias, 0.3, torch.float32), want, rtol=1e-5, atol=1e-6)
