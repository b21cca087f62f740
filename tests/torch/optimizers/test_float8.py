"""Products of 8-bit tiles, emulated, judged tile by tile in float64; a run in them beside one in bfloat16."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from runs import plain, quiet, records, refused, run, small

from dsvgraph_torch.kernels.float8 import layers
from dsvgraph_torch.kernels.float8.layers import Linear, Linears, TiledProduct, keep_exact
from dsvgraph_torch.kernels.float8.tiles import by_block, by_row
from dsvgraph_torch.module import constructed
from dsvgraph_torch.training import heldout, loop


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    """Runs without pictures, long samples and long evaluations."""
    plain(monkeypatch)
    monkeypatch.setattr(loop, "FINAL_TOKENS", 64)
    monkeypatch.setattr(heldout, "EVAL_TOKENS", 64)


def drawn(*shape, seed=0):
    """Numbers of which some rows are much larger than others, and some tiles are zero."""
    draw = torch.Generator().manual_seed(seed)
    x = torch.randn(*shape, generator=draw) * torch.exp(3 * torch.randn(*shape[:-1], 1, generator=draw))
    x[..., :1, :] = 0
    return x.bfloat16()


def rounded(x, rows):
    """A matrix through 8-bit tiles of ``rows`` x 128, tile by tile, in float64."""
    found = torch.zeros(x.shape, dtype=torch.float64)
    for i in range(0, len(x), rows):
        for j in range(0, x.shape[1], 128):
            tile = x[i : i + rows, j : j + 128].float()
            scale = tile.abs().max() / 448 if tile.any() else torch.tensor(1.0)
            found[i : i + rows, j : j + 128] = (tile / scale).to(torch.float8_e4m3fn).double() * scale.double()
    return found


@pytest.mark.parametrize("shape", [(3, 5), (130, 300), (256, 128)])
def test_tiles(shape):
    x = drawn(*shape)
    for tiles, rows in ((by_row(x), 1), (by_block(x), 128)):
        assert all(size % 128 == 0 for size in tiles.values.shape)
        found = tiles.exact[: len(x), : x.shape[1]].double()
        torch.testing.assert_close(found, rounded(x, rows), rtol=1e-6, atol=0)
        assert not tiles.exact[len(x) :].any() and not tiles.exact[:, x.shape[1] :].any()
    # of a number that is not far below the largest of its tile, three bits after the first stay
    near = x.abs() > x.abs().amax(-1, keepdim=True) / 1000
    wrong = (by_row(x).exact[: len(x), : x.shape[1]] - x.float()).abs()
    assert (wrong[near] <= x.abs().float()[near] / 16 * 1.001).all()


def close(found, wanted):
    """Equal but for the rounding of the result to bfloat16, and of sums in float32."""
    torch.testing.assert_close(found.double(), wanted, rtol=2**-8, atol=1e-6 * float(wanted.abs().max()))


def test_a_product_and_its_gradients():
    """The gradient of the input has tiles along the outputs, that of the weight along the rows: 1 x 128 both."""
    x, w, g = drawn(200, 300), drawn(144, 300, seed=1), drawn(200, 144, seed=2)
    x.requires_grad_(), w.requires_grad_()
    y = TiledProduct.apply(x, w, None)
    y.backward(g)
    with torch.no_grad():
        close(y, rounded(x, 1) @ rounded(w, 128).T)
        close(x.grad, rounded(g, 1) @ rounded(w, 128))
        close(w.grad, rounded(g.T, 1) @ rounded(x.T, 1).T)
        assert y.dtype == x.grad.dtype == w.grad.dtype == torch.bfloat16


def test_the_product_of_experts_is_that_of_each():
    """Tiles along the rows begin at the first row of an expert; one has none."""
    counts = [130, 0, 5, 200]
    x, w, g = drawn(335, 40), drawn(4, 24, 40, seed=1), drawn(335, 24, seed=2)
    x.requires_grad_(), w.requires_grad_()
    y = TiledProduct.apply(x, w, torch.tensor(counts).cumsum(0).int())
    y.backward(g)
    for rows, gradient, weight, part in zip(range(4), w.grad, w.detach(), g.split(counts)):
        start = sum(counts[:rows])
        own, weight = x.detach()[start : start + counts[rows]].requires_grad_(), weight.clone().requires_grad_()
        alone = TiledProduct.apply(own, weight, None)
        alone.backward(part)
        assert torch.equal(y[start : start + counts[rows]], alone)
        assert torch.equal(x.grad[start : start + counts[rows]], own.grad)
        assert torch.equal(gradient, weight.grad)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")
@pytest.mark.parametrize("counts", [None, [100, 0, 200, 1], [256, 300, 77, 1000]])
def test_a_gpu_computes_what_is_emulated(counts):
    """But for the order of sums, and the rounding of the result to bfloat16."""
    rows, found = sum(counts or [500]), []
    x, w, g = drawn(rows, 512), drawn(*([len(counts)] if counts else []), 576, 512, seed=1), drawn(rows, 576, seed=2)
    for device in ("cpu", "cuda"):
        leaves = [t.to(device).requires_grad_() for t in (x, w)]
        y = TiledProduct.apply(*leaves, torch.tensor(counts, device=device).cumsum(0).int() if counts else None)
        y.backward(g.to(device))
        found.append([t.detach().cpu().double() for t in (y, *(leaf.grad for leaf in leaves))])
    for one, other in zip(*found):
        assert (one - other).norm() < 2e-3 * one.norm()


@pytest.mark.parametrize("device", ["cpu", "cuda"])
def test_which_layers_have_tiles(device):
    """All linear maps, those of experts too; not the embedding, the output layer, routers and norms.

    Each of them is called: no fast function of a device goes around it.
    """
    module = constructed(small(), "cpu", "fast", layers.FUNCTIONS, runs_on=device).initialise()
    keep_exact(module, frozenset({"lm_head.weight", "model.embed_tokens.weight"}))
    tiled = {name for name, m in module.named_modules() if isinstance(m, (Linear, Linears)) and m.rounded}
    called = set()
    for name in tiled:
        module.get_submodule(name).register_forward_hook(lambda *_, name=name: called.add(name))
    module.train()(torch.zeros(2, 8, dtype=torch.long), torch.ones(2, 8, dtype=torch.long))["loss"].backward()
    assert called == tiled
    weights = {name for name, w in module.named_parameters() if w.dim() > 1}
    others = {name.rpartition(".")[0] for name in weights} - tiled
    assert {name.rpartition(".")[2] for name in others} == {"embed_tokens", "lm_head", "gate"}
    assert len(tiled) > 20


def test_what_does_not_train_multiplies_by_the_weights():
    layer, x = Linear(40, 24), torch.randn(3, 5, 40)
    assert torch.equal(layer.eval()(x), F.linear(x, layer.weight, layer.bias))
    with torch.no_grad():
        assert torch.equal(layer.train()(x), F.linear(x, layer.weight, layer.bias))
    assert not torch.equal(layer(x), F.linear(x, layer.weight, layer.bias))


def test_a_run_learns_as_one_in_bfloat16_does(tmp_path):
    graph, losses = small(num_nextn_predict_layers=0), {}
    assert "--precision fp8: a processor emulates 8-bit tiles: a product of" in refused(
        tmp_path, graph, precision="fp8"
    )
    for precision in ("bfloat16", "fp8"):
        (tmp_path / precision).mkdir()
        console, options = quiet(), dict(precision=precision, emulate=True, lr=0.02)
        run(tmp_path / precision, graph, console, steps=10, eval_every=100, **options)
        losses[precision] = [record["losses"]["next_token"] for record in records(tmp_path / precision)]
    assert losses["fp8"] != losses["bfloat16"] and losses["bfloat16"][-1] < losses["bfloat16"][0] - 0.5
    linear, experts = 2 * 5 + 3 + 3, 3  # of two attentions, a dense network and a shared expert
    assert f"8-bit tiles in {linear} linear maps and {experts} of experts" in console.file.getvalue()
    assert losses["fp8"] == pytest.approx(losses["bfloat16"], rel=0.02)
