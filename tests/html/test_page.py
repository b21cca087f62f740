"""The page as a file: what is in it, and that nothing else can get in."""

from __future__ import annotations

import base64
import hashlib
import importlib
import json
import re
import subprocess
import sys
from functools import cache
from html.parser import HTMLParser
from pathlib import Path

import pytest

import dsvgraph
from dsvgraph.errors import DsvError
from dsvgraph.graph import walk

page = pytest.importorskip("dsvgraph_html")
sheet = importlib.import_module("dsvgraph_html.document")

ROOT = Path(__file__).parents[2]
BUNDLED = sorted(path.stem for path in (ROOT / "specs").glob("*.yaml"))
LIMIT = 3_000_000  # bytes
HOSTILE = '</script><img src=x onerror="window.hacked=1">&<!--<script>@@<@0@>label=<@0@>'


class Reader(HTMLParser):
    """The elements of a file with their attributes and the text up to the next tag."""

    def __init__(self, text):
        super().__init__(convert_charrefs=True)
        self.found, self.into = [], []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.into = []
        self.found.append((tag, dict(attrs), self.into))

    def handle_endtag(self, tag):
        self.into = []

    def handle_data(self, data):
        self.into.append(data)

    def texts(self, tag):
        return ["".join(text) for name, _, text in self.found if name == tag]


@cache
def folded(spec):
    return page.page_data(dsvgraph.load(spec))


@pytest.fixture(scope="module")
def v3():
    return Reader(sheet.page(folded("deepseek_v3")))


def data_of(text):
    return json.loads(Reader(text).texts("script")[0])


def lines(data, number=0, path=""):
    """Path and facts of every line that a card shows, through the blocks that cards open."""
    for card in data["pictures"][number]["cards"].values():
        here = ".".join(filter(None, (path, card["path"])))
        yield here, card
        yield from ((".".join(filter(None, (path, part["path"]))), part) for part in card.get("parts", ()))
        for kind in card.get("opens", ()):
            yield from lines(data, kind["picture"], ".".join(filter(None, (here, kind["at"]))))


@pytest.mark.parametrize("spec", BUNDLED)
def test_page_has_every_line_of_a_model(spec):
    """Every weight of the model stands in some card under its folded path; pictures fill their gaps; it is small."""
    model, data = dsvgraph.load(spec), folded(spec)
    assert len(sheet.page(data).encode()) < LIMIT
    found = {f"{path}.{name}" for path, card in lines(data) for name, *_ in card.get("weights", ())}
    numbers = re.compile(r"\[[^\]]*\]|(?<=\.)\d+(?=\.)")  # a page folds copies by kind, a walk by run
    wanted = {f"{visit.path}.{name}" for visit in walk(model) for name in visit.node.weights}
    assert {numbers.sub("*", name) for name in wanted} <= {numbers.sub("*", name) for name in found}
    for picture in data["pictures"]:
        holes = [int(n) for dot in (picture["dot"], *picture.get("apart", ())) for n in re.findall(r"<@(\d+)@>", dot)]
        assert sorted(set(holes)) == list(range(len(picture["labels"])))
        assert len(picture["holes"]) == len(picture["labels"])
        assert all(picture["cards"][id_]["opens"] for id_ in picture["holes"])


def test_each_distinct_block_is_written_once():
    """58 layers and two more by MTP are one picture; a page of 61 layers is no longer than one of 4."""
    deep, shallow = map(folded, ("deepseek_v3", "deepseek_v3_tiny"))
    assert len(deep["pictures"]) == len(shallow["pictures"])
    assert len(json.dumps(deep)) < 1.1 * len(json.dumps(shallow))


def test_card_tells_what_the_cost_command_counts():
    """Of DeepSeek-V3's attention: 187.1 M parameters (facts of the release), 576 values cached per token and layer."""
    data = folded("deepseek_v3")
    card = next(card for path, card in lines(data) if path == "model.layers.[3-60].self_attn")
    costs = dict(card["costs"])
    assert costs["parameters"].startswith("187.1 M (187,107,328)")
    assert costs["cache"] == "576 values / token"
    down = next(card for path, card in lines(data) if path == "model.layers.[3-60].self_attn.kv_a_proj_with_mqa")
    assert down["weights"] == [["weight", "[576, 7168]", "4.129 M"]]
    assert down["in"] == [["x", "[B, T, 7168]"]]
    assert down["line"].startswith("mla.yaml:") and down["yaml"].startswith("kv_a_proj_with_mqa")


