"""Text from a trained run: the first output only, the MTP heads dropped.

Shape legend: T tokens, V vocabulary; a row of one sequence is written [1, T].
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

import dsvgraph
from dsvgraph.errors import DsvError
from dsvgraph_torch.data.corpus import seeded
from dsvgraph_torch.data.tokens import BYTES, prompt_ids, text_of
from dsvgraph_torch.runs.folder import Run


def generate(
    run_dir: Path,
    prompt: str = "",
    tokens: int = 200,
    temperature: float = 0.8,
    top_k: int | None = 50,
    seed: int = 0,
    cached: bool = True,
    device: str = "auto",
    note: Callable[[str], None] | None = None,
) -> Iterator[str]:
    """Continue ``prompt`` with the model of a run folder, piece by piece as it is made.

    ``note`` takes what a user should know, and by default prints it to standard error.
    Raise DsvError if ``run_dir`` is no finished run, before the first piece.
    """
    check_sampling(tokens, temperature, top_k)
    model, context = load_model(Path(run_dir), device)
    if cached and (why := getattr(model, "looks_ahead", "")):
        (note or _print_note)(f"note: {why}; every token takes a whole row")
        cached = False
    sampler = Sampler(temperature, top_k, seed)
    known = Run(run_dir).tokens()
    ids = sample(model, prompt_ids(known, prompt), tokens, context, sampler, cached, known.size)
    return text_of(ids, known)


def _print_note(words: str) -> None:
    print(words, file=sys.stderr)


def load_model(run_dir: Path, device: str = "auto") -> tuple[Any, int]:
    """Return the model of a run folder, ready to predict, and the length of the rows it was trained on."""
    from dsvgraph_torch import compile

    run = Run(run_dir)
    options, checkpoint = run.read_about().options, run.trained()
    model = compile(dsvgraph.load(str(run.spec)))
    checkpoint.load_weights(model)
    target = options.model_copy(update={"device": device}).torch_device()
    return model.to(target).eval(), options.seq


class Sampler:
    """Draws a token: the likeliest at temperature 0, else by chance among the ``top_k`` likeliest."""

    def __init__(self, temperature: float, top_k: int | None, seed: int) -> None:
        self.temperature, self.top_k = temperature, top_k
        self.generator = seeded(seed, "sample")

    def __call__(self, logits_V: Tensor) -> int:
        if self.temperature == 0:
            return int(logits_V.argmax())
        kept_K, ids_K = logits_V.topk(min(self.top_k or len(logits_V), len(logits_V)))
        chances_K = torch.softmax(kept_K / self.temperature, -1)
        return int(ids_K[torch.multinomial(chances_K, 1, generator=self.generator)])


def sample(
    model: Any, prompt: list[int], tokens: int, context: int, sampler: Sampler, cached: bool = True,
    size: int = BYTES.size,
) -> Iterator[int]:  # fmt: skip
    """Yield token ids after those of ``prompt``, at most ``tokens`` of them, each below ``size``.

    The model sees at most ``context`` tokens; when they are full it goes on from the later half.
    """
    window = prompt[-context:]
    cache: dict[str, Any] = {}
    fresh = window
    for _ in range(tokens):
        logits_V = next_logits(model, fresh if cached else window, cache if cached else None, size)
        token = sampler(logits_V)
        yield token
        window.append(token)
        fresh = [token]
        if len(window) > context:
            window = window[-max(1, context // 2) :]
            cache, fresh = {}, window


@torch.inference_mode()
def next_logits(model: Any, ids: list[int], cache: dict[str, Any] | None, size: int = BYTES.size) -> Tensor:
    """Return the first ``size`` logits [V] of the token after ``ids``, in float32 on the CPU."""
    device = next(model.parameters()).device
    ids_1T = torch.tensor([ids], device=device)
    logits_1TV: Tensor = model.predict(ids_1T, cache=cache)
    return logits_1TV[0, -1, :size].float().cpu()


def check_sampling(tokens: int, temperature: float, top_k: int | None) -> None:
    """Raise DsvError if an option makes no sense."""
    if tokens < 1:
        raise DsvError(f"--tokens: must be at least 1, got {tokens}")
    if not 0 <= temperature < float("inf"):
        raise DsvError(f"--temperature: must be 0 (greedy) or more, got {temperature}")
    if top_k is not None and top_k < 1:
        raise DsvError(f"--top-k: must be at least 1, got {top_k}")
