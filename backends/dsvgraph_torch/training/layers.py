"""Repeated layers run in another way: computed again in the backward instead of kept, or through torch.compile."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

from dsvgraph.backends.training import Precision
from dsvgraph.errors import DsvError
from dsvgraph.graph import Graph, Mode, Model, join
from dsvgraph.passes.estimate.fit import Fitting, FittingOptions, fit, gib, grouped
from dsvgraph.passes.options import Dtype
from dsvgraph_torch.module import expert_load
from dsvgraph_torch.training.options import TrainOptions


def repeated_layers(graph: Model, module: nn.Module, option: str) -> list[nn.Module]:
    """Return the modules of the lines with `repeat`, the outermost ones, each once.

    Raise DsvError, which names ``option``, if there is none.
    """
    found = {id(layer): layer for path in _repeated(graph, "") if (layer := _at(module, path))}
    if not found:
        raise DsvError(f"{option}: {graph.name} has no repeated layer")
    return list(found.values())


def _repeated(graph: Graph, prefix: str) -> Iterator[str]:
    for node in graph.nodes.values():
        for number, copy_ in node.copy_graphs():
            path = join(prefix, node.segment(number))
            if node.mode is Mode.REPEAT:
                yield path
            elif node.mode is Mode.CALL:
                yield from _repeated(copy_, path)


def _at(module: nn.Module, path: str) -> nn.Module | None:
    try:
        return module.get_submodule(path)
    except AttributeError:
        return None


def fitting(graph: Model, options: TrainOptions, device: torch.device) -> Fitting | None:
    """Return what is recomputed to fit the memory that ``options`` allow, None if they say nothing of it.

    Raise DsvError if no choice fits.
    """
    if options.fit_memory is None:
        return None
    return fit(
        graph,
        FittingOptions(
            batch=options.batch,
            seq=options.seq,
            limit=options.fit_memory,
            dtype=Dtype.FLOAT32 if options.precision is Precision.FLOAT32 else Dtype.BFLOAT16,
            fused=device.type != "cpu",
            accumulated=options.accumulate > 1,
            average=options.ema is not None,
        ),
    )


def of_fitting(found: Fitting) -> str:
    """Return a line about what is recomputed."""
    limit, peak = gib(found.limit), gib(found.peak)
    if not found.recomputed:
        return f"--fit-memory: a step takes {peak} of {limit}, and nothing is recomputed"
    parts = ", ".join(path for path, _ in grouped(found.recomputed))
    return f"--fit-memory: a step takes {peak} of {limit}; recomputed, {found.share:.1%} of the forward: {parts}"


def recomputed_modules(module: nn.Module, paths: Iterable[str]) -> list[nn.Module]:
    """Return the modules at ``paths``. Raise DsvError if a block has no module of its own."""
    found = {path: _at(module, path) for path in paths}
    if missing := [path for path, part in found.items() if part is None]:
        raise DsvError(f"--fit-memory: no module of its own runs `{missing[0]}`", hint="use --checkpoint-activations")
    return [part for part in found.values() if part is not None]


def checkpoint_layers(layers: list[nn.Module]) -> None:
    """Let ``layers`` keep their inputs alone while they train, and compute the rest again in the backward."""
    for layer in layers:
        layer.forward = _checkpointed(layer, layer.forward)


def _checkpointed(layer: nn.Module, forward: Callable[..., Any]) -> Callable[..., Any]:
    def run(*inputs: Any) -> Any:
        if not (layer.training and torch.is_grad_enabled()):
            return forward(*inputs)
        again = False

        def once(*inputs: Any) -> Any:
            nonlocal again
            if not again:
                again = True
                return forward(*inputs)
            with uncounted(layer):
                return forward(*(aside(value) for value in inputs))

        return checkpoint(once, *inputs, use_reentrant=False)

    return run


@contextmanager
def uncounted(layer: nn.Module) -> Iterator[None]:
    """Leave the loads that the routers of ``layer`` have counted as they are: its tokens were counted before."""
    before = {path: load_E.clone() for path, load_E in expert_load(layer).items()}
    try:
        yield
    finally:
        for path, load_E in expert_load(layer).items():
            load_E.copy_(before[path])


def aside(value: Any) -> Any:
    """Return a pass's context with what ops collect for the losses in a copy that nobody reads, others as they are."""
    if not hasattr(value, "balance"):
        return value
    found = copy.copy(value)
    for name, part in vars(value).items():
        if isinstance(part, dict) and name != "memo":
            setattr(found, name, dict(part))
    return found


@contextmanager
def compile_errors() -> Iterator[None]:
    """Raise DsvError where torch.compile fails in the block."""
    from torch._dynamo.exc import TorchDynamoException

    try:
        yield
    except TorchDynamoException as error:
        words = next((line for line in str(error).splitlines() if line.strip()), type(error).__name__)
        raise DsvError(
            f"--compile: torch.compile failed: {words}", hint="--no-compile runs the layers as they are"
        ) from error
