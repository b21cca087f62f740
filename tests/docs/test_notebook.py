"""examples/tour.ipynb runs from top to bottom, and its stored outputs are the ones that it prints.

Cells run as in IPython: the value of a last expression is shown. Pictures are stored and not compared, since they
depend on the version of graphviz.
"""

from __future__ import annotations

import ast
import contextlib
import io
import json
from pathlib import Path
from typing import Any

import pages
import pytest

NOTEBOOK = pages.DOCS.parent / "examples/tour.ipynb"


def outputs(source: str, names: dict[str, Any], number: int) -> list[dict[str, Any]]:
    """What a cell prints and shows, in the notebook format (nbformat 4.5)."""
    tree, shown = ast.parse(source), None
    last = tree.body.pop() if tree.body and isinstance(tree.body[-1], ast.Expr) else None
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        exec(compile(tree, "cell", "exec"), names)
        if isinstance(last, ast.Expr):
            shown = eval(compile(ast.Expression(last.value), "cell", "eval"), names)
    found: list[dict[str, Any]] = []
    if printed.getvalue():
        found.append({"name": "stdout", "output_type": "stream", "text": printed.getvalue().splitlines(keepends=True)})
    if shown is not None:
        data = {"text/plain": repr(shown).splitlines(keepends=True)}
        if svg := getattr(shown, "_repr_svg_", lambda: None)():
            data["image/svg+xml"] = svg.splitlines(keepends=True)
        result = {"data": data, "execution_count": number, "metadata": {}, "output_type": "execute_result"}
        found.append(result)
    return found


def words(found: list[dict[str, Any]]) -> list[list[str]]:
    return [one["text"] if "text" in one else one["data"]["text/plain"] for one in found]


def test_the_notebook_is_true(folder: Path, request: pytest.FixtureRequest) -> None:
    pytest.importorskip("torch")
    notebook, names = json.loads(NOTEBOOK.read_text(encoding="utf-8")), {}
    assert notebook["nbformat"] == 4
    cells = [cell for cell in notebook["cells"] if cell["cell_type"] == "code"]
    assert len(cells) >= 8
    for number, cell in enumerate(cells, 1):
        found = outputs("".join(cell["source"]), names, number)
        if request.config.getoption("--update-golden"):
            cell["outputs"], cell["execution_count"] = found, number
        assert words(cell["outputs"]) == words(found), f"cell {number}: pytest --update-golden rewrites the outputs"
    if request.config.getoption("--update-golden"):
        NOTEBOOK.write_text(json.dumps(notebook, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
