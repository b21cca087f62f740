"""The words that options of passes may be."""

from __future__ import annotations

from enum import StrEnum
from typing import TypeVar

from dsvgraph.errors import DsvError


class Recompute(StrEnum):
    """Which part of the forward the backward does again."""

    NONE = "none"
    FULL = "full"


class Phase(StrEnum):
    """What one step is of."""

    TRAIN = "train"
    PREFILL = "prefill"
    DECODE = "decode"


class Dtype(StrEnum):
    """The numbers that products are made of."""

    FLOAT32 = "float32"
    BFLOAT16 = "bfloat16"
    FLOAT8 = "float8"


class AttentionMode(StrEnum):
    """How attention is run: over the keys that each query sees, over all, or, decoding, on the cached latents."""

    CAUSAL = "causal"
    FULL = "full"
    ABSORBED = "absorbed"


class Grouping(StrEnum):
    """What the costs of ops are added up by."""

    ROLE = "role"
    BLOCK = "block"
    PATH = "path"


Choice = TypeVar("Choice", bound=StrEnum)


def member(choices: type[Choice], name: str, value: object) -> Choice:
    """Return the member of ``choices`` that ``value`` is. Raise DsvError if it is none; ``name`` is the option's."""
    words = [str(choice) for choice in choices]
    if value not in words:
        raise DsvError(f"`{name}` is {', '.join(words[:-1])} or {words[-1]}, found `{value}`")
    return choices(str(value))
