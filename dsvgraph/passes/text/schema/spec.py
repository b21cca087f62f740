"""JSON Schema of the language, for editors: made from the Pydantic models of specs and ops."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from dsvgraph.build.losses.kinds import DETACHED, KINDS
from dsvgraph.graph import LossKind
from dsvgraph.loader import bundled
from dsvgraph.passes.text.schema.lines import argument_value, callees, line
from dsvgraph.spec import FIGURE, BlockModel, PublishedModel, SpecModel
from dsvgraph.types import InitKind

Json = dict[str, Any]

DIALECT = "https://json-schema.org/draft/2020-12/schema"
NAME = "^(?!__)[A-Za-z_][A-Za-z0-9_]{0,63}$"
REFERENCE = r"^[A-Za-z_][A-Za-z0-9_]*(\.[A-Za-z_][A-Za-z0-9_]*)?$"
TYPE = r"^(int|float|bool)?\s*\[.*\]$"
SIZE: Json = {"type": ["integer", "string"]}
NUMBER: Json = {"$ref": "#/$defs/number"}


def _several(items: Json) -> Json:
    return {"title": "several", "type": "array", "items": items}


LOSS_KEYS: dict[str, Json] = {
    "target": {"type": "string", "description": "The input whose tokens are predicted."},
    "against": {"type": "string", "description": "The output that this one is compared with."},
    "draft": {"type": "string", "description": "The output of logits whose drafts may be accepted."},
    "shift": {"$ref": "#/$defs/number", "description": "How far ahead the target lies; may read `depth`."},
    "stride": {"$ref": "#/$defs/number", "description": "How far targets lie apart, where tokens are left out."},
    "weight": {"$ref": "#/$defs/number", "description": "The factor; may read `depth`, `tokens` and `step`."},
    "divide": {"$ref": "#/$defs/number", "description": "What the sum is divided by: `valid`, `B * T`, ..."},
    "speed": {"$ref": "#/$defs/number", "description": "How much a bias moves at each step."},
    "smoothing": {"$ref": "#/$defs/number", "description": "The share of the target that lies on all tokens alike."},
    "temperature": {"$ref": "#/$defs/number", "description": "What the logits of both sides are divided by."},
    "beta": {"$ref": "#/$defs/number", "description": "Where squares become absolute values."},
    "window": {"$ref": "#/$defs/number", "description": "How many tokens, from the target on, are scored together."},
    "decay": {"$ref": "#/$defs/number", "description": "The factor from one token of the window to the next."},
    "vocabulary": {
        "anyOf": [
            {"title": "the first so many", **NUMBER},
            _several({"type": "integer"}),
            {"title": "ids and ranges, or a file of them", "type": "string"},
        ],
        "description": "The token ids that the logits stand for: the first so many, a list, ranges, or a file of them.",
    },
    "sample": {"$ref": "#/$defs/number", "description": "How many depths, drawn at random, are trained by a batch."},
    "end_to_end": {"type": "boolean", "description": "Score the product over the depths so far, in one value."},
    "detach": {
        "anyOf": [{"title": "one", "enum": [*DETACHED]}, _several({"enum": [*DETACHED]})],
        "description": "What gets no gradient from this loss: `head`, the weight that makes the logits.",
    },
    "target_gradient": {"type": "boolean", "description": "Whether `against` gets a gradient too; it does not else."},
}  # fmt: skip
LOSS_WORDS: dict[str, str] = {
    LossKind.CROSS_ENTROPY: "Cross-entropy of an output of logits.",
    LossKind.BINARY_CROSS_ENTROPY: "Binary cross-entropies of all tokens, against the bag of those in a window.",
    LossKind.LISTNET: "ListNet: cross-entropy against the order in which tokens come next in a window.",
    LossKind.KL: "Kullback-Leibler divergence of another output's distribution from this one's.",
    LossKind.SOFT_CROSS_ENTROPY: "Cross-entropy of an output of logits against another output's distribution.",
    LossKind.TOTAL_VARIATION: "Total variation distance of two outputs' distributions: what is not common to both.",
    LossKind.SMOOTH_L1: "Smooth L1 distance of an output of states to another one, mean over the features.",
    LossKind.CONFIDENCE: "Binary cross-entropy of how likely another output accepts the drafts of a third.",
    LossKind.Z_LOSS: "Square of the logarithm of the softmax's denominator.",
    LossKind.SEQUENCE_BALANCE: "The balance loss of each sequence, of the routers that a path pattern names.",
    LossKind.BIAS_UPDATE: "The loss-free update of selection biases, of the routers that a path pattern names.",
}


def schema() -> Json:
    """Return the JSON Schema (draft 2020-12) of a spec file.

    >>> schema()["title"]
    'dsvgraph spec'
    """
    made: Json = {"$schema": DIALECT, "title": "dsvgraph spec", **_model(SpecModel)}
    made["properties"] |= {
        "extends": _file("*.yaml") | _words(made, "extends"),
        "include": {"type": "array", "items": _file("blocks/**/*.yaml")} | _words(made, "include"),
        "published": _published() | _words(made, "published"),
        "config": _named({}) | _words(made, "config"),
        "blocks": _named({"$ref": "#/$defs/block"}) | _words(made, "blocks"),
        "graph": {"$ref": "#/$defs/block"} | _words(made, "graph"),
        "loss": _named({"$ref": "#/$defs/loss"}) | _words(made, "loss"),
        "init": {"type": "object", "additionalProperties": _init()} | _words(made, "init"),
    }
    made["$defs"] = (
        _basics() | {"block": _block(), "line": line(), "held": argument_value(), "loss": _loss()} | callees()
    )
    return made


def _model(model: type[SpecModel | BlockModel | PublishedModel]) -> Json:
    """Return what Pydantic says of a model, less its generated titles."""
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
    """Return the published figures: `active` and what it counts go together."""
    made = _model(PublishedModel)
    figure = {"type": "string", "pattern": f"^{FIGURE.pattern}"}
    made["properties"] |= {name: figure | _words(made, name) for name in ("parameters", "active")}
    return made | {"dependentRequired": {"active": ["active_counts"], "active_counts": ["active"]}}


def _file(pattern: str) -> Json:
    """Return a file; the bundled ones are offered."""
    home = bundled()
    names = sorted(path.relative_to(home).as_posix() for path in home.glob(pattern))
    return {"anyOf": [{"title": "bundled", "enum": names}, {"title": "a file", "type": "string"}]}


def _untitled(found: Mapping[str, Any]) -> Json:
    return {key: value for key, value in found.items() if key != "title"}


def _words(model: Json, name: str) -> Json:
    return {"description": model["properties"][name]["description"]}


def _named(value: Json) -> Json:
    """Return a mapping from names."""
    return {"type": "object", "propertyNames": {"pattern": NAME}, "additionalProperties": value}


def _basics() -> dict[str, Json]:
    """Return values in their several forms, told apart by their kind alone: so an editor shows one text for them."""
    ports: Json = {"type": "array", "items": {"type": "string"}}
    wire: Json = {"type": "string", "pattern": REFERENCE}
    return {
        "wire": wire,
        "reference": wire | {"description": "name or name.port: an input, an output or a weight."},
        "number": {"type": ["string", "number"], "description": "A number or an expression."},
        "size": {"type": ["string", "integer"], "minimum": 0, "description": "A whole number or an expression."},
        "type": {
            "type": ["string", "array"], "pattern": TYPE, "items": SIZE,
            "description": "[B, T, hidden_size] or int[B, T]; a free name is a size bound by what is wired.",
        },
        "ports": {"anyOf": [{"title": "a name", "type": "string"}, {"title": "names", **ports}]},
    }  # fmt: skip


def _block() -> Json:
    made = _model(BlockModel)
    reference = {"$ref": "#/$defs/reference"}
    made["properties"] |= {
        "args": _named({"$ref": "#/$defs/held"}) | _words(made, "args"),
        "in": _named({"$ref": "#/$defs/type"}) | {"minProperties": 1} | _words(made, "in"),
        "body": _named({"$ref": "#/$defs/line"}) | {"minProperties": 1} | _words(made, "body"),
        "out": {"anyOf": [reference, _named(reference)]} | _words(made, "out"),
        "cache": {"type": "array", "items": reference} | _words(made, "cache"),
    }
    return made


def _loss() -> Json:
    kinds = []
    for kind, keys in KINDS.items():
        head = {"type": "string", "description": LOSS_WORDS[kind]}
        properties = {kind: head, **{key: LOSS_KEYS[key] for key in keys}}
        required = [kind, *(key for key in ("target", "against") if key in keys)]
        kinds.append({"properties": properties, "required": required, "additionalProperties": False})
    return {"description": "One loss over an output, or over routers.", "type": "object", "oneOf": kinds}


def _init() -> Json:
    bare = {"enum": [kind for kind in InitKind if not kind.takes_number]}
    given = [
        {"type": "object", "properties": {kind: NUMBER}, "required": [kind], "additionalProperties": False}
        for kind in InitKind
        if kind.takes_number
    ]
    return {"anyOf": [bare, *given]}
