"""Head pose from landmarks, and the way from a photograph to the frontal plane of the generic face.

A mask's template is a front view. On a turned head each pixel of the photograph is traced back onto the mask's surface
(a sheet over the generic face, or a cup or beak in front of it), and the place where it meets it says which pixel of
the front view it shows. So the far side disappears behind the nose and the near side comes into view, up to the yaw
where the surface ends.

*Convention.* Photographs: (x, y) px, y down. Head frame: x right, y **up**, z towards the camera, units of about 10 cm
(`lib.warp.generic_face`). Yaw > 0 turns the face to the picture's right edge, pitch > 0 up, roll > 0 tips the top of
the head to the left edge; degrees; applied in the order yaw, pitch, roll.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache

import cv2
import numpy as np
import torch
import torch.nn.functional as F

from lib.warp.generic_face import X_RANGE, Y_RANGE, generic_face

# Of the 68 points those that neither age nor speech moves much: eye corners, nose, corners of the mouth, temples.
RIGID = (27, 28, 29, 30, 31, 33, 35, 36, 39, 42, 45, 48, 54)
# Points that tie the generic face to this one: the whole jaw, nose, eye corners. Not the mouth: pleats do not smile.
TIES = (*range(17), 27, 28, 29, 30, 33, 36, 39, 42, 45)
_ENDS = (0, 1, 15, 16)
# Focal length in face widths: a portrait at one to two metres. Not given; the pose hardly depends on it.
_CAMERA = np.diag([9.0, 9.0, 1.0])
_STEPS = 12  # samples along a ray
_REACH = 0.35  # head units along a ray, see `Met`
# The sheet's flanks fall evenly, about as steeply as rays do at 20° of yaw, which would meet them everywhere and
# nowhere. Below the height _FLANK, head units, they are bent down, so that a contour has one place.
_FLANK, _BEND = 0.45, 4.0
_FALL = 5.0  # how steeply a surface falls away beyond its map, head units per half map


@dataclass(frozen=True, eq=False)
class Pose:
    """rotation: float64 [3, 3], head frame → camera frame (x right, y up, z towards the camera). scale: px per head
    unit; offset: (x, y) px of the head frame's origin (weak perspective). yaw, pitch, roll: degrees."""

    rotation: np.ndarray
    scale: float
    offset: np.ndarray
    yaw: float
    pitch: float
    roll: float

    def project(self, points: np.ndarray) -> np.ndarray:
        """Head frame [..., 3] → photograph [..., 2] px."""
        return self.scale * (points @ self.rotation[:2].T) * (1, -1) + self.offset


def rotation(yaw: float, pitch: float, roll: float) -> np.ndarray:
    """Head frame → camera frame from degrees: float64 [3, 3]."""
    (cy, sy), (cp, sp), (cr, sr) = ((math.cos(math.radians(v)), math.sin(math.radians(v))) for v in (yaw, pitch, roll))
    about_y = np.array([[cy, 0, sy], [0, 1, 0], [-sy, 0, cy]])
    about_x = np.array([[1, 0, 0], [0, cp, sp], [0, -sp, cp]])
    about_z = np.array([[cr, -sr, 0], [sr, cr, 0], [0, 0, 1]])
    return about_z @ about_x @ about_y


def estimate_pose(landmarks: np.ndarray) -> Pose:
    """The head's pose from its 68 landmarks [68, 2] px, by OpenCV's solvePnP (SQPnP) on the generic face.

    Two passes: the first, from the inner face alone, says which places of the cheeks form the jaw's contour; the second
    takes the contour's ends in, which hold the pitch. On faces of the face world the mean error in yaw is 0.6° up to
    20° of yaw, 2.6° up to 40° and 3.7° up to 60°. Raises ValueError for landmarks that fit no head in front of a
    camera.
    """
    seen = np.asarray(landmarks, dtype=np.float64)
    inner, ends, face = list(RIGID), list(_ENDS), generic_face()
    width = max(np.linalg.norm(seen[16] - seen[0]), np.linalg.norm(seen[8] - seen[27]), 1e-9)
    centre = seen[inner].mean(axis=0)
    target = (seen - centre) / width
    spread = target[inner].T @ target[inner]
    if not np.isfinite(spread).all() or np.linalg.det(spread) <= 1e-4 * np.trace(spread) ** 2:
        raise ValueError("the landmarks lie on a line")
    matrix = _solve(face.landmarks[inner], target[inner])
    contour = face.jaw[ends, _contour(matrix)[ends]]
    points = np.concatenate([face.landmarks[inner], contour]).astype(np.float64)
    matrix = _solve(points, target[inner + ends])
    flat = points @ matrix[:2].T * (1, -1)  # weak perspective: scale and offset by least squares
    middle, aim = flat.mean(axis=0), target[inner + ends].mean(axis=0)
    scale = float(width * ((target[inner + ends] - aim) * (flat - middle)).sum() / ((flat - middle) ** 2).sum())
    if not scale > 0 or matrix[2, 2] <= 0:
        raise ValueError("no head pose fits the landmarks: they would show a mirrored head, or its back")
    return Pose(matrix, scale, centre + width * aim - scale * middle, *_angles(matrix))


