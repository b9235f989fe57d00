"""Straps, from the mask's edge to the ear: thin lines over the skin, under the cloth.

They cover so few pixels that they are worked out pixel by pixel, in NumPy, after the cloth.

*Convention.* Photograph px, y down; colours in [0, 1] until they are laid, bytes then.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
import torch

from lib.warp.light import fade
from lib.warp.place import Placed

_SUBPIXEL_BITS = 4
_FINEST = 1.32  # px, measured: the mean over all directions of what a line of thickness 1 covers


@dataclass(frozen=True, eq=False)
class Strands:
    """Pixels touched by a face's straps. rows, columns: int64 [N], px of the window `Placed.reach`; line: float32 [N],
    coverage in (0, 1]; colour: float32 [N, 3] in [0, 1], lit, not premultiplied."""

    rows: np.ndarray
    columns: np.ndarray
    line: np.ndarray
    colour: np.ndarray


def draw_straps(item: Placed, gain: np.ndarray, blur_px: float = 0.0, saturation: float = 1.0) -> Strands | None:
    """The straps of a face, None where it has none. A strap fades over its last part, where it goes behind the ear.

    gain: float32 [3, n, n], the light on the mask, spread evenly over the canvas (`Placed.window`), corners included;
    beyond it the light at its border goes on. blur_px: the picture's softness, sigma in px. saturation: share of their
    colour that the straps show, from `light.saturation`.
    """
    if not item.straps:
        return None
    x0, y0, width, height = item.reach
    lines = np.zeros((height, width), np.uint8)
    _draw(lines, np.stack([path for path, _, _ in item.straps]) - (x0, y0), [thick for _, thick, _ in item.straps])
    if blur_px > 0.5:
        lines = cv2.GaussianBlur(lines, (0, 0), blur_px)
    where = np.flatnonzero(lines != 0)  # of bools: five times as fast
    if not len(where):
        return None
    line = lines.ravel()[where].astype(np.float32) / 255
    rows, columns = np.divmod(where, width)
    n = gain.shape[1]
    x = np.clip((columns + (x0 - item.window[0])) * ((n - 1) / (item.canvas[0] - 1)), 0, n - 1.001).astype(np.float32)
    y = np.clip((rows + (y0 - item.window[1])) * ((n - 1) / (item.canvas[1] - 1)), 0, n - 1.001).astype(np.float32)
    at, u, v = y.astype(int) * n + x.astype(int), x % 1, y % 1
    corner = gain.reshape(3, -1).take
    light = (corner(at, 1) * (1 - u) + corner(at + 1, 1) * u) * (1 - v)
    light += (corner(at + n, 1) * (1 - u) + corner(at + n + 1, 1) * u) * v
    colour = np.array(item.straps[0][2], np.float32) / 255
    lit = light.T * colour
    if saturation < 1:
        lit = fade(torch.from_numpy(lit.T[None, ..., None]), torch.tensor([saturation])).numpy()[0, ..., 0].T
    return Strands(rows, columns, line, np.minimum(lit, 1))


def _draw(lines: np.ndarray, paths: np.ndarray, thick: list[float]) -> None:
    """Straps, float64 [K, n, 2], on uint8 [h, w]. OpenCV's finest smooth line covers `_FINEST` px: a thinner strap is a
    fainter line, a thicker one a ribbon whose rim is such a line."""
    along = paths[:, [1, *range(2, paths.shape[1]), -1]] - paths[:, [0, *range(paths.shape[1] - 2), -2]]
    across = along[..., ::-1] * (-1, 1) / np.maximum(np.sqrt((along * along).sum(-1, keepdims=True)), 1e-6)
    half = across * (np.maximum(np.array(thick) - _FINEST, 0) / 2)[:, None, None]
    right, left = (np.rint(side * 2**_SUBPIXEL_BITS).astype(np.int32) for side in (paths + half, paths - half))
    for there, back, width in zip(right, left[:, ::-1], thick, strict=True):
        strength = 255 * min(1.0, width / _FINEST)
        if width <= _FINEST:
            cv2.polylines(lines, [there[:-1]], False, strength, 1, cv2.LINE_AA, _SUBPIXEL_BITS)
            cv2.polylines(lines, [there[-2:]], False, strength / 2, 1, cv2.LINE_AA, _SUBPIXEL_BITS)
        else:
            ribbons = [np.concatenate([there[:-1], back[1:]]), np.concatenate([there[-2:], back[:2]])]
            cv2.fillPoly(lines, ribbons[:1], strength, cv2.LINE_AA, _SUBPIXEL_BITS)
            cv2.fillPoly(lines, ribbons[1:], strength / 2, cv2.LINE_AA, _SUBPIXEL_BITS)


def lay_straps(part: np.ndarray, below: np.ndarray, strands: Strands, cover: np.ndarray, shadow: np.ndarray) -> None:
    """Lay straps under a mask that is already on the picture; in place.

    part: uint8 [h, w, 3], the picture in the window `Placed.reach`, with the cloth. below: uint8 [N, 3], its pixels at
    the straps without the cloth. cover, shadow: float32 [h, w], of the cloth; the straps are added to them.
    """
    at = strands.rows, strands.columns
    keep, shade = 1 - cover[at], shadow[at]
    change = strands.line[:, None] * (255 * keep[:, None] * strands.colour - below * (keep - shade)[:, None])
    part[at] = np.clip(np.rint(part[at] + change), 0, 255).astype(np.uint8)
    cover[at] += strands.line * keep
    shadow[at] -= strands.line * shade
