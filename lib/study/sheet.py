"""Sheets of pictures drawn at the width they are printed at, so that 8 pt in the file are 8 pt on paper.

One unit of a sheet is one inch. All of it is one set of axes: pictures, labels, notes, colour bars.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties
from matplotlib.patches import Rectangle
from matplotlib.textpath import TextPath

from lib.study.display import HEAT, as_pixels

COLUMN, TEXT = 3.5, 7.2  # inches: a column and the whole text of a two-column page
FONT = "DejaVu Sans"  # comes with matplotlib, so every machine draws the same letters
SMALL, NORMAL = 7.0, 8.0  # pt: notes; labels and titles
PRINT = {
    "font.family": "sans-serif",
    "font.sans-serif": [FONT],
    "mathtext.fontset": "dejavusans",
    "font.size": NORMAL,
    "text.color": "black",
    "pdf.fonttype": 42,  # TrueType: text stays text in the PDF
    "pdf.compression": 9,
    "figure.facecolor": "white",
    "savefig.facecolor": "white",
    "image.composite_image": False,  # every picture a picture of its own in the PDF
    "image.interpolation": "auto",
}
_GAP, _MARGIN = 0.03, 0.03  # inches: between pictures; around the sheet
_PAD = 0.06  # between a label and what it labels
_BETWEEN = 0.16  # panels
_LARGEST_CELL = 1.3
_LINE = 1.2  # line height in units of the font size


@dataclass(frozen=True)
class Row:
    """Pictures side by side (see `display.as_pixels`; None leaves a cell empty), with their label on the left.

    notes: a line under each picture. swatches: a bar of colour under each, RGB uint8 or None. boxes: a square drawn on
    each picture, (x, y, edge) px, or None.
    """

    label: str
    images: Sequence
    notes: Sequence[str] | None = None
    swatches: Sequence | None = None
    boxes: Sequence[tuple[int, int, int] | None] | None = None


@dataclass(frozen=True)
class Panel:
    """Rows under one another, titles over their columns, and a heading over all."""

    rows: Sequence[Row]
    titles: Sequence[str] = ()
    heading: str = ""

    @property
    def columns(self) -> int:
        """Pictures in the longest row."""
        return max(len(row.images) for row in self.rows)


@dataclass(frozen=True)
class Scale:
    """A colour bar of `display.heat` from 0 to `limit`, with what its values are."""

    label: str
    limit: float


def printing():
    """A context in which figures look alike whatever was set before, by a notebook's style or a matplotlibrc."""
    return plt.style.context(["default", PRINT])


def fitting(columns: int) -> float:
    """The width for a grid of so many columns: that of a column of the page where they stay large enough in it."""
    return COLUMN if columns <= 4 else TEXT


def text_size(text: str, size: float) -> tuple[float, float]:
    """Width and height of a text of one or more lines, inches, with a hair of room for rounding to pixels."""
    lines = text.split("\n")
    font = FontProperties(family=FONT)
    widths = [TextPath((0, 0), line, size=size, prop=font).get_extents().width for line in lines if line.strip()]
    return 1.03 * max(widths, default=0.0) / 72, len(lines) * size * _LINE / 72


def write(
    ax: Axes, x: float, y: float, text: str, size: float = NORMAL, ha: str = "center", va: str = "center", **style
) -> None:
    """Text of one or more lines at (x, y) inches, `va` "top", "center" or "bottom". Every line has its own baseline, so
    that neighbours line up whatever letters they have."""
    lines, line = text.split("\n"), size * _LINE / 72
    first = {"top": -0.95 * size / 72, "center": -0.36 * size / 72 + line * (len(lines) - 1) / 2}
    first["bottom"] = 0.25 * size / 72 + line * (len(lines) - 1)
    for k, part in enumerate(lines):
        if part:
            ax.text(x, y + first[va] - k * line, part, fontsize=size, ha=ha, va="baseline", **style)


def blank(width: float, height: float) -> tuple[Figure, Axes]:
    """An empty drawing whose one set of axes counts in inches from the lower left; out of pyplot's hands."""
    fig = plt.figure(figsize=(width, height))
    ax = fig.add_axes((0, 0, 1, 1))
    ax.set(xlim=(0, width), ylim=(0, height), aspect="equal")
    ax.axis("off")
    plt.close(fig)
    return fig, ax


