"""What a value must be, in plain words, where Pydantic has refused it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

BOOL = ("bool_type", "bool_parsing")
TOO_SHORT = ("too_short", "string_too_short")
TOO_LONG = ("too_long", "string_too_long")
CHOICES = ("literal_error", "enum")
STRINGS = ("string_too_short", "string_too_long")

KINDS = {
    "a list [...]": ("list_type", "tuple_type"),
    "a mapping {name: value, ...}": ("dict_type", "mapping_type", "model_type", "model_attributes_type"),
    "a number": ("float_type", "float_parsing"),
    "a finite number": ("finite_number",),
    "a path": ("path_type",),
    "a text": ("string_type", "string_unicode"),
    "a whole number": ("int_type", "int_parsing", "int_parsing_size", "int_from_float"),
    "null": ("none_required",),
    "true or false": BOOL,
}
"""Descriptions of a kind of value, and Pydantic's types of errors about it."""

OTHER = "another kind of value"
EXPECTED = {error: words for words, errors in KINDS.items() for error in errors}
AT_LEAST = {"ge": "at least", "le": "at most", "min_length": "at least", "max_length": "at most"}
BEYOND = {"gt": "above", "lt": "below"}


def wanted(error: Mapping[str, Any], number: str = "a number") -> str:
    """Return what the value of one of Pydantic's errors must be; ``number`` describes one that is out of bounds.

    The message of a `value_error` is complete by itself, and `missing` and `extra_forbidden` are about no value.
    """
    kind, context = error["type"], error.get("ctx", {})
    if kind in CHOICES:
        return str(context["expected"]).replace("'", "`")
    if "pattern" in context:
        return f"a text of the form `{context['pattern']}`"
    if key := next((key for key in BEYOND if key in context), ""):
        return f"{number} {BEYOND[key]} {_short(context[key])}"
    if key := next((key for key in AT_LEAST if key in context), ""):
        bound = f"{AT_LEAST[key]} {_short(context[key])}"
        if kind in STRINGS:
            return f"a text of {bound} characters"
        return f"a list of {bound} items" if kind in (*TOO_SHORT, *TOO_LONG) else f"{number} of {bound}"
    return EXPECTED.get(kind, OTHER)


def _short(bound: Any) -> str:
    """Return a bound as a reader writes it: `0` and `1e-06`, no dot where there is no fraction."""
    return f"{bound:g}" if isinstance(bound, float) else str(bound)
