"""AdamW as DeepSeek-V3 uses it."""

from __future__ import annotations

import torch
from torch import nn

from dsvgraph_torch.training.options import TrainOptions

BETAS = (0.9, 0.95)


def optimizer_for(model: nn.Module, options: TrainOptions) -> torch.optim.AdamW:
    """AdamW over the trained parameters, with weight decay on matrices only."""
    trained = [(name, p) for name, p in model.named_parameters() if p.requires_grad]
    matrices = [p for name, p in trained if is_matrix(name, p)]
    others = [p for name, p in trained if not is_matrix(name, p)]
    groups = [
        {"params": matrices, "weight_decay": options.weight_decay},
        {"params": others, "weight_decay": 0.0},
    ]
    devices = {p.device.type for _, p in trained}
    return torch.optim.AdamW(groups, lr=options.lr, betas=BETAS, fused=devices <= {"cpu", "cuda"})


def is_matrix(name: str, parameter: nn.Parameter) -> bool:
    """Return whether it is a matrix, or a stack of them (experts); norms and biases are not."""
    stacked_vectors = ("bias", "norm.weight")
    return parameter.dim() >= 2 and not name.endswith(stacked_vectors)
