"""A template laid on the generic face, seen from the front: worked out once for each template and way of wearing.

*Convention.* The frontal plane is used with y **down**, as (x, −y) of the head frame (`lib.warp.face3d`), so that it is
a picture like any other. Template coordinates are in [−1, 1] over its canvas, the outer edges of its border pixels
(`grid_sample` without aligned corners), so they do not depend on the size at which the template is drawn.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import torch

from lib.warp import face3d, geometry
from lib.warp.generic_face import generic_face
from lib.warp.sheet import Template, key_points

PATH = 8  # points of a strap
_AXIS = 0.06  # z of an upright axis inside the head that straps run around, head units
# A worn mask differs from the flat one's goals: it dips beside the nose, reaches farther round the cheek and under the
# chin. Head units, in the order of KEY_POINTS; fitted to 96 truly worn masks of the face world, by coordinate descent.
_HALF_SHIFT = {
    "corner": (0, 0.05),
    "quarter": (0, 0.08),
    "bridge": (0, 0.02),
    "side": (0.04, 0),
    "lower": (0.02, 0.06),
    "bottom": (0.04, 0.04),
    "chin": (0, 0.05),
}
_ON_HEAD = np.array(
    [(-x, y) for x, y in map(_HALF_SHIFT.get, ("corner", "quarter"))]
    + [_HALF_SHIFT[k] for k in ("bridge", "quarter", "corner", "side", "lower", "bottom", "chin")]
    + [(-x, y) for x, y in map(_HALF_SHIFT.get, ("bottom", "lower", "side"))]
)


@dataclass(frozen=True, eq=False)
class FrontalFit:
    """A template on the generic face, seen from the front. tps: frontal plane → template coordinates; goals: float64
    [12, 2], its key points there; table: float32 [3, 84, 84], the surface's height (y up) and the template's
    coordinates over the frontal plane, laid out as `GenericFace.sheet`. cloth: float64 [N, 3], head-frame points spread
    over the cloth; straps: float64 [k, 8, 3], their paths; normals: float64 [k, 3], the side of the head they run on.
    """

    tps: geometry.ThinPlateSpline
    goals: np.ndarray
    table: torch.Tensor
    cloth: np.ndarray
    straps: np.ndarray
    normals: np.ndarray


@lru_cache(maxsize=1)
def frontal_landmarks() -> np.ndarray:
    """The generic face seen from the front, in the frontal plane (y down): float64 [68, 2]."""
    pose = face3d.Pose(np.eye(3), 1.0, np.zeros(2), 0.0, 0.0, 0.0)
    return face3d.project_landmarks(pose)


def goals_of(landmarks: np.ndarray, count: int, wear: str) -> np.ndarray:
    """Where a template's 12 or 6 key points go on a face."""
    return geometry.mask_points(landmarks, wear) if count == 12 else geometry.six_points(landmarks)


