"""Weights out: what is exported is what transformers reads, to the name and to the bit."""

import errno
import json
import os
from types import SimpleNamespace

import pytest

import dsvgraph_hf
import dsvgraph_torch
from dsvgraph.errors import DsvError

torch = pytest.importorskip("torch")
pytest.importorskip("transformers")

from faults import largest_file  # noqa: E402
from folders import (  # noqa: E402
    LAYERS,
    NAMES,
    exported,
    furthest_logits,
    hub_config,
    pretrained,
    randomised,
    same,
    small,
    tensors,
)
from safetensors.torch import load_file  # noqa: E402

from dsvgraph_torch.runs.tensors import save_tensors  # noqa: E402


def a_run(folder, model, seed=0):
    """A folder with the weights of a run that are not initial ones, and the module that has them."""
    ours = randomised(dsvgraph_torch.compile(model), seed)
    folder.mkdir()
    save_tensors(folder / "model.safetensors", ours.state_dict(), 1)
    return ours


@pytest.mark.parametrize("size", ["5GB", "20KB"])
@pytest.mark.parametrize("name", NAMES)
def test_transformers_finds_every_weight_and_no_other(name, size, tmp_path):
    model = small(name)
    ours = a_run(tmp_path / "run", model)
    exported(model, tmp_path / "out", name, run=tmp_path / "run", max_shard_size=size)
    theirs, found = pretrained(tmp_path / "out")
    assert not any(found.values()), found
    assert furthest_logits(ours, theirs) < 1e-5
    assert (tmp_path / "out" / "model.safetensors").exists() == (size == "5GB")


@pytest.mark.parametrize("depth", [1, 2])
def test_mtp_modules_are_layers_after_the_last(depth, tmp_path):
    model = small(num_nextn_predict_layers=depth)
    ours = a_run(tmp_path / "run", model)
    exported(model, tmp_path / "out", run=tmp_path / "run")
    theirs, found = pretrained(tmp_path / "out")
    assert {name.split(".")[2] for name in found["unexpected_keys"]} == {str(LAYERS + k) for k in range(depth)}
    assert not found["missing_keys"] and not found["mismatched_keys"]
    assert furthest_logits(ours, theirs) < 1e-5


def test_an_mtp_module_has_the_names_of_the_released_checkpoint(tmp_path):
    model = small(num_nextn_predict_layers=1)
    exported(model, tmp_path)
    found = tensors(tmp_path)
    own = {name.removeprefix("model.layers.3."): list(t.shape) for name, t in found.items() if ".layers.3." in name}
    assert {name: shape for name, shape in own.items() if not name.startswith(("mlp.", "self_attn."))} == {
        "embed_tokens.weight": [61, 32],
        "enorm.weight": [32],
        "hnorm.weight": [32],
        "eh_proj.weight": [32, 64],
        "input_layernorm.weight": [32],
        "post_attention_layernorm.weight": [32],
        "shared_head.norm.weight": [32],
        "shared_head.head.weight": [61, 32],
    }
    assert torch.equal(found["model.layers.3.embed_tokens.weight"], found["model.embed_tokens.weight"])
    assert torch.equal(found["model.layers.3.shared_head.head.weight"], found["lm_head.weight"])


def test_mtp_modules_can_be_left_out(tmp_path):
    model = small(num_nextn_predict_layers=2)
    saved = exported(model, tmp_path, drop_mtp=True)
    _, found = pretrained(tmp_path)
    assert not any(found.values()), found
    assert saved.tensors == len(tensors(tmp_path))


def test_bfloat16_is_rounded_once_and_the_selection_bias_not_at_all(tmp_path):
    model = small(num_nextn_predict_layers=1)
    ours = a_run(tmp_path / "run", model)
    exported(model, tmp_path / "out", run=tmp_path / "run", dtype="bfloat16", max_shard_size="30KB")
    found, state = tensors(tmp_path / "out"), ours.state_dict()
    exact = {name for name in found if name.endswith("e_score_correction_bias")}
    assert len(exact) == 3
    assert {t.dtype for name, t in found.items() if name not in exact} == {torch.bfloat16}
    assert all(torch.equal(found[n], t if n in exact else t.bfloat16()) for n, t in state.items())
    theirs, info = pretrained(tmp_path / "out", dtype=torch.float32)
    assert not info["missing_keys"]
    assert furthest_logits(dsvgraph_hf.load(model, tmp_path / "out"), theirs) < 1e-5


def test_the_index_is_as_transformers_writes_it(tmp_path):
    model = small()
    exported(model, tmp_path / "ours", max_shard_size="40KB")
    theirs, _ = pretrained(tmp_path / "ours")
    theirs.save_pretrained(tmp_path / "theirs", max_shard_size="40KB")
    index, wanted = (
        json.loads((tmp_path / who / "model.safetensors.index.json").read_text()) for who in ("ours", "theirs")
    )
    assert index["metadata"]["total_size"] == wanted["metadata"]["total_size"]
    assert index.keys() == wanted.keys() and index["weight_map"].keys() == wanted["weight_map"].keys()
    found = tensors(tmp_path / "ours")
    assert same(found, tensors(tmp_path / "theirs"))
    for file in {*index["weight_map"].values()}:
        own = [name for name, where in index["weight_map"].items() if where == file]
        assert sum(found[name].nbytes for name in own) <= 40_000
    assert {p.name for p in (tmp_path / "ours").glob("*.safetensors")} == {*index["weight_map"].values()}


