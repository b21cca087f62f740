"""The language server, over standard input and output. Checks run in threads, after a pause in typing."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

from lsprotocol import types as lsp
from pygls.lsp.server import LanguageServer
from pygls.uris import to_fs_path

from dsvgraph import __version__
from dsvgraph.errors import DsvError
from dsvgraph.loader import MAX_BYTES
from dsvgraph.passes.text.layout import layout
from dsvgraph_lsp.completion import completion
from dsvgraph_lsp.cursor import BREAK, cursor_at
from dsvgraph_lsp.definition import definition
from dsvgraph_lsp.diagnostics import diagnostics, diagnostics_in
from dsvgraph_lsp.hover import hover
from dsvgraph_lsp.protocol import Encoder
from dsvgraph_lsp.scope import Scope
from dsvgraph_lsp.symbols import symbols
from dsvgraph_lsp.workspace import Workspace, check_document

PAUSE = 0.15  # seconds without a key before the text is checked; the initialization option `pause` is another
T = TypeVar("T")


class Server(LanguageServer):
    """The server of one client: the open files, and the checks that are pending or running."""

    def __init__(self) -> None:
        super().__init__("dsvgraph", __version__, text_document_sync_kind=lsp.TextDocumentSyncKind.Full)
        self.spec_workspace = Workspace()
        self.uris: dict[Path, str] = {}
        self.versions: dict[Path, int | None] = {}  # of the texts
        self.checked: dict[Path, int | None] = {}  # of the texts that were checked last
        self.pending: dict[Path, asyncio.Task[None]] = {}
        self.checking = asyncio.Lock()
        self.pause = PAUSE

    @property
    def encoder(self) -> Encoder:
        """The encoder of the client's positions."""
        return Encoder(self.workspace.position_codec, self.uris)

    # -- texts ------------------------------------------------------------------------------

    def open_text(self, uri: str, version: int | None, text: str, pause: float) -> None:
        """Set the text of an open file, and check it after a pause."""
        path = path_of(uri)
        self.uris[path], self.versions[path] = uri, version
        self.spec_workspace.texts[path] = text
        self.schedule(path, pause)

    def schedule(self, path: Path, pause: float) -> None:
        """Check a file after a pause; a pending check of it is cancelled."""
        if path in self.pending:
            self.pending[path].cancel()
        self.pending[path] = asyncio.ensure_future(self._check_after(path, pause))

    async def _check_after(self, path: Path, pause: float) -> None:
        await asyncio.sleep(pause)
        self.pending.pop(path, None)
        await self.check(path)

    def close(self, uri: str) -> None:
        """Close a file and clear its diagnostics."""
        path = path_of(uri)
        if path in self.pending:
            self.pending.pop(path).cancel()
        dependents = self.spec_workspace.dependents(path)[1:]
        self.spec_workspace.remove(path)
        self.checked.pop(path, None)
        self._publish(path, [])
        for known in (self.uris, self.versions):
            known.pop(path, None)
        for reader in dependents:  # they read the saved text again
            self.schedule(reader, 0)

    # -- checks -----------------------------------------------------------------------------

    async def check(self, path: Path) -> None:
        """Check a file and the open files that read it, and publish their diagnostics."""
        async with self.checking:
            for reader in self.spec_workspace.dependents(path):
                if reader in self.spec_workspace.texts:
                    texts, version = dict(self.spec_workspace.texts), self.versions[reader]
                    document = await asyncio.to_thread(check_document, reader, texts)
                    if self.versions.get(reader) == version:  # else the next check is under way
                        self.checked[reader] = version
                        self.spec_workspace.update(document)
        checked = self.spec_workspace.documents.get(path)
        for file in [*self.spec_workspace.dependents(path), *checked.dependencies] if checked else []:
            self.publish(file)

    def publish(self, path: Path) -> None:
        """Send the diagnostics of an open file: its own, and those that its dependents found in it."""
        document = self.spec_workspace.documents.get(path)
        if document is None or self.checked.get(path) != self.versions.get(path):
            return
        found = [*diagnostics(document)]
        for reader in self.spec_workspace.dependents(path)[1:]:
            found += diagnostics_in(self.spec_workspace.documents[reader], path)
        unique = {(diagnostic.span, diagnostic.message): diagnostic for diagnostic in reversed(found)}
        self._publish(path, [self.encoder.diagnostic(diagnostic) for diagnostic in reversed(unique.values())])

    def _publish(self, path: Path, found: list[lsp.Diagnostic]) -> None:
        uri = self.uris.get(path)
        if uri is not None:
            params = lsp.PublishDiagnosticsParams(uri=uri, version=self.checked.get(path), diagnostics=found)
            self.text_document_publish_diagnostics(params)

    # -- answers ----------------------------------------------------------------------------

    def scope(self, params: Any) -> Scope | None:
        """Return the scope at the position of a request; None if the file is not open, or too large."""
        path = path_of(params.text_document.uri)
        text = self.spec_workspace.texts.get(path)
        if text is None or len(text) > MAX_BYTES:
            return None
        lines, row = BREAK.split(text), params.position.line
        line = lines[row] if row < len(lines) else ""
        cursor = cursor_at(text, row, self.encoder.column(line, params.position.character))
        return Scope(self.spec_workspace, path, cursor)

    async def answer(self, params: Any, make: Callable[[Scope], T]) -> tuple[Scope, T] | None:
        """Run ``make`` in a thread on the scope of a request; None if there is no spec at its position."""
        path = path_of(params.text_document.uri)
        if path in self.spec_workspace.texts and path not in self.spec_workspace.documents:
            await self.check(path)  # it was opened just now
        return await asyncio.to_thread(self._answered, params, make)

    def _answered(self, params: Any, make: Callable[[Scope], T]) -> tuple[Scope, T] | None:
        scope = self.scope(params)
        return (scope, make(scope)) if scope and scope.is_spec else None


