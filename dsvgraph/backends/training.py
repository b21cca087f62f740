"""What may be chosen about a training run, by name: options of the command line and of trainers."""

from __future__ import annotations

from enum import StrEnum


class TensorDtype(StrEnum):
    """The numbers of a compiled module: those that its matrices are multiplied in, or its weights are written in."""

    FLOAT32 = "float32"
    BFLOAT16 = "bfloat16"


class ScheduleKind(StrEnum):
    """How the learning rate goes on after warm-up."""

    COSINE = "cosine"
    WSD = "wsd"  # warm-up, stable, decay
    CONSTANT = "constant"


class OptimizerKind(StrEnum):
    """What moves the weights."""

    ADAMW = "adamw"
    MUON = "muon"


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
