"""The config.json attributes that all families share, their other spellings, and those that change nothing."""

from __future__ import annotations

from collections.abc import Iterator
from enum import StrEnum
from typing import Annotated, Any, ClassVar, Literal, Self, get_args

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from dsvgraph.errors import DsvError
from dsvgraph.wanted import CHOICES, wanted
from dsvgraph_hf.config import rope
from dsvgraph_hf.config.config_file import ConfigFile, shown, unknown_field
from dsvgraph_hf.config.ignored import FIXED, FOREIGN, IGNORED, Values, is_among
from dsvgraph_hf.config.rope import Rope

Count = Annotated[int, Field(ge=1)]
Layers = Annotated[int, Field(ge=1, le=10_000)]  # the most copies that a line may have
Positive = Annotated[int | float, Field(gt=0)]
Share = Annotated[int | float, Field(ge=0)]
Act = Literal["silu", "swish", "gelu", "relu"]
ACT_NAMES = {"swish": "silu"}  # name in a config -> name of the op
ACTIVATIONS = tuple(dict.fromkeys(ACT_NAMES.get(name, name) for name in get_args(Act)))  # names of ops
QUANT_METHODS = {  # the weights are stored so; the graph is the same
    "fp8": "matrices are stored in fp8 with a scale per block",
    "mxfp4": "experts are stored in mxfp4",
}

ROPE_FIELDS = ("rope_parameters", "rope_scaling", "rope_theta")


class LayerType(StrEnum):
    """The values of `layer_types` that are read."""

    SLIDING = "sliding_attention"
    FULL = "full_attention"


class HubConfig(BaseModel):
    """The config.json attributes of one family; defaults are those of transformers' config class of the family.

    A field without a default must be in the file. A family declares as class variables: ``architecture``, the class
    of transformers that computes the model; ``other_names``, further values of model_type with that architecture;
    ``attribute_map``, other spellings of fields (as in transformers); ``fixed``, ``ignored`` and ``foreign``, which
    extend FIXED, IGNORED and FOREIGN; ``default_theta`` and ``default_rope_scaling``, the rope if a file has none.
    """

    model_config = ConfigDict(
        extra="forbid", strict=True, frozen=True, arbitrary_types_allowed=True, defer_build=True
    )  # built at first use: most families never are

    architecture: ClassVar[str]
    other_names: ClassVar[frozenset[str]] = frozenset()
    attribute_map: ClassVar[dict[str, str]] = {}
    fixed: ClassVar[dict[str, Values]] = {}
    ignored: ClassVar[frozenset[str]] = frozenset()
    foreign: ClassVar[dict[str, Values]] = {}
    default_theta: ClassVar[float] = 10000.0
    default_rope_scaling: ClassVar[dict[str, Any]] = {}

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
        """The name of the activation's op."""
        return ACT_NAMES.get(self.hidden_act, self.hidden_act)

    @classmethod
    def from_file(cls, config: ConfigFile) -> Self:
        """Return the fields of a config. Raise DsvError with the spans of all values that are wrong."""
        data = cls._by_field_name(config)
        _check_fixed(config, data, {**FIXED, **cls.fixed})
        cls._check_foreign(config)
        _check_quantised(config, data)
        positions = data.get("max_position_embeddings", cls.model_fields["max_position_embeddings"].default)
        fields = {k: v for k, v in data.items() if k in cls.model_fields}
        fields["rope"] = rope.read(config, cls.default_theta, positions, cls.default_rope_scaling)
        cls._check_known(config, data)
        try:
            made = cls.model_validate(fields)
        except ValidationError as error:
            raise DsvError.collect(_at_value(config, e, cls.attribute_map) for e in _by_field(error)) from None
        for field, words in made.conflicts():
            raise config.error(_spelling(config, field, cls.attribute_map), words)
        return made

    @property
    def sliding_layers(self) -> list[bool]:
        """For each layer whether it has a sliding window."""
        return [False] * self.num_hidden_layers

    def conflicts(self) -> Iterator[tuple[str, str]]:
        """Yield each field that contradicts others, with the message of the error."""
        yield from ()

    def layer_types_conflict(self) -> Iterator[tuple[str, str]]:
        """Yield the error of a `layer_types` that differs from the layers of a family that does not read it."""
        kinds = [LayerType.SLIDING if window else LayerType.FULL for window in self.sliding_layers]
        if self.layer_types is not None and self.layer_types != kinds:
            words = f"{self.num_hidden_layers} times {kinds[0]}" if len(set(kinds)) == 1 else ", ".join(kinds)
            yield "layer_types", f"`layer_types` is not read by this family, whose layers are {words}"

    @classmethod
    def _by_field_name(cls, config: ConfigFile) -> dict[str, Any]:
        """Return the data with each attribute by its field's name. Raise DsvError if two spellings disagree."""
        found, spelt = dict[str, Any](), dict[str, str]()
        for key, value in config.data.items():
            name = cls.attribute_map.get(key, key)
            if name in found and found[name] != value:
                other, same = shown(found[name]), spelt[name]
                raise config.error(key, f"`{key}` is {shown(value)}, and `{same}`, which means the same, is {other}")
            found[name], spelt[name] = value, key
        return found

    @classmethod
    def _known_names(cls) -> set[str]:
        """Return the names of the attributes that the family reads."""
        fields = cls.model_fields.keys() - {"rope"}
        return {*fields, *cls.attribute_map, *cls.fixed, *FIXED, *ROPE_FIELDS}

    @classmethod
    def _check_foreign(cls, config: ConfigFile) -> None:
        for name, allowed in {**FOREIGN, **cls.foreign}.items():
            if name in config.data and name not in cls._known_names() and not is_among(config.data[name], allowed):
                words = f"`{name}: {shown(config.data[name])}` is of another family: no class of this one reads it"
                raise config.error(name, words, f"known is {' or '.join(map(shown, allowed))}")

    @classmethod
    def _check_known(cls, config: ConfigFile, data: dict[str, Any]) -> None:
        own = cls._known_names()
        known = {*own, *IGNORED, *FOREIGN, *cls.foreign, *cls.ignored}
        for key in config.data:
            if key not in known:
                unknown_field(config, key, sorted(own - config.data.keys()))


