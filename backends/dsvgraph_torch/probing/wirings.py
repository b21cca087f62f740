"""Other wirings of a chain of predictions, as graphs: the same weights, another state, order or module.

Nothing is known by name: the chain is the repeated line that the stacked predictions come from, the state what it
carries from depth to depth, and the order that of the two parts that its projection reads.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import product

from dsvgraph.errors import DsvError
from dsvgraph.graph import Copies, Graph, Mode, Model, Node, Ref
from dsvgraph.ops.pointwise import Add, Concat
from dsvgraph.ops.weighted import Linear, RMSNorm
from dsvgraph.types import ElementType
from dsvgraph_torch.probing.heads import Head

AFTER, BEFORE = "after", "before"
OTHER = {AFTER: BEFORE, BEFORE: AFTER}


@dataclass(frozen=True)
class Chain:
    """The line of a model that predicts depth by depth, and the port that carries its state."""

    node: Node
    port: str
    heads: tuple[Head, ...]

    @property
    def graphs(self) -> list[Graph]:
        """The distinct blocks of its depths."""
        return list(dict.fromkeys(copies.graph for copies in self.node.copies))


@dataclass(frozen=True)
class Choice:
    """One choice of a wiring: what the spec declares and the alternative, in words, and how a model gets the latter."""

    declared: str
    other: str
    apply: Callable[[Model, str], Model]


@dataclass(frozen=True)
class Variant:
    """A wiring as a model; empty words for choices that the model does not have."""

    model: Model
    state: str
    handed_on: str
    order: str
    module: str
    declared: bool


def chain_of(model: Model, heads: Sequence[Head]) -> Chain:
    """Return the chain of a model. Raise DsvError that names the line if there is none."""
    stacked = [head for head in heads if head.depth]
    if not stacked:
        raise DsvError(f"--mtp-matrix: {model.name} has no stacked output that a loss predicts with")
    lines = {model.outputs[str(head.prediction.loss.output)].node for head in stacked}
    if len(lines) > 1:
        raise DsvError(f"--mtp-matrix: depths come from several lines: {', '.join(sorted(lines))}")
    node = model.nodes[lines.pop()]
    if node.mode is not Mode.REPEAT:
        words = f"--mtp-matrix: `{node.name}` ({node.callee}) repeats no block: it is no chain of depths"
        raise DsvError(words, node.span)
    states = [port for port in node.carried if node.outputs[port].dtype is not ElementType.INT]
    if len(states) != 1:
        carried = f"carries {len(states)} states" if states else "carries no state"
        words = f"--mtp-matrix: `{node.name}` ({node.callee}) {carried} from depth to depth; a wiring is varied for one"
        raise DsvError(words, node.span)
    return Chain(node, states[0], tuple(stacked))


def variants(model: Model, heads: Sequence[Head]) -> tuple[Chain, list[Variant], list[str]]:
    """Return the chain of a model, all its wirings (the declared one first), and why choices were left out.

    Raise DsvError if there is no chain, or nothing about it could be wired otherwise.
    """
    chain = chain_of(model, heads)
    choices: dict[str, Choice] = {}
    left_out: list[str] = []
    for name, find in FINDERS.items():
        try:
            choices[name] = find(model, chain)
        except LookupError as why:
            left_out.append(f"{name.replace('_', ' ')}: {why.args[0]}")
    if not choices:
        words = f"--mtp-matrix: nothing about `{chain.node.name}` could be wired otherwise"
        raise DsvError(words, chain.node.span, notes=[(why, None) for why in left_out])
    return chain, list(_combined(model, choices)), left_out


def _combined(model: Model, choices: dict[str, Choice]) -> Iterator[Variant]:
    for picks in product((True, False), repeat=len(choices)):
        found, words = model, dict.fromkeys(FINDERS, "")
        for (name, choice), declared in zip(choices.items(), picks, strict=True):
            words[name] = choice.declared if declared else choice.other
            found = found if declared else choice.apply(found, choice.other)
        yield Variant(found, **words, declared=all(picks))


# -- choices -------------------------------------------------------------------------------------


def _state(model: Model, chain: Chain) -> Choice:
    """The first depth reads the trunk's state before or after its last norm."""
    ref = chain.node.inputs[chain.port]
    declared, other = _around_norm(model, ref)

    def apply(found: Model, _: str) -> Model:
        node = found.nodes[chain.node.name]
        return _with_node(found, replace(node, inputs={**node.inputs, chain.port: other}))

    return Choice(f"{declared} norm", f"{OTHER[declared]} norm", apply)


def _handed_on(model: Model, chain: Chain) -> Choice:
    """A depth hands on its state before or after its norm."""
    if len(chain.heads) < 2:
        raise LookupError("there is one depth, which hands nothing on")
    around = {graph: _around_norm(graph, graph.outputs[chain.port]) for graph in chain.graphs}
    declared = {words for words, _ in around.values()}
    if len(declared) > 1:
        raise LookupError("depths hand on different states")
    others = {graph: other for graph, (_, other) in around.items()}

    def apply(found: Model, _: str) -> Model:
        by_name = iter([others[graph] for graph in chain.graphs])

        def handing(graph: Graph) -> Graph:
            return replace(graph, outputs={**graph.outputs, chain.port: next(by_name)})

        return _with_graphs(found, chain, handing)

    words = declared.pop()
    return Choice(f"{words} norm", f"{OTHER[words]} norm", apply)


