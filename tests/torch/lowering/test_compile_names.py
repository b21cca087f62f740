"""Whatever things are called, and whatever is written about them: models run, and nothing of it becomes code."""

import ast
import json
import sys

import pytest

import dsvgraph

torch = pytest.importorskip("torch")

from bodies import LAYER, loaded, model  # noqa: E402
from helpers import tokens  # noqa: E402

from dsvgraph.build.checks.modules import MODULE, ROOT  # noqa: E402
from dsvgraph_torch import compile, emit  # noqa: E402
from dsvgraph_torch.module import load_source  # noqa: E402
from dsvgraph_torch.runtime import modules  # noqa: E402

PYTHON = ["self", "super", "print", "range", "len", "sum", "type_", "object", "list", "int", "match", "property", "_"]
TORCH = ["torch", "nn", "F", "math", "re", "checkpoint", "weight", "bias"]
RUNTIME = [
    "attention", "head", "rope", "router", "Router", "Linears", "Model", "Each", "Context", "RMSNorm",
    "grouped", "Linear",
]  # fmt: skip
LOCAL = ["ctx", "copy", "i", "targets", "sent", "total", "valid", "depth", "losses_", "loss", "B", "T", "cache"]
ALL = PYTHON + TORCH + RUNTIME + LOCAL
MODULES_OWN = [
    "forward", "training", "train", "parameters", "state_dict", "_modules", "to", "type", "half", "add_module",
]  # fmt: skip
ROOTS_OWN = ["losses", "predict", "init", "initialise", "tokens_seen", "after_step", "_trunk"]

SPEC = """
name: {model}
config: {{V: 13, d: 4}}
blocks:
  {block}:
    args: {{d, {argument}: 3}}
    in: {{{port}: "[B, T, d]"}}
    body:
      {inner}: {{linear: {port}, out: {argument}}}
      last: {{linear: {inner}, out: d}}
    out: {{{port}: last}}
  leaf:
    in: {{x: "[B, T, d]"}}
    body: {{{inner}: {{silu: x}}, out1: {{linear: {inner}, out: 4}}}}
    out: out1
  outer:
    args: {{d, f: {block}}}
    in: {{x: "[B, T, d]"}}
    body:
      {node}: {{f: x}}
      norm: {{rms_norm: {node}}}
      many: {{{block}: norm, {argument}: [3, 5], repeat: 3}}
    out: many
graph:
  in: {{{input}: "int[B, T]"}}
  body:
    e: {{embedding: {input}, num: V, dim: d}}
    a: {{outer: e}}
    b: {{outer: a, f: leaf}}
    {root}: {{rms_norm: b}}
    y: {{linear: {root}, out: V}}
  out: {{{output}: y}}
loss: {{{line}: {{cross_entropy: {output}, target: {input}, shift: 1}}}}
"""
SLOTS = dict(
    model="plain", block="blk", argument="width", port="p", inner="q", node="n1", input="ids", root="r1",
    output="logits", line="next",
)  # fmt: skip


def runs(names):
    """Whether the model with these names gives logits, losses and gradients."""
    graph, ids = dsvgraph.loads(SPEC.format(**names)), tokens(2, 5, 13)
    for kernels in ("plain", "fast"):
        module = compile(graph, kernels=kernels)
        assert torch.equal(module(ids)[names["output"]], module.predict(ids))
        losses = module(ids, labels=ids)
        assert list(losses) == ["loss", names["line"]]
        losses["loss"].backward()
        assert all(p.grad is not None for p in module.parameters())
    return True


REFUSED = {"block": ["attention", "rope", "router"], "line": ["loss"], "argument": ["B", "T"]}
"""By check: the names of ops, of the sum of the losses, of sizes of inputs."""


@pytest.mark.parametrize("first", range(len(ALL)), ids=ALL)
def test_names_of_python_torch_and_the_runtime_hide_nothing(first):
    """Every name in every place once, in company that changes."""
    names = {slot: ALL[(first + 4 * i) % len(ALL)] for i, slot in enumerate(SLOTS)}
    assert runs({slot: SLOTS[slot] if name in REFUSED.get(slot, []) else name for slot, name in names.items()})


@pytest.mark.parametrize("name", MODULES_OWN)
def test_names_that_modules_have_themselves_are_refused_at_their_line(name):
    text = SPEC.format(**{**SLOTS, "inner": name})
    with pytest.raises(dsvgraph.DsvError, match=f"`{name}` is a name that torch's modules have") as caught:
        dsvgraph.loads(text)
    (diagnostic,) = caught.value.diagnostics
    assert text.splitlines()[diagnostic.span.line - 1].strip().startswith(f"{name}:")
    inside = "graph: {in: {x: '[B, T, 4]'}, body: {y: {linear: x, out: 4, at: a.%s.b}}, out: y}"
    with pytest.raises(dsvgraph.DsvError, match="modules have"):
        dsvgraph.loads(inside % name)


@pytest.mark.parametrize("name", ROOTS_OWN)
def test_names_of_the_models_own_methods_are_refused_at_the_root_only(name):
    with pytest.raises(dsvgraph.DsvError, match=f"`{name}` is a name that"):
        dsvgraph.loads(SPEC.format(**{**SLOTS, "root": name}))
    assert runs({**SLOTS, "node": name})


def _home(attribute: object) -> str:
    """The module that a method was defined in."""
    return getattr(attribute, "__module__", None) or ""


