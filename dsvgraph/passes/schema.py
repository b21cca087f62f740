"""JSON Schema of the language, for editors: made from the Pydantic models of specs and ops."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from dsvgraph.build.losses import KINDS
from dsvgraph.build.model import INITS
from dsvgraph.ops import OPS, Op
from dsvgraph.spec import FIGURE, BlockModel, PublishedModel, SpecModel

Json = dict[str, Any]

DIALECT = "https://json-schema.org/draft/2020-12/schema"
NAME = "^(?!__)[A-Za-z_][A-Za-z0-9_]{0,63}$"
REFERENCE = r"^[A-Za-z_][A-Za-z0-9_]*(\.[A-Za-z_][A-Za-z0-9_]*)?$"
TYPE = r"^(int|float|bool)?\s*\[.*\]$"
SIZE: Json = {"type": ["integer", "string"]}
NUMBER: Json = {"$ref": "#/$defs/number"}
ADDRESS = r"^(\.|[A-Za-z_][A-Za-z0-9_]*(\.[A-Za-z_][A-Za-z0-9_]*)*)$"

LINE_KEYS: dict[str, Json] = {
    "at": {"type": "string", "pattern": ADDRESS, "description": "The path, below the enclosing one."},
    "repeat": {"$ref": "#/$defs/size", "description": "Chains so many copies, like a scan."},
    "each": {"$ref": "#/$defs/size", "description": "Runs so many copies side by side over the first axis."},
    "slice": {"$ref": "#/$defs/ports", "description": "Inputs of which each copy gets one piece."},
    "share": {"$ref": "#/$defs/ports", "description": "Inputs that all copies get whole."},
}
LOSS_KEYS: dict[str, Json] = {
    "target": {"type": "string", "description": "The input whose tokens are predicted."},
    "shift": {"$ref": "#/$defs/number", "description": "How far ahead the target lies; may read `depth`."},
    "weight": {"$ref": "#/$defs/number", "description": "The factor; may read `depth` and `tokens`."},
    "divide": {"$ref": "#/$defs/number", "description": "What the sum is divided by: `valid`, `B * T`, ..."},
    "speed": {"$ref": "#/$defs/number", "description": "How much a bias moves at each step."},
}
LOSS_WORDS = {
    "cross_entropy": "Cross-entropy of an output of logits.",
    "sequence_balance": "The balance loss of each sequence, of the routers that a path pattern names.",
    "bias_update": "The loss-free update of selection biases, of the routers that a path pattern names.",
}


def schema() -> Json:
    """The JSON Schema (draft 2020-12) of a spec file."""
    made: Json = {"$schema": DIALECT, "title": "dsvgraph spec", **_model(SpecModel)}
    made["properties"] |= {
        "published": _published() | _words(made, "published"),
        "config": _named({}) | _words(made, "config"),
        "blocks": _named({"$ref": "#/$defs/block"}) | _words(made, "blocks"),
        "graph": {"$ref": "#/$defs/block"} | _words(made, "graph"),
        "loss": _named({"$ref": "#/$defs/loss"}) | _words(made, "loss"),
        "init": {"type": "object", "additionalProperties": _init()} | _words(made, "init"),
    }
    made["$defs"] = _basics() | {"block": _block(), "line": _line(), "loss": _loss()}
    made["$defs"] |= {f"op_{name}": _op(cls) for name, cls in OPS.items()}
    return made


def _model(model: type[SpecModel | BlockModel | PublishedModel]) -> Json:
    """What Pydantic says of a model, less its generated titles."""
    found = model.model_json_schema(by_alias=True)
    properties = {name: _untitled(value) for name, value in found["properties"].items()}
    return {
        "description": found["description"],
        "type": "object",
        "properties": properties,
        "required": found.get("required", []),
        "additionalProperties": False,
    }


def _published() -> Json:
    """The published figures: `active` and what it counts go together."""
    made = _model(PublishedModel)
    figure = {"type": "string", "pattern": f"^{FIGURE.pattern}"}
    made["properties"] |= {name: figure | _words(made, name) for name in ("parameters", "active")}
    return made | {"dependentRequired": {"active": ["active_counts"], "active_counts": ["active"]}}


def _untitled(found: Mapping[str, Any]) -> Json:
    return {key: value for key, value in found.items() if key != "title"}


def _words(model: Json, name: str) -> Json:
    return {"description": model["properties"][name]["description"]}


def _named(value: Json) -> Json:
    """A mapping from names."""
    return {"type": "object", "propertyNames": {"pattern": NAME}, "additionalProperties": value}


def _basics() -> dict[str, Json]:
    reference = {"type": "string", "pattern": REFERENCE}
    return {
        "reference": reference | {"description": "name or name.port: an input, an output or a weight."},
        "number": _either({"type": "number"}, "A number or an expression."),
        "size": _either({"type": "integer", "minimum": 0}, "A whole number or an expression."),
        "type": {
            "anyOf": [{"type": "string", "pattern": TYPE}, {"type": "array", "items": SIZE}],
            "description": "[B, T, hidden_size] or int[B, T]; a free name is a size bound by what is wired.",
        },
        "ports": {"anyOf": [{"type": "string"}, {"type": "array", "items": {"type": "string"}}]},
    }


def _either(value: Json, words: str = "") -> Json:
    """A value as it is, or an expression (which may be a name of `config`)."""
    described = {"description": words} if words else {}
    return {"anyOf": [value, {"type": "string"}]} | described


def _block() -> Json:
    made = _model(BlockModel)
    reference = {"$ref": "#/$defs/reference"}
    made["properties"] |= {
        "args": _named({}) | _words(made, "args"),
        "in": _named({"$ref": "#/$defs/type"}) | {"minProperties": 1} | _words(made, "in"),
        "body": _named({"$ref": "#/$defs/line"}) | {"minProperties": 1} | _words(made, "body"),
        "out": {"anyOf": [reference, _named(reference)]} | _words(made, "out"),
        "cache": {"type": "array", "items": reference} | _words(made, "cache"),
    }
    return made


def _line() -> Json:
    """A line: any op is offered as a key, and an op's line allows what that op knows.

    Lines that call blocks stay open, since blocks are named by the user.
    """
    ops = {name: {"description": _summary(cls)} for name, cls in OPS.items()}
    rules = [{"if": {"required": [name]}, "then": {"$ref": f"#/$defs/op_{name}"}} for name in OPS]
    return {
        "description": "{what it is: where from, attribute: value, ...}: an op, or a block.",
        "type": "object",
        "minProperties": 1,
        "properties": {**ops, **LINE_KEYS},
        "allOf": rules,
    }


def _op(cls: type[Op]) -> Json:
    found = cls.model_json_schema()
    attributes = {name: _attribute(value) for name, value in found.get("properties", {}).items()}
    tied = {} if cls.weights is Op.weights else dict.fromkeys(("weight", "bias"), _tied())
    return {
        "description": _document(cls),
        "properties": {cls.op: _inputs(cls), **tied, **attributes, **LINE_KEYS},
        "required": [cls.op, *found.get("required", [])],
        "additionalProperties": False,
    }


def _attribute(found: Json) -> Json:
    """An attribute as it may be written: a value of its kind, or an expression."""
    kept = {key: found[key] for key in ("default", "description") if key in found}
    rule = {key: value for key, value in _untitled(found).items() if key not in kept}
    if not rule or {} in rule.get("anyOf", []):
        return {"anyOf": [{"type": ["integer", "null"]}, {"type": "string"}]} | kept
    if rule.get("type") == "array":
        return {"anyOf": [rule, {"type": "integer"}, {"type": "string"}]} | kept
    return _either(rule) | kept


def _tied() -> Json:
    return {"$ref": "#/$defs/reference", "description": "A weight of another node, shared with it."}


def _inputs(cls: type[Op]) -> Json:
    """What may be wired: one reference, a list for ops of many inputs, or references by port."""
    reference = {"$ref": "#/$defs/reference"}
    words = {"description": _summary(cls)}
    if cls.variadic:
        return {"anyOf": [reference, {"type": "array", "items": reference, "minItems": 1}]} | words
    ports = dict.fromkeys(cls.ports, reference)
    named = {"type": "object", "properties": ports, "required": list(ports), "additionalProperties": False}
    return (named if len(ports) > 1 else {"anyOf": [reference, named]}) | words


def _summary(cls: type[Op]) -> str:
    return (cls.__doc__ or "").strip().split("\n")[0]


def _document(cls: type[Op]) -> str:
    """The op's documentation with its formula."""
    lines = [line.strip() for line in (cls.__doc__ or "").strip().splitlines()]
    return "\n".join([*lines, "", cls.formula])


def _loss() -> Json:
    kinds = []
    for kind, keys in KINDS.items():
        head = {"type": "string", "description": LOSS_WORDS.get(kind, "")}
        properties = {kind: head, **{key: LOSS_KEYS.get(key, NUMBER) for key in keys}}
        required = [kind, *({"target"} & {*keys})]
        kinds.append({"properties": properties, "required": required, "additionalProperties": False})
    return {"description": "One loss over an output, or over routers.", "type": "object", "oneOf": kinds}


def _init() -> Json:
    bare = {"enum": [kind for kind, values in INITS.items() if not values]}
    given = [
        {"type": "object", "properties": {kind: NUMBER}, "required": [kind], "additionalProperties": False}
        for kind, values in INITS.items()
        if values
    ]
    return {"anyOf": [bare, *given]}
