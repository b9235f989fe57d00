"""Where the mask goes on the face, the transforms that take it there, and the resampling.

*Convention.* Points are (x, y) in pixels, pixel centres at integers, origin top left, y down; arrays of points are
float64 [N, 2]. A *mapping* is any callable [N, 2] → [N, 2]. The warp is pulled, not pushed: a mapping takes places of
the photograph to places of the template, so each pixel of the photograph asks for its colour and no hole can appear.
Landmarks are the 68 iBUG points; "left" is the picture's left.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import torch
import torch.nn.functional as F

Mapping = Callable[[np.ndarray], np.ndarray]


# --- the face ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Wear:
    """Where a way of wearing puts the mask's edges. upper: the two landmarks between which the middle of the upper edge
    lies, and how far along. jaw: places along the jaw (landmark numbers, fractions in between) of corner, side, lower
    and bottom point, right side of the iBUG numbering mirrored. off: how far they and the chin stand off the face, as a
    share of their distance from its middle. raised: how much of the way from the chin to the lower lip the lower edge
    lies up. corner_off: the corner's own."""

    upper: tuple[int, int, float]
    jaw: tuple[float, float, float, float]
    off: tuple[float, float, float, float]
    raised: float = 0.0


# The first follows MaskedFace-Net's correctly worn mask; the others are its three ways of wearing one badly, named by
# what is still covered (cabani2021maskedface, Fig. 2). It gives no coordinates: these were chosen by eye.
WEAR_TYPES = {
    "Mask": _Wear((28, 29, 0.2), (1.45, 3, 4.5, 6.5), (0.01, 0.025, 0.05, 0.065)),
    "Mask_Nose_Mouth": _Wear((28, 29, 0.2), (1.30, 2.3, 3.4, 5.3), (0.01, 0.015, 0.0, 0.0), raised=0.55),
    "Mask_Mouth_Chin": _Wear((33, 51, 0.45), (3.10, 4.1, 5.2, 6.7), (0.01, 0.035, 0.08, 0.12)),
    "Mask_Chin": _Wear((57, 8, 0.45), (4.30, 5.0, 5.9, 7.0), (0.03, 0.10, 0.22, 0.34)),
}


def mask_points(landmarks: np.ndarray, wear: str = "Mask") -> np.ndarray:
    """The twelve places on a face where the mask's key points go: float64 [12, 2], in the order of `KEY_POINTS`.

    landmarks: [68, 2] px. wear: one of `WEAR_TYPES`. Worn as it should be, the upper edge crosses the nose bridge
    (landmarks 28 to 29), the sides follow the jaw from points 1 to 2 (15 to 14), the lower edge passes a little under
    the chin (8). CMFD matches twelve points as well, but does not say which; these were chosen by looking at
    photographs.
    """
    p, way = np.asarray(landmarks, dtype=np.float64), WEAR_TYPES[wear]

    def between(i: int, j: int, part: float) -> np.ndarray:
        return p[i] + part * (p[j] - p[i])

    def jaw(place: float, mirrored: bool) -> np.ndarray:
        i = int(place)
        return between(16 - i, 15 - i, place - i) if mirrored else between(i, i + 1, place - i)

    bridge = between(*way.upper)
    corner, *sides = way.jaw
    top_left, top_right = jaw(corner, False), jaw(corner, True)
    sag = 0.025 * (p[8] - p[28])
    upper = [top_left, (top_left + bridge) / 2 + sag, bridge, (top_right + bridge) / 2 + sag, top_right]
    # Cloth stands off the jaw by a little, and reaches under the chin.
    centre = (between(28, 29, 0.2) + p[8]) / 2
    order = [*((k, True) for k in range(3)), (3, True), *((k, False) for k in (2, 1, 0))]
    lower = []
    for k, mirrored in order:
        q = p[8] if k == 3 else jaw(sides[k], mirrored)
        lower.append(q + way.off[k] * (q - centre) + way.raised * (0.15, 0.45, 1.0, 1.0)[k] * (p[57] - p[8]))
    # On a turned head the nose and the lips stand out beyond the far jaw; the sides pass outside of them.
    across = (top_right - top_left) / max(float(np.linalg.norm(top_right - top_left)), 1e-9)
    room = 0.08 * float((top_right - top_left) @ across)
    for right, left, inside in ((0, 6, p[30:31]), (1, 5, p[48:60])):
        lower[right] = lower[right] + max(0.0, room + float(((inside - lower[right]) @ across).max())) * across
        lower[left] = lower[left] - max(0.0, room + float(((lower[left] - inside) @ across).max())) * across
    return np.stack(upper + lower)


