"""Functions that generated models call: plain torch, copied as text into emitted files.

Letters in names of tensors, one per dimension:
    B batch, T positions of the queries, C positions of the keys (T plus what is cached),
    D model width, H heads, G key/value heads, Q query/key width of a head, V value width of a head
    (or vocabulary), R rotated width, E experts, K experts chosen per token, N tokens (B * T),
    S sorted token-expert pairs (N * K), F width of an expert.
"""

import math
from typing import NamedTuple

import torch
import torch.nn as nn
import torch.nn.functional as F


class Context:
    """What ops ask for and nobody wires: one per forward pass.

    positions: [T] or [B, T] long, or None for 0, 1, 2, ... (after what the cache holds)
    documents: [B, C] ids; attention stays within equal ids
    cache: tensors by name, grown along dim 1 by `extend`; None outside of decoding
    collect: routers in training count the tokens of each expert
    balance: a list that takes (router, value) of each router's balance loss; None: not wanted
    """

    def __init__(self, positions=None, documents=None, cache=None, collect=False, balance=None):
        self.positions, self.documents, self.cache = positions, documents, cache
        self.collect, self.balance = collect, balance
        self.past = next((held.shape[1] for held in (cache or {}).values()), 0)
        self.memo = {}

    def once(self, key, make):
        """The value of make(), computed once per forward pass under key."""
        if key not in self.memo:
            self.memo[key] = make()
        return self.memo[key]

    def rotary(self, dim, theta, scaling=None, length=None, device=None, dtype=torch.float32):
        """Cosines and sines of all positions: each [T, dim / 2] (or [B, T, dim / 2])."""
        key = ("rotary", dim, theta, str(scaling), length, device, dtype)
        return self.once(key, lambda: self.make_rotary(dim, theta, scaling, length, device, dtype))

    def make_rotary(self, dim, theta, scaling, length, device, dtype):
        positions = self.positions
        if positions is None:
            positions = torch.arange(self.past, self.past + length, device=device)
        frequency, gain = rope_frequencies(dim, theta, scaling, device)
        angle = positions[..., None].float() * frequency
        return (angle.cos() * gain).to(dtype), (angle.sin() * gain).to(dtype)

    def extend(self, key, value):
        """Append value along dim 1 to what the cache holds under key; return the whole."""
        if self.cache is None:
            return value
        if key in self.cache:
            value = torch.cat([self.cache[key], value], dim=1)
        self.cache[key] = value
        return value


def rope_frequencies(dim, theta, scaling=None, device=None):
    """Angle per position of each rotated pair: ([dim / 2], gain of cos and sin).

    scaling is a config.json's `rope_scaling`: type linear, llama3 or yarn (arXiv 2309.00071).
    """
    f = theta ** -(torch.arange(0, dim, 2, device=device).float() / dim)
    kind = "default" if scaling is None else scaling.get("rope_type", scaling.get("type"))
    if kind == "default":
        return f, 1.0
    if kind == "linear":
        return f / scaling["factor"], 1.0
    if kind == "llama3":
        return llama3_frequencies(f, scaling), 1.0
    if kind == "yarn":
        return yarn_frequencies(f, dim, theta, scaling), yarn_gain(scaling)
    raise ValueError(f"rope scaling {kind!r} is none of default, linear, llama3, yarn")


def llama3_frequencies(f, scaling):
    """Long waves slowed by factor, short waves kept, a linear blend between (Llama 3.1)."""
    low, high = scaling["low_freq_factor"], scaling["high_freq_factor"]
    turns = scaling["original_max_position_embeddings"] * f / (2 * math.pi)
    keep = ((turns - low) / (high - low)).clamp(0, 1)
    return f / scaling["factor"] * (1 - keep) + f * keep


