"""The drawing of the generator (paper Fig. 2): boxes, arrows, the two noise inputs, and real tensors if there are any.

One unit of the drawing is one inch, so font sizes hold at every profile.
"""

from __future__ import annotations

from dataclasses import dataclass

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Circle, FancyArrowPatch, FancyBboxPatch, Rectangle

NOISE_COLOUR = "#b5172d"
TRUNK, CONTENT, ATTENTION = "#e8eef6", "#fdeccc", "#d9f0e3"
_WIDTH, _HEIGHT = 1.0, 0.62  # of a box
_MIDDLE, _UPPER, _LOWER = 2.3, 3.55, 1.05  # heights of the three rows
_PICTURE = 1.05
_HEADS, _STEP = 6.78, 1.36  # left edge of the first content and attention layer, and from one to the next
_STACK = 11.05  # left edge of the nine contents and the nine attentions


@dataclass(frozen=True)
class Tensors:
    """What one picture becomes inside a trained generator, drawn instead of empty tiles.

    input, output: uint8 [S, S, 3]. contents: uint8 [9, S, S, 3]. attention: float [10, S, S] in [0, 1].
    """

    input: np.ndarray
    contents: np.ndarray
    attention: np.ndarray
    output: np.ndarray


def generator_diagram(
    ngf: int, size: int, sigma: tuple[float, float, float] = (0.0, 1.0, 0.2), tensors: Tensors | None = None
) -> Figure:
    """Draw AttentionGAN-v2's generator with noise at the content layers.

    Args:
        ngf: width of the first convolution. size: edge of the pictures, px.
        sigma: standard deviations at the content layers 1, 2, 3; a layer with 0 is drawn crossed out.
        tensors: pictures to show in the places of input, contents, attentions and output.
    """
    fig = plt.figure(figsize=(14.05, 4.75))
    ax = fig.add_axes((0, 0, 1, 1))
    ax.set(xlim=(0, 14.05), ylim=(-0.05, 4.7), aspect="equal")
    ax.axis("off")
    half, quarter = f"{size // 2}²", f"{size // 4}²"

    _picture(ax, 0.1, tensors.input if tensors else None, f"rule-based mask\n3 × {size}²")
    trunk = [
        ("reflect 3 px\nconv 7×7", f"{ngf} × {size}²"),
        ("conv 3×3\nstride 2", f"{2 * ngf} × {half}"),
        ("conv 3×3\nstride 2", f"{4 * ngf} × {quarter}"),
        ("9 residual\nblocks", f"{4 * ngf} × {quarter}"),
    ]
    for k, (text, shape) in enumerate(trunk):
        x = 1.42 + 1.24 * k
        _arrow(ax, (x - 0.25, _MIDDLE), (x, _MIDDLE))
        _box(ax, x, _MIDDLE, text, shape, TRUNK)
    end = 1.42 + 1.24 * 3 + _WIDTH

    for row, colour, word, last in (
        (_UPPER, CONTENT, "content", ("conv 7×7\ntanh", f"9·3 × {size}²")),
        (_LOWER, ATTENTION, "attention", ("conv 1×1\nsoftmax", f"10 × {size}²")),
    ):
        heads = [(f"{word} 1\nTC 3×3", f"{2 * ngf} × {half}"), (f"{word} 2\nTC 3×3", f"{ngf} × {size}²")]
        heads.append((f"{word} 3\n{last[0].splitlines()[0]}", last[1]))
        ax.plot([end, end + 0.16, end + 0.16], [_MIDDLE, _MIDDLE, row], color="0.25", lw=1.1, zorder=0)
        _arrow(ax, (end + 0.16, row), (_HEADS, row))
        for k, (text, shape) in enumerate(heads):
            x = _HEADS + _STEP * k
            if k:
                _arrow(ax, (x - 0.36, row), (x, row))
            _box(ax, x, row, text, shape, colour)
        _arrow(ax, (_HEADS + 2 * _STEP + _WIDTH, row), (_STACK, row))
        ax.text(
            _STACK - 0.28, row + 0.07, last[0].splitlines()[1], fontsize=8, style="italic", ha="center", va="bottom"
        )

    _noise(ax, sigma)
    shown = [None] * 10 if tensors is None else list(tensors.attention)
    _mosaic(ax, _STACK, _UPPER, [None] * 9 if tensors is None else list(tensors.contents), "9 contents", CONTENT)
    _mosaic(ax, _STACK, _LOWER, shown[:9], "attentions 1–9", ATTENTION)

    # Σ: contents and input, each times its attention
    centre = (_STACK + _PICTURE / 2, _MIDDLE)
    ax.add_patch(Circle(centre, 0.19, fc="white", ec="0.2", lw=1.1, zorder=3))
    ax.text(*centre, "Σ", ha="center", va="center", fontsize=12, zorder=4)
    _arrow(ax, (centre[0], _UPPER - _PICTURE / 2 - 0.02), (centre[0], _MIDDLE + 0.19))
    _arrow(ax, (centre[0], _LOWER + _PICTURE / 2 + 0.02), (centre[0], _MIDDLE - 0.19))
    ax.text(
        centre[0] - 0.26, _MIDDLE, "content × attention,\nsummed", fontsize=8.5, ha="right", va="center", color="0.35"
    )
    _arrow(ax, (centre[0] + 0.19, _MIDDLE), (12.7, _MIDDLE))
    _picture(ax, 12.7, tensors.output if tensors else None, f"realistic mask\n3 × {size}²")

    # the input's own way round, weighted by the tenth attention
    tile, low = 0.62, 0.1
    _tile(ax, 12.45, 0.62, tile, shown[9], ATTENTION)
    ax.text(12.45 + tile + 0.06, 0.62 + tile / 2, "attention 10", fontsize=8.5, ha="left", va="center")
    way = {"color": "0.45", "lw": 1.1, "ls": (0, (4, 2)), "zorder": 0}
    ax.plot([0.62, 0.62, 12.45 + tile / 2], [_MIDDLE - _PICTURE / 2, low, low], **way)
    _arrow(ax, (12.45 + tile / 2, low), (12.45 + tile / 2, 0.62), color="0.45")
    _arrow(ax, (12.45, 0.62 + tile), (centre[0] + 0.14, _MIDDLE - 0.14))
    ax.text(
        3.6, low + 0.06, "the input itself, to be multiplied by attention 10", fontsize=8.5, color="0.35", va="bottom"
    )
    return fig


