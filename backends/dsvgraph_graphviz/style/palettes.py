"""Other colours for the same picture: dark, print, and an SVG that follows its reader.

Pictures are drawn in the light colours of `theme`; each has one counterpart for text, for areas, for lines.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import fields, replace
from enum import StrEnum

from dsvgraph_graphviz.style import theme
from dsvgraph_graphviz.style.theme import Hue

THEMES = ("light", "dark", "auto", "print")


class Use(StrEnum):
    """What a colour is used for; the same light colour may have several counterparts by its use."""

    TEXT = "text"
    AREA = "area"
    STROKE = "stroke"


USES = {"title": Use.TEXT, "text": Use.TEXT, "fill": Use.AREA, "badge": Use.AREA, "cell": Use.AREA, "frame": Use.AREA}
COLOUR = re.compile(r'(<font color|fontcolor|fillcolor|bgcolor|(?<![\w-])color)(="?)(#[0-9A-Fa-f]{6})')
OF_ATTRIBUTE = {
    "<font color": Use.TEXT,
    "fontcolor": Use.TEXT,
    "fillcolor": Use.AREA,
    "bgcolor": Use.AREA,
    "color": Use.STROKE,
}
Colours = Mapping[tuple[Use, str], str]

NIGHT = "#0B1220"
DARK = theme.hues("""
        fill     border   title    text     badge    cell     cell_border  frame    frame_border
SLATE   #1E293B  #64748B  #E2E8F0  #A8B5C7  #475569  #0B1220  #64748B      #101A2B  #334155
AMBER   #3A2A0A  #D97706  #FDE68A  #FBBF24  #B45309  #241A06  #92610A      #1A1508  #5C4410
BLUE    #172A54  #3B82F6  #DBEAFE  #93C5FD  #2563EB  #0F1D3D  #2F5DB0      #0D172E  #1E3A70
TEAL    #0B3B38  #14B8A6  #CCFBF1  #5EEAD4  #0F766E  #072725  #137C70      #081E20  #115049
GREEN   #06372A  #10B981  #D1FAE5  #6EE7B7  #047857  #05261D  #0F7F5B      #071E19  #0B5540
VIOLET  #2A1B57  #8B5CF6  #EDE9FE  #C4B5FD  #7C3AED  #1B1339  #6D4BC8      #15112B  #43318A
PINK    #45112D  #EC4899  #FCE7F3  #F9A8D4  #BE185D  #2E0C1F  #8F2A60      #220F1B  #8F2A60
ROSE    #47101D  #F43F5E  #FFE4E6  #FDA4AF  #BE123C  #2E0B13  #9F2A41      #2E0B13  #E11D48
CYAN    #083744  #22B8D6  #CFFAFE  #67E8F9  #0E7490  #06252E  #14788F      #081C25  #155E70
WHITE   #0B1220  #64748B  #E2E8F0  #A8B5C7  #475569  #0B1220  #64748B      #101A2B  #334155
""")
HEAT = theme.heat_hues(
    "#1C1410 #5C4A3D, #33200F #7A5530, #54300F #A0651F, #7A3F0E #C97A1F, #9A3412 #FB923C", ink="#FFEDD5", paper=NIGHT
)
INKS = Hue(
    fill="#F2F2F2", border="#404040", title="#000000", text="#303030", badge="#404040",
    cell="#FFFFFF", cell_border="#404040", frame="#FFFFFF", frame_border="#404040",
)  # fmt: skip
GREYS = ("#FAFAFA", "#ECECEC", "#DCDCDC", "#C8C8C8", "#B0B0B0")
PRINT = {name: replace(INKS, fill="#FFFFFF") if name == "WHITE" else INKS for name in DARK}
BASE = {
    "dark": {
        (Use.TEXT, theme.INK): "#F8FAFC", (Use.TEXT, theme.MUTED): "#A8B5C7", (Use.TEXT, theme.PAPER): "#FFFFFF",
        (Use.STROKE, theme.LINE): "#94A3B8", (Use.STROKE, theme.RESIDUAL): "#64748B",
        (Use.AREA, theme.PAPER): NIGHT, (Use.AREA, theme.SHARED_FILL): "#241A06", (Use.AREA, theme.BESIDE): "#7A4A08",
    },
    "print": {
        (Use.TEXT, theme.INK): "#000000", (Use.TEXT, theme.MUTED): "#303030", (Use.TEXT, theme.PAPER): "#FFFFFF",
        (Use.STROKE, theme.LINE): "#202020", (Use.STROKE, theme.RESIDUAL): "#404040",
        (Use.AREA, theme.PAPER): "#FFFFFF", (Use.AREA, theme.SHARED_FILL): "#FFFFFF",
        (Use.AREA, theme.BESIDE): "#D8D8D8",
    },
}  # fmt: skip


def colours(name: str) -> Colours:
    """Return the counterpart of every light colour, by use, in the theme ``name``; none for light."""
    if name not in BASE:
        return {}
    found = dict(BASE[name])
    for light, other in counterparts(name):
        found = {**dict(pairs(light, other)), **found}
    return found


def counterparts(name: str) -> list[tuple[Hue, Hue]]:
    """Return every hue with its like in a theme."""
    roles = [(theme.LIGHT[hue], other) for hue, other in (DARK if name == "dark" else PRINT).items()]
    greys = [replace(INKS, fill=grey, text=INKS.title) for grey in GREYS]
    return [*roles, *zip(theme.HEAT, HEAT if name == "dark" else greys, strict=True)]


def pairs(light: Hue, other: Hue) -> Iterator[tuple[tuple[Use, str], str]]:
    """Yield use and light colour with its counterpart, for every field of a hue."""
    for field in fields(Hue):
        yield (USES.get(field.name, Use.STROKE), getattr(light, field.name)), getattr(other, field.name)


def recoloured(dot: str, name: str) -> str:
    """Return the DOT in another theme."""
    known = colours(name)

    def other(match: re.Match[str]) -> str:
        key = (OF_ATTRIBUTE[match[1]], match[3].upper())
        return f"{match[1]}{match[2]}{known.get(key, match[3])}"

    return COLOUR.sub(other, dot) if known else dot


def following(svg: str) -> str:
    """``svg``, drawn in the light colours, with rules for readers who set their system to dark."""
    rules = "\n".join(_rule(use, light.lower(), dark) for (use, light), dark in colours("dark").items())
    return svg.replace("<g id=", f"<style>@media (prefers-color-scheme: dark) {{\n{rules}\n}}</style>\n<g id=", 1)


def _rule(use: Use, light: str, dark: str) -> str:
    if use is Use.TEXT:
        return f'text[fill="{light}"]{{fill:{dark}}}'
    if use is Use.AREA:
        return f':is(polygon,path,ellipse)[fill="{light}"]{{fill:{dark}}}'
    return f'[stroke="{light}"]{{stroke:{dark}}}:is(polygon,ellipse)[fill="{light}"][stroke="{light}"]{{fill:{dark}}}'
