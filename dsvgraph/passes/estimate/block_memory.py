"""What one copy of a block keeps from the forward for the backward, and how its callers record it."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from dataclasses import dataclass, field, replace
from typing import NamedTuple

from dsvgraph.dims import Size, total
from dsvgraph.graph.dependencies import Ports
from dsvgraph.ops.tape import HALF, LONG, Key, Storage, Tape, Value


class InputForm(NamedTuple):
    """How an input looks from inside of a block."""

    width: int
    grad: bool
    strided: bool
    weight: bool


class OutputForm(NamedTuple):
    """An output of a block: which input or which piece of new memory it lies in, and how."""

    source: str | int
    value: Value


@dataclass
class BlockMemory:
    """What one copy of a block keeps: inside, of its inputs, of its outputs."""

    parts: dict[Key, Size] = field(default_factory=dict)  # bytes that nothing outside holds, by op
    copied: Size = 0  # bytes of its weights in 16 bits
    kept: dict[str, Key] = field(default_factory=dict)  # inputs, and the op inside that keeps them
    cast: Ports = frozenset()  # inputs that are weights, copied to 16 bits
    new: list[tuple[Storage, Key | None]] = field(default_factory=list)  # memory of outputs, and the op it is kept for
    outputs: dict[str, OutputForm] = field(default_factory=dict)
    largest: Size = 0  # bytes of the largest value that is made inside
    peak_bytes: Size = 0  # the most bytes at any time of the forward: what is kept, and what its lines still hold
    for_losses: Size = 0  # bytes that output layers keep for the losses, outside of a checkpoint
    loss_outputs: frozenset[int] = frozenset()  # outputs that they keep, by their index in `new`
    recomputed: tuple[tuple[Size, Size], ...] = ()  # bytes that each checkpoint inside recomputes, and its peak
    shared: dict[Hashable, tuple[Storage, Key]] = field(default_factory=dict)  # what the whole model makes once

    @property
    def whole(self) -> Size:
        """What the copy keeps besides its inputs, in bytes."""
        return total(self.parts.values()) + total(storage.bytes for storage, key in self.new if key is not None)


def input_forms(ins: Mapping[str, Value]) -> dict[str, InputForm]:
    return {p: InputForm(v.width, v.grad, v.strided, v.storage.weight) for p, v in ins.items()}


def block_memory(tape: Tape, own: Mapping[str, Storage], outputs: Mapping[str, Value]) -> BlockMemory:
    """Return what ``tape`` has recorded, as the callers of its block see it."""
    port_of = {storage: port for port, storage in own.items()}
    found = BlockMemory(
        kept={port_of[s]: key for s, key in tape.saved.items() if s in port_of},
        cast=frozenset(port_of[s] for s in tape.copied if s in port_of),
        copied=total(s.numel * HALF for s in tape.copied if s not in port_of),
    )
    index: dict[Storage, int] = {}
    for port, value in outputs.items():
        source: str | int | None = port_of.get(value.storage)
        if source is None:
            source = index.setdefault(value.storage, len(index))
        found.outputs[port] = OutputForm(source, value)
    found.new = [(storage, tape.saved.get(storage)) for storage in index]
    found.parts = bytes_by_op({s: key for s, key in tape.saved.items() if s not in port_of and s not in index})
    found.for_losses = total(s.bytes for s in tape.for_losses if s not in port_of and s not in index)
    found.loss_outputs = frozenset(i for storage, i in index.items() if storage in tape.for_losses)
    found.shared = tape.shared
    return found


def record_block(
    tape: Tape, found: BlockMemory, ins: Mapping[str, Value], copies: Size, checkpoint: bool = False, own: bool = True
) -> dict[str, Value]:
    """Record on the tape what copies of a block keep; returns their outputs.

    Those without weights of their ``own`` read the copies in 16 bits that are there.
    """
    block = tape.op_key
    if checkpoint:
        tape.keep(*(v for v in ins.values() if v.grad or v.width == LONG))
        tape.keep_new(found.for_losses, 1)
    else:
        _record_kept(tape, found, ins, copies)
    for what, (storage, below) in found.shared.items():
        tape.op_key = block + below
        tape.keep_shared(what, storage.numel, storage.width)
    tape.value_bytes[found.largest * copies] = None
    tape.copied.update((ins[p].storage, None) for p in found.cast)
    if found.copied and own and not checkpoint:
        tape.copied[Storage(found.copied // HALF * copies, HALF)] = None
    made = [Storage(s.numel * copies, s.width, s.weight) for s, _ in found.new]
    for i, (_, key) in enumerate(found.new):
        if i in found.loss_outputs if checkpoint else key is not None:
            tape.saved[made[i]] = block + (() if checkpoint or key is None else key)
    if found.for_losses:
        tape.for_losses[Storage(found.for_losses * copies, 1)] = None
    tape.for_losses.update((made[i], None) for i in sorted(found.loss_outputs))
    return {p: _outer_value(out, ins, made, copies) for p, out in found.outputs.items()}


def _record_kept(tape: Tape, found: BlockMemory, ins: Mapping[str, Value], copies: Size) -> None:
    """Record what ops inside keep of the inputs, and what nothing outside holds."""
    block = tape.op_key
    for port, key in found.kept.items():
        tape.op_key = block + key
        tape.keep(ins[port])
    for key, size in found.parts.items():
        tape.op_key = block + key
        tape.keep_new(size * copies, 1)


def bytes_by_op(saved: Mapping[Storage, Key]) -> dict[Key, Size]:
    """Return the bytes that are kept, by the op that keeps them."""
    found: dict[Key, Size] = {}
    for storage, key in saved.items():
        found[key] = found.get(key, 0) + storage.bytes
    return found


def _outer_value(out: OutputForm, ins: Mapping[str, Value], made: list[Storage], copies: Size) -> Value:
    """Return an output as the caller sees it."""
    v = out.value
    storage = ins[out.source].storage if isinstance(out.source, str) else made[out.source]
    return replace(v, storage=storage, numel=v.numel * copies)
