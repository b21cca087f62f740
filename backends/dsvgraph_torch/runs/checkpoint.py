"""A checkpoint: one folder with weights, the optimizer's moments and their step, there whole or not at all."""

from __future__ import annotations

import hashlib
import os
import re
import shutil
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import nn

from dsvgraph.errors import DsvError
from dsvgraph.files import opened, write_folder
from dsvgraph_torch.optimizers.masters import Masters
from dsvgraph_torch.optimizers.optimizer import Optimizer
from dsvgraph_torch.runs.schema import CheckpointAbout, read_model
from dsvgraph_torch.runs.tensors import load_moments, load_tensors, load_weights, moments, write_tensors

NAME = re.compile(r"checkpoint-(\d{1,18})")
LEFT = re.compile(r"\.checkpoint-\d+\..+\.tmp")
"""What a process that was killed has left of a checkpoint."""

WEIGHTS, OPTIMIZER, AVERAGE = "model.safetensors", "optimizer.safetensors", "ema.safetensors"
ABOUT = "checkpoint.json"


@dataclass(frozen=True)
class Checkpoint:
    """A folder `checkpoint-STEP` of a run, proved to be whole; ``average``: its weights are the averaged ones."""

    path: Path
    step: int
    average: bool = False

    @property
    def weights(self) -> Path:
        """The weights alone, by the names that the model's family uses."""
        return self.path / (AVERAGE if self.average else WEIGHTS)

    def averaged(self) -> Checkpoint:
        """Return the same with its averaged weights. Raise DsvError if it has none."""
        if not (self.path / AVERAGE).exists():
            words = f"{self.path} holds no average of the weights"
            raise DsvError(words, hint="the run was trained without `--ema`")
        return replace(self, average=True)

    def load_weights(self, model: nn.Module) -> None:
        """Raise DsvError if they are not those of the model."""
        load_weights(model, self._tensors(self.weights), self.weights)

    def load_masters(self, masters: Masters, average: bool = False) -> None:
        """Load the weights, or their ``average``. Raise DsvError if they are missing or not those of the module."""
        path = self.path / AVERAGE if average else self.weights
        tensors = self._tensors(path)
        load_weights(masters.module, tensors, path)
        masters.load(tensors)

    def load_moments(self, optimizer: Optimizer) -> None:
        """Raise DsvError if they are not those of the model's weights."""
        path = self.path / OPTIMIZER
        load_moments(optimizer, self._tensors(path), path)

    def _tensors(self, path: Path) -> dict[str, torch.Tensor]:
        tensors, step = load_tensors(path)
        if step != self.step:
            raise DsvError(f"{path} is of step {step}, and its checkpoint of step {self.step}")
        return tensors


@dataclass(frozen=True)
class Keep:
    """Which checkpoints stay: the ``newest`` ones, and with ``best`` that of the lowest held-out loss."""

    newest: int = 1
    best: bool = False

    def chosen(self, found: dict[int, Path]) -> set[int]:
        """Return the steps of those of ``found`` that stay."""
        newest = sorted(found)[-self.newest :]
        if not self.best:
            return set(newest)
        losses = {step: loss for step, path in found.items() if (loss := heldout_of(path)) is not None}
        return {*newest, *([min(losses, key=lambda step: (losses[step], step))] if losses else [])}


def save(
    run: Path,
    masters: Masters,
    optimizer: Optimizer,
    step: int,
    identity: str,
    *,
    average: Masters | None = None,
    heldout: float | None = None,
    keep: Keep | None = Keep(),
) -> None:
    """Write the checkpoint of ``step`` into ``run``, then remove those that ``keep`` does not choose.

    ``average`` has the averaged weights, ``heldout`` the loss by which the best is chosen. With ``keep``
    None, nothing is removed. Raise DsvError on a full disk and the like; then those before are still there.
    """
    tensors = {WEIGHTS: masters.state_dict(), OPTIMIZER: moments(optimizer)}
    tensors |= {AVERAGE: average.state_dict()} if average else {}

    def write(folder: Path) -> None:
        for name, found in tensors.items():
            write_tensors(folder / name, found, step)
        digests = {name: _digest(folder / name) for name in tensors}
        about = CheckpointAbout(step=step, run=identity, sha256=digests, heldout=heldout)
        (folder / ABOUT).write_text(about.model_dump_json(indent=2) + "\n", encoding="utf-8")

    for name in os.listdir(run):
        if LEFT.fullmatch(name):
            shutil.rmtree(run / name, ignore_errors=True)
    write_folder(run / f"checkpoint-{step}", write)
    found = _found(run)
    for number in found.keys() - (keep.chosen(found) if keep else found.keys()):
        _remove(found[number])


def heldout_of(path: Path) -> float | None:
    """Return the held-out loss of a checkpoint; None where it was not measured or cannot be read."""
    try:
        return read_model(CheckpointAbout, path / ABOUT).heldout
    except DsvError:
        return None


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


def best(run: Path, identity: str) -> Checkpoint:
    """Return the checkpoint with the lowest held-out loss, of those that are kept, the first of equal ones.

    Raise DsvError as `latest` does, or if no checkpoint has a held-out loss.
    """
    found = checkpoints(run, identity)
    losses = {one.step: loss for one in found if (loss := heldout_of(one.path)) is not None}
    if not losses:
        raise DsvError(f"no checkpoint in {run} has a held-out loss", hint="`--eval-every` measures one")
    return next(one for one in found if losses.get(one.step) == min(losses.values()))


def _found(run: Path) -> dict[int, Path]:
    """Return the checkpoints of a run by step."""
    matches = {name: NAME.fullmatch(name) for name in os.listdir(run)}
    return {int(match[1]): run / name for name, match in matches.items() if match}


def _proved(path: Path, step: int, identity: str) -> Checkpoint:
    if not path.is_dir():
        raise DsvError(f"{path} is no folder, and so no checkpoint")
    about = read_model(CheckpointAbout, path / ABOUT)
    if about.step != step:
        raise DsvError(f"{path / ABOUT} is damaged: it is of step {about.step}")
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