def to_unit(points: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    """Template px → [−1, 1]."""
    return (2 * np.asarray(points, np.float64) + 1) / (shape[1], shape[0]) - 1


@lru_cache(maxsize=64)
def fit_frontal(mask: Template, wear: str = "Mask") -> FrontalFit:
    """Lay a template on the generic face, worn in one of `geometry.WEAR_TYPES`."""
    shape = mask.rgba.shape[:2]
    points = to_unit(mask.points, shape)
    if len(points) == 6:
        points = _twelve(points)
    goals = geometry.mask_points(frontal_landmarks(), wear)
    if wear == "Mask":
        goals = goals + _ON_HEAD
    back, tps = geometry.fit_tps(points, goals), geometry.fit_tps(goals, points)
    rows, columns = np.nonzero(mask.rgba[..., 3] > 127)
    edge = np.concatenate([_extremes(rows, columns), _extremes(columns, rows)[:, ::-1]])
    middle = np.stack([columns, rows], 1)[np.linspace(0, len(rows) - 1, 14).astype(int)]
    height = face3d.surface(mask.surface)

    def lift(places: np.ndarray) -> np.ndarray:
        x, y = torch.from_numpy(places.astype(np.float32)).unbind(-1)
        z = face3d.look_up(height[None, None], x[None], -y[None])[0, 0].numpy()
        return np.column_stack([places[:, 0], -places[:, 1], z])

    y, x = (v.ravel() for v in face3d.frontal_grid())
    table = torch.from_numpy(tps(np.stack([x, -y], 1)).T.reshape(2, *height.shape)).float()
    starts = np.array([strap.start for strap in mask.straps], np.float64).reshape(-1, 2)
    ends = [_strap_end(strap) for strap in mask.straps]
    paths = [_around(start, end) for start, end in zip(lift(back(to_unit(starts, shape))), ends, strict=True)]
    normals = [(math.copysign(0.97, end[0]), 0.0, 0.25) for end in ends]
    return FrontalFit(
        tps,
        goals,
        torch.cat([height[None], table]),
        lift(back(to_unit(np.concatenate([edge, middle]), shape))),
        np.array(paths).reshape(-1, PATH, 3),
        np.array(normals).reshape(-1, 3),
    )


def _twelve(six: np.ndarray) -> np.ndarray:
    """The twelve key points of a template that has six: float64 [12, 2]. A flat mask of usual form (`HALF_OUTLINE`) has
    both; the affine map, least squares, that brings its six to these brings its twelve along.

    So stripes run over the face as they do on every other mask; a spline through the six alone bent them where those
    lie apart from an average mask's. The bridge and the chin are met best: a mask covers nose and chin whatever its
    sides do.
    """
    front, flat = frontal_landmarks(), key_points()
    own = geometry.fit_tps(geometry.mask_points(front) + _ON_HEAD, flat)(geometry.six_points(front))
    weights = np.array([1.0, 3, 1, 1, 3, 1])[:, None]
    affine = np.linalg.lstsq(weights * np.column_stack([own, np.ones(6)]), weights * six, rcond=None)[0]
    return np.column_stack([flat, np.ones(12)]) @ affine


def _around(start: np.ndarray, end: np.ndarray) -> np.ndarray:
    """A way from one place of the head to another around an upright axis inside it: float64 [8, 3]. One to the back of
    the head goes up first, to pass the ear."""
    ends = np.stack([start, end])
    angle, radius = np.arctan2(ends[:, 0], ends[:, 2] - _AXIS), np.hypot(ends[:, 0], ends[:, 2] - _AXIS)
    along = np.linspace(0, 1, PATH)
    rise = along if end[2] > 0 else along**0.6
    angle, radius = (v[0] + along * (v[1] - v[0]) for v in (angle, radius))
    up = start[1] + rise * (end[1] - start[1])
    return np.column_stack([radius * np.sin(angle), up, radius * np.cos(angle) + _AXIS])


def in_view(paths: np.ndarray, towards: np.ndarray) -> np.ndarray:
    """Straps up to where they go behind the head: float64 [k, 8, 3].

    paths: `FrontalFit.straps`. towards: float64 [3], the camera's direction in the head frame. One that begins behind
    the head stays as it is.
    """
    facing = paths[..., 0] * towards[0] + (paths[..., 2] - _AXIS) * towards[2]
    behind = facing < 0
    cut = behind.any(axis=1) & ~behind[:, 0]
    if not cut.any():
        return paths
    rows, last = np.arange(len(paths)), behind.argmax(axis=1)
    before, after = facing[rows, last - 1], facing[rows, last]
    end = np.where(cut, last - after / np.where(cut, after - before, 1), PATH - 1)
    at = end[:, None] * np.linspace(0, 1, PATH)
    step = np.minimum(at.astype(int), PATH - 2)
    share = (at - step)[..., None]
    return (1 - share) * paths[rows[:, None], step] + share * paths[rows[:, None], step + 1]


def _extremes(along: np.ndarray, across: np.ndarray) -> np.ndarray:
    """For nine values of `along` the smallest and largest `across`: [18, 2] as (across, along)."""
    out = []
    for value in np.linspace(along.min(), along.max(), 9).round().astype(int):
        row = across[along == value]
        out += [(row.min(), value), (row.max(), value)] if len(row) else []
    return np.array(out, dtype=np.float64).reshape(-1, 2)


def _strap_end(strap) -> np.ndarray:
    ears = generic_face().ears.astype(np.float64)
    side = 0 if strap.side == "left" else 2
    top, bottom = ears[side], ears[side + 1]
    return {
        "ear_top": top,
        "ear_bottom": bottom,
        "crown": top * (0.66, 0, 0) + (0, 0.28, -0.36),  # above the ear, to the back of the head
        "nape": top * (0.64, 0, 0) + (0, -0.32, -0.34),  # below it
    }[strap.to]


def spline_at(tps: geometry.ThinPlateSpline, places: torch.Tensor) -> torch.Tensor:
    """`tps` at float32 places [N, 2]."""
    frame, centres, weights, affine = (
        torch.from_numpy(a).float() for a in (tps.frame, tps.centres, tps.weights, tps.affine)
    )
    q = places @ frame[:2, :2].T + frame[:2, 2]
    squared = (q[:, None] - centres).square().sum(-1)
    return (squared * (squared + 1e-30).log()) @ weights + affine[0] + q @ affine[1:]
