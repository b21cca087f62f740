"""Wrong input: the place, what was expected and found, the nearest name; an exit code and no traceback."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from dsvgraph.loader import bundled

WRONG = {  # what is written instead of what, the guilty word in it, words of the message
    "unknown op": ("silu: up", "siluu: up", "siluu", "no op or block `siluu`", "did you mean `silu`?"),
    "unknown section": ("config:", "confg:", "confg", "unknown key `confg`", "did you mean `config`?"),
    "unknown attribute": ("out: d}", "outt: d}", "outt", "`outt`", "did you mean `out`?"),
    "unknown argument": ("repeat: layers", "widht: 3", "widht", "`widht`", "did you mean `width`?"),
    "misspelt reference": ("linear: act", "linear: actt", "actt", "no node or input `actt`", "mean `act`?"),
    "misspelt config name": ("num: vocab", "num: vocb", "vocb", "no name `vocb`", "did you mean `vocab`?"),
    "size mismatch": ("out: d}\n      y:", "out: d + 1}\n      y:", "y:", "[B, T, 8]", "[B, T, 9]", "`down"),
    "missing argument": ("args: {d, width: d * 2}", "args: {d, width}", "", "needs the argument `width`"),
    "missing attribute": ("linear: norm, out: width", "linear: norm", "linear", "needs the attribute `out`"),
    "block recursion": ("act:  {silu: up}", "act:  {layer: up}", "act", "layer -> layer"),
    "unwired input": ("layer: embed", "layer: {}", "layer", "input `x` of `layer` is not wired", "declared"),
    "carried port changes type": (
        "repeat: layers", "repeat: layers, width: 3, d: 4", "", "expected [B, T, d]", "[B, T, 8]"
    ),
    "bad YAML": ("{silu: up}", "{silu: up", "", "this is not YAML", "expected ',' or '}'"),
    "repeated key": ("vocab: 256", "d: 9", "d: 9", "`d` is given twice", "first here"),
    "Python tag": ("d: 8", "d: !!python/object/apply:os.system [ls]", "!!python", "tags such as", "remove"),
    "negative size": ("d: 8", "d: -8", "", "at least 1, found -8"),
    "huge size": ("d: 8", "d: 1e30", "", "at most 2**50, found 1"),
    "huge count": ("layers: 2", "layers: 1000000", "", "at most", "copies, found 1,000,000"),
    "no expression": ("dim: d", "dim: d +", "d +", "`d +`", "ends where"),
    "unknown output": ("cross_entropy: logits", "cross_entropy: logit", "logit", "did you mean `logits`?"),
    "label leak": (
        "trunk: {layer: embed", "ahead: {shift: embed}\n    trunk: {layer: ahead", "",
        "label leak: `logits` predicts token i + 1", "this looks ahead",
    ),
    "wrong shift": ("shift: 1}", "shift: 0}", "0}", "at least 1, found 0"),
    "unknown init": ("loss:", "init: {'**': norml}\nloss:", "norml", "no initialisation", "normal"),
    "missing include": ("config:", "include: [blocks/ml.yaml]\nconfig:", "blocks/ml.yaml", "mean `blocks/ml"),
    "outside include": ("config:", "include: [/etc/passwd]\nconfig:", "/etc/passwd", "outside"),
}  # fmt: skip


@pytest.mark.parametrize("case", WRONG)
def test_wrong_spec(case, dsv, small):
    old, new, guilty, *words = WRONG[case]
    path = small(old, new)
    answer = dsv("check", path)
    assert answer.code == 1
    assert not answer.out
    for word in words:
        assert word in answer.err
    if guilty:
        text = path.read_text(encoding="utf-8")
        at = text.index(new) + new.index(guilty)
        place = f"{path}:{text.count(chr(10), 0, at) + 1}:{at - text.rfind(chr(10), 0, at)}"
        assert place in answer.err
    else:
        assert f"{path}:" in answer.err


def test_carried_port_that_changes_type(dsv, small):
    path = small("y:    {add: [x, down]}", "y:    {linear: down, out: d * 2}")
    answer = dsv("check", path)
    assert answer.code == 1
    assert "`x` is carried" in answer.err
    assert "[B, T, 8] goes in, [B, T, 16] comes out" in answer.err
    assert f"{path}:19:" in answer.err


def test_every_mistake_is_told_and_no_consequence_of_one(dsv, small):
    path = small("linear: norm", "linear: normm")
    path.write_text(path.read_text().replace("[x, down]", "[xx, down]"))
    answer = dsv("check", path)
    assert answer.err.count("error[") == 2
    assert "2 errors" in answer.err


def test_errors_as_json(dsv, small):
    answer = dsv("check", small("silu: up", "siluu: up"), "--json")
    assert answer.code == 1
    assert not answer.err
    (error,) = answer.json["errors"]
    assert error["span"] == {"file": "small.yaml", "line": 10, "column": 14, "width": 5}
    assert error["help"] == "did you mean `silu`?"
    assert answer.json["ok"] is False


@pytest.mark.parametrize("command", ["check", "show", "cost", "render", "compile"])
def test_every_command_tells_of_a_wrong_spec(command, dsv, small):
    answer = dsv(command, small("silu: up", "siluu: up"))
    assert (answer.code, answer.out) == (1, "")
    assert "small.yaml:10:14" in answer.err
    assert os.listdir() == ["small.yaml"]


BOMB = b"a: &a [x]\n" + b"".join(b"%c: &%c [%s]\n" % (c, c, b", ".join([b"*%c" % (c - 1)] * 9)) for c in b"bcdefghi")
FILES = {
    "bomb": (BOMB, "once its aliases are followed"),
    "binary": (b"\x89PNG\r\n\x1a\n\0\0", "is not UTF-8 text"),
    "empty": (b"", "a spec is a mapping"),
    "list": (b"- a\n- b\n", "a spec is a mapping"),
    "control": (b"name: a\x07b\n", "not YAML"),
    "two documents": (b"name: a\n---\nname: b\n", "one document"),
    "deep": (b"name: " + b"[" * 1000, "deep"),
    "a block only": (b"name: a\nblocks: {}\n", "no `graph`"),
    "big": (b"#" * 3_000_000, "the most that such a file may have"),
}  # fmt: skip


@pytest.mark.parametrize("case", FILES)
def test_wrong_file(case, dsv, tmp_path):
    data, words = FILES[case]
    path = tmp_path / "wrong.yaml"
    path.write_bytes(data)
    answer = dsv("check", path)
    assert (answer.code, answer.out) == (1, "")
    assert words in answer.err


def test_a_misspelt_name(dsv):
    answer = dsv("check", "deepseek_v33")
    assert answer.code == 1
    assert "no spec `deepseek_v33`" in answer.err
    assert "did you mean `deepseek_v3`?" in answer.err


@pytest.mark.parametrize("path", [".", "/dev/null", "a" * 5000])
def test_what_is_no_file(path, dsv):
    answer = dsv("check", path)
    assert answer.code == 1
    assert answer.err.startswith(("error: ", "error["))
    assert len(answer.err) < 1000


# -- options -------------------------------------------------------------------------------------


def test_set_of_an_unknown_name(dsv):
    answer = dsv("check", "deepseek_v3", "--set", "hiden_size=3")
    assert answer.code == 1
    assert "--set: the spec has no config value `hiden_size`" in answer.err
    assert "did you mean `hidden_size`?" in answer.err


@pytest.mark.parametrize("text", ["d", "=3", "3=d", "d=[1", "d={a: 1, a: 2}", "d=!!python/none", "d=*a", "a b=1"])
def test_malformed_set(text, dsv, small):
    answer = dsv("check", small(), "--set", text)
    assert (answer.code, answer.out) == (2, "")
    assert "--set" in answer.err
    assert f"`{text}`" in answer.err


@pytest.mark.parametrize("text", ["d=-8", "d=1e30", "d=abc", "d=", "d=0.5", "d=[1, 2]", "layers=-1"])
def test_a_wrong_value_is_blamed_on_set(text, dsv, small):
    answer = dsv("check", small(), "--set", text)
    assert answer.code == 1
    name = text.split("=")[0]
    assert f"--set:1:{len(name) + 2}\n" in answer.err
    assert f"1 | {name}=" in answer.err
    assert "small.yaml:1" in answer.err  # the line that reads it


USAGE = [
    ("chek", "deepseek_v3"),
    ("check",),
    ("check", "deepseek_v3", "--jsn"),
    ("cost", "deepseek_v3", "--batch", "0"),
    ("cost", "deepseek_v3", "--seq", "-1"),
    ("cost", "deepseek_v3", "--seq", "many"),
    ("cost", "deepseek_v3", "--attention", "half"),
    ("diff", "deepseek_v3"),
    ("diff", "deepseek_v3", "deepseek_v3", "--mtp", "0,1"),
    ("diff", "deepseek_v3", "--mtp", "0,x"),
    ("diff", "deepseek_v3", "--mtp", "-1"),
    ("render", "deepseek_v3", "-o", "model.gif"),
    ("render", "deepseek_v3", "--depth", "-1"),
    ("compile", "deepseek_v3", "--steps", "3"),
    ("compile", "deepseek_v3", "--train", "--steps", "0"),
    ("compile", "deepseek_v3", "--train", "--dtype", "int8"),
    ("generate",),
    ("generate", "run", "--tokens", "0"),
    ("generate", "run", "--temperature", "-1"),
]


@pytest.mark.parametrize("args", USAGE, ids=" ".join)
def test_usage(args, dsv):
    answer = dsv(*args)
    assert (answer.code, answer.out) == (2, "")
    assert "Usage: " in answer.err
    assert "Error: " in answer.err


# -- files and streams ----------------------------------------------------------------------------


def test_a_full_disk(dsv, small, monkeypatch):
    path = small()
    Path("small.dot").write_text("old")

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr("os.replace", full)
    answer = dsv("render", path, "-o", "small.dot")
    assert answer.code == 1
    assert "small.dot" in answer.err
    assert "No space left on device" in answer.err
    assert Path("small.dot").read_text() == "old"
    assert sorted(os.listdir()) == ["small.dot", "small.yaml"]


def test_an_output_that_cannot_be(dsv, small):
    path = small()
    Path("folder.dot").mkdir()
    for output in ("folder.dot", "no/such/a.dot"):
        answer = dsv("render", path, "-o", output)
        assert (answer.code, answer.out) == (1, "")
        assert "folder" in answer.err
    assert sorted(os.listdir()) == ["folder.dot", "small.yaml"]


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="this system has no /dev/full")
@pytest.mark.parametrize("args", [("show", "deepseek_v3"), ("check", "nothing", "--json"), ("--help",)])
def test_a_full_disk_behind_standard_output(args, program):
    with open("/dev/full", "wb") as full:
        answer = program(*args, stdout=full, stderr=-1, capture_output=False)
    assert answer.code == 1
    assert answer.err.startswith(("error: ", "error["))


def test_the_library_is_whole():
    """The bundled specs are what these tests speak of."""
    assert {"deepseek_v3.yaml", "deepseek_v3_paper.yaml", "deepseek_v3_tiny.yaml"} <= {*os.listdir(bundled())}


def test_a_setting_is_not_echoed_raw(dsv):
    for text in ("d=\x1b[2J", "\x1b[2J=1"):
        answer = dsv("check", "deepseek_v3", "--set", text)
        assert answer.code == 2
        assert "\x1b" not in answer.out + answer.err
