"""The open documents of an editor with their unsaved texts, and the results of their last checks."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from dsvgraph import build, loader
from dsvgraph.errors import Diagnostic, DsvError, Source, Span
from dsvgraph.graph import Graph, Model
from dsvgraph.loader import Doc
from dsvgraph.passes.lint.unused import lint
from dsvgraph.spec import Spec, SpecModel, read_open
from dsvgraph_lsp.cursor import BREAK

MODEL_SECTIONS = {"graph", "extends", "config", "loss", "init", "trained", "published"}  # a library has none of these
APPENDED = """
graph:
  in: {ids: "int[B, T]"}
  body: {e: {embedding: ids, num: 1, dim: 1}}
  out: e
"""
MAX_FILES = 200
INTERNAL = "the checker failed here, which is a mistake of dsvgraph: please report it"

TOP_KEY = re.compile(r"^([A-Za-z_][\w-]*)\s*:", re.MULTILINE)
SECTIONS = {field.alias or name for name, field in SpecModel.model_fields.items()}

Texts = Mapping[Path, str]


@dataclass(frozen=True)
class Document:
    """One open file as it was checked: ``doc`` is None if it is no YAML, ``model`` if it has errors.

    A library of blocks has a spec and no model. ``dependencies`` are the files that it reads, each with the
    span of the `include` or `extends` of this file that leads to it.
    """

    path: Path
    doc: Doc | None = None
    spec: Spec | None = None
    model: Model | None = None
    diagnostics: tuple[Diagnostic, ...] = ()
    dependencies: Mapping[Path, Span] = field(default_factory=dict)

    @property
    def data(self) -> dict[str, Any]:
        """Return the text as a mapping; empty if it is none."""
        return self.doc.data if self.doc and isinstance(self.doc.data, dict) else {}


def file_of(source: Source) -> Path:
    """Return the path of a source."""
    return Path(source.name).resolve()


def is_spec(text: str) -> bool:
    """Return whether a text is meant as a spec: at least half of its keys are sections of one."""
    keys = set(TOP_KEY.findall(text))
    return len(keys & SECTIONS) >= len(keys - SECTIONS) and not text.lstrip().startswith("- ")


def check_document(path: Path, texts: Texts) -> Document:
    """Check the open file ``path``; other files are read from ``texts`` if they are open. Never raises."""
    document = Document(path)
    try:
        if is_spec(texts[path]):
            doc = loader.read(path, None, texts[path])
            document = Document(path, doc, dependencies=dict(_dependencies(doc, path, texts)))
            document = _checked(document, texts) if doc.data is not None else document
    except DsvError as error:
        return replace(document, diagnostics=error.diagnostics)
    except Exception:  # noqa: BLE001 - an editor's server lives on
        return replace(document, diagnostics=(Diagnostic(INTERNAL, document.doc.value() if document.doc else None),))
    return document


def _checked(document: Document, texts: Texts) -> Document:
    if not (MODEL_SECTIONS & document.data.keys()) and document.data:
        return _library(document, texts)
    spec = read_open(document.path, texts)
    try:
        model = build(spec)
    except DsvError as error:
        return replace(document, spec=spec, diagnostics=error.diagnostics)
    return replace(document, spec=spec, model=model, diagnostics=tuple(lint(model)))


def _library(document: Document, texts: Texts) -> Document:
    """Check a file of blocks: read it as a spec, with a graph appended that calls none of them."""
    text = texts[document.path]
    try:
        return replace(document, spec=read_open(document.path, {**texts, document.path: text + APPENDED}))
    except DsvError as error:
        last = len(BREAK.split(text))
        own = tuple(d for d in error.diagnostics if not _is_appended(d, document.path, last))
        return replace(document, diagnostics=own)


def _is_appended(found: Diagnostic, path: Path, last: int) -> bool:
    """Return whether a diagnostic of ``path`` is of the appended graph, below its line ``last``."""
    return found.span is not None and found.span.line > last and file_of(found.span.source) == path


def _dependencies(doc: Doc, path: Path, texts: Texts) -> Iterator[tuple[Path, Span]]:
    """Yield every file that is read, also indirectly, up to MAX_FILES; a file that cannot be read has none."""
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
    """Yield the names that a file extends and includes, as they are written."""
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


class Workspace:
    """The open files: their texts, their last check, and the last check that gave a spec or a model."""

    def __init__(self) -> None:
        self.texts: dict[Path, str] = {}
        self.documents: dict[Path, Document] = {}
        self.last_good: dict[Path, Document] = {}
        self.docs: dict[Path, tuple[str, Doc | None]] = {}

    def update(self, document: Document) -> None:
        """Keep a check."""
        self.documents[document.path] = document
        old = self.last_good.get(document.path)
        if document.model or (document.spec and not (old and old.model)):
            self.last_good[document.path] = document

    def remove(self, path: Path) -> None:
        """Remove a file that was closed."""
        for kept in (self.texts, self.documents, self.last_good, self.docs):
            kept.pop(path, None)

    def is_spec(self, path: Path) -> bool:
        """Return whether an open file is meant as a spec, or was one."""
        return path in self.texts and (is_spec(self.texts[path]) or path in self.last_good)

    def dependents(self, path: Path) -> list[Path]:
        """Return the open files that read ``path``, itself first."""
        others = list(self.documents.items())
        return [path, *(p for p, document in others if p != path and path in document.dependencies)]

    def doc(self, path: Path) -> Doc | None:
        """Return ``path`` as YAML with positions; if its text is none now, as it last was."""
        text = self.texts.get(path, "")
        known = self.docs.get(path)
        if known is None or known[0] != text:
            known = self.docs[path] = text, _parsed(path, text)
        old = self.last_good.get(path)
        return known[1] or (old.doc if old else None)

    def spec(self, path: Path) -> Spec | None:
        """Return the spec of ``path``, or the last that could be read."""
        current, old = self.documents.get(path), self.last_good.get(path)
        return current.spec if current and current.spec else old.spec if old else None

    def models(self, path: Path) -> list[Model]:
        """Return the last model of ``path``, then those of open specs that read it."""
        found = [self.last_good[p].model for p in self.dependents(path) if p in self.last_good]
        return [model for model in found if model]

    def graphs(self, path: Path, owner: tuple[str, ...]) -> list[tuple[Model, Graph]]:
        """Return the graphs that were built from the section `graph`, or from one block, of the file ``path``."""
        if owner == ("graph",):
            return [(m, m) for m in self.models(path) if m.span and file_of(m.span.source) == path]
        return [(m, g) for m in self.models(path) for g in m.graphs() if g.name == owner[-1] and _from(g, path)]


def _from(graph: Graph, path: Path) -> bool:
    return graph.span is not None and file_of(graph.span.source) == path
