"""DeepSeek-V2: softmax scores that are not renormalised, with and without groups of experts."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, ClassVar, Literal

from pydantic import Field

from dsvgraph_hf.config import text
from dsvgraph_hf.config.fields import Count, Positive
from dsvgraph_hf.config.text import Draft, Row
from dsvgraph_hf.exporting.facts import Facts
from dsvgraph_hf.families.deepseek import Latent, latent_config


class Config(Latent):
    """The fields of DeepseekV2Config."""

    aliases: ClassVar[dict[str, str]] = {"num_experts": "n_routed_experts"}
    fixed: ClassVar[dict[str, tuple[Any, ...]]] = {
        "mlp_bias": (False,),
        "norm_topk_prob": (False, None),  # DeepSeek's code then leaves out the scaling, transformers the norm
        "scoring_func": ("softmax",),
    }

    scores: ClassVar[str] = "chosen by softmax scores, not renormalised"

    first_k_dense_replace: int = Field(default=0, ge=0)
    n_routed_experts: Count = 64
    n_shared_experts: Count = 2
    num_experts_per_tok: Count
    moe_intermediate_size: Count = 1407
    n_group: Count | None = None
    topk_group: Count | None = None
    topk_method: Literal["greedy", "group_limited_greedy"] = "greedy"
    routed_scaling_factor: Positive = 1.0

    @property
    def groups(self) -> tuple[int, int]:
        return (1, 1) if self.topk_method == "greedy" else super().groups

    def conflicts(self) -> Iterator[tuple[str, str]]:
        yield from super().conflicts()
        for field in ("n_group", "topk_group"):
            if self.topk_method != "greedy" and getattr(self, field) is None:
                yield field, f"`{field}` is missing: topk_method `{self.topk_method}` needs it"


def draft(c: Config) -> Draft:
    """The template."""
    groups, kept = c.groups
    why = f"topk_method: {c.topk_method}" + (", no groups" if c.topk_method == "greedy" else "")
    routing = (Row("n_group", str(groups), why), Row("topk_group", str(kept)))
    interleave = Row("rope_interleave", "true", "always so in DeepSeek-V2")
    return Draft(
        "DeepSeek-V2",
        f"DeepSeek-V2 decoder, {c.num_hidden_layers} layers of width {c.hidden_size} (arXiv 2405.04434).",
        text.notes(c),
        ("mla", "mlp", "moe", "decoder"),
        (text.sizes(c, *c.depth()), c.latent(interleave), c.experts(bool(c.sparse), *routing)),
        c.body("moe_softmax"),
        (text.LOGITS,),
        (text.NEXT, *_losses(c)),
        (text.NORMAL, text.GAINS, *([text.BIASES] if c.attention_bias else [])),
    )


def _losses(c: Config) -> Iterator[Row]:
    """What the report trains with: config.json's aux_loss_alpha is the same number."""
    if c.sparse:
        yield Row("balance", '{sequence_balance: "**.gate", weight: 0.001}', "arXiv 2405.04434, equations 23 to 25")


def config(f: Facts) -> dict[str, Any]:
    """What a config.json would say of a graph, if it is of this family."""
    found = latent_config(f)
    method = "greedy" if found.get("n_group", 1) == 1 else "group_limited_greedy"
    return {"num_experts_per_tok": 1, **found, "topk_method": method}
