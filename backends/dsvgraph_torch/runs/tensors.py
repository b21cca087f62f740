"""Weights and the optimizer's moments in safetensors files."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn

from dsvgraph.errors import DsvError
from dsvgraph.files import opened, write_whole
from dsvgraph.names import listed
from dsvgraph.tensorfile import TensorEntry, header
from dsvgraph_torch.optimizers.optimizer import Optimizer

KINDS = {
    torch.float64: "F64", torch.float32: "F32", torch.float16: "F16", torch.bfloat16: "BF16",
    torch.int64: "I64", torch.int32: "I32", torch.int16: "I16", torch.int8: "I8", torch.uint8: "U8",
    torch.bool: "BOOL",
}  # fmt: skip
MOMENTS = ("exp_avg", "exp_avg_sq")
"""What AdamW keeps of each weight, beside the number of its steps."""


def save_tensors(path: Path, tensors: dict[str, Tensor], step: int) -> None:
    """Write ``tensors`` whole, with the step they belong to; equal tensors give equal bytes.

    Raise DsvError on a full disk.
    """
    write_whole(path, lambda temporary: write_tensors(temporary, tensors, step), in_place=True)


def write_tensors(path: Path, tensors: dict[str, Tensor], step: int) -> None:
    """As ``save_tensors``, into a file that nobody reads yet. Raise OSError."""
    entries = [
        TensorEntry(name, KINDS[t.dtype], tuple(t.shape), t.dtype.itemsize) for name, t in sorted(tensors.items())
    ]
    text, places = header(entries, {"format": "pt", "step": str(step)})
    with path.open("wb") as file:
        file.write(text)
        for name in places:
            numbers = tensors[name].detach().to("cpu").contiguous().reshape(-1).view(torch.uint8)
            file.write(memoryview(numbers.numpy()))


def load_tensors(path: Path) -> tuple[dict[str, Tensor], int]:
    """Return the tensors of a file, on the CPU, and their step (0 where it is not said).

    Raise DsvError if the file is missing, damaged, or no regular file.
    """
    try:
        with opened(path), safe_open(path, "pt") as file:
            step = int((file.metadata() or {}).get("step", 0))
            return {name: file.get_tensor(name) for name in file.keys()}, step  # noqa: SIM118
    except FileNotFoundError:
        raise DsvError(f"{path} does not exist") from None
    except (SafetensorError, OSError, ValueError) as error:
        raise DsvError(f"{path} is damaged: {error}") from error


def load_weights(model: nn.Module, tensors: dict[str, Tensor], source: Path) -> None:
    """Load a whole state_dict. Raise DsvError if names or shapes differ."""
    try:
        model.load_state_dict(tensors, strict=True)
    except RuntimeError as error:
        words = " ".join(str(error).split())[:400]
        raise DsvError(f"the weights in {source} are not those of its spec: {words}") from error


def moments(optimizer: Optimizer) -> dict[str, Tensor]:
    """Return what the optimizer keeps of every weight that it trains, as `WEIGHT.exp_avg` and so on.

    A weight that never had a gradient has none yet: then it is what the optimizer would begin with, so that
    what is lacking in a file is always a fault.
    """
    found: dict[str, Tensor] = {}
    for part in optimizer.parts:
        for name, weight in optimizer.named(part):
            state = part.state.get(weight) or _fresh(part, weight)
            found |= {f"{name}.{key}": state[key] for key in kept(part)}
    return found


def load_moments(optimizer: Optimizer, tensors: dict[str, Tensor], source: Path) -> None:
    """Take up what ``moments`` gave. Raise DsvError if a name, a shape or a kind of number differs."""
    wanted = moments(optimizer)
    for words, names in (("lack", wanted.keys() - tensors.keys()), ("have unknown", tensors.keys() - wanted.keys())):
        if names:
            raise DsvError(f"the optimizer's moments in {source} {words} {listed(sorted(names), 3)}")
    for name, tensor in tensors.items():
        if (tensor.shape, tensor.dtype) != (wanted[name].shape, wanted[name].dtype):
            found, want = (f"{t.dtype} {[*t.shape]}" for t in (tensor, wanted[name]))
            raise DsvError(f"`{name}` in {source} is {found}, and the optimizer's is {want}")
    for part in optimizer.parts:
        state = {
            number: {key: tensors[f"{name}.{key}"] for key in kept(part)}
            for number, (name, _) in enumerate(optimizer.named(part))
        }
        part.load_state_dict({"state": state, "param_groups": part.state_dict()["param_groups"]})


def kept(part: torch.optim.Optimizer) -> tuple[str, ...]:
    """Return the names of what an optimizer keeps of each weight."""
    return ("momentum_buffer",) if isinstance(part, torch.optim.Muon) else ("step", *MOMENTS)


def _fresh(part: torch.optim.Optimizer, weight: Tensor) -> dict[str, Any]:
    """Return what the optimizer keeps of a weight before its first step."""
    return {key: torch.zeros(()) if key == "step" else torch.zeros_like(weight) for key in kept(part)}
