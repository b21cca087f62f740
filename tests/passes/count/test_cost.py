"""Counts against published figures, hand-made matrices and brute-force expansion."""

from __future__ import annotations

import math
from fractions import Fraction

import pytest

import dsvgraph
from dsvgraph import DsvError
from dsvgraph.passes.count.cost import Cost, cost

SPECS = ["deepseek_v3", "deepseek_v3_paper", "deepseek_v3_tiny", "tutorial_mtp"]
TEST_SPECS = ["tests/specs/parallel_heads.yaml", "tests/specs/patterns.yaml"]

# Shapes of the released checkpoint (model.safetensors.index.json of deepseek-ai/DeepSeek-V3).
ATTENTION = [(1536, 7168), (1536,), (24576, 1536), (576, 7168), (512,), (32768, 512), (7168, 16384)]
NORMS = [(7168,), (7168,)]
DENSE = [(18432, 7168), (18432, 7168), (7168, 18432)]
EXPERT = [(2048, 7168), (2048, 7168), (7168, 2048)]
GATE, BIAS = [(256, 7168)], [(256,)]
TABLE, NORM = [(129280, 7168)], [(7168,)]
MTP = [(7168,), (7168,), (7168, 14336), (7168,)]  # enorm, hnorm, eh_proj, shared_head.norm


def numel(*shapes: list[tuple[int, ...]]) -> int:
    return sum(math.prod(shape) for group in shapes for shape in group)


@pytest.fixture(scope="module")
def v3() -> Cost:
    return cost(dsvgraph.load("deepseek_v3"))


def test_parameters_are_the_checkpoints(v3: Cost) -> None:
    moe = numel(GATE, BIAS, EXPERT) + 256 * numel(EXPERT)  # the shared expert is as wide as a routed one
    inference = 3 * numel(ATTENTION, NORMS, DENSE) + 58 * (numel(ATTENTION, NORMS) + moe) + numel(TABLE, NORM, TABLE)
    depth = numel(MTP, ATTENTION, NORMS) + moe
    assert numel(ATTENTION) == 187_107_328
    assert v3.parameters.inference == inference == 671_026_419_200
    assert v3.parameters.total - v3.parameters.inference == depth == 11_610_068_224
    assert v3.parameters.untrained == 59 * 256
    assert v3.parameters.selection_biases == 58 * 256 == 14_848


def test_active_parameters(v3: Cost) -> None:
    routed = 58 * 9 * numel(EXPERT)  # eight routed experts and the shared one
    inference = 61 * numel(ATTENTION, NORMS) + 3 * numel(DENSE) + 58 * numel(GATE, BIAS) + routed + numel(TABLE, NORM)
    assert v3.parameters.active_without_embedding == inference
    assert v3.parameters.active == inference + numel(TABLE)
    assert round(inference / 1e9, 2) == 36.63  # README_WEIGHTS.md: 36.6B with the head alone
    assert v3.parameters.active_without_embedding_and_head == inference - numel(TABLE)
    depth = numel(MTP, ATTENTION, NORMS, GATE, BIAS) + 9 * numel(EXPERT)
    assert v3.parameters.active_all_outputs - v3.parameters.active == depth
    assert v3.parameters.routers == 58 * numel(GATE, BIAS)


def test_active_parameters_of_the_mtp_module(v3: Cost) -> None:
    """README_WEIGHTS.md says 11.5B in all, and 1.5B or 2.4B active: its layer, with the head, with both tables."""
    (module, layer), table = [r for r in v3.blocks if r.path == "model.layers.[61]"], numel(TABLE)
    assert round(module.parameters / 1e9, 3) == 11.610
    active = [module.active, module.active + table, module.active + 2 * table]
    assert [round(n / 1e9, 3) for n in active] == [0.688, 1.615, 2.541]
    assert round(layer.parameters / 1e9, 3) == 11.507
    assert [round((layer.active + n * table) / 1e9, 3) for n in (1, 2)] == [1.512, 2.439]


def test_backward_leaves_out_what_needs_no_gradient() -> None:
    """By hand: a first layer behind a float input, and one behind `detach`, have one backward product each."""
    text = """
graph:
  in: {x: [B, T, 8]}
  body:
    a:    {linear: x, out: 16}
    b:    {linear: a, out: 4}
    held: {detach: b}
    c:    {linear: held, out: 2}
  out: {b: b, c: c}
"""
    found = cost(dsvgraph.loads(text), seq=10).flops
    assert found.forward == 10 * 2 * (8 * 16 + 16 * 4 + 4 * 2)
    assert found.backward == 10 * 2 * (8 * 16 + 2 * 16 * 4 + 4 * 2)
    assert found.train == found.forward + found.backward
    frozen = cost(dsvgraph.loads(text + 'trained: {"a.weight": false, "b.weight": false}'), seq=10)
    assert frozen.flops.backward == 10 * 2 * 4 * 2
    assert "train" not in frozen.symbolic["flops"]


