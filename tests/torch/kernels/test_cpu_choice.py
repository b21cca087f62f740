"""What is chosen by the processor and the C library: products equal either way, and memory that is not touched anew."""

from __future__ import annotations

import platform

import pytest

torch = pytest.importorskip("torch")
import torch.nn.functional as F  # noqa: E402

from dsvgraph_torch.kernels.cpu import products  # noqa: E402
from dsvgraph_torch.kernels.cpu.memory import keep_memory  # noqa: E402


@pytest.mark.parametrize("amd", [False, True])
def test_a_linear_map_is_torchs_on_any_processor(monkeypatch, amd):
    monkeypatch.setattr(products, "made_by_amd", lambda: amd)
    torch.manual_seed(0)
    x, w = torch.randn(2, 5, 7, requires_grad=True), torch.randn(3, 7, requires_grad=True)
    g = torch.randn(2, 5, 3)
    got, want = products.linear(x, w), F.linear(x, w)
    torch.testing.assert_close(got, want)
    for a, b in zip(torch.autograd.grad(got, (x, w), g), torch.autograd.grad(want, (x, w), g), strict=True):
        torch.testing.assert_close(a, b)


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only glibc keeps memory when asked")
def test_freed_memory_is_taken_again_without_new_pages():
    import resource

    assert keep_memory()
    rounds, size = 10, 2**24
    faults = []
    for turn in range(rounds + 1):
        torch.empty(size, dtype=torch.uint8).fill_(turn)
        faults.append(resource.getrusage(resource.RUSAGE_SELF).ru_minflt)
    assert faults[-1] - faults[0] < rounds * size / resource.getpagesize() / 4
