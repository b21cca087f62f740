"""A language server (LSP) for specs: diagnostics, completion, hover, definitions, symbols and formatting."""

from dsvgraph_lsp.server import serve

__all__ = ["serve"]
