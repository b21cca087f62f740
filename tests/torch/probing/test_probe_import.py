"""A folder of Hugging Face weights: its acceptance is that of transformers' own layers, wired as released."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest
import torch

transformers = pytest.importorskip("transformers")

from folders import pretrained  # noqa: E402
from helpers import hub_stacked  # noqa: E402
from safetensors.torch import load_file  # noqa: E402
from typer.testing import CliRunner  # noqa: E402

import dsvgraph  # noqa: E402
from dsvgraph.backends import exporter  # noqa: E402
from dsvgraph.backends.probes import ProbeOptions  # noqa: E402
from dsvgraph.cli import app  # noqa: E402
from dsvgraph.errors import DsvError  # noqa: E402
from dsvgraph_torch.probing.prober import probe  # noqa: E402

TEXT = "\n".join(f"{n} bottles of beer on the wall, {n} bottles." for n in (7, 31, 88, 4, 62, 19, 53, 90)) * 2
LAYERS = 2
DOCS = Path(__file__).parents[3] / "docs"


@pytest.fixture(scope="module")
def folder(trained, tmp_path_factory):
    found = tmp_path_factory.mktemp("weights") / "out"
    exporter().export(dsvgraph.load(str(trained / "spec.yaml")), found, run=trained)
    return found


@torch.no_grad()
def test_acceptance_is_that_of_transformers(folder):
    found = probe(folder, ProbeOptions(text=TEXT, device="cpu", mtp_matrix=True, gradients=False))
    theirs, _ = pretrained(folder)
    theirs.eval()
    weights = load_file(folder / "model.safetensors")
    ids = list(TEXT.encode())
    guesses = {"mtp.1": 0, "mtp.2": 0}
    counts = dict(guesses)
    for start in range(0, len(ids) - found.row_tokens, found.row_tokens):
        row = torch.tensor([ids[start : start + found.row_tokens]])
        h = theirs.model(row).last_hidden_state
        main = theirs.lm_head(h).argmax(-1)[0]
        for depth in (1, 2):
            h = mtp_layer(theirs, weights, LAYERS + depth - 1, h, row, depth)
            said, length = theirs.lm_head(h).argmax(-1)[0], row.shape[1] - depth
            guesses[f"mtp.{depth}"] += int((said[:length] == main[depth:]).sum())
            counts[f"mtp.{depth}"] += length
    assert found.rows == 2 and found.newest.step == 0
    for row in found.newest.acceptance:
        assert row.agreement.count == counts[row.name]
        assert row.agreement.value == pytest.approx(guesses[row.name] / counts[row.name], abs=2 / counts[row.name])
    assert found.newest.acceptance[0].agreement.value > 0.5 and found.matrix.wirings[0].declared


def mtp_layer(theirs, weights, layer, h, row, depth):
    """One depth out of transformers' parts, as the released weights are wired; its state after its norm."""
    from transformers.models.deepseek_v3.modeling_deepseek_v3 import DeepseekV3DecoderLayer, DeepseekV3RMSNorm

    own = {name.removeprefix(f"model.layers.{layer}."): w for name, w in weights.items() if f"layers.{layer}." in name}

    def norm(name, x):
        made = DeepseekV3RMSNorm(x.shape[-1], eps=theirs.config.rms_norm_eps)
        made.weight.copy_(own[name + ".weight"])
        return made(x)

    embedded = theirs.model.embed_tokens(torch.roll(row, -depth, 1))
    x = torch.cat([norm("enorm", embedded), norm("hnorm", h)], -1) @ own["eh_proj.weight"].T
    block = DeepseekV3DecoderLayer(theirs.config, LAYERS - 1).eval()
    stacked = hub_stacked(
        {name: w for name, w in own.items() if name.startswith(("self_attn", "mlp", "input", "post"))}
    )
    block.load_state_dict(stacked)
    at = torch.arange(row.shape[1])[None]
    mask = torch.full((row.shape[1],) * 2, float("-inf")).triu(1)[None, None]
    made = block(x, attention_mask=mask, position_embeddings=theirs.model.rotary_emb(x, at), position_ids=at)
    return norm("shared_head.norm", made if isinstance(made, torch.Tensor) else made[0])


def test_what_weights_alone_cannot_answer_is_said(folder):
    with pytest.raises(DsvError, match="there is no held-out text"):
        probe(folder, ProbeOptions(device="cpu"))
    with pytest.raises(DsvError, match="it holds the weights of one moment"):
        probe(folder, ProbeOptions(text=TEXT, over_training=True, device="cpu"))


def test_the_examples_of_the_page_run(folder, trained, tmp_path, monkeypatch, capsys):
    """Every command and the Python of docs/probe.md, on few rows."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "corpus.txt").write_text(TEXT)
    page = (DOCS / "probe.md").read_text(encoding="utf-8")
    commands = re.findall(r"^\$ dsvgraph (probe .*?)(?:  +#.*)?$", page, re.MULTILINE)
    assert len(commands) == 5
    for command in commands:
        places = {"runs/mine": str(trained), "path/to/weights": str(folder)}
        words = [places.get(word, word) for word in shlex.split(command)]
        shown = CliRunner().invoke(app, [*words, "--measure", "300", "--device", "cpu"])
        assert shown.exit_code == 0, shown.output
    assert (tmp_path / "a.html").read_text(encoding="utf-8").startswith("<!doctype html>")
    (code,) = re.findall(r"^```python\n(.*?)^```$", page, re.MULTILINE | re.DOTALL)
    few = code.replace("mtp_matrix=True", "mtp_matrix=True, measured=300, device='cpu'")
    assert few != code
    exec(few, {"folder": trained})
    assert float(capsys.readouterr().out.split()[0]) > 2