def test_recomputation_is_the_forward_once_more() -> None:
    model = dsvgraph.load("deepseek_v3")
    plain, again = cost(model).flops, cost(model, recompute="full").flops
    assert again.train == plain.train + plain.forward
    assert again.train_per_token == plain.train_per_token + plain.forward_per_token
    assert again.recompute == "full"


def test_cache(v3: Cost) -> None:
    assert v3.kv_cache.elements_per_token == 35_136
    assert v3.kv_cache.bytes_per_token == 70_272  # arXiv 2505.09343, table 1: 70.272 KB
    assert v3.kv_cache.elements_per_token_all_outputs == 62 * 576  # drafting keeps one layer more


def test_flops_of_a_trained_token(v3: Cost) -> None:
    """arXiv 2505.09343, table 2 says 250 GFLOPs; its throughput gives 249.7 causal and 280.2 full."""
    main = 3 * v3.flops.inference_forward_per_token
    assert round(main / 1e9, 2) == 250.46
    assert round((v3.flops.train_per_token - main) / 1e9, 2) == 10.19
    full = cost(dsvgraph.load("deepseek_v3", {"num_nextn_predict_layers": 0}), attention="full")
    assert round(full.flops.train_per_token / 1e9, 2) == 281.16
    assert full.flops.train == full.flops.train_per_token * 4096


def test_flops_to_the_unit(v3: Cost) -> None:
    """The 6N rule by hand, N without the embedding and the biases, and half of the square of attention."""
    weights = v3.parameters.active_without_embedding - v3.parameters.selection_biases
    attention = 3 * 61 * 128 * (192 + 128) * 4096
    assert 3 * v3.flops.inference_forward_per_token == 6 * weights + attention
    moe = 9 * numel(EXPERT) + numel(GATE)
    depth = 6 * (numel(MTP, ATTENTION, NORMS) + moe + numel(TABLE)) + attention // 61
    assert v3.flops.train_per_token - 3 * v3.flops.inference_forward_per_token == depth


def test_flops_against_megatrons_formula(v3: Cost) -> None:
    """num_floating_point_operations by hand: it leaves out routers and the gains of layers' norms."""
    d, heads, dq, value, rope = 7168, 128, 192, 128, 64
    mla = 1536 * (d + heads * dq + 1) + 512 * (d + heads * (128 + value) + 1) + d * rope + heads * value * d
    core = heads * (dq + value) * 4096 // 2
    experts, head = 3 * d * 2048 * (8 + 1), 129280 * d
    megatron = 6 * (61 * (mla + core) + 3 * 3 * d * 18432 + 58 * experts + head)
    depth = 6 * (mla + core + experts + 3 * d + 2 * d * d + head)
    routers, gains = 6 * 58 * 256 * d, 6 * (61 * 2 * d + d)
    main = 3 * v3.flops.inference_forward_per_token
    assert main - megatron == routers + gains
    assert v3.flops.train_per_token - main - depth == 6 * 256 * d + 6 * 2 * d


def test_flops_by_op_are_whole(v3: Cost) -> None:
    assert sum(v3.flops.by_op.values()) == v3.flops.forward
    assert {"linear", "router", "attention", "rms_norm"} == v3.flops.by_op.keys()


@pytest.mark.parametrize("name", [*SPECS, *TEST_SPECS])
def test_rows_add_up(name: str) -> None:
    found = cost(dsvgraph.load(name), batch=2, seq=64)
    first = [row for row in found.blocks if row.depth == 0]
    assert sum(row.parameters for row in first) == found.parameters.total
    assert sum(row.parameters for row in first if row.inference) == found.parameters.inference
    assert sum(row.flops for row in first) == found.flops.forward


@pytest.mark.parametrize("name", [*SPECS, *TEST_SPECS])
def test_batches_cost_alike(name: str) -> None:
    model = dsvgraph.load(name)
    one, four = cost(model, 1, 256), cost(model, 4, 256)
    assert four.flops.forward == 4 * one.flops.forward
    assert four.flops.train_per_token == one.flops.train_per_token == 3 * one.flops.forward_per_token
    assert four.kv_cache == one.kv_cache


def test_head_is_counted_where_it_is_used() -> None:
    """A table shared by 1 + D uses costs once in memory and 1 + D times in compute."""
    one, two = (cost(dsvgraph.load("tutorial_mtp", {"num_nextn_predict_layers": d})) for d in (1, 2))
    head = 2 * 256 * 50257
    assert two.parameters.total - one.parameters.total == 2_794_884
    assert two.flops.forward_per_token - one.flops.forward_per_token > head


def test_tied_table_counts_once_as_head() -> None:
    found = cost(dsvgraph.load("tutorial_mtp"))
    assert found.parameters.active == found.parameters.active_without_embedding
    table = found.parameters.active - found.parameters.active_without_embedding_and_head
    assert table == 50257 * 256
    assert found.parameters.inference < 2 * 50257 * 256 + 6 * 2_663_044


