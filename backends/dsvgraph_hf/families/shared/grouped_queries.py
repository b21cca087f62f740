"""Families with grouped-query attention, with and without sliding windows."""

from __future__ import annotations

from collections.abc import Iterator
from typing import ClassVar

from pydantic import Field

from dsvgraph_hf.config import spec_text
from dsvgraph_hf.config.config_file import shown
from dsvgraph_hf.config.hub_config import Count, HubConfig, LayerType
from dsvgraph_hf.config.spec_text import INIT_BIASES, INIT_NORMAL, INIT_NORMS, SpecLine

MAX_CYCLE = 8  # items of a pattern of layers that is written as a list


class GroupedQueries(HubConfig):
    """The attributes of grouped-query attention."""

    num_key_value_heads: Count | None = None
    head_dim: Count | None = None
    attention_bias: bool = False

    @property
    def key_value_heads(self) -> int:
        """Attention heads of keys and values."""
        return self.num_key_value_heads or self.num_attention_heads

    @property
    def head_size(self) -> int:
        """The width of one attention head."""
        return self.head_dim or self.hidden_size // self.num_attention_heads

    def conflicts(self) -> Iterator[tuple[str, str]]:
        heads, groups = self.num_attention_heads, self.key_value_heads
        if heads % groups:
            yield (
                "num_key_value_heads",
                f"`num_key_value_heads` must divide `num_attention_heads`: {groups} and {heads}",
            )
        if self.head_dim is None and self.hidden_size % heads:
            words = f"`hidden_size` is no multiple of `num_attention_heads`: {self.hidden_size} and {heads}"
            yield "hidden_size", words
        if self.head_size % 2:
            field = "hidden_size" if self.head_dim is None else "head_dim"
            yield field, f"`head_dim` must be even, rope turns pairs: {self.head_size}"

    def experts_conflict(self, count: str) -> Iterator[tuple[str, str]]:
        """Yield the error of more chosen experts than there are; ``count`` is the attribute of their number."""
        chosen, experts = (getattr(self, name) for name in ("num_experts_per_tok", count))
        if chosen > experts:
            yield "num_experts_per_tok", f"`num_experts_per_tok` is at most `{count}`: {chosen} and {experts}"

    def attention_lines(self) -> tuple[SpecLine, ...]:
        """Return the lines of attention; `head_dim` only if it is not hidden_size / num_attention_heads."""
        comment = spec_text.field_line(self, "num_key_value_heads").comment
        lines = [
            spec_text.field_line(self, "num_attention_heads"),
            SpecLine("num_key_value_heads", str(self.key_value_heads), comment),
        ]
        if self.head_size * self.num_attention_heads != self.hidden_size:
            lines.append(spec_text.field_line(self, "head_dim"))
        if self.attention_bias and not type(self).model_fields["attention_bias"].default:
            lines.append(spec_text.field_line(self, "attention_bias", "on q_proj, k_proj, v_proj and o_proj"))
        return (*lines, *spec_text.rope_lines(self.rope))

    def init_lines(self, biases: bool | None = None) -> tuple[SpecLine, ...]:
        """Return the initialization, with that of biases if there are any (by default `attention_bias`)."""
        has_biases = self.attention_bias if biases is None else biases
        return (INIT_NORMAL, INIT_NORMS, *((INIT_BIASES,) if has_biases else ()))


class SlidingWindows(GroupedQueries):
    """The attributes of families whose layers may have a sliding window; ``block`` is their attention."""

    block: ClassVar[str] = "gqa"

    sliding_window: Count | None = None

    @property
    def sliding_layers(self) -> list[bool]:
        if self.layer_types is not None:
            return [kind == LayerType.SLIDING for kind in self.layer_types]
        return [self.sliding_window is not None] * self.num_hidden_layers

    def conflicts(self) -> Iterator[tuple[str, str]]:
        yield from super().conflicts()
        if self.layer_types is not None:
            yield from self.windows_conflict(self.layer_types)

    def windows_conflict(self, kinds: list[str]) -> Iterator[tuple[str, str]]:
        """Yield the errors of the kinds of attention, one a layer."""
        layers = self.num_hidden_layers
        if len(kinds) != layers:
            words = f"{len(kinds)} and {layers}"
            yield "layer_types", f"`layer_types` has one item a layer, as many as `num_hidden_layers`: {words}"
        for kind in kinds:
            if kind not in list(LayerType):
                known = f"{LayerType.SLIDING} and {LayerType.FULL}"
                yield "layer_types", f"`layer_types` holds {known}, found `{shown(kind)}`"
                return
        if LayerType.SLIDING in kinds and self.sliding_window is None:
            yield "sliding_window", "`sliding_window` is missing: `layer_types` has sliding_attention"

    def include(self) -> tuple[str, ...]:
        """Return the files of the attention blocks."""
        return ("gqa", "sliding") if any(self.sliding_layers) else ("gqa",)

    def attention_lines(self) -> tuple[SpecLine, ...]:
        window = (spec_text.field_line(self, "sliding_window"),) if any(self.sliding_layers) else ()
        return (*super().attention_lines(), *window)

    def attention_block(self) -> tuple[str, str]:
        """Return the block of attention, layer by layer, and the attribute that decides it."""
        name, windows = self.block, self.sliding_layers
        if not any(windows):
            return name, ""
        if all(windows):
            return f"{name}_sliding", "sliding_window" if self.layer_types is None else "layer_types"
        first, comment = windows.index(True), "max_window_layers" if self.layer_types is None else "layer_types"
        names = spec_text.shortest_cycle([f"{name}_sliding" if slides else name for slides in windows])
        if all(windows[first:]):
            return f"{name}_sliding if index >= {first} else {name}", comment
        if len(names) <= MAX_CYCLE:
            return spec_text.scalar(names), comment
        condition = spec_text.layer_condition(i for i, slides in enumerate(windows) if slides)
        return f"{name}_sliding if {condition} else {name}", comment


class LayeredWindows(SlidingWindows):
    """The attributes of dense Qwen models: the first `max_window_layers` layers have no window."""

    max_position_embeddings: Count = 32768
    num_key_value_heads: Count | None = 32
    use_sliding_window: bool = False
    sliding_window: Count | None = 4096
    max_window_layers: int = Field(default=28, ge=0)

    @property
    def sliding_layers(self) -> list[bool]:
        if self.layer_types is not None:
            return super().sliding_layers
        slides = self.use_sliding_window and self.sliding_window is not None
        return [slides and i >= self.max_window_layers for i in range(self.num_hidden_layers)]

    def conflicts(self) -> Iterator[tuple[str, str]]:
        yield from super().conflicts()
        if LayerType.SLIDING in (self.layer_types or ()) and not self.use_sliding_window:
            yield "use_sliding_window", "`use_sliding_window` is false, and `layer_types` has sliding_attention"
