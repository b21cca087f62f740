"""Qwen3's mixture of experts: softmax scores, no shared expert, dense layers where the config says so."""

from __future__ import annotations

from collections.abc import Iterator
from typing import ClassVar

from pydantic import Field

from dsvgraph_hf import text
from dsvgraph_hf.fields import Count
from dsvgraph_hf.text import Draft, Row

from .sliding import Sliding


class Config(Sliding):
    """The fields of Qwen3MoeConfig. A window is that of all layers (modeling code)."""

    aliases: ClassVar[dict[str, str]] = {"num_local_experts": "num_experts"}
    unused: ClassVar[frozenset[str]] = frozenset({"max_window_layers"})
    block: ClassVar[str] = "gqa_qk_norm"

    max_position_embeddings: Count = 32768
    num_key_value_heads: Count = 4
    use_sliding_window: bool = False
    sliding_window: Count | None = 4096
    layer_types: None = None
    decoder_sparse_step: Count = 1
    mlp_only_layers: list[int] | None = None
    moe_intermediate_size: Count = 768
    num_experts_per_tok: Count = 8
    num_experts: Count = Field(default=128)
    norm_topk_prob: bool = False

    @property
    def windows(self) -> list[bool]:
        return [self.use_sliding_window and self.sliding_window is not None] * self.num_hidden_layers

    @property
    def dense(self) -> list[int]:
        """Numbers of the layers without experts."""
        only, step = self.mlp_only_layers or [], self.decoder_sparse_step
        return [i for i in range(self.num_hidden_layers) if i in only or (i + 1) % step]

    def conflicts(self) -> Iterator[tuple[str, str]]:
        yield from super().conflicts()
        if self.num_experts_per_tok > self.num_experts:
            words = f"{self.num_experts_per_tok} and {self.num_experts}"
            yield "num_experts_per_tok", f"`num_experts_per_tok` is at most `num_experts`: {words}"
        for number in self.mlp_only_layers or ():
            if not 0 <= number < self.num_hidden_layers:
                words = f"`mlp_only_layers` names layer {number}, and there are {self.num_hidden_layers}"
                yield "mlp_only_layers", words

    def ffn(self) -> tuple[str, str]:
        """The block of the feed-forward part, layer by layer, and where that comes from."""
        dense, step, layers = self.dense, self.decoder_sparse_step, self.num_hidden_layers
        why = "; ".join(
            n for n, told in (("decoder_sparse_step", step > 1), ("mlp_only_layers", self.mlp_only_layers)) if told
        )
        if not dense or len(dense) == layers:
            return ("mlp" if dense else "moe_routed"), why
        names = text.cycle(["mlp" if i in dense else "moe_routed" for i in range(layers)])
        if len(names) <= 8:
            return text.scalar(names), why
        return f"mlp if {text.among(dense)} else moe_routed", why


def draft(c: Config) -> Draft:
    """The template."""
    (attn, window), (ffn, experts) = c.attn(), c.ffn()
    why = "; ".join(words for words in (window, experts) if words)
    return Draft(
        "Qwen3-MoE",
        f"Qwen3 decoder with experts, {c.num_hidden_layers} layers of width {c.hidden_size} (arXiv 2505.09388).",
        text.notes(c),
        ("gqa", *(["sliding"] if c.window() else []), *(["mlp"] if c.dense else []), "moe", "decoder"),
        (text.sizes(c), (*c.attention(), *c.window()), _feed_forward(c)),
        text.decoder(c, text.layers("layers", "embed", why=why, attn=attn, ffn=ffn)),
        (text.LOGITS,),
        (text.NEXT,),
        (text.NORMAL, text.GAINS, *([text.BIASES] if c.attention_bias else [])),
    )


def _feed_forward(c: Config) -> tuple[Row, ...]:
    names = ("moe_intermediate_size", "num_experts", "num_experts_per_tok", "norm_topk_prob")
    wide = [text.row(c, "intermediate_size", "of the dense layers")] if c.dense else []
    routed = [text.row(c, name) for name in names] if len(c.dense) < c.num_hidden_layers else []
    return (*wide, *routed, text.hidden_act(c))
