"""What `ops` and `blocks` share: one page in a terminal, as JSON or as Markdown."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Annotated, Any

import typer

from dsvgraph.cli import output
from dsvgraph.errors import DsvError
from dsvgraph.names import listed, nearest

if TYPE_CHECKING:
    from dsvgraph.passes.text.reference import ReferenceEntry
    from dsvgraph.passes.text.reference.markdown import Page


def name_argument(names: Callable[[], Iterable[str]]) -> Any:
    """Return the argument NAME of a command, which a shell completes from ``names``."""

    def complete(incomplete: str) -> list[str]:
        return sorted(name for name in names() if name.startswith(incomplete))

    return typer.Argument(metavar="NAME", help="Print all of this one.", autocompletion=complete, show_default=False)


MarkdownOption = Annotated[bool, typer.Option("--markdown", help="Print Markdown, as in docs/reference.md.")]


def tell(
    kind: str,
    title: str,
    pages: Mapping[str, Page],
    name: str | None,
    as_json: bool,
    as_markdown: bool,
    others: Mapping[str, Callable[[], Mapping[str, Any]]],
) -> None:
    """Prints one page, or all of them; raises DsvError where there is none of this name."""
    from dsvgraph.passes.text.reference import markdown

    if name is not None and name not in pages:
        raise DsvError(f"there is no {kind} `{name}`", hint=_hint(name, pages, others))
    chosen = pages if name is None else {name: pages[name]}
    if as_json:
        output.data([p.as_dict() for p in chosen.values()] if name is None else pages[name].as_dict())
    elif as_markdown:
        print(markdown(title, chosen).rstrip())
    else:
        for page in chosen.values():
            _print(page)


def _hint(name: str, pages: Mapping[str, Page], others: Mapping[str, Callable[[], Mapping[str, Any]]]) -> str:
    for kind, found in others.items():
        if name in found():
            return f"it is {'an' if kind == 'op' else 'a'} {kind}: dsvgraph {kind}s {name}"
    return nearest(name, pages) or f"there are {listed(pages, len(pages))}"


def _print(page: Page) -> None:
    for paragraph in page.doc:
        output.write(output.cell(paragraph), "")
    output.write(output.pairs(page.facts()), "")
    output.write(output.table(["", "name", "type"], _grouped(list(page.entries())), wraps=["type"]))


def _grouped(entries: list[ReferenceEntry]) -> list[tuple[str, str, str]]:
    """Return the rows, each kind named once, with remarks beside the type."""
    before = ["", *(row.kind for row in entries)]
    types = [", ".join(filter(None, (row.type, row.remark))) for row in entries]
    kinds = [row.kind if row.kind != last else "" for row, last in zip(entries, before, strict=False)]
    return [(kind, row.name, type_) for kind, row, type_ in zip(kinds, entries, types, strict=True)]
