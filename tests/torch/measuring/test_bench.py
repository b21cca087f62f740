"""`dsvgraph bench`: what it reports follows from what it measured, by block, beside transformers, or it refuses."""

from __future__ import annotations

import json
from dataclasses import replace
from functools import cache

import pytest

torch = pytest.importorskip("torch")

from helpers import V3, small  # noqa: E402
from typer.testing import CliRunner  # noqa: E402

import dsvgraph  # noqa: E402
from dsvgraph.backends import peer  # noqa: E402
from dsvgraph.backends.benchmark import (  # noqa: E402
    Benchmark,
    BenchmarkOptions,
    BlockTime,
    BlockTimes,
    Machine,
    check,
)
from dsvgraph.cli import app  # noqa: E402
from dsvgraph.cli.costing import bench_report  # noqa: E402
from dsvgraph_torch import bench, compile  # noqa: E402
from dsvgraph_torch.measuring.blocks import rows_of  # noqa: E402
from dsvgraph_torch.measuring.machine import nominal  # noqa: E402
from dsvgraph_torch.training.predictions import predictions_of  # noqa: E402

OPTIONS = BenchmarkOptions(batch=2, seq=16, steps=2, decode=3, device="cpu")
NAME = "deepseek_v3_tiny"


@cache
def measured() -> Benchmark:
    """The tiny model beside transformers', without MTP modules."""
    model = small(NAME, num_nextn_predict_layers=0)
    return bench(model, replace(OPTIONS, against="transformers"))


def test_everything_is_there_once() -> None:
    found = measured()
    assert [one.name for one in found.steps] == ["dsvgraph", "transformers, grouped_mm", "transformers, expert loop"]
    assert all(len(one.seconds) == OPTIONS.steps and one.first > 0 for one in found.steps)
    assert [len(one.seconds) for one in found.decoding] == [OPTIONS.decode] * 2
    assert found.notes == ("transformers does not compute the lines of the loss balance, bias",)
    assert all(one.loss == pytest.approx(torch.log(torch.tensor(61.0)).item(), rel=0.5) for one in found.steps)


def test_shares_are_flops_over_time() -> None:
    """6 GFLOP in a median of 2 s are 3 GFLOP/s: 30 % of 10 and 15 % of 20."""
    steps = replace(measured().steps[0], seconds=(1.0, 3.0, 2.0), flops=6e9, tokens=500)
    other = replace(steps, name="theirs", ours=False, seconds=(4.0, 4.0))
    found = replace(measured(), steps=(steps, other), machine=Machine("", "", 1, rate=10e9, peak=20e9))
    first, second = found.as_dict()["steps"]
    assert (first["mfu"], first["mfu_of_peak"], first["tokens_per_second"]) == (0.3, 0.15, 250)
    assert (first["ratio"], second["ratio"]) == (None, 2)


def test_the_flops_are_those_of_the_products() -> None:
    """Counted by hand: two for each weight and token that meets it, attention to half; the backward is twice that."""
    c, T = V3, OPTIONS.seq
    d, heads, qk, v = c["hidden_size"], c["num_attention_heads"], 8 + 4, c["v_head_dim"]
    weights = d * 12 + 12 * heads * qk + d * (8 + 4) + 8 * heads * (8 + v) + heads * v * d
    attention = 2 * weights + 2 * heads * (qk + v) * T / 2
    experts = 6 * d * c["moe_intermediate_size"] * (c["num_experts_per_tok"] + 1) + 2 * d * c["n_routed_experts"]
    norms = 2 * (3 * (2 * d + 12 + 8) + d)
    token = 3 * attention + 6 * d * c["intermediate_size"] + 2 * experts + norms + 2 * d * c["vocab_size"]
    assert measured().steps[0].flops == 3 * token * OPTIONS.batch * T


def test_the_peak_is_near_the_predicted_one() -> None:
    ours = measured().steps[0]
    assert ours.predicted and ours.peak == pytest.approx(ours.predicted, rel=0.25)


def test_blocks_are_modules_that_nest() -> None:
    model = dsvgraph.load(NAME)
    rows = rows_of(model, compile(model, device="meta"), 1, 8)
    shown = [(row.cost.depth, row.cost.path, len(row.modules)) for row in rows]
    assert shown[:3] == [(0, "model.embed_tokens", 1), (0, "model.layers.[0]", 1), (1, "model.layers.[0].self_attn", 1)]
    assert (2, "model.layers.[1-3].mlp.experts.[0-15]", 3) in shown
    assert shown[-4:-2] == [(1, "model.layers.[4-5].self_attn", 2), (1, "model.layers.[4-5].mlp", 2)]


