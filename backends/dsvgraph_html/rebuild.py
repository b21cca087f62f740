"""Makes page/graphviz.js of the npm package that holds graphviz, the same to the byte from the same version.

npm pack @hpcc-js/wasm-graphviz@1.29.2, tar xzf the file that it leaves, then python rebuild.py package
"""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path

PAGE = Path(__file__).with_name("page")
INSIDE = (
    "holds Graphviz (EPL-2.0, its source: https://gitlab.com/graphviz/graphviz) and Expat (MIT,",
    "https://github.com/libexpat/libexpat), compiled to WebAssembly",
)
TOLD = {"fzstd"}  # of what the package is built of: whose licence stands in graphviz.NOTICES
EXPORTS = re.compile(r"export\{([^}]*)\};?\s*(?://#.*)?\s*$")


def rebuild(package: Path, page: Path = PAGE) -> None:
    """Write the code as one constant under its name, version and licence, and the licence beside it."""
    about = json.loads((package / "package.json").read_text(encoding="utf-8"))
    code = (package / "dist/index.js").read_text(encoding="utf-8")
    exports = EXPORTS.search(code)
    assert exports, "the package exports in another way than it did"
    assert not (new := _unknown(package)), f"code of {new} is inside: tell its licence in graphviz.NOTICES"
    (name,) = re.findall(r"(\w+) as Graphviz\b", exports[1])
    head = f"/*!\n{about['name']} {about['version']}\n{about['license']}, {about['homepage']}\n"
    head += "\n".join([*INSIDE, "*/", ""])
    body = f"const Graphviz = (() => {{{code[: exports.start()]}return {name};}})();\n"
    (page / "graphviz.js").write_text(head + body, encoding="utf-8")
    (page / "graphviz.LICENSE").write_text((package / "LICENSE").read_text(encoding="utf-8"), encoding="utf-8")


def _unknown(package: Path) -> set[str]:
    """Packages whose code is inside and that no notice names."""
    sources = json.loads((package / "dist/index.js.map").read_text(encoding="utf-8"))["sources"]
    return {name for source in sources for name in re.findall(r"node_modules/([^/]+)", source)} - TOLD


if __name__ == "__main__":
    rebuild(Path(sys.argv[1]))
