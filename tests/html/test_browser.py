"""The page in headless Chromium: what a reader does, and gets."""

from __future__ import annotations

import re
import time

import pytest
from browser import BOXES, card, middle, seen, selected, sheet, show, text, toggle, words

ATTENTION = "model.layers.[3-60].self_attn"
CLOCK = """
window.now = performance.now();
window.due = [];
performance.now = () => now;
window.requestAnimationFrame = (step) => due.push(step);
window.pass = (time) => { now += time; due.splice(0).forEach((step) => step(now)); };
"""


def test_the_picture_stands_there(v3):
    found = words(v3)
    assert {"Main model", "MTP depth 1", "Inside one MoE block", "Embedding", "Output head", "× 58"} <= set(found)
    assert "671.0 B parameters" in text(v3, "#title")
    assert v3.run(BOXES + "return a.left >= b.left && a.right <= b.right && a.bottom <= b.bottom", "#picture", "#stage")


def test_blocks_open_and_close_in_place(v3):
    before = set(words(v3))
    toggle(v3, "/inside/self_attn")
    inside = set(words(v3)) - before
    assert {"q_a_proj", "kv_b_proj", "Query", "Key and value", "CACHED"} <= inside
    frame, inner = (f"{card('/inside/self_attn')}.frame > rect", card("/inside/self_attn>0/main/o_proj"))
    assert v3.run(BOXES + "return a.left < b.left && b.right < a.right && a.top < b.top && b.bottom < a.bottom",
                  frame, inner)  # fmt: skip
    v3.click(f"{inner} .around")
    toggle(v3, "/inside/self_attn")
    assert set(words(v3)) == before
    assert selected(v3) == "/inside/self_attn", "and not what is no longer on show"


def test_what_opens_stays_in_its_place_while_the_rest_moves(v3):
    """In steps of a clock that the test turns: halfway, the block is where it was, its neighbour on the way."""
    v3.media(motion="no-preference")
    v3.run(CLOCK)
    block, other = card("/main/sparse"), card("/main/lm_head")
    here, start = middle(v3, block), middle(v3, other)
    toggle(v3, "/main/sparse")
    v3.run("pass(160)")
    assert middle(v3, f"{block}.frame") == pytest.approx(here, abs=2)
    between = middle(v3, other)
    v3.run("pass(400)")
    v3.media()
    assert middle(v3, f"{block}.frame") == pytest.approx(here, abs=2)
    end = middle(v3, other)
    assert start[1] - between[1] > 20 and between[1] - end[1] > 20


def test_frames_hold_what_is_in_them_however_much_is_open(v3):
    """Two cards never lie over each other with every block open; printed, that tall picture stands upright."""
    for _ in range(6):
        v3.keys("e")
    assert v3.run("return document.querySelectorAll('g.card .toggle').length") == 0
    boxes = v3.run(
        "return [...document.querySelectorAll('g.card[data-key] > .around')].map(e => {"
        "const b = e.getBoundingClientRect(); return [b.left, b.top, b.right, b.bottom] })"
    )
    assert len(boxes) > 100
    laps = [(a, b) for i, a in enumerate(boxes) for b in boxes[:i]
            if min(a[2], b[2]) - max(a[0], b[0]) > 1.5 and min(a[3], b[3]) - max(a[1], b[1]) > 1.5]  # fmt: skip
    assert not laps
    assert sheet(v3.pdf()) == ["612", "792"]
    v3.keys("E")
    assert v3.run("return document.querySelectorAll('g.card .toggle').length") > 0


def ask(browser, words):
    """What the search finds: names with paths."""
    browser.run("search.value = arguments[0]; search.dispatchEvent(new Event('input'))", words)
    return browser.run("return [...document.querySelectorAll('#found li')].map(l => l.innerText.split(/\\s+/))")


def test_search_opens_what_it_finds(v3):
    v3.keys("/", *"kv_b_proj")
    v3.wait("document.querySelectorAll('#found li').length")
    assert "kv_b_proj" in text(v3, "#found li")
    v3.keys("Enter")
    assert selected(v3).endswith("kv_b_proj")
    assert seen(v3, selected(v3))
    assert text(v3, "#panel button.path").endswith("self_attn.kv_b_proj")


@pytest.mark.parametrize(
    ("asked", "found"),
    [
        ("model.layers.5.mlp.experts.3.up_proj.weight", "model.layers.[3-60].mlp.experts.[0-255].up_proj"),
        ("layers.60", "model.layers.[3-60]"),
        ("61.embed_tokens.weight", "model.layers.61.embed_tokens"),  # the second name of a shared weight
        ("kv_lora_rank", "model.layers.[3-60].self_attn.kv_a_proj_with_mqa"),
        ("ROUTER top_k", "model.layers.[3-60].mlp.gate"),
        ("mla.yaml:38", "model.layers.[3-60].self_attn.kv_b_proj"),
        ("cross_entropy", "next_token"),
        ("model.layers.70", "found"),  # nothing
    ],
)  # fmt: skip
def test_search_knows_copies_weights_config_names_and_lines(v3, asked, found):
    assert ask(v3, asked)[0][1] == found


