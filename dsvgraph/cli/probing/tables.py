"""The tables of `dsvgraph probe` on a terminal."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from dsvgraph.backends.probes import Estimate, Gradients, Matrix, Probe, RouterLoad, Snapshot, Wiring
from dsvgraph.cli import output
from dsvgraph.cli.probing import words
from dsvgraph.cli.probing.passage import coloured

if TYPE_CHECKING:
    from rich.console import RenderableType
    from rich.table import Table
    from rich.text import Text

BAR = 20
LEVELS = " ▁▂▃▄▅▆▇█"


def parts(probe: Probe, colours: bool) -> Iterator[RenderableType]:
    """Yield all tables, one after the other."""
    yield f"{output.cell(probe.name)} ({output.cell(probe.folder)})"
    yield f"{output.cell(words.about(probe))}\n"
    yield depth_table(probe.newest)
    if probe.newest.acceptance:
        yield "\nacceptance, teacher-forced: where a depth names the token that the first output names there"
        yield acceptance_table(probe.newest)
        yield words.length(probe.newest)
    if probe.history:
        yield from over_training(probe)
    if probe.newest.gradients:
        yield f"\ngradients of each loss, unweighted, in batches of {probe.gradient_tokens:,} tokens"
        yield gradient_table(probe.newest, colours)
    if probe.states:
        yield "\nresidual stream: root mean squares"
        yield state_table(probe)
    if probe.attention:
        yield "\nattention"
        yield attention_table(probe)
    if probe.routers:
        yield "\nexpert load: shares of the choices, each bar against the fullest expert of all"
        yield router_table(probe.routers)
    if probe.matrix:
        yield from matrix_parts(probe.matrix)
    yield from coloured(probe.passage, [row.name for row in probe.newest.scores], colours)
    yield from probe.notes


def whole(table: Table) -> Table:
    """Return a table of which no cell is cut."""
    from rich.cells import cell_len

    for column in table.columns:
        column.min_width = max(cell_len(str(text)) for text in (column.header, *column.cells))
    return table


def bar(share: float) -> str:
    """Return a bar for a share between 0 and 1."""
    eighths = round(max(0.0, min(1.0, share)) * BAR * 8) if not math.isnan(share) else 0
    whole, rest = divmod(eighths, 8)
    return "█" * whole + ("▏▎▍▌▋▊▉"[rest - 1] if rest else "")


def depth_table(snapshot: Snapshot) -> Table:
    """Return how well and how surely each depth predicts."""
    columns = ["prediction", ">of token", ">weight", ">loss, nats", ">accuracy", ">entropy, nats", ">top-1 p", ""]
    rows = [
        (
            row.name,
            words.ahead(row.ahead),
            row.weight,
            words.estimate(row.loss),
            words.percent(row.accuracy),
            words.estimate(row.entropy),
            words.estimate(row.confidence),
            bar(row.accuracy.value),
        )
        for row in snapshot.scores
    ]
    return whole(output.table(columns, rows))


def acceptance_table(snapshot: Snapshot) -> Table:
    """Return the acceptance of each depth with its standard error."""
    columns = ["prediction", ">of token", ">acceptance", ">and all nearer", ">product", ">positions", ""]
    rows = [
        (
            row.name,
            words.ahead(row.ahead),
            words.percent(row.agreement),
            words.percent(row.prefix),
            f"{100 * row.product:.1f} %",
            row.agreement.count,
            bar(row.agreement.value),
        )
        for row in snapshot.acceptance
    ]
    return whole(output.table(columns, rows))


def over_training(probe: Probe) -> Iterator[RenderableType]:
    """Yield loss, acceptance and the mean cosine of the trunk's layers at each step."""
    names = [row.name for row in probe.newest.scores[1:]]
    rows = f"on {probe.history_rows:,} rows"
    yield f"\nover training, {rows}: losses, acceptance, and the mean cosine to the first loss's gradient in the trunk"
    first = probe.newest.scores[0].name
    heads = [f">{name}{what}" for name in names for what in (" loss", " accept", " cosine")]
    yield whole(output.table([">step", f">{first} loss", *heads], [_step(one, names) for one in probe.history]))


def _step(snapshot: Snapshot, names: Sequence[str]) -> tuple[object, ...]:
    losses = {row.name: row.loss.value for row in snapshot.scores}
    accepted = {row.name: row.agreement.value for row in snapshot.acceptance}
    cells: list[object] = [snapshot.step, f"{snapshot.scores[0].loss.value:.3f}"]
    for name in names:
        found = [row.cosines[name].value for row in words.trunk(snapshot) if name in row.cosines]
        cosine = f"{sum(found) / len(found):+.3f}" if found else "-"
        cells += [_number(losses.get(name)), _number(accepted.get(name)), cosine]
    return tuple(cells)


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"


