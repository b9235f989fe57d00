"""Distance-field toolbox: smooth unions, ellipsoids, capsules, profiles, value noise.

Everything is elementwise on float32 tensors [B, N]. Shapes are evaluated one by one rather than stacked, because a
temporary of one shape fits the cache and a stack of twelve does not (measured: three times faster on a CPU).
"""

import math
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

NUMBER = float | Tensor


def smooth_min(a: Tensor, b: Tensor, k: float) -> Tensor:
    """Union of two distances with a fillet of radius ~k (quadratic polynomial smooth minimum)."""
    fillet = torch.sub(a, b).abs_().neg_().add_(k).clamp_(min=0).square_()
    return torch.minimum(a, b).sub_(fillet, alpha=0.25 / k)


def smooth_max(a: Tensor, b: Tensor, k: float) -> Tensor:
    """Intersection with a fillet of radius ~k; `smooth_max(a, -b, k)` cuts b out of a."""
    fillet = torch.sub(a, b).abs_().neg_().add_(k).clamp_(min=0).square_()
    return torch.maximum(a, b).add_(fillet, alpha=0.25 / k)


def smoothstep(lo: NUMBER, hi: NUMBER, x: Tensor) -> Tensor:
    """0 at `lo`, 1 at `hi` (also with lo > hi), cubic in between."""
    t = torch.sub(x, lo).mul_(1 / (hi - lo)).clamp_(0, 1)
    return (3 - 2 * t).mul_(t).mul_(t)


def gauss(x: Tensor, sigma: NUMBER) -> Tensor:
    """exp(-(x / sigma)²): a bump of height 1."""
    return torch.mul(x, 1 / sigma).square_().neg_().exp_()


class Ellipsoid(NamedTuple):
    """Ellipsoid stored as scale (1 / radius) and shift (-centre / radius) per axis; entries are floats or [B, 1]."""

    scale: tuple[NUMBER, NUMBER, NUMBER]
    shift: tuple[NUMBER, NUMBER, NUMBER]

    def distance(self, x: Tensor, y: Tensor, z: Tensor) -> Tensor:
        """First-order distance: |q| (|q| - 1) / |gradient|, with q the point in units of the radii."""
        unit = [torch.mul(v, s).add_(t) for v, s, t in zip((x, y, z), self.scale, self.shift)]
        q = torch.square(unit[0]).addcmul_(unit[1], unit[1]).addcmul_(unit[2], unit[2])
        slope = [u.mul_(s) for u, s in zip(unit, self.scale)]
        grad = slope[0].square_().addcmul_(slope[1], slope[1]).addcmul_(slope[2], slope[2]).add_(1e-7).rsqrt_()
        return torch.sub(q, q.sqrt()).mul_(grad)


def ellipsoid(centre: tuple[NUMBER, NUMBER, NUMBER], radius: tuple[NUMBER, NUMBER, NUMBER]) -> Ellipsoid:
    """Ellipsoid from centre and half axes."""
    return Ellipsoid(tuple(1 / r for r in radius), tuple(-c / r for c, r in zip(centre, radius)))


class Capsule(NamedTuple):
    """Tapered capsule: a point a, the axis u to the other end, 1 / |u|², radius at a and its growth along u."""

    a: tuple[NUMBER, NUMBER, NUMBER]
    u: tuple[NUMBER, NUMBER, NUMBER]
    inverse_length2: NUMBER
    radius: NUMBER
    growth: NUMBER

    def distance(self, x: Tensor, y: Tensor, z: Tensor) -> Tensor:
        rel = [torch.sub(v, a) for v, a in zip((x, y, z), self.a)]
        h = torch.mul(rel[0], self.u[0])
        for r, u in zip(rel[1:], self.u[1:]):
            h.add_(r * u)
        h.mul_(self.inverse_length2).clamp_(0, 1)
        for r, u in zip(rel, self.u):
            r.sub_(h * u)
        d = rel[0].square_().addcmul_(rel[1], rel[1]).addcmul_(rel[2], rel[2]).sqrt_()
        return d.sub_(h.mul_(self.growth)).sub_(self.radius)


def capsule(a: tuple, b: tuple, radius_a: NUMBER, radius_b: NUMBER) -> Capsule:
    """Tapered capsule between the points a and b."""
    u = tuple(q - p for p, q in zip(a, b))
    return Capsule(tuple(a), u, 1 / (u[0] * u[0] + u[1] * u[1] + u[2] * u[2]), radius_a, radius_b - radius_a)


_LATTICE = np.random.default_rng(7).random(4096).astype(np.float32)  # one hash for every device: bit-stable noise
_LATTICE_ON: dict[torch.device, Tensor] = {}


def value_noise(x: Tensor, y: Tensor) -> Tensor:
    """Two-dimensional lattice value noise in [0, 1], smooth, one cell per unit."""
    if x.device not in _LATTICE_ON:
        _LATTICE_ON[x.device] = torch.from_numpy(_LATTICE).to(x.device)
    lattice = _LATTICE_ON[x.device]
    cell_x, cell_y = x.floor(), y.floor()
    fx, fy = x - cell_x, y - cell_y
    fx, fy = fx * fx * (3 - 2 * fx), fy * fy * (3 - 2 * fy)
    cell = (cell_x + 57 * cell_y).to(torch.int32)
    corner = [lattice[cell.add(offset).bitwise_and_(4095)] for offset in (0, 1, 57, 58)]
    low, high = torch.lerp(corner[0], corner[1], fx), torch.lerp(corner[2], corner[3], fx)
    return torch.lerp(low, high, fy)


def dot(a: list[Tensor], b: list[Tensor]) -> Tensor:
    """Dot product of two vectors kept as lists of three tensors."""
    return a[0] * b[0] + a[1] * b[1] + a[2] * b[2]


def mix(colour: Tensor, other: NUMBER | tuple, weight: Tensor) -> Tensor:
    """`colour` [B, N, 3] moved towards `other` ([B, 1, 3], [B, N, 3] or three numbers) by `weight` [B, N]."""
    if isinstance(other, tuple):
        other = colour.new_tensor(other)
    return colour + (other - colour) * weight.unsqueeze(-1)


def rotation(yaw: float, pitch: float, roll: float) -> np.ndarray:
    """Head-to-world rotation [3, 3] from radians: yaw > 0 turns the face to the right edge of the picture,
    pitch > 0 tips it up, roll > 0 tips the top of the head to the left edge."""
    (cy, sy), (cp, sp), (cr, sr) = ((math.cos(v), math.sin(v)) for v in (yaw, pitch, roll))
    about_y = np.array([[cy, 0, sy], [0, 1, 0], [-sy, 0, cy]])
    about_x = np.array([[1, 0, 0], [0, cp, sp], [0, -sp, cp]])
    about_z = np.array([[cr, -sr, 0], [sr, cr, 0], [0, 0, 1]])
    return about_z @ about_x @ about_y
