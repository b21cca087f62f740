"""docs/reference.md is what `dsvgraph ops --markdown` and `dsvgraph blocks --markdown` print."""

from __future__ import annotations

import re

import pages

from dsvgraph.cli import app

HEAD = """\
# Reference

Every op and every bundled block, made from the code and the YAML by `dsvgraph ops --markdown` and
`dsvgraph blocks --markdown`. [language.md](language.md) says how they are put together. In shapes, `...` stands for any
leading axes, B counts the rows of a batch and T positions; in FLOPs, forward, a multiply-add is two. Parameters and
weights of a block are in the names of its arguments, with the defaults, copies of equal weights in one row.
"""


def test_reference(golden):
    parts = [HEAD, *(pages.run(f"$ dsvgraph {command} --markdown") for command in ("ops", "blocks"))]
    golden("../../docs/reference.md", "\n".join(parts))


def test_links_lead_somewhere():
    for page in ("reference.md", "language.md", "tutorial.md"):
        text = (pages.DOCS / page).read_text(encoding="utf-8")
        headings = {
            re.sub(r"[^\w -]", "", h).strip().lower().replace(" ", "-") for h in re.findall("^#+ (.*)$", text, re.M)
        }
        for target in re.findall(r"\]\(([^)]+)\)", text):
            assert target[1:] in headings if target[0] == "#" else (pages.DOCS / target).exists(), f"{page}: {target}"


def test_pages_name_only_commands_that_are_there():
    known = {command.callback.__module__.split(".")[-1] for command in app.registered_commands}
    for page in ("language.md", "tutorial.md"):
        text = (pages.DOCS / page).read_text(encoding="utf-8")
        assert set(re.findall(r"[$`] ?dsvgraph ([a-z]+)", text)) <= known
