"""The command line as a program: from any folder, in pipes, on terminals, interrupted; and how fast."""

from __future__ import annotations

import os
import re
import subprocess
import sys

import pytest
from processes import environment

from dsvgraph import cli
from dsvgraph.cli import options, output


def test_a_bundled_spec_is_found_from_any_folder(program, tmp_path):
    answer = program("check", "deepseek_v3", cwd=tmp_path)
    assert answer.code == 0
    assert "DeepSeek-V3" in answer.out


def test_nothing_imports_torch(program, tmp_path):
    code = (
        "import sys; sys.argv = ['dsvgraph', 'diff', 'deepseek_v3', '--mtp', '0,1']\n"
        "from dsvgraph.cli import main\n"
        "try: main()\n"
        "finally: print(*{'torch', 'numpy', 'sympy', 'graphviz'} & set(sys.modules), file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", code], env=environment(), capture_output=True, text=True)
    assert done.stderr.split() == []


def test_plain_text_where_no_terminal_is(program):
    counted = program("cost", "deepseek_v3")
    for answer in (counted, program("check", "nothing")):
        assert "\x1b" not in answer.out + answer.err
        assert (answer.out + answer.err).isascii()
    assert counted.out == program("cost", "deepseek_v3", env={"COLUMNS": "40"}).out


def test_a_reader_that_hangs_up(program):
    """`dsvgraph schema | true` says nothing."""
    reading, writing = os.pipe()
    os.close(reading)
    answer = program("schema", stdout=writing, stderr=subprocess.PIPE, capture_output=False)
    os.close(writing)
    assert (answer.code, answer.err) == (141, "")


EACH = """
import sys
from dsvgraph.cli import main
for words in {commands!r}:
    sys.argv = ["dsvgraph", *words]
    try:
        main()
    except SystemExit as end:
        print("=====", end.code or 0, flush=True)
"""


def each(commands, env, **pipes):
    """Runs several commands, one after another, in one process; the code of each follows what it wrote."""
    code = EACH.format(commands=[tuple(map(str, words)) for words in commands])
    return subprocess.run([sys.executable, "-c", code], env=environment(env), **pipes)


def test_a_terminal_that_knows_no_unicode(tmp_path):
    path = tmp_path / "wide.yaml"
    path.write_text('extends: deepseek_v3.yaml\ndoc: "\N{SNOWMAN} \\e[31m"\n', encoding="utf-8")
    for encoding in ("ascii", "utf-8"):
        done = each([("check", path), ("show", path)], {"PYTHONIOENCODING": encoding}, capture_output=True)
        assert (done.returncode, done.stderr, done.stdout.count(b"===== 0\n")) == (0, b"", 2)
        assert b"\x1b" not in done.stdout and b"Traceback" not in done.stdout


def test_ctrl_c(monkeypatch, capsys):
    code, said = _main(monkeypatch, capsys, KeyboardInterrupt())
    assert (code, said) == (130, "interrupted\n")


def test_a_mistake_of_ours_is_told_in_words(monkeypatch, capsys):
    code, said = _main(monkeypatch, capsys, KeyError("x"))
    assert code == 70
    assert said.startswith("error: internal error: KeyError: 'x'")
    assert "Traceback" not in said


def test_no_memory(monkeypatch, capsys):
    code, said = _main(monkeypatch, capsys, MemoryError())
    assert (code, said) == (1, "error: there is not enough memory for this\n")


def test_files_that_may_not_be_read(monkeypatch, capsys):
    code, said = _main(monkeypatch, capsys, PermissionError(13, "Permission denied", "secret.yaml"))
    assert (code, said) == (1, "error: secret.yaml: Permission denied\n")


def _main(monkeypatch, capsys, error):
    """What `dsvgraph check` says if ``error`` happens in it."""

    def fail(*_: object) -> None:
        raise error

    monkeypatch.setattr(options, "load_model", fail)
    monkeypatch.setattr(sys, "argv", ["dsvgraph", "check", "deepseek_v3"])
    with pytest.raises(SystemExit) as exit_:
        cli.main()
    return exit_.value.code, capsys.readouterr().err


COMMANDS = (("check", "nothing"), ("cost", "deepseek_v3"), ("--help",))


@pytest.mark.skipif(sys.platform == "win32", reason="needs a pseudo-terminal")
@pytest.mark.parametrize("env", [{}, {"NO_COLOR": "1"}, {"TERM": "dumb"}])
def test_colours_on_a_terminal(env):
    import pty

    leader, terminal = pty.openpty()
    each(COMMANDS, {"TERM": "xterm-256color", "NO_COLOR": "", **env}, stdout=terminal, stderr=terminal)
    os.close(terminal)
    said_by_all = _all_of(leader)
    *answers, rest = re.split(rb"===== \d+\r\n", said_by_all)
    assert (len(answers), rest) == (len(COMMANDS), b"") and b"Traceback" not in said_by_all
    for said in answers:
        assert said
        assert (b"\x1b[" in said) == (not env)


def _all_of(leader: int) -> bytes:
    found = b""
    while True:
        try:
            piece = os.read(leader, 65536)
        except OSError:  # the terminal is closed
            piece = b""
        if not piece:
            os.close(leader)
            return found
        found += piece


@pytest.mark.parametrize(
    ("value", "text"),
    [(0, "0"), (1, "1"), (999, "999"), (1000, "1.000 K"), (34.5, "34.50"), (999_960, "1.000 M"),
     (671_026_419_200, "671.0 G"), (-10_190_000_000, "-10.19 G"), (1e30, "1000000 Y")],
)  # fmt: skip
def test_short_numbers(value, text):
    assert output.short(value) == text
