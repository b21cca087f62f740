"""Qwen3: a dense decoder with normalized queries and keys."""

from __future__ import annotations

from typing import Any, ClassVar

from dsvgraph_hf.config import spec_text
from dsvgraph_hf.config.graph_reader import GraphReader
from dsvgraph_hf.config.hub_config import Count
from dsvgraph_hf.config.ignored import NORMED, Values
from dsvgraph_hf.config.spec_text import SpecDraft
from dsvgraph_hf.families.shared.grouped_queries import LayeredWindows


class Config(LayeredWindows):
    """The attributes of Qwen3Config."""

    architecture: ClassVar[str] = "Qwen3ForCausalLM"
    foreign: ClassVar[dict[str, Values]] = NORMED
    block: ClassVar[str] = "gqa_qk_norm"

    head_dim: Count = 128


def to_spec(c: Config) -> SpecDraft:
    """Return the spec that a config means."""
    attn, comment = c.attention_block()
    mlp = (spec_text.field_line(c, "intermediate_size"), spec_text.activation_line(c))
    return SpecDraft(
        name="Qwen3",
        doc=spec_text.doc(c, "Qwen3 decoder", "2505.09388"),
        include=(*c.include(), "mlp", "decoder"),
        config=(spec_text.size_lines(c), c.attention_lines(), mlp),
        body=spec_text.decoder_body(c, spec_text.layers_line("layers", "embed", comment=comment, attn=attn)),
        init=c.init_lines(),
    )


def from_graph(graph: GraphReader) -> dict[str, Any]:
    """Return the config that a graph of this family has; raise Missing if a part of it is absent."""
    return {
        **graph.common(),
        **graph.heads(),
        **graph.layer_windows(),
        "use_sliding_window": any(graph.windows()),
        "intermediate_size": graph.weight(f"{graph.first}.mlp.gate_proj.weight")[0],
        "hidden_act": graph.activation(),
    }