def six_points(landmarks: np.ndarray) -> np.ndarray:
    """MaskTheFace's six places on a face: float64 [6, 2], in the order of `SIX_POINTS`.

    The lines through the nose's tip (30) and the lower lip (57), parallel to the line of the eyes, meet the jaw on both
    sides; the middle of the bridge (28) and the chin (8) complete them. landmarks: [68, 2] px.
    """
    p = np.asarray(landmarks, dtype=np.float64)
    axis = p[42:48].mean(axis=0) - p[36:42].mean(axis=0)
    axis = axis / max(float(np.linalg.norm(axis)), 1e-9)
    down = np.array([-axis[1], axis[0]])

    def cut(through: np.ndarray, points: np.ndarray) -> np.ndarray:
        height = (points - through) @ down  # grows along the jaw from the ear to the chin
        k = int(np.clip(np.searchsorted(np.maximum.accumulate(height), 0.0), 1, len(points) - 1))
        span = height[k] - height[k - 1]
        return points[k - 1] + (np.clip(-height[k - 1] / span, 0, 1) if span > 1e-9 else 0.5) * (
            points[k] - points[k - 1]
        )

    left, right = p[:9], p[16:7:-1]
    nose, lip = (tuple(cut(p[k], side) for side in (left, right)) for k in (30, 57))
    return np.stack([nose[0], p[28], nose[1], lip[0], p[8], lip[1]])


def eye_distance(landmarks: np.ndarray) -> float:
    """Distance between the middles of the two eyes, px. landmarks: [68, 2]."""
    return float(np.linalg.norm(landmarks[42:48].mean(axis=0) - landmarks[36:42].mean(axis=0)))


# --- transforms -------------------------------------------------------------------------------------------------------


def _normaliser(points: np.ndarray) -> np.ndarray:
    """The similarity [3, 3] that brings points to mean 0 and mean distance √2 (Hartley's conditioning)."""
    centre = points.mean(axis=0)
    distance = np.linalg.norm(points - centre, axis=1).mean()
    if not np.isfinite(distance) or distance < 1e-9:
        raise ValueError("cannot fit a transform: the points are not finite or all in one place")
    s = np.sqrt(2) / distance
    return np.array([[s, 0, -s * centre[0]], [0, s, -s * centre[1]], [0, 0, 1]])


def apply_homography(matrix: np.ndarray, points: np.ndarray) -> np.ndarray:
    """Points [N, 2] through a homography [3, 3]: float64 [N, 2]."""
    q = np.asarray(points, dtype=np.float64) @ matrix[:, :2].T + matrix[:, 2]
    return q[:, :2] / q[:, 2:]


def fit_homography(source: np.ndarray, target: np.ndarray) -> np.ndarray:
    """The homography float64 [3, 3] with source → target, by the normalised direct linear transform, least squares.

    source, target: [N, 2], N ≥ 4. The last element is 1. Raises ValueError for points that determine none.
    """
    source, target = np.asarray(source, np.float64), np.asarray(target, np.float64)
    if source.shape != target.shape or source.ndim != 2 or len(source) < 4:
        raise ValueError(f"homography: expected two arrays [N ≥ 4, 2], got {source.shape} and {target.shape}")
    a, b = _normaliser(source), _normaliser(target)
    x, y = apply_homography(a, source), apply_homography(b, target)
    one, zero = np.ones((len(x), 1)), np.zeros((len(x), 3))
    homogeneous = np.hstack([x, one])
    rows = np.concatenate([
        np.hstack([homogeneous, zero, -y[:, :1] * homogeneous]),
        np.hstack([zero, homogeneous, -y[:, 1:] * homogeneous]),
    ])  # fmt: skip
    _, singular, vt = np.linalg.svd(rows)
    if singular[7] < 1e-9 * singular[0]:
        raise ValueError("homography: the points lie on a line or coincide")
    matrix = np.linalg.inv(b) @ vt[-1].reshape(3, 3) @ a
    return matrix / matrix[2, 2]


