"""What moves the weights, judged by torch's optimizers over matrices that are kept apart."""

from __future__ import annotations

import pytest
import torch
from runs import newest, plain, quiet, records, refused, run, small
from safetensors.torch import load_file
from torch import nn

import dsvgraph_torch
from dsvgraph.errors import DsvError
from dsvgraph_torch.optimizers.optimizer import optimizer_for, set_rate
from dsvgraph_torch.optimizers.weights import vocabulary_weights
from dsvgraph_torch.runs.tensors import load_moments, moments
from dsvgraph_torch.training.options import TrainOptions

quick = pytest.fixture(autouse=True)(plain)
MUON = TrainOptions(optimizer="muon", lr=0.01, weight_decay=0.1)


@pytest.fixture(scope="module")
def model():
    return small()


def apart(path):
    return path in {"model.embed_tokens.weight", "lm_head.weight"}


def stepped(module, optimizer, steps=3, seed=0):
    """Moves the weights by gradients of a seed: equal weights get equal gradients, by path."""
    for step in range(steps):
        for path, weight in module.state_dict(keep_vars=True).items():
            generator = torch.Generator().manual_seed(hash((path, step, seed)) % 2**31)
            stack = weight if weight._base is None else weight._base
            if stack.requires_grad:
                stack.grad = torch.zeros_like(stack) if stack.grad is None else stack.grad
                part = stack.grad.as_strided(weight.shape, weight.stride(), weight.storage_offset())
                part.copy_(torch.randn(weight.shape, generator=generator))
        set_rate(optimizer, 0.01 / (step + 1))
        optimizer.step()


def apart_weights(module, steps=3, seed=0):
    """What torch's Muon and AdamW make of each weight as a tensor of its own."""
    found = {}
    trained = {
        n for n, p in module.state_dict(keep_vars=True).items() if (p if p._base is None else p._base).requires_grad
    }
    for path, start in module.state_dict().items():
        weight = nn.Parameter(start.clone())
        found[path] = weight.data
        if path not in trained:
            continue
        if weight.dim() == 2 and not apart(path):
            one = torch.optim.Muon([weight], lr=0.01, weight_decay=0.1, adjust_lr_fn="match_rms_adamw")
        else:
            decay = 0.1 if weight.dim() == 2 else 0.0
            one = torch.optim.AdamW([weight], lr=0.01, weight_decay=decay, betas=(0.9, 0.95))
        for step in range(steps):
            generator = torch.Generator().manual_seed(hash((path, step, seed)) % 2**31)
            weight.grad = torch.randn(weight.shape, generator=generator)
            one.param_groups[0]["lr"] = 0.01 / (step + 1)
            one.step()
    return found


def test_muon_moves_each_matrix_as_torchs_alone_does(model):
    module = dsvgraph_torch.compile(model)
    wanted = apart_weights(module)
    optimizer = optimizer_for(module, MUON, model)
    stepped(module, optimizer)
    assert any(".experts.3." in path for path in optimizer.views)
    for path, weight in module.state_dict().items():
        torch.testing.assert_close(weight, wanted[path], msg=path, rtol=1e-5, atol=1e-6)


def test_muon_leaves_embeddings_and_output_layers_to_adamw(model):
    assert vocabulary_weights(model) == {"model.embed_tokens.weight", "lm_head.weight"}


def test_muons_momentum_is_saved_and_taken_up(model, tmp_path):
    module, again = dsvgraph_torch.compile(model), dsvgraph_torch.compile(model)
    optimizer = optimizer_for(module, MUON, model)
    stepped(module, optimizer, 2)
    saved = {name: tensor.clone() for name, tensor in moments(optimizer).items()}
    again.load_state_dict(module.state_dict())
    other = optimizer_for(again, MUON, model)
    load_moments(other, saved, tmp_path)
    stepped(module, optimizer, 2, seed=1)
    stepped(again, other, 2, seed=1)
    assert all(torch.equal(one, two) for one, two in zip(module.state_dict().values(), again.state_dict().values()))


def test_a_run_by_muon_learns_and_says_what_moves_what(model, tmp_path):
    console = quiet()
    run(tmp_path, model, steps=8, optimizer="muon", lr=0.02, console=console)
    said = next(line for line in console.file.getvalue().splitlines() if line.startswith("--optimizer muon: "))
    assert "by AdamW `model.embed_tokens.weight`, `lm_head.weight` and " in said
    losses = [record["losses"]["next_token"] for record in records(tmp_path)]
    assert losses[-1] < losses[0] - 0.3


# -- learning rates by path --------------------------------------------------------------------------


def moved(module, options):
    """How far each weight moves in one step of AdamW by gradients of ones, in learning rates."""
    before = {path: weight.clone() for path, weight in module.state_dict().items()}
    optimizer = optimizer_for(module, options)
    for parameter in module.parameters():
        parameter.grad = torch.ones_like(parameter)
    set_rate(optimizer, 0.01)
    optimizer.step()
    return {path: float((before[path] - weight).abs().max()) / 0.01 for path, weight in module.state_dict().items()}


def test_the_last_pattern_that_fits_scales_the_rate(model):
    rules = (("model.layers.**", 0.5), ("**.experts.**", 0.25), ("lm_head.weight", 0))
    found = moved(dsvgraph_torch.compile(model), TrainOptions(lr_for=rules, weight_decay=0))
    for path, distance in found.items():
        wanted = 0.25 if ".experts." in path else 0.5 if "layers" in path else 0 if "lm_head" in path else 1
        if not path.endswith("e_score_correction_bias"):
            assert distance == pytest.approx(wanted, abs=1e-4), path


@pytest.mark.parametrize(
    ("pattern", "words"),
    [("**.nothing", "`**.nothing` fits no weight that is trained"), ("**.experts.0.**", "the patterns tell ")],
)
def test_patterns_that_cannot_be_heeded(model, pattern, words):
    with pytest.raises(DsvError, match="--lr-for: ") as caught:
        optimizer_for(dsvgraph_torch.compile(model), TrainOptions(lr_for=((pattern, 0.5),)))
    assert words in str(caught.value)


# -- averages of weights -----------------------------------------------------------------------------


def test_the_average_is_that_of_the_weights_after_each_step(model, tmp_path):
    run(tmp_path, model, steps=4, ema=0.5, save_every=1, keep=4)
    steps = [load_file(tmp_path / f"run/checkpoint-{n}/model.safetensors") for n in range(1, 5)]
    average = load_file(newest(tmp_path / "run") / "ema.safetensors")
    for path, weight in average.items():
        wanted = steps[0][path]
        for later in steps[1:]:
            wanted = later[path] if path.endswith("bias") else 0.5 * wanted + 0.5 * later[path]
        torch.testing.assert_close(weight, wanted, msg=path)
    found = records(tmp_path)[-1]
    assert found["heldout_ema"].keys() == found["heldout"].keys() and found["heldout_ema"] != found["heldout"]


def test_wrong_options_are_refused(tmp_path):
    assert "--ema: " in refused(tmp_path, ema=1.0)
    assert "--optimizer: " in refused(tmp_path, optimizer="sgd")
