"""The zoo: counts beside published figures, and docs/zoo.md as the command prints it."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import dsvgraph
from dsvgraph.cli.options import bundled_names
from dsvgraph.cli.read.zoo import bundled, markdown_lines
from dsvgraph.loader import bundled as bundled_files
from dsvgraph.loader import read
from dsvgraph.passes.compare.zoo import agreement, compare_published
from dsvgraph.passes.count.cost import cost
from dsvgraph.passes.text.show import show

PAGE = Path(__file__).parents[3] / "docs/zoo.md"
TOTALS = {  # sums over the released checkpoints
    "deepseek_v3": 671_026_419_200,
    "deepseek_v2_lite": 15_706_484_224,
    "deepseek_moe_16b": 16_375_728_128,
    "llama3_8b": 8_030_261_248,
    "qwen3_30b_a3b": 30_532_122_624,
    "mixtral_8x7b": 46_702_792_704,
    "gpt_oss_20b": 20_914_757_184,
}
ACTIVE = {  # in billions: all, without the embedding, without embedding and head
    "deepseek_v3": (37.55, 36.63, 35.70),
    "deepseek_v2_lite": (2.66, 2.45, 2.24),
    "deepseek_moe_16b": (2.83, 2.62, 2.41),
    "gpt_oss_20b": (4.19, 3.61, 3.03),
}


@pytest.mark.parametrize("name", TOTALS)
def test_totals_are_those_of_the_checkpoints(name: str) -> None:
    found = compare_published(dsvgraph.load(name))
    assert found.parameters == TOTALS[name]
    assert found.ok
    assert found.published


@pytest.mark.parametrize("name", ACTIVE)
def test_active_parameters_by_convention(name: str) -> None:
    assert tuple(round(n / 1e9, 2) for n in compare_published(dsvgraph.load(name)).active.values()) == ACTIVE[name]


@pytest.mark.parametrize(
    ("count", "figure", "word"),
    [
        (36_625_618_432, "37B", "rounded"),
        (37_552_297_472, "37B", "cut"),
        (35_698_939_392, "37B", ""),
        (2_451_435_008, "2.4B", "cut"),
        (2_451_435_008, "2.5B", "rounded"),
        (2_451_435_008, "2.45B", "rounded"),
        (2_451_435_008, "2.450B", ""),
        (1_600_000_000_000, "1.6T", "rounded"),
        (999_500_000, "1B", "rounded"),
        (500, "1K", "rounded"),
        (400, "1K", ""),
    ],
)
def test_how_a_count_becomes_a_figure(count: int, figure: str, word: str) -> None:
    assert agreement(count, figure) == word


def test_conventions_that_fit() -> None:
    """DeepSeek-V3's 37B is 36.6B rounded or 37.6B cut, and nothing else."""
    assert compare_published(dsvgraph.load("deepseek_v3")).fits == ("all", "without_embedding")
    assert compare_published(dsvgraph.load("deepseek_moe_16b")).fits == ("all",)
    assert compare_published(dsvgraph.load("qwen3_8b")).fits == ("without_embedding_and_head",)


# -- the section `published` ------------------------------------------------------------------


def test_figures_are_not_inherited() -> None:
    assert dsvgraph.load("deepseek_v3").spec.published.model.parameters == "671B"
    assert dsvgraph.load("deepseek_v3_tiny").spec.published is None
    assert dsvgraph.load("deepseek_v3", {"hidden_size": 1024}).spec.published is None
    assert dsvgraph.load("deepseek_v3", symbolic=["num_nextn_predict_layers"]).spec.published is not None


def test_blocks_that_are_included_bring_no_figures(tmp_path: Path) -> None:
    (tmp_path / "blocks.yaml").write_text("published: {parameters: 8B, source: nobody}")
    (tmp_path / "spec.yaml").write_text("extends: llama3_8b.yaml\ninclude: [blocks.yaml]")
    with pytest.raises(dsvgraph.DsvError, match="has a section `published`, and `include` brings only blocks"):
        dsvgraph.load(str(tmp_path / "spec.yaml"))


def test_figures_are_shown() -> None:
    text = show(dsvgraph.load("mixtral_8x7b"))
    assert "\npublished: {parameters: 46.7B, active: 12.9B, active_counts: all, source: " in text
    assert compare_published(dsvgraph.loads(text)) == compare_published(dsvgraph.load("mixtral_8x7b"))


# -- variants ---------------------------------------------------------------------------------

VARIANTS = sorted((bundled_files() / "variants").glob("*.yaml"))


LINES = {"eagle3": 8, "mutor": 6}
"""Lines of a variant's graph that DeepSeek-V3 does not have, where more than 4: EAGLE-3 reads three layers."""


