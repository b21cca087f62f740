"""What DeepSeek-V2 and DeepSeek-V3 share: latent attention, dense layers and then experts."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, ClassVar

from dsvgraph_hf.config import text
from dsvgraph_hf.config.fields import Count, HubConfig, Positive
from dsvgraph_hf.config.text import Row
from dsvgraph_hf.config.unread import NULL, Values
from dsvgraph_hf.exporting.facts import Facts

LATENT_EPS = 1e-6  # of the norms on latents, whatever rms_norm_eps says: the modeling code leaves it out


class Latent(HubConfig):
    """The fields of both families. ``head_dim`` and ``qk_head_dim`` follow from others."""

    scores: ClassVar[str] = ""
    foreign: ClassVar[dict[str, Values]] = {"rope_interleaved": NULL}
    unused: ClassVar[frozenset[str]] = frozenset({"max_window_layers"})

    attention_bias: bool = False
    kv_lora_rank: Count = 512
    q_lora_rank: Count | None = 1536
    qk_nope_head_dim: Count = 128
    qk_rope_head_dim: Count = 64
    v_head_dim: Count = 128
    num_key_value_heads: Count | None = None
    head_dim: Count | None = None
    qk_head_dim: Count | None = None
    first_k_dense_replace: int = 0
    moe_layer_freq: Count = 1
    n_routed_experts: Count
    n_shared_experts: Count
    num_experts_per_tok: Count
    moe_intermediate_size: Count
    n_group: Count | None
    topk_group: Count | None
    routed_scaling_factor: Positive

    @property
    def groups(self) -> tuple[int, int]:
        """Groups of experts, and how many of them are open to a token."""
        return self.n_group or 1, self.topk_group or 1

    @property
    def sparse(self) -> list[int]:
        """Numbers of the layers with experts."""
        dense, step = self.first_k_dense_replace, self.moe_layer_freq
        return [i for i in range(self.num_hidden_layers) if i >= dense and i % step == 0]

    def conflicts(self) -> Iterator[tuple[str, str]]:
        yield from self.alike()
        derived = {
            "num_key_value_heads": ("num_attention_heads", self.num_attention_heads),
            "head_dim": ("qk_rope_head_dim", self.qk_rope_head_dim),
            "qk_head_dim": ("qk_nope_head_dim + qk_rope_head_dim", self.qk_nope_head_dim + self.qk_rope_head_dim),
        }
        for field, (name, wanted) in derived.items():
            found = getattr(self, field)
            if found not in (None, wanted):
                yield field, f"`{field}` must be {name}: {found} and {wanted}"
        if self.qk_rope_head_dim % 2:
            yield "qk_rope_head_dim", f"`qk_rope_head_dim` must be even, rope turns pairs: {self.qk_rope_head_dim}"
        yield from self._routing()

    def _routing(self) -> Iterator[tuple[str, str]]:
        experts, (groups, kept) = self.n_routed_experts, self.groups
        if experts % groups:
            yield "n_routed_experts", f"`n_routed_experts` must be a multiple of `n_group`: {experts} and {groups}"
        elif kept > groups:
            yield "topk_group", f"`topk_group` is at most `n_group`: {kept} and {groups}"
        elif self.num_experts_per_tok > experts // groups * kept:
            words = f"`num_experts_per_tok` is {self.num_experts_per_tok}, and"
            yield "num_experts_per_tok", f"{words} {experts // groups * kept} of `n_routed_experts` are open to a token"

    # -- the rows ----------------------------------------------------------------------------

    def depth(self) -> tuple[Row, ...]:
        """How many layers are dense."""
        return (text.row(self, "first_k_dense_replace"),) if self._mixed() else ()

    def latent(self, interleave: Row) -> tuple[Row, ...]:
        """The group of attention."""
        names = ["num_attention_heads", *(["q_lora_rank"] if self.q_lora_rank else [])]
        names += ["kv_lora_rank", "qk_nope_head_dim", "qk_rope_head_dim", "v_head_dim"]
        rows = [*self._variant(), *(text.row(self, name) for name in names)]
        if self.attention_bias:
            rows.append(text.row(self, "attention_bias", "on q_a_proj, kv_a_proj_with_mqa and o_proj"))
        rows += text.rope_rows(self.rope, interleave)
        if self.rope.softmax:
            rows.append(Row("softmax_scale", text.SOFTMAX, "YaRN scales the scores too, where mscale_all_dim is not 0"))
        return tuple(rows)

    def _variant(self) -> Iterator[Row]:
        """Which attention, where it is not the one that layers have of themselves."""
        name, why = ("mla", "") if self.q_lora_rank else ("mla_full_query", "q_lora_rank: null")
        if self.rms_norm_eps != LATENT_EPS:
            why = "; ".join(w for w in (why, "norms on latents have an epsilon of their own (modeling code)") if w)
            yield Row("attn", f"{{{name}: , rms_norm_eps: 1e-6}}", why)
        elif why:
            yield Row("attn", name, why)

    def experts(self, routed: bool, *more: Row) -> tuple[Row, ...]:
        """The group of the feed-forward layers; ``routed`` where any of them has experts."""
        layers = self.num_hidden_layers
        wide = [text.row(self, "intermediate_size", "of the dense layers" if self.sparse else "")]
        return (
            *(wide if len(self.sparse) < layers else []),
            *(self._routed(more) if routed else ()),
            text.hidden_act(self),
        )

    def _routed(self, more: tuple[Row, ...]) -> tuple[Row, ...]:
        names = ("moe_intermediate_size", "n_routed_experts", "n_shared_experts", "num_experts_per_tok")
        why = {"n_routed_experts": self.scores if "n_routed_experts" in self.given else ""}
        return (*(text.row(self, n, why.get(n, "")) for n in names), *more, text.row(self, "routed_scaling_factor"))

    def body(self, moe: str) -> tuple[Row, ...]:
        """The rows of the layers: dense ones, then those with the block ``moe``."""
        if self.moe_layer_freq > 1:
            ffn = f"{moe} if index >= {self.first_k_dense_replace} and index % {self.moe_layer_freq} == 0 else mlp"
            why = "moe_layer_freq: DeepSeek's modeling code; transformers takes no notice of it"
            return text.decoder(self, text.layers("layers", "embed", why=why, ffn=ffn))
        if not self._mixed():
            return text.decoder(self, text.layers("layers", "embed", ffn=moe if self.sparse else ""))
        dense = text.layers("dense", "embed", "first_k_dense_replace")
        rest = "num_hidden_layers - first_k_dense_replace"
        return text.decoder(self, dense, text.layers("sparse", "dense", rest, ffn=moe))

    def _mixed(self) -> bool:
        return self.moe_layer_freq == 1 and 0 < self.first_k_dense_replace < self.num_hidden_layers


def latent_config(f: Facts) -> dict[str, Any]:
    """What a config.json would say of a graph's latent attention and its layers."""
    at = f"{f.first}.self_attn"
    shapes = {port: type_.shape for port, type_ in f.attention.ins.items()}
    heads, query, value = int(shapes["q"][2]), int(shapes["q"][3]), int(shapes["v"][3])  # type: ignore[arg-type]
    rotated = int(f.op(at, "rope").ins["x"].shape[-1])  # type: ignore[arg-type]
    found = {
        **f.common(),
        "num_attention_heads": heads,
        "num_key_value_heads": heads,
        "q_lora_rank": f.weight(f"{at}.q_a_proj.weight")[0] if f.has(f"{at}.q_a_proj.weight") else None,
        "kv_lora_rank": f.weight(f"{at}.kv_b_proj.weight")[1],
        "qk_nope_head_dim": query - rotated,
        "qk_rope_head_dim": rotated,
        "v_head_dim": value,
        "attention_bias": f.has(f"{at}.o_proj.bias"),
        "first_k_dense_replace": len(f.dense()),
        "hidden_act": f.act(),
    }
    dense = [f"{f.layer(i)}.mlp.gate_proj.weight" for i in f.dense()[:1]]
    return {**found, "intermediate_size": f.weight(dense[0])[0] if dense else found["hidden_size"], **_experts(f)}


def _experts(f: Facts) -> dict[str, Any]:
    """The experts of the first layer that has any."""
    if not f.routed():
        return {}
    mlp = f"{f.layer(f.routed()[0])}.mlp"
    router: Any = f.op(mlp, "router").op
    width = f.weight(f"{f.expert(f'{mlp}.experts')}.gate_proj.weight")[0]
    return {
        "n_routed_experts": int(router.experts),
        "n_shared_experts": f.weight(f"{mlp}.shared_experts.gate_proj.weight")[0] // width,
        "num_experts_per_tok": int(router.top_k),
        "moe_intermediate_size": width,
        "n_group": int(router.groups),
        "topk_group": int(router.top_groups),
        "norm_topk_prob": router.normalize,
        "routed_scaling_factor": router.scaling,
    }
