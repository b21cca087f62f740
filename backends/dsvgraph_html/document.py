"""One HTML file from the page's sources: its style, its modules in one script, and a policy that allows just these."""

from __future__ import annotations

import base64
import hashlib
import json
import re
from collections.abc import Mapping
from html import escape
from pathlib import Path
from typing import Any

from dsvgraph.errors import printable
from dsvgraph_graphviz.style.palettes import colours

PAGE = Path(__file__).with_name("page")
ENGINE = "graphviz.js"  # what `rebuild.py` makes of the npm package
# each below what it imports
MODULES = ("model", "layout", "draw", "scene", "view", "fit", "details", "search", "theme", "main")
IMPORT = re.compile(r"^import\b[^;]*;\n", re.MULTILINE)
RENAMED = re.compile(r"(\w+) as (\w+)")
EXPORT = re.compile(r"^export (?=(?:async )?(?:const|let|function|class)\b)", re.MULTILINE)
NAMES = re.compile(r"^export (?:async )?(?:const|let|function\*?|class) (\w+)", re.MULTILINE)


def page(data: Mapping[str, Any], start: Mapping[str, Any] | None = None) -> str:
    """Return the file; ``data`` is what `page_data` gives, ``start`` what is open at first.

    Whatever a spec says arrives as text.
    """
    style = _read("page.css") + _dark()
    code = script()
    gaps = {
        "policy": policy(code, style),
        "title": _text(data["name"]),
        "totals": _held(_text(data["totals"])),
        "added": _held(_text(data["added"])),
        "graphviz": _text(about_graphviz()),
        "licence": _text(_read("graphviz.LICENSE")),
        "notices": _text(_read("graphviz.NOTICES")),
        "style": style,
        "model": as_json({**data, "start": start or {}}),
        "script": code,
    }
    return re.sub(r"\{(\w+)\}", lambda match: gaps[match[1]], _read("page.html"))


def about_graphviz() -> str:
    """Return the package that holds graphviz: its name and version, its licence, what is in it."""
    return " ".join(_read(ENGINE).partition("*/")[0].removeprefix("/*!").split())


def as_json(data: object) -> str:
    """``data`` as text that ends no element and begins no comment."""
    text = json.dumps(data, ensure_ascii=False, separators=(",", ":"))
    return re.sub("[<>&\u2028\u2029]", lambda match: f"\\u{ord(match[0]):04x}", text)


def policy(code: str, style: str) -> str:
    """Return a Content-Security-Policy: this script with WebAssembly, this style, and nothing else from anywhere."""
    return (
        f"default-src 'none'; script-src '{_hash(code)}' 'wasm-unsafe-eval'; style-src '{_hash(style)}'; "
        "base-uri 'none'; form-action 'none'"
    )


def _hash(text: str) -> str:
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()


def script() -> str:
    """Return all modules as one: graphviz, then each module as a function of what it imports."""
    return "\n".join([_read(ENGINE), *(_module(name) for name in MODULES)])


def _module(name: str) -> str:
    source = _read(f"{name}.js")
    wanted = [_binding(line) for line in IMPORT.findall(source)]
    names = ", ".join(NAMES.findall(source))
    body = EXPORT.sub("", IMPORT.sub("", source))
    return f"const {name}Module = await (async () => {{\n{''.join(wanted)}{body}return {{ {names} }};\n}})();"


def _binding(line: str) -> str:
    """Return an import as a constant that is taken from another module's exports."""
    what, module = re.fullmatch(r"import (.*) from '\./(\w+)\.js';\n", line, re.DOTALL).groups()  # type: ignore[union-attr]
    what = what.removeprefix("* as ") if what.startswith("*") else RENAMED.sub(r"\1: \2", what)
    return f"const {what} = {module}Module;\n"


def _dark() -> str:
    """Return the dark counterpart of every colour, by what it colours."""
    rules = "".join(f"--{kind}-{light[1:].lower()}:{dark};" for (kind, light), dark in colours("dark").items())
    return f'@media screen{{:root[data-theme="dark"]{{{rules}}}}}\n'


def _read(name: str) -> str:
    return (PAGE / name).read_text(encoding="utf-8")


def _held(words: str) -> str:
    """Return words in which a line may break at the dots between them only."""
    return words.replace(" · ", "\u00a0·\n").replace(" ", "\u00a0")


def _text(words: str) -> str:
    return escape(printable(words))
