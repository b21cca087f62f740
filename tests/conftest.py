"""What all tests share: golden texts, and one thread to a worker."""

from __future__ import annotations

import difflib
import gc
import os
from collections.abc import Callable
from pathlib import Path

import pytest

GOLDEN = Path(__file__).parent / "golden"

if "PYTEST_XDIST_WORKER" in os.environ:  # before anything imports torch: the workers share the cores
    os.environ.setdefault("OMP_NUM_THREADS", "1")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--update-golden", action="store_true", help="rewrite the texts in tests/golden")


def pytest_collection_finish() -> None:
    """What is imported by now stays: the search for garbage need not go through all of torch again and again."""
    gc.collect()
    gc.freeze()


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
