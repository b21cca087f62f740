"""gpt-oss: attention sinks, alternating sliding windows, biases, and experts with a clamped SwiGLU."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, ClassVar, Literal

from dsvgraph_hf.config import spec_text
from dsvgraph_hf.config.graph_reader import GraphReader
from dsvgraph_hf.config.hub_config import Count, LayerType, Positive
from dsvgraph_hf.config.ignored import Values
from dsvgraph_hf.config.spec_text import SpecDraft, SpecLine
from dsvgraph_hf.families.shared.grouped_queries import GroupedQueries, SlidingWindows

INIT_ROUTER = SpecLine('"**.router.bias"', "{normal: initializer_range}")


class Config(SlidingWindows):
    """The attributes of GptOssConfig."""

    architecture: ClassVar[str] = "GptOssForCausalLM"
    attribute_map: ClassVar[dict[str, str]] = {
        "num_experts": "num_local_experts",
        "experts_per_token": "num_experts_per_tok",
    }
    foreign: ClassVar[dict[str, Values]] = dict.fromkeys(("mlp_bias", "qkv_bias", "use_bias", "use_qkv_bias"), (True,))
    default_theta: ClassVar[float] = 150000.0
    default_rope_scaling: ClassVar[dict[str, Any]] = {
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
        """The attention of each layer; by default they alternate, a sliding window first."""
        layers = range(self.num_hidden_layers)
        return self.layer_types or [LayerType.FULL if i % 2 else LayerType.SLIDING for i in layers]

    def conflicts(self) -> Iterator[tuple[str, str]]:
        yield from GroupedQueries.conflicts(self)
        yield from self.windows_conflict(self.kinds)
        if self.use_sliding_window is False and LayerType.SLIDING in self.kinds:
            yield "use_sliding_window", "`use_sliding_window` is false, and layers have sliding_attention"
        yield from self.experts_conflict("num_local_experts")

    def attention_lines(self) -> tuple[SpecLine, ...]:
        comment = spec_text.field_line(self, "layer_types").comment
        kinds = SpecLine("layer_types", spec_text.scalar(spec_text.shortest_cycle(self.kinds)), comment)
        window = spec_text.field_lines(self, "sliding_window") if LayerType.SLIDING in self.kinds else ()
        bias = () if self.attention_bias else spec_text.field_lines(self, "attention_bias")
        return (kinds, *window, *GroupedQueries.attention_lines(self), *bias)


def to_spec(c: Config) -> SpecDraft:
    """Return the spec that a config means."""
    mlp = (
        spec_text.field_line(c, "intermediate_size", "of one expert"),
        *spec_text.field_lines(c, "num_local_experts", "num_experts_per_tok", "swiglu_limit", "swiglu_alpha"),
    )
    layers = spec_text.layers_line("layers", "embed", attn="layer_types", ffn="gpt_oss_moe")
    return SpecDraft(
        name="gpt-oss",
        doc=spec_text.doc(c, "gpt-oss decoder", "2508.10925"),
        include=("gpt_oss", "decoder"),
        config=(spec_text.size_lines(c), c.attention_lines(), mlp),
        body=spec_text.decoder_body(c, layers),
        init=(*c.init_lines(biases=True), INIT_ROUTER),
    )


def from_graph(graph: GraphReader) -> dict[str, Any]:
    """Return the config that a graph of this family has; raise Missing if a part of it is absent."""
    mlp = f"{graph.first}.mlp"
    expert = graph.expert(f"{mlp}.experts")
    router: Any = graph.op(mlp, "router").op
    alpha: Any = graph.op(expert, "times").op
    limit: Any = graph.op(expert, "clamp").op
    return {
        **graph.common(),
        **graph.heads(),
        **graph.layer_windows(),
        "intermediate_size": graph.weight(f"{expert}.gate_proj.weight")[0],
        "num_local_experts": int(router.experts),
        "num_experts_per_tok": int(router.top_k),
        "swiglu_alpha": float(alpha.by),
        "swiglu_limit": float(limit.max),
        "hidden_act": "silu",
    }
