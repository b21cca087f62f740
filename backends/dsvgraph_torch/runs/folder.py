"""The run folder: what a training run leaves, and what it needs to go on."""

from __future__ import annotations

import json
import os
import platform
import re
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch

from dsvgraph.backends.training import RunWeights
from dsvgraph.errors import DsvError
from dsvgraph.files import to_disk, write_errors
from dsvgraph_torch.data.corpus import Corpus
from dsvgraph_torch.data.stored import described, read_tokens
from dsvgraph_torch.data.tokens import Tokens
from dsvgraph_torch.optimizers.masters import Masters
from dsvgraph_torch.optimizers.optimizer import Optimizer
from dsvgraph_torch.runs import checkpoint, schema
from dsvgraph_torch.runs.checkpoint import Checkpoint
from dsvgraph_torch.runs.files import LOCK, append_line, check_regular, locked, read, write_text, write_whole
from dsvgraph_torch.runs.schema import About, Record, Result, Stopped
from dsvgraph_torch.training.options import TrainOptions


@dataclass(frozen=True)
class Run:
    """A run folder. Every file in it is written whole, or by whole lines."""

    path: Path

    @property
    def spec(self) -> Path:
        """The spec with everything resolved."""
        return self.path / "spec.yaml"

    @property
    def diagram(self) -> Path:
        return self.path / "diagram.svg"

    @property
    def plot(self) -> Path:
        return self.path / "losses.png"

    @property
    def about(self) -> Path:
        """Options, versions, data and result."""
        return self.path / "run.json"

    @property
    def metrics(self) -> Path:
        """One JSON object per step."""
        return self.path / "metrics.jsonl"

    @property
    def probes(self) -> Path:
        """One JSON object per probe that was taken on the way."""
        return self.path / "probes.jsonl"

    # -- beginning and taking up ----------------------------------------------------------------

    @contextmanager
    def created(self) -> Iterator[None]:
        """Make the folder and hold it. Raise DsvError if it exists with something in it."""
        self.check_new()
        with write_errors(self.path):
            self.path.mkdir(parents=True, exist_ok=True)
        with locked(self.path):
            self.check_new()  # nobody else was faster
            yield

    def check_new(self) -> None:
        """Raise DsvError if the folder exists with something in it."""
        if self.path.exists() and not self.path.is_dir():
            raise DsvError(f"--out: {self.path} is a file, not a folder")
        with write_errors(self.path):
            found = set(os.listdir(self.path)) if self.path.is_dir() else set()
        if found - {LOCK}:
            go_on = "go on with its run by --resume" if self.about.exists() else "empty it"
            hint = f"name another folder, or {go_on}"
            raise DsvError(f"--out: {self.path} exists and is not empty", hint=hint)

    @contextmanager
    def opened(self) -> Iterator[None]:
        """Hold the folder of a run that goes on. Raise DsvError if it is none, or another holds it."""
        self.read_about()
        with locked(self.path):
            for path in (self.spec, self.diagram, self.plot, self.about, self.metrics):
                check_regular(path)
            yield

    def write_about(
        self, options: TrainOptions, corpus: Corpus, saved: bool, result: Result | None, stopped: Stopped | None
    ) -> None:
        """Write run.json."""
        about = {
            "options": options.model_dump(mode="json", exclude={"out", "resume", "dtype"}),
            "data": {"source": corpus.source, "sha256": corpus.digest, "tokens": described(corpus.tokens)},
            "versions": versions(),
            "identity": schema.identity(options, corpus.digest, self.read_spec()),
            "saved": saved,
        }
        found = {"result": result, "stopped": stopped}
        about |= {name: part.model_dump(mode="json") for name, part in found.items() if part}
        write_text(self.about, json.dumps(about, indent=2) + "\n")

    def tokens(self) -> Tokens:
        """Return the vocabulary of the run."""
        tokens = self.read_about().data.tokens
        return read_tokens(self.path, tokens.name, tokens.sha256)

    def exists(self) -> bool:
        """Return whether this is the folder of a run."""
        return os.path.lexists(self.about)

    def read_about(self) -> About:
        """Return what run.json says. Raise DsvError if this is no run folder, or what the run is was changed."""
        if not self.exists():
            raise DsvError(f"{self.path} holds no run: there is no {self.about.name} in it")
        about = schema.read_model(About, self.about)
        if schema.identity(about.options, about.data.sha256, self.read_spec()) != about.identity:
            words = f"{self.about} or {self.spec.name} was changed since the run was started"
            raise DsvError(words, hint="undo the change, or start a new run: --weights CHECKPOINT begins where it was")
        return about

    def read_spec(self) -> str:
        """Return the text of the run's spec. Raise DsvError if it is gone."""
        try:
            return read(self.spec).decode("utf-8")
        except UnicodeDecodeError as error:
            raise DsvError(f"{self.spec} is not UTF-8 text (byte {error.start})") from error

    # -- steps ----------------------------------------------------------------------------------

    def log(self, record: dict[str, Any]) -> None:
        """Append one line to the metrics."""
        append_line(self.metrics, json.dumps(record, allow_nan=False))

    def records(self, losses: Iterable[str]) -> list[Record]:
        """Return the metrics so far, with a number for each of ``losses``. Raise DsvError if a line is damaged."""
        return list(schema.records(self.metrics, set(losses)))

    def rewind(self, step: int) -> None:
        """Forget the metrics and probes of the steps after ``step``, which are about to be taken again."""
        if self.probes.exists():
            lines = [line for line in read(self.probes).split(b"\n")[:-1] if json.loads(line)["step"] <= step]
            write_text(self.probes, b"".join(line + b"\n" for line in lines).decode())
        if self.metrics.exists():
            lines = read(self.metrics).split(b"\n")[:step]
            write_text(self.metrics, b"".join(line + b"\n" for line in lines).decode())

    def save(self, masters: Masters, optimizer: Optimizer, step: int, identity: str, **more: Any) -> None:
        """Save all that is needed to go on after ``step``; ``more`` is as for ``checkpoint.save``."""
        if self.metrics.exists():
            with write_errors(self.metrics):
                to_disk(self.metrics)
        checkpoint.save(self.path, masters, optimizer, step, identity, **more)

    def checkpoint(self, about: About) -> Checkpoint | None:
        """Return the newest checkpoint; nothing where the run was stopped before the first.

        Raise DsvError if it is not whole, or is gone.
        """
        found = checkpoint.latest(self.path, about.identity)
        if found is None and about.saved:
            raise DsvError(f"{self.path} holds no checkpoint, and {self.about.name} says that there was one")
        return found

    def trained(self, weights: RunWeights = RunWeights.LAST) -> Checkpoint:
        """Return the checkpoint with the weights that are asked for. Raise DsvError if there is none."""
        about = self.read_about()
        if found := self.checkpoint(about):
            if weights is RunWeights.BEST:
                return checkpoint.best(self.path, about.identity)
            return found.averaged() if weights is RunWeights.EMA else found
        raise DsvError(f"{self.path} has no weights yet: its run was stopped before the first checkpoint")

    def draw(self, render: Callable[[Path], object]) -> str:
        """Write the diagram; return why it could not be drawn, or nothing."""
        try:
            write_whole(self.diagram, render)
        except DsvError as error:
            return f"no diagram: {error.diagnostics[0].message}"
        return ""


def check_single(folder: Path, weights: RunWeights) -> None:
    """Raise DsvError if weights are asked for that a folder, which is no run, cannot have."""
    if weights is not RunWeights.LAST:
        raise DsvError(f"--weights {weights}: {folder} is no run: it holds the weights of one moment")


def default_folder(name: str) -> Path:
    """``runs/<name>``, with a name that suits a folder."""
    return Path("runs") / (re.sub(r"[^\w.-]+", "-", name.lower()).strip("-.") or "model")


def versions() -> dict[str, str]:
    """Return versions of what a run's numbers depend on."""
    found = {"python": platform.python_version(), "torch": torch.__version__}
    try:
        return {"dsvgraph": version("dsvgraph"), **found}
    except PackageNotFoundError:
        return found