def test_the_names_that_check_refuses_are_those_that_modules_have():
    """And a few that modules of other versions of torch have. Other packages may have added methods to the class."""
    given = torch.nn.Module()
    own = {n for n in dir(given) if not n.startswith("__") and "transformers" not in _home(getattr(given, n))}
    assert own | {n for n in vars(modules.Each) if not n.startswith("__")} <= MODULE
    assert {n for n in vars(modules.Model) if not n.startswith("__")} <= ROOT


SHARED = {
    "a weight beside its own": "a: {linear: e, out: d, at: p}\n    y: {linear: a, out: V, at: p.q}",
    "below first": "a: {linear: e, out: d, at: p.q}\n    y: {linear: a, out: V, at: p}",
    "norms and tables": "a: {rms_norm: e, at: e.n}\n    b: {layer_norm: a, at: e.n.m}\n    y: {linear: b, out: V}",
    "names of torch's own layers": "a: {linear: e, out: d, at: p}\n    y: {linear: a, out: V, at: p.in_features}",
    "two ops": "a: {affine: e, at: p, bias: false}\n    b: {attention: {q: h, k: h, v: h}, sinks: true, at: p}\n"
    "    y: {linear: b, contract: 2, out: V}",
}


@pytest.mark.parametrize("body", SHARED.values(), ids=SHARED)
def test_lines_may_share_an_address(body):
    """`model` holds what runs against the emitted file, and weights against the graph's paths."""
    heads = "h: {linear: e, out: [2, 4]}\n    "
    model(heads + body if "attention" in body else body)


CLASHES = {
    "address of a module of another line": "a: {layer: e, at: p}\n    y: {linear: a, out: V, at: p}",
    "below the address of a module": "a: {layer: e, at: p}\n    y: {linear: a, out: V, at: p.q}",
    "lies below the address of": "a: {linear: e, out: V, at: p.q}\n    y: {layer: e, at: p}\n    z: {add: [y, y]}",
    "address of copies of another": "a: {layer: e, at: p, repeat: 2}\n    y: {linear: a, out: V, at: p}",
    "below the address of copies": "a: {layer: e, at: p, repeat: 2}\n    y: {linear: a, out: V, at: p.norm}",
}


@pytest.mark.parametrize("words", CLASHES)
def test_what_cannot_stand_at_one_address_is_refused_by_check(words):
    with pytest.raises(dsvgraph.DsvError, match=words):
        loaded(CLASHES[words], LAYER)


# -- texts --------------------------------------------------------------------------------------------

NASTY = [
    '"""\nimport sys; sys.injected = 1\n"""',
    "'''\nimport sys; sys.injected = 1",
    'x"""+setattr(sys, "injected", 1)+"""',
    "\u2028import sys; sys.injected = 1",
    "\x85sys.injected = 1",
    "class X(nn.Module):\n    pass",
    "# comment\n  # and  # more",
    "\\N{BULLET} \\x41 \\",
    *("\\", '\\"""', 'ends with "', '""', "{0} {x} %s %(x)s", "<0> <1>", "a\rb", "nn.Linear(", "é 漢 🙂", "  # noqa"),
    "-" * 500,
]
DOCS = """
name: %s
doc: %s
config: {V: 13, word: %s}
blocks:
  b:
    doc: %s
    args: {word}
    in: {x: "[B, T, d]"}
    body: {l: {linear: x, out: 4}}
    out: l
graph:
  doc: %s
  in: {ids: "int[B, T]"}
  body:
    e: {embedding: ids, num: V, dim: 4}
    c: {b: e}
    y: {linear: c, out: V}
  out: {logits: y}
loss: {next: {cross_entropy: logits, target: ids, shift: 1}}
init: {"**": {normal: 0.1}, %s: ones}
trained: {%s: false}
"""


def structure(source):
    """Definitions and constants of a file, without names and words: what the code is."""
    tree = ast.parse(source)
    for node in ast.walk(tree):
        if isinstance(node, (ast.FunctionDef, ast.ClassDef, ast.Module)) and ast.get_docstring(node) is not None:
            node.body[0].value.value = ""
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            node.value = ""
        if isinstance(node, ast.ClassDef):
            node.name = ""
    return ast.dump(tree)


@pytest.mark.parametrize("text", NASTY, ids=range(len(NASTY)))
def test_texts_stay_texts(text):
    plain = emit(dsvgraph.loads(DOCS % (("plain",) * 7), name="plain.yaml"))
    name, quoted = (json.dumps(t, ensure_ascii=False) for t in (text[:90], text))
    pattern = json.dumps("".join(c for c in text if c.isprintable())[:200], ensure_ascii=False)
    source = emit(dsvgraph.loads(DOCS % (name, *[quoted] * 4, pattern, pattern), name=f"{text}.yaml"))
    assert structure(source) == structure(plain)
    assert len(source.splitlines()) == source.count("\n")
    module = load_source(source, text)
    assert not hasattr(sys, "injected") and not hasattr(module, "injected")
    cls = [v for v in vars(module).values() if isinstance(v, type) and hasattr(v, "predict")][-1]
    assert cls().initialise()(tokens(1, 3, 13))["logits"].shape == (1, 3, 13)


def test_patterns_with_special_characters_match_themselves_only():
    graph = "graph: {in: {x: '[B, T, 4]'}, body: {y: {linear: x, out: 4}, z: {linear: y, out: 4}}, out: z}\n"
    for pattern in ("y.*", "[yz].weight", "y|z", ".*", "^y", "(y", "y.weigh?", "<0>", "{0}"):
        module = compile(dsvgraph.loads(f"{graph}trained: {{{json.dumps(pattern)}: false}}"))
        frozen = [name for name, p in module.named_parameters() if not p.requires_grad]
        assert frozen == (["y.weight"] if pattern == "y.*" else [])
