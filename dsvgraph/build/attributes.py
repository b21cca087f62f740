"""The attributes of a line that is an op: values checked by the op's own model."""

from __future__ import annotations

import math
from functools import partial
from typing import Any, Literal, get_args, get_origin

from pydantic import ValidationError

from dsvgraph.build.conditions import condition
from dsvgraph.build.context import Context
from dsvgraph.build.line import Line
from dsvgraph.build.ports import misread, unknown
from dsvgraph.build.scope import BlockValue, Scope, Word
from dsvgraph.codes import Code
from dsvgraph.errors import DsvError, Fault
from dsvgraph.graph import Ref
from dsvgraph.names import nearest
from dsvgraph.ops import OPS, Op
from dsvgraph.types import as_size, shown
from dsvgraph.wanted import BOOL, CHOICES, wanted


def read(context: Context, line: Line, scope: Scope) -> tuple[Op, dict[str, Ref]]:
    """Return the op with its attributes, and the weights that are wired instead of owned."""
    cls = OPS[line.callee]
    wirable = {name for known in OPS.values() for name in known.wired_weights}
    tied = {k: v for k, v in line.attributes.items() if k not in cls.model_fields}
    for key in [*tied, *line.presets]:
        if key not in wirable and key not in cls.model_fields:
            known = [*cls.model_fields, "at", "repeat", "each"]
            message, hint = unknown("attribute", key, known, line.callee)
            hint = misread(key, scope.library) or hint
            raise DsvError(message, line.at_key(key), code=Code.NO_ATTRIBUTE, path=context.state.path(), hint=hint)
    raw = {k: v for k, v in line.attributes.items() if k in cls.model_fields}
    found = {
        k: condition(k, v, cls.open_names[k], scope, line.where(k))
        if k in cls.open_names
        else context.state.value(v, line.where(k), scope, partial(line.where, k))
        for k, v in raw.items()
    }
    values = {**line.presets, **found}
    for key, value in found.items():
        if isinstance(value, float) and math.isnan(value) and not context.state.config.symbolic:
            raise DsvError(
                f"`{key}` depends on what is known only when the model runs", line.where(key), code=Code.TOO_LATE
            )
    refs = {k: context.ref(v, line.where(k)) for k, v in tied.items()}
    try:
        return cls.model_validate({k: _plain(v) for k, v in values.items()}), refs
    except ValidationError as error:
        first = {e["loc"][:1]: e for e in reversed(error.errors())}
        raise DsvError.collect(_fault(e, values, line, scope) for e in first.values()) from None


def _plain(value: Any) -> Any:
    """Return a value as an attribute: a word or the name of an op is a text."""
    if isinstance(value, BlockValue) and not value.presets:
        return value.name
    if isinstance(value, dict):
        return {k: _plain(v) for k, v in value.items()}
    return str(value) if isinstance(value, Word) else value


def _fault(error: Any, values: dict[str, Any], line: Line, scope: Scope) -> DsvError:
    """Return what is wrong with one attribute, reported where its value was written."""
    key = error["loc"][0]
    if error["type"] == "missing":
        return DsvError(
            f"`{line.callee}` needs the attribute `{key}`",
            line.at_key(line.key),
            code=Code.MISSING_ATTRIBUTE,
            hint=f"add it to the line: `{key}: ...`",
        )
    if error["type"] in CHOICES:
        return _choice(error, values[key], line, scope)
    own = error["ctx"]["error"] if error["type"] == "value_error" else None
    step = getattr(own, "step", "")
    found: tuple[list[Any], Any] = ([step], None) if step else _guilty(values[key])
    steps, value = found
    raw = line.attributes.get(key)
    for step in steps:
        raw = raw[step] if isinstance(raw, (list, dict)) else raw
    fault = own or Fault(Code.BAD_VALUE, f"expected {wanted(error)}, found `{shown(value)}`", about=[value])
    blamed = None if error["type"] in BOOL else value
    return scope.fault(raw, blamed, line.where(key, *steps), fault, f"`{key}` of `{line.callee}`")


def _choice(error: Any, value: Any, line: Line, scope: Scope) -> DsvError:
    key = error["loc"][0]
    choices = _choices(OPS[line.callee].model_fields[key].annotation)
    fault = Fault(Code.BAD_VALUE, f"expected {_either(choices)}, found `{shown(value)}`", about=[value])
    hint = nearest(str(value), choices)
    return scope.fault(line.attributes.get(key), None, line.where(key), fault, f"`{key}` of `{line.callee}`", hint)


def _choices(annotation: Any) -> list[str]:
    """Return the values of every `Literal` in the type of an attribute."""
    inner = get_args(annotation)
    if get_origin(annotation) is Literal:
        return [str(choice) for choice in inner]
    return [choice for part in inner for choice in _choices(part)]


def _either(choices: list[str]) -> str:
    """Return choices in words: a, b or c."""
    *before, last = choices
    return f"{', '.join(before)} or {last}" if before else last


def _guilty(value: Any) -> tuple[list[Any], Any]:
    """Return the first item of a list or a mapping that is no size, and the steps to it; else the value."""
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for step, item in items:
        try:
            as_size(item)
        except ValueError:
            return [step], item
    return [], value
