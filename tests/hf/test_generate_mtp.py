"""A trained run, exported: transformers drafts with its MTP modules and gives the tokens of plain decoding."""

import re

import pytest

import dsvgraph_hf
import dsvgraph_torch

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")

from folders import exported, furthest_logits, pretrained  # noqa: E402
from runs import QUICK, TEXT, plain, quiet, small  # noqa: E402
from transformers.generation.candidate_generator import MTPCandidateGenerator  # noqa: E402

from dsvgraph_torch.decoding.rows import Rows  # noqa: E402

LAYERS = 2


@pytest.fixture(params=[1, 2])
def trained(request, tmp_path, monkeypatch):
    """The folder of a short run with MTP depth 1 or 2, its spec and its depth."""
    plain(monkeypatch)
    (tmp_path / "text").write_bytes(TEXT)
    model = small(num_nextn_predict_layers=request.param, hidden_size=32)
    options = QUICK | dict(steps=70, batch=8, seq=48, save_every=70, eval_every=70, lr=1e-2)
    dsvgraph_torch.train(model, options | dict(data=tmp_path / "text", out=tmp_path / "run"), quiet())
    return tmp_path / "run", model, request.param


@torch.no_grad()
def test_drafting_gives_the_tokens_of_greedy_decoding(trained, tmp_path, monkeypatch):
    run, model, depth = trained
    exported(model, tmp_path / "out", run=run)
    theirs, found = pretrained(tmp_path / "out")
    assert not found["missing_keys"]
    modules = [rf"model\.layers\.{LAYERS + k}.*" for k in range(depth)]  # its own pattern knows layer 61 alone
    assert all(re.match("|".join(modules), name) for name in found["unexpected_keys"])
    monkeypatch.setattr(transformers.DeepseekV3ForCausalLM, "_keys_to_ignore_on_load_unexpected", modules)
    theirs, found = pretrained(tmp_path / "out")
    assert not any(found.values()), found
    assert furthest_logits(dsvgraph_hf.load(model, tmp_path / "out"), theirs) < 1e-5
    theirs.config.num_mtp_layers = depth
    taken = {"theirs": [], "ours": []}
    monkeypatch.setattr(
        MTPCandidateGenerator, "update_candidate_strategy", lambda *args: taken["theirs"].append(int(args[-1]))
    )
    monkeypatch.setattr(Rows, "_measure", measured(Rows._measure, taken["ours"]))
    prompt = torch.tensor([list(b"57 bottles of beer on the wall, ")])
    passes = []
    theirs.model.register_forward_hook(lambda *_: passes.append(1))
    told = dict(max_new_tokens=40, do_sample=False)
    want = theirs.generate(prompt, **told)
    assert len(passes) == 40
    passes.clear()
    assert torch.equal(theirs.generate(prompt, use_mtp=True, **told), want)
    assert len(set(want[0, 32:].tolist())) > 5
    assert len(passes) < 40  # drafts were taken
    ours = dsvgraph_torch.continuations(
        tmp_path / "out", ["57 bottles of beer on the wall, "],
        {"tokens": 40, "temperature": 0, "draft": "mtp", "context": 200}, model,
    )  # fmt: skip
    ids = [token for _, new in ours._tokens() for token in new]
    assert ids == want[0, 32:].tolist()
    assert ours.rows.counts.steps == len(taken["ours"]) == len(passes) - 1  # a pass reads the prompt
    assert taken["ours"][:-1] == taken["theirs"][1:-1]  # each step accepts as many drafts
    assert taken["ours"][-1] >= taken["theirs"][-1]  # which does not count those behind the last token


def measured(measure, taken):
    """Rows._measure, that remembers how many drafts each step accepted."""
    return lambda self, accepted: taken.append(accepted) or measure(self, accepted)
