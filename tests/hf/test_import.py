"""Import: published configs are the zoo, both spellings are read, nothing is ignored, every mistake is told."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from importlib.metadata import entry_points
from pathlib import Path

import pytest
from configs import FAMILIES, NAMES, PUBLISHED, SMALL, ZOO, hub, model_of, plain, saved, text_of, without_comments
from typer.testing import CliRunner

import dsvgraph
from dsvgraph.cli import app
from dsvgraph.errors import DsvError
from dsvgraph.graph.signature import signature
from dsvgraph.passes.lint.unused import lint
from dsvgraph.passes.text.layout import layout
from dsvgraph_hf import spec_of
from dsvgraph_hf.config import config_file
from dsvgraph_hf.families import GROUP, architecture, families
from dsvgraph_hf.importer import to_text

PACKAGED = {point.name for point in entry_points(group=GROUP)}
YARN = {"factor": 4.0, "original_max_position_embeddings": 16, "beta_fast": 32, "beta_slow": 1}


def graph(model: dsvgraph.Model) -> list[str]:
    """The signature of a model, loss and initialisation apart, its ropes in one spelling."""
    lines = [line for line in signature(model).splitlines() if not line.startswith(("loss", "init"))]
    return [re.sub(r"scaling: \{([^}]*)\}", _scaling, line) for line in lines]


def _scaling(found: re.Match[str]) -> str:
    pairs = dict(pair.split(": ") for pair in found[1].split(", ")) if found[1] else {}
    pairs["type"] = pairs.pop("rope_type", pairs.get("type", "default"))
    return str(sorted((name, value.removesuffix(".0")) for name, value in pairs.items()))


# -- what is read -------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ZOO)
def test_a_published_config_is_the_zoo_s_spec(name):
    model = dsvgraph.loads(spec_of(PUBLISHED / f"{name}.json"))
    assert graph(model) == graph(dsvgraph.load(name))


@pytest.mark.parametrize("name", NAMES)
def test_a_spec_reads_as_if_a_person_had_written_it(name, golden):
    text = spec_of(PUBLISHED / f"{name}.json")
    golden(f"import/{name}.yaml", text)
    assert layout(text) == text
    assert not lint(dsvgraph.loads(text))


SPELLINGS = {
    "rope_parameters": (
        "llama",
        dict(rope_theta=500000.0, rope_scaling={"type": "yarn", **YARN}),
        dict(rope_parameters={"rope_type": "yarn", "rope_theta": 500000.0, **YARN}),
    ),
    "rope_type": (
        "qwen3",
        dict(rope_scaling={"type": "linear", "factor": 2.0}),
        dict(rope_scaling={"rope_type": "linear", "factor": 2.0}),
    ),
    "both places agree": (
        "llama",
        dict(rope_theta=5e5, rope_scaling={"rope_type": "linear", "factor": 2}),
        dict(
            rope_theta=5e5,
            rope_scaling={"type": "linear", "factor": 2},
            rope_parameters={"rope_type": "linear", "factor": 2, "rope_theta": 5e5},
        ),
    ),
    "num_mtp_layers": ("deepseek_v3", dict(num_nextn_predict_layers=2), dict(num_mtp_layers=2)),
    "n_routed_experts": (
        "deepseek_v3", dict(n_routed_experts=16), dict(n_routed_experts=16, num_local_experts=16)
    ),
    "num_experts": ("mixtral", dict(num_local_experts=6), dict(num_local_experts=6, num_experts=6)),
    "dtype": ("llama", dict(torch_dtype="bfloat16"), dict(dtype="bfloat16")),
    "null is nothing": ("llama", dict(rope_scaling=None, head_dim=None, num_key_value_heads=2), {}),
    "swish is silu": ("llama", dict(hidden_act="swish"), dict(hidden_act="silu")),
}  # fmt: skip


@pytest.mark.parametrize("name", SPELLINGS)
def test_old_and_new_spellings_mean_the_same(name):
    kind, old, new = SPELLINGS[name]
    one, other = (without_comments(text_of(plain(kind, **changes))) for changes in (old, new))
    assert one == other
    if name not in ("dtype", "null is nothing", "swish is silu"):
        assert one != without_comments(text_of(plain(kind)))


@pytest.mark.parametrize("kind", SMALL)
def test_what_is_missing_is_transformers_default(kind):
    """A config of sizes alone, and the same as transformers' class fills it up."""
    given = {k: v for k, v in plain(kind).items() if k != "layer_types"}
    whole = saved(hub(kind)) | {"model_type": kind}
    assert without_comments(text_of(given)) == without_comments(text_of(whole))


