"""Formulas, judged by sympy, and by the numbers of models that were built with other values."""

from __future__ import annotations

from typing import Any

import pytest
import sympy

import dsvgraph
from dsvgraph.passes.count.cost import cost

D = "num_nextn_predict_layers"


def same(formula: str, expected: str) -> bool:
    return bool(sympy.expand(sympy.sympify(formula) - sympy.sympify(expected)) == 0)


def at(formula: str, **values: int) -> Any:
    return sympy.sympify(formula).subs(values)


@pytest.fixture(scope="module")
def symbolic() -> Any:
    return cost(dsvgraph.load("deepseek_v3")).symbolic


def test_total_in_depth(symbolic: Any) -> None:
    assert symbolic["parameters"]["total"] == f"671026419200 + 11610068224*{D}"
    assert symbolic["heads"] == [D]
    assert symbolic["parameters"]["inference"] == "671026419200"


def test_flops_in_batch_length_and_depth(symbolic: Any) -> None:
    """6N and 3 H (d_qk + d_v) T per layer; a depth adds a layer of experts, eh_proj and a head."""
    main = f"6*36625603584 + 3*61*128*320*T + {D}*(6*(688100608 - 256 + 926679040) + 3*128*320*T)"
    assert same(symbolic["flops"]["train_per_token"], main)
    assert same(symbolic["flops"]["train"], f"B*T*({main})")


def test_layers_are_counted_by_name(symbolic: Any) -> None:
    layers = symbolic["by_layers"]
    assert layers["kv_cache"]["elements_per_token"] == "576*num_hidden_layers"
    dense, sparse = 583_483_392, 11_507_286_272
    total = f"2*129280*7168 + 7168 + {dense}*first_k_dense_replace + 11610068224*{D}"
    total += f"+ {sparse}*(num_hidden_layers - first_k_dense_replace)"
    assert same(layers["parameters"]["total"], total)


CHANGES = [
    ("deepseek_v3", {"num_hidden_layers": 17, "first_k_dense_replace": 2, D: 4}),
    ("deepseek_v3", {D: 0}),
    ("deepseek_v3_tiny", {"num_hidden_layers": 9, D: 1}),
    ("tutorial_mtp", {"num_hidden_layers": 3, D: 5}),
    ("tests/specs/parallel_heads.yaml", {"num_hidden_layers": 7, D: 2}),
]


@pytest.mark.parametrize(("name", "changes"), CHANGES)
def test_formulas_hold_for_other_depths(name: str, changes: dict[str, int]) -> None:
    base = cost(dsvgraph.load(name)).symbolic["by_layers"]
    other = cost(dsvgraph.load(name, changes), batch=3, seq=50)
    sizes = {n: v for n, v in dsvgraph.load(name).config.items() if isinstance(v, int)}
    names = {**sizes, **changes, "B": 3, "T": 50}
    for section in ("parameters", "flops", "kv_cache"):
        for quantity, formula in base[section].items():
            assert at(formula, **names) == getattr(getattr(other, section), quantity), (section, quantity)


def test_every_count_has_a_formula() -> None:
    found = cost(dsvgraph.load("deepseek_v3"))
    assert found.symbolic["parameters"].keys() == vars(found.parameters).keys()
    assert found.symbolic["kv_cache"].keys() == vars(found.kv_cache).keys()
    assert found.symbolic["flops"].keys() == vars(found.flops).keys() - {"attention", "recompute", "by_op"}
    frozen = cost(dsvgraph.loads("extends: deepseek_v3_tiny.yaml\ntrained: {'model.layers.1.**': false}\n"))
    assert vars(frozen.parameters).keys() - frozen.symbolic["parameters"].keys() == {"trained", "untrained"}


MLA = """hidden_size*q_lora_rank + q_lora_rank
 + q_lora_rank*num_attention_heads*(qk_nope_head_dim + qk_rope_head_dim)
 + hidden_size*(kv_lora_rank + qk_rope_head_dim) + kv_lora_rank
 + kv_lora_rank*num_attention_heads*(qk_nope_head_dim + v_head_dim)
 + num_attention_heads*v_head_dim*hidden_size"""
MOE = """3*hidden_size*moe_intermediate_size*(n_routed_experts + n_shared_experts)
 + n_routed_experts*hidden_size + n_routed_experts"""
MLP = "3*hidden_size*intermediate_size"


@pytest.mark.parametrize(("block", "expected"), [("mla", MLA), ("moe", MOE), ("mlp", MLP)])
def test_formulas_of_blocks(block: str, expected: str) -> None:
    row = next(r for r in cost(dsvgraph.load("deepseek_v3")).blocks if r.block == block)
    assert same(row.formula or "", " ".join(expected.split()))


@pytest.mark.parametrize("name", ["deepseek_v3", "deepseek_v3_tiny", "tutorial_mtp", "tests/specs/patterns.yaml"])
def test_formulas_of_blocks_give_their_numbers(name: str) -> None:
    model = dsvgraph.load(name)
    values = {n: v for n, v in model.config.items() if isinstance(v, int)}
    for row in cost(model).blocks:
        assert row.formula is not None
        assert at(row.formula, **values) * row.copies == row.parameters, row


def test_a_rule_that_holds_in_numbers_only() -> None:
    """Names that a shape rule equates stay numbers, and the others stay names."""
    text = """
config: {width: 12, heads: 3, head: 4, num: 7, layers: 2}
blocks:
  layer:
    args: {heads, head, width}
    in: {x: [B, T, width]}
    body:
      p: {linear: x, out: [heads, head]}
      o: {linear: p, contract: 2, out: heads * head}
      y: {add: [x, o]}
    out: {x: y}
graph:
  in: {ids: "int[B, T]"}
  body:
    embed:  {embedding: ids, num: num, dim: width}
    layers: {layer: embed, repeat: layers}
    head:   {linear: layers, out: num}
  out: {logits: head}
"""
    found = cost(dsvgraph.loads(text))
    assert found.symbolic["by_layers"]["parameters"]["total"] == "168 + 288*layers"
    assert found.blocks[0].formula == "12*num"


def test_layers_that_differ_by_index_are_counted_in_numbers() -> None:
    found = cost(dsvgraph.load("tests/specs/patterns.yaml"))
    assert found.symbolic["by_layers"]["parameters"]["total"] == str(found.parameters.total)
    assert same(found.symbolic["flops"]["forward_per_token"], "574592 + 256*T - 786432/T")
