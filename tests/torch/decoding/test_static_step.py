"""A step whose shapes never change, on the CPU line by line and on a GPU as a graph, against whole rows at once."""

from __future__ import annotations

import warnings

import pytest

torch = pytest.importorskip("torch")

import decodes  # noqa: E402
from test_decoding import SPECS, small  # noqa: E402

from dsvgraph.loader import bundled  # noqa: E402
from dsvgraph.passes.graph.decoding import looks_ahead  # noqa: E402
from dsvgraph.passes.graph.drafting import drafting  # noqa: E402
from dsvgraph_torch.decoding import step  # noqa: E402
from dsvgraph_torch.decoding.heads import Heads  # noqa: E402
from dsvgraph_torch.decoding.rows import Rows  # noqa: E402
from dsvgraph_torch.decoding.sampling import Sampler, Sampling  # noqa: E402

GREEDY = Sampling(temperature=0)
PROMPTS = [[1, 2, 3, 4, 5, 6, 7], [9, 8, 7], [5]]
CONTEXT, TOKENS = 12, 9


@torch.no_grad()
def judged(module, prompt, tokens, context):
    """The likeliest tokens by whole rows, without a cache."""
    window, found = list(prompt), []
    for _ in range(tokens):
        found.append(int(module.predict(torch.tensor([window]).to(next(module.parameters()).device))[0, -1].argmax()))
        window.append(found[-1])
        window = window if len(window) <= context else window[-(context // 2) :]
    return found


def texts(module, prompts, sampling=GREEDY, static=True, burst=1, ahead=0, size=61, heads=None):
    """The tokens that follow each prompt."""
    rows = Rows(module, prompts, TOKENS, CONTEXT, Sampler(sampling, len(prompts)), size, heads)
    rows.step.static = static or rows.step.static
    rows.cache.forgets = not rows.step.static and rows.cache.forgets
    rows.step.burst, rows.step.ahead = burst, ahead
    found = [[] for _ in prompts]
    for row, new in rows.run():
        found[row] += new
    return found


def models():
    return [path for path in SPECS if path.parent.name != "templates"]


@pytest.mark.parametrize("path", models(), ids=lambda path: path.stem)
def test_steps_of_one_shape_draw_what_whole_rows_draw(path, monkeypatch):
    """Of all bundled specs, in float64: rows of other lengths, windows, sinks, full contexts."""
    monkeypatch.setattr(step, "SHORTEST", 2)
    model = small(path, num_hidden_layers=2)
    if looks_ahead(model):
        return
    module = decodes.module_of(model, kernels="decoding")
    want = [judged(module, prompt, TOKENS, CONTEXT) for prompt in PROMPTS]
    assert texts(module, PROMPTS) == want
    assert texts(module, PROMPTS[1:2], burst=3, ahead=1) == want[1:2]


def test_a_seed_draws_the_same_however_steps_are_queued():
    module = decodes.module_of(small(SPECS[0]), kernels="decoding")
    sampling = Sampling(temperature=1.2, top_k=20, top_p=0.9, min_p=0.01, seed=5)
    want = texts(module, PROMPTS, sampling, static=False)
    assert want != texts(module, PROMPTS)
    assert texts(module, PROMPTS, sampling, burst=4, ahead=1) == want
    assert [texts(module, PROMPTS[:1], sampling)[0], *want[1:]] == want


def test_drafts_that_are_queued_draw_the_same():
    """Rows that are full, or done, in the middle of what is queued."""
    model = small(bundled() / "deepseek_v3_tiny.yaml", num_hidden_layers=2)
    module = decodes.module_of(model, kernels="decoding")
    heads = Heads(module, drafting(model, 3, reuse_last=True))
    want = [judged(module, prompt, TOKENS, CONTEXT) for prompt in PROMPTS]
    assert texts(module, PROMPTS, burst=3, ahead=1, heads=heads) == want
    assert texts(module, PROMPTS[:1], burst=2, ahead=2, heads=heads) == want[:1]


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")
@pytest.mark.parametrize(
    "name", ["deepseek_v3_tiny", *(f"variants/{n}" for n in ("fastmtp", "eagle3", "jtp", "l_mtp"))]
)
def test_graphs_that_draft_draw_what_whole_rows_draw(name, monkeypatch):
    monkeypatch.setattr(step, "SHORTEST", 8)
    model = small(bundled() / f"{name}.yaml", num_hidden_layers=2)
    module = decodes.module_of(model, kernels="decoding").cuda()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        want = [judged(module, prompt, TOKENS, CONTEXT) for prompt in PROMPTS]
        heads = Heads(module, drafting(model))
        assert texts(module, PROMPTS, burst=3, ahead=1, heads=heads) == want
        sampling = Sampling(temperature=1.2, top_k=20, top_p=0.9, seed=5)
        drawn = texts(module, PROMPTS[:1], sampling, burst=3, ahead=1, heads=heads)
        heads = Heads(module.cpu(), drafting(model))
        assert texts(module, PROMPTS[:1], sampling, heads=heads) == drawn


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")
@pytest.mark.parametrize("path", models(), ids=lambda path: path.stem)
def test_graphs_draw_what_whole_rows_draw(path, monkeypatch):
    monkeypatch.setattr(step, "SHORTEST", 2)
    model = small(path, num_hidden_layers=2)
    if looks_ahead(model):
        return
    module = decodes.module_of(model, kernels="decoding").cuda()
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # a step that cannot be recorded
        want = [judged(module, prompt, TOKENS, CONTEXT) for prompt in PROMPTS]
        assert texts(module, PROMPTS, burst=3, ahead=1) == want
        assert texts(module, PROMPTS[1:2], burst=3, ahead=1) == want[1:2]