def gradient_table(snapshot: Snapshot, colours: bool) -> Table:
    """Return the norm of each loss's gradient and its cosine to that of the first, layer by layer."""
    names = words.losses(snapshot)
    columns = ["layer", ">weights", *(f">|{name}|" for name in names), *(f">cos {name}" for name in names[1:])]
    table = output.table(columns, [])
    for row in snapshot.gradients:
        norms = [f"{row.norms[name].value:.3g}" if row.norms[name].value else "0" for name in names]
        cosines = [cosine_cell(row, name, colours) for name in names[1:]]
        table.add_row(output.cell(row.path), output.cell(row.parameters), *norms, *cosines)
    return whole(table)


def cosine_cell(row: Gradients, name: str, colours: bool) -> Text:
    """Return a cosine with its error: blue if the gradients agree, red if they are against each other."""
    from rich.text import Text

    found = row.cosines.get(name)
    if found is None:
        return Text("-")
    error = "" if found.error is None else f" ± {found.error:.2f}"
    return Text(f"{found.value:+.2f}{error}", style=diverging(found.value) if colours else "")


def diverging(value: float) -> str:
    """Return a colour for a cosine between -1 (red) and 1 (blue)."""
    strength = min(1.0, abs(value))
    fade = round(200 - 150 * strength)
    return f"rgb({fade},{fade},255)" if value >= 0 else f"rgb(255,{fade},{fade})"


def state_table(probe: Probe) -> Table:
    """Return the norms of the residual stream behind each layer."""
    uses = words.uses(row.path for row in probe.states)
    names = list(dict.fromkeys(name for row in probe.states for name in row.branches))
    columns = ["layer", ">state", ">change / state before", *(f">{name}" for name in names)]
    rows = [
        (
            words.label(row.path, row.use, uses),
            f"{row.state:.3g}",
            f"{row.change:.3g}",
            *(f"{row.branches[name]:.3g}" if name in row.branches else "-" for name in names),
        )
        for row in probe.states
    ]
    return whole(output.table(columns, rows))


def attention_table(probe: Probe) -> Table:
    """Return the norm of attention's output, its largest logit and the entropy of its weights."""
    uses = words.uses(row.path for row in probe.attention)
    rows = [
        (words.label(row.path, row.use, uses), f"{row.output:.3g}", _number(row.logit), _number(row.entropy))
        for row in probe.attention
    ]
    return whole(output.table(["line", ">output, rms", ">largest logit", ">entropy, nats"], rows))


def router_table(routers: Sequence[RouterLoad]) -> Table:
    """Return the load of each router's experts as bars, and how even it is."""
    uses = words.uses(row.path for row in routers)
    largest = max(max(row.load) for row in routers)
    columns = ["router", "experts", ">fullest / mean", ">evenness", ">score entropy"]
    rows = [
        (
            words.label(row.path, row.use, uses),
            "".join(LEVELS[math.ceil(8 * share / largest)] for share in row.load),
            f"{row.peak:.2f}",
            f"{row.balance:.3f}",
            f"{row.entropy:.3f}",
        )
        for row in routers
    ]
    return output.table(columns, rows, wraps=["experts"])


def matrix_parts(matrix: Matrix) -> Iterator[RenderableType]:
    """Yield the acceptance of every wiring, the controls, and what they say."""
    yield f"\nwirings of `{matrix.line}` with the same weights: acceptance, teacher-forced"
    choices = ["first state", "handed on", "order", "module"]
    columns = ["", *choices, *(f">{name}, %" for name in matrix.heads), ">all, %", ">below, %", ">sigma"]
    table = output.table(columns, [])
    for wiring in matrix.wirings:
        table.add_row(*wiring_row(wiring), style="bold" if wiring.declared else None)
    for name, found in matrix.controls.items():
        table.add_row("control", name, "", "", "", *map(share, found), "", "", "", style="dim")
    yield whole(table)
    yield from words.verdict(matrix)
    yield from (f"left out: {output.cell(why)}" for why in matrix.left_out)


def wiring_row(wiring: Wiring) -> tuple[str, ...]:
    """Return the cells of one wiring."""
    sigma = "" if wiring.sigma is None else f"{wiring.sigma:.1f}"
    mark = "declared" if wiring.declared else ""
    choices = (choice or "-" for choice in (wiring.state, wiring.handed_on, wiring.order, wiring.module))
    return mark, *choices, *map(share, wiring.agreement), share(wiring.pooled), share(wiring.below), sigma


def share(found: Estimate | None) -> str:
    """Return a share in percent with its standard error, without the sign."""
    return words.estimate(found, 1, 100)
