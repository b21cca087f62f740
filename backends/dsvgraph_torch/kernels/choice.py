"""Which functions are the fastest known for a device."""

from __future__ import annotations

import ast
from collections.abc import Mapping
from typing import Any

import torch

from dsvgraph_torch.kernels import cpu, gpu
from dsvgraph_torch.kernels.gpu.rewriting import rewritten


def functions(device: str | torch.device) -> dict[str, Any]:
    """Return the functions and modules, by name, that train faster on ``device`` than those of emitted files."""
    return gpu.FUNCTIONS if torch.device(device).type == "cuda" else cpu.FUNCTIONS


def classes_for(classes: list[ast.stmt], functions: Mapping[str, Any]) -> list[ast.stmt]:
    """Return ``classes`` as ``functions`` run them fastest: for a GPU mixtures of experts are one call."""
    return rewritten(classes) if functions.get("Linears") is gpu.FUNCTIONS["Linears"] else classes
