"""`runs` and `report`: what they say is what the files of a run say, and the command of a report repeats the run."""

from __future__ import annotations

import json
import re
import shlex
import shutil
import signal
import xml.etree.ElementTree as ET
from html.parser import HTMLParser

import pytest
from runs import metrics, plain, refused, run, small, untimed
from test_run_folder import signal_at
from typer.testing import CliRunner

from dsvgraph.backends import RunState
from dsvgraph.cli import app
from dsvgraph.errors import DsvError
from dsvgraph_torch.reports import report, runs
from dsvgraph_torch.runs.files import locked

OPTIONS = dict(ema=0.5, lr_for=(("lm_head.weight", 0.5),), keep_best=True, accumulate=2, schedule="wsd", decay=0.5)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Runs in every state."""
    home = tmp_path_factory.mktemp("home")
    with pytest.MonkeyPatch.context() as patch:
        plain(patch)
        run(home, small(), out=home / "runs/finished", **OPTIONS)
        refused(home, small(), out=home / "runs/below/diverged", lr=1e38)
        signal_at(patch, 1, signal.SIGTERM)
        run(home, small(), out=home / "runs/interrupted")
    killed = shutil.copytree(home / "runs/interrupted", home / "runs/killed")
    about = json.loads((killed / "run.json").read_text())
    (killed / "run.json").write_text(json.dumps({k: v for k, v in about.items() if k != "stopped"}))
    (shutil.copytree(home / "runs/finished", home / "runs/damaged") / "run.json").write_text("{")
    shutil.copytree(home / "runs/interrupted", home / "runs/running")
    (home / "runs/nothing").mkdir()
    return home / "runs"


def test_runs_are_listed_with_their_states(folder):
    with locked(folder / "running"):
        found = {summary.path.relative_to(folder).as_posix(): summary for summary in runs(folder)}
    assert {name: summary.state for name, summary in found.items()} == {
        "below/diverged": RunState.DIVERGED, "damaged": RunState.DAMAGED, "finished": RunState.FINISHED,
        "interrupted": RunState.INTERRUPTED, "killed": RunState.KILLED, "running": RunState.RUNNING,
    }  # fmt: skip
    last, about = metrics(folder / "finished")[-1], json.loads((folder / "finished/run.json").read_text())
    one = found["finished"]
    assert (one.step, one.steps, one.tokens, one.loss, one.seconds) == (
        4, 4, last["tokens"], last["loss"], last["seconds"],
    )  # fmt: skip
    assert one.heldout == about["result"]["heldout"]["next_token"] and one.spec == "DeepSeek-V3-tiny"
    assert "diverged" in found["below/diverged"].words and "run.json is damaged" in found["damaged"].words
    assert found["interrupted"].heldout == metrics(folder / "interrupted")[0]["heldout"]["next_token"]
    assert not (folder / "running/.lock").exists() or runs(folder / "running")[0].state is RunState.INTERRUPTED


def test_the_table_and_its_json(folder):
    shown = CliRunner().invoke(app, ["runs", str(folder)]).stdout
    assert re.search(r"interrupted +DeepSeek-V3-tiny +interrupted +1/4 +64 +\d\.\d{3} +\d\.\d{3} +0:00:0", shown)
    data = json.loads(CliRunner().invoke(app, ["runs", str(folder), "--json"]).stdout)
    assert [entry["state"] for entry in data].count("finished") == 1 and len(data) == 6
    assert "no runs in" in CliRunner().invoke(app, ["runs", str(folder / "nothing")]).stdout
    with pytest.raises(DsvError, match="is no folder"):
        runs(folder / "nowhere")


class Page(HTMLParser):
    def __init__(self, text):
        super().__init__()
        self.tags, self.links, self.words = [], [], []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.links += [value for name, value in attrs if name in ("src", "href") and not value.startswith("#")]

    def handle_data(self, data):
        self.words.append(data)


def test_a_report_is_one_page_and_its_markdown(folder, tmp_path):
    page, text, *pictures = report(folder / "finished", tmp_path / "out")
    found = Page(page.read_text())
    assert found.tags.count("svg") == len(pictures) == 5 and not found.links and "script" not in found.tags
    assert all(ET.parse(picture).getroot().tag.endswith("svg") for picture in pictures)
    result = json.loads((folder / "finished/run.json").read_text())["result"]
    said, lines = " ".join(found.words), text.read_text()
    for name in ("next_token", "mtp.1", "mtp.2"):
        for number in (f"{result['heldout'][name]:.4f}", f"{result['heldout_ema'][name]:.4f}"):
            assert number in said and number in lines
    assert f"{metrics(folder / 'finished')[-1]['flops']:.4g}" in said
    assert all(f"]({picture.name})" in lines for picture in pictures)


def test_the_command_of_a_report_repeats_the_run(folder, tmp_path, monkeypatch):
    plain(monkeypatch)
    page = Page(report(folder / "finished", tmp_path / "out")[0].read_text())
    command = shlex.split(next(words for words in page.words if words.startswith("dsvgraph compile")))
    command[command.index("DIR")] = str(tmp_path / "again")
    done = CliRunner().invoke(app, command[1:])
    assert done.exit_code == 0, done.output
    assert untimed(tmp_path / "again") == untimed(folder / "finished")


def test_runs_without_a_step_and_no_runs(folder, tmp_path):
    page, *_ = report(folder / "below/diverged", tmp_path)
    assert "diverged: training diverged" in page.read_text()
    with pytest.raises(DsvError, match="holds no run"):
        report(tmp_path, tmp_path)
