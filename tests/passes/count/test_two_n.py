"""What docs/cost.md says of 2N: two FLOPs for each weight and each vector of a token that it meets."""

from __future__ import annotations

import re

import pytest

torch = pytest.importorskip("torch")

import dsvgraph  # noqa: E402
from dsvgraph.passes.count.cost import cost  # noqa: E402
from dsvgraph_torch import compile  # noqa: E402

HOME = dsvgraph.loader.bundled()
PATHS = sorted(path for folder in ("", "variants", "losses", "templates") for path in (HOME / folder).glob("*.yaml"))
NAMES = [path.relative_to(HOME).as_posix().removesuffix(".yaml") for path in PATHS]
DEPTH = "num_nextn_predict_layers"
OFFSETS = re.compile(r"(bias|sinks|(alpha_.|beta)\.weight)$")  # what is added or scales, by name in the checkpoint
NO_WEIGHTS = ("attention", "stack_attention", "einsum")  # ops whose products are of values alone

MORE = {  # layers x vectors more than one x weights, twice
    "qwen3_30b_a3b": 2 * 48 * (31 + 3) * 128,
    "qwen3_8b": 2 * 36 * (31 + 7) * 128,
    "variants/qk_norms": 2 * 4 * 3 * (48 + 32),
    "variants/eagle3": 2 * 3 * 128 * 128,  # the matrix on the taps, which no depth reads any more
    "losses/frequent_tokens": 2 * 3 * 128 * 128,  # the same model
    "variants/jtp": 2 * (4 * 128 * 128 + 256 * 128),  # the next token through the fetch layer, which stays without MTP
    "variants/dflash": 2 * (2 * 128 * 128 + 2 * (4 * 128 * 128 + 3 * 128 * 384 + 4 * 128) + 3 * 128),  # the draft
    "losses/fsp": 2 * 128 * 256,  # a head that only trains: FLOPs of the step, no active parameter
    "losses/top": 2 * 128 * 256,
    "variants/hyper_connections": 2 * 2 * 4 * 3 * (1 + 1 + 4 + 1) * 128,
}


def offsets(model: dsvgraph.Model) -> float:
    """Weights of the module that only add or scale, per token: an expert's for its share."""
    share = model.config.get("num_experts_per_tok", 0) / max(1, experts(model))
    state = compile(model, "meta").state_dict()
    return sum(w.numel() * (share if ".experts." in path else 1) for path, w in state.items() if OFFSETS.search(path))


def experts(model: dsvgraph.Model) -> int:
    names = ("n_routed_experts", "num_local_experts", "num_experts")
    return next((model.config[name] for name in names if name in model.config), 0)


@pytest.mark.parametrize("name", NAMES)
def test_forward_is_two_for_each_weight_and_vector(name: str) -> None:
    spec = dsvgraph.load(str(HOME / f"{name}.yaml"))
    model = dsvgraph.load(str(HOME / f"{name}.yaml"), {DEPTH: 0} if DEPTH in spec.config else {})
    found = cost(model, 1, 64, formulas=False)
    products = sum(n for op, n in found.flops.by_op.items() if op not in NO_WEIGHTS) / 64
    weights = found.parameters.active_without_embedding - offsets(model)
    assert products - 2 * weights == MORE.get(name, 0)


@pytest.mark.parametrize("name", [name for name in MORE if "/" not in name])
def test_the_page_says_so(name: str) -> None:
    page = (HOME.parent / "docs" / "cost.md").read_text(encoding="utf-8")
    assert re.search(rf"{name} \| .* = {MORE[name]:,} \|", page)


def test_a_head_of_several_depths_is_counted_for_each() -> None:
    """Every depth of the MTP chain multiplies with the main model's head once more."""
    found = []
    for depth in (1, 3):
        model = dsvgraph.load("deepseek_v3_tiny", {DEPTH: depth})
        counted = cost(model, 1, 64, formulas=False)
        products = counted.flops.forward_per_token - counted.flops.by_op["attention"] / 64
        found.append(products - 2 * (counted.parameters.active_all_outputs - offsets(model)))
    assert found[1] - found[0] == 2 * 2 * 128 * 256
