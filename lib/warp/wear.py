"""Put a mask on a face: draw the parameters, then apply them (step one of the paper, §3 and §4.1).

`sample_warp_params` holds all chance, `apply_warp` has none: the same picture, landmarks and parameters give the same
bytes. Parameters go through JSON unchanged.
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, fields
from functools import lru_cache

import numpy as np
import torch
from scipy.ndimage import gaussian_filter

from lib.warp import geometry
from lib.warp.templates import TEMPLATES

TRANSFORMS = ("tps", "homography")

_REFERENCE_MASK_PX = 160.0  # a mask's usual width on a 256² face, at which `feather_px` is meant
_STIFFNESS = (0.0, 0.01, 0.03, 0.1, 0.3, 1.0)  # tried in turn until the spline does not fold
_MARGIN = 0.12  # the outline may bulge beyond its twelve points by this share of their extent
_STRIP_PIXELS = 1_000_000  # a large face is computed in strips of this size, to bound the memory
_SHARPER = -0.5  # levels; mip-mapping errs towards blur


class WarpError(ValueError):
    """A mask cannot be put on this face. `reason` is one short line, fit for a list of failures."""

    def __init__(self, reason: str):
        super().__init__(reason)
        self.reason = reason


@dataclass(frozen=True)
class WarpConfig:
    """What may be drawn. None of these values is given in the paper, which used CMFD as published; each is chosen so
    that the masks stay as alike as CMFD's ("uniformly blue … with rare occasions of misplacement", §3).

    transform: "homography" is CMFD's way: one for all twelve points, least squares. "tps" bends the mask so that each
    point meets its place; the default, because frontal faces look the same with both, while on turned heads the
    homography puts the nose wire beside the nose and a corner beside the far cheek. Spreads are standard deviations;
    lengths are in mask widths.
    """

    template: str = "blue_surgical"
    transform: str = "tps"
    feather_px: float = 1.0  # softness of the edge on a 256² face; grows and shrinks with the face
    brightness: float = 0.025  # of one gain for all channels
    tint: float = 0.006  # of a further gain for each channel
    shift: float = 0.006
    rotate_deg: float = 0.7
    scale: float = 0.010
    misplaced_share: float = 0.02  # how many masks are put on carelessly
    misplaced_shift: float = 0.045
    misplaced_rotate_deg: float = 4.0
    max_turn: float = 0.8  # of `geometry.face_turn`; about 30° of yaw
    min_eye_distance_px: float = 4.0

    def __post_init__(self) -> None:
        _check_choice("template", self.template, tuple(TEMPLATES))
        _check_choice("transform", self.transform, TRANSFORMS)


@dataclass(frozen=True)
class WarpParams:
    """One drawn warp, all that `apply_warp` needs. The defaults are CMFD's plain case: no jitter at all.

    gain: factors on R, G, B. shift: (right, down) along the face's own axes in mask widths; rotate_deg: clockwise as
    seen; scale: factor; all three about the middle of the mask.
    """

    template: str = "blue_surgical"
    transform: str = "tps"
    feather_px: float = 1.0
    gain: tuple[float, float, float] = (1.0, 1.0, 1.0)
    shift: tuple[float, float] = (0.0, 0.0)
    rotate_deg: float = 0.0
    scale: float = 1.0
    misplaced: bool = False
    max_turn: float = 0.8
    min_eye_distance_px: float = 4.0

    def __post_init__(self) -> None:
        _check_choice("template", self.template, tuple(TEMPLATES))
        _check_choice("transform", self.transform, TRANSFORMS)

    def to_dict(self) -> dict:
        """Plain values only, ready for JSON."""
        return {k: list(v) if isinstance(v, tuple) else v for k, v in asdict(self).items()}

    @classmethod
    def from_dict(cls, values: dict) -> WarpParams:
        """The inverse of `to_dict`. Raises ValueError naming an unknown key or a vector of the wrong length."""
        known = {f.name for f in fields(cls)}
        if unknown := sorted(set(values) - known):
            raise ValueError(
                f"warp parameters: unknown {', '.join(unknown)}; expected some of {', '.join(sorted(known))}"
            )
        values = {k: tuple(v) if isinstance(v, list) else v for k, v in values.items()}
        for key, length in (("gain", 3), ("shift", 2)):
            if key in values and len(values[key]) != length:
                raise ValueError(f"warp parameters: {key} needs {length} numbers, got {values[key]!r}")
        return cls(**values)


@dataclass(frozen=True)
class Warped:
    """image: uint8 [H, W, 3] RGB, equal to the input wherever alpha is 0. alpha: float32 [H, W] in [0, 1], the mask's
    coverage. box: (x, y, w, h) whole pixels around alpha > 0."""

    image: np.ndarray
    alpha: np.ndarray
    box: tuple[int, int, int, int]


def _check_choice(name: str, value: str, known: tuple[str, ...]) -> None:
    if value not in known:
        raise ValueError(f"{name}: expected one of {', '.join(known)}, got {value!r}")


def sample_warp_params(rng: np.random.Generator, cfg: WarpConfig | None = None) -> WarpParams:
    """Draw one warp. Takes the same number of draws whatever comes out, so that a later draw does not depend on it."""
    cfg = cfg or WarpConfig()
    misplaced = bool(rng.random() < cfg.misplaced_share)
    normal = np.clip(rng.standard_normal(8), -2.5, 2.5)  # no outliers: a mask is never green or on the forehead
    shift_by, rotate_by = (cfg.misplaced_shift, cfg.misplaced_rotate_deg) if misplaced else (cfg.shift, cfg.rotate_deg)
    gain = (1 + cfg.brightness * normal[0]) * (1 + cfg.tint * normal[1:4])
    return WarpParams(
        template=cfg.template,
        transform=cfg.transform,
        feather_px=cfg.feather_px,
        gain=tuple(float(g) for g in gain),
        shift=tuple(float(s) for s in shift_by * normal[4:6]),
        rotate_deg=float(rotate_by * normal[6]),
        scale=float(1 + cfg.scale * normal[7]),
        misplaced=misplaced,
        max_turn=cfg.max_turn,
        min_eye_distance_px=cfg.min_eye_distance_px,
    )


def apply_warp(image: np.ndarray, landmarks: np.ndarray, params: WarpParams | None = None) -> Warped:
    """Warp a mask onto one face of a picture; call again with the result for the next face.

    image: uint8 [H, W, 3] RGB, any size. landmarks: [68, 2], (x, y) px of that image; they may lie outside it.
    params: None means no jitter. Only a window around the face is computed.

    Raises WarpError, with the reason, for landmarks that are no face, too small, turned too far or outside the picture;
    ValueError for an image of another kind. Method: cabani2021maskedface (twelve points, homography), paper §3.
    """
    params = params or WarpParams()
    if not isinstance(image, np.ndarray) or image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3:
        got = f"{image.dtype} {image.shape}" if isinstance(image, np.ndarray) else type(image).__name__
        raise ValueError(f"image: expected uint8 [H, W, 3], got {got}")
    landmarks = _check_landmarks(landmarks, params)
    goal = _place(geometry.mask_points(landmarks), params)
    window = _window(goal, image.shape[:2])

    extent = max(np.ptp(goal, axis=0))
    size = 512 if extent <= 512 else 1024 if extent <= 1024 else 2048  # never enlarged much, never far too large
    levels, points = _prepare(params.template, size, params.feather_px)
    grid = _fit(goal, points, params.transform, window, levels[0].shape[-2:])

    x, y, w, h = window
    out, alpha = image.copy(), np.zeros(image.shape[:2], np.float32)
    gain = torch.tensor(params.gain, dtype=torch.float32).view(3, 1, 1)
    strip = max(1, _STRIP_PIXELS // w)
    for start in range(0, h, strip):
        stop = min(start + strip, h)
        dense = grid.rows(start, stop)
        cloth = geometry.sample_pyramid(levels, dense[:2].permute(1, 2, 0)[None], dense[2][None] + _SHARPER)[0]
        cover = cloth[3:].clamp(0, 1)
        cover = torch.where(cover < 1 / 256, 0.0, cover)  # a trace that could not change a byte by more than one
        colour = torch.minimum(cloth[:3] * gain, cover)  # premultiplied: never brighter than white
        part = (slice(y + start, y + stop), slice(x, x + w))
        below = torch.from_numpy(out[part]).permute(2, 0, 1).float()
        mixed = (below * (1 - cover) + 255 * colour).round_().clamp_(0, 255)
        out[part] = mixed.to(torch.uint8).permute(1, 2, 0).numpy()
        alpha[part] = cover[0].numpy()

    inside = alpha[y : y + h, x : x + w] > 0
    rows, columns = np.flatnonzero(inside.any(axis=1)), np.flatnonzero(inside.any(axis=0))
    if not len(rows):
        raise WarpError("mask outside the picture")
    box = (x + columns[0], y + rows[0], columns[-1] - columns[0] + 1, rows[-1] - rows[0] + 1)
    return Warped(image=out, alpha=alpha, box=tuple(int(v) for v in box))


def _check_landmarks(landmarks: np.ndarray, params: WarpParams) -> np.ndarray:
    """float64 [68, 2], or WarpError with what is wrong."""
    landmarks = np.asarray(landmarks, dtype=np.float64)
    if landmarks.shape != (68, 2):
        raise WarpError(f"landmarks: expected 68 points (x, y), got an array of shape {landmarks.shape}")
    if not np.isfinite(landmarks).all():
        raise WarpError(f"landmarks: {int((~np.isfinite(landmarks)).any(axis=1).sum())} of 68 points are not finite")
    eyes = geometry.eye_distance(landmarks)
    if eyes < params.min_eye_distance_px:
        raise WarpError(f"face too small: the eyes are {eyes:.1f} px apart, limit {params.min_eye_distance_px:g} px")
    turn = geometry.face_turn(landmarks)
    if not abs(turn) <= params.max_turn:
        raise WarpError(f"face turned too far: {turn:+.2f}, limit {params.max_turn:g} (0 frontal, 1 profile)")
    return landmarks


def _place(goal: np.ndarray, params: WarpParams) -> np.ndarray:
    """The twelve goals after the drawn shift, turn and scale, about their middle and along the mask's own axes."""
    across = goal[4] - goal[0]
    width = np.linalg.norm(across)
    if width < 1:
        raise WarpError("landmarks: both ends of the jaw are in one place")
    axis = across / width
    axes = np.array([axis, [-axis[1], axis[0]]])
    c, s = math.cos(math.radians(params.rotate_deg)), math.sin(math.radians(params.rotate_deg))
    turn = params.scale * np.array([[c, s], [-s, c]])  # row vectors
    centre = goal.mean(axis=0)
    return (goal - centre) @ turn + centre + width * (np.asarray(params.shift) @ axes)


