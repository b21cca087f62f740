"""The page in headless Chromium: how it looks in other windows, colours, models and frames, and on paper."""

from __future__ import annotations

import re
import zlib

import pytest
from browser import BOXES, READY, card, seen, selected, sheet, show, text, words
from test_page import HOSTILE, hostile_spec

import dsvgraph

page = pytest.importorskip("dsvgraph_html")

ATTENTION = "model.layers.[3-60].self_attn"


@pytest.mark.parametrize(("width", "height"), [(700, 800), (375, 700)])
def test_head_and_panel_leave_room_in_small_windows(v3, width, height):
    v3.size(width, height)
    v3.run("location.hash = 'model.layers.5.mlp.gate'")
    v3.wait("document.querySelector('g.selected')")
    inside = seen(v3, selected(v3))
    boxes = v3.run("return [...document.querySelectorAll('h1, #tools button, #search, #panel')].map(e => {"
                   "const b = e.getBoundingClientRect(); return [b.left, b.right] })")  # fmt: skip
    over = v3.run(BOXES + "return [a.bottom, b.top]", card(selected(v3)), "#panel")
    head = v3.run("return head.offsetHeight")
    v3.keys("?")
    boxes += [v3.run("const b = help.getBoundingClientRect(); return [b.left, b.right]")]
    v3.size(1400, 900)
    assert inside and head < 0.35 * height and over[0] <= over[1]
    assert all(left >= 0 and right <= width for left, right in boxes)


def fill(browser, css):
    return browser.run("return getComputedStyle(document.querySelector(arguments[0])).fill", css)


def test_dark_follows_the_reader_and_the_switch_and_paper_is_light(v3):
    word = f"{card('/main/embed')} text"
    assert fill(v3, word) == "rgb(120, 53, 15)"
    v3.media(scheme="dark")
    v3.wait("document.documentElement.dataset.theme === 'dark'")
    night = fill(v3, word)
    assert night == "rgb(253, 230, 138)"
    assert v3.run("return getComputedStyle(document.body).backgroundColor") == "rgb(11, 18, 32)"
    v3.click("#theme")
    assert fill(v3, word) == "rgb(120, 53, 15)"
    v3.media()
    v3.click("#theme")
    assert fill(v3, word) == night
    pdf = v3.pdf()
    v3.click("#theme")
    v3.run("localStorage.clear()")
    assert pdf.startswith(b"%PDF") and len(re.findall(rb"/Type\s*/Page\b", pdf)) == 1
    assert sheet(pdf) == ["792", "612"]
    streams = b"".join(_inflated(pdf))
    assert b".0431 .0706 .1255 rg" not in streams, "the dark paper is not printed"
    assert b".9961 .9529 .7804 rg" in streams, "the embedding's pale yellow is"


def _inflated(pdf):
    for stream in re.findall(rb"stream\r?\n(.*?)endstream", pdf, re.DOTALL):
        try:
            yield zlib.decompress(stream)
        except zlib.error:
            continue


def test_hostile_names_do_nothing(browser, tmp_path):
    browser.log("browser")
    show(browser, page.render(dsvgraph.load(hostile_spec(tmp_path)), tmp_path / "hostile.html").as_uri())
    assert text(browser, "h1") == HOSTILE
    browser.keys("e", "/", *"layer", "Enter")
    browser.wait("!document.getElementById('panel').hidden")
    assert browser.run("return [window.hacked, document.images.length, document.scripts.length]") == [None, 0, 2]
    assert browser.log("browser") == []


@pytest.mark.parametrize("spec", ["gpt_oss_20b", "tests/specs/patterns.yaml", "tests/specs/parallel_heads.yaml"])
def test_other_models_open_whole(browser, tmp_path, spec, request):
    """All blocks open at first, without a word on the console."""
    browser.log("browser")
    model = dsvgraph.load(str(request.config.rootpath / spec) if "/" in spec else spec)
    show(browser, page.render(model, tmp_path / "page.html", depth=1000).as_uri())
    assert browser.run("return document.querySelectorAll('g.card').length")
    assert not browser.run("return document.querySelectorAll('g.card .toggle').length")
    if spec == "gpt_oss_20b":  # copies of two kinds that alternate
        browser.run("location.hash = 'model.layers.10.self_attn.k_proj.weight'")
        browser.wait("document.querySelector('g.selected')")
        assert text(browser, "#panel button.path") == "model.layers.[0].self_attn.k_proj"
    assert browser.log("browser") == []


def test_command_says_what_is_open_at_first(browser, tmp_path):
    model = dsvgraph.load("deepseek_v3")
    out = page.render(model, tmp_path / "start.html", expand=(f"{ATTENTION}",), focus="model.layers.9.mlp.gate")
    show(browser, out.as_uri())
    assert "q_a_proj" in words(browser)
    assert selected(browser).endswith("/gate")


def test_a_notebook_shows_the_page_in_a_frame_of_its_own(browser, tmp_path):
    """Without storage, address or clipboard of what is around it, it selects and copies all the same."""
    browser.log("browser")
    path = tmp_path / "notebook.html"
    path.write_text(f"<!doctype html><meta charset=utf-8>{dsvgraph.load('llama3_8b')._repr_html_()}", encoding="utf-8")
    browser.open(path.as_uri())
    browser.enter("iframe")
    browser.wait(READY)
    browser.click(f"{card('/main/embed')} .around")
    browser.click("#panel button.path")
    browser.wait("document.getElementById('toast').textContent === 'Copied model.embed_tokens'")
    assert browser.log("browser") == []
