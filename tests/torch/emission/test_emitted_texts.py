"""Texts that try to become code, in every place where a spec holds a text: refused at their line, or constants."""

import ast
import sys
from functools import cache, reduce
from pathlib import Path

import pytest

import dsvgraph

torch = pytest.importorskip("torch")

from emitted import Foreign, judge_source, structure  # noqa: E402
from helpers import SMALL, small, tokens  # noqa: E402
from hostile_texts import RUN, SPEC, TEXTS, dumped, places, put  # noqa: E402
from judge import refusal  # noqa: E402

from dsvgraph_torch import emit  # noqa: E402
from dsvgraph_torch.lowering.emit import classes_of  # noqa: E402
from dsvgraph_torch.lowering.source import expression, identifier, path, printed, statement  # noqa: E402
from dsvgraph_torch.module import load_source  # noqa: E402

ALL = list(places(SPEC))


def loaded(data, name="plain.yaml"):
    return dsvgraph.loads(dumped(data), name=name)


def accepted(data):
    """Whether a spec is a model that can be written; what is refused is refused in words, at a place that is there."""
    try:
        classes_of(loaded(data))
    except dsvgraph.DsvError as error:
        refusal(error)
        return False
    return True


@pytest.fixture(scope="module")
def free():
    """The places that take any text."""
    return [place for place in ALL if accepted(put(SPEC, place, TEXTS["triple quotes"]))]


def test_there_is_a_place_of_every_kind(free):
    assert len(ALL) > 200 and {place[0] for place, _ in ALL} == {*SPEC}
    assert {("name",), ("doc",), ("blocks", "mlp", "doc"), ("init", "**"), ("trained", "wide.**")} <= {
        p for p, _ in free
    }


def lines(data, place):
    """Where the text at a place stands in the file."""
    marked = dumped(put(data, place, "find me")).splitlines()
    return next(i for i, line in enumerate(marked, 1) if '"find me"' in line)


def test_what_is_no_name_is_refused_where_it_stands(free):
    """Each place with texts in turn: keys and references are told at their own line."""
    for number, place in enumerate(p for p in ALL if p not in free):
        text = [*TEXTS.values()][number % len(TEXTS)]
        with pytest.raises(dsvgraph.DsvError) as caught:
            classes_of(loaded(put(SPEC, place, text)))
        refusal(caught.value)
        found = {s.line for d in caught.value.diagnostics for s in (d.span, *(n for _, n in d.notes)) if s}
        assert lines(SPEC, place) in found or _told_elsewhere(place), (place, text, str(caught.value))


def _told_elsewhere(place):
    """A definition that is gone is told where it is missed, and a config value where it is used."""
    return place[1] or place[0][0] == "config"


def filled(texts):
    """The spec with a text in each of several places."""
    return reduce(lambda data, one: put(data, *one), texts, SPEC)


def taken(texts):
    """Those of texts in places that are accepted: all at once, or else those of each half."""
    if accepted(filled(texts)):
        return texts
    half = len(texts) // 2
    return [*taken(texts[:half]), *taken(texts[half:])] if half else []


@cache
def plain_structure(taking):
    """What is emitted with plain words in the places ``taking``, less its constants."""
    return structure(emit(loaded(filled([(place, "plain words") for place in taking]))))


@pytest.mark.parametrize("text", TEXTS.values(), ids=TEXTS)
def test_texts_are_constants_of_the_emitted_file(text, free):
    """In all places at once the tree differs from that of plain words in constants and spelling alone."""
    wanted = [(p, text[:90] if p[0] == ("name",) else text) for p in free]
    taking = taken(wanted)
    source = emit(loaded(filled(taking), name=f"{text}.yaml"))
    judge_source(source)
    assert structure(source) == plain_structure(tuple(p for p, _ in taking))
    module = load_source(source, text)
    assert not hasattr(sys, "injected")
    cls = [v for v in vars(module).values() if isinstance(v, type) and hasattr(v, "predict")][-1]
    assert cls().initialise()(tokens(1, 3, 13))["logits"].shape == (1, 3, 13)


def nameless(data):
    """A copy without documentation: the name then stands in docstrings too."""
    return {k: nameless(v) if isinstance(v, dict) else v for k, v in data.items() if k != "doc"}


@pytest.fixture(scope="module")
def undocumented():
    """What is emitted of the spec without documentation, less its constants."""
    return structure(emit(loaded(nameless(SPEC))))


