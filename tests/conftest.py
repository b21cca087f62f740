"""What all tests share: golden texts, and one thread to a worker."""

from __future__ import annotations

import difflib
import gc
import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from markers import MARKERS, Skipped, installed, left_out, mark, missing, needs_torch

GOLDEN = Path(__file__).parent / "golden"

if "PYTEST_XDIST_WORKER" in os.environ:  # before anything imports torch: the workers share the cores
    os.environ.setdefault("OMP_NUM_THREADS", "1")

if not installed("torch"):  # else the folder tests/torch would be found in its place
    sys.modules["torch"] = None  # type: ignore[assignment]


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--update-golden", action="store_true", help="rewrite the texts in tests/golden")


def pytest_configure(config: pytest.Config) -> None:
    for name, meaning in MARKERS.items():
        config.addinivalue_line("markers", f"{name}: {meaning}")


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """Do not import files that import torch if their tests are left out."""
    test = collection_path.suffix == ".py" and collection_path.name.startswith("test_")
    return True if test and left_out("torch", config) and needs_torch(collection_path) else None


def pytest_pycollect_makemodule(module_path: Path, parent: pytest.Collector) -> pytest.Module | None:
    """Skip files that import what is not installed."""
    return Skipped.from_parent(parent, path=module_path) if missing(module_path) else None


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        mark(item)
        if item.get_closest_marker("torch") and not installed("torch"):
            item.add_marker(pytest.mark.skip(reason="needs torch"))


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item: pytest.Item) -> Iterator[None]:
    """Fail a test without the marker `torch` that imports torch."""
    before = sys.modules.get("torch")
    yield
    if not (before or item.get_closest_marker("torch")) and sys.modules.get("torch"):
        pytest.fail("this test imports torch: it needs @pytest.mark.torch")


def pytest_collection_finish() -> None:
    """What is imported by now stays: the search for garbage need not go through all of torch again and again.

    Nor so often through what tests share, which took a sixth of their time: models, modules, syntax trees.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(10_000, 20, 50)


@pytest.fixture(scope="module")
def timed() -> None:
    """While tests are timed, nobody searches for garbage in what the tests before them left in memory."""
    gc.collect()
    gc.freeze()


@pytest.fixture
def golden(request: pytest.FixtureRequest) -> Callable[[str, str], None]:
    """``golden(name, text)``: the text is what tests/golden/name holds, one fact per line."""
    update = request.config.getoption("--update-golden")

    def check(name: str, text: str) -> None:
        path = GOLDEN / name
        got = [line.rstrip() for line in text.rstrip().splitlines()]
        if update:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text("\n".join(got) + "\n", encoding="utf-8")
        want = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
        if got != want:
            diff = difflib.unified_diff(want, got, f"tests/golden/{name}", "got", n=2, lineterm="")
            hint = "if the change is meant: pytest --update-golden, then read the diff of tests/golden"
            pytest.fail("\n".join([*diff, "", hint]), pytrace=False)

    return check
