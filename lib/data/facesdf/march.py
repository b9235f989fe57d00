"""Camera, rays and sphere tracing.

Rays of B pictures are kept as [B, M] tensors padded with idle background rays, M a multiple of LANE: elementwise
kernels then never run their scalar tail, and a ray's arithmetic does not depend on which rays share its batch.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from .head import PIVOT
from .params import Shot
from .sdf import smoothstep

Field = Callable[[list[Tensor]], Tensor]
DISTANCE, HALF_FRAME = 8.0, 1.42  # camera to pivot; half the picture's side at the pivot for zoom 1 (units of 10 cm)
NEAR, FAR = DISTANCE - 1.6, DISTANCE + 1.1  # silhouettes lie well before FAR in every pose
LANE = 64
COARSE, HALF = 8, 2  # block sizes in pixels of the two stages of cone marching
TOLERANCE = 0.25  # a ray has arrived within this many pixels of the surface


@dataclass
class Rays:
    """The rays of active pixels. index: pixel [B, M]; direction: three [B, M]; origin: three [B, 1]; t: depth [B, M];
    pixel: side of a pixel per unit of depth [B, 1]; size: side of the picture in pixels."""

    index: Tensor
    direction: list[Tensor]
    origin: list[Tensor]
    t: Tensor
    pixel: Tensor
    size: int

    def points(self, t: Tensor | None = None) -> list[Tensor]:
        t = self.t if t is None else t
        return [o + t * d for o, d in zip(self.origin, self.direction)]


def camera(shot: Shot, size: int) -> tuple[list[Tensor], list[Tensor], Tensor]:
    """Origin (three [B, 1]), unit directions of all size² pixels (three [B, size²]) in the head frame, pixel side."""
    half = HALF_FRAME / shot.zoom
    axis = (torch.arange(size, device=half.device, dtype=torch.float32) + 0.5) / size * 2 - 1
    right = (axis.repeat(size).unsqueeze(0) + shot.centre_x) * half
    up = (-axis.repeat_interleave(size).unsqueeze(0) + shot.centre_y) * half
    length = (right * right + up * up + DISTANCE**2).sqrt()
    world = right / length, up / length, -DISTANCE / length
    m = shot.rotation
    direction = [
        m[:, 0, i : i + 1] * world[0] + m[:, 1, i : i + 1] * world[1] + m[:, 2, i : i + 1] * world[2] for i in range(3)
    ]
    origin = [m[:, 2, i : i + 1] * DISTANCE + PIVOT[i] for i in range(3)]
    return origin, direction, (2 * half / size) / DISTANCE


def project(shot: Shot, points: Tensor, size: int) -> Tensor:
    """Head-frame points [B, K, 3] -> pixels (x, y) [B, K, 2], pixel centres at integers, origin top left."""
    rel = points - points.new_tensor(PIVOT)
    m = shot.rotation.unsqueeze(1)
    world = [(m[..., i, :] * rel).sum(-1) for i in range(3)]
    scale = DISTANCE / (DISTANCE - world[2]) * shot.zoom / HALF_FRAME
    x = (world[0] * scale - shot.centre_x + 1) * (size / 2) - 0.5
    y = (1 - (world[1] * scale - shot.centre_y)) * (size / 2) - 0.5
    return torch.stack([x, y], -1)


def partition(keep: Tensor) -> Tensor:
    """Indices [B, M] of the True entries of `keep` [B, N] in order, padded with False ones; M is a multiple of LANE
    (or N), the same for all rows."""
    rank = keep.cumsum(1)
    count = rank[:, -1:]
    width = int(count.max())
    width = min(-(-max(width, 1) // LANE) * LANE, keep.shape[1])
    position = torch.arange(keep.shape[1], device=keep.device).unsqueeze(0)
    slot = torch.where(keep, rank - 1, count + position - rank)
    order = torch.empty_like(slot).scatter_(1, slot, position.expand_as(slot))
    return order[:, :width].contiguous()


def _advance(field: Field, origin, direction, t: Tensor, steps: int, cone: Tensor) -> Tensor:
    """Cone marching: stops where the cone of the ray block would touch the surface."""
    for _ in range(steps):
        gap = field([o + t * d for o, d in zip(origin, direction)]) - cone * t
        t = t + gap.clamp_(min=0).mul_(0.9)
    return t


def find_surface(field: Field, shot: Shot, size: int, margin: float, steps: tuple[int, int]) -> Rays:
    """Coarse-to-fine cone marching on blocks of 8² and 2² pixels up to `margin` before the surface.

    Returns the rays that come near it. `size` must be a multiple of 8.
    """
    origin, direction, pixel = camera(shot, size)
    batch = pixel.shape[0]

    def grown(p: list[Tensor]) -> Tensor:
        return field(p) - margin

    def blocks(side: int) -> list[Tensor]:
        n = size // side
        return [d.view(batch, n, side, n, side).mean((2, 4)).reshape(batch, -1) for d in direction]

    def refine(t: Tensor, n: int, factor: int) -> Tensor:
        return t.view(batch, n, 1, n, 1).expand(-1, -1, factor, -1, factor).reshape(batch, -1)

    t = torch.full((batch, (size // COARSE) ** 2), NEAR, device=pixel.device)
    t = _advance(grown, origin, blocks(COARSE), t, steps[0], pixel * (COARSE * 0.75))
    t = refine(t, size // COARSE, COARSE // HALF)
    alive = partition(t < FAR)  # empty blocks of background march no further
    near = _advance(
        grown, origin, [d.gather(1, alive) for d in blocks(HALF)], t.gather(1, alive), steps[1], pixel * (HALF * 0.75)
    )
    t = refine(t.scatter(1, alive, near), size // HALF, HALF)
    index = partition(t < FAR)
    return Rays(index, [d.gather(1, index) for d in direction], origin, t.gather(1, index), pixel, size)


@dataclass
class Zone:
    """A subset of rays with a field that is exact for them. index: positions among the rays [B, M]; member: False for
    padding; slots: where results go (padding goes to a spare column)."""

    index: Tensor
    member: Tensor
    slots: Tensor


def zone(keep: Tensor) -> Zone | None:
    """The rays where `keep` [B, N] holds; None if there are none at all."""
    if not bool(keep.any()):
        return None
    index = partition(keep)
    member = keep.gather(1, index)
    return Zone(index, member, torch.where(member, index, torch.full_like(index, keep.shape[1])))


def put(target: Tensor, where: Zone, values: Tensor) -> Tensor:
    """`target` [B, N, ...] with the zone's `values` [B, M, ...] written in."""
    spare = torch.cat([target, target[:, :1]], 1)
    slots = where.slots
    if target.dim() == 3:
        slots = slots.unsqueeze(-1).expand(-1, -1, target.shape[2])
    return spare.scatter_(1, slots, values)[:, :-1]


