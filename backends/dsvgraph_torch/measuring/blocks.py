"""The time of a step by block: a clock at the beginning and the end of each module's forward and backward."""

from __future__ import annotations

import re
import time
import warnings
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import nn

import dsvgraph
from dsvgraph.backends.benchmark import BlockTime, BlockTimes
from dsvgraph.graph import Model
from dsvgraph.passes.count.by_block import BlockCost
from dsvgraph_torch.kernels.compiling import CompiledLayer
from dsvgraph_torch.measuring.contenders import Contender
from dsvgraph_torch.measuring.machine import synchronise

SPAN = re.compile(r"\\\[([\d,\\-]+)\\\]")
Mark = Any
"""A point in time: an event of a GPU's stream, or seconds."""


class Clock:
    """Marks points in time, on a GPU without waiting for it."""

    def __init__(self, device: torch.device) -> None:
        self.device = device

    def mark(self) -> Mark:
        """Return the point in time at which the work so far is done."""
        if self.device.type != "cuda":
            return time.perf_counter()
        event = torch.cuda.Event(enable_timing=True)
        event.record()
        return event

    def between(self, start: Mark, end: Mark) -> float:
        """Return the seconds between two marks; the device has to be synchronised."""
        return float(end - start if self.device.type != "cuda" else start.elapsed_time(end) / 1e3)


@dataclass
class TimedBlock:
    """A row of the cost, and the marks of its modules: (begin, end) of every forward and backward."""

    cost: BlockCost
    modules: list[nn.Module]
    forward: list[tuple[Mark, Mark]] = field(default_factory=list)
    backward: list[tuple[Mark, Mark]] = field(default_factory=list)
    differentiable: bool = True

    @property
    def whole(self) -> bool:
        """Whether every forward has its backward: an output layer's input leaves a block past its outputs."""
        return self.differentiable and len(self.backward) == len(self.forward)


def block_times(model: Model, contender: Contender, batch: int, seq: int, device: torch.device) -> BlockTimes:
    """Take one step with a clock around every block that is a module of its own."""
    clock, inside = Clock(device), inside_compiled(contender.module)
    found = [row for row in rows_of(model, contender.module, batch, seq) if not inside.intersection(row.modules)]
    updates = list[tuple[Mark, Mark]]()
    with watched(found, clock), optimizer_watched(contender.optimizer, clock, updates):
        seconds, _ = contender.timed(device)
    synchronise(device)

    def spent(marks: list[tuple[Mark, Mark]]) -> float:
        return sum(clock.between(start, end) for start, end in marks)

    whole = dsvgraph.cost(model, batch, seq, formulas=False).flops.train
    blocks = [
        BlockTime(
            path=row.cost.path,
            block=row.cost.block,
            depth=row.cost.depth,
            copies=row.cost.copies,
            forward=spent(row.forward),
            backward=spent(row.backward) if row.whole else None,
            flops=(row.cost.flops + row.cost.backward) / whole,
        )
        for row in found
        if row.forward
    ]
    return BlockTimes(step=seconds, optimizer=spent(updates), blocks=tuple(blocks))


def inside_compiled(module: nn.Module) -> set[nn.Module]:
    """Return the modules inside of those that run through torch.compile: a hook on them would be compiled too."""
    outer = [one for one in module.modules() if isinstance(vars(one).get("forward"), CompiledLayer)]
    return {inner for one in outer for inner in one.modules() if inner is not one}


def rows_of(model: Model, module: nn.Module, batch: int, seq: int) -> list[TimedBlock]:
    """Return the rows of the cost that are modules; of rows with the same modules the outermost."""
    known, found, taken = dict(module.named_modules()), list[TimedBlock](), set[str]()
    skipped = list[int]()  # depths of the rows around that are left out
    for cost in dsvgraph.cost(model, batch, seq, formulas=False).blocks:
        paths = fitting(cost.path, known) or fitting(cost.path.rpartition(".[")[0], known)  # experts are one module
        skipped = [depth for depth in skipped if depth < cost.depth]
        if paths and not taken & set(paths):
            taken |= set(paths)
            found.append(TimedBlock(replace(cost, depth=cost.depth - len(skipped)), [known[path] for path in paths]))
        else:
            skipped.append(cost.depth)
    return found


def fitting(path: str, known: Iterable[str]) -> list[str]:
    """Return the paths of modules that are copies of ``path``."""
    pattern = matching(path)
    return [one for one in known if path and pattern.fullmatch(one)]


def matching(path: str) -> re.Pattern[str]:
    """Return what fits the paths of all copies: `layers.[0-2,5].mlp` those of the layers 0, 1, 2 and 5."""
    return re.compile(SPAN.sub(_numbers, re.escape(path)))


def _numbers(match: re.Match[str]) -> str:
    spans = [part.split("-") for part in match[1].replace("\\", "").split(",")]
    numbers = [str(n) for span in spans for n in range(int(span[0]), int(span[-1]) + 1)]
    return f"(?:{'|'.join(numbers)})"


@contextmanager
def watched(found: list[TimedBlock], clock: Clock) -> Iterator[None]:
    """Mark the forward and the backward of every row's modules in the block."""
    handles = [handle for row in found for module in row.modules for handle in _hooks(row, module, clock)]
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="Full backward hook")  # blocks without a gradient are known
            yield
    finally:
        for handle in handles:
            handle.remove()


def _hooks(row: TimedBlock, module: nn.Module, clock: Clock) -> Iterator[Any]:
    begun, back = list[Mark](), list[Mark]()

    def before(_: Any, __: Any) -> None:
        begun.append(clock.mark())

    def after(_: Any, inputs: Any, ___: Any) -> None:
        row.forward.append((begun.pop(), clock.mark()))
        row.differentiable &= any(isinstance(x, torch.Tensor) and x.requires_grad for x in inputs)

    def before_backward(_: Any, __: Any) -> None:
        back.append(clock.mark())

    def after_backward(_: Any, __: Any, ___: Any) -> None:
        if back:
            row.backward.append((back.pop(), clock.mark()))

    yield module.register_forward_pre_hook(before)
    yield module.register_forward_hook(after)
    yield module.register_full_backward_pre_hook(before_backward)
    yield module.register_full_backward_hook(after_backward)


@contextmanager
def optimizer_watched(optimizer: Any, clock: Clock, marks: list[tuple[Mark, Mark]]) -> Iterator[None]:
    """Mark the steps of ``optimizer`` in the block."""
    step: Callable[..., Any] = optimizer.step

    def marked(*args: Any) -> Any:
        start = clock.mark()
        found = step(*args)
        marks.append((start, clock.mark()))
        return found

    optimizer.step = marked
    try:
        yield
    finally:
        del optimizer.step