def _window(goal: np.ndarray, shape: tuple[int, int]) -> tuple[int, int, int, int]:
    """The part of the picture that the mask can touch, (x, y, w, h); WarpError if most of the mask lies outside."""
    low, high = goal.min(axis=0), goal.max(axis=0)
    margin = _MARGIN * (high - low).max() + 2
    left, top = np.floor(low - margin)
    right, bottom = np.ceil(high + margin)
    seen_w = min(high[0], shape[1] - 1) - max(low[0], 0)
    seen_h = min(high[1], shape[0] - 1) - max(low[1], 0)
    if seen_w <= 0 or seen_h <= 0 or seen_w * seen_h < 0.25 * np.prod(high - low):
        raise WarpError(
            f"mask outside the picture: it would span x {low[0]:.0f}…{high[0]:.0f}, y {low[1]:.0f}…{high[1]:.0f}"
        )
    x, y = int(max(left, 0)), int(max(top, 0))
    return x, y, int(min(right, shape[1] - 1)) - x + 1, int(min(bottom, shape[0] - 1)) - y + 1


def _fit(
    goal: np.ndarray, points: np.ndarray, transform: str, window: tuple[int, int, int, int], shape: tuple[int, int]
) -> geometry.CoarseGrid:
    """The mapping photograph → template as a grid over the window, checked not to fold where the template lies."""
    try:
        if transform == "homography":
            matrix = geometry.fit_homography(goal, points)
            grid = geometry.coarse_grid(lambda places: geometry.apply_homography(matrix, places), window)
            if (grid.jacobian > 0).all():  # its sign changes at the horizon, which must not cross the window
                return grid
        else:
            for stiffness in _STIFFNESS:
                grid = geometry.coarse_grid(geometry.fit_tps(goal, points, stiffness), window)
                x, y, _ = grid.nodes
                on_template = (x >= 0) & (x <= shape[1] - 1) & (y >= 0) & (y <= shape[0] - 1)
                if on_template.any() and (grid.jacobian[on_template] > 0).all():
                    return grid
    except ValueError as error:
        raise WarpError(f"landmarks: {error}") from None
    raise WarpError("landmarks: the mask would fold over itself (jaw, nose and chin are not in the order of a face)")


@lru_cache(maxsize=6)
def _prepare(name: str, size: int, feather_px: float) -> tuple[list[torch.Tensor], np.ndarray]:
    """A template as a pyramid of premultiplied float32 RGBA [1, 4, h, w] in [0, 1], its edge feathered, and its points.

    The feather is applied here, in the template's frame, so it costs nothing per face and has the same width on the
    face whatever the picture's resolution.
    """
    template = TEMPLATES[name](size)
    rgba = template.rgba.astype(np.float32) / 255
    width = float(np.ptp(template.points[:, 0]))
    alpha = gaussian_filter(rgba[..., 3], sigma=feather_px / 2 * width / _REFERENCE_MASK_PX, mode="constant")
    stacked = np.concatenate([rgba[..., :3] * alpha[..., None], alpha[..., None]], axis=-1)
    picture = torch.from_numpy(np.ascontiguousarray(stacked.transpose(2, 0, 1), dtype=np.float32))[None]
    return geometry.pyramid(picture), template.points.astype(np.float64)
