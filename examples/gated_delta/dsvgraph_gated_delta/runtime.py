"""What emitted models call: copied into them, as far as it is used.

B batch, T positions, H heads, K width of a query or key, V width of a value.
"""

import torch
import torch.nn.functional as F


def gated_delta(q_BTHK, k_BTHK, v_BTHV, a_BTH, b_BTH, A_log_H, dt_bias_H, ctx, key):
    """The gated delta rule, [B, T, H, V] (arXiv 2412.06464); while decoding the state lies under ``key``."""
    S_BHKV = ctx.state(key)
    y_BTHV, S_BHKV = delta_steps(q_BTHK, k_BTHK, v_BTHV, a_BTH, b_BTH, A_log_H, dt_bias_H, S_BHKV)
    ctx.keep(key, S_BHKV)
    return y_BTHV


def delta_steps(q_BTHK, k_BTHK, v_BTHV, a_BTH, b_BTH, A_log_H, dt_bias_H, S_BHKV=None):
    """The outputs [B, T, H, V] and the state behind the last position, [B, H, K, V]."""
    kind = torch.promote_types(q_BTHK.dtype, torch.float32)  # a state sums up over the row: never in 16 bits
    with torch.autocast(q_BTHK.device.type, enabled=False):
        q, k, v, a, b = (x.to(kind) for x in (q_BTHK, k_BTHK, v_BTHV, a_BTH, b_BTH))
        decay_BTH = (-A_log_H.exp() * F.softplus(a + dt_bias_H)).exp()
        strength_BTH, y_BHV = b.sigmoid(), []
        q, k = unit(q) * q.shape[-1] ** -0.5, unit(k)
        S = q.new_zeros(*q[:, 0].shape, v.shape[-1]) if S_BHKV is None else S_BHKV
        for t in range(q.shape[1]):
            S = S * decay_BTH[:, t, :, None, None]
            error = (v[:, t] - torch.einsum("bhk,bhkv->bhv", k[:, t], S)) * strength_BTH[:, t, :, None]
            S = S + k[:, t, :, :, None] * error[:, :, None]
            y_BHV.append(torch.einsum("bhk,bhkv->bhv", q[:, t], S))
        return torch.stack(y_BHV, 1), S


def unit(x):
    """Vectors of length one along the last axis."""
    return x * torch.rsqrt((x * x).sum(-1, keepdim=True) + 1e-6)
