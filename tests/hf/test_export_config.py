"""Which class of transformers computes a graph: found whatever lines are called, refused with the difference."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from configs import PUBLISHED, SMALL, ZOO, hub, plain, saved, text_of

import dsvgraph
from dsvgraph.errors import DsvError
from dsvgraph.loader import bundled, parse
from dsvgraph_hf import config_of, export

transformers = pytest.importorskip("transformers")

LLAMA = text_of(plain("llama"))
V3 = text_of(plain("deepseek_v3", num_nextn_predict_layers=2))
OWN = {  # what a zoo's spec says otherwise than config.json, or not at all
    "deepseek_v3": {"initializer_range"},
    "deepseek_v2_lite": {"initializer_range"},
    "qwen3_30b_a3b": {"intermediate_size"},  # of no layer
    "llama3_8b": set(),
}
SPECS = Path(__file__).parents[1] / "specs"
LENGTH = "max_position_embeddings"
TOKENS = {"bos_token_id", "eos_token_id", "pad_token_id"}  # nobody's
STORED = {"dtype", "torch_dtype"}

RENAMED = """\
name: renamed
include: [blocks/gqa.yaml]
config: {wide: 40, theta: 10000}
blocks:
  everything:
    doc: A layer in one block, its sums written the other way round.
    args: {wide}
    in: {state: [B, T, 32]}
    body:
      first:  {rms_norm: state, at: input_layernorm}
      look:   {gqa: first, hidden_size: 32, num_attention_heads: 4, num_key_value_heads: 2, at: self_attn}
      middle: {add: [look, state]}
      second: {rms_norm: middle, at: post_attention_layernorm}
      up:     {linear: second, out: wide, at: mlp.up_proj}
      gate:   {linear: second, out: wide, at: mlp.gate_proj}
      open:   {silu: gate}
      both:   {mul: [up, open]}
      quiet:  {dropout: both, p: 0}
      down:   {linear: quiet, out: 32, at: mlp.down_proj}
      sum:    {add: [down, middle]}
    out: {state: sum}
graph:
  in: {tokens: "int[B, T]"}
  body:
    table: {embedding: tokens, num: 61, dim: 32, at: model.embed_tokens}
    zero:  {everything: table, at: model.layers, repeat: 1}
    rest:  {everything: zero, at: model.layers, repeat: 2}
    last:  {rms_norm: rest, at: model.norm}
    head:  {linear: last, out: 61, at: lm_head}
  out: {scores: head}
