"""Text from a run: the heads that only train are dropped, and nothing longer than a row is seen."""

from __future__ import annotations

import pytest
import torch
from runs import plain, run

from dsvgraph_torch import generate
from dsvgraph_torch.data.tokens import text_of
from dsvgraph_torch.decoding.sampling import Sampler, Sampling, sample
from dsvgraph_torch.decoding.source import read_source


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    folder = tmp_path_factory.mktemp("trained")
    with pytest.MonkeyPatch.context() as patch:
        plain(patch)
        run(folder, steps=30, lr=0.01)
    return folder / "run"


def test_the_heads_are_not_asked(trained):
    model = read_source(trained).module
    heads = [n for n in model.state_dict() if n.startswith(("model.layers.2.", "model.layers.3."))]
    assert any("eh_proj" in n for n in heads)
    with torch.no_grad():
        for name in heads:
            model.state_dict()[name].fill_(float("nan"))
    text = text_of(sample(model, list(b"99 bottles"), 30, 16, Sampler(Sampling(seed=1))))
    assert "".join(text) == "".join(generate(trained, "99 bottles", 30, seed=1))


def test_the_model_never_sees_more_than_a_row(trained):
    source = read_source(trained)
    model, context = source.module, source.context
    lengths = []

    class Watched(torch.nn.Module):
        parameters = model.parameters

        def predict(self, ids, cache=None):
            lengths.append(ids.shape[1])
            return model.predict(ids, cache=cache)

    greedy = Sampler(GREEDY)
    whole = list(sample(Watched(), list(b"9" * 100), 40, context, greedy, cached=False))
    assert context == 16 and max(lengths) == 16 and min(lengths) == 8
    lengths.clear()
    assert list(sample(Watched(), list(b"9" * 100), 40, context, greedy)) == whole
    assert sorted(set(lengths)) == [1, 8, 16]  # token by token, but for the two ways to begin


GREEDY = Sampling(temperature=0)


def test_greedy_takes_the_likeliest_and_top_k_no_other():
    logits = torch.tensor([0.0, 3.0, 1.0, 2.0])
    assert Sampler(GREEDY)(logits) == 1
    chosen = Sampler(Sampling(temperature=5, top_k=2))
    assert {chosen(logits) for _ in range(50)} == {1, 3}
    anything = Sampler(Sampling(temperature=50, top_k=None))
    assert {anything(logits) for _ in range(200)} == {0, 1, 2, 3}
    assert Sampler(Sampling(temperature=1, top_k=99))(logits) in range(4)