@pytest.mark.parametrize("path", VARIANTS, ids=lambda path: path.stem)
def test_a_variant_is_a_line_or_two(path: Path) -> None:
    """One line of config, or a graph of which nearly all lines are DeepSeek-V3's."""
    own, base = read(path).data, read(bundled_files() / "deepseek_v3.yaml").data["graph"]
    assert own["extends"] == "deepseek_v3_tiny.yaml"
    if "graph" not in own:
        assert own.keys() - {"include"} == {"name", "extends", "config"} and len(own["config"]) == 1
        return
    assert own["graph"]["in"] == base["in"] and own["graph"]["out"].items() <= base["out"].items()
    lines = [f"{name}: {line}" for name, line in own["graph"]["body"].items()]
    same = [f"{name}: {line}" for name, line in base["body"].items()]
    assert len([line for line in lines if line not in same]) <= LINES.get(path.stem, 4)


def test_variants_are_bundled(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert dsvgraph.load("variants/medusa").name == "DeepSeek-V3-tiny, Medusa"
    assert "variants/medusa" in bundled_names("var") and "llama3_8b" in bundled_names("")


# -- the command and its page -----------------------------------------------------------------


def test_the_page_has_the_table_of_the_command(request: pytest.FixtureRequest) -> None:
    table = "\n".join(markdown_lines([compare_published(model) for model in bundled()])) + "\n"
    page = PAGE.read_text(encoding="utf-8")
    if request.config.getoption("--update-golden"):
        page = re.sub(r"(\|.*\n)+", lambda _: table, page, count=1)
        PAGE.write_text(page, encoding="utf-8")
    assert table in page, "pytest --update-golden puts what `dsvgraph zoo --markdown` prints into docs/zoo.md"


def test_every_number_of_the_page_is_counted() -> None:
    """The integers of docs/zoo.md come from the models, and those of the MTP module from its shapes."""
    text = PAGE.read_text(encoding="utf-8")
    found = {int(n.replace(",", "")) for n in re.findall(r"\d{1,3}(?:,\d{3})+", text)}
    known = {n for model in bundled() for n in _numbers(compare_published(model))} | _mtp_numbers()
    assert found <= known, f"nothing counts {sorted(found - known)}"


def _numbers(entry: Any) -> set[int]:
    return {entry.total, entry.parameters, *entry.active.values()}


def _mtp_numbers() -> set[int]:
    """The released MTP module, part by part: the layer, eh_proj and norms, one vocabulary matrix."""
    main, module = dsvgraph.load("deepseek_v3", {"num_nextn_predict_layers": 0}), dsvgraph.load("deepseek_v3")
    unique = cost(module).parameters.total - cost(main).parameters.total
    projection, norms, table = 7168 * 14336, 3 * 7168, 129280 * 7168
    layer = unique - projection - norms
    met = cost(module).parameters.active_all_outputs - cost(main).parameters.active
    active = met - projection - norms
    files = cost(module).parameters.total + 2 * table
    parts = {unique, projection, norms, table, layer, 2 * table, files, active, met}
    return parts | {active + table, active + 2 * table, unique + 2 * table}


def program(*args: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-m", "dsvgraph", "zoo", *args], capture_output=True, text=True)


def test_the_command_needs_no_torch() -> None:
    code = "import sys; from dsvgraph.cli.read.zoo import run; run(); print(*{'torch', 'numpy'} & set(sys.modules))"
    out = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout
    assert out.startswith("model ") and out.splitlines()[-1] == ""


@pytest.mark.slow
def test_a_contradiction_is_told_and_fails(tmp_path: Path) -> None:
    text = show(dsvgraph.load("qwen3_8b")).replace("parameters: 8.2B", "parameters: 8.3B").replace("6.95B", "7.57B")
    path = tmp_path / "qwen.yaml"
    path.write_text(text, encoding="utf-8")
    answer = program(str(path))
    assert answer.returncode == 1
    assert answer.stdout.splitlines()[-5].split()[-1] == "NO"
    assert "error[E0211]: Qwen3-8B has 8,190,735,360 parameters, 8.3B are published" in answer.stderr
    assert "help: `active_counts: without_embedding` gives it" in answer.stderr
    assert "qwen.yaml:3:" in answer.stderr
    found = json.loads(program(str(path), "--json").stdout)
    assert found["ok"] is False and len(found["errors"]) == 2
    assert [entry["name"] for entry in found["models"] if not entry["ok"]] == ["Qwen3-8B"]


def test_as_json() -> None:
    answer = program("--json")
    found = {entry["name"]: entry for entry in json.loads(answer.stdout)["models"]}
    assert answer.returncode == 0
    assert found["DeepSeek-V3"]["total"] == 682_636_487_424
    assert found["DeepSeek-V2-Lite"]["agree"] == {"parameters": "rounded", "active": "cut"}
    assert found["DeepSeek-V3-tiny"]["published"] is None
