"""What every compiled model can do besides its own forward: losses, names, initialisation.

Like runtime.py this is copied as text into emitted files.
"""

import re
from typing import NamedTuple

import torch
import torch.nn as nn
import torch.nn.functional as F

from dsvgraph_torch.runtime import Context, Router, compute_dtype, cross_entropy_sum, grouped_linear, linear_cross_entropy, rms_norm


class RMSNorm(nn.RMSNorm):
    """nn.RMSNorm with statistics in float32, under autocast too."""

    def forward(self, x):
        return rms_norm(x, self.weight, self.eps)


class Head(NamedTuple):
    """Logits that are not multiplied out: x weight^T, so that a loss can take them in chunks."""

    x: torch.Tensor
    weight: torch.Tensor

    def logits(self):
        """The logits, [..., V]."""
        return F.linear(self.x, self.weight)


def head(x, weight, ctx):
    """Logits for the caller, or what makes them where a loss will take them in chunks."""
    return Head(x, weight) if ctx.defer else F.linear(x, weight)


def shift(x_BT, by, fill=0):
    """y[i] = x[i + by], along dim 1; positions without a source are fill."""
    y = torch.roll(x_BT, -by, 1)
    fresh = y[:, -by:] if by > 0 else y[:, :-by]
    if by:
        fresh.fill_(fill)
    return y


def cross_entropy(logits, targets_BT, shift, tail=0):
    """Sum over the positions that have a target, and how many these are (at least 1).

    targets[i] is token i + 1, so what is `shift` ahead of i is targets[i + shift - 1]. The last
    `tail` positions are made of fill and are left out.
    """
    n = max(0, targets_BT.shape[1] - max(shift - 1, tail))
    t = targets_BT[:, shift - 1 : shift - 1 + n].flatten()
    valid = (t != -100).sum().clamp(min=1)
    if not n:
        return torch.zeros((), device=targets_BT.device), valid
    if isinstance(logits, Head):
        return linear_cross_entropy(logits.x[:, :n].flatten(0, 1), logits.weight, t), valid
    return cross_entropy_sum(logits[:, :n].flatten(0, 1), t), valid


class Linears(nn.Module):
    """One linear map per copy, the weights stacked: [copies, out, in]."""

    def __init__(self, copies, inputs, outputs, bias=False):
        super().__init__()
        self.weight = nn.Parameter(torch.empty(copies, outputs, inputs))
        self.bias = nn.Parameter(torch.empty(copies, outputs)) if bias else None

    def forward(self, x_SD, sent):
        y_SF = grouped_linear(x_SD, self.weight, sent.offsets)
        return y_SF if self.bias is None else y_SF + per_row(self.bias, sent, y_SF)


class Norms(nn.Module):
    """One RMSNorm per copy, the gains stacked: [copies, width]."""

    def __init__(self, copies, width, eps):
        super().__init__()
        self.eps = eps
        self.weight = nn.Parameter(torch.ones(copies, width))

    def forward(self, x_SD, sent):
        return rms_norm(x_SD, torch.ones_like(self.weight[0]), self.eps) * per_row(self.weight, sent, x_SD)


def per_row(weight_EF, sent, like):
    """Each row's own entry of a stacked weight: [S, F]."""
    rows = torch.arange(like.shape[0], device=like.device, dtype=sent.offsets.dtype)
    return weight_EF[torch.searchsorted(sent.offsets, rows, right=True)].to(like.dtype)


class Each(nn.Module):
    """Copies side by side with stacked weights, whose state_dict has a name for each copy."""

    def __init__(self, copies):
        super().__init__()
        self.copies = copies
        self.register_state_dict_post_hook(Each._unstack)
        self.register_load_state_dict_pre_hook(Each._stack)

    @staticmethod
    def _unstack(module, state, prefix, metadata):
        for name in [n for n in state if n.startswith(prefix)]:
            stacked = state.pop(name)
            for i in range(module.copies):
                state[f"{prefix}{i}.{name.removeprefix(prefix)}"] = stacked[i]

    @staticmethod
    def _stack(module, state, prefix, metadata, strict, missing, unexpected, errors):
        for name, parameter in module.named_parameters():
            keys = [f"{prefix}{i}.{name}" for i in range(module.copies)]
            if all(k in state and state[k].shape == parameter.shape[1:] for k in keys):
                state[prefix + name] = torch.stack([state.pop(k) for k in keys])


