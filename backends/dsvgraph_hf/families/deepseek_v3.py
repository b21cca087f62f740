"""DeepSeek-V3: sigmoid scores, groups of experts, a chain of multi-token prediction."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, ClassVar

from pydantic import Field

from dsvgraph_hf.config import text
from dsvgraph_hf.config.fields import Count, Positive
from dsvgraph_hf.config.text import Draft, Row
from dsvgraph_hf.exporting.facts import Facts
from dsvgraph_hf.families.deepseek import Latent, latent_config

MTP = """\
mtp_layer: {h: norm, ids: input_ids, embed: embed.weight, head: lm_head.weight}
at: model.layers
repeat: num_nextn_predict_layers"""
MTP_LOSS = "{cross_entropy: mtp_logits, target: input_ids, shift: depth + 1, weight: 0.3 / num_nextn_predict_layers}"


class Config(Latent):
    """The fields of DeepseekV3Config."""

    aliases: ClassVar[dict[str, str]] = {
        "num_local_experts": "n_routed_experts",
        "num_mtp_layers": "num_nextn_predict_layers",
    }
    fixed: ClassVar[dict[str, tuple[Any, ...]]] = {
        "scoring_func": ("sigmoid",),
        "topk_method": ("noaux_tc",),
    }

    scores: ClassVar[str] = "chosen by sigmoid scores and a bias: topk_method noaux_tc"

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

    def conflicts(self) -> Iterator[tuple[str, str]]:
        yield from super().conflicts()
        if self.n_group > 1 and self.n_routed_experts // self.n_group < 2:
            words = f"{self.n_routed_experts} experts in {self.n_group}"
            yield "n_group", f"a group counts its two best experts, so `n_group` leaves two or more in each: {words}"


def draft(c: Config) -> Draft:
    """The template."""
    mtp = c.num_nextn_predict_layers > 0
    named = text.row(c, "num_nextn_predict_layers")
    depth = [Row(named.name, named.text, named.why or "D, the depth of the MTP chain")] if mtp else []
    groups = [text.row(c, name) for name in ("n_group", "topk_group", "norm_topk_prob")]
    routed = bool(c.sparse) or mtp
    return Draft(
        "DeepSeek-V3",
        f"DeepSeek-V3 decoder, {c.num_hidden_layers} layers of width {c.hidden_size} (arXiv 2412.19437).",
        text.notes(c),
        ("mla", "mlp", "moe", "decoder", *(["mtp"] if mtp else [])),
        (
            text.sizes(c, *c.depth(), *depth),
            c.latent(text.row(c, "rope_interleave")),
            c.experts(routed, *groups),
        ),
        (
            *c.body("moe"),
            *([Row("mtp", MTP, "continues the numbering")] if mtp else []),
        ),
        (text.LOGITS, *([Row("mtp_logits", "mtp.logits", "stacked: [D, B, T, vocab_size]")] if mtp else [])),
        (text.NEXT, *_losses(mtp, routed)),
        (
            text.NORMAL,
            text.GAINS,
            *([text.BIASES] if c.attention_bias else []),
            *([Row('"**.e_score_correction_bias"', "zeros")] if routed else []),
        ),
    )


def _losses(mtp: bool, routed: bool) -> Iterator[Row]:
    """What the report trains with: config.json does not say."""
    if mtp:
        yield Row("mtp", MTP_LOSS, "arXiv 2412.19437, equation 25; 0.3 at first (section 4.2)")
    if routed:
        yield Row("balance", '{sequence_balance: "**.gate", weight: 0.0001}', "equations 17 to 20")
        yield Row("bias", '{bias_update: "**.gate", speed: 0.001}', "section 2.1.2")


def config(f: Facts) -> dict[str, Any]:
    """What a config.json would say of a graph, if it is of this family."""
    interleave: Any = f.op(f.first, "rope").op
    chain = {"num_nextn_predict_layers": len(f.heads), "rope_interleave": interleave.interleave}
    return {**latent_config(f), **chain}
