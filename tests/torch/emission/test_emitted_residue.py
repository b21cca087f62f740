"""Emitted files hold nothing that does nothing: ruff and a reading of the syntax tree judge every bundled spec."""

import ast
import io
import subprocess
import sys
import tokenize
from collections import Counter
from pathlib import Path

import pytest

import dsvgraph

torch = pytest.importorskip("torch")

from bodies import NEXT, V, loaded  # noqa: E402
from helpers import randomised, tokens  # noqa: E402

from dsvgraph_torch import compile, emit  # noqa: E402

ROOT = Path(__file__).parents[3]
FOLDERS = ["specs", "specs/variants", "specs/losses", "specs/templates", "tests/specs"]
SPECS = sorted(path for folder in FOLDERS for path in (ROOT / folder).glob("*.yaml"))
RULES = "F,SIM,RET,ARG,C4,PIE,B015,B018,PLR0124,PLR0133,PLR1711,PLR1714,PLR5501,PLW0120,PLW0127,RUF059,UP034"
IGNORED = "C408,PIE790,SIM108,B905"
INTERFACE = {"ctx", "sent", "args", "positions", "documents", "cache"}
"""What every block takes, as one block can stand for another, and every model; `args` are those of state_dict."""
CALLED = {"__init__", "forward", "initialise", "predict", "losses", "after_step", "state_dict", "_load_from_state_dict"}
"""Methods that torch or callers of a model call."""


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """The text of every spec as a file, as it is by default and in full."""
    folder, found = tmp_path_factory.mktemp("emitted"), {}
    for spec in SPECS:
        model = dsvgraph.load(spec)
        for full in (False, True):
            path = folder / f"{spec.parent.name}_{spec.stem}_{'full' if full else 'plain'}.py"
            path.write_text(emit(model, full=full), encoding="utf-8")
            found[path.name] = path
    return found


def test_every_bundled_spec_is_judged(files):
    assert len(files) == 2 * len(SPECS) > 45
    assert {"specs_deepseek_v3_plain.py", "variants_eagle_full.py", "templates_mtp_plain.py"} <= files.keys()


def linted(paths):
    """What ruff says of files, without the arguments that belong to an interface."""
    command = [sys.executable, "-m", "ruff", "check", "--isolated", "--no-cache", "--output-format", "concise"]
    ruff = [*command, "--select", RULES, "--ignore", IGNORED, *map(str, paths)]
    done = subprocess.run(ruff, capture_output=True, text=True)
    assert done.returncode in (0, 1), done.stderr
    lines = [line for line in done.stdout.splitlines() if ".py:" in line]
    return [line for line in lines if not ("ARG002" in line and line.rsplit("`", 2)[1] in INTERFACE)]


def test_a_linter_finds_nothing(files):
    assert linted(files.values()) == []


def test_nothing_is_unused_or_decided_beforehand(files):
    found = {name: residue(path.read_text(encoding="utf-8")) for name, path in files.items()}
    assert {name: words for name, words in found.items() if words} == {}


BODIES = [
    "y: {linear: e, out: V}",
    "s: {silu: e}\n    y: {linear: s, out: V}",
    "s: {shift: e, by: -2, fill: 1}\n    y: {linear: s, out: V}",
    "q: {linear: e, out: [2, 4]}\n    a: {attention: {q: q, k: q, v: q}, causal: false}\n"
    "    y: {linear: a, contract: 2, out: V}",
    "q: {linear: e, out: [2, 4]}\n    a: {attention: {q: q, k: q, v: q}, window: 2}\n"
    "    b: {attention: {q: a, k: q, v: q}, sinks: true}\n    y: {linear: b, contract: 2, out: V}",
    "r: {rope: e, scaling: {type: linear, factor: 2.0}}\n    y: {linear: r, out: V}",
    "g: {router: e, experts: 4, top_k: 2, score: softmax}\n    t: {dispatch: {x: e, index: g.index}, experts: 4}\n"
    "    c: {combine: {x: t, index: g.index, score: g.score}}\n    y: {linear: c, out: V}",
]


@pytest.mark.parametrize(
    ("body", "loss"), [(body, loss) for body in BODIES for loss in (NEXT, "{}") if loss == "{}" or "false" not in body]
)
def test_small_models_hold_no_residue(body, loss, tmp_path):
    graph = loaded(body, loss=loss)
    for full in (False, True):
        (tmp_path / f"{full}.py").write_text(emit(graph, full=full), encoding="utf-8")
        assert residue(emit(graph, full=full)) == []
    assert linted(tmp_path.glob("*.py")) == []
    assert randomised(compile(graph))(tokens(2, 5, V))["logits"].shape == (2, 5, V)


