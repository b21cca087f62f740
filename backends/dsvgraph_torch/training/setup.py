"""What a run is set up with: its module, its optimizer and the average of its weights; what a step of it costs."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from typing import Any

import torch

import dsvgraph
from dsvgraph.backends import weight_reader
from dsvgraph.backends.training import Precision
from dsvgraph.errors import DsvError
from dsvgraph.graph import Model
from dsvgraph.passes.estimate.fit import Fitting
from dsvgraph_torch.kernels.compiling import compile_layers
from dsvgraph_torch.kernels.cpu.memory import keep_memory
from dsvgraph_torch.kernels.float8 import layers as float8
from dsvgraph_torch.kernels.messages import CompilerMessages
from dsvgraph_torch.optimizers.average import Average
from dsvgraph_torch.optimizers.masters import Masters, with_precision
from dsvgraph_torch.optimizers.optimizer import Optimizer, of_optimizer, optimizer_for
from dsvgraph_torch.optimizers.weights import vocabulary_weights
from dsvgraph_torch.runs.checkpoint import Checkpoint
from dsvgraph_torch.training.layers import (
    checkpoint_layers,
    compile_errors,
    fitting,
    of_fitting,
    recomputed_modules,
    repeated_layers,
)
from dsvgraph_torch.training.options import TrainOptions
from dsvgraph_torch.training.step import Diverged
from dsvgraph_torch.verification.step_flops import StepFlops


@dataclass(frozen=True)
class State:
    """All that training changes, and a checkpoint holds."""

    masters: Masters
    optimizer: Optimizer
    average: Average | None = None
    fitting: Fitting | None = None

    @property
    def model(self) -> Any:
        """The module that is trained."""
        return self.masters.module

    @property
    def modules(self) -> dict[str, Any]:
        """The module that is trained, as `heldout`, and the average of its weights, as `heldout_ema`."""
        return {"heldout": self.model} | ({"heldout_ema": self.average.module} if self.average else {})

    def restore(self, checkpoint: Checkpoint) -> None:
        """Take up what was saved. Raise DsvError if it is of another model."""
        checkpoint.load_masters(self.masters)
        checkpoint.load_moments(self.optimizer)
        if self.average:
            checkpoint.load_masters(self.average.masters, average=True)
            self.average.begun = True

    def stepped(self) -> None:
        """Take the weights after a step into their average."""
        if self.average:
            self.average.update(self.masters)

    def check_finite(self, step: int) -> None:
        """Raise Diverged if a weight is infinite or NaN after ``step``: it must not replace one that was saved."""
        for name, parameter in self.model.named_parameters():
            if not torch.isfinite(self.masters.of(parameter)).all():
                raise Diverged(f"training diverged at step {step}: {name} is no number", hint="a lower --lr may help")


def set_up(graph: Model, options: TrainOptions, device: torch.device, checkpoint: Checkpoint | None) -> State:
    """Return the state of a new run, or that of ``checkpoint``. Raise DsvError for options that the model refuses."""
    fits = fitting(graph, options, device)
    if device.type == "cpu":
        keep_memory()
    model = build(graph, options.model_copy(update={"weights": None}) if checkpoint else options, device)
    masters = with_precision(model, options.precision)
    average = Average(masters, options.ema) if options.ema else None
    state = State(masters, optimizer_for(model, options, graph, masters), average, fits)
    if checkpoint:
        state.restore(checkpoint)
    if options.compiles(device):
        compile_layers(graph, layers_to_compile(graph, model, options))
    if fits:
        checkpoint_layers(recomputed_modules(model, fits.recomputed))
    if options.checkpoint_activations:
        checkpoint_layers(repeated_layers(graph, model, "--checkpoint-activations"))
    return state


def of_state(state: State) -> Iterator[str]:
    """Yield lines about what a run is set up with."""
    yield from of_optimizer(state.optimizer)
    yield from float8.of_layers(state.model)
    if state.fitting:
        yield of_fitting(state.fitting)


def build(graph: Model, options: TrainOptions, device: torch.device) -> Any:
    """Return the module on its device, with the weights of a folder or those of the seed."""
    from dsvgraph_torch import compile, empty

    kernels = "plain" if device.type == "cpu" and options.compiles(device) else "fast"
    functions = float8.FUNCTIONS if options.precision is Precision.FP8 else {}
    if options.weights:
        module = empty(graph, device, kernels=kernels, functions=functions)
        weight_reader().fill(module, graph, options.weights, drop_mtp=options.drop_mtp)
    else:
        module = compile(graph, device, options.seed, kernels, functions)
    float8.keep_exact(module, vocabulary_weights(graph))
    return module


def layers_to_compile(graph: Model, model: torch.nn.Module, options: TrainOptions) -> list[torch.nn.Module]:
    """Return the repeated layers of ``model``. Raise DsvError if there are none and `--compile` was given."""
    try:
        return repeated_layers(graph, model, "--compile")
    except DsvError:
        if options.compile:
            raise
        return []


@contextmanager
def compiling(options: TrainOptions, messages: CompilerMessages | None = None) -> Iterator[None]:
    """Let a step in the block run under `--compile`: ``messages`` takes what torch.compile warns of.

    Raise DsvError where it fails.
    """
    if not options.compiles(options.torch_device()):
        yield
        return
    with compile_errors(), messages.of_step() if messages else nullcontext():
        yield


class TrainedFlops:
    """The FLOPs of all steps so far, forward and backward, by the count of the graph, without losses left out."""

    def __init__(self, graph: Model, options: TrainOptions) -> None:
        self.of_batch = round(dsvgraph.cost(graph, options.batch, options.seq, formulas=False).flops.train)
        self.of_step = self.of_batch * options.accumulate
        self.flops = StepFlops(graph, options.batch, options.seq)
        self.total = 0

    def add(self, computed: Iterable[Iterable[str]]) -> int:
        """Add a step, of which each batch had these losses; return the sum."""
        self.total += sum(self.of_batch - self.flops.saved(names) for names in computed)
        return self.total
