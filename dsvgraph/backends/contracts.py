"""The contracts between dsvgraph and its backends, one Protocol for each group of entry points.

An entry point names an object that has the methods of its contract: a module with these functions, or an
instance of a class. A backend meets as few contracts as it likes, and imports no other backend.
CONTRIBUTING.md, "A new backend", lists the groups. What a notebook shows of a model is no Protocol: entries `svg`
and `html` of the group `dsvgraph.displays` name functions that take a model and return its text.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from dsvgraph.backends.benchmark import Benchmark, BenchmarkOptions
from dsvgraph.backends.comparison import Comparison
from dsvgraph.backends.probes import Probe, ProbeOptions
from dsvgraph.backends.run_summary import RunSummary
from dsvgraph.backends.verification import Verification
from dsvgraph.errors import DsvError
from dsvgraph.graph import Model

if TYPE_CHECKING:
    from rich.console import Console

Progress = Callable[[int, int], object]
"""Called with the number of bytes that are done, and of all."""


class Renderer(Protocol):
    """Draws a model. Group `dsvgraph.renderers`, one entry for each ending of a file, without the dot."""

    def render(self, graph: Model, path: Path, depth: int = 1, **view: Any) -> Path:
        """Write the picture of ``graph`` to ``path`` and return ``path``; ``view`` holds the other fields of View.

        Raise DsvError if the file cannot be written, or for an option of the view that has no meaning here.
        """

    def render_error(self, error: DsvError, path: Path, theme: str = "light") -> Path:
        """Show ``error`` in place of the picture, or leave the file as it is; return ``path``."""


class Compiler(Protocol):
    """Turns a model into source text. Group `dsvgraph.compilers`."""

    def emit(self, model: Model, full: bool = False) -> str:
        """Return the model as one source file; ``full`` with all that a compiled model takes, packed rows for example.

        Raise DsvError if the model cannot be lowered.
        """

    def report(self, model: Model) -> Mapping[str, Any]:
        """Compile the model, and return what came of it as names and values, in the order to print them.

        Raise DsvError if the parameters of the result differ from those of the graph.
        """


class TrainResult(Protocol):
    """The result of a training run: a dataclass, whose fields `compile --train --json` prints."""

    @property
    def interrupted(self) -> bool:
        """Whether the run was stopped before its last step."""


class Trainer(Protocol):
    """Trains a model. Group `dsvgraph.trainers`."""

    def train(self, model: Model, options: Mapping[str, Any], console: Console) -> TrainResult:
        """Train ``model`` and leave a run folder, with the spec as `spec.yaml` in it.

        ``options`` are those of `compile --train` that were given, by name, and ``weights`` (a folder) with
        ``drop_mtp``. Raise DsvError on wrong options or data, a folder in use, a full disk, or diverging losses.
        """


class Generation(Protocol):
    """Texts that are being made."""

    def __iter__(self) -> Iterator[tuple[int, str]]:
        """Yield the number of a prompt and the next piece of its text, as they are made."""

    def result(self) -> dict[str, Any]:
        """Return what was made and what it took, as plain data: `texts`, `tokens`, `seconds`, ..., `drafting`."""


class Generator(Protocol):
    """Continues text with a trained model. Group `dsvgraph.generators`."""

    def continuations(
        self,
        folder: Path,
        prompts: Sequence[str],
        options: Mapping[str, Any],
        model: Model | None = None,
        note: Callable[[str], None] | None = None,
        progress: Progress | None = None,
    ) -> Generation:
        """Return texts that continue ``prompts``; ``options`` are those of `generate` that were given, by name.

        ``folder`` is a run, or holds weights that ``model`` (None: its config.json) describes; ``note`` takes what a
        user should know. Raise DsvError before the first piece if the folder holds neither, or an option is wrong.
        """


class RunReader(Protocol):
    """Reads the folders that a trainer left. Group `dsvgraph.runs`."""

    def runs(self, folder: Path) -> list[RunSummary]:
        """Return the runs in ``folder`` and below it, by path. Raise DsvError if it cannot be read."""

    def report(self, run: Path, folder: Path) -> list[Path]:
        """Write a page and its Markdown about ``run`` into ``folder``; return the files, the page first.

        Raise DsvError if ``run`` is no run or is damaged, or if a file cannot be written.
        """


class Datasets(Protocol):
    """Prepares what models are trained on, and shows it. Group `dsvgraph.datasets`."""

    def prepare(
        self, source: Path, folder: Path, *, tokenizer: str = "bytes", field: str = "text", progress: Progress | None
    ) -> dict[str, Any]:
        """Encode the documents of ``source`` into the new folder ``folder``; return what was written, by name.

        The folder is what `compile --train --data` takes; it is there whole or not at all. Records have their text in
        ``field``. Raise DsvError if there is no text, or the folder exists.
        """

    def rows(self, options: Mapping[str, Any], count: int, *, heldout: bool = False) -> dict[str, Any]:
        """Return `source`, `vocabulary` and `rows` of training data, or of held-out data, for options of training.

        A row has lists of equal length: `ids`, `pieces` (the text that each token completes), `counted` (by the loss),
        `answers` (whether a token belongs to an exact answer), `documents`. Raise DsvError as training does.
        """

    def frequent(self, options: Mapping[str, Any], count: int) -> dict[str, Any]:
        """Return the ``count`` tokens met most: `ids`, their `share` of all `tokens`, `source`, `vocabulary`.

        Raise DsvError as training does, and if the data has no end or fewer different tokens."""

    def tasks(self, name: str | None = None) -> list[dict[str, Any]]:
        """Return the tasks with exact answers, or the task ``name``. Raise DsvError if there is none of this name.

        A task has `name`, `about`, `source`, `tokens`, `length`, `example`, and `options` with `name`, `default`,
        `about`.
        """


class Verifier(Protocol):
    """Runs the compiled model and compares what it computes with the cost. Group `dsvgraph.verifiers`."""

    def verify(
        self, model: Model, batch: int = 1, seq: int = 4096, notify: Callable[[str], object] | None = None
    ) -> Verification:
        """Count ``batch`` rows of ``seq`` tokens; ``notify`` is called with the name of each step that begins.

        Raise DsvError if the model cannot be compiled.
        """


class Benchmarker(Protocol):
    """Measures how fast a model trains and decodes, and what memory it takes. Group `dsvgraph.benchmarkers`."""

    def bench(
        self, model: Model, options: BenchmarkOptions, notify: Callable[[str, int, int], object] | None = None
    ) -> Benchmark:
        """Measure ``model``; ``notify`` is called with what is being done, and the parts that are done and of all.

        Raise DsvError if an option is wrong, or if the library of ``options.against`` has no such model.
        """


class Peer(Protocol):
    """Builds the same model in another library, to be measured beside ours. Group `dsvgraph.peers`."""

    def ways(self, model: Model, device: str, compile: bool) -> Sequence[str]:
        """Return the names of the ways in which the library runs ``model`` on a device, compiled ones where asked for.

        Raise DsvError if the library has no such model.
        """

    def check(self, model: Model) -> Sequence[str]:
        """Return what of ``model`` the library leaves out and a figure cannot show, each as a sentence.

        Raise DsvError if the library has no such model, or if a step of it would not be the same work.
        """

    def build(self, model: Model, way: str, device: Any, seed: int, positions: int) -> Any:
        """Return the library's model as a `torch.nn.Module` in float32, for rows of up to ``positions`` tokens."""

    def loss(self, module: Any, ids: Any) -> Any:
        """Return the loss of the next token over rows of ``ids``, a tensor with a gradient."""

    def decode_ways(self, device: str) -> Sequence[str]:
        """Return the names of the ways in which the library decodes on a device."""

    def decode(self, module: Any, way: str, ids: Any, tokens: int) -> Sequence[float]:
        """Continue rows of ``ids`` greedily; return the seconds of each token of all rows, the prompt's first."""


