"""A backend of another package, examples/numpy_backend: installed beside dsvgraph, the command line takes it up."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import Result
from processes import with_package
from typer.testing import CliRunner

from dsvgraph.cli import app

pytest.importorskip("hatchling", reason="the example is built as a wheel, by hatchling of the extra `dev`")

EXAMPLE = Path(__file__).parents[2] / "examples/numpy_backend"
SPEC = str(EXAMPLE / "specs/dense.yaml")
OUTLINE = """\
dense
  embed: embedding, [B, T, 16]
  trunk: layer x 3, [B, T, 16]
    norm: rms_norm, [B, T, 16]
    up: linear, [B, T, 64]
    act: silu, [B, T, 64]
    down: linear, [B, T, 16]
    y: add, [B, T, 16]
  norm: rms_norm, [B, T, 16]
  head: linear, [B, T, 64]
"""


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """The environment of programs that have the example's wheel on their path."""
    return with_package(EXAMPLE, tmp_path_factory.mktemp("site"))


@pytest.fixture
def bare(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Runs the command line in an empty folder, in this process."""
    monkeypatch.chdir(tmp_path)

    def dsv(*args: str) -> Result:
        return CliRunner(env={"NO_COLOR": "1", "COLUMNS": "100"}).invoke(app, args, prog_name="dsvgraph")

    return dsv


@pytest.fixture
def run(bare: Any, installed: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """The same, with the example's wheel on the path."""
    monkeypatch.syspath_prepend(installed["PYTHONPATH"])
    yield bare
    for name in [name for name in sys.modules if name.partition(".")[0] == "dsvgraph_numpy"]:
        del sys.modules[name]


@pytest.mark.torch
def test_the_second_compiler_computes_what_the_first_does(run: Any, tmp_path: Path) -> None:
    """Its source, with the weights of a module of torch, gives that module's logits."""
    torch = pytest.importorskip("torch")
    import dsvgraph
    import dsvgraph_torch

    done = run("compile", SPEC, "--backend", "numpy", "--emit", "dense.py", "--json")
    assert (done.exit_code, done.stderr) == (0, "")
    assert json.loads(done.stdout)["parameters"] == json.loads(run("compile", SPEC, "--json").stdout)["parameters"]
    names: dict[str, Any] = {}
    exec((tmp_path / "dense.py").read_text(encoding="utf-8"), names)
    module = dsvgraph_torch.compile(dsvgraph.load(SPEC)).double()
    state = {path: torch.randn_like(weight) for path, weight in module.state_dict().items()}
    module.load_state_dict(state)
    assert {path: tuple(weight.shape) for path, weight in state.items()} == names["WEIGHTS"]
    ids = torch.randint(64, (2, 5))
    weights = {path: weight.numpy() for path, weight in state.items()}
    logits = names["forward"](weights, {"ids": ids.numpy()})["logits"]
    torch.testing.assert_close(torch.from_numpy(logits), module(ids)["logits"])


def test_a_line_that_it_cannot_lower_is_an_error_at_its_place(run: Any) -> None:
    done = run("compile", "deepseek_v3_tiny", "--backend", "numpy", "--emit", "tiny.py")
    assert (done.exit_code, done.stdout) == (1, "")
    assert done.stderr.startswith("error[E0803]: the backend `numpy` does not lower `")
    assert "mla.yaml:" in done.stderr
    full = run("compile", SPEC, "--backend", "numpy", "--emit", "dense.py", "--full")
    assert full.exit_code == 1 and "the backend `numpy` takes no packed documents" in full.stderr


@pytest.mark.torch
def test_the_default_stays_the_compiler_of_dsvgraph(run: Any) -> None:
    pytest.importorskip("torch")
    assert "modules" in json.loads(run("compile", SPEC, "--json").stdout)
    done = run("compile", SPEC, "--backend", "numpy", "--train")
    assert (done.exit_code, done.stdout) == (1, "")
    assert "there is no backend `numpy`" in done.stderr and "`torch`" in done.stderr


def test_a_renderer_is_found_by_its_ending(run: Any, tmp_path: Path) -> None:
    done = run("render", SPEC, "-o", "dense.txt", "--depth", "2")
    assert (done.exit_code, done.stdout, done.stderr) == (0, "dense.txt\n", "")
    assert (tmp_path / "dense.txt").read_text(encoding="utf-8") == OUTLINE
    assert ", svg, txt." in " ".join(run("render", "--help").stdout.split())
    refused = run("render", SPEC, "-o", "dense.txt", "--diff", SPEC)
    assert refused.exit_code == 1 and "an outline shows one model" in refused.stderr


def test_without_the_package_its_ending_and_its_name_are_told_as_missing(bare: Any) -> None:
    drawn = bare("render", SPEC, "-o", "dense.txt")
    assert drawn.exit_code == 2 and ".svg" in drawn.stderr and ".txt," not in drawn.stderr
    compiled = bare("compile", SPEC, "--backend", "numpy")
    assert compiled.exit_code == 1 and "there is no backend `numpy`" in compiled.stderr


def test_what_is_asked_for_is_all_that_is_imported(installed: dict[str, str], tmp_path: Path) -> None:
    """Neither numpy nor torch is imported to draw text, nor torch to compile by numpy."""
    code = "import sys; from dsvgraph.cli import app; app(sys.argv[1:], standalone_mode=False); print(*sys.modules)"
    for args, absent in (
        (("render", SPEC, "-o", "a.txt"), {"torch", "numpy", "graphviz"}),
        (("compile", SPEC, "--backend", "numpy"), {"torch", "graphviz"}),
    ):
        command = [sys.executable, "-c", code, *args]
        done = subprocess.run(command, cwd=tmp_path, env=installed, capture_output=True, text=True, check=True)
        assert not absent & {*done.stdout.splitlines()[-1].split()}
