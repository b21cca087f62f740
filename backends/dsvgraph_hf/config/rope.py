"""Rotary positions in a config.json: rope_parameters, or rope_theta beside rope_scaling."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from dsvgraph.errors import DsvError, listed, nearest
from dsvgraph_hf.config.source import Config, shown

DEFAULT = "not in config.json: transformers' default"
PLACES = ("rope_parameters", "rope_scaling")  # new and old
KINDS: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {  # what each needs, and what else it may say
    "default": ((), ()),
    "linear": (("factor",), ()),
    "llama3": (("factor", "low_freq_factor", "high_freq_factor"), ("original_max_position_embeddings",)),
    "yarn": (
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
ZERO = ("mscale", "mscale_all_dim")  # may be 0, which means nothing


@dataclass(frozen=True)
class Rope:
    """The base of the angles, and how they are stretched: rope_scaling, `type` first, or nothing.

    ``notes`` says where each of the two was found.
    """

    theta: int | float
    scaling: dict[str, Any]
    notes: tuple[str, str] = ("", "")

    @property
    def softmax(self) -> bool:
        """Whether YaRN also scales the scores of attention (DeepSeek's modeling code)."""
        return bool(self.scaling.get("mscale_all_dim"))


def read(config: Config, theta: float, positions: int, stretched: dict[str, Any]) -> Rope:
    """The rope of a config; ``theta`` and ``stretched`` are the family's, ``positions`` max_position_embeddings.

    Raises DsvError for a kind or a key that is unknown, and where two places disagree.
    """
    place = _place(config)
    given = {k: v for k, v in (config.data.get(place) or {}).items() if v is not None}
    absent = not given and bool(stretched) and config.data.get(PLACES[0]) is None  # {} is the plain rope
    if absent:
        given = dict(stretched)
    base, note = _theta(config, place, given, theta)
    kind, key = _kind(config, place, given)
    if given.pop("partial_rotary_factor", 1) != 1:
        words = f"`{place}.partial_rotary_factor` other than 1 has no meaning in a spec"
        raise config.fault(place, words, "", "partial_rotary_factor")
    _check(config, place, kind, given)
    if kind == "default":
        return Rope(base, {}, (note, ""))
    if kind != "linear":
        given.setdefault("original_max_position_embeddings", positions)
    ordered = {k: v for k in ORDER if (v := {"type": kind, **given}.get(k)) is not None}
    return Rope(base, ordered, (note, DEFAULT if absent else _said(place, key, kind)))


def _said(place: str, key: str, kind: str) -> str:
    """Where the kind of a rope stands, if not where the spec itself says it."""
    return "" if (place, key) == ("rope_scaling", "type") else f"{place}.{key}: {kind}"


def written(rope: Rope) -> dict[str, Any]:
    """The two spellings of a rope, for readers new (rope_parameters) and old (rope_theta, rope_scaling)."""
    scaling = {("rope_type" if k == "type" else k): v for k, v in rope.scaling.items()}
    found: dict[str, Any] = {"rope_parameters": {"rope_type": "default", "rope_theta": rope.theta, **scaling}}
    found["rope_theta"] = rope.theta
    return found | ({"rope_scaling": scaling} if scaling else {})


def _place(config: Config) -> str:
    """Where the rope stands; raises DsvError where both places say something and disagree."""
    for place in PLACES:
        value = config.data.get(place)
        if value is not None and not isinstance(value, dict):
            raise config.fault(place, f"`{place}` is a mapping, found `{shown(value, quoted=True)}`")
    new, old = (config.data.get(place) or {} for place in PLACES)
    if new and old and _plain(new) != _plain(old):
        raise config.fault("rope_scaling", "`rope_scaling` and `rope_parameters` disagree")
    return "rope_parameters" if new else "rope_scaling"


def _plain(given: dict[str, Any]) -> dict[str, Any]:
    """A rope without its base, its kind by one name."""
    found = {k: v for k, v in given.items() if v is not None and k not in ("rope_theta", "type", "rope_type")}
    return found | {"type": given.get("rope_type", given.get("type", "default"))}


def _theta(config: Config, place: str, given: dict[str, Any], default: float) -> tuple[int | float, str]:
    inside, outside = given.pop("rope_theta", None), config.data.get("rope_theta")
    if inside is not None and outside is not None and inside != outside:
        raise config.fault("rope_theta", f"`rope_theta` is {outside}, and {inside} in `{place}`")
    theta = inside if inside is not None else outside
    note = f"{place}.rope_theta" if inside is not None else ""
    if theta is None:
        theta, note = default, DEFAULT
    if isinstance(theta, bool) or not isinstance(theta, (int, float)) or theta <= 0:
        field = "rope_theta" if inside is None else place
        raise config.fault(field, f"`rope_theta` is a number above 0, found `{shown(theta, quoted=True)}`")
    return int(theta) if theta == int(theta) else theta, note


def _kind(config: Config, place: str, given: dict[str, Any]) -> tuple[str, str]:
    old, new = given.pop("type", None), given.pop("rope_type", None)
    if old is not None and new is not None and old != new:
        raise config.fault(place, f"`{place}` has type `{shown(old)}` and rope_type `{shown(new)}`", "", "type")
    kind = new if new is not None else old if old is not None else "default"
    key = "rope_type" if new is not None else "type"
    if not isinstance(kind, str) or kind not in KINDS:
        words = f"`{place}.{key}` is one of {listed(KINDS)}, found `{shown(kind)}`"
        raise config.fault(place, words, "", key)
    return kind, key


def _check(config: Config, place: str, kind: str, given: dict[str, Any]) -> None:
    needed, others = KINDS[kind]
    for key in needed:
        if key not in given:
            raise config.fault(place, f"`{place}.{key}` is missing: `{kind}` needs it")
    for key, value in given.items():
        if key not in needed + others:
            hint = nearest(key, [other for other in needed + others if other not in given])
            raise config.fault(place, f"`{place}.{key}` has no meaning for `{kind}`", hint, key)
        _check_value(config, place, key, value)
    if given.get("low_freq_factor", 0) >= given.get("high_freq_factor", 1):
        raise config.fault(place, f"`{place}.low_freq_factor` must be below `high_freq_factor`", "", "low_freq_factor")


def _check_value(config: Config, place: str, key: str, value: Any) -> None:
    if key == "truncate":
        fits, wanted = isinstance(value, bool), "true or false"
    else:
        number = isinstance(value, (int, float)) and not isinstance(value, bool)
        least, wanted = (1, "at least 1") if key == "factor" else (0, "of at least 0" if key in ZERO else "above 0")
        fits = number and (value >= least if least or key in ZERO else value > 0)
        wanted = f"a number {wanted}"
    if not fits:
        raise DsvError(f"`{place}.{key}` is {wanted}, found `{shown(value, quoted=True)}`", config.span(place, key))
