"""A spec with every construct that holds a text, each place where one stands, and texts that try to become code."""

from __future__ import annotations

import json
from collections.abc import Iterator
from copy import deepcopy
from typing import Any

RUN = '__import__("sys").__dict__.update(injected=1)'
TEXTS = {
    "triple quotes": f'x"""+str({RUN})+"""',
    "triple apostrophes": f"x'''+str({RUN})+'''",
    "a quote": f'x"+str({RUN})+"',
    "an apostrophe": f"x'+str({RUN})+'",
    "a bracket": f'x", {RUN}]), "',
    "a call": RUN,
    "a line": f"x\n{RUN}\n",
    "a line in a comment": f"x  # y\n    {RUN}",
    "line separators": f"x\u2028{RUN}\x85{RUN}\u2029{RUN}",
    "form feed": f"x\f{RUN}\x0b{RUN}\r{RUN}\x1c{RUN}",
    "NUL": f"x\0{RUN}",
    "a backslash at the end": "x\\",
    "backslashes": "\\\\\\",
    "escapes": "\\N{BULLET} \\x41 \\u0041 \\777 \\N",
    "braces": f"{{{RUN}}} {{0}} {{x}} %s {{{{",
    "a placeholder": "<0> <1> <9>",
    "a comment": "x  # y  # noqa  # type: ignore",
    "quotes alone": "\"'\"\"\"'''",
    "a quote at the end": 'x"',
    "a keyword": "lambda",
    "a builtin": "__import__",
    "self": "self.__class__",
    "other letters": "größe漢\u202e\u200b",
    "nothing that shows": "\u200b\x07",
    "a hyphen": "a-b",
    "long": "x " * 2000,
    "a long word": "y" * 3000,
}

SPEC: dict[str, Any] = {
    "name": "plain",
    "doc": "Plain words. And more of them.",
    "published": {"parameters": "10K", "source": "a report"},
    "config": {
        "V": 13, "d": 8, "word": "plain", "words": ["a", "b"], "inner": {"key": "text"}, "score": "sigmoid",
        "scaling": {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 16},
        "layer_types": ["sliding", "full"], "needed": 100,
    },
    "blocks": {
        "attn": {
            "doc": "Attention. With rotary positions.",
            "args": {"d": None, "kind": "full", "scaling": None, "layer_types": None},
            "in": {"x": "[B, T, d]"},
            "body": {
                "qkv": {"linear": "x", "out": [2, "3 * (d // 2)"]},
                "parts": {"split": "qkv", "into": {"q": "d // 2", "k": "d // 2", "v": "d // 2"}},
                "k_rope": {"rope": "parts.k", "theta": 100.0, "scaling": "scaling"},
                "q_rope": {"rope": "parts.q", "theta": 100.0, "scaling": "scaling"},
                "mixed": {
                    "attention": {"q": "q_rope", "k": "k_rope", "v": "parts.v"},
                    "window": "4 if kind == layer_types[0] else None",
                },
                "o": {"linear": "mixed", "contract": 2, "out": "d", "at": "o_proj.inner"},
            },
            "out": "o",
            "cache": ["k_rope", "parts.v"],
        },
        "mlp": {
            "doc": "A feed-forward network.",
            "args": {"d": None, "width": 16},
            "in": {"x": "[..., d]"},
            "body": {
                "up": {"linear": "x", "out": "width"},
                "act": {"silu": "up"},
                "down": {"linear": "act", "out": "d"},
            },
            "out": {"x": "down"},
        },
        "moe": {
            "args": {"d": None, "score": None, "expert": "mlp"},
            "in": {"x": "[B, T, d]"},
            "body": {
                "gate": {"router": "x", "experts": 4, "top_k": 2, "score": "score"},
                "sent": {"dispatch": {"x": "x", "index": "gate.index"}, "experts": 4},
                "experts": {"expert": "sent", "each": 4},
                "y": {"combine": {"x": "experts", "index": "gate.index", "score": "gate.score"}},
            },
            "out": "y",
        },
        "layer": {
            "doc": "A layer.",
            "args": {"d": None, "word": None, "kind": None, "ffn": "mlp"},
            "in": {"x": "[B, T, d]"},
            "body": {
                "a": {"attn": "x", "kind": "kind"},
                "h": {"add": ["x", "a"]},
                "f": {"ffn": "h", "at": "."},
                "e": {"einsum": ["h", "f"], "equation": "b t d, b t d -> b t d"},
            },
            "out": {"x": "e"},
        },
    },
    "graph": {
        "doc": "The whole.",
        "in": {"ids": "int[B, T]"},
        "body": {
            "embed": {"embedding": "ids", "num": "V", "dim": "d", "at": "model.embed"},
            "layers": {"layer": "embed", "repeat": 2, "at": "model.layers", "kind": "layer_types[index]"},
            "wide": {"mlp": "layers", "width": 24},
            "sparse": {"moe": "wide"},
            "norm": {"rms_norm": "sparse"},
            "head": {"linear": "norm", "out": "V", "weight": "embed.weight"},
            "next": {"shift": "ids", "by": 1},
            "depths": {"mlp": "norm", "repeat": 2, "at": "again"},
        },
        "out": {"logits": "head", "states": "depths", "next": "next"},
    },
    "loss": {
        "main": {"cross_entropy": "logits", "target": "ids", "shift": 1, "weight": "0.5 if tokens < needed else 1"},
        "balance": {"sequence_balance": "**.gate", "weight": "1e-4"},
        "bias": {"bias_update": "sparse.*", "speed": "0.001 * (1 + tokens)"},
    },
    "init": {"**": {"normal": 0.1}, "**.up.weight": "ones"},
    "trained": {"wide.**": False},
}  # fmt: skip

Place = tuple[tuple[Any, ...], bool]  # the path of a text, and whether it is a key


def places(value: Any, path: tuple[Any, ...] = ()) -> Iterator[Place]:
    """Every place below ``value`` where a text stands."""
    for key, inner in value.items() if isinstance(value, dict) else enumerate(value):
        if isinstance(key, str):
            yield (*path, key), True
        if isinstance(inner, (dict, list)):
            yield from places(inner, (*path, key))
        elif isinstance(inner, str):
            yield (*path, key), False


def put(data: Any, place: Place, text: str) -> Any:
    """A copy of ``data`` with ``text`` at a place."""
    path, is_key = place
    data = deepcopy(data)
    holder = data
    for step in path[:-1]:
        holder = holder[step]
    if not is_key:
        holder[path[-1]] = text
    else:
        entries = [(text if key == path[-1] else key, value) for key, value in holder.items()]
        holder.clear()
        holder.update(entries)
    return data


FLAT = {"body", "config", "loss", "init", "trained"}  # sections whose entries take a line each


def dumped(data: Any, depth: int = 1) -> str:
    """``data`` as YAML, each node and each text outside of nodes on a line of its own; None is no value."""
    if not isinstance(data, dict):
        return json.dumps(data)
    lines = [_line(key, value, depth) for key, value in data.items()]
    return "{\n" + "".join(f"{' ' * depth}{line},\n" for line in lines) + " " * (depth - 1) + "}"


def _line(key: str, value: Any, depth: int) -> str:
    if value is None:
        return json.dumps(key)
    if key in FLAT and isinstance(value, dict):
        pad = "\n" + " " * (depth + 1)
        return f"{json.dumps(key)}: {{{''.join(f'{pad}{json.dumps(k)}: {json.dumps(v)},' for k, v in value.items())}}}"
    return f"{json.dumps(key)}: {dumped(value, depth + 1)}"