class Model(nn.Module):
    """Base of the compiled models.

    aliases: second names of shared weights; init: (pattern, kind, value), the last match wins;
    frozen: patterns of weights that do not train; tails: positions of fill at the end of a router's row.
    """

    aliases, init, frozen, tails = {}, (), (), {}
    tokens_seen = 0  # set by the trainer; schedules in the loss read it

    def finish(self):
        """Puts in place what the graph knows of single copies; called at the end of __init__."""
        for path, tail in self.tails.items():
            self.get_submodule(path).tail = tail
        for name, parameter in self.named_parameters():
            trained = [t for pattern, t in self.frozen if re.fullmatch(pattern, self.path(name))]
            parameter.requires_grad_(trained[-1] if trained else True)
        self.register_load_state_dict_pre_hook(Model._drop_aliases)

    @staticmethod
    def _drop_aliases(module, state, prefix, metadata, strict, missing, unexpected, errors):
        """A checkpoint may hold copies of shared weights; they must hold the same numbers."""
        for alias, owner in module.aliases.items():
            copy = state.pop(prefix + alias, None)
            if copy is not None and prefix + owner in state and not torch.equal(copy, state[prefix + owner]):
                errors.append(f"{alias} is shared with {owner}, but the checkpoint holds other numbers for it")

    def path(self, name):
        """The path of a weight in the graph; the first copy's where copies are stacked."""
        parts = name.split(".")
        for i in range(len(parts) - 1, 0, -1):
            if isinstance(self.get_submodule(".".join(parts[:i])), Each):
                parts.insert(i, "0")
        return ".".join(parts)

    def routers(self, pattern=".*"):
        """Routers by path."""
        return {n: m for n, m in self.named_modules() if isinstance(m, Router) and re.fullmatch(pattern, n)}

    def context(self, targets=None, positions=None, documents=None, cache=None):
        """The context of one forward pass."""
        ctx = Context(positions, documents, cache, collect=targets is not None)
        ctx.defer = targets is not None
        ctx.balance = [] if targets is not None and self.wants_balance else None
        return ctx

    wants_balance = False

    def balance(self, ctx, pattern):
        """Sum of the balance losses of the routers that match."""
        wanted = set(map(id, self.routers(pattern).values()))
        return sum(value for router, value in ctx.balance if id(router) in wanted)

    def expert_load(self):
        """Tokens sent to each expert since the last step, by router path: [E] each."""
        return {path: router.tokens_per_expert for path, router in self.routers().items()}

    def after_step(self):
        """Once per optimizer step, after it: biases move, counts begin anew."""
        for router in self.routers().values():
            router.tokens_per_expert.zero_()

    @torch.no_grad()
    def initialise(self, seed=0):
        """Fills every weight by the rules of the spec, from one generator."""
        generator = torch.Generator().manual_seed(seed)
        named = [*self.named_parameters(), *((n, b) for n, b in self.named_buffers() if n in self.state_dict())]
        for name, weight in named:
            kind, value = self.rule(self.path(name), weight)
            if kind in ("zeros", "ones"):
                weight.fill_(float(kind == "ones"))
            else:
                draw = torch.randn if kind == "normal" else lambda s, generator: torch.rand(s, generator=generator) * 2 - 1
                weight.copy_(draw(weight.shape, generator=generator) * value)
        return self

    def rule(self, path, weight):
        """How the weight at path begins: the spec's last match, else what its op says."""
        found = [(k, v) for pattern, k, v in self.init if re.fullmatch(pattern, path)]
        if found:
            return found[-1]
        if path.endswith("bias"):
            return "zeros", 0.0
        return ("ones", 0.0) if "norm" in type(self.get_submodule(self.owner(path))).__name__.lower() else ("normal", 0.02)

    def owner(self, path):
        """The module that holds the weight at path (stacked copies are one module)."""
        for name, _ in self.named_parameters():
            if self.path(name) == path:
                return name.rpartition(".")[0]
        return path.rpartition(".")[0]
