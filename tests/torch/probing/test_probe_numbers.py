"""Losses, acceptance, gradients and activations of a probe against loops and torch.autograd on a tiny model."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F
from helpers import built, small, tokens

import dsvgraph
import dsvgraph_torch
from dsvgraph_torch.data.batch import Batch
from dsvgraph_torch.probing.activations import trace
from dsvgraph_torch.probing.gradients import gradients
from dsvgraph_torch.probing.heads import heads_of
from dsvgraph_torch.probing.scores import Agreement, score

LAYERS = ["model.embed_tokens", *(f"model.layers.{i}" for i in range(5)), "model.norm", "lm_head"]
NAMES = ["next_token", "mtp.1", "mtp.2"]


@pytest.fixture(scope="module")
def model():
    return small("deepseek_v3_tiny")


@pytest.fixture
def module(model):
    return built(model, kernels="fast").eval()


def batches(count: int = 3) -> list[Batch]:
    return [Batch.of_rows(tokens(2, 12, seed=seed)) for seed in range(count)]


def all_logits(module, batch):
    """Return the logits of the next token and of each depth, [B, T, V] each."""
    with torch.no_grad():
        outputs = module(batch.inputs)
    return [outputs["logits"], *outputs["mtp_logits"]]


def test_scores_are_means_over_the_positions_that_have_a_target(model, module):
    found, _ = score(module, heads_of(model), batches(), tokens=0, step=0)
    assert [(row.name, row.ahead) for row in found] == [("next_token", 1), ("mtp.1", 2), ("mtp.2", 3)]
    for k, row in enumerate(found):
        losses, right, entropies, sure = [], [], [], []
        for batch in batches():
            for logits, targets in zip(all_logits(module, batch)[k], batch.targets):
                for i in range(len(targets) - k):
                    p = logits[i].double().softmax(-1)
                    losses.append(float(F.cross_entropy(logits[i], targets[i + k])))
                    right.append(int(p.argmax()) == int(targets[i + k]))
                    entropies.append(float(-(p * p.log()).sum()))
                    sure.append(float(p.max()))
        for measured, wanted in [(row.loss, losses), (row.accuracy, right), (row.entropy, entropies),
                                 (row.confidence, sure)]:  # fmt: skip
            assert measured.count == len(wanted) == 3 * 2 * (11 - k)
            assert measured.value == pytest.approx(sum(wanted) / len(wanted), rel=1e-5)


def test_scores_are_the_losses_that_the_model_trains_on(model, module):
    (batch,) = batches(1)
    with torch.no_grad():
        losses = module(batch.inputs, targets=batch.targets)
    found, _ = score(module, heads_of(model), [batch], tokens=0, step=0)
    assert {row.name: row.loss.value for row in found} == pytest.approx({n: float(losses[n]) for n in NAMES}, rel=1e-5)
    assert [row.weight for row in found] == ["1", "0.15", "0.15"]


def test_packed_rows_are_scored_as_they_are_trained_on(model, module):
    """Three documents in a row, one of them a single token, and one in the other row."""
    row = tokens(2, 12, seed=3)
    documents = torch.tensor([[7, 7, 7, 7, 7, 0, 3, 3, 3, 3, 1], [0] * 11])
    targets = row[:, 1:].clone()
    targets[:, :-1][documents[:, 1:] != documents[:, :-1]] = -100
    batch = Batch(row[:, :-1], targets, documents)
    with torch.no_grad():
        losses = module(batch.inputs, targets=batch.targets, documents=documents)
    found, accepted = score(module, heads_of(model), [batch], tokens=0, step=0)
    assert {row.name: row.loss.value for row in found} == pytest.approx({n: float(losses[n]) for n in NAMES}, rel=1e-5)
    assert [one.agreement.count for one in accepted] == [4 + 3 + 10, 3 + 2 + 9]
    _, _, attention, _ = trace(model, module, [batch])
    assert all(row.logit is None for row in attention)


@pytest.mark.parametrize("off", [0, 1, -1])
def test_acceptance_is_that_of_a_loop(model, module, off):
    agreement = Agreement(heads_of(model), off)
    for batch in batches():
        agreement.add(module(batch.inputs), batch)
    product = 1.0
    for k, row in enumerate(agreement.table(), 1):
        agrees, prefix, rows = [], [], []
        for batch in batches():
            guesses = [logits.argmax(-1) for logits in all_logits(module, batch)]
            for r in range(len(batch.inputs)):
                valid = [i for i in range(11 - k) if 0 <= i + k + off < 11]  # the last k positions have read fill
                same = [guesses[k][r, i] == guesses[0][r, i + k + off] for i in valid]
                agrees += same
                rows.append((sum(map(int, same)), len(same)))
                prefix += [all(guesses[j][r, i] == guesses[0][r, i + j + off] for j in range(1, k + 1)) for i in valid]
        assert row.agreement.count == len(agrees)
        assert row.agreement.value == pytest.approx(float(sum(map(int, agrees))) / len(agrees))
        assert row.prefix.value == pytest.approx(sum(map(int, prefix)) / len(prefix)) or off
        product *= row.agreement.value
        assert row.product == pytest.approx(product)
        mean = row.agreement.value
        residuals = [(s - mean * n) ** 2 for s, n in rows]
        error = math.sqrt(len(rows) / (len(rows) - 1) * sum(residuals)) / len(agrees)
        assert row.agreement.error == pytest.approx(error)


def test_gradients_are_those_of_autograd(model, module):
    """One parameter at a time from the logits, neither from the losses of the model nor by layers."""
    found = {row.path: row for row in gradients(model, module, heads_of(model), batches(2))}
    assert [*found] == LAYERS[:4] + LAYERS[6:] + LAYERS[4:6]  # as the lines of the spec are
    norms, cosines = {}, {}
    for batch in batches(2):
        outputs = module(batch.inputs)
        logits = [outputs["logits"], *outputs["mtp_logits"]]
        losses = [
            F.cross_entropy(part[:, : 11 - k].flatten(0, 1), batch.targets[:, k:].flatten())
            for k, part in enumerate(logits)
        ]
        grads = []
        for loss in losses:
            module.zero_grad()
            loss.backward(retain_graph=True)
            grads.append({n: None if p.grad is None else p.grad.clone() for n, p in module.named_parameters()})
        for path in LAYERS:
            names = [n for n, _ in module.named_parameters() if n.startswith(path + ".")]
            vectors = [
                torch.cat([torch.zeros(module.get_parameter(n).numel()) if g[n] is None else g[n].flatten()
                           for n in names])
                for g in grads
            ]  # fmt: skip
            assert found[path].parameters == len(vectors[0])
            for k, name in enumerate(NAMES):
                norms.setdefault((path, name), []).append(float(vectors[k].norm()))
                cosines.setdefault((path, name), []).append(float(F.cosine_similarity(vectors[0], vectors[k], dim=0)))
    module.zero_grad()
    for (path, name), values in norms.items():
        assert found[path].norms[name].value == pytest.approx(sum(values) / 2, rel=1e-4, abs=1e-9)
        if name in found[path].cosines:
            mine = found[path].cosines[name]
            assert mine.value == pytest.approx(sum(cosines[path, name]) / 2, abs=1e-5)
            assert mine.error == pytest.approx(abs(cosines[path, name][0] - cosines[path, name][1]) / 2, abs=1e-5)
    trunk = {path for path, row in found.items() if row.trunk}
    assert trunk == {path for path in LAYERS if norms[path, "next_token"][0]} == {*LAYERS} - {*LAYERS[4:6]}
    assert all(set(found[path].cosines) == ({*NAMES[1:]} if path in trunk else set()) for path in LAYERS)


def test_a_probe_leaves_no_trace_in_training(model):
    module = built(model, kernels="fast").train()
    before = {name: value.clone() for name, value in module.named_buffers()}
    gradients(model, module, heads_of(model), batches(1))
    assert module.training and all(p.grad is None for p in module.parameters())
    assert all(torch.equal(value, before[name]) for name, value in module.named_buffers())


def test_loads_are_those_that_training_counts(model, module):
    _, routers, _, _ = trace(model, module, batches())
    module.train()
    for batch in batches():
        module(batch.inputs, targets=batch.targets)
    counted = dsvgraph_torch.expert_load(module)
    assert [row.path for row in routers] == list(counted)
    for row in routers:
        assert row.load == pytest.approx((counted[row.path] / counted[row.path].sum()).tolist())
        shares = [p for p in row.load if p]
        assert row.balance == pytest.approx(-sum(p * math.log(p) for p in shares) / math.log(8))


def test_states_and_branches_add_up(model, module):
    """The stream of a layer that only adds is known from the weights: silence the branches and it stands still."""
    states, _, attention, notes = trace(model, module, batches(1))
    assert [row.path for row in states] == LAYERS[1:6] and not notes
    assert [row.path for row in attention] == [f"{path}.self_attn.attn" for path in LAYERS[1:6]]
    assert all({*row.branches} == {"self_attn", "mlp"} for row in states)
    with torch.no_grad():
        for name, weight in module.named_parameters():
            if name.startswith(LAYERS[1]) and name.endswith(("o_proj.weight", "down_proj.weight")):
                weight.zero_()
        embedded = F.embedding(batches(1)[0].inputs, module.model.embed_tokens.weight)
    states, _, _, _ = trace(model, module, batches(1))
    assert states[0].change == 0 and states[0].branches == {"self_attn": 0, "mlp": 0}
    assert states[0].state == pytest.approx(float(embedded.square().mean(-1).sqrt().mean()), rel=1e-6)


ATTENTION = """
graph:
  in: {ids: "int[B, T]"}
  body:
    embed: {embedding: ids, num: 61, dim: 8}
    q:     {linear: embed, out: [2, 4]}
    k:     {linear: embed, out: [1, 4]}
    attn:  {attention: {q: q, k: k, v: k}, scale: 0.7, window: 3}
    head:  {linear: attn, contract: 2, out: 61}
  out: {logits: head}
