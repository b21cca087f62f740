"""The config.json attributes of a graph, read from its ops and weights by path: sizes, heads, rope, experts."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from functools import cached_property
from typing import Any

from dsvgraph.graph import Mode, Model, Node, join
from dsvgraph.types import InitKind
from dsvgraph_hf.config import rope
from dsvgraph_hf.config.hub_config import ACTIVATIONS, LayerType
from dsvgraph_hf.config.rope import Rope, RopeType, normalized_scaling

DEFAULT_STD = 0.02  # transformers' initializer_range


def main_output(outputs: Iterable[str]) -> str:
    """Return the output that is computed at inference: `logits`, or the first one."""
    names = list(outputs)
    return "logits" if "logits" in names else names[0]


def training_only(model: Model) -> tuple[str, ...]:
    """Return prefixes of the paths of weights that the main output does not depend on, such as those of MTP heads."""
    needed = model.needed([main_output(model.outputs)])
    nodes = [node for node in model.nodes.values() if node.name not in needed]
    paths = [node.at for node in nodes if node.mode is Mode.CALL]
    paths += [node.segment(n) for node in nodes if node.mode is not Mode.CALL for n, _ in node.copy_graphs()]
    return tuple(f"{path}." for path in paths if path)


class OpsByPath:
    """The op nodes of a model by path."""

    def __init__(self) -> None:
        self.nodes: dict[str, list[Node]] = {}
        self.paths: dict[str, list[str]] = {}  # prefix of a path -> paths of ops at or below it

    def add(self, path: str, node: Node) -> None:
        """Add an op."""
        if path not in self.nodes:
            parts = path.split(".")
            for end in range(1, len(parts) + 1):
                self.paths.setdefault(".".join(parts[:end]), []).append(path)
        self.nodes.setdefault(path, []).append(node)

    def at(self, path: str) -> list[Node]:
        """Return the ops at a path."""
        return self.nodes.get(path, [])

    def below(self, prefix: str) -> Iterator[Node]:
        """Yield the ops at a path and below it."""
        for path in self.paths.get(prefix, ()):
            yield from self.nodes[path]


class Missing(Exception):
    """The graph has no op or weight of this kind, so it is not of the family that asks for it."""


class GraphReader:
    """Reads config.json attributes from a graph. Every method and property may raise Missing."""

    def __init__(self, model: Model, ops: OpsByPath) -> None:
        self.model, self.ops = model, ops

    # -- ops and weights ---------------------------------------------------------------------

    def op(self, path: str, *kinds: str) -> Node:
        """Return the first op at or below a path, of one of the kinds if any are given."""
        for node in self.ops.below(path):
            if node.op and (not kinds or node.op.op in kinds):
                return node
        raise Missing(f"there is no {' or '.join(kinds) or 'op'} at {path}")

    def weight(self, path: str) -> tuple[int, ...]:
        """Return the shape of the weight at a path."""
        at, _, name = path.rpartition(".")
        for node in self.ops.at(at):
            if name in node.weights:
                return tuple(int(size) for size in node.weights[name].shape)  # type: ignore[arg-type]
        raise Missing(f"there is no {path}")

    def has(self, path: str) -> bool:
        """Return whether the graph owns the weight at a path."""
        at, _, name = path.rpartition(".")
        return any(name in node.weights for node in self.ops.at(at))

    def expert(self, path: str) -> str:
        """Return the path of the experts below a path, with the range of their numbers as one part."""
        for at in self.ops.paths.get(path, ()):
            if at.startswith(f"{path}.["):
                return at[: at.index("]") + 1]
        raise Missing(f"there are no experts at {path}")

    @cached_property
    def numbers(self) -> list[int]:
        """Numbers of all layers, with those of the MTP chain."""
        found = {at.split(".")[2] for at in self.ops.nodes if at.startswith("model.layers.")}
        return sorted(int(number) for number in found if number.isdecimal())

    @cached_property
    def mtp_heads(self) -> list[int]:
        """Numbers of the layers that the main output does not depend on: the MTP heads."""
        unused = training_only(self.model)
        return [i for i in self.numbers if f"{self.layer(i)}." in unused]

    @cached_property
    def layers(self) -> list[int]:
        """Numbers of the layers of the main model."""
        return [i for i in self.numbers if i not in self.mtp_heads]

    @staticmethod
    def layer(number: int) -> str:
        """Return the path of a layer."""
        return f"model.layers.{number}"

    @property
    def first(self) -> str:
        """The path of the first layer."""
        return self.layer(self.layers[0]) if self.layers else self.layer(0)

    # -- attributes ----------------------------------------------------------------------------

    def common(self) -> dict[str, Any]:
        """Return the attributes of the whole model: sizes, constants, rope."""
        vocab, hidden = self.weight("model.embed_tokens.weight")
        return {
            "vocab_size": vocab,
            "hidden_size": hidden,
            "num_hidden_layers": len(self.layers),
            "rms_norm_eps": self.eps("model.norm"),
            "initializer_range": self.initializer_range,
            "tie_word_embeddings": not self.has("lm_head.weight"),
            **self.max_positions(),
            **rope.to_config(self.rope),
        }

    def max_positions(self) -> dict[str, int]:
        """Return max_position_embeddings if the spec's config has it or YaRN determines it; no size depends on it."""
        length, scaling = self.model.config.get("max_position_embeddings"), self.rope.scaling
        if not isinstance(length, int) and scaling.get("type") == RopeType.YARN:
            length = int(scaling["factor"] * scaling["original_max_position_embeddings"])
        return {"max_position_embeddings": length} if isinstance(length, int) else {}

    def eps(self, path: str) -> float:
        """Return the epsilon of the norm at a path."""
        return float(self.op(path, "rms_norm").op.eps)  # type: ignore[union-attr]

    @property
    def rope(self) -> Rope:
        """The rope of the first layer."""
        op = self.op(self.first, "rope").op
        theta = float(op.theta)  # type: ignore[union-attr]
        return Rope(int(theta) if theta == int(theta) else theta, normalized_scaling(op.scaling))  # type: ignore[union-attr]

    @property
    def initializer_range(self) -> float:
        """The standard deviation of initial matrices; transformers' default if the spec has another initialization."""
        stds = [init.value for pattern, init in self.model.init if pattern == "**" and init.kind is InitKind.NORMAL]
        return float(stds[0]) if stds else DEFAULT_STD

    @property
    def attention(self) -> Node:
        """The attention of the first layer."""
        return self.op(self.first, "attention")

    def heads(self) -> dict[str, Any]:
        """Return the attention heads of grouped queries, and whether their projections have biases."""
        shapes = {port: type_.shape for port, type_ in self.attention.input_types.items()}
        return {
            "num_attention_heads": int(shapes["q"][2]),  # type: ignore[arg-type]
            "num_key_value_heads": int(shapes["k"][2]),  # type: ignore[arg-type]
            "head_dim": int(shapes["q"][3]),  # type: ignore[arg-type]
            "attention_bias": self.has(f"{self.first}.self_attn.q_proj.bias"),
        }

    def windows(self) -> list[int | None]:
        """Return the sliding window of each layer."""
        found = [self.op(self.layer(i), "attention").op.window for i in self.layers]  # type: ignore[union-attr]
        return [None if window is None else int(window) for window in found]

    def activation(self) -> str:
        """Return the activation of the first layer."""
        return self.op(self.first, *ACTIVATIONS).op.op  # type: ignore[union-attr]

    def sparse_layers(self, part: str = "mlp") -> list[int]:
        """Numbers of the layers, with those of the MTP chain, whose feed-forward ``part`` has a router."""
        kinds = {i: [n.op.op for n in self.ops.below(join(self.layer(i), part)) if n.op] for i in self.numbers}
        return [i for i, found in kinds.items() if "router" in found]

    def dense_layers(self, part: str = "mlp") -> list[int]:
        """Numbers of the layers of the main model without a router."""
        return [i for i in self.layers if i not in self.sparse_layers(part)]

    def layer_windows(self) -> dict[str, Any]:
        """Return `layer_types` and `sliding_window`."""
        windows = self.windows()
        kinds = [LayerType.SLIDING if window else LayerType.FULL for window in windows]
        return {"layer_types": kinds, "sliding_window": next((window for window in windows if window), None)}

    def experts(self, count: str, part: str = "mlp", gate: str = "gate_proj") -> dict[str, Any]:
        """Return the router and the width of the experts of the first layer that has any; empty if none has.

        ``count`` is the attribute of their number, ``part`` the path of the feed-forward part in a layer, ``gate``
        the first projection of an expert.
        """
        if not self.sparse_layers(part):
            return {}
        at = f"{self.layer(self.sparse_layers(part)[0])}.{part}"
        router: Any = self.op(at, "router").op
        return {
            count: int(router.experts),
            "num_experts_per_tok": int(router.top_k),
            "norm_topk_prob": router.normalize,
            "moe_intermediate_size": self.weight(f"{self.expert(f'{at}.experts')}.{gate}.weight")[0],
        }
