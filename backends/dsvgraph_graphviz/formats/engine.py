"""Call graphviz on a DOT: the system's, else the library in pygraphviz's wheel."""

from __future__ import annotations

import importlib.util
import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

from dsvgraph.errors import DsvError
from dsvgraph_graphviz.formats.svg import finish
from dsvgraph_graphviz.style.palettes import following

ENDINGS = ("svg", "png", "pdf", "dot", "mmd", "mermaid", "json")
LIMIT = 120  # seconds that graphviz may take
INSTALL = "pip install 'dsvgraph[draw]', or graphviz from your system; .html, .dot, .mmd and .json need neither"
BUNDLED = Path(__file__).with_name("bundled.py")


def ending_of(path: Path) -> str:
    """Return the format that a path asks for. Raise DsvError where it asks for none, or cannot be written."""
    ending = path.suffix.lower().removeprefix(".")
    if ending not in ENDINGS:
        found = f"ends in `.{ending}`" if ending else "has no ending"
        raise DsvError(f"-o: `{path}` {found}", hint=f"a picture ends in {', '.join('.' + e for e in ENDINGS)}")
    _check_place(path)
    return ending


def picture(source: str, ending: str, title: str = "", words: str = "", follows: bool = False) -> bytes:
    """Return the picture of ``source`` as svg, png or pdf; an SVG gets its title, description and text widths."""
    if ending != "svg":
        return call(source, ending)
    layout, svg = (text.decode() for text in both(source))
    svg = finish(svg, json.loads(layout), title, words)
    return (following(svg) if follows else svg).encode()


def measured(source: str) -> dict[str, Any]:
    """Return the layout of ``source`` as graphviz's JSON: boxes, splines, and the width of every text."""
    found: dict[str, Any] = json.loads(call(source, "json"))
    return found


def both(source: str) -> list[bytes]:
    """Return the layout as JSON and the SVG; the wheel's library lays out once for both."""
    if shutil.which("dot"):
        return [call(source, "json"), call(source, "svg")]
    return call(source, "json", "svg").split(b"\0")


def call(source: str, ending: str, *more: str) -> bytes:
    """Return what graphviz makes of ``source``. Raise DsvError where there is no graphviz or it fails."""
    try:
        done = subprocess.run(_command(ending, *more), input=source.encode(), capture_output=True, timeout=LIMIT)
    except subprocess.TimeoutExpired:
        raise DsvError(f"graphviz was not done after {LIMIT} seconds", hint="draw less: --depth 1") from None
    if done.returncode or not done.stdout:
        raise DsvError(f"graphviz could not draw this graph as {ending}: {_last_words(done.stderr)}")
    return done.stdout


def _command(ending: str, *more: str) -> list[str]:
    """Return the system's `dot`, or the wheel's library in a process of its own: a crash in C must not be ours."""
    if dot := shutil.which("dot"):
        return [dot, f"-T{ending}"]
    if importlib.util.find_spec("pygraphviz") is None:
        raise DsvError("there is no graphviz on this machine", hint=INSTALL)
    return [sys.executable, "-P", str(BUNDLED), ending, *more]


def _last_words(stderr: bytes) -> str:
    lines = [line for line in stderr.decode(errors="replace").splitlines() if line.strip()]
    return lines[-1].strip() if lines else "it said nothing"


def _check_place(path: Path) -> None:
    if path.is_dir():
        raise DsvError(f"-o: `{path}` is a folder", hint=f"name a file in it: {path / 'model.svg'}")
    if not path.parent.is_dir():
        raise DsvError(f"-o: there is no folder `{path.parent}`")
