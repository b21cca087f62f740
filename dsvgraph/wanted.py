"""What a value must be, in plain words, where Pydantic has refused it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

KINDS = {
    "bool": "true or false",
    "dict": "a mapping {name: value, ...}",
    "finite": "a finite number",
    "float": "a number",
    "int": "a whole number",
    "is": "another kind of value",
    "list": "a list [...]",
    "mapping": "a mapping {name: value, ...}",
    "model": "a mapping {name: value, ...}",
    "none": "null",
    "path": "a path",
    "string": "a text",
    "tuple": "a list [...]",
}
"""By the first word of the kind of error: `int_type`, `int_from_float` and `int_parsing` are all of a whole number."""

LIMITS = {
    "ge": "at least", "gt": "above", "le": "at most", "lt": "below", "min_length": "at least", "max_length": "at most",
}  # fmt: skip


def wanted(error: Mapping[str, Any], number: str = "a number") -> str:
    """Return what the value of one of Pydantic's errors must be; ``number`` is said of one that is out of bounds.

    A `value_error` speaks for itself, and `missing` and `extra_forbidden` are about no value.
    """
    kind, context = str(error["type"]), error.get("ctx", {})
    if kind == "literal_error":
        return str(context["expected"]).replace("'", "`")
    bound = next((f"{words} {_short(context[key])}" for key, words in LIMITS.items() if key in context), "")
    if "pattern" in context:
        return f"a text of the form `{context['pattern']}`"
    if "too_" in kind:
        items = "characters" if kind.startswith("string") else "items"
        return f"{'a text' if items == 'characters' else 'a list'} of {bound} {items}"
    if bound:
        return f"{number} of {bound}" if bound.startswith("at") else f"{number} {bound}"
    return KINDS.get(kind.partition("_")[0], KINDS["is"])


def _short(bound: Any) -> str:
    """Return a bound as a reader writes it: `0` and `1e-06`, no dot where there is no fraction."""
    return f"{bound:g}" if isinstance(bound, float) else str(bound)
