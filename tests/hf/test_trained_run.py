"""A trained run, exported and read by transformers, has the held-out loss that the run has written down."""

from __future__ import annotations

import json

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("transformers")

import runs  # noqa: E402
from folders import pretrained  # noqa: E402
from test_export_command import dsv  # noqa: E402

from dsvgraph_torch.data.text import load_corpus  # noqa: E402
from dsvgraph_torch.training.heldout import EVAL_TOKENS  # noqa: E402


def test_transformers_has_the_same_held_out_loss(tmp_path, monkeypatch):
    runs.plain(monkeypatch)
    runs.run(tmp_path, steps=40, lr=1e-2, eval_every=40)
    last = json.loads((tmp_path / "run" / "metrics.jsonl").read_text().splitlines()[-1])
    code, said = dsv("export", tmp_path / "run", "-o", tmp_path / "out")
    assert code == 0, said
    theirs, _ = pretrained(tmp_path / "out")
    corpus = load_corpus(tmp_path / "text", 4, 16)
    sums = count = 0.0
    for batch in corpus.heldout_batches(64, 16, EVAL_TOKENS // 16):
        with torch.no_grad():
            logits = theirs.eval()(batch.inputs).logits
        sums += torch.nn.functional.cross_entropy(logits.flatten(0, 1), batch.targets.flatten(), reduction="sum").item()
        count += batch.targets.numel()
    assert last["losses"]["next_token"] < 4.5  # it has learnt: 5.5 at first
    assert abs(sums / count - last["heldout"]["next_token"]) < 1e-4
