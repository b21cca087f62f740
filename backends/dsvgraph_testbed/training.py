"""Train the runs of an experiment until all are over, or until asked to stop."""

from __future__ import annotations

import time

from dsvgraph_testbed.devices import Places
from dsvgraph_testbed.display import Display
from dsvgraph_testbed.experiment import Experiment, Task
from dsvgraph_testbed.pool import Ended, Pool, StopRequest

POLL = 0.1
"""Seconds between two looks at the processes."""


def train(experiment: Experiment, places: Places, display: Display) -> bool:
    """Train what is not trained yet, and return whether that was interrupted.

    Raise DsvError if a run cannot take its first step.
    """
    with StopRequest() as stop, display, Pool(places) as pool:
        while not stop.requested:
            busy = {task.run.folder for task in pool.running}
            waiting = [task for task in experiment.tasks() if task.run.folder not in busy]
            if not (waiting or pool.running):
                return False
            _start(waiting, pool, display)
            _watch(waiting, pool, display, experiment, stop)
    return True


def _start(waiting: list[Task], pool: Pool, display: Display) -> None:
    """Start what there are places for; runs of equal specs are one folder, and so one process."""
    for task in waiting:
        busy = {running.run.folder for running in pool.running}
        if not pool.full and task.run.folder not in busy:
            pool.start(task)
            display.started(task)


def _watch(waiting: list[Task], pool: Pool, display: Display, experiment: Experiment, stop: StopRequest) -> None:
    """Wait until a process ends, and take up what it left."""
    while not stop.requested:
        display.update(pool.running, waiting)
        if ended := pool.ended():
            for one in ended:
                _take_up(one, experiment, display)
            return
        time.sleep(POLL)


def _take_up(ended: Ended, experiment: Experiment, display: Display) -> None:
    if not ended.interrupted:
        experiment.ended(ended.task, ended.error)
    display.ended(ended.task, ended.error)
