"""Registration: an op that leaves out what a pass asks for is refused by name, as is a package that does not load."""

from __future__ import annotations

from importlib.metadata import EntryPoint
from typing import Any, ClassVar

import pytest

import dsvgraph
from dsvgraph.errors import DsvError
from dsvgraph.ops import OPS
from dsvgraph.ops.base import CARD, Drawn, Kind, Op, Pointwise, Positions, Saved, product_of
from dsvgraph.ops.registry import DECLARATIONS, Incomplete, Registry
from dsvgraph.types import Type


class Complete(Op):
    """Leaves a value as it is: [...] -> the same."""

    op: ClassVar[str] = "complete"
    kind: ClassVar[Kind] = Kind.ARITHMETIC
    title: ClassVar[str] = "complete"
    formula: ClassVar[str] = "y = x"
    positions: ClassVar[Positions] = Positions(along=False)
    drawn: ClassVar[Drawn] = CARD
    side_by_side: ClassVar[bool] = False
    differentiable: ClassVar[bool] = True
    wired_weights: ClassVar[tuple[str, ...]] = ()

    def details(self, ins: Any, outs: Any) -> list[str]:
        return []

    def outputs(self, ins: Any) -> dict[str, Type]:
        return {"y": ins["x"]}

    def weights(self, ins: Any) -> dict[str, Any]:
        return {}

    def vectors(self, ins: Any) -> int:
        return 1

    def products(self, ins: Any, outs: Any, attention: str = "causal") -> list[Any]:
        return []

    def keep(self, tape: Any, execution: Any) -> Any:
        return execution.x

    def shift(self) -> float:
        return 0

    def decoding_state(self, ins: Any, outs: Any) -> dict[str, Any]:
        return {}

    def keeps_first(self, port: str, ins: Any) -> bool:
        return True

    def moved(self, ins: Any) -> list[Any]:
        return []

    def mixed(self, ins: Any) -> list[Any]:
        return []


def without(name: str, **more: Any) -> type[Op]:
    """The complete op less one declaration."""
    members = {k: v for k, v in vars(Complete).items() if k in {*DECLARATIONS, "op", "__doc__"} and k != name}
    hints = {k: v for k, v in Complete.__annotations__.items() if k in members}
    return type("Other", (Op,), {**members, "__annotations__": hints, "__module__": __name__, **more})


def refusal(*classes: type[Op]) -> str:
    with pytest.raises(Incomplete) as caught:
        Registry().register(*classes)
    return str(caught.value)


def test_a_complete_op_is_registered() -> None:
    registry = Registry()
    registry.register(Complete)
    assert registry == {"complete": Complete}


@pytest.mark.parametrize("name", DECLARATIONS)
def test_each_declaration_is_asked_for(name: str) -> None:
    assert refusal(without(name)) == f"op `complete` does not declare `{name}`: {DECLARATIONS[name]}"


def test_every_method_and_mark_that_an_op_can_have_is_asked_for() -> None:
    """Nothing in Op has a default that could be wrong without a word."""
    own = {n for n in vars(Op) if not n.startswith("_")} | set(Op.__annotations__)
    of_pydantic = {n for n in vars(Op) if n.startswith("model_")}
    derived = {
        "op",
        "ports",
        "variadic",
        "open_names",
        "flops",
        "label",
        "looks",
    }  # checked apart, or made of the others
    derived |= {"cumulative"}  # left out, each piece may have read all: then a head is refused, and none is let by
    derived |= {"keeps_apart", "may_be_empty"}  # left out, rows with inserted tokens and stacks of nothing are refused
    derived |= {"on_own_tokens"}  # the op itself: only a condition on places of the row speaks of inserted tokens
    assert own - of_pydantic - derived == DECLARATIONS.keys()


@pytest.mark.parametrize(
    ("members", "words"),
    [
        ({"op": "Two Words"}, "`op` is its name in specs"),
        ({"op": ""}, "`op` is its name in specs"),
        ({"kind": "norm"}, "declares `kind` as 'norm'"),
        ({"positions": True}, "declares `positions` as True"),
        ({"drawn": "+"}, "declares `drawn` as '+'"),
        ({"side_by_side": 1}, "declares `side_by_side` as 1"),
        ({"__doc__": None}, "has no docstring"),
        ({"__doc__": "Says nothing of shapes."}, "the docstring tells its shapes"),
        ({"formula": " "}, "has no `formula` of its own"),
        ({"ports": ("x", "a-b")}, "`a-b` is no name of a port"),
        ({"__annotations__": {"at": "int"}}, "the attribute `at` is a key of every line"),
        ({"__annotations__": {"x": "int"}}, "`x` is a port and an attribute"),
    ],
)
def test_wrong_declarations_are_told(members: dict[str, Any], words: str) -> None:
    members = {**members, "__annotations__": {**Complete.__annotations__, **members.get("__annotations__", {})}}
    if "ports" in members:
        members["__annotations__"]["ports"] = "ClassVar[tuple[str, ...]]"
    assert words in refusal(without("", **members))