def test_an_empty_rope_is_the_plain_one_and_no_rope_the_family_s():
    assert "rope_scaling" not in text_of(plain("gpt_oss", rope_parameters={}))
    for place in ("rope_parameters", "rope_scaling"):
        assert "rope_scaling: {type: yarn, factor: 32.0" in text_of(plain("gpt_oss", **{place: None}))


def test_what_a_default_is_stands_in_a_comment():
    text = text_of({k: v for k, v in plain("qwen3_moe").items() if k != "num_key_value_heads"})
    assert "num_key_value_heads: 4                   # not in config.json: transformers' default" in text


def test_the_architecture_tells_the_family_where_model_type_is_missing():
    given = {k: v for k, v in plain("llama").items() if k != "model_type"}
    assert text_of({**given, "architectures": ["LlamaForCausalLM"]}) == text_of(plain("llama"))


def test_patterns_of_layers_are_one_line():
    kinds = ["sliding_attention", "full_attention"] * 3
    text = text_of(plain("gpt_oss", num_hidden_layers=6, layer_types=kinds))
    assert "layer_types: [sliding_attention, full_attention]" in text
    text = text_of(plain("qwen3_moe", num_hidden_layers=30, mlp_only_layers=[0, 3, 4, 5]))
    assert "ffn: mlp if index == 0 or (index >= 3 and index <= 5) else moe_routed" in text
    text = text_of(plain("qwen3", num_hidden_layers=9, use_sliding_window=True, sliding_window=4, max_window_layers=5))
    assert "attn: gqa_qk_norm_sliding if index >= 5 else gqa_qk_norm" in text
    assert "# max_window_layers" in text
    text = text_of(plain("deepseek_v3", num_hidden_layers=9, moe_layer_freq=2))
    assert "ffn: moe if index >= 1 and index % 2 == 0 else mlp" in text


# -- what is refused ----------------------------------------------------------------------------

