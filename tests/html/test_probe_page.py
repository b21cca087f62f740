"""The page of `dsvgraph probe` in a browser: offline, whole, and no text of a model becomes markup."""

from __future__ import annotations

import dataclasses

import pytest

from dsvgraph.backends.probes import (
    Acceptance,
    AttentionNorms,
    DepthScores,
    Estimate,
    Gradients,
    Matrix,
    Passage,
    Probe,
    RouterLoad,
    Snapshot,
    StateNorms,
    Wiring,
)
from dsvgraph.cli.probing.page import page

HALF = Estimate(0.5, 0.02, 640)
NAMES = ("next_token", "mtp.1")


def snapshot(step: int) -> Snapshot:
    loss = Estimate(3 - step / 1000, 0.01, 640)
    scores = [DepthScores(name=name, depth=k, ahead=k + 1, weight="0.3", loss=loss, accuracy=HALF, entropy=HALF,
                          confidence=HALF) for k, name in enumerate(NAMES)]  # fmt: skip
    acceptance = Acceptance(name="mtp.1", depth=1, ahead=2, agreement=HALF, prefix=HALF, product=0.5)
    layers = [
        Gradients(path=f"model.layers.{i}", trunk=i < 2, parameters=4096, norms=dict.fromkeys(NAMES, HALF),
                  cosines={"mtp.1": Estimate(0.9 - i, None, 1)} if i < 2 else {})
        for i in range(3)
    ]  # fmt: skip
    return Snapshot(step=step, tokens=step * 2048, scores=tuple(scores), acceptance=(acceptance,),
                    gradients=tuple(layers))  # fmt: skip


def probe() -> Probe:
    """A report with all its parts, and texts that would be markup."""
    wiring = Wiring(state="after norm", handed_on="", order="[e; h]", module="", declared=True, agreement=(HALF,),
                    pooled=HALF, below=None, sigma=None)  # fmt: skip
    other = dataclasses.replace(wiring, order="[h; e]", declared=False, below=HALF, sigma=25.0)
    tokens = ("<b>", "a", "\n", "&")
    said = dict.fromkeys(NAMES, (None, 0.9, 0.1, 0.5))
    likeliest = dict.fromkeys(NAMES, (None, "<script>alert(1)</script>", '"', "\n"))
    return Probe(
        name="<i>tiny</i>", folder="runs/<x>", data="held-out rows", rows=8, row_tokens=80, unit="byte",
        newest=snapshot(200), history=(snapshot(100), snapshot(200)),
        passage=Passage(tokens=tokens, probability=said, entropy=said, confidence=said, likeliest=likeliest),
        routers=tuple(RouterLoad(path=f"layers.{i}.gate", use=0, top_k=2, load=(1 / 64,) * 64, entropy=0.9, balance=1)
                      for i in range(3)),
        states=(StateNorms(path="layers.0", use=0, state=1, change=0.5, branches={"self_attn": 0.1}),),
        attention=(AttentionNorms(path="layers.0.attn", use=0, output=1, logit=None, entropy=None),),
        matrix=Matrix(line="mtp", heads=("mtp.1",), wirings=(wiring, other), controls={"one token off": (HALF,)},
                      left_out=("module: there is one depth",)),
        notes=("a <note>",),
    )  # fmt: skip


@pytest.fixture(scope="module")
def shown(browser, tmp_path_factory):
    path = tmp_path_factory.mktemp("probe") / "probe.html"
    path.write_text(page(probe()), encoding="utf-8")
    browser.log("browser"), browser.requests()
    browser.open(path.as_uri())
    browser.wait("document.documentElement.dataset.ready")
    return browser


def test_the_page_is_whole_and_asks_for_nothing(shown):
    titles = shown.run("return [...document.querySelectorAll('h2')].map(h => h.textContent)")
    assert titles == ["Depths", "Acceptance", "Wirings", "Text", "Over training", "Gradients", "Experts",
                      "Residual stream", "Attention"]  # fmt: skip
    assert shown.run("return document.querySelectorAll('svg').length") == 1 + 2 + 1 + 2
    assert shown.log("browser") == []
    assert all(url.startswith(("file:", "about:", "data:")) for url in shown.requests())


def test_texts_of_a_model_are_no_markup(shown):
    assert shown.run("return document.querySelector('h1').textContent") == "<i>tiny</i>"
    assert shown.run("return document.querySelectorAll('.tokens b, .tokens script, h1 i').length") == 0
    titles = shown.run("return [...document.querySelectorAll('.tokens span[title]')].map(s => s.title)")
    assert "<script>alert(1)</script>" in titles[0] and len(titles) == 6


def test_a_button_colours_the_text_by_another_measure(shown):
    colour = "return getComputedStyle(document.querySelectorAll('.tokens span[data-p]')[0]).backgroundColor"
    before = shown.run(colour)
    shown.run("document.querySelector('[data-measure=e]').click()")
    assert shown.run(colour) != before
    assert shown.run("return document.querySelector('[data-measure=e]').getAttribute('aria-pressed')") == "true"
    assert shown.run("return document.querySelector('.least').textContent") == "0.9 nats"


def test_nothing_is_wider_than_the_window(shown):
    for width in (1400, 700):
        shown.size(width, 900)
        assert shown.run("return document.documentElement.scrollWidth") <= width
    shown.size(1400, 900)
