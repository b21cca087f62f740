"""Data against the models of the language, with every mistake reported at its place."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from pydantic import BaseModel, ValidationError

from dsvgraph.codes import Code
from dsvgraph.errors import DsvError, Span
from dsvgraph.loader import Doc
from dsvgraph.names import closest, nearest
from dsvgraph.spec.models import BlockModel, PublishedModel, SpecModel
from dsvgraph.types import shown
from dsvgraph.wanted import CHOICES, TOO_LONG, TOO_SHORT, wanted


def validate(model: type[SpecModel], doc: Doc) -> SpecModel:
    """Return the data of ``doc`` as ``model``; raise DsvError with every mistake at its place."""
    if not isinstance(doc.data, dict):
        where = doc.value() or Span(doc.source, 1, 1)
        raise DsvError("a spec is a mapping of `name`, `config`, `graph` and so on", where, code=Code.WRONG_KIND)
    try:
        found = model.model_validate(doc.data)
    except ValidationError as error:
        errors = _roots(doc, model, error.errors())
        raise DsvError.collect(_schema_error(doc, e, model) for e in errors) from None
    if nulls := list(_null_defaults(found, doc)):
        raise DsvError.collect(nulls)
    return found


def _null_defaults(model: SpecModel, doc: Doc) -> Iterator[DsvError]:
    """Arguments whose default is written as `null`, which YAML cannot tell from no default at all."""
    for name, block in model.blocks.items():
        for arg, default in block.args.items():
            span = doc.value("blocks", name, "args", arg)
            if default is None and span != doc.key("blocks", name, "args", arg):
                words = f"`{arg}: null` is no default: an argument without a value is required"
                hint = f'for a required argument write nothing, for a default of null write `{arg}: "null"`'
                yield DsvError(words, span, code=Code.BAD_VALUE, path=f"blocks.{name}.args.{arg}", hint=hint)


def _roots(doc: Doc, model: type[BaseModel], errors: list[Any]) -> list[Any]:
    """Return one error a mistake: of a union's the deepest, and no key is missing that is misspelt."""
    misspelt = {
        (*path[:-1], closest(str(path[-1]), _fields(model, e["loc"])))
        for e in errors
        if e["type"] == "extra_forbidden" and (path := _clean(doc, e["loc"]))
    }
    found: dict[Any, Any] = {}
    for e in errors:
        path = _clean(doc, e["loc"])
        if e["type"] != "missing":
            found.setdefault(path, e)
        elif (*path, e["loc"][-1]) not in misspelt:
            found[(*path, e["loc"][-1])] = e
    return [e for path, e in found.items() if not any(path == other[: len(path)] != other for other in found)]


def _schema_error(doc: Doc, error: Any, model: type[BaseModel]) -> DsvError:
    path = _clean(doc, error["loc"])
    where = ".".join(str(p) for p in path)
    if error["type"] == "extra_forbidden":
        known = _fields(model, error["loc"])
        hint = nearest(str(path[-1]), known) or f"known: {', '.join(known)}"
        return DsvError(f"unknown key `{path[-1]}`", doc.key(*path), code=Code.UNKNOWN_KEY, hint=hint)
    if error["type"] == "missing":
        key = error["loc"][-1]
        hint = f"add `{key}:` below"
        return DsvError(f"`{key}` is missing", doc.key(*path), code=Code.MISSING_KEY, path=where, hint=hint)
    if error["type"] == "value_error":
        span = doc.key(*path) if "[key]" in error["loc"] else doc.value(*path)
        return DsvError.of(error["ctx"]["error"], span, Code.BAD_VALUE, path=where)
    if "[key]" in error["loc"]:
        return DsvError(f"`{path[-1]}` is no name", doc.key(*path), code=Code.NO_NAME, path=where)
    hint = (
        f"write [{shown(error['input'])}]" if error["type"] == "list_type" and isinstance(error["input"], str) else ""
    )
    return DsvError(_expected(error, path), doc.value(*path), code=Code.WRONG_KIND, path=where, hint=hint)


def _expected(error: Any, path: tuple[Any, ...]) -> str:
    """Return what belongs at ``path``, and what was found there."""
    found = shown(error["input"])
    if error["type"] in (*TOO_SHORT, *TOO_LONG):
        return f"`{path[-1]}` is {'empty' if error['type'] in TOO_SHORT else 'too long'}"
    words = error["ctx"]["expected"] if error["type"] in CHOICES else wanted(error)
    if path[0] in ("graph", "blocks"):
        words = {"in": "a type such as [B, T, hidden_size]", "out": "an output, or outputs by name"}.get(
            next((p for p in path if p in ("in", "out")), ""), words
        )
    return f"expected {words}, found `{found[:60]}`"


def _clean(doc: Doc, loc: tuple[Any, ...]) -> tuple[Any, ...]:
    """Return the part of a Pydantic location that is a path in the document."""
    path: tuple[Any, ...] = ()
    for step in loc:
        if (*path, step) in doc.values or (*path, step) in doc.keys:
            path = (*path, step)
    return path


def _fields(model: type[BaseModel], loc: tuple[Any, ...]) -> list[str]:
    inner: dict[str, type[BaseModel]] = {"blocks": BlockModel, "graph": BlockModel, "published": PublishedModel}
    chosen = inner.get(loc[0], model) if len(loc) > 1 else model
    return [f.alias or n for n, f in chosen.model_fields.items()]
