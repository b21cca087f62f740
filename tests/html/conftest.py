"""One browser for all tests of the page, and in it the page of DeepSeek-V3."""

from __future__ import annotations

import pytest
from browser import Browser, missing, show

import dsvgraph

AFRESH = """
for (const key of ['Escape', 'Escape', 'E', 'f']) dispatchEvent(new KeyboardEvent('keydown', { key }));
history.replaceState(null, '', location.pathname);
document.getElementById('toast').textContent = '';
"""


@pytest.fixture(scope="session")
def address(tmp_path_factory):
    """The page of DeepSeek-V3 with two depths of MTP as an address."""
    if missing():
        pytest.skip(f"no {missing()}: apt-get install chromium chromium-driver (or the like)")
    page = pytest.importorskip("dsvgraph_html")
    path = tmp_path_factory.mktemp("pages") / "v3.html"
    return page.render(dsvgraph.load("deepseek_v3", {"num_nextn_predict_layers": 2}), path).as_uri()


@pytest.fixture(scope="session")
def browser(tmp_path_factory, address):
    found = Browser(tmp_path_factory.mktemp("chromium"))
    try:
        found.size(1400, 900)
        found.media()
        found.devtools("Emulation.setTouchEmulationEnabled", enabled=True, maxTouchPoints=2)
        show(found, address)  # a page that does not start fails once
        yield found
    finally:
        found.close()


@pytest.fixture
def v3(browser, address):
    """The page as it opens; afterwards the console is silent and nothing was asked for."""
    browser.log("browser"), browser.requests()
    if browser.run("return location.href.split('#')[0]") == address and not browser.run("return window.now"):
        browser.run(AFRESH)
    else:
        show(browser, address)
    yield browser
    assert browser.log("browser") == []
    assert [url for url in browser.requests() if not url.startswith(("file://", "about:", "chrome:"))] == []
