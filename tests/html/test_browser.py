"""The page in headless Chromium: what a reader sees, does, and gets."""

from __future__ import annotations

import re
import zlib

import pytest
from browser import Browser, missing
from test_page import HOSTILE, hostile_spec

import dsvgraph

page = pytest.importorskip("dsvgraph_html")
pytestmark = pytest.mark.skipif(
    bool(missing()), reason=f"no {missing()}: apt-get install chromium chromium-driver (or the like)"
)

ATTENTION = "model.layers.[3-60].self_attn"
READY = "document.documentElement.dataset.ready"
STILL = "!document.querySelector('#picture > g[style*=opacity]')"  # nothing fades: the layout has arrived


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    found = Browser(tmp_path_factory.mktemp("chromium"))
    found.devtools("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": "light"}])
    try:
        path = tmp_path_factory.mktemp("first") / "page.html"
        show(found, page.render(dsvgraph.load("llama3_8b"), path).as_uri())  # a page that does not start fails once
        yield found
    finally:
        found.close()


@pytest.fixture(scope="module")
def address(tmp_path_factory):
    """The page of DeepSeek-V3 as an address."""
    path = tmp_path_factory.mktemp("pages") / "v3.html"
    return page.render(dsvgraph.load("deepseek_v3"), path).as_uri()


@pytest.fixture
def v3(browser, address):
    """The page, freshly open; afterwards the console is silent and nothing was asked for."""
    browser.log("browser"), browser.requests()
    show(browser, address)
    yield browser
    assert browser.log("browser") == []
    assert [url for url in browser.requests() if not url.startswith(("file://", "about:", "chrome:"))] == []


def show(browser, address):
    browser.open(address)
    browser.wait(READY)
    browser.run("localStorage.clear()")


def card(key):
    """The element of a line by its key in the page."""
    return f'g[data-key="{key}"]'


def toggle(browser, key):
    browser.click(f"{card(key)} .toggle")
    browser.wait(STILL)


def words(browser, css="#picture"):
    return browser.run(
        "return [...document.querySelectorAll(arguments[0] + ' text')].map(t => t.textContent.trim())", css
    )


def text(browser, css):
    found = browser.run("return document.querySelector(arguments[0]).textContent", css)
    return found.replace("\u00a0", " ")


def selected(browser):
    return browser.run("return document.querySelector('g.selected')?.dataset.key ?? ''")


def seen(browser, key):
    """Whether an element lies in the window, below the head."""
    box = "document.querySelector(arguments[0]).getBoundingClientRect()"
    return browser.run(
        f"const b = {box}, h = document.getElementById('head').getBoundingClientRect();"
        "return b.top >= h.bottom - 1 && b.left >= 0 && b.right <= innerWidth && b.bottom <= innerHeight",
        card(key),
    )


def test_the_picture_stands_there(v3):
    found = words(v3)
    assert {"Main model", "MTP depth 1", "Inside one MoE block", "Embedding", "Output head", "× 58"} <= set(found)
    assert "671.0 B parameters" in text(v3, "#title")
    boxes = v3.run("return ['#picture', '#stage'].map(s => document.querySelector(s).getBoundingClientRect().toJSON())")
    inner, outer = boxes
    assert inner["left"] >= outer["left"] and inner["right"] <= outer["right"] and inner["bottom"] <= outer["bottom"]


def test_blocks_open_and_close_in_place(v3):
    before = set(words(v3))
    toggle(v3, "/inside/self_attn")
    inside = set(words(v3)) - before
    assert {"q_a_proj", "kv_b_proj", "Query", "Key and value", "CACHED"} <= inside
    frame, inner = (f"{card('/inside/self_attn')}.frame > rect", card("/inside/self_attn>0/main/o_proj"))
    around = "const [a, b] = [...arguments].map(s => document.querySelector(s).getBoundingClientRect());"
    assert v3.run(around + "return a.left < b.left && b.right < a.right && a.top < b.top && b.bottom < a.bottom",
                  frame, inner)  # fmt: skip
    toggle(v3, "/inside/self_attn")
    assert set(words(v3)) == before