class Prober(Protocol):
    """Measures what a trained model does inside. Group `dsvgraph.probers`."""

    def probe(self, folder: Path, options: ProbeOptions, notify: Callable[[str], object] | None = None) -> Probe:
        """Measure the run in ``folder``, or its weights; ``notify`` is called with the name of each step that begins.

        Raise DsvError if there is nothing to probe in ``folder``, or if what ``options`` ask for is not there.
        """


class ModuleBuilder(Protocol):
    """Builds `torch.nn.Module`s, for backends that read or write weights. Group `dsvgraph.modules`.

    The names in `state_dict()` of a module are the paths of the graph.
    """

    def empty(self, model: Model, device: Any = "cpu", dtype: Any = None, kernels: str = "plain") -> Any:
        """Return the module with weights that hold nothing yet; on the device `meta`, nothing is allocated.

        Parameters are of ``dtype``, a torch.dtype (None for float32), buffers of float32; ``kernels`` is `plain`,
        the source as it is emitted, or `fast`, the same up to rounding.
        Raise DsvError if ``device`` has too little memory.
        """

    def initial(self, module: Any, seed: int = 0) -> Iterator[tuple[str, Any]]:
        """Yield path and first value of every weight, in the order of `state_dict()`; the module stays as it is."""

    def checkpoint(self, folder: Path) -> Path | None:
        """Return the folder with the newest weights of a run, or None if ``folder`` is not that of a run.

        Raise DsvError if the run has no weights, or if they were changed after they were saved.
        """


