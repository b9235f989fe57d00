"""Where the mask goes on the face, the transforms that take it there, and the resampling.

*Convention.* Points are (x, y) in pixels, pixel centres at integers, origin top left, y down; arrays of points are
float64 [N, 2]. A *mapping* is any callable [N, 2] → [N, 2]. The warp is pulled, not pushed: a mapping takes places of
the photograph to places of the template, so each pixel of the photograph asks for its colour and no hole can appear.
Landmarks are the 68 iBUG points; "left" is the picture's left.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F

Mapping = Callable[[np.ndarray], np.ndarray]


# --- the face ---------------------------------------------------------------------------------------------------------


def mask_points(landmarks: np.ndarray) -> np.ndarray:
    """The twelve places on a face where the mask's key points go: float64 [12, 2], in the order of `KEY_POINTS`.

    landmarks: [68, 2] px. The upper edge crosses the nose bridge (landmarks 28 to 29), the sides follow the jaw from
    points 1 to 2 (15 to 14), the lower edge passes a little under the chin (8). CMFD matches twelve points as well, but
    does not say which; these were chosen by looking at photographs.
    """
    p = np.asarray(landmarks, dtype=np.float64)

    def between(i: int, j: int, part: float) -> np.ndarray:
        return p[i] + part * (p[j] - p[i])

    bridge = between(28, 29, 0.2)
    top_left, top_right = between(1, 2, 0.45), between(15, 14, 0.45)
    sag = 0.025 * (p[8] - bridge)
    upper = [top_left, (top_left + bridge) / 2 + sag, bridge, (top_right + bridge) / 2 + sag, top_right]
    jaw = [p[13], between(12, 11, 0.5), between(10, 9, 0.5), p[8], between(6, 7, 0.5), between(4, 5, 0.5), p[3]]
    # Cloth stands off the jaw by a little, and reaches under the chin.
    off = (0.01, 0.025, 0.05, 0.065, 0.05, 0.025, 0.01)
    centre = (bridge + p[8]) / 2
    lower = [q + share * (q - centre) for q, share in zip(jaw, off, strict=True)]
    # On a turned head the nose and the lips stand out beyond the far jaw; the sides pass outside of them.
    across = (top_right - top_left) / max(float(np.linalg.norm(top_right - top_left)), 1e-9)
    room = 0.08 * float((top_right - top_left) @ across)
    for right, left, inside in ((0, 6, p[30:31]), (1, 5, p[48:60])):
        lower[right] = lower[right] + max(0.0, room + float(((inside - lower[right]) @ across).max())) * across
        lower[left] = lower[left] - max(0.0, room + float(((lower[left] - inside) @ across).max())) * across
    return np.stack(upper + lower)


def eye_distance(landmarks: np.ndarray) -> float:
    """Distance between the middles of the two eyes, px. landmarks: [68, 2]."""
    return float(np.linalg.norm(landmarks[42:48].mean(axis=0) - landmarks[36:42].mean(axis=0)))


def face_turn(landmarks: np.ndarray) -> float:
    """How far the head is turned, in [−1, 1] for a plausible face: 0 frontal, positive when the nose points to the
    picture's right.

    It is (a − b) / (a + b) with a, b the distances along the line of the eyes from the nose's tip (30) to the left and
    the right upper jaw (0–3, 13–16). Times 35 it is about the yaw in degrees, up to 30°. NaN if the jaw has no width.
    """
    p = np.asarray(landmarks, dtype=np.float64)
    axis = p[42:48].mean(axis=0) - p[36:42].mean(axis=0)
    left, right = p[0:4].mean(axis=0) @ axis, p[13:17].mean(axis=0) @ axis
    with np.errstate(divide="ignore", invalid="ignore"):
        return float((2 * p[30] @ axis - left - right) / (right - left))


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
