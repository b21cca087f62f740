"""No sentence of Pydantic's reaches anybody: values of every kind are given to everything that Pydantic checks."""

from __future__ import annotations

import re
from typing import Any

import pytest
from pydantic import BaseModel

import dsvgraph
from dsvgraph import DsvError
from dsvgraph.loader import parse
from dsvgraph.ops import OPS
from dsvgraph.spec.models import BlockModel, PublishedModel, SpecModel
from dsvgraph.spec.validate import validate
from dsvgraph.wanted import AT_LEAST, BEYOND, KINDS, wanted

RAW = re.compile(
    r"[Ii]nput should|[Vv]alue error|not permitted|pydantic|instance of|valid (\w+ )?(string|integer|number)"
)
VALUES = [
    "null", "true", "0", "1", "-1", "2.5", "1e30", '""', '"x"', '"a b"', "[]", "[null]", "[1, x]", "[[]]", "{}",
    "{a: 1}", "{a: null}", "{a: [1]}", "2025-01-01", f'"{"x" * 300}"',
]  # fmt: skip
LINES = {"einsum": "[e, e]", "concat": "[e, e]", "add": "[e, e]", "mul": "[e, e]"}


def told(action: Any) -> str:
    try:
        action()
    except DsvError as error:
        return str(error)
    return ""


def keys() -> list[tuple[str, str]]:
    """Where each field of the language stands: text around its value."""
    places = {SpecModel: ("", ""), BlockModel: ("graph: {", "}"), PublishedModel: ("published: {", "}")}
    return [
        (f"{before}{field.alias or name}: ", after)
        for model, (before, after) in places.items()
        for name, field in model.model_fields.items()
    ]


@pytest.mark.parametrize("place", keys(), ids=lambda place: place[0].strip(": {").replace(": {", "."))
def test_fields_of_a_spec(place: tuple[str, str]) -> None:
    words = [told(lambda value=value: validate(SpecModel, parse(value.join(place)))) for value in VALUES]
    assert sum(map(bool, words)) > 5
    assert not [text for text in words if RAW.search(text)]


@pytest.mark.parametrize(("op", "name"), [(op, name) for op, kind in OPS.items() for name in kind.model_fields])
def test_attributes_of_ops(op: str, name: str) -> None:
    def load(value: str) -> None:
        wired = (
            LINES.get(op, "e") if OPS[op].variadic else "{" + ", ".join(f"{port}: e" for port in OPS[op].ports) + "}"
        )
        line = f"y: {{{op}: {wired}, {name}: {value}}}"
        text = 'graph:\n  in: {ids: "int[B, T]"}\n  body:\n    e: {embedding: ids, num: 8, dim: 4}\n    '
        dsvgraph.loads(f"{text}{line}\n  out: y\n")

    words = [told(lambda value=value: load(value)) for value in VALUES]
    assert sum(map(bool, words)) > 5
    assert not [text for text in words if RAW.search(text)]


def test_every_kind_of_error_has_words() -> None:
    """Those that Pydantic has for the types that its models here are made of."""
    for words, kinds_of_error in KINDS.items():
        assert [wanted({"type": kind}) for kind in kinds_of_error] == [words] * len(kinds_of_error)
    assert wanted({"type": "greater_than", "ctx": {"gt": 0.0}}) == "a number above 0"
    assert wanted({"type": "string_too_long", "ctx": {"max_length": 100}}) == "a text of at most 100 characters"
    assert wanted({"type": "string_pattern_mismatch", "ctx": {"pattern": "a+"}}) == "a text of the form `a+`"
    assert wanted({"type": "too_short", "ctx": {"min_length": 1}}) == "a list of at least 1 items"
    assert wanted({"type": "greater_than_equal", "ctx": {"ge": 1}}) == "a number of at least 1"
    assert {"ge", "gt", "le", "lt", "min_length", "max_length"} == {*AT_LEAST, *BEYOND}


def test_models_are_made_of_types_that_have_words() -> None:
    """The schema of every model: another kind of type needs words first."""
    known = {
        "any", "bool", "default", "dict", "float", "function-after", "function-before", "int", "list", "literal",
        "definition-ref", "definitions", "no-info", "model",
        "model-field", "model-fields", "nullable", "str", "tuple", "union",
    }  # fmt: skip
    models: list[type[BaseModel]] = [SpecModel, BlockModel, PublishedModel, *OPS.values()]
    assert {kind for model in models for kind in kinds(model.__pydantic_core_schema__)} <= known


def kinds(schema: Any) -> set[str]:
    found = {schema["type"]} if isinstance(schema, dict) and isinstance(schema.get("type"), str) else set()
    inner = schema.values() if isinstance(schema, dict) else schema if isinstance(schema, (list, tuple)) else ()
    return found.union(*(kinds(part) for part in inner))
