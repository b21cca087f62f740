"""Files are there whole or not at all."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from dsvgraph.errors import DsvError
from dsvgraph.files import write_atomic, write_whole


def test_what_is_written(tmp_path):
    path = tmp_path / "a.txt"
    write_atomic(path, "one\n")
    assert path.read_bytes() == b"one\n"
    write_atomic(path, b"\x00two")
    assert path.read_bytes() == b"\x00two"
    assert os.listdir(tmp_path) == ["a.txt"]


def test_the_writer_sees_the_ending(tmp_path):
    seen = []
    write_whole(tmp_path / "a.svg", lambda temporary: seen.append(temporary) or temporary.write_text("x"))
    assert seen[0].suffix == ".svg"
    assert seen[0].parent == tmp_path


@pytest.mark.parametrize("error", [OSError(errno.ENOSPC, "No space left on device"), KeyboardInterrupt()])
def test_the_old_file_stays_where_writing_fails(error, tmp_path):
    path = tmp_path / "a.txt"
    path.write_text("old")

    def fail(temporary: Path) -> None:
        temporary.write_text("half")
        raise error

    with pytest.raises((DsvError, KeyboardInterrupt)) as told:
        write_whole(path, fail)
    assert path.read_text() == "old"
    assert os.listdir(tmp_path) == ["a.txt"]
    if isinstance(told.value, DsvError):
        assert str(told.value) == f"error: cannot write {path}: No space left on device"


def test_a_link_stays_a_link_and_rights_stay(tmp_path):
    real, link = tmp_path / "real.py", tmp_path / "link.py"
    real.write_text("old")
    real.chmod(0o755)
    link.symlink_to(real)
    write_atomic(link, "new")
    assert link.is_symlink()
    assert real.read_text() == "new"
    assert real.stat().st_mode & 0o777 == 0o755


def test_a_device_is_written_to_as_it_is():
    before = os.stat(os.devnull)
    write_atomic(Path(os.devnull), "x")
    assert os.stat(os.devnull).st_ino == before.st_ino


@pytest.mark.skipif(not Path("/dev/fd").exists(), reason="this system names no pipes")
def test_a_pipe_is_written_to():
    reading, writing = os.pipe()
    write_atomic(Path(f"/dev/fd/{writing}"), "x")
    assert os.read(reading, 9) == b"x"
    os.close(reading)
    os.close(writing)


def test_a_folder_is_no_file(tmp_path):
    with pytest.raises(DsvError, match="it is a folder"):
        write_atomic(tmp_path, "x")
