"""`dsvgraph export`: specs and runs become folders that transformers loads."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest
from typer.testing import CliRunner

import dsvgraph
import dsvgraph_torch
from dsvgraph.cli import app
from dsvgraph.passes.text.show import show

torch = pytest.importorskip("torch")
pytest.importorskip("transformers")

from folders import furthest_logits, pretrained, randomised, small  # noqa: E402

from dsvgraph_torch.runs.tensors import save_tensors  # noqa: E402

SIZES = (
    "hidden_size=16 num_hidden_layers=2 num_attention_heads=2 q_lora_rank=8 kv_lora_rank=8 qk_nope_head_dim=8 "
    "qk_rope_head_dim=4 v_head_dim=8 intermediate_size=24 moe_intermediate_size=8 n_routed_experts=4 "
    "num_experts_per_tok=2 n_group=2 topk_group=1"
)
TINY = ["deepseek_v3_tiny", *(word for pair in SIZES.split() for word in ("--set", pair))]


def dsv(*words: object) -> tuple[int, str]:
    """The exit code of a command and what it said."""
    done = CliRunner().invoke(app, [str(word) for word in words])
    assert "Traceback" not in done.output
    return done.exit_code, done.output


def test_a_spec_with_its_initial_weights(tmp_path):
    code, said = dsv("export", *TINY, "-o", tmp_path / "out", "--seed", 3, "--json")
    assert code == 0
    facts = json.loads(said)
    assert facts["class"] == "DeepseekV3ForCausalLM"
    assert sorted(facts["files"]) == sorted(path.name for path in (tmp_path / "out").iterdir())
    theirs, found = pretrained(tmp_path / "out")
    assert not found["missing_keys"] and not found["mismatched_keys"]
    assert {name.split(".")[2] for name in found["unexpected_keys"]} == {"2", "3"}  # the MTP modules
    settings = dict(pair.split("=") for pair in SIZES.split())
    model = dsvgraph.load("deepseek_v3_tiny", {name: int(value) for name, value in settings.items()})
    ours = dsvgraph_torch.compile(model, seed=3)
    assert furthest_logits(ours, theirs) < 1e-5


def test_without_the_mtp_modules_nothing_is_unexpected(tmp_path):
    assert dsv("export", *TINY, "-o", tmp_path / "out", "--drop-mtp")[0] == 0
    theirs, found = pretrained(tmp_path / "out")
    assert not any(found.values())
    assert theirs.config.num_mtp_layers == 0


@pytest.mark.parametrize("name", ["eagle", "medusa"])
def test_heads_of_any_kind_can_be_left_out(name, tmp_path):
    code, said = dsv("export", f"variants/{name}", *TINY[1:], "-o", tmp_path / "out", "--drop-mtp")
    assert code == 0, said
    _, found = pretrained(tmp_path / "out")
    assert not any(found.values())


def test_a_run_is_exported_with_what_it_has_learnt(tmp_path):
    model = small(num_nextn_predict_layers=0)
    ours = randomised(dsvgraph_torch.compile(model))
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "spec.yaml").write_text(show(model))
    save_tensors(tmp_path / "run" / "model.safetensors", ours.state_dict(), 1)
    code, said = dsv("export", tmp_path / "run", "-o", tmp_path / "out", "--max-shard-size", "20KB")
    assert code == 0
    assert "model.safetensors.index.json" in said.replace("\n", "")
    theirs, found = pretrained(tmp_path / "out")
    assert not any(found.values())
    assert furthest_logits(ours, theirs) < 1e-5
    for option, value in (("--set", "n_group=1"), ("--seed", 1)):
        code, said = dsv("export", tmp_path / "run", "-o", tmp_path / "other", option, value)
        assert code == 2
        assert "goes with a spec, not with a run" in said


def test_a_refusal_writes_nothing(tmp_path):
    code, said = dsv("export", "deepseek_moe_16b", "-o", tmp_path / "out", "--json")
    assert code == 1
    assert "no class of transformers computes this graph" in json.loads(said)["errors"][0]["message"]
    assert list(tmp_path.iterdir()) == []


def test_a_config_alone_needs_no_torch(tmp_path):
    words = ["dsvgraph", "export", "deepseek_v2_lite", "-o", str(tmp_path / "out"), "--config-only"]
    code = (
        f"import sys; sys.argv = {words!r}\n"
        "from dsvgraph.cli import app\n"
        "app(standalone_mode=False)\n"
        "print('imported:', *{'torch', 'transformers', 'numpy'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "imported:"
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["config.json"]
    assert json.loads((tmp_path / "out" / "config.json").read_text())["architectures"] == ["DeepseekV2ForCausalLM"]


def test_import_and_export_and_import(tmp_path):
    assert dsv("export", *TINY, "-o", tmp_path / "tiny", "--config-only")[0] == 0
    assert dsv("import", tmp_path / "tiny", "-o", tmp_path / "a.yaml")[0] == 0
    assert dsv("export", tmp_path / "a.yaml", "-o", tmp_path / "again" / "tiny", "--config-only")[0] == 0
    assert dsv("import", tmp_path / "again" / "tiny") == (0, (tmp_path / "a.yaml").read_text())
