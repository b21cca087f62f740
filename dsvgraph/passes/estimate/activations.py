"""Activations of a training step: what is kept from the forward for the backward, block by block.

A block is run once for each way that its inputs look; its copies are added up.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

from dsvgraph.build.freezing import Place, alike, root
from dsvgraph.dims import Size, total
from dsvgraph.graph import Graph, Mode, Model, Node, Ref, join
from dsvgraph.ops.tape import FLOAT, HALF, LONG, Execution, Key, Storage, Tape, Value
from dsvgraph.passes.count.quantity import largest, number
from dsvgraph.passes.count.tally import known_types
from dsvgraph.passes.estimate.logits import Logits
from dsvgraph.passes.graph.needs import Ports
from dsvgraph.types import Type


class Form(NamedTuple):
    """How an input looks from inside of a block."""

    width: int
    grad: bool
    strided: bool
    weight: bool


class Out(NamedTuple):
    """An output of a block: which input or which piece of new memory it lies in, and how."""

    source: str | int
    value: Value


@dataclass
class Summary:
    """What one copy of a block keeps: inside, of its inputs, of its outputs."""

    parts: dict[Key, Size] = field(default_factory=dict)  # bytes that nothing outside holds, by op
    copied: Size = 0  # bytes of its weights in 16 bits
    kept: dict[str, Key] = field(default_factory=dict)  # inputs, and the op inside that wants them
    cast: Ports = frozenset()  # inputs that are weights, copied to 16 bits
    new: list[tuple[Storage, Key | None]] = field(default_factory=list)  # memory of outputs, and the op it is kept for
    outputs: dict[str, Out] = field(default_factory=dict)
    largest: Size = 0  # bytes of the largest value that is made inside
    busy: Size = 0  # the most bytes at any time of the forward: what is kept, and what its lines still hold
    for_losses: Size = 0  # bytes that output layers keep for the losses, outside of a checkpoint
    loss_outputs: frozenset[int] = frozenset()  # outputs that they keep, by their index in `new`
    shared: dict[Hashable, tuple[Storage, Key]] = field(default_factory=dict)  # what the whole model makes once

    @property
    def whole(self) -> Size:
        """What the copy keeps besides its inputs, in bytes."""
        return total(self.parts.values()) + total(storage.bytes for storage, key in self.new if key is not None)


class Piece(NamedTuple):
    """A part of the step that runs at once: a line of the first page, or one copy of a repeated one."""

    path: str
    node: Node
    graph: Graph | None
    kept: Size  # bytes from the forward to the backward
    copied: Size  # bytes of weights in 16 bits
    again: Size  # bytes that a checkpoint makes anew in the backward
    busy: Size  # the most bytes while it does
    largest: Size  # bytes of the largest value that is made


class Activations:
    """Runs a model for its memory. ``low``: bytes of a number in products; ``fused``: a GPU's kernels."""

    def __init__(self, model: Model, values: Mapping[str, int], low: int, fused: bool, checkpoint: bool) -> None:
        self.model, self.values, self.checkpoint = model, values, checkpoint
        self.low, self.fused = low, fused
        self.batch = int(number(next(t for t in model.inputs.values() if t.rank > 1).shape[0], values))
        self.balanced = any(loss.kind == "sequence_balance" for loss in model.losses)
        self.memo: dict[tuple[Graph, tuple[tuple[str, Form], ...], Place, bool], Summary] = {}
        self.logits = Logits(model, values)
        self.pieces: list[Piece] = []
        self.kept: dict[Key, Size] = {}  # bytes from the forward to the backward, by op; a checkpoint's by block
        self._model()

    def _model(self) -> None:
        tape, place = self._tape(), root(self.model)
        tape.root = True
        values = {Ref(p, p): _input(t.numel, t.dtype) for p, t in self.model.inputs.items()}
        for node in self.model.nodes.values():
            before = _noted(tape)
            if node.mode is Mode.REPEAT:
                self._repeat(tape, self.model, node, values, place, top=True)
            else:
                self._line(tape, self.model, node, values, place, False)
                self._piece(tape, before, node, None if node.op else node.copies[0].graph, node.at)
        self.kept = _by_op(tape.saved)

    def _piece(
        self, tape: Tape, before: tuple[set[Storage], set[Storage]], node: Node, graph: Graph | None, path: str,
        again: Size = 0, busy: Size = 0,
    ) -> None:  # fmt: skip
        kept = total(s.bytes for s in tape.saved if s not in before[0])
        copied = total(s.numel * HALF for s in tape.copied if s not in before[1])
        most = largest(tape.made, self.values)
        self.pieces.append(Piece(path, node, graph, kept, copied, again, busy, most))
        tape.made.clear()

    def _tape(self) -> Tape:
        return Tape(self.low, self.fused, self.batch, self.balanced)

    def _busy(self, found: Summary, graph: Graph) -> Size:
        """The most bytes while a checkpoint makes a copy anew, with its weights in 16 bits and the gradients given."""
        made = [ref for ref in graph.outputs.values() if (graph, ref.node) not in self.logits.heads]
        given = total(graph.type(ref).numel for ref in made if graph.type(ref).dtype == "float")
        return found.busy + found.copied + given * FLOAT

    # -- graphs ------------------------------------------------------------------------------

    def summary(self, graph: Graph, forms: Mapping[str, Form], place: Place, side: bool) -> Summary:
        """What one copy keeps whose inputs look like ``forms``."""
        key = (graph, tuple(forms.items()), place, side)
        if key not in self.memo:
            self.memo[key] = self._summary(graph, forms, place, side)
        return self.memo[key]

    def _summary(self, graph: Graph, forms: Mapping[str, Form], place: Place, side: bool) -> Summary:
        tape = self._tape()
        own = {p: Storage(t.numel, forms[p].width, forms[p].weight) for p, t in graph.inputs.items()}
        values = {
            Ref(p, p): Value(own[p], t.numel, forms[p].width, forms[p].grad, forms[p].strided)
            for p, t in graph.inputs.items()
        }
        tape.own.update(own.values())
        for node in graph.nodes.values():
            self._line(tape, graph, node, values, place, side)
        found = _summed(tape, own, {p: values[ref] for p, ref in graph.outputs.items()})
        found.largest, found.busy = largest(tape.made, self.values), tape.busy
        return found

    def _note(self, tape: Tape, values: Mapping[Ref, Value], inside: Size = 0) -> None:
        """Notes how many bytes there are: what is kept, what lines hold, what is made right now or inside."""
        held = {**tape.saved, **{v.storage: None for v in values.values()}, **tape.now}
        there = total(s.bytes for s in held if not s.weight and s not in tape.own)
        tape.busy = largest((tape.busy, there + inside), self.values)
        tape.now.clear()

    def _line(self, tape: Tape, graph: Graph, node: Node, values: dict[Ref, Value], place: Place, side: bool) -> None:
        """Runs one line of a graph."""
        if node.mode is Mode.REPEAT:
            return self._repeat(tape, graph, node, values, place)
        for name, weight in node.weights.items():
            trained = weight.trained and not place.freezes(join(node.at, name))
            values[Ref(node.name, name)] = _weight(weight.numel, trained)
        if node.name in graph.weight_only:
            return None
        ins = {p: values[ref] for p, ref in node.sources.items()}
        if node.op:
            ins |= {name: values[Ref(node.name, name)] for name in node.weights}
            kind, ahead = self.logits.heads.get((graph, node.name), ("", 1))
            tape.now.clear()
            tape.here = ((node.name, 0),)
            outs = _run(tape, node, Execution(ins, _types(graph, node), node.outputs, side, kind, ahead))
            self._note(tape, values)
        else:
            outs = self._blocks(tape, node, ins, values, place, side)
        values.update((Ref(node.name, p), value) for p, value in outs.items())
        return None

    def _blocks(
        self, tape: Tape, node: Node, ins: dict[str, Value], values: Mapping[Ref, Value], place: Place, side: bool
    ) -> dict[str, Value]:
        """Runs a block, or copies side by side; the outputs of copies that differ are put together."""
        parts, outs, grad = alike(node, place), dict[str, Value](), False
        numbers = {graph: i for i, graph in enumerate(dict.fromkeys(part.graph for part in parts))}
        for part in parts:
            found = self.summary(part.graph, _forms(ins), part.place, side or node.mode is Mode.EACH)
            self._note(tape, values, found.busy * part.count)
            tape.here = ((node.name, numbers[part.graph]),)
            outs = _applied(tape, found, ins, part.count)
            grad = grad or any(value.grad for value in outs.values())
        if len(parts) > 1:
            whole = {port: (type_.numel, outs[port].width) for port, type_ in node.outputs.items()}
            outs = {port: tape.fresh(numel, width, grad) for port, (numel, width) in whole.items()}
        return outs

    def _repeat(
        self, tape: Tape, graph: Graph, node: Node, values: dict[Ref, Value], place: Place, top: bool = False
    ) -> None:
        """Runs the copies of a line one after another."""
        ins = {p: values[ref] for p, ref in node.sources.items()}
        outs: dict[str, Value] = {}
        numbers = {graph: i for i, graph in enumerate(dict.fromkeys(copies.graph for copies in node.copies))}
        for i, (copy, inner) in enumerate(node.copy_graphs()):
            before = _noted(tape)
            found = self.summary(inner, _forms(ins), place.inside(node.segment(copy)), False)
            checkpoint = top and self.checkpoint
            if not top:  # nothing makes the first page anew
                self._note(tape, values, found.busy)
            tape.here = ((node.name, numbers[inner]),)
            outs = _applied(tape, found, ins, 1, checkpoint, own=not (node.reused and i))
            ins.update({p: v for p, v in outs.items() if p in node.carried})
            if top:
                again = found.whole + found.copied - found.for_losses if checkpoint else 0
                self._piece(tape, before, node, inner, node.segment(copy), again, self._busy(found, inner))
        for port, type_ in node.outputs.items():
            last = ins.get(port) if port in node.carried else outs.get(port)
            stacked = port not in node.carried and last is not None
            value = tape.fresh(type_.numel, last.width, last.grad) if stacked and last else last
            values[Ref(node.name, port)] = value or _input(type_.numel, type_.dtype)


