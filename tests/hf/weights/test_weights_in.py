"""Weights in: folders of transformers, sharded, rounded, scaled, with second names; strict and in place."""

import json
import os
import shutil

import numpy as np
import pytest

import dsvgraph
import dsvgraph_hf
import dsvgraph_torch
from dsvgraph.errors import DsvError

torch = pytest.importorskip("torch")
pytest.importorskip("transformers")

from folders import (  # noqa: E402
    LAYERS,
    NAMES,
    compiled,
    exported,
    furthest_logits,
    pretrained,
    randomised,
    same,
    small,
    tensors,
    theirs_of,
    with_mtp,
    write,
)
from helpers import tokens  # noqa: E402

from dsvgraph_torch.runs.tensors import save_tensors  # noqa: E402


@pytest.mark.parametrize("size", ["5GB", "20KB"])
@pytest.mark.parametrize("name", NAMES)
def test_a_model_of_transformers_comes_in_and_goes_back(name, size, tmp_path):
    model, there, back = small(name), tmp_path / "there", tmp_path / "back"
    theirs = theirs_of(model, name)
    theirs.save_pretrained(there, max_shard_size=size)
    assert (there / "model.safetensors.index.json").exists() == (size != "5GB")
    ours = dsvgraph_hf.load(model, there)
    assert furthest_logits(ours, theirs) < 1e-5
    (tmp_path / "run").mkdir()
    save_tensors(tmp_path / "run" / "model.safetensors", ours.state_dict(), 1)
    exported(model, back, name, run=tmp_path / "run")
    assert same(tensors(back), tensors(there))
    assert furthest_logits(ours, pretrained(back)[0]) < 1e-5


def test_the_kernels_for_training_load_the_same(tmp_path):
    with_mtp(tmp_path)
    model = small(num_nextn_predict_layers=2)
    ours = (dsvgraph_hf.load(model, tmp_path, kernels=kernels) for kernels in ("plain", "fast"))
    assert same(*(dict(module.state_dict()) for module in ours))


def test_it_is_filled_in_place(tmp_path):
    want = with_mtp(tmp_path)
    model = small(num_nextn_predict_layers=2)
    module = compiled(model)
    places = {name: weight.data_ptr() for name, weight in module.named_parameters()}
    told = []
    loaded = dsvgraph_hf.fill(module, model, tmp_path, progress=lambda *done: told.append(done))
    assert {name: weight.data_ptr() for name, weight in module.named_parameters()} == places
    state = module.state_dict()
    assert same({name: want[name] for name in state}, dict(state))
    assert (loaded.files, loaded.tensors, loaded.copies, loaded.left_out) == (1, len(state), 4, 0)
    assert loaded.bytes == sum(weight.nbytes for weight in state.values()) == told[-1][0] == told[-1][1]
    assert all(weight.requires_grad for weight in module.parameters())


def test_what_no_file_holds_begins_at_zero(tmp_path):
    """A module built without numbers trains as one built with them."""
    with_mtp(tmp_path)
    model = small(num_nextn_predict_layers=2)
    loaded, compiled = dsvgraph_hf.load(model, tmp_path), dsvgraph_torch.compile(model)
    assert all(not load.any() for load in dsvgraph_torch.expert_load(loaded).values())
    compiled.load_state_dict(loaded.state_dict())
    ids = tokens(2, 12)
    losses = [sum(module(ids[:, :-1], ids[:, 1:]).values()) for module in (loaded, compiled)]
    assert torch.equal(*losses)


