"""Mixtral: two of eight large experts, in a layer whose parts have Mistral's names."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, ClassVar

from dsvgraph_hf.config import text
from dsvgraph_hf.config.fields import Count, Positive
from dsvgraph_hf.config.text import Draft
from dsvgraph_hf.exporting.facts import Facts
from dsvgraph_hf.families.llama import GroupedQueries
from dsvgraph_hf.families.sliding import Sliding


class Config(Sliding):
    """The fields of MixtralConfig. A window is that of all layers (modeling code)."""

    aliases: ClassVar[dict[str, str]] = {"num_experts": "num_local_experts"}
    fixed: ClassVar[dict[str, tuple[Any, ...]]] = {"attention_bias": (False,), "router_jitter_noise": (0.0, 0)}
    unused: ClassVar[frozenset[str]] = frozenset({"max_window_layers"})
    theta: ClassVar[float] = 1e6

    max_position_embeddings: Count = 131072
    rms_norm_eps: Positive = 1e-5
    num_key_value_heads: Count | None = 8
    use_sliding_window: bool | None = None
    num_experts_per_tok: Count = 2
    num_local_experts: Count = 8

    @property
    def windows(self) -> list[bool]:
        return [self.sliding_window is not None] * self.num_hidden_layers

    def conflicts(self) -> Iterator[tuple[str, str]]:
        yield from GroupedQueries.conflicts(self)
        yield from self.alike()
        if self.use_sliding_window is False and self.sliding_window is not None:
            yield "use_sliding_window", "`use_sliding_window` is false, and every layer has the `sliding_window`"
        if self.num_experts_per_tok > self.num_local_experts:
            words = f"{self.num_experts_per_tok} and {self.num_local_experts}"
            yield "num_experts_per_tok", f"`num_experts_per_tok` is at most `num_local_experts`: {words}"


def draft(c: Config) -> Draft:
    """The template."""
    attn, why = c.attn()
    given = {"attn": attn} if attn != "gqa" else {}  # the layer's own
    experts = [text.row(c, name) for name in ("num_local_experts", "num_experts_per_tok")]
    return Draft(
        "Mixtral",
        f"Mixtral decoder, {c.num_hidden_layers} layers of width {c.hidden_size} (arXiv 2401.04088).",
        text.notes(c),
        ("gqa", *(["sliding"] if c.window() else []), "mixtral"),
        (
            text.sizes(c),
            (*c.attention(), *c.window()),
            (text.row(c, "intermediate_size", "of one expert"), *experts, text.hidden_act(c)),
        ),
        text.decoder(c, text.layers("layers", "embed", block="mixtral_layer", why=why, **given)),
        (text.LOGITS,),
        (text.NEXT,),
        (text.NORMAL, text.GAINS),
    )


def config(f: Facts) -> dict[str, Any]:
    """What a config.json would say of a graph, if it is of this family."""
    moe, window = f"{f.first}.block_sparse_moe", f.windows()[:1]
    router: Any = f.op(moe, "router").op
    heads = {name: value for name, value in f.queries().items() if name != "attention_bias"}
    return {
        **f.common(),
        **heads,
        "sliding_window": window[0] if window else None,
        "intermediate_size": f.weight(f"{f.expert(f'{moe}.experts')}.w1.weight")[0],
        "num_local_experts": int(router.experts),
        "num_experts_per_tok": int(router.top_k),
        "hidden_act": f.act(),
    }
