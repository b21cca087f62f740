"""README.md and docs/cost.md: what their commands are said to print is printed, and their Python runs."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pages
import pytest
from typer.testing import CliRunner

from dsvgraph import load
from dsvgraph.cli import app
from dsvgraph.loader import bundled

ROOT = pages.DOCS.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")
LANGUAGE = (pages.DOCS / "language.md").read_text(encoding="utf-8")
COUNTING = ("cost", "diff", "sweep", "zoo")
NUMBER = re.compile(r"\d[\d,.]*")


def fences(text: str, kind: str) -> list[str]:
    return re.findall(rf"^```{kind}\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)


def commands() -> list[tuple[list[str], str]]:
    """Every command that counts something, and what the page says of it: lines of output, or numbers after a #."""
    text = README + (pages.DOCS / "cost.md").read_text(encoding="utf-8")
    found = []
    for fence in fences(text, "console"):
        for part in re.split(r"^\$ dsvgraph ", fence, flags=re.MULTILINE)[1:]:
            command, _, told = part.replace("\\\n", "").partition("\n")
            command, _, remark = command.partition("  #")
            if command.split()[0] in COUNTING:
                found.append((shlex.split(command), told or "\n".join(NUMBER.findall(remark.rpartition(":")[2]))))
    return found


@pytest.mark.parametrize(
    ("words", "told"), commands(), ids=lambda value: " ".join(value) if isinstance(value, list) else "told"
)
def test_what_a_command_is_said_to_count(words, told):
    answer = CliRunner().invoke(app, words, prog_name="dsvgraph")
    assert answer.exit_code == 0, answer.output
    printed = " ".join(answer.stdout.split())
    assert [line for line in told.splitlines() if " ".join(line.split()) not in printed] == []


def test_the_models_of_the_readme(tmp_path):
    small, large = fences(README, "yaml")
    (tmp_path / "small.yaml").write_text(small, encoding="utf-8")
    assert load(str(tmp_path / "small.yaml")).losses
    spec = re.sub(r" *#.*| +", "", (bundled() / "deepseek_v3.yaml").read_text(encoding="utf-8"))
    assert [line for line in re.sub(r" *#.*| +", "", large).splitlines() if line not in spec.splitlines()] == []


def test_the_message_of_the_readme_is_a_real_one():
    """language.md has the same mistake in another file, and its message is compared with the checker's."""
    told = next(fence for fence in fences(README, "console") if "label leak" in fence).splitlines()[1:]
    elsewhere = {line.strip() for line in LANGUAGE.splitlines()}
    assert [line for line in told if line.strip() not in elsewhere and ":21:" not in line and "21 |" not in line] == []


def test_the_python_of_the_readme():
    torch = pytest.importorskip("torch")
    (code,) = fences(README, "python")
    ids = torch.zeros(1, 8, dtype=torch.long)
    names = {"input_ids": ids, "targets": ids}
    exec(compile(code, "README.md", "exec"), names)
    assert names["logits"].shape[:2] == ids.shape


def test_the_links_of_the_readme():
    found = re.findall(r"\]\(([^)#:]+)\)", README)
    assert found and [link for link in found if not Path(ROOT / link).exists()] == []