"""

CHANGES = {  # one change to a spec of ours, and how it is told
    "a norm": ("eps: rms_norm_eps, at", "eps: 0.5, at", "model.layers.[0-2].input_layernorm: eps"),
    "a path": ("at: model.norm", "at: model.final_norm", "there is no rms_norm at model.norm"),
    "a block": ("attn: gqa,", "attn: {gqa: , rope_theta: 7},", "rope_theta"),
    "half of the layers": ("attn: gqa,", "attn: [gqa, {gqa: , rope_theta: 7}],", "model.layers.1.self_attn.key: theta"),
    "an op": ("lm_head: {linear: norm, out: vocab_size}", "lm_head: {linear: norm, out: vocab_size, bias: true}",
              "lm_head.bias is added"),
    "a wire": ("{linear: norm, out", "{linear: layers, out", "lm_head is rewired: x norm -> x layers"),
    "dropout": ("norm:    {rms_norm: layers", "wet: {dropout: layers, p: 0.1}\n    norm:    {rms_norm: wet",
                "wet is added"),
}  # fmt: skip


def refused(model: dsvgraph.Model, **options: object) -> str:
    with pytest.raises(DsvError) as told:
        config_of(model, **options)
    (diagnostic,) = told.value.diagnostics
    return str(diagnostic)


# -- found --------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ZOO)
def test_the_zoo_s_configs_are_the_published_ones(name):
    published = json.loads((PUBLISHED / f"{name}.json").read_text())
    found = config_of(dsvgraph.load(name), "bfloat16")
    keys = (published.keys() & found.keys()) - TOKENS - OWN.get(name, set()) - {"rope_scaling"}
    keys -= set() if published.get("rope_scaling") else {LENGTH}
    assert {key: found[key] for key in keys} == {key: published[key] for key in keys}
    assert len(keys) >= 15
    wanted = {"rope_type" if k == "type" else k: v for k, v in (published.get("rope_scaling") or {}).items()}
    assert {key: (found.get("rope_scaling") or {}).get(key) for key in wanted} == wanted


@pytest.mark.parametrize("kind", SMALL)
def test_transformers_reads_what_it_would_have_written(kind, tmp_path):
    config = hub(kind, max_position_embeddings=77, initializer_range=0.3, tie_word_embeddings=True)
    export(dsvgraph.loads(text_of(saved(config))), tmp_path / "out", config_only=True)
    again = transformers.AutoConfig.from_pretrained(tmp_path / "out")
    assert type(again) is type(config)
    mine, theirs = (c.to_dict() for c in (again, config))
    others = {"transformers_version", "_name_or_path", "dtype", "max_window_layers", "num_mtp_layers"}
    unused = {"intermediate_size"} if kind == "qwen3_moe" else set()
    said = {key for key, value in theirs.items() if value is not None} - others - unused
    assert {key: mine[key] for key in said} == {key: theirs[key] for key in said}


def test_names_of_lines_and_blocks_do_not_count():
    found = config_of(dsvgraph.loads(RENAMED))
    assert found["architectures"] == ["LlamaForCausalLM"]
    wanted = plain("llama")
    assert {key: found[key] for key in wanted} == wanted
    assert "rope_scaling" not in found


def test_a_tied_head_and_the_kind_of_numbers_are_said():
    found = config_of(dsvgraph.loads(text_of(plain("llama", tie_word_embeddings=True))), "bfloat16")
    assert (found["tie_word_embeddings"], found["dtype"], found["torch_dtype"]) == (True, "bfloat16", "bfloat16")
    assert all(found[name] is None for name in TOKENS)


def test_old_readers_find_their_spelling():
    rope = {"type": "yarn", "factor": 4.0, "original_max_position_embeddings": 16}
    found = config_of(dsvgraph.loads(text_of(plain("llama", rope_theta=5e5, rope_scaling=rope))))
    assert found["rope_theta"] == 5e5
    assert found["rope_scaling"] == {"rope_type": "yarn", **{k: rope[k] for k in list(rope)[1:]}}
    assert found["rope_parameters"] == {"rope_theta": 5e5, "rope_type": "yarn", **{k: rope[k] for k in list(rope)[1:]}}


# -- refused ------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", CHANGES)
def test_a_graph_that_no_class_computes_is_refused_with_the_difference(name):
    before, after, words = CHANGES[name]
    assert before in LLAMA
    text = LLAMA.replace(before, after)
    if name == "a block":  # another base everywhere is another config, no other model
        assert config_of(dsvgraph.loads(text))["rope_theta"] == 7
        return
    told = refused(dsvgraph.loads(text))
    assert words in told
    assert "no class of transformers" in told


def test_the_nearest_class_is_named():
    told = refused(dsvgraph.load("deepseek_moe_16b"))
    assert "the nearest is Qwen3MoeForCausalLM" in told
    assert "model.layers.[1-27].mlp.shared_experts.** is added" in told
    assert "model.layers.[0-27].self_attn.q_norm.weight is missing" in told


def test_the_line_that_differs_is_shown():
    """Qwen2 has biases on three of the four matrices of attention: a Llama has them on all or on none."""
    text = text_of(plain("llama", attention_bias=True)).replace("include: [blocks/gqa.yaml, ", "include: [")
    block = (bundled() / "blocks/gqa.yaml").read_text().partition("  gqa_qk_norm:")[0].partition("blocks:\n")[2]
    own = "blocks:\n" + block.replace("out: hidden_size, bias: attention_bias", "out: hidden_size")
    told = refused(dsvgraph.loads(own + text)).splitlines()
    assert told[0].endswith("no class of transformers computes this graph; the nearest is LlamaForCausalLM")
    assert "o_proj: {linear: attn, contract: 2, out: hidden_size}" in told[3]
    assert told[4].endswith("------ model.layers.[0-2].self_attn.o_proj.bias is missing")
    assert len(told) == 5


def test_a_graph_that_is_nothing_like_them_is_refused():
    text = "graph: {in: {ids: 'int[B, T]'}, body: {e: {embedding: ids, num: 5, dim: 4}}, out: e}\n"
    told = refused(dsvgraph.loads(text))
    assert "LlamaForCausalLM: there is no model.embed_tokens.weight" in told


def test_the_released_chain_is_exported_and_no_other():
    assert config_of(dsvgraph.loads(V3))["num_nextn_predict_layers"] == 2
    for change in ({"mtp_layer:": "mtp_layer_paper:"}, {"h: norm": "h: sparse"}):
        text = V3
        for before, after in change.items():
            assert before in text
            text = text.replace(before, after)
        model = dsvgraph.loads(text)
        told = refused(model)
        assert "has the MTP chain of the released DeepSeek-V3 alone, not `mtp_logits`" in told
        assert "`--set num_nextn_predict_layers=0` or `--drop-mtp` leaves it out" in told
        assert config_of(model, drop_mtp=True)["num_nextn_predict_layers"] == 0


def test_without_depth_the_chain_is_not_there():
    model = dsvgraph.load("deepseek_v3_paper", {"num_nextn_predict_layers": 0})
    assert config_of(model)["num_nextn_predict_layers"] == 0


def test_heads_elsewhere_are_told():
    heads = dsvgraph.load(str(SPECS / "parallel_heads.yaml"))
    told = refused(heads)
    assert "transformers' LlamaForCausalLM has no output but its logits, not `further`" in told
    assert "model.heads.** is added" in told
    assert config_of(heads, drop_mtp=True)["architectures"] == ["LlamaForCausalLM"]


@pytest.mark.parametrize("name", ["mtp_paper", "mtp_sum", "eagle", "medusa", "parallel_heads"])
def test_what_only_trains_can_be_left_out(name):
    model = dsvgraph.load(f"variants/{name}")
    assert "not `mtp_logits`" in refused(model)
    found = config_of(model, drop_mtp=True)
    assert (found["architectures"], found["num_nextn_predict_layers"]) == (["DeepseekV3ForCausalLM"], 0)
    assert found["num_hidden_layers"] == model.config["num_hidden_layers"]


# -- the folder ---------------------------------------------------------------------------------


def test_a_folder_in_use_is_refused(tmp_path):
    model = dsvgraph.loads(LLAMA)
    (tmp_path / "a").write_text("")
    for path, words in ((tmp_path, "exists and is not empty"), (tmp_path / "a", "is a file, not a folder")):
        with pytest.raises(DsvError, match=words):
            export(model, path, config_only=True)


def test_nothing_is_left_where_weights_cannot_be_written(tmp_path):
    with pytest.raises(DsvError):
        export(dsvgraph.loads(LLAMA), tmp_path / "out", dtype="float32", max_shard_size="none")
    assert list(tmp_path.iterdir()) == []


MODELS = [
    path
    for path in sorted((SPECS.parents[1] / "specs").rglob("*.yaml"))
    if {"graph", "extends"} & parse(path.read_text(encoding="utf-8")).data.keys()
]


@pytest.mark.parametrize("path", MODELS, ids=lambda path: path.stem)
def test_every_bundled_spec_has_a_class_or_a_reason(path):
    try:
        assert config_of(dsvgraph.load(str(path)))["num_hidden_layers"] >= 1
    except DsvError as error:
        (told,) = error.diagnostics
        assert "transformers" in told.message
        assert told.notes
