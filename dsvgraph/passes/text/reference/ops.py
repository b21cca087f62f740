"""The primitive ops as they are: ports, outputs, weights, attributes, formula, FLOPs.

Shapes are not written down a second time: the types that an op's docstring names are put into its
own shape rule, with a name for every size.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from pydantic import BeforeValidator
from pydantic.fields import FieldInfo

from dsvgraph import expr
from dsvgraph.dims import Size, ratio, symbol
from dsvgraph.ops import OPS, Op
from dsvgraph.passes.text.reference.entries import ReferenceEntry, first_sentence, paragraphs, written
from dsvgraph.types import ElementType, Type, Weight, as_size

PORT = re.compile(r"(int)?\[([^\]]*)\]")
KINDS = {bool: "true or false", int: "whole number", float: "number", str: "text", dict: "mapping"}
LIMITS = {"ge": "at least", "gt": "above", "le": "at most", "lt": "below"}  # as Pydantic keeps them


@dataclass(frozen=True)
class Attribute:
    """An attribute: the kind of value, its limits in words, and its default as in YAML (None: required)."""

    name: str
    kind: str
    limits: str
    default: str | None


@dataclass(frozen=True)
class OwnWeight:
    """A weight with its symbolic shape, and the attribute that brings it, where one does."""

    name: str
    shape: str
    with_: str = ""
    trained: bool = True


@dataclass(frozen=True)
class OpPage:
    """All of one op. ``inputs`` and ``outputs`` are types by port; empty where only ``doc`` has them."""

    name: str
    summary: str
    doc: list[str]
    formula: str
    flops: str
    variadic: bool
    inputs: dict[str, str]
    outputs: dict[str, str]
    weights: list[OwnWeight]
    attributes: list[Attribute]

    def entries(self) -> Iterator[ReferenceEntry]:
        """Yield the ports, weights and attributes in this order."""
        remark = "as many as one likes" if self.variadic else ""
        yield from (ReferenceEntry("in", port, type_, remark) for port, type_ in self.inputs.items())
        yield from (ReferenceEntry("out", port, type_) for port, type_ in self.outputs.items())
        for weight in self.weights:
            remarks = [f"with {weight.with_}"] * bool(weight.with_) + ["not trained by gradients"] * (
                not weight.trained
            )
            yield ReferenceEntry("weight", weight.name, weight.shape, ", ".join(remarks))
        for found in self.attributes:
            default = "required" if found.default is None else f"default {found.default}"
            yield ReferenceEntry("attribute", found.name, ", ".join(filter(None, (found.kind, found.limits))), default)

    def facts(self) -> Iterator[tuple[str, str]]:
        """Yield label and text of what holds for the whole op."""
        yield "formula", self.formula
        if self.flops:
            yield "FLOPs", self.flops

    def as_dict(self) -> dict[str, Any]:
        """Return the page for ``--json``."""
        found = asdict(self)
        found["weights"] = [{k.rstrip("_"): v for k, v in weight.items()} for weight in found["weights"]]
        return found


def ops() -> dict[str, OpPage]:
    """Return every op by name."""
    return {name: _page(name, cls) for name, cls in OPS.items()}


def _page(name: str, cls: type[Op]) -> OpPage:
    doc = cls.__doc__ or ""
    ins = _inputs(cls)
    op = _example(cls, ins) if ins else None
    outs = op.outputs(ins) if op else {}
    flops = str(op.flops(ins, outs)).replace("...", "rows") if op else ""
    return OpPage(
        name=name,
        summary=first_sentence(doc),
        doc=paragraphs(doc),
        formula=cls.formula,
        flops=flops if flops != "0" else "",
        variadic=cls.variadic,
        inputs={p: str(ins.get(p, "")) for p in ins or cls.ports},
        outputs={p: str(t) for p, t in outs.items()},
        weights=_weights(op, ins) if op else [],
        attributes=[_attribute(n, f) for n, f in cls.model_fields.items()],
    )


# -- shapes -----------------------------------------------------------------------------------


def _inputs(cls: type[Op]) -> dict[str, Type]:
    """Return the types before the arrow in the docstring, by port; nothing where one has none."""
    found = PORT.findall((cls.__doc__ or "").partition("->")[0])
    ports = [f"x{i}" for i in range(len(found))] if cls.variadic else cls.ports
    if len(found) != len(ports):
        return {}
    types = [Type(tuple(_size(s) for s in inner.split(",")), ElementType(dtype or "float")) for dtype, inner in found]
    return dict(zip(ports, types, strict=True))


def _size(text: str) -> Size:
    """Return a size of a docstring; a quotient need not be a polynomial (tokens of one expert)."""
    if text.strip() == "...":
        return symbol("...")
    above, _, below = text.partition("/")
    size: Size = expr.evaluate(expr.parse(above), symbol)
    return ratio(size, expr.evaluate(expr.parse(below), symbol)) if below else size


def _example(cls: type[Op], ins: Mapping[str, Type]) -> Op | None:
    """Return the op with a name for every size that it needs; None where such an op does not fit its docstring."""
    needed = {n: _symbolic(n, f) for n, f in cls.model_fields.items() if f.is_required()}
    sizes = {n: symbol(n) for n, f in cls.model_fields.items() if _is_size(f) and f.default is None}
    numbers = {n: 1.0 for n, f in cls.model_fields.items() if _base(f) is float and f.default is None}
    for values in (needed, sizes | needed, numbers | needed):
        try:
            op = cls.model_validate(values)
            op.weights(ins), op.outputs(ins)
        except ValueError:
            continue
        return op
    return None


def _symbolic(name: str, field: FieldInfo) -> Any:
    """Return a value that an attribute may have; a mapping of sizes has the parts a and b."""
    if _base(field) is dict:
        return {part: symbol(part) for part in "ab"}
    return 1 if _base(field) in (int, float) else symbol(name)


def _weights(op: Op, ins: Mapping[str, Type]) -> list[OwnWeight]:
    """Return the weights of the op as it stands, and those that an attribute which is true or false brings."""
    own = op.weights(ins)
    found = {name: _own(name, weight, "") for name, weight in own.items()}
    for name, field in type(op).model_fields.items():
        if field.annotation is not bool:
            continue
        other = type(op).model_validate({**dict(op), name: not getattr(op, name)}).weights(ins)
        found |= {n: _own(n, w, f"{name}: true") for n, w in other.items() if n not in own}
        found |= {n: _own(n, w, f"{name}: true") for n, w in own.items() if n not in other}
    return list(found.values())


def _own(name: str, weight: Weight, with_: str) -> OwnWeight:
    return OwnWeight(name, str(weight.type), with_, weight.trained)


# -- attributes -------------------------------------------------------------------------------


def _attribute(name: str, field: FieldInfo) -> Attribute:
    default = None if field.is_required() else written(field.default)
    return Attribute(name, _kind(field), _limits(field), default)


def _base(field: FieldInfo) -> Any:
    """Return the type of an attribute without `| None` and without what Annotated adds."""
    found: Any = field.annotation
    if get_origin(found) in (Union, UnionType):
        (found,) = (part for part in get_args(found) if part is not NoneType)
    if get_origin(found) is Annotated:
        found = get_args(found)[0]
    return found if get_origin(found) is Literal else get_origin(found) or found


def _is_size(field: FieldInfo) -> bool:
    extra = [m for part in get_args(field.annotation) if get_origin(part) is Annotated for m in get_args(part)]
    return any(isinstance(m, BeforeValidator) and m.func is as_size for m in [*field.metadata, *extra])


def _kind(field: FieldInfo) -> str:
    base = _base(field)
    if get_origin(base) is Literal:
        return " or ".join(get_args(base))
    if base is tuple:
        return "size or list of sizes"
    return "size" if _is_size(field) else KINDS.get(base, "value")


def _limits(field: FieldInfo) -> str:
    found = [(words, getattr(m, key, None)) for m in field.metadata for key, words in LIMITS.items()]
    return " and ".join(f"{words} {written(value)}" for words, value in found if value is not None)
