"""What all families of config.json share: fields, other spellings, and what changes nothing."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from dsvgraph.errors import DsvError
from dsvgraph.wanted import wanted
from dsvgraph_hf.config import rope, source
from dsvgraph_hf.config.rope import Rope
from dsvgraph_hf.config.source import Config, shown
from dsvgraph_hf.config.unread import FIXED, FOREIGN, IGNORED, Values, among

Count = Annotated[int, Field(ge=1)]
Layers = Annotated[int, Field(ge=1, le=10_000)]  # the most copies that a line may have
Positive = Annotated[int | float, Field(gt=0)]
Share = Annotated[int | float, Field(ge=0)]
Act = Literal["silu", "swish", "gelu", "relu"]
ACTS = {"swish": "silu"}  # by another name in the language
QUANTISED = {  # stored so, the same model once it is read
    "fp8": "matrices are stored in fp8 with a scale per block",
    "mxfp4": "experts are stored in mxfp4",
}

SLIDING, FULL = "sliding_attention", "full_attention"
ROPE = ("rope_parameters", "rope_scaling", "rope_theta")


class HubConfig(BaseModel):
    """The fields of one family; defaults are those of transformers' class of that family.

    A field that has none of them must be in the file. ``aliases`` are other spellings, ``fixed``
    is like FIXED for the family alone, ``unused`` like IGNORED, ``foreign`` like FOREIGN; ``theta`` and
    ``stretched`` are the family's rope where a file says nothing of it. ``given`` names the fields
    that the file has.
    """

    model_config = ConfigDict(
        extra="forbid", strict=True, frozen=True, arbitrary_types_allowed=True, defer_build=True
    )  # a family is built when it is read, its bases never

    aliases: ClassVar[dict[str, str]] = {}
    fixed: ClassVar[dict[str, Values]] = {}
    unused: ClassVar[frozenset[str]] = frozenset()
    foreign: ClassVar[dict[str, Values]] = {}
    theta: ClassVar[float] = 10000.0
    stretched: ClassVar[dict[str, Any]] = {}

    vocab_size: Count
    hidden_size: Count
    num_hidden_layers: Layers
    num_attention_heads: Count
    intermediate_size: Count
    max_position_embeddings: Count = 2048
    initializer_range: Share = 0.02
    rms_norm_eps: Positive = 1e-6
    hidden_act: Act = "silu"
    tie_word_embeddings: bool = False
    attention_dropout: Share | None = 0.0
    layer_types: list[str] | None = None
    quantization_config: dict[str, Any] | None = None
    rope: Rope

    @property
    def given(self) -> frozenset[str]:
        """The fields that the file has."""
        return frozenset(self.model_fields_set)

    @property
    def act(self) -> str:
        """The activation by its name in the language."""
        return ACTS.get(self.hidden_act, self.hidden_act)

    @classmethod
    def read(cls, config: Config) -> Self:
        """The fields of a config; raises DsvError with every mistake at its place."""
        data = cls._spelt(config)
        _check_fixed(config, data, {**FIXED, **cls.fixed})
        cls._check_foreign(config)
        _check_quantised(config, data)
        positions = data.get("max_position_embeddings", cls.model_fields["max_position_embeddings"].default)
        fields = {k: v for k, v in data.items() if k in cls.model_fields}
        fields["rope"] = rope.read(config, cls.theta, positions, cls.stretched)
        cls._check_known(config, data)
        try:
            made = cls.model_validate(fields)
        except ValidationError as error:
            raise DsvError.collect(_wrong(config, e, cls.aliases) for e in _by_field(error)) from None
        for field, words in made.conflicts():
            raise config.fault(_written(config, field, cls.aliases), words)
        return made

    @property
    def windows(self) -> list[bool]:
        """For each layer whether it has a window, where the family itself says so."""
        return [False] * self.num_hidden_layers

    def conflicts(self) -> Iterator[tuple[str, str]]:
        """Fields that contradict others, with what is wrong in words."""
        yield from ()

    def alike(self) -> Iterator[tuple[str, str]]:
        """What is wrong with `layer_types` in a family that takes no notice of it: it says what is so, or nothing."""
        kinds = [SLIDING if window else FULL for window in self.windows]
        if self.layer_types is not None and self.layer_types != kinds:
            words = f"{self.num_hidden_layers} times {kinds[0]}" if len(set(kinds)) == 1 else ", ".join(kinds)
            yield "layer_types", f"`layer_types` is not read by this family, whose layers are {words}"

    @classmethod
    def _spelt(cls, config: Config) -> dict[str, Any]:
        """The data with every attribute by one name; raises DsvError where two spellings disagree."""
        found, spelt = dict[str, Any](), dict[str, str]()
        for key, value in config.data.items():
            name = cls.aliases.get(key, key)
            if name in found and found[name] != value:
                other, same = shown(found[name]), spelt[name]
                raise config.fault(key, f"`{key}` is {shown(value)}, and `{same}`, which means the same, is {other}")
            found[name], spelt[name] = value, key
        return found

    @classmethod
    def _own(cls) -> set[str]:
        """The attributes that the family reads."""
        return {*(name for name in cls.model_fields if name != "rope"), *cls.aliases, *cls.fixed, *FIXED, *ROPE}

    @classmethod
    def _check_foreign(cls, config: Config) -> None:
        for name, allowed in {**FOREIGN, **cls.foreign}.items():
            if name in config.data and name not in cls._own() and not among(config.data[name], allowed):
                words = f"`{name}: {shown(config.data[name])}` is of another family: no class of this one reads it"
                raise config.fault(name, words, f"known is {' or '.join(map(shown, allowed))}")

    @classmethod
    def _check_known(cls, config: Config, data: dict[str, Any]) -> None:
        own = cls._own()
        known = {*own, *IGNORED, *FOREIGN, *cls.foreign, *cls.unused}
        for key in config.data:
            if key not in known:
                source.unknown(config, key, sorted(own - config.data.keys()))


def _check_fixed(config: Config, data: dict[str, Any], fixed: dict[str, Values]) -> None:
    for name, allowed in fixed.items():
        if name in data and not among(data[name], allowed):
            words = f"`{name}: {shown(data[name])}` would change the model, and a spec has no word for it"
            raise config.fault(name, words, f"known is {' or '.join(map(shown, allowed))}")


def _check_quantised(config: Config, data: dict[str, Any]) -> None:
    found = data.get("quantization_config")
    if not isinstance(found, dict):
        return  # nothing, or of a wrong type, which is told with the other fields
    method = found.get("quant_method")
    if not isinstance(method, str) or method not in QUANTISED:
        words = f"`quantization_config.quant_method` is {' or '.join(QUANTISED)}, found `{shown(method)}`"
        raise config.fault("quantization_config", words, "", "quant_method")


def _by_field(error: ValidationError) -> list[Any]:
    """One error a field: what is neither a whole number nor another is told once."""
    found: dict[Any, Any] = {}
    for one in error.errors():
        found[one["loc"][0]] = one  # the last of a union's is of its widest kind
    return list(found.values())


def _wrong(config: Config, error: Any, aliases: dict[str, str]) -> DsvError:
    """One of Pydantic's errors in plain words."""
    name, value = str(error["loc"][0]), error["input"]
    if error["type"] == "missing":
        return DsvError(f"`{name}` is missing", config.doc.key())  # what may be meant for it was refused before
    steps = "".join(f"[{step}]" for step in error["loc"][1:] if isinstance(step, int))
    written = _written(config, name, aliases)
    quoted = not (error.get("ctx") or error["type"] == "literal_error")
    words = f"`{written}{steps}` is {wanted(error)}, found `{shown(value, quoted)}`"
    return config.fault(written, words)


def _written(config: Config, name: str, aliases: dict[str, str]) -> str:
    """How the file spells a field."""
    others = [other for other, same in aliases.items() if same == name]
    return next((n for n in (name, *others) if n in config.data), name)