# -- the judge ----------------------------------------------------------------------------------------


def residue(source):
    """What a file could do without, one text for each: line and what it is."""
    tree = ast.parse(source)
    judges = (_conditions, _unread, _parameters, _passing_on)
    return [*(words for judge in judges for words in judge(tree)), *_parentheses(source)]


def _constant(node):
    inner = node.operand if isinstance(node, ast.UnaryOp) else node
    return isinstance(inner, ast.Constant)


def _conditions(tree):
    """Conditions that a constant decides, and constants that are compared."""
    for node in ast.walk(tree):
        match node:
            case ast.If(test=test) | ast.IfExp(test=test) | ast.While(test=test) if _constant(test):
                yield f"{node.lineno}: condition on a constant"
            case ast.BoolOp(values=values) if any(map(_constant, values[:-1])) or _truth(values[-1]):
                yield f"{node.lineno}: `and` or `or` with a constant"
            case ast.Compare(left, _, others) if all(map(_constant, [left, *others])):
                yield f"{node.lineno}: constants compared"
            case ast.Compare(left, _, [right]) if ast.dump(left) == ast.dump(right):
                yield f"{node.lineno}: compared with itself"
            case ast.BinOp(op=ast.Mult(), right=ast.Constant(1 | 1.0)) | ast.BinOp(op=ast.Sub(), right=ast.Constant(0)):
                yield f"{node.lineno}: arithmetic that changes nothing"
            case ast.Call(ast.Name("min" | "max"), [first, second]) if ast.dump(first) == ast.dump(second):
                yield f"{node.lineno}: the least of twice the same"


def _truth(node):
    return isinstance(node, ast.Constant) and isinstance(node.value, bool)


def _unread(tree):
    """Functions, classes, methods and attributes that nothing names."""
    loads = Counter(n.attr for n in ast.walk(tree) if isinstance(n, ast.Attribute) and isinstance(n.ctx, ast.Load))
    stores = {n.attr for n in ast.walk(tree) if isinstance(n, ast.Attribute) and isinstance(n.ctx, ast.Store)}
    reads = Counter(n.id for n in ast.walk(tree) if isinstance(n, ast.Name) and isinstance(n.ctx, ast.Load))
    for top in tree.body[:-1]:
        if isinstance(top, (ast.FunctionDef, ast.ClassDef)) and not reads[top.name]:
            yield f"{top.lineno}: {top.name} is never used"
    for method in _functions(tree):
        if method.args.args and method.args.args[0].arg == "self" and method.name not in CALLED | loads.keys():
            yield f"{method.lineno}: {method.name} is never called"
    for cls in tree.body:
        plain = {a for a in stores if isinstance(cls, ast.ClassDef) and not loads[a] and _sets(cls, a)}
        yield from (f"{cls.lineno}: attribute {a} is never read" for a in plain)


def _sets(cls, attribute):
    """Whether the constructor of a class sets ``self.attribute`` to anything but a module or a weight."""
    for node in ast.walk(cls):
        match node:
            case ast.Assign([ast.Attribute(ast.Name("self"), name)], value) if name == attribute:
                return not isinstance(value, ast.Call)
            case ast.Assign([ast.Tuple(targets)], _) if any(
                isinstance(t, ast.Attribute) and t.attr == attribute for t in targets
            ):
                return True
    return False


def _functions(tree):
    return [n for n in ast.walk(tree) if isinstance(n, ast.FunctionDef)]


