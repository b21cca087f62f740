"""A checkpoint: one folder with weights, the optimizer's moments and their step, there whole or not at all."""

from __future__ import annotations

import hashlib
import os
import re
import shutil
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn

from dsvgraph.errors import DsvError
from dsvgraph.files import opened, write_folder
from dsvgraph_torch.runs.schema import CheckpointAbout, read_model
from dsvgraph_torch.runs.tensors import load_moments, load_tensors, load_weights, moments, write_tensors

NAME = re.compile(r"checkpoint-(\d{1,18})")
LEFT = re.compile(r"\.checkpoint-\d+\..+\.tmp")
"""What a process that was killed has left of a checkpoint."""

WEIGHTS, OPTIMIZER, ABOUT = "model.safetensors", "optimizer.safetensors", "checkpoint.json"


@dataclass(frozen=True)
class Checkpoint:
    """A folder `checkpoint-STEP` of a run, proved to be whole."""

    path: Path
    step: int

    @property
    def weights(self) -> Path:
        """The weights alone, by the names that the model's family uses."""
        return self.path / WEIGHTS

    def load_weights(self, model: nn.Module) -> None:
        """Raise DsvError if they are not those of the model."""
        load_weights(model, self._tensors(self.weights), self.weights)

    def load_moments(self, model: nn.Module, optimizer: torch.optim.Optimizer) -> None:
        """Raise DsvError if they are not those of the model's weights."""
        path = self.path / OPTIMIZER
        load_moments(model, optimizer, self._tensors(path), path)

    def _tensors(self, path: Path) -> dict[str, torch.Tensor]:
        tensors, step = load_tensors(path)
        if step != self.step:
            raise DsvError(f"{path} is of step {step}, and its checkpoint of step {self.step}")
        return tensors


def save(run: Path, model: nn.Module, optimizer: torch.optim.Optimizer, step: int, identity: str) -> None:
    """Write the checkpoint of ``step`` into ``run``, then remove those before it.

    Raise DsvError on a full disk and the like; then the one before is still there.
    """

    def write(folder: Path) -> None:
        write_tensors(folder / WEIGHTS, model.state_dict(), step)
        write_tensors(folder / OPTIMIZER, moments(model, optimizer), step)
        digests = {name: _digest(folder / name) for name in (WEIGHTS, OPTIMIZER)}
        about = CheckpointAbout(step=step, run=identity, sha256=digests)
        (folder / ABOUT).write_text(about.model_dump_json(indent=2) + "\n", encoding="utf-8")

    for name in os.listdir(run):
        if LEFT.fullmatch(name):
            shutil.rmtree(run / name, ignore_errors=True)
    write_folder(run / f"checkpoint-{step}", write)
    for number, path in _found(run).items():
        if number != step:
            _remove(path)


def _remove(folder: Path) -> None:
    """Under its name a checkpoint is whole: first the name goes, then the files."""
    gone = folder.with_name(f".{folder.name}.{os.getpid()}.tmp")
    with suppress(OSError):  # nothing is lost by an old one that stays
        os.rename(folder, gone)
        shutil.rmtree(gone, ignore_errors=True)


def latest(run: Path, identity: str) -> Checkpoint | None:
    """Return the newest checkpoint of a run, or nothing.

    Raise DsvError if it is not whole, was changed, or belongs to another run.
    """
    found = _found(run)
    if not found:
        return None
    step = max(found)
    try:
        return _proved(found[step], step, identity)
    except DsvError:
        if max(_found(run), default=step) > step:  # a training has put the next in its place
            return latest(run, identity)
        raise


def checkpoints(run: Path, identity: str) -> list[Checkpoint]:
    """Return the checkpoints that a run has kept, the oldest first. Raise DsvError as `latest` does."""
    return [_proved(path, step, identity) for step, path in sorted(_found(run).items())]


def _found(run: Path) -> dict[int, Path]:
    """Return the checkpoints of a run by step."""
    matches = {name: NAME.fullmatch(name) for name in os.listdir(run)}
    return {int(match[1]): run / name for name, match in matches.items() if match}


def _proved(path: Path, step: int, identity: str) -> Checkpoint:
    if not path.is_dir():
        raise DsvError(f"{path} is no folder, and so no checkpoint")
    about = read_model(CheckpointAbout, path / ABOUT)
    if about.step != step:
        raise DsvError(f"{path / ABOUT} is damaged: it tells of step {about.step}")
    if about.run != identity:
        raise DsvError(f"{path} belongs to another run: options, data or spec differ from those of {path.parent}")
    for name, digest in about.sha256.items():
        if _digest(path / name) != digest:
            raise DsvError(f"{path / name} is damaged: it is not what was saved after step {step}")
    return Checkpoint(path, step)


def _digest(path: Path) -> str:
    try:
        with opened(path) as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except FileNotFoundError:
        raise DsvError(f"{path.parent} is not whole: there is no {path.name} in it") from None
    except OSError as error:
        raise DsvError(f"cannot read {path}: {error.strerror}") from error
