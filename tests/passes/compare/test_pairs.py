"""Pairs of queries and keys that attention counts, against masks counted entry by entry."""

from __future__ import annotations

import re

import pytest

import dsvgraph
from dsvgraph import DsvError
from dsvgraph.passes.compare.sweep import sweep
from dsvgraph.passes.count.cost import cost
from dsvgraph.passes.estimate import PlanOptions, plan
from dsvgraph.types import AttentionPairs

TEXT = """
graph:
  in: {{ids: "int[B, T]"}}
  body:
    e: {{embedding: ids, num: 9, dim: 8}}
    q: {{linear: e, out: [2, 4]}}
    k: {{linear: e, out: [1, 4]}}
    v: {{linear: e, out: [1, 3]}}
    a: {{attention: {{q: q, k: k, v: v}}, {options}}}
    y: {{linear: a, contract: 2, out: 9}}
  out: {{logits: y}}
"""
PRODUCTS = 2 * 2 * (4 + 3)  # FLOPs of a pair: two heads, queries of 4 and values of 3 numbers
OPTIONS = ["causal: true", "causal: false", "window: 1", "window: 5", "window: 12", "window: 40",
           "causal: false, window: 5", "causal: false, window: 12"]  # fmt: skip


def seen(options: str, length: int) -> list[int]:
    """How many keys each query sees."""
    causal, window = "causal: false" not in options, re.search(r"window: (\d+)", options)
    back = int(window[1]) if window else length
    return [sum(i - back < j and (j <= i or not causal) for j in range(length)) for i in range(length)]


@pytest.mark.parametrize("length", [1, 11, 12, 13, 40])
@pytest.mark.parametrize("options", OPTIONS)
def test_pairs_are_those_of_the_mask(options: str, length: int) -> None:
    """`causal` leaves out half a pair for each query that sees less than those behind it; all else is exact."""
    model, keys = dsvgraph.loads(TEXT.format(options=options)), seen(options, length)
    counts = {way: cost(model, 3, length, way).flops.by_op["attention"] for way in AttentionPairs}
    half = 0 if "causal: false" in options else max(keys)
    assert counts == {
        "causal": 3 * PRODUCTS * (sum(keys) - half / 2),
        "full": 3 * PRODUCTS * length * max(keys),
        "square": 3 * PRODUCTS * length**2,
    }


@pytest.mark.parametrize("options", OPTIONS)
def test_the_mask_is_the_one_that_runs(options: str) -> None:
    """Equal scores over values of ones at one position: each query has a share of what it sees."""
    torch = pytest.importorskip("torch")
    from dsvgraph_torch.runtime.plain import Context, attention

    window = re.search(r"window: (\d+)", options)
    q, v = torch.zeros(1, 12, 1, 8), torch.eye(12, dtype=torch.float).view(1, 12, 1, 12)
    y = attention(q, q, v, Context(), 1.0, "causal: false" not in options, window=window and int(window[1]))
    assert (y[0, :, 0] > 0).sum(-1).tolist() == seen(options, 12)


def test_windows_are_torchtitans_in_full() -> None:
    """torchtitan #4300: min(T, window) keys for every token of gpt-oss-20b; every command that counts says so."""
    model = dsvgraph.load("gpt_oss_20b")
    assert cost(model, 1, 4096, "full").flops.train_per_token == 24_135_117_696
    assert plan(model, PlanOptions(attention="full")).flops.model_per_token.value == 24_135_117_696
    assert {c.flops.train_per_token for c in dsvgraph.diff(model, model, 1, 4096, "full").costs} == {24_135_117_696}
    (point,) = sweep(model.spec, {"num_hidden_layers": [24]}, 1, 4096, "full", ["train_flops"])
    assert point.quantities == {"train_flops": 24_135_117_696}


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"attention": "half"}, "`attention` is causal, full or square, found `half`"),
        ({"recompute": "some"}, "`recompute` is none or full, found `some`"),
        ({"batch": 0}, "`batch` is a whole number of at least 1, found `0`"),
        ({"seq": 1.5}, "`seq` is a whole number of at least 1, found `1.5`"),
    ],
)
def test_unknown_conventions_are_refused(given: dict[str, object], words: str) -> None:
    """A word that is none of a convention's is not counted by another one."""
    model = dsvgraph.load("deepseek_v3_tiny")
    with pytest.raises(DsvError, match=re.escape(words)):
        cost(model, **given)  # type: ignore[arg-type]
    with pytest.raises(DsvError, match=re.escape(words.replace("full or square", "full or absorbed"))):
        plan(model, PlanOptions(**given))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"phase": "run"}, "`phase` is train, prefill or decode, found `run`"),
        ({"dtype": "int8"}, "`dtype` is float32, bfloat16 or float8, found `int8`"),
        ({"phase": "decode", "context": 0}, "`context` is above zero, found `0`"),
    ],
)
def test_unknown_options_of_a_run_are_refused(given: dict[str, object], words: str) -> None:
    with pytest.raises(DsvError, match=re.escape(words)):
        plan(dsvgraph.load("deepseek_v3_tiny"), PlanOptions(**given))  # type: ignore[arg-type]
