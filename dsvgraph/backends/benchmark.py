"""What is asked of a benchmark, and what it reports: times, memory, and shares of the machine's matrix rate."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from dsvgraph.backends.training import Precision, TensorDtype
from dsvgraph.errors import DsvError


@dataclass(frozen=True, kw_only=True)
class BenchmarkOptions:
    """The options of `dsvgraph bench`.

    ``steps`` 0 measures decoding alone; ``decode`` is how many tokens are decoded, 0 for none; ``fit_memory`` are bytes
    that the training step has to fit in; ``against`` names another library.
    """

    batch: int = 8
    seq: int = 256
    steps: int = 10
    device: str = "auto"
    precision: Precision = Precision.FLOAT32
    compile: bool = False
    decode: int = 0
    against: str | None = None
    fit_memory: int | None = None
    seed: int = 0

    @property
    def dtype(self) -> TensorDtype:
        """The numbers of the weights that compute."""
        return TensorDtype.FLOAT32 if self.precision is Precision.FLOAT32 else TensorDtype.BFLOAT16


@dataclass(frozen=True)
class Machine:
    """Where it ran. ``rate`` is measured: FLOPs per second of a large matrix product in the numbers of the run.

    ``peak`` is the nominal rate of the table of devices, None for a device that the table does not have.
    """

    device: str
    software: str
    threads: int
    rate: float
    peak: float | None = None


@dataclass(frozen=True)
class TrainingSteps:
    """Training steps of one model. ``seconds`` are of the steps that count, in the order in which they ran.

    ``flops`` are the model's own of one step, forward and backward, by the count of the graph; ``predicted`` is the
    peak of memory that `cost --phase train` predicts, None where it does not describe what ran.
    """

    name: str
    ours: bool
    seconds: tuple[float, ...]
    first: float  # seconds of the first step, which compiles
    build: float  # seconds until the weights are there
    tokens: int
    flops: float
    peak: int  # bytes
    predicted: int | None
    loss: float

    @property
    def median(self) -> float:
        """Seconds of a step."""
        return median(self.seconds)

    @property
    def tokens_per_second(self) -> float:
        """Tokens of a step over its median time."""
        return self.tokens / self.median

    def share(self, rate: float) -> float:
        """Return the share of ``rate``, in FLOPs per second, that the model's own FLOPs take up."""
        return self.flops / self.median / rate


@dataclass(frozen=True)
class BlockTime:
    """Seconds of all copies of one block in one step, what is inside of it included; ``flops`` is its share of them.

    ``backward`` is None where it cannot be separated: no input has a gradient, or an output is used in another way.
    """

    path: str
    block: str
    depth: int
    copies: int
    forward: float
    backward: float | None
    flops: float


@dataclass(frozen=True)
class BlockTimes:
    """One step with a clock around every block: seconds of the whole, of the optimizer, and of each block."""

    step: float
    optimizer: float
    blocks: tuple[BlockTime, ...]

    @property
    def rest(self) -> float:
        """Seconds outside of all blocks and of the optimizer: losses and output layers, metrics, the clock itself."""
        inside, known = 0.0, list[bool]()  # whether the backward of each block around is known
        for block in self.blocks:
            known = known[: block.depth]
            inside += 0.0 if block.depth else block.forward
            inside += 0.0 if any(known) else block.backward or 0.0
            known.append(block.backward is not None)
        return self.step - inside - self.optimizer


@dataclass(frozen=True)
class DecodingSteps:
    """Tokens that one model made, a step after another, behind prompts: seconds of the prompts, and of each step.

    Steps whose tokens were read together share the seconds until these were there evenly.
    """

    name: str
    ours: bool
    rows: int
    context: int
    prompt: float
    seconds: tuple[float, ...]

    @property
    def median(self) -> float:
        """Seconds of a step."""
        return median(self.seconds)

    @property
    def tokens_per_second(self) -> float:
        """Tokens of all rows."""
        return self.rows / self.median


@dataclass(frozen=True)
class Benchmark:
    """Everything that was measured of one model; ``notes`` say what the figures do not hold."""

    name: str
    options: BenchmarkOptions
    machine: Machine
    steps: tuple[TrainingSteps, ...]
    blocks: BlockTimes | None
    decoding: tuple[DecodingSteps, ...] = ()
    notes: tuple[str, ...] = ()

    def ratio(self, of: TrainingSteps | DecodingSteps) -> float | None:
        """Return how many times the tokens per second of ``of`` ours are; None for ours."""
        found = [one for one in (self.steps if isinstance(of, TrainingSteps) else self.decoding) if one.ours]
        return None if of.ours else found[0].tokens_per_second / of.tokens_per_second

    def as_dict(self) -> dict[str, Any]:
        """Return everything as plain data, with what follows from it."""
        rate, peak = self.machine.rate, self.machine.peak
        return {
            "name": self.name,
            "options": asdict(self.options),
            "machine": asdict(self.machine),
            "steps": [self._steps(one, rate, peak) for one in self.steps],
            "blocks": asdict(self.blocks) | {"rest": self.blocks.rest} if self.blocks else None,
            "decoding": [self._decoding(one) for one in self.decoding],
            "notes": list(self.notes),
        }

    def _steps(self, one: TrainingSteps, rate: float, peak: float | None) -> Mapping[str, Any]:
        shares = {"mfu": one.share(rate), "mfu_of_peak": None if peak is None else one.share(peak)}
        return asdict(one) | {"tokens_per_second": one.tokens_per_second, **shares, "ratio": self.ratio(one)}

    def _decoding(self, one: DecodingSteps) -> Mapping[str, Any]:
        return asdict(one) | {"tokens_per_second": one.tokens_per_second, "ratio": self.ratio(one)}


def median(seconds: Sequence[float]) -> float:
    """Return the median, without the modules that `statistics` would load at every start of the program."""
    ordered, half = sorted(seconds), len(seconds) // 2
    return ordered[half] if len(ordered) % 2 else (ordered[half - 1] + ordered[half]) / 2


def check(options: BenchmarkOptions) -> None:
    """Raise DsvError if an option makes no sense with another."""
    if not options.steps and not options.decode:
        raise DsvError("--steps 0 measures decoding alone, and there is none", hint="--decode N tokens")
    if options.compile and options.fit_memory is not None:
        words = "torch.compile does not compute the same layers again in the same way"
        raise DsvError(f"--compile: {words}", hint="leave out --fit-memory")