def test_kinds_of_copies_that_alternate_have_their_numbers():
    data = folded("gpt_oss_20b")
    layers = next(card for path, card in lines(data) if path == "model.layers")
    assert [kind["badge"] for kind in layers["opens"]] == ["× 12", "× 12"]
    assert [kind["at"] for kind in layers["opens"]] == ["[0,2,4,6,…,22]", "[1,3,5,7,…,23]"]
    assert layers["opens"][1]["ranges"] == [[n, n] for n in range(1, 24, 2)]


def test_policy_allows_what_the_file_has(v3):
    """The script and the style by their hashes, WebAssembly, and nothing from anywhere."""
    policy = next(attrs["content"] for _, attrs, _ in v3.found if "http-equiv" in attrs)
    rules = dict(rule.strip().split(" ", 1) for rule in policy.split(";"))
    hashes = [
        "'sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode() + "'"
        for text in (v3.texts("script")[1], v3.texts("style")[0])
    ]
    assert rules == {
        "default-src": "'none'", "script-src": f"{hashes[0]} 'wasm-unsafe-eval'", "style-src": hashes[1],
        "base-uri": "'none'", "form-action": "'none'",
    }  # fmt: skip


def test_page_loads_nothing(v3):
    attrs = [(tag, name, value) for tag, found, _ in v3.found for name, value in found.items()]
    assert not [found for found in attrs if found[1] in ("src", "href", "style") or found[1].startswith("on")]
    assert "@import" not in v3.texts("style")[0] and "url(" not in v3.texts("style")[0]


