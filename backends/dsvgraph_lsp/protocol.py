"""Conversion between spans, which count code points from 1, and LSP positions, which count code units from 0."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from lsprotocol import types as lsp
from pygls.workspace import PositionCodec

from dsvgraph.errors import Span
from dsvgraph_lsp.completion import CompletionItem, ItemKind
from dsvgraph_lsp.cursor import BREAK, Cursor
from dsvgraph_lsp.diagnostics import FileDiagnostic
from dsvgraph_lsp.symbols import Symbol, SymbolKind
from dsvgraph_lsp.workspace import file_of

SOURCE = "dsvgraph"
SEVERITIES = {"error": lsp.DiagnosticSeverity.Error, "warning": lsp.DiagnosticSeverity.Warning}
KINDS = {
    ItemKind.FIELD: lsp.CompletionItemKind.Field,
    ItemKind.OP: lsp.CompletionItemKind.Function,
    ItemKind.BLOCK: lsp.CompletionItemKind.Class,
    ItemKind.NODE: lsp.CompletionItemKind.Variable,
    ItemKind.INPUT: lsp.CompletionItemKind.Interface,
    ItemKind.WEIGHT: lsp.CompletionItemKind.Constant,
    ItemKind.PORT: lsp.CompletionItemKind.Property,
    ItemKind.VALUE: lsp.CompletionItemKind.Value,
    ItemKind.CHOICE: lsp.CompletionItemKind.EnumMember,
    ItemKind.FILE: lsp.CompletionItemKind.File,
}
SYMBOLS = {
    SymbolKind.SECTION: lsp.SymbolKind.Namespace,
    SymbolKind.BLOCK: lsp.SymbolKind.Class,
    SymbolKind.NODE: lsp.SymbolKind.Function,
    SymbolKind.VALUE: lsp.SymbolKind.Variable,
}


class Encoder:
    """Converts to LSP types, with positions in the encoding that the client asked for (UTF-16 by default)."""

    def __init__(self, codec: PositionCodec, uris: dict[Path, str]) -> None:
        self.codec, self.uris = codec, uris

    def column(self, line: str, units: int) -> int:
        """Return the code points before a column that is given in code units."""
        seen = 0
        for i, char in enumerate(line):
            if seen >= units:
                return i
            seen += self.codec.client_num_units(char)
        return len(line)

    def position(self, line: str, row: int, column: int) -> lsp.Position:
        return lsp.Position(line=row, character=self.codec.client_num_units(line[:column]))

    def range(self, span: Span) -> lsp.Range:
        """Return the range of a span, which never leaves its line."""
        line, row = span.source.line(span.line), span.line - 1
        first = min(span.column - 1, len(line))
        last = min(first + span.width, len(line))
        return lsp.Range(self.position(line, row, first), self.position(line, row, max(first, last)))

    def uri(self, path: Path) -> str:
        """Return the URI of a file, as the client spells it."""
        return self.uris.get(path) or path.as_uri()

    def location(self, span: Span) -> lsp.Location:
        return lsp.Location(uri=self.uri(file_of(span.source)), range=self.range(span))

    def diagnostic(self, found: FileDiagnostic) -> lsp.Diagnostic:
        start = lsp.Position(line=0, character=0)
        near = [lsp.DiagnosticRelatedInformation(self.location(span), words) for words, span in found.related]
        return lsp.Diagnostic(
            range=self.range(found.span) if found.span else lsp.Range(start, start),
            message=found.message,
            severity=SEVERITIES[found.severity],
            source=SOURCE,
            code=found.code or None,
            related_information=near or None,
            data={"text": found.fix.text, "range": self.numbers(found.fix.span)} if found.fix else None,
        )

    def numbers(self, span: Span) -> list[int]:
        """Return a range as four numbers, which come back with the diagnostic when the client asks for a fix."""
        found = self.range(span)
        return [found.start.line, found.start.character, found.end.line, found.end.character]

    @staticmethod
    def action(uri: str, diagnostic: lsp.Diagnostic) -> lsp.CodeAction | None:
        """Return the quick fix of a diagnostic; None if it has none."""
        data: Any = diagnostic.data
        if diagnostic.source != SOURCE or not data:
            return None
        text, numbers = (data["text"], data["range"]) if isinstance(data, dict) else (data.text, data.range)
        where = lsp.Range(lsp.Position(*numbers[:2]), lsp.Position(*numbers[2:]))
        edit = lsp.WorkspaceEdit(changes={uri: [lsp.TextEdit(where, text)]})
        kind = lsp.CodeActionKind.QuickFix
        return lsp.CodeAction(f"Write `{text}`", kind, [diagnostic], edit=edit, is_preferred=True)

    def items(self, cursor: Cursor, items: Iterable[CompletionItem]) -> list[lsp.CompletionItem]:
        """Return completions that replace the word under the cursor, or its part after the dot; one for each label."""
        unique = {item.label: item for item in reversed(list(items))}
        return [self._item(cursor, item, i) for i, item in enumerate(reversed(unique.values()))]

    def _item(self, cursor: Cursor, item: CompletionItem, rank: int) -> lsp.CompletionItem:
        line, (start, end) = cursor.line, self._replaced(cursor, item)
        text = f"{item.label}: " if item.is_key and not line[end:].lstrip().startswith(":") else item.label
        where = lsp.Range(self.position(line, cursor.row, start), self.position(line, cursor.row, end))
        documentation = lsp.MarkupContent(lsp.MarkupKind.Markdown, item.documentation) if item.documentation else None
        return lsp.CompletionItem(
            label=item.label,
            kind=KINDS[item.kind],
            detail=item.detail or None,
            documentation=documentation,
            sort_text=f"{rank:04}",
            text_edit=lsp.TextEdit(where, text),
        )

    def _replaced(self, cursor: Cursor, item: CompletionItem) -> tuple[int, int]:
        """Return the columns that a completion replaces: the whole file name or pattern; a port from its dot on."""
        if item.kind is ItemKind.FILE or item.label.startswith('"'):
            return cursor.token
        dot = cursor.prefix.rfind(".") + 1 if item.kind in (ItemKind.PORT, ItemKind.WEIGHT) and not item.is_key else 0
        return cursor.start + dot, cursor.end

    def symbol(self, found: Symbol) -> lsp.DocumentSymbol:
        own = self.range(found.span)
        last = found.span.source.line(found.last)
        return lsp.DocumentSymbol(
            name=found.name,
            detail=found.detail or None,
            kind=SYMBOLS[found.kind],
            range=lsp.Range(own.start, self.position(last, found.last - 1, len(last))),
            selection_range=own,
            children=[self.symbol(child) for child in found.children],
        )

    def whole(self, text: str) -> lsp.Range:
        """Return the range of a whole text."""
        lines = BREAK.split(text)
        return lsp.Range(lsp.Position(0, 0), self.position(lines[-1], len(lines) - 1, len(lines[-1])))