def _around_norm(graph: Graph, ref: Ref) -> tuple[str, Ref]:
    """Return on which side of a norm ``ref`` is, and the other side. Raise LookupError if there is no norm."""
    node = graph.nodes.get(ref.node)
    if node is not None and isinstance(node.op, RMSNorm):
        return AFTER, next(iter(node.inputs.values()))
    read = [graph.nodes[use.reader] for use in graph.uses.get(ref.node, ()) if use.port == ref.port]
    norms = [reader for reader in read if isinstance(reader.op, RMSNorm)]
    if len(norms) != 1:
        raise LookupError(f"`{ref}` is no norm, and {len(norms) or 'no'} norms read it")
    return BEFORE, Ref(norms[0].name, norms[0].first)


def _order(model: Model, chain: Chain) -> Choice:
    """The projection reads the embedding first or the state first."""
    found = {graph: _joined(graph, chain.port) for graph in chain.graphs}
    first = {state_first for _, state_first in found.values()}
    if len(first) > 1:
        raise LookupError("depths read their two parts in different orders")
    words = {True: "[h; e]", False: "[e; h]"}
    places = [places for places, _ in found.values()]

    def apply(model: Model, _: str) -> Model:
        by_graph = iter(places)

        def swapped(graph: Graph) -> Graph:
            return _swapped(graph, next(by_graph))

        return _with_graphs(model, chain, swapped)

    declared = first.pop()
    return Choice(words[declared], words[not declared], apply)


Place = tuple[str, str]
"""A line and one of its ports."""


def _joined(graph: Graph, state: str) -> tuple[tuple[Place, Place], bool]:
    """Return the two places that read the state and the other part, and whether the state comes first.

    They are the inputs of a concat that a linear reads, or those of two linears that are added.
    """
    for node in graph.nodes.values():
        places = _parts(graph, node)
        if places is None:
            continue
        refs = [graph.nodes[line].inputs[port] for line, port in places]
        of_state = [state in graph.behind([ref]) for ref in refs]
        if of_state[0] != of_state[1]:
            if graph.type(refs[0]) != graph.type(refs[1]):
                raise LookupError(f"the two parts of `{node.name}` have different sizes")
            return places, of_state[0]
    raise LookupError("no projection reads the state and another part, neither by a concat nor by a sum")


def _parts(graph: Graph, node: Node) -> tuple[Place, Place] | None:
    """Return the places of the two parts of a projection that ends in ``node``, or None where it is none."""
    if len(node.inputs) != 2 or node.op is None:
        return None
    (a, ref_a), (b, ref_b) = node.inputs.items()
    if isinstance(node.op, Concat):
        readers = [graph.nodes[use.reader].op for use in graph.uses.get(node.name, ())]
        return ((node.name, a), (node.name, b)) if readers and all(isinstance(op, Linear) for op in readers) else None
    linears = [graph.nodes.get(ref.node) for ref in (ref_a, ref_b)]
    if isinstance(node.op, Add) and all(line is not None and isinstance(line.op, Linear) for line in linears):
        one, other = (line.name for line in linears if line is not None)
        return (one, "x"), (other, "x")
    return None


def _module(model: Model, chain: Chain) -> Choice:
    """Depth k runs the module k, or all depths run the module of the first."""
    if len(chain.heads) < 2:
        raise LookupError("there is one depth")
    if chain.node.reused:
        raise LookupError("all depths share one module already")
    if len(chain.graphs) > 1:
        raise LookupError("depths are different blocks")

    def apply(found: Model, _: str) -> Model:
        return _with_node(found, replace(found.nodes[chain.node.name], reused=True))

    return Choice("module k", "module 0", apply)


FINDERS: dict[str, Callable[[Model, Chain], Choice]] = {
    "state": _state,
    "handed_on": _handed_on,
    "order": _order,
    "module": _module,
}


# -- changed graphs ------------------------------------------------------------------------------


def _swapped(graph: Graph, places: tuple[Place, Place]) -> Graph:
    """Return a graph in which two places read what the other one read."""
    (line, port), (other, other_port) = places
    refs = graph.nodes[line].inputs[port], graph.nodes[other].inputs[other_port]
    nodes = dict(graph.nodes)
    nodes[line] = replace(nodes[line], inputs={**nodes[line].inputs, port: refs[1]})
    nodes[other] = replace(nodes[other], inputs={**nodes[other].inputs, other_port: refs[0]})
    return replace(graph, nodes=_ordered(nodes))


def _with_graphs(model: Model, chain: Chain, change: Callable[[Graph], Graph]) -> Model:
    """Return a model with other blocks in its chain."""
    node = model.nodes[chain.node.name]
    graphs = dict.fromkeys(copies.graph for copies in node.copies)
    changed = {graph: change(graph) for graph in graphs}
    copies = tuple(Copies(changed[one.graph], one.count) for one in node.copies)
    return _with_node(model, replace(node, copies=copies))


def _with_node(model: Model, node: Node) -> Model:
    """Return a model with another line in the place of one of this name."""
    return replace(model, nodes=_ordered({**model.nodes, node.name: node}))


def _ordered(nodes: dict[str, Node]) -> dict[str, Node]:
    """Return lines in an order in which each reads those before it, as near as can be to the one they are in."""
    found: dict[str, Node] = {}

    def add(name: str) -> None:
        if name in nodes and name not in found:
            for ref in nodes[name].sources.values():
                add(ref.node)
            found[name] = nodes[name]

    for name in nodes:
        add(name)
    return found