def fit_similarity(source: np.ndarray, target: np.ndarray) -> np.ndarray:
    """The similarity (scale, turn, shift) float64 [3, 3] with source → target, least squares (Umeyama 1991).

    source, target: [N, 2], N ≥ 2. Raises ValueError for points all in one place.
    """
    source, target = np.asarray(source, np.float64), np.asarray(target, np.float64)
    a, b = source - source.mean(axis=0), target - target.mean(axis=0)
    size = float((a**2).sum())
    if not np.isfinite(size) or size < 1e-12:
        raise ValueError("similarity: the points are not finite or all in one place")
    c, s = float((a * b).sum()) / size, float((a[:, 0] * b[:, 1] - a[:, 1] * b[:, 0]).sum()) / size
    if c * c + s * s < 1e-12:
        raise ValueError("similarity: the target points are all in one place")
    matrix = np.array([[c, -s, 0], [s, c, 0], [0, 0, 1.0]])
    matrix[:2, 2] = target.mean(axis=0) - matrix[:2, :2] @ source.mean(axis=0)
    return matrix


# The polygon of a mask's key points, clockwise as seen from its top left, and the triangles in it: a strip between the
# upper and the lower edge, the same on every template and face, so that it cannot come out otherwise where an edge
# bends the other way.
_POLYGON = {12: tuple(range(12)), 6: (0, 1, 2, 5, 4, 3)}
_HALF_STRIP = {12: ((0, 1, 11), (1, 10, 11), (1, 9, 10), (1, 2, 9), (2, 8, 9)), 6: ((0, 1, 5), (1, 4, 5))}
_RING = 0.15  # width of the ring around the polygon, in mask widths: no cloth of ours reaches out farther than 0.073
_RING_SHARES = (1.0, 0.5, 0.25, 0.1)  # of it, tried in turn on a face until the ring does not fold


@lru_cache(maxsize=2)
def _triangles(count: int) -> tuple[np.ndarray, np.ndarray]:
    """Corners of the triangles inside the polygon, int [count − 2, 3], and of its ring, whose point k is count + k:
    int [2 count, 3]. Mirror images of themselves."""
    top = count // 6  # of the polygon; its mirror image of k is 2 top − k
    half = np.array(_HALF_STRIP[count])
    inner = np.concatenate([half, (2 * top - half[:, ::-1]) % count])
    ring = []
    for k in range(count):
        here, after = k, (k + 1) % count
        right = (k - top) % count < count // 2
        cut = (here, count + after) if right else (after, count + here)
        ring += [(count + here, count + after, cut[0]), (cut[1], after, here)]
    return inner, np.array(ring)


def _ring(polygon: np.ndarray, width: np.ndarray | float) -> np.ndarray:
    """The polygon's points moved outwards, each by its `width`."""
    before, after = polygon - np.roll(polygon, 1, 0), np.roll(polygon, -1, 0) - polygon
    along = sum(edge / np.linalg.norm(edge, axis=1, keepdims=True).clip(1e-9) for edge in (before, after))
    along /= np.linalg.norm(along, axis=1, keepdims=True).clip(1e-9)
    return polygon + np.stack([along[:, 1], -along[:, 0]], 1) * np.reshape(width, (-1, 1))


def _areas(points: np.ndarray, triangles: np.ndarray) -> np.ndarray:
    """Twice the area of each triangle, negative where its corners run counter-clockwise as seen."""
    a, b, c = points[triangles].transpose(1, 0, 2)
    (x1, y1), (x2, y2) = (b - a).T, (c - a).T
    return x1 * y2 - y1 * x2


