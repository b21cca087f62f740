"""One page of HTML for a probe: a single file that needs nothing else."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from html import escape
from importlib.resources import files

from dsvgraph.backends.probes import DepthScores, Matrix, Probe, Snapshot, Wiring
from dsvgraph.cli.probing import svg, words
from dsvgraph.cli.probing.layers import attention, gradients, over_training, routers, states
from dsvgraph.cli.probing.markup import card, estimate, grid, hue, percent
from dsvgraph.cli.probing.tokens import text


def page(probe: Probe) -> str:
    """Return the page."""
    folder = files("dsvgraph.cli.probing") / "page"
    style, script = ((folder / name).read_text(encoding="utf-8") for name in ("page.css", "page.js"))
    head = f"<title>{escape(probe.name)}: probe</title><style>{style}</style>"
    meta = '<meta charset="utf-8"><meta name="viewport" content="width=device-width,initial-scale=1">'
    body = "".join(sections(probe))
    start = f'<!doctype html>\n<html lang="en"><head>{meta}{head}</head>'
    return f"{start}<body>{body}<script>{script}</script></body></html>\n"


def sections(probe: Probe) -> Iterator[str]:
    """Yield the parts of the page."""
    about = f"{escape(words.about(probe))}<br><code>{escape(probe.folder)}</code>"
    yield f"<header><h1>{escape(probe.name)}</h1><p>{about}</p>"
    yield f'<div class="figures">{"".join(figures(probe))}</div></header><main>'
    yield depths(probe.newest)
    if probe.newest.acceptance:
        yield acceptance(probe.newest)
    if probe.matrix:
        yield matrix(probe.matrix)
    yield text(probe)
    if len(probe.history) > 1:
        yield over_training(probe)
    if probe.newest.gradients:
        yield gradients(probe)
    if probe.routers:
        yield routers(probe)
    if probe.states:
        yield states(probe)
    if probe.attention:
        yield attention(probe)
    notes = "".join(f"<p>{escape(note)}</p>" for note in probe.notes)
    yield f"</main><footer>{notes}<p>Numbers are means over positions; ± is one standard error over rows.</p></footer>"


def figures(probe: Probe) -> Iterator[str]:
    """Yield the few numbers at the top."""
    newest = probe.newest
    first = newest.scores[0]
    yield figure(f"{first.loss.value:.3f}", f"loss of {first.name}, nats")
    yield figure(f"{100 * first.accuracy.value:.1f} %", f"accuracy of {first.name}")
    if newest.acceptance:
        yield figure(f"{newest.accepted_length:.2f}", "expected tokens of a drafted step")
    if probe.matrix and probe.matrix.margin < 1e6:
        yield figure(f"{probe.matrix.margin:+.1f} σ", "declared wiring over the best other")


def figure(value: str, label: str) -> str:
    """Return one number with what it is."""
    return f'<div class="figure"><b>{escape(value)}</b><span>{escape(label)}</span></div>'


def depths(snapshot: Snapshot) -> str:
    """Return the table of how well and how surely each depth predicts."""
    columns = [
        "prediction",
        "of token",
        "weight",
        "loss, nats",
        "accuracy",
        "",
        "entropy, nats",
        "top-1 probability",
        "",
    ]
    rows = [_depth(row, hue(place)) for place, row in enumerate(snapshot.scores)]
    intro = "How well each depth predicts held-out tokens, and how sure it is of what it says."
    return card("Depths", intro, grid(columns, rows))


def _depth(row: DepthScores, colour: str) -> list[str]:
    return [
        f'<b style="color:{colour}">{escape(row.name)}</b>',
        words.ahead(row.ahead),
        escape(row.weight),
        estimate(row.loss),
        percent(row.accuracy),
        svg.bar(row.accuracy.value, colour, row.accuracy.error),
        estimate(row.entropy),
        estimate(row.confidence),
        svg.bar(row.confidence.value, colour, row.confidence.error),
    ]


def acceptance(snapshot: Snapshot) -> str:
    """Return the acceptance of each depth."""
    columns = ["prediction", "of token", "acceptance", "", "with all nearer", "", "product", "positions"]
    rows = [
        [
            f'<b style="color:{hue(place)}">{escape(row.name)}</b>',
            words.ahead(row.ahead),
            percent(row.agreement),
            svg.bar(row.agreement.value, hue(place), row.agreement.error),
            percent(row.prefix),
            svg.bar(row.prefix.value, hue(place), row.prefix.error),
            f"{100 * row.product:.1f} %",
            f"{row.agreement.count:,}",
        ]
        for place, row in enumerate(snapshot.acceptance, 1)
    ]
    intro = (
        f"Teacher-forced: the share of positions where a depth names the token that {snapshot.scores[0].name} names at "
        "the position whose token it predicts."
    )
    return card("Acceptance", intro, grid(columns, rows) + f"<p>{escape(words.length(snapshot))}</p>")


def matrix(found: Matrix) -> str:
    """Return the acceptance of every wiring, with the controls."""
    names = [name for name in ("state", "handed_on", "order", "module") if getattr(found.declared, name)]
    titles = {"state": "first state", "handed_on": "handed on"}
    heads = [head for name in found.heads for head in (name, "")]
    columns = ["", *(titles.get(name, name) for name in names), *heads, "below", "σ"]
    rows = [_wiring(row, found.declared, names) for row in found.wirings]
    for name, estimates in found.controls.items():
        cells = [cell for one in estimates for cell in (percent(one), svg.bar(one.value, "var(--quiet)", one.error))]
        rows.append(["control", f"<em>{escape(name)}</em>", *cells, "", ""])
    kinds = [*("declared" if row.declared else "" for row in found.wirings), *("control" for _ in found.controls)]
    verdict = "".join(f"<p class='verdict'>{escape(line)}</p>" for line in words.verdict(found))
    verdict += "".join(f"<p>left out: {escape(why)}</p>" for why in found.left_out)
    intro = f"The chain {found.line} with the same weights in every other wiring; controls look one token off."
    return card("Wirings", intro, verdict + grid(columns, rows, kinds, {"control": len(names)}))


def _wiring(row: Wiring, declared: Wiring, names: Sequence[str]) -> list[str]:
    colour = "var(--accent)" if row.declared else "var(--bar)"
    choices = [_choice(getattr(row, name), getattr(declared, name)) for name in names]
    cells = [cell for one in row.agreement for cell in (percent(one), svg.bar(one.value, colour, one.error))]
    sigma = "" if row.sigma is None else f"{row.sigma:.1f}"
    return ["declared" if row.declared else "", *choices, *cells, percent(row.below) if row.below else "", sigma]


def _choice(value: str, declared: str) -> str:
    return escape(value) if value == declared else f"<mark>{escape(value)}</mark>"
