"""Where greedy text with drafts leaves the text without: `python benchmarks/near_ties.py [--prompts 2000]`.

Two tokens whose logits differ by less than rounding may change places when a step computes another number of
positions. Here every second token has nearly the logits of another one, at distances from far below to far above
rounding, so that many choices are near-ties. Drafts are the tokens of plain decoding, each replaced with chance 0.3.

The judge is the same model in float64, which reads whole rows: for every first difference it says how far apart the two
largest logits are. It has to be less than `epsilon`: 12 sqrt(R) u s, for R rounded values on the way through the
layers, the unit roundoff u, and the standard deviation s of logits. Rounding errors add up like independent ones
(Higham and Mary, SIAM J. Sci. Comput. 41, 2019), so a logit has an error of about sqrt(R) u s; 6 times that is as good
as never exceeded, and two logits take part.

With `width`, every step computes that many positions, whatever is drafted (`generate --step-width`).
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor

import dsvgraph
import dsvgraph_torch
from dsvgraph_torch.decoding.heads import Drafted
from dsvgraph_torch.decoding.rows import Rows
from dsvgraph_torch.decoding.sampling import Sampler, Sampling

VOCABULARY, LAYERS = 512, 4
SIZES = dict(
    vocab_size=VOCABULARY, hidden_size=64, num_hidden_layers=LAYERS, num_attention_heads=4, q_lora_rank=24,
    kv_lora_rank=16, qk_nope_head_dim=16, qk_rope_head_dim=8, v_head_dim=16, intermediate_size=128,
    moe_intermediate_size=32, n_routed_experts=8, num_experts_per_tok=2, n_group=1, topk_group=1,
    num_nextn_predict_layers=1,
)  # fmt: skip
MODELS = {"dense": dict(first_k_dense_replace=LAYERS), "experts": dict(first_k_dense_replace=1)}
WRONG = 0.3
DRAFTS = (1, 2, 3, 4, 7)
WIDTH = 8


# -- models and drafts -----------------------------------------------------------------------------


@torch.no_grad()
def flat_model(settings: dict[str, int], dtype: torch.dtype, device: str = "cpu", seed: int = 0) -> tuple[Any, Any]:
    """Return a module with random weights in ``dtype``, ready to decode, and the same weights in float64.

    Token 2i + 1 has the logit of token 2i and a part of another one: 0.1 to 1,000 roundings, and not above 0.1.
    """
    model = dsvgraph.load("deepseek_v3_tiny", SIZES | settings)
    module = dsvgraph_torch.compile(model, kernels="decoding").eval()
    generator = torch.Generator().manual_seed(seed)
    for weight in module.state_dict().values():
        if weight.dim() > 1:
            weight.copy_(torch.randn(weight.shape, generator=generator) * weight.shape[-1] ** -0.5)
    head_VD = module.state_dict()["lm_head.weight"]
    other = torch.randn(head_VD[::2].shape, generator=generator) * head_VD.shape[-1] ** -0.5
    parts = torch.finfo(dtype).eps / 2 * 10 ** (4 * torch.rand(len(other), 1, generator=generator) - 1)
    head_VD[1::2] = head_VD[::2] + other * parts.clamp(max=0.1)
    module = module.to(dtype)
    exact = dsvgraph_torch.compile(model, kernels="decoding").double().eval()
    exact.load_state_dict(module.state_dict())
    return module.to(device), exact


class GivenDrafts:
    """Stands for heads: drafts what each row goes on with, known before, some tokens replaced by others."""

    def __init__(self, count: int, texts: list[list[int]], device: torch.device) -> None:
        self.drafting = SimpleNamespace(count=count)
        self.begin = self.read = self.follow = lambda *_: None  # drafts need nothing of the model
        self.held = list[Tensor]
        generator = torch.Generator().manual_seed(count)
        shape = len(texts), max(map(len, texts)) + 2 * count + 1
        drafts_BC = torch.randint(VOCABULARY, shape, generator=generator)
        right_BC = torch.rand(shape, generator=generator) >= WRONG
        for b, text in enumerate(texts):
            drafts_BC[b, : len(text)] = torch.where(
                right_BC[b, : len(text)], torch.tensor(text), drafts_BC[b, : len(text)]
            )
        self.drafts_BC = drafts_BC.to(device)

    def draft(
        self, ids_BC: Tensor, read_B: Tensor, sampler: Sampler, uniform_BU: Tensor, size: int, limit: int
    ) -> Drafted:
        """Write the drafts of a step behind the last token of each row, and return them."""
        at_BK = read_B[:, None] + 1 + torch.arange(self.drafting.count, device=read_B.device)
        ids_BK = self.drafts_BC.gather(1, at_BK.clamp(max=self.drafts_BC.shape[1] - 1))
        ids_BC.scatter_(1, at_BK, ids_BK)
        return Drafted(ids_BK, None)


def continued(module: Any, prompts: list[list[int]], length: int, heads: Any, width: int | None) -> list[list[int]]:
    """Return prompts and what follows them."""
    sampler = Sampler(Sampling(temperature=0), len(prompts))
    rows = Rows(module, prompts, length, 10**6, sampler, VOCABULARY, heads, width)
    found = [list(prompt) for prompt in prompts]
    for row, new in rows.run():
        found[row] += new
    return found


# -- what is compared ------------------------------------------------------------------------------


@dataclass
class Comparison:
    """First differences of rows for each number of drafts, and what the judge says of them."""

    epsilon: float
    drafts: tuple[int, ...] = DRAFTS
    tokens: int = 0  # up to first differences
    gaps: list[float] = field(default_factory=list)  # of the two largest logits, at each first difference
    all_gaps: list[float] = field(default_factory=list)  # the same at all places of the texts without drafts
    places: list[tuple[int | None, ...]] = field(default_factory=list)  # of the first differences, by row

    @property
    def parted(self) -> list[tuple[int | None, ...]]:
        """Return the places in rows in which any number of drafts made a difference."""
        return [row for row in self.places if any(place is not None for place in row)]

    @property
    def at_one_place(self) -> int:
        """Return in how many of these the place is the same with all numbers of drafts."""
        return sum(len(set(row)) == 1 for row in self.parted)

    def add(self, module: Any, exact: Any, prompts: list[list[int]], length: int, widths: tuple[Any, Any]) -> None:
        """Decode prompts of one length without drafts and with them, in steps of the two ``widths``."""
        plain = continued(module, prompts, length, None, widths[0])
        others = [
            continued(module, prompts, length, GivenDrafts(n, plain, next(module.parameters()).device), widths[1])
            for n in self.drafts
        ]
        start, end = len(prompts[0]), len(plain[0])
        with torch.inference_mode():
            best_BT2 = exact.predict(torch.tensor(plain))[:, start - 1 : -1].topk(2).values
        gaps = (best_BT2[..., 0] - best_BT2[..., 1]).tolist()
        for b, text in enumerate(plain):
            places = tuple(next((t for t in range(start, end) if text[t] != o[b][t]), None) for o in others)
            self.places.append(places)
            self.gaps += [gaps[b][t - start] for t in places if t is not None]
            self.all_gaps += gaps[b]
            self.tokens += sum((end if t is None else t + 1) - start for t in places)


def epsilon(exact: Any, dtype: torch.dtype) -> float:
    """Return 12 sqrt(R) u s; R counts two branches and two sums a layer, the last norm and the logits."""
    with torch.inference_mode():
        ids_BT = torch.randint(VOCABULARY, (64, 16), generator=torch.Generator().manual_seed(1))
        spread = float(exact.predict(ids_BT).std())
    return 12 * (4 * LAYERS + 2) ** 0.5 * torch.finfo(dtype).eps / 2 * spread


def random_prompts(count: int, seed: int) -> list[list[int]]:
    """Return prompts of four tokens."""
    return torch.randint(VOCABULARY, (count, 4), generator=torch.Generator().manual_seed(seed)).tolist()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--prompts", type=int, default=256, help="of 24 tokens each, for each line")
    parser.add_argument("--rows", type=int, nargs="+", default=[64], help="prompts decoded together")
    parser.add_argument("--dtype", choices=["float32", "bfloat16"], nargs="+", default=["float32", "bfloat16"])
    parser.add_argument("--device", default="cpu")
    asked = parser.parse_args()
    torch.set_num_threads(1)
    print(f"{'dtype':9} {'model':8} {'rows':>4} {'widths':>7} {'tokens':>7} {'differ':>6} {'largest gap':>11} "
          f"{'epsilon':>9} {'places below':>12} {'rows parted':>11} {'at one place':>12}")  # fmt: skip
    for dtype in (getattr(torch, name) for name in asked.dtype):
        for name, settings in MODELS.items():
            for rows in asked.rows:
                for widths in ((None, None), (None, WIDTH), (WIDTH, WIDTH)):
                    module, exact = flat_model(settings, dtype, asked.device)
                    found = Comparison(epsilon(exact, dtype))
                    for seed in range(max(1, asked.prompts // rows)):
                        found.add(module, exact, random_prompts(rows, seed), 24, widths)
                    words = "/".join("-" if width is None else str(width) for width in widths)
                    print(f"{str(dtype)[6:]:9} {name:8} {rows:4} {words:>7} {line(found)}", flush=True)


def line(found: Comparison) -> str:
    """Return the numbers of a comparison."""
    below = sum(gap < found.epsilon for gap in found.all_gaps) / len(found.all_gaps)
    return (
        f"{found.tokens:7,} {len(found.gaps):6,} {max(found.gaps, default=0):11.3g} {found.epsilon:9.3g} {below:12.1%} "
        f"{len(found.parted):11,} {found.at_one_place:12,}"
    )


if __name__ == "__main__":
    main()
