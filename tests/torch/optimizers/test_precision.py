"""bfloat16 weights over float32 masters, judged by torch's AdamW in float32; steps whose numbers are read late."""

from __future__ import annotations

import json

import pytest
import torch
from runs import SEVEN_LINES, newest, plain, records, refused, run, small
from safetensors.torch import load_file

import dsvgraph
import dsvgraph_torch
from dsvgraph.backends.training import Precision
from dsvgraph_torch.data.batch import Batch
from dsvgraph_torch.optimizers import optimizer as optimizers
from dsvgraph_torch.optimizers.masters import with_precision
from dsvgraph_torch.optimizers.optimizer import optimizer_for, set_rate
from dsvgraph_torch.runs import schema
from dsvgraph_torch.training import heldout, loop
from dsvgraph_torch.training.options import TrainOptions
from dsvgraph_torch.training.step import Diverged, take_step, train_step


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    """Runs without pictures, long samples and long evaluations."""
    plain(monkeypatch)
    monkeypatch.setattr(loop, "FINAL_TOKENS", 64)
    monkeypatch.setattr(heldout, "EVAL_TOKENS", 64)


CPU = torch.device("cpu")
BF16 = dict(precision="bfloat16", emulate=True)


@pytest.fixture(scope="module")
def model():
    return small(num_nextn_predict_layers=1, initializer_range=0.02)


def trained(model, precision, **options):
    """A module in its numbers, its masters and its optimizer."""
    module = dsvgraph_torch.compile(model)
    masters = with_precision(module, Precision(precision))
    return module, masters, optimizer_for(module, TrainOptions(precision=precision, **options), model, masters)


def batch(seed, rows=4):
    return Batch.of_rows(torch.randint(256, (rows, 17), generator=torch.Generator().manual_seed(seed)))


def losses(model, precision, steps=20):
    module, _, optimizer = trained(model, precision)
    return [train_step(module, optimizer, [batch(step % 3)], 0.004, 1.0, CPU).loss for step in range(steps)]


def test_losses_over_masters_are_close_to_those_of_float32(model):
    full, low, pure = (losses(model, precision) for precision in ("float32", "bfloat16", "pure-bf16"))
    assert full[-1] < full[0] - 0.5
    far, further = (max(abs(a - b) / b for a, b in zip(found, full, strict=True)) for found in (low, pure))
    assert 0 < far < 0.001 and far < further / 5


def numbers_of(module):
    """The dtypes of the weights by their part: routers, buffers, others."""
    found = {"routers": set(), "others": set(), "buffers": {b.dtype for b in module.buffers()}}
    for name, weight in module.named_parameters():
        found["routers" if name.endswith("mlp.gate.weight") else "others"].add(weight.dtype)
    return found


def test_what_is_in_which_numbers(model):
    for precision, low, router in (
        ("float32", torch.float32, torch.float32),
        ("bfloat16", torch.bfloat16, torch.float32),
        ("pure-bf16", torch.bfloat16, torch.bfloat16),
    ):
        module, masters, optimizer = trained(model, precision)
        train_step(module, optimizer, [batch(0)], 0.01, 1.0, CPU)
        assert numbers_of(module) == {"routers": {router}, "others": {low}, "buffers": {torch.float32}}
        states = {value.dtype for s in optimizer.parts[0].state.values() for value in s.values() if value.dim()}
        assert states == {torch.bfloat16 if precision == "pure-bf16" else torch.float32}
        kinds = {path: w.dtype for path, w in masters.state_dict().items() if "bias" not in path}
        assert {*kinds.values()} == states and kinds.keys() < module.state_dict().keys()


