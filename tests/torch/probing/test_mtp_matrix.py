"""Other wirings of a chain: the same as another spec with these weights, or as the spec with moved weights."""

from __future__ import annotations

import copy

import pytest
import torch
from helpers import V3, built, small, tokens

import dsvgraph
from dsvgraph.errors import DsvError
from dsvgraph_torch.probing.heads import heads_of
from dsvgraph_torch.probing.matrix import Rewired
from dsvgraph_torch.probing.wirings import variants

DECLARED = dict(state="after norm", handed_on="after norm", order="[e; h]", module="module k")


@pytest.fixture(scope="module")
def model():
    return small("deepseek_v3_tiny")


@pytest.fixture(scope="module")
def module(model):
    return built(model, kernels="fast").eval()


def wired(model, weights, /, **words):
    """The logits of the depths when they are wired so."""
    _, found, left_out = variants(model, heads_of(model))
    assert not left_out and len(found) == 16 and found[0].declared
    wanted = DECLARED | words
    (one,) = [v for v in found if all(getattr(v, name) == value for name, value in wanted.items())]
    with torch.no_grad():
        return Rewired(one.model, weights)(tokens())["mtp_logits"]


def logits(module):
    with torch.no_grad():
        return module(tokens())["mtp_logits"]


def test_the_declared_wiring_is_the_model(model, module):
    assert torch.equal(wired(model, module), logits(module))


def test_the_order_is_a_permutation_of_columns(model, module):
    moved = copy.deepcopy(module)
    with torch.no_grad():
        for layer in moved.model.layers[3:]:
            layer.eh_proj.weight.copy_(layer.eh_proj.weight.roll(32, 1))
    torch.testing.assert_close(wired(model, module, order="[h; e]"), logits(moved))


def test_module_0_is_the_first_one_everywhere(model, module):
    moved = copy.deepcopy(module)
    moved.model.layers[4].load_state_dict(module.model.layers[3].state_dict())
    torch.testing.assert_close(wired(model, module, module="module 0"), logits(moved))


def test_the_wiring_of_the_paper_is_its_spec(model, module):
    """mtp_layer_paper has the state first and hands it on before the norm."""
    paper = built(dsvgraph.load("variants/mtp_paper", V3), kernels="fast").eval()
    paper.load_state_dict(module.state_dict())
    torch.testing.assert_close(wired(model, module, order="[h; e]", handed_on="before norm"), logits(paper))
    _, found, _ = variants(dsvgraph.load("variants/mtp_paper", V3), heads_of(model))
    assert (found[0].order, found[0].handed_on, found[0].state) == ("[h; e]", "before norm", "after norm")


def test_the_state_before_the_norm_is_that_of_a_norm_that_does_nothing(model, module):
    """The trunk's state, normed without gain, is the state before the norm to whoever norms it again."""
    moved = copy.deepcopy(module)
    moved.model.norm.weight.data.fill_(1)
    torch.testing.assert_close(wired(model, module, state="before norm"), logits(moved), atol=2e-4, rtol=2e-4)


def test_added_projections_are_swapped_as_a_concat_is(module):
    added = dsvgraph.load("variants/mtp_sum", V3)
    own = built(added, kernels="fast").eval()
    state = {n: w for n, w in module.state_dict().items() if "eh_proj" not in n}
    for layer in (3, 4):
        e, h = module.model.layers[layer].eh_proj.weight.detach().chunk(2, 1)
        state |= {f"model.layers.{layer}.e_proj.weight": e, f"model.layers.{layer}.h_proj.weight": h}
    own.load_state_dict(state)
    concat = wired(small("deepseek_v3_tiny"), module, order="[h; e]")
    torch.testing.assert_close(wired(added, own, order="[h; e]"), concat)


@pytest.mark.parametrize(
    ("spec", "words"),
    [
        ("variants/medusa", "`mtp` (medusa_head) carries no state from depth to depth"),
        ("variants/parallel_heads", "`mtp` (parallel_head) carries no state from depth to depth"),
        ("llama3_8b", "has no stacked output that a loss predicts with"),
    ],
)
def test_what_is_no_chain_is_refused_by_name(spec, words):
    model = dsvgraph.load(spec)
    with pytest.raises(DsvError) as caught:
        variants(model, heads_of(model))
    assert words in str(caught.value)


@pytest.mark.parametrize(
    ("spec", "config", "left_out"),
    [
        ("deepseek_v3_tiny", {"num_nextn_predict_layers": 1}, ["there is one depth", "there is one depth"]),
        ("variants/eagle", {}, ["no norms read it", "all depths share one module already"]),
        ("variants/hyper_connections", {}, ["no norms read it"]),
    ],
)
def test_choices_that_a_graph_does_not_have_are_left_out_with_a_reason(spec, config, left_out):
    model = dsvgraph.load(spec, config)
    _, found, why = variants(model, heads_of(model))
    assert len(found) == 2 ** (4 - len(why)) and len(why) == len(left_out)
    assert all(words in reason for words, reason in zip(left_out, why))