def test_bfloat16(tmp_path):
    model = small(moe_intermediate_size=16)  # torch's grouped products of bfloat16 want rows of 16 bytes
    theirs = theirs_of(model).bfloat16()
    theirs.save_pretrained(tmp_path)
    wide, narrow = dsvgraph_hf.load(model, tmp_path), dsvgraph_hf.load(model, tmp_path, dtype=torch.bfloat16)
    stored = tensors(tmp_path)
    assert same(dict(wide.state_dict()), {name: t.float() for name, t in stored.items()})
    assert {weight.dtype for weight in narrow.parameters()} == {torch.bfloat16}
    kept = {name: t.dtype for name, t in narrow.state_dict().items() if name.endswith("correction_bias")}
    assert {*kept.values()} == {torch.float32}
    assert same({n: t for n, t in narrow.state_dict().items() if n not in kept},
                {n: t for n, t in stored.items() if n not in kept})  # fmt: skip
    want = theirs(tokens(2, 9)).logits.float()
    assert (narrow.predict(tokens(2, 9)).float() - want).abs().max() < 0.1 * want.abs().max()


# -- float8 ------------------------------------------------------------------------------------------

BIG = dict(hidden_size=160, intermediate_size=200, moe_intermediate_size=40, q_lora_rank=136, kv_lora_rank=20)