def test_a_masters_step_is_that_of_adamw_in_float32(model, monkeypatch):
    """In several pieces, with gradients in bfloat16; the module has the masters, rounded."""
    monkeypatch.setattr(optimizers, "AT_ONCE", 2000)
    module, masters, optimizer = trained(model, "bfloat16", weight_decay=0.0)
    assert len(list(optimizer._pieces())) > 3
    alone = {name: w.detach().float().clone() for name, w in masters.state_dict().items()}
    judge = torch.optim.AdamW(alone.values(), lr=0.01, betas=(0.9, 0.95), weight_decay=0.0, fused=True)
    for step in range(3):
        draw = torch.Generator().manual_seed(step)
        for parameter in module.parameters():
            parameter.grad = torch.randn(parameter.shape, generator=draw).to(parameter.dtype)
        for path, weight in module.state_dict(keep_vars=True).items():
            whole = weight if weight._base is None else weight._base
            if whole.requires_grad:
                part = whole.grad.as_strided(weight.shape, weight.stride(), weight.storage_offset())
                alone[path].grad = part.float() * 0.5
        set_rate(optimizer, 0.01)
        optimizer.step(torch.tensor(0.5))
        judge.step()
    for path, weight in masters.state_dict().items():
        assert torch.equal(weight, alone[path]), path
        assert torch.equal(module.state_dict()[path].float(), alone[path].to(module.state_dict()[path].dtype).float())


def test_updates_that_bfloat16_cannot_hold_add_up(model):
    moved = {}
    for precision in ("bfloat16", "pure-bf16"):
        module, masters, optimizer = trained(model, precision, weight_decay=0.0)
        with torch.no_grad():
            [w.fill_(1.0) for w in (*module.parameters(), *masters.exact.values())]
        for _ in range(64):
            for parameter in module.parameters():
                parameter.grad = torch.ones_like(parameter)
            set_rate(optimizer, 1e-6)
            optimizer.step()
        moved[precision] = float(1 - masters.state_dict()["model.norm.weight"].double().mean())
    assert moved["bfloat16"] == pytest.approx(64e-6, rel=0.05) and moved["pure-bf16"] == 0


def test_gradients_of_several_batches_add_up_in_float32(model):
    """Small ones that bfloat16 would lose beside a large one."""
    module, _, optimizer = trained(model, "bfloat16", accumulate=3)
    weight = module.model.norm.weight
    for size in (1.0, 2.0**-10, 2.0**-10):
        (weight * size).sum().backward()
    (found,) = [optimizer.gradient(one) for one in optimizer.weights if one.parameter is weight]
    assert found.dtype == torch.float32 and torch.equal(found, torch.full_like(found, 1 + 2.0**-9))
    assert weight.grad is None


# -- runs --------------------------------------------------------------------------------------------


def test_a_run_goes_on_to_the_last_bit(model, tmp_path):
    options = dict(BF16, optimizer="muon", ema=0.5, accumulate=2, schedule="constant", warmup=1)
    folders = tmp_path / "whole", tmp_path / "parts"
    [folder.mkdir() for folder in folders]
    run(folders[0], model, **options)
    run(folders[1], model, **options, steps=2)
    words = refused(folders[1], model, resume=True, precision="float32")
    assert "--precision: the run was started with bfloat16" in words
    run(folders[1], model, steps=4, resume=True)
    whole, parts = (newest(folder / "run") for folder in folders)
    for name in ("model", "optimizer", "ema"):
        one, two = (load_file(folder / f"{name}.safetensors") for folder in (whole, parts))
        assert one.keys() == two.keys() and all(torch.equal(one[key], two[key]) for key in one), name
        assert {tensor.dtype for tensor in one.values()} == {torch.float32}
    text = "".join(dsvgraph_torch.generate(folders[0] / "run", "a", 4, temperature=0))
    assert text == "".join(dsvgraph_torch.generate(folders[1] / "run", "a", 4, temperature=0))


def test_a_run_in_bfloat16_alone(model, tmp_path):
    run(tmp_path, model, precision="pure-bf16", emulate=True, ema=0.5, steps=2)
    found, average = (load_file(newest(tmp_path / "run") / f"{name}.safetensors") for name in ("model", "ema"))
    assert {w.dtype for name, w in found.items() if "bias" not in name} == {torch.bfloat16}
    assert {w.dtype for w in average.values()} == {torch.float32}
    assert "".join(dsvgraph_torch.generate(tmp_path / "run", "a", 4))


