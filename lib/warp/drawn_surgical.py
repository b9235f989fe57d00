"""The pleated surgical mask, drawn by code: CMFD's light-blue one and its sisters in other colours."""

from __future__ import annotations

import numpy as np
from scipy.interpolate import CubicSpline

from lib.warp.sheet import HALF_OUTLINE, Canvas, Template, key_points

COLOURS = {  # sRGB; the blue is CMFD's, judged by eye
    "surgical_blue": (147.0, 190.0, 219.0),
    "surgical_green": (156.0, 206.0, 186.0),
    "surgical_white": (236.0, 238.0, 240.0),
    "surgical_pink": (236.0, 184.0, 196.0),
    "surgical_black": (46.0, 46.0, 50.0),
}
_PLEATS = (0.34, 0.53, 0.71)  # where the three pleats lie between the upper (0) and the lower hem (1)


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
    top, bottom = HALF_OUTLINE["nose_bridge"][1], HALF_OUTLINE["chin"][1]
    corner, lower = np.array(HALF_OUTLINE["top_right"]), np.array(HALF_OUTLINE["lower_right"])
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


def surgical(name: str, size: int) -> Template:
    """A three-pleat surgical mask in one of `COLOURS`. Hems, nose wire, pleats and an embossed texture are drawn in
    proportion."""
    canvas = Canvas(size)
    alpha = canvas.fill(_outline(key_points()))
    shade = _shade(canvas.x[0], canvas.y[:, 0], canvas.depth(alpha))
    colour = np.array(COLOURS[name])
    # Dark cloth shows its folds by the light on their edges: less shadow, more shine.
    rgb = (
        colour * shade[..., None]
        if colour.mean() > 90
        else colour * (0.55 + 0.45 * shade[..., None]) + 95 * np.clip(shade[..., None] - 0.93, -0.25, 0.12)
    )
    loops = [(0.487, 0.085, "ear_top"), (0.415, 0.385, "ear_bottom")]
    cord = (66, 66, 70) if name == "surgical_black" else (236, 238, 240)
    return canvas.template(name, rgb, alpha, straps=canvas.straps(loops, 0.024, cord))
