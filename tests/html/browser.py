"""A small driver of headless Chromium: WebDriver's protocol over HTTP, spoken to chromedriver."""

from __future__ import annotations

import base64
import json
import re
import shutil
import socket
import subprocess
import time
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

PATIENCE = 20  # seconds, for what should come at once
ELEMENT = "element-6066-11e4-a52e-4f735466cecf"  # the protocol's name of a reference
FLAGS = (
    "--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync", "--disable-dev-shm-usage", "--disable-quic",
    "--window-size=1400,900",
)  # fmt: skip
KEYS = {"Enter": "\ue007", "Escape": "\ue00c", "Left": "\ue012", "Up": "\ue013", "Right": "\ue014", "Down": "\ue015",
        "Shift": "\ue008", "Tab": "\ue004", "Control": "\ue009"}  # fmt: skip


def missing() -> str:
    """What this machine lacks for a browser; nothing if it has all."""
    wanted = {"chromium": chromium(), "chromedriver": shutil.which("chromedriver")}
    return ", ".join(name for name, path in wanted.items() if not path)


def chromium() -> str | None:
    """The browser's program."""
    return next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)


class Browser:
    """One browser with one window."""

    def __init__(self, folder: Path) -> None:
        port = _free_port()
        self.base = f"http://127.0.0.1:{port}"
        self.driver = subprocess.Popen(
            ["chromedriver", f"--port={port}"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        _until(lambda: self._ask("GET", "/status")["ready"])
        options = {"binary": chromium(), "args": [*FLAGS, f"--user-data-dir={folder}"]}
        logs = {"browser": "ALL", "performance": "ALL"}
        wanted = {"alwaysMatch": {"goog:chromeOptions": options, "goog:loggingPrefs": logs}}
        self.session = ""
        self.session = "/session/" + self._ask("POST", "/session", {"capabilities": wanted})["sessionId"]

    def _ask(self, method: str, path: str, body: Any = None) -> Any:
        data = json.dumps(body or {}).encode() if method == "POST" else None
        request = urllib.request.Request(self.base + path, data, {"Content-Type": "application/json"}, method=method)
        try:
            with urllib.request.urlopen(request, timeout=PATIENCE) as answer:
                return json.load(answer)["value"]
        except urllib.error.HTTPError as error:
            raise AssertionError(json.load(error)["value"]["message"]) from None

    def close(self) -> None:
        """Ends the browser and its driver."""
        try:
            self._ask("DELETE", self.session)
        finally:
            self.driver.terminate()
            self.driver.wait()

    def open(self, url: str) -> None:
        """Loads a page anew, also where only its fragment differs."""
        self._ask("POST", f"{self.session}/url", {"url": "about:blank"})
        self._ask("POST", f"{self.session}/url", {"url": url})

    def run(self, script: str, *given: Any) -> Any:
        """What a function body returns; a promise is waited for."""
        return self._ask("POST", f"{self.session}/execute/sync", {"script": script, "args": list(given)})

    def wait(self, condition: str) -> Any:
        """The first value of an expression that is not false."""
        return _until(lambda: self.run(f"return {condition}"), condition)

    def element(self, css: str) -> str:
        """The first element that a selector fits."""
        found = self._ask("POST", f"{self.session}/element", {"using": "css selector", "value": css})
        return str(found[ELEMENT])

    def click(self, css: str) -> None:
        """A real click on the middle of an element."""
        self._move(css, [{"type": "pointerDown", "button": 0}, {"type": "pointerUp", "button": 0}])

    def hover(self, css: str) -> None:
        """Moves the pointer over an element."""
        self._move(css, [])

    def drag(self, css: str, dx: int, dy: int) -> None:
        """Presses on an element and moves away from it."""
        away = {"type": "pointerMove", "duration": 50, "x": dx, "y": dy, "origin": "pointer"}
        self._move(css, [{"type": "pointerDown", "button": 0}, away, {"type": "pointerUp", "button": 0}])

    def _move(self, css: str, then: list[dict[str, Any]]) -> None:
        to = {"type": "pointerMove", "duration": 0, "x": 0, "y": 0, "origin": {ELEMENT: self.element(css)}}
        self._act({"type": "pointer", "id": "mouse", "parameters": {"pointerType": "mouse"}, "actions": [to, *then]})

    def wheel(self, css: str, dy: int) -> None:
        """Turns the wheel over an element."""
        turn = {"type": "scroll", "x": 0, "y": 0, "deltaX": 0, "deltaY": dy, "origin": {ELEMENT: self.element(css)}}
        self._act({"type": "wheel", "id": "wheel", "actions": [turn]})

    def keys(self, *names: str) -> None:
        """Presses keys one after the other: names of KEYS, or letters."""
        presses = [p for name in names for p in (("keyDown", name), ("keyUp", name))]
        actions = [{"type": kind, "value": KEYS.get(name, name)} for kind, name in presses]
        self._act({"type": "key", "id": "keys", "actions": actions})

    def _act(self, source: dict[str, Any]) -> None:
        self._ask("POST", f"{self.session}/actions", {"actions": [source]})

    def devtools(self, command: str, **parameters: Any) -> Any:
        """A command of Chromium's own protocol."""
        body = {"cmd": command, "params": parameters}
        return self._ask("POST", f"{self.session}/goog/cdp/execute", body)

    def log(self, kind: str) -> list[dict[str, Any]]:
        """What the browser has noted since the last call: `browser` is the console, `performance` the network."""
        return list(self._ask("POST", f"{self.session}/se/log", {"type": kind}))

    def requests(self) -> list[str]:
        """The addresses asked for since the last call."""
        events = [json.loads(entry["message"])["message"] for entry in self.log("performance")]
        return [e["params"]["request"]["url"] for e in events if e["method"] == "Network.requestWillBeSent"]

    def media(self, *, scheme: str = "light", motion: str = "reduce") -> None:
        """How the reader's system is set: colours, and whether things may move."""
        wanted = {"prefers-color-scheme": scheme, "prefers-reduced-motion": motion}
        features = [{"name": name, "value": value} for name, value in wanted.items()]
        self.devtools("Emulation.setEmulatedMedia", features=features)

    def size(self, width: int, height: int) -> None:
        """The size of the window in pixels of the page."""
        self.devtools(
            "Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=False
        )

    def touch(self, kind: str, *points: tuple[int, int]) -> None:
        """Fingers on the glass: touchStart, touchMove, touchEnd."""
        fingers = [{"x": x, "y": y, "id": i} for i, (x, y) in enumerate(points)]
        self.devtools("Input.dispatchTouchEvent", type=kind, touchPoints=fingers)

    def enter(self, css: str) -> None:
        """Goes on inside a frame."""
        self._ask("POST", f"{self.session}/frame", {"id": {ELEMENT: self.element(css)}})

    def pdf(self) -> bytes:
        """The page as it is printed."""
        return base64.b64decode(self._ask("POST", f"{self.session}/print", {"background": True}))


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _until(ask: Any, what: str = "the driver") -> Any:
    end = time.monotonic() + PATIENCE
    while time.monotonic() < end:
        try:
            if found := ask():
                return found
        except (OSError, AssertionError) as error:
            what = f"{what}: {error}" if len(what) < 400 else what
        time.sleep(0.02)
    raise AssertionError(f"waited in vain for {what}")


# -- the page in it --------------------------------------------------------------------------

READY = "document.documentElement.dataset.ready"
BOXES = "const [a, b] = [...arguments].map(s => document.querySelector(s).getBoundingClientRect());"


def show(browser, address):
    browser.open(address)
    browser.wait(READY)
    browser.run("localStorage.clear()")


def card(key):
    """The element of a line by its key in the page."""
    return f'g[data-key="{key}"]'


def toggle(browser, key):
    browser.click(f"{card(key)} .toggle")


def words(browser, css="#picture"):
    return browser.run(
        "return [...document.querySelectorAll(arguments[0] + ' text')].map(t => t.textContent.trim())", css
    )


def text(browser, css):
    return browser.run("return document.querySelector(arguments[0]).textContent", css).replace("\u00a0", " ")


def selected(browser):
    return browser.run("return document.querySelector('g.selected')?.dataset.key ?? ''")


def seen(browser, key):
    """Whether an element lies in the window, below the head."""
    return browser.run(
        BOXES + "return a.top >= b.bottom - 1 && a.left >= 0 && a.right <= innerWidth && a.bottom <= innerHeight",
        card(key), "#head",
    )  # fmt: skip


def middle(browser, css):
    return browser.run(BOXES + "return [a.x + a.width / 2, a.y + a.height / 2]", css)


def sheet(pdf):
    """Width and height of a page in points."""
    return [n.decode().split(".")[0] for n in re.search(rb"/MediaBox\s*\[\s*0 0 (\S+) (\S+?)\s*\]", pdf).groups()]
