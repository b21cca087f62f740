"""`dsvgraph cost --phase`: what is shown, what JSON and CSV hold, and what is refused."""

from __future__ import annotations

import csv
import io
import re
from pathlib import Path

import pytest


def test_a_training_step(dsv):
    out = dsv("cost", "deepseek_v3", "--phase", "train", "--device", "h200", "--mfu", 0.4, "--tokens", "14.8T").out
    assert out.startswith("DeepSeek-V3, train: 1 x 4,096 tokens, bfloat16, causal attention\n")
    assert "\nmemory, optimizer                     5,461,091,778,560  5.461 TB\n" in out
    assert "does NOT fit into one" in out
    assert "\nat MFU 40.00%: 1,518.4 tokens/s a device, 2,707,582 device hours for 14.80 T tokens\n" in out
    assert all(len(line) <= 100 for line in out.splitlines())


def test_decoding_with_drafts(dsv):
    out = dsv("cost", "deepseek_v3", "--phase", "decode", "--drafting", "--context", 8192, "--by", "role").out
    assert "one step of 1 row behind 8,192 tokens, bfloat16, absorbed attention" in out
    assert "\n     85%          1.850         -\n" in out
    assert "\nextra heads " in out


def test_the_default_shows_no_run(dsv):
    assert "memory" not in dsv("cost", "deepseek_v3_tiny").out


def test_json_and_csv_hold_the_same(dsv, tmp_path):
    words = ("cost", "deepseek_v3_tiny", "--phase", "decode", "--batch", 2, "--context", 100, "--device", "h100")
    data = dsv(*words, "--json").json
    assert dsv(*words, "--csv", tmp_path / "plan.csv").code == 0
    rows = list(csv.DictReader((tmp_path / "plan.csv").open(encoding="utf-8")))
    found = {row["name"]: (row["value"], row["unit"]) for row in rows}
    assert found["memory.cache"] == (str(data["memory"]["cache"]), "byte")
    assert found["flops.forward"] == (str(data["flops"]["forward"]), "FLOP")
    assert float(found["roofline.seconds"][0]) == data["roofline"]["seconds"]
    assert found["roofline.tokens_per_second"][1] == "token/s"


def test_csv_of_parts_and_of_counts(dsv):
    roles = list(csv.DictReader(io.StringIO(dsv("cost", "deepseek_v3_tiny", "--by", "role", "--csv", "-").out)))
    assert [row["role"] for row in roles][:2] == ["embedding", "attention"]
    assert sum(float(row["share"]) for row in roles) == pytest.approx(1)
    counts = dsv("cost", "deepseek_v3_tiny", "--csv", "-").out.splitlines()
    assert counts[0] == "name,value,unit"
    total = dsv("cost", "deepseek_v3_tiny", "--json").json["parameters"]["total"]
    assert f"parameters.total,{total},weight" in counts


NUMBERS = (
    (),
    ("--phase", "train", "--device", "h200", "--mfu", 0.4, "--tokens", "1T"),
    ("--phase", "decode", "--drafting", "--device", "h200", "--tokens-per-second", 100),
    ("--by", "role", "--device", "h200"),
)


@pytest.mark.parametrize("options", NUMBERS)
def test_every_name_and_unit_is_documented(dsv, options):
    lines = Path("docs/cost.md").read_text(encoding="utf-8").rpartition("| names | unit |")[2].splitlines()[2:]
    told = {(n, line.rpartition("| ")[2].rstrip(" |")) for line in lines for n in re.findall(r"`(\w+)`", line)}
    names = {name for name, _ in told}
    rows = list(csv.DictReader(io.StringIO(dsv("cost", "deepseek_v3_tiny", *options, "--csv", "-").out)))
    assert len(rows) > 5
    if "name" not in rows[0]:
        assert {name for name in rows[0] if not name.endswith("_formula")} <= {*names, "role"}
        return
    for row in rows:
        parts = [part for part in re.sub(r"by_op\.\w+", "by_op", row["name"]).split(".") if not part.isdigit()]
        assert all(part in names or part.endswith("_formula") for part in parts), row
        if row["unit"] and "symbolic" not in parts:
            assert (parts[-1], row["unit"]) in told, row


@pytest.mark.parametrize(
    ("options", "code", "words"),
    [
        (["--attention", "absorbed"], 2, "a way of decoding"),
        (["--phase", "train", "--mfu", "1.4"], 2, "share of the peak"),
        (["--phase", "train", "--mfu", "0.4"], 1, "need a device"),
        (["--phase", "train", "--device", "abacus"], 1, "no device is called `abacus`"),
        (["--tokens", "many"], 2, "no amount"),
        (["--device", "h100", "--tokens-per-second", "1e9"], 1, "more than NVIDIA H100 SXM can compute"),
        (["--drafting"], 1, "training runs every head"),
        (["--phase", "train", "--dtype", "float8"], 1, "float32 or bfloat16"),
        (["--verify", "--phase", "train"], 2, "goes with no option of a run"),
    ],
)
def test_what_is_refused(dsv, options, code, words):
    answer = dsv("cost", "deepseek_v3_tiny", *options)
    assert answer.code == code
    assert words in " ".join(answer.err.replace("│", " ").split())


def test_planning_needs_no_torch(program):
    answer = program(
        "cost", "deepseek_v3", "--phase", "train", "--device", "h200", env={"PYTHONPROFILEIMPORTTIME": "1"}
    )
    imported = {line.rpartition("|")[2].strip() for line in answer.err.splitlines()}
    assert answer.code == 0 and "dsvgraph.passes.estimate" in imported
    assert not {"torch", "numpy", "matplotlib"} & imported
