"""The numbers that weights begin with: normal, independent, and the same for a seed whatever draws how much of them."""

import hashlib

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

import dsvgraph
import dsvgraph_torch
from dsvgraph_torch.runtime.modules import normal

COUNT = 2**21


def numbers(name, first=0, count=COUNT):
    return normal(name, first, torch.empty(count)).double().numpy()


@pytest.fixture(scope="module")
def drawn():
    """One long sequence."""
    return numbers("0 model.embed_tokens.weight")


def correlation(a, b):
    """Return the mean product of standard numbers in units of its standard deviation."""
    return float((a * b).mean() * np.sqrt(len(a)))


def test_numbers_are_normal(drawn):
    assert stats.kstest(drawn, "norm").pvalue > 1e-3
    for power, mean, variance in ((1, 0, 1), (2, 1, 2), (3, 0, 15), (4, 3, 96), (6, 15, 10170)):
        assert abs((drawn**power).mean() - mean) < 4 * np.sqrt(variance / COUNT)


def test_tails_have_their_share(drawn):
    for edge in (3, 4, 4.5):
        for tail in (drawn, -drawn):
            assert 1e-4 < stats.poisson.cdf(np.sum(tail > edge), COUNT * stats.norm.sf(edge)) < 1 - 1e-4
    assert np.abs(numbers("tail", count=2**23)).max() > 5


def test_the_quantile_of_every_probability(monkeypatch):
    """What `normal` makes of a hash, beside scipy: the probability of a tail, its sign, and the ends."""
    tail = np.unique(np.geomspace(1, 2**31 - 1, 10**5).astype(np.int64))
    hashed = torch.from_numpy(np.concatenate([tail, -tail]).astype(np.int32))
    view = torch.Tensor.view
    monkeypatch.setattr(torch.Tensor, "view", lambda x, t: hashed if x.dtype == torch.int64 else view(x, t))
    found = normal("any", 0, hashed).double().numpy()
    assert np.array_equal(found[: len(tail)], -found[len(tail) :])
    wanted = stats.norm.isf((tail + 0.5) / 2**32)
    off = np.abs(found[: len(tail)] - wanted)
    assert (off * stats.norm.pdf(wanted)).max() < 1.5e-5
    assert (off * np.maximum(wanted, 1)).max() < 6e-3
    assert found.max() > 6


def test_neighbours_are_independent(drawn):
    for lag in (1, 2, 3, 4, 8, 64, 128, 1024, 4096):
        a, b = drawn[lag:], drawn[:-lag]
        assert abs(correlation(a, b)) < 4.5
        assert abs(correlation(a**2 - 1, b**2 - 1)) < 2 * 4.5


@pytest.mark.parametrize("start", [0, 1], ids=["halves of one hash", "neighbouring hashes"])
def test_pairs_fill_the_plane_evenly(drawn, start):
    first, second = stats.norm.cdf(drawn[start:-1:2]), stats.norm.cdf(drawn[start + 1 :: 2])
    counts, _, _ = np.histogram2d(first, second[: len(first)], bins=64, range=[[0, 1], [0, 1]])
    assert stats.chisquare(counts.ravel()).pvalue > 1e-4


def test_weights_and_seeds_are_independent():
    names = [f"{seed} model.layers.{layer}.mlp.gate.weight" for seed in range(8) for layer in range(8)]
    rows = np.stack([numbers(name, count=4096) for name in names])
    found = np.corrcoef(rows)[~np.eye(len(names), dtype=bool)] * np.sqrt(4096)
    assert np.abs(found).max() < 5
    assert 0.93 < np.sqrt((found**2).mean()) < 1.07
    firsts = np.concatenate([numbers(f"{seed} w", count=2) for seed in range(2000)])
    assert stats.kstest(firsts, "norm").pvalue > 1e-3


@given(first=st.integers(0, 2**50), before=st.integers(0, 9), count=st.integers(0, 99))
@settings(max_examples=50, deadline=None)
def test_a_part_is_drawn_alone(first, before, count):
    whole = normal("3 path", first, torch.empty(before + count))
    assert torch.equal(normal("3 path", first + before, torch.empty(count)), whole[before:])


