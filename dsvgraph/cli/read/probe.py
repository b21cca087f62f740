"""`dsvgraph probe`: what a trained model does inside."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from dsvgraph import backends
from dsvgraph.backends.probes import ProbeOptions
from dsvgraph.backends.training import RunWeights
from dsvgraph.cli import output, progress
from dsvgraph.cli.options import BackendOption, JsonOption, RunWeightsOption, bundled_names, load
from dsvgraph.errors import DsvError
from dsvgraph.files import opened, write_atomic

WIDEST = 400
"""The most columns of a table: it has some for each depth."""

Folder = Annotated[Path, typer.Argument(metavar="RUN", help="A run, or a folder of weights.", show_default=False)]
TextOption = Annotated[
    str | None, typer.Option("--text", metavar="FILE|TEXT", help="What is shown token by token. [held-out text]")
]
Tokens = Annotated[int, typer.Option("--tokens", metavar="N", min=2, help="How much of it is shown.")]
Measured = Annotated[
    int, typer.Option("--measure", metavar="N", min=2, help="About how many held-out tokens numbers are taken over.")
]
OverTraining = Annotated[
    bool, typer.Option("--over-training", help="All checkpoints of the run, and what it recorded on the way.")
]
MtpMatrix = Annotated[
    bool, typer.Option("--mtp-matrix", help="Acceptance of every wiring of the MTP chain with these weights.")
]
GradientsOption = Annotated[bool, typer.Option("--gradients/--no-gradients", help="Norms and cosines per layer.")]
Html = Annotated[Path | None, typer.Option("--html", metavar="FILE", help="Write a page, one file.")]
SpecOption = Annotated[
    str | None,
    typer.Option("--spec", metavar="SPEC", help="The spec of a folder of weights.", autocompletion=bundled_names),
]
Device = Annotated[str, typer.Option("--device", metavar="NAME", help="cpu, cuda, ...")]


def run(
    folder: Folder,
    text: TextOption = None,
    tokens: Tokens = 256,
    measured: Measured = 16384,
    over_training: OverTraining = False,
    mtp_matrix: MtpMatrix = False,
    gradients: GradientsOption = True,
    html: Html = None,
    spec: SpecOption = None,
    weights: RunWeightsOption = RunWeights.LAST,
    device: Device = "auto",
    backend: BackendOption = None,
    as_json: JsonOption = False,
) -> None:
    """Look inside a trained model: losses per depth, gradients, experts, norms, acceptance."""
    options = ProbeOptions(
        text=None if text is None else read_text(text),
        tokens=tokens,
        measured=measured,
        over_training=over_training,
        mtp_matrix=mtp_matrix,
        gradients=gradients,
        device=device,
        weights=weights,
        spec=load(spec) if spec else None,
    )
    prober = backends.prober(backend)
    with progress.status("opening") as notify:
        found = prober.probe(folder, options, notify)
    if html:
        from dsvgraph.cli.probing.page import page

        write_atomic(html, page(found))
    if as_json:
        output.data(found.as_dict())
        return
    from dsvgraph.cli.probing.tables import parts

    output.write(*parts(found, output.coloured(sys.stdout)), widest=WIDEST)
    if html:
        print(f"\n{html}")


def read_text(given: str) -> str:
    """Return the text of the file that ``given`` names, or ``given`` itself if there is none.

    Raise DsvError if the file cannot be read, or is not UTF-8.
    """
    path = Path(given)
    try:
        if not path.exists():
            return given
        with opened(path) as file:
            return file.read().decode("utf-8")
    except UnicodeDecodeError as error:
        raise DsvError(f"--text: {path} is not UTF-8 text (byte {error.start})") from error
    except (OSError, ValueError) as error:
        if "\n" in given or len(given) > 255:
            return given
        raise DsvError(f"--text: cannot read {path}: {error}") from error
