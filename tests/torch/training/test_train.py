"""Training from outside: what a run leaves, how it goes on, and how it ends when something is wrong."""

from __future__ import annotations

import errno
import io
import json
import math
import os
import resource
import shutil
import signal
import xml.etree.ElementTree as ET
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import torch
from rich.console import Console
from runs import TIMES, checkpoint
from safetensors.torch import load_file

import dsvgraph
import dsvgraph_torch
from dsvgraph import DsvError
from dsvgraph_torch.data.batch import Batch
from dsvgraph_torch.data.tokens import text_of
from dsvgraph_torch.optimizers.optimizer import optimizer_for
from dsvgraph_torch.runs.files import append_line
from dsvgraph_torch.training import loop
from dsvgraph_torch.training.options import TrainOptions
from dsvgraph_torch.training.schedule import learning_rate
from dsvgraph_torch.training.step import train_step

SIZES = dict(
    hidden_size=32, num_hidden_layers=2, first_k_dense_replace=1, num_attention_heads=2, q_lora_rank=12,
    kv_lora_rank=8, qk_nope_head_dim=8, qk_rope_head_dim=4, v_head_dim=6, intermediate_size=40,
    moe_intermediate_size=12, n_routed_experts=4, num_experts_per_tok=2, n_group=1, topk_group=1,
)  # fmt: skip
HEADS = ["next_token", "mtp.1", "mtp.2"]
FILES = {
    "spec.yaml",
    "diagram.svg",
    "metrics.jsonl",
    "losses.png",
    "run.json",
    ".lock",
}
CHECKPOINT = {"model.safetensors", "optimizer.safetensors", "checkpoint.json"}
SPEED = 0.001


@pytest.fixture(scope="module")
def model() -> dsvgraph.Model:
    return dsvgraph.load("deepseek_v3_tiny", SIZES)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("data") / "text.txt"
    path.write_text("the quick brown fox jumps over the lazy dog\n" * 90)
    return path


@pytest.fixture(scope="module", autouse=True)
def short_samples() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(loop, "SAMPLE_TOKENS", 8)
        yield


def run(model: dsvgraph.Model, data: Path, out: Path, **options: Any) -> tuple[Any, str]:
    """A run of six small steps, and what it printed."""
    given = dict(steps=6, batch=2, seq=16, lr=1e-2, eval_every=2, save_every=3, device="cpu", data=data, out=out)
    console = Console(file=io.StringIO(), width=100)
    result = dsvgraph_torch.train(model, {**given, **options}, console)
    return result, console.file.getvalue()


