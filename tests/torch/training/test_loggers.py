"""Metrics in other places than the run folder, by the libraries themselves, kept on this machine."""

from __future__ import annotations

import json
import struct
from pathlib import Path
from typing import Any

import pytest
from runs import metrics, plain, quiet, refused, run, small

from dsvgraph.backends.training import MetricLog
from dsvgraph_torch.training import logs

quick = pytest.fixture(autouse=True)(plain)


def entries(path: Path) -> list[bytes]:
    """The entries of an offline run of Weights & Biases: 7 bytes, then LevelDB's log in blocks of 32 KiB."""
    data, at, found = path.read_bytes(), 7, [b""]
    while at + 7 <= len(data):
        if 32768 - at % 32768 < 7:
            at += 32768 - at % 32768
        length, kind = struct.unpack("<HB", data[at + 4 : at + 7])
        found[-1] += data[at + 7 : at + 7 + length]
        found += [b""] if kind in (1, 4) else []  # whole, or the last part
        at += 7 + length
    return found[:-1]


def test_an_offline_run_of_wandb_holds_what_the_json_lines_say(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("wandb")
    protobuf = pytest.importorskip("wandb.proto.wandb_internal_pb2")
    for name, value in {"WANDB_MODE": "offline", "WANDB_SILENT": "true", "WANDB_CONSOLE": "off"}.items():
        monkeypatch.setenv(name, value)
    run(tmp_path, small(num_nextn_predict_layers=0), log=["wandb"], steps=2)
    (path,) = (tmp_path / "run/wandb").glob("offline-run-*/*.wandb")
    steps = []
    for entry in entries(path):
        record = protobuf.Record()
        record.ParseFromString(entry)
        if record.WhichOneof("record_type") == "history":
            items = {item.key or "/".join(item.nested_key): item.value_json for item in record.history.item}
            steps.append({name: json.loads(value) for name, value in items.items()})
    lines = metrics(tmp_path / "run")
    assert [step["_step"] for step in steps] == [line["step"] for line in lines]
    for step, line in zip(steps, lines, strict=True):
        assert (step["loss"], step["flops"]) == (line["loss"], line["flops"])
        assert step["losses/next_token"] == line["losses"]["next_token"]


def test_a_local_run_of_trackio_holds_what_the_json_lines_say(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRACKIO_DIR", str(tmp_path / "trackio"))
    pytest.importorskip("trackio")
    stored = pytest.importorskip("trackio.sqlite_storage").SQLiteStorage
    run(tmp_path, small(num_nextn_predict_layers=0), log=["trackio"], steps=2)
    (name,) = stored.get_runs(logs.PROJECT)
    found, lines = stored.get_logs(logs.PROJECT, name), metrics(tmp_path / "run")
    assert name.startswith("run-")
    for key in ("step", "loss", "grad_norm", "flops"):
        assert [value[key] for value in found] == [line[key] for line in lines]
    assert [value["losses/next_token"] for value in found] == [line["losses"]["next_token"] for line in lines]


class Failing:
    """A library whose loggers fail at a step."""

    at = 0

    def __init__(self, *_: Any) -> None:
        if not self.at:
            raise ConnectionError("\nno account\nhere is how to get one")

    def write(self, numbers: dict[str, float], step: int) -> None:
        if step == self.at:
            raise OSError("the disk is full")

    def close(self) -> None:
        raise OSError("still full")


def test_a_logger_that_cannot_be_opened_is_an_error_and_one_that_fails_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(logs.MODULES, MetricLog.WANDB, "json")
    monkeypatch.setitem(logs.LOGGERS, MetricLog.WANDB, Failing)
    model = small(num_nextn_predict_layers=0)
    assert "--log wandb: no account" in refused(tmp_path, model, log=["wandb"])
    assert json.loads((tmp_path / "run/run.json").read_text())["stopped"]["reason"] == "failed"
    for at, said in (
        (2, "no more is logged after step 2: the disk is full"),
        (9, "the last steps may be missing: still full"),
    ):
        monkeypatch.setattr(Failing, "at", at)
        (tmp_path / str(at)).mkdir()
        console = quiet()
        assert not run(tmp_path / str(at), model, console, log=["wandb"]).interrupted
        assert f"--log wandb: {said}" in console.file.getvalue()
