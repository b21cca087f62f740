"""Weights and training state in safetensors files."""

from __future__ import annotations

from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from dsvgraph.errors import DsvError

from .files import write_whole


def save_tensors(path: Path, tensors: dict[str, Tensor], step: int) -> None:
    """Writes ``tensors`` whole, with the step they belong to. Raises DsvError on a full disk."""
    whole = {name: tensor.detach().contiguous() for name, tensor in tensors.items()}

    def write(temporary: Path) -> None:
        temporary.touch()
        mode = temporary.stat().st_mode
        save_file(whole, temporary, {"format": "pt", "step": str(step)})
        temporary.chmod(mode)  # safetensors lets nobody else read

    write_whole(path, write)


def load_tensors(path: Path) -> tuple[dict[str, Tensor], int]:
    """The tensors of a file, on the CPU, and their step (0 where it is not said).

    Raises DsvError where the file is missing or damaged.
    """
    try:
        with safe_open(path, "pt") as file:
            step = int((file.metadata() or {}).get("step", 0))
            return {name: file.get_tensor(name) for name in file.keys()}, step  # noqa: SIM118
    except FileNotFoundError:
        raise DsvError(f"{path} does not exist") from None
    except (SafetensorError, OSError, ValueError) as error:
        raise DsvError(f"{path} is damaged: {error}") from error


def load_weights(model: nn.Module, tensors: dict[str, Tensor], source: Path) -> None:
    """Loads a whole state_dict. Raises DsvError where names or shapes differ."""
    try:
        model.load_state_dict(tensors, strict=True)
    except RuntimeError as error:
        words = " ".join(str(error).split())[:400]
        raise DsvError(f"the weights in {source} are not those of its spec: {words}") from error


def training_state(model: nn.Module, optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    """All that a run needs to go on, by name: weights, and the optimizer's moments."""
    state = {f"model.{name}": tensor for name, tensor in model.state_dict().items()}
    for index, moments in optimizer.state_dict()["state"].items():
        state |= {f"optimizer.{index}.{key}": tensor for key, tensor in moments.items()}
    return state


def load_training_state(model: nn.Module, optimizer: torch.optim.Optimizer, path: Path) -> int:
    """Takes up what ``training_state`` gave; returns the step. Raises DsvError."""
    tensors, step = load_tensors(path)
    weights = {n.removeprefix("model."): t for n, t in tensors.items() if n.startswith("model.")}
    load_weights(model, weights, path)
    moments: dict[int, dict[str, Tensor]] = {}
    for name, tensor in tensors.items():
        if name.startswith("optimizer."):
            _, index, key = name.split(".")
            moments.setdefault(int(index), {})[key] = tensor
    optimizer.load_state_dict({"state": moments, "param_groups": optimizer.state_dict()["param_groups"]})
    return step
