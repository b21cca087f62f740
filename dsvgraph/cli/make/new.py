"""`dsvgraph new`: a spec to begin with."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Annotated

import typer

from dsvgraph import loader
from dsvgraph.errors import DsvError
from dsvgraph.files import write_atomic
from dsvgraph.names import listed, nearest

NAME = re.compile(r"[A-Za-z][A-Za-z0-9_-]{0,63}", re.ASCII)
TITLE = re.compile(r"^name: .*$", re.MULTILINE)
SCHEMA = re.compile(r"\A# yaml-language-server: .*\n")  # its path holds in the library alone


def _templates() -> dict[str, Path]:
    return {path.stem: path for path in sorted((loader.bundled() / "templates").glob("*.yaml"))}


def _named(name: str) -> str:
    """Refuse what cannot be the name of a model and of a file."""
    if not NAME.fullmatch(name):
        hint = "; -o says how the file is called" if "." in name or "/" in name else ""
        raise typer.BadParameter(f"`{name}` is no name: a letter, then letters, digits, _ and -, at most 64{hint}")
    if loader.parse(name, "NAME").data != name:
        raise typer.BadParameter(f"`{name}` is a value in YAML, not a name")
    return name


def _template(name: str) -> str:
    """Refuse a template that does not exist."""
    if name not in _templates():
        hint = nearest(name, _templates()) or f"there are {listed(_templates())}"
        raise typer.BadParameter(f"there is no template `{name}`; {hint}")
    return name


Name = Annotated[str, typer.Argument(metavar="NAME", help="The model's name.", callback=_named, show_default=False)]
Output = Annotated[Path | None, typer.Option("-o", "--output", metavar="FILE", help="Where to. [default: NAME.yaml]")]
Template = Annotated[
    str,
    typer.Option(
        "--template", metavar="NAME", callback=_template, autocompletion=lambda: list(_templates()),
        help="tiny: a plain decoder; moe: with experts; mtp: with a chain of heads.",
    ),
]  # fmt: skip


def run(name: Name, path: Output = None, template: Template = "tiny") -> None:
    """Start a spec from a template: it checks and trains as it is."""
    path = path or Path(f"{name}.yaml")
    if os.path.lexists(path):
        raise DsvError(f"`{path}` is there already", hint="choose another name, or a file with -o")
    text = SCHEMA.sub("", _templates()[template].read_text(encoding="utf-8"))
    write_atomic(path, TITLE.sub(f"name: {name}", text, count=1))
    print(f"wrote {path}, from the template `{template}`. Next:\n")
    for command, words in (
        (f"check {path}", "is it right, and what is it"),
        (f"cost {path}", "parameters, FLOPs, KV cache"),
        (f"render {path}", "a diagram"),
        (f"compile {path} --train --steps 200", "train it"),
    ):
        print(f"  dsvgraph {command:{len(str(path)) + 30}}  # {words}")
