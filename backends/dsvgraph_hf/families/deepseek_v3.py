"""DeepSeek-V3: sigmoid scores, groups of experts, a chain of multi-token prediction."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, ClassVar

from pydantic import Field

from dsvgraph_hf.config.graph_reader import GraphReader
from dsvgraph_hf.config.hub_config import Count, Positive
from dsvgraph_hf.config.ignored import Values
from dsvgraph_hf.config.spec_text import (
    LOGITS,
    NEXT_TOKEN,
    SpecDraft,
    SpecLine,
    doc,
    field_line,
    field_lines,
    size_lines,
)
from dsvgraph_hf.families.shared.latent_attention import LatentAttention, attributes_of

MTP = """\
mtp_layer: {h: norm, ids: input_ids, embed: embed.weight, head: lm_head.weight}
at: model.layers
repeat: num_nextn_predict_layers"""
MTP_LOSS = "{cross_entropy: mtp_logits, target: input_ids, shift: depth + 1, weight: 0.3 / num_nextn_predict_layers}"


class Config(LatentAttention):
    """The attributes of DeepseekV3Config."""

    architecture: ClassVar[str] = "DeepseekV3ForCausalLM"
    other_names: ClassVar[frozenset[str]] = frozenset({"kimi_k2"})
    """Kimi K2's model card: DeepSeek-V3's class and weights, by another name so that servers tell the two apart."""
    attribute_map: ClassVar[dict[str, str]] = {
        "num_local_experts": "n_routed_experts",
        "num_mtp_layers": "num_nextn_predict_layers",
    }
    fixed: ClassVar[dict[str, Values]] = {"scoring_func": ("sigmoid",), "topk_method": ("noaux_tc",)}
    routing_comment: ClassVar[str] = "chosen by sigmoid scores and a bias: topk_method noaux_tc"

    max_position_embeddings: Count = 4096
    first_k_dense_replace: int = Field(default=3, ge=0)
    num_nextn_predict_layers: int = Field(default=1, ge=0, le=1000)
    rope_interleave: bool = True
    n_routed_experts: Count = 256
    n_shared_experts: Count = 1
    num_experts_per_tok: Count = 8
    moe_intermediate_size: Count = 2048
    n_group: Count = 8
    topk_group: Count = 4
    norm_topk_prob: bool = True
    routed_scaling_factor: Positive = 2.5

    @property
    def has_experts(self) -> bool:
        """Whether a layer has experts; those of the MTP chain all do."""
        return bool(self.sparse_layers) or self.num_nextn_predict_layers > 0

    def conflicts(self) -> Iterator[tuple[str, str]]:
        yield from super().conflicts()
        if self.n_group > 1 and self.n_routed_experts // self.n_group < 2:
            words = f"{self.n_routed_experts} experts in {self.n_group}"
            yield "n_group", f"a group counts its two best experts, so `n_group` leaves two or more in each: {words}"


def to_spec(c: Config) -> SpecDraft:
    """Return the spec that a config means."""
    mtp = c.num_nextn_predict_layers > 0
    depth = field_line(c, "num_nextn_predict_layers")
    depth = SpecLine(depth.name, depth.text, depth.comment or "D, the depth of the MTP chain")
    mtp_logits = SpecLine("mtp_logits", "mtp.logits", "stacked: [D, B, T, vocab_size]")
    selection_bias = SpecLine('"**.e_score_correction_bias"', "zeros")
    return SpecDraft(
        name="DeepSeek-V3",
        doc=doc(c, "DeepSeek-V3 decoder", "2412.19437"),
        include=("mla", "mlp", "moe", "decoder", *(["mtp"] if mtp else [])),
        config=(
            size_lines(c, *c.depth_lines(), *([depth] if mtp else [])),
            c.attention_lines(field_line(c, "rope_interleave")),
            c.mlp_lines(c.has_experts, *field_lines(c, "n_group", "topk_group", "norm_topk_prob")),
        ),
        body=(*c.body_lines("moe"), *([SpecLine("mtp", MTP, "continues the numbering")] if mtp else [])),
        out=(LOGITS, *([mtp_logits] if mtp else [])),
        loss=(NEXT_TOKEN, *_losses(mtp, c.has_experts)),
        init=(*c.init_lines(), *([selection_bias] if c.has_experts else [])),
    )


def _losses(mtp: bool, experts: bool) -> Iterator[SpecLine]:
    """Yield the losses of the report; config.json does not have them."""
    if mtp:
        yield SpecLine("mtp", MTP_LOSS, "arXiv 2412.19437, equation 25; 0.3 at first (section 4.2)")
    if experts:
        yield SpecLine("balance", '{sequence_balance: "**.gate", weight: 0.0001}', "equations 17 to 20")
        yield SpecLine("bias", '{bias_update: "**.gate", speed: 0.001}', "section 2.1.2")


def from_graph(graph: GraphReader) -> dict[str, Any]:
    """Return the config that a graph of this family has; raise Missing if a part of it is absent."""
    rope: Any = graph.op(graph.first, "rope").op
    chain = {"num_nextn_predict_layers": len(graph.mtp_heads), "rope_interleave": rope.interleave}
    return {**attributes_of(graph), **chain}