def path_of(uri: str) -> Path:
    """Return the path of a URI; one without a file is placed in the working directory."""
    found = to_fs_path(uri)
    return Path(found).resolve() if found and uri.startswith("file:") else Path.cwd() / Path(uri).name


def serve() -> None:
    """Serve one client until it exits."""
    make().start_io()


def make() -> Server:
    """Return a server with the handlers of all its requests."""
    server = Server()
    _texts(server)
    _disk(server)
    _positions(server)
    _fixes(server)
    _files(server)
    return server


def _texts(server: Server) -> None:
    """Register the handlers of text synchronization."""

    @server.feature(lsp.INITIALIZE)
    async def begun(ls: Server, params: lsp.InitializeParams) -> None:
        options = params.initialization_options
        pause = options.get("pause") if isinstance(options, dict) else None
        ls.pause = min(max(float(pause), 0), 10) if isinstance(pause, (int, float)) else PAUSE

    @server.feature(lsp.TEXT_DOCUMENT_DID_OPEN)
    async def opened(ls: Server, params: lsp.DidOpenTextDocumentParams) -> None:
        document = params.text_document
        ls.open_text(document.uri, document.version, document.text, 0)

    @server.feature(lsp.TEXT_DOCUMENT_DID_CHANGE)
    async def changed(ls: Server, params: lsp.DidChangeTextDocumentParams) -> None:
        document = params.text_document
        if path_of(document.uri) not in ls.spec_workspace.texts:
            return  # it was never opened
        ls.open_text(document.uri, document.version, ls.workspace.get_text_document(document.uri).source, ls.pause)

    @server.feature(lsp.TEXT_DOCUMENT_DID_SAVE)
    async def saved(ls: Server, params: lsp.DidSaveTextDocumentParams) -> None:
        ls.schedule(path_of(params.text_document.uri), 0)

    @server.feature(lsp.TEXT_DOCUMENT_DID_CLOSE)
    async def closed(ls: Server, params: lsp.DidCloseTextDocumentParams) -> None:
        ls.close(params.text_document.uri)


