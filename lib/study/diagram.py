"""The drawing of the generator (paper Fig. 2): boxes, arrows, the two noise inputs, and real tensors if there are any.

Drawn at the width of the text, one unit an inch, so font sizes hold at every profile.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Circle, FancyArrowPatch, FancyBboxPatch, Rectangle

from lib.study.sheet import NORMAL, SMALL, TEXT, blank, place, printing

NOISE_COLOUR = "#b34700"  # told apart from the fills below by every eye, and by the words beside it
TRUNK, CONTENT, ATTENTION = "#ececec", "#fbe3c6", "#d3e4f4"
_HEIGHT = 3.02
_MIDDLE, _UPPER, _LOWER = 1.52, 2.3, 0.76  # heights of the three rows
_PICTURE = 0.72
_TRUNK, _TRUNK_WIDE, _BOX_HIGH = 0.97, 1.0, 0.38  # left edge and width of the trunk's boxes; height of all boxes
_HEADS, _WIDE, _STEP = 2.45, 0.7, 0.96  # left edge of the first content layer, width, from one to the next
_STACK = 5.56  # left edge of the nine contents and the nine attentions
_OUT = TEXT - _PICTURE - 0.03
_LAYER = {"transposed": "TC 3×3", "resize": "×2, conv 3×3"}


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
    ngf: int,
    size: int,
    sigma: tuple[float, float, float] = (0.0, 1.0, 0.2),
    tensors: Tensors | None = None,
    upsampling: str = "transposed",
) -> Figure:
    """Draw AttentionGAN-v2's generator with noise at the content layers.

    Args:
        ngf: width of the first convolution. size: edge of the pictures, px.
        sigma: standard deviations at the content layers 1, 2, 3; a layer with 0 is drawn crossed out.
        tensors: pictures to show in the places of input, contents, attentions and output.
        upsampling: of `lib.gan.networks.UPSAMPLING`: what the first two layers of both heads are.
    """
    with printing():
        fig, ax = blank(TEXT, _HEIGHT)
        _trunk(ax, ngf, size, tensors)
        for row, colour, word in ((_UPPER, CONTENT, "content"), (_LOWER, ATTENTION, "attention")):
            _head(ax, row, colour, word, ngf, size, _LAYER[upsampling])
        _noise(ax, sigma)
        _tail(ax, size, tensors)
    return fig


def _trunk(ax: Axes, ngf: int, size: int, tensors: Tensors | None) -> None:
    """The input, and down the layers that both heads share."""
    _picture(ax, 0.03, tensors.input if tensors else None, f"input,\n3 × {size}²")
    half, quarter = f"{size // 2}²", f"{size // 4}²"
    layers = [
        ("pad 3, conv 7×7", f"{ngf} × {size}²"),
        ("conv 3×3, stride 2", f"{2 * ngf} × {half}"),
        ("conv 3×3, stride 2", f"{4 * ngf} × {quarter}"),
        ("9 residual blocks", f"{4 * ngf} × {quarter}"),
    ]
    pitch, top = 0.52, _MIDDLE + 0.78
    middle = _TRUNK + _TRUNK_WIDE / 2
    for k, (text, shape) in enumerate(layers):
        y = top - pitch * k
        _box(ax, _TRUNK, y, _TRUNK_WIDE, f"{text}\n{shape}", TRUNK)
        if k:
            _arrow(ax, (middle, y + pitch - _BOX_HIGH / 2), (middle, y + _BOX_HIGH / 2))
    turn = (0.03 + _PICTURE + _TRUNK) / 2
    ax.plot([0.03 + _PICTURE, turn, turn], [_MIDDLE, _MIDDLE, top], color="0.2", lw=0.9)
    _arrow(ax, (turn, top), (_TRUNK, top))
    end, fork = top - pitch * 3, _TRUNK + _TRUNK_WIDE + 0.12
    ax.plot([_TRUNK + _TRUNK_WIDE, fork], [end, end], color="0.2", lw=0.9)
    ax.plot([fork, fork], [min(end, _LOWER), _UPPER], color="0.2", lw=0.9)
    for row in (_UPPER, _LOWER):
        _arrow(ax, (fork, row), (_HEADS, row))


def _head(ax: Axes, row: float, colour: str, word: str, ngf: int, size: int, layer: str) -> None:
    """The three layers of one head and the function at its end."""
    last, function = (("conv 7×7", "tanh") if word == "content" else ("conv 1×1", "softmax"))  # fmt: skip
    shapes = [f"{2 * ngf} × {size // 2}²", f"{ngf} × {size}²", f"{'9·3' if word == 'content' else 10} × {size}²"]
    for k, (text, shape) in enumerate(zip((layer, layer, last), shapes)):
        x = _HEADS + _STEP * k
        if k:
            _arrow(ax, (x - _STEP + _WIDE, row), (x, row))
        _box(ax, x, row, _WIDE, f"{word} {k + 1}\n{text}", colour)
        ax.text(x + _WIDE / 2, row - _BOX_HIGH / 2 - 0.04, shape, ha="center", va="top", fontsize=SMALL)
    _arrow(ax, (_HEADS + 2 * _STEP + _WIDE, row), (_STACK, row))
    ax.text(_STACK - 0.04, row + 0.04, function, fontsize=SMALL, style="italic", ha="right", va="bottom")


def _tail(ax: Axes, size: int, tensors: Tensors | None) -> None:
    """Contents, attentions, their sum, and the input's own way round, weighted by the tenth attention."""
    shown = [None] * 10 if tensors is None else list(tensors.attention)
    _mosaic(ax, _UPPER, [None] * 9 if tensors is None else list(tensors.contents), "9 contents", CONTENT)
    _mosaic(ax, _LOWER, shown[:9], "attentions 1–9", ATTENTION)
    centre = (_STACK + _PICTURE / 2, _MIDDLE)
    ax.add_patch(Circle(centre, 0.14, fc="white", ec="0.2", lw=0.9, zorder=3))
    ax.text(*centre, "Σ", ha="center", va="center", fontsize=9, zorder=4)
    _arrow(ax, (centre[0], _UPPER - _PICTURE / 2), (centre[0], _MIDDLE + 0.14))
    _arrow(ax, (centre[0], _LOWER + _PICTURE / 2), (centre[0], _MIDDLE - 0.14))
    ax.text(centre[0] - 0.2, _MIDDLE, "content × attention,\nsummed", fontsize=SMALL, ha="right", va="center")
    _arrow(ax, (centre[0] + 0.14, _MIDDLE), (_OUT, _MIDDLE))
    _picture(ax, _OUT, tensors.output if tensors else None, f"output,\n3 × {size}²")
    tile, low, middle = 0.42, 0.08, _OUT + _PICTURE / 2
    _tile(ax, middle - tile / 2, 0.36, tile, shown[9], ATTENTION)
    ax.text(middle, 0.36 + tile + 0.03, "attention\n10", fontsize=SMALL, ha="center", va="bottom")
    way = {"color": "0.35", "lw": 0.9, "ls": (0, (4, 2)), "zorder": 0}
    ax.plot([0.39, 0.39, middle], [_MIDDLE - _PICTURE / 2, low, low], **way)
    _arrow(ax, (middle, low), (middle, 0.36), color="0.35")
    _arrow(ax, (middle - tile / 2, 0.36 + tile), (centre[0] + 0.1, _MIDDLE - 0.1))
    ax.text(1.9, low + 0.04, "the input itself, to be multiplied by attention 10", fontsize=SMALL, va="bottom")


