"""Optimizers: AdamW as DeepSeek-V3 uses it, or Muon for matrices with AdamW for the rest, over float32 weights."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from dsvgraph.backends.training import OptimizerKind
from dsvgraph.graph import Model
from dsvgraph.names import listed
from dsvgraph.passes.estimate.memory import AT_ONCE
from dsvgraph_torch.kernels.gpu.gathers import has_triton
from dsvgraph_torch.optimizers.masters import Masters, part_of
from dsvgraph_torch.optimizers.weights import (
    SCALE,
    Weight,
    for_muon,
    group,
    is_matrix,
    lr_factors,
    merged,
    trained_weights,
    vocabulary_weights,
)
from dsvgraph_torch.training.options import TrainOptions

BETAS = (0.9, 0.95)


class Optimizer:
    """torch's optimizers, ``parts``, over the trained weights of a module: over their masters where they are rounded.

    A step reads the gradients of the module's parameters, moves the masters in float32 and rounds them into the
    parameters. Muon moves the weights of ``views``: matrices, one by one where they are stacked. A parameter of
    ``reached`` that has no gradient has one of 0: the losses that reach it weigh nothing in this step.
    """

    def __init__(
        self, weights: Sequence[tuple[Weight, dict[str, Any]]], by_muon: Iterable[str], masters: Masters, lr: float
    ) -> None:
        self.masters, self.sums, muon = masters, dict[nn.Parameter, Tensor](), set(by_muon)
        self.reached = frozenset[nn.Parameter]()
        self.weights = [weight for weight, _ in weights]
        self.views = {
            path: (weight, part_of(masters.of(weight.parameter).detach(), part, weight.parameter))
            for weight in self.weights if weight.name in muon for path, part in weight.parts.items()
        }  # fmt: skip
        settings = {weight.name: found for weight, found in weights}
        views = [{"params": [view], **settings[weight.name]} for weight, view in self.views.values()]
        others = [{"params": [masters.of(w.parameter)], **settings[w.name]} for w in self.weights if w.name not in muon]
        # one learning rate for both: the update of Muon has the size of AdamW's (arXiv 2502.16982)
        parts = [torch.optim.Muon(merged(views), lr=lr, adjust_lr_fn="match_rms_adamw")] if views else []
        self.parts: list[torch.optim.Optimizer] = [*parts, *([adamw(merged(others), lr)] if others else [])]

    @property
    def param_groups(self) -> list[dict[str, Any]]:
        """The groups of all parts."""
        return [group for part in self.parts for group in part.param_groups]

    def named(self, part: torch.optim.Optimizer) -> Iterator[tuple[str, Tensor]]:
        """Yield name and weight in the order in which ``part`` numbers them."""
        names = {self.masters.of(weight.parameter): weight.name for weight in self.weights}
        names |= {view: path for path, (_, view) in self.views.items()}
        yield from ((names[tensor], tensor) for group in part.param_groups for tensor in group["params"])

    # -- gradients -----------------------------------------------------------------------------------

    def accumulate_exactly(self) -> None:
        """Add up the gradients of bfloat16 weights in float32, from one backward pass to the next."""
        for weight in self.weights:
            if weight.parameter in self.masters.exact:
                weight.parameter.register_post_accumulate_grad_hook(self._add)

    def _add(self, parameter: nn.Parameter) -> None:
        known, gradient = self.sums.get(parameter), parameter.grad
        assert gradient is not None
        self.sums[parameter] = gradient.float() if known is None else known.add_(gradient)
        parameter.grad = None

    def gradient(self, weight: Weight) -> Tensor | None:
        """Return the gradient of a weight, None where it has none."""
        found = self.sums.get(weight.parameter, weight.parameter.grad)
        return torch.zeros_like(weight.parameter) if found is None and weight.parameter in self.reached else found

    @torch.no_grad()
    def gradient_norm(self) -> Tensor:
        """Return the norm of all gradients, summed in float32."""
        by_dtype: dict[torch.dtype, list[Tensor]] = {}
        for weight in self.weights:
            if (found := self.gradient(weight)) is not None:
                by_dtype.setdefault(found.dtype, []).append(found)
        norms = [
            norm
            for dtype, found in by_dtype.items()
            for norm in torch._foreach_norm(found, 2, torch.promote_types(dtype, torch.float32))
        ]
        return torch.linalg.vector_norm(torch.stack(norms)) if norms else torch.zeros(())

    # -- steps ---------------------------------------------------------------------------------------

    @torch.no_grad()
    def step(self, factor: Tensor | None = None, skip: Tensor | None = None) -> None:
        """Take a step by the gradients times ``factor``; none where ``skip`` is 1, which is known on the device."""
        gradients = {weight.name: self.gradient(weight) for weight in self.weights}
        self.zero_grad()  # a piece has its own alone
        if self.fused():
            self._step_at_once(gradients, factor, skip)
            return
        for weights in self._pieces():
            self._give_gradients(weights, gradients, factor)
            for part in self.parts:
                step_of(part, skip)
            self.masters.round(weight.parameter for weight in weights)
            self._forget_gradients(weights)

    def fused(self) -> bool:
        """Return whether one kernel takes the step: AdamW alone, on a GPU, with the package triton."""
        devices = {self.masters.of(weight.parameter).device.type for weight in self.weights}
        return devices == {"cuda"} and not self.views and has_triton()

    def _step_at_once(self, gradients: dict[str, Tensor | None], factor: Tensor | None, skip: Tensor | None) -> None:
        from dsvgraph_torch.kernels.gpu.adamw import adamw as move

        (part,) = self.parts
        names = {self.masters.of(weight.parameter): weight for weight in self.weights}
        for settings in part.param_groups:
            given = [(names[p], p, gradients.pop(names[p].name)) for p in settings["params"]]
            moved = [(weight, exact, gradient) for weight, exact, gradient in given if gradient is not None]
            for _, exact, _ in moved:
                if not part.state[exact]:
                    part.state[exact] = {
                        "step": torch.zeros((), device=exact.device),
                        "exp_avg": torch.zeros_like(exact),
                        "exp_avg_sq": torch.zeros_like(exact),
                    }
            steps = [part.state[exact]["step"] for _, exact, _ in moved]
            if steps:
                torch._foreach_add_(steps, 1 if skip is None else 1 - skip)
            for weight, exact, gradient in moved:
                rounded = weight.parameter if weight.parameter in self.masters.exact else None
                move(exact, rounded, gradient.contiguous(), part.state[exact], settings, factor, skip)

    def zero_grad(self) -> None:
        """Forget the gradients."""
        self.sums.clear()
        for weight in self.weights:
            weight.parameter.grad = None

    def _pieces(self) -> Iterator[list[Weight]]:
        """Yield the weights in pieces: not all gradients of bfloat16 weights have to be in float32 at once."""
        piece, size = list[Weight](), 0
        for weight in self.weights:
            numbers = weight.parameter.numel() if weight.parameter in self.masters.exact else 0
            if piece and size + numbers > AT_ONCE:
                yield piece
                piece, size = [], 0
            piece, size = [*piece, weight], size + numbers
        yield piece

    def _give_gradients(
        self, weights: Sequence[Weight], gradients: dict[str, Tensor | None], factor: Tensor | None
    ) -> None:
        found = list[Tensor]()
        for weight in weights:
            master, gradient = self.masters.of(weight.parameter), gradients.pop(weight.name)
            if gradient is not None:
                master.grad = gradient.to(master.dtype)
                found.append(master.grad)
        if factor is not None and found:
            torch._foreach_mul_(found, factor.to(found[0].dtype))
        for weight, view in self.views.values():
            master = self.masters.of(weight.parameter)
            if master.grad is not None:
                view.grad = part_of(master.grad.contiguous(), view, master)

    def _forget_gradients(self, weights: list[Weight]) -> None:
        for weight in weights:
            self.masters.of(weight.parameter).grad = None
        for _, view in self.views.values():
            view.grad = None


def step_of(part: torch.optim.Optimizer, skip: Tensor | None) -> None:
    """Take a step of one of torch's optimizers; where ``skip`` is 1 weights and states stay as they are."""
    if skip is None or isinstance(part, torch.optim.AdamW):
        part.found_inf = skip  # what a gradient scaler would say to the fused kernel
        part.step()
        return
    moved = [p for group in part.param_groups for p in group["params"] if p.grad is not None]
    moved += [value for p in moved for value in part.state[p].values() if isinstance(value, Tensor)]
    before = [tensor.clone() for tensor in moved]
    part.step()
    for tensor, old in zip(moved, before, strict=True):
        tensor.copy_(torch.where(skip > 0, old, tensor))


