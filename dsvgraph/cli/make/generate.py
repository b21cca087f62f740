"""`dsvgraph generate`: text from a trained model, drafted by its own heads if asked."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from dsvgraph import backends
from dsvgraph.backends.training import RunWeights
from dsvgraph.cli import output
from dsvgraph.cli.options import BackendOption, JsonOption, RunWeightsOption, SetOption, load
from dsvgraph.errors import DsvError, printable
from dsvgraph.loader.files import text_of

if TYPE_CHECKING:
    from rich.console import RenderableType

PROMPTS, SAMPLING, DRAFTING = "What is continued", "How a token is drawn", "Drafting"


class Drafts(StrEnum):
    """What makes drafts."""

    MTP = "mtp"


def option(*names: str, panel: str, **more: Any) -> Any:
    """Return an option in a panel of the help."""
    return typer.Option(*names, rich_help_panel=panel, **more)


Folder = Annotated[
    Path,
    typer.Argument(metavar="RUN|FOLDER", help="A run, or a folder of weights with a config.json.", show_default=False),
]
Prompt = Annotated[
    list[str] | None, option("--prompt", metavar="TEXT", help="The text to continue; repeatable.", panel=PROMPTS)
]
Prompts = Annotated[
    Path | None, option("--prompts", metavar="FILE", help="Prompts, one a line, all at once.", panel=PROMPTS)
]
Spec = Annotated[str | None, option("--spec", metavar="SPEC", help="What the weights are of.", panel=PROMPTS)]
Tokens = Annotated[int, option("--tokens", metavar="N", min=1, help="How many tokens to make.", panel=PROMPTS)]
Context = Annotated[
    int | None,
    option("--context", metavar="N", min=1, help="Tokens that the model sees at most. [as trained]", panel=PROMPTS),
]
Stop = Annotated[
    list[str] | None, option("--stop", metavar="TEXT", help="Text that ends a continuation; repeatable.", panel=PROMPTS)
]
Temperature = Annotated[float, option("--temperature", metavar="X", min=0, help="0: the likeliest.", panel=SAMPLING)]
TopK = Annotated[int, option("--top-k", metavar="N", min=1, help="Draw among the N likeliest.", panel=SAMPLING)]
TopP = Annotated[
    float,
    option("--top-p", metavar="P", help="Draw among the likeliest with this chance together.", panel=SAMPLING),
]
MinP = Annotated[
    float, option("--min-p", metavar="P", help="Draw among those with this share of the best chance.", panel=SAMPLING)
]
Seed = Annotated[int, option("--seed", metavar="N", min=0, help="What chance depends on.", panel=SAMPLING)]
Draft = Annotated[Drafts | None, option("--draft", help="Draft with the model's own heads.", panel=DRAFTING)]
Count = Annotated[
    int | None, option("--drafts", metavar="K", min=1, help="Tokens drafted a step. [as trained]", panel=DRAFTING)
]
ReuseLast = Annotated[
    bool, option("--reuse-last", help="Use the last module again to draft further than trained.", panel=DRAFTING)
]
Predict = Annotated[
    str | None,
    option(
        "--predict", metavar="DEVICE", help="Compare with `cost --drafting`: h200, ..., a YAML file.", panel=DRAFTING
    ),
]
StepWidth = Annotated[
    int | None,
    option(
        "--step-width", metavar="N", min=1, help="Positions that each step computes: equal shapes, equal text, "
        "whatever is drafted.", panel=DRAFTING,
    ),
]  # fmt: skip
Device = Annotated[str, typer.Option("--device", metavar="NAME", help="cpu, cuda, ...")]
Dtype = Annotated[
    str | None, typer.Option("--dtype", metavar="NAME", help="float32, bfloat16 or float64. [as saved by runs]")
]


def run(
    folder: Folder,
    prompt: Prompt = None,
    prompts: Prompts = None,
    spec: Spec = None,
    settings: SetOption = None,
    tokens: Tokens = 200,
    context: Context = None,
    stop: Stop = None,
    temperature: Temperature = 0.8,
    top_k: TopK = 50,
    top_p: TopP = 1.0,
    min_p: MinP = 0.0,
    seed: Seed = 0,
    draft: Draft = None,
    drafts: Count = None,
    reuse_last: ReuseLast = False,
    predict: Predict = None,
    step_width: StepWidth = None,
    weights: RunWeightsOption = RunWeights.LAST,
    device: Device = "auto",
    dtype: Dtype = None,
    backend: BackendOption = None,
    as_json: JsonOption = False,
) -> None:
    """Continue prompts with a trained model: a run, or a folder of weights.

    With --draft the model's MTP heads draft tokens, which it then checks: the same text (or the same distribution) in
    fewer steps.
    """
    options = {
        "tokens": tokens, "context": context, "stop": stop or (), "temperature": temperature, "top_k": top_k,
        "top_p": top_p, "min_p": min_p, "seed": seed, "draft": draft and str(draft), "drafts": drafts,
        "reuse_last": reuse_last, "predict": predict, "step_width": step_width, "device": device, "dtype": dtype,
        "weights": str(weights),
    }  # fmt: skip
    if settings and spec is None:
        raise typer.BadParameter("goes with --spec", param_hint="--set")
    model = None if spec is None else load(spec, settings)
    texts = _prompts(prompt, prompts)
    found = backends.generator(backend).continuations(folder, texts, options, model)
    if as_json:
        for _ in found:
            pass
        return output.data(found.result())
    _stream(texts, found)
    if draft:
        output.write(*_drafting(found.result()["drafting"]))


def _prompts(given: list[str] | None, path: Path | None) -> list[str]:
    """Return the prompts: of options, and the lines of a file."""
    texts = [text.encode(errors="replace").decode() for text in given or ()]  # what no UTF-8 terminal sent
    if path is not None:
        lines = text_of(path).split("\n")
        texts += lines[:-1] if lines[-1] == "" else lines
        if not texts:
            raise DsvError(f"--prompts: {path} is empty")
    return texts or [""]


def _stream(prompts: list[str], pieces: Iterable[tuple[int, str]]) -> None:
    """Print pieces as they come; of several prompts each when those before it are whole."""
    safe = output.is_terminal(sys.stdout)

    def show(piece: str, end: str = "") -> None:
        print(_visible(piece) if safe else piece, end=end, flush=True)

    if len(prompts) == 1:
        show(prompts[0])
        for _, piece in pieces:
            show(piece)
        return print()
    texts = list(prompts)
    for number, piece in pieces:
        texts[number] += piece
    for number, text in enumerate(texts):
        show(f"--- {number + 1}", "\n")
        show(text, "\n")


def _visible(piece: str) -> str:
    """Return text without control characters: a model must not control a terminal."""
    return "".join(c if c in "\n\t" else printable(c) for c in piece)


def _drafting(found: dict[str, Any]) -> Iterator[RenderableType]:
    """Yield what drafting gave, beside what was predicted."""
    predicted = found.get("predicted") or {}
    expected = found["expected_tokens_per_step"]
    yield f"\ndrafts of {found['drafts']} token{'s' * (found['drafts'] > 1)}, {found['steps']:,} steps"
    yield output.table(
        [">draft", ">accepted"],
        [(i, "-" if a is None else f"{a:.1%}") for i, a in enumerate(found["acceptance"], 1)],
    )
    said = predicted.get("device", "expected")
    rows = [
        ("tokens a step", _number(found["tokens_per_step"]), _number(predicted.get("tokens_per_step", expected))),
        ("speed-up", _number(found["speedup"]), _number(predicted.get("speedup"))),
    ]
    yield ""
    yield output.table(["", ">measured", f">{said}"], rows)
    if predicted.get("break_even_acceptance") is not None:
        yield f"breaks even at an acceptance of {predicted['break_even_acceptance']:.1%}"


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"
