"""Depo and Brevo of the Physics of Language Models, part 4.1: reasoning depth, and reasoning breadth."""

from __future__ import annotations

from random import Random
from typing import Annotated, ClassVar

from pydantic import Field, model_validator

from dsvgraph_torch.data.tasks import named_nodes
from dsvgraph_torch.data.tasks.task import END, Example, Task

BEGIN, ANSWER, QUERY = "<bos>", "<answer>", "<query>"
Count = Annotated[int, Field(ge=3, le=100_000)]
Length = Annotated[int, Field(ge=1, le=64)]


class Depo(Task):
    """Follow a permutation: the edges of a cycle in random order, then queries `<query_k> node <answer> k-th after it`.

    A node is a name of ``shortest`` to ``longest`` tokens out of ``symbols``. Training draws 3 to ``nodes`` nodes, more
    often few, and k from 1 to ``hops``; held-out rows have all nodes, and k is a power of two or ``hops``.
    """

    name: ClassVar[str] = "depo"
    source: ClassVar[str] = "Depo of Allen-Zhu, arXiv 2512.17351 (Depo1: nodes=225,hops=8)"

    nodes: Count = 30
    hops: Annotated[int, Field(ge=1, le=1000)] = 4
    queries: Annotated[int, Field(ge=1)] = 10
    symbols: Annotated[int, Field(ge=1, le=10_000)] = 50
    shortest: Length = 1
    longest: Length = 2

    @model_validator(mode="after")
    def _fits(self) -> Depo:
        _check_names(self.nodes, self.symbols, self.shortest, self.longest)
        return self

    def alphabet(self) -> list[str]:
        return [*named_nodes.alphabet(self.symbols), *(f"<query_{k}>" for k in range(1, self.hops + 1)), BEGIN, ANSWER]

    @property
    def length(self) -> int:
        return 1 + 2 * self.nodes * self.longest + min(self.nodes, self.queries) * (2 + 2 * self.longest)

    def draw(self, rng: Random, heldout: bool) -> Example:
        count = self.nodes if heldout else named_nodes.node_count(rng, self.nodes)
        cycle = named_nodes.names(rng, count, self.symbols, self.shortest, self.longest)
        hops = self.heldout_hops() if heldout else list(range(1, self.hops + 1))
        first = cycle.index(min(cycle))
        example = Example(cycle[first:] + cycle[:first])
        example.ask(BEGIN)
        for i in rng.sample(range(count), count):
            example.ask(*cycle[i], *cycle[(i + 1) % count])
        for i in rng.sample(range(count), min(count, self.queries)):
            k = rng.choice(hops)
            example.ask(f"<query_{k}>", *cycle[i])
            example.answer([ANSWER, *cycle[(i + k) % count]])
        return example

    def heldout_hops(self) -> list[int]:
        """Return the k of held-out queries: powers of two, and the largest."""
        return sorted({*(2**i for i in range(self.hops.bit_length()) if 2**i <= self.hops), self.hops})


