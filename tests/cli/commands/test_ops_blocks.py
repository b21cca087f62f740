"""The lists of ops and blocks, from outside: torch's and transformers' shapes, the schema, the files."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest
import sympy
import torch
from processes import environment
from ruamel.yaml import YAML
from torch import nn

from dsvgraph.cli import output
from dsvgraph.loader import bundled
from dsvgraph.ops import OPS

FILES = {path.relative_to(bundled()).as_posix(): path for path in sorted((bundled() / "blocks").rglob("*.yaml"))}
IN_FILES = {name: file for file, path in FILES.items() for name in YAML(typ="safe").load(path)["blocks"]}


@pytest.fixture(scope="module")
def told():
    """Everything that `--json` says: ops and blocks by name."""
    from typer.testing import CliRunner

    from dsvgraph.cli import app

    def by_name(command: str) -> dict:
        import json

        return {p["name"]: p for p in json.loads(CliRunner().invoke(app, [command, "--json"]).stdout)}

    return by_name("ops") | {f"block {name}": page for name, page in by_name("blocks").items()}


def sizes(shape: str, **values: int) -> tuple[int, ...]:
    """A symbolic shape in numbers, computed by sympy."""
    inner = [part.strip() for part in shape.removeprefix("int").strip("[]").split(",")]
    return tuple(int(sympy.sympify("in_" if part == "in" else part, values)) for part in inner)


# -- the lists --------------------------------------------------------------------------------


def test_ops_are_listed(dsv):
    lines = dsv("ops").out.splitlines()
    assert [line.split()[0] for line in lines[1:] if line[0] != " "] == list(OPS)


def test_blocks_are_listed_with_the_file_to_include(dsv):
    lines = [line for line in dsv("blocks").out.splitlines()[1:] if line[0] != " "]
    assert {tuple(line.split()[:2]) for line in lines} == set(IN_FILES.items())


@pytest.mark.parametrize("command", ["ops", "blocks"])
def test_lists_fit_a_narrow_terminal(command, dsv, monkeypatch):
    monkeypatch.setattr(output, "PLAIN_WIDTH", 80)
    names = [line.split()[0] for line in dsv(command).out.splitlines()[1:] if line[0] != " "]
    pages = [dsv(command, name).out.split(".yaml:\n")[0] for name in names]
    assert max(len(line) for text in (dsv(command).out, *pages) for line in text.splitlines()) <= 80


def test_a_narrow_terminal_cuts_no_word(dsv, monkeypatch):
    wide = dsv("blocks").out.split()
    monkeypatch.setattr(output, "is_terminal", lambda stream: True)
    monkeypatch.setattr("os.environ", {**os.environ, "COLUMNS": "30", "NO_COLOR": "1"})
    assert sorted(dsv("blocks").out.split()) == sorted(wide)


def test_a_summary_ends_outside_of_brackets(told):
    summaries = [page["summary"] for page in told.values()]
    assert [words for words in summaries if words.count("(") != words.count(")") or not words] == []


@pytest.mark.parametrize(
    ("command", "words", "hint"),
    [
        (["ops", "lineer"], "there is no op `lineer`", "did you mean `linear`?"),
        (["ops", "mla"], "there is no op `mla`", "it is a block: dsvgraph blocks mla"),
        (["blocks", "rope"], "there is no block `rope`", "it is an op: dsvgraph ops rope"),
        (["blocks", "mla_full_qury"], "there is no block `mla_full_qury`", "did you mean `mla_full_query`?"),
        (["blocks", "\x1b[31m"], "there is no block `\N{REPLACEMENT CHARACTER}[31m`", "there are "),
    ],
)
def test_unknown_names(command, words, hint, dsv):
    answer = dsv(*command)
    assert (answer.code, answer.out) == (1, "")
    message, helped = answer.err.splitlines()
    assert message == f"error: {words}"
    assert helped.startswith(f"  = help: {hint}")
    (told,) = dsv(*command, "--json").json["errors"]
    assert told["message"].startswith("there is no")


def test_neither_imports_torch(tmp_path):
    code = (
        "import sys\n"
        "from dsvgraph.cli import app\n"
        "for words in (['ops', 'linear'], ['blocks', 'moe']):\n"
        "    app(words, standalone_mode=False)\n"
        "print(*{'torch', 'numpy', 'sympy'} & set(sys.modules), file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", code], env=environment(), cwd=tmp_path, capture_output=True, text=True)
    assert (done.returncode, done.stderr.split()) == (0, [])


# -- what is told of an op --------------------------------------------------------------------

LAYERS = [  # torch's layer, the op, the attributes that bring all of its weights
    (nn.Linear(3, 5), "linear", {"in_": 3, "out": 5}),
    (nn.Embedding(7, 4), "embedding", {"num": 7, "dim": 4}),
    (nn.LayerNorm(6), "layer_norm", {"d": 6}),
    (nn.RMSNorm(6), "rms_norm", {"d": 6}),
]


@pytest.mark.parametrize(("layer", "op", "values"), LAYERS, ids=[op for _, op, _ in LAYERS])
def test_weights_are_those_of_torch(layer, op, values, told):
    found = {w["name"]: sizes(w["shape"], **values) for w in told[op]["weights"]}
    assert found == {name: tuple(p.shape) for name, p in layer.named_parameters()}


def test_weights_that_an_attribute_brings(told):
    found = {w["name"]: (w["with"], w["trained"]) for w in told["router"]["weights"]}
    assert found == {
        "weight": ("", True),
        "bias": ("bias: true", True),
        "e_score_correction_bias": ("correction_bias: true", False),
    }


def test_shapes_of_attention_are_those_of_torch(told):
    values = dict(B=2, T=5, H=4, G=2, Q=6, V=3)
    q, k, v = (
        torch.zeros(sizes(told["attention"]["inputs"][port], **values)).transpose(1, 2) for port in ("q", "k", "v")
    )
    y = nn.functional.scaled_dot_product_attention(q, k, v, enable_gqa=True).transpose(1, 2)
    assert sizes(told["attention"]["outputs"]["y"], **values) == tuple(y.shape)


def test_every_op_tells_its_outputs(told):
    for name, cls in OPS.items():
        page = told[name]
        assert page["formula"] == cls.formula
        by_text = any(a["kind"] == "text" and a["default"] is None for a in page["attributes"])  # an equation
        made = name == "separate_tokens"  # takes rows that another op made, with a number of tokens between others
        assert page["outputs"] or by_text or made, f"the shapes in the docstring of `{name}` do not fit its shape rule"
        assert not cls.ports or cls.variadic or tuple(page["inputs"]) == cls.ports


def test_attributes_are_those_of_the_schema(dsv, told):
    definitions = dsv("schema").json["$defs"]
    for name in OPS:
        schema = definitions[f"op_{name}"]
        for attribute in told[name]["attributes"]:
            assert attribute["name"] in schema["properties"]
            assert (attribute["default"] is None) == (attribute["name"] in schema["required"])
            default = schema["properties"][attribute["name"]].get("default")
            written = attribute["default"]
            assert default is None or YAML(typ="safe").load(written) == default or float(written) == default


# -- what is told of a block ------------------------------------------------------------------


def test_every_block_is_built_with_names_for_its_sizes(told):
    for name in IN_FILES:
        page = told[f"block {name}"]
        numbered = {"mla_registers", "gqa_block_draft", "block_draft"}  # their masks count inserted tokens
        if name in numbered:
            continue
        assert page["parameters"], f"`{name}` could not be built with names"
        assert all(page["outputs"].values())
        assert all(page["cache"].values())


def test_the_yaml_is_the_file_s(told):
    for file, path in FILES.items():
        for name, block in YAML(typ="safe").load(path)["blocks"].items():
            page = told[f"block {name}"]
            assert page["file"] == file
            assert YAML(typ="safe").load(page["yaml"]) == {name: block}
            assert list(page["args"]) == list(block.get("args", {}))
            assert list(page["inputs"]) == list(block["in"])


SMALL = dict(
    hidden_size=32, intermediate_size=40, num_attention_heads=4, num_key_value_heads=2, head_dim=8, vocab_size=64,
    q_lora_rank=12, kv_lora_rank=8, qk_nope_head_dim=8, qk_rope_head_dim=4, v_head_dim=6, moe_intermediate_size=10,
    n_routed_experts=8, n_shared_experts=2, num_experts_per_tok=2, n_group=1, topk_group=1, num_hidden_layers=1,
)  # fmt: skip


def modules() -> dict[str, nn.Module]:
    """Other people's modules of the same sizes, by the name of the block."""
    from transformers.models.deepseek_v3 import modeling_deepseek_v3 as deepseek
    from transformers.models.llama import modeling_llama as llama

    v3, plain = deepseek.DeepseekV3Config(**SMALL), llama.LlamaConfig(**SMALL)
    return {
        "mla": deepseek.DeepseekV3Attention(v3, 0),
        "moe": deepseek.DeepseekV3MoE(v3),
        "mlp": llama.LlamaMLP(plain),
        "gqa": llama.LlamaAttention(plain, 0),
    }


