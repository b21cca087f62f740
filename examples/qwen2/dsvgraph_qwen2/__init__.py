"""Qwen2: a dense decoder with biases on queries, keys and values, and optional sliding windows."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, ClassVar

from pydantic import Field

from dsvgraph_hf.config import spec_text
from dsvgraph_hf.config.graph_reader import GraphReader
from dsvgraph_hf.config.hub_config import Count, LayerType
from dsvgraph_hf.config.ignored import Values
from dsvgraph_hf.config.spec_text import SpecDraft
from dsvgraph_hf.families.shared.grouped_queries import SlidingWindows

ATTENTION = """\
{name}:
  doc: Grouped-query attention with biases on queries, keys and values (Qwen2, arXiv 2407.10671).
  args:
    hidden_size:
    num_attention_heads:
    num_key_value_heads: num_attention_heads
    head_dim: hidden_size // num_attention_heads
{args}\
    rope_theta: 10000
    rope_scaling: {{}}
  in:
    x: [B, T, hidden_size]
  body:
    q_proj: {{linear: x, out: [num_attention_heads, head_dim], bias: true}}
    k_proj: {{linear: x, out: [num_key_value_heads, head_dim], bias: true}}
    v_proj: {{linear: x, out: [num_key_value_heads, head_dim], bias: true}}
    query:  {{rope: q_proj, theta: rope_theta, scaling: rope_scaling}}
    key:    {{rope: k_proj, theta: rope_theta, scaling: rope_scaling}}
    attn:   {{attention: {{q: query, k: key, v: v_proj}}{window}}}
    o_proj: {{linear: attn, contract: 2, out: hidden_size}}
  out: o_proj
  cache: [key, v_proj]
"""


class Config(SlidingWindows):
    """The attributes of Qwen2Config."""

    architecture: ClassVar[str] = "Qwen2ForCausalLM"
    fixed: ClassVar[dict[str, Values]] = {"attention_bias": (False,)}
    block: ClassVar[str] = "qwen2_attention"

    max_position_embeddings: Count = 32768
    num_key_value_heads: Count | None = 32
    use_sliding_window: bool = False
    sliding_window: Count | None = 4096
    max_window_layers: int = Field(default=28, ge=0)

    @property
    def sliding_layers(self) -> list[bool]:
        if self.layer_types is not None:
            return super().sliding_layers
        slides = self.use_sliding_window and self.sliding_window is not None
        return [slides and i >= self.max_window_layers for i in range(self.num_hidden_layers)]

    def conflicts(self) -> Iterator[tuple[str, str]]:
        yield from super().conflicts()
        if LayerType.SLIDING in (self.layer_types or ()) and not self.use_sliding_window:
            yield "use_sliding_window", "`use_sliding_window` is false, and `layer_types` has sliding_attention"


def to_spec(c: Config) -> SpecDraft:
    """Return the spec that a config means."""
    attn, comment = c.attention_block()
    slides = c.sliding_layers
    blocks = [] if all(slides) else [ATTENTION.format(name=c.block, args="", window="")]
    if any(slides):
        window = ", window: sliding_window"
        blocks.append(ATTENTION.format(name=f"{c.block}_sliding", args="    sliding_window:\n", window=window))
    mlp = (spec_text.field_line(c, "intermediate_size"), spec_text.activation_line(c))
    return SpecDraft(
        name="Qwen2",
        doc=spec_text.doc(c, "Qwen2 decoder", "2407.10671"),
        include=("mlp", "decoder"),
        blocks="\n".join(blocks),
        config=(spec_text.size_lines(c), c.attention_lines(), mlp),
        body=spec_text.decoder_body(c, spec_text.layers_line("layers", "embed", comment=comment, attn=attn)),
        init=c.init_lines(biases=True),
    )


def from_graph(graph: GraphReader) -> dict[str, Any]:
    """Return the config that a graph of this family has; raise Missing if a part of it is absent."""
    heads = {name: value for name, value in graph.heads().items() if name != "attention_bias"}
    return {
        **graph.common(),
        **heads,
        **graph.layer_windows(),
        "use_sliding_window": any(graph.windows()),
        "intermediate_size": graph.weight(f"{graph.first}.mlp.gate_proj.weight")[0],
        "hidden_act": graph.activation(),
    }