def yarn_frequencies(f, dim, theta, scaling):
    """Frequencies that turn rarely over the original context slowed by factor (YaRN, Eq. 17-23)."""
    original = scaling["original_max_position_embeddings"]

    def pair(turns):
        return dim * math.log(original / (turns * 2 * math.pi)) / (2 * math.log(theta))

    low, high = pair(scaling.get("beta_fast") or 32), pair(scaling.get("beta_slow") or 1)
    if scaling.get("truncate", True):
        low, high = math.floor(low), math.ceil(high)
    low, high = max(low, 0), min(high, dim - 1)
    ramp = (torch.arange(dim // 2, device=f.device) - low) / max(high - low, 0.001)
    ramp = ramp.clamp(0, 1)
    return f / scaling["factor"] * ramp + f * (1 - ramp)


def yarn_gain(scaling):
    """YaRN's temperature, as far as it sits in cos and sin: 1 if both mscales are equal."""
    if scaling.get("attention_factor") is not None:
        return scaling["attention_factor"]
    m, m_all = scaling.get("mscale"), scaling.get("mscale_all_dim")
    log = math.log(max(scaling["factor"], 1.0))
    return (0.1 * m * log + 1) / (0.1 * m_all * log + 1) if m and m_all else 0.1 * log + 1


def rope(x, ctx, theta, interleave=False, scaling=None):
    """Rotate pairs of x, [B, T, R] or [B, T, H, R], by their positions (RoFormer, Eq. 34).

    interleave: pairs are neighbours (DeepSeek), else i and i + R/2 (Llama).
    """
    cos, sin = ctx.rotary(x.shape[-1], theta, scaling, x.shape[1], x.device, wide_dtype(x))
    if x.dim() == 4:
        cos, sin = cos.unsqueeze(-2), sin.unsqueeze(-2)
    if interleave:
        return turn_neighbours(x, torch.complex(cos, sin))
    a, b = x.chunk(2, -1)
    return torch.cat([a * cos - b * sin, b * cos + a * sin], -1).to(x.dtype)


def turn_neighbours(x, turn):
    """Neighbours as complex numbers, times turn: one product each way instead of a dozen."""
    pairs = x.to(wide_dtype(x)).unflatten(-1, (-1, 2))
    if pairs.storage_offset() % 2 or any(step % 2 for step in pairs.stride()[:-1]):
        pairs = pairs.contiguous()  # a view as complex numbers starts at even places
    return torch.view_as_real(torch.view_as_complex(pairs) * turn).flatten(-2).to(x.dtype)


def attention(q_BTHQ, k_BCGQ, v_BCGV, ctx, scale, causal=True, window=None, sinks=None):
    """softmax(scale * q k^T) v, [B, T, H, V]; H / G queries share a key and value head.

    The queries are the last T of the C positions. window: how many positions a query sees, its own
    included. sinks: [H] logits that join the softmax and carry no value (gpt-oss).
    """
    width, T = v_BCGV.shape[-1], q_BTHQ.shape[1]
    if sinks is not None:
        q_BTHQ, k_BCGQ, v_BCGV = with_sinks(q_BTHQ, k_BCGQ, v_BCGV, sinks / scale)
    mask = attention_mask(ctx, q_BTHQ, k_BCGQ.shape[1], causal, window, sinks is not None)
    triangle = causal and mask is None and q_BTHQ.shape[1] > 1
    if triangle and eager_cpu(q_BTHQ) and q_BTHQ.shape[1] <= 2048:
        o_BTHV = CausalBlocks.apply(q_BTHQ, k_BCGQ, v_BCGV, scale)
    else:
        o_BTHV = fused_attention(q_BTHQ, k_BCGQ, v_BCGV, mask, triangle, scale)
    return o_BTHV[:, -T:, :, :width]


def fused_attention(q_BTHQ, k_BCGQ, v_BCGV, mask, triangle, scale):
    """torch's kernel. It wants equal widths: zeros change neither the scores nor the values."""
    dim = max(q_BTHQ.shape[-1], v_BCGV.shape[-1])
    q, k, v = (F.pad(t, (0, dim - t.shape[-1])).transpose(1, 2) for t in (q_BTHQ, k_BCGQ, v_BCGV))
    shared = q.shape[1] != k.shape[1]
    o = F.scaled_dot_product_attention(q, k, v, mask, is_causal=triangle, scale=scale, enable_gqa=shared)
    return o.transpose(1, 2)


class CausalBlocks(torch.autograd.Function):
    """Causal attention in blocks of 64 queries against the keys they see.

    For rows of up to 2048 positions on a CPU, where it is 1.6 (float32) to 4 (bfloat16) times as
    fast as torch's kernel. It keeps the probabilities: B * H * T * T / 2 numbers.
    """

    @staticmethod
    def forward(ctx, q_BTHQ, k_BTGQ, v_BTGV, scale):
        (B, T, H, _), G = q_BTHQ.shape, k_BTGQ.shape[2]
        q, k, v = by_head(q_BTHQ, G) * scale, by_head(k_BTGQ, G), by_head(v_BTGV, G)
        o, probabilities = v.new_empty(B * G, T * H // G, v.shape[-1]), []
        later = torch.full((64, 64), -math.inf, dtype=q.dtype).triu(1).repeat_interleave(H // G, 0)
        for rows, end in causal_blocks(T, H // G):
            s = q[:, rows] @ k[:, :end].transpose(1, 2)
            size = (end - 1) % 64 + 1
            s[:, :, end - size :] += later[: s.shape[1], :size]
            probabilities.append(s.softmax(-1))
            o[:, rows] = probabilities[-1] @ v[:, :end]
        ctx.save_for_backward(q, k, v, o, *probabilities)
        ctx.scale, ctx.batch = scale, B
        return by_position(o, B, T)

    @staticmethod
    def backward(ctx, g_BTHV):
        q, k, v, o, *probabilities = ctx.saved_tensors
        T, G = k.shape[1], k.shape[0] // ctx.batch
        g = by_head(g_BTHV, G)
        common = torch.linalg.vecdot(g, o)[..., None]
        gq, gk, gv = torch.empty_like(q), torch.zeros_like(k), torch.zeros_like(v)
        for p, (rows, end) in zip(probabilities, causal_blocks(T, q.shape[1] // T), strict=True):
            gv[:, :end].baddbmm_(p.transpose(1, 2), g[:, rows])
            gs = (g[:, rows] @ v[:, :end].transpose(1, 2)).sub_(common[:, rows]).mul_(p)
            gq[:, rows] = gs @ k[:, :end]
            gk[:, :end].baddbmm_(gs.transpose(1, 2), q[:, rows])
        return *(by_position(t, ctx.batch, T) for t in (gq.mul_(ctx.scale), gk, gv)), None


def by_head(x_BTHQ, groups):
    """[B, T, H, Q] -> [B * G, T * H / G, Q]: the heads of one group side by side at each position."""
    B, T, _, Q = x_BTHQ.shape
    return x_BTHQ.reshape(B, T, groups, -1, Q).transpose(1, 2).reshape(B * groups, -1, Q)


def by_position(x, batch, positions):
    """What by_head did, undone."""
    return x.view(batch, x.shape[0] // batch, positions, -1, x.shape[-1]).transpose(1, 2).flatten(2, 3)


def causal_blocks(positions, heads):
    """For each 64 positions: their rows, and how many keys they see."""
    for start in range(0, positions, 64):
        end = min(start + 64, positions)
        yield slice(start * heads, end * heads), end


def with_sinks(q_BTHQ, k_BCGQ, v_BCGV, sinks_H):
    """One key (and one query, to stay causal) in front of all, whose score is each head's sink."""
    B, _, H, Q = q_BTHQ.shape
    q = F.pad(q_BTHQ, (0, 0, 0, 0, 1, 0))
    q = torch.cat([q, sinks_H[:, None].to(q.dtype).expand(B, q.shape[1], H, 1)], -1)
    k = F.pad(k_BCGQ, (0, 1, 0, 0, 1, 0))
    first = F.one_hot(k.new_tensor(Q, dtype=torch.long), Q + 1).to(k.dtype)
    k = torch.cat([first.expand_as(k[:, :1]), k[:, 1:]], 1)
    return q, k, F.pad(v_BCGV, (0, 0, 0, 0, 1, 0))


def attention_mask(ctx, q_BTHQ, keys, causal, window, sink):
    """Who sees whom, [T, C] or [B, 1, T, C]; None where the kernel's own causal mask says it all."""
    queries = q_BTHQ.shape[1]
    plain = window is None and ctx.documents is None
    if plain and (queries == keys or queries == 1 or not causal):
        return None
    key = ("mask", queries, keys, causal, window, sink)
    return ctx.once(key, lambda: make_mask(ctx, queries, keys, causal, window, sink, q_BTHQ.device))


def make_mask(ctx, queries, keys, causal, window, sink, device):
    key = torch.arange(keys, device=device)
    query = key[keys - queries :, None]
    seen = key <= query if causal else key >= 0
    if window is not None:
        seen = seen & (key > query - window)
    if ctx.documents is not None:
        ids = F.pad(ctx.documents, (1, 0)) if sink else ctx.documents
        seen = seen & (ids[:, None, keys - queries :, None] == ids[:, None, None, :])
    return seen | (key == 0) if sink else seen


def rms_norm(x, weight, eps):
    """x / sqrt(mean(x^2) + eps) * weight over the last dim (arXiv 1910.07467, Eq. 4).

    Statistics are in float32 or better; under autocast the result has autocast's dtype.
    """
    if eager_cpu(x):
        return RMSNormFunction.apply(x, weight, eps, compute_dtype(x))
    return F.rms_norm(x.to(weight.dtype), weight.shape, weight, eps).to(compute_dtype(x))


class RMSNormFunction(torch.autograd.Function):
    """Half the passes over memory of the composite that torch runs on a CPU."""

    @staticmethod
    def forward(ctx, x, weight, eps, dtype):
        square = torch.linalg.vector_norm(x, dim=-1, keepdim=True, dtype=wide_dtype(x)).square()
        r = (square / x.shape[-1] + eps).rsqrt()
        ctx.save_for_backward(x, weight, r)
        return (x * r).mul_(weight).to(dtype)

    @staticmethod
    def backward(ctx, g):
        x, weight, r = ctx.saved_tensors
        x, g = x.to(r.dtype), g.to(r.dtype)
        g_weight = torch.mv((g * x).flatten(0, -2).t(), r.flatten())
        gx = g * weight
        inner = torch.linalg.vecdot(gx, x)[..., None] * r**3 / -x.shape[-1]
        gx = gx.mul_(r).addcmul_(x, inner)
        return gx.to(ctx.saved_tensors[0].dtype), g_weight.to(weight.dtype), None, None


def compute_dtype(x):
    """The dtype that a matrix product of x has here: autocast's, if it is on."""
    kind = x.device.type
    return torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else x.dtype


def wide_dtype(x):
    """The dtype for sums over x: float32 or better."""
    return torch.promote_types(x.dtype, torch.float32)


def eager_cpu(x):
    """Whether the CPU's detours apply: a compiler would rather see the plain functions."""
    return x.device.type == "cpu" and not torch.compiler.is_compiling()


def linear(x, weight, bias=None):
    """x weight^T + bias, [..., D] -> [..., F]."""
    if not (onednn_serves(x) and compute_dtype(x) == x.dtype == weight.dtype):
        return F.linear(x, weight, bias)
    y = OneDNNLinear.apply(x, weight)
    return y if bias is None else y + bias


class Linear(nn.Linear):
    """nn.Linear through `linear`."""

    def forward(self, x):
        return linear(x, self.weight, self.bias)


class OneDNNLinear(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x, weight):
        ctx.save_for_backward(x, weight)
        return product(x.flatten(0, -2), weight).view(*x.shape[:-1], -1)

    @staticmethod
    def backward(ctx, g):
        x, weight = ctx.saved_tensors
        rows = g.flatten(0, -2)
        gx = product(rows, weight.t()).view(x.shape) if ctx.needs_input_grad[0] else None
        gw = weight_gradient(rows, x.flatten(0, -2)) if ctx.needs_input_grad[1] else None
        return gx, gw


def product(a_ND, b_FD):
    """a b^T. oneDNN's float32 product is twice as fast as MKL's, torch's default, on AMD CPUs."""
    if onednn_serves(a_ND):
        return torch.ops.mkldnn._linear_pointwise(a_ND, b_FD, None, "none", [], "")
    return a_ND @ b_FD.t()


def weight_gradient(g_NF, x_ND):
    """g^T x; oneDNN copies its first factor, so that is the narrower one."""
    return product(g_NF.t(), x_ND.t()) if g_NF.shape[1] <= x_ND.shape[1] else product(x_ND.t(), g_NF.t()).t()


def onednn_serves(x):
    """Whether oneDNN's float32 product can be had for x."""
    has = torch.backends.mkldnn.is_available() and hasattr(torch.ops.mkldnn, "_linear_pointwise")
    return has and x.dtype == torch.float32 and eager_cpu(x)


def silu_mul(gate, up):
    """silu(gate) * up, the gate of SwiGLU (arXiv 2002.05202, Eq. 6)."""
    return F.silu(gate) * up


class Router(nn.Module):
    """Choose top_k of the experts for each token (DeepSeek-V3, Eq. 12-16; V2 for softmax and max).

    A bias per expert, moved by `update_bias` and not by gradient, joins the choice alone and never
    the score. tail: how many last positions of a row are fill and must not be counted.
    """

    def __init__(
        self,
        dim,
        experts,
        top_k,
        groups=1,
        top_groups=1,
        score="sigmoid",
        normalize=True,
        scaling=1.0,
        bias=True,
        group_score="top2_sum",
        tail=0,
    ):
        super().__init__()
        self.top_k, self.groups, self.top_groups, self.tail = top_k, groups, top_groups, tail
        self.score, self.normalize, self.scaling = score, normalize, scaling
        self.group_score = group_score
        self.weight = nn.Parameter(torch.empty(experts, dim))
        nn.init.normal_(self.weight, std=dim**-0.5)
        bias = torch.zeros(experts, dtype=torch.float32) if bias else None
        self.register_buffer("e_score_correction_bias", bias)
        self.register_buffer("tokens_per_expert", torch.zeros(experts), persistent=False)

    def forward(self, x_BTD, ctx):
        """x_BTD -> index_BTK (long), score_BTK (float32)."""
        with torch.autocast(x_BTD.device.type, enabled=False):  # near ties decide: never in bfloat16
            logits_BTE = linear(x_BTD.float(), self.weight.float())
        s_BTE = logits_BTE.sigmoid() if self.score == "sigmoid" else logits_BTE.softmax(-1)
        index_BTK = self.choose(s_BTE.detach())
        score_BTK = s_BTE.gather(-1, index_BTK)
        if self.normalize:
            score_BTK = score_BTK / (score_BTK.sum(-1, keepdim=True) + 1e-20)
        self.record(s_BTE, index_BTK, ctx)
        return index_BTK, score_BTK * self.scaling

    def choose(self, s_BTE):
        """The top_k experts by biased score, out of the top_groups groups."""
        c_BTE = s_BTE if self.e_score_correction_bias is None else s_BTE + self.e_score_correction_bias
        if self.groups > 1:
            grouped = c_BTE.unflatten(-1, (self.groups, -1))
            best = grouped.amax(-1) if self.group_score == "max" else grouped.topk(2).values.sum(-1)
            kept = torch.zeros_like(best).scatter(-1, best.topk(self.top_groups).indices, 1).bool()
            c_BTE = grouped.masked_fill(~kept[..., None], -math.inf).flatten(-2)
        return c_BTE.topk(self.top_k, sorted=False).indices

    def record(self, s_BTE, index_BTK, ctx):
        """Count tokens and note the balance loss, where the context asks for them."""
        T = s_BTE.shape[1] - self.tail
        if self.training and ctx.collect:
            chosen = index_BTK[:, :T].flatten()
            self.tokens_per_expert += torch.bincount(chosen, minlength=s_BTE.shape[-1])
        if ctx.balance is not None:
            ctx.balance.append((self, sequence_balance(s_BTE[:, :T], self.top_k)))

    @torch.no_grad()
    def update_bias(self, speed):
        """b += speed * sign(mean load - load) (arXiv 2408.15664), once per optimizer step."""
        count = self.tokens_per_expert
        if torch.distributed.is_available() and torch.distributed.is_initialized():
            torch.distributed.all_reduce(count)
        self.e_score_correction_bias += speed * (count.mean() - count).sign()
        count.zero_()


def sequence_balance(s_BTE, top_k):
    """sum_i f_i P_i of each sequence, mean over the batch (DeepSeek-V3, Eq. 17-20, without alpha).

    s_BTE are scores without bias. f_i is the share of tokens with expert i among their top_k, times
    E / K; P_i the mean share of i in a token's scores. 1 if the load is perfectly even.
    """
    B, T, E = s_BTE.shape
    top = s_BTE.topk(top_k, sorted=False).indices.flatten(1)
    f_BE = s_BTE.new_zeros(B, E).scatter_add_(1, top, s_BTE.new_ones(()).expand_as(top))
    P_BE = (s_BTE / s_BTE.sum(-1, keepdim=True)).mean(1)
    return (f_BE * P_BE).sum(-1).mean() * E / (top_k * T)


class Ragged(NamedTuple):
    """Tokens in the order of their experts."""

    x: torch.Tensor  # [S, D]: one row for each (token, choice)
    offsets: torch.Tensor  # [E] int32: where each expert's rows end
    order: torch.Tensor  # [S]: which (token, choice) each row is
    inverse: torch.Tensor  # [N, K]: in which row each (token, choice) is


def dispatch(x_BTD, index_BTK, experts):
    """Send each token to each of its experts: no token dropped, no padding."""
    expert_S, order = index_BTK.flatten().sort(stable=True)
    each = torch.arange(experts, device=order.device)
    offsets = torch.searchsorted(expert_S, each, right=True, out_int32=True)
    rows = torch.arange(order.numel(), device=order.device)
    inverse = torch.empty_like(order).scatter_(0, order, rows).view(-1, index_BTK.shape[-1])
    return Ragged(Spread.apply(x_BTD.flatten(0, 1), order, inverse), offsets, order, inverse)


def combine(sent, index_BTK, score_BTK):
    """Add up what the experts made of each token, weighted by score: [B, T, D]."""
    y_ND = Gather.apply(sent.x, score_BTK.flatten(0, 1), sent.order, sent.inverse)
    return y_ND.unflatten(0, index_BTK.shape[:2])


class Spread(torch.autograd.Function):
    """Row s of the result is the token of choice order[s]; both ways gather, nothing scatters."""

    @staticmethod
    def forward(ctx, x_ND, order, inverse_NK):
        ctx.save_for_backward(inverse_NK)
        return x_ND.index_select(0, order // inverse_NK.shape[1])

    @staticmethod
    def backward(ctx, g_SD):
        (inverse_NK,) = ctx.saved_tensors
        return F.embedding_bag(inverse_NK, g_SD, mode="sum"), None, None


class Gather(torch.autograd.Function):
    """Row n of the result is the sum over k of score[n, k] * x[inverse[n, k]]."""

    @staticmethod
    def forward(ctx, x_SD, score_NK, order, inverse_NK):
        ctx.save_for_backward(x_SD, score_NK, order, inverse_NK)
        return F.embedding_bag(inverse_NK, x_SD, mode="sum", per_sample_weights=score_NK.to(x_SD.dtype))

    @staticmethod
    def backward(ctx, g_ND):
        x_SD, score_NK, order, inverse_NK = ctx.saved_tensors
        g_SD = g_ND.index_select(0, order // inverse_NK.shape[1])
        g_score = torch.linalg.vecdot(x_SD, g_SD)[inverse_NK].to(score_NK.dtype)
        return g_SD.mul_(score_NK.flatten()[order, None].to(g_SD.dtype)), g_score, None, None


def grouped_linear(x_SD, weight_EFD, offsets_E):
    """Rows of expert e times its weight transposed: [S, F]."""
    dtype = compute_dtype(x_SD)
    return GroupedLinear.apply(x_SD.to(dtype), weight_EFD.to(dtype), offsets_E)


class GroupedLinear(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x_SD, weight_EFD, offsets_E):
        ctx.save_for_backward(x_SD, weight_EFD, offsets_E)
        return grouped_rows(x_SD, weight_EFD, offsets_E)

    @staticmethod
    def backward(ctx, g_SF):
        x_SD, weight_EFD, offsets_E = ctx.saved_tensors
        g_SF = g_SF.contiguous()
        gx = grouped_rows(g_SF, weight_EFD.mT, offsets_E) if ctx.needs_input_grad[0] else None
        gw = grouped_weight(g_SF, x_SD, offsets_E) if ctx.needs_input_grad[1] else None
        return gx, gw, None


def grouped_rows(x_SD, weight_EFD, offsets_E):
    """Each row of x times the transpose of its expert's weight."""
    if not eager_cpu(x_SD):
        return grouped_mm(x_SD, weight_EFD.mT, offsets_E)
    y_SF = x_SD.new_empty(x_SD.shape[0], weight_EFD.shape[1])
    for e, start, end, _ in windows(offsets_E):
        y_SF[start:end] = product(x_SD[start:end], weight_EFD[e])
    return y_SF


def grouped_weight(g_SF, x_SD, offsets_E):
    """The sum of g^T x over each expert's rows: [E, F, D]."""
    if not eager_cpu(g_SF):
        return grouped_mm(g_SF.t(), x_SD, offsets_E)
    gw_EFD = g_SF.new_zeros(offsets_E.numel(), g_SF.shape[1], x_SD.shape[1])
    for e, start, end, seen in windows(offsets_E):
        g = g_SF[start:end]
        if seen > start:  # rows that the window before had
            g = g.clone()
            g[: seen - start] = 0
        gw_EFD[e] += weight_gradient(g, x_SD[start:end])
    return gw_EFD


def windows(offsets_E):
    """Cover each expert's rows by one or two windows: (expert, start, end, first row not yet seen).

    oneDNN compiles a kernel for each number of rows (a millisecond: more than the product itself),
    and the number of tokens of an expert is always new. Windows of 64 n or 2^n rows repeat.
    """
    start = 0
    for e, end in enumerate(offsets_E.tolist()):
        whole = start + (end - start) // 64 * 64
        if whole > start:
            yield e, start, whole, start
        if end > whole:
            size = 1 << (end - whole - 1).bit_length()
            if size > end - start:
                size //= 2
                yield e, start, start + size, start
                whole = start + size
            yield e, end - size, end, whole
        start = end


def grouped_mm(a, b, offsets):
    """torch's grouped product under its two names (public since torch 2.10)."""
    return (F.grouped_mm if hasattr(F, "grouped_mm") else torch._grouped_mm)(a, b, offs=offsets)


def linear_cross_entropy(x_ND, weight_VD, targets_N, chunk=None):
    """Sum of the cross-entropies of x weight^T against targets (-100: none), never all logits at once."""
    dtype = compute_dtype(x_ND)
    chunk = chunk or max(1, 2**22 // weight_VD.shape[0])
    return LinearCrossEntropy.apply(x_ND.to(dtype), weight_VD, targets_N, chunk, dtype)


class LinearCrossEntropy(torch.autograd.Function):
    """Chunks of rows; each chunk's gradient is taken while its logits exist."""

    @staticmethod
    def forward(ctx, x_ND, weight_VD, targets_N, chunk, dtype):
        w = weight_VD.to(dtype)
        gx, gw = torch.empty_like(x_ND), torch.zeros_like(weight_VD)
        total = x_ND.new_zeros((), dtype=torch.promote_types(dtype, torch.float32))
        for x, t, g in zip(x_ND.split(chunk), targets_N.split(chunk), gx.split(chunk)):
            logits = (x @ w.t()).to(total.dtype)
            loss, p = softmax_gradient(logits, t)
            total += loss
            p = p.to(dtype)
            torch.mm(p, w, out=g)
            gw += p.t() @ x
        ctx.save_for_backward(gx, gw)
        return total

    @staticmethod
    def backward(ctx, g):
        gx, gw = ctx.saved_tensors
        return gx * g.to(gx.dtype), gw * g.to(gw.dtype), None, None, None


def softmax_gradient(logits_NV, targets_N):
    """Sum of the losses and d loss / d logits = softmax - onehot, in place of the logits."""
    keep = targets_N != -100
    index = targets_N.where(keep, 0)[:, None]
    lse = logits_NV.logsumexp(-1, keepdim=True)
    loss = ((lse - logits_NV.gather(1, index)).squeeze(1) * keep).sum()
    p = logits_NV.sub_(lse).exp_()
    p.scatter_add_(1, index, p.new_full((), -1.0).expand_as(index)).mul_(keep[:, None])
    return loss, p


def cross_entropy_sum(logits, targets):
    """Sum of the cross-entropies of logits [..., V] against targets [...] (-100: none), in float32."""
    logits = logits.flatten(0, -2).to(torch.promote_types(logits.dtype, torch.float32))
    return F.cross_entropy(logits, targets.flatten(), ignore_index=-100, reduction="sum")
