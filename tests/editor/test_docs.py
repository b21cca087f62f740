"""docs/editors.md: its settings can be read, and what they call is there."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from dsvgraph.loader import MAX_BYTES

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs/editors.md").read_text(encoding="utf-8")
FENCES = dict(re.findall(r"```(\w+)\n(.*?)```", PAGE, re.DOTALL))


def test_settings_can_be_read():
    code = json.loads(FENCES["json"])
    assert [code["glspc.server.command"], *code["glspc.server.commandArguments"]] == ["dsvgraph", "lsp"]
    helix = tomllib.loads(FENCES["toml"])
    server = helix["language-server"]["dsvgraph"]
    assert [server["command"], *server["args"]] == ["dsvgraph", "lsp"]
    assert helix["language"][0]["language-servers"][0] in helix["language-server"]
    for language, words in (("lua", '"dsvgraph", "lsp"'), ("elisp", '"dsvgraph" "lsp"')):
        text = re.sub(r'"[^"]*"', "", FENCES[language])
        assert words in FENCES[language]
        assert all(text.count(a) == text.count(b) for a, b in ("()", "[]", "{}"))


def test_the_schema_is_written_where_the_page_says(tmp_path):
    command = FENCES["bash"].split()
    assert command[0] == "dsvgraph"
    subprocess.run([sys.executable, "-m", *command], cwd=tmp_path, check=True)
    (name,) = re.findall(r"\$schema=(\S+)", FENCES["yaml"])
    assert json.loads((tmp_path / name).read_text(encoding="utf-8"))["title"] == "dsvgraph spec"


def test_what_the_page_states_holds():
    pytest.importorskip("pygls", reason="of the extra `lsp`")
    from dsvgraph_lsp.server import PAUSE

    assert f"{MAX_BYTES:,} bytes" in PAGE
    assert f"({PAUSE})" in PAGE
