"""Colours and sizes: one hue per role, pale fill, mid border, dark text."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

SANS, MONO = "Arial", "Courier"
HEADING, SUBHEADING, TITLE, BODY, CAPTION, SMALL, SHAPE = 26, 13, 14, 13, 11, 10, 10.5

INK, MUTED, LINE, RESIDUAL, PAPER = "#0F172A", "#475569", "#64748B", "#94A3B8", "#FFFFFF"


class Role(StrEnum):
    """The roles that have a hue."""

    TOKENS = "tokens"
    EMBEDDING = "embedding"
    OUTPUT_LAYER = "head"
    POSITION = "position"
    ATTENTION = "attention"
    KEYS = "keys"
    DENSE = "dense"
    EXPERTS = "experts"
    MTP = "mtp"
    LOSS = "loss"
    NORM = "norm"
    PLAIN = "plain"


@dataclass(frozen=True, kw_only=True)
class Hue:
    """The colours of one role: of its cards, its badge, its cells, and of a frame that holds it."""

    fill: str
    border: str
    title: str
    text: str
    badge: str
    cell: str
    cell_border: str
    frame: str
    frame_border: str


def hues(table: str) -> dict[str, Hue]:
    """Return the hues of a table: its first line has the names of the colours, every other one those of a hue."""
    head, *rows = (line.split() for line in table.strip().splitlines())
    return {name: Hue(**dict(zip(head, colours, strict=True))) for name, *colours in rows}


def heat_hues(colours: str, ink: str, paper: str) -> tuple[Hue, ...]:
    """Return the hues of shares of a cost, from little to most: ``colours`` has a fill and a border for each."""
    fills = (pair.split() for pair in colours.split(","))
    return tuple(
        Hue(
            fill=fill, border=border, title=ink, text=ink, badge="#7C2D12",
            cell=paper, cell_border=border, frame=paper, frame_border=border,
        )
        for fill, border in fills
    )  # fmt: skip


LIGHT = hues("""
        fill     border   title    text     badge    cell     cell_border  frame    frame_border
SLATE   #F1F5F9  #94A3B8  #334155  #475569  #475569  #FFFFFF  #94A3B8      #F8FAFC  #CBD5E1
AMBER   #FEF3C7  #F59E0B  #78350F  #B45309  #B45309  #FFFBEB  #FCD34D      #FFFDF5  #FDE68A
BLUE    #DBEAFE  #3B82F6  #1E3A8A  #1D4ED8  #2563EB  #EFF6FF  #93C5FD      #F7FAFF  #BFDBFE
TEAL    #CCFBF1  #14B8A6  #134E4A  #0F766E  #0F766E  #F0FDFA  #5EEAD4      #F5FDFB  #99F6E4
GREEN   #D1FAE5  #10B981  #064E3B  #047857  #047857  #ECFDF5  #6EE7B7      #F6FEFA  #A7F3D0
VIOLET  #EDE9FE  #8B5CF6  #4C1D95  #6D28D9  #7C3AED  #F8F7FF  #A78BFA      #FBFAFF  #C4B5FD
PINK    #FCE7F3  #EC4899  #831843  #BE185D  #DB2777  #FDF2F8  #F9A8D4      #FFF7FB  #F9A8D4
ROSE    #FFE4E6  #F43F5E  #881337  #BE123C  #E11D48  #FFF1F2  #FDA4AF      #FFF1F2  #E11D48
CYAN    #CFFAFE  #0891B2  #164E63  #0E7490  #0E7490  #ECFEFF  #67E8F9      #F4FDFF  #A5F3FC
WHITE   #FFFFFF  #94A3B8  #334155  #475569  #475569  #FFFFFF  #94A3B8      #F8FAFC  #CBD5E1
""")
SLATE, AMBER, BLUE, TEAL, GREEN, VIOLET, PINK, ROSE, CYAN, WHITE = LIGHT.values()
HEAT = heat_hues(
    "#FFF7ED #D6C3B1, #FFEDD5 #E5B98A, #FED7AB #EA9A4E, #FDBA75 #EA7317, #FB923D #C2410D", ink="#431407", paper=PAPER
)

HUES = {
    Role.TOKENS: WHITE,
    Role.EMBEDDING: AMBER,
    Role.OUTPUT_LAYER: AMBER,
    Role.POSITION: AMBER,
    Role.ATTENTION: BLUE,
    Role.KEYS: TEAL,
    Role.DENSE: GREEN,
    Role.EXPERTS: VIOLET,
    Role.MTP: PINK,
    Role.LOSS: ROSE,
    Role.NORM: WHITE,
    Role.PLAIN: SLATE,
}
CACHED, SHARED_FILL, BESIDE = CYAN, "#FFFBEC", "#FDE68A"
HANDED = PINK.border  # the hidden state handed on between columns