def _run(tape: Tape, node: Node, execution: Execution) -> dict[str, Value]:
    """Runs one op on the tape."""
    assert node.op is not None
    found = node.op.keep(tape, execution)
    return found if isinstance(found, dict) else {node.first: found}


def _types(graph: Graph, node: Node) -> dict[str, Type]:
    """The types of all that an op reads: inputs and weights."""
    own = {name: weight.type for name, weight in node.weights.items()}
    return {**known_types(graph, node), **own}


def _noted(tape: Tape) -> tuple[set[Storage], set[Storage]]:
    return set(tape.saved), set(tape.copied)


def _input(numel: Size, dtype: str) -> Value:
    return Value(Storage(numel, LONG if dtype == "int" else FLOAT), numel, LONG if dtype == "int" else FLOAT, False)


def _weight(numel: Size, trained: bool) -> Value:
    return Value(Storage(numel, FLOAT, weight=True), numel, FLOAT, trained)


def _forms(ins: Mapping[str, Value]) -> dict[str, Form]:
    return {p: Form(v.width, v.grad, v.strided, v.storage.weight) for p, v in ins.items()}


def _summed(tape: Tape, own: Mapping[str, Storage], outputs: Mapping[str, Value]) -> Summary:
    """A tape seen from outside."""
    port_of = {storage: port for port, storage in own.items()}
    found = Summary(
        kept={port_of[s]: key for s, key in tape.saved.items() if s in port_of},
        cast=frozenset(port_of[s] for s in tape.copied if s in port_of),
        copied=total(s.numel * HALF for s in tape.copied if s not in port_of),
    )
    index: dict[Storage, int] = {}
    for port, value in outputs.items():
        source: str | int | None = port_of.get(value.storage)
        if source is None:
            source = index.setdefault(value.storage, len(index))
        found.outputs[port] = Out(source, value)
    found.new = [(storage, tape.saved.get(storage)) for storage in index]
    found.parts = _by_op({s: key for s, key in tape.saved.items() if s not in port_of and s not in index})
    found.for_losses = total(s.bytes for s in tape.for_losses if s not in port_of and s not in index)
    found.loss_outputs = frozenset(i for storage, i in index.items() if storage in tape.for_losses)
    found.shared = tape.shared
    return found


