"""The worn mask: a sheet draped over the face, pleats and wrinkles, ear loops; scarves and hoods.

The drape is an obstacle problem. Seen from a centre inside the head, u = 1 / radius of a flat sheet is linear, so a
taut sheet is the harmonic membrane u <- min(obstacle, mean of the neighbours): it touches nose, cheeks and chin and
spans the hollows between them.
"""

import itertools
import math

import torch
import torch.nn.functional as F
from torch import Tensor

from .head import Head
from .params import Wear
from .sdf import Capsule, capsule, ellipsoid, gauss, smooth_max, smoothstep

CENTRE = (0.0, -0.50, 0.10)  # canonical; the sheet's polar coordinates start here
AZIMUTH, LOW, HIGH, GRID = 1.92, -1.30, 1.05, 48  # the radius map spans +-AZIMUTH, LOW to HIGH (radians)
HALF_WIDTH = 1.22  # azimuth of the mask's side edge (radians)
THICKNESS = 0.007


class WornMask:
    """Fields of B worn masks on their heads. Points as in `Head`: three tensors [B, N], head frame."""

    def __init__(self, head: Head, wear: Wear):
        self.head, self.wear = head, wear
        self.any_scarf, self.any_hood = bool((wear.scarf > 0).any()), bool((wear.hood > 0).any())
        self.hood_outside = ellipsoid((0, 0.08, -0.18), (1.06, 1.34, 1.18))
        self.hood_opening = ellipsoid((0, -0.18, 0.98), (0.70, 0.98, 1.08))
        self._drape()
        self.loops = self._ear_loops()

    # ---- the drape ------------------------------------------------------------------------------------------------

    def _drape(self):
        """Radius maps [B, 1, G, G] of the bare face and of the sheet over it."""
        w, head = self.wear, self.head
        batch, device = w.gap.shape[0], w.gap.device
        elevation, azimuth = torch.meshgrid(
            torch.linspace(LOW, HIGH, GRID, device=device),
            torch.linspace(-AZIMUTH, AZIMUTH, GRID, device=device),
            indexing="ij",
        )
        azimuth, elevation = azimuth.reshape(1, -1), elevation.reshape(1, -1)
        radius = torch.full((batch, GRID * GRID), 1.3, device=device)
        for step in range(11):
            x, y, z = _canonical_point(radius, azimuth, elevation)
            radius = radius - (head.bare(x, y, z) * 0.95 if step < 7 else head.featured(x, y, z)[0] * 0.85)
        face = 1 / radius.clamp(min=0.3).view(batch, 1, GRID, GRID)
        limit = -F.max_pool2d(-face / (1 + face * w.gap.view(-1, 1, 1, 1)), 3, 1, 1)
        # worn below the nose: nothing above the rim holds the sheet
        top, _ = self._rim(azimuth / (w.width * HALF_WIDTH))
        above = (elevation > top + 0.05).float() * w.below_nose
        limit = limit + 3.0 * above.view(batch, 1, GRID, GRID)
        u = None
        for grid, iterations in ((GRID // 4, 30), (GRID // 2, 30), (GRID, 40)):  # multigrid, nearest obstacle per cell
            coarse = -F.max_pool2d(-limit, GRID // grid) if grid < GRID else limit
            along = 0.22 / math.cos(2 * AZIMUTH / (grid - 1))
            across = 0.28 / math.cos((HIGH - LOW) / (grid - 1))
            if u is None:
                u = coarse
            else:
                u = torch.minimum(F.interpolate(u, size=(grid, grid), mode="bilinear", align_corners=True), coarse)
            for _ in range(iterations):
                p = F.pad(u, (1, 1, 1, 1), mode="replicate")
                pull = (p[:, :, 1:-1, :-2] + p[:, :, 1:-1, 2:]) * along + (
                    p[:, :, :-2, 1:-1] + p[:, :, 2:, 1:-1]
                ) * across
                u = torch.minimum(coarse, pull)
        sheet = F.avg_pool2d(F.pad(1 / u, (1, 1, 1, 1), mode="replicate"), 3, 1)
        self.face_map, self.sheet_map = _upsample(1 / face), _upsample(sheet)

    def _ear_loops(self) -> list[Capsule]:
        """Two straps per side (mirrored by |x|): corner of the mask, over the cheek, to the root of the ear."""
        w = self.wear
        side = 0.97
        start = w.width * (HALF_WIDTH * side)
        top, bottom = self._rim(torch.full_like(start, side))
        straps = []
        for height, (ear_y, ear_z), lift in ((0.93, (0.10, -0.10), 0.03), (0.07, (-0.30, -0.04), 0.02)):
            low = bottom + (top - bottom) * height
            ear_x = torch.full_like(start, 0.745)
            _, end, high = _polar(ear_x, ear_y + 0 * start, ear_z + 0 * start)
            points = []
            for k in (0, 0.35, 0.7):
                azimuth, elevation = start + (end - start) * k, low + (high - low) * k
                radius = _look_up(self.face_map, azimuth, elevation) + 0.012 + lift * 4 * k * (1 - k)
                points.append(self._from_canonical(_canonical_point(radius, azimuth, elevation)))
            points.append(self._from_canonical((ear_x, ear_y + 0 * start, ear_z + 0 * start)))
            straps += [capsule(a, b, 0.0125, 0.0125) for a, b in itertools.pairwise(points)]
        return straps

    def _from_canonical(self, p):
        return p[0] * self.head.who.head_width, p[1] * self.head.who.face_length, p[2]

    def _rim(self, s: Tensor) -> tuple[Tensor, Tensor]:
        """Elevation (radians) of the upper and lower rim at s, the azimuth in units of the half width."""
        w, a = self.wear, s.abs()
        top = 21 - 9.5 * smoothstep(0.0, 0.42, a) + 5 * a * a + w.top_shift + 3.0 * w.cup * gauss(a, 0.3)
        top = top + w.below_nose * (9.0 * smoothstep(0.1, 0.9, a) + 2.0)
        bottom = -55 + 40 * a.clamp(max=1.1).square() + w.bottom_shift - 3 * (1 - a)
        lean = w.tilt * s.clamp(-1, 1)  # a mask seldom sits quite straight
        return (top + lean) / 57.3, (bottom + lean) / 57.3

    # ---- fields -----------------------------------------------------------------------------------------------------

    def coordinates(self, p: list[Tensor]) -> tuple[Tensor, ...]:
        """radius, azimuth, elevation; s across (+-1 = side edges), t from the lower (0) to the upper rim (1); rims."""
        radius, azimuth, elevation = _polar(*self.head.canonical(p))
        s = azimuth / (self.wear.width * HALF_WIDTH)
        top, bottom = self._rim(s)
        return radius, azimuth, elevation, s, (elevation - bottom) / (top - bottom).clamp(min=0.12), top, bottom

    def _relief(self, s: Tensor, t: Tensor) -> Tensor:
        """Pleats, hems, nose wire, wrinkles: displacement of the sheet outwards."""
        w, a, m = self.wear, s.abs(), self.wear.phase
        fade = smoothstep(1.05, 0.55, a)

        def pleat(height: Tensor) -> Tensor:
            return smoothstep(-0.012, 0.026, t - height) * smoothstep(0.17, 0.03, t - height)

        pleats = (
            pleat(0.26 + 0.02 * torch.sin(3 * s + m))
            + pleat(0.45 + 0.015 * torch.sin(2 * s + m))
            + 0.8 * pleat(0.63 + 0 * s)
        )
        d = w.surgical * w.pleats * 0.026 * pleats * (0.30 + 0.70 * fade)
        d += 0.012 * gauss(t - 0.93, 0.04) * gauss(s, 0.30) * (1 - w.cloth)  # nose wire
        hem = smoothstep(0.035, 0.06, t) * smoothstep(0.965, 0.94, t) * smoothstep(0.965, 0.935, a)
        d += 0.006 * (hem - 1)
        fan = torch.atan2((t - 0.5) * 0.9, 1.12 - a)  # wrinkles fan out from where the straps pull
        wrinkles = torch.sin(fan * 11 + m + 2 * torch.sin(3 * t + m)) * smoothstep(0.42, 0.95, a)
        wrinkles += 0.55 * torch.sin(7 * s + 5 * t + m) * torch.sin(9 * t - 4 * s + 2 * m)
        wrinkles += 0.6 * torch.sin(16 * s + m) * smoothstep(0.30, 0.02, t)  # crumples at the chin
        wrinkles += 0.5 * torch.sin(5 * t + 13 * a + m) * smoothstep(0.2, 0.6, a)
        d += 0.0085 * w.wrinkles * wrinkles * (1 - 0.7 * w.cup)
        d += w.cloth * (0.035 * gauss(s, 0.35) - 0.008 * gauss(s, 0.012))  # centre seam
        cup = 0.07 * gauss(s, 0.55) * smoothstep(0, 0.3, t) * smoothstep(1, 0.7, t) + 0.012 * gauss(s, 0.02)
        return d + w.cup * cup

    def sheet(self, p: list[Tensor], rim: bool = True) -> Tensor:
        """Distance to the cloth. Without rim: height above the sheet, whose normals stay sane at the edge."""
        radius, azimuth, elevation, s, t, top, bottom = self.coordinates(p)
        height = radius - _look_up(self.sheet_map, azimuth, elevation) - self._relief(s, t)
        if not rim:
            return height
        edge = torch.maximum(
            (s.abs() - 1) * self.wear.width * HALF_WIDTH, torch.maximum(elevation - top, bottom - elevation)
        )
        return smooth_max(height.abs() - THICKNESS, edge * radius, 0.03) * 0.72

    def straps(self, p: list[Tensor]) -> Tensor:
        """Distance to the ear loops."""
        x = p[0].abs()
        d = self.loops[0].distance(x, p[1], p[2])
        for loop in self.loops[1:]:
            d = torch.minimum(d, loop.distance(x, p[1], p[2]))
        return d

    def occluder(self, p: list[Tensor]) -> Tensor | None:
        """Distance to scarf or hood; None if nobody in the batch wears one."""
        if not (self.any_scarf or self.any_hood):
            return None
        x, y, z = p
        w = self.wear
        fold = 0.03 * torch.sin(9 * y + 3 * torch.sin(3 * x + w.phase)) + 0.02 * torch.sin(11 * x + 5 * y)
        ring = ((x / 0.95).square() + ((z - 0.14) / 1.05).square()).sqrt() - 0.74
        scarf = (ring.square() + ((y + 1.20 + 0.12 * x * w.phase_sin) / 1.30).square()).sqrt() - 0.30 - fold
        hood = self.hood_outside.distance(x, y, z) - 0.8 * fold
        hood = smooth_max(hood, -self.hood_opening.distance(x, y, z), 0.16)
        return torch.minimum(scarf + 9 * (1 - w.scarf), hood + 9 * (1 - w.hood)) * 0.75

    def parts(self, p: list[Tensor]) -> tuple[Tensor, Tensor, Tensor]:
        """Distances to cloth, straps and occluder."""
        sheet, occluder = self.sheet(p), self.occluder(p)
        return sheet, self.straps(p), torch.full_like(sheet, 9.0) if occluder is None else occluder

    def distance(self, p: list[Tensor]) -> Tensor:
        """Distance to anything worn."""
        d, occluder = torch.minimum(self.sheet(p), self.straps(p)), self.occluder(p)
        return d if occluder is None else torch.minimum(d, occluder)


def _polar(x: Tensor, y: Tensor, z: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Canonical point -> radius, azimuth, elevation about CENTRE."""
    x, y, z = x - CENTRE[0], y - CENTRE[1], z - CENTRE[2]
    flat2 = x * x + z * z
    return (flat2 + y * y).sqrt(), torch.atan2(x, z), torch.atan2(y, flat2.sqrt())


def _canonical_point(radius: Tensor, azimuth: Tensor, elevation: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    flat = radius * elevation.cos()
    return flat * azimuth.sin() + CENTRE[0], radius * elevation.sin() + CENTRE[1], flat * azimuth.cos() + CENTRE[2]


def _upsample(grid: Tensor) -> Tensor:
    return F.interpolate(grid, scale_factor=3, mode="bicubic", align_corners=True)


def _look_up(grid: Tensor, azimuth: Tensor, elevation: Tensor) -> Tensor:
    where = torch.stack([azimuth / AZIMUTH, (elevation - LOW) / (HIGH - LOW) * 2 - 1], -1).unsqueeze(2)
    found = F.grid_sample(grid, where, align_corners=True, padding_mode="border", mode="bilinear")
    return found.squeeze(1).squeeze(-1)
