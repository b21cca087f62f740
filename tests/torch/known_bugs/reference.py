"""DeepSeek-V3 with an MTP chain as its report writes it (arXiv 2412.19437), in loops over documents, tokens and heads.

It knows nothing of the emitted source but the names in a checkpoint. Every document is run alone, depth k of the
chain over those positions alone that have k tokens after them, every token through its experts one by one.

Shape legend: N tokens of a document, D width, E experts.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor

IGNORED = -100


@dataclass
class Routed:
    """What a router made of the tokens that count: scores by row of the batch, and how many tokens each expert got."""

    scores: dict[int, list[Tensor]] = field(default_factory=dict)
    load: list[int] = field(default_factory=list)


@dataclass
class Reference:
    """The model of a state_dict; ``config`` holds its numbers by Hugging Face's names."""

    state: dict[str, Tensor]
    config: Any

    def losses(
        self, ids: Tensor, targets: Tensor, documents: Tensor | None = None, tokens_seen: float = 0
    ) -> tuple[dict[str, Tensor], dict[str, list[int]]]:
        """Return the losses by name and the load of each router by its path. ``ids`` and ``targets`` are [B, T]."""
        self.routed: dict[str, Routed] = {}
        D = self.config.num_nextn_predict_layers
        terms: list[list[Tensor]] = [[] for _ in range(D + 1)]
        for row, (row_ids, row_targets) in enumerate(zip(ids, targets, strict=True)):
            cuts = [0, *self._starts(documents, row), len(row_ids)]
            for start, stop in pairwise(cuts):
                self._document(row, row_ids[start:stop], self._known(row_targets, start, stop, len(row_ids)), terms)
        means = [sum(found) / len(found) if found else torch.zeros(()).double() for found in terms]
        weight = 0.3 if tokens_seen < 10e12 else 0.1  # section 4.2
        losses = {"next_token": means[0], **{f"mtp.{k}": means[k] for k in range(1, D + 1)}}
        losses["balance"] = self._balance(len(ids))
        losses["loss"] = means[0] + weight / D * sum(means[1:]) + 0.0001 * losses["balance"]  # equation 25
        return losses, {path: routed.load for path, routed in self.routed.items()}

    def _starts(self, documents: Tensor | None, row: int) -> list[int]:
        """Return where documents begin after the first."""
        if documents is None:
            return []
        numbers = documents[row].tolist()
        return [i for i in range(1, len(numbers)) if numbers[i] != numbers[i - 1]]

    def _known(self, targets: Tensor, start: int, stop: int, length: int) -> list[int]:
        """Return the token after each position of a document; the last of a document has none but at the row's end."""
        return targets[start : stop if stop == length else stop - 1].tolist()

    def _document(self, row: int, ids: Tensor, targets: list[int], terms: list[list[Tensor]]) -> None:
        """Add the terms of one document: ``terms[k]`` are those of depth k, 0 for the main model."""
        c = self.config
        h = self["model.embed_tokens.weight"][ids]
        for layer in range(c.num_hidden_layers):
            h = self._layer(f"model.layers.{layer}", h, layer >= c.first_k_dense_replace, row)
        h = self._norm("model.norm", h)
        self._score(h, targets, 0, terms)
        for k in range(1, c.num_nextn_predict_layers + 1):
            if len(ids) <= k:
                break
            path = f"model.layers.{c.num_hidden_layers + k - 1}"
            future = self["model.embed_tokens.weight"][ids[k:]]
            both = [self._norm(f"{path}.enorm", future), self._norm(f"{path}.hnorm", h[: len(ids) - k])]  # equation 21
            h = self._layer(path, torch.cat(both, -1) @ self[f"{path}.eh_proj.weight"].T, True, row)
            h = self._norm(f"{path}.shared_head.norm", h)
            self._score(h, targets, k, terms)

    def _score(self, h_ND: Tensor, targets: list[int], depth: int, terms: list[list[Tensor]]) -> None:
        """Add -log P of the token ``depth`` + 1 further on, for every position that has one (equation 24)."""
        for i, h_D in enumerate(h_ND):
            if i + depth < len(targets) and (target := targets[i + depth]) != IGNORED:
                logits = h_D @ self["lm_head.weight"].T
                terms[depth].append(torch.logsumexp(logits, 0) - logits[target])

    # -- layers ----------------------------------------------------------------------------------------

    def __getitem__(self, name: str) -> Tensor:
        return self.state[name]

    def _norm(self, path: str, x: Tensor) -> Tensor:
        return x / (x.pow(2).mean(-1, keepdim=True) + self.config.rms_norm_eps).sqrt() * self[f"{path}.weight"]

    def _layer(self, path: str, x: Tensor, sparse: bool, row: int) -> Tensor:
        h = x + self._attention(f"{path}.self_attn", self._norm(f"{path}.input_layernorm", x))
        normed = self._norm(f"{path}.post_attention_layernorm", h)
        return h + (self._moe(f"{path}.mlp", normed, row) if sparse else self._mlp(f"{path}.mlp", normed))

    def _attention(self, path: str, x_ND: Tensor) -> Tensor:
        c, N = self.config, len(x_ND)
        nope, rope, value = c.qk_nope_head_dim, c.qk_rope_head_dim, c.v_head_dim
        query = self._norm(f"{path}.q_a_layernorm", x_ND @ self[f"{path}.q_a_proj.weight"].T)
        query = query @ self[f"{path}.q_b_proj.weight"].T
        latent, key_rope = (x_ND @ self[f"{path}.kv_a_proj_with_mqa.weight"].T).split([c.kv_lora_rank, rope], -1)
        latent = self._norm(f"{path}.kv_a_layernorm", latent) @ self[f"{path}.kv_b_proj.weight"].T
        key_rope, outputs = self._rotate(key_rope), []
        for q, kv in zip(query.split(nope + rope, -1), latent.split(nope + value, -1), strict=True):
            q = torch.cat([q[:, :nope], self._rotate(q[:, nope:])], -1)
            k = torch.cat([kv[:, :nope], key_rope], -1)
            for i in range(N):
                weights = torch.softmax(q[i] @ k[: i + 1].T / (nope + rope) ** 0.5, -1)
                outputs.append(weights @ kv[: i + 1, nope:])
        heads = torch.stack(outputs).unflatten(0, (-1, N)).transpose(0, 1).flatten(1)
        return heads @ self[f"{path}.o_proj.weight"].T

    def _rotate(self, x_NR: Tensor) -> Tensor:
        """Rotate adjacent pairs, their angles in float32 as released code has them."""
        R = x_NR.shape[-1]
        rates = (self.config.rope_theta ** -(torch.arange(0, R, 2).double() / R)).float()
        angle = torch.arange(len(x_NR))[:, None] * rates
        turned = torch.view_as_complex(x_NR.unflatten(-1, (-1, 2)).contiguous())
        return torch.view_as_real(turned * torch.complex(angle.cos().double(), angle.sin().double())).flatten(-2)

    def _mlp(self, path: str, x: Tensor) -> Tensor:
        gate, up = (x @ self[f"{path}.{name}_proj.weight"].T for name in ("gate", "up"))
        return (gate * torch.sigmoid(gate) * up) @ self[f"{path}.down_proj.weight"].T

    # -- experts ---------------------------------------------------------------------------------------

    def _moe(self, path: str, x_ND: Tensor, row: int) -> Tensor:
        c, outputs = self.config, []
        routed = self.routed.setdefault(f"{path}.gate", Routed(load=[0] * c.n_routed_experts))
        for x in x_ND:
            s_E = torch.sigmoid(x @ self[f"{path}.gate.weight"].T)
            routed.scores.setdefault(row, []).append(s_E)
            chosen = list(self._chosen(s_E.detach() + self[f"{path}.gate.e_score_correction_bias"]))
            for expert in chosen:
                routed.load[expert] += 1
            total = sum(s_E[expert] for expert in chosen)
            y = sum(s_E[e] / total * c.routed_scaling_factor * self._mlp(f"{path}.experts.{e}", x) for e in chosen)
            outputs.append(y + self._mlp(f"{path}.shared_experts", x))
        return torch.stack(outputs)

    def _chosen(self, biased_E: Tensor) -> Iterator[int]:
        """Yield the experts of a token: of the groups with the best two experts (section 2.1.2 and released code)."""
        c = self.config
        size = c.n_routed_experts // c.n_group
        groups = [range(g * size, (g + 1) * size) for g in range(c.n_group)]
        score = {
            g: sum(sorted((float(biased_E[e]) for e in group), reverse=True)[:2]) for g, group in enumerate(groups)
        }
        kept = _best(score, c.topk_group)
        yield from _best({e: float(biased_E[e]) for g in kept for e in groups[g]}, c.num_experts_per_tok)

    def _balance(self, rows: int) -> Tensor:
        """Equations 17 to 20: for each row, over its tokens; the mean over rows, the sum over routers."""
        c, total = self.config, torch.zeros(()).double()
        for routed in self.routed.values():
            for scores in routed.scores.values():
                T, s_TE = len(scores), torch.stack(scores)
                counts = [0] * c.n_routed_experts
                for s_E in s_TE:
                    for e in _best(dict(enumerate(s_E.detach().tolist())), c.num_experts_per_tok):
                        counts[e] += 1
                P_E = (s_TE / s_TE.sum(-1, keepdim=True)).mean(0)
                f_E = torch.tensor(counts).double() * c.n_routed_experts / (c.num_experts_per_tok * T)
                total = total + (f_E * P_E).sum() / rows
        return total


def _best(score: dict[int, float], count: int) -> Sequence[int]:
    return sorted(score, key=lambda i: score[i], reverse=True)[:count]


def moved(bias_E: Tensor, load: list[int], speed: float) -> Tensor:
    """Return the bias after a step: towards experts that got less than the mean (arXiv 2408.15664, algorithm 1)."""
    mean = sum(load) / len(load)
    return bias_E + torch.tensor([speed * ((mean > n) - (mean < n)) for n in load], dtype=bias_E.dtype)