def test_a_tensor_larger_than_a_file_may_be_is_alone_in_one(tmp_path):
    saved = exported(small(), tmp_path, max_shard_size=1)
    assert len(saved.files) == saved.tensors
    assert not pretrained(tmp_path)[1]["missing_keys"]


def test_initial_weights_are_those_that_compile_gives(tmp_path):
    model = small(num_nextn_predict_layers=1)
    for seed in (0, 5):
        exported(model, tmp_path / str(seed), seed=seed)
        found = tensors(tmp_path / str(seed))
        want = dsvgraph_torch.compile(model, seed=seed).state_dict()
        assert same({name: found[name] for name in want}, dict(want))
    assert not same(tensors(tmp_path / "0"), tensors(tmp_path / "5"))


def test_progress_is_told_to_the_last_byte(tmp_path):
    told = []
    saved = exported(small(num_nextn_predict_layers=1), tmp_path, progress=lambda *done: told.append(done))
    assert [done for done, _ in told] == sorted(done for done, _ in told)
    assert told[-1] == (saved.bytes, saved.bytes)
    assert saved.bytes == sum(t.nbytes for t in tensors(tmp_path).values())


# -- what goes wrong ---------------------------------------------------------------------------------


def refused(model, folder, **options):
    with pytest.raises(DsvError) as caught:
        dsvgraph_hf.save(model, folder, hub_config(model).to_dict(), **options)
    return str(caught.value)


def test_a_full_disk_leaves_nothing_behind(tmp_path):
    with largest_file(60_000):
        words = refused(small(), tmp_path / "out")
    assert words == f"error: cannot write {tmp_path / 'out'}: File too large"
    assert not (tmp_path / "out").exists()
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "config.json").write_text("{}")
    with largest_file(60_000):
        refused(small(), tmp_path / "out")
    assert [p.name for p in (tmp_path / "out").iterdir()] == ["config.json"]


def test_no_room_is_said_before_anything_is_written(tmp_path, monkeypatch):
    monkeypatch.setattr("shutil.disk_usage", lambda path: SimpleNamespace(free=1000))
    words = refused(small(), tmp_path / "out")
    assert words == f"error: no room in {tmp_path / 'out'}: the weights take 0.1 MB; 0.0 MB are free"
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("failing", [1, 2, 4])
def test_files_get_their_names_together_or_not_at_all(failing, tmp_path, monkeypatch):
    count, replace = iter(range(1, 100)), os.replace

    def failing_replace(source, target):
        if next(count) == failing:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        replace(source, target)

    monkeypatch.setattr(os, "replace", failing_replace)
    assert "No space left on device" in refused(small(), tmp_path / "out", max_shard_size="50KB")
    assert not (tmp_path / "out").exists()


def test_an_interrupted_export_leaves_nothing_behind(tmp_path):
    def interrupt(done, total):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        exported(small(), tmp_path / "out", progress=interrupt)
    assert [p.name for p in (tmp_path / "out").iterdir()] == ["config.json"]


def test_weights_that_are_there_stay(tmp_path):
    exported(small(), tmp_path)
    before = tensors(tmp_path)
    words = refused(small(), tmp_path, seed=1)
    assert words == f"error: {tmp_path} holds weights already (model.safetensors): name another folder, or empty it"
    assert same(tensors(tmp_path), before)


@pytest.mark.parametrize(
    ("size", "most"),
    [("20KB", 20_000), ("20 kb", 20_000), ("16KiB", 16_384), ("0.05MB", 50_000), (30_000, 30_000), ("30000", 30_000)],
)
def test_sizes_of_files(size, most, tmp_path):
    saved = exported(small(), tmp_path, max_shard_size=size)
    sizes = [sum(t.nbytes for t in load_file(tmp_path / name).values()) for name in saved.files]
    assert 0.5 * most < max(sizes) <= most


@pytest.mark.parametrize("size", ["", "5 apples", "-1", "0", "0.1B", "5TB"])
def test_a_size_that_is_none(size, tmp_path):
    words = f"error: `{size}` is no size of a file: write it as 5GB or 200MB"
    assert refused(small(), tmp_path / "out", max_shard_size=size) == words


def test_other_refusals(tmp_path):
    assert refused(small(), tmp_path / "out", dtype="float16") == (
        "error: weights are written as float32 or bfloat16, not as `float16`"
    )
    (tmp_path / "run").mkdir()
    assert refused(small(), tmp_path / "out", run=tmp_path / "run") == (
        f"error: {tmp_path / 'run'} holds no weights: there is no model.safetensors and no "
        "model.safetensors.index.json in it"
    )
    assert refused(small(), tmp_path / "out", run=tmp_path / "gone") == (
        f"error: the folder of weights {tmp_path / 'gone'} does not exist"
    )
    a_run(tmp_path / "other", small(num_nextn_predict_layers=1))
    words = refused(small(), tmp_path / "out", run=tmp_path / "other")
    assert f"the weights in {tmp_path / 'other'} are not those of DeepSeek-V3: " in words
    assert not (tmp_path / "out").exists()
