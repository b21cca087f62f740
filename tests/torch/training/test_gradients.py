"""Ways to compute a step that must not change it: accumulation, packing, chunked losses, activation checkpointing.

The judge is the plain computation: one batch, a row for each document, logits and a cross entropy for each depth.
"""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from runs import SIZES

import dsvgraph
import dsvgraph_torch
from dsvgraph.errors import DsvError
from dsvgraph_torch.data.batch import Batch
from dsvgraph_torch.emitted import load_source
from dsvgraph_torch.kernels.cpu import losses
from dsvgraph_torch.lowering.names import class_names
from dsvgraph_torch.module import after_step, expert_load
from dsvgraph_torch.training.layers import checkpoint_layers, repeated_layers
from dsvgraph_torch.training.predictions import shares
from dsvgraph_torch.training.step import backward

CPU = torch.device("cpu")
WIDE = dict(SIZES, hidden_size=32, moe_intermediate_size=16, intermediate_size=48, initializer_range=0.02)
DEPTHS = 2
SEED = 7  # the rounding of float32 alone is up to 1.6e-6 for other weights


@pytest.fixture(scope="module")
def model():
    return dsvgraph.load("deepseek_v3_tiny", WIDE)


@pytest.fixture(scope="module")
def rows():
    return torch.randint(256, (8, 25), generator=torch.Generator().manual_seed(3))


def found(module):
    """The gradients by path and the load of the experts, which are then forgotten."""
    gradients = {name: p.grad.clone() for name, p in module.named_parameters() if p.grad is not None}
    load = {path: count.clone() for path, count in expert_load(module).items()}
    module.zero_grad()
    for count in expert_load(module).values():
        count.zero_()
    return gradients, load


def assert_same(one, two, bound=1e-6):
    (gradients, load), (others, other_load) = one, two
    assert gradients.keys() == others.keys() and load.keys() == other_load.keys()
    for name, gradient in gradients.items():
        error = (gradient - others[name]).norm() / others[name].norm()
        assert error <= bound, (name, float(error))
    for path, count in load.items():
        assert torch.equal(count, other_load[path]), path


def taken(module, batches):
    module.train()
    backward(module, batches, CPU)
    return found(module)


@pytest.fixture(scope="module")
def plain(model, rows):
    return taken(dsvgraph_torch.compile(model, seed=SEED, kernels="fast"), [Batch.of_rows(rows)])


@pytest.mark.parametrize("kind", ["plain", "fast"])
def test_the_plain_computation_is_logits_and_cross_entropies(model, rows, plain, kind):
    """The losses line by line; the balance loss is the module's own."""
    module = dsvgraph_torch.compile(model, seed=SEED, kernels=kind).train()
    inputs, targets = rows[:, :-1], rows[:, 1:]
    outputs = module(inputs)
    total = F.cross_entropy(outputs["logits"].flatten(0, 1), targets.flatten())
    for depth, logits in enumerate(outputs["mtp_logits"], 1):
        total = total + 0.3 / DEPTHS * F.cross_entropy(logits[:, :-depth].flatten(0, 1), targets[:, depth:].flatten())
    total.backward()
    gradients, _ = found(module)
    (1e-4 * module(inputs, targets)["balance"]).backward()
    balance, load = found(module)
    both = {name: g + balance.get(name, torch.zeros_like(g)) for name, g in gradients.items()}
    assert_same(plain, (both, load))


@pytest.mark.parametrize("size", [1, 2, 4])
def test_accumulation(model, rows, plain, size):
    batches = [Batch.of_rows(part) for part in rows.split(size)]
    assert_same(taken(dsvgraph_torch.compile(model, seed=SEED, kernels="fast"), batches), plain)


def packed(rows):
    """The rows as documents of several lengths, of which some targets are not counted."""
    documents = torch.zeros_like(rows)
    for row, cuts in enumerate(([5], [], [3, 9, 20], [12], [1, 2], [23], [], [8, 16])):
        for cut in cuts:
            documents[row, cut:] += 1
    batch = Batch(rows[:, :-1], rows[:, 1:].clone(), documents[:, :-1])
    batch.targets[1, 4:] = -100
    batch.targets[6] = -100
    return batch