def _disk(server: Server) -> None:
    """Register the handlers of changes on disk: open files may read files that are not open."""

    @server.feature(lsp.INITIALIZED)
    async def ready(ls: Server, params: lsp.InitializedParams) -> None:
        space = ls.client_capabilities.workspace
        if space and space.did_change_watched_files and space.did_change_watched_files.dynamic_registration:
            watched = lsp.DidChangeWatchedFilesRegistrationOptions([lsp.FileSystemWatcher("**/*.{yaml,yml}")])
            registration = lsp.Registration("specs", lsp.WORKSPACE_DID_CHANGE_WATCHED_FILES, watched)
            await ls.client_register_capability_async(lsp.RegistrationParams([registration]))

    @server.feature(lsp.WORKSPACE_DID_CHANGE_WATCHED_FILES)
    async def changed(ls: Server, params: lsp.DidChangeWatchedFilesParams) -> None:
        for path in list(ls.spec_workspace.texts):
            ls.schedule(path, ls.pause)


def _positions(server: Server) -> None:
    """Register the handlers of requests about a position."""

    @server.feature(lsp.TEXT_DOCUMENT_COMPLETION, lsp.CompletionOptions(trigger_characters=[".", "{", "[", " "]))
    async def complete(ls: Server, params: lsp.CompletionParams) -> lsp.CompletionList:
        found = await ls.answer(params, completion)
        items = ls.encoder.items(found[0].cursor, found[1]) if found else []
        return lsp.CompletionList(is_incomplete=False, items=items)

    @server.feature(lsp.TEXT_DOCUMENT_HOVER)
    async def show(ls: Server, params: lsp.HoverParams) -> lsp.Hover | None:
        found = await ls.answer(params, hover)
        return lsp.Hover(lsp.MarkupContent(lsp.MarkupKind.Markdown, found[1])) if found and found[1] else None

    @server.feature(lsp.TEXT_DOCUMENT_DEFINITION)
    async def define(ls: Server, params: lsp.DefinitionParams) -> lsp.Location | None:
        found = await ls.answer(params, definition)
        return ls.encoder.location(found[1]) if found and found[1] else None


def _fixes(server: Server) -> None:
    """Register the handler of quick fixes."""

    @server.feature(lsp.TEXT_DOCUMENT_CODE_ACTION, lsp.CodeActionOptions([lsp.CodeActionKind.QuickFix]))
    async def mend(ls: Server, params: lsp.CodeActionParams) -> list[lsp.CodeAction]:
        uri = params.text_document.uri
        actions = [ls.encoder.action(uri, diagnostic) for diagnostic in params.context.diagnostics]
        return [action for action in actions if action]


def _files(server: Server) -> None:
    """Register the handlers of requests about a whole file."""

    @server.feature(lsp.TEXT_DOCUMENT_DOCUMENT_SYMBOL)
    async def outline(ls: Server, params: lsp.DocumentSymbolParams) -> list[lsp.DocumentSymbol]:
        path = path_of(params.text_document.uri)
        doc = await asyncio.to_thread(ls.spec_workspace.doc, path) if ls.spec_workspace.is_spec(path) else None
        return [ls.encoder.symbol(found) for found in symbols(doc)] if doc else []

    @server.feature(lsp.TEXT_DOCUMENT_FORMATTING)
    async def format_(ls: Server, params: lsp.DocumentFormattingParams) -> list[lsp.TextEdit] | None:
        path = path_of(params.text_document.uri)
        text = ls.spec_workspace.texts.get(path, "")
        if not ls.spec_workspace.is_spec(path):
            return None
        try:
            new = await asyncio.to_thread(layout, text, str(path))
        except DsvError:
            return None  # the diagnostics say why
        return [lsp.TextEdit(ls.encoder.whole(text), new)] if new != text else []
