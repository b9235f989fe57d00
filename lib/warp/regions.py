"""Non-mask tensors: where the realistic mask may change nothing (paper §4.1).

"The mask regions can be determined by comparing the full-face images with rule-based mask images pixel by pixel." The
result is stored beside the rule-based image under the same name with another extension. CMFD is published as JPEG while
its full faces (FFHQ) are not, so the comparison has to see through the noise of a compressed side. The paper does not
say how; this is ours, in three steps:

1. Where: the blurred difference is cut well above the noise found far from the mask, closed, opened, reduced to its
   largest part and filled. This is right to a few pixels.
2. The outline: the mask's colour M is carried over its edge from well inside, and each pixel's coverage is the α that
   best explains its colour as α M + (1 − α) F, where F is the full face's: by all channels, each weighed by its noise.
   α = ½ is the outline, to parts of a pixel, whatever the contrast.
3. The rim: a soft edge reaches farther than its outline, in the end below the noise. So the edge's softness is fitted,
   place by place, and says how far.

*Convention.* Lengths named `_PX` are px of a picture 256 px on its longer side; the factor `px` makes them real ones.
"""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load, save

from lib.data.files import write_bytes

KEY = "non_mask"
SUFFIX = ".safetensors"
TOUCHED = 0.01  # coverage; of a contrast of a hundred grey levels one
OUTLINE = 0.5

_YCC = np.array([[0.299, 0.587, 0.114], [-0.168736, -0.331264, 0.5], [0.5, -0.418688, -0.081312]], np.float32)  # JPEG's
_SQUARE = np.ones((3, 3), np.uint8)
_PLAIN = 16.0  # grey levels; a larger difference is no noise, however strong
_NOISES = 6.0  # times the median of the blurred noise: nothing of it passes
_FAR_PX = 10.0  # from here on a difference is noise
_CLOSING_PX = 3.0
_NEAR_PX = 6.0  # farther out than a soft edge, but JPEG noise fills blocks of 8 or 16 pixels
_TRACES = 0.2  # share of the pixels far from a mask that its straps may change
_STRAYS = 0.02  # share of a mask that may lie apart from it: the end of a strap behind the head
_ONE_SIDED = 0.85  # share of a change that is left when neighbours are added up: all of it if they go one way
_TEETH = 0.26  # px² that smoothing takes or adds per px of border, at 256 px; measured: masks 0.01–0.25, JPEG 0.26–0.6
_CORE_PX, _CARRY_PX = 3.0, 3.0  # so deep lies what is mask for certain; sigma over which its colour is carried
_PRIOR = 4.0  # what a mask that looks like the skin counts for, as if they differed by two noises: it stays as it was
_BAND_PX = (2.0, 4.0)  # inside and outside of the outline, where softness shows
_SOFT = (0.0, 0.25, 0.4, 0.55, 0.7, 0.9, 1.2, 1.6, 2.2, 2.8)  # sigmas tried; 0: a hard edge
_USUAL = 3  # of them
_SOFT_CELL_PX, _SOFT_SPREAD_PX = 4.0, 10.0  # the softness is fitted over this length (sigma) of the edge, in cells
_ANYWHERE = 0.2  # weight of the whole edge beside the place's own


