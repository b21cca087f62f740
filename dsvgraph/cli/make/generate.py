"""`dsvgraph generate`: text from a trained run."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated

import typer

from dsvgraph import backends
from dsvgraph.cli import output
from dsvgraph.cli.options import BackendOption
from dsvgraph.errors import printable

Run = Annotated[Path, typer.Argument(metavar="RUN", help="The folder of a run.", show_default=False)]
Prompt = Annotated[str, typer.Option("--prompt", metavar="TEXT", help="The text to continue.")]
Tokens = Annotated[int, typer.Option("--tokens", metavar="N", min=1, help="How many tokens to make.")]
Temperature = Annotated[float, typer.Option("--temperature", metavar="X", min=0, help="0: the likeliest.")]
TopK = Annotated[int, typer.Option("--top-k", metavar="N", min=1, help="Draw among the N likeliest.")]
Seed = Annotated[int, typer.Option("--seed", metavar="N", min=0, help="What chance depends on.")]
Device = Annotated[str, typer.Option("--device", metavar="NAME", help="cpu, cuda, ...")]


def run(
    folder: Run,
    prompt: Prompt = "",
    tokens: Tokens = 200,
    temperature: Temperature = 0.8,
    top_k: TopK = 50,
    seed: Seed = 0,
    device: Device = "auto",
    backend: BackendOption = None,
) -> None:
    """Continue a prompt with a trained run, its MTP heads dropped."""
    trainer = backends.trainer(backend, "generating text")
    text = prompt.encode(errors="replace").decode()  # what no UTF-8 terminal sent
    _stream([text], trainer.generate(folder, text, tokens, temperature, top_k, seed, device=device))


def _stream(*parts: Iterable[str]) -> None:
    """Print pieces as they come, on a terminal without control characters: a model must not control it."""
    safe = output.is_terminal(sys.stdout)
    for part in parts:
        for piece in part:
            print(_visible(piece) if safe else piece, end="", flush=True)
    print()


def _visible(piece: str) -> str:
    return "".join(c if c in "\n\t" else printable(c) for c in piece)
