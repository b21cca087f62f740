"""The text of a spec, and the lines that the specs of all families share."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any

from dsvgraph_hf.config.hub_config import QUANT_METHODS, HubConfig
from dsvgraph_hf.config.rope import DEFAULT, Rope

COLUMN = 43  # of comments, as in the bundled specs
PLAIN = re.compile(r"[A-Za-z][\w .()+-]*", re.ASCII)
YARN_SOFTMAX_SCALE = (
    "(qk_nope_head_dim + qk_rope_head_dim) ** -0.5 "
    "* (0.1 * rope_scaling.mscale_all_dim * log(rope_scaling.factor) + 1) ** 2"
)


@dataclass(frozen=True)
class SpecLine:
    """One line `name: text` with a comment; a text of several lines is written below its name."""

    name: str
    text: str
    comment: str = ""


LOGITS = SpecLine("logits", "lm_head")
NEXT_TOKEN = SpecLine("next_token", "{cross_entropy: logits, target: input_ids, shift: 1}")
INIT_NORMS = SpecLine('"**norm.weight"', "ones")
INIT_BIASES = SpecLine('"**.bias"', "zeros")
INIT_NORMAL = SpecLine('"**"', "{normal: initializer_range}")


@dataclass(frozen=True, kw_only=True)
class SpecDraft:
    """The sections of a spec. ``name`` is used where the model has none; ``config`` has groups of lines.

    ``blocks`` is the text of a section `blocks`, for those that no bundled file of ``include`` has.
    """

    name: str
    doc: str
    include: tuple[str, ...]
    blocks: str = ""
    config: tuple[tuple[SpecLine, ...], ...]
    body: tuple[SpecLine, ...]
    out: tuple[SpecLine, ...] = (LOGITS,)
    loss: tuple[SpecLine, ...] = (NEXT_TOKEN,)
    init: tuple[SpecLine, ...] = (INIT_NORMAL, INIT_NORMS)


def write(draft: SpecDraft, name: str, header: Iterable[str], canonical: bool = True) -> str:
    """Return the text of a spec with comments ``header`` at its top; ``canonical`` formats it for people."""
    lines = [f"# {comment}" for comment in header]
    lines += [f"name: {scalar(name or draft.name)}", f"doc: {scalar(draft.doc)}"]
    lines += [f"include: [{', '.join(f'blocks/{file}.yaml' for file in draft.include)}]"]
    lines += ["", *commented("config:", "names and values as in config.json")]
    lines += [line for group in draft.config if group for line in [*_lines(group), ""]]
    lines += ["blocks:", *(f"  {line}".rstrip() for line in draft.blocks.splitlines()), ""] if draft.blocks else []
    lines += ["graph:", "  in:", "    input_ids: int[B, T]", "  body:", *_lines(draft.body, 4)]
    lines += ["  out:", *_lines(draft.out, 4), "", "loss:", *_lines(draft.loss)]
    lines += ["", *commented("init:", "the last pattern that matches wins"), *_lines(draft.init)]
    found = "\n".join(lines) + "\n"
    if not canonical:
        return found
    from dsvgraph.passes.text.layout import layout

    return layout(found)


def _lines(lines: Sequence[SpecLine], indent: int = 2) -> Iterator[str]:
    margin = " " * indent
    for line in lines:
        if "\n" in line.text:
            yield from commented(f"{margin}{line.name}:", line.comment)
            yield from (f"{margin}  {text}" for text in line.text.splitlines())
        elif not line.name:
            yield f"{margin}# {line.comment}"
        else:
            yield from commented(f"{margin}{line.name}: {line.text}", line.comment)


def commented(line: str, comment: str) -> Iterator[str]:
    """Yield a line with its comment behind it, or above it if both are too long for one line."""
    if not comment:
        yield line
    elif len(line) + len(comment) + 4 <= 120:
        yield f"{line.ljust(COLUMN - 2)}  # {comment}"
    else:
        yield f"{' ' * (len(line) - len(line.lstrip()))}# {comment}"
        yield line


def scalar(value: Any) -> str:
    """Return a value as it is written in a spec.

    >>> scalar({"type": "yarn", "mscale": 1.0}), scalar(1e-06), scalar(None)
    ('{type: yarn, mscale: 1.0}', '1e-6', 'null')
    """
    if isinstance(value, dict):
        return "{" + ", ".join(f"{k}: {scalar(v)}" for k, v in value.items()) + "}"
    if isinstance(value, (list, tuple)):
        return "[" + ", ".join(scalar(v) for v in value) + "]"
    if isinstance(value, str):
        plain = PLAIN.fullmatch(value) and value.strip() == value and value.lower() not in ("true", "false", "null")
        return value if plain else json.dumps(value, ensure_ascii=False)
    if isinstance(value, float):
        return re.sub(r"e([+-]?)0*(\d)", r"e\1\2", repr(value)).replace("e+", "e")
    words = {None: "null", True: "true", False: "false"}
    return words[value] if value is None or isinstance(value, bool) else str(value)


# -- config -------------------------------------------------------------------------------------


def doc(c: HubConfig, kind: str, arxiv: str = "") -> str:
    """Return the text of `doc`: the kind of decoder, its depth and width, and its paper."""
    paper = f" (arXiv {arxiv})" if arxiv else ""
    return f"{kind}, {c.num_hidden_layers} layers of width {c.hidden_size}{paper}."


def field_line(c: HubConfig, name: str, comment: str = "") -> SpecLine:
    """Return a field as a line of `config`; without ``comment``, a default is marked as one."""
    return SpecLine(name, scalar(getattr(c, name)), comment or ("" if name in c.given else DEFAULT))


def field_lines(c: HubConfig, *names: str) -> tuple[SpecLine, ...]:
    """Return fields as lines of `config`."""
    return tuple(field_line(c, name) for name in names)


def quantization_comments(c: HubConfig) -> tuple[str, ...]:
    """Return the comment on how the weights are stored, if they are quantized."""
    if c.quantization_config is None:
        return ()
    method = c.quantization_config["quant_method"]
    return (f"quantization_config: {QUANT_METHODS[method]}, which changes numbers and not the graph.",)


def size_lines(c: HubConfig, *more: SpecLine) -> tuple[SpecLine, ...]:
    """Return the first group of `config`: the sizes of the whole model (``more`` among them) and its constants."""
    dropout: tuple[SpecLine, ...] = ()
    if c.attention_dropout:
        words = f"attention_dropout {scalar(c.attention_dropout)} is left out: no op drops attention weights"
        dropout = (SpecLine("", "", f"{words} while training"),)
    sizes = field_lines(c, "vocab_size", "hidden_size", "num_hidden_layers")
    return (*sizes, *more, *field_lines(c, "rms_norm_eps", "initializer_range", "max_position_embeddings"), *dropout)


def rope_lines(rope: Rope, *between: SpecLine) -> Iterator[SpecLine]:
    """Yield the lines of a rope: its base, the lines ``between``, and its scaling if it has one."""
    yield SpecLine("rope_theta", scalar(rope.theta), rope.comments[0])
    yield from between
    if rope.scaling:
        yield SpecLine("rope_scaling", scalar(rope.scaling), rope.comments[1])


def activation_line(c: HubConfig) -> SpecLine:
    """Return the line of the activation, by the name of its op."""
    comment = f"hidden_act: {c.hidden_act}" if c.hidden_act != c.act else ""
    return SpecLine("hidden_act", c.act, comment or field_line(c, "hidden_act").comment)


# -- graph --------------------------------------------------------------------------------------


def decoder_body(c: HubConfig, *layers: SpecLine) -> tuple[SpecLine, ...]:
    """Return the body of a decoder around the lines of its layers, each of which reads the one before."""
    embed = SpecLine("embed", "{embedding: input_ids, num: vocab_size, dim: hidden_size, at: model.embed_tokens}")
    norm = SpecLine("norm", f"{{rms_norm: {layers[-1].name}, eps: rms_norm_eps, at: model.norm}}")
    return (embed, *layers, norm, _output_layer(c))


def _output_layer(c: HubConfig) -> SpecLine:
    if c.tie_word_embeddings:
        return SpecLine("lm_head", "{linear: norm, out: vocab_size, weight: embed.weight}", "tie_word_embeddings: true")
    return SpecLine("lm_head", "{linear: norm, out: vocab_size}")


def layers_line(
    name: str, source: str, *, repeat: str = "num_hidden_layers", block: str = "decoder_layer", comment: str = "",
    **args: str,
) -> SpecLine:  # fmt: skip
    """Return a line of layers, whose numbers continue those of the lines before; ``args`` are their blocks."""
    given = "".join(f", {key}: {value}" for key, value in args.items() if value)
    return SpecLine(name, f"{{{block}: {source}{given}, at: model.layers, repeat: {repeat}}}", comment)


def shortest_cycle(items: Sequence[str]) -> list[str]:
    """Return the shortest list that gives ``items`` when it is repeated.

    >>> shortest_cycle(["a", "b", "a", "b", "a"])
    ['a', 'b']
    """
    for length in range(1, len(items)):
        if all(item == items[i % length] for i, item in enumerate(items)):
            return list(items[:length])
    return list(items)


def layer_condition(numbers: Iterable[int]) -> str:
    """Return the expression that is true for the layers ``numbers``.

    >>> layer_condition([0, 4, 5, 6])
    'index == 0 or (index >= 4 and index <= 6)'
    """
    found = []
    for _, group in groupby(enumerate(sorted(set(numbers))), lambda pair: pair[1] - pair[0]):
        run = [number for _, number in group]
        several = f"(index >= {run[0]} and index <= {run[-1]})"
        found.append(several if len(run) > 1 else f"index == {run[0]}")
    return " or ".join(found)
