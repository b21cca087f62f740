"""gpt-oss: attention sinks, windows by turns, biases, and experts with a clamped SwiGLU."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, ClassVar, Literal

from dsvgraph_hf.config import text
from dsvgraph_hf.config.fields import FULL, SLIDING, Count, Positive
from dsvgraph_hf.config.text import Draft, Row
from dsvgraph_hf.config.unread import Values
from dsvgraph_hf.exporting.facts import Facts
from dsvgraph_hf.families.llama import GroupedQueries
from dsvgraph_hf.families.sliding import layered_windows, windows_conflict

ROUTER = Row('"**.router.bias"', "{normal: initializer_range}")


class Config(GroupedQueries):
    """The fields of GptOssConfig."""

    aliases: ClassVar[dict[str, str]] = {"num_experts": "num_local_experts", "experts_per_token": "num_experts_per_tok"}
    foreign: ClassVar[dict[str, Values]] = dict.fromkeys(("mlp_bias", "qkv_bias", "use_bias", "use_qkv_bias"), (True,))
    theta: ClassVar[float] = 150000.0
    stretched: ClassVar[dict[str, Any]] = {
        "rope_type": "yarn", "factor": 32.0, "beta_fast": 32.0, "beta_slow": 1.0, "truncate": False,
        "original_max_position_embeddings": 4096,
    }  # fmt: skip

    max_position_embeddings: Count = 131072
    rms_norm_eps: Positive = 1e-5
    num_key_value_heads: Count | None = 8
    head_dim: Count | None = 64
    attention_bias: bool = True
    hidden_act: Literal["silu"] = "silu"
    sliding_window: Count | None = 128
    use_sliding_window: bool | None = None
    num_local_experts: Count = 128
    num_experts_per_tok: Count = 4
    swiglu_alpha: Positive = 1.702
    swiglu_limit: Positive = 7.0

    @property
    def kinds(self) -> list[str]:
        """The attention of each layer; by turns where nothing is said, the window first."""
        return self.layer_types or [FULL if i % 2 else SLIDING for i in range(self.num_hidden_layers)]

    def conflicts(self) -> Iterator[tuple[str, str]]:
        yield from super().conflicts()
        yield from windows_conflict(self.kinds, self.num_hidden_layers, self.sliding_window)
        if self.use_sliding_window is False and SLIDING in self.kinds:
            yield "use_sliding_window", "`use_sliding_window` is false, and layers have sliding_attention"
        if self.num_experts_per_tok > self.num_local_experts:
            words = f"{self.num_experts_per_tok} and {self.num_local_experts}"
            yield "num_experts_per_tok", f"`num_experts_per_tok` is at most `num_local_experts`: {words}"

    def biased(self) -> tuple[Row, ...]:
        """The group of attention, with the windows first."""
        kinds = Row("layer_types", text.scalar(text.cycle(self.kinds)), text.row(self, "layer_types").why)
        window = [text.row(self, "sliding_window")] if SLIDING in self.kinds else []
        bias = [] if self.attention_bias else [text.row(self, "attention_bias")]
        return (kinds, *window, *self.attention(), *bias)


def draft(c: Config) -> Draft:
    """The template."""
    names = ("num_local_experts", "num_experts_per_tok", "swiglu_limit", "swiglu_alpha")
    return Draft(
        "gpt-oss",
        f"gpt-oss decoder, {c.num_hidden_layers} layers of width {c.hidden_size} (arXiv 2508.10925).",
        text.notes(c),
        ("gpt_oss", "decoder"),
        (
            text.sizes(c),
            c.biased(),
            (text.row(c, "intermediate_size", "of one expert"), *(text.row(c, name) for name in names)),
        ),
        text.decoder(c, text.layers("layers", "embed", attn="layer_types", ffn="gpt_oss_moe")),
        (text.LOGITS,),
        (text.NEXT,),
        (text.NORMAL, text.GAINS, text.BIASES, ROUTER),
    )


def config(f: Facts) -> dict[str, Any]:
    """What a config.json would say of a graph, if it is of this family."""
    mlp = f"{f.first}.mlp"
    expert = f.expert(f"{mlp}.experts")
    router: Any = f.op(mlp, "router").op
    alpha: Any = f.op(expert, "times").op
    limit: Any = f.op(expert, "clamp").op
    return {
        **f.common(),
        **f.queries(),
        **layered_windows(f),
        "intermediate_size": f.weight(f"{expert}.gate_proj.weight")[0],
        "num_local_experts": int(router.experts),
        "num_experts_per_tok": int(router.top_k),
        "swiglu_alpha": float(alpha.by),
        "swiglu_limit": float(limit.max),
        "hidden_act": "silu",
    }
