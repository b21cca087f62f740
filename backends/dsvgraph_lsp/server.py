"""The server: pygls's, over standard input and output. Checks run beside it, a moment after one stops typing."""

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
from dsvgraph_lsp.cursor import BREAK, find
from dsvgraph_lsp.definition import definition
from dsvgraph_lsp.diagnostics import marks, marks_in
from dsvgraph_lsp.hover import hover
from dsvgraph_lsp.protocol import Encoder
from dsvgraph_lsp.scope import Scene
from dsvgraph_lsp.symbols import symbols
from dsvgraph_lsp.workspace import Desk, look

PAUSE = 0.15  # seconds without a key before the text is checked; the initialization option `pause` is another
T = TypeVar("T")


class Server(LanguageServer):
    """One editor's server: the open files, and the checks that are under way."""

    def __init__(self) -> None:
        super().__init__("dsvgraph", __version__, text_document_sync_kind=lsp.TextDocumentSyncKind.Full)
        self.desk = Desk()
        self.uris: dict[Path, str] = {}
        self.versions: dict[Path, int | None] = {}  # of the texts
        self.checked: dict[Path, int | None] = {}  # of the texts that were checked last
        self.waiting: dict[Path, asyncio.Task[None]] = {}
        self.checking = asyncio.Lock()
        self.pause = PAUSE

    @property
    def encoder(self) -> Encoder:
        """Positions in the editor's units."""
        return Encoder(self.workspace.position_codec, self.uris)

    # -- texts ------------------------------------------------------------------------------

    def take(self, uri: str, version: int | None, text: str, pause: float) -> None:
        """Takes in the text of an open file, and checks it after a pause."""
        path = path_of(uri)
        self.uris[path], self.versions[path] = uri, version
        self.desk.texts[path] = text
        self.later(path, pause)

    def later(self, path: Path, pause: float) -> None:
        """Checks a file after a pause; a check that has not begun is put off."""
        if path in self.waiting:
            self.waiting[path].cancel()
        self.waiting[path] = asyncio.ensure_future(self._check_after(path, pause))

    async def _check_after(self, path: Path, pause: float) -> None:
        await asyncio.sleep(pause)
        self.waiting.pop(path, None)
        await self.check(path)

    def close(self, uri: str) -> None:
        """Forgets a file; its diagnostics go."""
        path = path_of(uri)
        if path in self.waiting:
            self.waiting.pop(path).cancel()
        readers = self.desk.readers(path)[1:]
        self.desk.drop(path)
        self.checked.pop(path, None)
        self._publish(path, [])
        for known in (self.uris, self.versions):
            known.pop(path, None)
        for reader in readers:  # they read the saved text again
            self.later(reader, 0)

    # -- checks -----------------------------------------------------------------------------

    async def check(self, path: Path) -> None:
        """Checks a file and the open files that read it, and tells what was found."""
        async with self.checking:
            for reader in self.desk.readers(path):
                if reader in self.desk.texts:
                    texts, version = dict(self.desk.texts), self.versions[reader]
                    page = await asyncio.to_thread(look, reader, texts)
                    if self.versions.get(reader) == version:  # else the next check is under way
                        self.checked[reader] = version
                        self.desk.put(page)
        for file in [*self.desk.readers(path), *self.desk.pages[path].files] if path in self.desk.pages else []:
            self.tell(file)

    def tell(self, path: Path) -> None:
        """Sends the diagnostics of an open file: its own, and those that its readers found in it."""
        page = self.desk.pages.get(path)
        if page is None or self.checked.get(path) != self.versions.get(path):
            return
        found = [*marks(page)]
        for reader in self.desk.readers(path)[1:]:
            found += marks_in(self.desk.pages[reader], path)
        unique = {(mark.span, mark.words): mark for mark in reversed(found)}
        self._publish(path, [self.encoder.diagnostic(mark) for mark in reversed(unique.values())])

    def _publish(self, path: Path, found: list[lsp.Diagnostic]) -> None:
        uri = self.uris.get(path)
        if uri is not None:
            params = lsp.PublishDiagnosticsParams(uri=uri, version=self.checked.get(path), diagnostics=found)
            self.text_document_publish_diagnostics(params)

    # -- answers ----------------------------------------------------------------------------

    def scene(self, params: Any) -> Scene | None:
        """What stands at the position of a request; None where the file is not open, or too large."""
        path = path_of(params.text_document.uri)
        text = self.desk.texts.get(path)
        if text is None or len(text) > MAX_BYTES:
            return None
        lines, row = BREAK.split(text), params.position.line
        line = lines[row] if row < len(lines) else ""
        return Scene(self.desk, path, find(text, row, self.encoder.column(line, params.position.character)))

    async def answer(self, params: Any, make: Callable[[Scene], T]) -> tuple[Scene, T] | None:
        """What ``make`` says of a position in a spec, worked out beside the server; None where none is open."""
        path = path_of(params.text_document.uri)
        if path in self.desk.texts and path not in self.desk.pages:
            await self.check(path)  # it was opened just now
        return await asyncio.to_thread(self._answered, params, make)

    def _answered(self, params: Any, make: Callable[[Scene], T]) -> tuple[Scene, T] | None:
        scene = self.scene(params)
        return (scene, make(scene)) if scene and scene.is_spec else None


