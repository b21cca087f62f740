"""Text from a trained model: prompts in, pieces of text out, and in the end what it took."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields
from functools import partial
from pathlib import Path
from typing import Any

from dsvgraph.backends.training import RunWeights
from dsvgraph.errors import DsvError
from dsvgraph.graph import Model
from dsvgraph.names import listed
from dsvgraph.passes.graph.drafting import carries_state, drafting
from dsvgraph_torch.data.tokens import prompt_ids
from dsvgraph_torch.decoding.heads import Heads
from dsvgraph_torch.decoding.report import Timing, drafting_report
from dsvgraph_torch.decoding.rows import Rows
from dsvgraph_torch.decoding.sampling import Sampler, Sampling, sample
from dsvgraph_torch.decoding.source import TextModel, read_source
from dsvgraph_torch.decoding.text import TextStream

Piece = tuple[int, str]


@dataclass(frozen=True, kw_only=True)
class GenerateOptions:
    """The options of `generate`. ``draft``: `mtp`, or None; ``predict``: a device as `cost --device` takes it.

    ``weights``: which ones of a run, of `RunWeights`. ``step_width``: how many positions every step computes, so that
    greedy text does not depend on drafts at all.
    """

    tokens: int = 200
    temperature: float = 0.8
    top_k: int | None = 50
    top_p: float = 1.0
    min_p: float = 0.0
    seed: int = 0
    stop: Sequence[str] = ()
    context: int | None = None
    draft: str | None = None
    drafts: int | None = None
    reuse_last: bool = False
    predict: str | None = None
    step_width: int | None = None
    cached: bool = True
    device: str = "auto"
    dtype: str | None = None
    weights: str = RunWeights.LAST

    @classmethod
    def given(cls, options: Mapping[str, Any]) -> GenerateOptions:
        """Return options by name. Raise DsvError if one is unknown or makes no sense."""
        if unknown := sorted(options.keys() - {f.name for f in fields(cls)}):
            raise DsvError(f"generate has no option {listed(unknown)}")
        found = cls(**options)
        found.check()
        return found

    @property
    def sampling(self) -> Sampling:
        return Sampling(
            temperature=self.temperature, top_k=self.top_k, top_p=self.top_p, min_p=self.min_p, seed=self.seed
        )

    def check(self) -> None:
        """Raise DsvError if an option makes no sense."""
        for name in ("tokens", "context", "drafts", "step_width"):
            if (value := getattr(self, name)) is not None and value < 1:
                raise DsvError(f"--{name.replace('_', '-')}: must be at least 1, got {value}")
        if self.weights not in list(RunWeights):
            raise DsvError(f"--weights: there are {listed(list(RunWeights))}, got {self.weights}")
        if self.draft not in (None, "mtp"):
            raise DsvError(f"--draft: there is mtp, the model's own heads; got {self.draft}")
        if self.draft is None and (self.drafts is not None or self.reuse_last or self.predict):
            raise DsvError("--drafts, --reuse-last and --predict go with --draft mtp")
        self.sampling.check()


@dataclass
class Generation:
    """Texts that are being made: iterate over (number of the prompt, piece of text); `result` says what it took."""

    source: TextModel
    prompts: Sequence[str]
    options: GenerateOptions
    note: Callable[[str], None]
    texts: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        source, options = self.source, self.options
        self.ids = [prompt_ids(source.tokens, prompt) for prompt in self.prompts]
        self.streams = [TextStream(source.tokens, options.stop, source.ends) for _ in self.prompts]
        self.texts = [""] * len(self.prompts)
        self.context = options.context or source.context or max(map(len, self.ids)) + options.tokens
        found = drafting(source.model, options.drafts, options.reuse_last) if options.draft else None
        self.heads = Heads(source.module, found) if found else None
        self.timing = Timing()
        self.stop: Callable[[int], object] = lambda row: None
        why = getattr(source.module, "looks_ahead", "")
        self.cached = options.cached and not why
        if options.step_width:
            self._check_width(options.step_width, why)
        if why and options.cached:
            self.note(f"note: {why}; every token takes a whole row")

    def _check_width(self, width: int, why: str) -> None:
        """Raise DsvError if steps cannot have so many positions."""
        if why or carries_state(self.source.model):
            why = why or f"`{self.source.model.name}` carries a state from token to token"
            raise DsvError(f"--step-width: {why}, so a step has no place for positions that are not read")
        if self.heads and self.heads.drafting.count >= width:
            most = self.heads.drafting.count
            raise DsvError(f"--step-width: a step checks {most} drafts behind one token, so at least {most + 1}")

    def __iter__(self) -> Iterator[Piece]:
        started = time.perf_counter()
        for row, tokens in self._tokens():
            yield from self._pieces(row, tokens)
        for row, stream in enumerate(self.streams):
            if rest := stream.rest():
                self.texts[row] += rest
                yield row, rest
        self.timing.seconds += time.perf_counter() - started

    def _pieces(self, row: int, tokens: list[int]) -> Iterator[Piece]:
        for token in tokens:
            piece, ended = self.streams[row].add(token)
            if piece:
                self.texts[row] += piece
                yield row, piece
            if ended:
                self.stop(row)
                break

    def _tokens(self) -> Iterator[tuple[int, list[int]]]:
        """Yield new tokens by row: all rows at once where they can be, else one after another."""
        sampler = Sampler(self.options.sampling, len(self.ids))
        if not self.cached:
            yield from self._uncached()
            return
        apart = len(self.ids) > 1 and carries_state(self.source.model)  # a state has no place for padding
        groups = [[row] for row in range(len(self.ids))] if apart else [list(range(len(self.ids)))]
        for group in groups:
            mine = Sampler(self.options.sampling, len(self.ids)) if not apart else _of_row(sampler, group[0])
            self.rows = Rows(
                self.source.module, [self.ids[row] for row in group], self.options.tokens, self.context, mine,
                self.source.tokens.size, self.heads, self.options.step_width,
            )  # fmt: skip
            self.stop = partial(self._stop, group)
            for row, tokens in self.timing.of(self.rows):
                yield group[row], tokens

    def _stop(self, group: list[int], row: int) -> None:
        """End a row of those that are decoded together."""
        self.rows.stop(group.index(row))

    def _uncached(self) -> Iterator[tuple[int, list[int]]]:
        """Yield tokens of rows that are computed whole for every token."""
        if self.heads:
            raise DsvError("drafts are checked in a cache, and there is none")
        for row, ids in enumerate(self.ids):
            sampler = _of_row(Sampler(self.options.sampling, len(self.ids)), row)
            ended: list[int] = []
            self.stop = ended.append
            size = self.source.tokens.size
            for token in sample(
                self.source.module, ids, self.options.tokens, self.context, sampler, cached=False, size=size
            ):
                yield row, [token]
                if ended:
                    break

    def result(self) -> dict[str, Any]:
        """Return what was made and what it took, as plain data."""
        made = [
            {"prompt": prompt, "text": text, "tokens": stream.count, "end": str(stream.end)}
            for prompt, text, stream in zip(self.prompts, self.texts, self.streams, strict=True)
        ]
        count = sum(stream.count for stream in self.streams)
        found: dict[str, Any] = {
            "texts": made,
            "tokens": count,
            "seconds": self.timing.seconds,
            "tokens_per_second": count / self.timing.seconds if self.timing.seconds else None,
        }
        if self.heads:
            found["drafting"] = drafting_report(self.rows, self.timing, self.source.model, self.options.predict)
        return found


def _of_row(sampler: Sampler, row: int) -> Sampler:
    """Return a sampler of one row that draws what ``sampler`` draws for it."""
    found = Sampler(sampler.sampling)
    found.generators = [sampler.generators[row]]
    return found


def generate(
    folder: Path, prompts: Sequence[str], options: Mapping[str, Any], model: Model | None = None,
    note: Callable[[str], None] | None = None, progress: Callable[[int, int], object] | None = None,
) -> Generation:  # fmt: skip
    """Return texts that continue ``prompts``, which are made as one iterates over them.

    ``folder`` is a run, or holds weights that ``model`` or its config.json describes. ``note`` takes what a user should
    know, and by default prints it to standard error. Raise DsvError before the first piece.
    """
    asked = GenerateOptions.given(options)
    if not prompts:
        raise DsvError("--prompts: there is no prompt")
    source = read_source(Path(folder), model, asked.device, asked.dtype, progress, RunWeights(asked.weights))
    return Generation(source, list(prompts), asked, note or _print_note)


def _print_note(words: str) -> None:
    print(words, file=sys.stderr)
