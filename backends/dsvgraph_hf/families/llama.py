"""Llama: a dense decoder with grouped queries."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, ClassVar

from dsvgraph_hf.config import text
from dsvgraph_hf.config.fields import Count, HubConfig
from dsvgraph_hf.config.text import Draft, Row
from dsvgraph_hf.config.unread import Values
from dsvgraph_hf.exporting.facts import Facts


class GroupedQueries(HubConfig):
    """What families with grouped-query attention share."""

    num_key_value_heads: Count | None = None
    head_dim: Count | None = None
    attention_bias: bool = False

    @property
    def key_heads(self) -> int:
        """Heads of keys and values."""
        return self.num_key_value_heads or self.num_attention_heads

    @property
    def width(self) -> int:
        """The size of one head."""
        return self.head_dim or self.hidden_size // self.num_attention_heads

    def conflicts(self) -> Iterator[tuple[str, str]]:
        heads = self.num_attention_heads
        if heads % self.key_heads:
            yield (
                "num_key_value_heads",
                f"`num_key_value_heads` must divide `num_attention_heads`: {self.key_heads} and {heads}",
            )
        if self.head_dim is None and self.hidden_size % heads:
            yield (
                "hidden_size",
                f"`hidden_size` is no multiple of `num_attention_heads`: {self.hidden_size} and {heads}",
            )
        if self.width % 2:
            field = "hidden_size" if self.head_dim is None else "head_dim"
            yield field, f"`head_dim` must be even, rope turns pairs: {self.width}"

    def attention(self) -> tuple[Row, ...]:
        """The group of attention. A head's size is said where it is not the usual one."""
        heads = Row("num_key_value_heads", str(self.key_heads), text.row(self, "num_key_value_heads").why)
        rows = [text.row(self, "num_attention_heads"), heads]
        if self.width * self.num_attention_heads != self.hidden_size:
            rows.append(text.row(self, "head_dim"))
        if self.attention_bias and not type(self).model_fields["attention_bias"].default:
            rows.append(text.row(self, "attention_bias", "on q_proj, k_proj, v_proj and o_proj"))
        return (*rows, *text.rope_rows(self.rope))


class Config(GroupedQueries):
    """The fields of LlamaConfig."""

    fixed: ClassVar[dict[str, Values]] = {"is_llama_config": (True,)}
    unused: ClassVar[frozenset[str]] = frozenset({"max_window_layers"})

    mlp_bias: bool = False

    def conflicts(self) -> Iterator[tuple[str, str]]:
        yield from super().conflicts()
        yield from self.alike()


def draft(c: Config) -> Draft:
    """The template."""
    biases = [text.row(c, "mlp_bias", "on gate_proj, up_proj and down_proj")] if c.mlp_bias else []
    feed_forward = (text.row(c, "intermediate_size"), *biases, text.hidden_act(c))
    return Draft(
        "Llama",
        f"Llama decoder, {c.num_hidden_layers} layers of width {c.hidden_size}.",
        text.notes(c),
        ("gqa", "mlp", "decoder"),
        (text.sizes(c), c.attention(), feed_forward),
        text.decoder(c, text.layers("layers", "embed", attn="gqa")),
        (text.LOGITS,),
        (text.NEXT,),
        (text.NORMAL, text.GAINS, *([text.BIASES] if c.attention_bias or c.mlp_bias else [])),
    )


def config(f: Facts) -> dict[str, Any]:
    """What a config.json would say of a graph, if it is of this family."""
    mlp = f"{f.first}.mlp"
    return {
        **f.common(),
        **f.queries(),
        "intermediate_size": f.weight(f"{mlp}.gate_proj.weight")[0],
        "mlp_bias": f.has(f"{mlp}.gate_proj.bias"),
        "hidden_act": f.act(),
    }