def _solve(points: np.ndarray, seen: np.ndarray) -> np.ndarray:
    """Rotation float64 [3, 3] of head points [N, 3] seen at [N, 2], face widths, y down; ValueError where there is
    none."""
    flip = np.array([1.0, -1.0, -1.0])  # OpenCV's camera: y down, z away
    try:
        found, turn, _ = cv2.solvePnP(points * flip, seen, _CAMERA, None, flags=cv2.SOLVEPNP_SQPNP)
    except cv2.error as error:
        raise ValueError(f"no head pose fits the landmarks ({error.err})") from None
    if not found or not np.isfinite(turn).all():
        raise ValueError("no head pose fits the landmarks")
    return cv2.Rodrigues(turn)[0] * flip[:, None] * flip


def _contour(matrix: np.ndarray) -> np.ndarray:
    """Which candidate of each jaw point lies farthest out under a rotation: int [17]."""
    face = generic_face()
    outwards = face.outwards @ matrix[:2].T
    return ((face.jaw - (0, -0.35, 0.3)) @ matrix[:2].T * outwards[:, None]).sum(axis=-1).argmax(axis=1)


def _angles(m: np.ndarray) -> tuple[float, float, float]:
    """Yaw, pitch, roll in degrees of a rotation; the inverse of `rotation`."""
    # about_z @ about_x @ about_y: the middle column is about_z applied to (0, cp, −sp).
    pitch = math.asin(max(-1.0, min(1.0, -m[2, 1])))
    return math.degrees(math.atan2(-m[2, 0], m[2, 2])), math.degrees(pitch), math.degrees(math.atan2(-m[0, 1], m[1, 1]))


def project_landmarks(pose: Pose) -> np.ndarray:
    """The generic face's 68 landmarks in this pose: float64 [68, 2] px; its jaw is the contour that would be seen."""
    face = generic_face()
    points = face.landmarks.astype(np.float64)
    points[:17] = face.jaw[np.arange(17), _contour(pose.rotation)]
    return pose.project(points)


# --- surfaces ---------------------------------------------------------------------------------------------------------


def _bump(x: np.ndarray, y: np.ndarray, centre: tuple[float, float], radius: tuple[float, float], power: float = 1.0):
    """1 in the middle, 0 on and beyond an ellipse, in between like the cap of an ellipsoid to some power."""
    d = ((x - centre[0]) / radius[0]) ** 2 + ((y - centre[1]) / radius[1]) ** 2
    return np.clip(1 - d, 0, None) ** power


def _cup(x, y, sheet):  # a moulded shell: stands off the mouth, rests on cheeks and nose
    return sheet + 0.16 * _bump(x, y, (0, -0.62), (0.60, 0.62), 0.5)


def _fold(x, y, sheet):  # two welded halves: a ridge down the middle
    return sheet + 0.20 * _bump(x, y, (0, -0.60), (0.66, 0.66), 0.6) * (0.35 + 0.65 * np.exp(-np.abs(x) / 0.22))


def _beak(x, y, sheet):  # a flat bill across the mouth
    return sheet + 0.42 * np.clip(1 - np.abs(y + 0.60) / 0.50, 0, None) * np.clip(1 - (x / 0.62) ** 2, 0, None) ** 0.7


def _half(x, y, sheet):  # a rubber face piece
    return sheet + 0.20 * _bump(x, y, (0, -0.60), (0.50, 0.60), 0.6)


SURFACES: dict[str, Callable] = {
    "drape": lambda x, y, sheet: sheet,
    "cup": _cup,
    "fold": _fold,
    "beak": _beak,
    "half": _half,
}


def frontal_grid() -> tuple[np.ndarray, np.ndarray]:
    """y and x of the height maps' cells: float64 [84, 84] each, head units, y up."""
    rows, columns = generic_face().sheet.shape
    return np.meshgrid(np.linspace(*Y_RANGE[::-1], rows), np.linspace(*X_RANGE, columns), indexing="ij")


@lru_cache(maxsize=len(SURFACES))
def surface(name: str) -> torch.Tensor:
    """A mask's height map, float32 [84, 84]: z above the frontal plane, head units; layout as `GenericFace.sheet`."""
    y, x = frontal_grid()
    height = SURFACES[name](x, y, generic_face().sheet.astype(np.float64))
    height = height - _BEND * np.clip(_FLANK - height, 0, None) ** 2
    return torch.from_numpy(height.astype(np.float32))


