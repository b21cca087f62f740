"""`dsvgraph fmt`: specs in the canonical style."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from dsvgraph.cli import output
from dsvgraph.cli.border import WRONG
from dsvgraph.cli.options import JsonOption
from dsvgraph.errors import DsvError

Paths = Annotated[list[str], typer.Argument(metavar="FILE...", help="Spec files, or - for standard input.")]
Check = Annotated[bool, typer.Option("--check", help="Write nothing; exit code 1 where a file would change.")]
Diff = Annotated[bool, typer.Option("--diff", help="Write nothing; print what would change.")]


def run(files: Paths, check: Check = False, diff: Diff = False, as_json: JsonOption = False) -> None:
    """Write specs in the canonical style: columns, braces, quotes, blank lines. Comments and the graph stay."""
    if files == ["-"] and not (check or diff or as_json):
        _pipe()
        return
    pages = {Path(name): _page(Path(name)) for name in files}
    changed = [path for path, (before, after) in pages.items() if before != after]
    if not (check or diff):
        _write({path: pages[path][1] for path in changed})
    if as_json:
        output.data({"changed": [str(path) for path in changed], "unchanged": len(pages) - len(changed)})
    else:
        verb = "would change" if check else "changed"
        told = (_difference(path, *pages[path]) if diff else f"{verb} {path}\n" for path in changed)
        print(*told, sep="", end="")
    if check and changed:
        raise SystemExit(WRONG)


def _pipe() -> None:
    """Standard input to standard output."""
    from dsvgraph.passes.layout import layout

    try:
        text = sys.stdin.buffer.read().decode("utf-8")
    except UnicodeDecodeError as error:
        raise DsvError(f"standard input is not UTF-8 text (byte {error.start})") from None
    print(layout(text, "<stdin>"), end="")


def _page(path: Path) -> tuple[str, str]:
    """A file's text, and how it should be."""
    from dsvgraph.loader.files import text_of
    from dsvgraph.passes.layout import layout

    if not path.exists():
        raise DsvError(f"there is no file `{path}`")
    text = text_of(path)
    return text, layout(text, str(path))


def _write(pages: dict[Path, str]) -> None:
    from dsvgraph.files import write_atomic

    for path, text in pages.items():
        write_atomic(path, text)


def _difference(path: Path, before: str, after: str) -> str:
    from difflib import unified_diff

    old, new = (text.splitlines(keepends=True) for text in (before, after))
    return "".join(unified_diff(old, new, str(path), str(path)))
