"""The studies: their specs check, their pages show files that are there, and `make study` trains each of them."""

from __future__ import annotations

import re

import pages
import pytest

import dsvgraph

STUDIES = pages.DOCS / "studies"
SPECS = sorted(STUDIES.glob("*/*.yaml"))


@pytest.mark.parametrize("path", SPECS, ids=lambda path: f"{path.parent.name}-{path.stem}")
def test_a_spec_of_a_study_checks(path) -> None:
    model = dsvgraph.load(str(path))
    assert model.losses[0].name == "next_token"


def test_the_pages_show_what_is_there() -> None:
    for page in STUDIES.glob("*.md"):
        links = re.findall(r"\]\((?!https?:)([^)#]+)", page.read_text(encoding="utf-8"))
        assert links and [link for link in links if not (STUDIES / link).exists()] == []


def test_make_trains_every_variant() -> None:
    """Every spec but those that others only extend."""
    makefile = (pages.DOCS.parent / "Makefile").read_text(encoding="utf-8")
    extended = {"mean", "decay", "equal"}
    texts = {f"{weights}_{depth}" for weights in extended for depth in (1, 2, 4)} | {"depth_0"}
    assert {path.stem for path in SPECS if path.parent.name == "text"} == texts | extended
    assert "$(foreach w,mean decay equal,$(foreach d,1 2 4,$(w)_$(d).yaml))" in makefile
    assert all(path.name in makefile for path in SPECS if path.parent.name == "star_graph")
