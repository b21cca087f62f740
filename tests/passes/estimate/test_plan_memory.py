"""Memory against torch: what autograd keeps, and the most that a training step takes, on a CPU."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from typing import Any

import pytest

import dsvgraph
from dsvgraph.passes.count.cost import cost
from dsvgraph.passes.count.quantity import plain
from dsvgraph.passes.estimate.memory import TrainingMemory, training

torch = pytest.importorskip("torch")

from dsvgraph_torch import compile  # noqa: E402

MEASURING = importlib.util.spec_from_file_location("measuring", Path("benchmarks/memory.py"))
assert MEASURING and MEASURING.loader
measuring: Any = importlib.util.module_from_spec(MEASURING)
sys.modules["measuring"] = measuring
MEASURING.loader.exec_module(measuring)

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}


def predicted(model: dsvgraph.Model, batch: int, seq: int, dtype: Any) -> TrainingMemory:
    counts = cost(model, formulas=False).parameters
    return training(model, batch, seq, counts.trained, dtype, fused=False, owned=counts.total)


def ids(model: dsvgraph.Model, batch: int, seq: int) -> Any:
    return torch.randint(0, model.config["vocab_size"], (batch, seq))


def autograd_keeps(model: dsvgraph.Model, batch: int, seq: int, dtype: str) -> int:
    """Bytes of the distinct storages that are saved for the backward; weights themselves are none."""
    module = compile(model).train()
    weights = {t.untyped_storage().data_ptr() for t in [*module.parameters(), *module.buffers()]}
    kept, found = [], {}

    def pack(tensor: Any) -> Any:
        kept.append(tensor)  # so that no address is used twice
        found[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
        return tensor

    hooks = torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor)
    with hooks, torch.autocast("cpu", DTYPES[dtype], enabled=dtype != "float32"):
        loss = module(ids(model, batch, seq), ids(model, batch, seq))["loss"]
    assert loss.requires_grad
    return sum(size for address, size in found.items() if address not in weights)


KEPT = ("activations", "weight_copies", "logits")
CASES = [("deepseek_v3_tiny", {"num_nextn_predict_layers": depth}, 0.002) for depth in range(4)]
CASES += [
    ("variants/eagle", {}, 0.002),  # one set of weights used twice
    ("variants/medusa", {}, 0.002),
    ("losses/self_distillation", {}, 0.005),  # two values for each logit of the chain, none for the model's
    ("variants/qk_norms", {}, 0.002),
    ("variants/hyper_connections", {}, 0.06),  # torch's einsum copies some factors
]


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("name", "config", "within"), CASES)
def test_activations_are_what_autograd_keeps(name: str, config: dict[str, int], within: float, dtype: str) -> None:
    model = dsvgraph.load(name, config)
    memory = predicted(model, 2, 48, dtype)
    kept = memory.activations.value + memory.weight_copies.value + memory.logits.value
    assert kept == pytest.approx(autograd_keeps(model, 2, 48, dtype), rel=within)


@pytest.mark.parametrize("dtype", DTYPES)
def test_frozen_weights_need_no_factor(dtype: str) -> None:
    paths = ("model.layers.1.**", "**.o_proj.weight", "model.embed_tokens.weight")
    frozen = "extends: deepseek_v3_tiny.yaml\ntrained:\n" + "".join(f"  {path!r}: false\n" for path in paths)
    model = dsvgraph.loads(frozen)
    memory = predicted(model, 2, 48, dtype)
    kept = memory.activations.value + memory.weight_copies.value + memory.logits.value
    assert kept == pytest.approx(autograd_keeps(model, 2, 48, dtype), rel=0.01)
    assert kept < 0.995 * sum(plain(predicted(dsvgraph.load("deepseek_v3_tiny"), 2, 48, dtype))[n] for n in KEPT)


@pytest.mark.parametrize(
    ("depth", "dtype", "checkpoint"),
    [(0, "float32", True), (0, "bfloat16", False), (3, "float32", False), (3, "bfloat16", True)],
)
def test_the_peak_is_the_allocators(depth: int, dtype: str, checkpoint: bool) -> None:
    model = dsvgraph.load("deepseek_v3_tiny", {"num_nextn_predict_layers": depth})
    case = measuring.Case(model, 4, 64, dtype, checkpoint)
    assert measuring.expected(case) == pytest.approx(measuring.allocated(case), rel=0.1)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")
@pytest.mark.parametrize("checkpoint", [False, True])
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("depth", [0, 1, 2, 3])
def test_the_peak_is_the_allocators_on_a_gpu(depth: int, dtype: str, checkpoint: bool) -> None:
    model = dsvgraph.load("deepseek_v3_tiny", {"num_nextn_predict_layers": depth})
    case = measuring.Case(model, 4, 64, dtype, checkpoint, "cuda")
    assert measuring.expected(case) == pytest.approx(measuring.allocated(case), rel=0.1)


def test_logits_that_are_made_in_chunks_are_not_kept() -> None:
    model = dsvgraph.load("deepseek_v3")
    memory = predicted(model, 1, 4096, "bfloat16")
    assert memory.logits.value == 0
    assert memory.logits_unchunked.value == 4 * 129280 * (4096 + 4095)  # the second head has no target for the last


def test_a_formula_gives_the_number() -> None:
    model = dsvgraph.load("deepseek_v3")
    memory = predicted(model, 3, 512, "bfloat16")
    value = eval(memory.activations.formula, {"B": 3, "T": 512})
    assert value == memory.activations.value
    assert memory.activations_checkpointed.formula.endswith("*B*T")
