"""Qwen3: norms on queries and keys."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, ClassVar

from pydantic import Field

from dsvgraph_hf.config import text
from dsvgraph_hf.config.fields import FULL, SLIDING, Count
from dsvgraph_hf.config.text import Draft
from dsvgraph_hf.config.unread import NORMED, Values
from dsvgraph_hf.exporting.facts import Facts
from dsvgraph_hf.families.sliding import Sliding, layered_windows


class Config(Sliding):
    """The fields of Qwen3Config."""

    foreign: ClassVar[dict[str, Values]] = NORMED
    block: ClassVar[str] = "gqa_qk_norm"

    max_position_embeddings: Count = 32768
    num_key_value_heads: Count | None = 32
    head_dim: Count = 128
    use_sliding_window: bool = False
    sliding_window: Count | None = 4096
    max_window_layers: int = Field(default=28, ge=0)

    @property
    def windows(self) -> list[bool]:
        if self.layer_types is not None:
            return super().windows
        layers = range(self.num_hidden_layers)
        return [
            self.use_sliding_window and self.sliding_window is not None and i >= self.max_window_layers for i in layers
        ]

    def conflicts(self) -> Iterator[tuple[str, str]]:
        yield from super().conflicts()
        if SLIDING in (self.layer_types or [FULL]) and not self.use_sliding_window:
            yield "use_sliding_window", "`use_sliding_window` is false, and `layer_types` has sliding_attention"


def draft(c: Config) -> Draft:
    """The template."""
    attn, why = c.attn()
    layers = text.layers("layers", "embed", why=why or "", attn=attn)
    return Draft(
        "Qwen3",
        f"Qwen3 decoder, {c.num_hidden_layers} layers of width {c.hidden_size} (arXiv 2505.09388).",
        text.notes(c),
        ("gqa", *(["sliding"] if c.window() else []), "mlp", "decoder"),
        (text.sizes(c), (*c.attention(), *c.window()), (text.row(c, "intermediate_size"), text.hidden_act(c))),
        text.decoder(c, layers),
        (text.LOGITS,),
        (text.NEXT,),
        (text.NORMAL, text.GAINS, *([text.BIASES] if c.attention_bias else [])),
    )


def config(f: Facts) -> dict[str, Any]:
    """What a config.json would say of a graph, if it is of this family."""
    mlp = f"{f.first}.mlp"
    return {
        **f.common(),
        **f.queries(),
        **layered_windows(f),
        "use_sliding_window": any(f.windows()),
        "intermediate_size": f.weight(f"{mlp}.gate_proj.weight")[0],
        "hidden_act": f.act(),
    }
