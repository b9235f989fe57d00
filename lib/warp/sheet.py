"""What a mask template is, and the canvas that the drawn ones share.

*Convention.* Template coordinates are (x, y) pixels, pixel centres at integers, origin top left. "Left" is the
picture's left. The twelve points run clockwise from the top left corner; the mirror image of point `i` is point
`MIRRORED_POINTS[i]`. Drawings are made in units of the face's width at the ears (jaw points 1 to 15), x from the middle
of the face, y down from the line between those two points.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageDraw
from scipy.interpolate import CubicSpline
from scipy.ndimage import distance_transform_edt

KEY_POINTS = (
    "top_left", "top_left_quarter", "nose_bridge", "top_right_quarter", "top_right",
    "right_side", "lower_right", "bottom_right", "chin", "bottom_left", "lower_left", "left_side",
)  # fmt: skip
MIRRORED_POINTS = (4, 3, 2, 1, 0, 11, 10, 9, 8, 7, 6, 5)
SIX_POINTS = ("nose_line_left", "bridge", "nose_line_right", "lip_line_left", "chin", "lip_line_right")
STRAP_ENDS = ("ear_top", "ear_bottom", "crown", "nape")

# The key points of a mask worn by a frontal face of average proportions. Not given in the paper; chosen because they
# follow the average of frontal faces, so that the warp has little to bend.
HALF_OUTLINE = {
    "nose_bridge": (0.0, -0.040),
    "top_right_quarter": (0.235, 0.030),
    "top_right": (0.496, 0.060),
    "right_side": (0.466, 0.262),
    "lower_right": (0.386, 0.440),
    "bottom_right": (0.190, 0.622),
    "chin": (0.0, 0.688),
}
FACE_WIDTH = 0.94  # of the canvas; the rest is an empty margin, so that the edge may be soft
TOP_MARGIN = 0.030


@dataclass(frozen=True)
class Strap:
    """One strap on one side. start: (x, y) px of the template, where it leaves the cloth. to: one of `STRAP_ENDS`.
    side: "left" or "right". width: share of the mask's width. colour: (r, g, b), 0…255."""

    start: tuple[float, float]
    to: str
    side: str
    width: float
    colour: tuple[int, int, int]

    def __post_init__(self) -> None:
        for name, value, known in (("to", self.to, STRAP_ENDS), ("side", self.side, ("left", "right"))):
            if value not in known:
                raise ValueError(f"strap: {name} must be one of {', '.join(known)}, got {value!r}")


@dataclass(frozen=True, eq=False)
class Template:
    """A mask's picture, as seen from the front, and where the face's places lie in it.

    rgba: uint8 [h, w, 4], straight (not premultiplied) alpha; colour is defined beyond the edge too, so that blending
        at the edge shows no fringe. Cloth only: straps are drawn when it is worn.
    points: float32 [12, 2] in the order of `KEY_POINTS`, or [6, 2] in the order of `SIX_POINTS`, (x, y) px. They belong
        to
        the face (`geometry.mask_points`, `geometry.six_points`), so they may lie outside a mask that covers less.
    surface: its form in space, one of `face3d.SURFACES`.
    dye: uint8 [h, w] or None: how far a chosen colour or texture takes, 255 fully; None for everywhere.
    left, right: its views for a face turned to the picture's left or right, for presets that choose by head angle.
    """

    rgba: np.ndarray
    points: np.ndarray
    name: str
    surface: str = "drape"
    dye: np.ndarray | None = None
    straps: tuple[Strap, ...] = ()
    left: Template | None = None
    right: Template | None = None


def key_points() -> np.ndarray:
    """The twelve key points in units of the face's width: float64 [12, 2]."""
    rows = []
    for name in KEY_POINTS:
        left = name not in HALF_OUTLINE
        x, y = HALF_OUTLINE[name.replace("left", "right")]
        rows.append((-x if left else x, y))
    return np.array(rows)


