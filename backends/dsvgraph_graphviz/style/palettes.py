"""Other colours for the same picture: dark, print, and an SVG that follows its reader.

Pictures are drawn in the light colours of `theme`; each has one counterpart for text, for areas, for lines.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import fields, replace

from dsvgraph_graphviz.style import theme
from dsvgraph_graphviz.style.theme import Hue

THEMES = ("light", "dark", "auto", "print")
TEXT, AREA, STROKE = "text", "area", "stroke"
KINDS = {"title": TEXT, "text": TEXT, "fill": AREA, "badge": AREA, "cell": AREA, "panel": AREA}
COLOUR = re.compile(r'(<font color|fontcolor|fillcolor|bgcolor|(?<![\w-])color)(="?)(#[0-9A-Fa-f]{6})')
OF_ATTRIBUTE = {"<font color": TEXT, "fontcolor": TEXT, "fillcolor": AREA, "bgcolor": AREA, "color": STROKE}
Colours = Mapping[tuple[str, str], str]

NIGHT = "#0B1220"
DARK = {
    "SLATE": Hue("#1E293B", "#64748B", "#E2E8F0", "#A8B5C7", "#475569", NIGHT, "#64748B", "#101A2B", "#334155"),
    "AMBER": Hue("#3A2A0A", "#D97706", "#FDE68A", "#FBBF24", "#B45309", "#241A06", "#92610A", "#1A1508", "#5C4410"),
    "BLUE": Hue("#172A54", "#3B82F6", "#DBEAFE", "#93C5FD", "#2563EB", "#0F1D3D", "#2F5DB0", "#0D172E", "#1E3A70"),
    "TEAL": Hue("#0B3B38", "#14B8A6", "#CCFBF1", "#5EEAD4", "#0F766E", "#072725", "#137C70", "#081E20", "#115049"),
    "GREEN": Hue("#06372A", "#10B981", "#D1FAE5", "#6EE7B7", "#047857", "#05261D", "#0F7F5B", "#071E19", "#0B5540"),
    "VIOLET": Hue("#2A1B57", "#8B5CF6", "#EDE9FE", "#C4B5FD", "#7C3AED", "#1B1339", "#6D4BC8", "#15112B", "#43318A"),
    "PINK": Hue("#45112D", "#EC4899", "#FCE7F3", "#F9A8D4", "#BE185D", "#2E0C1F", "#8F2A60", "#220F1B", "#8F2A60"),
    "ROSE": Hue("#47101D", "#F43F5E", "#FFE4E6", "#FDA4AF", "#BE123C", "#2E0B13", "#9F2A41", "#2E0B13", "#E11D48"),
    "CYAN": Hue("#083744", "#22B8D6", "#CFFAFE", "#67E8F9", "#0E7490", "#06252E", "#14788F", "#081C25", "#155E70"),
    "WHITE": Hue(NIGHT, "#64748B", "#E2E8F0", "#A8B5C7", "#475569", NIGHT, "#64748B", "#101A2B", "#334155"),
}  # fmt: skip
HEAT = tuple(
    Hue(fill, border, "#FFEDD5", "#FFEDD5", "#7C2D12", NIGHT, border, NIGHT, border)
    for fill, border in (
        ("#1C1410", "#5C4A3D"), ("#33200F", "#7A5530"), ("#54300F", "#A0651F"), ("#7A3F0E", "#C97A1F"),
        ("#9A3412", "#FB923C"),
    )
)  # fmt: skip
INKS = Hue("#F2F2F2", "#404040", "#000000", "#303030", "#404040", "#FFFFFF", "#404040", "#FFFFFF", "#404040")
GREYS = ("#FAFAFA", "#ECECEC", "#DCDCDC", "#C8C8C8", "#B0B0B0")
PRINT = {name: replace(INKS, fill="#FFFFFF") if name == "WHITE" else INKS for name in DARK}
BASE = {
    "dark": {
        (TEXT, theme.INK): "#F8FAFC", (TEXT, theme.MUTED): "#A8B5C7", (TEXT, theme.PAPER): "#FFFFFF",
        (STROKE, theme.LINE): "#94A3B8", (STROKE, theme.RESIDUAL): "#64748B",
        (AREA, theme.PAPER): NIGHT, (AREA, theme.SHARED_FILL): "#241A06", (AREA, theme.BESIDE): "#7A4A08",
    },
    "print": {
        (TEXT, theme.INK): "#000000", (TEXT, theme.MUTED): "#303030", (TEXT, theme.PAPER): "#FFFFFF",
        (STROKE, theme.LINE): "#202020", (STROKE, theme.RESIDUAL): "#404040",
        (AREA, theme.PAPER): "#FFFFFF", (AREA, theme.SHARED_FILL): "#FFFFFF", (AREA, theme.BESIDE): "#D8D8D8",
    },
}  # fmt: skip


def colours(name: str) -> Colours:
    """Return the counterpart of every light colour, by kind, in the theme ``name``; none for light."""
    if name not in BASE:
        return {}
    found = dict(BASE[name])
    for light, other in counterparts(name):
        found = {**dict(pairs(light, other)), **found}
    return found


def counterparts(name: str) -> list[tuple[Hue, Hue]]:
    """Return every hue with its like in a theme."""
    roles = [(getattr(theme, hue), other) for hue, other in (DARK if name == "dark" else PRINT).items()]
    greys = [
        replace(INKS, fill=grey, text=INKS.title) for grey in ("#FAFAFA", "#ECECEC", "#DCDCDC", "#C8C8C8", "#B0B0B0")
    ]
    return [*roles, *zip(theme.HEAT, HEAT if name == "dark" else greys, strict=True)]


def pairs(light: Hue, other: Hue) -> Iterator[tuple[tuple[str, str], str]]:
    """Kind and light colour with its counterpart, for every field of a hue."""
    for field in fields(Hue):
        yield (KINDS.get(field.name, STROKE), getattr(light, field.name)), getattr(other, field.name)


def recoloured(dot: str, name: str) -> str:
    """Return the DOT in another theme."""
    known = colours(name)

    def other(match: re.Match[str]) -> str:
        key = (OF_ATTRIBUTE[match[1]], match[3].upper())
        return f"{match[1]}{match[2]}{known.get(key, match[3])}"

    return COLOUR.sub(other, dot) if known else dot


def following(svg: str) -> str:
    """``svg``, drawn in the light colours, with rules for readers who set their system to dark."""
    rules = "\n".join(_rule(kind, light.lower(), dark) for (kind, light), dark in colours("dark").items())
    return svg.replace("<g id=", f"<style>@media (prefers-color-scheme: dark) {{\n{rules}\n}}</style>\n<g id=", 1)


def _rule(kind: str, light: str, dark: str) -> str:
    if kind == TEXT:
        return f'text[fill="{light}"]{{fill:{dark}}}'
    if kind == AREA:
        return f':is(polygon,path,ellipse)[fill="{light}"]{{fill:{dark}}}'
    return f'[stroke="{light}"]{{stroke:{dark}}}:is(polygon,ellipse)[fill="{light}"][stroke="{light}"]{{fill:{dark}}}'