loss: {next_token: {cross_entropy: logits, target: ids, shift: 1}}
"""


def test_attention_is_that_of_loops():
    model = dsvgraph.loads(ATTENTION)
    module = built(model).eval()
    (batch,) = batches(1)
    _, _, (row,), _ = trace(model, module, [batch])
    with torch.no_grad():
        x = module.embed(batch.inputs).double()
        q, k = (F.linear(x, part.weight.double()).unflatten(-1, (-1, 4)) for part in (module.q, module.k))
    logits, entropies, squares = [], [], []
    for b in range(2):
        for t in range(11):
            outputs = []
            for h in range(2):
                seen = [0.7 * float(q[b, t, h] @ k[b, c, 0]) for c in range(max(0, t - 2), t + 1)]
                p = torch.tensor(seen).double().softmax(0)
                logits += seen
                entropies.append(float(-(p * p.log()).sum()))
                outputs.append(p @ k[b, max(0, t - 2) : t + 1, 0])
            squares.append(float(torch.stack(outputs).square().mean().sqrt()))
    assert row.logit == pytest.approx(max(logits), rel=1e-5)
    assert row.entropy == pytest.approx(sum(entropies) / len(entropies), rel=1e-5)
    assert row.output == pytest.approx(sum(squares) / len(squares), rel=1e-5)
