"""Kill a training run again and again, take it up each time, and compare it with one that was never stopped.

Half of the SIGKILLs come at random moments, half while a checkpoint is being written. The run has what a
checkpoint must hold: MoE and MTP, Muon with AdamW, an average of the weights, accumulation, a schedule.
It passes if all losses are the same to the last bit, each step is there once, and the checkpoints are equal byte
by byte.

    python benchmarks/resume.py [--kills 20] [--steps 150] [--seed 0]
"""

from __future__ import annotations

import argparse
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

SIZES = {
    "hidden_size": 32, "num_hidden_layers": 2, "first_k_dense_replace": 1, "num_nextn_predict_layers": 2,
    "num_attention_heads": 2, "q_lora_rank": 16, "kv_lora_rank": 8, "qk_nope_head_dim": 8, "qk_rope_head_dim": 4,
    "v_head_dim": 8, "intermediate_size": 48, "moe_intermediate_size": 16, "n_routed_experts": 4,
    "num_experts_per_tok": 2, "n_group": 2, "topk_group": 1,
}  # fmt: skip
OPTIONS = {
    "batch": 2, "seq": 16, "accumulate": 2, "optimizer": "muon", "ema": 0.99, "schedule": "wsd", "save-every": 1,
    "keep": 2, "eval-every": 20, "device": "cpu",
}  # fmt: skip
TIMES = {"tokens_per_second", "seconds", "train_seconds"}
TEXT = "".join(f"{i} bottles of beer on the wall, {i} bottles of beer.\n" for i in range(99, 0, -1))


def start(folder: Path, data: Path, steps: int) -> subprocess.Popen[bytes]:
    """Begin the run in ``folder``, or go on with it, as a program of its own."""
    settings = [part for name, value in SIZES.items() for part in ("--set", f"{name}={value}")]
    resume = ["--resume"] if (folder / "run.json").exists() else []
    command = [sys.executable, "-m", "dsvgraph", "compile", "deepseek_v3_tiny", *settings, "--train"]
    command += [part for name, value in OPTIONS.items() for part in (f"--{name}", str(value))]
    command += ["--steps", str(steps), "--data", str(data), "--out", str(folder), *resume]
    with (folder.parent / f"{folder.name}.log").open("ab") as log:
        return subprocess.Popen(command, stdout=log, stderr=log)


def writing(folder: Path) -> bool:
    """Whether a checkpoint is half written."""
    try:
        return any(name.startswith(".checkpoint-") for name in os.listdir(folder))
    except FileNotFoundError:
        return False


def steps_taken(folder: Path) -> int:
    """The number of lines of the metrics."""
    try:
        return (folder / "metrics.jsonl").read_bytes().count(b"\n")
    except FileNotFoundError:
        return 0


def kill(process: subprocess.Popen[bytes], folder: Path, chance: random.Random, in_save: bool) -> str:
    """Kill the run when it has gone on for a while; return what it was doing, or nothing if it had ended."""
    first, few = steps_taken(folder), chance.randint(0, 5)
    while process.poll() is None and steps_taken(folder) < first + few:
        time.sleep(0.01)
    if in_save:
        while process.poll() is None and not writing(folder):
            pass
    else:
        time.sleep(chance.random() * 0.5)
    process.send_signal(signal.SIGKILL)
    process.wait()
    if process.returncode != -signal.SIGKILL:
        return ""
    return "while a checkpoint was written" if writing(folder) else "elsewhere"


def metrics(folder: Path) -> list[dict[str, Any]]:
    """The metrics without what is never the same."""
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    return [{name: value for name, value in line.items() if name not in TIMES} for line in lines]


def files(folder: Path) -> dict[str, bytes]:
    """The files of the checkpoints, without what a kill has left."""
    found = [path for path in folder.glob("checkpoint-*/*") if path.is_file()]
    return {str(path.relative_to(folder)): path.read_bytes() for path in found}


def finish(folder: Path, data: Path, steps: int) -> None:
    """Let the run end by itself."""
    if start(folder, data, steps).wait():
        sys.exit((folder.parent / f"{folder.name}.log").read_text()[-2000:])


def trial(home: Path, kills: int, steps: int, seed: int) -> None:
    chance, data, whole, hurt = random.Random(seed), home / "text", home / "whole", home / "hurt"
    data.write_text(TEXT)
    finish(whole, data, steps)
    told: dict[str, int] = {}
    for number in range(kills):
        where = kill(start(hurt, data, steps), hurt, chance, in_save=number % 2 == 0)
        if not where:
            sys.exit(f"the run ended after {number} kills: give it more --steps")
        told[where] = told.get(where, 0) + 1
        print(f"kill {number + 1:2}: after step {steps_taken(hurt)}, {where}", flush=True)
    finish(hurt, data, steps)
    one, two = metrics(whole), metrics(hurt)
    assert [line["step"] for line in two] == list(range(1, steps + 1)), "a step is missing or was taken twice"
    assert one == two, "the metrics differ"
    assert files(whole) == files(hurt), "the checkpoints differ"
    kinds = ", ".join(f"{count} {where}" for where, count in sorted(told.items()))
    print(f"{kills} kills ({kinds}): {steps} steps, each once; losses and checkpoints equal to the last bit")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--steps", type=int, default=150)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as home:
        trial(Path(home), options.kills, options.steps, options.seed)


if __name__ == "__main__":
    main()
