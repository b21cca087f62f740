"""What outputs depend on, judged by cutting inputs one by one in a graph without blocks."""

from __future__ import annotations

from itertools import product

import networkx as nx
import pytest

import dsvgraph
from dsvgraph.graph import Graph, Model, Node
from dsvgraph.graph.dependencies import DependencyAnalysis

TEXT = """
blocks:
  step:
    in: {a: [B, T, d], b: [B, T, d], c: [B, T, d], w: [d, d]}
    body:
      p: {linear: a, out: d}
      q: {linear: b, out: d, weight: w}
      r: {add: [q, c]}
    out: {a: r, b: b, seen: p}
graph:
  in: {ids: "int[B, T]"}
  body:
    e:     {embedding: ids, num: 9, dim: 4}
    one:   {linear: e, out: 4}
    two:   {linear: e, out: 4}
    three: {linear: e, out: 4}
    donor:  {linear: e, out: 4}
    steps: {step: {a: one, b: two, c: three, w: donor.weight}, repeat: 3}
  out: {a: steps.a, b: steps.b, seen: steps.seen}
"""


def unrolled(model: Model) -> nx.DiGraph:
    """The three copies written out by hand, (copy, line) per node."""
    net = nx.DiGraph()
    for k in range(3):
        before = {p: ("e", s) if k == 0 else (k - 1, out) for p, s, out in (("a", "one", "r"), ("b", "two", "b"))}
        net.add_edges_from([(before["a"], (k, "p")), (before["b"], (k, "q")), (before["b"], (k, "b"))])
        net.add_edges_from([((k, "q"), (k, "r")), (("e", "three"), (k, "r")), (("e", "donor"), (k, "q"))])
    return net


ENDS = {"a": [(2, "r")], "b": [(2, "b")], "seen": [(k, "p") for k in range(3)]}


@pytest.mark.parametrize("outputs", [["a"], ["b"], ["seen"], ["a", "seen"]])
def test_against_the_unrolled_graph(outputs: list[str]) -> None:
    model = dsvgraph.loads(TEXT)
    net = unrolled(model)
    needs = DependencyAnalysis().of(model, outputs)
    kept = set().union(*(nx.ancestors(net, end) | {end} for name in outputs for end in ENDS[name]))
    for line in ("one", "two", "three", "donor"):
        assert (line in needs.ports) == (("e", line) in kept), line
    inner = DependencyAnalysis().of(model.nodes["steps"].copies[0].graph, needs.copies["steps"][0])
    for line in ("p", "q", "r"):
        assert (line in inner.ports) == any((k, line) in kept for k in range(3)), line


def test_a_lent_weight_is_not_computed() -> None:
    model = dsvgraph.loads(TEXT)
    needs = DependencyAnalysis().of(model, ["a"])
    assert not needs.computes(model.nodes["donor"])
    assert needs.computes(model.nodes["steps"])


@pytest.mark.parametrize("name", ["deepseek_v3_tiny", "tutorial_mtp", "tests/specs/parallel_heads.yaml"])
def test_heads_are_dropped_and_nothing_else(name: str) -> None:
    model = dsvgraph.load(name)
    first, *others = model.outputs
    needs = DependencyAnalysis().of(model, [first])
    assert needs.ports.keys() <= model.needed([first])
    dropped = model.nodes.keys() - needs.ports.keys()
    assert dropped == {model.outputs[o].node for o in others}


def test_runs_without_copies_pass_what_they_carry() -> None:
    model = dsvgraph.loads(TEXT.replace("repeat: 3", "repeat: 0"))
    assert DependencyAnalysis().of(model, ["a"]).ports.keys() == {"steps", "one", "e"}


def test_memo_is_by_what_is_asked() -> None:
    model, depends = dsvgraph.loads(TEXT), DependencyAnalysis()
    inner: Graph = model.nodes["steps"].copies[0].graph
    for a, b in product([["a"], ["b"], ["seen"]], repeat=2):
        assert (depends.of(inner, a) is depends.of(inner, b)) == (a == b)
    assert isinstance(inner.nodes["p"], Node)
