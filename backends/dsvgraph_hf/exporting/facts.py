"""What a graph says of itself in the terms of a config.json: sizes, heads, rope, experts, by path."""

from __future__ import annotations

from collections.abc import Iterable
from functools import cached_property
from typing import Any

from dsvgraph.graph import Mode, Model, Node, join
from dsvgraph_hf.config import rope
from dsvgraph_hf.config.rope import Rope
from dsvgraph_hf.exporting.numbering import Numbered, scaling

ACTS = ("silu", "gelu", "relu")


def main_output(outputs: Iterable[str]) -> str:
    """The output that a language model has at inference: `logits`, or the first there is."""
    names = list(outputs)
    return "logits" if "logits" in names else names[0]


def spare(model: Model) -> tuple[str, ...]:
    """How the paths of weights begin that the main output does without: heads that only train."""
    needed = model.needed([main_output(model.outputs)])
    nodes = [node for node in model.nodes.values() if node.name not in needed]
    places = [
        [node.at] if node.mode is Mode.CALL else [node.segment(n) for n, _ in node.copy_graphs()] for node in nodes
    ]
    return tuple(f"{place}." for found in places for place in found if place)


class Missing(Exception):
    """The graph has nothing of this kind, so it is not of the family that asks."""


class Facts:
    """A graph, asked for what a config.json would say. Every answer may raise Missing."""

    def __init__(self, model: Model, numbered: Numbered) -> None:
        self.model, self.numbered = model, numbered

    # -- what is where -----------------------------------------------------------------------

    def op(self, path: str, *kinds: str) -> Node:
        """The first op at or below a path, of one of the kinds if any are given."""
        for node in self.numbered.below(path):
            if node.op and (not kinds or node.op.op in kinds):
                return node
        raise Missing(f"there is no {' or '.join(kinds) or 'op'} at {path}")

    def weight(self, path: str) -> tuple[int, ...]:
        """The shape of the weight at a path."""
        at, _, name = path.rpartition(".")
        for node in self.numbered.ops.get(at, ()):
            if name in node.weights:
                return tuple(int(size) for size in node.weights[name].shape)  # type: ignore[arg-type]
        raise Missing(f"there is no {path}")

    def has(self, path: str) -> bool:
        """Whether the graph owns the weight at a path."""
        return any(path.rpartition(".")[2] in n.weights for n in self.numbered.ops.get(path.rpartition(".")[0], ()))

    def expert(self, path: str) -> str:
        """The path of the experts below a path, which stand side by side as a range of numbers."""
        for at in self.numbered.paths.get(path, ()):
            if at.startswith(f"{path}.["):
                return at[: at.index("]") + 1]
        raise Missing(f"there are no experts at {path}")

    @cached_property
    def numbers(self) -> list[int]:
        """Numbers of all layers, those of the MTP chain too."""
        found = {at.split(".")[2] for at in self.numbered.ops if at.startswith("model.layers.")}
        return sorted(int(number) for number in found if number.isdecimal())

    @cached_property
    def heads(self) -> list[int]:
        """Numbers of the layers that the main output does without: modules of an MTP chain."""
        left_out = spare(self.model)
        return [i for i in self.numbers if f"{self.layer(i)}." in left_out]

    @cached_property
    def layers(self) -> list[int]:
        """Numbers of the layers of the main model."""
        return [i for i in self.numbers if i not in self.heads]

    @staticmethod
    def layer(number: int) -> str:
        """The path of a layer."""
        return f"model.layers.{number}"

    @property
    def first(self) -> str:
        """The path of the first layer."""
        return self.layer(self.layers[0]) if self.layers else self.layer(0)

    # -- what all families say ---------------------------------------------------------------

    def common(self) -> dict[str, Any]:
        """The sizes of the whole, the rope, and what stands in the spec's config alone."""
        vocab, hidden = self.weight("model.embed_tokens.weight")
        return {
            "vocab_size": vocab,
            "hidden_size": hidden,
            "num_hidden_layers": len(self.layers),
            "rms_norm_eps": self.eps("model.norm"),
            "initializer_range": self.spread,
            "tie_word_embeddings": not self.has("lm_head.weight"),
            **self.longest(),
            **rope.written(self.rope),
        }

    def longest(self) -> dict[str, int]:
        """How long rows may be, where the spec says so or YaRN stretches them; no size depends on it."""
        told, stretch = self.model.config.get("max_position_embeddings"), self.rope.scaling
        if not isinstance(told, int) and stretch.get("type") == "yarn":
            told = int(stretch["factor"] * stretch["original_max_position_embeddings"])
        return {"max_position_embeddings": told} if isinstance(told, int) else {}

    def eps(self, path: str) -> float:
        """The epsilon of the norm at a path."""
        return float(self.op(path, "rms_norm").op.eps)  # type: ignore[union-attr]

    @property
    def rope(self) -> Rope:
        """The rope of the first layer."""
        op = self.op(self.first, "rope").op
        theta = float(op.theta)  # type: ignore[union-attr]
        return Rope(int(theta) if theta == int(theta) else theta, scaling(op.scaling))  # type: ignore[union-attr]

    @property
    def spread(self) -> float:
        """The standard deviation of initial matrices; transformers' usual one where the spec says otherwise."""
        stds = [init.value for pattern, init in self.model.init if pattern == "**" and init.kind == "normal"]
        return float(stds[0]) if stds else 0.02

    @property
    def attention(self) -> Node:
        """The attention of the first layer."""
        return self.op(self.first, "attention")

    def queries(self) -> dict[str, Any]:
        """Heads of grouped-query attention, and its biases."""
        shapes = {port: type_.shape for port, type_ in self.attention.ins.items()}
        return {
            "num_attention_heads": int(shapes["q"][2]),  # type: ignore[arg-type]
            "num_key_value_heads": int(shapes["k"][2]),  # type: ignore[arg-type]
            "head_dim": int(shapes["q"][3]),  # type: ignore[arg-type]
            "attention_bias": self.has(f"{self.first}.self_attn.q_proj.bias"),
        }

    def windows(self) -> list[int | None]:
        """The window of each layer."""
        found = [self.op(self.layer(i), "attention").op.window for i in self.layers]  # type: ignore[union-attr]
        return [None if window is None else int(window) for window in found]

    def act(self) -> str:
        """The activation of the first layer."""
        return self.op(self.first, *ACTS).op.op  # type: ignore[union-attr]

    def routed(self, part: str = "mlp") -> list[int]:
        """Numbers of the layers, of the MTP chain too, whose feed-forward part has a router."""
        kinds = {i: [n.op.op for n in self.numbered.below(join(self.layer(i), part)) if n.op] for i in self.numbers}
        return [i for i, found in kinds.items() if "router" in found]

    def dense(self, part: str = "mlp") -> list[int]:
        """Numbers of the layers of the main model without a router."""
        return [i for i in self.layers if i not in self.routed(part)]