def _applied(
    tape: Tape, found: Summary, ins: Mapping[str, Value], copies: Size, checkpoint: bool = False, own: bool = True
) -> dict[str, Value]:
    """Notes on the tape what copies of a block keep; returns their outputs.

    Those without weights of their ``own`` read the copies in 16 bits that are there.
    """
    block = tape.here
    if checkpoint:
        tape.keep(*(v for v in ins.values() if v.grad or v.width == LONG))
        tape.keep_new(found.for_losses, 1)
    else:
        _kept(tape, found, ins, copies)
    for what, (storage, below) in found.shared.items():
        tape.here = block + below
        tape.keep_shared(what, storage.numel, storage.width)
    tape.made[found.largest * copies] = None
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
    return {p: _moved(out, ins, made, copies) for p, out in found.outputs.items()}


def _kept(tape: Tape, found: Summary, ins: Mapping[str, Value], copies: Size) -> None:
    """Notes what ops inside keep of the inputs, and what nothing outside holds."""
    block = tape.here
    for port, key in found.kept.items():
        tape.here = block + key
        tape.keep(ins[port])
    for key, size in found.parts.items():
        tape.here = block + key
        tape.keep_new(size * copies, 1)


def _by_op(saved: Mapping[Storage, Key]) -> dict[Key, Size]:
    """Bytes by what keeps them."""
    found: dict[Key, Size] = {}
    for storage, key in saved.items():
        found[key] = found.get(key, 0) + storage.bytes
    return found


def _moved(out: Out, ins: Mapping[str, Value], made: list[Storage], copies: Size) -> Value:
    """An output as the caller sees it."""
    v = out.value
    storage = ins[out.source].storage if isinstance(out.source, str) else made[out.source]
    return Value(storage, v.numel * copies, v.width, v.grad, v.strided)
