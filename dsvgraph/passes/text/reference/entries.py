"""What all pages of the reference share: one row per port, weight, attribute or argument."""

from __future__ import annotations

import re
from typing import Any, NamedTuple

from dsvgraph.types import shown


class ReferenceEntry(NamedTuple):
    """One fact: what it is (`in`, `out`, `weight`, ...), its name, its type, and a remark."""

    kind: str
    name: str
    type: str = ""
    remark: str = ""


def paragraphs(text: str) -> list[str]:
    """Return a docstring, or the `doc` of a block, as paragraphs of one line; ``x`` becomes `x`."""
    plain = text.replace("``", "`").strip()
    return [" ".join(part.split()) for part in re.split(r"\n\s*\n", plain)] if plain else []


def first_sentence(text: str) -> str:
    """Return the first sentence, as a list of many things has it."""
    found = paragraphs(text)
    return re.split(r"(?<=\.) (?=[A-Z`])", found[0])[0] if found else ""


def written(value: Any) -> str:
    """Return a value as it is written in YAML."""
    if isinstance(value, dict):
        return "{" + ", ".join(f"{k}: {written(v)}" for k, v in value.items()) + "}"
    return re.sub(r"e-0*", "e-", f"{value:g}") if isinstance(value, float) else shown(value)
