"""Llama: a dense decoder with grouped queries."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, ClassVar

from dsvgraph_hf.config import spec_text
from dsvgraph_hf.config.graph_reader import GraphReader
from dsvgraph_hf.config.ignored import Values
from dsvgraph_hf.config.spec_text import SpecDraft
from dsvgraph_hf.families.shared.grouped_queries import GroupedQueries


class Config(GroupedQueries):
    """The attributes of LlamaConfig."""

    architecture: ClassVar[str] = "LlamaForCausalLM"
    fixed: ClassVar[dict[str, Values]] = {"is_llama_config": (True,)}
    ignored: ClassVar[frozenset[str]] = frozenset({"max_window_layers"})

    mlp_bias: bool = False

    def conflicts(self) -> Iterator[tuple[str, str]]:
        yield from super().conflicts()
        yield from self.layer_types_conflict()


def to_spec(c: Config) -> SpecDraft:
    """Return the spec that a config means."""
    biases = [spec_text.field_line(c, "mlp_bias", "on gate_proj, up_proj and down_proj")] if c.mlp_bias else []
    mlp = (spec_text.field_line(c, "intermediate_size"), *biases, spec_text.activation_line(c))
    return SpecDraft(
        name="Llama",
        doc=spec_text.doc(c, "Llama decoder"),
        include=("gqa", "mlp", "decoder"),
        config=(spec_text.size_lines(c), c.attention_lines(), mlp),
        body=spec_text.decoder_body(c, spec_text.layers_line("layers", "embed", attn="gqa")),
        init=c.init_lines(c.attention_bias or c.mlp_bias),
    )


def from_graph(graph: GraphReader) -> dict[str, Any]:
    """Return the config that a graph of this family has; raise Missing if a part of it is absent."""
    mlp = f"{graph.first}.mlp"
    return {
        **graph.common(),
        **graph.heads(),
        "intermediate_size": graph.weight(f"{mlp}.gate_proj.weight")[0],
        "mlp_bias": graph.has(f"{mlp}.gate_proj.bias"),
        "hidden_act": graph.activation(),
    }
