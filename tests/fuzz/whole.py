"""What must hold for every spec that checks: it compiles, trains a step, is written as a file that runs, is drawn."""

from __future__ import annotations

import warnings
from typing import Any

import torch
from emitted import judge_source
from judge import Broken, bounded

import dsvgraph
from dsvgraph.build.decoding.state import Decoder, axis
from dsvgraph.graph import Model, walk
from dsvgraph.passes.count.cost import cost
from dsvgraph.passes.graph.decoding import looks_ahead
from dsvgraph_graphviz import dot_source
from dsvgraph_torch import after_step, compile, emit, prove, report
from dsvgraph_torch.emitted import load_source

ROWS, LENGTH = 2, 5
SECONDS = 2.0  # of computing, for each thing that is made
SMALL = 3_000_000  # parameters of a model that is trained a step here; others are built on the meta device
MANY = 50_000  # copies of lines beyond which a model is emitted and not built


def emitted(model: Model) -> None:
    """`compile --emit` of any model that checks, and a training step of a small one; raises Broken."""
    with bounded("emit", SECONDS):
        judge_source(emit(model))
    if copies(model) > MANY:
        return
    with bounded("compile", SECONDS):
        report(model)
    if cost(model).parameters.total <= SMALL and len(model.inputs) == 1:
        lived(model)


def copies(model: Model) -> int:
    """How many copies of lines there are, those inside of copies too."""
    return sum(int(visit.copies) for visit in walk(model) if isinstance(visit.copies, int))


def lived(model: Model) -> None:
    """Everything that is made of a small model, each within the bounds; raises Broken where something does not hold."""
    with bounded("compile", SECONDS):
        module = tamed(compile(model, seed=1))
    if prove(module, model) != cost(model).parameters.total:
        raise Broken("the module holds another number of parameters than are counted")
    given = inputs(model)
    with bounded("emit", SECONDS):
        source = emit(model)
    judge_source(source)
    alone = load_source(source, "alone")
    twin: Any = getattr(alone, type(module).__name__)()
    twin.load_state_dict(module.state_dict())
    with bounded("predict", SECONDS), torch.no_grad():
        whole, first = module.eval().predict(*given), next(iter(model.outputs))
        same(twin.eval().predict(*given), whole, "the emitted file")
        same(module(*given)[first], whole, "forward")
        if not looks_ahead(model) and len(given) == 1:
            same(decoded(module, given[0], positions(model)), whole, "decoding")
    fast = compile(model, kernels="fast")
    fast.load_state_dict(module.state_dict())
    with torch.no_grad():
        same(fast.eval().predict(*given), whole, "the fast module")
    with bounded("a step", SECONDS):
        stepped(module, model, given)
    with bounded("dot", SECONDS):
        dot_source(model)


@torch.no_grad()
def tamed(module: torch.nn.Module) -> torch.nn.Module:
    """The module without weights that a spec lets begin so large that float32 tells nothing apart."""
    for weight in module.state_dict().values():
        most = weight.abs().max() if weight.numel() else torch.zeros(())
        if most > 1.5:
            weight.div_(most)
    return module


def positions(model: Model) -> int:
    """The axis of positions of the first output."""
    return axis(model.type(next(iter(model.outputs.values()))), Decoder.of_model(model).length)


def decoded(module: torch.nn.Module, row: torch.Tensor, along: int) -> torch.Tensor:
    """The first output, position by position from a cache."""
    cache: dict[Any, torch.Tensor] = {}
    return torch.cat([module.predict(row[:, i : i + 1], cache=cache) for i in range(row.shape[1])], along)


def inputs(model: Model) -> list[torch.Tensor]:
    """A value for every input."""
    generator = torch.Generator().manual_seed(0)
    return [_input(type_, generator) for type_ in model.inputs.values()]


def _input(type_: Any, generator: torch.Generator) -> torch.Tensor:
    shape = (ROWS, LENGTH, *type_.shape[2:])[: type_.rank]
    return (
        torch.randn(shape, generator=generator)
        if type_.dtype == "float"
        else torch.randint(2, shape, generator=generator)
    )


def same(got: torch.Tensor, want: torch.Tensor, what: str) -> None:
    if got.shape != want.shape or not torch.allclose(got, want, rtol=1e-4, atol=1e-5, equal_nan=True):
        raise Broken(f"{what} gives something else")


def stepped(module: torch.nn.Module, model: Model, given: list[torch.Tensor]) -> None:
    """One training step: the loss is finite, and so are the gradients."""
    if not any(loss.kind == "cross_entropy" for loss in model.losses):
        return
    ids = given[list(model.inputs).index(next(loss.target for loss in model.losses if loss.target))]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        found = module.train()(*given, targets=ids.roll(-1, 1))
    loss = torch.as_tensor(found["loss"])
    if not loss.isfinite():
        raise Broken(f"the loss is {loss.item()}")
    if loss.requires_grad:
        loss.backward()
    after_step(module)
    grads = [p.grad for p in module.parameters() if p.grad is not None]
    if not all(g.isfinite().all() for g in grads):
        raise Broken("a gradient is not finite")


def judged(text: str) -> str:
    """``model`` or ``error``; raises Broken, or whatever should not have been raised."""
    try:
        model = dsvgraph.loads(text)
    except dsvgraph.DsvError:
        return "error"
    lived(model)
    return "model"
