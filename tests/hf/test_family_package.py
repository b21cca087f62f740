"""A family of another package: installed beside dsvgraph, it passes what the families of dsvgraph_hf pass."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from configs import PUBLISHED, plain
from processes import ROOT, with_package
from processes import run_module as run
from typer.testing import CliRunner

from dsvgraph.cli import app
from dsvgraph_hf import families

EXAMPLE = ROOT / "examples/qwen2"
CONFIG = EXAMPLE / "tests/qwen2_0.5b.json"

pytest.importorskip("hatchling", reason="the example is built as a wheel, by hatchling of the extra `dev`")


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """The environment of processes that have the example's wheel on their path."""
    return with_package(EXAMPLE, tmp_path_factory.mktemp("site"))


def test_the_family_passes_the_tests_of_families(installed: dict[str, str]) -> None:
    """Names, shapes, parameters, logits and ignored attributes against transformers; export and import again."""
    files = [f"tests/hf/test_{name}.py" for name in ("import", "import_property", "import_logits", "ignored")]
    chosen = ("-k", "qwen2 and not guessed", *files, str(EXAMPLE / "tests"))
    done = run(installed, "pytest", "-q", "--assert=plain", "-p", "no:cacheprovider", *chosen)
    assert done.returncode == 0 and "9 passed" in done.stdout, done.stdout


def test_the_command_line_reads_and_writes_the_family(installed: dict[str, str], tmp_path: Path) -> None:
    spec = tmp_path / "qwen2.yaml"
    assert run(installed, "dsvgraph", "import", str(CONFIG), "-o", str(spec)).returncode == 0
    assert run(installed, "dsvgraph", "check", "--strict", str(spec)).returncode == 0
    out = tmp_path / "out"
    done = run(installed, "dsvgraph", "export", str(spec), "-o", str(out), "--config-only")
    assert done.returncode == 0, done.stderr
    assert json.loads((out / "config.json").read_text(encoding="utf-8"))["model_type"] == "qwen2"


@pytest.mark.parametrize(
    ("module", "words"),
    [("nowhere_at_all", "ModuleNotFoundError"), ("json", "it does not define Config, to_spec, from_graph")],
)
def test_a_family_that_cannot_be_used_is_told(
    module: str, words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    about = tmp_path / "broken-1.0.dist-info"
    about.mkdir()
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: broken\nVersion: 1.0\n", encoding="utf-8")
    (about / "entry_points.txt").write_text(f"[dsvgraph_hf.families]\nbroken = {module}\n", encoding="utf-8")
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setattr(families, "_loaded", families._loaded.__wrapped__)  # not those of earlier tests
    runner = CliRunner(env={"COLUMNS": "100", "NO_COLOR": "1"})
    config = tmp_path / "config.json"
    config.write_text(json.dumps(plain("llama", model_type="broken")), encoding="utf-8")
    done = runner.invoke(app, ["import", str(config)], prog_name="dsvgraph")
    assert done.exit_code == 1 and f"the family `broken` of {module} cannot be used" in done.stderr
    assert words in done.stderr
    assert runner.invoke(app, ["import", str(PUBLISHED / "llama3_8b.json")], prog_name="dsvgraph").exit_code == 0
