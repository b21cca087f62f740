"""The options of `dsvgraph cost --phase`, and the text of its report."""

from __future__ import annotations

import re
from collections.abc import Iterator
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated, Any

import typer

from dsvgraph.cli import output
from dsvgraph.passes.count.quantity import Quantity
from dsvgraph.passes.options import AttentionMode, Dtype, Grouping, Phase

if TYPE_CHECKING:
    from rich.console import RenderableType

    from dsvgraph.passes.estimate import Device, Plan
    from dsvgraph.passes.estimate.fit import Fitting

PANEL = "A run"
UNITS = {"": 1.0, "K": 1e3, "M": 1e6, "B": 1e9, "T": 1e12}
AMOUNT = re.compile(r"([\d.]+(?:e[+-]?\d+)?) ?([KMBT]?)$", re.IGNORECASE)


class By(StrEnum):
    """What the costs are added up by, or nothing but their total."""

    TOTAL = "total"
    ROLE = Grouping.ROLE.value
    BLOCK = Grouping.BLOCK.value
    PATH = Grouping.PATH.value


def amount(text: str) -> float:
    """Read `14.8T`, `2.5e11`, `300B`."""
    match = AMOUNT.match(text.strip())
    try:
        number = float(match[1]) * UNITS[match[2].upper()] if match else 0.0
    except ValueError:
        number = 0.0
    if not 0 < number < float("inf"):
        raise typer.BadParameter(f"`{text}` is no amount such as 14.8T or 2e11")
    return number


PhaseOption = Annotated[
    Phase | None, typer.Option("--phase", help="What one step of this takes.", rich_help_panel=PANEL)
]
ContextOption = Annotated[
    int | None,
    typer.Option("--context", metavar="C", min=1, help="Cached tokens of a row. [--seq]", rich_help_panel=PANEL),
]
DtypeOption = Annotated[
    Dtype | None,
    typer.Option("--dtype", help="bfloat16 trains over float32 weights. [bfloat16]", rich_help_panel=PANEL),
]
WayOption = Annotated[
    AttentionMode | None,
    typer.Option(
        "--attention",
        help="The keys that each token sees, or as many as the last one sees; or moved to the latents. "
        "[causal; absorbed to decode]",
    ),
]
DraftingOption = Annotated[
    bool, typer.Option("--drafting", help="Keep the heads that draft at inference.", rich_help_panel=PANEL)
]


def chances(text: str) -> tuple[float, ...]:
    """Read `0.8` or `0.9,0.7,0.5`."""
    try:
        found = tuple(float(part) for part in text.split(","))
    except ValueError:
        found = ()
    if not found or not all(0 <= chance <= 1 for chance in found):
        raise typer.BadParameter(f"`{text}` is no chance from 0 to 1, and no list of them")
    return found


DraftsOption = Annotated[
    int | None,
    typer.Option("--drafts", metavar="K", min=1, help="Tokens drafted a step. [one a head]", rich_help_panel=PANEL),
]
ReuseLastOption = Annotated[
    bool, typer.Option("--reuse-last", help="The last head drafts further than trained.", rich_help_panel=PANEL)
]
AcceptanceOption = Annotated[
    Any,
    typer.Option(
        "--acceptance", metavar="A,...", parser=chances, help="Of drafts: one chance, or each.", rich_help_panel=PANEL
    ),
]
DeviceOption = Annotated[
    str | None,
    typer.Option("--device", metavar="NAME", help="h100, h200, ..., or a YAML file.", rich_help_panel=PANEL),
]
MfuOption = Annotated[
    float | None, typer.Option("--mfu", metavar="X", help="Share of the peak, up to 1.", rich_help_panel=PANEL)
]
RateOption = Annotated[
    Any,
    typer.Option("--tokens-per-second", metavar="N", parser=amount, help="Of one device.", rich_help_panel=PANEL),
]
TokensOption = Annotated[
    Any, typer.Option("--tokens", metavar="N", parser=amount, help="Of the run: 14.8T.", rich_help_panel=PANEL)
]
ByOption = Annotated[By | None, typer.Option("--by", help="Group the work.", rich_help_panel=PANEL)]


