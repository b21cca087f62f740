"""What lies open in an editor, and what the checker makes of it: files with their unsaved texts."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from dsvgraph import build, loader
from dsvgraph.errors import Diagnostic, DsvError, Span
from dsvgraph.graph import Graph, Model
from dsvgraph.loader import Doc
from dsvgraph.passes.lint.unused import lint
from dsvgraph.spec import Spec, SpecModel, read_open
from dsvgraph_lsp.cursor import BREAK

MODEL = {"graph", "extends", "config", "loss", "init", "trained", "published"}  # a library has none of these
FRAME = """
graph:
  in: {ids: "int[B, T]"}
  body: {e: {embedding: ids, num: 1, dim: 1}}
  out: e
"""
MAX_FILES = 200
INTERNAL = "the checker failed here, which is a mistake of dsvgraph: please report it"

TOP = re.compile(r"^([A-Za-z_][\w-]*)\s*:", re.MULTILINE)
SECTIONS = {field.alias or name for name, field in SpecModel.model_fields.items()}

Texts = Mapping[Path, str]


@dataclass(frozen=True)
class Page:
    """One open file as it was checked: ``doc`` is None where it is no YAML, ``model`` where it is wrong.

    A library of blocks has a spec and no model. ``files`` are the files that it reads, with the place
    of the `include` or `extends` in this one that leads there.
    """

    path: Path
    doc: Doc | None = None
    spec: Spec | None = None
    model: Model | None = None
    told: tuple[Diagnostic, ...] = ()
    files: Mapping[Path, Span] = field(default_factory=dict)

    @property
    def data(self) -> dict[str, Any]:
        """The text as data; empty where it is none."""
        return self.doc.data if self.doc and isinstance(self.doc.data, dict) else {}


def place_of(span: Span) -> Path:
    """The file that a span stands in."""
    return Path(span.source.name).resolve()


def is_spec(text: str) -> bool:
    """Whether a text is meant as a spec: an editor opens other YAML files too, with keys of their own."""
    keys = set(TOP.findall(text))
    return len(keys & SECTIONS) >= len(keys - SECTIONS) and not text.lstrip().startswith("- ")


def look(path: Path, texts: Texts) -> Page:
    """The open file ``path`` as the checker sees it, among other open ``texts``. Never raises."""
    page = Page(path)
    try:
        if is_spec(texts[path]):
            doc = loader.read(path, None, texts[path])
            page = Page(path, doc, files=dict(_files(doc, path, texts)))
            page = _checked(page, texts) if doc.data is not None else page
    except DsvError as error:
        return replace(page, told=error.diagnostics)
    except Exception:  # noqa: BLE001 - an editor's server lives on
        return replace(page, told=(Diagnostic(INTERNAL, page.doc.value() if page.doc else None),))
    return page


def _checked(page: Page, texts: Texts) -> Page:
    if not (MODEL & page.data.keys()) and page.data:
        return _library(page, texts)
    spec = read_open(page.path, texts)
    try:
        model = build(spec)
    except DsvError as error:
        return replace(page, spec=spec, told=error.diagnostics)
    return replace(page, spec=spec, model=model, told=tuple(lint(model)))


def _library(page: Page, texts: Texts) -> Page:
    """A file of blocks alone: read as a spec, with a graph after its end that calls none of them."""
    text = texts[page.path]
    try:
        return replace(page, spec=read_open(page.path, {**texts, page.path: text + FRAME}))
    except DsvError as error:
        last = len(BREAK.split(text))
        told = [d for d in error.diagnostics if d.span is None or d.span.line <= last or place_of(d.span) != page.path]
        return replace(page, told=tuple(told))


def _files(doc: Doc, path: Path, texts: Texts) -> Iterator[tuple[Path, Span]]:
    """Every file that is read, however far away; what cannot be read leads nowhere."""
    seen = {path}
    for name, span in _named(doc):
        fresh = [(name, path.parent)]
        while fresh and len(seen) < MAX_FILES:
            found = _read(*fresh.pop(), texts)
            if found and found[0] not in seen:
                seen.add(found[0])
                yield found[0], span
                fresh += [(inner, found[0].parent) for inner, _ in _named(found[1])]


def _named(doc: Doc) -> Iterator[tuple[str, Span]]:
    """What a file extends and includes, as it is written."""
    data = doc.data if isinstance(doc.data, dict) else {}
    included = data.get("include")
    named: dict[tuple[Any, ...], Any] = {("extends",): data.get("extends")}
    named |= {("include", i): name for i, name in enumerate(included if isinstance(included, list) else ())}
    for path, name in named.items():
        span = doc.value(*path)
        if isinstance(name, str) and span:
            yield name, span


def _read(name: str, folder: Path, texts: Texts) -> tuple[Path, Doc] | None:
    try:
        found = loader.find(name, folder).resolve()
        return found, loader.read(found, None, texts.get(found))
    except (DsvError, OSError, ValueError):
        return None


def _parsed(path: Path, text: str) -> Doc | None:
    try:
        return loader.read(path, None, text)
    except DsvError:
        return None


class Desk:
    """The open files: their texts now, their last check, and the last one that came to something."""

    def __init__(self) -> None:
        self.texts: dict[Path, str] = {}
        self.pages: dict[Path, Page] = {}
        self.good: dict[Path, Page] = {}
        self.docs: dict[Path, tuple[str, Doc | None]] = {}

    def put(self, page: Page) -> None:
        """Keeps a check."""
        self.pages[page.path] = page
        old = self.good.get(page.path)
        if page.model or (page.spec and not (old and old.model)):
            self.good[page.path] = page

    def drop(self, path: Path) -> None:
        """Forgets a file that was closed."""
        for kept in (self.texts, self.pages, self.good, self.docs):
            kept.pop(path, None)

    def is_spec(self, path: Path) -> bool:
        """Whether an open file is meant as a spec, or was one."""
        return path in self.texts and (is_spec(self.texts[path]) or path in self.good)

    def readers(self, path: Path) -> list[Path]:
        """The open files that read ``path``, itself first."""
        return [path, *(p for p, page in list(self.pages.items()) if p != path and path in page.files)]

    def doc(self, path: Path) -> Doc | None:
        """The text of ``path`` as data, or as it was when it last was some."""
        text = self.texts.get(path, "")
        known = self.docs.get(path)
        if known is None or known[0] != text:
            known = self.docs[path] = text, _parsed(path, text)
        old = self.good.get(path)
        return known[1] or (old.doc if old else None)

    def spec(self, path: Path) -> Spec | None:
        """The spec of ``path``, or the last that could be read."""
        now, old = self.pages.get(path), self.good.get(path)
        return now.spec if now and now.spec else old.spec if old else None

    def models(self, path: Path) -> list[Model]:
        """The last right model of ``path``, then those of open specs that read it."""
        found = [self.good[p].model for p in self.readers(path) if p in self.good]
        return [model for model in found if model]

    def graphs(self, path: Path, owner: tuple[str, ...]) -> list[tuple[Model, Graph]]:
        """The graphs that were built from `graph`, or from one block, of the file ``path``."""
        if owner == ("graph",):
            return [(m, m) for m in self.models(path) if m.span and place_of(m.span) == path]
        return [(m, g) for m in self.models(path) for g in m.graphs() if g.name == owner[-1] and _from(g, path)]


def _from(graph: Graph, path: Path) -> bool:
    return graph.span is not None and place_of(graph.span) == path
