"""The forms in which `dsvgraph check` tells what is wrong, and `dsvgraph explain`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft7Validator

from dsvgraph import DsvError, load
from dsvgraph.cli import output
from dsvgraph.codes import Code

WRONG = """\
config: {d: 8, spare: 3}
graph:
  in: {ids: "int[B, T]"}
  body:
    e: {embedding: ids, num: 16, dim: d}
    wide: {linear: e, out: 2 * d}
    a: {add: [e, wide]}
    b: {silu: wid}
  out: {y: a}
"""
RIGHT = WRONG.replace("[e, wide]", "[e, e]").replace("wid}", "wide}").replace("y: a", "y: b")

TEXT = {"type": "object", "required": ["text"], "properties": {"text": {"type": "string", "minLength": 1}}}
REGION = {
    "type": "object",
    "required": ["startLine", "startColumn", "endLine", "endColumn"],
    "additionalProperties": {"type": "integer", "minimum": 1},
}
ARTIFACT = {"type": "object", "required": ["uri"], "properties": {"uri": {"type": "string", "format": "uri-reference"}}}
LOCATION = {
    "type": "object",
    "required": ["physicalLocation"],
    "properties": {
        "physicalLocation": {
            "type": "object",
            "required": ["artifactLocation", "region"],
            "properties": {"artifactLocation": ARTIFACT, "region": REGION},
            "additionalProperties": False,
        },
        "logicalLocations": {"type": "array"},
        "message": TEXT,
    },
    "additionalProperties": False,
}
RESULT = {
    "type": "object",
    "required": ["message"],
    "properties": {
        "message": TEXT,
        "level": {"enum": ["none", "note", "warning", "error"]},
        "ruleId": {"type": "string"},
        "ruleIndex": {"type": "integer", "minimum": 0},
        "locations": {"type": "array", "items": LOCATION},
        "relatedLocations": {"type": "array", "items": LOCATION},
        "fixes": {"type": "array", "items": {"type": "object", "required": ["artifactChanges"]}},
    },
    "additionalProperties": False,
}
RUN = {
    "type": "object",
    "required": ["tool"],
    "properties": {
        "tool": {
            "type": "object",
            "required": ["driver"],
            "properties": {
                "driver": {
                    "type": "object",
                    "required": ["name"],
                    "properties": {"rules": {"type": "array", "uniqueItems": True, "items": {"required": ["id"]}}},
                }
            },
        },
        "results": {"type": "array", "items": RESULT},
        "columnKind": {"enum": ["utf16CodeUnits", "unicodeCodePoints"]},
    },
    "additionalProperties": False,
}
SARIF = {  # what OASIS's schema of SARIF 2.1.0 says of the parts that are used
    "type": "object",
    "required": ["version", "runs"],
    "properties": {
        "$schema": {"type": "string", "format": "uri"},
        "version": {"const": "2.1.0"},
        "runs": {"type": "array", "items": RUN},
    },
    "additionalProperties": False,
}


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "wrong.yaml").write_text(WRONG)
    (tmp_path / "right.yaml").write_text(RIGHT)
    return tmp_path


def test_short(dsv: Any, folder: Path) -> None:
    answer = dsv("check", "wrong.yaml", "--format", "short")
    assert (answer.code, answer.err) == (1, "")
    assert answer.out == (
        "wrong.yaml:7:5: error[E0403]: operands have different shapes: [B, T, 8] against [B, T, 16]\n"
        "wrong.yaml:8:15: error[E0301]: there is no node or input `wid` here\n"
    )
    answer = dsv("check", "right.yaml", "--format", "short")
    assert (answer.code, answer.err) == (0, "")
    assert answer.out == "right.yaml:1:23: warning[W0101]: nothing uses the config value `spare`\n" + (
        "right.yaml:7:5: warning[W0102]: nothing depends on `a`\n"
    )


@pytest.mark.parametrize("options", [("--json",), ("--format", "json")])
def test_json(dsv: Any, folder: Path, options: tuple[str, ...]) -> None:
    answer = dsv("check", "wrong.yaml", *options)
    first, second = answer.json["errors"]
    assert (answer.code, first["code"], second["code"]) == (1, "E0403", "E0301")
    assert (first["expected"], first["found"]) == ("[B, T, 8]", "[B, T, 16]")
    assert [note["span"]["line"] for note in first["notes"]] == [5, 6, 1]
    place = {"file": "wrong.yaml", "line": 8, "column": 15, "width": 3}
    assert second["fix"] == {"span": place, "text": "wide"}
    assert dsv("check", "right.yaml", *options).json["ok"]


@pytest.mark.parametrize("name", ["wrong.yaml", "right.yaml", "nothing.yaml", "deepseek_v3"])
def test_sarif(dsv: Any, folder: Path, name: str) -> None:
    answer = dsv("check", name, "--format", "sarif")
    Draft7Validator(SARIF).validate(answer.json)
    (run,) = answer.json["runs"]
    rules = [rule["id"] for rule in run["tool"]["driver"]["rules"]]
    assert [rules[result["ruleIndex"]] for result in run["results"]] == [r["ruleId"] for r in run["results"]]
    assert all(result["level"] == ("warning" if name == "right.yaml" else "error") for result in run["results"])
    assert bool(run["results"]) == (name != "deepseek_v3")


def test_a_fix_in_sarif_makes_it_right(dsv: Any, folder: Path) -> None:
    (run,) = dsv("check", "wrong.yaml", "--format", "sarif").json["runs"]
    (change,) = run["results"][1]["fixes"][0]["artifactChanges"]
    (replacement,) = change["replacements"]
    region, lines = replacement["deletedRegion"], WRONG.splitlines()
    line = lines[region["startLine"] - 1]
    head, tail = line[: region["startColumn"] - 1], line[region["endColumn"] - 1 :]
    assert head + replacement["insertedContent"]["text"] + tail == RIGHT.splitlines()[7]


def test_strict_makes_errors_of_warnings(dsv: Any, folder: Path) -> None:
    assert dsv("check", "right.yaml").code == 0
    answer = dsv("check", "right.yaml", "--strict")
    assert answer.code == 1
    assert answer.err.startswith("error[W0101]: nothing uses the config value `spare`\n")
    assert answer.err.endswith("2 errors\n")


def test_warnings_that_are_asked_for(dsv: Any, folder: Path) -> None:
    (folder / "odd.yaml").write_text(RIGHT.replace("d: 8", "d: 9"))
    assert "W0301" not in dsv("check", "odd.yaml").out
    answer = dsv("check", "odd.yaml", "--warn", "alignment")
    assert answer.code == 0
    assert "warning[W0301]: `weight` of `e` is [16, 9]: 9 is no multiple of 8" in answer.out


def test_explain(dsv: Any) -> None:
    told = dsv("explain", "e0301").out
    assert told.startswith("E0301: there is no such node or input\n")
    assert "\nWrong:\n\n    graph:\n" in told and "\nRight:\n\n    graph:\n" in told
    assert dsv("explain", "E0301", "--json").json["code"] == "E0301"
    answer = dsv("explain", "E0331")
    assert (answer.code, answer.err) == (1, "error: there is no code `E0331`\n  = help: did you mean `E0313`?\n")


def test_explain_lists_all(dsv: Any) -> None:
    told = dsv("explain").out
    assert [line.split()[0] for line in told.splitlines() if line.startswith("  ")] == [str(code) for code in Code]
    assert [story["code"] for story in dsv("explain", "--json").json] == [str(code) for code in Code]


def test_show_where_values_come_from(dsv: Any) -> None:
    told = dsv("show", "deepseek_v3_tiny", "--origin", "--set", "hidden_size=256").out
    lines = [" ".join(line.split()) for line in told.splitlines()]
    at = lines.index("hidden_size 256 --set")
    assert [line.split()[:2] for line in lines[at + 1 : at + 3]] == [["over", "128"], ["over", "7168"]]
    assert "deepseek_v3_tiny.yaml:" in lines[at + 1] and "deepseek_v3.yaml:" in lines[at + 2]
    found = dsv("show", "deepseek_v3_tiny", "--origin", "--json").json
    assert found["config"][0]["over"][0]["text"] == "129280"
    (call,) = [c for c in found["calls"] if c["line"] == "DeepSeek-V3-tiny > sparse"]
    assert {"name": "ffn", "value": "moe", "how": "line"}.items() <= call["arguments"][-1].items()


def test_a_terminal_is_told_in_its_width(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", "60")
    monkeypatch.setenv("NO_COLOR", "1")
    monkeypatch.setattr(output, "is_terminal", lambda stream: True)
    with pytest.raises(DsvError) as caught:
        load("wrong.yaml")
    output.errors(caught.value)
    told = capsys.readouterr().err
    assert told.startswith(
        "error[E0403]: operands have different shapes: [B, T, 8]\n  against [B, T, 16]\n --> wrong.yaml:7:5\n"
    )
    assert told.endswith("\n2 errors\n")
    assert "\n`dsvgraph explain E0301` tells more\n" in told