def path_of(uri: str) -> Path:
    """The file that a URI names; what is no file lies in the folder that the server runs in."""
    found = to_fs_path(uri)
    return Path(found).resolve() if found and uri.startswith("file:") else Path.cwd() / Path(uri).name


def serve() -> None:
    """Serves one editor until it says goodbye."""
    make().start_io()


def make() -> Server:
    """The server with all that it answers."""
    server = Server()
    _texts(server)
    _disk(server)
    _positions(server)
    _fixes(server)
    _files(server)
    return server


def _texts(server: Server) -> None:
    """The editor's texts come and go."""

    @server.feature(lsp.INITIALIZE)
    async def begun(ls: Server, params: lsp.InitializeParams) -> None:
        options = params.initialization_options
        pause = options.get("pause") if isinstance(options, dict) else None
        ls.pause = min(max(float(pause), 0), 10) if isinstance(pause, (int, float)) else PAUSE

    @server.feature(lsp.TEXT_DOCUMENT_DID_OPEN)
    async def opened(ls: Server, params: lsp.DidOpenTextDocumentParams) -> None:
        document = params.text_document
        ls.take(document.uri, document.version, document.text, 0)

    @server.feature(lsp.TEXT_DOCUMENT_DID_CHANGE)
    async def changed(ls: Server, params: lsp.DidChangeTextDocumentParams) -> None:
        document = params.text_document
        if path_of(document.uri) not in ls.desk.texts:
            return  # it was never opened
        ls.take(document.uri, document.version, ls.workspace.get_text_document(document.uri).source, ls.pause)

    @server.feature(lsp.TEXT_DOCUMENT_DID_SAVE)
    async def saved(ls: Server, params: lsp.DidSaveTextDocumentParams) -> None:
        ls.later(path_of(params.text_document.uri), 0)

    @server.feature(lsp.TEXT_DOCUMENT_DID_CLOSE)
    async def closed(ls: Server, params: lsp.DidCloseTextDocumentParams) -> None:
        ls.close(params.text_document.uri)


def _disk(server: Server) -> None:
    """Files that no editor holds are changed, renamed and removed too: what is open may read them."""

    @server.feature(lsp.INITIALIZED)
    async def ready(ls: Server, params: lsp.InitializedParams) -> None:
        space = ls.client_capabilities.workspace
        if space and space.did_change_watched_files and space.did_change_watched_files.dynamic_registration:
            watched = lsp.DidChangeWatchedFilesRegistrationOptions([lsp.FileSystemWatcher("**/*.{yaml,yml}")])
            wanted = lsp.Registration("specs", lsp.WORKSPACE_DID_CHANGE_WATCHED_FILES, watched)
            await ls.client_register_capability_async(lsp.RegistrationParams([wanted]))

    @server.feature(lsp.WORKSPACE_DID_CHANGE_WATCHED_FILES)
    async def changed(ls: Server, params: lsp.DidChangeWatchedFilesParams) -> None:
        for path in list(ls.desk.texts):
            ls.later(path, ls.pause)


def _positions(server: Server) -> None:
    """Answers about a place."""

    @server.feature(lsp.TEXT_DOCUMENT_COMPLETION, lsp.CompletionOptions(trigger_characters=[".", "{", "[", " "]))
    async def complete(ls: Server, params: lsp.CompletionParams) -> lsp.CompletionList:
        found = await ls.answer(params, completion)
        items = ls.encoder.items(found[0].place, found[1]) if found else []
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
    @server.feature(lsp.TEXT_DOCUMENT_CODE_ACTION, lsp.CodeActionOptions([lsp.CodeActionKind.QuickFix]))
    async def mend(ls: Server, params: lsp.CodeActionParams) -> list[lsp.CodeAction]:
        told = params.context.diagnostics
        actions = [ls.encoder.action(params.text_document.uri, diagnostic) for diagnostic in told]
        return [action for action in actions if action]


def _files(server: Server) -> None:
    """Answers about a whole file."""

    @server.feature(lsp.TEXT_DOCUMENT_DOCUMENT_SYMBOL)
    async def outline(ls: Server, params: lsp.DocumentSymbolParams) -> list[lsp.DocumentSymbol]:
        path = path_of(params.text_document.uri)
        doc = await asyncio.to_thread(ls.desk.doc, path) if ls.desk.is_spec(path) else None
        return [ls.encoder.symbol(found) for found in symbols(doc)] if doc else []

    @server.feature(lsp.TEXT_DOCUMENT_FORMATTING)
    async def format_(ls: Server, params: lsp.DocumentFormattingParams) -> list[lsp.TextEdit] | None:
        path = path_of(params.text_document.uri)
        text = ls.desk.texts.get(path, "")
        if not ls.desk.is_spec(path):
            return None
        try:
            new = await asyncio.to_thread(layout, text, str(path))
        except DsvError:
            return None  # the diagnostics say why
        return [lsp.TextEdit(ls.encoder.whole(text), new)] if new != text else []
