"""docs/mtp.md: its table has every variant of multi-token prediction, with the numbers that are counted."""

from __future__ import annotations

import re
from pathlib import Path

import dsvgraph
from dsvgraph.loader import bundled

PAGE = Path(__file__).parents[2] / "docs" / "mtp.md"
ROW = re.compile(r"^\| `([\w/]+)` \|(.*)\|[^|]*\|[^|]*\|$", re.MULTILINE)
LAYERS = {"hyper_connections", "parallel", "qk_norms", "sandwich_norms"}  # other layers, the chain as it is
T = 256


def counted(name: str) -> tuple[int, float]:
    """Parameters that the heads add, and the share of training FLOPs, beside the model without them."""
    found = dsvgraph.cost(dsvgraph.load(name), 1, T, formulas=False)
    alone = dsvgraph.cost(dsvgraph.load("deepseek_v3_tiny", {"num_nextn_predict_layers": 0}), 1, T, formulas=False)
    return found.parameters.total - alone.parameters.total, found.flops.train / alone.flops.train - 1


def rewritten(row: re.Match[str]) -> str:
    parameters, share = counted(row[1])
    return f"| `{row[1]}` |{row[2]}| {parameters:+,} | {100 * share:+.1f} % |"


def test_the_numbers_of_the_table_are_counted(golden) -> None:
    golden("../../docs/mtp.md", ROW.sub(rewritten, PAGE.read_text(encoding="utf-8")))


def test_every_variant_has_its_row() -> None:
    rows = {row[1].removeprefix("variants/") for row in ROW.finditer(PAGE.read_text(encoding="utf-8"))}
    assert rows - {"deepseek_v3_tiny"} == {p.stem for p in (bundled() / "variants").glob("*.yaml")} - LAYERS
