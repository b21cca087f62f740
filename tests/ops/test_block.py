"""A block of one's own, examples/phi3_mlp.yaml: its count, and its outputs and gradients against transformers."""

from __future__ import annotations

import pytest
from processes import ROOT

torch = pytest.importorskip("torch")
pytest.importorskip("transformers")

from transformers import Phi3Config  # noqa: E402
from transformers.models.phi3.modeling_phi3 import Phi3MLP  # noqa: E402

import dsvgraph  # noqa: E402
import dsvgraph_torch  # noqa: E402

MODEL = dsvgraph.load(str(ROOT / "examples/phi3_mlp.yaml"))


def test_a_block_is_counted():
    assert dsvgraph.cost(MODEL, seq=8).parameters.total == 3 * 24 * 40


def test_a_block_computes_what_transformers_does():
    torch.manual_seed(0)
    theirs = Phi3MLP(Phi3Config(**MODEL.config, pad_token_id=None))
    ours = dsvgraph_torch.compile(MODEL)
    ours.load_state_dict(theirs.state_dict())
    x = torch.randn(2, 8, 24, requires_grad=True)
    same = x.detach().clone().requires_grad_()
    got, want = ours(same)["y"], theirs(x)
    torch.testing.assert_close(got, want)
    got.square().sum().backward()
    want.square().sum().backward()
    torch.testing.assert_close(same.grad, x.grad)
