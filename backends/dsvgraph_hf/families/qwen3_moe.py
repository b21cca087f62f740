"""Qwen3's mixture of experts: softmax scores, no shared expert, dense layers where the config says so."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, ClassVar

from pydantic import Field

from dsvgraph_hf.config import text
from dsvgraph_hf.config.fields import Count
from dsvgraph_hf.config.text import Draft, Row
from dsvgraph_hf.config.unread import NORMED, Values
from dsvgraph_hf.exporting.facts import Facts
from dsvgraph_hf.families.llama import GroupedQueries
from dsvgraph_hf.families.sliding import Sliding


class Config(Sliding):
    """The fields of Qwen3MoeConfig. A window is that of all layers (modeling code)."""

    aliases: ClassVar[dict[str, str]] = {"num_local_experts": "num_experts"}
    unused: ClassVar[frozenset[str]] = frozenset({"max_window_layers"})
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
    def windows(self) -> list[bool]:
        return [self.use_sliding_window and self.sliding_window is not None] * self.num_hidden_layers

    @property
    def dense(self) -> list[int]:
        """Numbers of the layers without experts."""
        only, step = self.mlp_only_layers or [], self.decoder_sparse_step
        return [i for i in range(self.num_hidden_layers) if i in only or (i + 1) % step]

    def conflicts(self) -> Iterator[tuple[str, str]]:
        yield from GroupedQueries.conflicts(self)
        yield from self.alike()
        if self.num_experts_per_tok > self.num_experts:
            words = f"{self.num_experts_per_tok} and {self.num_experts}"
            yield "num_experts_per_tok", f"`num_experts_per_tok` is at most `num_experts`: {words}"
        for number in self.mlp_only_layers or ():
            if not 0 <= number < self.num_hidden_layers:
                words = f"`mlp_only_layers` names layer {number}, and there are {self.num_hidden_layers}"
                yield "mlp_only_layers", words

    def ffn(self) -> tuple[str, str]:
        """The block of the feed-forward part, layer by layer, and where that comes from."""
        dense, layers = self.dense, self.num_hidden_layers
        why = "decoder_sparse_step, mlp_only_layers" if dense else ""
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


def config(f: Facts) -> dict[str, Any]:
    """What a config.json would say of a graph, if it is of this family."""
    window, dense = f.windows()[:1], f.dense()
    step = next((s for s in range(1, len(f.layers) + 1) if dense == [i for i in f.layers if (i + 1) % s]), 0)
    found = {
        **f.common(),
        **f.queries(),
        "use_sliding_window": any(window),
        "sliding_window": window[0] if window else None,
        "decoder_sparse_step": step or 1,
        "mlp_only_layers": [] if step else dense,
        "hidden_act": f.act(),
    }
    width = f.weight(f"{f.layer(dense[0])}.mlp.gate_proj.weight")[0] if dense else found["hidden_size"]
    return {**found, "intermediate_size": width, **experts(f, "num_experts")}


def experts(f: Facts, name: str) -> dict[str, Any]:
    """The experts of the first layer that has any; ``name`` is what the family calls their number."""
    if not f.routed():
        return {}
    mlp = f"{f.layer(f.routed()[0])}.mlp"
    router: Any = f.op(mlp, "router").op
    return {
        name: int(router.experts),
        "num_experts_per_tok": int(router.top_k),
        "norm_topk_prob": router.normalize,
        "moe_intermediate_size": f.weight(f"{f.expert(f'{mlp}.experts')}.gate_proj.weight")[0],
    }
