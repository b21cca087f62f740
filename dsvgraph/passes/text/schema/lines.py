"""JSON Schema of a line: what each op and each bundled block knows, with its documentation."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

from dsvgraph import loader
from dsvgraph.ops import OPS, Op
from dsvgraph.passes.text.reference import OpPage, ops
from dsvgraph.passes.text.reference.entries import first_sentence, written
from dsvgraph.passes.text.reference.markdown import block_markdown, op_markdown

Json = dict[str, Any]

ADDRESS = r"^(\.|[A-Za-z_][A-Za-z0-9_]*(\.[A-Za-z_][A-Za-z0-9_]*)*)$"
REFERENCE: Json = {"$ref": "#/$defs/reference"}
WIRE: Json = {"$ref": "#/$defs/wire"}  # says nothing of itself, so that an editor shows what the op says
KEYS: dict[str, Json] = {
    "at": {"type": "string", "pattern": ADDRESS, "description": "The path, below the enclosing one."},
    "repeat": {"$ref": "#/$defs/size", "description": "Chains so many copies, like a scan."},
    "each": {"$ref": "#/$defs/size", "description": "Runs so many copies side by side over the first axis."},
    "tied": {"type": ["boolean", "string"], "description": "Whether all copies of a chain use one set of weights."},
    "slice": {"$ref": "#/$defs/ports", "description": "Inputs of which each copy gets one piece."},
    "share": {"$ref": "#/$defs/ports", "description": "Inputs that all copies get whole."},
}
WIRING = ["string", "array", "object", "null"]  # what may be wired, or is still to be written
ANYTHING = ["string", "number", "boolean", "array", "object", "null"]


def line() -> Json:
    """Return a line: any op and any bundled block is offered as its first key, and then what that knows.

    Lines that call other blocks stay open, since blocks are named by the user. A schema cannot see
    which key comes first, so a key with the name of an op is one where it holds what can be wired.
    """
    called = [*OPS, *_library()]
    rules = [{"if": _calls(n), "then": {"$ref": f"#/$defs/op_{n}"}} for n in OPS]
    rules += [{"if": _calls(n), "then": {"$ref": f"#/$defs/block_{n}"}} for n in _library()]
    offered = {n: {"$ref": f"#/$defs/{'op' if n in OPS else 'block'}_{n}/properties/{n}"} for n in called}
    return {
        "title": "a line",
        "description": "{what it is: where from, attribute: value, ...}: an op, or a block.",
        "type": "object",
        "minProperties": 1,
        "properties": KEYS,
        "if": {"anyOf": [_calls(name) for name in called]},
        "then": {"allOf": rules},
        "else": {"properties": offered},
    }


def callees() -> dict[str, Json]:
    """Return what every op and every bundled block allows on its line."""
    pages = ops()
    found = {f"op_{name}": _op(cls, pages[name]) for name, cls in OPS.items()}
    return found | {f"block_{name}": _block(name, raw) for name, raw in _library().items()}


def argument_value() -> Json:
    """Return what an argument may hold: any value; the bundled blocks are offered."""
    names = list(_library())
    documents = [first_sentence(raw.get("doc", "")) for raw in _library().values()]
    offered = {"title": "a bundled block", "enum": names, "markdownEnumDescriptions": documents}
    return {"anyOf": [offered, {"title": "a value"}]}


def _calls(name: str) -> Json:
    return {"required": [name], "properties": {name: {"type": WIRING}}}


@lru_cache(maxsize=1)
def _library() -> dict[str, Json]:
    """Return the blocks that come with the package, as they are written."""
    files = sorted((loader.bundled() / "blocks").rglob("*.yaml"))
    return {name: raw for path in files for name, raw in loader.read(path).data.get("blocks", {}).items()}


# -- ops ----------------------------------------------------------------------------------------


def _op(cls: type[Op], page: OpPage) -> Json:
    found = cls.model_json_schema()
    kinds = {a.name: ", ".join(filter(None, (a.kind, a.limits))) for a in page.attributes}
    attributes = {n: _attribute(v, kinds[n]) for n, v in found.get("properties", {}).items()}
    owned = dict.fromkeys(cls.wired_weights, _tied())
    known: Json = {key: {"$ref": f"#/$defs/line/properties/{key}"} for key in KEYS}
    text = op_markdown(page)
    return {
        "title": page.name,
        "markdownDescription": text,
        "properties": {page.name: _inputs(cls) | {"markdownDescription": text}, **owned, **attributes, **known},
        "required": [page.name, *found.get("required", [])],
        "additionalProperties": False,
    }


def _attribute(found: Json, kind: str) -> Json:
    """Return an attribute as it may be written: a value of its kind, or an expression."""
    rule = {k: v for k, v in found.items() if k not in ("title", "description")}
    kept = {"default": rule.pop("default")} if "default" in rule else {}
    kept["description"] = f"{kind[:1].upper()}{kind[1:]}."
    if "enum" in rule:
        return {"anyOf": [{"title": kind, **rule}, {"title": "an argument", "type": "string"}]} | kept
    if not rule or {} in rule.get("anyOf", []):
        return {"type": ["string", "integer", "null"]} | kept
    if rule.get("type") == "array":
        return {"anyOf": [{"title": "a size", "type": ["string", "integer"]}, {"title": "sizes", **rule}]} | kept
    alternatives = [{k: v for k, v in part.items() if k != "title"} for part in rule.pop("anyOf", [])]
    for part in alternatives or [rule]:
        rule |= part | {"type": [*_kinds(rule), *_kinds(part)]}
    return rule | {"type": list(dict.fromkeys(["string", *rule["type"]]))} | kept


def _kinds(rule: Json) -> list[str]:
    kinds = rule.get("type", [])
    return [kinds] if isinstance(kinds, str) else list(kinds)


def _tied() -> Json:
    return REFERENCE | {"description": "A weight of another node, shared with it."}


def _inputs(cls: type[Op]) -> Json:
    """Return what may be wired: one reference, a list for ops of many inputs, or references by port."""
    if cls.variadic:
        return {"anyOf": [WIRE, {"type": "array", "items": REFERENCE, "minItems": 1}]}
    ports = {port: REFERENCE | {"title": port} for port in cls.ports}
    named = {"type": "object", "properties": ports, "required": list(ports), "additionalProperties": False}
    return named if len(ports) > 1 else {"anyOf": [WIRE, named]}


# -- blocks -------------------------------------------------------------------------------------


def _block(name: str, raw: Json) -> Json:
    text = block_markdown(raw.get("doc", ""), raw.get("args", {}), raw["in"], raw["out"])
    arguments = {arg: _argument(name, value) for arg, value in raw.get("args", {}).items()}
    return {
        "title": name,
        "markdownDescription": text,
        "properties": {name: {"type": WIRING, "markdownDescription": text}, **arguments},
    }


def _argument(block: str, default: Any) -> Json:
    """Return an argument, which may hold anything; what its default is like is offered."""
    words = f"Argument of `{block}`, " + ("required." if default is None else f"default `{written(default)}`.")
    kept = {"markdownDescription": words}
    if isinstance(default, str) and default in _library():
        return {"$ref": "#/$defs/held", "description": words} | kept
    return kept | {"type": ["boolean", "string"] if isinstance(default, bool) else ANYTHING}
