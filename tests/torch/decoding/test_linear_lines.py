"""Lines that are linear by their structure: judged by what they compute on sums and multiples."""

from __future__ import annotations

import ast

import pytest
import torch
from torch import nn

from dsvgraph_torch.decoding.linear_lines import bias_free, is_linear

CLASS = """
class Block(nn.Module):
    def __init__(self):
        super().__init__()
        self.up = nn.Linear(6, 8, bias=False)
        self.biased = nn.Linear(6, 8, bias=True)
        self.norm = nn.RMSNorm(6)
        self.weight = nn.Parameter(torch.randn(8, 6))
"""
LINEAR = [
    "y = self.up(x)",
    "y = torch.cat([x, -x], -1)",
    "y = F.linear(x, self.weight)",
    "y = self.up(x).unflatten(-1, (2, 4))",
    "a, b = x.split((2, 4), -1)\ny = torch.cat([b, a * 2], -1)",
    "y = x + 3 * x - x[..., :1]",
    "y = x * self.weight[0]",
    "y = x.unsqueeze(-2).expand(-1, -1, 3, -1)",
]
OTHER = [
    "y = self.biased(x)",
    "y = self.norm(x)",
    "y = x * x",
    "y = x + 1",
    "y = x.relu()",
    "y = torch.cat([x, torch.ones(2, 1, 6)], 1)",
    "y = 2 / x",
    "y = F.linear(x, self.weight, self.weight[:, 0])",
]


def judged(line):
    """Whether a line is linear: of random numbers, three times one and another."""
    torch.manual_seed(0)
    names = dict(nn=nn, torch=torch, F=nn.functional)
    exec(CLASS, names)
    names["self"] = names["Block"]().double()
    names["self"].biased.bias.data.fill_(1)

    def run(x):
        exec(line, names, found := {"x": x})
        return found["y"]

    a, b = torch.randn(2, 1, 6, dtype=torch.float64), torch.randn(2, 1, 6, dtype=torch.float64)
    with torch.no_grad():
        return torch.allclose(run(3 * a + b), 3 * run(a) + run(b))


@pytest.mark.parametrize("line", LINEAR + OTHER)
def test_linear_is_what_adds_and_scales(line):
    modules = bias_free(ast.parse(CLASS).body[0])
    assert modules == {"self.up"}
    assert is_linear(ast.parse(line).body, {"x"}, modules) == judged(line) == (line in LINEAR)
