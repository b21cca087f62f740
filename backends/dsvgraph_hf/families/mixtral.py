"""Mixtral: two of eight large experts, in a layer whose parts have Mistral's names."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, ClassVar

from dsvgraph_hf.config import spec_text
from dsvgraph_hf.config.graph_reader import GraphReader
from dsvgraph_hf.config.hub_config import Count, Positive
from dsvgraph_hf.config.ignored import Values
from dsvgraph_hf.config.spec_text import SpecDraft
from dsvgraph_hf.families.shared.grouped_queries import GroupedQueries, SlidingWindows


class Config(SlidingWindows):
    """The attributes of MixtralConfig. A window is that of all layers (modeling code)."""

    architecture: ClassVar[str] = "MixtralForCausalLM"
    attribute_map: ClassVar[dict[str, str]] = {"num_experts": "num_local_experts"}
    fixed: ClassVar[dict[str, Values]] = {"attention_bias": (False,), "router_jitter_noise": (0.0, 0)}
    ignored: ClassVar[frozenset[str]] = frozenset({"max_window_layers"})
    default_theta: ClassVar[float] = 1e6

    max_position_embeddings: Count = 131072
    rms_norm_eps: Positive = 1e-5
    num_key_value_heads: Count | None = 8
    use_sliding_window: bool | None = None
    num_experts_per_tok: Count = 2
    num_local_experts: Count = 8

    @property
    def sliding_layers(self) -> list[bool]:
        return [self.sliding_window is not None] * self.num_hidden_layers

    def conflicts(self) -> Iterator[tuple[str, str]]:
        yield from GroupedQueries.conflicts(self)
        yield from self.layer_types_conflict()
        if self.use_sliding_window is False and self.sliding_window is not None:
            yield "use_sliding_window", "`use_sliding_window` is false, and every layer has the `sliding_window`"
        yield from self.experts_conflict("num_local_experts")


def to_spec(c: Config) -> SpecDraft:
    """Return the spec that a config means."""
    attn, comment = c.attention_block()
    blocks = {"attn": attn} if attn != "gqa" else {}  # the default of the layer
    mlp = (
        spec_text.field_line(c, "intermediate_size", "of one expert"),
        *spec_text.field_lines(c, "num_local_experts", "num_experts_per_tok"),
        spec_text.activation_line(c),
    )
    layers = spec_text.layers_line("layers", "embed", block="mixtral_layer", comment=comment, **blocks)
    return SpecDraft(
        name="Mixtral",
        doc=spec_text.doc(c, "Mixtral decoder", "2401.04088"),
        include=(*c.include(), "mixtral"),
        config=(spec_text.size_lines(c), c.attention_lines(), mlp),
        body=spec_text.decoder_body(c, layers),
    )


def from_graph(graph: GraphReader) -> dict[str, Any]:
    """Return the config that a graph of this family has; raise Missing if a part of it is absent."""
    moe, windows = f"{graph.first}.block_sparse_moe", graph.windows()
    router: Any = graph.op(moe, "router").op
    heads = {name: value for name, value in graph.heads().items() if name != "attention_bias"}
    return {
        **graph.common(),
        **heads,
        "sliding_window": windows[0] if windows else None,
        "intermediate_size": graph.weight(f"{graph.expert(f'{moe}.experts')}.w1.weight")[0],
        "num_local_experts": int(router.experts),
        "num_experts_per_tok": int(router.top_k),
        "hidden_act": graph.activation(),
    }
