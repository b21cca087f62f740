"""Fixtures of the testbed's tests: a trainer whose losses a table gives, and comparisons to ask for."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from variants import asking, stand_in

from dsvgraph.backends import Comparison


@pytest.fixture
def trained(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, unplotted: None) -> Callable[..., None]:
    """``trained(a={"ratio": 0.99})`` lets runs be trained by the stand-in, with this table."""
    return stand_in(tmp_path, monkeypatch)


@pytest.fixture
def unplotted(monkeypatch: pytest.MonkeyPatch) -> None:
    """Reports without pictures, which take most of a small comparison's time."""
    monkeypatch.setattr("dsvgraph_testbed.report.page.plots", lambda results: {})
    monkeypatch.setattr("dsvgraph_testbed.report.facts.differences", lambda results: [])


@pytest.fixture
def asked(tmp_path: Path) -> Callable[..., Comparison]:
    """``asked(variants, seeds=3)`` is a comparison of 100 steps with 64 tokens each."""
    return asking(tmp_path)
