"""What may be chosen about a training run, and how a resumed run takes it up again."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import torch
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from dsvgraph.backends.training import MetricLog, OptimizerKind, Packing, Precision, ScheduleKind, TensorDtype
from dsvgraph.errors import DsvError, clipped
from dsvgraph.wanted import wanted

MAY_CHANGE = {
    "steps", "tokens", "minutes", "data", "device", "eval_every", "eval_at", "eval_tokens", "save_every", "out",
    "probe_every", "resume", "keep", "keep_best", "log", "emulate", "workers", "fit_memory",
}  # fmt: skip
"""Options that a resumed run may set anew; the others would make it another run."""

STEPS = 600
"""Steps of a run for which no budget was given."""

UNBOUNDED = 10**9
"""Steps of a run that only time ends."""


NEEDS = {"decay": ("schedule", {ScheduleKind.WSD}), "lr_end": ("schedule", {ScheduleKind.COSINE, ScheduleKind.WSD})}
"""Options that have a meaning only with some values of another."""


class TrainOptions(BaseModel):
    """Options of ``dsvgraph compile --train``; the defaults suit the tiny spec on two cores."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    steps: int | None = Field(None, ge=1)
    tokens: int | None = Field(None, gt=0)
    minutes: float | None = Field(None, gt=0, allow_inf_nan=False)
    batch: int = Field(16, ge=1)
    seq: int = Field(128, ge=2)
    data: Path | None = None
    task: str | None = None
    tokenizer: str | None = None
    pack: Packing = Packing.NONE
    out: Path | None = None
    seed: int = Field(0, ge=0, lt=2**63)
    device: str = "auto"
    precision: Precision = Precision.FLOAT32
    dtype: TensorDtype = TensorDtype.FLOAT32  # of runs before there was `precision`: bfloat16 was autocast
    lr: float = Field(3e-3, gt=0, allow_inf_nan=False)
    warmup: int | None = Field(None, ge=0)
    schedule: ScheduleKind = ScheduleKind.COSINE
    decay: float | None = Field(None, ge=0, le=1)
    lr_end: float | None = Field(None, ge=0, le=1)
    lr_for: tuple[tuple[str, Annotated[float, Field(ge=0, allow_inf_nan=False)]], ...] = ()
    optimizer: OptimizerKind = OptimizerKind.ADAMW
    ema: float | None = Field(None, gt=0, lt=1)
    accumulate: int = Field(1, ge=1)
    workers: int | None = Field(None, ge=0, le=256)
    weight_decay: float = Field(0.1, ge=0, allow_inf_nan=False)
    clip: float = Field(1.0, ge=0, allow_inf_nan=False)
    eval_every: int | None = Field(None, ge=1)
    eval_at: tuple[int, ...] = ()
    eval_tokens: int | None = Field(None, gt=0)
    save_every: int | None = Field(None, ge=1)
    probe_every: int | None = Field(None, ge=1)
    spike: float = Field(8.0, ge=0, allow_inf_nan=False)
    keep: int = Field(1, ge=1)
    keep_best: bool = False
    checkpoint_activations: bool = False
    fit_memory: int | None = Field(None, gt=0)
    compile: bool | None = None
    emulate: bool = False
    log: tuple[MetricLog, ...] = ()
    resume: bool = False
    weights: Path | None = None
    drop_mtp: bool = False

    def compiles(self, device: torch.device) -> bool:
        """Return whether repeated layers run through torch.compile: if asked for, and by default on a GPU.

        Not by default where layers are computed again, nor under fp8, whose products torch.compile does not see.
        """
        again = self.checkpoint_activations or self.fit_memory is not None
        by_default = device.type == "cuda" and not again and self.precision is not Precision.FP8
        return by_default if self.compile is None else self.compile

    @field_validator("data", "weights")
    @classmethod
    def _from_anywhere(cls, path: Path | None) -> Path | None:
        """Return a run may go on from another folder than where it was started."""
        return path and path.absolute()

    @model_validator(mode="after")
    def _goes_together(self) -> TrainOptions:
        """Raise ValueError where an option was given that has no meaning with another."""
        for name, (other, values) in NEEDS.items():
            if getattr(self, name) is not None and getattr(self, other) not in values:
                wanted = " or ".join(f"--{option_name(other)} {value}" for value in sorted(values))
                raise ValueError(f"--{option_name(name)}: goes with {wanted}")
        again = "fit-memory" if self.fit_memory else "checkpoint-activations" if self.checkpoint_activations else ""
        if self.compile and again:
            raise ValueError("--compile: torch.compile does not compute the same layers again in the same way; "
                             f"leave out --{again}")  # fmt: skip
        if self.fit_memory and self.checkpoint_activations:
            raise ValueError("--fit-memory: chooses the layers that are computed again; "
                             "leave out --checkpoint-activations, which is all of them")  # fmt: skip
        if self.fit_memory and self.precision is Precision.PURE_BF16:
            raise ValueError("--fit-memory: what fits is known of states in float32; leave out --precision pure-bf16")
        return self

    @classmethod
    def given(cls, **values: Any) -> TrainOptions:
        """Return options from those that the user gave; None means not given.

        Raises DsvError that names the first wrong option.
        """
        if values.get("dtype") is not None:
            raise DsvError("--dtype: training has --precision", hint=f"--precision {values['dtype']}")
        try:
            return cls(**{name: value for name, value in values.items() if value is not None})
        except ValidationError as error:
            place, words = first_fault(error)
            raise DsvError(f"--{option_name(place)}: {words}" if place else words) from None

    @property
    def step_tokens(self) -> int:
        """Tokens of one optimizer step."""
        return self.batch * self.seq * self.accumulate

    @property
    def length(self) -> int:
        """Steps of the whole run, by its budgets of steps and tokens; UNBOUNDED where it has but one of time."""
        by_tokens = self.tokens and -(-self.tokens // self.step_tokens)
        given = [steps for steps in (self.steps, by_tokens) if steps]
        return min(given) if given else UNBOUNDED if self.minutes else STEPS

    @property
    def ends_by_tokens(self) -> bool:
        """Whether the tokens are used up before the steps."""
        return bool(self.tokens) and self.length != self.steps

    @property
    def warmup_steps(self) -> int:
        """Steps to the full learning rate: as given, or a twentieth of all."""
        return max(1, self.length // 20) if self.warmup is None else self.warmup

    @property
    def decay_share(self) -> float:
        """The last share of the run, in which the learning rate of `wsd` falls."""
        return 0.2 if self.decay is None else self.decay

    @property
    def end_share(self) -> float:
        """The learning rate's end, as a share of its peak."""
        return 0.1 if self.lr_end is None else self.lr_end

    def due(self, step: int, every: int | None) -> bool:
        """Return whether what happens ``every`` so many steps (or ten times a run) happens after ``step``."""
        return step % (every or max(1, self.length // 10)) == 0

    def resumed(self, before: TrainOptions) -> TrainOptions:
        """Return the options of a run that goes on: as ``before``, but for what was given now and may change.

        Raise DsvError if an option that was given now contradicts the run, or if this version cannot go on with it.
        """
        if before.dtype is not TensorDtype.FLOAT32:
            hint = "--weights CHECKPOINT --precision bfloat16 begins a new run where it was"
            raise DsvError("--resume: the run multiplied in bfloat16 by autocast, which is no --precision", hint=hint)
        now = {name: getattr(self, name) for name in self.model_fields_set}
        for name, value in now.items():
            if name not in MAY_CHANGE and value != (old := getattr(before, name)):
                words = f"the run was started with {old}, and {value} would be another run"
                hint = "leave the option out to go on with the run, or start a new one with --out"
                raise DsvError(f"--{option_name(name)}: {words}", hint=hint)
        return before.model_copy(update=now)

    def processes(self, device: torch.device) -> int:
        """Return how many processes make batches: as given, or 2 where a GPU would wait for them."""
        return self.workers if self.workers is not None else 2 * (device.type == "cuda")

    def torch_device(self) -> torch.device:
        """Return the device to train on. Raise DsvError if it is not there."""
        name = self.device
        if name == "auto":
            name = "cuda" if torch.cuda.is_available() else "cpu"
        try:
            device = torch.device(name)
            torch.zeros(1, device=device).tolist()
        except (RuntimeError, AssertionError, NotImplementedError) as error:
            raise DsvError(f"--device: {name} cannot be used: {str(error).splitlines()[0]}") from None
        return device


def option_name(field: str) -> str:
    """Return an option as it is written on the command line, without its dashes."""
    return field.replace("_", "-")


def first_fault(error: ValidationError) -> tuple[str, str]:
    """Return where the first mistake is ("" for the whole), and what is expected and found there."""
    first = error.errors()[0]
    place, kind = ".".join(map(str, first["loc"])), first["type"]
    if kind == "missing":
        return place, "is missing"
    if kind == "extra_forbidden":
        return place, "is no known name"
    if kind == "value_error":
        return place, str(first["ctx"]["error"])
    words = "this is not JSON" if kind == "json_invalid" else f"{wanted(first)} is expected"
    return place, f"{words}, got {clipped(repr(first['input']), 60)}" if place else words


def fault(error: ValidationError) -> str:
    """Return the first mistake as one sentence: where, what is expected, what was found."""
    place, words = first_fault(error)
    return f"{place}: {words}" if place else words
