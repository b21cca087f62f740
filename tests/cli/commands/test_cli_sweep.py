"""`dsvgraph sweep`: every point is what `cost` says of it, the front is what it claims, files and refusals."""

from __future__ import annotations

import csv
import os
import signal
from itertools import product

import pytest

import dsvgraph
from dsvgraph.passes.compare import sweep as sweeping
from dsvgraph.passes.compare.sweep import Point, pareto_front, sweep
from dsvgraph.passes.count.cost import cost
from dsvgraph.passes.estimate import PlanOptions, plan

OVER = ("--over", "moe_intermediate_size=32,64", "--over", "n_routed_experts=8,15,16")


def test_points_are_what_cost_says(dsv):
    data = dsv("sweep", "deepseek_v3_tiny", *OVER, "--show", "train_flops", "--seq", 256, "--json").json
    assert (data["tried"], len(data["points"]), len(data["failed"])) == (6, 4, 2)
    assert data["units"]["cache"] == "byte/token"
    for point in data["points"]:
        settings = {name: point[name] for name in ("moe_intermediate_size", "n_routed_experts")}
        found = cost(dsvgraph.load("deepseek_v3_tiny", settings), seq=256, formulas=False)
        assert (point["total"], point["active"]) == (found.parameters.total, found.parameters.active)
        assert point["inference_flops"] == found.flops.inference_forward_per_token
        assert point["train_flops"] == found.flops.train_per_token
        assert point["cache"] == found.kv_cache.bytes_per_token
    assert all(point["error"] == "15 experts do not fall into 4 equal groups" for point in data["failed"])


def test_what_a_training_step_takes_is_a_quantity(dsv):
    """Chosen by it: what fits into so much memory."""
    told = ("--where", "peak < 40e6", "--x", "peak_checkpointed", "--batch", 4, "--seq", 64)
    data = dsv("sweep", "deepseek_v3_tiny", *OVER, *told, "--json").json
    peaks = {}
    for point in product((32, 64), (8, 16)):
        settings = dict(zip(("moe_intermediate_size", "n_routed_experts"), point))
        memory = plan(dsvgraph.load("deepseek_v3_tiny", settings), PlanOptions(batch=4, seq=64)).memory
        peaks[point] = memory.peak.value, memory.peak_checkpointed.value
    kept = {point: both for point, both in peaks.items() if both[0] < 40e6}
    assert 0 < len(kept) < len(peaks) and data["units"]["peak"] == "byte"
    found = {
        (p["moe_intermediate_size"], p["n_routed_experts"]): (p["peak"], p["peak_checkpointed"]) for p in data["points"]
    }
    assert found == kept


def test_processes_give_the_points_in_order():
    spec = dsvgraph.load("llama3_8b").spec
    assert spec is not None
    grid = {"intermediate_size": list(range(1024, 1024 + 16 * 40, 16)), "num_hidden_layers": [1, 2, 3]}
    done: list[int] = []
    found = sweep(spec, grid, quantities=["total"], processes=2, progress=done.append)
    assert [(p.settings["intermediate_size"], p.settings["num_hidden_layers"]) for p in found] == list(
        product(*grid.values())
    )
    mlp = 3 * 4096 * 16  # what sixteen more of the width add to a layer
    assert found[5].quantities["total"] - found[2].quantities["total"] == 3 * mlp
    assert done[-1] == 120 and len(done) > 1


def test_the_front_is_what_nothing_beats():
    points = [Point({"a": a, "b": (7 * a * a + 3) % 23}, {}) for a in range(40)]
    for less in product((True, False), repeat=2):
        best = {id(p) for p in pareto_front(points, "a", "b", less)}
        signs = [1 if wanted else -1 for wanted in less]
        for p in points:
            mine = signs[0] * p.settings["a"], signs[1] * p.settings["b"]
            others = [(signs[0] * q.settings["a"], signs[1] * q.settings["b"]) for q in points]
            beaten = any(a <= mine[0] and b <= mine[1] and (a, b) != mine for a, b in others)
            assert (id(p) in best) != beaten


def test_choosing_and_sorting(dsv, tmp_path):
    words = (*OVER, "--where", "n_routed_experts * moe_intermediate_size <= 512 and active < 2e6", "--sort", "-total")
    assert dsv("sweep", "deepseek_v3_tiny", *words, "--csv", tmp_path / "all.csv").code == 0
    rows = list(csv.DictReader((tmp_path / "all.csv").open(encoding="utf-8")))
    chosen = [row for row in rows if not row["error"]]
    sizes = {(row["n_routed_experts"], row["moe_intermediate_size"]) for row in chosen}
    assert sizes == {("8", "32"), ("8", "64"), ("16", "32")}
    totals = [int(row["total"]) for row in chosen]
    assert totals == sorted(totals, reverse=True)
    assert {row["n_routed_experts"] for row in rows if row["error"]} == {"15"}
    assert {row["front"] for row in chosen} <= {"0", "1"}


