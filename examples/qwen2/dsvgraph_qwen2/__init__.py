"""Qwen2: a dense decoder with biases on queries, keys and values, and optional sliding windows."""

from __future__ import annotations

from typing import Any, ClassVar

from dsvgraph_hf.config import spec_text
from dsvgraph_hf.config.graph_reader import GraphReader
from dsvgraph_hf.config.ignored import Values
from dsvgraph_hf.config.spec_text import SpecDraft
from dsvgraph_hf.families.shared.grouped_queries import LayeredWindows

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


class Config(LayeredWindows):
    """The attributes of Qwen2Config."""

    architecture: ClassVar[str] = "Qwen2ForCausalLM"
    fixed: ClassVar[dict[str, Values]] = {"attention_bias": (False,)}
    block: ClassVar[str] = "qwen2_attention"


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
