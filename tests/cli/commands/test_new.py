"""A new spec checks and trains as it is; what is there is left alone."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from dsvgraph import load
from dsvgraph.loader import bundled

TEMPLATES = sorted(path.stem for path in (bundled() / "templates").glob("*.yaml"))
STEPS = ["--train", "--steps", "2", "--batch", "2", "--seq", "32", "--eval-every", "2"]


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("text.txt").write_text("the quick brown fox jumps over the lazy dog\n" * 60)
    return tmp_path


@pytest.mark.parametrize("template", TEMPLATES)
def test_a_new_spec_checks(template, dsv, here):
    answer = dsv("new", "Mine-1", "--template", template)
    assert (answer.code, answer.err) == (0, "")
    found = dsv("check", "Mine-1.yaml", "--json").json
    assert (found["name"], found["ok"], found["warnings"]) == ("Mine-1", True, [])


@pytest.mark.parametrize("template", TEMPLATES)
def test_a_new_spec_trains(template, dsv, here, monkeypatch):
    pytest.importorskip("torch")
    monkeypatch.setattr("dsvgraph_torch.training.loop.SAMPLE_TOKENS", 4)
    dsv("new", "mine", "--template", template)
    answer = dsv("compile", "mine.yaml", *STEPS, "--data", "text.txt", "--out", "run", "--device", "cpu")
    assert answer.code == 0, answer.err
    losses = [json.loads(line)["loss"] for line in Path("run/metrics.jsonl").read_text().splitlines() if "loss" in line]
    assert losses[-1] < losses[0]


def test_the_commands_that_it_names_work(dsv, here):
    text = dsv("new", "mine", "--template", "mtp").out
    commands = re.findall(r"^  dsvgraph (.*?) +#", text, re.MULTILINE)
    assert [command.split()[0] for command in commands] == ["check", "cost", "render", "compile"]
    for command in commands[:2]:
        assert dsv(*command.split()).code == 0


def test_the_chain_may_be_any_length(dsv, here):
    dsv("new", "mine", "--template", "mtp")
    assert [load("mine.yaml", {"num_nextn_predict_layers": depth}).depths for depth in (0, 1, 3)] == [0, 1, 3]


def test_the_file_may_be_named(dsv, here):
    assert dsv("new", "mine", "-o", "other.yml").code == 0
    assert load("other.yml").name == "mine"


@pytest.mark.parametrize("kind", ["file", "folder", "link to nothing"])
def test_nothing_is_overwritten(kind, dsv, here):
    path = Path("mine.yaml")
    {"file": lambda: path.write_text("mine"), "folder": path.mkdir, "link to nothing": lambda: path.symlink_to("x")}[
        kind
    ]()
    answer = dsv("new", "mine")
    assert (answer.code, answer.out) == (1, "")
    assert answer.err.startswith("error: `mine.yaml` is there already\n")
    assert kind != "file" or path.read_text() == "mine"
    assert not Path("x").exists()


@pytest.mark.parametrize(
    "name", ["", "1", "a/b", "../a", "a.yaml", "a b", "-a", "a\n", "é", "a" * 65, "true", "null", "~"]
)
def test_wrong_names_are_a_matter_of_usage(name, dsv, here):
    answer = dsv("new", "--", name)
    assert (answer.code, answer.out) == (2, "")
    assert "NAME" in answer.err
    assert sorted(p.name for p in here.iterdir()) == ["text.txt"]


def test_an_unknown_template(dsv, here):
    answer = dsv("new", "mine", "--template", "mpt")
    assert answer.code == 2
    assert "did you mean `mtp`?" in answer.err


def test_a_folder_that_is_not_there(dsv, here):
    answer = dsv("new", "mine", "-o", "no/where.yaml")
    assert (answer.code, answer.err) == (1, "error: cannot write no/where.yaml: No such file or directory\n")


def test_the_help_names_every_template(dsv):
    told = re.findall(r"(\w+): ", " ".join(dsv("new", "--help").out.split()).partition("--template")[2])
    assert sorted(set(told) - {"default"}) == TEMPLATES
