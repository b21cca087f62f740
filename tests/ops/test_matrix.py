"""Every op in every pass: each has an expectation that something else than dsvgraph judges."""

from __future__ import annotations

import re
from typing import Any

import pytest
from cases import model_of, present, text_of

import dsvgraph
from dsvgraph.ops import OPS
from dsvgraph.passes.count.cost import cost
from dsvgraph.passes.estimate import PlanOptions, plan
from dsvgraph.passes.estimate.memory import training
from dsvgraph.passes.lint.unused import lint
from dsvgraph.passes.text.layout import layout
from dsvgraph.passes.text.reference import ops as pages
from dsvgraph.passes.text.schema.lines import callees

torch = pytest.importorskip("torch")

import dsvgraph_torch  # noqa: E402
from dsvgraph_graphviz import dot_source  # noqa: E402
from dsvgraph_torch.verification.counter import SiteCounter  # noqa: E402

EVERY = pytest.mark.parametrize("op", present())
B, T = 2, 12


def nodes(op: str) -> list[Any]:
    """The lines of the case that call the op."""
    return [n for g in model_of(op).graphs() for n in g.nodes.values() if n.callee == op]


def ids(model: dsvgraph.Model, seed: int = 0) -> Any:
    tables = (n.weights["weight"] for g in model.graphs() for n in g.nodes.values() if n.callee == "embedding")
    return torch.randint(0, next(tables).shape[0], (B, T), generator=torch.Generator().manual_seed(seed))


def test_every_op_has_a_case() -> None:
    assert all(nodes(op) for op in OPS)


@EVERY
def test_check(op: str) -> None:
    """The shapes that the op's rule gives are those that torch makes, line by line."""
    model = model_of(op)
    assert not [w.message for w in lint(model)]
    module = dsvgraph_torch.compile(model)
    logits = module(ids(model))["logits"]
    assert tuple(logits.shape) == (B, T, model.type(model.outputs["logits"]).shape[-1])


@EVERY
def test_cost_and_verify(op: str) -> None:
    """Forward, backward and a training step cost what torch's FlopCounterMode counts, as integers."""
    found = dsvgraph_torch.verify(model_of(op), batch=1, seq=T)
    assert found.equal, found.as_dict()
    owned = sum(w.numel for node in nodes(op) for w in node.weights.values())
    assert cost(model_of(op), 1, T).parameters.total >= owned


@EVERY
def test_plan(op: str) -> None:
    """The activations that a plan names are what autograd keeps, but for the ids and the sums of the loss."""
    model = model_of(op)
    counts = cost(model, formulas=False).parameters
    memory = training(model, B, T, counts.trained, "float32", fused=False, owned=counts.total)
    planned = memory.activations.value + memory.weight_copies.value + memory.logits.value
    assert planned == pytest.approx(kept_by_autograd(model), abs=8 * (B * T + B) + 64)


@EVERY
def test_plan_of_inference(op: str) -> None:
    """A prefill and a decoding step take the FLOPs that torch counts while the module predicts."""
    model = model_of(op)
    module, row, cache = dsvgraph_torch.compile(model).eval(), ids(model), dict[object, Any]()
    prefill = plan(model, PlanOptions(phase="prefill", batch=B, seq=T, attention="full"))
    step = plan(model, PlanOptions(phase="decode", batch=B, context=T, attention="full"))
    assert counted(module, row, None) == prefill.flops.forward.value
    with torch.no_grad():
        module.predict(row[:, :-1], cache)
    assert counted(module, row[:, -1:], cache) == step.flops.forward.value
    assert 2 * sum(kept.numel() for kept in cache.values()) == step.memory.cache_without_windows.value


def counted(module: Any, row: Any, cache: Any) -> int:
    """FLOPs of a prediction, without the zeros that kernels want."""
    with torch.no_grad(), SiteCounter(module) as counter:
        module.predict(row, cache)
    return sum(counter.counts.sites.values())