REFUSED = {
    "model_type": ("llama", dict(model_type="bert"), "`model_type: bert` is none of the families that are read"),
    "another model_type's class": (
        "deepseek_v3", dict(model_type="kimi_k2", architectures=["KimiK25ForConditionalGeneration"]),
        "`model_type: kimi_k2` is read where `architectures` is [DeepseekV3ForCausalLM]",
    ),
    "another model_type's class missing": ("deepseek_v3", dict(model_type="kimi_k2"), "is read where `architectures`"),
    "architectures": ("llama", dict(architectures=["MistralForCausalLM"]), "names MistralForCausalLM"),
    "architectures kind": ("llama", dict(architectures="x"), "`architectures` is a list of names"),
    "hidden_size": ("llama", dict(hidden_size=...), "`hidden_size` is missing"),
    "num_hidden_layers": ("gpt_oss", dict(num_hidden_layers=...), "`num_hidden_layers` is missing"),
    "vocab_size": ("deepseek_v3", dict(vocab_size=...), "`vocab_size` is missing"),
    "num_experts_per_tok": ("deepseek_v2", dict(num_experts_per_tok=...), "`num_experts_per_tok` is missing"),
    "text for number": ("llama", dict(hidden_size="32"), "`hidden_size` is a whole number, found `\"32\"`"),
    "number for bool": ("llama", dict(tie_word_embeddings=1), "`tie_word_embeddings` is true or false"),
    "share of a layer": ("llama", dict(num_hidden_layers=2.5), "`num_hidden_layers` is a whole number"),
    "no layers": ("llama", dict(num_hidden_layers=0), "`num_hidden_layers` is a number of at least 1"),
    "null": ("llama", dict(vocab_size=None), "`vocab_size` is a whole number, found `null`"),
    "text for a fraction": ("llama", dict(rms_norm_eps="x"), "`rms_norm_eps` is a number, found `\"x\"`"),
    "truth for a fraction": ("llama", dict(initializer_range=True), "`initializer_range` is a number, found `true`"),
    "many layers": ("deepseek_v2", dict(num_hidden_layers=10**9), "is a number of at most 10000"),
    "many modules": ("deepseek_v3", dict(num_mtp_layers=10**9), "`num_mtp_layers` is a number of at most 1000"),
    "part of a rope": ("llama", dict(partial_rotary_factor=0.5), "`partial_rotary_factor: 0.5` would change the model"),
    "eps": ("llama", dict(rms_norm_eps=0), "`rms_norm_eps` is a number above 0"),
    "alias": ("deepseek_v3", dict(num_mtp_layers=-1), "`num_mtp_layers` is a number of at least 0"),
    "list": ("qwen3_moe", dict(mlp_only_layers=3), "`mlp_only_layers` is a list"),
    "two names": ("deepseek_v3", dict(num_local_experts=9), "`num_local_experts` is 9"),
    "groups of experts": ("deepseek_v3", dict(n_group=3, topk_group=2), "a multiple of `n_group`: 8 and 3"),
    "open groups": ("deepseek_v3", dict(topk_group=5), "`topk_group` is at most `n_group`: 5 and 4"),
    "open experts": ("deepseek_v3", dict(num_experts_per_tok=5, topk_group=2), "4 of `n_routed_experts` are open"),
    "single experts": ("deepseek_v3", dict(n_group=8, num_experts_per_tok=2), "leaves two or more in each"),
    "chosen experts": ("mixtral", dict(num_experts_per_tok=5), "at most `num_local_experts`: 5 and 4"),
    "heads": ("llama", dict(num_key_value_heads=3), "must divide `num_attention_heads`: 3 and 4"),
    "latent heads": ("deepseek_v3", dict(num_key_value_heads=1), "`num_key_value_heads` must be num_attention_heads"),
    "odd head": ("qwen3", dict(head_dim=7), "`head_dim` must be even"),
    "odd rope": ("deepseek_v2", dict(qk_rope_head_dim=3), "`qk_rope_head_dim` must be even"),
    "derived": ("deepseek_v3", dict(qk_head_dim=192), "must be qk_nope_head_dim + qk_rope_head_dim: 192 and 12"),
    "width": ("llama", dict(hidden_size=30), "no multiple of `num_attention_heads`: 30 and 4"),
    "layer_types length": ("gpt_oss", dict(layer_types=["full_attention"]), "as many as `num_hidden_layers`: 1 and 3"),
    "layer_types kind": ("gpt_oss", dict(layer_types=["linear"] * 3), "found `linear`"),
    "window missing": (
        "qwen3", dict(layer_types=["sliding_attention"] * 3, use_sliding_window=True, sliding_window=None),
        "`sliding_window` is missing",
    ),
    "window off": ("qwen3", dict(layer_types=["sliding_attention"] * 3), "`use_sliding_window` is false"),
    "layer beyond": ("qwen3_moe", dict(mlp_only_layers=[7]), "names layer 7, and there are 3"),
    "groups missing": ("deepseek_v2", dict(topk_method="group_limited_greedy"), "`n_group` is missing"),
    "two ropes": (
        "llama",
        dict(rope_scaling={"type": "linear", "factor": 2}, rope_parameters={"rope_type": "linear", "factor": 3}),
        "`rope_scaling` and `rope_parameters` disagree",
    ),
    "two thetas": ("llama", dict(rope_theta=1e4, rope_parameters={"rope_theta": 1e5}), "`rope_theta` is 10000.0"),
    "two kinds": ("llama", dict(rope_scaling={"type": "linear", "rope_type": "yarn", "factor": 2}), "rope_type `yarn`"),
    "rope kind": ("llama", dict(rope_scaling={"type": "dynamic", "factor": 2}), "found `dynamic`"),
    "rope key": ("llama", dict(rope_scaling={"type": "yarn", **YARN, "beta": 1}), "`rope_scaling.beta` has no meaning"),
    "rope factor": ("llama", dict(rope_scaling={"type": "yarn"}), "`rope_scaling.factor` is missing"),
    "rope number": ("llama", dict(rope_scaling={"type": "linear", "factor": "2"}), "`rope_scaling.factor` is a number"),
    "rope mapping": ("llama", dict(rope_scaling="linear"), "`rope_scaling` is a mapping"),
    "rope theta": ("llama", dict(rope_theta=-1), "`rope_theta` is a number above 0"),
    "llama3's bounds": (
        "llama", dict(rope_scaling={"type": "llama3", "factor": 8, "low_freq_factor": 4, "high_freq_factor": 1}),
        "must be below `high_freq_factor`",
    ),
    "partial rope": ("llama", dict(rope_parameters={"partial_rotary_factor": 0.5}), "partial_rotary_factor"),
    "by layer": ("gpt_oss", dict(rope_parameters={"full_attention": {"rope_theta": 1}}), "full_attention"),
    "hidden_act": ("llama", dict(hidden_act="gelu_new"), "`hidden_act` is `silu`, `swish`, `gelu` or `relu`"),
    "pretraining_tp": ("llama", dict(pretraining_tp=2), "`pretraining_tp: 2` would change the model"),
    "jitter": ("mixtral", dict(router_jitter_noise=0.1), "`router_jitter_noise: 0.1` would change the model"),
    "scoring_func": ("deepseek_v3", dict(scoring_func="softmax"), "`scoring_func: softmax` would change the model"),
    "topk_method": ("deepseek_v3", dict(topk_method="greedy"), "`topk_method: greedy` would change the model"),
    "topk_method of V2": ("deepseek_v2", dict(topk_method="noaux_tc"), "`topk_method` is `greedy` or"),
    "renormalised": ("deepseek_v2", dict(norm_topk_prob=True), "`norm_topk_prob: true` would change the model"),
    "biased experts": ("deepseek_v2", dict(mlp_bias=True), "`mlp_bias: true` would change the model"),
    "by layers": ("llama", dict(per_layer_config={"0": {}}), "`per_layer_config: {\"0\": {}}` would change the model"),
    "quantised": ("llama", dict(quantization_config={"quant_method": "gptq"}), "`quantization_config.quant_method` is"),
    "quantised by a word": ("llama", dict(quantization_config="fp8"), "`quantization_config` is a mapping"),
    "experts by two names": (
        "qwen3_moe", dict(num_local_experts=5), "`num_local_experts` is 5, and `num_experts`, which means the same, is"
    ),
    "many digits": ("llama", dict(vocab_size=10**50), "`vocab_size`: a number has at most 40 digits"),
    "more digits": ("llama", dict(rope_theta=10**4200), "`rope_theta`: a number has at most 40 digits"),
    "in a list": ("qwen3_moe", dict(mlp_only_layers=[10**50]), "a number has at most 40 digits"),
    "a long name": ("llama", dict(model_type="x" * 10**5), f"`model_type: {'x' * 57}...` is none of the families"),
    "unknown": ("llama", dict(mystery=1), "`mystery` is no attribute that is known"),
    "misspelt": ("llama", dict(rms_norm_epsilon=1e-5), "did you mean `rms_norm_eps`?"),
    "another family's": ("llama", dict(sliding_window=128), "`sliding_window: 128` is of another family: no class of"),
    "another family's norms": ("llama", dict(use_qk_norm=True), "`use_qk_norm: true` is of another family"),
    "norms left out": ("qwen3", dict(use_qk_norm=False), "`use_qk_norm: false` is of another family"),
    "another family's chain": ("llama", dict(num_nextn_predict_layers=1), "`num_nextn_predict_layers: 1` is of"),
    "windows off": (
        "mixtral", dict(use_sliding_window=False, sliding_window=8), "`use_sliding_window` is false, and every layer"
    ),
    "windows off of some": ("gpt_oss", dict(use_sliding_window=False), "`use_sliding_window` is false, and layers"),
    "layer_types of a family without": (
        "llama", dict(layer_types=["sliding_attention"] * 3),
        "`layer_types` is not read by this family, whose layers are 3 times full_attention",
    ),
    "layer_types against the window": (
        "mixtral", dict(layer_types=["full_attention"] * 3, sliding_window=8), "whose layers are 3 times sliding_att",
    ),
    "layer_types against no window": (
        "qwen3_moe", dict(layer_types=["sliding_attention"] * 3), "whose layers are 3 times full_attention",
    ),
    "item of a list": ("qwen3", dict(layer_types=[1, 2, 3]), "`layer_types[2]` is a text, found `3`"),
}  # fmt: skip