def sheet(panels: Panel | Sequence[Panel], width: float = TEXT, scale: Scale | None = None) -> Figure:
    """Draw panels side by side, `width` inches wide over all, every picture as large as that allows.

    Raises ValueError where there is no picture, or no room for one.
    """
    panels = [panels] if isinstance(panels, Panel) else list(panels)
    if not any(len(row.images) for panel in panels for row in panel.rows):
        raise ValueError("sheet: no pictures to draw")
    with printing():
        labels = [max(text_size(row.label, NORMAL)[0] for row in panel.rows) for panel in panels]
        labels = [label + _PAD if label else 0.0 for label in labels]
        room = width - 2 * _MARGIN - sum(labels) - _BETWEEN * (len(panels) - 1)
        columns = sum(panel.columns for panel in panels)
        cell = min(_LARGEST_CELL, (room - _GAP * (columns - len(panels))) / columns)
        if cell < 0.2:
            raise ValueError(f"sheet: {columns} pictures side by side leave {cell:.2f} in for each; draw fewer")
        inner = [panel.columns * (cell + _GAP) - _GAP for panel in panels]
        left = (width - sum(labels) - sum(inner) - _BETWEEN * (len(panels) - 1)) / 2  # few pictures stand in the middle
        head = max(_head(panel) for panel in panels)
        body = max(sum(_height(row, cell) + _GAP for row in panel.rows) - _GAP for panel in panels)
        foot = 0.5 if scale else 0.0
        fig, ax = blank(width, head + body + foot + 2 * _MARGIN)
        top = head + body + foot + _MARGIN
        for panel, label, wide in zip(panels, labels, inner):
            _panel(ax, panel, left + label, top, head, cell)
            left += label + wide + _BETWEEN
        if scale:
            _colour_bar(ax, scale, width / 2)
    return fig


def _head(panel: Panel) -> float:
    """Height of a panel's heading and titles, inches."""
    titles = max((text_size(title, NORMAL)[1] for title in panel.titles), default=0.0)
    return titles + (NORMAL * _LINE / 72 + 0.04 if panel.heading else 0.0) + (0.03 if panel.titles else 0.0)


def _height(row: Row, cell: float) -> float:
    notes = max((text_size(note, SMALL)[1] for note in row.notes), default=0.0) + 0.02 if row.notes else 0.0
    return cell + notes + (0.09 if row.swatches is not None else 0.0)


def _panel(ax: Axes, panel: Panel, left: float, top: float, head: float, cell: float) -> None:
    """A panel whose first picture has its upper left corner at (left, top − head)."""
    pitch, y = cell + _GAP, top - head
    if panel.heading:
        write(ax, left, top, panel.heading, ha="left", va="top", weight="bold")
    for k, title in enumerate(panel.titles):
        write(ax, left + k * pitch + cell / 2, y + 0.03, title, va="bottom")
    for row in panel.rows:
        write(ax, left - _PAD, y - cell / 2, row.label, ha="right")
        for k, image in enumerate(row.images):
            x = left + k * pitch
            if image is None:
                continue
            pixels = as_pixels(image)
            place(ax, x, y - cell, cell, pixels)
            if row.boxes is not None and row.boxes[k] is not None:
                _box(ax, x, y, cell / pixels.shape[0], row.boxes[k])
            under = y - cell
            if row.swatches is not None and row.swatches[k] is not None:
                colour = tuple(np.asarray(row.swatches[k]) / 255)
                ax.add_patch(Rectangle((x, under - 0.08), cell, 0.06, fc=colour, ec="none"))
                under -= 0.09
            if row.notes:
                write(ax, x + cell / 2, under - 0.02, row.notes[k], SMALL, va="top")
        y -= _height(row, cell) + _GAP


def place(ax: Axes, x: float, y: float, edge: float, image: np.ndarray) -> None:
    """Draw a picture, uint8 [S, S(, 3)] or float [S, S] in [0, 1], with its lower left corner at (x, y) inches."""
    pixels = as_pixels(image)
    ax.imshow(pixels, extent=(x, x + edge, y, y + edge), cmap="gray", vmin=0, vmax=255, interpolation="auto")


def _box(ax: Axes, left: float, top: float, pixel: float, box: tuple[int, int, int]) -> None:
    """A square on a picture, white within black: seen on light and on dark alike."""
    x, y, edge = (pixel * value for value in box)
    for colour, line in (("black", 1.8), ("white", 0.9)):
        ax.add_patch(Rectangle((left + x, top - y - edge), edge, edge, fc="none", ec=colour, lw=line))


def _colour_bar(ax: Axes, scale: Scale, middle: float) -> None:
    """What the colours of the heat maps stand for, at the foot of the sheet."""
    wide, left = 1.8, middle - 0.9
    ramp = plt.get_cmap(HEAT)(np.linspace(0, 1, 256))[None, :, :3]
    ax.imshow(ramp, extent=(left, left + wide, 0.2, 0.28), aspect="auto", interpolation="nearest")
    ax.set_aspect("equal")
    ax.add_patch(Rectangle((left, 0.2), wide, 0.08, fc="none", ec="black", lw=0.5))
    write(ax, middle, 0.3, scale.label, SMALL, va="bottom")
    for share, text in ((0, "0"), (0.5, f"{scale.limit / 2:g}"), (1, f"{scale.limit:g} or more")):
        ax.plot([left + wide * share] * 2, [0.17, 0.2], color="black", lw=0.5)
        write(ax, left + wide * share, 0.165, text, SMALL, va="top")
