"""Where a picture went wrong: squares to look into (paper Fig. 8: spots in hair and forehead, patterns on the mask)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import ndimage
from skimage.color import rgb2lab

from lib.study.metrics import change_map


@dataclass(frozen=True)
class Place:
    """A square of a picture, (x, y, edge) px, the number of the face, and the mean of what was looked for in it."""

    face: int
    box: tuple[int, int, int]
    value: float


def crop(image: np.ndarray, box: tuple[int, int, int]) -> np.ndarray:
    """A square of a picture: [H, W(, 3)] → [edge, edge(, 3)]."""
    x, y, edge = box
    return image[y : y + edge, x : x + edge]


def worst_square(values: np.ndarray, edge: int) -> tuple[tuple[int, int, int], float]:
    """The square with the highest mean of a map [H, W], and that mean; of equal ones the first from the top left."""
    sums = np.pad(values.astype(np.float64).cumsum(0).cumsum(1), ((1, 0), (1, 0)))
    means = (sums[edge:, edge:] - sums[:-edge, edge:] - sums[edge:, :-edge] + sums[:-edge, :-edge]) / edge**2
    y, x = np.unravel_index(int(means.round(9).argmax()), means.shape)
    return (int(x), int(y), edge), float(means[y, x])


def far_changes(before: np.ndarray, after: np.ndarray, non_mask: np.ndarray, count: int) -> list[Place]:
    """The faces with the worst square of change away from the mask, worst first: uint8 [N, S, S, 3] twice, bool.

    "Away" leaves out a sixteenth of the edge around the mask: there straps, shadow and rim may be drawn on purpose.
    """
    size = before.shape[1]
    places = []
    for n, (change, outside) in enumerate(zip(change_map(before, after), non_mask)):
        away = ndimage.binary_erosion(outside, iterations=max(1, size // 16), border_value=1)
        places.append(Place(n, *worst_square(change * away, size // 4)))
    return sorted(places, key=lambda place: -place.value)[:count]


def mask_patterns(before: np.ndarray, after: np.ndarray, non_mask: np.ndarray, count: int) -> list[Place]:
    """The faces with the most fine pattern added to the mask, worst first; arguments as for `far_changes`.

    Pattern: |lightness − the same blurred|, after minus before, ΔL* (CIE Lab), well inside the mask.
    """
    size = before.shape[1]
    places = []
    for n, (a, b, outside) in enumerate(zip(before, after, non_mask)):
        inside = ndimage.binary_erosion(~outside, iterations=max(1, size // 32))
        added = _fine(b) - _fine(a)
        places.append(Place(n, *worst_square(added * inside, size // 4)))
    return sorted(places, key=lambda place: -place.value)[:count]


def _fine(image: np.ndarray) -> np.ndarray:
    light = rgb2lab(image)[..., 0]
    return np.abs(light - ndimage.gaussian_filter(light, image.shape[0] / 48))
