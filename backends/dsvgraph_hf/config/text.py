"""The text of a spec, from the pieces that a family's template is made of."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any

from dsvgraph_hf.config.fields import QUANTISED, HubConfig
from dsvgraph_hf.config.rope import DEFAULT, Rope

COLUMN = 43  # where comments begin, as in the specs of the library
PLAIN = re.compile(r"[A-Za-z][\w .()+-]*", re.ASCII)
SOFTMAX = (
    "(qk_nope_head_dim + qk_rope_head_dim) ** -0.5 "
    "* (0.1 * rope_scaling.mscale_all_dim * log(rope_scaling.factor) + 1) ** 2"
)


@dataclass(frozen=True)
class Row:
    """One line `name: text`, and why it says so. A text of several lines stands below its name."""

    name: str
    text: str
    why: str = ""


@dataclass(frozen=True)
class Draft:
    """A spec before it is written: sections of rows; ``notes`` are comments at the top."""

    title: str
    doc: str
    notes: tuple[str, ...]
    include: tuple[str, ...]
    config: tuple[tuple[Row, ...], ...]
    body: tuple[Row, ...]
    out: tuple[Row, ...]
    loss: tuple[Row, ...]
    init: tuple[Row, ...]


def write(draft: Draft, name: str, origin: str, canonical: bool = True) -> str:
    """The whole text of a spec, in the canonical style if somebody is to read it; ``origin`` is its first line."""
    lines = [f"# {note}" for note in (origin, *draft.notes)]
    lines += [f"name: {scalar(name or draft.title)}", f"doc: {scalar(draft.doc)}"]
    lines += [f"include: [{', '.join(f'blocks/{file}.yaml' for file in draft.include)}]"]
    lines += ["", *commented("config:", "names and values as in config.json")]
    lines += [line for group in draft.config if group for line in [*_rows(group), ""]]
    lines += ["graph:", "  in:", "    input_ids: int[B, T]", "  body:", *_rows(draft.body, 4)]
    lines += ["  out:", *_rows(draft.out, 4), "", "loss:", *_rows(draft.loss)]
    lines += ["", *commented("init:", "the last pattern that matches wins"), *_rows(draft.init)]
    found = "\n".join(lines) + "\n"
    if not canonical:
        return found
    from dsvgraph.passes.text.layout import layout

    return layout(found)


def _rows(rows: Sequence[Row], indent: int = 2) -> Iterator[str]:
    margin = " " * indent
    for row in rows:
        if "\n" in row.text:
            yield from commented(f"{margin}{row.name}:", row.why)
            yield from (f"{margin}  {line}" for line in row.text.splitlines())
        elif not row.name:
            yield f"{margin}# {row.why}"
        else:
            yield from commented(f"{margin}{row.name}: {row.text}", row.why)


def commented(line: str, why: str) -> Iterator[str]:
    """A line with its comment behind it, or above it where both are long."""
    if not why:
        yield line
    elif len(line) + len(why) + 4 <= 120:
        yield f"{line.ljust(COLUMN - 2)}  # {why}"
    else:
        yield f"{' ' * (len(line) - len(line.lstrip()))}# {why}"
        yield line


def scalar(value: Any) -> str:
    """A value as YAML writes it in a spec.

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


def row(c: HubConfig, name: str, why: str = "") -> Row:
    """A field as a row of `config`; one that the file leaves out says so."""
    return Row(name, scalar(getattr(c, name)), why or ("" if name in c.given else DEFAULT))


def notes(c: HubConfig) -> tuple[str, ...]:
    """What the file says of how the weights are stored."""
    if c.quantization_config is None:
        return ()
    method = c.quantization_config["quant_method"]
    return (f"quantization_config: {QUANTISED[method]}, which changes numbers and not the graph.",)


def sizes(c: HubConfig, *more: Row) -> tuple[Row, ...]:
    """The group of the whole: vocabulary, width, layers, and what training was told."""
    whole = [row(c, name) for name in ("vocab_size", "hidden_size", "num_hidden_layers")]
    rest = [row(c, name) for name in ("rms_norm_eps", "initializer_range", "max_position_embeddings")]
    return (*whole, *more, *rest, *_silent(c))


def _silent(c: HubConfig) -> Iterator[Row]:
    """What the file says and the graph does not."""
    if c.attention_dropout:
        words = f"attention_dropout {scalar(c.attention_dropout)} is left out: no op drops attention weights"
        yield Row("", "", f"{words} while training")


def rope_rows(rope: Rope, *between: Row) -> Iterator[Row]:
    """How positions are rotated."""
    yield Row("rope_theta", scalar(rope.theta), rope.notes[0])
    yield from between
    if rope.scaling:
        yield Row("rope_scaling", scalar(rope.scaling), rope.notes[1])


def hidden_act(c: HubConfig) -> Row:
    """The activation, by its name in the language."""
    why = f"hidden_act: {c.hidden_act}" if c.hidden_act != c.act else ""
    return Row("hidden_act", c.act, why or row(c, "hidden_act").why)


# -- graph --------------------------------------------------------------------------------------


def decoder(c: HubConfig, *layers: Row) -> tuple[Row, ...]:
    """The body around the rows of the layers, each of which reads the one before."""
    embed = Row("embed", "{embedding: input_ids, num: vocab_size, dim: hidden_size, at: model.embed_tokens}")
    norm = Row("norm", f"{{rms_norm: {layers[-1].name}, eps: rms_norm_eps, at: model.norm}}")
    return (embed, *layers, norm, _head(c))


def _head(c: HubConfig) -> Row:
    if c.tie_word_embeddings:
        return Row("lm_head", "{linear: norm, out: vocab_size, weight: embed.weight}", "tie_word_embeddings: true")
    return Row("lm_head", "{linear: norm, out: vocab_size}")


def layers(
    name: str, source: str, repeat: str = "num_hidden_layers", block: str = "decoder_layer", why: str = "", **args: str
) -> Row:
    """A row of layers, numbered on from those before; ``args`` are the blocks they are made of."""
    given = "".join(f", {key}: {value}" for key, value in args.items() if value)
    return Row(name, f"{{{block}: {source}{given}, at: model.layers, repeat: {repeat}}}", why)


def cycle(items: Sequence[str]) -> list[str]:
    """The shortest list that gives ``items`` when it is repeated.

    >>> cycle(["a", "b", "a", "b", "a"])
    ['a', 'b']
    """
    for length in range(1, len(items)):
        if all(item == items[i % length] for i, item in enumerate(items)):
            return list(items[:length])
    return list(items)


def among(numbers: Iterable[int]) -> str:
    """The condition that a layer's number is among ``numbers``.

    >>> among([0, 4, 5, 6])
    'index == 0 or (index >= 4 and index <= 6)'
    """
    found = []
    for _, group in groupby(enumerate(sorted(set(numbers))), lambda pair: pair[1] - pair[0]):
        run = [number for _, number in group]
        several = f"(index >= {run[0]} and index <= {run[-1]})"
        found.append(several if len(run) > 1 else f"index == {run[0]}")
    return " or ".join(found)


# -- loss and init ------------------------------------------------------------------------------

LOGITS = Row("logits", "lm_head")
NEXT = Row("next_token", "{cross_entropy: logits, target: input_ids, shift: 1}")
GAINS = Row('"**norm.weight"', "ones")
BIASES = Row('"**.bias"', "zeros")
NORMAL = Row('"**"', "{normal: initializer_range}")
