"""The op against the reference implementation of Qwen3-Next in transformers."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from dsvgraph_gated_delta.runtime import delta_steps
from transformers.models.qwen3_next.modeling_qwen3_next import torch_recurrent_gated_delta_rule

B, T, H, K, V = 2, 7, 3, 4, 5


def inputs() -> list[torch.Tensor]:
    torch.manual_seed(0)
    shapes = [(B, T, H, K), (B, T, H, K), (B, T, H, V), (B, T, H), (B, T, H), (H,), (H,)]
    return [torch.randn(shape, requires_grad=True) for shape in shapes]


def reference(q, k, v, a, b, A_log, dt_bias):
    decay = -A_log.exp() * F.softplus(a + dt_bias)
    return torch_recurrent_gated_delta_rule(q, k, v, decay, b.sigmoid(), use_qk_l2norm_in_kernel=True)[0]


def test_outputs_and_gradients_are_those_of_transformers() -> None:
    ours, theirs = inputs(), inputs()
    y, expected = delta_steps(*ours)[0], reference(*theirs)
    torch.testing.assert_close(y, expected)
    y.square().sum().backward()
    expected.square().sum().backward()
    for mine, other in zip(ours, theirs, strict=True):
        torch.testing.assert_close(mine.grad, other.grad)


def test_a_row_in_two_parts_is_the_row() -> None:
    q, k, v, a, b, *weights = (x.detach().double() for x in inputs())
    whole, last = delta_steps(q, k, v, a, b, *weights)
    first, state = delta_steps(*(x[:, :3] for x in (q, k, v, a, b)), *weights)
    second, end = delta_steps(*(x[:, 3:] for x in (q, k, v, a, b)), *weights, state)
    torch.testing.assert_close(torch.cat([first, second], 1), whole)
    torch.testing.assert_close(end, last)
