"""Mask templates: a picture of a mask as worn, with twelve named points on its outline.

The paper's first step is CMFD, which puts one light-blue surgical mask on every face by matching twelve key points of
the mask with the face's landmarks (paper §3; cabani2021maskedface). Here the mask's picture is drawn by code, so that
nothing has to be downloaded and it is sharp at any size.

*Convention.* Template coordinates are (x, y) pixels, pixel centres at integers, origin top left. "Left" is the
picture's left. The twelve points run clockwise from the top left corner; the mirror image of point `i` is point
`MIRRORED_POINTS[i]`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from PIL import Image, ImageDraw
from scipy.interpolate import CubicSpline
from scipy.ndimage import distance_transform_edt

KEY_POINTS = (
    "top_left", "top_left_quarter", "nose_bridge", "top_right_quarter", "top_right",
    "right_side", "lower_right", "bottom_right", "chin", "bottom_left", "lower_left", "left_side",
)  # fmt: skip
MIRRORED_POINTS = (4, 3, 2, 1, 0, 11, 10, 9, 8, 7, 6, 5)

# The key points of a mask worn by a frontal face of average proportions, in units of the face's width at the ears (jaw
# points 1 to 15), x from the middle of the face, y down from the line between those two points. Not given in the paper;
# chosen because they follow the average of frontal faces, so that the warp has little to bend.
_HALF_OUTLINE = {
    "nose_bridge": (0.0, -0.040),
    "top_right_quarter": (0.235, 0.030),
    "top_right": (0.496, 0.060),
    "right_side": (0.466, 0.262),
    "lower_right": (0.386, 0.440),
    "bottom_right": (0.190, 0.622),
    "chin": (0.0, 0.688),
}
_FACE_WIDTH = 0.94  # of the canvas; the rest is an empty margin, so that the edge may be soft
_TOP_MARGIN = 0.030
_BLUE = (147.0, 190.0, 219.0)  # sRGB; CMFD's light blue, judged by eye
_PLEATS = (0.34, 0.53, 0.71)  # where the three pleats lie between the upper (0) and the lower hem (1)


@dataclass(frozen=True, eq=False)
class Strap:
    start: tuple[float, float]
    to: str
    side: str
    width: float
    colour: tuple[int, int, int]


@dataclass(frozen=True, eq=False)
class Template:
    """A mask's picture and where its key points lie.

    rgba: uint8 [h, w, 4], straight (not premultiplied) alpha; colour is defined beyond the edge too, so that blending
        at the edge shows no fringe. points: float32 [12, 2], (x, y) px, in the order of `KEY_POINTS`.
    """

    rgba: np.ndarray
    points: np.ndarray
    name: str
    surface: str = "drape"
    dye: np.ndarray | None = None
    straps: tuple = ()
    left: object = None
    right: object = None


def _key_points() -> np.ndarray:
    """float64 [12, 2] in units of the face's width."""
    rows = []
    for name in KEY_POINTS:
        left = name not in _HALF_OUTLINE
        x, y = _HALF_OUTLINE[name.replace("left", "right")]
        rows.append((-x if left else x, y))
    return np.array(rows)


def _outline(points: np.ndarray, steps: int = 64) -> np.ndarray:
    """A closed smooth curve through the twelve points, with corners only where the ear loops begin: float64 [n, 2]."""
    curves = []
    for order in ((0, 1, 2, 3, 4), (4, 5, 6, 7, 8, 9, 10, 11, 0)):
        knots = points[list(order)]
        along = np.concatenate([[0.0], np.cumsum(np.linalg.norm(np.diff(knots, axis=0), axis=1))])
        spline = CubicSpline(along, knots, bc_type="natural")
        curves.append(spline(np.linspace(0.0, along[-1], steps * (len(order) - 1), endpoint=False)))
    return np.concatenate(curves)