def non_mask_by_comparison(
    full: np.ndarray,
    rule_based: np.ndarray,
    threshold: float = 10.0,
    n_masks: int = 1,
    opening_px: float = 2.0,
    coverage: float = TOUCHED,
) -> np.ndarray:
    """Where a full face and its rule-based picture agree: bool [H, W], True where nothing may change.

    full, rule_based: uint8 [H, W, 3] RGB of the same size. Equal pictures give all True.
    threshold: grey levels by which mask and skin differ over most of the mask; raised where the noise asks for more.
    n_masks: so many parts count, the largest. opening_px: what is thinner than twice this is no mask (a strap, a line
        of noise), in px of a 256² picture.
    coverage: a pixel counts as mask from this share of mask on. `TOUCHED`: every pixel that a soft edge reaches, as
        without compression. The non-mask loss needs it so: a pixel too many costs it little, one too few forbids the
        network to mend the edge. `OUTLINE`: the mask's own outline.

    Where neither side has been compressed, `TOUCHED` is exact: the pixels in which any channel differs (straps and
    shadow with them), holes filled. It shows in that the pictures differ nowhere else, and smoothly.

    Raises ValueError for arrays of another kind or of two sizes, and for a coverage outside (0, 1).
    """
    for name, picture in (("full", full), ("rule_based", rule_based)):
        if picture.dtype != np.uint8 or picture.ndim != 3 or picture.shape[2] != 3:
            raise ValueError(f"{name}: expected uint8 [H, W, 3], got {picture.dtype} {picture.shape}")
    if full.shape != rule_based.shape:
        raise ValueError(f"full and rule_based must have one size, got {full.shape[:2]} and {rule_based.shape[:2]}")
    if not 0 < coverage < 1:
        raise ValueError(f"coverage: expected a share between 0 and 1, got {coverage!r}")

    difference = rule_based.astype(np.float32) - full
    changed = (difference != 0).any(axis=-1)
    if not changed.any():
        return np.ones(changed.shape, dtype=bool)
    px = max(max(changed.shape) / 256, 1.0)  # the edges and the noise of smaller pictures are no smaller
    region, noise = _roughly(difference, px, threshold, n_masks, opening_px)
    if not region.any():
        return np.ones(changed.shape, dtype=bool)
    if coverage <= TOUCHED:
        exact = _exactly(difference, changed, region, px, n_masks)
        if exact is not None:
            return ~exact

    window = _around(region, round(2 * _NEAR_PX * px))
    to_noise = _YCC / noise[:, None]
    below, change = (cv2.transform(plane[window].astype(np.float32), to_noise) for plane in (full, difference))
    found = np.zeros(changed.shape, dtype=bool)
    found[window] = _covered(below, change, region[window], px, n_masks, opening_px) >= coverage
    return ~_filled(found)