def adamw(groups: list[dict[str, Any]], lr: float) -> torch.optim.AdamW:
    """Return AdamW over ``groups``."""
    devices = {p.device.type for group in groups for p in group["params"]}
    return torch.optim.AdamW(groups, lr=lr, betas=BETAS, fused=devices <= {"cpu", "cuda"})


def optimizer_for(
    module: nn.Module, options: TrainOptions, model: Model | None = None, masters: Masters | None = None
) -> Optimizer:
    """Return the optimizer over the trained parameters of ``module``, or their ``masters``.

    Muon leaves the embeddings and the output layers of ``model`` to AdamW. Raise DsvError if a pattern of `--lr-for`
    fits no weight, or some experts of a stack and not others.
    """
    trained = trained_weights(module)
    factors = lr_factors(trained, options.lr_for)
    apart = vocabulary_weights(model) if model else frozenset()
    by_muon = [w.name for w in trained if options.optimizer is OptimizerKind.MUON and for_muon(w, apart)]
    weights = [(weight, group(weight, factors[weight.name], options)) for weight in trained]
    found = Optimizer(weights, by_muon, masters or Masters(module, {}), options.lr)
    if options.accumulate > 1:
        found.accumulate_exactly()
    return found


def set_rate(optimizer: Optimizer, rate: float) -> None:
    """Let every group learn at ``rate``, times its own factor."""
    for settings in optimizer.param_groups:
        settings["lr"] = rate * settings.get(SCALE, 1.0)


def of_optimizer(optimizer: Optimizer) -> Iterator[str]:
    """Yield a line about which optimizer moves what, where there are two."""
    if not optimizer.views:
        return
    moved = {weight.name for weight, _ in optimizer.views.values()}
    rest = [weight for weight in optimizer.weights if weight.name not in moved]
    matrices = [w.name for w in rest if is_matrix(w.name, w.parameter)]
    others = [*([listed(matrices, 6)] if matrices else []), f"{len(rest) - len(matrices)} vectors"]
    yield f"--optimizer muon: {len(optimizer.views)} matrices by Muon; by AdamW {' and '.join(others)}"
