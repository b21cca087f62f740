"""What the tests of configs share: small legal configs of each family, drawn and as transformers saves them."""

from __future__ import annotations

import json
import re
from functools import cache
from itertools import product
from pathlib import Path
from typing import Any

import transformers
from hypothesis import strategies as st

import dsvgraph
from dsvgraph.loader import bundled
from dsvgraph.passes.graph.paths import weights
from dsvgraph_hf.config import config_file
from dsvgraph_hf.families import architecture, families
from dsvgraph_hf.importer import to_text

PUBLISHED = Path(__file__).parent / "published"
NAMES = sorted(path.stem for path in PUBLISHED.glob("*.json"))
ZOO = [name for name in NAMES if (bundled() / f"{name}.yaml").is_file()]
FAMILIES = list(families())
CLASSES = {kind: architecture(kind).removesuffix("ForCausalLM") for kind in FAMILIES}
SPAN = re.compile(r"\[(\d+)-(\d+)\]|\[(\d+)\]")

SIZES = dict(
    vocab_size=61, hidden_size=32, num_hidden_layers=3, intermediate_size=40, num_attention_heads=4,
    num_key_value_heads=2, head_dim=12, moe_intermediate_size=12, num_experts=4, num_local_experts=4,
    num_experts_per_tok=2, n_group=4, topk_group=2, first_k_dense_replace=1,
)  # fmt: skip
LATENT = dict(
    num_attention_heads=2, num_key_value_heads=2, q_lora_rank=12, kv_lora_rank=8, qk_nope_head_dim=8,
    qk_rope_head_dim=4, v_head_dim=6, moe_intermediate_size=12, n_routed_experts=8, num_experts_per_tok=3,
)  # fmt: skip


def _small(kind: str) -> dict[str, Any]:
    """Small sizes of the attributes that a family has and that are no null by default."""
    fields = families()[kind].Config.model_fields
    given = {name for name, field in fields.items() if field.default is not None} | {"num_key_value_heads"}
    sizes = {name: size for name, size in SIZES.items() if name in given}
    return sizes | (LATENT if "kv_lora_rank" in fields else {})


SMALL: dict[str, dict[str, Any]] = {kind: _small(kind) for kind in FAMILIES}
ENDS = dict(bos_token_id=None, eos_token_id=None, pad_token_id=None)


def hub(kind: str, **changes: Any) -> Any:
    """transformers' config of a family, small."""
    made = getattr(transformers, f"{CLASSES[kind]}Config")(**{**SMALL[kind], **ENDS, **changes})
    made.architectures = [architecture(kind)]
    return made


def saved(config: Any) -> dict[str, Any]:
    """What transformers writes into config.json."""
    return json.loads(config.to_json_string())  # type: ignore[no-any-return]


def plain(kind: str, **changes: Any) -> dict[str, Any]:
    """A config as a person would write it: the sizes and nothing else."""
    return {"model_type": kind, **SMALL[kind], **changes}


@cache
def _text(data: str) -> str:
    return to_text(config_file.from_dict(json.loads(data), "model"))


def text_of(data: dict[str, Any]) -> str:
    """The spec that a config means."""
    return _text(json.dumps(data))


def model_of(data: dict[str, Any]) -> dsvgraph.Model:
    """The graph that a config means."""
    return dsvgraph.loads(text_of(data))


def without_comments(text: str) -> str:
    """A spec's text without its comments."""
    return re.sub(r"^ *#.*\n| *(?<=\s)#.*$", "", text, flags=re.MULTILINE)


def shapes(model: dsvgraph.Model) -> dict[str, tuple[int, ...]]:
    """The shape of every weight of a graph, by its name in a checkpoint."""
    found: dict[str, tuple[int, ...]] = {}
    for path, weight, _ in weights(model):
        axes = [range(int(a or c), int(b or c) + 1) for a, b, c in SPAN.findall(path)]
        for numbers in product(*axes):
            found[SPAN.sub("{}", path).format(*numbers)] = tuple(int(n) for n in weight.shape)
    return found


# -- legal configs, drawn ----------------------------------------------------------------------


