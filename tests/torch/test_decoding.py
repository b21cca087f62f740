"""Decoding step by step against the whole row, in float64, and what is kept against what is counted."""

from __future__ import annotations

import re

import pytest

import dsvgraph
from dsvgraph.errors import DsvError

torch = pytest.importorskip("torch")

from drawn import Drawing  # noqa: E402
from helpers import randomised, tokens  # noqa: E402

from dsvgraph_torch import compile  # noqa: E402

T = 7
CHUNKS = [[1] * T, [3, 1, 2, 1], [T]]


def built(graph, kernels="fast"):  # the same lines, without the time that it takes to cut the functions to size
    return randomised(compile(graph, kernels=kernels)).double().eval()


@torch.no_grad()
def check(graph, ids, chunks=CHUNKS, **context):
    """Cached equals whole, and the cache holds as many elements as are counted; or it is refused by name."""
    module = built(graph)
    if getattr(module, "looks_ahead", ""):
        with pytest.raises(ValueError, match="looks ahead"):
            module.predict(ids, {})
        return False
    whole = module.predict(ids, **context)
    cost = dsvgraph.cost(graph, *ids.shape, formulas=False).kv_cache
    counted = ids.numel() * cost.elements_per_token + len(ids) * cost.elements_per_row
    for sizes in chunks:
        cache, found, start = {}, [], 0
        for size in sizes:
            end = start + size
            given = {k: v[..., :end] if k == "documents" else v[..., start:end] for k, v in context.items()}
            found.append(module.predict(ids[:, start:end], cache, **given))
            start = end
        torch.testing.assert_close(torch.cat(found, 1), whole, rtol=1e-10, atol=1e-10)
        assert sum(kept.numel() for key, kept in cache.items() if key != "positions") == counted
    return True


def loaded(seed, ahead=False):
    """A drawn graph; where a list `cache` is refused, the same without lists, and whether it was."""
    text = Drawing(seed, ahead).text()
    try:
        return dsvgraph.loads(text), False
    except DsvError as error:
        assert {str(d.code) for d in error.diagnostics} == {"E0415"}, f"{error}\n{text}"
        return dsvgraph.loads(re.sub(r"\n +cache: .*", "", text)), True


@pytest.mark.parametrize("part", range(10))
def test_random_graphs(part):
    decoded = refused = 0
    for seed in range(20 * part, 20 * part + 20):
        graph, cut = loaded(seed, ahead=seed % 5 == 0)
        ids = tokens(2, T, 17, seed)
        context = {}
        if seed % 3 == 1:
            context = {"positions": torch.arange(T) * 2 + seed}
        if seed % 3 == 2:
            context = {"documents": torch.tensor([0] * 3 + [1] * 4).expand(2, -1)}
        decoded += check(graph, ids, **context)
        refused += cut
    assert decoded > 10 and refused < 15
