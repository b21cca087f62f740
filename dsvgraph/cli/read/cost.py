"""`dsvgraph cost`: count parameters, FLOPs and cache, as a whole and by block; estimate a run; verify the count."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from dsvgraph.backends import verifier
from dsvgraph.cli import csv_table, output, progress
from dsvgraph.cli.costing import plan_report, verify_report
from dsvgraph.cli.exits import WRONG
from dsvgraph.cli.options import (
    BackendOption,
    BatchOption,
    CsvOption,
    FitMemoryOption,
    JsonOption,
    RecomputeOption,
    SeqOption,
    SetOption,
    SpecArgument,
    load,
    outputs_apart,
)
from dsvgraph.passes.options import AttentionMode, Dtype, Phase, Recompute

if TYPE_CHECKING:
    from rich.console import RenderableType

    from dsvgraph.graph import Model
    from dsvgraph.passes.count.by_block import BlockCost
    from dsvgraph.passes.count.cost import Cost

TOTALS = {
    "parameters": (
        "total", "inference", "active", "active_without_embedding", "active_without_embedding_and_head",
        "active_all_outputs", "routers", "trained", "untrained",
    ),
    "flops": ("forward", "backward", "train", "inference_forward", "forward_per_token", "train_per_token"),
    "kv_cache": ("elements_per_token", "bytes_per_token", "elements_per_row"),
}  # fmt: skip
SHEET = ("name", "value", "unit")
WIDE = 96  # room for parameters to the unit
TERMS = 10  # of a formula that is still read
RECOMPUTED = {"none": "nothing recomputed", "full": "the forward recomputed"}

Verify = Annotated[
    bool,
    typer.Option("--verify", help="Compare with the FLOPs of the compiled module as it runs; 1 if they differ."),
]


def run(
    spec: SpecArgument,
    batch: BatchOption = 1,
    seq: SeqOption = 4096,
    attention: plan_report.WayOption = None,
    recompute: RecomputeOption = Recompute.NONE,
    verify: Verify = False,
    backend: BackendOption = None,
    phase: plan_report.PhaseOption = None,
    context: plan_report.ContextOption = None,
    dtype: plan_report.DtypeOption = None,
    drafting: plan_report.DraftingOption = False,
    drafts: plan_report.DraftsOption = None,
    reuse_last: plan_report.ReuseLastOption = False,
    acceptance: plan_report.AcceptanceOption = None,
    device: plan_report.DeviceOption = None,
    mfu: plan_report.MfuOption = None,
    tokens_per_second: plan_report.RateOption = None,
    tokens: plan_report.TokensOption = None,
    fit_memory: FitMemoryOption = None,
    by: plan_report.ByOption = None,
    settings: SetOption = None,
    as_json: JsonOption = False,
    csv: CsvOption = None,
) -> None:
    """Count parameters, active parameters, FLOPs and KV cache, by block, with formulas.

    With --phase (or any option of a run) what one step takes: FLOPs, bytes moved, memory, time on a device.
    """
    given = {
        "phase": phase, "context": context, "dtype": dtype, "drafting": drafting, "drafts": drafts, "mfu": mfu,
        "reuse_last": reuse_last, "acceptance": acceptance, "rate": tokens_per_second, "tokens": tokens,
    }  # fmt: skip
    asked = any(value is not None and value is not False for value in (*given.values(), device, by, fit_memory))
    outputs_apart(csv, as_json=as_json)
    model = load(spec, settings)
    if verify:
        sys.exit(_verify(model, batch, seq, backend, as_json, alone=not (asked or csv)))
    if backend:
        raise typer.BadParameter("goes with --verify", param_hint="--backend")
    if asked:
        size = {"batch": batch, "seq": seq, "attention": attention, "recompute": recompute}
        run = given | size | {"phase": phase or Phase.TRAIN, "dtype": dtype or Dtype.BFLOAT16}
        return _plan(model, run, device, by or plan_report.By.TOTAL, as_json, csv, fit_memory)
    return _count(model, (batch, seq, attention or AttentionMode.CAUSAL, recompute), as_json, csv)


def _count(model: Model, counting: Any, as_json: bool, csv: Path | None) -> None:
    from dsvgraph.passes.count.cost import cost

    if AttentionMode.ABSORBED in counting:
        raise typer.BadParameter("is a way of decoding: use it with --phase decode", param_hint="--attention")
    found = cost(model, *counting)
    if csv:
        csv_table.write(csv, SHEET, csv_table.facts(found.as_dict()))
    if as_json:
        output.data(found.as_dict())
    elif str(csv) != "-":
        _write(found)


def _plan(
    model: Model, run: dict[str, Any], device_name: str | None, by: str, as_json: bool, csv: Path | None,
    limit: int | None = None,
) -> None:  # fmt: skip
    from dsvgraph.passes.count.quantity import plain
    from dsvgraph.passes.estimate import PlanOptions, device, plan
    from dsvgraph.passes.estimate.fit import FittingOptions, fit

    if run["mfu"] is not None and not 0 < run["mfu"] <= 1:
        raise typer.BadParameter("is a share of the peak, above 0 and at most 1", param_hint="--mfu")
    if run["mfu"] is not None and run["rate"] is not None:
        raise typer.BadParameter("goes without --tokens-per-second, which implies it", param_hint="--mfu")
    if limit is not None and (run["phase"] != Phase.TRAIN or run["recompute"] != Recompute.NONE):
        words = "chooses what a training step recomputes: it goes without --recompute, and with --phase train"
        raise typer.BadParameter(words, param_hint="--fit-memory")
    on = None if device_name is None else device(device_name)
    size = {name: run[name] for name in ("batch", "seq", "dtype")}
    fits = None if limit is None else fit(model, FittingOptions(limit=limit, **size))
    found = plan(model, PlanOptions(**run, device=on))
    groups = [] if by == plan_report.By.TOTAL else [plain(part) for part in found.by(by, on)]
    if csv and groups:
        csv_table.write(csv, [by, *list(groups[0])[1:]], [list(part.values()) for part in groups])
    elif csv:
        csv_table.write(csv, SHEET, csv_table.facts(found.as_dict()))
    if as_json:
        output.data(found.as_dict() | ({"by": groups} if groups else {}) | ({"fit": fits.as_dict()} if fits else {}))
    elif str(csv) != "-":
        output.write(*plan_report.parts(found, by, on), *plan_report.fitted(fits))


def _verify(model: Model, batch: int, seq: int, backend: str | None, as_json: bool, alone: bool) -> int:
    """Print the cost beside what the compiled module computes, and return the exit code."""
    if not alone:
        words = "counts one forward and backward, and goes with no option of a run"
        raise typer.BadParameter(words, param_hint="--verify")
    with progress.status("compiling") as notify:
        found = verifier(backend).verify(model, batch, seq, notify)
    if as_json:
        output.data(found.as_dict())
    else:
        output.write(*verify_report.parts(found))
    return 0 if found.equal else WRONG


def _write(found: Cost) -> None:
    """Print the cost as tables, with the conventions that it was counted by."""
    wide = output.console().width >= WIDE
    counted = ">parameters" if wide else ">weights"
    columns = ["path", "block", ">copies", counted, ">active", ">FLOPs", ">share"]
    output.write(
        f"{output.cell(found.name)}: {found.batch:,} x {found.seq:,} tokens, "
        f"{found.flops.attention} attention, {RECOMPUTED[found.flops.recompute]}\n",
        output.table(["", ">", ""], _totals(found)),
        *_symbolic(found),
        "",
        output.table(columns, _blocks(found, wide), wraps=columns[:2]),
        *_notes(found),
    )


def _totals(found: Cost) -> Iterator[tuple[str, str, str]]:
    """Yield the quantities of the whole model: label, number, the same in short."""
    for section, names in TOTALS.items():
        units = "KMBT" if section == "parameters" else "KMGTPEZY"
        for name in names:
            value = getattr(getattr(found, section), name)
            if name == "elements_per_row" and not value:
                continue  # most models keep nothing but what grows
            yield output.title(section, name), f"{value:,.0f}", output.short(value, units)


def _symbolic(found: Cost) -> Iterator[RenderableType]:
    """Yield the quantities that are formulas, with D for the one name in them."""
    heads = found.symbolic.get("heads", [])
    formulas = [(s, n, found.symbolic.get(s, {}).get(n, "")) for s, names in TOTALS.items() for n in names]
    titled = [(output.title(s, n), f) for s, n, f in formulas if f and not f.isdigit()]
    if len(heads) == 1:
        titled = [(title, formula.replace(heads[0], "D")) for title, formula in titled]
    if titled:
        yield f"\nformulas, D = {heads[0]}" if len(heads) == 1 else "\nformulas"
        yield output.pairs(titled)


def _blocks(found: Cost, wide: bool) -> Iterator[tuple[object, ...]]:
    """Yield one row for all equal copies of a block, indented as they nest."""
    for row, label in zip(found.blocks, output.nested(found.blocks), strict=True):
        block = row.block if row.inference else f"{row.block} *"
        parameters = f"{row.parameters:,}" if wide else output.short(row.parameters, "KMBT")
        numbers = output.short(row.active, "KMBT"), output.short(row.flops), f"{row.share:.1%}"
        yield label, block, row.copies, parameters, *numbers


def _notes(found: Cost) -> Iterator[RenderableType]:
    """Yield what the shares are of, what the stars mean, and the formulas of the smaller blocks."""
    yield "FLOPs are of the forward; share is that of them"
    if not all(row.inference for row in found.blocks):
        first = "the first output does not depend on it, so inference drops it"
        yield f"* {first}"
    found_of = {(_label(row), row.formula): row.formula for row in found.blocks if row.formula}
    plain = [(label, text) for (label, _), text in found_of.items() if text.count(" ") < 2 * TERMS]
    if plain:
        yield "\nparameters of one copy"
        yield output.pairs(plain)
    long = dict.fromkeys(label for label, text in found_of if text.count(" ") >= 2 * TERMS)
    if long:
        yield f"longer ones, sums of these, are in --json: {', '.join(long)}"


def _label(row: BlockCost) -> str:
    return row.line if row.line == row.block else f"{row.line} ({row.block})"
