"""What may be chosen about a training run, by name: options of the command line and of trainers."""

from __future__ import annotations

from enum import StrEnum


class TensorDtype(StrEnum):
    """The numbers that weights are written in."""

    FLOAT32 = "float32"
    BFLOAT16 = "bfloat16"


class Precision(StrEnum):
    """The numbers of a training run.

    Under `bfloat16` the weights that compute are bfloat16, and the optimizer has float32 ones behind them, with float32
    states; `fp8` is that with products of 8-bit tiles. `pure-bf16` has bfloat16 weights and states alone.
    """

    FLOAT32 = "float32"
    BFLOAT16 = "bfloat16"
    PURE_BF16 = "pure-bf16"
    FP8 = "fp8"


class ScheduleKind(StrEnum):
    """How the learning rate goes on after warm-up."""

    COSINE = "cosine"
    WSD = "wsd"  # warm-up, stable, decay
    CONSTANT = "constant"


class OptimizerKind(StrEnum):
    """What moves the weights."""

    ADAMW = "adamw"
    MUON = "muon"


class RunWeights(StrEnum):
    """Which weights of a run are read."""

    LAST = "last"  # of the newest checkpoint
    EMA = "ema"  # their average in it
    BEST = "best"  # of the checkpoint with the lowest held-out loss, of those that are kept


class Packing(StrEnum):
    """How documents become rows."""

    NONE = "none"  # one text without boundaries
    CUT = "cut"
    WHOLE = "whole"


class MetricLog(StrEnum):
    """Where metrics go beside the run folder."""

    TENSORBOARD = "tensorboard"
    WANDB = "wandb"
    TRACKIO = "trackio"
