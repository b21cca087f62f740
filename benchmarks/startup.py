"""How long the program takes to start, beside importing the two libraries that it cannot do without.

Processor time of a process of its own, the least of some rounds in which the commands take turns.

    python benchmarks/startup.py [--rounds 9]
"""

from __future__ import annotations

import argparse
import resource
import subprocess
import sys

from rich.console import Console
from rich.table import Table

COMMANDS = {
    "import pydantic, typer": ["-c", "import pydantic, typer"],
    "dsvgraph --help": ["-m", "dsvgraph", "--help"],
    "dsvgraph check tutorial_mtp": ["-m", "dsvgraph", "check", "tutorial_mtp"],
    "dsvgraph check deepseek_v3": ["-m", "dsvgraph", "check", "deepseek_v3"],
}


def seconds(command: list[str]) -> float:
    """Return the processor time of a command."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run([sys.executable, *command], stdout=subprocess.DEVNULL, check=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def main() -> None:
    """Print the seconds of each command, and the ratio to the first."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=9)
    rounds = [{name: seconds(c) for name, c in COMMANDS.items()} for _ in range(parser.parse_args().rounds)]
    least = {name: min(one[name] for one in rounds) for name in COMMANDS}
    table, first = Table("command", "seconds", "ratio"), next(iter(least.values()))
    for name, spent in least.items():
        table.add_row(name, f"{spent:.3f}", f"{spent / first:.2f}")
    Console().print(table)


if __name__ == "__main__":
    main()
