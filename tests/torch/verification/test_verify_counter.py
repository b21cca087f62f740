"""The counter behind `cost --verify`: nothing is left out, and what is no part of the cost is told apart."""

from __future__ import annotations

from typing import Any

import pytest

torch = pytest.importorskip("torch")

from helpers import small  # noqa: E402
from torch.utils._python_dispatch import TorchDispatchMode  # noqa: E402
from torch.utils.flop_counter import FlopCounterMode  # noqa: E402
from verifying import flows  # noqa: E402

import dsvgraph  # noqa: E402
from dsvgraph_torch import verify, weights  # noqa: E402
from dsvgraph_torch.module import compile  # noqa: E402
from dsvgraph_torch.verification import counter  # noqa: E402
from dsvgraph_torch.verification.counter import counted  # noqa: E402
from dsvgraph_torch.verification.reduced import reduced_model  # noqa: E402
from dsvgraph_torch.verification.report import REAL  # noqa: E402


class Seen(TorchDispatchMode):
    """Every op that runs."""

    def __init__(self) -> None:
        super().__init__()
        self.calls: dict[str, int] = {}

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = str(func._overloadpacket)
        self.calls[name] = self.calls.get(name, 0) + 1
        return func(*args, **(kwargs or {}))


def test_every_op_is_counted_or_listed() -> None:
    module = compile(small("deepseek_v3"))
    ids = {"input_ids": torch.randint(61, (2, 12))}
    with Seen() as seen:
        counts = counted(module, ids)
    known = {op.split(" ")[0] for op in counts.by_op}
    assert set(seen.calls) == known | counts.calls.keys()
    for op, calls in counts.calls.items():
        assert calls == seen.calls[op] or op in known
    assert {"aten.silu", "aten.sigmoid", "aten.embedding", "aten.sort", "aten.topk"} <= counts.calls.keys()
    assert not {"aten.mm", "aten.bmm", "aten.addmm", "aten._grouped_mm"} & counts.calls.keys()


@pytest.mark.parametrize("device", ["cpu", "meta"])
def test_totals_are_torchs_own(device: str) -> None:
    """A counter without our formulas gives the same for the ops that torch knows."""
    module = compile(dsvgraph.loads(flows()), device)
    ids = torch.zeros(2, 12, dtype=torch.long, device=device)
    with FlopCounterMode(display=False) as plain:
        found = module(ids)
        (found["logits"].sum() + found["side"].sum()).backward()
    counts = counted(module, {"ids": ids})
    own = sum(n for op, n in counts.by_op.items() if op not in counts.registered)
    assert plain.get_total_flops() == own > 0
    told = sum((counts.sites + counts.padding + counts.recomputed).values())
    assert told == sum(counts.by_op.values())


def test_formulas_of_attention_are_torchs() -> None:
    """Those of its GPU kernels, which it does not apply on a CPU."""
    from torch.utils.flop_counter import sdpa_backward_flop_count, sdpa_flop_count

    q, k, v = (2, 6, 10, 8), (2, 6, 12, 8), (2, 6, 12, 5)
    assert counter.flash(q, k, v) == sdpa_flop_count(q, k, v)
    assert counter.flash_backward((2, 6, 10, 5), q, k, v) == sdpa_backward_flop_count((2, 6, 10, 5), q, k, v)


GROUPED = [  # the product of each group is [m, k] x [k, n]
    ((7, 4), (3, 4, 5), [(2, 4, 5), (1, 4, 5), (4, 4, 5)]),  # rows are cut: experts
    ((4, 7), (7, 5), [(4, 2, 5), (4, 1, 5), (4, 4, 5)]),  # the inner axis: gradients of their weights
    ((3, 2, 4), (4, 9), [(2, 4, 4), (2, 4, 1), (2, 4, 4)]),  # columns
    ((3, 7, 4), (3, 4, 5), [(7, 4, 5)] * 3),  # nothing
]


@pytest.mark.parametrize(("a", "b", "parts"), GROUPED)
def test_formula_of_grouped_products(a: Any, b: Any, parts: list[tuple[int, int, int]]) -> None:
    assert counter.grouped(a, b) == sum(2 * m * k * n for m, k, n in parts)


class Checkpointed(torch.nn.Module):
    """Two layers whose forward runs again in the backward."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = torch.nn.Linear(8, 16, bias=False), torch.nn.Linear(16, 4, bias=False)

    def forward(self, x: Any) -> dict[str, Any]:
        part = lambda x: torch.sigmoid(self.b(torch.sigmoid(self.a(x))))  # noqa: E731
        return {"y": torch.utils.checkpoint.checkpoint(part, x, use_reentrant=False)}


def test_recomputation_is_told_apart() -> None:
    counts = counted(Checkpointed(), {"x": torch.randn(5, 8, requires_grad=True)})
    forward = 2 * 5 * (8 * 16 + 16 * 4)
    assert sum(n for p, n in counts.sites.items() if not p.backward) == forward
    assert sum(n for p, n in counts.sites.items() if p.backward) == 2 * forward
    assert sum(counts.recomputed.values()) == forward


def test_padding_is_told_apart() -> None:
    """Latent attention has values narrower than keys; a fused kernel multiplies zeros to make them equal."""
    found = verify(small("deepseek_v3"), 1, 40)
    pairs, wide = 2 * 2 * 40 * 40, (8 + 4) - 6  # heads, positions; widths
    assert found.runs[0].padding == 3 * 5 * pairs * wide
    sink = dsvgraph.load("gpt_oss_20b", {"num_hidden_layers": 1})
    assert verify(sink, 1, 40).runs[0].padding > 0


def test_the_number_of_threads_stays() -> None:
    before = torch.get_num_threads()
    verify(small("tutorial_mtp"), 1, 40)
    assert torch.get_num_threads() == before


# -- the reduced model -----------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["deepseek_v3", "gpt_oss_20b", "llama3_8b"])
def test_twins_are_small_and_of_the_same_lines(name: str) -> None:
    model = dsvgraph.load(name)
    found, changed = reduced_model(model)
    assert sum(torch.Size(s).numel() for s in weights(found).values()) < REAL
    assert found.config["num_hidden_layers"] == model.config["num_hidden_layers"]
    lines = [
        [(v.path.split("[")[0], v.node.name, v.node.callee) for v in dsvgraph.graph.walk(m)] for m in (model, found)
    ]
    assert lines[0] == lines[1]
    assert all(model.config[n] % v == 0 and v >= 8 for n, v in changed.items())
