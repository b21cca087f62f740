"""`dsvgraph bench`: how fast a model trains and decodes here, and what memory it takes."""

from __future__ import annotations

from typing import Annotated

import typer

from dsvgraph import backends
from dsvgraph.backends.benchmark import BenchmarkOptions
from dsvgraph.backends.training import Precision
from dsvgraph.cli import output, progress
from dsvgraph.cli.costing import bench_report
from dsvgraph.cli.options import BackendOption, FitMemoryOption, JsonOption, SetOption, SpecArgument, load

BatchOption = Annotated[int, typer.Option("--batch", metavar="B", min=1, help="Rows of the batch.")]
SeqOption = Annotated[int, typer.Option("--seq", metavar="T", min=2, help="Tokens of a row.")]
Steps = Annotated[
    int,
    typer.Option("--steps", metavar="N", min=0, help="Steps that count, after three more; 0: decoding alone."),
]
Against = Annotated[
    str | None,
    typer.Option("--against", metavar="NAME", help="Another library to step in turns with: transformers."),
]
Device = Annotated[str, typer.Option("--device", metavar="NAME", help="cpu, cuda, ...")]
PrecisionOption = Annotated[
    Precision, typer.Option("--precision", "--dtype", metavar="NAME", help="The numbers, as of compile --train.")
]
Compile = Annotated[bool, typer.Option("--compile", help="Run layers through torch.compile, the other library's too.")]
Decode = Annotated[int, typer.Option("--decode", metavar="N", min=0, help="Decode N tokens behind rows of --seq too.")]
Seed = Annotated[int, typer.Option("--seed", metavar="N", min=0, help="What weights and tokens depend on.")]
Markdown = Annotated[bool, typer.Option("--markdown", help="Print the tables as Markdown.")]


def run(
    spec: SpecArgument,
    settings: SetOption = None,
    batch: BatchOption = 8,
    seq: SeqOption = 256,
    steps: Steps = 10,
    against: Against = None,
    device: Device = "auto",
    precision: PrecisionOption = Precision.FLOAT32,
    compile: Compile = False,
    decode: Decode = 0,
    fit_memory: FitMemoryOption = None,
    seed: Seed = 0,
    backend: BackendOption = None,
    markdown: Markdown = False,
    as_json: JsonOption = False,
) -> None:
    """Measure training steps, memory, blocks and decoding, beside the same model of another library.

    Steps are those of compile --train, on random tokens; shares of the machine's rate are by the graph's own count.
    """
    if markdown and as_json:
        raise typer.BadParameter("goes without --json", param_hint="--markdown")
    options = BenchmarkOptions(
        batch=batch, seq=seq, steps=steps, against=against, device=device, precision=precision, compile=compile,
        decode=decode, fit_memory=fit_memory, seed=seed,
    )  # fmt: skip
    model = load(spec, settings)
    benchmarker = backends.benchmarker(backend)
    with progress.parts_done() as notify:
        found = benchmarker.bench(model, options, notify)
    if as_json:
        output.data(found.as_dict())
    elif markdown:
        print(bench_report.markdown(found), end="")
    else:
        output.write(*bench_report.parts(found))
