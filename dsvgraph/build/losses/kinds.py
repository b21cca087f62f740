"""The kinds of losses: which attributes each has, and the attributes that are constants."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from dsvgraph.build.scope import Scope
from dsvgraph.codes import Code
from dsvgraph.dims import Poly
from dsvgraph.errors import DsvError
from dsvgraph.graph import LossKind
from dsvgraph.names import listed
from dsvgraph.spec import SpecPart
from dsvgraph.spec.vocabulary import MAX_VOCABULARY, is_ids, token_ids
from dsvgraph.types import shown

SCORED = ("shift", "weight", "divide", "sample", "detach")
COMPARED = ("against", *SCORED, "target_gradient")
KINDS: Mapping[LossKind, tuple[str, ...]] = {
    LossKind.CROSS_ENTROPY: ("target", "shift", "stride", *SCORED[1:], "smoothing", "vocabulary"),
    LossKind.BINARY_CROSS_ENTROPY: ("target", *SCORED, "window", "decay", "vocabulary"),
    LossKind.LISTNET: ("target", *SCORED, "window", "vocabulary"),
    LossKind.KL: (*COMPARED, "temperature", "vocabulary"),
    LossKind.SOFT_CROSS_ENTROPY: (*COMPARED, "temperature", "vocabulary"),
    LossKind.TOTAL_VARIATION: (*COMPARED, "temperature", "vocabulary", "end_to_end"),
    LossKind.SMOOTH_L1: ("against", *SCORED[:-1], "target_gradient", "beta"),
    LossKind.CONFIDENCE: ("draft", "against", *SCORED[:-1], "temperature", "vocabulary"),
    LossKind.Z_LOSS: SCORED,
    LossKind.SEQUENCE_BALANCE: ("weight",),
    LossKind.BIAS_UPDATE: ("speed",),
}
DETACHED = ("head",)
MAX_WINDOW = 2**16
WHOLE = {"window": MAX_WINDOW, "sample": 1000}
RANGES = {
    "smoothing": "at least 0 and below 1",
    "temperature": "above 0",
    "beta": "above 0",
    "decay": "above 0, at most 1",
}
FITS = {
    "smoothing": lambda x: 0 <= x < 1,
    "temperature": lambda x: x > 0,
    "beta": lambda x: x > 0,
    "decay": lambda x: 0 < x <= 1,
}


def constants(part: SpecPart, scope: Scope) -> dict[str, Any]:
    """Return the attributes of a line that are constants, as fields of a `Loss`; those that it does not give are left
    out. Raise DsvError if one is no such value."""
    readers: dict[str, Callable[[str, SpecPart, Scope], Any]] = {
        "vocabulary": _vocabulary,
        "detach": _detached,
        "end_to_end": _flag,
        "target_gradient": _flag,
    }
    readers |= {**dict.fromkeys(WHOLE, _whole), **dict.fromkeys(RANGES, _real)}
    given = part.model.options
    return {key: read(key, part, scope) for key, read in readers.items() if given.get(key) is not None}


def _refused(key: str, part: SpecPart, words: str) -> DsvError:
    return DsvError(f"`{key}` is {words}", part.value(key), code=Code.LOSS_NUMBER)


def _value(key: str, part: SpecPart, scope: Scope) -> Any:
    return scope.value(part.model.get(key), part.value(key))


def _whole(key: str, part: SpecPart, scope: Scope) -> int:
    found = _value(key, part, scope)
    if isinstance(found, bool) or not isinstance(found, int) or not 1 <= found <= WHOLE[key]:
        raise _refused(key, part, f"a whole number from 1 to {WHOLE[key]:,}, found `{shown(found)}`")
    return found


def _real(key: str, part: SpecPart, scope: Scope) -> float:
    found = _value(key, part, scope)
    if isinstance(found, bool) or not isinstance(found, (int, float)) or not FITS[key](found):
        raise _refused(key, part, f"a number {RANGES[key]}, found `{shown(found)}`")
    return found


def _flag(key: str, part: SpecPart, scope: Scope) -> bool:
    found = _value(key, part, scope)
    if not isinstance(found, bool):
        raise _refused(key, part, f"`true` or `false`, found `{shown(found)}`")
    return found


def _detached(key: str, part: SpecPart, scope: Scope) -> tuple[str, ...]:
    raw = part.model.get(key)
    names = raw if isinstance(raw, list) else [raw]
    if wrong := [name for name in names if name not in DETACHED]:
        hint = "a line `{detach: ...}` in the graph cuts any other gradient: to the trunk, an embedding, a depth before"
        words = f"a list of {listed(DETACHED)}, found `{shown(wrong[0])}`"
        raise DsvError(f"`{key}` is {words}", part.value(key), code=Code.LOSS_FORM, hint=hint)
    return tuple(dict.fromkeys(names))


def _vocabulary(key: str, part: SpecPart, scope: Scope) -> int | tuple[int, ...]:
    """Return the token ids of the logits in their order: the first so many, or a list or text of different ones."""
    raw = part.model.get(key)
    if is_ids(raw):
        return token_ids(raw, key, part.value(key))
    found = _value(key, part, scope)
    if isinstance(found, Poly):
        raise _refused(key, part, f"a number or a list of token ids, found `{shown(found)}`")
    ids = found if isinstance(found, list) else [found]
    if not ids or not all(isinstance(i, int) and not isinstance(i, bool) and 0 <= i < MAX_VOCABULARY for i in ids):
        raise _refused(
            key,
            part,
            f"how many token ids are kept, a list of them, or a file of them, NAME.txt, found `{shown(found)}`",
        )
    if len({*ids}) < len(ids):
        raise _refused(key, part, "a list of different token ids; one of these stands in it twice")
    return tuple(ids) if isinstance(found, list) else max(1, int(found))