def _parameters(tree):
    """Parameters to which every call gives the same, and defaults that no call leaves to be."""
    for function in tree.body:
        init = next((f for f in getattr(function, "body", ()) if getattr(f, "name", "") == "__init__"), None)
        inner, skip = (init, 1) if isinstance(function, ast.ClassDef) else (function, 0)
        if not isinstance(inner, ast.FunctionDef):
            continue
        calls = [n for n in ast.walk(tree) if isinstance(n, ast.Call) and getattr(n.func, "id", "") == function.name]
        starred = any(isinstance(a, ast.Starred) for c in calls for a in c.args) or not calls
        args, defaults = inner.args.args[skip:], inner.args.defaults
        for i, arg in enumerate(args if not starred else ()):
            given = [_given(call, i, arg.arg) for call in calls]
            where, optional = f"{inner.lineno}: {function.name}", i >= len(args) - len(defaults)
            if all(g is None for g in given):
                yield f"{where}: no call gives {arg.arg}"
            if optional and all(g is not None for g in given):
                yield f"{where}: every call gives {arg.arg}, which has a default"
            words = {ast.dump(g) for g in given if g is not None and isinstance(getattr(g, "value", g), bool | str)}
            if len(words) == 1 and None not in given and isinstance(given[0], ast.Constant):
                yield f"{where}: every call gives {arg.arg} one value"


def _given(call, position, name):
    if position < len(call.args):
        return call.args[position]
    return next((k.value for k in call.keywords if k.arg == name), None)


def _passing_on(tree):
    """Functions that only hand their own arguments to another function."""
    for function in (f for f in tree.body if isinstance(f, ast.FunctionDef)):
        own = [a.arg for a in function.args.args]
        match [s for s in function.body if not isinstance(s, ast.Expr)]:
            case [ast.Return(ast.Call(ast.Name(), args, []))] if [getattr(a, "id", "") for a in args] == own:
                yield f"{function.lineno}: {function.name} only passes on"


def _parentheses(source):
    """Parentheses that only hold other parentheses."""
    tokens = [t for t in tokenize.generate_tokens(io.StringIO(source).readline) if t.type != tokenize.COMMENT]
    opened, pairs = [], {}
    for i, token in enumerate(tokens):
        if token.string in ("(", "[", "{"):
            opened.append(i)
        elif token.string in (")", "]", "}"):
            pairs[opened.pop()] = i
    for start, end in pairs.items():
        if pairs.get(start + 1) == end - 1 and tokens[start].string == tokens[start + 1].string == "(":
            called = tokens[start - 1].type == tokenize.NAME or tokens[start - 1].string in (")", "]")
            inner = tokens[start + 2 : end - 1]
            if not (called and any(t.string in (",", "for") for t in inner)):
                yield f"{tokens[start].start[0]}: double parentheses"


RESIDUE = {
    "x = 1 if None is None else 2": "constants compared",
    "def f(x):\n    if x is not None and False:\n        return 1": "with a constant",
    "def f(x):\n    return 1 if True else x": "condition on a constant",
    "def f(x):\n    return x * 1.0 if x.a == x.a else x": "compared with itself",
    "def f(x):\n    return x * 1.0": "changes nothing",
    "def f(x):\n    return min(x.past, x.past)": "twice the same",
    "def f(x):\n    return x\n\n\ny = 0": "f is never used",
    "class A:\n    def m(self):\n        return 1\n\n\nx = A()": "m is never called",
    "class A:\n    def __init__(self, b):\n        self.b, self.c = b, b\n\n\nx = A(1).c": "attribute b is never read",
    "def f(x, y=None):\n    return x, y\n\n\nz = f(1)": "no call gives y",
    "def f(x, y=None):\n    return x, y\n\n\nz = f(1, 2)": "which has a default",
    "def f(x, y):\n    return x, y\n\n\nz = f(1, True), f(2, True)": "one value",
    "def g(x):\n    return x + 1\n\n\ndef f(x):\n    return g(x)\n\n\nz = f(2)": "only passes on",
    "x = ((1 + 2)) * 3": "double parentheses",
    "x = f((1 + 2))": "double parentheses",
}


@pytest.mark.parametrize("text", RESIDUE, ids=RESIDUE.values())
def test_the_judge_sees_what_does_nothing(text):
    assert any(RESIDUE[text] in words for words in residue(f"{text}\n"))


@pytest.mark.parametrize(
    "text", ["x = f((1, 2))", "x = f((i for i in y), 1)", "def f(x):\n    return x or 1\n\n\ny = f(2)"]
)
def test_the_judge_leaves_the_rest(text):
    assert residue(f"{text}\n") == []


def test_the_linter_sees_what_is_unused(tmp_path):
    (tmp_path / "f.py").write_text(
        "import re\n\n\ndef f(x, ctx):\n    y = 1\n    if x:\n        return 1\n    return 0\n"
    )
    assert {line.split()[1] for line in linted([tmp_path / "f.py"])} >= {"F401", "F841", "ARG001"}