class Brevo(Task):
    """List what a node depends on: edges of a DAG, then `<query> node <answer>` and all it depends on, and itself.

    Every node comes after those that it depends on; every such order is accepted. Nodes are single tokens, or with
    `longest=2` and more names of several. Training draws 3 to ``nodes`` nodes, more often few; held-out rows have all.
    """

    name: ClassVar[str] = "brevo"
    source: ClassVar[str] = "Brevo of Allen-Zhu, arXiv 2512.17351 (Brevo1: nodes=70)"

    nodes: Count = 30
    parents: Annotated[int, Field(ge=1, le=64)] = 4
    symbols: Annotated[int, Field(ge=1, le=10_000)] = 4
    shortest: Length = 1
    longest: Length = 1

    @model_validator(mode="after")
    def _fits(self) -> Brevo:
        if self.longest > 1:
            _check_names(self.nodes, self.symbols, self.shortest, self.longest)
        return self

    def alphabet(self) -> list[str]:
        nodes = named_nodes.alphabet(self.symbols) if self.longest > 1 else list(map(str, range(self.nodes)))
        return [*nodes, BEGIN, QUERY, ANSWER]

    @property
    def length(self) -> int:
        edges = sum(min(i, self.parents) for i in range(self.nodes))
        return self.longest * (2 * edges + 1 + self.nodes) + 4

    def draw(self, rng: Random, heldout: bool) -> Example:
        count = self.nodes if heldout else named_nodes.node_count(rng, self.nodes)
        above = self._graph(rng, count)
        names = self._names(rng, count)
        edges = [(parent, child) for child, parents in enumerate(above) for parent in parents]
        example = Example([sorted((names[a], names[b]) for a, b in edges), names[-1]])
        rng.shuffle(edges)
        example.ask(BEGIN)
        for a, b in edges:
            example.ask(*names[a], *names[b])
        example.ask(QUERY, *names[-1])
        example.answer([ANSWER, *(word for node in _ordered(rng, above) for word in names[node]), END])
        return example

    def _names(self, rng: Random, count: int) -> list[tuple[str, ...]]:
        if self.longest > 1:
            return named_nodes.names(rng, count, self.symbols, self.shortest, self.longest)
        return [(str(i),) for i in rng.sample(range(self.nodes), count)]

    def _graph(self, rng: Random, count: int) -> list[list[int]]:
        """Return the parents of every node: 1 to ``parents`` of those before it, each with as many children at most."""
        leaves, children = rng.randint(1, (count - 1) // 4 + 1), [0] * count
        above: list[list[int]] = [[] for _ in range(leaves)]
        for node in range(leaves, count):
            free = [i for i in range(node) if children[i] < self.parents]
            above.append(rng.sample(free, rng.randint(1, min(len(free), self.parents))))
            for parent in above[-1]:
                children[parent] += 1
        return above

    def accepts(self, asked: list[str], answer: list[str], found: list[str]) -> bool:
        """Return whether every node that is asked for is there once, after those that it depends on."""
        if found[:1] + found[-1:] != [ANSWER, END] or (nodes := split_names(found[1:-1], self.longest)) is None:
            return False
        cut = asked.index(QUERY)
        given, last = split_names(asked[1:cut], self.longest), tuple(asked[cut + 1 :])
        assert given is not None
        above: dict[tuple[str, ...], set[tuple[str, ...]]] = {}
        for a, b in zip(given[::2], given[1::2], strict=True):
            above.setdefault(b, set()).add(a)
        seen: set[tuple[str, ...]] = set()
        for node in nodes:
            if node in seen or not above.get(node, set()) <= seen:
                return False
            seen.add(node)
        return seen == _needed(above, last)


def _needed(above: dict[tuple[str, ...], set[tuple[str, ...]]], last: tuple[str, ...]) -> set[tuple[str, ...]]:
    """Return ``last`` and all that it depends on."""
    found, open_ = {last}, [last]
    while open_:
        new = above.get(open_.pop(), set()) - found
        found |= new
        open_ += new
    return found


def _ordered(rng: Random, above: list[list[int]]) -> list[int]:
    """Return the last node and all that it depends on, in a random order in which no node comes before its parents."""
    needed, open_ = {len(above) - 1}, [len(above) - 1]
    while open_:
        new = set(above[open_.pop()]) - needed
        needed |= new
        open_ += new
    missing = {node: len(above[node]) for node in needed}
    ready, order = sorted(node for node in needed if not above[node]), list[int]()
    while ready:
        order.append(ready.pop(rng.randrange(len(ready))))
        for child in sorted(needed):
            missing[child] -= order[-1] in above[child]
            if not missing[child] and child not in order and child not in ready:
                ready.append(child)
    return order


def split_names(words: list[str], longest: int) -> list[tuple[str, ...]] | None:
    """Return the names that words spell, None where the last one does not end."""
    if longest == 1:
        return [(word,) for word in words]
    found, name = list[tuple[str, ...]](), list[str]()
    for word in words:
        name.append(word)
        if word.startswith("z"):
            found.append(tuple(name))
            name = []
    return None if name else found


def _check_names(nodes: int, symbols: int, shortest: int, longest: int) -> None:
    if longest < shortest:
        raise ValueError(f"names of {shortest} to {longest} tokens: longest is at least shortest")
    if (there := named_nodes.room(symbols, shortest, longest)) < 2 * nodes:
        words = f"names of {shortest} to {longest} tokens out of {symbols} are {there}"
        raise ValueError(f"{words}; {nodes} nodes need twice as many as there are nodes")
