"""The processes of a comparison: they end with it, and each has its GPU."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from dsvgraph_testbed import devices
from dsvgraph_testbed.devices import places
from dsvgraph_testbed.pool import Pool

CHILD = """
import signal, sys, time
from dsvgraph.processes import end_with_input
signal.signal(signal.SIGTERM, lambda *_: (open(sys.argv[1], "w").write("saved"), sys.exit(130)))
end_with_input()
open(sys.argv[1] + ".begun", "w").close()
time.sleep(60)
"""
PARENT = """
import sys, time
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from dsvgraph_testbed.devices import Places
from dsvgraph_testbed.pool import Pool
out = Path(sys.argv[2])
run = SimpleNamespace(
    begin=lambda: None, command=lambda steps, at: [sys.executable, "-S", "-c", sys.argv[1], str(out)],
    log=out.with_name("log"), folder=out,
)
with Pool(Places(({},), "here")) as pool:
    pool.start(type("Task", (), dict(run=run, steps=1, at=()))())
    time.sleep(60)
"""


def wait_for(path: Path) -> None:
    ends = time.monotonic() + 30
    while not path.exists():
        assert time.monotonic() < ends, f"no {path.name}"
        time.sleep(0.02)


def test_what_was_started_saves_and_ends_where_the_comparison_is_killed(tmp_path: Path) -> None:
    out = tmp_path / "run"
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    parent = subprocess.Popen([sys.executable, "-c", PARENT, CHILD, str(out)], env=environment)
    wait_for(out.with_name("run.begun"))
    parent.kill()
    assert parent.wait() == -signal.SIGKILL
    wait_for(out)


def test_a_process_that_nobody_holds_does_not_wait_for_its_input(tmp_path: Path) -> None:
    """Without the variable of the environment the end of the input, as under `nohup`, ends nothing."""
    code = "from dsvgraph.processes import end_with_input\nend_with_input()\nimport time; time.sleep(0.2); print('on')"
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    command = [sys.executable, "-S", "-c", code]
    done = subprocess.run(command, stdin=subprocess.DEVNULL, env=environment, capture_output=True)
    assert done.stdout == b"on\n", done.stderr


def test_each_process_sees_one_gpu(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of those that nobody uses; another one takes the place of a process that has ended."""
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    monkeypatch.setattr(devices, "_memory_used", lambda: {"0": 40_000, "1": 3, "2": 3})
    tasks = [Told(tmp_path / str(i)) for i in range(3)]
    ended = list[Any]()
    with Pool(places(None)) as pool:
        assert len(pool.places.environments) == 2
        for task in tasks:
            while pool.full:
                ended += pool.ended()
            pool.start(task)
        while pool.running:
            ended += pool.ended()
    assert len(ended) == 3 and not any(one.error for one in ended)
    seen = [task.run.folder.read_text() for task in tasks]
    assert sorted(seen[:2]) == ["1", "2"] and seen[2] in ("1", "2")


class Told:
    """A task whose process writes down which GPU it sees."""

    def __init__(self, folder: Path) -> None:
        code = "import os, sys; open(sys.argv[1], 'w').write(os.environ['CUDA_VISIBLE_DEVICES'])"
        command = [sys.executable, "-S", "-c", code, str(folder)]
        log = folder.with_suffix(".log")
        self.run = SimpleNamespace(begin=lambda: None, command=lambda steps, at: command, log=log, folder=folder)
        self.steps, self.at = 1, ()
