"""Whatever text a spec holds is text in every format: it ends no string, makes no markup, hides nothing."""

from __future__ import annotations

import json
import re
from collections import Counter
from contextlib import suppress
from functools import cache
from html.parser import HTMLParser
from xml.etree import ElementTree

import pytest

import dsvgraph
from dsvgraph.errors import DsvError, printable

graphviz_backend = pytest.importorskip("dsvgraph_graphviz", reason="needs `pip install 'dsvgraph[draw]'`")

from pictures import drawn  # noqa: E402

from dsvgraph_graphviz.formats import engine  # noqa: E402

SPEC = """
name: {name}
doc: {doc}
config: {{d: 8, V: 16}}
blocks:
  part:
    doc: {doc}
    args: {{d}}
    in: {{x: [B, T, d]}}
    body:
      up: {{linear: x, out: d}}
      s: {{split: up, into: {{{port}: 4, other: 4}}}}
      c: {{concat: [{value}, s.other]}}
    out: {{x: c}}
graph:
  in: {{ids: "int[B, T]"}}
  body:
    embed: {{embedding: ids, num: V, dim: d}}
    parts: {{part: embed, repeat: 2}}
    head:  {{linear: parts, out: V}}
  out: {{logits: head}}
loss: {{next: {{cross_entropy: logits, target: ids, shift: 1}}}}
"""
HARMLESS = "plain"
HOSTILE = {
    "control characters": "a\x01b\x1b[31mc\x7f\x85d",
    "markup": "</text></title><script>a(1)</script><img src=x onerror=1>",
    "html-like": "<b>all of it</b>",
    "entities": "&lt;&amp;&#65;&bogus;",
    "quotes": '"\'`a"; label="b',
    "escapes": "\\N \\G \\l \\",
    "ends": ']]> --> }} ]) "]; %% end',
    "directive": '%%{init: {"theme": "dark"}}%%',
    "formula": "$$\\frac{$ a $ $\\undefined$",
    "colour": 'color="#F1F5F9" bgcolor=#F1F5F9 fontcolor="#0F172A"',
    "gaps": "<@0@> @@ {model} {script}",
    "lines": "one\ntwo\u2028three\u2029four",
    "right to left": "a\u202eb\u200bc",
    "long": "x" * 5_000,
}
VIEWS = ({"depth": 1_000}, {"direction": "LR", "theme": "dark"}, {"focus": "parts.0.s", "weights": True})


@cache
def model(text=HARMLESS):
    """The small model with ``text`` in every place; as a port's name only where that is no error."""
    for port in (text, HARMLESS):
        words = {"name": text[:100], "doc": text, "port": port}
        quoted = {key: json.dumps(word) for key, word in words.items()}
        with suppress(DsvError):
            return dsvgraph.loads(SPEC.format(**quoted, value=json.dumps(f"s.{port}")))
    raise AssertionError(text)


@pytest.fixture(params=HOSTILE)
def hostile(request):
    return model(HOSTILE[request.param])


def elements(root):
    """The names of all elements of an XML but for those that say one line of a text each."""
    return Counter(node.tag for node in root.iter())


@pytest.mark.parametrize("view", VIEWS, ids=str)
def test_svg_is_xml_with_the_elements_of_the_harmless_one(hostile, view):
    text = graphviz_backend.dot_source(hostile, **view)
    found, plain = drawn(text).svg, drawn(graphviz_backend.dot_source(model(), **view)).svg
    kinds, wanted = elements(found), elements(plain)
    assert kinds.keys() == wanted.keys()
    assert {k: n for k, n in kinds.items() if k[-4:] != "text"} == {k: n for k, n in wanted.items() if k[-4:] != "text"}


@pytest.mark.parametrize("theme", ("light", "dark"))
@pytest.mark.parametrize("kind", [kind for kind in HOSTILE if kind != "long"])
def test_name_is_drawn_letter_by_letter(kind, theme):
    """The heading says the name in every theme; what cannot be printed is shown as such."""
    root = drawn(graphviz_backend.dot_source(model(HOSTILE[kind]), theme=theme)).svg
    said = "".join(node.text or "" for node in root.iter("{http://www.w3.org/2000/svg}text"))
    assert printable("".join(HOSTILE[kind].split())) in "".join(said.split())