def parts(found: Plan, by: str, on: Device | None) -> Iterator[RenderableType]:
    """Yield what is run, then work, memory, time and drafting, as far as they were asked for."""
    yield _headline(found)
    yield output.table(["", ">", ""], [*_flops(found), *_memory(found)])
    yield "\nformulas"
    yield output.pairs(_formulas(found))
    yield from _time(found)
    yield from _drafts(found)
    if by != By.TOTAL:
        yield from _grouped(found, by, on)


def fitted(found: Fitting | None) -> Iterator[RenderableType]:
    """Yield what a training step recomputes to fit a given memory."""
    if found is None:
        return
    from dsvgraph.passes.estimate.fit import gib, grouped

    peak = f"{gib(found.peak)} {_at(found.peak_at)}"
    yield f"\nto fit {gib(found.limit)}: {peak}, without recomputing {gib(found.peak_without)}"
    if found.recomputed:
        rows = [(path, f"{count}") for path, count in grouped(found.recomputed)]
        yield output.table(["recomputed", ">modules"], rows)
        yield f"FLOPs of the forward that run again: {output.short(found.flops)} ({found.share:.1%} of it)"


def _headline(found: Plan) -> str:
    rows = f"{found.batch:,} x {found.seq:,} tokens"
    if found.phase == Phase.DECODE:
        rows = f"one step of {found.batch:,} row{'s' * (found.batch != 1)} behind {found.context:,} tokens"
    again = {"full": ", the forward recomputed"}.get(found.recompute, "") if found.phase == Phase.TRAIN else ""
    kept = ", with drafting heads" if found.drafting and found.phase != Phase.TRAIN else ""
    return (
        f"{output.cell(found.name)}, {found.phase}: {rows}, {found.dtype}, {found.attention} attention{again}{kept}\n"
    )


def _flops(found: Plan) -> Iterator[tuple[str, str, str]]:
    names = ["forward", "total", "model_per_token"]
    if found.phase == Phase.TRAIN:
        names = ["forward", "backward", "recomputed", "total", "model_per_token"]
    for name in names:
        value = getattr(found.flops, name).value
        yield f"FLOPs, {name.replace('_', ' ')}", f"{value:,.0f}", output.short(value)
    yield "bytes moved", f"{found.flops.bytes.value:,.0f}", output.short(found.flops.bytes.value)
    yield "FLOPs per byte", f"{found.flops.intensity.value:,.1f}", ""


def _memory(found: Plan) -> Iterator[tuple[str, str, str]]:
    for name, part in vars(found.memory).items():
        if isinstance(part, Quantity):
            value = part.value
            short = f"{output.short(value)}B" if value >= 1000 else f"{value} B"
            yield f"memory, {name.replace('_', ' ')}", f"{value:,}", short


def _formulas(found: Plan) -> Iterator[tuple[str, str]]:
    """Yield the formulas of work and memory, in the sizes of the input and C, the context."""
    parts = {"FLOPs, ": found.flops, "": found.flops, "memory, ": found.memory}
    shown = {"FLOPs, ": ("forward", "backward"), "": ("bytes",), "memory, ": ("cache", "activations")}
    for label, part in parts.items():
        for name in shown[label]:
            quantity = getattr(part, name, None)
            if quantity and quantity.formula != "0":
                yield f"{label}{name if label else 'bytes moved'}", quantity.formula
    if found.phase == Phase.TRAIN:
        memory: Any = found.memory
        yield "memory, activations checkpointed", memory.activations_checkpointed.formula
        yield f"memory, peak: {_at(memory.peak_at)}", memory.peak.formula
        yield f"memory, peak checkpointed: {_at(memory.peak_checkpointed_at)}", memory.peak_checkpointed.formula


def _at(place: str) -> str:
    """Return in words where a peak is."""
    return {"losses": "at the losses", "update": "at the update"}.get(place, f"backward of {place}")


