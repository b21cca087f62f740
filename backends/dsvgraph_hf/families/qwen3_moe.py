"""Qwen3's mixture of experts: softmax scores, no shared expert, dense layers where the config says so."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, ClassVar

from pydantic import Field

from dsvgraph_hf.config import spec_text
from dsvgraph_hf.config.graph_reader import GraphReader
from dsvgraph_hf.config.hub_config import Count
from dsvgraph_hf.config.ignored import NORMED, Values
from dsvgraph_hf.config.spec_text import SpecDraft, SpecLine
from dsvgraph_hf.families.shared.grouped_queries import MAX_CYCLE, GroupedQueries, SlidingWindows


class Config(SlidingWindows):
    """The attributes of Qwen3MoeConfig. A window is that of all layers (modeling code)."""

    architecture: ClassVar[str] = "Qwen3MoeForCausalLM"
    attribute_map: ClassVar[dict[str, str]] = {"num_local_experts": "num_experts"}
    ignored: ClassVar[frozenset[str]] = frozenset({"max_window_layers"})
    foreign: ClassVar[dict[str, Values]] = NORMED
    block: ClassVar[str] = "gqa_qk_norm"

    max_position_embeddings: Count = 32768
    num_key_value_heads: Count = 4
    use_sliding_window: bool = False
    sliding_window: Count | None = 4096
    decoder_sparse_step: Count = 1
    mlp_only_layers: list[int] | None = None
    moe_intermediate_size: Count = 768
    num_experts_per_tok: Count = 8
    num_experts: Count = Field(default=128)
    norm_topk_prob: bool = False

    @property
    def sliding_layers(self) -> list[bool]:
        return [self.use_sliding_window and self.sliding_window is not None] * self.num_hidden_layers

    @property
    def dense_layers(self) -> list[int]:
        """Numbers of the layers without experts."""
        only, step = self.mlp_only_layers or [], self.decoder_sparse_step
        return [i for i in range(self.num_hidden_layers) if i in only or (i + 1) % step]

    def conflicts(self) -> Iterator[tuple[str, str]]:
        yield from GroupedQueries.conflicts(self)
        yield from self.layer_types_conflict()
        yield from self.experts_conflict("num_experts")
        for number in self.mlp_only_layers or ():
            if not 0 <= number < self.num_hidden_layers:
                words = f"`mlp_only_layers` names layer {number}, and there are {self.num_hidden_layers}"
                yield "mlp_only_layers", words

    def mlp_block(self) -> tuple[str, str]:
        """Return the block of the feed-forward part, layer by layer, and the attributes that decide it."""
        dense, layers = self.dense_layers, self.num_hidden_layers
        comment = "decoder_sparse_step, mlp_only_layers" if dense else ""
        if not dense or len(dense) == layers:
            return ("mlp" if dense else "moe_routed"), comment
        names = spec_text.shortest_cycle(["mlp" if i in dense else "moe_routed" for i in range(layers)])
        if len(names) <= MAX_CYCLE:
            return spec_text.scalar(names), comment
        return f"mlp if {spec_text.layer_condition(dense)} else moe_routed", comment

    def mlp_lines(self) -> tuple[SpecLine, ...]:
        """Return the lines of the feed-forward part."""
        names = ("moe_intermediate_size", "num_experts", "num_experts_per_tok", "norm_topk_prob")
        dense = [spec_text.field_line(self, "intermediate_size", "of the dense layers")] if self.dense_layers else []
        sparse = spec_text.field_lines(self, *names) if len(self.dense_layers) < self.num_hidden_layers else ()
        return (*dense, *sparse, spec_text.activation_line(self))


def to_spec(c: Config) -> SpecDraft:
    """Return the spec that a config means."""
    (attn, window), (ffn, experts) = c.attention_block(), c.mlp_block()
    comment = "; ".join(words for words in (window, experts) if words)
    return SpecDraft(
        name="Qwen3-MoE",
        doc=spec_text.doc(c, "Qwen3 decoder with experts", "2505.09388"),
        include=(*c.include(), *(["mlp"] if c.dense_layers else []), "moe", "decoder"),
        config=(spec_text.size_lines(c), c.attention_lines(), c.mlp_lines()),
        body=spec_text.decoder_body(c, spec_text.layers_line("layers", "embed", comment=comment, attn=attn, ffn=ffn)),
        init=c.init_lines(),
    )


def from_graph(graph: GraphReader) -> dict[str, Any]:
    """Return the config that a graph of this family has; raise Missing if a part of it is absent."""
    layers, dense, windows = graph.layers, graph.dense_layers(), graph.windows()
    step = next((s for s in range(1, len(layers) + 1) if dense == [i for i in layers if (i + 1) % s]), 0)
    found = {
        **graph.common(),
        **graph.heads(),
        "use_sliding_window": any(windows[:1]),
        "sliding_window": windows[0] if windows else None,
        "decoder_sparse_step": step or 1,
        "mlp_only_layers": [] if step else dense,
        "hidden_act": graph.activation(),
    }
    width = graph.weight(f"{graph.layer(dense[0])}.mlp.gate_proj.weight")[0] if dense else found["hidden_size"]
    return {**found, "intermediate_size": width, **graph.experts("num_experts")}
