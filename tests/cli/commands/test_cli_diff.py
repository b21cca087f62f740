"""`dsvgraph diff` over many specs: the table, what is shared, CSV and plot."""

from __future__ import annotations

import csv

import pytest

import dsvgraph
from dsvgraph.graph import join
from dsvgraph.passes.compare.diff import shared_parameters


def paths(graph, prefix=""):
    """Path and shape of every weight, copies written out."""
    for node in graph.nodes.values():
        yield from ((join(prefix, node.at, name), weight.shape, weight.numel) for name, weight in node.weights.items())
        for number, inner in node.copy_graphs():
            yield from paths(inner, join(prefix, node.segment(number)))


@pytest.mark.parametrize(
    ("other", "settings"),
    [
        ("deepseek_v3_tiny", {"num_hidden_layers": 7, "n_routed_experts": 8}),
        ("deepseek_v3_tiny", {"moe_intermediate_size": 32}),
        ("deepseek_v3_tiny", {"num_nextn_predict_layers": 0, "first_k_dense_replace": 2}),
        ("variants/eagle", {}),
        ("tutorial_mtp", {}),
    ],
)
def test_shared_weights_are_those_written_out(other, settings):
    a, b = dsvgraph.load("deepseek_v3_tiny"), dsvgraph.load(other, settings)
    assert shared_parameters(a, b) == sum(numel for _, _, numel in {*paths(a)} & {*paths(b)})


def test_many_specs(dsv):
    out = dsv("diff", "deepseek_v3", "deepseek_v3_paper", "llama3_8b").out
    lines = out.splitlines()
    assert lines[0] == "3 specs: 1 x 4,096 tokens, causal attention; percent: more than the first"
    assert " ".join(lines[5].split()) == (
        "Llama-3-8B 8.030 B -98.8% 8.030 B -78.6% 48.25 G -81.5% 16.08 G -80.7% 131.1 K +86.5%"
    )
    assert "DeepSeek-V3                         100.0%         11.61 B      3.397 G" in lines
    assert all(len(line) <= 100 for line in lines)


def test_two_specs_tell_what_they_share(dsv):
    out = dsv("diff", "deepseek_v3_tiny", "--set", "num_nextn_predict_layers=0").out
    assert out.endswith("\n1,678,896 parameters are shared: one path, one shape\n")
    line = next(line for line in out.splitlines() if line.startswith("parameters, for training alone"))
    assert line.split()[4:] == ["1,009,120", "0", "-1,009,120", "-100.0%"]
    assert dsv("diff", "deepseek_v3_tiny", "--set", "num_nextn_predict_layers=0", "--json").json["shared"] == 1_678_896


def test_many_specs_as_json(dsv):
    first, other = dsv("diff", "deepseek_v3_tiny", "deepseek_v3_tiny", "tutorial_mtp", "--json").json[::2]
    assert first["shared_with_first"] == first["parameters"]["total"]
    assert first["training_alone"]["parameters"] == 2 * 504_560  # two depths of MTP
    assert other["name"] == "Tutorial-MTP" and other["shared_with_first"] == 0


@pytest.mark.parametrize("words", [("tutorial_mtp",), ("tutorial_mtp", "llama3_8b"), ("--mtp", "0,2")])
def test_csv_and_plot(dsv, tmp_path, words):
    pytest.importorskip("matplotlib")
    sheet, picture = tmp_path / "costs.csv", tmp_path / "costs.svg"
    assert dsv("diff", "deepseek_v3_tiny", *words, "--csv", sheet, "--plot", picture).code == 0
    rows = [row for row in csv.DictReader(sheet.open(encoding="utf-8")) if row["name"] == "parameters.total"]
    assert len(rows) == (3 if len(words) == 2 and words[0] != "--mtp" else 2)
    first, last = rows[0], rows[-1]
    assert int(last["more"]) == int(last["value"]) - int(first["value"])
    assert float(last["percent"]) == pytest.approx(100 * int(last["more"]) / int(first["value"]))
    assert "<svg" in picture.read_text(encoding="utf-8")


def everything():
    """Every bundled spec, those of variants and losses, and the templates."""
    home = dsvgraph.loader.bundled()
    return [str(path) for folder in ("", "variants", "losses", "templates") for path in (home / folder).glob("*.yaml")]


@pytest.mark.parametrize("first", ["llama3_8b", "deepseek_v3", "variants/hyper_connections"])
def test_every_model_has_every_quantity(dsv, first):
    """An op that one model alone has costs the others nothing: no row is missing, none is empty."""
    answer = dsv("diff", first, *everything(), "--csv", "-")
    assert answer.code == 0
    rows = list(csv.DictReader(answer.out.splitlines()))
    found = {}
    for row in rows:
        found.setdefault(row["model"], {})[row["name"]] = float(row["value"]), float(row["more"])
    models = list(found.values())
    assert len(models) == 1 + len(everything())
    assert all(model.keys() == models[0].keys() for model in models)
    assert {"flops.by_op.router", "flops.by_op.einsum", "flops.by_op.linear"} <= models[0].keys()
    for model in models:
        assert all(more == value - models[0][name][0] for name, (value, more) in model.items())
        assert sum(value for name, (value, _) in model.items() if "by_op" in name) == model["flops.forward"][0]


def test_an_op_of_one_model_is_a_row_of_both(dsv):
    rows = [row.split(",") for row in dsv("diff", "llama3_8b", "mixtral_8x7b", "--csv", "-").out.splitlines()]
    assert [row[2:] for row in rows if row[1] == "flops.by_op.router"] == [
        ["0", "FLOP", "0", ""],
        [str(4096 * 32 * 2 * 4096 * 8), "FLOP", str(4096 * 32 * 2 * 4096 * 8), ""],
    ]
    back = [row.split(",") for row in dsv("diff", "mixtral_8x7b", "llama3_8b", "--csv", "-").out.splitlines()]
    (gone,) = [row[2:] for row in back if row[:2] == ["Llama-3-8B", "flops.by_op.router"]]
    assert gone == ["0", "FLOP", str(-4096 * 32 * 2 * 4096 * 8), "-100.0"]