def fit_triangles(source: np.ndarray, target: np.ndarray) -> Mapping:
    """The piecewise affine mapping source → target of a mask's key points, 12 or 6 of them, over fixed triangles.

    A ring of triangles takes in what bulges beyond the points; places farther out go far away. Raises ValueError where
    a triangle has no area or is turned over: the mask would fold or tear.
    """
    count = len(source)
    inner, ring = _triangles(count)
    own, other = (np.asarray(points, np.float64)[list(_POLYGON[count])] for points in (source, target))
    edges = [np.linalg.norm(np.roll(p, -1, 0) - p, axis=1) for p in (own, other)]
    stretch = sum(np.roll(edges[0], k) for k in (0, 1)) / sum(np.roll(edges[1], k) for k in (0, 1)).clip(1e-9)
    width = _RING * float(np.ptp(other[:, 0]))
    corners = np.concatenate([inner, ring])
    there = np.concatenate([other, _ring(other, width)])
    for share in _RING_SHARES:
        here = np.concatenate([own, _ring(own, share * width * stretch)])
        areas = _areas(here, corners)
        if (areas > 1e-9 * areas.max()).all() and (_areas(there, corners) > 0).all():
            break
    else:
        raise ValueError("the triangles between the key points would fold")
    # Affine coordinates of a place in each triangle; the triangle that it lies in has none below 0.
    matrices = np.linalg.inv(np.concatenate([here[corners], np.ones((len(corners), 3, 1))], 2)).transpose(2, 1, 0)
    affine = np.einsum("kdt,tkc->tdc", matrices, there[corners])  # [T, 3, 2]

    def mapped(points: np.ndarray) -> np.ndarray:
        points = np.asarray(points, np.float64)
        places = np.concatenate([points, np.ones((len(points), 1))], 1)
        inside = np.minimum.reduce([places @ matrix for matrix in matrices]) >= -1e-9
        which = inside.argmax(axis=1)  # the first: cloth goes before the ring
        out = np.einsum("nd,ndc->nc", places, affine[which])
        return np.where(inside.any(axis=1)[:, None], out, -1e6)

    return mapped


@dataclass(frozen=True)
class ThinPlateSpline:
    """A fitted thin-plate spline; call it with points [N, 2] to map them. Made by `fit_tps`."""

    frame: np.ndarray  # [3, 3] similarity into the frame where it was fitted
    centres: np.ndarray  # [N, 2] in that frame
    weights: np.ndarray  # [N, 2] of the kernels
    affine: np.ndarray  # [3, 2]: offset, x, y

    def __call__(self, points: np.ndarray) -> np.ndarray:
        q = apply_homography(self.frame, points)
        return _kernel(q, self.centres) @ self.weights + self.affine[0] + q @ self.affine[1:]


def _kernel(points: np.ndarray, centres: np.ndarray) -> np.ndarray:
    """r² log r² between points [M, 2] and centres [N, 2]: [M, N]."""
    squared = ((points[:, None] - centres) ** 2).sum(axis=-1)
    return squared * np.log(np.maximum(squared, 1e-300))


def fit_tps(source: np.ndarray, target: np.ndarray, stiffness: float = 0.0) -> ThinPlateSpline:
    """The thin-plate spline with source → target (Bookstein 1989).

    source, target: [N, 2], N ≥ 3. stiffness 0 interpolates the points; larger values trade fit for less bending,
    towards the least-squares affine map (points are scaled to unit size first, so it means the same at any size).
    Raises ValueError for points that determine none.
    """
    source, target = np.asarray(source, np.float64), np.asarray(target, np.float64)
    if source.shape != target.shape or source.ndim != 2 or len(source) < 3:
        raise ValueError(f"thin-plate spline: expected two arrays [N ≥ 3, 2], got {source.shape} and {target.shape}")
    frame = _normaliser(source)
    centres = apply_homography(frame, source)
    n = len(centres)
    polynomial = np.hstack([np.ones((n, 1)), centres])
    system = np.zeros((n + 3, n + 3))
    system[:n, :n] = _kernel(centres, centres) + stiffness * np.eye(n)
    system[:n, n:], system[n:, :n] = polynomial, polynomial.T
    if np.linalg.cond(system) > 1e12:
        raise ValueError("thin-plate spline: points coincide or lie on a line")
    solution = np.linalg.solve(system, np.vstack([target, np.zeros((3, 2))]))
    return ThinPlateSpline(frame, centres, solution[:n], solution[n:])


