"""No command writes over what it reads, whatever the name by which it reads it."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from dsvgraph.errors import DsvError
from dsvgraph.files import inputs_kept, note_input, opened, write_atomic

CONFIG = Path(__file__).parents[2] / "hf/published/llama3_8b.json"
LIBRARY = "blocks: {twice: {in: {x: [...]}, body: {y: {add: [x, x]}}, out: y}}\n"
DEVICE = "mine: {flops: {bfloat16: 1e15}, bandwidth: 3e12, memory: 80e9}\n"


@pytest.fixture
def inputs(small) -> None:
    """A spec that extends one and includes another, a config.json, a device, and other names for the spec."""
    small(name="base.yaml")
    Path("library.yaml").write_text(LIBRARY)
    Path("spec.svg").write_text("extends: base.yaml\ninclude: [library.yaml]\n")
    shutil.copy(CONFIG, "config.json")
    Path("device.yaml").write_text(DEVICE)
    Path("link.svg").symlink_to("spec.svg")
    os.link("spec.svg", "hard.svg")
    Path("text").write_text("a text to train on\n" * 99)
    Path("weights").mkdir()
    Path("weights/model.safetensors").write_bytes(b"weights")


OVER = ("base.yaml", "library.yaml", "spec.svg", "link.svg", "hard.svg", "./spec.svg")
SPEC = {
    "compile spec.svg --emit": OVER,
    "cost spec.svg --csv": OVER,
    "cost spec.svg --phase train --csv": OVER,
    "cost spec.svg --device device.yaml --csv": ("device.yaml", *OVER),
    "diff base.yaml spec.svg --csv": OVER,
    "diff spec.svg base.yaml base.yaml --plot": OVER[2:],
    "sweep spec.svg --over d=8,16 --csv": OVER,
    "sweep spec.svg --over d=8,16 --plot": OVER[2:],
    "render spec.svg -o": OVER[2:],
    "render spec.svg": ("",),
    "render base.yaml --diff spec.svg -o": OVER[2:],
    "import config.json -o": ("config.json",),
    "import . -o": ("config.json",),
    "compile spec.svg --weights weights --emit": ("weights/model.safetensors",),
    "compile spec.svg --train --data text --emit": ("text",),
    "compile spec.svg --train --data . --emit": ("config.json", "text"),
}


@pytest.mark.parametrize(("command", "output"), [(c, o) for c, outputs in SPEC.items() for o in outputs])
def test_a_command_never_writes_over_what_it_reads(command, output, inputs, dsv):
    if "--plot" in command:
        pytest.importorskip("matplotlib")
    if command.startswith("render") and not shutil.which("dot"):
        pytest.importorskip("pygraphviz")
    before = {path: path.read_bytes() for path in Path().rglob("*") if path.is_file()}
    answer = dsv(*command.split(), *([output] if output else []))
    assert answer.code == 1 and answer.err.startswith(f"error: cannot write {Path(output or 'spec.svg')}: this command")
    assert {path: path.read_bytes() for path in Path().rglob("*") if path.is_file()} == before


@pytest.mark.parametrize("command", ["schema -o", "new base -o"])
def test_what_reads_nothing_or_refuses_every_file(command, inputs, dsv):
    answer = dsv(*command.split(), "other.yaml")
    assert answer.code == 0 and Path("other.yaml").is_file()


@pytest.mark.parametrize(
    ("command", "words"),
    [
        ("sweep base.yaml --over d=8,16 --csv a.svg --plot ./a.svg", "--plot"),
        ("diff base.yaml --set d=16 --csv a.svg --plot a.svg", "--plot"),
        ("sweep base.yaml --over d=8,16 --csv - --json", "--csv"),
        ("diff base.yaml --set d=16 --csv - --json", "--csv"),
        ("cost base.yaml --csv - --json", "--csv"),
    ],
)
def test_two_outputs_are_never_one_file(command, words, inputs, dsv):
    answer = dsv(*command.split())
    assert answer.code == 2 and words in answer.err and not answer.out and not Path("a.svg").exists()


def test_fmt_is_meant_to_change_its_file(inputs, dsv):
    Path("base.yaml").write_text("config:   {d: 8}\n" + Path("base.yaml").read_text().replace("config:", "doc: x #", 1))
    assert dsv("fmt", "base.yaml").code == 0
    assert Path("base.yaml").read_text().startswith("config: {d: 8}\n")


def test_a_number_of_a_file_that_is_gone_is_no_input(tmp_path):
    """A file system gives the inode of a removed file to the next one."""
    first, second = tmp_path / "first", tmp_path / "second"
    first.write_text("read")
    with inputs_kept():
        with opened(first):
            pass
        first.rename(second)
        write_atomic(second, "written")
    assert second.read_text() == "written"


def test_new_files_in_a_folder_that_is_read_are_no_inputs(tmp_path):
    (tmp_path / "old").write_text("old")
    with inputs_kept():
        note_input(tmp_path)
        write_atomic(tmp_path / "new", "new")
        with pytest.raises(DsvError, match="this command reads it"):
            write_atomic(tmp_path / "old", "new")
    write_atomic(tmp_path / "old", "new")  # outside of a command nobody is guarded from himself
