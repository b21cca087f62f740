"""The plan of a prefill and of a decoding step against what torch counts while the compiled module makes them."""

from __future__ import annotations

import pytest

torch = pytest.importorskip("torch")

from helpers import SMALL, built, small, tokens  # noqa: E402

import dsvgraph  # noqa: E402
from dsvgraph.passes.estimate import PlanOptions, plan  # noqa: E402
from dsvgraph_torch.verification.counter import SiteCounter  # noqa: E402

BUNDLED = dsvgraph.loader.bundled()
VARIANTS = sorted(str(path) for folder in ("variants", "losses") for path in (BUNDLED / folder).glob("*.yaml"))
LENGTHS = {"gpt_oss_20b": 3, "patterns.yaml": 3}  # rows no longer than the window, which torch does not skip


def counted(module: torch.nn.Module, ids: torch.Tensor, cache: dict[object, torch.Tensor] | None) -> int:
    """FLOPs of a prediction, without the zeros that kernels want."""
    with torch.no_grad(), SiteCounter(module) as counter:
        module.predict(ids, cache)
    return sum(counter.counts.sites.values())


@pytest.mark.parametrize("name", [*SMALL, *VARIANTS])
def test_inference_takes_what_the_plan_says(name: str) -> None:
    """FLOPs to the unit, and the bytes of the cache in 16 bits."""
    graph = small(name) if name in SMALL else dsvgraph.load(name, {"num_hidden_layers": 2})
    module, length = built(graph).eval(), LENGTHS.get(name.split("/")[-1], 7)
    ids, cache = tokens(2, length, 50), dict[object, torch.Tensor]()
    prefill = plan(graph, PlanOptions(phase="prefill", batch=2, seq=length, attention="full"))
    assert counted(module, ids, None) == prefill.flops.forward.value
    with torch.no_grad():
        module.predict(ids[:, :-1], cache)
    step = plan(graph, PlanOptions(phase="decode", batch=2, context=length, attention="full"))
    assert counted(module, ids[:, -1:], cache) == step.flops.forward.value
    assert 2 * sum(kept.numel() for kept in cache.values()) == step.memory.cache_without_windows.value
