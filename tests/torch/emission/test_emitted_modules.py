"""Live modules of emitted source: what Python knows of them while they live, and that nothing is left of them."""

from __future__ import annotations

import copy
import gc
import inspect
import io
import linecache
import pickle
import sys
import traceback
import weakref
from collections.abc import Iterator

import pytest

torch = pytest.importorskip("torch")

import dsvgraph  # noqa: E402
import dsvgraph_torch  # noqa: E402

SPEC = """
name: two_lines
graph:
  in:
    ids: int[B, T]
  body:
    embed: {embedding: ids, num: 16, dim: 4}
    head:  {linear: embed, out: 16}
  out: {logits: head}
"""


@pytest.fixture
def model() -> dsvgraph.Model:
    return dsvgraph.loads(SPEC)


def registered() -> set[str]:
    """What Python holds of emitted source: modules by name, and files by their lines."""
    lines = {name for name in linecache.cache if "compiled by dsvgraph" in name}
    return lines | {name for name in sys.modules if name.startswith("dsvgraph_emitted")}


@pytest.fixture
def nothing_left() -> Iterator[None]:
    """What was registered before is all that is registered after."""
    gc.collect()
    before = registered()
    yield
    gc.collect()
    assert registered() <= before


@pytest.mark.parametrize("kernels", ["plain", "fast"])
@pytest.mark.usefixtures("nothing_left")
def test_nothing_grows_with_the_number_of_compiles(model: dsvgraph.Model, kernels: str) -> None:
    alive = []
    for _ in range(1000 if kernels == "plain" else 20):
        module = dsvgraph_torch.compile(model, kernels=kernels)
        alive.append(weakref.ref(module))
    assert module(torch.zeros(1, 3, dtype=torch.long))["logits"].shape == (1, 3, 16)
    del module
    gc.collect()
    assert not any(one() for one in alive)


@pytest.mark.usefixtures("nothing_left")
def test_a_copy_outlives_its_original(model: dsvgraph.Model) -> None:
    ids = torch.zeros(1, 3, dtype=torch.long)
    first = dsvgraph_torch.compile(model)
    other, logits = copy.deepcopy(first), first(ids)["logits"]
    del first
    gc.collect()
    assert torch.equal(other(ids)["logits"], logits)
    again = pickle.loads(pickle.dumps(other))
    assert type(again) is type(other) and torch.equal(again(ids)["logits"], logits)
    assert "def forward(" in inspect.getsource(type(other).forward) and "class TwoLines" in inspect.getsource(
        type(other)
    )
    with pytest.raises(IndexError) as caught:
        other(ids + 16)
    assert "self.embed" in "".join(traceback.format_exception(caught.value))
    del again, other, caught


@pytest.mark.usefixtures("nothing_left")
def test_a_function_keeps_its_module(model: dsvgraph.Model) -> None:
    forward = type(dsvgraph_torch.compile(model)).forward
    gc.collect()
    assert forward.__globals__["__name__"] in sys.modules and "def forward(" in inspect.getsource(forward)
    del forward


def test_torch_compiles_and_saves_a_live_module(model: dsvgraph.Model) -> None:
    ids, module = torch.zeros(1, 3, dtype=torch.long), dsvgraph_torch.compile(model)
    file, logits = io.BytesIO(), module(ids)["logits"]
    torch.save(module, file)
    file.seek(0)
    assert torch.equal(torch.load(file, weights_only=False)(ids)["logits"], logits)
    assert torch.equal(torch.compile(module, backend="eager", fullgraph=True)(ids)["logits"], logits)


def test_a_name_that_is_not_there_is_no_attribute(model: dsvgraph.Model) -> None:
    module = dsvgraph_torch.compile(model)
    found = sys.modules[type(module).__module__]
    assert found.TwoLines is type(module)
    with pytest.raises(AttributeError, match="has no attribute `nothing`"):
        found.nothing  # noqa: B018