def changed(kind: str, changes: dict) -> dict:
    return {k: v for k, v in plain(kind, **changes).items() if v is not ...}


@pytest.mark.parametrize("name", REFUSED)
def test_a_wrong_config_is_told(name, tmp_path):
    kind, changes, words = REFUSED[name]
    data = changed(kind, changes)
    file = tmp_path / "config.json"
    file.write_text(json.dumps(data, indent=2))
    with pytest.raises(DsvError) as told:
        spec_of(tmp_path)
    first = told.value.diagnostics[0]
    assert words in f"{first.message} {first.hint}"
    assert "\n" not in first.message
    if ... not in changes.values():
        assert first.span is not None
        assert first.span.source.name.endswith("config.json")


VALUES = [None, True, 0, 1, -1, 2.5, 1e30, "", "x", [], [None], [1, "x"], [[]], {}, {"a": 1}, {"a": None}, "x" * 300]


@pytest.mark.parametrize("kind", FAMILIES)
def test_every_field_of_every_kind_is_told_in_plain_words(kind):
    fields = families()[kind].Config.model_fields
    raw = re.compile(
        r"[Ii]nput should|[Vv]alue error|not permitted|pydantic|instance of|valid (\w+ )?(string|integer|number)"
    )
    found = []
    for name in fields:
        for value in VALUES if name != "rope" else ():
            try:
                text_of(plain(kind, **{name: value}))
            except DsvError as error:
                found.append(str(error))
    assert len(found) > 5 * len(fields)
    assert not [text for text in found if raw.search(text)]


