"""Sliding windows: which layers see only the last tokens, and the blocks that do it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, ClassVar

from dsvgraph_hf.config import text
from dsvgraph_hf.config.fields import FULL, SLIDING, Count
from dsvgraph_hf.config.source import shown
from dsvgraph_hf.config.text import Row
from dsvgraph_hf.exporting.facts import Facts
from dsvgraph_hf.families.llama import GroupedQueries


def windows_conflict(kinds: list[str], layers: int, window: int | None) -> Iterator[tuple[str, str]]:
    """What is wrong with the kinds of attention, one a layer."""
    if len(kinds) != layers:
        words = f"{len(kinds)} and {layers}"
        yield "layer_types", f"`layer_types` has one item a layer, as many as `num_hidden_layers`: {words}"
    for kind in kinds:
        if kind not in (SLIDING, FULL):
            yield "layer_types", f"`layer_types` holds {SLIDING} and {FULL}, found `{shown(kind)}`"
            return
    if SLIDING in kinds and window is None:
        yield "sliding_window", "`sliding_window` is missing: `layer_types` has sliding_attention"


class Sliding(GroupedQueries):
    """The fields of families whose layers may have a window; ``block`` is their attention."""

    block: ClassVar[str] = "gqa"

    sliding_window: Count | None = None

    @property
    def windows(self) -> list[bool]:
        if self.layer_types is not None:
            return [kind == SLIDING for kind in self.layer_types]
        return [self.sliding_window is not None] * self.num_hidden_layers

    def conflicts(self) -> Iterator[tuple[str, str]]:
        yield from super().conflicts()
        if self.layer_types is not None:
            yield from windows_conflict(self.layer_types, self.num_hidden_layers, self.sliding_window)

    def window(self) -> tuple[Row, ...]:
        """The row of the window, where a layer has one."""
        return (text.row(self, "sliding_window"),) if any(self.windows) else ()

    def attn(self) -> tuple[str, str]:
        """The block of attention, layer by layer, and where that comes from."""
        name, windows = self.block, self.windows
        if not any(windows):
            return name, ""
        if all(windows):
            return f"{name}_sliding", "sliding_window" if self.layer_types is None else "layer_types"
        first, why = windows.index(True), "max_window_layers" if self.layer_types is None else "layer_types"
        names = text.cycle([f"{name}_sliding" if sees else name for sees in windows])
        if all(windows[first:]):
            return f"{name}_sliding if index >= {first} else {name}", why
        if len(names) <= 8:
            return text.scalar(names), why
        return f"{name}_sliding if {text.among(i for i, sees in enumerate(windows) if sees)} else {name}", why


def layered_windows(f: Facts) -> dict[str, Any]:
    """The windows of a graph, layer by layer."""
    windows = f.windows()
    sizes = [window for window in windows if window]
    kinds = [SLIDING if window else FULL for window in windows]
    return {"layer_types": kinds, "sliding_window": sizes[0] if sizes else None}
