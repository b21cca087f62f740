"""A run of one variant with one seed: its folder, what is in it, and the command that trains it further."""

from __future__ import annotations

import json
import re
import shlex
import shutil
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from dsvgraph.backends import BudgetKind, Variant
from dsvgraph.errors import DsvError
from dsvgraph.files import opened, write_atomic
from dsvgraph.passes.graph.optional import optional_losses
from dsvgraph_testbed.curves import Curve, curve_of, records_of

CHECKPOINT = re.compile(r"checkpoint-(\d{1,18})")
DIVERGED = "diverged"
"""The reason of a run of which nothing can be expected any more, in its run.json."""


@dataclass(frozen=True)
class Stop:
    """Why a run ended before it was asked to: after which step, and the trainer's words.

    A run that ``diverged`` would do so again; one that failed in another way is tried again by the next call.
    """

    step: int
    words: str
    diverged: bool


@dataclass(frozen=True, kw_only=True, eq=False)
class PlannedRun:
    """One run. ``length`` is its number of steps, where its learning rate depends on it.

    ``options`` are those of `compile --train` that its identity holds; ``evaluations`` those that it does not.
    """

    variant: Variant
    seed: int
    spec: Path
    folder: Path
    options: Mapping[str, Any]
    evaluations: Mapping[str, Any] = field(default_factory=dict)
    step_tokens: int
    step_flops: float
    length: int | None = None

    @property
    def metrics(self) -> Path:
        """One JSON object for each step."""
        return self.folder / "metrics.jsonl"

    @property
    def note(self) -> Path:
        """What the testbed has to say of the run, beside its folder."""
        return self.folder.with_name(f"{self.folder.name}.json")

    @property
    def log(self) -> Path:
        """What the processes of the run printed."""
        return self.folder.with_name(f"{self.folder.name}.log")

    # -- what is there --------------------------------------------------------------------------

    def about(self) -> dict[str, Any]:
        """Return what run.json says; nothing where there is none."""
        return _json(self.folder / "run.json")

    def curve(self) -> Curve | None:
        """Return the curve so far; None before the first step."""
        records = records_of(self.metrics)
        return curve_of(records, self.step_flops, self.starts()) if records else None

    def starts(self) -> list[int]:
        """Return the steps after which a process began."""
        return [int(step) for step in _json(self.note).get("starts", [])]

    def stop(self) -> Stop | None:
        """Return why the run ended too early, or None where it did not."""
        if failed := _json(self.note).get("failed"):
            return Stop(int(failed["step"]), str(failed["words"]), False)
        found = self.about().get("stopped") or {}
        if found.get("reason") != DIVERGED:
            return None
        return Stop(int(found["step"]), str(found.get("message", "")), True)

    def rates(self) -> dict[BudgetKind, float]:
        """Return what a step takes of the budgets of which each step takes equally much."""
        flops = {} if self.varies else {BudgetKind.FLOPS: self.step_flops}
        return {BudgetKind.TOKENS: self.step_tokens, **flops}

    @cached_property
    def varies(self) -> bool:
        """Whether steps leave losses out that weigh nothing in them, so that ``step_flops`` are the most of a step."""
        return bool(optional_losses(self.variant.model))

    # -- going on -------------------------------------------------------------------------------

    def command(self, steps: int, at: Sequence[int] = ()) -> list[str]:
        """Return the command that trains until ``steps`` steps are taken, on from where the run is.

        It is measured after the steps ``at`` too.
        """
        ends = {"seed": self.seed, "steps": steps, "eval_at": list(at), "out": self.folder}
        options = {**self.options, **self.evaluations, **ends}
        given = [part for name, value in options.items() for part in _option(name, value)]
        resume = ["--resume"] if (self.folder / "run.json").exists() else []
        return [sys.executable, "-m", "dsvgraph", "compile", str(self.spec), "--train", *given, *resume]

    def printed(self, steps: int) -> str:
        """Return the command that trains the whole run at once, as one types it."""
        return shlex.join(["dsvgraph", *(word for word in self.command(steps)[3:] if word != "--resume")])

    def begin(self) -> None:
        """Note that a process begins, after the last step that was saved; remove what is no run folder yet."""
        if self.folder.exists() and not (self.folder / "run.json").exists():
            shutil.rmtree(self.folder)
        self.folder.parent.mkdir(parents=True, exist_ok=True)
        saved = self._saved()
        self._note(starts=[*(step for step in self.starts() if step < saved), saved], failed=None)

    def failed(self, words: str) -> None:
        """Note that a process failed otherwise than by diverging."""
        self._note(failed={"step": self._saved(), "words": words})

    def _saved(self) -> int:
        """Return the step of the last checkpoint, 0 where there is none."""
        found = self.folder.iterdir() if self.folder.is_dir() else ()
        return max((int(m[1]) for path in found if (m := CHECKPOINT.fullmatch(path.name))), default=0)

    def _note(self, **more: Any) -> None:
        options = {name: str(value) for name, value in self.options.items()}
        about = {"variant": self.variant.name, "seed": self.seed, "spec": self.spec.name, "options": options}
        note = {**_json(self.note), **about, **more}
        write_atomic(self.note, json.dumps({k: v for k, v in note.items() if v is not None}, indent=2) + "\n", True)


def _option(name: str, value: Any) -> list[str]:
    """Return an option as words of a command line."""
    option = f"--{name.replace('_', '-')}"
    if isinstance(value, (list, tuple)):
        words = ("=".join(map(str, one)) if isinstance(one, tuple) else one for one in value)  # `PATTERN=FACTOR`
        return [part for one in words for part in _option(name, one)]
    return [option] if value is True else [option, str(value)]


def _json(path: Path) -> dict[str, Any]:
    """Return the JSON object of a file; an empty one where there is no file. Raise DsvError if it is damaged."""
    try:
        with opened(path) as file:
            return dict(json.loads(file.read()))
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, TypeError) as error:
        raise DsvError(f"{path} is damaged: {error}") from error
