"""A mask's region as polygons and as COCO's run-length code.

**Convention.** Coordinates are those of pixel *edges*: the upper left pixel reaches from 0 to 1, so a polygon around it
has the corners (0, 0) and (1, 1), as COCO's boxes have it. Polygons follow the edges of the pixels exactly, so their
area is the number of pixels. Pixels of 128 and more belong to the region. Outer contours take pixels that touch at a
corner as joined, holes do not.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass, field

import cv2
import numpy as np
from pycocotools import mask as coco_mask
from scipy.spatial import KDTree

THRESHOLD = 128  # of a soft region's 0 … 255


@dataclass(frozen=True, eq=False)
class Piece:
    """A joined part of a region: `outer` int32 [N, 2] (x, y), and its `holes`, each likewise, turning the other way."""

    outer: np.ndarray
    holes: list[np.ndarray] = field(default_factory=list)

    @property
    def area(self) -> float:
        """In pixels, without the holes."""
        return abs(signed_area(self.outer)) - sum(abs(signed_area(hole)) for hole in self.holes)


def region_pieces(region: np.ndarray) -> list[Piece]:
    """The joined parts of a region, from above, then from the left; none for an empty one.

    Args:
        region: uint8 [H, W], 0 … 255.

    Raises ValueError for another dtype or shape.
    """
    inside = _inside(region)
    x, y, w, h = cv2.boundingRect(inside)
    if w == 0:
        return []
    # Contours run through pixel centres. At twice the size a pixel's left centre is 2 x, its right one 2 x + 1: halved
    # and rounded up these are its two edges, and the corners cut by diagonal steps fall on the true ones.
    twice = np.kron(inside[y : y + h, x : x + w], np.ones((2, 2), np.uint8))
    contours, tree = cv2.findContours(twice, cv2.RETR_CCOMP, cv2.CHAIN_APPROX_NONE)
    rings = [_corners((contour[:, 0] + 1) // 2 + (x, y)) for contour in contours]
    pieces = {k: Piece(ring) for k, ring in enumerate(rings) if tree[0, k, 3] < 0}
    for k, ring in enumerate(rings):
        if (parent := int(tree[0, k, 3])) >= 0:
            pieces[parent].holes.append(ring)
    return sorted(pieces.values(), key=lambda piece: tuple(piece.outer[:, ::-1].min(0)))


def one_ring(pieces: list[Piece]) -> np.ndarray:
    """int32 [N, 2]: all pieces and holes as one closed line, for formats that have one polygon for each object.

    They are joined by bridges that are walked there and back, without area: filled by the even-odd or the non-zero
    rule the line gives the region again. Raises ValueError when there are no pieces.
    """
    if not pieces:
        raise ValueError("one_ring: the region is empty; leave its line out")
    rings = [ring for piece in pieces for ring in (piece.outer, *piece.holes)]
    line = rings[0]
    for ring in rings[1:]:
        distance, nearest = KDTree(line).query(ring)
        start = int(distance.argmin())
        at = int(nearest[start])
        there = np.concatenate([ring[start:], ring[: start + 1]])
        line = np.concatenate([line[: at + 1], there, line[at:]])
    return line


def region_rle(region: np.ndarray) -> dict:
    """COCO's compressed run-length code: {"size": [H, W], "counts": text}, as pycocotools reads it.

    Raises ValueError for another dtype or shape.
    """
    code = coco_mask.encode(np.asfortranarray(_inside(region)))
    return {"size": [int(side) for side in code["size"]], "counts": code["counts"].decode("ascii")}


def decode_rle(code: dict) -> np.ndarray:
    """uint8 [H, W], 1 inside: the region of a run-length code, as `region_rle` gives it or with counts in bytes."""
    counts = code["counts"].encode("ascii") if isinstance(code["counts"], str) else code["counts"]
    with warnings.catch_warnings():  # pycocotools' own arrays are not made for NumPy 2
        warnings.simplefilter("ignore", DeprecationWarning)
        return coco_mask.decode({"size": code["size"], "counts": counts})


def signed_area(ring: np.ndarray) -> float:
    """Of a closed polygon [N, 2]; the sign tells in which direction it turns."""
    x, y = ring[:, 0].astype(float), ring[:, 1].astype(float)
    return float(np.dot(x, np.roll(y, -1)) - np.dot(y, np.roll(x, -1))) / 2


def _inside(region: np.ndarray) -> np.ndarray:
    if region.dtype != np.uint8 or region.ndim != 2 or not region.size:
        raise ValueError(f"region: expected uint8 [H, W], got {region.dtype} {list(region.shape)}")
    return (region >= THRESHOLD).astype(np.uint8)


def _corners(ring: np.ndarray) -> np.ndarray:
    """The points at which a line along pixel edges turns."""
    ring = ring[np.any(ring != np.roll(ring, 1, axis=0), axis=1)]
    before, after = ring - np.roll(ring, 1, axis=0), np.roll(ring, -1, axis=0) - ring
    return ring[before[:, 0] * after[:, 1] != before[:, 1] * after[:, 0]].astype(np.int32)
