"""An op of another package: installed beside dsvgraph, it passes what the ops of dsvgraph pass."""

from __future__ import annotations

import os
import re
import tomllib
from pathlib import Path

import pytest
from processes import run_module as run
from processes import with_package

from dsvgraph.ops.registry import DECLARATIONS

ROOT = Path(__file__).parents[2]
EXAMPLE = ROOT / "examples/gated_delta"
SPEC = EXAMPLE / "specs/gated_delta.yaml"

pytest.importorskip("hatchling", reason="the example is built as a wheel, by hatchling of the extra `dev`")
torch = pytest.importorskip("torch")


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """The environment of processes that have the example's wheel on their path."""
    return with_package(EXAMPLE, tmp_path_factory.mktemp("site"))


def test_the_op_passes_the_same_matrix_and_is_transformers(installed: dict[str, str]) -> None:
    """Every pass and command, and outputs and gradients against the reference of Qwen3-Next in transformers."""
    pytest.importorskip("transformers")
    chosen = ("tests/ops/test_matrix.py", str(EXAMPLE / "tests"), "-k", "gated_delta or every or test_it_is")
    done = run(installed, "pytest", "-q", "--assert=plain", "-p", "no:cacheprovider", *chosen)
    assert done.returncode == 0 and "17 passed" in done.stdout, done.stdout


def test_the_page_shows_what_the_example_is() -> None:
    """Its fences are the example's own text; its commands are those that the tests above run."""
    page = (ROOT / "docs/ops.md").read_text(encoding="utf-8")
    fences = dict(re.findall(r"^```(\w+)\n(.*?)^```$", page, re.MULTILINE | re.DOTALL))
    lowering = (EXAMPLE / "dsvgraph_gated_delta/lowering.py").read_text(encoding="utf-8")
    assert fences["python"].split("\n\n", 1)[1] in lowering.split("\n\n", 1)[1] + "\n"
    project, shown = ((EXAMPLE / "pyproject.toml").read_text(encoding="utf-8"), fences["toml"])
    wanted, told = (tomllib.loads(text)["project"]["entry-points"] for text in (project, shown))
    assert wanted == told
    commands = [line.removeprefix("$ ").split()[:2] for line in fences["console"].splitlines()]
    assert commands == [["pip", "install"], ["dsvgraph", "ops"], ["dsvgraph", "compile"]]
    assert set(re.findall(r"^\| `([a-z_]+)", page, re.MULTILINE)) <= {*DECLARATIONS, "op", "ports"}
    assert all(f"`{name}" in page for name in DECLARATIONS)


def test_without_the_package_the_op_is_told_as_missing() -> None:
    done = run({**os.environ, "NO_COLOR": "1"}, "dsvgraph", "check", str(SPEC))
    assert done.returncode == 1 and "there is no op or block `gated_delta`" in done.stderr