def _roughly(
    difference: np.ndarray, px: float, threshold: float, n_masks: int, opening_px: float
) -> tuple[np.ndarray, np.ndarray]:
    """The region to within a few pixels, bool [H, W], and the noise in Y, Cb and Cr, float32 [3], grey levels.

    Large pictures are looked at in cells, which keeps lengths short.
    """
    height, width = difference.shape[:2]
    cell = max(1, round(px))
    if cell > 1:
        difference = cv2.resize(difference, (-(-width // cell), -(-height // cell)), interpolation=cv2.INTER_AREA)
    unit = px / cell
    planes = cv2.transform(difference, _YCC)
    strength = np.sqrt(np.square(_blurred(planes, 0.8)).sum(axis=-1))
    far = _distance(strength > _PLAIN) > _FAR_PX * unit
    if far.mean() < 0.02:  # a mask about as large as the picture
        far = strength <= _PLAIN
    noise = np.ones(3, np.float32)
    if far.any():
        threshold = max(threshold, _NOISES * float(np.median(strength[far])))
        noise = np.maximum(1.48 * np.median(np.abs(planes[far]), axis=0), 1).astype(np.float32)
    region = _opened(_filled(_closed(strength > threshold, _CLOSING_PX * unit)), opening_px * unit)
    region = _filled(_largest(region, n_masks)).astype(np.uint8)
    return cv2.resize(region, (width, height), interpolation=cv2.INTER_NEAREST) > 0, noise


def _exactly(
    difference: np.ndarray, changed: np.ndarray, region: np.ndarray, px: float, n_masks: int
) -> np.ndarray | None:
    """All pixels changed, holes filled, bool [H, W], if they can only be a mask's, with straps and shadow; else None.

    JPEG of one quality on both sides, too, leaves equal pixels far from the mask. But what it changes ends in blocks,
    now lighter, now darker.
    """
    distance = _distance(region)
    far = distance > _FAR_PX * px
    if changed[far].sum() > _TRACES * far.sum():
        return None
    exact = _filled(changed & _largest(cv2.dilate(changed.view(np.uint8), _SQUARE, iterations=2) > 0, n_masks))
    if (changed & ~exact).sum() > _STRAYS * exact.sum():
        return None
    exact = _filled(exact | changed)
    if distance[exact].max() > _NEAR_PX * px:
        light = cv2.transform(difference, _YCC[:1]) * (exact & ~region)
        if np.abs(cv2.blur(light, (3, 3))).sum() < _ONE_SIDED * cv2.blur(np.abs(light), (3, 3)).sum():
            return None
    border = exact & ~(cv2.erode(exact.astype(np.uint8), _SQUARE) > 0)
    teeth = exact ^ (_blurred(exact.astype(np.float32), 2 * px) > 0.5)
    size = max(exact.shape) / 256
    return exact if teeth.sum() <= _TEETH * max(size, 1 / size) ** 0.5 * border.sum() else None


def _covered(
    below: np.ndarray, change: np.ndarray, region: np.ndarray, px: float, n_masks: int, opening_px: float
) -> np.ndarray:
    """Coverage by mask, float32 [h, w] in [0, 1], from a rough region. below, change: float32 [h, w, 3], the full face
    and the difference from it, in units of noise."""
    for _ in range(2):  # the second time with an outline that is nearly right
        core = _distance(~region) > _CORE_PX * px
        if not core.any():
            core = region
        contrast = _carried(below + change, core, px) - below
        explained = np.einsum("ijk,ijk->ij", change, contrast)  # over the next it is α by least squares
        possible = np.einsum("ijk,ijk->ij", contrast, contrast)
        prior = _blurred(region.astype(np.float32), 1.5 * px)
        alpha = (_blurred(explained, 0.5) + _PRIOR * prior) / (_blurred(possible, 0.5) + _PRIOR)
        near = _distance(region) <= _NEAR_PX * px
        region = _largest(_opened(_filled(core | (near & (alpha >= 0.5))), opening_px * px), n_masks)
    inside, outside = _distance(~region), _distance(region)
    alpha = np.where(outside > 1.5, 0, np.where(inside > 1.5, 1, alpha)).astype(np.float32)
    band = ((inside <= _BAND_PX[0] * px + 0.5) & (outside <= _BAND_PX[1] * px)).astype(np.float32)
    # JPEG halves the resolution of colour, so only the luma tells how soft an edge is.
    explained, possible = change[..., 0] * contrast[..., 0], contrast[..., 0] ** 2
    return _softened(region, alpha, band * explained, band * possible, band, px)


def _carried(picture: np.ndarray, core: np.ndarray, px: float) -> np.ndarray:
    """The colours of the core carried beyond it, the nearest prevail: float32 [h, w, 3]. Worked out in cells."""
    height, width = core.shape
    cell = max(1, round(2 * px))
    weighed = np.dstack([picture * core[..., None], core]).astype(np.float32)
    weighed = cv2.resize(weighed, (-(-width // cell), -(-height // cell)), interpolation=cv2.INTER_AREA)
    sigma = _CARRY_PX * px / cell
    weighed = _blurred(weighed, sigma) + 1e-3 * _blurred(weighed, 3 * sigma)
    colours = weighed[..., :3] / (weighed[..., 3:] + 1e-9)
    return cv2.resize(colours, (width, height), interpolation=cv2.INTER_LINEAR)


def _softened(
    region: np.ndarray, alpha: np.ndarray, explained: np.ndarray, possible: np.ndarray, band: np.ndarray, px: float
) -> np.ndarray:
    """The region with an edge as soft as the pictures have it, float32 [h, w]: of several, in each place the one that
    leaves least unexplained, Σ (coverage · contrast − change)²."""
    height, width = region.shape
    sharp = np.clip(0.5 + 1.8 * (alpha - 0.5), 0, 1)  # as wide as a pixel, whose variance of 1/12 the sigmas count in
    tried = [region.astype(np.float32)]
    tried += [_blurred(sharp, max((sigma * px) ** 2 - 1 / 12, 0) ** 0.5) for sigma in _SOFT[1:]]
    # As if an edge of the usual softness had been seen too, at a contrast of one noise: decides where little does.
    explained, possible = explained + band * tried[_USUAL], possible + band
    cell = max(1, round(_SOFT_CELL_PX * px))
    cells = -(-width // cell), -(-height // cell)
    errors = [cv2.resize((one * possible - 2 * explained) * one, cells, interpolation=cv2.INTER_AREA) for one in tried]
    errors = np.stack([_blurred(one, _SOFT_SPREAD_PX * px / cell) + _ANYWHERE * one.mean() for one in errors])
    best = np.clip(errors.argmin(axis=0), 1, len(tried) - 2)[None]
    before, least, after = (np.take_along_axis(errors, best + step, 0)[0] for step in (-1, 0, 1))
    bend = np.maximum(before - 2 * least + after, 1e-9)
    place = best[0] + np.clip((before - after) / (2 * bend), -1, 1)  # the vertex of the parabola through the three
    place = cv2.resize(place.astype(np.float32), (width, height), interpolation=cv2.INTER_LINEAR)
    lower = np.clip(place.astype(int), 0, len(tried) - 2)
    softer, harder = (np.take_along_axis(np.stack(tried), lower[None] + step, 0)[0] for step in (1, 0))
    step = place - lower
    return harder ** (1 - step) * softer**step  # so the rims, not the coverages, lie evenly between


def _around(region: np.ndarray, margin: int) -> tuple[slice, slice]:
    """Rows and columns of a region and a margin about it."""
    spans = (np.flatnonzero(region.any(axis=axis)) for axis in (1, 0))
    return tuple(slice(max(span[0] - margin, 0), span[-1] + 1 + margin) for span in spans)


def _blurred(plane: np.ndarray, sigma: float) -> np.ndarray:
    """Gaussian blur of float32 [H, W] or [H, W, C]; what lies beyond the border is like the border."""
    if sigma < 0.05:
        return plane
    return cv2.GaussianBlur(plane, (0, 0), sigma, borderType=cv2.BORDER_REPLICATE)


def _distance(region: np.ndarray) -> np.ndarray:
    """From each pixel to the nearest of the region, px, float32 [H, W]; the picture's border is none."""
    if not region.any():
        return np.full(region.shape, np.inf, np.float32)
    return cv2.distanceTransform((~region).astype(np.uint8), cv2.DIST_L2, 5)


def _closed(region: np.ndarray, radius: float) -> np.ndarray:
    return (_distance(_distance(region) > radius) > radius) | region


def _opened(region: np.ndarray, radius: float) -> np.ndarray:
    return _distance(_distance(~region) > radius) <= radius


def _filled(region: np.ndarray) -> np.ndarray:
    """A region with its holes: all that the ground beyond the border does not reach over pixels that share a side."""
    ground = np.pad((~region).astype(np.uint8), 1, constant_values=1)
    cv2.floodFill(ground, None, (0, 0), 2)
    return ground[1:-1, 1:-1] != 2


def _largest(region: np.ndarray, count: int) -> np.ndarray:
    """Only the `count` largest connected parts of a bool [H, W] (8-connected)."""
    found, labels, facts, _ = cv2.connectedComponentsWithStats(region.astype(np.uint8), connectivity=8)
    if found - 1 <= count:
        return region
    keep = np.zeros(found, dtype=bool)
    keep[1 + np.argsort(-facts[1:, cv2.CC_STAT_AREA], kind="stable")[:count]] = True
    return keep[labels]


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