TEXTS = {
    "not JSON": ("{'a': 1}", "this is not JSON: Expecting property name"),
    "YAML": ("model_type: llama", "this is not JSON"),
    "cut off": ('{"model_type": "llama"', "this is not JSON"),
    "a list": ("[1]", "a config is a JSON object"),
    "twice": ('{"model_type": "llama", "model_type": "llama"}', "is given twice"),
    "no number": ('{"model_type": NaN}', "`NaN` is no number"),
    "empty": ("{}", "`model_type` is missing"),
    "nested": ("[" * 100_000, "nest too deep"),
}


@pytest.mark.parametrize("kind", ["qwen2", "mistral", "lama", "llama4", "deepseek", "deepseek_v4", "gpt2"])
@pytest.mark.parametrize("key", ["model_type", "architectures"])
def test_no_family_is_guessed_by_spelling(kind, key):
    """A name that looks alike is another model: what is told is how to do without a family."""
    with pytest.raises(DsvError) as told:
        text_of(plain("llama", **{key: kind} if key == "model_type" else {"model_type": None, key: [kind]}))
    (found,) = told.value.diagnostics
    assert "did you mean" not in found.hint
    assert "--weights" in found.hint and "docs/huggingface.md" in found.hint


def test_a_missing_field_is_no_other_that_is_there():
    with pytest.raises(DsvError) as told:
        text_of({k: v for k, v in plain("deepseek_v2").items() if k != "num_experts_per_tok"} | {"num_experts": 8})
    (found,) = told.value.diagnostics
    assert (found.message, found.hint) == ("`num_experts_per_tok` is missing", "")


def test_another_name_of_a_family_gives_its_graph():
    """Kimi K2's published attributes, small; its model card: DeepSeek-V3's class, called otherwise."""
    yarn = dict(
        type="yarn", factor=32.0, beta_fast=1.0, beta_slow=1.0, mscale=1.0, mscale_all_dim=1.0,
        original_max_position_embeddings=4096,
    )  # fmt: skip
    kimi = dict(
        architectures=["DeepseekV3ForCausalLM"], attention_bias=False, attention_dropout=0.0, aux_loss_alpha=0.001,
        auto_map={"AutoConfig": "configuration_deepseek.DeepseekV3Config"}, bos_token_id=163584, eos_token_id=163585,
        first_k_dense_replace=1, hidden_act="silu", initializer_range=0.02, max_position_embeddings=131072,
        moe_layer_freq=1, n_group=1, n_shared_experts=1, norm_topk_prob=True, num_nextn_predict_layers=0,
        pretraining_tp=1, rms_norm_eps=1e-06, rope_scaling=yarn, rope_theta=50000.0, routed_scaling_factor=2.827,
        scoring_func="sigmoid", seq_aux=True, tie_word_embeddings=False, topk_group=1, topk_method="noaux_tc",
        torch_dtype="bfloat16", transformers_version="4.48.3", use_cache=True,
    )  # fmt: skip
    one, other = (text_of(plain("deepseek_v3", **kimi, model_type=name)) for name in ("kimi_k2", "deepseek_v3"))
    assert one.startswith("# model_type: kimi_k2, another name of deepseek_v3. ")
    assert without_comments(one) == without_comments(other)


