"""Every file that a command reads, in every state but the right one: exit code 1, an error that names it, no wait."""

from __future__ import annotations

import json
import os
import shutil
import signal
from pathlib import Path

import pytest

CONFIG = Path(__file__).parents[2] / "hf/published/llama3_8b.json"
LIBRARY = "blocks: {twice: {in: {x: [...]}, body: {y: {add: [x, x]}}, out: y}}\n"
DEVICE = "mine: {flops: {bfloat16: 1e15}, bandwidth: 3e12, memory: 80e9}\n"
TRAIN = "compile spec.yaml --train --steps 1 --batch 1 --seq 8 --device cpu --out run"

READ = {  # each file, and the commands that read it
    "spec.yaml": (
        "check spec.yaml", "check --format json spec.yaml", "show spec.yaml", "show --origin spec.yaml",
        "cost spec.yaml", "cost spec.yaml --phase train", "diff spec.yaml base.yaml", "diff base.yaml spec.yaml",
        "render spec.yaml -o out.svg", "render base.yaml --diff spec.yaml -o out.svg", "render spec.yaml -o out.html",
        "compile spec.yaml", "compile spec.yaml --emit out.py", TRAIN, "sweep spec.yaml --over d=8,16", "fmt spec.yaml",
        "fmt --check spec.yaml", "zoo spec.yaml", "export spec.yaml -o out",
    ),
    "base.yaml": ("check spec.yaml", "compile spec.yaml --emit out.py"),
    "library.yaml": ("check spec.yaml", "compile spec.yaml --emit out.py"),
    "device.yaml": ("cost spec.yaml --device device.yaml",),
    "config.json": ("import config.json", "import . -o out.yaml"),
    "text": (f"{TRAIN} --data text",),
    "weights/config.json": ("compile spec.yaml --weights weights",),
    "weights/model.safetensors.index.json": ("compile spec.yaml --weights weights",),
    "weights/one.safetensors": ("compile spec.yaml --weights weights", f"{TRAIN} --weights weights"),
    "single/model.safetensors": ("compile spec.yaml --weights single",),
}  # fmt: skip


@pytest.fixture
def inputs(small, monkeypatch):
    """One of every file, and an alarm for who waits for a pipe."""
    small(name="base.yaml")
    Path("library.yaml").write_text(LIBRARY)
    Path("spec.yaml").write_text("extends: base.yaml\ninclude: [library.yaml]\n")
    shutil.copy(CONFIG, "config.json")
    Path("device.yaml").write_text(DEVICE)
    Path("text").write_text("a text to train on\n" * 99)
    for folder in ("weights", "single"):
        Path(folder).mkdir()
    Path("weights/config.json").write_text("{}")
    Path("weights/model.safetensors.index.json").write_text(json.dumps({"weight_map": {"a": "one.safetensors"}}))
    Path("weights/one.safetensors").write_bytes(b"\x02\0\0\0\0\0\0\0{}")
    Path("single/model.safetensors").write_bytes(b"\x02\0\0\0\0\0\0\0{}")
    before = signal.signal(signal.SIGALRM, lambda *_: pytest.fail("it waits"))
    signal.alarm(60)
    yield
    signal.alarm(0)
    signal.signal(signal.SIGALRM, before)


def refuse(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Rights do not hold for root: what the system would answer to others."""
    original = os.open

    def denied(name, *args, **options):
        if Path(name) == path or Path(name).name == path.name:
            raise PermissionError(13, "Permission denied", str(name))
        return original(name, *args, **options)

    monkeypatch.setattr(os, "open", denied)


def damaged(path: Path, damage: str, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = path.read_bytes()
    if damage == "unreadable":
        refuse(path, monkeypatch)
        return
    path.unlink()
    {
        "gone": lambda: None,
        "empty": lambda: path.write_bytes(b""),
        "cut": lambda: path.write_bytes(whole[: len(whole) * 2 // 3]),
        "other bytes": lambda: path.write_bytes(b"\xff\0" * 9999),
        "folder": path.mkdir,
        "pipe": lambda: os.mkfifo(path),
        "loop": lambda: path.symlink_to(path.name),
        "device": lambda: path.symlink_to("/dev/zero"),
    }[damage]()


def cases():
    for name, commands in READ.items():
        for damage in ("gone", "empty", "cut", "other bytes", "folder", "pipe", "loop", "device", "unreadable"):
            if (name, damage) in (("text", "cut"), ("weights/config.json", "gone"), ("library.yaml", "empty")):
                continue  # these are right
            for number, command in enumerate(commands):
                if number < 2 or damage in ("pipe", "other bytes"):  # all commands read a file in the same way
                    yield pytest.param(command, name, damage, id=f"{command}: {name}, {damage}")


@pytest.mark.parametrize(("command", "name", "damage"), cases())
def test_a_file_that_is_not_as_it_should_be(command, name, damage, inputs, dsv, monkeypatch):
    damaged(Path(name), damage, monkeypatch)
    there = set(os.listdir())
    answer = dsv(*command.split())
    told = answer.out if "json" in command.split() else answer.err
    assert answer.code == 1, (answer.code, answer.out, answer.err)
    assert "internal" not in told and 1 <= told.count("error") <= 4 and Path(name).name.split(".")[0] in told
    assert set(os.listdir()) == there  # nothing was begun