@pytest.mark.parametrize("text", TEXTS.values(), ids=TEXTS)
def test_a_name_in_place_of_documentation_is_a_constant(text, undocumented):
    """Before, `dsvgraph compile` of a spec without `doc` ran what stood in its name."""
    source = emit(loaded({**nameless(SPEC), "name": text[:100]}))
    judge_source(source)
    assert structure(source) == undocumented
    load_source(source, text)
    assert not hasattr(sys, "injected")


@pytest.mark.parametrize("part", ["a-b", "1", "class", "__init__", "a b", "größe", f"x={RUN}"])
def test_a_part_of_a_split_has_a_name(part):
    text = "graph:\n  in: {x: '[B, T, 4]'}\n  body:\n    s: {split: x, into: {%s: 2, c: 2}}\n    y: {silu: s}\n  out: y"
    with pytest.raises(dsvgraph.DsvError, match="is no name of a part") as caught:
        dsvgraph.loads(text % repr(part))
    assert caught.value.diagnostics[0].span.line == 4


@pytest.mark.parametrize("name", SMALL, ids=lambda name: Path(name).stem)
def test_emitted_files_hold_nothing_but_a_model(name):
    judge_source(emit(small(name)))


@pytest.mark.parametrize(
    "line",
    [RUN, f"x = {RUN}", "import os", "exec('')", "open('f')", "class A:\n    y = print()", "try:\n    pass\nfinally: 1",
     "def f(x): x.__class__", "async def f(): pass", "'\u2028'", "global x", "x = [y for y in range(3)]", "x = '"],
)  # fmt: skip
def test_the_judge_sees_what_is_no_model(line):
    with pytest.raises(Foreign):
        judge_source(f"{line}\n")


# -- the only way to text ---------------------------------------------------------------------


@pytest.mark.parametrize("text", ["a-b", "", "1", "a b", "lambda", "None", "a.b", "größe", "a\n", f"x={RUN}", "\0"])
def test_no_text_is_a_name_unless_it_is_one(text):
    with pytest.raises(ValueError, match="identifier"):
        identifier(text)
    with pytest.raises((ValueError, TypeError)):
        path(f"self.{text}") if text not in ("1", "a.b") else expression("x", x=object())


def test_a_tree_with_a_wrong_name_is_not_printed():
    for name in (RUN, "a-b", "a b", "a\nimport os", "x, y", ""):
        with pytest.raises(AssertionError, match="emitted source"):
            printed([ast.Expr(ast.Name(name, ast.Load()))])


@pytest.mark.parametrize("text", TEXTS.values(), ids=TEXTS)
def test_a_literal_is_its_value_and_a_comment_is_no_code(text):
    code = printed([statement("x = value", note=text, value=(text, {text: [text, -1, 2.5, None, True]}))])
    assert len(code.splitlines()) == 1
    assert ast.literal_eval(ast.parse(code).body[0].value) == (text, {text: [text, -1, 2.5, None, True]})


def test_values_are_literals_and_lists_take_the_place_of_arguments():
    tree = expression("f(x, *rest, **more)", x="x", rest=[path("self.a.0.b"), -1], more={"k": (1,)})
    assert ast.unparse(tree) == "f('x', self.a[0].b, -1, k=(1,))"
    with pytest.raises(TypeError, match="no literal"):
        expression("x", x=object())
    with pytest.raises(TypeError, match="assigned"):
        statement("x = 1", x="a")


SOURCE = "backends/dsvgraph_torch/lowering/source.py"
TEMPLATES = {"expression", "statement", "function", "block", "code"}


def test_templates_are_constants():
    """No template is put together from other texts, in the backend and in the example of a package of ops."""
    root = Path(__file__).parents[3]
    found = 0
    for file in {*root.glob("backends/dsvgraph_torch/**/*.py"), *root.glob("examples/**/*.py")} - {root / SOURCE}:
        tree = ast.parse(file.read_text(encoding="utf-8"))
        for call in ast.walk(tree):
            match call:
                case ast.Call(ast.Name(name), [template, *_]) if name in TEMPLATES:
                    built = [n for n in ast.walk(template) if isinstance(n, (ast.JoinedStr, ast.BinOp))]
                    assert not built, (file, call.lineno)
                    found += 1
    assert found > 60