def test_finished_svg_of_a_command_is_xml(tmp_path, hostile):
    try:
        path = graphviz_backend.render(hostile, tmp_path / "m.svg", theme="auto")
    except DsvError as error:
        assert "there is no graphviz" in str(error)
        pytest.skip("there is neither graphviz's `dot` nor pygraphviz here")
    root = ElementTree.fromstring(path.read_bytes())
    assert root.findtext("{http://www.w3.org/2000/svg}title")


def test_words_of_an_error_are_xml():
    for text in HOSTILE.values():
        ElementTree.fromstring(engine.finish('<svg ><g id="graph0"></g></svg>', {}, text, text))


def test_dot_has_the_statements_of_the_harmless_one(hostile):
    pygraphviz = pytest.importorskip("pygraphviz")
    found, plain = (pygraphviz.AGraph(string=graphviz_backend.dot_source(m, 1_000)) for m in (hostile, model()))
    assert len(found.nodes()) == len(plain.nodes()) and len(found.edges()) == len(plain.edges())
    assert [g.name for g in found.subgraphs()] == [g.name for g in plain.subgraphs()]
    assert [sorted(n.attr) for n in found.nodes()] == [sorted(n.attr) for n in plain.nodes()]


def test_json_loads(tmp_path, hostile):
    found, plain = (
        json.loads(graphviz_backend.render(m, tmp_path / "m.json").read_text(encoding="utf-8"))["graphs"][0]
        for m in (hostile, model())
    )
    assert len(found["nodes"]) == len(plain["nodes"])
    assert list(found["groupNodeAttributes"]) == list(plain["groupNodeAttributes"])


MERMAID = (
    r'\s+\w+(\[|\(\(|\(\[)"[^"%{}$`\\]*"(\]|\)\)|\]\)):::\w+', r'\s+\w+ (-->|==>|-\.-|-\.->)(\|"[^"]*"\|)? \w+',
    r'\s+subgraph f\d+\["[^"%{}$`\\]*"\]', r"\s+end", r"\s+classDef \w+ fill:#\w{6},stroke:#\w{6},color:#\w{6}",
)  # fmt: skip


def test_mermaid_has_the_lines_of_the_harmless_one(tmp_path, hostile):
    found, plain = (
        graphviz_backend.render(m, tmp_path / "m.mmd", depth=1_000).read_text(encoding="utf-8").split("\n")[:-1]
        for m in (hostile, model())
    )
    assert len(found) == len(plain) and not any("%" in line for line in found)
    assert json.loads(found[1].removeprefix("title: ")) == printable(hostile.name)
    assert all(any(re.fullmatch(form, line) for form in MERMAID) for line in found[4:])


class Elements(HTMLParser):
    """The elements of a page with their attributes' names, in their order, and the text of its first script."""

    def __init__(self, text):
        super().__init__()
        self.found, self.data = [], ""
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.found.append((tag, [name for name, _ in attrs]))

    def handle_data(self, data):
        if [tag for tag, _ in self.found].count("script") == 1 and self.found[-1][0] == "script":
            self.data += data


def test_page_has_the_elements_of_the_harmless_one(hostile):
    page = pytest.importorskip("dsvgraph_html")
    found, plain = Elements(page.html(hostile)), Elements(page.html(model()))
    assert found.found == plain.found
    assert json.loads(found.data).keys() == json.loads(plain.data).keys()
    assert Elements(page.framed(hostile)).found == Elements(page.framed(model())).found


@pytest.mark.parametrize("kind", HOSTILE)
def test_plot_draws_any_name(tmp_path, kind):
    pytest.importorskip("matplotlib")
    from dsvgraph.passes.compare.plots import bars, scatter

    points = [(1, 2), (3, 4)]
    scatter(tmp_path / "a.svg", points, points, HOSTILE[kind], HOSTILE[kind], HOSTILE[kind])
    bars(tmp_path / "b.svg", [HOSTILE[kind]] * 2, {HOSTILE[kind]: [1, 2]}, HOSTILE[kind])
    for name in ("a", "b"):
        ElementTree.fromstring((tmp_path / f"{name}.svg").read_bytes())