PLAIN = """
graph:
  in: {ids: "int[B, T]"}
  body:
    embed: {embedding: ids, num: 100, dim: 8}
    a:     {linear: embed, out: 8}
    b:     {linear: embed, out: 8}
    head:  {linear: a, out: 100, weight: embed.weight}
    other: {linear: b, out: 100}
  out: {logits: head, others: other}
"""


def test_inference_is_what_the_first_output_depends_on() -> None:
    found = cost(dsvgraph.loads(PLAIN), seq=10)
    assert found.parameters.total == 800 + 64 + 64 + 800
    assert found.parameters.inference == 800 + 64
    assert found.flops.inference_forward == 10 * 2 * (64 + 800)
    assert found.flops.forward == 10 * 2 * (64 + 64 + 800 + 800)


def test_reading_a_weight_is_no_work() -> None:
    """A line that inference needs for its weight alone costs memory and no FLOPs."""
    text = PLAIN.replace("{linear: a, out: 100, weight: embed.weight}", "{linear: embed, out: 8, weight: a.weight}")
    found = cost(dsvgraph.loads(text), seq=10)
    assert found.parameters.inference == 800 + 64
    assert found.flops.inference_forward == 10 * 2 * 64


CARRIED = """
blocks:
  step:
    in: {x: [B, T, d], side: [B, T, d]}
    body:
      p: {linear: x, out: d}
      q: {linear: side, out: d}
      s: {add: [p, side]}
    out: {x: s, side: q}
graph:
  in: {ids: "int[B, T]"}
  body:
    embed: {embedding: ids, num: 10, dim: 4}
    steps: {step: {x: embed, side: embed}, repeat: COUNT}
    head:  {linear: steps.x, out: 10}
  out: {logits: head}
"""


@pytest.mark.parametrize(("count", "work"), [(1, 16 + 40), (3, 3 * 32 + 40)])
def test_carried_ports_keep_what_the_next_copy_needs(count: int, work: int) -> None:
    found = cost(dsvgraph.loads(CARRIED.replace("COUNT", str(count))), seq=1)
    assert found.flops.inference_forward == 2 * work
    assert found.parameters.total == 40 + 32 * count + 40


def test_window_costs_no_more_than_the_whole_row() -> None:
    """Pairs of a causal window W over T: each position sees at most W, half a square at the start."""
    model = dsvgraph.load("tests/specs/patterns.yaml")
    for seq in (8, 32, 33, 500):
        pairs = sum(Fraction(2 * min(i, 32) + 1, 2) for i in range(seq)) - Fraction(min(seq, 32), 2) * (seq > 32)
        window = Fraction(seq * seq, 2) if seq <= 32 else seq * 32 - Fraction(32 * 32, 2)
        assert abs(window - pairs) <= seq
        attention = cost(model, 1, seq).flops.by_op["attention"]
        assert attention == 2 * 4 * (16 + 16) * (6 * window + 2 * Fraction(seq * seq, 2))


def test_trained_patterns_are_counted_by_number() -> None:
    text = dsvgraph.show(dsvgraph.load("deepseek_v3_tiny"))
    frozen = text + '\ntrained:\n  "model.layers.2.**": false\n  "model.layers.2.input_layernorm.weight": true\n'
    model = dsvgraph.loads(frozen)
    layer = next(row for row in cost(model).blocks if row.path == "model.layers.[1-3]")
    gates = 5 * 16  # selection biases of the five layers with experts; the frozen one has one of them
    assert cost(model).parameters.untrained == layer.parameters // 3 - 128 + gates - 16


def test_symbolic_model_is_counted_in_numbers() -> None:
    model = dsvgraph.load("deepseek_v3", symbolic=["num_nextn_predict_layers", "num_hidden_layers"])
    assert cost(model).parameters == cost(dsvgraph.load("deepseek_v3")).parameters


def test_input_without_positions_is_told() -> None:
    with pytest.raises(DsvError, match="no input has rows and positions"):
        cost(dsvgraph.loads("graph: {in: {x: [B]}, body: {y: {silu: x}}, out: y}"))


def test_as_dict_is_plain(v3: Cost) -> None:
    found = v3.as_dict()
    assert found.keys() == {"name", "batch", "seq", "parameters", "flops", "kv_cache", "symbolic", "blocks"}
    assert found["flops"]["attention"] == "causal"
    assert found["blocks"][0]["path"] == "model.embed_tokens"
    assert all(isinstance(v, int) for v in found["parameters"].values())


def test_golden(golden: object, v3: Cost) -> None:
    lines = [f"{s} {n} {v}" for s in ("parameters", "flops", "kv_cache") for n, v in vars(getattr(v3, s)).items()]
    lines += [
        f"{r.path} {r.line}={r.block} x{r.copies} {r.parameters} active {r.active} flops {r.flops}" for r in v3.blocks
    ]
    golden("cost/deepseek_v3.txt", "\n".join(lines))  # type: ignore[operator]
