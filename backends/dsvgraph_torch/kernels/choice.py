"""Which functions are the fastest known for a device."""

from __future__ import annotations

from typing import Any

import torch

from dsvgraph_torch.kernels import cpu, gpu


def functions(device: str | torch.device) -> dict[str, Any]:
    """Return the functions and modules, by name, that train faster on ``device`` than those of emitted files."""
    return gpu.FUNCTIONS if torch.device(device).type == "cuda" else cpu.FUNCTIONS
