"""The JSON Schema of the language accepts every bundled file and refuses what no spec can hold."""

from __future__ import annotations

import copy

import pytest

from dsvgraph import loader
from dsvgraph.cli.read.schema import run as write_schema
from dsvgraph.ops import OPS
from dsvgraph.passes.text.schema import schema

jsonschema = pytest.importorskip("jsonschema", reason="of the extra `dev`")
FILES = sorted(loader.bundled().rglob("*.yaml"))


@pytest.fixture(scope="module")
def validator():
    found = schema()
    jsonschema.Draft202012Validator.check_schema(found)
    return jsonschema.Draft202012Validator(found)


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_bundled_files(path, validator):
    assert [error.message for error in validator.iter_errors(loader.read(path).data)] == []
    header, _, target = path.read_text(encoding="utf-8").partition("\n")[0].partition("$schema=")
    assert header == "# yaml-language-server: "
    assert (path.parent / target).resolve() == (loader.bundled() / "schema.json").resolve()


SPEC = {
    "config": {"d": 8},
    "graph": {
        "in": {"ids": "int[B, T]"},
        "body": {
            "embed": {"embedding": "ids", "num": 256, "dim": "d"},
            "head": {"linear": "embed", "out": 256},
        },
        "out": {"logits": "head"},
    },
    "loss": {"next": {"cross_entropy": "logits", "target": "ids", "shift": 1, "weight": "1 / 2"}},
    "init": {"**": {"normal": 0.02}, "**.bias": "zeros"},
}


def changed(path: str, value: object) -> dict[str, object]:
    """The spec with one value changed."""
    spec = copy.deepcopy(SPEC)
    inner, *keys = spec, *path.split("/")
    for key in keys[:-1]:
        inner = inner[key]
    inner[keys[-1]] = value
    return spec


RIGHT = [
    ("graph/body/head", {"linear": "embed", "weight": "embed.weight", "out": "d", "at": "lm.head"}),
    ("graph/body/head", {"linear": {"x": "embed"}, "out": ["d", 4], "contract": "d // 4", "repeat": "n"}),
    ("graph/body/head", {"my_block": "embed", "anything": [1, 2], "repeat": 3}),
    ("graph/body/head", {"concat": ["embed", "embed"]}),
    ("graph/body/head", {"attention": {"q": "embed", "k": "embed", "v": "embed"}, "window": None}),
    ("graph/out", "head"),
    ("loss/balance", {"sequence_balance": "**.gate", "weight": 0.1}),
    ("published", {"parameters": "671B", "active": "37B", "active_counts": "all", "source": "a paper"}),
]
WRONG = [
    ("grahp", {}),
    ("graph/body/head", {"linear": "embed", "outt": 256}),
    ("graph/body/head", {"linear": "embed"}),
    ("graph/body/head", {"linear": ["embed"], "out": 256}),
    ("graph/body/head", {"linear": "embed", "out": 256, "contract": 0}),
    ("graph/body/head", {"attention": {"q": "embed", "k": "embed"}}),
    ("graph/body/head", {"router": "embed", "experts": 4, "top_k": 2, "normalize": 3}),
    ("graph/body/head", {}),
    ("graph/body/2nd", {"silu": "embed"}),
    ("graph/in", {}),
    ("graph/in/ids", "int"),
    ("graph/args", ["d"]),
    ("loss/next", {"cross_entropy": "logits"}),
    ("loss/next", {"cross_entropy": "logits", "target": "ids", "wieght": 1}),
    ("loss/next", {"mse": "logits"}),
    ("init/**", "norml"),
    ("init/**", {"normal": 1, "uniform": 1}),
    ("trained", {"**": "no"}),
    ("published", {"parameters": 671, "source": "a paper"}),
    ("published", {"parameters": "671B"}),
    ("published", {"parameters": "671B", "active": "37B", "source": "a paper"}),
]


@pytest.mark.parametrize(("path", "value"), [("config/d", 8), *RIGHT], ids=str)
def test_right(path, value, validator):
    assert [error.message for error in validator.iter_errors(changed(path, value))] == []


@pytest.mark.parametrize(("path", "value"), WRONG, ids=str)
def test_wrong(path, value, validator):
    assert not validator.is_valid(changed(path, value))


def test_every_op_is_there_with_its_words():
    found = schema()["$defs"]
    for name, cls in OPS.items():
        op = found[f"op_{name}"]
        assert cls.formula in op["markdownDescription"]
        assert set(cls.model_fields) <= set(op["properties"])
        assert name in found["line"]["else"]["properties"]


def test_the_bundled_schema_is_up_to_date(request, tmp_path):
    """specs/schema.json, which the headers of the bundled specs name; --update-golden writes it anew."""
    bundled = loader.bundled() / "schema.json"
    if request.config.getoption("--update-golden"):
        write_schema(bundled)
    write_schema(tmp_path / "schema.json")
    same = bundled.read_bytes() == (tmp_path / "schema.json").read_bytes()
    assert same, "ops or bundled blocks changed: pytest --update-golden tests/cli/commands/test_cli_schema.py"