def _even(least: int, most: int) -> st.SearchStrategy[int]:
    return st.integers(least // 2, most // 2).map(lambda n: 2 * n)


ROPES = st.sampled_from(
    [
        {"rope_type": "default", "rope_theta": 10000.0},
        {"rope_type": "linear", "rope_theta": 500000.0, "factor": 4.0},
        {"rope_type": "yarn", "rope_theta": 10000.0, "factor": 4.0, "original_max_position_embeddings": 16,
         "mscale": 1.0, "mscale_all_dim": 0.7},
        {"rope_type": "yarn", "rope_theta": 1e6, "factor": 8.0, "original_max_position_embeddings": 32,
         "beta_fast": 16.0, "beta_slow": 2.0, "truncate": False, "attention_factor": 1.2},
        {"rope_type": "llama3", "rope_theta": 10000.0, "factor": 8.0, "low_freq_factor": 1.0,
         "high_freq_factor": 4.0, "original_max_position_embeddings": 16},
    ]
)  # fmt: skip


@st.composite
def drawn(draw: st.DrawFn, kind: str) -> dict[str, Any]:
    """A legal config of a family, as arguments of transformers' class."""
    heads = draw(st.sampled_from([1, 2, 4]))
    found = dict(
        vocab_size=draw(st.integers(1, 70)),
        num_hidden_layers=draw(st.integers(1, 5)),
        hidden_size=heads * draw(_even(2, 12)),
        intermediate_size=draw(st.integers(1, 40)),
        num_attention_heads=heads,
        max_position_embeddings=draw(st.sampled_from([64, 4096])),
        initializer_range=draw(st.sampled_from([0.006, 0.02, 0.5])),
        rms_norm_eps=draw(st.sampled_from([1e-6, 1e-5, 0.01])),
        tie_word_embeddings=draw(st.booleans()),
        attention_bias="attention_bias" not in families()[kind].Config.fixed and draw(st.booleans()),
        hidden_act=draw(st.sampled_from(["silu", "gelu", "relu"])),
        rope_parameters=dict(draw(ROPES)),
    )
    if kind.startswith("deepseek"):
        return {**found, **draw(_latent(kind, found))}
    groups = draw(st.sampled_from([n for n in (1, 2, 4) if heads % n == 0]))
    width = {"head_dim": draw(_even(2, 12))} if draw(st.booleans()) or kind in NEEDS_WIDTH else {}
    own = draw(MORE.get(kind, _by_attributes(kind))(found["num_hidden_layers"]))
    return {**found, "num_key_value_heads": groups, **width, **own}


@st.composite
def _latent(draw: st.DrawFn, kind: str, found: dict[str, Any]) -> dict[str, Any]:
    groups = draw(st.sampled_from([1, 2, 4]))
    kept = draw(st.integers(1, groups))
    each = draw(st.integers(2, 4))
    ranks = dict(q_lora_rank=draw(st.none() | st.integers(1, 9)), kv_lora_rank=draw(st.integers(1, 9)))
    sizes = dict(
        qk_nope_head_dim=draw(st.integers(1, 8)),
        qk_rope_head_dim=draw(_even(2, 6)),
        v_head_dim=draw(st.integers(1, 8)),
        num_key_value_heads=found["num_attention_heads"],
        moe_intermediate_size=draw(st.integers(1, 9)),
        n_routed_experts=groups * each,
        n_shared_experts=draw(st.integers(1, 3)),
        num_experts_per_tok=draw(st.integers(1, kept * each)),
        n_group=groups,
        topk_group=kept,
        routed_scaling_factor=draw(st.sampled_from([1.0, 2.5])),
        first_k_dense_replace=draw(st.integers(0, found["num_hidden_layers"] + 1)),
    )
    own = {"topk_method": "group_limited_greedy" if groups > 1 else "greedy"}
    if kind == "deepseek_v3":
        depth = draw(st.integers(0, 2))
        own = dict(num_mtp_layers=depth, norm_topk_prob=draw(st.booleans()), rope_interleave=draw(st.booleans()))
    return {**ranks, **sizes, **own}


def _by_attributes(kind: str) -> Any:
    """What varies in a family that MORE does not name: its windows, layer by layer, if it reads them."""
    fields = families()[kind].Config.model_fields
    return _layer_types if "max_window_layers" in fields else lambda layers: st.just({})


@st.composite
def _experts(draw: st.DrawFn, name: str) -> dict[str, Any]:
    number = draw(st.integers(1, 5))
    return {name: number, "num_experts_per_tok": draw(st.integers(1, number))}


@st.composite
def _layer_types(draw: st.DrawFn, layers: int) -> dict[str, Any]:
    if draw(st.booleans()):
        return {}
    kinds = draw(st.lists(st.sampled_from(["sliding_attention", "full_attention"]), min_size=layers, max_size=layers))
    return dict(use_sliding_window=True, sliding_window=draw(st.integers(1, 9)), layer_types=kinds)


@st.composite
def _qwen3_moe(draw: st.DrawFn, layers: int) -> dict[str, Any]:
    window = dict(use_sliding_window=True, sliding_window=draw(st.integers(1, 9))) if draw(st.booleans()) else {}
    return {
        **draw(_experts("num_experts")),
        **window,
        "moe_intermediate_size": draw(st.integers(1, 9)),
        "norm_topk_prob": draw(st.booleans()),
        "decoder_sparse_step": draw(st.integers(1, 3)),
        "mlp_only_layers": draw(st.lists(st.integers(0, layers - 1), unique=True, max_size=2)),
    }


@st.composite
def _mixtral(draw: st.DrawFn, layers: int) -> dict[str, Any]:
    return {**draw(_experts("num_local_experts")), "sliding_window": draw(st.none() | st.integers(1, 9))}


@st.composite
def _gpt_oss(draw: st.DrawFn, layers: int) -> dict[str, Any]:
    kinds = st.lists(st.sampled_from(["sliding_attention", "full_attention"]), min_size=layers, max_size=layers)
    return {
        **draw(_experts("num_local_experts")),
        "layer_types": draw(st.none() | kinds),
        "sliding_window": draw(st.integers(1, 9)),
        "swiglu_limit": draw(st.sampled_from([7.0, 2.5])),
        "hidden_act": "silu",
    }


NEEDS_WIDTH = ("qwen3", "gpt_oss", "mixtral")  # transformers has no YaRN for a Mixtral without head_dim
MORE: dict[str, Any] = {
    "llama": lambda layers: st.fixed_dictionaries({"mlp_bias": st.booleans()}),
    "qwen3_moe": _qwen3_moe,
    "mixtral": _mixtral,
    "gpt_oss": _gpt_oss,
}
