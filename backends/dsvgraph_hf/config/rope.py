"""Rotary position embeddings in a config.json: `rope_parameters`, or `rope_theta` beside `rope_scaling`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from dsvgraph.names import listed, nearest
from dsvgraph_hf.config.config_file import ConfigFile, shown

DEFAULT = "not in config.json: transformers' default"
PLACES = ("rope_parameters", "rope_scaling")  # new and old


class RopeType(StrEnum):
    """The values of `rope_type` that are read."""

    DEFAULT = "default"
    LINEAR = "linear"
    LLAMA3 = "llama3"
    YARN = "yarn"


KEYS: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {  # of each rope type: required keys, optional keys
    RopeType.DEFAULT: ((), ()),
    RopeType.LINEAR: (("factor",), ()),
    RopeType.LLAMA3: (("factor", "low_freq_factor", "high_freq_factor"), ("original_max_position_embeddings",)),
    RopeType.YARN: (
        ("factor",),
        (
            "original_max_position_embeddings", "attention_factor", "beta_fast", "beta_slow", "mscale",
            "mscale_all_dim", "truncate",
        ),
    ),
}  # fmt: skip
ORDER = (
    "type", "factor", "low_freq_factor", "high_freq_factor", "original_max_position_embeddings", "attention_factor",
    "beta_fast", "beta_slow", "mscale", "mscale_all_dim", "truncate",
)  # fmt: skip
MAY_BE_ZERO = ("mscale", "mscale_all_dim")  # 0 is as if it were left out


@dataclass(frozen=True)
class Rope:
    """The base of the angles, and `rope_scaling` with `type` as its first key (empty for plain rope).

    ``comments`` say where each of the two was found.
    """

    theta: int | float
    scaling: dict[str, Any]
    comments: tuple[str, str] = ("", "")

    @property
    def scales_softmax(self) -> bool:
        """Whether YaRN also scales the attention scores (DeepSeek's modeling code)."""
        return bool(self.scaling.get("mscale_all_dim"))


def read(config: ConfigFile, theta: float, positions: int, scaling: dict[str, Any]) -> Rope:
    """Return the rope of a config; ``theta`` and ``scaling`` are the family's defaults, ``positions`` is its maximum.

    Raise DsvError for an unknown type or key, and if two spellings disagree.
    """
    place = _place(config)
    given = {k: v for k, v in (config.data.get(place) or {}).items() if v is not None}
    absent = not given and bool(scaling) and config.data.get(PLACES[0]) is None  # {} is the plain rope
    if absent:
        given = dict(scaling)
    base, comment = _theta(config, place, given, theta)
    kind, key = _kind(config, place, given)
    if given.pop("partial_rotary_factor", 1) != 1:
        words = f"`{place}.partial_rotary_factor` other than 1 has no meaning in a spec"
        raise config.error(place, words, "", "partial_rotary_factor")
    _check(config, place, kind, given)
    if kind == RopeType.DEFAULT:
        return Rope(base, {}, (comment, ""))
    if kind != RopeType.LINEAR:
        given.setdefault("original_max_position_embeddings", positions)
    ordered = {k: v for k in ORDER if (v := {"type": kind, **given}.get(k)) is not None}
    return Rope(base, ordered, (comment, DEFAULT if absent else _scaling_comment(place, key, kind)))


def _scaling_comment(place: str, key: str, kind: str) -> str:
    """Return where the type of a rope was found; empty where the spec has it too."""
    return "" if (place, key) == ("rope_scaling", "type") else f"{place}.{key}: {kind}"


def to_config(rope: Rope) -> dict[str, Any]:
    """Return both spellings of a rope: the new (`rope_parameters`) and the old (`rope_theta`, `rope_scaling`)."""
    scaling = {("rope_type" if k == "type" else k): v for k, v in rope.scaling.items()}
    found: dict[str, Any] = {"rope_parameters": {"rope_type": RopeType.DEFAULT, "rope_theta": rope.theta, **scaling}}
    found["rope_theta"] = rope.theta
    return found | ({"rope_scaling": scaling} if scaling else {})


def _place(config: ConfigFile) -> str:
    """Return the attribute that holds the rope. Raise DsvError if both do and they disagree."""
    for place in PLACES:
        value = config.data.get(place)
        if value is not None and not isinstance(value, dict):
            raise config.error(place, f"`{place}` is a mapping, found `{shown(value, quoted=True)}`")
    new, old = (config.data.get(place) or {} for place in PLACES)
    if new and old and _without_theta(new) != _without_theta(old):
        raise config.error("rope_scaling", "`rope_scaling` and `rope_parameters` disagree")
    return "rope_parameters" if new else "rope_scaling"


def _without_theta(given: dict[str, Any]) -> dict[str, Any]:
    """Return a rope without its base, with its type by one name."""
    found = {k: v for k, v in given.items() if v is not None and k not in ("rope_theta", "type", "rope_type")}
    return found | {"type": given.get("rope_type", given.get("type", RopeType.DEFAULT))}


def _theta(config: ConfigFile, place: str, given: dict[str, Any], default: float) -> tuple[int | float, str]:
    inside, outside = given.pop("rope_theta", None), config.data.get("rope_theta")
    if inside is not None and outside is not None and inside != outside:
        raise config.error("rope_theta", f"`rope_theta` is {outside}, and {inside} in `{place}`")
    theta = inside if inside is not None else outside
    comment = f"{place}.rope_theta" if inside is not None else ""
    if theta is None:
        theta, comment = default, DEFAULT
    if isinstance(theta, bool) or not isinstance(theta, (int, float)) or theta <= 0:
        field = "rope_theta" if inside is None else place
        raise config.error(field, f"`rope_theta` is a number above 0, found `{shown(theta, quoted=True)}`")
    return int(theta) if theta == int(theta) else theta, comment


def _kind(config: ConfigFile, place: str, given: dict[str, Any]) -> tuple[str, str]:
    old, new = given.pop("type", None), given.pop("rope_type", None)
    if old is not None and new is not None and old != new:
        raise config.error(place, f"`{place}` has type `{shown(old)}` and rope_type `{shown(new)}`", "", "type")
    kind = new if new is not None else old if old is not None else RopeType.DEFAULT
    key = "rope_type" if new is not None else "type"
    if not isinstance(kind, str) or kind not in KEYS:
        words = f"`{place}.{key}` is one of {listed(KEYS)}, found `{shown(kind)}`"
        raise config.error(place, words, "", key)
    return kind, key


def _check(config: ConfigFile, place: str, kind: str, given: dict[str, Any]) -> None:
    needed, others = KEYS[kind]
    for key in needed:
        if key not in given:
            raise config.error(place, f"`{place}.{key}` is missing: `{kind}` needs it")
    for key, value in given.items():
        if key not in needed + others:
            hint = nearest(key, [other for other in needed + others if other not in given])
            raise config.error(place, f"`{place}.{key}` has no meaning for `{kind}`", hint, key)
        _check_value(config, place, key, value)
    if given.get("low_freq_factor", 0) >= given.get("high_freq_factor", 1):
        raise config.error(place, f"`{place}.low_freq_factor` must be below `high_freq_factor`", "", "low_freq_factor")


def _check_value(config: ConfigFile, place: str, key: str, value: Any) -> None:
    if key == "truncate":
        fits, wanted = isinstance(value, bool), "true or false"
    else:
        number = isinstance(value, (int, float)) and not isinstance(value, bool)
        least, wanted = (
            (1, "at least 1") if key == "factor" else (0, "of at least 0" if key in MAY_BE_ZERO else "above 0")
        )
        fits = number and (value >= least if least or key in MAY_BE_ZERO else value > 0)
        wanted = f"a number {wanted}"
    if not fits:
        raise config.error(place, f"`{place}.{key}` is {wanted}, found `{shown(value, quoted=True)}`", "", key)


def normalized_scaling(given: Mapping[str, Any] | None) -> dict[str, Any]:
    """Return a rope's scaling with its kind as `type` and without nulls; empty for the plain rope."""
    found = {k: v for k, v in (given or {}).items() if v is not None and k not in ("rope_type", "rope_theta")}
    kind = (given or {}).get("rope_type") or found.get("type") or RopeType.DEFAULT
    return {} if kind == RopeType.DEFAULT else {"type": str(kind), **{k: v for k, v in found.items() if k != "type"}}
