"""`dsvgraph bench`: every model is built, steps in turns with the others, and is measured."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch

import dsvgraph
from dsvgraph.backends import peer
from dsvgraph.backends.benchmark import Benchmark, BenchmarkOptions, BlockTimes, DecodingSteps, TrainingSteps, check
from dsvgraph.backends.training import Precision
from dsvgraph.graph import Model
from dsvgraph.passes.estimate.memory import training
from dsvgraph_torch.measuring import memory
from dsvgraph_torch.measuring.blocks import block_times
from dsvgraph_torch.measuring.contenders import Contender, ours, released, theirs, training_options, vocabulary
from dsvgraph_torch.measuring.decoding import decodings
from dsvgraph_torch.measuring.machine import described
from dsvgraph_torch.training.layers import fitting, of_fitting
from dsvgraph_torch.training.preflight import check as check_training
from dsvgraph_torch.training.preflight import check_precision, memory_errors

WARM = 2
"""Steps after the first that do not count: caches fill, the allocator finds its sizes."""

Notify = Callable[[str, int, int], object]


def bench(model: Model, options: BenchmarkOptions, notify: Notify | None = None) -> Benchmark:
    """Measure ``model``. Raise DsvError if an option is wrong, or the other library has no such model."""
    check(options)
    given = training_options(options)
    device = given.torch_device()
    check_training(model, options.seq, device, (vocabulary(model), "the tokens of the benchmark are the model's"))
    notes = [note for note in (check_precision(given), *left_out(model, options)) if note]
    with memory_errors():
        return _Run(model, options, device, notify or (lambda *_: None)).measured(notes)


def left_out(model: Model, options: BenchmarkOptions) -> Iterator[str]:
    """Yield what the figures do not hold. Raise DsvError if the other library cannot do the same work."""
    if options.against:
        yield from peer(options.against).check(model)
    if options.compile:
        yield "the predicted peak is of the model that is not compiled; blocks inside of compiled ones have no times"


class _Run:
    def __init__(self, model: Model, options: BenchmarkOptions, device: torch.device, notify: Notify) -> None:
        self.model, self.options, self.device, self.notify = model, options, device, notify
        self.fitting = fitting(model, training_options(options), device)
        self.done, self.parts = 0, (4 + options.steps if options.steps else 1) + bool(options.decode)

    def begin(self, words: str) -> None:
        """Notify that the next part begins."""
        self.notify(words, self.done, self.parts)
        self.done += 1

    def measured(self, notes: list[str]) -> Benchmark:
        self.begin("multiplying matrices")
        machine = described(getattr(torch, self.options.dtype), self.device)
        steps, blocks = self.training() if self.options.steps else ([], None)
        notes = [*notes, of_fitting(self.fitting)] if self.fitting else notes
        return Benchmark(
            name=self.model.name,
            options=self.options,
            machine=machine,
            steps=tuple(steps),
            blocks=blocks,
            decoding=tuple(self.decoding()),
            notes=tuple(notes),
        )

    def training(self) -> tuple[list[TrainingSteps], BlockTimes]:
        """Let all models take steps in turns, and ours one with a clock at every block."""
        self.begin("building")
        contenders = [ours(self.model, self.options, self.device)]
        contenders += theirs(self.model, self.options, self.device)
        steps = self.steps(contenders)
        self.begin("timing blocks")
        blocks = block_times(self.model, contenders[0], self.options.batch, self.options.seq, self.device)
        released(contenders, self.device)
        return steps, blocks

    def steps(self, contenders: list[Contender]) -> list[TrainingSteps]:
        """Let all step once, then a few times that do not count, then in turns."""
        firsts = [one.timed(self.device)[0] for one in contenders]
        times: list[list[float]] = [[] for _ in contenders]
        losses = [0.0] * len(contenders)
        for turn in range(-WARM, self.options.steps):
            if turn >= 0:
                self.begin("training")
            for i, one in enumerate(contenders):
                seconds, losses[i] = one.timed(self.device)
                times[i] += [seconds] if turn >= 0 else []
        self.begin("measuring memory")
        flops = dsvgraph.cost(self.model, self.options.batch, self.options.seq, formulas=False).flops.train
        return [
            TrainingSteps(
                name=one.name,
                ours=one.ours,
                seconds=tuple(taken),
                first=first,
                build=one.build,
                tokens=self.options.batch * self.options.seq,
                flops=flops,
                peak=self.peak(one),
                predicted=self.predicted() if one.ours else None,
                loss=loss,
            )
            for one, first, taken, loss in zip(contenders, firsts, times, losses, strict=True)
        ]

    def peak(self, one: Contender) -> int:
        """Return the most bytes of a step of ``one``, without what the others hold on the same device."""
        if self.device.type == "cuda":
            others = torch.cuda.memory_allocated() - memory.held(one.module, one.optimizer)
            return memory.on_gpu(one.step, max(0, others))
        return memory.traced(one.step, lambda: memory.held(one.module, one.optimizer))

    def predicted(self) -> int | None:
        """Return the peak that the graph predicts; None where it does not know what the numbers take."""
        o = self.options
        if o.precision is not Precision.FLOAT32:
            return None
        if self.fitting:
            return self.fitting.peak
        counts = dsvgraph.cost(self.model, formulas=False).parameters
        fused = self.device.type != "cpu"
        found = training(self.model, o.batch, o.seq, counts.trained, o.dtype, fused, counts.total)
        return int(found.peak.value)

    def decoding(self) -> Iterator[DecodingSteps]:
        if self.options.decode:
            self.begin("decoding")
            yield from decodings(self.model, self.options, self.device)
