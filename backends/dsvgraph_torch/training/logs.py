"""Metrics to other places than the run folder: TensorBoard's event files, Weights & Biases, trackio."""

from __future__ import annotations

import hashlib
import importlib
from collections.abc import Callable, Iterator
from typing import Any, Protocol

from dsvgraph.backends.training import MetricLog
from dsvgraph.errors import DsvError
from dsvgraph_torch.runs.folder import Run
from dsvgraph_torch.training.options import TrainOptions

MODULES = {MetricLog.TENSORBOARD: "torch.utils.tensorboard", MetricLog.WANDB: "wandb", MetricLog.TRACKIO: "trackio"}
PROJECT = "dsvgraph"
HINTS = {MetricLog.WANDB: "`wandb login`, or WANDB_MODE=offline, which keeps all in the run folder"}


class Logger(Protocol):
    """Takes the metrics of each step."""

    def write(self, numbers: dict[str, float], step: int) -> None: ...

    def close(self) -> None: ...


class TensorBoard:
    """Event files in the folder `tensorboard` of the run; what was logged after ``first`` before is hidden."""

    def __init__(self, module: Any, run: Run, options: TrainOptions, first: int) -> None:
        purge = first + 1 if first else None
        self.writer = module.SummaryWriter(str(run.path / "tensorboard"), purge_step=purge)

    def write(self, numbers: dict[str, float], step: int) -> None:
        for name, number in numbers.items():
            self.writer.add_scalar(name, number, step)

    def close(self) -> None:
        self.writer.close()


class Wandb:
    """A run of Weights & Biases, which a resumed run goes on; WANDB_MODE=offline keeps it in the run folder."""

    def __init__(self, module: Any, run: Run, options: TrainOptions, first: int) -> None:
        self.run = module.init(
            project=PROJECT, name=run.path.name, dir=str(run.path), id=run_id(run), resume="allow",
            config=options.model_dump(mode="json"),
        )  # fmt: skip

    def write(self, numbers: dict[str, float], step: int) -> None:
        self.run.log(numbers, step=step)

    def close(self) -> None:
        self.run.finish()


class Trackio:
    """A run of trackio, by the name of the run folder; a resumed run goes on."""

    def __init__(self, module: Any, run: Run, options: TrainOptions, first: int) -> None:
        config = options.model_dump(mode="json")
        self.module = module
        module.init(project=PROJECT, name=f"{run.path.name}-{run_id(run)}", config=config, resume="allow")

    def write(self, numbers: dict[str, float], step: int) -> None:
        own = {name: number for name, number in numbers.items() if name != "step"}  # a name of trackio's own
        self.module.log(own, step=step)

    def close(self) -> None:
        self.module.finish()


LOGGERS: dict[MetricLog, Any] = {MetricLog.TENSORBOARD: TensorBoard, MetricLog.WANDB: Wandb, MetricLog.TRACKIO: Trackio}


class Logs:
    """The loggers of a run, opened with its first step. One that fails later on is told, and gets no more."""

    def __init__(self, run: Run, options: TrainOptions) -> None:
        self.run, self.options = run, options
        self.modules = {log: module_of(log) for log in dict.fromkeys(options.log)}
        self.open: dict[MetricLog, Logger] = {}

    def start(self, first: int) -> None:
        """Open the loggers of a run that goes on after ``first``. Raise DsvError if one cannot be opened."""
        for log, module in self.modules.items():
            try:
                self.open[log] = LOGGERS[log](module, self.run, self.options, first)
            except Exception as error:  # the logger's code: no account, no network, a full disk
                raise DsvError(f"--log {log}: {said(error)}", hint=HINTS.get(log, "")) from error

    def write(self, record: dict[str, Any]) -> list[str]:
        """Give the numbers of a step to all of them; return a line for each that failed."""
        numbers = dict(flat(record)) if self.open else {}
        after = f"after step {record['step']}"
        return self._of_each(lambda logger: logger.write(numbers, record["step"]), f"no more is logged {after}")

    def close(self) -> list[str]:
        """Close them, so that all is written; return a line for each that failed."""
        found = self._of_each(lambda logger: logger.close(), "the last steps may be missing")
        self.open = {}
        return found

    def _of_each(self, ask: Callable[[Logger], None], so: str) -> list[str]:
        lines = []
        for log, logger in list(self.open.items()):
            try:
                ask(logger)
            except Exception as error:  # noqa: BLE001 - as above: a run does not end for it
                del self.open[log]
                lines.append(f"--log {log}: {so}: {said(error)}")
        return lines


def said(error: Exception) -> str:
    """Return what an error says, in one line."""
    lines = (line.strip() for line in str(error).splitlines())
    return next(filter(None, lines), type(error).__name__)


def flat(record: dict[str, Any], prefix: str = "") -> Iterator[tuple[str, float]]:
    """Yield the numbers of a line of metrics, those in a mapping as `losses/NAME`; the loads of experts are left out.

    >>> dict(flat({"loss": 2.0, "losses": {"next_token": 1.5}, "load": {"gate": [3, 1]}, "balance": None}))
    {'loss': 2.0, 'losses/next_token': 1.5}
    """
    for name, value in record.items():
        if isinstance(value, dict):
            yield from flat(value, f"{prefix}{name}/")
        elif isinstance(value, int | float):
            yield f"{prefix}{name}", value


def run_id(run: Run) -> str:
    """Return the id of a run elsewhere: that of its folder."""
    return hashlib.sha256(str(run.path.resolve()).encode()).hexdigest()[:12]


def module_of(log: MetricLog) -> Any:
    """Return the library of a logger. Raise DsvError if it is not installed."""
    try:
        return importlib.import_module(MODULES[log])
    except ImportError as error:
        words = f"--log {log}: `{error.name or log}` is not installed"
        raise DsvError(words, hint=f"pip install 'dsvgraph[{log}]'") from None
