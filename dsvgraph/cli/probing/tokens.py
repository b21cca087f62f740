"""The section of the page that shows a text token by token."""

from __future__ import annotations

from html import escape

from dsvgraph.backends.probes import Passage, Probe
from dsvgraph.cli.probing import svg
from dsvgraph.cli.probing.markup import card
from dsvgraph.cli.probing.passage import visible

MEASURES = {
    "p": "probability of the right token",
    "c": "probability of the likeliest token",
    "e": "entropy",
}


def text(probe: Probe) -> str:
    """Return the text once for each prediction, and buttons that choose what colours it."""
    names = [row.name for row in probe.newest.scores]
    buttons = "".join(
        f'<button data-measure="{key}" aria-pressed="{str(key == "p").lower()}">{escape(words)}</button>'
        for key, words in MEASURES.items()
    )
    scale = "".join(f'<i style="background:{svg.scale(n / 20)}"></i>' for n in range(21))
    legend = f'<span class="scale"><span class="least">0 %</span>{scale}<span class="most">100 %</span></span>'
    rows = "".join(_row(probe.passage, name) for name in names)
    intro = "What each depth said of each token before it had seen it: point at a token for its numbers."
    return card("Text", intro, f'<p class="choose">{buttons}{legend}</p>{rows}')


def _row(passage: Passage, name: str) -> str:
    tokens = "".join(_token(passage, name, place) for place in range(len(passage.tokens)))
    return f'<h3>{escape(name)}</h3><p class="tokens">{tokens}</p>'


def _token(passage: Passage, name: str, place: int) -> str:
    token = passage.tokens[place]
    shown = escape(visible(token)) + ("<br>" if "\n" in token else "")
    chance, sure = passage.probability[name][place], passage.confidence[name][place]
    entropy, guess = passage.entropy[name][place], passage.likeliest[name][place]
    if chance is None or sure is None or entropy is None:
        return f'<span class="blind">{shown}</span>'
    likeliest = f"likeliest: “{visible(guess or '')}” {100 * sure:.1f} %"
    words = f"right: {100 * chance:.1f} %  ·  entropy {entropy:.2f} nats  ·  {likeliest}"
    data = f'data-p="{chance:.3f}" data-c="{sure:.3f}" data-e="{entropy:.3f}" title="{escape(words)}"'
    return f'<span {data} style="background:{svg.scale(chance)}">{shown}</span>'