def test_frames_hold_what_is_in_them_however_much_is_open(v3):
    """Two cards never lie over each other, and none leaves its frame, with every block open."""
    for _ in range(6):
        v3.keys("e")
    v3.wait(STILL)
    assert v3.run("return document.querySelectorAll('g.card .toggle').length") == 0
    boxes = v3.run(
        "return [...document.querySelectorAll('g.card[data-key] > .around')].map(e => {"
        "const b = e.getBoundingClientRect(); return [b.left, b.top, b.right, b.bottom] })"
    )
    assert len(boxes) > 100
    laps = [(a, b) for i, a in enumerate(boxes) for b in boxes[:i]
            if min(a[2], b[2]) - max(a[0], b[0]) > 1.5 and min(a[3], b[3]) - max(a[1], b[1]) > 1.5]  # fmt: skip
    assert not laps
    v3.keys("E")
    v3.wait("document.querySelectorAll('g.card .toggle').length > 0")


def test_search_opens_what_it_finds(v3):
    v3.keys("/", *"kv_b_proj")
    v3.wait("document.querySelectorAll('#found li').length")
    assert "kv_b_proj" in text(v3, "#found li")
    v3.keys("Enter")
    v3.wait(STILL)
    assert selected(v3).endswith("kv_b_proj")
    assert seen(v3, selected(v3))
    assert text(v3, "#panel button.path").endswith("self_attn.kv_b_proj")
    v3.keys("/", *"zzz")
    assert v3.wait("document.querySelector('#found .none')")


def test_hover_tells_path_shapes_weights_cost_and_line(v3):
    v3.hover(f"{card('/main/embed')} .around")
    v3.wait("!document.getElementById('tip').hidden")
    said = text(v3, "#tip")
    for part in ("model.embed_tokens", "int[B, T]", "[B, T, 7168]", "model.embed_tokens.weight", "[129280, 7168]",
                 "926.7 M (926,679,040)", "deepseek_v3.yaml:"):  # fmt: skip
        assert part in said, part


def test_shared_weight_leads_to_its_owner(v3):
    v3.keys("/", *"61.embed_tokens")
    v3.wait("document.querySelectorAll('#found li:not(.none)').length")
    v3.keys("Enter")
    v3.wait(STILL)
    assert selected(v3) == "/mtp-1/embed_tokens"
    assert "Go to the owner" in text(v3, "#panel")
    v3.keys("o")
    v3.wait(STILL)
    assert selected(v3) == "/main/embed"


@pytest.mark.parametrize(
    ("path", "found"),
    [
        ("model.layers.17.self_attn.kv_a_proj_with_mqa", "kv_a_proj_with_mqa"),
        (f"{ATTENTION}.o_proj.weight", "o_proj"),
        ("model.layers.1.mlp.gate_proj", "gate_proj"),
        ("model.layers.5.mlp.experts.200.down_proj", "down_proj"),
        ("model.layers.61.hnorm", "join"),
    ],
)
def test_link_opens_the_page_at_a_line(v3, address, path, found):
    show(v3, f"{address}#{path}")
    v3.wait(STILL)
    assert seen(v3, selected(v3))
    if found != "join":
        assert selected(v3).endswith(f"/{found}")
    assert path.split(".")[-2 if path.endswith("weight") else -1] in text(v3, "#panel")


def test_link_to_nowhere_says_so(v3, address):
    show(v3, f"{address}#model.nothing")
    assert text(v3, "#toast") == "No line has the path model.nothing"


def test_path_is_copied(v3):
    v3.devtools("Browser.grantPermissions", permissions=["clipboardReadWrite", "clipboardSanitizedWrite"])
    v3.click(f"{card('/inside/self_attn')} .around")
    v3.click("#panel button.path")
    v3.wait("document.getElementById('toast').textContent.startsWith('Copied')")
    assert v3.run("return navigator.clipboard.readText()") == ATTENTION
    assert v3.run("return decodeURI(location.hash)") == f"#{ATTENTION}"


