"""From our places, which count code points from 1, to the protocol's, which count units from 0, and back."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from lsprotocol import types as lsp
from pygls.workspace import PositionCodec

from dsvgraph.errors import Span
from dsvgraph_lsp.completion import Offer
from dsvgraph_lsp.cursor import BREAK, Place
from dsvgraph_lsp.diagnostics import Mark
from dsvgraph_lsp.symbols import Symbol
from dsvgraph_lsp.workspace import place_of

SOURCE = "dsvgraph"
SEVERITIES = {"error": lsp.DiagnosticSeverity.Error, "warning": lsp.DiagnosticSeverity.Warning}
KINDS = {
    "field": lsp.CompletionItemKind.Field,
    "op": lsp.CompletionItemKind.Function,
    "block": lsp.CompletionItemKind.Class,
    "node": lsp.CompletionItemKind.Variable,
    "input": lsp.CompletionItemKind.Interface,
    "weight": lsp.CompletionItemKind.Constant,
    "port": lsp.CompletionItemKind.Property,
    "value": lsp.CompletionItemKind.Value,
    "choice": lsp.CompletionItemKind.EnumMember,
    "file": lsp.CompletionItemKind.File,
}
SYMBOLS = {
    "section": lsp.SymbolKind.Namespace,
    "block": lsp.SymbolKind.Class,
    "node": lsp.SymbolKind.Function,
    "value": lsp.SymbolKind.Variable,
}


class Encoder:
    """Positions in the units that the editor counts in (UTF-16 where it did not ask for others)."""

    def __init__(self, codec: PositionCodec, uris: dict[Path, str]) -> None:
        self.codec, self.uris = codec, uris

    def column(self, line: str, units: int) -> int:
        """The code points before a column of the editor's."""
        seen = 0
        for i, char in enumerate(line):
            if seen >= units:
                return i
            seen += self.codec.client_num_units(char)
        return len(line)

    def position(self, line: str, row: int, column: int) -> lsp.Position:
        return lsp.Position(line=row, character=self.codec.client_num_units(line[:column]))

    def range(self, span: Span) -> lsp.Range:
        """A span, which never leaves its line."""
        line, row = span.source.line(span.line), span.line - 1
        first = min(span.column - 1, len(line))
        last = min(first + span.width, len(line))
        return lsp.Range(self.position(line, row, first), self.position(line, row, max(first, last)))

    def uri(self, path: Path) -> str:
        """A file as the editor calls it."""
        return self.uris.get(path) or path.as_uri()

    def location(self, span: Span) -> lsp.Location:
        return lsp.Location(uri=self.uri(place_of(span)), range=self.range(span))

    def diagnostic(self, mark: Mark) -> lsp.Diagnostic:
        start = lsp.Position(line=0, character=0)
        near = [lsp.DiagnosticRelatedInformation(self.location(span), words) for words, span in mark.related]
        return lsp.Diagnostic(
            range=self.range(mark.span) if mark.span else lsp.Range(start, start),
            message=mark.words,
            severity=SEVERITIES[mark.severity],
            source=SOURCE,
            code=mark.code or None,
            related_information=near or None,
            data={"text": mark.fix.text, "range": self.plain(mark.fix.span)} if mark.fix else None,
        )

    def plain(self, span: Span) -> list[int]:
        """A range as four numbers, which come back with the diagnostic when an editor asks for a fix."""
        found = self.range(span)
        return [found.start.line, found.start.character, found.end.line, found.end.character]

    @staticmethod
    def action(uri: str, told: lsp.Diagnostic) -> lsp.CodeAction | None:
        """What to write instead, where the diagnostic says so."""
        data: Any = told.data
        if told.source != SOURCE or not data:
            return None
        text, numbers = (data["text"], data["range"]) if isinstance(data, dict) else (data.text, data.range)
        where = lsp.Range(lsp.Position(*numbers[:2]), lsp.Position(*numbers[2:]))
        edit = lsp.WorkspaceEdit(changes={uri: [lsp.TextEdit(where, text)]})
        return lsp.CodeAction(f"Write `{text}`", lsp.CodeActionKind.QuickFix, [told], edit=edit, is_preferred=True)

    def items(self, place: Place, offers: Iterable[Offer]) -> list[lsp.CompletionItem]:
        """Offers that replace the word under the cursor, or the part of it after its dot."""
        unique = {offer.label: offer for offer in reversed(list(offers))}
        return [self._item(place, offer, i) for i, offer in enumerate(reversed(unique.values()))]

    def _item(self, place: Place, offer: Offer, rank: int) -> lsp.CompletionItem:
        line, (start, end) = place.line, self._replaced(place, offer)
        text = f"{offer.label}: " if offer.is_key and not line[end:].lstrip().startswith(":") else offer.label
        where = lsp.Range(self.position(line, place.row, start), self.position(line, place.row, end))
        return lsp.CompletionItem(
            label=offer.label,
            kind=KINDS[offer.kind],
            detail=offer.detail or None,
            documentation=lsp.MarkupContent(lsp.MarkupKind.Markdown, offer.words) if offer.words else None,
            sort_text=f"{rank:04}",
            text_edit=lsp.TextEdit(where, text),
        )

    def _replaced(self, place: Place, offer: Offer) -> tuple[int, int]:
        """The columns of what an offer stands for: a path or a pattern whole, a port without what has it."""
        if offer.kind == "file" or offer.label.startswith('"'):
            return place.text
        dot = place.typed.rfind(".") + 1 if offer.kind in ("port", "weight") and not offer.is_key else 0
        return place.start + dot, place.end

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
        """The range of a whole text."""
        lines = BREAK.split(text)
        return lsp.Range(lsp.Position(0, 0), self.position(lines[-1], len(lines) - 1, len(lines[-1])))