def test_the_time_outside_of_blocks_is_counted_once() -> None:
    """Of a block whose backward is not known, those of the blocks inside count."""

    def block(depth: int, forward: float, backward: float | None) -> BlockTime:
        return BlockTime("", "", depth, 1, forward, backward, 0.0)

    blocks = block(0, 2, None), block(1, 1, 4), block(2, 1, 3), block(0, 1, 2)
    assert BlockTimes(20.0, 5.0, blocks).rest == 20 - 5 - 2 - 4 - 1 - 2
    times = measured().blocks
    assert 0 < sum(b.forward + (b.backward or 0) for b in times.blocks if not b.depth) < times.step
    inside = [b for b in times.blocks if b.path == "model.layers.[1-2].self_attn"]
    assert len(inside) == 1 and inside[0].copies == 2 and inside[0].backward


def test_the_report_says_what_was_not_measured() -> None:
    found = measured()
    text = bench_report.markdown(found)
    assert "| transformers, expert loop |" in text and "balance, bias" in text and "of peak" not in text
    for section in bench_report.sections(found):
        assert {len(row) for row in section.rows} == {len(section.columns)}
    nominally = replace(found, machine=replace(found.machine, peak=1e12))
    assert "of peak" in bench_report.markdown(nominally)
    pure = replace(found, steps=(replace(found.steps[0], predicted=None),))
    assert "| - |" in bench_report.markdown(pure)


@pytest.mark.parametrize(
    ("spec", "words"),
    [(NAME, "has the loss `mtp` too"), ("variants/hyper_connections", "no class of transformers computes this graph")],
)
def test_what_transformers_cannot_do_is_refused(spec: str, words: str) -> None:
    with pytest.raises(dsvgraph.DsvError, match=words):
        bench(dsvgraph.load(spec), replace(OPTIONS, against="transformers"))


def test_a_library_that_is_not_there_is_refused() -> None:
    with pytest.raises(dsvgraph.DsvError, match="there is no backend `jax`"):
        bench(small(NAME), replace(OPTIONS, against="jax"))


def test_decoding_alone_has_no_other_tables() -> None:
    found = bench(small(NAME, num_nextn_predict_layers=0), replace(OPTIONS, steps=0))
    assert [section.columns[0] for section in bench_report.sections(found)] == ["decoding"]
    assert found.as_dict()["blocks"] is None and "steps" not in bench_report.markdown(found)


def test_options_that_contradict_are_refused() -> None:
    for options in (replace(OPTIONS, compile=True, fit_memory=1), replace(OPTIONS, steps=0, decode=0)):
        with pytest.raises(dsvgraph.DsvError):
            check(options)


@pytest.mark.parametrize("way", ["grouped_mm", "whole, no mask"])
def test_the_peer_has_the_weights_of_the_graph(way: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """As many, by transformers' own count; and the attention without a mask computes what that with one does."""
    model, other = small(NAME, num_nextn_predict_layers=0), peer("transformers")
    monkeypatch.setattr(torch.nn.Module, "compile", lambda module: None)
    module, plain = (other.build(model, name, "cpu", 0, 32) for name in (way, "grouped_mm"))
    assert module.num_parameters() + sum(b.numel() for n, b in module.named_buffers() if "bias" in n) == (
        dsvgraph.cost(model).parameters.total
    )
    ids = torch.randint(0, 61, (2, 16))
    assert other.loss(module, ids).item() == pytest.approx(other.loss(plain, ids).item(), rel=1e-5)
    assert "whole, no mask" in other.ways(model, "cuda", True) and "whole, no mask" not in other.ways(
        model, "cpu", False
    )


def test_the_table_of_devices_is_found_by_name() -> None:
    assert nominal("NVIDIA H200", "bfloat16") == 989.4e12
    assert nominal("NVIDIA GeForce RTX 4090", "float32") == 82.6e12
    assert nominal("NVIDIA H200", "float64") is None and nominal("AMD EPYC", "float32") is None


def test_the_command_prints_json() -> None:
    sizes = [word for name, value in V3.items() for word in ("--set", f"{name}={value}")]
    words = ["bench", NAME, *sizes, "--batch", "2", "--seq", "8", "--steps", "1", "--device", "cpu", "--json"]
    found = CliRunner().invoke(app, words)
    assert found.exit_code == 0, found.output
    data = json.loads(found.stdout)
    assert data["steps"][0]["flops"] == dsvgraph.cost(small(NAME), 2, 8).flops.train
    assert data["options"]["steps"] == 1 and len(predictions_of(small(NAME))) == 3


def test_blocks_inside_of_compiled_layers_have_no_clock(monkeypatch: pytest.MonkeyPatch) -> None:
    """A hook inside of a compiled layer would be compiled with it, and mark nothing."""
    monkeypatch.setattr(torch, "compile", lambda function, **_: torch.compiler.disable(function))
    found = bench(small(NAME), replace(OPTIONS, compile=True, decode=0))
    paths = {block.path for block in found.blocks.blocks}
    assert any(path.startswith("model.layers.") for path in paths)
    assert not any(path.count(".") > 2 and "layers" in path for path in paths)