def test_accumulation_of_packed_rows(rows):
    """Batches have unequally many targets, at each depth in another way; one of them has none at all."""
    model = dsvgraph.load("deepseek_v3_tiny", WIDE)
    whole = packed(rows)
    batches = [
        Batch(*(part[n : n + 1] for part in (whole.inputs, whole.targets, whole.documents))) for n in range(len(rows))
    ]
    module = dsvgraph_torch.compile(model, seed=SEED, kernels="fast").train()
    wanted = backward(module, [whole], CPU), found(module)
    parts = shares(model, batches)
    losses, got = backward(module, batches, CPU, parts), found(module)
    assert_same(got, wanted[1])
    assert {name: float(loss) for name, loss in losses.items()} == pytest.approx(
        {name: float(loss) for name, loss in wanted[0].items()}, rel=1e-6
    )
    backward(module, batches, CPU)
    with pytest.raises(AssertionError):
        assert_same(found(module), wanted[1], bound=1e-3)  # a mean of means is something else


def test_what_cannot_be_accumulated_is_refused(rows):
    text = dsvgraph.show(dsvgraph.load("deepseek_v3_tiny", WIDE)).replace(
        "loss:\n", "loss:\n  z: {z_loss: logits, weight: 0.1}\n", 1
    )
    with pytest.raises(DsvError, match="--accumulate: `z` divides by its targets"):
        shares(dsvgraph.loads(text), [packed(rows)] * 2)
    assert shares(dsvgraph.loads(text), [Batch.of_rows(rows)] * 2) is None


@pytest.mark.parametrize("kind", ["plain", "fast"])
def test_activation_checkpointing(model, rows, plain, kind):
    module = dsvgraph_torch.compile(model, seed=SEED, kernels=kind)
    layers = repeated_layers(model, module, "--checkpoint-activations")
    assert len(layers) == 4
    checkpoint_layers(layers)
    calls = []
    for layer in layers:
        layer.self_attn.register_forward_hook(lambda *_: calls.append(1))
    assert_same(taken(module, [Batch.of_rows(rows)]), plain)
    assert len(calls) == 8, "the layers did not run again"
    assert_same(taken(module, [Batch.of_rows(part) for part in rows.split(4)]), plain)
    module.eval()
    assert len(module(rows)["mtp_logits"]) == DEPTHS and len(calls) == 8 + 16 + 4


def test_biases_move_alike_with_checkpointing(model, rows):
    biases = []
    for checkpointed in (False, True):
        module = dsvgraph_torch.compile(model, seed=SEED, kernels="fast").train()
        if checkpointed:
            checkpoint_layers(repeated_layers(model, module, ""))
        backward(module, [Batch.of_rows(part) for part in rows.split(2)], CPU)
        after_step(module)
        biases.append({n: b for n, b in module.state_dict().items() if n.endswith("bias")})
    assert biases[0].keys() == biases[1].keys() and len(biases[0]) == 3
    assert all(torch.equal(bias, biases[1][name]) and bias.any() for name, bias in biases[0].items())


def plain_in_chunks(model, monkeypatch):
    """The emitted source with chunks of 16 rows in place of 131,072."""
    source = dsvgraph_torch.emit(model, full=True)
    assert source.count("2 ** 25") == 1
    names = load_source(source.replace("2 ** 25", "2 ** 12"), "chunks").__dict__
    return names[class_names(model)[model]]().initialise(SEED)


def fast_in_chunks(model, monkeypatch):
    whole = losses.linear_cross_entropy
    monkeypatch.setattr(losses, "linear_cross_entropy", lambda x, weight, t: whole(x, weight, t, chunk=7))
    return dsvgraph_torch.compile(model, seed=SEED, kernels="fast")


@pytest.mark.parametrize("chunked", [plain_in_chunks, fast_in_chunks])
def test_chunked_losses(model, rows, plain, monkeypatch, chunked):
    assert_same(taken(chunked(model, monkeypatch), [Batch.of_rows(rows)]), plain)
