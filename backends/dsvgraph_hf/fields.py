"""What all families of config.json share: fields, other spellings, and what changes nothing."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from dsvgraph.errors import DsvError, nearest
from dsvgraph_hf import rope, source
from dsvgraph_hf.rope import Rope
from dsvgraph_hf.source import Config, shown

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

IGNORED = (
    "_attn_implementation", "_commit_hash", "_name_or_path", "architectures", "attn_implementation",
    "auto_map", "bad_words_ids", "begin_suppress_tokens", "bos_token_id", "classifier_dropout",
    "decoder_start_token_id", "diversity_penalty", "do_sample", "dtype", "early_stopping",
    "encoder_no_repeat_ngram_size", "eos_token_id", "ep_size", "experts_implementation",
    "exponential_decay_length_penalty", "finetuning_task", "forced_bos_token_id", "forced_eos_token_id",
    "head_dtype", "id2label", "initial_context_length", "keys_to_ignore_at_inference", "label2id",
    "length_penalty", "max_length", "min_length", "model_type", "name_or_path", "no_repeat_ngram_size",
    "num_beam_groups", "num_beams", "num_labels", "num_return_sequences", "output_attentions",
    "output_hidden_states", "output_router_logits", "output_scores", "pad_token_id", "prefix", "problem_type",
    "remove_invalid_values", "repetition_penalty", "return_dict", "return_dict_in_generate",
    "router_aux_loss_coef", "sep_token_id", "seq_aux", "aux_loss_alpha", "suppress_tokens",
    "task_specific_params", "temperature", "tokenizer_class", "top_k", "top_p", "torch_dtype", "torchscript",
    "transformers_version", "typical_p", "unsloth_version", "unsloth_fixed", "use_bfloat16", "use_cache",
)  # fmt: skip
"""Attributes that say how a model is run, stored, trained or called, not what it computes."""

FIXED: dict[str, tuple[Any, ...]] = {
    "add_cross_attention": (False,),
    "chunk_size_feed_forward": (0,),
    "cross_attention_hidden_size": (None,),
    "is_decoder": (False, True),
    "is_encoder_decoder": (False,),
    "partial_rotary_factor": (1, 1.0, None),
    "per_layer_config": (None,),
    "pretraining_tp": (1, None),
    "pruned_heads": ({}, None),
    "tf_legacy_loss": (False,),
    "tie_encoder_decoder": (False,),
    "tie_last_hidden_states": (True, None),
}
"""Attributes that change the model where they hold something else, which no spec has a word for."""

ROPE = ("rope_parameters", "rope_scaling", "rope_theta")


class HubConfig(BaseModel):
    """The fields of one family; defaults are those of transformers' class of that family.

    A field that has none of them must be in the file. ``aliases`` are other spellings, ``fixed``
    is like FIXED for the family alone, ``unused`` is like IGNORED; ``theta`` and
    ``stretched`` are the family's rope where a file says nothing of it. ``given`` names the fields
    that the file has.
    """

    model_config = ConfigDict(
        extra="forbid", strict=True, frozen=True, arbitrary_types_allowed=True, defer_build=True
    )  # a family is built when it is read, its bases never

    aliases: ClassVar[dict[str, str]] = {}
    fixed: ClassVar[dict[str, tuple[Any, ...]]] = {}
    unused: ClassVar[frozenset[str]] = frozenset()
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

    def conflicts(self) -> Iterator[tuple[str, str]]:
        """Fields that contradict others, with what is wrong in words."""
        yield from ()

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
    def _check_known(cls, config: Config, data: dict[str, Any]) -> None:
        fields = [name for name in cls.model_fields if name != "rope"]
        known = {*fields, *cls.aliases, *cls.fixed, *FIXED, *IGNORED, *cls.unused, *ROPE}
        for key in config.data:
            if key not in known:
                source.unknown(config, key, sorted(known))


def _check_fixed(config: Config, data: dict[str, Any], fixed: dict[str, tuple[Any, ...]]) -> None:
    for name, allowed in fixed.items():
        if name in data and not any(data[name] == v and type(data[name]) is type(v) for v in allowed):
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
        hint = nearest(name, config.data)
        return DsvError(f"`{name}` is missing", config.doc.key(), hint=hint)
    wanted = WANTED.get(error["type"]) or _limit(error)
    words = f"`{_written(config, name, aliases)}` is {wanted}, found `{shown(value, error['type'] in WANTED)}`"
    return config.fault(_written(config, name, aliases), words)


WANTED = {  # Pydantic's kinds of error, in plain words
    "int_type": "a whole number",
    "int_from_float": "a whole number",
    "float_type": "a number",
    "bool_type": "true or false",
    "string_type": "a text",
    "string_unicode": "a text",
    "list_type": "a list",
    "dict_type": "a mapping",
}


def _limit(error: Any) -> str:
    context = error.get("ctx", {})
    if error["type"] == "literal_error":
        return str(context["expected"]).replace("'", "`")
    limits = {"ge": "a number of at least", "gt": "a number above", "le": "a number of at most", "lt": "a number below"}
    found = [f"{words} {context[key]}" for key, words in limits.items() if key in context]
    return found[0] if found else str(error["msg"])


def _written(config: Config, name: str, aliases: dict[str, str]) -> str:
    """How the file spells a field."""
    others = [other for other, same in aliases.items() if same == name]
    return next((n for n in (name, *others) if n in config.data), name)
