"""The reference as Markdown: the text of docs/reference.md."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

from dsvgraph.passes.text.reference.blocks import BlockPage
from dsvgraph.passes.text.reference.ops import OpPage
from dsvgraph.passes.text.reference.rows import Row

Page = OpPage | BlockPage


def markdown(title: str, pages: Mapping[str, Page]) -> str:
    """A chapter: a heading, and a section with a table for each page."""
    return "\n".join([f"## {title}", "", *(line for page in pages.values() for line in _section(page))])


def _section(page: Page) -> Iterator[str]:
    yield from (f"### {page.name}", "")
    for paragraph in page.doc:
        yield from (paragraph, "")
    yield from (f"- {label}: {_code(text) if label != 'calls' else _list(text)}" for label, text in page.facts())
    yield ""
    yield from _table(page.rows())


def _list(text: str) -> str:
    return ", ".join(f"[`{name}`](#{name})" for name in text.split(", "))


def _table(rows: Iterable[Row]) -> Iterator[str]:
    found = list(rows)
    if found:
        yield from ("| | name | type | |", "|---|---|---|---|")
        yield from (f"| {r.kind} | `{r.name}` | {_cell(r)} | {_remark(r.remark)} |" for r in found)
        yield ""


def _cell(row: Row) -> str:
    shape = "[" in row.type
    return _code(row.type) if shape else row.type


def _remark(text: str) -> str:
    return ", ".join(_part(part) for part in text.split(", ")) if not text.startswith("default") else _part(text)


def _part(text: str) -> str:
    head, _, value = text.partition(" ")
    return f"{head} {_code(value)}" if head in ("default", "with", "times") else text


def _code(text: str) -> str:
    return f"`{text}`" if text else ""