def _check_fixed(config: ConfigFile, data: dict[str, Any], fixed: dict[str, Values]) -> None:
    for name, allowed in fixed.items():
        if name in data and not is_among(data[name], allowed):
            words = f"`{name}: {shown(data[name])}` would change the model, and a spec has no word for it"
            raise config.error(name, words, f"known is {' or '.join(map(shown, allowed))}")


def _check_quantised(config: ConfigFile, data: dict[str, Any]) -> None:
    found = data.get("quantization_config")
    if not isinstance(found, dict):
        return  # absent, or of a wrong type, which is an error of validation
    method = found.get("quant_method")
    if not isinstance(method, str) or method not in QUANT_METHODS:
        words = f"`quantization_config.quant_method` is {' or '.join(QUANT_METHODS)}, found `{shown(method)}`"
        raise config.error("quantization_config", words, "", "quant_method")


def _by_field(error: ValidationError) -> list[Any]:
    """Return one error for each field: a union has one for each of its types."""
    found: dict[Any, Any] = {}
    for one in error.errors():
        found[one["loc"][0]] = one  # the last of a union is of its widest type
    return list(found.values())


def _at_value(config: ConfigFile, error: Any, attribute_map: dict[str, str]) -> DsvError:
    """Return an error of Pydantic at its value in the file."""
    name, value = str(error["loc"][0]), error["input"]
    if error["type"] == "missing":
        return DsvError(f"`{name}` is missing", config.doc.key())  # a misspelt one was refused before
    steps = "".join(f"[{step}]" for step in error["loc"][1:] if isinstance(step, int))
    spelling = _spelling(config, name, attribute_map)
    quoted = not (error.get("ctx") or error["type"] in CHOICES)
    words = f"`{spelling}{steps}` is {wanted(error)}, found `{shown(value, quoted)}`"
    return config.error(spelling, words)


def _spelling(config: ConfigFile, name: str, attribute_map: dict[str, str]) -> str:
    """Return the spelling of a field in the file."""
    others = [other for other, same in attribute_map.items() if same == name]
    return next((n for n in (name, *others) if n in config.data), name)
