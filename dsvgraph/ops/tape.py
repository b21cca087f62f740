"""Values as autograd sees them: their memory, and what is kept of them for the backward."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum

from dsvgraph.dims import Size
from dsvgraph.types import Type

Key = tuple[tuple[str, int], ...]
"""The path of an op: names of lines, each with the index of one of its distinct graphs (0 for the op itself)."""

FLOAT, LONG, HALF, BYTE = 4, 8, 2, 1  # bytes of a number


@dataclass(eq=False)
class Storage:
    """A piece of memory: ``numel`` numbers of ``width`` bytes; that of a ``weight`` is no activation."""

    numel: Size
    width: int
    weight: bool = False

    @property
    def bytes(self) -> Size:
        """Return how many bytes it takes."""
        return self.numel * self.width


@dataclass(frozen=True)
class Value:
    """A tensor: where it lies, how many numbers it has, and whether a gradient flows back from it.

    ``strided`` is set where its rows are not contiguous, so that flattening or casting copies it.
    """

    storage: Storage
    numel: Size
    width: int
    grad: bool
    strided: bool = False


@dataclass
class Tape:
    """What autograd keeps while a graph runs.

    ``low`` is the width of products: 2 under autocast, else 4. ``fused`` is set where norms are one kernel, as on
    GPUs; on a CPU they keep the scaled values too. ``balanced`` is set where routers count tokens for a loss.
    """

    low: int = FLOAT
    fused: bool = True
    batch: int = 1
    balanced: bool = False
    saved: dict[Storage, Key] = field(default_factory=dict)  # kept for the backward, by the first op that keeps it
    op_key: Key = ()  # the op that runs now
    op_values: dict[Storage, None] = field(default_factory=dict)  # what that op has made
    copied: dict[Storage, None] = field(default_factory=dict)  # weights that have a copy in 16 bits
    value_bytes: dict[Size, None] = field(default_factory=dict)  # of each value that was made, kept or not
    inputs: set[Storage] = field(default_factory=set)  # of the graph, which its caller holds
    for_losses: dict[Storage, None] = field(default_factory=dict)  # what output layers keep for the losses
    peak_bytes: Size = 0  # the most at any time
    shared: dict[Hashable, tuple[Storage, Key]] = field(default_factory=dict)  # what all layers read, by its identity
    recomputed: list[tuple[Size, Size]] = field(default_factory=list)  # bytes of each checkpoint, and its peak
    root: bool = False  # whether the tape is the whole model's, which keeps what is shared

    def fresh(self, numel: Size, width: int, grad: bool = True) -> Value:
        """Return a value in new memory."""
        self.value_bytes[numel * width] = None
        storage = Storage(numel, width)
        self.op_values[storage] = None
        return Value(storage, numel, width, grad)

    def keep_for_loss(self, value: Value) -> None:
        """Note a factor of logits, which a loss multiplies outside of the blocks around the output layer."""
        self.for_losses[value.storage] = None

    def keep(self, *values: Value) -> None:
        """Note values that the backward will read."""
        for value in values:
            if not value.storage.weight:
                self.saved.setdefault(value.storage, self.op_key)
            elif value.width == HALF:
                self.copied[value.storage] = None

    def keep_new(self, numel: Size, width: int) -> None:
        """Note a value of the backward that nothing else holds."""
        self.saved[Storage(numel, width)] = self.op_key

    def keep_shared(self, what: Hashable, numel: Size, width: int) -> None:
        """Note a value that the whole model makes once, however many ops keep it; ``what`` identifies it."""
        if what not in self.shared:
            self.shared[what] = Storage(numel, width), self.op_key
            if self.root:
                self.saved[self.shared[what][0]] = self.op_key

    def cast(self, value: Value, width: int) -> Value:
        """Return the value in numbers of ``width`` bytes: itself, or a copy."""
        if value.width == width:
            return value
        if value.storage.weight:  # one copy for all its uses
            return replace(value, width=width)
        return replace(self.fresh(value.numel, width), grad=value.grad)

    def product(self, a: Value, b: Value) -> None:
        """Note of two factors each that the gradient of the other needs."""
        if a.grad:
            self.keep(b)
        if b.grad:
            self.keep(a)


class LogitsForm(StrEnum):
    """How the logits of an output layer are made while a loss is computed."""

    NONE = "none"  # the op is no output layer
    WHOLE = "whole"  # all at once
    CHUNKS = "chunks"  # the loss multiplies them in pieces


@dataclass(frozen=True, kw_only=True)
class Execution:
    """One execution of an op: the values and types of its inputs and weights by port, and the types of its outputs.

    ``side_by_side`` is set where its rows belong to copies with stacked weights. ``ahead`` is how many tokens ahead
    the nearest target of its logits lies.
    """

    ins: Mapping[str, Value]
    types: Mapping[str, Type]
    outputs: Mapping[str, Type]
    side_by_side: bool = False
    logits: LogitsForm = LogitsForm.NONE
    ahead: int = 1

    @property
    def x(self) -> Value:
        """Return the first input."""
        return next(iter(self.ins.values()))

    @property
    def out(self) -> Type:
        """Return the type of the first output."""
        return next(iter(self.outputs.values()))

    @property
    def grad(self) -> bool:
        """Return whether a gradient flows back through the op."""
        return any(v.grad for v in self.ins.values())
