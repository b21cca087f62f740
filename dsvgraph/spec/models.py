"""The language as Pydantic models: what a file may hold, as written."""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator

from dsvgraph.codes import Code
from dsvgraph.errors import Fault
from dsvgraph.names import is_name, why_no_name
from dsvgraph.spec.lines import WrittenLine

FIGURE = re.compile(r"\d{1,6}(\.\d{1,6})?[KMBT]$", re.ASCII)


def _name(text: str) -> str:
    if not is_name(text):
        raise Fault(Code.NO_NAME, f"`{text}` is no name: {why_no_name(text)}")
    return text


def _figure(text: str) -> str:
    if not FIGURE.fullmatch(text):
        raise Fault(
            Code.PUBLISHED, f"`{text[:60]}` is no published figure: digits and K, M, B or T, such as 671B or 1.6T"
        )
    return text


Name = Annotated[str, AfterValidator(_name)]
Figure = Annotated[str, AfterValidator(_figure)]
Convention = Literal["all", "without_embedding", "without_embedding_and_head"]


class BlockModel(BaseModel):
    """A block (or the graph itself): arguments, typed inputs, named lines, outputs, cache."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, defer_build=True)

    doc: str = Field(default="", description="What the block is, with its source.")
    args: dict[Name, Any] = Field(
        default={}, description="Arguments; one without a value is required, a default may be a block."
    )
    inputs: dict[Name, str | list[Any]] = Field(
        alias="in", min_length=1, description="Typed inputs: [B, T, d] or int[B, T]."
    )
    body: dict[Name, WrittenLine] = Field(min_length=1, description="One line per node: {callee: inputs, ...}.")
    out: str | dict[Name, str] = Field(description="The output, or outputs by name.")
    cache: list[str] = Field(default=[], description="Nodes whose values decoding keeps per token.")


class PublishedModel(BaseModel):
    """What others say that the model counts, to the digits that they give.

    It is not inherited by `extends`, and `--set` drops it: a spec of other sizes is another model,
    and must not claim the figures of the one that it started from.
    """

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, defer_build=True)

    parameters: Figure = Field(description="All weights of the first output, such as 671B.")
    active: Figure | None = Field(default=None, description="Weights that a token meets, such as 37B.")
    active_counts: Convention | None = Field(
        default=None, description="What `active` counts: there is no common convention."
    )
    source: str = Field(min_length=1, description="Where the figures stand.")

    @model_validator(mode="after")
    def _together(self) -> Self:
        if (self.active is None) != (self.active_counts is None):
            raise Fault(Code.PUBLISHED, "`active` and `active_counts` go together: a figure, and what it counts")
        return self


class SpecModel(BaseModel):
    """One YAML file."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, defer_build=True)

    name: str = Field(default="", max_length=100, description="The model's name.")
    doc: str = Field(default="", description="What the model is, with its sources.")
    extends: str | None = Field(default=None, description="A spec whose parts this one starts from.")
    include: list[str] = Field(default=[], description="Files that bring blocks.")
    published: PublishedModel | None = Field(default=None, description="Figures that others publish of this model.")
    config: dict[Name, Any] = Field(default={}, description="Values, named as in config.json.")
    blocks: dict[Name, BlockModel] = Field(default={}, description="Blocks by name.")
    graph: BlockModel | None = Field(default=None, description="The model itself.")
    loss: dict[Name, WrittenLine] = Field(default={}, description="Loss lines over the graph's outputs.")
    init: dict[str, Any] = Field(default={}, description="Initialisation by path pattern; the last match wins.")
    trained: dict[str, bool] = Field(default={}, description="Whether weights train, by path pattern.")
