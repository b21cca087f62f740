"""What the commands print on the bundled specs, for people and as JSON."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from dsvgraph import loads
from dsvgraph.loader import bundled

SPECS = sorted(path.stem for path in bundled().glob("*.yaml"))


@pytest.mark.parametrize("spec", SPECS)
def test_check(spec, dsv):
    answer = dsv("check", spec)
    assert (answer.code, answer.err) == (0, "")
    assert "parameters" in answer.out
    found = dsv("check", spec, "--json").json
    assert found["ok"] is True
    assert found["name"] in answer.out
    assert found["warnings"] == []
    assert set(found) == {"name", "ok", "warnings", "summary"}


def test_check_warns(dsv, small):
    path = small("head:", "idle:  {rms_norm: trunk}\n    head:")
    answer = dsv("check", path)
    assert answer.code == 0
    assert "\nwarning[W0102]: nothing depends on `idle`\n" in answer.out
    assert "small.yaml:20:5" in answer.out
    (warning,) = dsv("check", path, "--json").json["warnings"]
    assert (warning["span"]["line"], warning["span"]["column"]) == (20, 5)


def test_check_in_words(dsv, golden):
    golden("cli/check_deepseek_v3.txt", dsv("check", "deepseek_v3").out)


@pytest.mark.parametrize("spec", SPECS)
def test_show_checks_to_the_same(spec, dsv, tmp_path):
    shown = dsv("show", spec)
    assert shown.code == 0
    path = tmp_path / "shown.yaml"
    path.write_text(shown.out, encoding="utf-8")
    assert dsv("show", path).out == shown.out
    assert dsv("cost", path, "--json").json["parameters"] == dsv("cost", spec, "--json").json["parameters"]


def test_show_has_the_settings(dsv):
    answer = dsv("show", "deepseek_v3", "--set", "rms_norm_eps=1e-5", "--set", "hidden_size = 1024")
    assert loads(answer.out).config["hidden_size"] == 1024
    assert loads(answer.out).config["rms_norm_eps"] == 1e-5


def test_the_last_of_equal_settings_holds(dsv):
    settings = ("--set", "hidden_size=512", "--set", "hidden_size=1024")
    assert loads(dsv("show", "deepseek_v3", *settings).out).config["hidden_size"] == 1024


def test_set_reads_yaml(dsv):
    """Lists and mappings, and `no` is a word."""
    scaling = "rope_scaling={type: yarn, factor: 8, original_max_position_embeddings: 4096, mscale_all_dim: 1.0}"
    assert "factor: 8" in dsv("show", "deepseek_v3", "--set", scaling).out
    assert "`hidden_act` holds `no`" in dsv("check", "deepseek_v3", "--set", "hidden_act=no").err


def test_cost(dsv):
    found = dsv("cost", "deepseek_v3", "--json").json
    assert {"name", "batch", "seq", "parameters", "flops", "kv_cache", "symbolic"} <= set(found)
    assert (found["name"], found["batch"], found["seq"]) == ("DeepSeek-V3", 1, 4096)
    assert found["parameters"]["inference"] == 671_026_419_200  # as published, with the selection biases
    assert found["parameters"]["total"] == 671_026_419_200 + 11_610_068_224
    assert found["kv_cache"] == found["kv_cache"] | {"elements_per_token": 35_136, "bytes_per_token": 70_272}
    assert found["flops"]["attention"] == "causal"


def test_cost_of_other_batches(dsv):
    one = dsv("cost", "deepseek_v3_tiny", "--seq", "64", "--json").json
    four = dsv("cost", "deepseek_v3_tiny", "--seq", "64", "--batch", "4", "--json").json
    assert four["flops"]["forward"] == 4 * one["flops"]["forward"]
    full = dsv("cost", "deepseek_v3_tiny", "--seq", "64", "--attention", "full", "--json").json
    assert full["flops"]["forward"] > one["flops"]["forward"]


def test_cost_in_tables(dsv, golden):
    answer = dsv("cost", "deepseek_v3")
    golden("cli/cost_deepseek_v3.txt", answer.out)
    assert max(map(len, answer.out.splitlines())) <= 100
    assert "671,026,419,200" in answer.out
    assert "671026419200 + 11610068224*D" in answer.out


def test_cost_of_a_model_without_heads(dsv, small):
    answer = dsv("cost", small())
    assert answer.code == 0
    assert "inference drops" not in answer.out


def test_diff(dsv, golden):
    answer = dsv("diff", "deepseek_v3", "deepseek_v3_paper")
    golden("cli/diff_deepseek_v3_paper.txt", answer.out)
    found = dsv("diff", "deepseek_v3", "deepseek_v3_paper", "--json").json
    assert (found["a"], found["b"]) == ("DeepSeek-V3", "DeepSeek-V3 (paper)")
    assert {change["line"] for change in found["rewired"]} == {"mtp", "eh", "out h"}
    assert found["cost"]["delta"]["parameters"]["total"] == 0


def test_diff_of_equals(dsv):
    assert dsv("diff", "deepseek_v3", "deepseek_v3").out == "DeepSeek-V3 -> DeepSeek-V3: no difference\n"


def test_diff_of_depths(dsv, golden):
    found = dsv("diff", "deepseek_v3", "--mtp", "0,1,2", "--json").json
    assert [cost["parameters"]["total"] for cost in found] == [
        671_026_419_200 + depth * 11_610_068_224 for depth in (0, 1, 2)
    ]
    assert {cost["parameters"]["inference"] for cost in found} == {671_026_419_200}
    golden("cli/diff_deepseek_v3_depths.txt", dsv("diff", "deepseek_v3", "--mtp", "0,1,2").out)


def test_diff_of_settings(dsv):
    found = dsv("diff", "deepseek_v3", "--set", "num_hidden_layers=62", "--json").json
    assert found["config"] == [{"name": "num_hidden_layers", "before": "61", "after": "62"}]
    assert found["cost"]["delta"]["kv_cache"]["elements_per_token"] == 576


def test_diff_of_depths_needs_a_chain(dsv, small):
    answer = dsv("diff", small(), "--mtp", "0,1")
    assert answer.code == 1
    assert "num_nextn_predict_layers" in answer.err


def test_render(dsv, small):
    answer = dsv("render", small(), "-o", "out.dot")
    assert (answer.code, answer.out) == (0, "out.dot\n")
    assert Path("out.dot").read_text().startswith("digraph")
    assert sorted(os.listdir()) == ["out.dot", "small.yaml"]


def test_schema_is_json(dsv):
    assert dsv("schema").json["$schema"] == "https://json-schema.org/draft/2020-12/schema"


def test_version(dsv):
    from dsvgraph import __version__

    assert dsv("--version").out == f"dsvgraph {__version__}\n"


def test_help_names_every_command(dsv):
    out = dsv("--help").out
    for command in ("check", "show", "cost", "diff", "render", "compile", "generate", "schema"):
        assert f"  {command} " in out
    bare = dsv()
    assert (bare.code, bare.err) == (2, out)
