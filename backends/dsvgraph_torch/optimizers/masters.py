"""The numbers of a module's weights: bfloat16 to compute with, and the float32 ones behind them that training moves."""

from __future__ import annotations

import copy
from collections.abc import Iterable, Mapping

import torch
from torch import Tensor, nn

from dsvgraph.backends.training import Precision


class Masters:
    """The float32 weights of ``module`` whose own are bfloat16. A weight that is not rounded is its own master."""

    def __init__(self, module: nn.Module, exact: Mapping[nn.Parameter, Tensor]) -> None:
        self.module, self.exact = module, exact

    def of(self, parameter: nn.Parameter) -> Tensor:
        """Return the exact weight of ``parameter``."""
        return self.exact.get(parameter, parameter)

    def state_dict(self) -> dict[str, Tensor]:
        """Return the state_dict of the module with the exact weights in it."""
        return {path: self._part(weight).detach() for path, weight in self.module.state_dict(keep_vars=True).items()}

    @torch.no_grad()
    def load(self, tensors: Mapping[str, Tensor]) -> None:
        """Take up what ``state_dict`` gave; the module has loaded it already."""
        for path, weight in self.module.state_dict(keep_vars=True).items():
            if whole(weight) in self.exact:
                self._part(weight).copy_(tensors[path])
        self.round(self.exact)

    @torch.no_grad()
    def round(self, parameters: Iterable[nn.Parameter]) -> None:
        """Set ``parameters`` to their masters, rounded."""
        pairs = [(p, self.exact[p]) for p in parameters if p in self.exact]
        if pairs:
            torch._foreach_copy_([p for p, _ in pairs], [master for _, master in pairs])

    def copied(self) -> Masters:
        """Return the masters of a copy of the module: every weight that is bfloat16 has a float32 one there."""
        module = copy.deepcopy(self.module)
        pairs = zip(module.parameters(), self.module.parameters(), strict=True)
        return Masters(module, {p: self.of(old).detach().to(torch.float32, copy=True) for p, old in pairs if is_low(p)})

    def _part(self, weight: Tensor) -> Tensor:
        base = whole(weight)
        return part_of(self.exact[base], weight, base) if base in self.exact else weight


def is_low(parameter: Tensor) -> bool:
    """Return whether it is in bfloat16."""
    return parameter.dtype == torch.bfloat16


def whole(weight: Tensor) -> nn.Parameter:
    """Return the parameter that a weight of a state_dict is, or is a part of."""
    return weight if weight._base is None else weight._base


def part_of(other: Tensor, part: Tensor, like: Tensor) -> Tensor:
    """Return the part of ``other`` that ``part`` is of ``like``."""
    return other.as_strided(part.shape, part.stride(), part.storage_offset() - like.storage_offset())


def with_precision(module: nn.Module, precision: Precision) -> Masters:
    """Put the weights of ``module`` into the numbers of ``precision``; return its masters.

    Buffers stay as they are. The weights of routers are rounded under `pure-bf16` alone: near ties decide.
    """
    if precision is Precision.FLOAT32:
        return Masters(module, {})
    pure = precision is Precision.PURE_BF16
    kept = set() if pure else {p for m in module.modules() if hasattr(m, "tokens_per_expert") for p in m.parameters()}
    exact = {p: p.data for p in module.parameters() if p not in kept and p.dtype == torch.float32}
    for parameter in exact:
        parameter.data = parameter.data.to(torch.bfloat16)
    return Masters(module, {} if pure else exact)
