"""How long a graph takes to build, and the command line beside `import torch`.

Every figure is a median over rounds in which the cases take turns, so that a busy machine slows all
alike; what counts are the ratios.

    python benchmarks/graph.py [--rounds 15] [--processes 5]
"""

from __future__ import annotations

import argparse
import importlib.util
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Mapping

from rich.console import Console
from rich.table import Table

import dsvgraph
from dsvgraph import spec

SIZES = {
    "61 layers, 256 experts": {},
    "61 layers, 8 experts": {"n_routed_experts": 8, "n_group": 1, "topk_group": 1},
    "1,000 layers, 256 experts": {"num_hidden_layers": 1000},
    "61 layers, 100 MTP depths": {"num_nextn_predict_layers": 100},
}
COMMANDS = {
    "import torch": ["-c", "import torch"],
    "check deepseek_v3": ["-m", "dsvgraph", "check", "deepseek_v3"],
    "cost deepseek_v3": ["-m", "dsvgraph", "cost", "deepseek_v3"],
    "diff deepseek_v3 deepseek_v3_paper": ["-m", "dsvgraph", "diff", "deepseek_v3", "deepseek_v3_paper"],
}


def seconds(action: Callable[[], object]) -> float:
    start = time.perf_counter()
    action()
    return time.perf_counter() - start


def in_turns(actions: Mapping[str, Callable[[], object]], rounds: int) -> dict[str, list[float]]:
    """Seconds of every action in every round, after one round that does not count."""
    for action in actions.values():
        action()
    found: dict[str, list[float]] = {name: [] for name in actions}
    for _ in range(rounds):
        for name, action in actions.items():
            found[name].append(seconds(action))
    return found


def ratio(found: list[float], base: list[float]) -> str:
    """The median of the paired ratios, and its range."""
    pairs = sorted(a / b for a, b in zip(found, base, strict=True))
    return f"{statistics.median(pairs):.2f} ({pairs[0]:.2f} to {pairs[-1]:.2f})"


def table(title: str, found: Mapping[str, list[float]]) -> Table:
    first = next(iter(found.values()))
    made = Table("", "median", f"against {next(iter(found))}", title=title)
    for name, times in found.items():
        made.add_row(name, f"{statistics.median(times) * 1e3:.1f} ms", ratio(times, first))
    return made


def building(rounds: int) -> Table:
    """From the merged spec to the typed graph; the text is read once."""
    read = {name: spec.read("deepseek_v3", sizes) for name, sizes in SIZES.items()}
    actions = {name: lambda found=found: dsvgraph.build(found) for name, found in read.items()}
    return table("building DeepSeek-V3", in_turns(actions, rounds))


def processes(rounds: int) -> Table:
    """Whole processes, as a shell starts them."""

    def run(command: list[str]) -> Callable[[], object]:
        return lambda: subprocess.run([sys.executable, *command], check=True, capture_output=True)

    actions = {name: run(command) for name, command in COMMANDS.items()}
    return table("whole processes", in_turns(actions, rounds))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--processes", type=int, default=5, metavar="ROUNDS")
    options = parser.parse_args()
    console = Console()
    console.print(building(options.rounds))
    if importlib.util.find_spec("torch") and importlib.util.find_spec("dsvgraph.cli"):
        from machine import described

        console.print(processes(options.processes))
        console.print(described())
    else:
        console.print("whole processes are left out: they are measured beside torch, which is not installed")


if __name__ == "__main__":
    main()