def test_a_run_under_autocast_does_not_go_on(tmp_path):
    """One of an earlier version, of which the weights are still there."""
    graph = dsvgraph.loads(SEVEN_LINES)
    run(tmp_path, graph, steps=2)
    about, spec = tmp_path / "run/run.json", (tmp_path / "run/spec.yaml").read_text()
    found = json.loads(about.read_text())
    assert "dtype" not in found["options"]
    found["options"]["dtype"] = "bfloat16"
    before = TrainOptions(**found["options"])
    new = schema.identity(before, found["data"]["sha256"], spec)
    for path in (about, newest(tmp_path / "run") / "checkpoint.json"):
        path.write_text(path.read_text().replace(found["identity"], new))
    about.write_text(json.dumps({**found, "identity": new}))
    assert "multiplied in bfloat16 by autocast" in refused(tmp_path, graph, steps=4, resume=True)
    assert "".join(dsvgraph_torch.generate(tmp_path / "run", "a", 4))


# -- metrics that are read late ----------------------------------------------------------------------


@pytest.fixture
def late(monkeypatch):
    """Runs on a CPU that read metrics as late as on a GPU."""
    init = loop.Trainer.__init__

    def delayed(self, *args, **more):
        init(self, *args, **more)
        self.late = loop.LATE

    return lambda: monkeypatch.setattr(loop.Trainer, "__init__", delayed)


def test_a_run_that_reads_late_is_the_same(model, tmp_path, late):
    options = dict(BF16, optimizer="muon", probe_every=4, ema=0.5)
    folders = tmp_path / "once", tmp_path / "late"
    for folder in folders:
        folder.mkdir()
        run(folder, model, **options, steps=6, save_every=4, eval_every=5)
        late()
    one, two = map(records, folders)
    assert [record["step"] for record in one] == [*range(1, 7)] and one == two
    for name in ("model", "optimizer"):
        files = [(newest(folder / "run") / f"{name}.safetensors").read_bytes() for folder in folders]
        assert files[0] == files[1]


@pytest.mark.parametrize(("optimizer", "precision"), [("adamw", "float32"), ("muon", "bfloat16")])
def test_a_step_that_is_no_number_is_not_applied(optimizer, precision, model):
    """Its error comes when it is read; until then weights, states and the biases of routers are as before it."""
    module, masters, moved = trained(model, precision, optimizer=optimizer)
    train_step(module, moved, [batch(0)], 0.01, 1.0, CPU)
    before = [tensor.clone() for tensor in everything(masters, moved)]
    hook = module.model.norm.register_forward_hook(lambda _module, _args, y: y * float("nan"))
    taken = take_step(module, moved, [batch(1)], 0.01, 1.0, CPU, "at step 2", late=True)
    hook.remove()
    assert all(torch.equal(*pair) for pair in zip(before, everything(masters, moved), strict=True))
    with pytest.raises(Diverged, match=r"diverged at step 2: .*next_token is nan"):
        taken.read()
    train_step(module, moved, [batch(1)], 0.01, 1.0, CPU)
    assert not torch.equal(before[0], everything(masters, moved)[0])


def everything(masters, optimizer):
    """All that a checkpoint holds."""
    states = [value for part in optimizer.parts for state in part.state.values() for value in state.values()]
    return [*masters.state_dict().values(), *states]


def test_a_run_that_diverges_late_ends_as_one_that_reads_at_once(tmp_path, monkeypatch, late):
    """With the same records, and the checkpoint before."""
    original, seen = loop.learning_rate, {}
    monkeypatch.setattr(loop, "learning_rate", lambda step, o: 1e38 if step >= 4 else original(step, o))
    for name in ("once", "late"):
        (tmp_path / name).mkdir()
        graph = dsvgraph.loads(SEVEN_LINES)
        words = refused(tmp_path / name, graph, steps=9, save_every=3, eval_every=100, spike=0.0)
        seen[name] = words, records(tmp_path / name), newest(tmp_path / name / "run").name
        late()
    assert seen["once"] == seen["late"] and seen["once"][2] == "checkpoint-3"
    assert "training diverged at step 5" in seen["once"][0]