def test_keys_alone_suffice(v3):
    v3.keys("Down")
    first = selected(v3)
    v3.keys("Up")
    second = selected(v3)
    assert first and second and first != second
    for _ in range(12):
        if v3.run("return document.querySelector('g.selected').getAttribute('aria-expanded')") == "false":
            break
        v3.keys("Up")
    key = selected(v3)
    v3.keys("Enter")
    v3.wait(STILL)
    assert v3.run("return document.activeElement.dataset.key") == key
    assert v3.run("return document.activeElement.getAttribute('aria-expanded')") == "true"
    v3.keys("Escape")
    assert selected(v3) == ""
    v3.keys("?")
    assert v3.run("return !document.getElementById('help').hidden")
    v3.keys("Escape")


def transform(browser):
    return [float(n) for n in re.findall(r"-?\d[\d.]*", browser.run("return picture.getAttribute('transform')"))]


def test_drag_moves_and_wheel_zooms(v3):
    x, y, k = transform(v3)
    v3.drag("#stage", 80, -30)
    assert transform(v3) == pytest.approx([x + 80, y - 30, k])
    assert selected(v3) == "", "a drag selects nothing"
    v3.wheel("#stage", -200)
    assert v3.wait("true") and transform(v3)[2] > 1.2 * k
    v3.keys("f")
    v3.wait(f"Math.abs(Number(picture.getAttribute('transform').match(/scale\\(([^)]*)/)[1]) - {k}) < 1e-6")


def fill(browser, css):
    return browser.run("return getComputedStyle(document.querySelector(arguments[0])).fill", css)


def test_dark_follows_the_reader_and_the_switch(v3, address):
    word = f"{card('/main/embed')} text"
    assert fill(v3, word) == "rgb(120, 53, 15)"
    dark = [{"name": "prefers-color-scheme", "value": "dark"}]
    v3.devtools("Emulation.setEmulatedMedia", features=dark)
    v3.wait("document.documentElement.dataset.theme === 'dark'")
    night = fill(v3, word)
    assert night == "rgb(253, 230, 138)"
    assert v3.run("return getComputedStyle(document.body).backgroundColor") == "rgb(11, 18, 32)"
    v3.click("#theme")
    assert fill(v3, word) == "rgb(120, 53, 15)"
    v3.devtools("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": "light"}])
    v3.click("#theme")
    assert fill(v3, word) == night
    show(v3, address)


def test_print_is_one_light_page_with_the_whole_picture(v3):
    v3.keys("t", "t")
    assert v3.run("return document.documentElement.dataset.theme") == "dark"
    pdf = v3.pdf()
    assert pdf.startswith(b"%PDF") and len(re.findall(rb"/Type\s*/Page\b", pdf)) == 1
    streams = b"".join(_inflated(pdf))
    assert b".0431 .0706 .1255 rg" not in streams, "the dark paper is not printed"
    assert b".9961 .9529 .7804 rg" in streams, "the embedding's pale yellow is"
    v3.run("localStorage.clear()")


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


@pytest.mark.parametrize("spec", ["gpt_oss_20b", "mixtral_8x7b", "tests/specs"])
def test_other_models_open_whole(browser, tmp_path, spec, request):
    """All blocks open at first, without a word on the console."""
    roots = sorted((request.config.rootpath / spec).glob("*.yaml")) if "/" in spec else [spec]
    for i, one in enumerate(roots):
        browser.log("browser")
        model = dsvgraph.load(str(one))
        show(browser, page.render(model, tmp_path / f"{i}.html", depth=1000).as_uri())
        assert browser.run("return document.querySelectorAll('g.card').length"), one
        assert browser.log("browser") == [], one


def test_command_says_what_is_open_at_first(browser, tmp_path):
    model = dsvgraph.load("deepseek_v3")
    out = page.render(model, tmp_path / "start.html", expand=(f"{ATTENTION}",), focus="model.layers.9.mlp.gate")
    show(browser, out.as_uri())
    assert "q_a_proj" in words(browser)
    assert selected(browser).endswith("/gate")
