"""Drafts by a model's own heads: what they keep, what of it is computed again, and the tokens that they draw.

Shape legend: B rows, W positions that heads are asked for, K drafts, V vocabulary.

Heads run at the positions from ``kept`` on, of which everything before was computed from tokens that are known. The
values that the trunk handed them for these positions are ``given``. Of what heads keep, the last positions are made of
drafts, and as many are computed again in the next step, from the tokens that came instead.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from dsvgraph.passes.graph.drafting import Drafting
from dsvgraph_torch.decoding.context import Cache, DraftContext, Past
from dsvgraph_torch.decoding.sampling import Sampler
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

    def begin(self, rows: int, slots: int) -> None:
        """Begin with ``rows`` rows of at most ``slots`` positions."""
        spare = rows > 1  # of rows that differ in length, one slot takes what lies behind a row
        self.cache = Cache(rows, slots + spare)
        self.kept = [0] * rows
        self.given: list[list[Tensor]] = [[]] * rows

    def restart(self, row: int, handed: list[Tensor]) -> None:
        """Take what the trunk hands on for a row that was read from its start."""
        self.kept[row], self.given[row] = 0, handed[: self.handed]

    def follow(self, row: int, other: int) -> None:
        """Let a row that is done compute what another one does."""
        self.kept[row], self.given[row] = self.kept[other], self.given[other]

    def keep(self, row: int, handed: list[Tensor]) -> None:
        """Take what the trunk hands on for the accepted positions of a step."""
        pairs = zip(self.given[row], handed[: self.handed], strict=True)
        self.given[row] = [torch.cat([before, now]) for before, now in pairs]

    def draft(self, rows: list[Any], sampler: Sampler, size: int) -> Drafted:
        """Return drafts of the tokens behind the last one of each of ``rows``."""
        asked = [row.read - kept for row, kept in zip(rows, self.kept, strict=True)]
        row_BC = self._tokens(rows)
        past: Past = self.kept[0] if len(set(self.kept)) == 1 else torch.tensor(self.kept, device=self.device)
        ctx = DraftContext(self.cache, past, max(asked), row_BC, self.drafting.depths)
        given = [pad_sequence(list(parts), batch_first=True) for parts in zip(*self.given, strict=True)]
        stages = self.run(self.module, ctx.tokens(0), *given, ctx)
        at_B, asked_B = torch.arange(len(rows)), torch.tensor(asked)
        known_B = torch.tensor([len(row.window) for row in rows])
        ids, chances = [], []
        for drafts, values in zip(self.drafting.drafts, stages, strict=False):
            for draft in drafts:
                last_B = (asked_B - 1 - draft.back).clamp(min=0).to(self.device)
                logits_BV = values[draft.index][at_B.to(self.device), last_B]
                logits_BV = logits_BV.to(torch.promote_types(logits_BV.dtype, torch.float32)).cpu()
                chances.append(sampler.sampling.chances(whole(logits_BV, draft.drafter.vocabulary, size)))
                ids.append(sampler.draw(chances[-1], range(len(rows))))
                row_BC[at_B.to(self.device), (known_B + len(ids) - 1).to(self.device)] = ids[-1].to(self.device)
        stages.close()
        for b, row in enumerate(rows):
            self._settle(b, row.read)
        return Drafted(torch.stack(ids, 1), None if sampler.sampling.greedy else torch.stack(chances, 1))

    def _tokens(self, rows: list[Any]) -> Tensor:
        """Return the tokens of the rows, with room for the drafts, [B, C]."""
        windows = [torch.tensor(row.window + [0] * self.drafting.count) for row in rows]
        return pad_sequence(windows, batch_first=True).to(self.device)

    def _settle(self, b: int, read: int) -> None:
        """Count what is kept of a row up to where drafts were used, and drop what was handed for it."""
        kept = max(self.kept[b], read - self.drafting.again)
        self.given[b] = [value[kept - self.kept[b] :] for value in self.given[b]]
        self.kept[b] = kept


def whole(logits_BV: Tensor, vocabulary: int | tuple[int, ...] | None, size: int) -> Tensor:
    """Return logits over ``size`` tokens of logits over ``vocabulary``; no other token can be drawn."""
    if vocabulary is None:
        return logits_BV[:, :size]
    ids = torch.arange(vocabulary) if isinstance(vocabulary, int) else torch.tensor(vocabulary)
    there = ids < size
    found_BV = torch.full((len(logits_BV), size), -torch.inf, dtype=logits_BV.dtype)
    found_BV[:, ids[there]] = logits_BV[:, : len(ids)][:, there]
    return found_BV
