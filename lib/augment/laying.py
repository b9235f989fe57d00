"""The masks of one picture laid on, from far to near: none covers a nearer face.

What hides a part of a face is not known. Known are the boxes of the other faces, and the larger of two is taken for the
nearer. Over its face, the ellipse inscribed in the box, and its hair the picture stays as it would be without the
farther mask; where that is most of a mask, the face gets none.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from lib.augment.composite import Box, Layer, cropped, extend, quantise
from lib.warp import WarpError, WarpParams, apply_warps

HIDDEN = "hidden"  # kind of the faces whose mask a nearer one hides
LEAST = 0.5  # share of a mask's weight that must remain
EDGE_PX = 2.0  # from nothing of a mask to all of it, outside of the ellipses
HAIR = 0.35  # of the box's height, above it: boxes of faces end at the forehead
SAME = 0.6  # intersection over union from which on two boxes are one face, labelled twice


def lay_masks(
    pixels: np.ndarray,
    faces: Sequence[tuple[np.ndarray, WarpParams]],
    boxes: np.ndarray,
    own: Sequence[int],
    margins: Sequence[float] | None = None,
) -> tuple[np.ndarray, list[Layer | WarpError]]:
    """Put masks on a picture, the later over the earlier.

    Args:
        pixels: uint8 [H, W, 3]; not changed.
        faces: (landmarks [68, 2] px, parameters) of the faces that are to get one, near ones last.
        boxes: float [N, 4] (x, y, w, h), of all faces of the picture, with a mask or not; of equal ones the first is
            the nearest. NaN: one that is at no known place.
        own: For each of `faces` its place in `boxes`.
        margins: Width in px of the soft border that each weight gets, as `extend` does it; None: no border.

    Returns:
        The new picture, and for every face where it was changed, or may be by the second step; or the WarpError that
        says why it has no mask (kind "hidden": a nearer face covers most of it). A weight is 0 where its mask changed
        nothing.
    """
    (after,), worn = apply_warps([pixels], [(0, *face) for face in faces])
    layers: list[Layer | WarpError] = []
    cut = False
    for n, (mask, place) in enumerate(zip(worn, own, strict=True)):
        if isinstance(mask, WarpError):
            layers.append(mask)
            continue
        near, whole = nearer(boxes, place), quantise(np.maximum(mask.alpha, mask.shadow), mask.window[:2])
        seen = _without(whole, near)
        cut |= seen is not whole
        if seen.values.sum() < LEAST * whole.values.sum():
            covered = 1 - seen.values.sum() / whole.values.sum()
            layers.append(WarpError(f"a nearer face covers {covered:.0%} of its mask", HIDDEN))
            continue
        layers.append(seen if margins is None else _without(extend(whole, margins[n], pixels.shape[:2]), near))
    return _again(pixels, faces, layers, [nearer(boxes, k) for k in own]) if cut else after, layers


def nearer(boxes: np.ndarray, place: int) -> np.ndarray:
    """Those of `boxes` [N, 4] that are larger than that at `place`, and another face."""
    x, y, w, h = boxes.T
    areas = w * h
    wide = np.minimum(x + w, x[place] + w[place]) - np.maximum(x, x[place])
    high = np.minimum(y + h, y[place] + h[place]) - np.maximum(y, y[place])
    both = np.clip(wide, 0, None) * np.clip(high, 0, None)
    larger = (areas > areas[place]) | ((areas == areas[place]) & (np.arange(len(boxes)) < place))
    return boxes[larger & (both < SAME * (areas + areas[place] - both)) & (np.minimum(w, h) > 0)]


def visible(window: Box, near: np.ndarray) -> np.ndarray | None:
    """float64 [h, w]: 0 on heads with the boxes `near` [N, 4], 1 from `EDGE_PX` beside them on; None where it is 1 all
    over the window (x, y, w, h) of the picture. A head: the ellipse inscribed in the box, and in the box with hair."""
    left, top, width, height = window
    keep = np.ones((height, width))
    for x, y, w, h in np.concatenate([near, near + near[:, 3:] * (0, -HAIR, 0, HAIR)]):
        beside = x >= left + width + EDGE_PX or left >= x + w + EDGE_PX
        if not (beside or y >= top + height + EDGE_PX or top >= y + h + EDGE_PX):
            across = (np.arange(left, left + width) + 0.5 - x) / (w / 2) - 1  # pixel centres, from edge to edge −1 … 1
            down = (np.arange(top, top + height) + 0.5 - y) / (h / 2) - 1
            outside = (np.hypot(across, down[:, None]) - 1) * (min(w, h) / 2 / EDGE_PX)
            np.clip(outside, 0, keep, out=keep)
    return None if (keep == 1).all() else keep


def _without(layer: Layer, near: np.ndarray) -> Layer:
    """The layer itself where no nearer face meets it."""
    keep = visible(layer.box, near)
    if keep is None or not (layer.values[keep < 1]).any():
        return layer
    return cropped(np.ceil(layer.values * keep).astype(np.uint8), layer.box[:2])


def _again(
    pixels: np.ndarray,
    faces: Sequence[tuple[np.ndarray, WarpParams]],
    layers: Sequence[Layer | WarpError],
    near: Sequence[np.ndarray],
) -> np.ndarray:
    """The picture with its masks cut: each is put on the bare picture, and what that changed is taken over."""
    out = pixels.copy()
    for face, layer, boxes in zip(faces, layers, near, strict=True):
        if isinstance(layer, WarpError):
            continue
        (alone,), (mask,) = apply_warps([pixels], [(0, *face)])
        window, keep = mask.slices, visible(mask.window, boxes)
        below, bare, worn = (picture[window].astype(np.float32) for picture in (out, pixels, alone))
        through = np.clip(1 - mask.alpha - mask.shadow, 0, 1)[..., None]
        change = worn + through * (below - bare) - below  # where no other mask lies below: worn − bare
        if keep is not None:
            change *= keep.astype(np.float32)[..., None]
        out[window] = np.clip(np.rint(below + change), 0, 255).astype(np.uint8)
    return out
