"""`dsvgraph fmt`: specs in the canonical style."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from dsvgraph.cli import output
from dsvgraph.cli.exits import WRONG
from dsvgraph.cli.options import JsonOption
from dsvgraph.errors import DsvError

STDIN = "-"

Paths = Annotated[list[str], typer.Argument(metavar="FILE...", help="Spec files, or - for standard input.")]
Check = Annotated[bool, typer.Option("--check", help="Write nothing; exit code 1 where a file would change.")]
Diff = Annotated[bool, typer.Option("--diff", help="Write nothing; print what would change.")]


def run(files: Paths, check: Check = False, diff: Diff = False, as_json: JsonOption = False) -> None:
    """Write specs in the canonical style: columns, braces, quotes, blank lines. Comments and the graph stay."""
    if STDIN in files and len(files) > 1:
        raise typer.BadParameter(f"`{STDIN}` is standard input, and stands alone", param_hint="FILE")
    pages = {name: _page(name) for name in files}
    changed = [name for name, (before, after) in pages.items() if before != after]
    if not (check or diff or as_json) and STDIN in files:
        print(pages[STDIN][1], end="")
        return
    if not (check or diff):
        _write({name: pages[name][1] for name in changed if name != STDIN})
    if as_json:
        output.data({"changed": changed, "unchanged": len(pages) - len(changed)})
    else:
        verb = "would change" if check else "changed"
        lines = (_difference(name, *pages[name]) if diff else f"{verb} {name}\n" for name in changed)
        print(*lines, sep="", end="")
    if check and changed:
        raise SystemExit(WRONG)


def _page(name: str) -> tuple[str, str]:
    """Return the text of a file as it is, and in the canonical style."""
    from dsvgraph.passes.text.layout import layout

    text = _stdin() if name == STDIN else _file(Path(name))
    return text, layout(text, "<stdin>" if name == STDIN else name)


def _file(path: Path) -> str:
    from dsvgraph.loader.files import text_of

    if not path.exists():
        raise DsvError(f"there is no file `{path}`")
    return text_of(path)


def _stdin() -> str:
    """Return standard input, up to a byte more than a spec may have."""
    from dsvgraph.loader import MAX_BYTES

    try:
        return sys.stdin.buffer.read(MAX_BYTES + 1).decode("utf-8")
    except UnicodeDecodeError as error:
        raise DsvError(f"standard input is not UTF-8 text (byte {error.start})") from None


def _write(pages: dict[str, str]) -> None:
    from dsvgraph.files import write_atomic

    for name, text in pages.items():
        write_atomic(Path(name), text, in_place=True)


def _difference(name: str, before: str, after: str) -> str:
    from difflib import unified_diff

    old, new = (text.splitlines(keepends=True) for text in (before, after))
    return "".join(unified_diff(old, new, name, name))