def take(values: Tensor, where: Zone) -> Tensor:
    return values.gather(1, where.index)


@dataclass
class _Trace:
    """State of rays under way: depth, best residual in pixels and its depth, last depth and field value (secant)."""

    t: Tensor
    best: Tensor
    best_t: Tensor
    last_t: Tensor
    last_value: Tensor


def _step(field: Field, rays: Rays, direction: list[Tensor], s: _Trace, steps: int) -> _Trace:
    """Sphere tracing accelerated by secants: on a slanted surface the plain step converges only linearly."""
    t, best, best_t, last_t, last_value = s.t, s.best, s.best_t, s.last_t, s.last_value
    for _ in range(steps):
        value = field([o + t * d for o, d in zip(rays.origin, direction)])
        residual = (value / (rays.pixel * t)).abs_()
        best_t = torch.where(residual < best, t, best_t)
        best = torch.minimum(best, residual)
        slope = (last_value - value) / (t - last_t + 1e-12)  # of the field along the ray
        slope = torch.where(slope > 0, slope.clamp(0.55, 2.5), torch.ones_like(slope))  # receding: no hurry
        last_t, last_value = t, value
        t = t + value / slope
    return _Trace(t, best, best_t, last_t, last_value)


def trace(rays: Rays, fields: list[tuple[Tensor, Field]], everywhere: Field, first: int = 3,
          rounds: tuple[int, ...] = (2, 2, 3, 4, 6, 8)) -> Tensor:  # fmt: skip
    """Moves `rays.t` to the surface and returns the coverage [B, M] in [0, 1] (anti-aliased against the background).

    fields: (rows where it is exact, field) pairs for the first steps; the rays still under way then go on in `rounds`
    over shrinking sets with the field `everywhere`.
    """
    far = torch.full_like(rays.t, 9.0)
    state = _Trace(rays.t, far, rays.t, rays.t - 9.0, far)  # as if it had come 9 units with slope 1
    for keep, field in fields:
        part = zone(keep)
        if part is not None:
            state = _partial(field, rays, part, state, first)
    for steps in rounds:
        part = zone((state.best > TOLERANCE) & (state.t < FAR))
        if part is None:
            break
        state = _partial(everywhere, rays, part, state, steps)
    hit = (state.t < FAR) & (state.best < 1.1)  # still among the head's parts: no background can show there
    # a ray that ran past the head is covered as far as its closest approach, in pixels, says
    coverage = torch.where(hit, torch.ones_like(rays.t), smoothstep(0.9, 0.2, state.best)) * (state.best_t < FAR)
    rays.t = state.best_t
    return coverage


