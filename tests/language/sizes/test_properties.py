"""Whatever the text: a model, or an error that points into the text. Nothing else, and at once."""

from __future__ import annotations

import json
import re
import shutil
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pace import too_long

import dsvgraph
from dsvgraph import DsvError, loader
from dsvgraph.dims import evaluate
from dsvgraph.errors import Span
from dsvgraph.graph import Model, walk

pytestmark = pytest.mark.slow

pytestmark = pytest.mark.usefixtures("timed")

QUICK = settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
FILES = sorted(loader.bundled().rglob("*.yaml"))


def inside(span: Span | None) -> None:
    """A place that can be shown: its line is there, and its column is on it."""
    if span is not None:
        assert 1 <= span.line <= len(span.source.lines) + 1
        assert 1 <= span.column <= len(span.source.line(span.line)) + 1
        assert span.width >= 1


def told(action: Callable[[], Model]) -> Model | None:
    """What ``action`` gives, in a second; an error is one that can be told."""
    start, found = time.process_time(), None
    try:
        found = action()
    except DsvError as error:
        assert error.diagnostics
        for diagnostic in error.diagnostics:
            assert diagnostic.code
            for span in (diagnostic.span, *(span for _, span in diagnostic.labels)):
                inside(span)
        assert str(error).replace("\n", "").isprintable()
        json.dumps([d.as_dict() for d in error.diagnostics])
    assert not too_long(time.process_time() - start)
    return found


# -- any text ---------------------------------------------------------------------------------

SIGNS = list("[]{}#|>'\"~\n\t\u0085\u2028\ufeffé")
WORDS = [*SIGNS, "a", "b: ", "- ", ", ", ": ", "  ", "&x ", "*x", "!t ", "? ", "<<: ", "no", "1e5", "---", "%YAML 1.1"]
KEYS = ["graph", "in", "body", "out", "blocks", "config", "loss", "init", "extends", "include", "args", "name", "cache"]


@given(st.one_of(st.text(max_size=200), st.lists(st.sampled_from(WORDS), max_size=40).map("".join)))
@settings(QUICK, max_examples=400)
def test_any_text_is_data_or_an_error(text: str) -> None:
    try:
        doc = loader.parse(text)
    except DsvError as error:
        for diagnostic in error.diagnostics:
            inside(diagnostic.span)
        return
    for span in [*doc.keys.values(), *doc.values.values()]:
        inside(span)


@given(st.binary(max_size=300))
@settings(QUICK, max_examples=150)
def test_any_bytes_are_a_spec_or_an_error(tmp_path: Path, raw: bytes) -> None:
    (tmp_path / "a.yaml").write_bytes(raw)
    told(lambda: dsvgraph.load(str(tmp_path / "a.yaml")))


values = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.text(max_size=5), st.sampled_from(["[B, T]", "x", "a.b"])),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3),
        st.dictionaries(st.sampled_from([*KEYS, "x", "silu", "linear", "repeat", "at", "y"]), inner, max_size=3),
    ),
    max_leaves=12,
)


@pytest.mark.slow
@given(st.dictionaries(st.sampled_from(KEYS), values, max_size=6))
@settings(QUICK, max_examples=300)
def test_any_data_is_a_model_or_an_error(data: dict[str, object]) -> None:
    told(lambda: dsvgraph.loads(json.dumps(data, ensure_ascii=True)))


# -- bundled specs, damaged -------------------------------------------------------------------

NUMBERS = ["0", "-1", "3", "2.5", "1e400", "10**9", "9**9**9", "2**60", "null", "true", "[1, 2]", "{a: 1}", "nothing"]


