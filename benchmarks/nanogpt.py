"""The tiny spec beside nanoGPT: the same text, split, batches and minutes, as many cores each; held-out bits per byte.

nanoGPT (github.com/karpathy/nanoGPT) lies in a folder of its own and is trained by its public configuration for
characters, without dropout as its README advises for a CPU, at as many parameters: 4 layers of 232. Ours runs by the
public command; options that are not listed go to it. Both run at once where there are cores for both.

    python benchmarks/nanogpt.py NANOGPT [--minutes 10] [--threads 2] [--text FILE] [--json FILE] [OPTION...]
"""

from __future__ import annotations

import argparse
import json
import math
import os
import subprocess
import sys
import tempfile
import time
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch
from machine import described
from rich.console import Console
from rich.table import Table

import dsvgraph
from dsvgraph_torch.data.text import load_corpus

SPEC, BATCH, SEQ, HELDOUT = "deepseek_v3_tiny", 16, 128, 65536
PEER = {"n_layer": 4, "n_head": 4, "n_embd": 232, "block_size": SEQ, "vocab_size": 256, "dropout": 0.0, "bias": False}
WARMUP, LR, END = 100, 1e-3, 0.1
"""nanoGPT's steps of warm-up, its learning rate, and the share of it at the end (config/train_shakespeare_char.py)."""


def trained_nanogpt(folder: Path, text: Path | None, minutes: float, lr: float) -> dict[str, Any]:
    """Train nanoGPT's model for some minutes of training alone, and return what came of it."""
    sys.path.insert(0, str(folder))
    from model import GPT, GPTConfig  # type: ignore[import-not-found]

    torch.manual_seed(1337)
    model, corpus = GPT(GPTConfig(**PEER)), load_corpus(text, BATCH, SEQ)
    optimizer = model.configure_optimizers(0.1, lr, (0.9, 0.99), "cpu")
    started, step = time.monotonic(), 0
    while (share := (time.monotonic() - started) / (60 * minutes)) < 1:
        rate = lr * min(1, (step + 1) / WARMUP) * (END + (1 - END) * (1 + math.cos(math.pi * share)) / 2)
        for group in optimizer.param_groups:
            group["lr"] = rate
        batch = corpus.batch(BATCH, SEQ, 0, step)
        score(model, batch).backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        step += 1
    return {"parameters": sum(p.numel() for p in model.parameters()), "step": step, "nats": heldout(model, corpus)}


def score(model: Any, batch: Any) -> torch.Tensor:
    """Return the mean loss of a batch."""
    loss: torch.Tensor = model(batch.inputs, batch.targets.contiguous())[1]
    return loss


@torch.no_grad()
def heldout(model: Any, corpus: Any) -> float:
    """Return the mean loss over the held-out text, in nats a byte."""
    model.eval()
    batches = [*corpus.heldout_batches(BATCH, SEQ, HELDOUT // SEQ)]
    counted = sum(batch.counted for batch in batches)
    return sum(score(model, b).item() * b.counted for b in batches) / counted


def commands(options: argparse.Namespace, rest: list[str], folder: str) -> dict[str, list[str]]:
    """Return the command of each contender; both print JSON as the last thing they print."""
    text = ["--text", str(options.text)] if options.text else []
    lr = ["--peer-lr", str(options.peer_lr)]
    data = ["--data", str(options.text)] if options.text else []
    train = ["--train", "--minutes", str(options.minutes), "--out", f"{folder}/run", "--json", *data, *rest]
    again = ["--only-peer", "--minutes", str(options.minutes), *text, *lr]
    return {
        "dsvgraph": [sys.executable, "-m", "dsvgraph", "compile", SPEC, *train],
        "nanoGPT": [sys.executable, __file__, str(options.nanogpt), *again],
    }


def run(jobs: dict[str, list[str]], threads: int) -> dict[str, dict[str, Any]]:
    """Run the commands, each on ``threads`` cores of its own, and return what they print."""
    cores = sorted(os.sched_getaffinity(0))
    at_once, found = len(cores) >= threads * len(jobs), {}
    started = {}
    for number, (name, command) in enumerate(jobs.items()):
        own = cores[threads * number :][:threads] if at_once else cores[:threads]
        started[name] = start(command, own)
        if not at_once:
            found[name] = result(name, started[name])
    return found or {name: result(name, process) for name, process in started.items()}


def start(command: list[str], cores: list[int]) -> subprocess.Popen[str]:
    """Start a command on ``cores`` alone."""
    settings = os.environ | {"OMP_NUM_THREADS": str(len(cores)), "MKL_NUM_THREADS": str(len(cores))}
    pinned = lambda: os.sched_setaffinity(0, cores)  # noqa: E731
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=settings, preexec_fn=pinned)


def result(name: str, process: subprocess.Popen[str]) -> dict[str, Any]:
    """Wait for a command and return the JSON that it printed. Raise SystemExit if it failed."""
    printed, _ = process.communicate()
    if process.returncode:
        raise SystemExit(f"{name} failed:\n{printed}")
    found: dict[str, Any] = json.loads(printed[printed.index("{") :])
    if "heldout" in found:
        losses = found["heldout"]
        found = {"step": found["step"], "nats": losses["next_token"], "losses": losses}
    return found | {"bits_per_byte": found["nats"] / math.log(2)}


def sets(rest: list[str]) -> dict[str, Any]:
    """Return what options like ``--set name=value`` say."""
    given = [value.split("=", 1) for option, value in pairwise(rest) if option == "--set"]
    return {name: json.loads(value) for name, value in given}


def shown(found: dict[str, dict[str, Any]], options: argparse.Namespace) -> Table:
    """Return the results as a table."""
    title = f"{options.minutes:g} minutes on {options.threads} cores each; {HELDOUT:,} held-out bytes in rows of {SEQ}"
    table = Table("model", "parameters", "steps", "bits per byte", title=title, caption=described())
    for name, one in found.items():
        table.add_row(name, f"{one['parameters']:,}", f"{one['step']:,}", f"{one['bits_per_byte']:.4f}")
    return table


def main() -> None:
    """Print both results, and write them as JSON if asked."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("nanogpt", type=Path, help="the folder with nanoGPT's model.py")
    parser.add_argument("--text", type=Path, help="the text, if not Python's standard library")
    parser.add_argument("--json", type=Path, help="a file for the results")
    parser.add_argument("--minutes", type=float, default=10)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--peer-lr", type=float, default=LR, help="nanoGPT's learning rate")
    parser.add_argument("--only-peer", action="store_true", help=argparse.SUPPRESS)
    options, rest = parser.parse_known_args()
    if options.only_peer:
        torch.set_num_threads(len(os.sched_getaffinity(0)))
        print(json.dumps(trained_nanogpt(options.nanogpt, options.text, options.minutes, options.peer_lr)))
        return
    with tempfile.TemporaryDirectory() as folder:
        found = run(commands(options, rest, folder), options.threads)
    found["dsvgraph"] |= {
        "parameters": dsvgraph.cost(dsvgraph.load(SPEC, sets(rest))).parameters.total,
        "options": rest,
    }
    Console().print(shown(found, options))
    if options.json:
        options.json.write_text(json.dumps({"minutes": options.minutes, **found}, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
