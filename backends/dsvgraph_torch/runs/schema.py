"""What the JSON files of a run may hold. They are input like any other: checked, with errors in words."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from dsvgraph.errors import DsvError
from dsvgraph.names import listed
from dsvgraph_torch.runs.files import read
from dsvgraph_torch.training.options import MAY_CHANGE, TrainOptions, fault
from dsvgraph_torch.training.schedule import Reason

Digest = Annotated[str, Field(pattern="^[0-9a-f]{64}$")]
Number = Annotated[float, Field(allow_inf_nan=False)]
Seconds = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Numbers = dict[str, Number]
Read = TypeVar("Read", bound=BaseModel)


class _Strict(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


class Vocabulary(_Strict):
    """The tokens of a run; ``sha256`` is empty where they are bytes."""

    name: str
    size: int
    sha256: Annotated[str, Field(pattern="^([0-9a-f]{64})?$")]


BYTES = Vocabulary(name="bytes", size=256, sha256="")


class Data(_Strict):
    """Where the data of a run came from, and the digest of all that its rows depend on."""

    source: str
    sha256: Digest
    tokens: Vocabulary = BYTES


class Result(_Strict):
    """What a finished run came to."""

    step: int
    heldout: Numbers
    accuracy: Numbers
    heldout_ema: Numbers = {}
    sample: str


class Stopped(_Strict):
    """Why a run takes no further step, after which step, and what was reported of it."""

    reason: Reason
    step: int
    message: str = ""


class About(_Strict):
    """run.json: the options, the data and the versions of a run, and its result.

    ``identity`` is the digest of what makes the run what it is; ``saved`` says that there is a checkpoint.
    ``stopped`` is missing while the run is under way, and where its process was killed.
    """

    options: TrainOptions
    data: Data
    versions: dict[str, str]
    identity: Digest
    saved: bool = False
    result: Result | None = None
    stopped: Stopped | None = None


class CheckpointAbout(_Strict):
    """checkpoint.json: the step, the identity of the run, and the digests of the files beside it.

    ``heldout`` is the held-out loss of the first prediction after this step, where it was measured.
    """

    step: Annotated[int, Field(ge=1)]
    run: Digest
    sha256: dict[Annotated[str, Field(pattern=r"^(model|optimizer|ema)\.safetensors$")], Digest] = Field(min_length=2)
    heldout: Number | None = None


class Record(BaseModel):
    """One line of metrics.jsonl, as far as it is read again."""

    model_config = ConfigDict(extra="allow", strict=True)

    step: int
    tokens: int
    lr: Number
    losses: Numbers
    heldout: Numbers = {}
    grad_norm: Number = 0.0
    accuracy: Numbers = {}
    flops: Annotated[int, Field(ge=0)] = 0
    seconds: Seconds = 0.0
    train_seconds: Seconds = 0.0


def identity(options: TrainOptions, sha256: str, spec: str) -> str:
    """Return the digest of a run: of its data, its spec, and the options that a resumed run may not change.

    Options at their defaults are no part of it, so that a run may go on where later versions have more of them.
    """
    fixed = options.model_dump(mode="json", exclude=MAY_CHANGE, exclude_defaults=True)
    return hashlib.sha256(json.dumps([fixed, sha256, spec], sort_keys=True).encode()).hexdigest()


def read_model(kind: type[Read], path: Path) -> Read:
    """Return the JSON file ``path`` as a ``kind``. Raise DsvError if it is missing or is none."""
    try:
        return kind.model_validate_json(read(path), strict=True)
    except ValidationError as error:
        raise DsvError(f"{path} is damaged: {fault(error)}") from None


def records(path: Path, losses: set[str]) -> Iterator[Record]:
    """Yield the metrics of a run: steps 1, 2, ... with the named losses, less an unfinished last line.

    Raise DsvError if a line is damaged.
    """
    lines = read(path).split(b"\n")[:-1] if path.exists() else []
    for number, line in enumerate(lines, 1):
        try:
            record = Record.model_validate_json(line)
        except ValidationError as error:
            raise DsvError(f"{path}:{number} is damaged: {fault(error)}") from None
        if record.step != number:
            raise DsvError(f"{path}:{number} is damaged: it is of step {record.step}")
        if lost := losses - record.losses.keys():
            raise DsvError(f"{path}:{number} is damaged: it has no loss {listed(sorted(lost))}")
        yield record
