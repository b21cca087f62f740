"""The spec with everything resolved, as YAML that checks to the same graph."""

from __future__ import annotations

import json
import re
import textwrap
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from dsvgraph.build.scope import BlockValue
from dsvgraph.errors import DsvError
from dsvgraph.graph import Model
from dsvgraph.passes.count.generic import numeric_model
from dsvgraph.passes.text.scalars import LINE_WIDTH, PROSE_WIDTH, is_constant, is_plain_line, quoted
from dsvgraph.spec import BlockModel, Spec, SpecPart

PLAIN = re.compile(  # inside braces
    r"(?:[A-Za-z_(]|\d[\d.]* [a-z*/+-])(?:[\w .()*/+<>=%-]*[\w)])?\Z|\d+(?:\.\d+)?[KMBT]\Z|\.\Z|\.\.\.\Z", re.ASCII
)
WORD = re.compile(r"[A-Za-z_]\w*", re.ASCII)


def show(model: Model) -> str:
    """Return ``model`` as one self-contained spec: files merged, config evaluated, only blocks that are used.

    Checking the text gives a graph with the same signature, and showing that the same text.
    Raise DsvError if the model was not made from a spec.

    >>> import dsvgraph
    >>> show(dsvgraph.load("deepseek_v3_tiny")).splitlines()[0]
    'name: DeepSeek-V3-tiny'
    """
    if model.spec is None:
        raise DsvError(f"`{model.name}` was not made from a spec, so there is none to show")
    model = numeric_model(model)
    assert model.spec is not None
    return "\n".join(_spec(model.spec, model.config)) + "\n"


def _spec(spec: Spec, config: Mapping[str, Any]) -> Iterator[str]:
    yield f"name: {_block(spec.name)}"
    yield from _doc(spec.doc, "")
    yield from _published(spec.published)
    yield from _section("config", (f"  {name}: {_block(_plain(value))}" for name, value in config.items()))
    yield from _section("blocks", _blocks(spec, config))
    yield from _section("graph", _body(spec.graph.model, "  "))
    yield from _section("loss", _lines({name: part.model for name, part in spec.loss.items()}, "  "))
    for section, parts in (("init", spec.init), ("trained", spec.trained)):
        yield from _section(section, (f"  {_flow(p)}: {_flow(part.model)}" for p, part in parts.items()))


def _published(part: SpecPart | None) -> Iterator[str]:
    """Yield the figures that others give, on one line."""
    if part is not None:
        yield f"published: {_flow(part.model.model_dump(exclude_none=True))}"


def _section(name: str, lines: Iterable[str]) -> Iterator[str]:
    found = list(lines)
    if found:
        yield from ("", f"{name}:", *found)


def _blocks(spec: Spec, config: Mapping[str, Any]) -> Iterator[str]:
    used = used_blocks(spec, config)
    for number, (name, part) in enumerate((n, p) for n, p in spec.blocks.items() if n in used):
        yield from [""] * (number > 0)
        yield f"  {name}:"
        yield from _doc(part.model.doc, "    ")
        yield from _body(part.model, "    ")


def used_blocks(spec: Spec, config: Mapping[str, Any]) -> set[str]:
    """Return the blocks that the graph can reach, by every word of the lines that it can reach."""
    found: set[str] = set()
    pending = (_names_in_part(spec.graph) | names_in({n: _plain(v) for n, v in config.items()})) & spec.blocks.keys()
    while pending:
        found |= pending
        pending = set().union(*(_names_in_part(spec.blocks[name]) for name in pending)) & spec.blocks.keys() - found
    return found


def _names_in_part(part: SpecPart) -> set[str]:
    model: BlockModel = part.model
    return names_in(model.args) | names_in(model.body)


def names_in(value: Any) -> set[str]:
    """Return the names in a raw value, wherever they stand."""
    if isinstance(value, Mapping):
        return set(value).union(*(names_in(v) for v in value.values()))
    if isinstance(value, list):
        return set().union(*(names_in(v) for v in value))
    return set(WORD.findall(value)) if isinstance(value, str) else set()


def _body(model: BlockModel, indent: str) -> Iterator[str]:
    if model.args:
        yield f"{indent}args:"
        yield from (_entry(name, value, indent + "  ") for name, value in model.args.items())
    yield f"{indent}in:"
    yield from (_entry(name, value, indent + "  ") for name, value in model.inputs.items())
    yield f"{indent}body:"
    yield from _lines(model.body, indent + "  ")
    out = model.out
    yield f"{indent}out: {_flow(out)}"
    if model.cache:
        yield f"{indent}cache: {_flow(model.cache)}"


def _entry(name: str, value: Any, indent: str) -> str:
    return f"{indent}{name}:" + (f" {_block(value)}" if value is not None else "")


def _lines(body: Mapping[str, Mapping[str, Any]], indent: str) -> Iterator[str]:
    """Named lines in columns; one that is too long for the page takes a line per key."""
    width = max((len(name) for name in body), default=0) + 1
    for name, raw in body.items():
        line = f"{indent}{name + ':':<{width}} {_flow(raw)}"
        if len(line) <= LINE_WIDTH:
            yield line
        else:
            yield f"{indent}{name}:"
            yield from (_entry(_flow(key), value, indent + "  ") for key, value in raw.items())


def _doc(doc: str, indent: str) -> Iterator[str]:
    if not doc:
        return
    if len(doc) + len(indent) < PROSE_WIDTH or " ".join(doc.split()) != doc:
        yield f"{indent}doc: {_block(doc)}"
    else:
        yield f"{indent}doc: >-"
        yield from textwrap.wrap(
            doc, PROSE_WIDTH, initial_indent=indent + "  ", subsequent_indent=indent + "  ",
            break_long_words=False, break_on_hyphens=False,
        )  # fmt: skip


def _plain(value: Any) -> Any:
    """Return an evaluated value as it is written: blocks by their name, with what is given."""
    if isinstance(value, BlockValue):
        given = {name: _plain(v) for name, v in value.presets}
        return {value.name: None, **given} if given else value.name
    if isinstance(value, Mapping):
        return {name: _plain(v) for name, v in value.items()}
    return [_plain(v) for v in value] if isinstance(value, (list, tuple)) else value


def _block(value: Any) -> str:
    """Return a value after `name: ` on a line of its own."""
    return value if isinstance(value, str) and is_plain_line(value) else _flow(value)


def _flow(value: Any) -> str:
    """Return a value inside braces."""
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{_flow(k)}: {_flow(v)}" for k, v in value.items()) + "}"
    if isinstance(value, (list, tuple)):
        return "[" + ", ".join(_flow(v) for v in value) + "]"
    if isinstance(value, str):
        return value if PLAIN.match(value) and not is_constant(value) else quoted(value)
    return json.dumps(value)