def horner(x, *factors):
    """Return the polynomial by the products and sums of float32 that numpy takes one at a time."""
    value = np.zeros_like(x)
    for factor in factors:
        value = value * x + np.float32(factor)
    return value


def test_every_operation_is_rounded_as_ieee_754_says():
    """numpy gets the same bits for half a million numbers."""
    key = np.frombuffer(hashlib.blake2b(b"a name", digest_size=8).digest(), ">i8")
    x = (np.arange(2**18) + 5) * np.uint64(0x9E3779B97F4A7C15).astype(np.int64) + key
    for bits, factor in ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB)):
        x = (x ^ x >> bits) * np.uint64(factor).astype(np.int64)
    u = (x + (x >> 32)).view(np.int32).astype(np.float32)
    w = np.abs(u) + np.float32(0.5)
    t = ((w.view(np.int32) >> 3) + 931864064).view(np.float32)
    t2 = t * t
    t = t * horner(w / (t2 * t2 * (t2 * t2)), -0.0231842, 0.128473, -0.301109, 0.434508, 0.761312)
    above = horner(t, -6.292907e-4, 0.02729013, -0.7013174, 11.97813, -73.86698, -116.4561)
    wanted = np.copysign(above / horner(t, 1, -16.10745, -13.62205), u)
    assert np.array_equal(normal("a name", 10, torch.empty(2**19)).numpy(), wanted)


def test_numbers_of_one_seed_stay_what_they_are():
    """The same on every machine: these are from another one."""
    found = normal("0 model.norm.weight", 2**40 + 1, torch.empty(5)).tolist()
    assert found == [
        -0.5599902868270874,
        0.14799442887306213,
        1.3692114353179932,
        0.9565293192863464,
        0.927626371383667,
    ]


MODEL = dsvgraph.load("deepseek_v3_tiny", {"num_hidden_layers": 2, "n_routed_experts": 8})


@pytest.fixture(scope="module")
def begun():
    return dsvgraph_torch.compile(MODEL, seed=5).state_dict()


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float64])
def test_numbers_do_not_depend_on_the_dtype(begun, dtype):
    other = dsvgraph_torch.empty(MODEL, dtype=dtype).initialise(5).state_dict()
    assert all(torch.equal(weight.to(other[path].dtype), other[path]) for path, weight in begun.items())


def test_every_slice_of_a_weight_equals_that_of_the_whole(begun):
    rules = dsvgraph_torch.compile(MODEL, device="meta").init
    for path, weight in begun.items():
        index = tuple(slice(size // 3, size - size // 4) for size in weight.shape)
        for part in ((), index[:1], (slice(None), *index[1:]), index):
            drawn = dsvgraph_torch.draw(rules, path, tuple(weight.shape), part, seed=5)
            assert torch.equal(drawn, weight[part])


def test_slices_of_many_pieces():
    shape = (700, 3, 1001)
    whole = dsvgraph_torch.draw(RULES, "w", shape)
    for part in ((slice(-500, 640), slice(1, 2)), (slice(3, 3),), (slice(None), slice(None), slice(1000, None))):
        assert torch.equal(dsvgraph_torch.draw(RULES, "w", shape, part), whole[part])
    assert torch.equal(dsvgraph_torch.draw(RULES, "w", ()), dsvgraph_torch.draw(RULES, "w", (1,))[0])
    assert whole.std() == pytest.approx(0.5, rel=0.01) and whole.mean() == pytest.approx(2, rel=0.01)


RULES = ((".*", 0.0, 1.0), ("w", 2.0, 0.5))


def test_a_slice_with_steps_is_refused():
    with pytest.raises(ValueError, match="without steps"):
        dsvgraph_torch.draw(RULES, "w", (4, 4), (slice(None, None, 2),))


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")
def test_a_gpu_draws_the_same_numbers(begun):
    other = dsvgraph_torch.compile(MODEL, device="cuda", seed=5).state_dict()
    assert all(torch.equal(weight, other[path].cpu()) for path, weight in begun.items())
    like = torch.empty(2**24)
    assert torch.equal(normal("w", 2**40 + 1, like), normal("w", 2**40 + 1, like.cuda()).cpu())
