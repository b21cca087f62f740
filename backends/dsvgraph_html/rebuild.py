"""Makes page/graphviz.js of the npm package that holds graphviz.

npm install @hpcc-js/wasm-graphviz, then python rebuild.py node_modules/@hpcc-js/wasm-graphviz
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
EXPORTS = re.compile(r"export\{([^}]*)\};?\s*(?://#.*)?\s*$")


def rebuild(package: Path) -> None:
    """Writes the code as one constant under its name, version and licence, and the licence beside it."""
    about = json.loads((package / "package.json").read_text(encoding="utf-8"))
    code = (package / "dist/index.js").read_text(encoding="utf-8")
    exports = EXPORTS.search(code)
    assert exports, "the package exports in another way than it did"
    (name,) = re.findall(r"(\w+) as Graphviz\b", exports[1])
    head = f"/*!\n{about['name']} {about['version']}\n{about['license']}, {about['homepage']}\n"
    head += "\n".join([*INSIDE, "*/", ""])
    body = f"const Graphviz = (() => {{{code[: exports.start()]}return {name};}})();\n"
    (PAGE / "graphviz.js").write_text(head + body, encoding="utf-8")
    (PAGE / "graphviz.LICENSE").write_text((package / "LICENSE").read_text(encoding="utf-8"), encoding="utf-8")


if __name__ == "__main__":
    rebuild(Path(sys.argv[1]))
