"""`dsvgraph lsp`: the language server."""

from __future__ import annotations

from typing import Annotated

import typer

from dsvgraph.backends import language_server

Stdio = Annotated[bool, typer.Option("--stdio", help="The only way there is, accepted since editors ask for it.")]


def run(stdio: Stdio = True) -> None:
    """Serve an editor over standard input and output: errors, completion, shapes (see docs/editors.md)."""
    language_server().serve()
