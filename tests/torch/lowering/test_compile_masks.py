"""Masks of attention: what is computed, how far a query looks, documents, decoding and counts."""

from __future__ import annotations

import math
from functools import cache

import pytest

import dsvgraph
import dsvgraph_torch

torch = pytest.importorskip("torch")

import decodes  # noqa: E402
from helpers import randomised  # noqa: E402

from dsvgraph_torch.decoding.rows import Rows  # noqa: E402
from dsvgraph_torch.decoding.sampling import Sampler, Sampling  # noqa: E402

T = 13
SPEC = """
config: {{V: 17, d: 8, size: 4}}
blocks:
  layer:
    args: {{d, size}}
    in: {{x: "[B, T, d]"}}
    body:
      q: {{linear: x, out: [2, 4]}}
      v: {{linear: x, out: [2, 3]}}
      a: {{attention: {{q: q, k: q, v: v}}, causal: {causal}, mask: {mask}}}
      o: {{linear: a, contract: 2, out: d}}
      y: {{add: [x, o]}}
    out: {{x: y}}
graph:
  in: {{ids: "int[B, T]"}}
  body:
    e: {{embedding: ids, num: V, dim: d}}
    h: {{layer: e}}
    y: {{linear: h, out: V}}
  out: {{logits: y}}
loss: {{next: {{cross_entropy: logits, target: ids, shift: {shift}}}}}
"""
MASKS = {  # causal, the condition, how far ahead it looks
    "blocks": ("false", "key // size <= query // size", 3),
    "a prefix": ("false", "key <= query or key < size", 3),
    "a window and the first two": ("true", "query - key < 3 or key < 2", 0),
    "every second": ("true", "(query - key) % 2 == 0", 0),
    "the past": ("true", "key < query", -1),  # the first query sees nothing
    "a block's end": ("false", "not (key // size == query // size and key <= query) and key // 4 == query // 4", 3),
}
EVERY = pytest.mark.parametrize("name", MASKS)


@cache
def graph(name: str) -> dsvgraph.Model:
    causal, mask, ahead = MASKS[name]
    return dsvgraph.loads(SPEC.format(causal=causal, mask=mask, shift=ahead + 1 if ahead > 0 else 1))


def module_of(name: str, kernels: str = "plain") -> torch.nn.Module:
    return randomised(dsvgraph_torch.compile(graph(name), kernels=kernels)).double()


def seen(name: str, places: list[int]) -> torch.Tensor:
    """Which keys each query sees, [T, T], by Python."""
    causal, mask, _ = MASKS[name]
    rows = [[eval(mask, {"query": q, "key": k, "size": 4}) for k in places] for q in places]
    found = torch.tensor(rows)
    return found.tril() if causal == "true" else found


def by_hand(name: str, module: torch.nn.Module, ids: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """Logits by the formula, with a sum over the keys that are seen; zeros where there is none."""
    w = module.state_dict()
    x = w["e.weight"][ids]
    q, v = ((x @ w[f"h.{n}.weight"].T).unflatten(-1, (2, -1)).transpose(1, 2) for n in "qv")
    weights = torch.exp(q @ q.transpose(2, 3) / 2) * mask
    attended = weights @ v / weights.sum(-1, keepdim=True).clamp(min=1e-300)
    return (x + attended.transpose(1, 2).flatten(2) @ w["h.o.weight"].T) @ w["y.weight"].T


@EVERY
@torch.no_grad()
@pytest.mark.parametrize("kernels", ["plain", "fast"])
def test_what_is_computed(name: str, kernels: str) -> None:
    module, ids = module_of(name, kernels), torch.arange(2 * T).view(2, T) % 17
    torch.testing.assert_close(module(ids)["logits"], by_hand(name, module, ids, seen(name, [*range(T)])))


@EVERY
def test_gradients_are_numbers(name: str) -> None:
    module, ids = module_of(name), torch.arange(2 * (T + 1)).view(2, T + 1) % 17
    module(ids[:, :-1], ids[:, 1:])["loss"].backward()
    assert all(p.grad.isfinite().all() for p in module.parameters())


@EVERY
@torch.no_grad()
def test_how_far_a_query_looks(name: str) -> None:
    """Tokens are changed one by one; the residual path of a query's own token is taken away first."""
    module, ids, ahead = module_of(name), torch.arange(T)[None], MASKS[name][2]
    attended = lambda i: module(i)["logits"] - module.y(module.e(i))  # noqa: E731
    moved = [(attended((ids + 5 * (torch.arange(T) == j)) % 17) - attended(ids)).abs().amax(-1)[0] for j in range(T)]
    pairs = [(j, i) for j in range(T) for i in range(T) if moved[j][i] > 1e-9]
    stated = graph(name).nodes["h"].copies[0].graph.nodes["a"].op.shift()
    assert max(j - i for j, i in pairs if j != i) == stated == ahead or stated == 0 == ahead
    assert graph(name).horizons["logits"].ahead("ids") == max(ahead, 0)


@EVERY
@torch.no_grad()
def test_places_are_counted_in_each_document(name: str) -> None:
    module, lengths = module_of(name), [3, 6, 4]
    ids = torch.arange(T)[None]
    documents = torch.repeat_interleave(torch.arange(3), torch.tensor(lengths))[None]
    packed = module(ids, documents=documents)["logits"]
    alone = [module(piece)["logits"] for piece in ids.split(lengths, 1)]
    torch.testing.assert_close(packed, torch.cat(alone, 1))


@EVERY
def test_decoding_goes_step_by_step_where_no_query_looks_ahead(name: str) -> None:
    kept = decodes.check(graph(name))
    assert (kept is None) == (MASKS[name][2] > 0)


@pytest.mark.parametrize("name", [name for name, (_, _, ahead) in MASKS.items() if ahead <= 0])
def test_rows_of_other_lengths_decode_as_whole_rows(name: str) -> None:
    module, prompts = decodes.module_of(graph(name), kernels="decoding"), [[1, 2, 3, 4, 5, 6], [9, 8, 7], [5]]
    rows = Rows(module, prompts, 6, 50, Sampler(Sampling(temperature=0), 3), 17)
    found = [list(prompt) for prompt in prompts]
    for row, new in rows.run():
        found[row] += new
    for tokens, prompt in zip(found, prompts, strict=True):
        with torch.no_grad():
            logits = module.predict(torch.tensor([tokens]))[0, len(prompt) - 1 : -1]
        assert logits.argmax(-1).tolist() == tokens[len(prompt) :]


@EVERY
def test_counts_are_those_of_torch(name: str) -> None:
    found = dsvgraph_torch.verify(graph(name), batch=1, seq=T)
    assert found.equal, found.as_dict()


@torch.no_grad()
def test_a_sink_is_seen_by_a_query_that_sees_nothing_else() -> None:
    text = SPEC.format(causal="true", mask="key < query, sinks: true", shift=1)
    module, ids = randomised(dsvgraph_torch.compile(dsvgraph.loads(text))).double(), torch.arange(T)[None]
    assert module(ids)["logits"].isfinite().all()


def test_a_mask_that_looks_ahead_of_its_target_is_a_leak() -> None:
    with pytest.raises(dsvgraph.DsvError, match=r"label leak.*seen tokens up to i \+ 3"):
        dsvgraph.loads(SPEC.format(causal="false", mask="key // size == query // size", shift=3))


def test_the_picture_tells_the_mask() -> None:
    from dsvgraph_graphviz import dot_source

    assert "mask ((key // 4) &lt;= (query // 4))" in dot_source(graph("blocks"), depth=9)
    assert math.isfinite(graph("blocks").horizons["logits"].ahead("ids"))
