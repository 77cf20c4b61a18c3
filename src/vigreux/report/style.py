"""The light and dark colours of plots and page, and the conversion of figures to SVG with these colours.

The five series colours have a distance of at least 24 (CIE Lab) from each other in normal vision,
protanopia, deuteranopia and tritanopia (Machado et al. 2009, severity 1). Their contrast with the page is at
least 4.5, so labels can have the colour of their line.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, fields
from io import StringIO
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vigreux.files.atomic import write_atomic

if TYPE_CHECKING:
    from matplotlib.figure import Figure


@dataclass(frozen=True)
class Theme:
    """Colours by use. The page has a CSS variable for each colour."""

    ground: str
    ink: str
    muted: str
    grid: str
    shade: str
    warn: str
    series1: str
    series2: str
    series3: str
    series4: str
    series5: str

    def series(self, index: int) -> dict[str, Any]:
        """Colour and dashes of line `index`. From the sixth line on, colours repeat with dashes."""
        colors = (self.series1, self.series2, self.series3, self.series4, self.series5)
        return {"color": colors[index % 5], "linestyle": ("-", (0, (4, 1.5)), (0, (1, 1.2)))[index // 5 % 3]}

    def css(self) -> str:
        """The colours as CSS variables."""
        return " ".join(f"--{f.name}: {getattr(self, f.name)};" for f in fields(self))


LIGHT = Theme(
    ground="#ffffff",
    ink="#1b1f24",
    muted="#57606a",
    grid="#d9dee4",
    shade="#f2f5f8",
    warn="#b3261e",
    series1="#0f42ab",
    series2="#c2500a",
    series3="#00805f",
    series4="#a33a8e",
    series5="#2b2f36",
)
DARK = Theme(
    ground="#14181d",
    ink="#e8ebef",
    muted="#9fabb7",
    grid="#313941",
    shade="#1c232a",
    warn="#ff8a80",
    series1="#7590e8",
    series2="#ff9d57",
    series3="#29c599",
    series4="#eca7e2",
    series5="#f2f0af",
)


def rc(theme: Theme) -> Any:
    """Matplotlib settings: text stays text, `$` is literal, and only the x axis has a line."""
    return {
        "svg.fonttype": "none",
        "svg.hashsalt": "vigreux",
        "text.parse_math": False,
        "font.family": "DejaVu Sans",
        "font.size": 11,
        "text.color": theme.ink,
        "axes.labelcolor": theme.muted,
        "axes.labelsize": 10.5,
        "axes.titlesize": 11.5,
        "axes.titlelocation": "left",
        "axes.titleweight": "bold",
        "axes.edgecolor": theme.muted,
        "axes.facecolor": "none",
        "axes.grid": True,
        "axes.grid.axis": "y",
        "axes.axisbelow": True,
        "axes.spines.top": False,
        "axes.spines.right": False,
        "axes.spines.left": False,
        "grid.color": theme.grid,
        "grid.linewidth": 0.8,
        "xtick.color": theme.muted,
        "ytick.color": theme.muted,
        "ytick.major.size": 0,
        "xtick.labelsize": 10,
        "ytick.labelsize": 10,
        "lines.linewidth": 1.8,
        "figure.facecolor": "none",
        "figure.constrained_layout.h_pad": 0.08,
    }


def to_svg(figure: Figure, prefix: str, description: str) -> str:
    """The figure (drawn in `LIGHT`) as an `<svg>` for an HTML page.

    The colours become CSS variables of the page, and the page sets the size. Ids start with `prefix`, because
    several figures share a page. The SVG has no references to other documents. Screen readers read
    `description`.
    """
    from html import escape

    from matplotlib import rc_context

    buffer = StringIO()
    with rc_context(rc(LIGHT)):
        figure.savefig(buffer, format="svg", metadata=dict.fromkeys(("Creator", "Date", "Format", "Type")))
    svg = buffer.getvalue()
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg, flags=re.DOTALL)
    svg = re.sub(r"<style.*?</style>", "", svg, flags=re.DOTALL)  # a rule for `*` would reach the whole page
    svg = re.sub(r"<!--.*?-->\n?", "", svg, flags=re.DOTALL)
    svg = re.sub(r' xmlns(:xlink)?="[^"]*"', "", svg, count=2).replace("xlink:href", "href")
    svg = re.sub(r'(\bid="|href="#|url\(#)', rf"\g<1>{prefix}-", svg)
    svg = re.sub(
        r"<svg[^>]*?(viewBox=\"[^\"]*\")[^>]*>",
        rf'<svg \1 role="img" aria-label="{_group_safe(escape(description))}">',
        svg,
        count=1,
    )
    for field in fields(LIGHT):
        svg = svg.replace(getattr(LIGHT, field.name), f"var(--{field.name})")
    return svg


def _group_safe(text: str) -> str:
    """Escapes `text` for use as the replacement of a regular expression."""
    return text.replace("\\", "\\\\")


def save_png(figure: Figure, path: Path, theme: Theme) -> None:
    """Writes the figure (drawn in `theme`) on the background of the theme, for a README."""
    from io import BytesIO

    from matplotlib import rc_context

    buffer = BytesIO()
    with rc_context(rc(theme)):
        figure.savefig(buffer, format="png", dpi=200, facecolor=theme.ground)
    write_atomic(path, buffer.getvalue())