def _box(ax: Axes, x: float, y: float, wide: float, text: str, colour: str) -> None:
    """A layer, left edge at x, middle at y."""
    shape = "round,pad=0,rounding_size=0.05"
    ax.add_patch(FancyBboxPatch((x, y - _BOX_HIGH / 2), wide, _BOX_HIGH, shape, fc=colour, ec="0.3", lw=0.8))
    ax.text(x + wide / 2, y, text, ha="center", va="center", fontsize=SMALL, linespacing=1.25)


def _arrow(ax: Axes, a: tuple[float, float], b: tuple[float, float], color: str = "0.2") -> None:
    style = {"arrowstyle": "-|>", "mutation_scale": 7, "shrinkA": 0, "shrinkB": 0, "lw": 0.9}
    ax.add_patch(FancyArrowPatch(a, b, color=color, **style))


def _tile(ax: Axes, x: float, y: float, edge: float, image: np.ndarray | None, colour: str) -> None:
    """A picture, or an empty square of `colour`; lower left corner at (x, y)."""
    if image is not None:
        place(ax, x, y, edge, image)
    ax.add_patch(Rectangle((x, y), edge, edge, fc="none" if image is not None else colour, ec="0.3", lw=0.5))


def _picture(ax: Axes, x: float, image: np.ndarray | None, caption: str) -> None:
    """The input or the output on the middle row."""
    _tile(ax, x, _MIDDLE - _PICTURE / 2, _PICTURE, image, TRUNK)
    ax.text(x + _PICTURE / 2, _MIDDLE + _PICTURE / 2 + 0.05, caption, ha="center", va="bottom", fontsize=SMALL)


def _mosaic(ax: Axes, y: float, images: list, caption: str, colour: str) -> None:
    """Nine small tiles, three by three, in the room of one picture; the caption stands on the outer side."""
    edge, above = _PICTURE / 3, y > _MIDDLE
    for k, image in enumerate(images):
        _tile(ax, _STACK + edge * (k % 3), y + _PICTURE / 2 - edge * (k // 3 + 1), edge, image, colour)
    at = y + (_PICTURE / 2 + 0.04) * (1 if above else -1)
    ax.text(_STACK + _PICTURE / 2, at, caption, ha="center", va="bottom" if above else "top", fontsize=SMALL)


def _noise(ax: Axes, sigma: tuple[float, float, float]) -> None:
    """Where noise is added to what a content layer receives; grey and crossed out where σ is 0."""
    for k, value in enumerate(sigma):
        x = _HEADS - 0.17 + _STEP * k
        color = NOISE_COLOUR if value else "0.4"
        _arrow(ax, (x, _UPPER + 0.42), (x, _UPPER + 0.075), color=color)
        ax.add_patch(Circle((x, _UPPER), 0.075, fc="white", ec=color, lw=1.0, zorder=3))
        ax.text(x, _UPPER - 0.004, "+" if value else "×", color=color, fontsize=NORMAL, ha="center",
                va="center", zorder=4)  # fmt: skip
        text = f"noise\nN(0, {value:g}²)" if value else "no noise:\nno effect (§4.2)"
        ax.text(x, _UPPER + 0.45, text, color=color, fontsize=SMALL, ha="center", va="bottom")