def _height_between_hems(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """How far down between the upper hem (0) and the lower hem (1) a place lies; pleats are its level lines.

    On a worn mask the pleats are spread over nose and chin and close together at the sides, so a level line runs from
    one side hem, over the middle, to the other. x: [w], y: [h] in face widths; returns float64 [h, w].
    """
    v = np.linspace(-0.15, 1.15, 131)
    top, bottom = _HALF_OUTLINE["nose_bridge"][1], _HALF_OUTLINE["chin"][1]
    corner, lower = np.array(_HALF_OUTLINE["top_right"]), np.array(_HALF_OUTLINE["lower_right"])
    middle_y = top + v * (bottom - top)
    side = corner + v[:, None] * (lower - corner)
    out = np.empty((len(y), len(x)))
    for j, column in enumerate(np.abs(x)):
        line = middle_y + (side[:, 1] - middle_y) * np.minimum(column / side[:, 0], 1.1) ** 2
        out[:, j] = np.interp(y, line, v)
    return out


def _shade(x: np.ndarray, y: np.ndarray, depth: np.ndarray) -> np.ndarray:
    """Brightness factor of the cloth, float64 [h, w]. depth: distance inside the outline in face widths."""
    v = _height_between_hems(x, y)
    across = x[None, :]
    # Cloth over a face: lighter in front, darker towards ears and under the chin.
    shade = 1.03 - 0.30 * np.abs(across) ** 2.2 - 0.10 * np.clip((v - 0.55) / 0.45, 0, None) ** 2
    shade = shade + 0.03 * np.exp(-(((v - 0.12) / 0.10) ** 2) - (across / 0.09) ** 2)  # over the nose
    for at in _PLEATS:  # each pleat: a lit ridge, the crease, and the shadow it throws on the cloth below
        below = v - at
        shade -= 0.17 * np.exp(-((below / 0.0065) ** 2))
        shade -= 0.085 * np.exp(-np.clip(below, 0, None) / 0.035) * (below > 0)
        shade += 0.040 * np.exp(np.clip(below, None, 0) / 0.030) * (below <= 0)
    hem = 0.030
    shade += 0.025 * (depth < hem)
    stitches = 0.5 + 0.5 * np.cos(2 * np.pi * 55 * (across**2 + y[:, None] ** 2) ** 0.5)
    shade -= 0.075 * np.exp(-(((depth - hem) / 0.0035) ** 2)) * (0.45 + 0.55 * stitches)
    shade -= 0.09 * np.exp(-depth / 0.006)  # the rounded rim
    # The nose wire: a flat strip under the upper hem, a little lighter, with a shadow line below it.
    wire = 1 / (1 + np.exp((np.abs(across) - 0.165) / 0.004))
    shade += wire * (0.035 * np.exp(-(((v - 0.066) / 0.012) ** 4)) - 0.060 * np.exp(-(((v - 0.084) / 0.006) ** 2)))
    # Non-woven fabric: a fine embossed pattern, even in x so that a mirrored face gets the mirrored mask.
    emboss = np.cos(2 * np.pi * 75 * across) * np.cos(2 * np.pi * 75 * y[:, None])
    return shade + 0.012 * emboss


@lru_cache(maxsize=4)
def blue_surgical(size: int = 512) -> Template:
    """CMFD's light-blue three-pleat surgical mask, `size` px wide and 3/4 of that high, drawn by code.

    size: a multiple of 128 (so that the picture can be halved cleanly). Hems, nose wire, pleats and an embossed texture
    are drawn in proportion; ear loops are not part of it. Raises ValueError for another size.
    """
    if size < 128 or size % 128:
        raise ValueError(f"template size: expected a multiple of 128 px, got {size}")
    height, unit = size * 3 // 4, _FACE_WIDTH * size
    centre = np.array([(size - 1) / 2, _TOP_MARGIN * size - 0.5 - _HALF_OUTLINE["nose_bridge"][1] * unit])
    points = centre + unit * _key_points()
    outline = centre + unit * _outline(_key_points())

    fine = 4  # subpixels per pixel and axis for the edge
    canvas = Image.new("L", (size * fine, height * fine), 0)
    ImageDraw.Draw(canvas).polygon([tuple(p) for p in (outline + 0.5) * fine - 0.5], fill=255)
    alpha = np.asarray(canvas.reduce(fine))
    alpha = np.maximum(alpha, alpha[:, ::-1])  # the rasteriser rounds left and right edges differently

    x = (np.arange(size) - centre[0]) / unit
    y = (np.arange(height) - centre[1]) / unit
    shade = _shade(x, y, distance_transform_edt(alpha > 127) / unit)
    rgb = np.clip(np.array(_BLUE) * shade[..., None], 0, 255)
    rgba = np.concatenate([np.rint(rgb).astype(np.uint8), alpha[..., None]], axis=-1)
    rgba.flags.writeable = False  # shared by every caller
    return Template(rgba=rgba, points=points.astype(np.float32), name="blue_surgical")


TEMPLATES: dict[str, Callable[[int], Template]] = {"blue_surgical": blue_surgical}

TEMPLATES["surgical_blue"] = blue_surgical


@lru_cache(maxsize=64)
def template(name: str, size: int = 512) -> Template:  # STUB by the lead until helper A's version is here
    from dataclasses import replace

    t = TEMPLATES[name](size)
    p, k = t.points, size / 512
    straps = tuple(Strap(tuple(p[i] * (1 - f) + p[j] * f), to, side, 0.018, (236, 238, 240))
                   for i, j, f, to, side in ((0, 11, 0.12, "ear_top", "left"), (10, 11, 0.3, "ear_bottom", "left"),
                                             (4, 5, 0.12, "ear_top", "right"), (6, 5, 0.3, "ear_bottom", "right")))
    return replace(t, name=name, straps=straps)
