"""A small editor: pygls's client over standard input and output, called without await."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

from lsprotocol import types as lsp
from pygls.lsp.client import LanguageClient

PATIENCE = 30  # seconds, for what should come at once


class Editor:
    """One editor with one language server. Positions are the protocol's: lines from 0, UTF-16 columns unless told."""

    def __init__(
        self, folder: Path, *command: str,
        settings: dict[str, Any] | None = None, options: Any = None, encodings: list[Any] | None = None,
    ) -> None:  # fmt: skip
        self.folder, self.settings, self.options = folder, settings or {}, options
        self.encodings = encodings
        self.loop = asyncio.new_event_loop()
        self.client = LanguageClient("tests", "1")
        self.told: dict[str, lsp.PublishDiagnosticsParams] = {}
        self.news = asyncio.Event()
        self.fresh: set[str] = set()  # told since they were last heard
        self.versions: dict[str, int] = {}
        self.client.feature(lsp.TEXT_DOCUMENT_PUBLISH_DIAGNOSTICS)(lambda params: self._diagnostics(params))
        self.client.feature(lsp.WORKSPACE_CONFIGURATION)(lambda params: self._configuration(params))
        self.watched: list[str] = []  # patterns of files on disk whose changes the server wants to hear of
        self.client.feature(lsp.CLIENT_REGISTER_CAPABILITY)(lambda params: self._registered(params))
        self.wait(self.client.start_io(*command))
        self.server = self.wait(self.client.initialize_async(self._hello())).capabilities
        self.client.initialized(lsp.InitializedParams())

    def _hello(self) -> lsp.InitializeParams:
        link = lsp.PublishDiagnosticsClientCapabilities(related_information=True)
        text = lsp.TextDocumentClientCapabilities(publish_diagnostics=link)
        watching = lsp.DidChangeWatchedFilesClientCapabilities(dynamic_registration=True)
        space = lsp.WorkspaceClientCapabilities(configuration=True, did_change_watched_files=watching)
        general = lsp.GeneralClientCapabilities(position_encodings=self.encodings)
        able = lsp.ClientCapabilities(text_document=text, workspace=space, general=general)
        root = lsp.WorkspaceFolder(uri=self.folder.as_uri(), name="specs")
        return lsp.InitializeParams(
            capabilities=able, workspace_folders=[root], root_uri=root.uri, initialization_options=self.options
        )

    def _diagnostics(self, params: lsp.PublishDiagnosticsParams) -> None:
        self.told[params.uri] = params
        self.fresh.add(params.uri)
        self.news.set()

    def _registered(self, params: lsp.RegistrationParams) -> None:
        for asked in params.registrations:
            watchers = (asked.register_options or {}).get("watchers", [])
            self.watched += [watcher["globPattern"] for watcher in watchers]

    def _configuration(self, params: lsp.ConfigurationParams) -> list[Any]:
        return [self.settings.get(item.section or "") for item in params.items]

    def wait(self, answer: Any) -> Any:
        """What comes of a request; fails where nothing comes."""
        return self.loop.run_until_complete(asyncio.wait_for(answer, PATIENCE))

    def close(self) -> None:
        """Asks the server to go."""
        self.wait(self.client.shutdown_async(None))
        self.client.exit(None)
        self.wait(self.client.stop())
        self.loop.close()

    def uri(self, name: str) -> str:
        return (self.folder / name).as_uri()

    def open(self, name: str, text: str) -> list[lsp.Diagnostic]:
        """Opens a file with a text that need not be on disk; what the server has to say about it."""
        self.show(name, text)
        return self.hear(name)

    def show(self, name: str, text: str) -> None:
        """Opens a file, and does not wait."""
        uri = self.uri(name)
        self.versions[uri] = 1
        item = lsp.TextDocumentItem(uri=uri, language_id="yaml", version=1, text=text)
        self.client.text_document_did_open(lsp.DidOpenTextDocumentParams(text_document=item))

    def type(self, name: str, text: str) -> list[lsp.Diagnostic]:
        """Replaces the text of an open file; what the server has to say about it."""
        self.send(name, text)
        return self.hear(name)

    def send(self, name: str, text: str) -> None:
        """Replaces the text of an open file, and does not wait."""
        uri = self.uri(name)
        self.versions[uri] += 1
        where = lsp.VersionedTextDocumentIdentifier(uri=uri, version=self.versions[uri])
        change = lsp.TextDocumentContentChangeWholeDocument(text=text)
        params = lsp.DidChangeTextDocumentParams(text_document=where, content_changes=[change])
        self.client.text_document_did_change(params)

    def hear(self, name: str) -> list[lsp.Diagnostic]:
        """The diagnostics of the version that was sent last."""
        return self.wait(self._heard(self.uri(name)))

    async def _heard(self, uri: str) -> list[lsp.Diagnostic]:
        while (told := self.told.get(uri)) is None or told.version not in (self.versions[uri], None):
            self.news.clear()
            await self.news.wait()
        found = list(told.diagnostics)
        self.fresh.discard(uri)
        if told.version is None:  # a server that gives no versions: the next ones are news
            del self.told[uri]
        return found

    def hear_next(self, name: str) -> list[lsp.Diagnostic]:
        """The diagnostics that come next, for a file that was not itself changed."""
        return self.wait(self._heard_next(self.uri(name)))

    async def _heard_next(self, uri: str) -> list[lsp.Diagnostic]:
        while uri not in self.fresh:
            self.news.clear()
            await self.news.wait()
        self.fresh.discard(uri)
        return list(self.told[uri].diagnostics)

    def shut(self, name: str) -> None:
        """Closes a file."""
        where = lsp.TextDocumentIdentifier(uri=self.uri(name))
        self.client.text_document_did_close(lsp.DidCloseTextDocumentParams(text_document=where))

    def ask(self, what: str, name: str, line: int, column: int) -> Any:
        """The answer to a request about a position: `completion`, `hover`, `definition`."""
        params = {
            "completion": lsp.CompletionParams,
            "hover": lsp.HoverParams,
            "definition": lsp.DefinitionParams,
        }[what]
        where = lsp.TextDocumentIdentifier(uri=self.uri(name))
        request = getattr(self.client, f"text_document_{what}_async")
        return self.wait(request(params(text_document=where, position=lsp.Position(line=line, character=column))))

    def fixes(self, name: str, found: lsp.Diagnostic) -> list[lsp.CodeAction]:
        """What the server would write instead."""
        where = lsp.TextDocumentIdentifier(uri=self.uri(name))
        params = lsp.CodeActionParams(where, found.range, lsp.CodeActionContext([found]))
        return list(self.wait(self.client.text_document_code_action_async(params)) or [])

    def labels(self, name: str, line: int, column: int) -> list[str]:
        """What completion offers."""
        return [item.label for item in self.items(name, line, column)]

    def items(self, name: str, line: int, column: int) -> list[lsp.CompletionItem]:
        found = self.ask("completion", name, line, column)
        return list(getattr(found, "items", found) or [])

    def words(self, name: str, line: int, column: int) -> str:
        """What is shown at a position, as text."""
        found = self.ask("hover", name, line, column)
        return str(getattr(found.contents, "value", found.contents)) if found else ""


def cursor(text: str, mark: str = "|") -> tuple[str, int, int]:
    """A text without its cursor mark, and the line and UTF-16 column where it stood."""
    before, _, after = text.partition(mark)
    line = before.rpartition("\n")[2]
    return before + after, before.count("\n"), len(line.encode("utf-16-le")) // 2