def _partial(field: Field, rays: Rays, part: Zone, state: _Trace, steps: int) -> _Trace:
    names = ("t", "best", "best_t", "last_t", "last_value")
    inner = _Trace(*(take(getattr(state, name), part) for name in names))
    inner = _step(field, rays, [take(d, part) for d in rays.direction], inner, steps)
    return _Trace(*(put(getattr(state, name), part, getattr(inner, name)) for name in names))


def normals(field: Field, p: list[Tensor], value: Tensor, epsilon: Tensor) -> list[Tensor]:
    """Unit normals by forward differences; `value` is the field at p, so three evaluations remain."""
    n = [field([p[i] + epsilon if i == axis else p[i] for i in range(3)]) - value for axis in range(3)]
    length = (n[0] * n[0] + n[1] * n[1] + n[2] * n[2]).sqrt_().add_(1e-9)
    return [c / length for c in n]


def every_second(fn: Callable, rays: Rays, p: list[Tensor], n: list[Tensor]) -> list[Tensor]:
    """Evaluates a slow, soft term on every second pixel of both axes and upsamples it, weighted by depth.

    fn(p, n) returns a list of [B, M'] tensors; so does this, at all rays. Rays without a near sample get 1.
    """
    batch, half = rays.t.shape[0], rays.size // 2
    row, column = rays.index // rays.size, rays.index % rays.size
    part = zone((row % 2 == 0) & (column % 2 == 0) & (rays.t < FAR))
    if part is None:
        return [torch.ones_like(rays.t) for _ in fn([c[:, :1] for c in p], [c[:, :1] for c in n])]
    values = fn([take(c, part) for c in p], [take(c, part) for c in n])
    cell = take((row // 2) * half + column // 2, part)
    cell = torch.where(part.member, cell, torch.full_like(cell, half * half))
    maps = [
        torch.zeros(batch, half * half + 1, device=rays.t.device).scatter_(1, cell, v)
        for v in (*values, take(rays.t, part))
    ]
    known = torch.zeros_like(maps[0]).scatter_(1, cell, 1.0)
    y, x = row / 2.0, column / 2.0
    total = torch.full_like(rays.t, 1e-6)
    sums = [torch.zeros_like(rays.t) for _ in values]
    for dy in (0, 1):
        for dx in (0, 1):
            yy, xx = (y.floor() + dy).clamp_(max=half - 1), (x.floor() + dx).clamp_(max=half - 1)
            parent = (yy * half + xx).long()
            near = torch.exp(((maps[-1].gather(1, parent) - rays.t) / 0.06).square_().neg_()) + 1e-3
            weight = (1 - (y - yy).abs()).clamp_(min=0.01) * (1 - (x - xx).abs()).clamp_(min=0.01)
            weight = weight * known.gather(1, parent) * near
            total = total + weight
            sums = [s + weight * m.gather(1, parent) for s, m in zip(sums, maps)]
    return [torch.where(total > 2e-6, s / total, torch.ones_like(s)) for s in sums]


def scatter_map(rays: Rays, values: Tensor) -> Tensor:
    """[B, M] at the rays -> picture [B, 1, size, size], 0 elsewhere."""
    flat = torch.zeros(values.shape[0], rays.size**2, device=values.device).scatter_(1, rays.index, values)
    return flat.view(-1, 1, rays.size, rays.size)


def resize(picture: Tensor, size: int) -> Tensor:
    """Antialiased reduction of [B, C, H, H] to [B, C, size, size]."""
    if picture.shape[-1] == size:
        return picture
    if picture.shape[-1] % size == 0:
        return F.avg_pool2d(picture, picture.shape[-1] // size)
    return F.interpolate(picture, size=(size, size), mode="bilinear", antialias=True, align_corners=False)