def test_a_pointwise_op_says_what_autograd_keeps() -> None:
    members = {
        "op": "softplus", "kind": Kind.ACTIVATION, "title": "softplus", "formula": "y = log(1 + exp(x))",
        "__doc__": "Smooth maximum of x and 0: [...] -> the same.", "__module__": __name__,
        "__annotations__": dict.fromkeys(("op", "kind", "title", "formula", "saved"), "ClassVar"),
    }  # fmt: skip
    assert "does not declare `saved`" in refusal(type("Softplus", (Pointwise,), members))
    Registry().register(type("Softplus", (Pointwise,), {**members, "saved": Saved.INPUT}))


def test_two_ops_have_two_names() -> None:
    registry = Registry()
    registry.register(Complete)
    with pytest.raises(Incomplete, match="there is an op of this name already"):
        registry.register(without(""))


def test_an_op_that_extends_another_has_words_of_its_own() -> None:
    heir = type("Heir", (OPS["silu"],), {"op": "heir", "__annotations__": {"op": "ClassVar"}, "__module__": __name__})
    assert refusal(heir) == "op `heir` has no `title` of its own"


def test_a_package_that_cannot_be_loaded_is_told_where_its_op_is_called(monkeypatch: pytest.MonkeyPatch) -> None:
    registry = Registry()
    registry.load([EntryPoint("broken", "no_such_module:OPS", "dsvgraph.ops")])
    assert "ModuleNotFoundError: No module named 'no_such_module'" in registry.failed["broken"]
    monkeypatch.setattr(OPS, "failed", registry.failed)
    with pytest.raises(DsvError) as caught:
        dsvgraph.loads("graph: {in: {i: 'int[B, T]'}, body: {y: {unheard: i}}, out: {y: y}}")
    (found,) = caught.value.diagnostics
    assert "there is no op or block `unheard`" in found.message and "`broken` could not be loaded" in str(caught.value)


def test_a_package_brings_all_of_its_ops_or_none() -> None:
    registry = Registry()
    with pytest.raises(Incomplete):
        registry.register(Complete, without("keep"))
    assert not registry


def test_a_weight_that_an_op_owns_cannot_be_wired() -> None:
    text = (
        "graph: {in: {i: 'int[B, T]'}, body: {e: {embedding: i, num: 4, dim: 4}, "
        "r: {router: e, experts: 4, top_k: 1, weight: e.weight}}, out: {y: r.score}}"
    )
    with pytest.raises(DsvError, match="`router` owns its weight `weight`: it cannot be wired"):
        dsvgraph.loads(text)


def test_an_op_over_earlier_rows_is_not_planned_in_silence(monkeypatch: pytest.MonkeyPatch) -> None:
    """What an op of another package computes over the cached rows is unknown: no number in its place."""
    from dsvgraph.ops.decoding import Past
    from dsvgraph.passes.estimate import PlanOptions, plan

    members = {
        "op": "linear_attention", "title": "linear attention", "__doc__": "Looks back: [B, T, D] -> the same.",
        "decoding_state": lambda self, ins, outs: {"x": Past()}, "formula": "y = x",
        "products": lambda self, ins, outs, attention="causal": [product_of(ins["x"].numel, "x", "x")],
    }  # fmt: skip
    monkeypatch.setitem(OPS, "linear_attention", without("", **members))
    text = (
        "graph: {in: {i: 'int[B, T]'}, body: {e: {embedding: i, num: 4, dim: 4}, "
        "y: {linear_attention: e}, h: {linear: y, out: 4}}, out: {logits: h}}"
    )
    model = dsvgraph.loads(text)
    assert plan(model, PlanOptions(phase="prefill", batch=1, seq=8)).flops.forward.value > 0
    with pytest.raises(DsvError, match="`linear_attention` computes over earlier positions") as caught:
        plan(model, PlanOptions(phase="decode", batch=1, context=8))
    assert caught.value.diagnostics[0].span