# --- grids and resampling ---------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class CoarseGrid:
    """A mapping sampled on a coarse lattice over a window of the photograph.

    A spline is costly per pixel and very smooth, so it is evaluated at nodes and interpolated linearly between them.
    nodes: float64 [3, n, m]: template x, template y, and log2 of template pixels per photograph pixel (its mean over
    directions). jacobian: float64 [n, m], the determinant of the mapping's derivative; negative where it folds.
    window: (x, y, w, h) px, whole numbers.
    """

    nodes: np.ndarray
    jacobian: np.ndarray
    window: tuple[int, int, int, int]

    def rows(self, start: int, stop: int) -> torch.Tensor:
        """The nodes' three channels at every pixel of the window's rows start…stop−1: float32 [3, stop − start, w]."""
        _, n, m = self.nodes.shape
        _, _, w, h = self.window
        across, down = _hat_weights(np.arange(w), w, m), _hat_weights(np.arange(start, stop), h, n)
        dense = torch.from_numpy(self.nodes).float() @ torch.from_numpy(across).float().T
        return torch.from_numpy(down).float() @ dense


def _hat_weights(at: np.ndarray, length: int, nodes: int) -> np.ndarray:
    """Weights [len(at), nodes] of linear interpolation at pixels `at` between nodes spread evenly over 0…length−1."""
    place = at * ((nodes - 1) / max(length - 1, 1))
    return np.clip(1 - np.abs(place[:, None] - np.arange(nodes)), 0, None)


def coarse_grid(mapping: Mapping, window: tuple[int, int, int, int], nodes: int = 65) -> CoarseGrid:
    """Sample a mapping (photograph → template) over a window (x, y, w, h) px of the photograph."""
    x, y, w, h = window
    xs, ys = np.linspace(x, x + max(w - 1, 1), nodes), np.linspace(y, y + max(h - 1, 1), nodes)
    lattice = np.stack(np.meshgrid(xs, ys), axis=-1)
    mapped = mapping(lattice.reshape(-1, 2)).reshape(nodes, nodes, 2)
    d_dy, d_dx = np.gradient(mapped, ys, xs, axis=(0, 1))
    jacobian = d_dx[..., 0] * d_dy[..., 1] - d_dx[..., 1] * d_dy[..., 0]
    stretch = np.log2(np.maximum((d_dx**2 + d_dy**2).sum(axis=-1) / 2, 1e-12)) / 2
    return CoarseGrid(np.stack([mapped[..., 0], mapped[..., 1], stretch]), jacobian, window)


def pyramid(picture: torch.Tensor, levels: int = 7) -> list[torch.Tensor]:
    """Halve a picture [1, C, h, w] float up to `levels` times by 2 × 2 means, while both sides stay even."""
    out = [picture]
    while len(out) < levels and out[-1].shape[-1] % 2 == 0 and out[-1].shape[-2] % 2 == 0:
        out.append(F.avg_pool2d(out[-1], 2))
    return out


def sample_pyramid(levels: list[torch.Tensor], places: torch.Tensor, stretch: torch.Tensor) -> torch.Tensor:
    """Look a picture up at places, prefiltered where it is made smaller (trilinear mip-mapping), 0 outside it.

    levels: from `pyramid`, [1, C, h, w]. places: float32 [B, H, W, 2], (x, y) px of level 0. stretch: float32
    [B, H, W], log2 of level-0 pixels per output pixel. Returns float32 [B, C, H, W].
    """
    h, w = levels[0].shape[-2:]
    # From pixel centres at integers to grid_sample's range, where −1 and 1 are the outer edges of the border pixels.
    grid = (2 * places + 1) / torch.tensor([w, h], dtype=places.dtype) - 1
    level = stretch.clamp(0, len(levels) - 1)
    first, last = int(level.min()), int(level.max().ceil())
    out = torch.zeros(len(places), levels[0].shape[1], *places.shape[1:3])
    for k in range(first, last + 1):
        weight = (1 - (level - k).abs()).clamp_min(0)
        picture = levels[k].expand(len(places), -1, -1, -1)
        found = F.grid_sample(picture, grid, mode="bilinear", padding_mode="zeros", align_corners=False)
        out += weight[:, None] * found
    return out