def kept_by_autograd(model: dsvgraph.Model) -> int:
    """Bytes of the distinct storages that are saved for the backward; weights themselves are none."""
    module = dsvgraph_torch.compile(model).train()
    weights = {t.untyped_storage().data_ptr() for t in [*module.parameters(), *module.buffers()]}
    alive, found = [], {}

    def pack(tensor: Any) -> Any:
        alive.append(tensor)  # so that no address is used twice
        found[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        module(ids(model), ids(model, 1))["loss"]
    return sum(size for address, size in found.items() if address not in weights)


@EVERY
def test_render(op: str) -> None:
    """A picture with all blocks open has the words that the op goes by, or its line's name."""
    drawn = dot_source(model_of(op), depth=9)
    words = {w for node in nodes(op) for w in (node.op.label(), node.name, node.callee)}
    assert any(re.search(rf"\b{re.escape(word)}\b", drawn) for word in words)


@EVERY
def test_emit(op: str) -> None:
    """The emitted file needs torch alone and gives the module's logits bit for bit."""
    model = model_of(op)
    module = dsvgraph_torch.compile(model).eval()
    space: dict[str, Any] = {"__name__": "emitted"}
    exec(compile(dsvgraph_torch.emit(model), "emitted.py", "exec"), space)
    other = space[type(module).__name__]().eval()
    other.load_state_dict(module.state_dict())
    assert "dsvgraph" not in re.findall(r"^(?:import|from) (\w+)", dsvgraph_torch.emit(model), re.MULTILINE)
    assert torch.equal(module(ids(model))["logits"], other(ids(model))["logits"])


@EVERY
def test_train(op: str) -> None:
    """A step lowers the loss of the same batch, and every weight of the op that gradients train moves."""
    model = model_of(op)
    module = dsvgraph_torch.compile(model).train()
    x, y = ids(model), ids(model, 1)
    optimizer = torch.optim.SGD(module.parameters(), lr=0.05)
    with torch.no_grad():
        for weight in module.parameters():  # so small at first that a step of any size does nothing
            weight.add_(torch.randn_like(weight), alpha=0.3)
    torch.manual_seed(0)
    first = module(x, y)["loss"]
    first.backward()
    owned = {w for node in nodes(op) for w, weight in node.weights.items() if weight.trained}
    gradients = {n.rpartition(".")[2] for n, p in module.named_parameters() if p.grad is not None}
    optimizer.step()
    torch.manual_seed(0)
    assert owned <= gradients and module(x, y)["loss"] < first


@EVERY
def test_fast_kernels(op: str) -> None:
    """The kernels that train faster on a CPU give the same losses."""
    model = model_of(op)
    plain, fast = (dsvgraph_torch.compile(model, kernels=kernels).eval() for kernels in ("plain", "fast"))
    fast.load_state_dict(plain.state_dict())
    x, y = ids(model), ids(model, 1)
    torch.testing.assert_close(fast(x, y)["loss"], plain(x, y)["loss"], rtol=1e-5, atol=1e-6)


@EVERY
def test_generate(op: str) -> None:
    """Decoding token by token with a cache gives the logits of the whole row."""
    model = model_of(op)
    module = dsvgraph_torch.compile(model).double().eval()
    x, cache = ids(model), {}
    with torch.no_grad():
        steps = [module.predict(x[:, i : i + 1], cache=cache) for i in range(T)]
        torch.testing.assert_close(torch.cat(steps, 1), module.predict(x), rtol=0, atol=1e-10)


@EVERY
def test_fmt(op: str) -> None:
    """The canonical style keeps the graph, and is its own canonical style."""
    written = layout(text_of(op))
    assert layout(written) == written
    assert [str(g.outputs) for g in dsvgraph.loads(written).graphs()] == [str(g.outputs) for g in model_of(op).graphs()]


@EVERY
def test_hover_reference_and_schema(op: str) -> None:
    """Editors and the reference tell the op's formula and attributes; the schema knows its line."""
    from dsvgraph_lsp.hover import call_documentation

    page = pages()[op]
    assert page.formula == OPS[op].formula and {a.name for a in page.attributes} == set(OPS[op].model_fields)
    assert page.formula in call_documentation(None, op)  # type: ignore[arg-type]
    assert f"op_{op}" in callees()
