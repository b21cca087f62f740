"""The sections of the page that go layer by layer: gradients, experts, norms; and those that go over training."""

from __future__ import annotations

import math
from collections.abc import Sequence
from html import escape

from dsvgraph.backends.probes import Estimate, Gradients, Probe, Snapshot
from dsvgraph.cli.probing import svg, words
from dsvgraph.cli.probing.markup import card, grid, hue


def gradients(probe: Probe) -> str:
    """Return norms and cosines of gradients as a table of coloured cells."""
    snapshot = probe.newest
    names = words.losses(snapshot)
    largest = max((row.norms[name].value for row in snapshot.gradients for name in names), default=0)
    columns = ["layer", "weights", *(f"‖{name}‖" for name in names), *(f"cos {name}" for name in names[1:])]
    rows = [_gradient(row, names, largest) for row in snapshot.gradients]
    intro = (
        f"The gradient of each unweighted loss in the weights of each layer, in batches of {probe.gradient_tokens:,} "
        f"tokens: its norm, and its cosine to that of {names[0]}. Blue helps it, red works against it."
    )
    return card("Gradients", intro, grid(columns, rows, ["" if row.trunk else "apart" for row in snapshot.gradients]))


def _gradient(row: Gradients, names: Sequence[str], largest: float) -> list[str]:
    norms = [_norm(row.norms[name].value, hue(place), largest) for place, name in enumerate(names)]
    cosines = [_cosine(row.cosines.get(name)) for name in names[1:]]
    return [f"<code>{escape(row.path)}</code>", f"{row.parameters:,}", *norms, *cosines]


def _norm(value: float, colour: str, largest: float) -> str:
    """Return a norm with a bar on a scale of three powers of ten."""
    if not value:
        return '<span class="none">0</span>'
    share = 1 + math.log10(value / largest) / 3
    return f"<span class='pair'>{value:.3g}{svg.bar(share, colour)}</span>"


def _cosine(found: Estimate | None) -> str:
    if found is None:
        return '<span class="none">-</span>'
    error = "" if found.error is None else f" <small>± {found.error:.2f}</small>"
    return f'<span class="cell" style="background:{svg.diverging(found.value)}">{found.value:+.2f}{error}</span>'


def over_training(probe: Probe) -> str:
    """Return charts over steps: losses, acceptance, and the cosines of each depth in each layer of the trunk."""
    shots = probe.history
    names = [row.name for row in probe.newest.scores]
    colours = {name: hue(place) for place, name in enumerate(names)}
    charts = [_losses(shots, names, colours), _accepted(shots, names[1:], colours)]
    layers = [row.path for row in words.trunk(shots[-1])]
    ramp = {path: svg.mixed(place / max(1, len(layers) - 1), "first", "last") for place, path in enumerate(layers)}
    if any(row.trunk for shot in shots for row in shot.gradients):
        measured = words.losses(shots[-1])
        charts += [_cosines(shots, name, layers, ramp) for name in measured[1:]]
        charts += [_norms(shots, name, layers, ramp) for name in measured]
    legend = "".join(f'<i style="background:{colours[name]}"></i>{escape(name)}' for name in names)
    ends = "".join(f'<i style="background:{ramp[path]}"></i>{escape(path)}' for path in layers)
    intro = (
        "Every checkpoint that the run has kept and what it recorded on the way, over optimizer steps: "
        f"all on the same {probe.history_rows:,} held-out rows."
    )
    body = f'<p class="legend">{legend}</p><p class="legend">{ends}</p><div class="charts">{"".join(charts)}</div>'
    return card("Over training", intro, body)


def _losses(shots: Sequence[Snapshot], names: Sequence[str], colours: dict[str, str]) -> str:
    found = {name: [(shot.step, r.loss) for shot in shots for r in shot.scores if r.name == name] for name in names}
    return _chart(found, colours, "held-out loss, nats")


def _accepted(shots: Sequence[Snapshot], names: Sequence[str], colours: dict[str, str]) -> str:
    found = {
        name: [(shot.step, r.agreement) for shot in shots for r in shot.acceptance if r.name == name] for name in names
    }
    return _chart(found, colours, "acceptance")


def _cosines(shots: Sequence[Snapshot], name: str, layers: Sequence[str], ramp: dict[str, str]) -> str:
    found = {
        path: [(s.step, r.cosines[name]) for s in shots for r in s.gradients if r.path == path and name in r.cosines]
        for path in layers
    }
    return _chart(found, ramp, f"cosine of {name} to the first loss", (-1, 1))