def test_the_table(dsv):
    out = dsv("sweep", "deepseek_v3_tiny", *OVER, "--top", 1).out
    assert out.startswith("DeepSeek-V3-tiny: 6 combinations, 4 that check, ")
    assert "\nand 3 more: --top N prints them, --csv FILE writes all\n" in out
    assert "\n2 do not check, the first with moe_intermediate_size=32, n_routed_experts=15:\n" in out


def test_none_that_checks(dsv):
    answer = dsv("sweep", "deepseek_v3_tiny", "--over", "n_routed_experts=15,7", "--over", "rope_scaling=null")
    assert answer.code == 1 and "front: no other" not in answer.out
    assert "\n1 does not check, with n_routed_experts=15, rope_scaling=null:\n" in answer.out


def test_a_condition_without_a_value_is_told_with_its_point(dsv):
    words = ("--over", "n_routed_experts=8,16", "--where", "total / (n_routed_experts - 8) > 1", "--json")
    data = dsv("sweep", "deepseek_v3_tiny", *words).json
    assert [point["n_routed_experts"] for point in data["points"]] == [16]
    (failed,) = data["failed"]
    assert failed["n_routed_experts"] == 8 and "division by zero" in failed["error"]


def test_the_plot(dsv, tmp_path):
    pytest.importorskip("matplotlib")
    picture = tmp_path / "front.svg"
    assert dsv("sweep", "deepseek_v3_tiny", *OVER, "--plot", picture, "--x", "cache", "--y", "total:less").code == 0
    assert "<svg" in picture.read_text(encoding="utf-8")
    answer = dsv("sweep", "deepseek_v3_tiny", *OVER, "--plot", tmp_path / "front.doc")
    assert answer.code == 1 and "not as `front.doc`" in answer.err


@pytest.mark.parametrize(
    ("options", "code", "words"),
    [
        (["--over", "hidden_sise=1,2"], 1, "hidden_sise"),
        (["--over", "hidden_size"], 2, "name=value,value"),
        ([*OVER, "--over", "n_routed_experts=32"], 2, "`n_routed_experts` is given twice"),
        (["--over", "hidden_act=silu,gelu", "--x", "hidden_act"], 2, "values that are no numbers"),
        ([*OVER, "--where", "open(1) < 2"], 1, "there is no function `open`"),
        ([*OVER, "--where", "params < 1"], 1, "there is no `params`"),
        ([*OVER, "--where", "rope_scaling < 1"], 1, "cannot be decided"),
        ([*OVER, "--sort", "speed"], 2, "there is no quantity `speed`"),
        ([*OVER, "--x", "active:best"], 2, "expected less or more"),
        (["--over", f"vocab_size={','.join(map(str, range(500)))}", "--over",
          f"hidden_size={','.join(map(str, range(500)))}"], 1, "250,000 combinations"),
    ],
)  # fmt: skip
def test_what_is_refused(dsv, options, code, words):
    answer = dsv("sweep", "deepseek_v3_tiny", *options)
    assert answer.code == code
    assert words in " ".join(answer.err.replace("│", " ").split())


def test_sweeping_needs_no_torch(program):
    answer = program("sweep", "deepseek_v3_tiny", "--over", "hidden_size=128,256", env={"PYTHONPROFILEIMPORTTIME": "1"})
    imported = {line.rpartition("|")[2].strip() for line in answer.err.splitlines()}
    assert answer.code == 0 and "dsvgraph.passes.compare.sweep" in imported
    assert not {"torch", "numpy", "matplotlib"} & imported


def test_a_process_that_is_ended_from_outside(dsv, monkeypatch, tmp_path):
    """As the system does where memory runs short: nobody waits for it, and nothing is half-written."""
    monkeypatch.setattr(sweeping._Counting, "points", lambda self, chunk: os.kill(os.getpid(), signal.SIGKILL))
    monkeypatch.setattr(sweeping, "_cores", lambda: 2)
    path = tmp_path / "points.csv"
    grid = f"moe_intermediate_size={','.join(map(str, range(32, 32 * 200, 32)))}"
    answer = dsv("sweep", "deepseek_v3_tiny", "--over", grid, "--csv", path)
    assert answer.code == 1 and "was ended from outside" in answer.err and not path.exists()
