"""From integers to pictures: one batch of faces, or one group scene."""

import functools
import operator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from . import draws, shade
from .head import Head
from .landmarks import landmarks
from .march import project, resize, scatter_map
from .mask import WornMask
from .params import MASK_KINDS, Ranges, Wear

BLOCK = 8  # the tracer's coarse blocks: inner pictures are multiples of it
SCENE_LIGHT = ("light_direction", "fill_direction", "light_azimuth", "key", "ambient", "fill", "shadow_softness")
SCENE_SHARED = (*SCENE_LIGHT, "light_colour", "ambient_colour", "background", "grain", "grain_seed")


@dataclass
class Rendered:
    """A batch of pictures; fields not asked for are None. Pictures are float32 [B, 3, S, S] in [0, 1], display RGB;
    coverages float32 [B, 1, S, S] in [0, 1].

    full, masked: the bare face; the same face truly wearing a mask.
    region, straps, occluder: mask cloth, ear loops, scarf or hood of `masked`. head: head and body.
    landmarks: float32 [B, 68, 2], (x, y) pixels, pixel centres at integers. pose: float32 [B, 3], yaw, pitch, roll in
    degrees (yaw > 0 faces the right edge of the picture, pitch > 0 up, roll > 0 tips the head to the left edge).
    identity: int64 [B]. mask_kind: names; mask_colour: float32 [B, 3] linear RGB; light, patterned, below_nose and
    occluded (scarf or hood): bool [B].
    """

    landmarks: Tensor
    pose: Tensor
    identity: Tensor
    mask_kind: list[str]
    mask_colour: Tensor
    light: Tensor
    patterned: Tensor
    below_nose: Tensor
    occluded: Tensor
    full: Tensor | None = None
    masked: Tensor | None = None
    region: Tensor | None = None
    straps: Tensor | None = None
    occluder: Tensor | None = None
    head: Tensor | None = None

    @staticmethod
    def cat(parts: "list[Rendered]") -> "Rendered":
        """Several batches as one."""
        merged = {}
        for name, value in vars(parts[0]).items():
            values = [getattr(part, name) for part in parts]
            if isinstance(value, Tensor):
                merged[name] = torch.cat(values)
            else:
                merged[name] = functools.reduce(operator.iadd, values, []) if isinstance(value, list) else value
        return Rendered(**merged)


def inner_size(size: int, supersample: float) -> int:
    """Side of the picture that is traced before antialiasing."""
    return max(-(-round(size * supersample) // BLOCK), 2) * BLOCK


@torch.no_grad()
def faces(
    ids: list[int],
    seeds: list[int],
    size: int,
    what: tuple,
    supersample: float,
    device,
    ranges: Ranges,
    wear_seeds: list[int] | None = None,
) -> Rendered:
    """One batch of single faces; see `draws.sample`."""
    who, shot, wear = draws.sample(ids, seeds, ranges, device, wear_seeds=wear_seeds)
    head, inner = Head(who, shot), inner_size(size, supersample)
    out = _describe(head, wear, ids, size)
    if not what:
        return out
    layer = shade.head_layer(head, inner)
    behind = shade.background(shot, inner)
    if "full" in what:
        bare = shade.paint(behind, layer.rays, layer.colour, layer.coverage)
        out.full = shade.film(bare, shot, size)
    if "head" in what:
        out.head = resize(scatter_map(layer.rays, layer.coverage), size)
    if {"masked", "region", "straps", "occluder"} & set(what):
        picture, maps = shade.mask_layer(layer, WornMask(head, wear), behind)
        if "masked" in what:
            out.masked = shade.film(picture, shot, size)
        for name in {"region", "straps", "occluder"} & set(what):
            setattr(out, name, resize(maps[name], size))
    return out


def _describe(head: Head, wear: Wear, ids: list[int], size: int) -> Rendered:
    kinds = torch.cat([wear.surgical, wear.cloth, wear.cup], 1).argmax(1).tolist()
    return Rendered(
        landmarks=project(head.shot, landmarks(head), size),
        pose=torch.cat([head.shot.yaw, head.shot.pitch, head.shot.roll], 1),
        identity=torch.tensor(ids, dtype=torch.int64),
        mask_kind=[MASK_KINDS[kind] for kind in kinds],
        mask_colour=wear.colour[:, 0],
        light=wear.light[:, 0] > 0,
        patterned=wear.patterned[:, 0] > 0,
        below_nose=wear.below_nose[:, 0] > 0,
        occluded=(wear.scarf + wear.hood)[:, 0] > 0,
    )


def arrange(count: int, rng: np.random.Generator) -> list[dict]:
    """Places 2 to 5 people, back row first: zoom and centre of each one's frame. The back row is smaller, stands
    higher and in the gaps of the front row."""
    front = {2: 2, 3: 2 + int(rng.integers(2)), 4: 2 + int(rng.integers(2)), 5: 3}[count]
    zoom = {2: 0.66, 3: 0.56}[front] * rng.uniform(0.95, 1.08)
    spread = np.linspace(-1, 1, front) * {2: 0.47, 3: 0.64}[front]
    gaps = (spread[:-1] + spread[1:]) / 2
    back = count - front
    if back > len(gaps):
        gaps = np.linspace(-0.62, 0.62, back)
    behind = sorted(rng.choice(gaps, size=back, replace=False)) if back else []
    people = [(x, rng.uniform(0.36, 0.44), zoom * 0.80) for x in behind]
    people += [(x, rng.uniform(-0.26, -0.10), zoom) for x in spread]
    return [
        {
            "zoom": z * rng.uniform(0.95, 1.05),
            "centre_x": -(x + rng.uniform(-0.04, 0.04)),
            "centre_y": -(y - 0.08 * (z > 0.7)),
        }
        for x, y, z in people
    ]


@torch.no_grad()
def group(ids: list[int], seed: int, size: int, masked: bool, supersample: float, device, ranges: Ranges) -> tuple:
    """One scene of len(ids) people in common light, nearer ones in front.

    Returns the picture [1, 3, S, S] and its description (`Rendered` without pictures, landmarks in the scene's pixels).
    """
    rng = np.random.default_rng([505, seed])
    common = draws.shot(seed, ranges, hard=False)
    shared = {name: common[name] for name in SCENE_SHARED}
    overrides = [shared | place for place in arrange(len(ids), rng)]
    seeds = [seed * 8 + k for k in range(len(ids))]
    who, shot, wear = draws.sample(ids, seeds, ranges, device, overrides)
    head, inner = Head(who, shot), inner_size(size, supersample)
    layer = shade.head_layer(head, inner)
    nothing = torch.zeros(len(ids), 3, inner, inner, device=who.age.device)
    people, alpha = (
        shade.paint(nothing, layer.rays, layer.colour, layer.coverage),
        scatter_map(layer.rays, layer.coverage),
    )
    if masked:
        people, maps = shade.mask_layer(layer, WornMask(head, wear), nothing)
        alpha = 1 - (1 - alpha) * (1 - sum(maps.values()))
    canvas = shade.background(shot, inner)[:1]
    for person, cover in zip(people, alpha):  # painted on black, so `person` is premultiplied by its alpha
        canvas = canvas * (1 - cover) + person
    return shade.film(canvas, shot, size)[:1], _describe(head, wear, ids, size)
