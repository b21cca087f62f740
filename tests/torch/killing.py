"""A program that is killed at every call to the file system while it saves, and at random moments while it trains.

`python killing.py FOLDER` prints how often. It forks: nothing in this process may compute a gradient.
"""

from __future__ import annotations

import os
import random
import shutil
import signal
import sys
import time
from collections.abc import Callable
from itertools import count
from pathlib import Path

import runs
import torch
from faults import at_call, trained
from runs import SEVEN_LINES, newest, untimed

import dsvgraph
from dsvgraph_torch.runs import checkpoint

MOMENTS = 8
"""Random moments at which a run is killed."""

GRAPH = dsvgraph.loads(SEVEN_LINES)
IDENTITY = "0" * 64


def killed() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def child(act: Callable[[], object]) -> bool:
    """Runs ``act`` in a process of its own; whether it was killed. Any other end but a good one is an error."""
    number = os.fork()
    if number == 0:
        try:
            act()
            os._exit(0)
        except BaseException as error:  # noqa: BLE001 - a fork must not go on as its parent
            print(repr(error), file=sys.stderr, flush=True)
            os._exit(1)
    status = os.waitpid(number, 0)[1]
    assert status == 0 or os.WTERMSIG(status) == signal.SIGKILL, status
    return status != 0


def fresh(folder: Path) -> Path:
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    return folder


# -- while a checkpoint is saved ---------------------------------------------------------------------


def save_at(number: int, folder: Path) -> None:
    with at_call(number, killed):
        checkpoint.save(folder, *trained(2.0), 2, IDENTITY)


def is_whole(folder: Path) -> None:
    """There is the checkpoint of step 1 or that of step 2, with the numbers of its step alone."""
    found, (masters, optimizer) = checkpoint.latest(folder, IDENTITY), trained(0.0)
    assert found is not None
    found.load_masters(masters)
    found.load_moments(optimizer)
    numbers = [
        *masters.state_dict().values(),
        *(t for state in optimizer.parts[0].state.values() for t in state.values()),
    ]
    assert {float(n) for tensor in numbers for n in tensor.flatten()} == {float(found.step)}


def saving(folder: Path) -> int:
    """Kills a save before each of its calls; returns how many there were."""
    for number in count(1):
        checkpoint.save(fresh(folder), *trained(1.0), 1, IDENTITY)
        if not child(lambda: save_at(number, folder)):
            break
        is_whole(folder)
        checkpoint.save(folder, *trained(3.0), 3, IDENTITY)  # the next removes what is left
        assert os.listdir(folder) == ["checkpoint-3"]
    return number - 1


# -- while a run goes on -----------------------------------------------------------------------------


def go_on(folder: Path) -> None:
    """Trains from where the folder is."""
    begun = (folder / "run/run.json").exists()
    if not begun:
        shutil.rmtree(folder / "run", ignore_errors=True)
    runs.run(folder, GRAPH, steps=8, save_every=1, resume=begun)


def killed_after(seconds: float, folder: Path) -> None:
    signal.signal(signal.SIGALRM, lambda *_: killed())
    signal.setitimer(signal.ITIMER_REAL, seconds)
    go_on(folder)


def same(one: Path, two: Path) -> None:
    """The runs in both are finished, and equal to the byte."""
    a, b = ({path.name: path.read_bytes() for path in newest(folder / "run").iterdir()} for folder in (one, two))
    assert a.keys() == b.keys() and a == b, [name for name in a if a[name] != b[name]]
    assert untimed(one / "run") == untimed(two / "run")


def training(folder: Path) -> int:
    """Kills a run at random moments, and takes it up each time; returns how often it was killed."""
    whole, hurt, chance, kills = fresh(folder / "whole"), fresh(folder / "hurt"), random.Random(0), 0
    started = time.perf_counter()
    assert not child(lambda: go_on(whole))
    lasted = time.perf_counter() - started
    while kills < MOMENTS:
        if child(lambda: killed_after(0.05 * lasted + chance.random() * 0.6 * lasted, hurt)):
            kills += 1
        else:
            same(hurt, whole)
            fresh(hurt)
    assert not child(lambda: go_on(hurt))
    same(hurt, whole)
    return kills


def main(folder: Path) -> None:
    runs.quicken()
    torch.optim.AdamW([torch.zeros(1, requires_grad=True)]).step()  # imports what the children would, each anew
    print(saving(folder / "saving"), training(folder))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