@pytest.mark.parametrize("name", TEXTS)
def test_what_is_no_config_is_told(name, tmp_path):
    text, words = TEXTS[name]
    (tmp_path / "config.json").write_text(text)
    with pytest.raises(DsvError, match=re.escape(words)):
        spec_of(tmp_path)


def test_where_a_mistake_stands():
    text = '{\n  "model_type": "llama",\n  "hidden_size": "32"\n}'
    with pytest.raises(DsvError) as told:
        to_text(config_file.parse(text))
    spans = [str(d.span) for d in told.value.diagnostics if "hidden_size" in d.message]
    assert spans == ["config.json:3:18"]


# -- the command --------------------------------------------------------------------------------


def test_the_command_prints_or_writes(tmp_path):
    path = PUBLISHED / "llama3_8b.json"
    printed = CliRunner().invoke(app, ["import", str(path)])
    assert (printed.exit_code, printed.output) == (0, spec_of(path))
    written = CliRunner().invoke(app, ["import", str(path), "-o", str(tmp_path / "a.yaml")])
    assert written.exit_code == 0
    assert (tmp_path / "a.yaml").read_text() == printed.output
    assert dsvgraph.load(str(tmp_path / "a.yaml")).name == "llama3_8b"


def test_the_name_is_the_folder_s(tmp_path):
    places = ["Tiny-1B", "models--org--Tiny-1B/snapshots/" + "0a" * 20]
    for place in places:
        (tmp_path / place).mkdir(parents=True)
        (tmp_path / place / "config.json").write_text(json.dumps(plain("llama")))
        assert "name: Tiny-1B\n" in spec_of(tmp_path / place)


@pytest.mark.parametrize("name", ["true", "1e5", "a: b", "a #b", "ünder", "x" * 150, "'", '"{', "- a", "a b "])
def test_any_name_of_a_folder_is_a_name(name, tmp_path):
    folder = tmp_path / name
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps(plain("llama")))
    assert dsvgraph.loads(spec_of(folder)).name == name.strip()[:100]


@pytest.mark.parametrize("path", ["nowhere", "."])
def test_a_folder_without_a_config_is_an_error(path, tmp_path):
    code = f"import sys; sys.argv = ['dsvgraph', 'import', {path!r}]; from dsvgraph.cli import main; main()"
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 1
    assert done.stderr.startswith("error: there is no")
    assert len(done.stderr.splitlines()) == 1


def test_an_import_needs_neither_torch_nor_transformers():
    code = (
        "import sys, dsvgraph, dsvgraph_hf\n"
        f"model = dsvgraph.loads(dsvgraph_hf.spec_of({str(PUBLISHED / 'deepseek_v3.json')!r}))\n"
        "dsvgraph_hf.config_of(model)\n"
        "print(*{'torch', 'transformers', 'numpy', 'safetensors'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=Path.cwd())
    assert done.stdout.split() == []


def test_every_family_has_a_published_config():
    kinds = {json.loads((PUBLISHED / f"{name}.json").read_text())["model_type"] for name in NAMES}
    assert kinds == set(FAMILIES) - PACKAGED
    assert all(model_of(plain(kind)).outputs for kind in FAMILIES)


def test_the_page_lists_every_family():
    """The table of docs/huggingface.md has the model_type and the class of each bundled family."""
    page = (Path(__file__).parents[2] / "docs/huggingface.md").read_text(encoding="utf-8")
    rows = dict(re.findall(r"^\| `(\w+)` \| (\w+) \|", page, re.MULTILINE))
    assert rows == {kind: architecture(kind) for kind in FAMILIES if kind not in PACKAGED}
