"""DeepSeek-V2 and DeepSeek-V3: multi-head latent attention, and dense layers before layers with experts."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, ClassVar

from dsvgraph_hf.config import spec_text
from dsvgraph_hf.config.graph_reader import GraphReader
from dsvgraph_hf.config.hub_config import Count, HubConfig, Positive
from dsvgraph_hf.config.ignored import NULL, Values
from dsvgraph_hf.config.spec_text import SpecLine

LATENT_EPS = 1e-6  # of the norms on latents: the modeling code does not give them rms_norm_eps


class LatentAttention(HubConfig):
    """The attributes of both families. ``head_dim`` and ``qk_head_dim`` follow from others."""

    routing_comment: ClassVar[str] = ""
    foreign: ClassVar[dict[str, Values]] = {"rope_interleaved": NULL}
    ignored: ClassVar[frozenset[str]] = frozenset({"max_window_layers"})

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
        """Groups of experts, and how many of them a token may choose from."""
        return self.n_group or 1, self.topk_group or 1

    @property
    def sparse_layers(self) -> list[int]:
        """Numbers of the layers with experts."""
        dense, step = self.first_k_dense_replace, self.moe_layer_freq
        return [i for i in range(self.num_hidden_layers) if i >= dense and i % step == 0]

    def conflicts(self) -> Iterator[tuple[str, str]]:
        yield from self.layer_types_conflict()
        derived = {
            "num_key_value_heads": ("num_attention_heads", self.num_attention_heads),
            "head_dim": ("qk_rope_head_dim", self.qk_rope_head_dim),
            "qk_head_dim": ("qk_nope_head_dim + qk_rope_head_dim", self.qk_nope_head_dim + self.qk_rope_head_dim),
        }
        for field, (formula, value) in derived.items():
            found = getattr(self, field)
            if found not in (None, value):
                yield field, f"`{field}` must be {formula}: {found} and {value}"
        if self.qk_rope_head_dim % 2:
            yield "qk_rope_head_dim", f"`qk_rope_head_dim` must be even, rope turns pairs: {self.qk_rope_head_dim}"
        yield from self._routing_conflicts()

    def _routing_conflicts(self) -> Iterator[tuple[str, str]]:
        experts, (groups, chosen) = self.n_routed_experts, self.groups
        if experts % groups:
            yield "n_routed_experts", f"`n_routed_experts` must be a multiple of `n_group`: {experts} and {groups}"
        elif chosen > groups:
            yield "topk_group", f"`topk_group` is at most `n_group`: {chosen} and {groups}"
        elif self.num_experts_per_tok > experts // groups * chosen:
            words = f"`num_experts_per_tok` is {self.num_experts_per_tok}, and {experts // groups * chosen}"
            yield "num_experts_per_tok", f"{words} of `n_routed_experts` are open to a token"

    # -- lines of the spec -------------------------------------------------------------------

    def depth_lines(self) -> tuple[SpecLine, ...]:
        """Return the line that says how many layers are dense, if some are and some are not."""
        return spec_text.field_lines(self, "first_k_dense_replace") if self._is_mixed() else ()

    def attention_lines(self, interleave: SpecLine) -> tuple[SpecLine, ...]:
        """Return the lines of attention."""
        ranks = ("q_lora_rank", "kv_lora_rank") if self.q_lora_rank else ("kv_lora_rank",)
        names = ("num_attention_heads", *ranks, "qk_nope_head_dim", "qk_rope_head_dim", "v_head_dim")
        lines = [*self._block_line(), *spec_text.field_lines(self, *names)]
        if self.attention_bias:
            lines.append(spec_text.field_line(self, "attention_bias", "on q_a_proj, kv_a_proj_with_mqa and o_proj"))
        lines += spec_text.rope_lines(self.rope, interleave)
        if self.rope.scales_softmax:
            comment = "YaRN scales the scores too, where mscale_all_dim is not 0"
            lines.append(SpecLine("softmax_scale", spec_text.YARN_SOFTMAX_SCALE, comment))
        return tuple(lines)

    def _block_line(self) -> Iterator[SpecLine]:
        """Yield the block of attention if it is not the default of a layer."""
        name, comment = ("mla", "") if self.q_lora_rank else ("mla_full_query", "q_lora_rank: null")
        if self.rms_norm_eps != LATENT_EPS:
            own = "norms on latents have an epsilon of their own (modeling code)"
            yield SpecLine("attn", f"{{{name}: , rms_norm_eps: 1e-6}}", f"{comment}; {own}" if comment else own)
        elif comment:
            yield SpecLine("attn", name, comment)

    def mlp_lines(self, has_experts: bool, *more: SpecLine) -> tuple[SpecLine, ...]:
        """Return the lines of the feed-forward layers, with ``more`` among those of their experts."""
        dense = [spec_text.field_line(self, "intermediate_size", "of the dense layers" if self.sparse_layers else "")]
        return (
            *(dense if len(self.sparse_layers) < self.num_hidden_layers else []),
            *(self._expert_lines(more) if has_experts else ()),
            spec_text.activation_line(self),
        )

    def _expert_lines(self, more: tuple[SpecLine, ...]) -> tuple[SpecLine, ...]:
        comment = self.routing_comment if "n_routed_experts" in self.given else ""
        return (
            spec_text.field_line(self, "moe_intermediate_size"),
            spec_text.field_line(self, "n_routed_experts", comment),
            *spec_text.field_lines(self, "n_shared_experts", "num_experts_per_tok"),
            *more,
            spec_text.field_line(self, "routed_scaling_factor"),
        )

    def body_lines(self, moe: str) -> tuple[SpecLine, ...]:
        """Return the body: dense layers, then those with the block ``moe``."""
        if self.moe_layer_freq > 1:
            ffn = f"{moe} if index >= {self.first_k_dense_replace} and index % {self.moe_layer_freq} == 0 else mlp"
            comment = "moe_layer_freq: DeepSeek's modeling code; transformers takes no notice of it"
            layers = spec_text.layers_line("layers", "embed", comment=comment, ffn=ffn)
            return spec_text.decoder_body(self, layers)
        if not self._is_mixed():
            ffn = moe if self.sparse_layers else ""
            return spec_text.decoder_body(self, spec_text.layers_line("layers", "embed", ffn=ffn))
        dense = spec_text.layers_line("dense", "embed", repeat="first_k_dense_replace")
        rest = "num_hidden_layers - first_k_dense_replace"
        return spec_text.decoder_body(self, dense, spec_text.layers_line("sparse", "dense", repeat=rest, ffn=moe))

    def init_lines(self) -> tuple[SpecLine, ...]:
        """Return the initialization."""
        biases = (spec_text.INIT_BIASES,) if self.attention_bias else ()
        return (spec_text.INIT_NORMAL, spec_text.INIT_NORMS, *biases)

    def _is_mixed(self) -> bool:
        return self.moe_layer_freq == 1 and 0 < self.first_k_dense_replace < self.num_hidden_layers


def attributes_of(graph: GraphReader) -> dict[str, Any]:
    """Return the attributes of both families that a graph has; raise Missing if a part of it is absent."""
    at = f"{graph.first}.self_attn"
    shapes = {port: type_.shape for port, type_ in graph.attention.input_types.items()}
    heads, query, value = int(shapes["q"][2]), int(shapes["q"][3]), int(shapes["v"][3])  # type: ignore[arg-type]
    rotated = int(graph.op(at, "rope").input_types["x"].shape[-1])  # type: ignore[arg-type]
    found = {
        **graph.common(),
        "num_attention_heads": heads,
        "num_key_value_heads": heads,
        "q_lora_rank": graph.weight(f"{at}.q_a_proj.weight")[0] if graph.has(f"{at}.q_a_proj.weight") else None,
        "kv_lora_rank": graph.weight(f"{at}.kv_b_proj.weight")[1],
        "qk_nope_head_dim": query - rotated,
        "qk_rope_head_dim": rotated,
        "v_head_dim": value,
        "attention_bias": graph.has(f"{at}.o_proj.bias"),
        "first_k_dense_replace": len(graph.dense_layers()),
        "hidden_act": graph.activation(),
    }
    dense = [f"{graph.layer(i)}.mlp.gate_proj.weight" for i in graph.dense_layers()[:1]]
    found["intermediate_size"] = graph.weight(dense[0])[0] if dense else found["hidden_size"]
    return {**found, **_routing(graph)}


def _routing(graph: GraphReader) -> dict[str, Any]:
    """Return the experts of the first layer that has any, with their groups and the shared experts."""
    experts = graph.experts("n_routed_experts")
    if not experts:
        return {}
    mlp = f"{graph.layer(graph.sparse_layers()[0])}.mlp"
    router: Any = graph.op(mlp, "router").op
    shared = graph.weight(f"{mlp}.shared_experts.gate_proj.weight")[0]
    return {
        **experts,
        "n_shared_experts": shared // experts["moe_intermediate_size"],
        "n_group": int(router.groups),
        "topk_group": int(router.top_groups),
        "routed_scaling_factor": router.scaling,
    }