def test_hover_tells_path_shapes_weights_cost_and_line(v3):
    v3.hover(f"{card('/main/embed')} .around")
    v3.wait("!document.getElementById('tip').hidden")
    said = text(v3, "#tip")
    for part in ("model.embed_tokens", "int[B, T]", "[B, T, 7168]", "model.embed_tokens.weight", "[129280, 7168]",
                 "926.7 M (926,679,040)", "deepseek_v3.yaml:"):  # fmt: skip
        assert part in said, part
    v3.hover("#head")
    v3.click(f"{card('/loss/mtp-1')} .around")
    time.sleep(0.2)
    assert v3.run("return document.getElementById('tip').hidden"), "what is selected stands in the panel"
    assert "0.15 → 0.05" in text(v3, "#panel") and "cross_entropy: mtp_logits" in text(v3, "#panel code")


def test_what_is_clicked_comes_out_from_under_the_panel(v3):
    v3.click(f"{card('/mtp-2/eh_proj')} .around")
    assert selected(v3) == "/mtp-2/eh_proj"
    v3.wait(f"(() => {{ const [a, b] = ['{card('/mtp-2/eh_proj')}', '#panel'].map(s => "
            "document.querySelector(s).getBoundingClientRect()); return a.right <= b.left })()")  # fmt: skip


def test_shared_weight_leads_to_its_owner(v3):
    v3.run("location.hash = 'model.layers.61.embed_tokens'")
    v3.wait("document.querySelector('g.selected')")
    assert selected(v3) == "/mtp-1/embed_tokens"
    assert "Go to the owner" in text(v3, "#panel")
    v3.keys("o")
    assert selected(v3) == "/main/embed"
    v3.run("history.back()")
    v3.wait("document.querySelector('g.selected').dataset.key === '/mtp-1/embed_tokens'")


LINKS = {
    "model.layers.17.self_attn.kv_a_proj_with_mqa": "kv_a_proj_with_mqa",
    f"{ATTENTION}.o_proj.weight": "o_proj",
    "model.layers.1.mlp.gate_proj": "gate_proj",
    "model.layers.5.mlp.experts.200.down_proj": "down_proj",
    "model.layers.61.hnorm": "eh_proj",  # a norm in the cell of a card
    "model.layers.[3-60]": "/main/sparse",
}


def test_links_open_the_page_at_a_line(v3, address):
    for path, key in LINKS.items():
        v3.run("location.hash = arguments[0]", path)
        v3.wait(f"(document.querySelector('g.selected')?.dataset.key ?? '').endsWith('{key}')")
        assert seen(v3, selected(v3)), path
    show(v3, f"{address}#{path}")
    assert selected(v3) == "/main/sparse" and seen(v3, "/main/sparse")
    v3.run("location.hash = 'model.nothing'")
    v3.wait("document.getElementById('toast').textContent === 'No line has the path model.nothing'")
    v3.run("location.hash = ''")
    v3.wait("!document.querySelector('g.selected')")


@pytest.mark.parametrize("clipboard", ["", "navigator.clipboard.writeText = () => Promise.reject(new Error())"])
def test_path_is_copied(v3, clipboard):
    """With the browser's leave, and without it."""
    v3.devtools("Browser.grantPermissions", permissions=["clipboardReadWrite", "clipboardSanitizedWrite"])
    v3.run("return navigator.clipboard.writeText('')")
    v3.run(clipboard)
    v3.click(f"{card('/inside/self_attn')} .around")
    v3.click("#panel button.path")
    v3.wait("document.getElementById('toast').textContent.startsWith('Copied')")
    v3.run("delete navigator.clipboard.writeText")
    assert v3.run("return navigator.clipboard.readText()") == ATTENTION
    assert v3.run("return decodeURI(location.hash)") == f"#{ATTENTION}"


def test_keys_alone_suffice(v3):
    v3.click("#keys")
    v3.keys("Escape", "Tab")
    assert v3.run("return document.activeElement.id") == "stage"
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
    assert v3.run("return document.activeElement.dataset.key") == key
    assert v3.run("return document.activeElement.getAttribute('aria-expanded')") == "true"
    assert v3.run("return document.activeElement.getAttribute('aria-label')").endswith(", open")
    v3.keys("Escape")
    assert selected(v3) == "" and v3.run("return document.activeElement.id") == "stage"


def transform(browser):
    return [float(n) for n in re.findall(r"-?\d[\d.]*", browser.run("return picture.getAttribute('transform')"))]


def test_pointer_wheel_and_fingers_move_and_zoom(v3):
    x, y, k = transform(v3)
    v3.drag("#stage", 80, -30)
    assert transform(v3) == pytest.approx([x + 80, y - 30, k])
    assert selected(v3) == "", "a drag selects nothing"
    v3.wheel("#stage", -200)
    assert transform(v3)[2] > 1.2 * k
    v3.keys("f")
    assert transform(v3) == pytest.approx([x, y, k])
    v3.touch("touchStart", (500, 500), (600, 500))
    v3.touch("touchMove", (450, 500), (650, 500))
    v3.touch("touchEnd")
    assert transform(v3)[2] == pytest.approx(2 * k, rel=0.05)