def _norms(shots: Sequence[Snapshot], name: str, layers: Sequence[str], ramp: dict[str, str]) -> str:
    found = {
        path: [(s.step, r.norms[name]) for s in shots for r in s.gradients if r.path == path and name in r.norms]
        for path in layers
    }
    return _chart(found, ramp, f"gradient norm of {name}")


def _chart(
    found: dict[str, list[tuple[int, Estimate]]],
    colours: dict[str, str],
    title: str,
    limits: tuple[float, float] | None = None,
) -> str:
    kept = {name: [(step, one) for step, one in values if math.isfinite(one.value)] for name, values in found.items()}
    kept = {name: values for name, values in kept.items() if values}
    if not kept:
        return ""
    series = {name: [(float(step), one.value) for step, one in values] for name, values in kept.items()}
    errors = {name: [one.error for _, one in values] for name, values in kept.items()}
    return svg.lines(series, colours, title, limits, errors)


def routers(probe: Probe) -> str:
    """Return the load of all experts as a heat map, and how even it is."""
    uses = words.uses(row.path for row in probe.routers)
    names = [words.label(row.path, row.use, uses) for row in probe.routers]
    widest = max(len(row.load) for row in probe.routers)
    cells = [[_load(share, len(row.load), e) for e, share in enumerate(row.load)] for row in probe.routers]
    picture = svg.heat(names, [str(e) for e in range(widest)], cells)
    columns = ["router", "top k", "fullest / mean", "evenness of the load", "", "entropy of the scores", ""]
    rows = [
        [
            f"<code>{escape(name)}</code>",
            f"{row.top_k} of {len(row.load)}",
            f"{row.peak:.2f}",
            f"{row.balance:.3f}",
            svg.bar(row.balance, "var(--accent)"),
            f"{row.entropy:.3f}",
            svg.bar(row.entropy, "var(--accent)"),
        ]
        for name, row in zip(names, probe.routers, strict=True)
    ]
    intro = (
        "Each expert's share of the choices as a multiple of the mean load: orange above it, blue below it. "
        "Evenness and entropy are shares of those of an even load and of equal scores."
    )
    return card("Experts", intro, f'<div class="wide heat">{picture}</div>{grid(columns, rows)}')


def _load(share: float, experts: int, expert: int) -> tuple[str, str, str]:
    times = share * experts
    colour = svg.diverging(max(-1.0, min(1.0, times - 1)), "cold", "hot")
    return colour, f"expert {expert}: {times:.2f} x the mean load", f"{times:.2f}"


def states(probe: Probe) -> str:
    """Return the norms of the residual stream and of what is added to it."""
    uses = words.uses(row.path for row in probe.states)
    names = list(dict.fromkeys(name for row in probe.states for name in row.branches))
    largest = max(row.state for row in probe.states)
    most = max((value for row in probe.states for value in row.branches.values()), default=1) or 1
    columns = ["layer", "state", "", "change / state before", *(head for name in names for head in (name, ""))]
    rows = []
    for row in probe.states:
        cells = [f"<code>{escape(words.label(row.path, row.use, uses))}</code>", f"{row.state:.3g}",
                 svg.bar(row.state / largest, "var(--accent)"), f"{row.change:.3g}"]  # fmt: skip
        for place, name in enumerate(names):
            value = row.branches.get(name)
            cells += ["-", ""] if value is None else [f"{value:.3g}", svg.bar(value / most, hue(place + 1))]
        rows.append(cells)
    intro = "Root mean squares of the residual stream behind each layer, and of what each branch adds to it."
    return card("Residual stream", intro, grid(columns, rows))


def attention(probe: Probe) -> str:
    """Return the norms, the largest logits and the entropy of attention."""
    uses = words.uses(row.path for row in probe.attention)
    largest = max((row.logit or 0 for row in probe.attention), default=0) or 1
    widest = max((row.entropy or 0 for row in probe.attention), default=0) or 1
    rows = [
        [
            f"<code>{escape(words.label(row.path, row.use, uses))}</code>",
            f"{row.output:.3g}",
            "-" if row.logit is None else f"{row.logit:.2f}",
            "" if row.logit is None else svg.bar(row.logit / largest, "var(--depth3)"),
            "-" if row.entropy is None else f"{row.entropy:.3f}",
            "" if row.entropy is None else svg.bar(row.entropy / widest, "var(--depth2)"),
        ]
        for row in probe.attention
    ]
    intro = "The root mean square of attention's output, its largest logit, and how far its weights spread."
    return card("Attention", intro, grid(["line", "output", "largest logit", "", "entropy, nats", ""], rows))
