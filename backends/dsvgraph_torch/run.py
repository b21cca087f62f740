"""The run folder: what a training run leaves, and what it needs to go on."""

from __future__ import annotations

import json
import platform
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch
from torch import nn

from dsvgraph.errors import DsvError

from .data import Corpus
from .files import append_line, told, write_text, write_whole
from .options import TrainOptions
from .tensors import load_tensors, load_training_state, load_weights, save_tensors, training_state


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
    def weights(self) -> Path:
        """The weights alone, by the names that the model's family uses."""
        return self.path / "model.safetensors"

    @property
    def state(self) -> Path:
        """Weights and moments in one file, so that they never are of different steps."""
        return self.path / "state.safetensors"

    @property
    def about(self) -> Path:
        """Options, versions, data and result."""
        return self.path / "run.json"

    @property
    def metrics(self) -> Path:
        """One JSON object per step."""
        return self.path / "metrics.jsonl"

    def create(self) -> None:
        """Makes the folder. Raises DsvError where it exists with something in it."""
        if self.path.exists() and not self.path.is_dir():
            raise DsvError(f"--out: {self.path} is a file, not a folder")
        if self.path.is_dir() and any(self.path.iterdir()):
            go_on = "go on with its run by --resume" if self.about.exists() else "empty it"
            hint = f"name another folder, or {go_on}"
            raise DsvError(f"--out: {self.path} exists and is not empty", hint=hint)
        with told(self.path):
            self.path.mkdir(parents=True, exist_ok=True)

    def read_about(self) -> dict[str, Any]:
        """What run.json says. Raises DsvError where this is no run folder."""
        try:
            about = json.loads(self.about.read_text(encoding="utf-8"))
            return {"options": dict(about["options"]), "data": dict(about["data"]), **about}
        except (FileNotFoundError, NotADirectoryError):
            raise DsvError(f"{self.path} holds no run: there is no {self.about.name} in it") from None
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise DsvError(f"{self.about} is damaged: {error}") from error

    def read_spec(self) -> str:
        """The text of the run's spec. Raises DsvError where it is gone."""
        try:
            return self.spec.read_text(encoding="utf-8")
        except (OSError, ValueError) as error:
            raise DsvError(f"cannot read {self.spec}: {error}") from error

    def write_about(self, options: TrainOptions, corpus: Corpus, **more: Any) -> None:
        """Writes run.json."""
        about = {
            "options": options.model_dump(mode="json", exclude={"out", "resume"}),
            "data": {"source": corpus.source, "sha256": corpus.digest},
            "versions": versions(),
            **more,
        }
        write_text(self.about, json.dumps(about, indent=2) + "\n")

    def log(self, record: dict[str, Any]) -> None:
        """Appends one line to the metrics."""
        append_line(self.metrics, json.dumps(record))

    def records(self) -> Iterator[dict[str, Any]]:
        """The metrics so far, less an unfinished last line. Raises DsvError where a line is damaged."""
        if not self.metrics.exists():
            return
        whole_lines = self.metrics.read_text(encoding="utf-8").split("\n")[:-1]
        for number, line in enumerate(whole_lines, 1):
            try:
                yield json.loads(line)
            except ValueError as error:
                raise DsvError(f"{self.metrics}:{number} is damaged: {error}") from error

    def rewind(self, step: int) -> None:
        """Forgets the metrics of the steps after ``step``: they are about to be taken again."""
        kept = [json.dumps(r) + "\n" for r in self.records() if r["step"] <= step]
        write_text(self.metrics, "".join(kept))

    def save(self, model: nn.Module, optimizer: torch.optim.Optimizer, step: int) -> None:
        """Saves all that is needed to go on after ``step``, then the weights alone."""
        save_tensors(self.state, training_state(model, optimizer), step)
        save_tensors(self.weights, model.state_dict(), step)

    def restore(self, model: nn.Module, optimizer: torch.optim.Optimizer) -> int:
        """The step to go on after; 0 where the run was stopped before its first save."""
        return load_training_state(model, optimizer, self.state) if self.state.exists() else 0

    def load(self, model: nn.Module) -> int:
        """Loads the weights alone; returns their step."""
        tensors, step = load_tensors(self.weights)
        load_weights(model, tensors, self.weights)
        return step

    def draw(self, render: Callable[[Path], object]) -> str:
        """Writes the diagram; why it could not be drawn, or nothing."""
        try:
            write_whole(self.diagram, render)
        except DsvError as error:
            return f"no diagram: {error.diagnostics[0].message}"
        return ""


def default_folder(name: str) -> Path:
    """``runs/<name>``, with a name that suits a folder."""
    return Path("runs") / (re.sub(r"[^\w.-]+", "-", name.lower()).strip("-.") or "model")


def versions() -> dict[str, str]:
    """Versions of what a run's numbers depend on."""
    found = {"python": platform.python_version(), "torch": torch.__version__}
    try:
        return {"dsvgraph": version("dsvgraph"), **found}
    except PackageNotFoundError:
        return found
