"""`dsvgraph fmt`: files in the canonical style, written whole or not at all."""

from __future__ import annotations

import os

import pytest
from typer.testing import CliRunner

UGLY = "name:   'a'\nloss: {b: {c: 1}}   # what\n"
CLEAN = "name: a\n\nloss: {b: {c: 1}}                          # what\n"


@pytest.fixture
def page(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "page.yaml").write_text(UGLY)
    return tmp_path / "page.yaml"


def test_a_file_is_rewritten_once(dsv, page):
    assert dsv("fmt", "page.yaml").out == "changed page.yaml\n"
    assert page.read_text() == CLEAN
    answer = dsv("fmt", "page.yaml")
    assert (answer.code, answer.out) == (0, "")


def test_check_and_diff_write_nothing(dsv, page):
    answer = dsv("fmt", "--check", "page.yaml")
    assert (answer.code, answer.out) == (1, "would change page.yaml\n")
    answer = dsv("fmt", "--diff", "page.yaml")
    assert answer.code == 0 and "-name:   'a'\n" in answer.out and "+name: a\n" in answer.out
    assert page.read_text() == UGLY


def test_json(dsv, page):
    (page.parent / "other.yaml").write_text(CLEAN)
    answer = dsv("fmt", "--json", "page.yaml", "other.yaml")
    assert answer.json == {"changed": ["page.yaml"], "unchanged": 1}
    assert page.read_text() == CLEAN


def test_one_wrong_file_leaves_all_as_they_were(dsv, page):
    (page.parent / "wrong.yaml").write_text("a: [1,\n")
    answer = dsv("fmt", "page.yaml", "wrong.yaml")
    assert answer.code == 1 and "wrong.yaml:2:1" in answer.err
    assert page.read_text() == UGLY


@pytest.fixture
def piped():
    """``piped(text, *options)``: `dsvgraph fmt - *options` with a text on standard input."""
    from dsvgraph.cli import app

    return lambda text, *options: CliRunner().invoke(app, ["fmt", "-", *options], input=text)


def test_standard_input_goes_to_standard_output(piped):
    assert piped(UGLY).stdout == CLEAN
    wrong = piped(b"a: \xff\n")
    assert wrong.exit_code == 1 and "standard input is not UTF-8 text" in wrong.stderr
    assert piped("a: b\n" * 100_000).exit_code == 1


def test_standard_input_is_checked_like_a_file(piped):
    assert (piped(UGLY, "--check").exit_code, piped(CLEAN, "--check").exit_code) == (1, 0)
    assert "+name: a\n" in piped(UGLY, "--diff").stdout
    assert '"changed": [\n    "-"' in piped(UGLY, "--json").stdout
    assert piped(UGLY, "page.yaml").exit_code == 2


def test_a_name_is_a_file_never_a_bundled_spec(dsv, page):
    answer = dsv("fmt", "deepseek_v3")
    assert answer.code == 1 and "there is no file `deepseek_v3`" in answer.err


def test_a_pipe_is_no_spec(dsv, page):
    os.mkfifo("fifo")
    assert "not a regular file" in dsv("fmt", "fifo").err


def test_usage(dsv):
    assert dsv("fmt").code == 2


def test_only_comments_or_nothing(piped):
    assert piped("# a\n").stdout == "# a\n"
    assert piped("").stdout == ""