def test_formulas_count_what_transformers_has(told):
    pytest.importorskip("transformers")
    for name, module in modules().items():
        page = told[f"block {name}"]
        biases = sum(b.numel() for b in module.buffers() if b.ndim == 1 and b.numel() == SMALL["n_routed_experts"])
        assert int(sympy.sympify(page["parameters"], SMALL)) == sum(p.numel() for p in module.parameters()) + biases
        own = sum(
            int(sympy.prod(sizes(w["shape"], **SMALL))) * int(sympy.sympify(w["copies"], SMALL))
            for w in page["weights"]
        )
        assert own == int(sympy.sympify(page["parameters"], SMALL))


def test_what_a_latent_cache_holds(told):
    """DeepSeek-V2 (arXiv 2405.04434), section 2.1: d_c + d_h^R numbers per token and layer, 512 + 64."""
    formula = told["block mla"]["cached_per_token"]
    assert sympy.sympify(formula, dict(kv_lora_rank=512, qk_rope_head_dim=64)) == 576


def test_a_page_names_the_blocks_below(told):
    assert told["block decoder_layer"]["calls"] == ["mla", "mlp"]
    assert told["block moe"]["calls"] == ["mlp"]
    assert told["block mla"]["calls"] == []


def test_a_page_in_words(dsv):
    out = " ".join(dsv("blocks", "mlp").out.split())
    assert "3*hidden_size*intermediate_size" in out
    assert "down_proj.weight [hidden_size, intermediate_size]" in out
    assert out.endswith("out: down_proj")
