"""Drafts by a model's own heads: what they keep, what of it is computed again, and the tokens that they draw.

Shape legend: B rows, W positions that heads run at, K drafts, T new positions of the trunk, C tokens of a row, U
uniform numbers, V vocabulary.

Heads run at the W positions from ``kept`` on, of which everything before was computed from tokens that are known. The
values that the trunk handed them for these positions are ``given``. Of what heads keep, the last positions are made of
drafts, and as many are computed again in the next step, from the tokens that came instead. W is the same in every step:
behind the positions that count stands what the next steps overwrite.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from dsvgraph.passes.graph.drafting import Draft, Drafting
from dsvgraph_torch.decoding.context import Cache, DraftContext
from dsvgraph_torch.decoding.sampling import Sampler, drawn
from dsvgraph_torch.emitted import load_source
from dsvgraph_torch.lowering.drafting import NAME, emit_drafts


@dataclass(frozen=True)
class Drafted:
    """Drafted tokens [B, K], and the distributions that they were drawn from [B, K, V]; none if greedy."""

    ids_BK: Tensor
    chances_BKV: Tensor | None


class Heads:
    """The heads of a compiled model that draft for the rows of one cache."""

    def __init__(self, module: Any, drafting: Drafting) -> None:
        self.module, self.drafting = module, drafting
        source, known = emit_drafts(drafting), type(module)._trunk.__globals__
        self.run = getattr(load_source(source, f"{drafting.model.name}, drafting", known), NAME)
        self.handed = self.run.__code__.co_argcount - 3  # besides the model, the row and the context
        self.device = next(module.parameters()).device
        self.again = drafting.again
        self.width = self.again + drafting.count + 1
        self.places: dict[tuple[Draft, int], tuple[Tensor, Tensor, int]] = {}
        back = {draft.back for drafts in drafting.drafts for draft in drafts}
        self.same_place = back.pop() if len(back) == 1 else None  # of all drafts, counted from the last position

    def begin(self, rows: int, slots: int) -> None:
        """Begin with ``rows`` rows of at most ``slots`` positions."""
        self.cache = Cache(rows, slots)
        self.rows_B = torch.arange(rows, device=self.device)
        self.kept_B = torch.zeros(rows, dtype=torch.long, device=self.device)
        self.given: list[Tensor] = []

    def held(self) -> list[Tensor]:
        """Return what a step changes besides the cache."""
        return [self.kept_B, *self.given]

    # -- prompts -----------------------------------------------------------------------------------

    def read(self, chosen: list[int], ids_BC: Tensor, handed: list[Tensor], lengths: list[int]) -> None:
        """Run at the prompts of the rows ``chosen``: ids and what the trunk handed on for them, [B, C, ...]."""
        cache = self.cache if len(chosen) == len(self.kept_B) else self.cache.only(chosen[0])
        assert cache is self.cache or len(chosen) == 1
        none_B = torch.zeros(len(chosen), dtype=torch.long, device=self.device)
        length = ids_BC.shape[1] - self.drafting.count - 1
        ctx = DraftContext(cache, 0, length, ids_BC, self.drafting.depths, last_B=none_B)
        stages = self.run(self.module, ctx.tokens(0), *handed[: self.handed], ctx)
        for _, _ in zip(self.drafting.drafts, stages, strict=False):
            pass  # drafts at the end of a prompt come with the first step, which runs there again
        stages.close()
        if not self.given:
            shapes = [(len(self.kept_B), self.width, *value.shape[2:]) for value in handed[: self.handed]]
            self.given = [value.new_zeros(s) for value, s in zip(handed, shapes, strict=False)]
        for i, b in enumerate(chosen):
            kept = max(0, lengths[i] - self.again - 1)  # the first step runs at the last position once more
            self.kept_B[b] = kept
            for given, value in zip(self.given, handed, strict=False):
                given[b, : lengths[i] - kept] = value[i, kept : lengths[i]]

    # -- steps -------------------------------------------------------------------------------------

    def draft(
        self, ids_BC: Tensor, read_B: Tensor, sampler: Sampler, uniform_BU: Tensor, size: int, limit: int
    ) -> Drafted:
        """Return drafts of the tokens behind the last one of each row, which is at ``read``; write them there."""
        last_B = (read_B - self.kept_B - 1).clamp(0, self.width - 1)
        one_B = None if self.same_place is None else (last_B - self.same_place).clamp(min=0)
        ctx = DraftContext(self.cache, self.kept_B, self.width, ids_BC, self.drafting.depths, limit, one_B)
        stages = self.run(self.module, ctx.tokens(0), *self.given, ctx)
        ids, chances = list[Tensor](), list[Tensor]()
        for drafts, values in zip(self.drafting.drafts, stages, strict=False):
            for draft in drafts:
                logits_BV = self.logits(draft, values[draft.index], (last_B - draft.back).clamp(min=0), size)
                if sampler.sampling.greedy:
                    ids.append(logits_BV.argmax(-1))
                else:
                    chances.append(sampler.sampling.chances(logits_BV))
                    ids.append(drawn(chances[-1], uniform_BU[:, len(ids)]))
                ids_BC[self.rows_B, read_B + len(ids)] = ids[-1]
        stages.close()
        return Drafted(torch.stack(ids, 1), torch.stack(chances, 1) if chances else None)

    def logits(self, draft: Draft, value_BWV: Tensor, at_B: Tensor, size: int) -> Tensor:
        """Return the logits of a draft over ``size`` tokens, in float32 or wider; no other token can be drawn."""
        logits_BV = value_BWV[:, 0] if value_BWV.shape[1] == 1 else value_BWV[self.rows_B, at_B]
        logits_BV = logits_BV.to(torch.promote_types(logits_BV.dtype, torch.float32))
        if draft.drafter.vocabulary is None:
            return logits_BV[:, :size]
        at, ids, size = self._places(draft, size)
        found_BV = torch.full((len(logits_BV), size), -torch.inf, dtype=logits_BV.dtype, device=self.device)
        return found_BV.index_copy_(1, ids, logits_BV[:, at])

    def _places(self, draft: Draft, size: int) -> tuple[Tensor, Tensor, int]:
        """Return which logits of a draft are of one of ``size`` tokens, these tokens, and how many there are."""
        if (draft, size) not in self.places:
            said = draft.drafter.vocabulary
            ids = list(range(said) if isinstance(said, int) else said or ())
            whole = self.drafting.model.type(next(iter(self.drafting.model.outputs.values()))).shape[-1]
            most = min(size, whole) if isinstance(whole, int) else size
            pairs = [(at, i) for at, i in enumerate(ids) if i < most]
            columns = torch.tensor(pairs, dtype=torch.long, device=self.device)
            self.places[draft, size] = columns[:, 0], columns[:, 1], most
        return self.places[draft, size]

    def follow(self, read_B: Tensor, handed: list[Tensor]) -> None:
        """Take what the trunk handed on for the positions from ``read`` on, [B, T, ...], behind what is kept."""
        kept_B = torch.maximum(self.kept_B, read_B - self.again)
        at_BW = kept_B[:, None] + torch.arange(self.width, device=self.device)
        fresh_BW = self.width + (at_BW - read_B[:, None]).clamp(0, self.drafting.count)
        old_BW = (at_BW - self.kept_B[:, None]).clamp(0, self.width - 1)
        from_BW = torch.where(at_BW < read_B[:, None], old_BW, fresh_BW)
        for given, value in zip(self.given, handed, strict=False):
            both = torch.cat([given, value[:, : self.drafting.count + 1]], 1)
            given.copy_(both[self.rows_B[:, None], from_BW])
        self.kept_B.copy_(kept_B)
