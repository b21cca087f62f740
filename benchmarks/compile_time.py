"""How the first step under torch.compile grows with the number of layers: 61 against 4.

Copies of one block are compiled once, so that time should grow with distinct blocks. Each figure comes from a process
of its own, without caches from before.

    python benchmarks/compile_time.py [--device cpu] [--layers 4,61] [--hidden 64] [--seq 64]
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time

import torch
from rich.console import Console
from rich.table import Table

import dsvgraph
import dsvgraph_torch
from dsvgraph_torch.kernels.compiling import compile_layers
from dsvgraph_torch.training.layers import repeated_layers


def seconds(layers: int, options: argparse.Namespace) -> tuple[float, float]:
    """Return the seconds of the first step and of the third, which compiles nothing, of a model of ``layers``."""
    sizes = {"num_hidden_layers": layers, "hidden_size": options.hidden, "num_nextn_predict_layers": 0}
    graph = dsvgraph.load("deepseek_v3_tiny", sizes)
    dtype = torch.bfloat16 if options.device == "cuda" else torch.float32
    model = dsvgraph_torch.compile(graph, options.device, kernels="fast").to(dtype).train()
    compile_layers(graph, repeated_layers(graph, model, "--compile"))
    row = torch.randint(256, (2, options.seq + 1), device=options.device)
    ids, targets, took = row[:, :-1].contiguous(), row[:, 1:].contiguous(), []
    for _ in range(3):
        start = time.perf_counter()
        model(ids, targets)["loss"].backward()
        model.zero_grad()
        if options.device == "cuda":
            torch.cuda.synchronize()
        took.append(time.perf_counter() - start)
    return took[0], took[2]


def main() -> None:
    """Print the seconds for each number of layers, and the ratio of the last to the first."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--layers", default="4,61")
    parser.add_argument("--hidden", type=int, default=64)
    parser.add_argument("--seq", type=int, default=64)
    parser.add_argument("--one", type=int, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one:
        print(json.dumps(seconds(options.one, options)))
        return
    given = ["--device", options.device, "--hidden", str(options.hidden), "--seq", str(options.seq)]
    table = Table(
        "layers", "first step, s", "a later step, s", "compiling, s", title=f"torch.compile, {options.device}"
    )
    spent = []
    for layers in options.layers.split(","):
        with tempfile.TemporaryDirectory() as caches:
            places = {"TORCHINDUCTOR_CACHE_DIR": caches, "TRITON_CACHE_DIR": caches}
            command = [sys.executable, __file__, "--one", layers, *given]
            told = subprocess.run(
                command, env=os.environ | places, stdout=subprocess.PIPE, text=True, check=True
            ).stdout
        first, later = json.loads(told.splitlines()[-1])
        spent.append(first - later)
        table.add_row(layers, f"{first:.1f}", f"{later:.3f}", f"{spent[-1]:.1f}")
    table.caption = f"{spent[-1] / spent[0]:.2f} times as long for the last as for the first"
    Console().print(table)


if __name__ == "__main__":
    main()