def quantised(weight, rows, columns):
    """A matrix as float8 with a scale for each block, by numpy; and what it stands for, in float64."""
    numbers = weight.double().numpy()
    out, width = numbers.shape
    scale = np.empty((-(-out // rows), -(-width // columns)), np.float32)
    stored, meant = np.empty_like(numbers), np.empty_like(numbers)
    for i in range(scale.shape[0]):
        for j in range(scale.shape[1]):
            block = np.s_[i * rows : (i + 1) * rows, j * columns : (j + 1) * columns]
            scale[i, j] = np.abs(numbers[block]).max() / 448 * (1 + 0.5 * ((i + j) % 3))
            stored[block] = numbers[block] / scale[i, j]
    small = torch.from_numpy(stored).float().to(torch.float8_e4m3fn)
    coarse = small.float().double().numpy()
    for i in range(out):
        for j in range(width):
            meant[i, j] = coarse[i, j] * float(scale[i // rows, j // columns])
    return small, torch.from_numpy(scale), torch.from_numpy(meant)


def in_fp8(folder, rows=128, columns=128, said=True):
    """A folder as DeepSeek's: projections in float8, the rest in bfloat16; what its weights mean."""
    model = small(**BIG, num_hidden_layers=2, n_routed_experts=4, n_group=2, topk_group=1, num_experts_per_tok=2)
    state = randomised(dsvgraph_torch.compile(model)).state_dict()
    found, meant = {}, {}
    for name, weight in state.items():
        if weight.dim() == 2 and "_proj" in name:
            found[name], found[f"{name}_scale_inv"], meant[name] = quantised(weight, rows, columns)
        else:
            found[name] = weight.clone() if name.endswith("bias") else weight.bfloat16()
            meant[name] = found[name].double()
    how = {"quant_method": "fp8", "fmt": "e4m3", "weight_block_size": [rows, columns]}
    write(folder, found, **({"quantization_config": how} if said else {}))
    return model, found, meant


@pytest.mark.parametrize(("rows", "columns", "said"), [(128, 128, False), (128, 128, True), (16, 48, True)])
def test_float8_is_dequantised_by_blocks(rows, columns, said, tmp_path):
    model, found, meant = in_fp8(tmp_path, rows, columns, said)
    module = compiled(model)
    loaded = dsvgraph_hf.fill(module, model, tmp_path)
    for name, weight in module.state_dict().items():
        assert torch.equal(weight, meant[name].float()), name
    assert loaded.dequantised == sum(name.endswith("_scale_inv") for name in found) > 20
    assert loaded.dtypes == ("BF16", "F32", "F8_E4M3")


FP8 = {
    "a scale is missing": (
        lambda found: [found.pop(f"model.layers.1.mlp.experts.{i}.up_proj.weight_scale_inv") for i in (1, 2)],
        "scales of float8 matrices are missing\n"
        "  = note: model.layers.1.mlp.experts.[1-2].up_proj.weight_scale_inv: 2",
    ),
    "a scale of another shape": (
        lambda found: found.update({"model.layers.0.self_attn.o_proj.weight_scale_inv": torch.ones(1, 1)}),
        "`model.layers.0.self_attn.o_proj.weight_scale_inv` is [1, 1], not [2, 1] as "
        "`model.layers.0.self_attn.o_proj.weight` [160, 12] in blocks of [128, 128] needs",
    ),
    "a scale of a matrix that has none": (
        lambda found: found.update({"lm_head.weight_scale_inv": torch.ones(1, 1)}),
        "1 unexpected\n  = note: unexpected: lm_head.weight_scale_inv",
    ),
    "a row in float8": (
        lambda found: found.update(
            {"model.norm.weight": torch.zeros(9).to(torch.float8_e4m3fn), "model.norm.weight_scale_inv": torch.ones(1)}
        ),
        "`model.norm.weight` [9] is float8, and only matrices are read so",
    ),
    "another float8": (
        lambda found: found.update({"lm_head.weight": torch.zeros(61, 160).to(torch.float8_e5m2)}),
        "weights of type F8_E5M2 are not read\n  = note: lm_head.weight: 1",
    ),
    "whole numbers": (
        lambda found: found.update({"lm_head.weight": torch.zeros(61, 160, dtype=torch.uint8)}),
        "weights of type U8 are not read\n  = note: lm_head.weight: 1",
    ),
    "mxfp4 by its names": (
        lambda found: found.update({f"x.gate_up_proj_{s}": torch.zeros(1).byte() for s in ("blocks", "scales")}),
        "holds weights quantised as mxfp4: only fp8 with scales of blocks is read",
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", FP8)
def test_what_is_wrong_with_scales(case, tmp_path):
    change, words = FP8[case]
    model, found, _ = in_fp8(tmp_path)
    change(found)
    write(tmp_path, found)
    assert words in refused(model, tmp_path)


@pytest.mark.parametrize(
    ("config", "words"),
    [
        ({"quant_method": "mxfp4"}, "holds weights quantised as mxfp4: only fp8 with scales of blocks is read"),
        ({"quant_method": "gptq", "bits": 4}, "holds weights quantised as gptq"),
        ({"quant_method": "fp8", "weight_block_size": None}, "quantization_config.weight_block_size is None, not two"),
        ({"quant_method": "fp8", "weight_block_size": [128, 0]}, "weight_block_size is [128, 0], not two numbers"),
        ({"quant_method": "fp8", "weight_block_size": "128"}, "weight_block_size is '128', not two numbers"),
        ("int8", "holds weights quantised as int8"),
    ],
)
def test_other_ways_to_quantise_are_refused(config, words, tmp_path):
    model, found, _ = in_fp8(tmp_path)
    write(tmp_path, found, quantization_config=config)
    assert words in refused(model, tmp_path)


# -- names -------------------------------------------------------------------------------------------


def refused(model, folder, **options):
    """The words with which a folder is refused, by `load` and by `check`; a module is left as it was."""
    module = compiled(model)
    before = {name: weight.clone() for name, weight in module.state_dict().items()}
    with pytest.raises(DsvError) as caught:
        dsvgraph_hf.fill(module, model, folder, **options)
    assert same(before, dict(module.state_dict()))
    with pytest.raises(DsvError) as checked:
        dsvgraph_hf.check(model, folder, **options)
    assert str(checked.value) == str(caught.value)
    return str(caught.value)


@pytest.fixture
def released(tmp_path):
    """A folder with MTP depth 2, the tensors in it, and its spec."""
    return tmp_path / "hub", with_mtp(tmp_path / "hub"), small(num_nextn_predict_layers=2)


def test_a_second_name_may_be_left_out(released):
    folder, found, model = released
    del found["model.layers.3.embed_tokens.weight"], found["model.layers.4.shared_head.head.weight"]
    write(folder, found)
    assert dsvgraph_hf.fill(compiled(model), model, folder).copies == 2


def test_a_second_name_may_stand_for_the_first(released):
    folder, found, model = released
    want = found.pop("lm_head.weight")
    write(folder, found)
    module = dsvgraph_hf.load(model, folder)
    assert torch.equal(module.state_dict()["lm_head.weight"], want)


def test_second_names_hold_the_same_numbers(released):
    folder, found, model = released
    found["model.layers.3.embed_tokens.weight"][60, 31] += 0.25
    found["model.layers.4.shared_head.head.weight"] += 2
    write(folder, found)
    words = refused(model, folder)
    assert (
        f"error: {folder}: `model.layers.3.embed_tokens.weight` must hold the numbers of `model.embed_tokens.weight`, "
        "which the spec shares with it; they differ by up to 0.25" in words
    )
    assert "`model.layers.4.shared_head.head.weight` must hold the numbers of `lm_head.weight`" in words
    assert "they differ by up to 2\n" in words


def test_second_names_may_be_stored_as_another_kind_of_number(released):
    folder, found, model = released
    for name in ("model.layers.3.embed_tokens.weight", "model.embed_tokens.weight"):
        found[name] = found[name].bfloat16()
    found["model.layers.3.embed_tokens.weight"] = found["model.layers.3.embed_tokens.weight"].float()
    found["model.layers.4.embed_tokens.weight"] = found["model.embed_tokens.weight"].half()
    assert dsvgraph_hf.check(model, write(folder, found)).copies
    found["lm_head.weight"] = found["lm_head.weight"].bfloat16()
    assert "must hold the numbers of `lm_head.weight`" in refused(model, write(folder, found))


def test_experts_that_another_family_packs_are_not_guessed_at(tmp_path):
    model = small("gpt_oss_20b")
    theirs_of(model, "gpt_oss_20b").save_pretrained(tmp_path)
    dsvgraph_hf.check(model, tmp_path)
    (tmp_path / "config.json").write_text('{"model_type": "llama4_text"}')
    assert "packs its experts (experts.gate_up_proj), which is read for gpt_oss, not llama4" in refused(model, tmp_path)


def test_an_expert_too_many_and_one_too_few(tmp_path):
    """Of packed experts the shape tells it."""
    theirs_of(small("gpt_oss_20b"), "gpt_oss_20b").save_pretrained(tmp_path)
    words = refused(small("gpt_oss_20b", num_local_experts=5), tmp_path)
    assert "model.layers.[0-1].mlp.experts.gate_up_proj: [4, 32, 80], the spec has [5, 32, 80] (2)" in words


def test_what_is_frozen_stays_so(released):
    folder, _, _ = released
    text = dsvgraph.show(small(num_nextn_predict_layers=2)) + '\ntrained:\n  "**.experts.**": false\n'
    model = dsvgraph.loads(text)
    for module in (dsvgraph_hf.load(model, folder), dsvgraph_torch.compile(model)):
        frozen = {name for name, weight in module.named_parameters() if not weight.requires_grad}
        assert frozen == {name for name, _ in module.named_parameters() if ".experts." in name} != set()


def test_a_second_name_of_another_shape(released):
    folder, found, model = released
    found["model.layers.3.embed_tokens.weight"] = torch.zeros(60, 32)
    write(folder, found)
    assert refused(model, folder).endswith(
        "1 of another shape\n  = note: of another shape: "
        "model.layers.3.embed_tokens.weight: [60, 32], the spec has [61, 32]"
    )


def test_all_that_is_wrong_is_told_by_patterns(released):
    folder, found, model = released
    for name in [*found]:
        if ".experts." in name and name.endswith("up_proj.weight") and ".layers.1." not in name:
            del found[name]
        elif name.endswith("input_layernorm.weight"):
            found[name] = torch.ones(33)
    found |= {f"model.layers.{i}.self_attn.q_proj.bias": torch.zeros(3) for i in (0, 2)}
    found["vision.tower.0.weight"] = found["vision.tower.1.weight"] = torch.zeros(2)
    found = {name: t.clone() for name, t in found.items()}
    write(folder, found)
    assert refused(model, folder).splitlines() == [
        f"error: the weights in {folder} are not those of DeepSeek-V3: 24 missing, 4 unexpected, 5 of another shape",
        "  = note: missing: model.layers.[2-4].mlp.experts.[0-7].up_proj.weight (24)",
        "  = note: unexpected: model.layers.[0,2].self_attn.q_proj.bias (2)",
        "  = note: unexpected: vision.** (2)",
        "  = note: of another shape: model.layers.[0-4].input_layernorm.weight: [33], the spec has [32] (5)",
    ]


def test_mtp_modules_that_the_spec_has_not(released):
    folder, _, _ = released
    words = refused(small(num_nextn_predict_layers=0), folder)
    assert "unexpected: model.layers.[3-4].**" in words
    assert words.endswith(
        "  = help: the folder holds 2 more MTP modules than the spec: set num_nextn_predict_layers to load, "
        "--drop-mtp (drop_mtp=True) to leave out"
    )
    assert "holds 1 more MTP module than" in refused(small(num_nextn_predict_layers=1), folder)


@pytest.mark.parametrize("depth", [0, 1, 2])
def test_mtp_modules_may_be_left_out(depth, released):
    folder, found, _ = released
    model = small(num_nextn_predict_layers=depth)
    module = dsvgraph_hf.load(model, folder, drop_mtp=True)
    assert same(dict(module.state_dict()), {name: found[name] for name in module.state_dict()})


def test_nothing_else_is_left_out_with_them(released):
    folder, found, _ = released
    found["model.layers.2.extra"] = torch.zeros(1)
    write(folder, found, num_hidden_layers=LAYERS)
    words = refused(small(num_nextn_predict_layers=0), folder, drop_mtp=True)
    assert words.endswith("1 unexpected\n  = note: unexpected: model.layers.2.extra")


def test_mtp_modules_that_the_folder_has_not(released):
    folder, _, _ = released
    words = refused(small(num_nextn_predict_layers=3), folder)
    assert "missing: model.layers.5.**" in words
    assert words.endswith("help: the folder holds fewer MTP modules than the spec: set num_nextn_predict_layers")


def test_one_missing_tensor_of_a_module_is_told_as_that(released):
    folder, found, _ = released
    name = "model.layers.4.enorm.weight"
    del found[name]
    write(folder, found, num_hidden_layers=LAYERS)
    words = refused(small(num_nextn_predict_layers=2), folder)
    assert words.splitlines()[1:] == [f"  = note: missing: {name}"]
    both = refused(
        small(num_nextn_predict_layers=3), folder
    )  # a whole module beside it is no longer all there is to it
    assert f"missing: {name}" in both and "missing: model.layers.5.**" in both and "help" not in both


def test_one_more_tensor_of_a_module_is_told_as_that(released):
    """It is no module that the spec has not, so --drop-mtp does not leave it out."""
    folder, found, _ = released
    found["model.layers.4.extra"] = torch.zeros(1)
    write(folder, found, num_hidden_layers=LAYERS)
    for drop_mtp in (False, True):
        words = refused(small(num_nextn_predict_layers=2), folder, drop_mtp=drop_mtp)
        assert words.splitlines()[1:] == ["  = note: unexpected: model.layers.4.extra"]


def test_a_tied_head_is_explained(tmp_path):
    model = small("llama3_8b")
    theirs_of(model, "llama3_8b", tie_word_embeddings=True).save_pretrained(tmp_path)
    assert refused(model, tmp_path).splitlines()[1:] == [
        "  = note: missing: lm_head.weight",
        "  = help: the folder's config.json says tie_word_embeddings: "
        "wire the embedding's weight to the spec's lm_head",
    ]


def test_frequencies_of_old_checkpoints_are_ignored(released):
    folder, found, model = released
    found["model.layers.0.self_attn.rotary_emb.inv_freq"] = torch.zeros(2)
    write(folder, found)
    assert dsvgraph_hf.fill(compiled(model), model, folder).left_out == 1


# -- files -------------------------------------------------------------------------------------------


@pytest.fixture
def shards(tmp_path):
    """A folder of several files with their index, and its spec."""
    model = small()
    theirs_of(model).save_pretrained(tmp_path / "hub", max_shard_size="50KB")
    return tmp_path / "hub", model


def edited(folder, change):
    path = folder / "model.safetensors.index.json"
    index = json.loads(path.read_text())
    change(index)
    path.write_text(json.dumps(index))


def test_a_file_is_missing(shards):
    folder, model = shards
    last = sorted(folder.glob("*.safetensors"))[-1]
    count = len([*folder.glob("*.safetensors")])
    last.unlink()
    words = f"error: {folder} is not whole: 1 of its {count} files are missing: `{last.name}`"
    assert refused(model, folder) == words


def test_a_file_is_damaged(shards):
    folder, model = shards
    first = min(folder.glob("*.safetensors"))
    whole = first.read_bytes()
    for broken in (whole[:-10], whole[:100], b"", b"\xff" * 50, b"PK\x03\x04" + whole[4:]):
        first.write_bytes(broken)
        assert refused(model, folder).startswith(f"error: {first} is damaged: ")


@pytest.mark.parametrize("name", ["../secret.safetensors", "/etc/passwd", "a/b.safetensors", "..", "", 3, None, "a\\b"])
def test_an_index_names_files_of_its_folder_only(name, shards):
    folder, model = shards
    edited(folder, lambda index: index["weight_map"].update({"lm_head.weight": name}))
    words = f"model.safetensors.index.json is damaged: `lm_head.weight` is in {json.dumps(name)}, which is no name"
    assert words in refused(model, folder)


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"weight_map": []}', '{"weight_map": {}}', "{" * 5000, "\0"])
def test_an_index_that_is_none(text, shards):
    folder, model = shards
    (folder / "model.safetensors.index.json").write_text(text)
    assert refused(model, folder).startswith(f"error: {folder / 'model.safetensors.index.json'} is damaged: ")


def test_an_index_that_promises_too_much(shards):
    folder, model = shards
    first, last = min(folder.glob("*.safetensors")).name, max(folder.glob("*.safetensors")).name

    def elsewhere(index):
        index["weight_map"] = {n: last if f == first else f for n, f in index["weight_map"].items()} | {"x": first}

    edited(folder, elsewhere)
    assert f"{last} does not hold `" in refused(model, folder) or f"{first} does not hold `x`" in refused(model, folder)


def test_a_name_in_two_files(shards):
    folder, model = shards
    first, last = min(folder.glob("*.safetensors")), max(folder.glob("*.safetensors"))
    shutil.copy(first, last)
    edited(folder, lambda index: index["weight_map"].update(
        {n: first.name for n, f in index["weight_map"].items() if f == last.name}) or
        index["weight_map"].update({"model.embed_tokens.weight": last.name}))  # fmt: skip
    assert "damaged" in refused(model, folder) or "is in two files" in refused(model, folder)


def test_links_are_followed(shards, tmp_path):
    """The hub's cache holds links to files elsewhere."""
    folder, model = shards
    (tmp_path / "snapshot").mkdir()
    for path in folder.iterdir():
        (tmp_path / "snapshot" / path.name).symlink_to(path)
    assert same(*(dict(dsvgraph_hf.load(model, at).state_dict()) for at in (folder, tmp_path / "snapshot")))


FOLDERS = {
    "no folder": (lambda f: f.rmdir(), "the folder of weights {f} does not exist"),
    "a file": (lambda f: (f.rmdir(), f.write_text("x")), "the folder of weights {f} is a file: name the folder"),
    "empty": (lambda f: None, "{f} holds no weights: there is no model.safetensors and no "),
    "pickled": (lambda f: (f / "pytorch_model.bin").write_bytes(b"x"), "{f} holds pickled weights only (*.bin)"),
    "shards without an index": (
        lambda f: (f / "model-00001-of-00002.safetensors").write_bytes(b"x"),
        "{f} holds neither model.safetensors nor model.safetensors.index.json",
    ),
    "a config that is none": (
        lambda f: ((f / "model.safetensors").write_bytes(b"x"), (f / "config.json").write_text("[")),
        "{f}/config.json is damaged: ",
    ),
}


@pytest.mark.parametrize("case", FOLDERS)
def test_a_folder_that_is_none(case, tmp_path):
    change, words = FOLDERS[case]
    folder = tmp_path / "hub"
    folder.mkdir()
    change(folder)
    assert refused(small(), folder).startswith("error: " + words.format(f=folder))


def test_pickled_weights_are_not_run(tmp_path):
    """torch.save of an object whose loading would write a file."""
    trap = tmp_path / "sprung"
    torch.save({"model.norm.weight": Trap(str(trap))}, tmp_path / "pytorch_model.bin")
    refused(small(), tmp_path)
    assert not trap.exists()


class Trap:
    """Runs code when it is unpickled."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return (open, (self.path, "w"))


def test_a_model_that_memory_cannot_hold_is_refused(released, monkeypatch):
    folder, _, model = released
    monkeypatch.setattr("dsvgraph_torch.allocation.memory_of", lambda device: 1e5)
    with pytest.raises(DsvError, match=r"the weights of DeepSeek-V3 take 0\.0 GB as bfloat16; cpu has 0\.0 GB"):
        dsvgraph_hf.load(model, folder, dtype=torch.bfloat16)


# -- tied heads --------------------------------------------------------------------------------------


@pytest.fixture
def tied(tmp_path):
    """A folder of a model whose head is its embedding, and the spec that its config is imported as."""
    theirs = theirs_of(small("llama3_8b"), "llama3_8b", tie_word_embeddings=True)
    theirs.tie_weights()
    theirs.save_pretrained(tmp_path / "hub")
    return tmp_path / "hub", theirs, dsvgraph.loads(dsvgraph_hf.spec_of(tmp_path / "hub"))


def test_a_tied_head_needs_no_tensor_of_its_own(tied, tmp_path):
    folder, theirs, model = tied
    found = tensors(folder)
    assert "lm_head.weight" not in found
    assert furthest_logits(dsvgraph_hf.load(model, folder), theirs) < 1e-5
    (tmp_path / "run").mkdir()
    save_tensors(tmp_path / "run" / "model.safetensors", dsvgraph_hf.load(model, folder).state_dict(), 1)
    dsvgraph_hf.export(model, tmp_path / "back", run=tmp_path / "run")
    assert same(tensors(tmp_path / "back"), found)
    back, info = pretrained(tmp_path / "back")
    assert not any(info.values()), info
    assert furthest_logits(dsvgraph_hf.load(model, tmp_path / "back"), back) < 1e-5


def test_a_tied_head_may_have_a_tensor_that_is_equal(tied):
    folder, _, model = tied
    found = tensors(folder)
    found["lm_head.weight"] = found["model.embed_tokens.weight"].clone()
    assert dsvgraph_hf.fill(compiled(model), model, write(folder, found)).copies == 1
    found["lm_head.weight"][3, 3] += 1
    words = refused(model, write(folder, found))
    assert "`lm_head.weight` must hold the numbers of `model.embed_tokens.weight`" in words


@pytest.mark.parametrize("name", ["model.safetensors", "model.safetensors.index.json"])
def test_a_pipe_is_no_file_of_weights(tied, tmp_path, name):
    (tmp_path / "pipe").mkdir()
    os.mkfifo(tmp_path / "pipe" / name)
    with pytest.raises(DsvError, match="cannot be read: it is not a regular file"):
        dsvgraph_hf.load(tied[2], tmp_path / "pipe")
