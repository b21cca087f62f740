"""Acceptance of drafts beside that in transformers: `python benchmarks/acceptance.py [--tokens 3000]`, on the CPU.

A small model with MTP modules is trained on the pages of docs/ and exported. Then `dsvgraph generate --draft mtp` and
transformers' `generate(use_mtp=True)` continue the same prompts, greedily. transformers drafts one token with each
module. It adds up, for each draft, how often the drafts before it were accepted, and how often it was too. Steps that
may draft past the last token are left out, as transformers does not count what it accepts there.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path
from typing import Any, NamedTuple

import torch
import transformers
from transformers.generation.candidate_generator import MTPCandidateGenerator

import dsvgraph
import dsvgraph_hf
import dsvgraph_torch
from dsvgraph.passes.graph.drafting import drafting
from dsvgraph_torch.decoding.heads import Heads
from dsvgraph_torch.decoding.rows import Rows
from dsvgraph_torch.decoding.sampling import Sampler, Sampling
from dsvgraph_torch.decoding.source import read_source

LAYERS = 2
SIZES = dict(
    hidden_size=64, num_hidden_layers=LAYERS, first_k_dense_replace=1, num_attention_heads=4, q_lora_rank=32,
    kv_lora_rank=16, qk_nope_head_dim=16, qk_rope_head_dim=8, v_head_dim=16, intermediate_size=160,
    moe_intermediate_size=48, n_routed_experts=4, num_experts_per_tok=2, n_group=2, topk_group=1,
)  # fmt: skip
PROMPT, NEW = 32, 100


class Steps(NamedTuple):
    """A text, and how many drafts each step accepted."""

    ids: list[int]
    accepted: list[int]


def exported(folder: Path, depth: int, steps: int) -> tuple[dsvgraph.Model, bytes]:
    """Train a model of so many MTP modules, export it to ``folder / "out"``; return it and a text it has not seen."""
    text = b"\n".join(path.read_bytes() for path in sorted(Path("docs").glob("*.md")))
    (folder / "text").write_bytes(text)
    model = dsvgraph.load("deepseek_v3_tiny", SIZES | {"num_nextn_predict_layers": depth})
    options = dict(steps=steps, batch=16, seq=64, lr=4e-3, save_every=steps, eval_every=steps, device="cpu")
    dsvgraph_torch.train(model, options | {"data": folder / "text", "out": folder / "run"})
    dsvgraph_hf.export(model, folder / "out", run=folder / "run")
    return model, text[-len(text) // 20 :]


def prompts_of(text: bytes, count: int) -> list[list[int]]:
    """Return so many pieces of a text, as bytes."""
    every = (len(text) - PROMPT) // count
    return [list(text[i * every : i * every + PROMPT]) for i in range(count)]


def of_transformers(folder: Path, depth: int, prompts: list[list[int]], dtype: torch.dtype) -> list[Steps]:
    """Return what transformers makes with its MTP modules."""
    names = [rf"model\.layers\.{LAYERS + k}.*" for k in range(depth)]  # by which it finds the weights of the modules
    transformers.DeepseekV3ForCausalLM._keys_to_ignore_on_load_unexpected = names
    model = transformers.AutoModelForCausalLM.from_pretrained(
        folder, dtype=dtype, experts_implementation="eager"
    ).eval()
    model.config.num_mtp_layers = depth
    found = []
    for prompt in prompts:
        accepted, asked = list[int](), MTPCandidateGenerator.update_candidate_strategy

        def watched(self: Any, input_ids: Any, scores: Any, matches: Any, accepted: Any = accepted) -> None:
            accepted.append(int(matches))

        MTPCandidateGenerator.update_candidate_strategy = watched
        ids = model.generate(torch.tensor([prompt]), max_new_tokens=NEW, do_sample=False, use_mtp=True)
        MTPCandidateGenerator.update_candidate_strategy = asked
        found.append(Steps(ids[0, PROMPT:].tolist(), accepted[1:]))  # the first pass reads the prompt
    return found


class WatchedRows(Rows):
    """Remembers how many drafts each step accepted."""

    def _measure(self, accepted: int) -> None:
        super()._measure(accepted)
        self.accepted = [*getattr(self, "accepted", []), accepted]


def of_dsvgraph(model: dsvgraph.Model, folder: Path, prompts: list[list[int]], dtype: torch.dtype) -> list[Steps]:
    """Return what the model makes of the exported weights with its own heads."""
    module = read_source(folder, model, "cpu", str(dtype).removeprefix("torch.")).module
    found = []
    for prompt in prompts:
        heads = Heads(module, drafting(model))
        rows = WatchedRows(module, [prompt], NEW, PROMPT + NEW, Sampler(Sampling(temperature=0)), 256, heads)
        ids = [token for _, new in rows.run() for token in new]
        found.append(Steps(ids, rows.accepted))
    return found


def acceptance(found: list[Steps], depth: int) -> tuple[list[int], list[int]]:
    """Return for each draft in how many steps those before it were accepted, and in how many it was too."""
    reached, accepted = [0] * depth, [0] * depth
    for steps in found:
        made = 1
        for took in steps.accepted:
            if made + depth + 1 > NEW:
                break
            made += took + 1
            for k in range(depth):
                reached[k] += took >= k
                accepted[k] += took > k
    return reached, accepted


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=300, help="of training")
    parser.add_argument("--tokens", type=int, default=3000, help="to make for each line, in rows of 100")
    parser.add_argument("--depths", type=int, nargs="+", default=[1, 2, 3])
    asked = parser.parse_args()
    torch.set_num_threads(1)
    lines = ["modules dtype      tokens texts equal steps equal  acceptance (that of transformers), by draft"]
    for depth in asked.depths:
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            model, text = exported(folder, depth, asked.steps)
            prompts = prompts_of(text, max(1, asked.tokens // NEW))
            for dtype in (torch.float64, torch.float32):
                ours = of_dsvgraph(model, folder / "out", prompts, dtype)
                theirs = of_transformers(folder / "out", depth, prompts, dtype)
                lines.append(line(depth, dtype, ours, theirs))
    print("\n".join(lines))


def line(depth: int, dtype: torch.dtype, ours: list[Steps], theirs: list[Steps]) -> str:
    """Return the numbers of a model in a dtype."""
    texts = sum(a.ids == b.ids for a, b in zip(ours, theirs, strict=True))
    steps = sum(a.accepted[:-2] == b.accepted[: len(a.accepted) - 2] for a, b in zip(ours, theirs, strict=True))
    counts = acceptance(ours, depth), acceptance(theirs, depth)
    rates = [[a / max(1, r) for r, a in zip(*count, strict=True)] for count in counts]
    words = ", ".join(f"{mine:.2%} ({other:.2%})" for mine, other in zip(*rates, strict=True))
    made = sum(len(one.ids) for one in ours)
    return f"{depth:7} {str(dtype)[6:]:9} {made:7,} {texts:7}/{len(ours)} {steps:7}/{len(ours)}  {words}"


if __name__ == "__main__":
    main()
