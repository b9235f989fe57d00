"""Where step two may change a picture: the square given to the generator, the weight of what returns, and the paste.

Convention: uint8 [H, W, 3] RGB; boxes are (x, y, w, h) in whole pixels of the picture; pixel centres at integers.

Why a weight and not the generator's word: its attention leaves most of the picture alone, but never to the last bit,
and it works at its training size. So its picture is only a source of pixels for the mask's region. Everywhere else
the result *is* the original array, not something computed from it.
"""

from dataclasses import dataclass

import numpy as np
from PIL import Image
from scipy import ndimage

Box = tuple[int, int, int, int]


@dataclass(frozen=True)
class Layer:
    """A weight inside a picture: `values` uint8 [h, w] (0 nothing, 255 all) at `box`, zero elsewhere."""

    box: Box
    values: np.ndarray

    @property
    def window(self) -> tuple[slice, slice]:
        """Rows and columns of the picture that the layer covers."""
        x, y, w, h = self.box
        return slice(y, y + h), slice(x, x + w)


def quantise(weight: np.ndarray, at: tuple[int, int] = (0, 0)) -> Layer:
    """float [H, W] in [0, 1] → Layer, cut to what is not zero. Rounds **up**: a pixel with any weight gets at least 1,
    so 0 in the region file means untouched, with no exception. `at` is the (x, y) of the array's corner."""
    return cropped(np.ceil(np.clip(weight, 0, 1) * 255).astype(np.uint8), at)


def cropped(values: np.ndarray, at: tuple[int, int]) -> Layer:
    """uint8 [h, w] → Layer, cut to what is not zero. `at` is the (x, y) of the array's corner."""
    rows, columns = np.flatnonzero(values.any(1)), np.flatnonzero(values.any(0))
    if not rows.size:
        return Layer((*at, 0, 0), values[:0, :0])
    (top, bottom), (left, right) = rows[[0, -1]], columns[[0, -1]]
    box = (int(at[0] + left), int(at[1] + top), int(right - left + 1), int(bottom - top + 1))
    return Layer(box, values[top : bottom + 1, left : right + 1])


def extend(alpha: Layer, margin_px: float, size: tuple[int, int]) -> Layer:
    """The rule-based alpha with a soft border of `margin_px` around it, exactly 0 beyond.

    A real mask has folds, a lifted hem, the start of a strap: none fits the drawn outline. The border (a smooth step
    over the distance to the mask's core, alpha ≥ ½) gives them room, and hides the seam between the original and the
    generator's softer picture. `size` is the picture's (height, width).
    """
    reach = int(np.ceil(margin_px))
    if reach == 0 or alpha.values.size == 0:
        return alpha
    x, y, w, h = alpha.box
    left, top = max(x - reach, 0), max(y - reach, 0)
    right, bottom = min(x + w + reach, size[1]), min(y + h + reach, size[0])
    inner = np.zeros((bottom - top, right - left), np.float32)
    inner[y - top : y - top + h, x - left : x - left + w] = alpha.values / np.float32(255)
    core = inner >= 0.5
    if not core.any():
        return alpha
    near = np.clip(1 - ndimage.distance_transform_edt(~core) / margin_px, 0, 1)
    return quantise(np.maximum(inner, near * near * (3 - 2 * near)), (left, top))


def square_around(landmarks: np.ndarray, mask: Box, scale: float) -> tuple[int, int, int]:
    """(x, y, side) of the square that is handed to the generator; it may leave the picture.

    The framing should resemble the training inputs, whole heads resized to a square without cropping (paper §4): the
    side is `scale` times the larger extent of the 68 points, and the points' middle lies a fifth of that extent below
    the square's. Not given in the paper, which never leaves its own crops; chosen between CMFD (FFHQ's framing of four
    eye distances is about 1.8 and 0.3) and the face world (1.65 and 0.23 in the median). The square grows where the
    mask would not fit.
    """
    low, high = landmarks.min(0), landmarks.max(0)
    extent = float((high - low).max())
    centre = (low + high) / 2 - (0, 0.2 * extent)
    x, y, w, h = mask
    reach = np.abs(np.array([[x, y], [x + w - 1, y + h - 1]]) - centre).max() + 1
    side = max(round(max(scale * extent, 2 * reach)), 2)
    left, top = np.floor(centre - (side - 1) / 2 + 0.5).astype(int)
    return int(left), int(top), side


def cut_square(pixels: np.ndarray, square: tuple[int, int, int]) -> np.ndarray:
    """uint8 [side, side, 3]: the square of the picture, mirrored at the edges where it leaves it."""
    x, y, side = square
    return pixels[np.ix_(_mirrored(y, side, pixels.shape[0]), _mirrored(x, side, pixels.shape[1]))]


def _mirrored(start: int, count: int, length: int) -> np.ndarray:
    """Indices start … start + count − 1 folded back into 0 … length − 1; the edge pixel is not repeated."""
    period = max(2 * (length - 1), 1)
    index = np.arange(start, start + count) % period
    return np.where(index >= length, period - index, index)


def paste(pixels: np.ndarray, fake: np.ndarray, square: tuple[int, int, int], weight: Layer) -> None:
    """Blend the translated square into `pixels` (in place) by the weight.

    `fake` uint8 [S, S, 3] is the generator's picture at its training size; it is resized back to the square's side.
    `pixels` is the picture **without** the rule-based mask: at the soft rim the generator's picture already holds rim
    and skin, and a rule-based mask below it would shine through as a fringe in the template's colour.
    """
    left, top, w, h = weight.box
    if w == 0:
        return
    x, y, side = square
    box = (left - x, top - y, left - x + w, top - y + h)
    scale = fake.shape[0] / side
    # Only the mask's part is enlarged: a face of 2,000 pixels needs no 3,000-pixel square.
    returned = Image.fromarray(fake).resize((w, h), Image.Resampling.BICUBIC, box=[edge * scale for edge in box])
    below = pixels[weight.window].astype(np.float32)
    share = weight.values[..., None] / np.float32(255)
    blended = below + (np.asarray(returned, np.float32) - below) * share
    touched = weight.values > 0
    pixels[weight.window][touched] = np.clip(np.rint(blended), 0, 255).astype(np.uint8)[touched]


def merge(region: np.ndarray, layer: Layer) -> None:
    """Add a face's weight to the picture's region, uint8 [H, W], in place: the larger of the two."""
    region[layer.window] = np.maximum(region[layer.window], layer.values)
