"""CHANGELOG.md and the version of the package agree."""

from __future__ import annotations

import re
from importlib.metadata import version
from pathlib import Path

import dsvgraph

TEXT = (Path(__file__).parents[2] / "CHANGELOG.md").read_text(encoding="utf-8")


def test_the_newest_release_is_the_version_of_the_package() -> None:
    headings = re.findall(r"^## (.*)$", TEXT, re.MULTILINE)
    assert headings[0] == "Unreleased"
    releases = [re.fullmatch(r"(\d+\.\d+\.\d+) - (\d{4}-\d\d-\d\d)", heading) for heading in headings[1:]]
    assert releases and all(releases)
    dates = [release[2] for release in releases if release]
    assert releases[0][1] == dsvgraph.__version__ == version("dsvgraph") and dates == sorted(dates, reverse=True)


def test_sections_are_those_of_keep_a_changelog() -> None:
    sections = set(re.findall(r"^### (.*)$", TEXT, re.MULTILINE))
    assert sections <= {"Added", "Changed", "Deprecated", "Removed", "Fixed", "Security"} and "Added" in sections
