"""Gated networks in one pass against their lines one by one: values and gradients, on random shapes; which lines."""

from __future__ import annotations

import ast

import pytest

torch = pytest.importorskip("torch")
from helpers import small  # noqa: E402
from hypothesis import given, settings  # noqa: E402
from hypothesis import strategies as st  # noqa: E402

from dsvgraph_torch.kernels.cpu import gated as module  # noqa: E402
from dsvgraph_torch.lowering.emit import classes_of  # noqa: E402
from dsvgraph_torch.runtime import plain  # noqa: E402

widths = st.integers(1, 9)


def filled(part):
    with torch.no_grad():
        for weight in part.parameters():
            weight.normal_()
    return part


def by_lines(gate, up, down, x, *sent):
    return down(torch.nn.functional.silu(gate(x, *sent)) * up(x, *sent), *sent)


def gradients(run, parts, x, *sent):
    x = x.clone().requires_grad_()
    y = run(*parts, x, *sent)
    g = torch.randn(y.shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    return y, *torch.autograd.grad((y.double() * g).sum(), (x, *(w for part in parts for w in part.parameters())))


@settings(deadline=None, max_examples=40)
@given(counts=st.lists(st.integers(0, 12), min_size=1, max_size=5), sizes=st.tuples(widths, widths, widths))
def test_experts_equal_their_lines(counts, sizes):
    torch.manual_seed(0)
    (inputs, width, outputs), E = sizes, len(counts)
    shapes = (inputs, width), (inputs, width), (width, outputs)
    parts = [filled(plain.Linears(E, *shape)).double() for shape in shapes]
    x = torch.randn(sum(counts), inputs, dtype=torch.float64)
    sent = plain.Ragged(x, torch.tensor(counts).cumsum(0).int(), x)
    got = gradients(module.gated_network, parts, x, sent)
    torch.testing.assert_close(got, gradients(by_lines, parts, x, sent), rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("lowered", [False, True])
def test_precision_and_biases(lowered):
    torch.manual_seed(0)
    for biased in (False, True):
        parts = [filled(plain.Linears(3, 8, 8, bias=biased)) for _ in range(3)]
        sent = plain.Ragged(x := torch.randn(9, 8), torch.tensor([2, 2, 9], dtype=torch.int32), x)
        with torch.autocast("cpu", torch.bfloat16, enabled=lowered):
            got, want = (gradients(run, parts, x, sent) for run in (module.gated_network, by_lines))
        for a, b in zip(got, want, strict=True):
            assert a.dtype == b.dtype
            assert (a - b).norm() <= (0.04 if lowered else 1e-5) * (1 + b.norm())


@pytest.mark.parametrize("spec, classes", [("deepseek_v3", {"Mlp", "MlpEach"}), ("gpt_oss_20b", set())])
def test_the_lines_are_found_by_their_structure(spec, classes):
    found = [module.with_gated(one) for one in classes_of(small(spec))]
    assert {one.name for one in found if module.NAME in ast.unparse(one)} == classes


LINES = "a = self.p(x)", "b = self.q(x)", "c = F.silu(a)", "d = c * b", "return self.r(d)"


def changed(old, new):
    body = "".join(f"        {line}\n" for line in LINES)
    return ast.parse(("class A:\n    def forward(self, x):\n" + body).replace(old, new)).body[0]


@pytest.mark.parametrize(
    "old, new",
    [("q(x)", "q(y)"), ("F.silu(a)", "F.silu(b)"), ("F.silu", "F.gelu"), ("c * b", "c + b"), ("r(d)", "r(c)"),
     ("b = ", "x = "), ("c * b", "c * a"), ("return self.r(d)", "return self.r(d), d")],
)  # fmt: skip
def test_other_lines_stay(old, new):
    assert module.NAME in ast.unparse(module.with_gated(changed("", "")))
    assert module.NAME not in ast.unparse(module.with_gated(changed(old, new)))
