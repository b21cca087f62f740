"""Captions of attention: attention heads, low ranks, cache, the formula of its weights."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Sequence
from typing import Any

from dsvgraph.dims import Poly
from dsvgraph.graph import Graph, Node
from dsvgraph.ops.base import Merge
from dsvgraph_graphviz.model.layers import bottlenecks, strands
from dsvgraph_graphviz.model.merge import may_merge, turned, value_name
from dsvgraph_graphviz.style.words import number

MASK_WIDTH = 36  # characters of a line of a card


def attention_heads(node: Node) -> list[str]:
    """Return heads and groups, the window, the mask or its beginning, sinks."""
    op: Any = node.op
    heads, groups = node.input_types["q"].shape[2], node.input_types["k"].shape[2]
    found = [f"{number(heads)} heads" + (f" in {number(groups)} groups" if groups != heads else "")]
    found += [f"window {number(op.window)}"] if op.window is not None else []
    found += [textwrap.shorten(f"mask {op.mask}", MASK_WIDTH, placeholder=" …")] if op.mask else []
    return [*found, "a sink each"] if op.sinks else found


def attention_words(graph: Graph, node: Node, kept: Sequence[str]) -> list[str]:
    """Return the captions of an attention block: attention heads, low ranks, what decoding caches."""
    found = [*attention_heads(node), *_ranks_of(graph)]
    return [*found, f"caches {' + '.join(kept)}"] if kept else found


def _ranks_of(graph: Graph) -> list[str]:
    """Return the ranks of what queries, and of what keys and values are made of: q rank 1,536, kv rank 512."""
    found = [(name, bottlenecks(graph, among)) for name, among in zip(("q", "kv"), strands(graph), strict=True)]
    return [f"{name} rank {', '.join(map(number, low))}" for name, low in found if low]


def inside_attention(graph: Graph, node: Node) -> list[str]:
    """Return width, attention heads, low ranks, and what an attention head is made of."""
    joined = graph.nodes.get(node.inputs["q"].node)
    pieces = joined.inputs.values() if joined and may_merge(joined, Merge.READER) else ()
    sizes = {"rope" if turned(graph, r) else value_name(graph, r): graph.type(r).shape[-1] for r in pieces}
    head = " + ".join(f"{name} {number(size)}" for name, size in sizes.items()) or number(
        node.input_types["q"].shape[-1]
    )
    first = next(iter(graph.inputs.values())).shape
    return [
        *([f"d {number(first[-1])}"] if first else []), *attention_heads(node), *_ranks_of(graph),
        f"{head} per head", f"v {number(node.input_types['v'].shape[-1])}",
    ]  # fmt: skip


def softmax(node: Node) -> str:
    """Return the formula of attention's weights."""
    op: Any = node.op
    shown = op.window is not None or op.mask is not None
    mask = " + mask" if op.mask or (shown and not op.causal) else " + causal mask" if op.causal else ""
    return f"softmax( s · q kᵀ{mask} )"


def scale_of(node: Node) -> str:
    """Return the factor before the softmax, against the usual one over the root of a head's size."""
    op: Any = node.op
    size, scale = node.input_types["q"].shape[-1], op.scale
    if isinstance(size, Poly):
        return f"s = {scale:.4g}" if scale is not None else f"s = 1 / √({number(size)})"
    more = 1 if scale is None else scale * math.sqrt(size)
    return f"s = {'1' if math.isclose(more, 1) else f'{more:.4g}'} / √{size}"
