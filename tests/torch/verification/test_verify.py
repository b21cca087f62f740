"""`cost --verify`: torch's count of the compiled module is the cost to the unit, and a wrong formula is caught."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

torch = pytest.importorskip("torch")

from helpers import SMALL, TUTORIAL, V3, small  # noqa: E402
from verifying import differences, verified  # noqa: E402

import dsvgraph  # noqa: E402
from dsvgraph.ops import OPS  # noqa: E402
from dsvgraph_torch import verify  # noqa: E402
from dsvgraph_torch.verification import step_flops  # noqa: E402

BUNDLED = dsvgraph.loader.bundled()
LARGE = sorted(p.stem for p in BUNDLED.glob("*.yaml") if p.stem not in ("deepseek_v3", *SMALL))
VARIANTS = sorted(str(p) for p in (BUNDLED / "variants").glob("*.yaml"))
VARIANTS += [f"losses/{name}" for name in ("curriculum_forward", "end_to_end_tv", "fsp")]  # a schedule, a pair, a bag


def test_deepseek_v3_in_full_size() -> None:
    """671 billion parameters on the meta device, a reduced model of the same 62 layers with real numbers."""
    found = verified(dsvgraph.load("deepseek_v3"), seq=4096)
    assert found.equal
    main, real = found.runs
    assert main.total.forward.ours * 3 == 1_195_432_105_476_096  # 281.16 + 10.70 GFLOPs for each of 4,096 tokens
    assert [b.path for b in main.blocks] == [b.path.replace("[0-15]", "[0-255]") for b in real.blocks]
    assert (real.changed["hidden_size"], real.changed["n_routed_experts"]) == (56, 16)  # the router takes 8 of half
    assert not main.changed
    logits = 2 * 7168 * 129280  # of one position
    assert found.step.without_target == logits  # the MTP module's last position
    assert found.step.recomputed == logits * (4096 + 4095)  # the loss takes them in chunks, and again


@pytest.mark.parametrize("name", LARGE)
def test_models_of_the_zoo(name: str) -> None:
    """Their own widths, a few layers."""
    found = verified(dsvgraph.load(name, {"num_hidden_layers": 4}))
    assert found.equal, differences(found)
    assert found.runs[1].changed


@pytest.mark.parametrize("name", VARIANTS)
def test_variants(name: str) -> None:
    found = verified(dsvgraph.load(name, {"num_hidden_layers": 2}))
    assert found.equal, differences(found)


DEPTHS = [("deepseek_v3", V3, d) for d in range(4)]
DEPTHS += [(name, sizes, d) for name, sizes in (("deepseek_v3_paper", V3), ("tutorial_mtp", TUTORIAL)) for d in (0, 3)]


@pytest.mark.parametrize(("name", "config", "depth"), DEPTHS)
def test_depths(name: str, config: dict[str, int], depth: int) -> None:
    found = verified(dsvgraph.load(name, {**config, "num_nextn_predict_layers": depth}))
    assert found.equal, differences(found)
    assert found.step.equal
    assert found.step.without_target == 2 * 32 * 61 * sum(range(depth + 1))  # depth k has no target at the last k


@pytest.mark.parametrize("name", sorted(SMALL.keys() - {name for name, _, _ in DEPTHS}))
def test_small_specs(name: str) -> None:
    """The others."""
    found = verified(small(name))
    assert found.equal, differences(found)


# -- what a mistake looks like -----------------------------------------------------------------------

FEWER = small("deepseek_v3", num_nextn_predict_layers=1)


@pytest.mark.parametrize("op", ["linear", "attention", "rms_norm", "router"])
def test_a_wrong_formula_is_found(op: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """One operation too many, in one op, is a difference in every block that has it and in no other."""
    right = OPS[op].flops
    monkeypatch.setattr(OPS[op], "flops", lambda *args: right(*args) + 1)
    found = verify(FEWER, 1, 40)
    assert not found.equal
    for run in found.runs:
        assert not run.total.equal
        assert {b.block for b in run.blocks if not b.equal} >= {"decoder_layer", "mtp_layer"}
        assert run.lines
        mlps = [b for b in run.blocks if b.block == "mlp" and "experts" not in b.path]
        assert all(b.equal is (op != "linear") for b in mlps)


def first_operands(products: list[Any]) -> list[Any]:
    return [replace(product, operands=product.operands[:1]) for product in products]


def test_a_wrong_backward_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    for op in (op for op in OPS.values() if "products" in vars(op)):
        right = op.products
        monkeypatch.setattr(op, "products", lambda *args, right=right: first_operands(right(*args)))
    found = verify(FEWER, 1, 40)
    assert all(b.forward.difference == 0 and b.backward.difference > 0 for b in differences(found))
    assert not found.equal


def test_a_wrong_loss_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    """A loss that scored one position more or less."""
    monkeypatch.setattr(step_flops, "_lost", lambda model, loss, depth: depth + 1)
    found = verify(small("deepseek_v3"), 1, 40)
    assert not found.equal
    assert not differences(found)
    assert found.step.forward.difference == 3 * 2 * 32 * 61  # in each of three heads


def test_an_op_that_moves_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    """The whole agrees where one op is counted too low and another too high; the blocks do not."""
    right = OPS["linear"].flops

    def shifted(self: Any, ins: Any, outs: Any, attention: str = "causal") -> Any:
        sizes = {(32,): 2, (40,): 1}  # down_proj gains what gate_proj and up_proj lose
        width, out = ins["x"].shape[-1], self.out
        if (width, out) == (32, (40,)):
            return right(self, ins, outs, attention) - sizes[40,]
        return right(self, ins, outs, attention) + (sizes[32,] if (width, out) == (40, (32,)) else 0)

    monkeypatch.setattr(OPS["linear"], "flops", shifted)
    run = verify(FEWER, 1, 40).runs[0]
    assert run.total.equal
    assert not run.equal
    assert {line.line for line in run.lines} == {"gate_proj", "up_proj", "down_proj"}
