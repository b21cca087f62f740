"""Activations of a training step: what is kept from the forward for the backward, block by block.

A block is run once for each way that its inputs look, and for each choice of what it recomputes; its copies are
added up.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import NamedTuple

from dsvgraph.build.checks.freezing import PathState, alike, root
from dsvgraph.dims import Size, total
from dsvgraph.graph import Graph, LossKind, Mode, Model, Node, Ref, join
from dsvgraph.ops.tape import FLOAT, HALF, LONG, Execution, Key, LogitsForm, Storage, Tape, Value
from dsvgraph.passes.count.graph_counts import known_types
from dsvgraph.passes.count.quantity import largest, number
from dsvgraph.passes.estimate.block_memory import (
    BlockMemory,
    InputForm,
    block_memory,
    bytes_by_op,
    input_forms,
    record_block,
)
from dsvgraph.passes.estimate.logits import Logits
from dsvgraph.types import ElementType, Type

Parts = frozenset[str]
"""Names of the lines of a graph that are recomputed."""


class Layer(NamedTuple):
    """A part of the step that runs at once: a line of the first page, or one copy of a repeated one."""

    path: str
    node: Node
    graph: Graph | None
    kept: Size  # bytes from the forward to the backward
    weight_copies: Size  # bytes of weights in 16 bits
    recomputed: Size  # bytes that a checkpoint recomputes in the backward
    peak_bytes: Size  # the most bytes while it does
    largest: Size  # bytes of the largest value that is made


class Activations:
    """Runs a model for its memory. ``low``: bytes of a number in products; ``fused``: a GPU's kernels.

    ``recomputed`` are the paths of repeated layers, or of blocks that these call, that keep their inputs alone; with
    ``checkpoint`` every repeated layer does. ``like`` is a run of the same model to take blocks from.
    """

    def __init__(
        self, model: Model, values: Mapping[str, int], low: int, fused: bool, checkpoint: bool = False,
        recomputed: Collection[str] = (), like: Activations | None = None,
    ) -> None:  # fmt: skip
        self.model, self.values, self.checkpoint = model, values, checkpoint
        self.low, self.fused, self.recomputed = low, fused, frozenset(recomputed)
        self.batch = int(number(next(t for t in model.inputs.values() if t.rank > 1).shape[0], values))
        self.balanced = any(loss.kind is LossKind.SEQUENCE_BALANCE for loss in model.losses)
        self.memo: dict[tuple[object, ...], BlockMemory] = like.memo if like else {}
        self.logits: Logits = like.logits if like else Logits(model, values)
        self.layers: list[Layer] = []
        self.kept: dict[Key, Size] = {}  # bytes from the forward to the backward, by op; a checkpoint's by block
        self._model()

    def _model(self) -> None:
        tape, place = self._tape(), root(self.model)
        tape.root = True
        values = {Ref(p, p): _input(t.numel, t.dtype) for p, t in self.model.inputs.items()}
        for node in self.model.nodes.values():
            before = _recorded(tape)
            if node.mode is Mode.REPEAT:
                self._repeat(tape, self.model, node, values, place, top=True)
            else:
                self._line(tape, self.model, node, values, place, False)
                self._add_layer(tape, before, node, None if node.op else node.copies[0].graph, node.at)
        self.kept = bytes_by_op(tape.saved)

    def _add_layer(
        self, tape: Tape, before: tuple[set[Storage], set[Storage]], node: Node, graph: Graph | None, path: str,
        recomputed: Size = 0, peak_bytes: Size = 0,
    ) -> None:  # fmt: skip
        kept = total(s.bytes for s in tape.saved if s not in before[0])
        copied = total(s.numel * HALF for s in tape.copied if s not in before[1])
        most = largest(tape.value_bytes, self.values)
        self.layers.append(
            Layer(
                path=path,
                node=node,
                graph=graph,
                kept=kept,
                weight_copies=copied,
                recomputed=recomputed,
                peak_bytes=peak_bytes,
                largest=most,
            )
        )
        tape.value_bytes.clear()

    def _tape(self) -> Tape:
        return Tape(self.low, self.fused, self.batch, self.balanced)

    def _recompute(self, found: BlockMemory, graph: Graph) -> tuple[Size, Size]:
        """Return the bytes that a checkpoint of a block recomputes, and the most that there are while it does.

        Those are weights in 16 bits and the gradients of outputs too.
        """
        made = [ref for ref in graph.outputs.values() if (graph, ref.node) not in self.logits.output_layers]
        given = total(graph.type(ref).numel for ref in made if graph.type(ref).dtype is ElementType.FLOAT)
        return found.whole + found.copied - found.for_losses, found.peak_bytes + found.copied + given * FLOAT

    def _parts(self, graph: Graph, path: str) -> Parts:
        """Return the lines of the layer at ``path`` whose blocks are recomputed."""
        return frozenset(n.name for n in graph.nodes.values() if n.at and join(path, n.at) in self.recomputed)

    # -- graphs ------------------------------------------------------------------------------

    def block_memory_of(
        self, graph: Graph, forms: Mapping[str, InputForm], place: PathState, side: bool, parts: Parts = frozenset()
    ) -> BlockMemory:
        """Return what one copy keeps whose inputs look like ``forms``, and whose lines ``parts`` are recomputed."""
        key = (graph, tuple(forms.items()), place, side, parts)
        if key not in self.memo:
            self.memo[key] = self._block_memory(graph, forms, place, side, parts)
        return self.memo[key]

    def _block_memory(
        self, graph: Graph, forms: Mapping[str, InputForm], place: PathState, side: bool, parts: Parts
    ) -> BlockMemory:
        tape = self._tape()
        own = {p: Storage(t.numel, forms[p].width, forms[p].weight) for p, t in graph.inputs.items()}
        values = {
            Ref(p, p): Value(own[p], t.numel, forms[p].width, forms[p].grad, strided=forms[p].strided)
            for p, t in graph.inputs.items()
        }
        tape.inputs.update(own.values())
        for node in graph.nodes.values():
            self._line(tape, graph, node, values, place, side, node.name in parts)
        found = block_memory(tape, own, {p: values[ref] for p, ref in graph.outputs.items()})
        found.largest, found.peak_bytes = largest(tape.value_bytes, self.values), tape.peak_bytes
        found.recomputed = tuple(tape.recomputed)
        return found

    def _record_peak(self, tape: Tape, values: Mapping[Ref, Value], inside: Size = 0) -> None:
        """Record how many bytes there are: what is kept, what lines hold, what is made right now or inside."""
        alive = {**tape.saved, **{v.storage: None for v in values.values()}, **tape.op_values}
        alive_bytes = total(s.bytes for s in alive if not s.weight and s not in tape.inputs)
        tape.peak_bytes = largest((tape.peak_bytes, alive_bytes + inside), self.values)
        tape.op_values.clear()

    def _line(
        self, tape: Tape, graph: Graph, node: Node, values: dict[Ref, Value], place: PathState, side: bool,
        checkpoint: bool = False,
    ) -> None:  # fmt: skip
        """Run one line of a graph; under a ``checkpoint``, its block keeps its inputs alone."""
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
            form, ahead = self.logits.output_layers.get((graph, node.name), (LogitsForm.NONE, 1))
            tape.op_values.clear()
            tape.op_key = ((node.name, 0),)
            execution = Execution(
                ins=ins, types=_types(graph, node), outputs=node.outputs, side_by_side=side, logits=form, ahead=ahead
            )
            outs = _run(tape, node, execution)
            self._record_peak(tape, values)
        else:
            outs = self._blocks(tape, node, ins, values, place, side, checkpoint)
        values.update((Ref(node.name, p), value) for p, value in outs.items())
        return None

    def _blocks(
        self, tape: Tape, node: Node, ins: dict[str, Value], values: Mapping[Ref, Value], place: PathState, side: bool,
        checkpoint: bool,
    ) -> dict[str, Value]:  # fmt: skip
        """Run a block, or copies side by side; the outputs of copies that differ are put together."""
        parts, outs, grad = alike(node, place), dict[str, Value](), False
        numbers = {graph: i for i, graph in enumerate(dict.fromkeys(part.graph for part in parts))}
        for part in parts:
            found = self.block_memory_of(part.graph, input_forms(ins), part.place, side or node.mode is Mode.EACH)
            self._record_peak(tape, values, found.peak_bytes * part.count)
            tape.op_key = ((node.name, numbers[part.graph]),)
            outs = record_block(tape, found, ins, part.count, checkpoint)
            if checkpoint:
                tape.recomputed.append(self._recompute(found, part.graph))
            grad = grad or any(value.grad for value in outs.values())
        if len(parts) > 1:
            whole = {port: (type_.numel, outs[port].width) for port, type_ in node.outputs.items()}
            outs = {port: tape.fresh(numel, width, grad) for port, (numel, width) in whole.items()}
        return outs

    def _repeat(
        self, tape: Tape, graph: Graph, node: Node, values: dict[Ref, Value], place: PathState, top: bool = False
    ) -> None:
        """Run the copies of a line one after another."""
        ins = {p: values[ref] for p, ref in node.sources.items()}
        outs: dict[str, Value] = {}
        numbers = {graph: i for i, graph in enumerate(dict.fromkeys(copies.graph for copies in node.copies))}
        for i, (copy, inner) in enumerate(node.copy_graphs()):
            before, path = _recorded(tape), node.segment(copy)
            checkpoint = top and (self.checkpoint or path in self.recomputed)
            parts = self._parts(inner, path) if top and not checkpoint else frozenset()
            found = self.block_memory_of(inner, input_forms(ins), place.inside(path), False, parts)
            if not top:  # the first page is never recomputed
                self._record_peak(tape, values, found.peak_bytes)
            tape.op_key = ((node.name, numbers[inner]),)
            outs = record_block(tape, found, ins, 1, checkpoint, own=not (node.reused and i))
            ins.update({p: v for p, v in outs.items() if p in node.carried})
            if top:
                again = [self._recompute(found, inner)] if checkpoint else found.recomputed
                most = [largest(sizes, self.values) for sizes in zip(*again, strict=True)] or [0, 0]
                self._add_layer(tape, before, node, inner, path, *most)
        for port, type_ in node.outputs.items():
            last = ins.get(port) if port in node.carried else outs.get(port)
            stacked = port not in node.carried and last is not None
            value = tape.fresh(type_.numel, last.width, last.grad) if stacked and last else last
            values[Ref(node.name, port)] = value or _input(type_.numel, type_.dtype)


def _run(tape: Tape, node: Node, execution: Execution) -> dict[str, Value]:
    """Run one op on the tape."""
    assert node.op is not None
    found = node.op.keep(tape, execution)
    return found if isinstance(found, dict) else {node.first: found}


def _types(graph: Graph, node: Node) -> dict[str, Type]:
    """Return the types of all that an op reads: inputs and weights."""
    own = {name: weight.type for name, weight in node.weights.items()}
    return {**known_types(graph, node), **own}


def _recorded(tape: Tape) -> tuple[set[Storage], set[Storage]]:
    return set(tape.saved), set(tape.copied)


def _input(numel: Size, dtype: ElementType) -> Value:
    width = LONG if dtype is ElementType.INT else FLOAT
    return Value(Storage(numel, width), numel, width, grad=False)


def _weight(numel: Size, trained: bool) -> Value:
    return Value(Storage(numel, FLOAT, weight=True), numel, FLOAT, trained)