class Loaded(Protocol):
    """What was read from a folder of weights."""

    def as_dict(self) -> dict[str, Any]:
        """Return names and values, in the order to print them."""


class WeightReader(Protocol):
    """Reads weights into modules. Group `dsvgraph.weights`."""

    def check(self, model: Model, folder: Path, *, drop_mtp: bool = False) -> object:
        """Raise DsvError if ``folder`` does not hold the weights of ``model``, by path and by shape.

        With ``drop_mtp``, the folder may hold MTP modules that the model does not have.
        """

    def fill(
        self, module: Any, model: Model, folder: Path, *, drop_mtp: bool = False, progress: Progress | None = None
    ) -> Loaded:
        """Fill the weights of ``module`` in place. Raise DsvError as `check` does, before the first one is changed."""


class Importer(Protocol):
    """Turns a file of another format into a spec. Group `dsvgraph.importers`, named by the ending of the file."""

    def spec_of(self, path: Path) -> str:
        """Return the text of a spec. Raise DsvError for what the file says and a spec cannot express."""


class Exporter(Protocol):
    """Writes a model as a folder of another format. Group `dsvgraph.exporters`."""

    def export(
        self,
        model: Model,
        folder: Path,
        *,
        config_only: bool = False,
        run: Path | None = None,
        seed: int = 0,
        dtype: str = "float32",
        max_shard_size: int | str = "5GB",
        drop_mtp: bool = False,
        progress: Progress | None = None,
    ) -> dict[str, Any]:
        """Write ``folder``, a new or an empty one, and return what was written by name, with `files` as a list.

        The weights are those of the folder ``run``, or the first values that ``seed`` gives; ``config_only``
        writes none. Raise DsvError if the format cannot express the model, or if the folder is in use.
        """


class ComparisonResult(Protocol):
    """What a comparison came to."""

    @property
    def interrupted(self) -> bool:
        """Whether it was stopped before all runs had ended; the same call goes on with it."""

    @property
    def files(self) -> tuple[Path, ...]:
        """The reports that were written, the page first."""

    def as_dict(self) -> dict[str, Any]:
        """Return runs, readings and verdicts as plain data."""


class Testbed(Protocol):
    """Trains variants on the same data, and judges which is better. Group `dsvgraph.testbeds`."""

    def compare(self, comparison: Comparison, console: Console, progress: Console) -> ComparisonResult:
        """Train what is not trained yet and write the reports into the folder of the comparison.

        The verdicts are printed to ``console``, the progress to ``progress``.
        Raise DsvError on options or data that no run can be started with, or if a file cannot be written.
        """


class LanguageServer(Protocol):
    """Serves an editor. Group `dsvgraph.servers`."""

    def serve(self) -> None:
        """Speak the Language Server Protocol on standard input and output until the editor ends it."""
