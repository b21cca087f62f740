"""DeepSeek-V2: softmax scores that are not renormalized, with and without groups of experts."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, ClassVar, Final, Literal

from pydantic import Field

from dsvgraph_hf.config.graph_reader import GraphReader
from dsvgraph_hf.config.hub_config import Count, Positive
from dsvgraph_hf.config.ignored import Values
from dsvgraph_hf.config.spec_text import NEXT_TOKEN, SpecDraft, SpecLine, doc, size_lines
from dsvgraph_hf.families.shared.latent_attention import LatentAttention, attributes_of

GREEDY: Final = "greedy"
BALANCE = SpecLine("balance", '{sequence_balance: "**.gate", weight: 0.001}', "arXiv 2405.04434, equations 23 to 25")
"""The report's; aux_loss_alpha of config.json is the same number."""


class Config(LatentAttention):
    """The attributes of DeepseekV2Config."""

    architecture: ClassVar[str] = "DeepseekV2ForCausalLM"
    attribute_map: ClassVar[dict[str, str]] = {"num_experts": "n_routed_experts"}
    fixed: ClassVar[dict[str, Values]] = {
        "mlp_bias": (False,),
        "norm_topk_prob": (False, None),  # DeepSeek's code then leaves out the scaling, transformers the norm
        "scoring_func": ("softmax",),
    }
    routing_comment: ClassVar[str] = "chosen by softmax scores, not renormalised"

    first_k_dense_replace: int = Field(default=0, ge=0)
    n_routed_experts: Count = 64
    n_shared_experts: Count = 2
    num_experts_per_tok: Count
    moe_intermediate_size: Count = 1407
    n_group: Count | None = None
    topk_group: Count | None = None
    topk_method: Literal["greedy", "group_limited_greedy"] = GREEDY
    routed_scaling_factor: Positive = 1.0

    @property
    def groups(self) -> tuple[int, int]:
        return (1, 1) if self.topk_method == GREEDY else super().groups

    def conflicts(self) -> Iterator[tuple[str, str]]:
        yield from super().conflicts()
        for field in ("n_group", "topk_group"):
            if self.topk_method != GREEDY and getattr(self, field) is None:
                yield field, f"`{field}` is missing: topk_method `{self.topk_method}` needs it"


def to_spec(c: Config) -> SpecDraft:
    """Return the spec that a config means."""
    groups, chosen = c.groups
    comment = f"topk_method: {c.topk_method}" + (", no groups" if c.topk_method == GREEDY else "")
    routing = (SpecLine("n_group", str(groups), comment), SpecLine("topk_group", str(chosen)))
    interleave = SpecLine("rope_interleave", "true", "always so in DeepSeek-V2")
    return SpecDraft(
        name="DeepSeek-V2",
        doc=doc(c, "DeepSeek-V2 decoder", "2405.04434"),
        include=("mla", "mlp", "moe", "decoder"),
        config=(
            size_lines(c, *c.depth_lines()),
            c.attention_lines(interleave),
            c.mlp_lines(bool(c.sparse_layers), *routing),
        ),
        body=c.body_lines("moe_softmax"),
        loss=(NEXT_TOKEN, BALANCE) if c.sparse_layers else (NEXT_TOKEN,),
        init=c.init_lines(),
    )


def from_graph(graph: GraphReader) -> dict[str, Any]:
    """Return the config that a graph of this family has; raise Missing if a part of it is absent."""
    found = attributes_of(graph)
    method = GREEDY if found.get("n_group", 1) == 1 else "group_limited_greedy"
    return {"num_experts_per_tok": 1, **found, "topk_method": method}
