"""A language server: what the checker knows, in an editor, as one types."""

from dsvgraph_lsp.server import serve

__all__ = ["serve"]