def _box(ax: Axes, x: float, y: float, text: str, under: str, colour: str) -> None:
    """A layer, left edge at x, middle at y, with the shape of its output below."""
    patch = FancyBboxPatch((x, y - _HEIGHT / 2), _WIDTH, _HEIGHT, "round,pad=0,rounding_size=0.07", fc=colour, ec="0.3")
    ax.add_patch(patch)
    ax.text(x + _WIDTH / 2, y, text, ha="center", va="center", fontsize=9)
    ax.text(x + _WIDTH / 2, y - _HEIGHT / 2 - 0.05, under, ha="center", va="top", fontsize=8.5, color="0.35")


def _arrow(ax: Axes, a: tuple[float, float], b: tuple[float, float], color: str = "0.25") -> None:
    style = {"arrowstyle": "-|>", "mutation_scale": 10, "shrinkA": 0, "shrinkB": 0, "lw": 1.1}
    ax.add_patch(FancyArrowPatch(a, b, color=color, **style))


def _tile(ax: Axes, x: float, y: float, edge: float, image: np.ndarray | None, colour: str) -> None:
    """A picture, or an empty square of `colour`; lower left corner at (x, y)."""
    if image is not None:
        ax.imshow(
            image, extent=(x, x + edge, y, y + edge), cmap="gray", vmin=0, vmax=255 if image.dtype == np.uint8 else 1
        )
    ax.add_patch(Rectangle((x, y), edge, edge, fc="none" if image is not None else colour, ec="0.3", lw=0.7))


def _picture(ax: Axes, x: float, image: np.ndarray | None, caption: str) -> None:
    """The input or the output on the middle row."""
    _tile(ax, x, _MIDDLE - _PICTURE / 2, _PICTURE, image, TRUNK)
    ax.text(x + _PICTURE / 2, _MIDDLE + _PICTURE / 2 + 0.07, caption, ha="center", va="bottom", fontsize=9)


def _mosaic(ax: Axes, x: float, y: float, images: list, caption: str, colour: str) -> None:
    """Nine small tiles, three by three, in the room of one picture; the caption stands on the outer side."""
    edge, above = _PICTURE / 3, y > _MIDDLE
    for k, image in enumerate(images):
        _tile(ax, x + edge * (k % 3), y + _PICTURE / 2 - edge * (k // 3 + 1), edge, image, colour)
    at = y + (_PICTURE / 2 + 0.05) * (1 if above else -1)
    ax.text(x + _PICTURE / 2, at, caption, ha="center", va="bottom" if above else "top", fontsize=9)


def _noise(ax: Axes, sigma: tuple[float, float, float]) -> None:
    """Where noise is added to what a content layer receives; grey and crossed out where σ is 0."""
    for k, value in enumerate(sigma):
        x = _HEADS - 0.19 + _STEP * k
        color, y = (NOISE_COLOUR if value else "0.6"), _UPPER
        _arrow(ax, (x, _UPPER + 0.62), (x, y + 0.1), color=color)
        ax.add_patch(Circle((x, y), 0.1, fc="white", ec=color, lw=1.2, zorder=3))
        ax.text(x, y - 0.005, "+" if value else "×", color=color, fontsize=10, ha="center", va="center", zorder=4)
        text = f"noise N(0, {value:g}²)" if value else "no noise here\n(paper, §4.2: no effect)"
        ax.text(x, _UPPER + 0.66, text, color=color, fontsize=9, ha="center", va="bottom")
