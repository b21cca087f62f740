"""Mutants by the thousand, and random specs: `nightly.py --runs 20000` says what was found, and its seed.

What still checks is emitted and, where it is small, trained a step.
"""

from __future__ import annotations

import argparse
import resource
import sys
import time
from collections import Counter
from pathlib import Path

ROOT = Path(__file__).parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "backends"), str(ROOT / "tests"), str(Path(__file__).parent)]

import judge  # noqa: E402
import whole  # noqa: E402
from mutants import Mutant, mutant  # noqa: E402
from specs import spec  # noqa: E402

HEADROOM = 2 * judge.MEMORY  # address space is more than memory: what is shared, what is reserved


def main() -> int:
    """Judges the mutants of a range of seeds; returns 1 where one of them broke something."""
    options = _options()
    _limited()
    verdicts: Counter[str] = Counter()
    broken = {}
    start = time.monotonic()
    slowest = (0.0, 0)
    for seed in range(options.first, options.first + options.runs):
        made, began = mutant(seed), time.process_time()
        verdict = _verdict(made)
        slowest = max(slowest, (time.process_time() - began, seed))
        verdicts[verdict if verdict in ("model", "error") else "broken"] += 1
        if verdict not in ("model", "error"):
            broken[seed] = verdict
            print(f"seed {seed}: {made.file.name} in {made.top.name}, {' '.join(made.kinds)}: {verdict}", flush=True)
    took = time.monotonic() - start
    counts = ", ".join(f"{n:,} {name}s" for name, n in sorted(verdicts.items()))
    most = f"slowest {slowest[0]:.2f} s with all passes (seed {slowest[1]}), peak {judge.peak() / 2**20:.0f} MB"
    print(f"{options.runs:,} mutants in {took:.0f} s: {counts}; {most}")
    found = _specs(options.specs)
    return 1 if broken or found else 0


def _specs(runs: int) -> int:
    """Judges random specs; returns how many broke something."""
    verdicts: Counter[str] = Counter()
    for seed in range(runs):
        try:
            verdict = whole.judged(spec(seed))
        except Exception as error:  # noqa: BLE001 - to find them is what this is for
            verdict = "broken"
            print(f"spec {seed}: {type(error).__name__}: {str(error)[:200]}", flush=True)
        verdicts[verdict] += 1
    print(f"{runs:,} random specs: " + ", ".join(f"{n:,} {name}s" for name, n in sorted(verdicts.items())))
    return verdicts["broken"]


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=20_000, metavar="N")
    parser.add_argument("--specs", type=int, default=500, metavar="N")
    parser.add_argument("--first", type=int, default=0, metavar="SEED")
    return parser.parse_args()


def _limited() -> None:
    """A mutant that asks for more memory gets a MemoryError, which is no DsvError."""
    used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (used + HEADROOM, used + HEADROOM))


def _verdict(made: Mutant) -> str:
    try:
        return judge.judged(made, more=whole.emitted)
    except Exception as error:  # noqa: BLE001 - to find them is what this is for
        return f"{type(error).__name__}: {str(error)[:200]}"


if __name__ == "__main__":
    sys.exit(main())
