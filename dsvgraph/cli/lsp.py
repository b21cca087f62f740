"""`dsvgraph lsp`: the language server."""

from __future__ import annotations

from dsvgraph.backends import backend


def run() -> None:
    """Serve an editor over standard input and output: errors, completion, shapes (see docs/editors.md)."""
    backend("lsp", "the language server").serve()