def _time(found: Plan) -> Iterator[RenderableType]:
    """Yield the bound of the roofline, and the run at a share of the peak."""
    if found.roofline:
        r = found.roofline
        rate, fits = f"{r.tokens_per_second.value:,.1f}", "fits" if r.fits else "does NOT fit into one"
        yield f"\n{output.cell(r.device)}: {output.short(r.peak_flops)}FLOPs/s, {output.short(r.bandwidth)}B/s; {fits}"
        yield output.pairs([
            ("at best", f"{_seconds(r.seconds.value)} a step, {rate} tokens/s, MFU {r.mfu.value:.1%}"),
            ("computing", _seconds(r.seconds_computing.value)),
            ("moving", _seconds(r.seconds_moving.value)),
            ("formula", r.seconds.formula),
        ])  # fmt: skip
    if found.run:
        hours = "" if found.run.device_hours is None else f", {found.run.device_hours.value:,.0f} device hours"
        amount = "" if found.run.tokens is None else f" for {output.short(found.run.tokens, 'KMBT')} tokens"
        rate = f"{found.run.tokens_per_second.value:,.1f}"
        yield f"\nat MFU {found.run.mfu.value:.2%}: {rate} tokens/s a device{hours}{amount}"


def _drafts(found: Plan) -> Iterator[RenderableType]:
    if found.drafts:
        yield "\ndrafting, by the chance that a drafted token is accepted if those before it are"
        rows = [
            (
                f"{d.acceptance:.0%}",
                f"{d.tokens_per_step.value:.3f}",
                "-" if d.speedup is None else f"{d.speedup.value:.2f} x",
            )
            for d in found.drafts
        ]
        yield output.table([">accepted", ">tokens a step", ">speed-up"], rows)
        yield from _estimate(found)


def _estimate(found: Plan) -> Iterator[RenderableType]:
    """Yield what drafting gives at the given acceptance, and where it breaks even."""
    e = found.drafting_estimate
    if e is None:
        return
    rows = list[tuple[str, str]]()
    if e.acceptance and e.tokens_per_step:
        shares = ", ".join(f"{a:.1%}" for a in e.acceptance)
        gain = "" if e.speedup is None else f", speed-up {e.speedup.value:.3f} x"
        rows.append((f"accepted {shares}", f"{e.tokens_per_step.value:.3f} tokens a step{gain}"))
    if e.seconds:
        chance = "no acceptance pays" if e.break_even_acceptance is None else f"{e.break_even_acceptance:.1%}"
        rows.append(("break-even acceptance", chance))
    if e.seconds and e.acceptance:
        rows.append(("batches for which it pays", _batches(e.paying_batches or ())))
    if rows:
        yield ""
        yield output.pairs(rows)


def _batches(ranges: tuple[tuple[int, int | None], ...]) -> str:
    """Return numbers of rows in words."""
    if not ranges:
        return "none"
    if ranges == ((1, None),):
        return "all up to 65,536 rows"
    words = [f"from {a:,} on" if b is None else f"{a:,}" if a == b else f"{a:,} to {b:,}" for a, b in ranges]
    return ", ".join(words) + " rows"


def _grouped(found: Plan, by: str, on: Device | None) -> Iterator[RenderableType]:
    """Yield the work in parts, with formulas if they are few."""
    parts = found.by(by, on)
    heads = [">parameters", ">forward", ">backward", ">bytes", ">share", ">memory", *([">at best"] if on else [])]
    rows = [
        (
            part.name, output.short(part.parameters, "KMBT"), output.short(part.forward.value),
            output.short(part.backward.value), output.short(part.bytes.value), f"{part.share:.1%}",
            output.short(part.memory), *([_seconds(part.seconds.value)] if part.seconds else []),
        )
        for part in parts
    ]  # fmt: skip
    yield ""
    yield output.table([by, *heads], rows, wraps=[by])
    held = "weights, gradients, states and activations" if found.phase == Phase.TRAIN else "weights and cache"
    yield f"\nforward and backward are FLOPs, share is that of both; memory is that of {held}"
    if by != "path":
        for title in ("forward", "bytes", "activations"):
            formulas = [(part.name, getattr(part, title).formula) for part in parts]
            if any(formula != "0" for _, formula in formulas):
                yield f"\nformulas of {title}"
                yield output.pairs(formulas)


def _seconds(value: float) -> str:
    for unit, factor in (("s", 1.0), ("ms", 1e3)):
        if value * factor >= 0.9995:
            return f"{value * factor:.4g} {unit}"
    return f"{value * 1e6:.4g} us"
