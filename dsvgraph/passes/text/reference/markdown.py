"""The reference as Markdown: the text of docs/reference.md, and in a few lines what editors show."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from dsvgraph.build.ports import written as written_type
from dsvgraph.passes.text.reference.blocks import BlockPage
from dsvgraph.passes.text.reference.entries import ReferenceEntry, written
from dsvgraph.passes.text.reference.ops import OpPage

Page = OpPage | BlockPage


def markdown(title: str, pages: Mapping[str, Page]) -> str:
    """Return a chapter: a heading, and a section with a table for each page."""
    return "\n".join([f"## {title}", "", *(line for page in pages.values() for line in _section(page))])


def op_markdown(page: OpPage) -> str:
    """Return what an op computes, its formula, its ports and weights, as editors show it."""
    code = f"```\n{page.formula}\n```" if page.formula else ""
    entries = "\n".join(
        f"- {row.kind} `{row.name}` {_code(row.type)}" for row in page.entries() if row.kind != "attribute"
    )
    return "\n\n".join(filter(None, [*page.doc, code, entries]))


def block_markdown(doc: str, args: Mapping[str, Any], inputs: Mapping[str, Any], out: Any) -> str:
    """Return what a block is, its inputs, outputs and arguments; the parts are as they are written in YAML."""
    arguments = [f"`{n}`" if v is None else f"`{n}: {written(v)}`" for n, v in args.items()]
    entries = [f"- in `{port}` `{written_type(type_)}`" for port, type_ in inputs.items()]
    entries += [f"- out {_code(written(out))}"] + [f"- args {', '.join(arguments)}"] * bool(arguments)
    return "\n\n".join(filter(None, [doc, "\n".join(entries)]))


def _section(page: Page) -> Iterator[str]:
    yield from (f"### {page.name}", "")
    for paragraph in page.doc:
        yield from (paragraph, "")
    yield from (f"- {label}: {_code(text) if label != 'calls' else _list(text)}" for label, text in page.facts())
    yield ""
    yield from _table(page.entries())


def _list(text: str) -> str:
    return ", ".join(f"[`{name}`](#{name})" for name in text.split(", "))


def _table(entries: Iterable[ReferenceEntry]) -> Iterator[str]:
    found = list(entries)
    if found:
        yield from ("| | name | type | |", "|---|---|---|---|")
        yield from (f"| {r.kind} | `{r.name}` | {_cell(r)} | {_remark(r.remark)} |" for r in found)
        yield ""


def _cell(row: ReferenceEntry) -> str:
    shape = "[" in row.type
    return _code(row.type) if shape else row.type


def _remark(text: str) -> str:
    return ", ".join(_part(part) for part in text.split(", ")) if not text.startswith("default") else _part(text)


def _part(text: str) -> str:
    head, _, value = text.partition(" ")
    return f"{head} {_code(value)}" if head in ("default", "with", "times") else text


def _code(text: str) -> str:
    return f"`{text}`" if text else ""
