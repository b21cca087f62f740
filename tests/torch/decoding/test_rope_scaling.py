"""Every kind of rope scaling against transformers' own functions, over values at the edges of what they take."""

from __future__ import annotations

import math
from typing import Any

import pytest

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")

from hypothesis import given, settings  # noqa: E402
from hypothesis import strategies as st  # noqa: E402
from transformers.modeling_rope_utils import ROPE_INIT_FUNCTIONS  # noqa: E402

from dsvgraph_torch.runtime.plain import Context, frequencies, gain, rotary  # noqa: E402

FACTORS = st.sampled_from([0.25, 1, 1.0, 1.5, 4, 40.0])
LENGTHS = st.sampled_from([1, 6, 7, 16, 4096, 131072])
THETAS = st.sampled_from([0.5, 1.0001, 1.5, 10.0, 500, 1e4, 1e6])
BETAS = st.sampled_from([None, 0.1, 1, 32, 32.0])
MSCALES = st.sampled_from([None, 0, 0.0, 0.707, 1, 1.0])


def scaling(kind: str, **choices: Any) -> st.SearchStrategy[dict[str, Any]]:
    """A scaling of one kind; a key of value None is left out."""
    return st.fixed_dictionaries(choices).map(
        lambda found: {"type": kind, **{name: value for name, value in found.items() if value is not None}}
    )


SCALINGS = st.one_of(
    scaling("linear", factor=FACTORS),
    scaling(
        "llama3", factor=FACTORS, low_freq_factor=st.sampled_from([0.5, 1]),
        high_freq_factor=st.sampled_from([1.001, 4]), original_max_position_embeddings=LENGTHS,
    ),
    scaling(
        "yarn", factor=FACTORS, original_max_position_embeddings=LENGTHS, beta_fast=BETAS, beta_slow=BETAS,
        mscale=MSCALES, mscale_all_dim=MSCALES, attention_factor=st.sampled_from([None, 0.5, 1, 1.3]),
        truncate=st.sampled_from([None, True, False]),
    ),
)  # fmt: skip


def theirs(dim: int, theta: float, scaling: dict[str, Any]) -> tuple[Any, float]:
    """What transformers makes of a config with these rope_parameters."""
    given = {"rope_theta": theta, "rope_type": scaling["type"], **{k: v for k, v in scaling.items() if k != "type"}}
    sizes = dict(hidden_size=dim, num_attention_heads=1, head_dim=dim)
    found: tuple[Any, float] = ROPE_INIT_FUNCTIONS[scaling["type"]](
        transformers.LlamaConfig(**sizes, rope_parameters=given), "cpu"
    )
    return found


def assert_same(dim: int, theta: float, scaling: dict[str, Any]) -> float:
    """Compare angles and gain; return the gain."""
    got, (want, factor) = frequencies(dim, theta, scaling), theirs(dim, theta, scaling)
    torch.testing.assert_close(got.float(), want, rtol=1e-3, atol=1e-9)
    assert gain(scaling) == pytest.approx(factor, rel=1e-9)
    return float(gain(scaling))


@settings(max_examples=300, deadline=None)
@given(dim=st.sampled_from([2, 4, 16, 64]), theta=THETAS, scaling=SCALINGS)
def test_scalings_are_transformers(dim: int, theta: float, scaling: dict[str, Any]) -> None:
    assert_same(dim, theta, scaling)


YARN = {"type": "yarn", "factor": 40.0, "original_max_position_embeddings": 4096}
GROWN = 0.1 * math.log(40) + 1


@pytest.mark.parametrize(
    ("more", "gain"),
    [
        ({}, GROWN),
        ({"mscale": 0, "mscale_all_dim": 0}, GROWN),
        ({"mscale": 1.0, "mscale_all_dim": 0}, GROWN),
        ({"mscale_all_dim": 1.0}, GROWN),
        ({"mscale": 0.707, "mscale_all_dim": 0.707}, 1.0),
        ({"factor": 0.5}, 1.0),
        ({"factor": 1}, 1.0),
        ({"attention_factor": 1.25, "mscale": 0, "mscale_all_dim": 0}, 1.25),
    ],
)
def test_gain_of_yarn(more: dict[str, float], gain: float) -> None:
    """An mscale of 0 says nothing, as if it were not there."""
    assert assert_same(64, 1e4, {**YARN, **more}) == pytest.approx(gain)


@pytest.mark.parametrize("more", [{"beta_fast": 1, "beta_slow": 32}, {"beta_fast": 4, "beta_slow": 4}])
def test_ramp_of_yarn_that_is_steep_or_runs_back(more: dict[str, float]) -> None:
    """Its ends are equal, or in the other order, as they are too where a slow base puts both behind the last pair."""
    assert_same(64, 1e4, {**YARN, **more})
    assert_same(64, 1e4, {**YARN, **more, "truncate": False})
    assert_same(16, 1.5, {**YARN, **more})


def test_scalings_of_equal_values_are_told_apart() -> None:
    """Angles are made once per pass and kind; the same number under another name is another kind."""
    x, ctx = torch.zeros(1, 9, 1, 64), Context()
    one, other = ({**YARN, name: 4} for name in ("beta_fast", "beta_slow"))
    found = [rotary(ctx, x, 1e4, scaling)[0] for scaling in (one, other)]
    alone = [rotary(Context(), x, 1e4, scaling)[0] for scaling in (one, other)]
    assert not torch.equal(*alone)
    assert all(torch.equal(a, b) for a, b in zip(found, alone, strict=True))