class Canvas:
    """A canvas `size` px wide and 3/4 of that high, on which a mask is drawn in units of the face's width.

    x: [1, w] and y: [h, 1], the places of its pixels. size: a multiple of 128 (so that it can be halved cleanly);
    ValueError for another.
    """

    def __init__(self, size: int):
        if size < 128 or size % 128:
            raise ValueError(f"template size: expected a multiple of 128 px, got {size}")
        self.size, self.height, self.unit = size, size * 3 // 4, FACE_WIDTH * size
        self.centre = np.array([(size - 1) / 2, TOP_MARGIN * size - 0.5 - HALF_OUTLINE["nose_bridge"][1] * self.unit])
        self.x = ((np.arange(size) - self.centre[0]) / self.unit)[None]
        self.y = ((np.arange(self.height) - self.centre[1]) / self.unit)[:, None]

    def to_px(self, places: np.ndarray) -> np.ndarray:
        """Face widths → px of the canvas."""
        return self.centre + self.unit * np.asarray(places)

    def fill(self, outline: np.ndarray) -> np.ndarray:
        """Coverage uint8 [h, w] of a closed, left-right symmetric outline [n, 2] in face widths, antialiased."""
        fine = 4  # subpixels per pixel and axis
        canvas = Image.new("L", (self.size * fine, self.height * fine), 0)
        ImageDraw.Draw(canvas).polygon([tuple(p) for p in (self.to_px(outline) + 0.5) * fine - 0.5], fill=255)
        alpha = np.asarray(canvas.reduce(fine))
        return np.maximum(alpha, alpha[:, ::-1])  # the rasteriser rounds left and right edges differently

    def depth(self, alpha: np.ndarray) -> np.ndarray:
        """How far inside the outline each pixel lies, in face widths; 0 outside."""
        return distance_transform_edt(alpha > 127) / self.unit

    def straps(
        self, half: list[tuple[float, float, str]], width: float, colour: tuple[int, int, int]
    ) -> tuple[Strap, ...]:
        """Straps on both sides from (x, y, to) of the right one, in face widths."""
        return tuple(
            Strap(tuple(self.to_px((sign * x, y)).tolist()), to, side, width, colour)
            for side, sign in (("left", -1), ("right", 1))
            for x, y, to in half
        )

    def template(self, name: str, rgb: np.ndarray, alpha: np.ndarray, **parts) -> Template:
        """Close the drawing: rgb float [h, w, 3] in 0…255, alpha uint8 [h, w]. Its arrays are read-only: every caller
        shares them."""
        colour = np.rint(np.clip(rgb, 0, 255)).astype(np.uint8)
        rgba = np.concatenate([np.broadcast_to(colour, (*alpha.shape, 3)), alpha[..., None]], axis=-1)
        points = self.to_px(key_points()).astype(np.float32)
        for array in (rgba, points, *(a for a in (parts.get("dye"),) if a is not None)):
            array.flags.writeable = False
        return Template(rgba=rgba, points=points, name=name, **parts)


def smooth_outline(half: list[tuple[float, float]], steps: int = 24) -> np.ndarray:
    """A closed curve, left-right symmetric, through points of its right half from the top middle to the bottom middle;
    smooth everywhere: float64 [n, 2]."""
    right = np.array(half, dtype=np.float64)
    around = np.concatenate([right, (right[-2:0:-1] * (-1, 1)), right[:1]])
    along = np.concatenate([[0.0], np.cumsum(np.linalg.norm(np.diff(around, axis=0), axis=1))])
    spline = CubicSpline(along, around, bc_type="periodic")
    return spline(np.linspace(0, along[-1], steps * len(half) * 2, endpoint=False))


def cornered_outline(half: list[tuple[float, float]], corners: tuple[int, ...], steps: int = 24) -> np.ndarray:
    """As `smooth_outline`, but the curve has a corner at the points with these numbers, and at both middles where 0 or
    the last number is among them."""
    right = np.array(half, dtype=np.float64)
    cuts = sorted({0, len(right) - 1, *corners})
    pieces = []
    for first, last in itertools.pairwise(cuts):
        knots = right[first : last + 1]
        along = np.concatenate([[0.0], np.cumsum(np.linalg.norm(np.diff(knots, axis=0), axis=1))])
        level = (1, np.array([1.0, 0.0]))  # horizontal at the middle, unless it is a corner
        ends = [level if at not in corners and at in (0, len(right) - 1) else (2, np.zeros(2)) for at in (first, last)]
        if ends[1][0] == 1:
            ends[1] = (1, np.array([-1.0, 0.0]))
        if len(knots) == 2 and ends[0][0] == 2 == ends[1][0]:
            pieces.append(knots[0] + np.linspace(0, 1, steps, endpoint=False)[:, None] * (knots[1] - knots[0]))
            continue
        spline = CubicSpline(along, knots, bc_type=tuple(ends))
        pieces.append(spline(np.linspace(0, along[-1], steps * (len(knots) - 1), endpoint=False)))
    curve = np.concatenate([*pieces, right[-1:]])
    return np.concatenate([curve, (curve[-2:0:-1] * (-1, 1))])
