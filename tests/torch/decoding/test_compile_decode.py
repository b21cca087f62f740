"""Decoding step by step, positions and packed documents, against whole rows at once."""

from pathlib import Path

import pytest

import dsvgraph

torch = pytest.importorskip("torch")

from helpers import SMALL, SPECS, built, tokens  # noqa: E402

CLOSE = dict(rtol=1e-4, atol=1e-5)
T = 11
EVERY = pytest.mark.parametrize("name", SMALL, ids=lambda name: Path(name).stem)
CHUNKS = {"token by token": [1] * T, "prefill and steps": [6, 1, 1, 1, 1, 1], "chunks": [4, 3, 4], "at once": [T]}


def decoded(module, ids, sizes, **context):
    """Logits of a row that comes in chunks, and the cache at the end."""
    cache, found, start = {}, [], 0
    for size in sizes:
        piece = {k: v[..., start : start + size] if k == "positions" else v for k, v in context.items()}
        found.append(module.predict(ids[:, start : start + size], cache, **piece))
        start += size
    return torch.cat(found, 1), cache


@torch.no_grad()
@pytest.mark.parametrize("sizes", CHUNKS.values(), ids=CHUNKS)
@EVERY
def test_rows_in_pieces_are_the_rows(name, sizes):
    module, ids = built(name).eval(), tokens(2, T)
    torch.testing.assert_close(decoded(module, ids, sizes)[0], module.predict(ids), **CLOSE)


@torch.no_grad()
@EVERY
def test_the_cache_holds_what_the_graph_counts(name):
    graph = dsvgraph.load(name, SMALL[name])
    _, cache = decoded(built(graph).eval(), tokens(2, T), [T])
    counted = dsvgraph.cost(graph).kv_cache.elements_per_token
    assert sum(kept.numel() for kept in cache.values()) == counted * 2 * T
    assert all(kept.shape[:2] == (2, T) for kept in cache.values())


@torch.no_grad()
@pytest.mark.parametrize("attn", ["gqa", "mla", "mla_full_query"])
def test_every_attention_block_decodes(attn):
    graph = dsvgraph.load(str(SPECS / "decoder.yaml"), dict(attn=attn, vocab_size=61))
    module, ids = built(graph).eval(), tokens(2, T)
    for sizes in CHUNKS.values():
        torch.testing.assert_close(decoded(module, ids, sizes)[0], module.predict(ids), **CLOSE)


@torch.no_grad()
def test_a_window_sees_no_further_back():
    module, ids = built(str(SPECS / "patterns.yaml"), num_hidden_layers=2).eval(), tokens(2, T)  # both sliding, 3
    changed = ids.clone()
    changed[:, 0] = (ids[:, 0] + 1) % 61
    far = (module.predict(changed) - module.predict(ids)).abs().amax((0, 2))
    assert (far[:5] > 1e-3).all() and (far[5:] < 1e-5).all()  # two layers of three positions see four back
    torch.testing.assert_close(decoded(module, changed, [1] * T)[0], module.predict(changed), **CLOSE)


@torch.no_grad()
@EVERY
def test_positions_that_count_from_nought_are_the_default(name):
    module, ids = built(name).eval(), tokens(2, T)
    counted = torch.arange(T)
    for positions in (counted, counted.expand(2, T)):
        torch.testing.assert_close(module.predict(ids, positions=positions), module.predict(ids), **CLOSE)
        torch.testing.assert_close(module(ids, positions=positions)["logits"], module.predict(ids), **CLOSE)
        pieces = decoded(module, ids, [4, 1, 6], positions=positions)[0]
        torch.testing.assert_close(pieces, module.predict(ids), **CLOSE)
    # rotations know differences only, so all positions may move together
    torch.testing.assert_close(module.predict(ids, positions=counted + 100), module.predict(ids), rtol=1e-3, atol=1e-4)
    assert not torch.allclose(module.predict(ids, positions=counted * 2), module.predict(ids), atol=1e-2)


@torch.no_grad()
@EVERY
def test_packed_documents_are_each_alone(name):
    module, first, second = built(name).eval(), tokens(2, 5), tokens(2, 6, seed=1)
    packed = torch.cat([first, second], 1)
    documents = torch.tensor([0] * 5 + [1] * 6).expand(2, -1)
    positions = torch.cat([torch.arange(5), torch.arange(6)])
    alone = torch.cat([module.predict(first), module.predict(second)], 1)
    context = dict(positions=positions, documents=documents)
    torch.testing.assert_close(module.predict(packed, **context), alone, **CLOSE)
    torch.testing.assert_close(module(packed, **context)["logits"], alone, **CLOSE)
    torch.testing.assert_close(module.predict(packed, documents=documents), alone, **CLOSE)  # differences only
    assert not torch.allclose(module.predict(packed), alone, atol=1e-2)


@torch.no_grad()
def test_documents_hold_while_decoding():
    module, ids = built("deepseek_v3").eval(), tokens(2, T)
    documents = torch.tensor([0] * 4 + [1] * 7).expand(2, -1)
    whole, cache, found = module.predict(ids, documents=documents), {}, []
    for start, end in ((0, 3), (3, 4), (4, 8), (8, 9), (9, 11)):
        found.append(module.predict(ids[:, start:end], cache, documents=documents[:, :end]))
    torch.testing.assert_close(torch.cat(found, 1), whole, **CLOSE)


def test_rows_of_one_token_and_of_none():
    module = built("deepseek_v3")
    assert module.predict(tokens(2, 1)).shape == (2, 1, 61)
    assert module.predict(tokens(0, 3)).shape == (0, 3, 61)
    losses = module(tokens(2, 1), tokens(2, 1))
    assert losses["loss"].isfinite()