def test_own_modules_make_code_and_markup_of_nothing():
    for path in (ROOT / "backends/dsvgraph_html/page").glob("*.js"):
        if path.name != "graphviz.js":
            code = path.read_text(encoding="utf-8")
            assert not re.findall(r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\b|new Function", code)
            assert len(code.splitlines()) <= 320, path.name


def test_graphviz_comes_with_its_version_and_licences(v3):
    words = " ".join(v3.texts("p"))
    assert re.search(r"@hpcc-js/wasm-graphviz \d+\.\d+\.\d+ Apache-2\.0", words)
    assert "Graphviz (EPL-2.0, its source: https://" in words and "Expat (MIT" in words
    licences = v3.texts("template")[0]
    for part in ("Apache License", "Eclipse Public License - v 2.0", "Copyright (c) 2001-2025 Expat maintainers",
                 "Copyright (c) 2020 Arjun Barrett", "Permission is hereby granted"):  # fmt: skip
        assert part in licences, part


def package(folder, sources):
    """An npm package that exports as graphviz's does."""
    (folder / "dist").mkdir()
    about = {"name": "@hpcc-js/wasm-graphviz", "version": "9.8.7", "license": "Apache-2.0", "homepage": "https://x"}
    (folder / "package.json").write_text(json.dumps(about), encoding="utf-8")
    code = "var a=1;class G{}\nexport{a as other,G as Graphviz};\n//# sourceMappingURL=index.js.map\n"
    (folder / "dist/index.js").write_text(code, encoding="utf-8")
    (folder / "dist/index.js.map").write_text(json.dumps({"sources": sources}), encoding="utf-8")
    (folder / "LICENSE").write_text("Apache License", encoding="utf-8")
    return folder


def test_graphviz_is_made_anew_of_its_package(tmp_path):
    """One constant and no export; code that no notice tells of is refused."""
    rebuild = importlib.import_module("dsvgraph_html.rebuild").rebuild
    known = package(tmp_path, ["../src/types.ts", "../../../node_modules/fzstd/esm/index.mjs"])
    rebuild(known, tmp_path)
    code = (tmp_path / "graphviz.js").read_text(encoding="utf-8")
    assert code.startswith("/*!\n@hpcc-js/wasm-graphviz 9.8.7\nApache-2.0, https://x\n")
    assert code.endswith("const Graphviz = (() => {var a=1;class G{}\nreturn G;})();\n") and "export" not in code
    assert (tmp_path / "graphviz.LICENSE").read_text(encoding="utf-8") == "Apache License"
    (tmp_path / "dist/index.js.map").write_text(json.dumps({"sources": ["../node_modules/other/x.js"]}))
    with pytest.raises(AssertionError, match="other"):
        rebuild(known, tmp_path)


def test_a_line_is_told_as_it_is_written():
    """Whole where it has lines below it, its part alone where it shares a line."""
    model = dsvgraph.loads(
        """graph:
  in: {ids: "int[B, T]"}
  body:
    embed:
      embedding: ids

      num: 256
      dim: 64
    head:   {linear: embed, out: 256}   # the last
  out: {logits: head}
loss: {next: {cross_entropy: logits, target: ids, shift: 1}, again: {cross_entropy: logits, target: ids, shift: 2}}
"""
    )
    cards = page.page_data(model)["pictures"][0]["cards"]
    assert cards["main/embed"]["yaml"] == "embed:\n  embedding: ids\n\n  num: 256\n  dim: 64"
    assert cards["main/head"]["yaml"] == "head: {linear: embed, out: 256} # the last"
    again = cards["loss/again"]
    assert again["yaml"] == "again: {cross_entropy: logits, target: ids, shift: 2}"
    assert again["term"] == [["weight", "1.00"], ["output", "logits"], ["target", "ids"]]


def hostile_spec(folder):
    """A model whose every free text is meant to become code."""
    path = folder / "hostile.yaml"
    path.write_text(
        f"""
name: {json.dumps(HOSTILE)}
blocks:
  layer:
    doc: {json.dumps(HOSTILE)}
    in: {{x: "[B, T, d]"}}
    body:
      up: {{linear: x, out: 8}}
      act: {{relu: up}}
      down: {{linear: act, out: 64}}
    out: {{y: down}}
graph:
  in: {{ids: "int[B, T]"}}
  body:
    embed: {{embedding: ids, num: 256, dim: 64}} # {HOSTILE}
    one: {{layer: embed}}
    head: {{linear: one, out: 256}}
  out: {{logits: head}}
""",
        encoding="utf-8",
    )
    return path


def test_hostile_text_stays_text(tmp_path):
    text = page.html(dsvgraph.load(hostile_spec(tmp_path)))
    read, plain = Reader(text), Reader(page.html(dsvgraph.load("llama3_8b")))
    assert [tag for tag, *_ in read.found] == [tag for tag, *_ in plain.found]
    assert read.texts("h1") == [HOSTILE]
    data = data_of(text)
    assert data["name"] == HOSTILE
    assert "</" not in text.split('id="model">')[1].split("</script>")[0]
    assert any(HOSTILE in card.get("yaml", "") for _, card in lines(data))


def test_paths_are_checked():
    model = dsvgraph.load("deepseek_v3_tiny")
    with pytest.raises(DsvError, match="is no path of"):
        page.html(model, expand=("model.layer",))
    with pytest.raises(DsvError, match="is no path of"):
        page.html(model, focus="nothing")
    with pytest.raises(DsvError, match="one model"):
        page.html(model, diff=model)
    with pytest.raises(DsvError, match="to the top"):
        page.html(model, direction="LR")


def test_command_needs_no_graphviz_and_no_torch(tmp_path):
    """With an empty PATH there is no `dot`; the page is written all the same, and whole."""
    out = tmp_path / "model.html"
    code = f"""
import sys
sys.modules["pygraphviz"] = sys.modules["torch"] = None
from dsvgraph.cli import main
sys.argv = ["dsvgraph", "render", "deepseek_v3", "-o", {str(out)!r}]
main()
"""
    done = subprocess.run([sys.executable, "-c", code], env={"PATH": ""}, capture_output=True, text=True)
    assert (done.returncode, done.stdout.strip(), done.stderr) == (0, str(out), "")
    assert Reader(out.read_text(encoding="utf-8")).texts("title") == ["DeepSeek-V3"]
