"""The average of a module's weights over the steps."""

from __future__ import annotations

import torch

from dsvgraph_torch.optimizers.masters import Masters


class Average:
    """An average in float32, and ``module``, a copy of the module that computes with it.

    After the first step it holds the weights, then each step moves it by 1 - ``decay`` of the way. Buffers, the
    biases of routers among them, are those of the module.
    """

    def __init__(self, masters: Masters, decay: float) -> None:
        self.masters, self.decay, self.begun = masters.copied(), decay, False
        self.module = self.masters.module.requires_grad_(False)

    @torch.no_grad()
    def update(self, masters: Masters) -> None:
        """Take in the weights after a step."""
        own = [self.masters.of(parameter) for parameter in self.module.parameters()]
        now = [masters.of(parameter) for parameter in masters.module.parameters()]
        if self.begun:
            now = [weight.to(average.dtype) for weight, average in zip(now, own, strict=True)]
            torch._foreach_lerp_(own, now, 1 - self.decay)
        else:
            torch._foreach_copy_(own, now)
        for kept, buffer in zip(self.module.buffers(), masters.module.buffers(), strict=True):
            kept.copy_(buffer)
        self.masters.round(self.masters.exact)
        self.begun = True