def damage(text: str, kind: str, at: int, other: int, new: str) -> str:
    """``text`` with one thing changed."""
    lines = text.splitlines()
    i, j = at % len(lines), other % len(lines)
    words = re.findall(r"[A-Za-z_]\w*", text)
    if kind == "delete":
        del lines[i]
    elif kind == "duplicate":
        lines.insert(j, lines[i])
    elif kind == "swap":
        lines[i], lines[j] = lines[j], lines[i]
    elif kind == "indent":
        lines[i] = " " * (other % 7) + lines[i].lstrip()
    elif kind == "cut":
        lines[i] = lines[i][: other % (len(lines[i]) + 1)]
    elif kind == "key":
        lines[i] = re.sub(r"\w+(?=:)", words[other % len(words)], lines[i], count=1)
    else:
        wanted = {"rename": r"[A-Za-z_]\w*", "resize": r"\b\d+\b", "retype": r"[\[\]{},:]"}[kind]
        spots = list(re.finditer(wanted, text))
        spot = spots[at % len(spots)] if spots else re.match("", text)
        made = {"rename": words[other % len(words)], "resize": new, "retype": "[]{},: "[other % 7]}[kind]
        return text[: spot.start()] + made + text[spot.end() :]
    return "\n".join(lines) + "\n"


KINDS = ["delete", "duplicate", "swap", "indent", "cut", "key", "rename", "rename", "resize", "retype"]


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("specs")
    shutil.copytree(loader.bundled(), folder, dirs_exist_ok=True)
    return folder


places = st.integers(0, 10**6)


@pytest.mark.slow
@given(st.sampled_from(FILES), st.sampled_from(KINDS), places, places, st.sampled_from(NUMBERS))
@settings(QUICK, max_examples=250)
def test_damaged_specs_are_models_or_errors(
    library: Path, file: Path, kind: str, at: int, other: int, new: str
) -> None:
    path = library / file.relative_to(loader.bundled())
    whole = file.read_text(encoding="utf-8")
    top = file.stem if file.parent == loader.bundled() else "deepseek_v3_tiny"
    try:
        path.write_text(damage(whole, kind, at, other, new), encoding="utf-8")
        told(lambda: dsvgraph.load(str(library / f"{top}.yaml")))
    finally:
        path.write_text(whole, encoding="utf-8")


# -- legal sizes ------------------------------------------------------------------------------

small = st.integers(1, 6)


@pytest.mark.slow
@given(
    st.fixed_dictionaries(
        {
            "hidden_size": small, "vocab_size": small, "num_hidden_layers": st.integers(2, 6),
            "first_k_dense_replace": st.integers(0, 1), "num_nextn_predict_layers": st.integers(0, 4),
            "num_attention_heads": small, "q_lora_rank": small, "kv_lora_rank": small, "qk_nope_head_dim": small,
            "qk_rope_head_dim": small.map(lambda n: 2 * n), "v_head_dim": small, "intermediate_size": small,
            "moe_intermediate_size": small, "n_shared_experts": small,
        }
    ),
    st.integers(1, 3), st.integers(2, 4),
)  # fmt: skip
@settings(QUICK, max_examples=40)
def test_legal_sizes_build(sizes: dict[str, int], groups: int, per_group: int) -> None:
    experts = {"n_routed_experts": groups * per_group, "n_group": groups, "topk_group": 1, "num_experts_per_tok": 2}
    found = dsvgraph.load("deepseek_v3_tiny", sizes | experts)
    d, v, depth = sizes["hidden_size"], sizes["vocab_size"], sizes["num_nextn_predict_layers"]
    assert [str(found.type(ref)) for ref in found.outputs.values()] == [f"[B, T, {v}]", f"[{depth}, B, T, {v}]"]
    for visit in walk(found):
        for weight in visit.node.weights.values():
            assert all(isinstance(size, int) and size > 0 for size in weight.shape)
        for type_ in visit.node.outputs.values():
            assert all(evaluate(size, {"B": 12, "T": 60}) >= 0 for size in type_.shape)
    dense = found.nodes["dense"]
    assert str(dense.outputs["x"]) == f"[B, T, {d}]"
