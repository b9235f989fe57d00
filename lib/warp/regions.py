"""Non-mask tensors: where the realistic mask may change nothing (paper §4.1).

"The mask regions can be determined by comparing the full-face images with rule-based mask images pixel by pixel." The
result is stored beside the rule-based image under the same name with another extension. CMFD is published as JPEG while
its full faces (FFHQ) are not, so the comparison has to see through the noise of one compressed side.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load, save
from scipy import ndimage

from lib.data.files import write_bytes

KEY = "non_mask"
SUFFIX = ".safetensors"

_CROSS = ndimage.generate_binary_structure(2, 1)
_SQUARE = np.ones((3, 3), dtype=bool)
_NEAR_PX = 6  # of a 256² picture: farther out than a soft edge, but JPEG noise fills blocks of 8 or 16 pixels


def non_mask_by_comparison(
    full: np.ndarray,
    rule_based: np.ndarray,
    threshold: float = 16.0,
    n_masks: int = 1,
    opening_px: int = 2,
    dilation_px: int = 1,
) -> np.ndarray:
    """Where a full face and its rule-based picture agree: bool [H, W], True where nothing may change.

    full, rule_based: uint8 [H, W, 3] RGB of the same size. Equal pictures give all True.

    The difference (largest channel, averaged over 3 × 3 pixels) is cut at `threshold`, closed, opened by `opening_px`,
    reduced to its `n_masks` largest parts, filled, and grown by `dilation_px`, so that a soft edge never counts as
    non-mask. Where the pictures differ nowhere else, neither side can have been compressed, and the answer is exact
    instead: False where any channel differs, holes filled. The paper gives none of this; chosen so that JPEG of quality
    75 on one side finds the true region of a 256² picture (the lengths are in its pixels).

    Raises ValueError for arrays of another kind or of two sizes.
    """
    for name, picture in (("full", full), ("rule_based", rule_based)):
        if picture.dtype != np.uint8 or picture.ndim != 3 or picture.shape[2] != 3:
            raise ValueError(f"{name}: expected uint8 [H, W, 3], got {picture.dtype} {picture.shape}")
    if full.shape != rule_based.shape:
        raise ValueError(f"full and rule_based must have one size, got {full.shape[:2]} and {rule_based.shape[:2]}")

    difference = rule_based.astype(np.float32) - full
    changed = (difference != 0).any(axis=-1)
    if not changed.any():
        return np.ones(changed.shape, dtype=bool)

    # Averaging before the absolute value: noise cancels, a mask's difference does not.
    strength = np.abs(ndimage.uniform_filter(difference, size=(3, 3, 1), mode="nearest")).max(axis=-1)
    region = ndimage.binary_fill_holes(_closed(strength > threshold, 3))
    if opening_px > 0:
        region = ndimage.binary_opening(np.pad(region, opening_px, mode="edge"), _CROSS, iterations=opening_px)
        region = region[opening_px:-opening_px, opening_px:-opening_px]
    region = ndimage.binary_fill_holes(_largest(region, n_masks))

    exact = ndimage.binary_fill_holes(changed & _largest(ndimage.binary_dilation(changed, _SQUARE, 2), n_masks))
    if not (changed & ~exact).any() and region.any():
        reach = ndimage.distance_transform_edt(~region)[exact].max()
        if reach <= _NEAR_PX * max(1.0, max(changed.shape) / 256):
            return ~exact
    if dilation_px > 0:
        region = ndimage.binary_dilation(region, _CROSS, iterations=dilation_px)
    return ~region


def _closed(region: np.ndarray, by: int) -> np.ndarray:
    """Binary closing that does not erode from the picture's border."""
    return ndimage.binary_closing(np.pad(region, by), _SQUARE, iterations=by)[by:-by, by:-by] | region


def _largest(region: np.ndarray, count: int) -> np.ndarray:
    """Only the `count` largest connected parts of a bool [H, W] (8-connected)."""
    labels, found = ndimage.label(region, structure=_SQUARE)
    if found <= count:
        return region
    sizes = np.bincount(labels.ravel())[1:]
    keep = np.argsort(-sizes, kind="stable")[:count] + 1
    return np.isin(labels, keep)


def non_mask_path(image_path: str | Path) -> Path:
    """Where the tensor of a rule-based image lies: same folder and name, last extension replaced (paper §4.1)."""
    return Path(image_path).with_suffix(SUFFIX)


def save_non_mask(path: str | Path, non_mask: np.ndarray) -> None:
    """Write a bool [H, W] as safetensors (key `non_mask`), atomically. Raises ValueError for another kind or suffix."""
    path = Path(path)
    if path.suffix != SUFFIX:
        raise ValueError(f"{path}: a non-mask tensor's name ends in {SUFFIX}; non_mask_path(image) gives it")
    if non_mask.dtype != np.bool_ or non_mask.ndim != 2:
        raise ValueError(f"{path}: expected bool [H, W], got {non_mask.dtype} {non_mask.shape}")
    write_bytes(path, save({KEY: np.ascontiguousarray(non_mask)}))


def load_non_mask(path: str | Path, shape: tuple[int, int] | None = None) -> np.ndarray:
    """Read what `save_non_mask` wrote: bool [H, W].

    shape: (H, W) it must have, if given. Raises FileNotFoundError, or ValueError that names the file and what is wrong.
    """
    path = Path(path)
    try:
        tensors = load(path.read_bytes())
    except SafetensorError as error:
        raise ValueError(f"{path}: not a safetensors file ({error}); make it again from the image pair") from None
    if KEY not in tensors:
        raise ValueError(f"{path}: expected a tensor named {KEY}, found {', '.join(sorted(tensors)) or 'none'}")
    non_mask = tensors[KEY]
    if non_mask.dtype != np.bool_ or non_mask.ndim != 2:
        raise ValueError(f"{path}: expected bool [H, W], found {non_mask.dtype} {non_mask.shape}")
    if shape is not None and non_mask.shape != tuple(shape):
        raise ValueError(f"{path}: expected {shape[0]} × {shape[1]}, found {non_mask.shape[0]} × {non_mask.shape[1]}")
    return non_mask
