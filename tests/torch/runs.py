"""What the tests of training share: a small graph, a small text, quiet runs."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

import dsvgraph
from dsvgraph.errors import DsvError
from dsvgraph_torch.training import loop
from dsvgraph_torch.training.loop import RunResult
from dsvgraph_torch.training.options import TrainOptions

SIZES = dict(
    hidden_size=16, num_hidden_layers=2, first_k_dense_replace=1, num_nextn_predict_layers=2,
    num_attention_heads=2, q_lora_rank=8, kv_lora_rank=8, qk_nope_head_dim=8, qk_rope_head_dim=4, v_head_dim=8,
    intermediate_size=24, moe_intermediate_size=8, n_routed_experts=4, num_experts_per_tok=2, n_group=2,
    topk_group=1,
)  # fmt: skip
TEXT = b"".join(b"%d bottles of beer on the wall, %d bottles of beer.\n" % (i, i) for i in range(99, 0, -1))
SEVEN_LINES = """
graph:
  in: {ids: "int[B, T]"}
  body:
    embed: {embedding: ids, num: 256, dim: 4}
    head:  {linear: embed, out: 256}
  out: {logits: head}
loss: {next_token: {cross_entropy: logits, target: ids, shift: 1}}
"""
TIMES = {"tokens_per_second", "seconds", "train_seconds"}
"""Of the metrics, those that are never the same."""

QUICK = dict(steps=4, batch=4, seq=16, save_every=2, eval_every=2, device="cpu")


def small(**config: object) -> dsvgraph.Model:
    """The tiny spec at sizes that train in milliseconds."""
    return dsvgraph.load("deepseek_v3_tiny", {**SIZES, **config})


def quiet(**more: Any) -> Console:
    return Console(file=io.StringIO(), width=200, **more)


def plain(monkeypatch: pytest.MonkeyPatch) -> None:
    """Runs without pictures and long samples, which take most of a short run's time."""

    def no_graphviz(graph: dsvgraph.Model, path: Path) -> None:
        raise DsvError("no graphviz [here]")

    monkeypatch.setattr(dsvgraph, "render", no_graphviz)
    monkeypatch.setattr(loop, "plot_losses", lambda *args: args[-1].write_bytes(b"plot"))
    monkeypatch.setattr(loop, "SAMPLE_TOKENS", 8)


def quicken() -> None:
    """As ``plain``, for good."""
    plain(pytest.MonkeyPatch())


def run(folder: Path, graph: dsvgraph.Model | None = None, console: Console | None = None, **options: Any) -> RunResult:
    """A short run into ``folder / "run"`` on the bottles."""
    text = folder / "text"
    text.write_bytes(TEXT)
    given = dict(QUICK, data=text, out=folder / "run") | options
    return loop.train(graph or small(), TrainOptions.given(**given), console or quiet())


def refused(folder: Path, graph: dsvgraph.Model | None = None, **options: Any) -> str:
    """The words with which a run is refused."""
    with pytest.raises(DsvError) as caught:
        run(folder, graph, **options)
    return str(caught.value)


def checkpoint(folder: Path) -> Path:
    """The one checkpoint that a run has left in ``folder``."""
    (found,) = folder.glob("checkpoint-*")
    return found


def newest(folder: Path) -> Path:
    """The last of the checkpoints in ``folder``: one that was killed may leave the one before it."""
    return max(folder.glob("checkpoint-*"), key=lambda path: int(path.name.partition("-")[2]))


def records(folder: Path, run: str = "run", timed: bool = False) -> list[dict[str, Any]]:
    """Return the metrics of a run in ``folder``; without ``timed``, less those that are never the same."""
    return metrics(folder / run) if timed else untimed(folder / run)


def metrics(run: Path) -> list[dict[str, Any]]:
    """Return the metrics of a run, step by step."""
    return [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]


def untimed(run: Path) -> list[dict[str, Any]]:
    """Return the metrics of a run, less those that are never the same."""
    return [{k: v for k, v in record.items() if k not in TIMES} for record in metrics(run)]
