"""A stand-in for `compile --train`: a process that leaves the files of a run, with losses that a table gives.

As a program it is called with the command line of a run. The losses of a spec are in the JSON file that the environment
variable TRAINED names, by the spec's name: `ratio` of the loss, `noise` between seeds, `speed` (seconds a step),
`diverges` (a step), `wait` (seconds that a step really takes), `data` (its digest), `flops` (of a step, up to
the 50th and after it).
"""

from __future__ import annotations

import argparse
import json
import math
import os
import random
import signal
import sys
import time
from pathlib import Path
from typing import Any

DEFAULT = {
    "ratio": 1.0,
    "noise": 0.0,
    "speed": 0.01,
    "diverges": 0,
    "wait": 0.0,
    "data": "d" * 64,
    "heads": 0,
    "flops": [],
}


def loss(step: int, ratio: float = 1.0, shared: float = 0.0, own: float = 0.0) -> float:
    """The held-out loss after ``step`` in a run whose seed adds ``shared`` to all variants and ``own`` to this one."""
    return ratio * (2.0 + 3.0 * step**-0.5) * (1 + shared + own)


def main() -> int:
    parser = argparse.ArgumentParser(allow_abbrev=False)
    parser.add_argument("spec", type=Path)
    for name in ("steps", "batch", "seq", "seed", "eval-every", "save-every", "warmup"):
        parser.add_argument(f"--{name}", type=int, required=True)
    parser.add_argument("--eval-at", type=int, action="append", default=[])
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--schedule", required=True)
    parser.add_argument("--lr")
    for name in ("train", "resume", "json"):
        parser.add_argument(f"--{name}", action="store_true")
    return train(parser.parse_args())


def train(given: Any) -> int:
    name = given.spec.read_text().splitlines()[0].removeprefix("name: ")
    about = DEFAULT | json.loads(Path(os.environ["TRAINED"]).read_text()).get(name, {})
    if about.get("refuses"):
        print(json.dumps({"ok": False, "errors": [{"message": about["refuses"]}]}))
        return 1
    stopped: list[int] = []
    signal.signal(signal.SIGTERM, lambda *_: stopped.append(1))
    assert given.resume == (given.out / "run.json").exists()
    given.out.mkdir(parents=True, exist_ok=True)
    with (given.out.parent / "processes.txt").open("a") as file:
        file.write(f"{given.out.name} {os.environ.get('OMP_NUM_THREADS')}\n")
    done = max((int(path.name.rpartition("-")[2]) for path in given.out.glob("checkpoint-*")), default=0)
    metrics = given.out / "metrics.jsonl"
    lines = metrics.read_text().splitlines()[:done] if metrics.exists() else []
    metrics.write_text("".join(f"{line}\n" for line in lines))
    write_about(given, about)
    shared = random.Random(given.seed).gauss(0, 0.02)
    own = random.Random(f"{name}{given.seed}").gauss(0, 1) * about["noise"]
    for step in range(done + 1, given.steps + 1):
        if step == about["diverges"]:
            write_about(
                given, about, {"reason": "diverged", "step": step, "message": f"the loss is nan at step {step}"}
            )
            print(json.dumps({"ok": False, "errors": [{"message": f"training diverged at step {step}"}]}))
            return 1
        time.sleep(about["wait"])
        measured = step in (1, given.steps, *given.eval_at) or step % given.eval_every == 0
        record = {"step": step, "tokens": step * given.batch * given.seq, "losses": {}, "lr": 1.0}
        record |= {"train_seconds": step * about["speed"], "seconds": step * about["speed"]}
        if about["flops"]:
            record["flops"] = sum(about["flops"][step > 50] for step in range(1, step + 1))
        if measured:
            value = loss(step, about["ratio"], shared, own)
            heads = {f"mtp.{d}": value * (1 + 0.1 * d) for d in range(1, about["heads"] + 1)}
            record |= {"heldout": {"next_token": value, **heads}, **about.get("measured", {})}
        with metrics.open("a") as file:
            file.write(json.dumps(record) + "\n")
        if stopped:
            (given.out / f"checkpoint-{step}").mkdir()
            return 130
    (given.out / f"checkpoint-{given.steps}").mkdir(exist_ok=True)
    assert math.isfinite(shared)
    return 0


def write_about(given: Any, about: dict[str, Any], stopped: dict[str, Any] | None = None) -> None:
    more = {"stopped": stopped} if stopped else {}
    text = json.dumps({"data": {"source": "a table", "sha256": about["data"]}, "versions": {}, **more})
    (given.out / "run.json").write_text(text)


if __name__ == "__main__":
    sys.exit(main())