def look_up(maps: torch.Tensor, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    """Maps [B, C, 84, 84] at places x, y [B, ...] of the frontal plane: [B, C, ...]; the border's value outside."""
    return _look_up(maps, *_in_map(x, y))


def _in_map(x: torch.Tensor, y: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Head units → [−1, 1] over the maps."""
    across, down = X_RANGE[1] - X_RANGE[0], Y_RANGE[1] - Y_RANGE[0]
    return (x - X_RANGE[0]) * (2 / across) - 1, (Y_RANGE[1] - y) * (2 / down) - 1


def _look_up(maps: torch.Tensor, gx: torch.Tensor, gy: torch.Tensor) -> torch.Tensor:
    grid = torch.stack([gx, gy], -1).flatten(1, -2).unsqueeze(1)
    return F.grid_sample(maps, grid, padding_mode="border", align_corners=True).view(*maps.shape[:2], *gx.shape[1:])


@dataclass(frozen=True, eq=False)
class Met:
    """Where rays meet a surface, in the frontal plane (y up), head units; float32 [B, n, m] each.

    Near a contour the place where a ray meets the surface changes as the square root of the distance from it, which
    cannot be interpolated between rays. What can: x, y, where the ray passes deepest under the surface, or comes
    nearest to it; under, by how much it passes under it there, negative where it misses; depth, the square of the way
    back along the ray from there to the surface, of the same sign. The place is `places(√depth)`. Where that way is
    longer than `_REACH`, x, y is a nearer place of the ray. along: float32 [B, 2], a step towards the camera in the
    frontal plane.
    """

    x: torch.Tensor
    y: torch.Tensor
    depth: torch.Tensor
    under: torch.Tensor
    along: torch.Tensor

    def places(self, back: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """x, y [B, n, m] that far back towards the camera."""
        return self.x + back * self.along[:, 0, None, None], self.y + back * self.along[:, 1, None, None]


def trace(plane: torch.Tensor, rotations: torch.Tensor, heights: torch.Tensor) -> Met:
    """Trace rays through the camera's plane onto turned surfaces.

    plane: float32 [B, n, m, 2], (x, y up) in head units, through the head frame's origin. rotations: float32 [B, 3, 3].
    heights: float32 [B, 1, 84, 84] (`surface`); beyond its border a surface falls away steeply.
    """
    base = plane[..., :1] * rotations[:, None, None, 0] + plane[..., 1:] * rotations[:, None, None, 1]  # at depth 0
    along = rotations[:, 2]  # [B, 3], the camera's direction in the head frame

    def below(at: torch.Tensor) -> torch.Tensor:
        """How far below the surface rays are at depths at [B, n, m, K], or [K]."""
        px, py, pz = (base[..., i, None] + along[:, None, None, i, None] * at for i in range(3))
        gx, gy = _in_map(px, py)
        found = _look_up(heights, gx, gy)[:, 0] - pz
        beyond = gx.abs_().sub_(1).clamp_(min=0).add_(gy.abs_().sub_(1).clamp_(min=0))
        return found.sub_(beyond, alpha=_FALL)

    pick = lambda t, k: t.gather(-1, k.unsqueeze(-1)).squeeze(-1)  # noqa: E731
    depths = torch.linspace(1.35, -0.45, _STEPS, dtype=plane.dtype, device=plane.device)
    step = float(depths[0] - depths[1])
    scan = below(depths)
    inside = scan > 0
    hits = inside.any(-1)
    first = inside.int().argmax(-1).clamp(min=1)
    f0, f1 = pick(scan, first - 1), pick(scan, first)
    hit = depths[first - 1] - step * (f0 / (f0 - f1 - 1e-9)).clamp(0, 1)
    # The deepest point lies between samples: the top of a parabola, through samples that then surround it evenly.
    middle = scan.argmax(-1).clamp(1, _STEPS - 2)
    deepest = depths[middle] - step * _top(*(pick(scan, middle + k) for k in (-1, 0, 1)))[0]
    *around, at_hit = below(torch.stack([deepest + step, deepest, deepest - step, hit], -1)).unbind(-1)
    shift, under, bend = _top(*around)
    deepest, depth = deepest - step * shift, under / bend * step**2
    # One step of Newton's for the hit; close to the contour the parabola knows better.
    hit = hit + (at_hit * step / (f1 - f0).clamp(min=0.05)).clamp(-0.5 * step, 0.5 * step)
    back = depth.clamp(min=0).sqrt()
    away = ((back - 0.1) / 0.15).clamp(0, 1)
    back = torch.where(hits, torch.lerp(back, (hit - deepest).clamp(min=0), away), back)
    nearer = (back - _REACH).clamp(min=0)
    depth = torch.where(depth > 0, (back - nearer).square(), depth.clamp(min=-(_REACH**2)))
    x, y = (base[..., i] + along[:, None, None, i] * (deepest + nearer) for i in range(2))
    return Met(x, y, depth, under, along[:, :2])


def _top(before: torch.Tensor, here: torch.Tensor, after: torch.Tensor) -> tuple[torch.Tensor, ...]:
    """The parabola through three even samples: where its top lies (−1 … 1 steps), its height, how it bends."""
    bend = (here - (before + after) / 2).clamp(min=2e-3)
    shift = ((after - before) / (4 * bend)).clamp(-1, 1)
    return shift, here + bend * shift * shift, bend