@pytest.fixture(scope="module")
def base(model: dsvgraph.Model, data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a run that nothing has disturbed."""
    out = tmp_path_factory.mktemp("base") / "run"
    result, _ = run(model, data, out)
    assert (result.step, result.interrupted, result.path) == (6, False, out)
    return out


def metrics(folder: Path) -> list[dict[str, Any]]:
    return [
        json.loads(line, parse_constant=pytest.fail) for line in (folder / "metrics.jsonl").read_text().splitlines()
    ]


def untimed(folder: Path) -> list[dict[str, Any]]:
    return [{k: v for k, v in record.items() if k not in TIMES} for record in metrics(folder)]


def assert_same_run(a: Path, b: Path) -> None:
    assert untimed(a) == untimed(b)
    for name in ("model.safetensors", "optimizer.safetensors", "checkpoint.json"):
        assert (checkpoint(a) / name).read_bytes() == (checkpoint(b) / name).read_bytes()


def interrupt(monkeypatch: pytest.MonkeyPatch, step: int, act: Any) -> None:
    """``act`` happens within ``step``, after it was written down."""
    take = loop.Trainer.run_step

    def taken(self: Any, number: int, *others: Any) -> None:
        take(self, number, *others)
        if number == step:
            act()

    monkeypatch.setattr(loop.Trainer, "run_step", taken)


def test_losses_fall(base: Path) -> None:
    first, *_, last = metrics(base)
    for head in HEADS:
        assert abs(first["losses"][head] - math.log(256)) < 0.3
        assert last["heldout"][head] < first["losses"][head] - 0.2


def test_the_run_folder(base: Path, model: dsvgraph.Model) -> None:
    assert {path.name for path in base.iterdir()} == FILES | {"checkpoint-6"}
    assert {path.name for path in (base / "checkpoint-6").iterdir()} == CHECKPOINT
    again = dsvgraph.load(str(base / "spec.yaml"))
    assert dsvgraph.show(again) == dsvgraph.show(model)
    assert dsvgraph_torch.weights(again) == dsvgraph_torch.weights(model)
    assert ET.parse(base / "diagram.svg").getroot().tag.endswith("svg")
    assert (base / "losses.png").read_bytes().startswith(b"\x89PNG")
    weights = load_file(base / "checkpoint-6/model.safetensors")
    module = dsvgraph_torch.compile(again)
    assert weights.keys() == module.state_dict().keys()
    module.load_state_dict(weights, strict=True)
    about = json.loads((base / "run.json").read_text())
    assert about["options"]["steps"] == 6 and about["options"]["seed"] == 0
    assert about["versions"]["torch"] == torch.__version__
    assert about["result"]["heldout"].keys() >= set(HEADS)
    assert all(0 <= about["result"]["accuracy"][head] <= 1 for head in HEADS)


def test_metrics(base: Path) -> None:
    records = metrics(base)
    assert [r["step"] for r in records] == [1, 2, 3, 4, 5, 6]
    assert [r["tokens"] for r in records] == [32 * step for step in range(1, 7)]
    for record in records:
        assert record["losses"].keys() == {*HEADS, "balance"}
        weighted = record["losses"]["next_token"] + 0.15 * sum(record["losses"][h] for h in HEADS[1:])
        assert record["loss"] == pytest.approx(weighted + 1e-4 * record["losses"]["balance"], rel=1e-5)
        assert record["tokens_per_second"] > 0 and record["grad_norm"] > 0 and record["balance"] >= 1
        assert ("heldout" in record) == ("load" in record) == (record["step"] in (1, 2, 4, 6))
    load = records[-1]["load"]
    assert len(load) == 3  # one layer with experts, and those of two MTP depths
    assert all(len(counts) == 4 for counts in load.values())
    assert load["model.layers.1.mlp.gate"] and sum(load["model.layers.1.mlp.gate"]) == 32 * 2


def test_the_learning_rate(base: Path) -> None:
    assert [r["lr"] for r in metrics(base)] == pytest.approx(
        [1e-2 * (0.1 + 0.9 * (1 + math.cos(math.pi * (step - 1) / 5)) / 2) for step in range(1, 7)]
    )
    options = TrainOptions(steps=100, warmup=10, lr=1.0)
    rates = [learning_rate(step, options) for step in range(1, 101)]
    assert rates[:10] == pytest.approx([step / 10 for step in range(1, 11)])
    assert rates[9:] == sorted(rates[9:], reverse=True)
    assert rates[54] == pytest.approx(0.55) and rates[-1] == pytest.approx(0.1)


def test_twice_in_one_process(base: Path, model: dsvgraph.Model, data: Path, tmp_path: Path) -> None:
    _, told = run(model, data, tmp_path / "run")
    assert_same_run(base, tmp_path / "run")
    assert all(head in told for head in HEADS) and "byte i + 3" in told and "sample" in told


def test_another_seed_is_another_run(base: Path, model: dsvgraph.Model, data: Path, tmp_path: Path) -> None:
    run(model, data, tmp_path / "run", seed=1, steps=1)
    assert metrics(tmp_path / "run")[0]["loss"] != metrics(base)[0]["loss"]


def test_an_interrupted_run_goes_on(
    base: Path, model: dsvgraph.Model, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out, handler = tmp_path / "run", signal.getsignal(signal.SIGINT)
    with monkeypatch.context() as patch:
        interrupt(patch, 4, lambda: os.kill(os.getpid(), signal.SIGINT))
        result, told = run(model, data, out)
    assert (result.step, result.interrupted) == (4, True)
    assert "--resume" in told and str(out) in told
    assert {path.name for path in out.iterdir()} == FILES | {"checkpoint-4"}
    assert len(metrics(out)) == 4
    assert signal.getsignal(signal.SIGINT) is handler
    result = dsvgraph_torch.train(model, dict(out=out, resume=True), Console(file=io.StringIO()))
    assert (result.step, result.interrupted) == (6, False)
    assert_same_run(base, out)


def test_a_killed_run_goes_on_from_its_last_save(
    base: Path, model: dsvgraph.Model, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def power_cut() -> None:
        raise SystemExit

    out = tmp_path / "run"
    with monkeypatch.context() as patch, pytest.raises(SystemExit):
        interrupt(patch, 5, power_cut)
        run(model, data, out)
    with (out / "metrics.jsonl").open("a") as file:
        file.write('{"step": 6, "los')
    dsvgraph_torch.train(model, dict(out=out, resume=True), Console(file=io.StringIO()))
    assert_same_run(base, out)


@pytest.mark.parametrize("change", ["spec", "data", "option", "no run"])
def test_what_cannot_be_resumed(base: Path, model: dsvgraph.Model, tmp_path: Path, change: str) -> None:
    out, options = tmp_path / "run", dict(resume=True)
    if change != "no run":
        shutil.copytree(base, out)
    if change == "spec":
        model = dsvgraph.load("deepseek_v3_tiny", {**SIZES, "hidden_size": 48})
    if change == "option":
        options["batch"] = 3
    if change == "data":
        other = tmp_path / "other.txt"
        other.write_text("another text\n" * 90)
        about = json.loads((out / "run.json").read_text())
        about["options"]["data"] = str(other)
        (out / "run.json").write_text(json.dumps(about))
    words = {
        "spec": "of another spec",
        "data": "is not the text",
        "option": "--batch",
        "no run": "holds no run",
    }
    with pytest.raises(DsvError, match=words[change]):
        dsvgraph_torch.train(model, dict(out=out, **options), Console(file=io.StringIO()))


def test_a_folder_in_use(model: dsvgraph.Model, data: Path, tmp_path: Path) -> None:
    (tmp_path / "precious").write_text("mine")
    with pytest.raises(DsvError, match="exists and is not empty") as caught:
        run(model, data, tmp_path)
    assert str(tmp_path) in str(caught.value)
    assert [path.name for path in tmp_path.iterdir()] == ["precious"]
    with pytest.raises(DsvError, match="is a file"):
        run(model, data, tmp_path / "precious")
    assert (tmp_path / "precious").read_text() == "mine"


@pytest.mark.parametrize("name", ["spec.yaml", "run.json", "checkpoint-1", "losses.png"])
def test_a_full_disk(
    model: dsvgraph.Model, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    replace, rename = os.replace, os.rename

    def full(source: Any, target: Any) -> None:
        if Path(target).name == name:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        (rename if Path(source).is_dir() else replace)(source, target)

    monkeypatch.setattr(os, "replace", full)
    monkeypatch.setattr(os, "rename", full)
    with pytest.raises(DsvError, match="No space left") as caught:
        run(model, data, tmp_path / "run", steps=1)
    assert name in str(caught.value)
    left = {path.name for path in (tmp_path / "run").iterdir()}
    assert left <= FILES | {"checkpoint-1"} - {name}
    assert (tmp_path / "run/checkpoint-1").exists() == (name == "losses.png")


def test_a_line_that_does_not_fit_leaves_nothing(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    path.write_bytes(b"x" * (2**20 - 1) + b"\n")
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (2**20 + 10, before[1]))
    try:
        with pytest.raises(DsvError, match=r"metrics\.jsonl"):
            append_line(path, "y" * 20)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert path.stat().st_size == 2**20


def test_divergence(model: dsvgraph.Model, data: Path, tmp_path: Path) -> None:
    with pytest.raises(DsvError, match="diverged after step 1, on held-out text: "):
        run(model, data, tmp_path / "run", lr=1e38)
    left = {path.name for path in (tmp_path / "run").iterdir()}
    assert left == {
        "spec.yaml",
        "diagram.svg",
        "run.json",
        "metrics.jsonl",
        ".lock",
    }  # no NaN is written down, no broken weights are kept
    (record,) = metrics(tmp_path / "run")
    assert record["step"] == 1 and math.isfinite(record["loss"]) and "heldout" not in record


def test_bfloat16(base: Path, model: dsvgraph.Model, data: Path, tmp_path: Path) -> None:
    run(model, data, tmp_path / "run", precision="bfloat16", emulate=True)
    for low, full in zip(metrics(tmp_path / "run"), metrics(base), strict=True):
        assert low["loss"] == pytest.approx(full["loss"], rel=0.05)
    assert metrics(tmp_path / "run")[0]["loss"] != metrics(base)[0]["loss"]
    assert {w.dtype for w in load_file(tmp_path / "run/checkpoint-6/model.safetensors").values()} == {torch.float32}


def test_accumulation_is_a_larger_batch(model: dsvgraph.Model) -> None:
    rows = torch.randint(256, (4, 17), generator=torch.Generator().manual_seed(0))
    found = []
    for size in (4, 2):
        module = dsvgraph_torch.compile(model)
        optimizer = optimizer_for(module, TrainOptions())
        batches = [Batch.of_rows(part) for part in rows.split(size)]
        found.append(train_step(module, optimizer, batches, 1e-3, 1.0, torch.device("cpu")))
    one, two = found
    assert two.loss == pytest.approx(one.loss, rel=1e-5)
    assert two.losses == pytest.approx(one.losses, rel=1e-5)
    assert two.grad_norm == pytest.approx(one.grad_norm, rel=1e-4)
    assert two.load == one.load


def test_biases_move_once_a_step(model: dsvgraph.Model, data: Path, tmp_path: Path) -> None:
    run(model, data, tmp_path / "run", steps=1, accumulate=3)
    weights = load_file(tmp_path / "run/checkpoint-1/model.safetensors")
    biases = {name: w for name, w in weights.items() if name.endswith("e_score_correction_bias")}
    load = metrics(tmp_path / "run")[0]["load"]
    assert len(biases) == 3
    for name, bias_E in biases.items():
        counts = torch.tensor(load[name.rpartition(".")[0]], dtype=torch.float32)
        torch.testing.assert_close(bias_E, SPEED * torch.sign(counts.mean() - counts))
    assert metrics(tmp_path / "run")[0]["tokens"] == 3 * 2 * 16


def test_schedules_see_the_tokens(data: Path, tmp_path: Path) -> None:
    spec = tmp_path / "spec.yaml"
    spec.write_text(
        "name: scheduled\nextends: deepseek_v3_tiny.yaml\nloss:\n"
        "  next_token: {cross_entropy: logits, target: input_ids, shift: 1}\n"
        "  mtp: {cross_entropy: mtp_logits, target: input_ids, shift: depth + 1,\n"
        "        weight: 1 if tokens < 64 else 0.25 if tokens < 128 else 0}\n"
    )
    graph = dsvgraph.load(str(spec), SIZES)
    run(graph, data, tmp_path / "run", steps=6)
    weights, flops = [], [0]
    for record in metrics(tmp_path / "run"):
        losses = record["losses"]
        rest = record["loss"] - losses["next_token"]
        heads = losses["mtp.1"] + losses["mtp.2"] if len(losses) > 1 else 0
        weights.append(round(rest / heads, 4) if heads else "left out")
        assert heads or rest == 0
        flops.append(record["flops"])
    assert weights == [1, 1, 0.25, 0.25, "left out", "left out"]
    taken = [after - before for before, after in pairwise(flops)]
    alone = dsvgraph.load(str(spec), {**SIZES, "num_nextn_predict_layers": 0})
    whole = [dsvgraph.cost(one, 2, 16, formulas=False).flops.train for one in (graph, alone)]
    assert taken == [whole[0]] * 4 + [whole[1]] * 2


def test_weight_decay_is_of_matrices_alone(model: dsvgraph.Model) -> None:
    module = dsvgraph_torch.compile(model)
    before = {name: weight.clone() for name, weight in module.state_dict().items()}
    optimizer = optimizer_for(module, TrainOptions(lr=0.1, weight_decay=0.5))
    for group in optimizer.param_groups:
        for weight in group["params"]:
            weight.grad = torch.zeros_like(weight)
    optimizer.step()
    for name, weight in module.state_dict().items():
        vector = name.endswith(("norm.weight", "bias"))
        torch.testing.assert_close(weight, before[name] * (1 if vector else 0.95), msg=name)


def test_cached_sampling_is_the_same(base: Path) -> None:
    for prompt in ("", "the quick", "long " * 10):
        texts = [
            "".join(dsvgraph_torch.generate(base, prompt, 24, temperature=0, cached=cached)) for cached in (True, False)
        ]
        assert texts[0] == texts[1] != ""


def test_sampling_follows_its_seed(base: Path) -> None:
    one, again, other = ("".join(dsvgraph_torch.generate(base, "naïve 日本", 24, seed=s)) for s in (0, 0, 1))
    assert one == again != other
    one.encode()


def test_text_of_bytes() -> None:
    text = "é – 日本 🙂"
    assert "".join(text_of(text.encode())) == text
    assert list(text_of("é".encode())) == ["é"]
    assert "".join(text_of([0x61, 0xFF, 0x62, 0xC3])) == "a\ufffdb\ufffd"


def test_what_cannot_be_sampled(base: Path, tmp_path: Path) -> None:
    with pytest.raises(DsvError, match="holds no run"):
        dsvgraph_torch.generate(tmp_path)
    folder = tmp_path / "run"
    shutil.copytree(base, folder)
    weights = folder / "checkpoint-6/model.safetensors"
    weights.write_bytes(b"nonsense")
    with pytest.raises(DsvError, match=r"model\.safetensors is damaged"):
        dsvgraph_torch.generate(folder)
    weights.unlink()
    with pytest.raises(DsvError, match=r"checkpoint-6 is not whole: there is no model\.safetensors in it"):
        dsvgraph_torch.generate(folder)
    shutil.rmtree(weights.parent)
    with pytest.raises(DsvError, match=r"holds no checkpoint, and run\.json says that there was one"):
        dsvgraph_torch.generate(folder)
    for options in (dict(tokens=0), dict(temperature=-1.0), dict(top_k=0)):
        with pytest.raises(DsvError, match="must be"):
            dsvgraph_torch.generate(base, **options)
