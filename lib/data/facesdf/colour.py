"""Colours (linear albedo [B, N, 3]) of skin, lips, brows, lids, eyes, teeth, hair, clothes and masks.

Points are canonical [B, N] unless a comment says otherwise; `blur` is the side of a pixel at the point, in head units:
thin lines are never drawn thinner than they can be seen.
"""

import torch
from torch import Tensor

from .head import EYE_RADIUS, Head
from .mask import WornMask
from .sdf import gauss, mix, smoothstep, value_noise

LIP_RED, BLOOD = (0.86, 0.46, 0.47), (0.0, 0.22, 0.24)
LIPSTICK, MOUTH_INSIDE, PUPIL = (0.55, 0.07, 0.10), (0.10, 0.02, 0.02), (0.008, 0.008, 0.008)


def skin_colour(head: Head, x: Tensor, y: Tensor, z: Tensor, blur: Tensor, features: bool) -> Tensor:
    """Skin; with features also lips, beard, brows and the lines of the lids (front of the face)."""
    w = head.who
    ax = x.abs()
    patches = value_noise(x * 5 + w.phase + 40, y * 5 + z * 3 + 40)
    grain = value_noise(x * 45 + w.phase, y * 45 + z * 30 + 90)
    colour = w.skin_colour * (1 + 0.12 * (patches - 0.5) + 0.08 * (grain - 0.5)).unsqueeze(-1)
    front = smoothstep(0.35, 0.55, z)
    red = 0.5 * smoothstep(0.70, 0.76, ax) * smoothstep(0.3, 0.0, y)  # ears
    red += 0.2 * gauss(x, 0.2) * gauss(y + 1.0, 0.1)  # chin
    red += (0.35 + 0.65 * w.blush) * gauss(ax - 0.36, 0.17) * gauss(y + 0.36, 0.17) * front
    red += 0.45 * gauss(x, 0.12) * gauss(y + 0.44, 0.10) * front
    colour = colour * (1 - red.unsqueeze(-1) * colour.new_tensor(BLOOD))
    if not features:
        return _bearded(head, colour, ax, y, z, patches, grain, 0.0)
    rings = (0.14 + 0.14 * w.age) * gauss(ax - w.eye_x, 0.17) * gauss(y + 0.10, 0.06)
    rings += 0.16 * gauss(ax - 0.17, 0.06) * gauss(y, 0.09)
    furrows = (
        w.age * (gauss(y - 0.36 - 0.03 * gauss(x, 0.2), 0.012) + gauss(y - 0.44, 0.012)) * smoothstep(0.42, 0.2, ax)
    )
    colour = colour * (1 - (rings + 0.16 * furrows) * front).unsqueeze(-1)

    u = x / head.mouth_width
    top, upper, lower, bottom = head.mouth_curves(u)
    soft = 0.006 + 0.4 * blur
    lips = smoothstep(-1.0, 1.0, (top - y) / soft) * smoothstep(-1.0, 1.0, (y - bottom) / soft)
    lips = lips * smoothstep(1.04, 0.96, u.abs()) * front
    bare = 1 - (1 - lips) * (1 - 0.6 * gauss(x, 0.25) * gauss(y - bottom + 0.02, 0.03))
    colour = _bearded(head, colour, ax, y, z, patches, grain, bare)
    lip_colour = w.skin_colour * colour.new_tensor(LIP_RED)
    lip_colour = lip_colour + (colour.new_tensor(LIPSTICK) - lip_colour) * (0.7 * w.lip_tint).unsqueeze(-1)
    parted = 0.5 * gauss(y - 0.5 * (upper + lower), 0.010 + 0.3 * blur) * smoothstep(1.08, 0.9, u.abs()) * front
    colour = mix(colour, lip_colour, lips * 0.9) * (1 - parted).unsqueeze(-1)
    inside = smoothstep(0, 0.02, upper - y) * smoothstep(0, 0.02, y - lower) * smoothstep(1.0, 0.9, u.abs())
    colour = mix(colour, MOUTH_INSIDE, inside * (head.shot.mouth_open > 0.02) * front)
    return _brows_and_lids(head, colour, x, y, front, blur)


def _bearded(head: Head, colour: Tensor, ax: Tensor, y: Tensor, z: Tensor, patches, grain, bare) -> Tensor:
    """Beard or stubble below the cheek line and above the lip; `bare` (0 to 1) keeps the lips free."""
    w = head.who
    line = 0.05 * (patches - 0.5) - (y + 0.10 + 0.70 * z)
    cheeks = smoothstep(-0.02, 0.10, line) * smoothstep(-1.35, -1.15, y)
    moustache = smoothstep(0.36, 0.26, ax) * smoothstep(-0.535, -0.60, y) * smoothstep(0.35, 0.55, z)
    where = torch.maximum(cheeks, 0.85 * moustache) * (1 - bare)
    return mix(colour, w.hair_colour * 0.8 + 0.02, where * (w.beard * (0.75 + 0.5 * (grain - 0.5))).clamp(0, 1))


def _brows_and_lids(head: Head, colour: Tensor, x: Tensor, y: Tensor, front: Tensor, blur: Tensor) -> Tensor:
    w = head.who
    ax = x.abs()
    t = (ax - 0.115) / 0.40
    thickness = 0.030 * w.brow_thickness * (1 - 0.55 * t.clamp(0, 1)) + 0.15 * blur
    strands = value_noise(ax * 70 - y * 60 + w.phase, y * 18 + ax * 14 + 50)
    brow = smoothstep(1.3, 0.45, (y - head.brow_curve(t)).abs() / thickness)
    brow = brow * smoothstep(-0.06, 0.10, t) * smoothstep(1.06, 0.75, t) * front
    colour = mix(colour, w.hair_colour * 0.55, (brow * (0.50 + 0.65 * strands)).clamp(0, 0.9))
    u, v = head.eye_frame(ax, y)
    upper, lower = head.eye_curves(u)
    width = 0.011 + 0.25 * blur
    lashes = ((0.62 + 0.3 * w.liner) * gauss(v - upper - 0.006, width)).clamp(0, 1)
    lines = lashes + 0.34 * gauss(v - lower + 0.006, width) + 0.26 * gauss(v - upper - 0.045, 0.014 + 0.2 * blur)
    return colour * (1 - smoothstep(1.15, 0.95, u.abs()) * front * lines).clamp(min=0).unsqueeze(-1)


def eye_colour(head: Head, x: Tensor, y: Tensor, blur: Tensor) -> Tensor:
    """Sclera, iris with limbus, pupil, the upper lid's shade."""
    w = head.who
    u, v = head.eye_frame(x.abs(), y)
    upper, _ = head.eye_curves(u)
    px, py = gaze_coordinates(head, x, y)
    radius = (px * px + py * py).sqrt()
    soft = 0.5 * blur / EYE_RADIUS
    colour = torch.ones_like(x).unsqueeze(-1) * head.who.iris_colour.new_tensor([0.72, 0.695, 0.68])
    colour = colour * (1 - 0.3 * smoothstep(0.75, 1.05, u.abs())).unsqueeze(-1)
    fibres = value_noise(torch.atan2(py, px) * 6 + 30, radius * 3 + 20)
    iris = w.iris_colour * (0.55 + 0.55 * fibres + 0.5 * (radius - 0.3)).unsqueeze(-1)
    iris = mix(iris, w.iris_colour * 0.25, smoothstep(0.40, 0.51, radius))
    colour = mix(colour, iris, smoothstep(1.0, 0.0, (radius - 0.49 + soft) / (0.04 + 2 * soft)))
    colour = mix(colour, PUPIL, smoothstep(1.0, 0.0, (radius - 0.19 + soft) / (0.04 + 2 * soft)))
    return colour * (1 - 0.55 * gauss((v - upper).clamp(max=0), 0.030)).unsqueeze(-1)


def gaze_coordinates(head: Head, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    """Position on the eyeball relative to the pupil, in eyeball radii."""
    shot = head.shot
    return (x.abs() - head.who.eye_x) * x.sign() / EYE_RADIUS - shot.gaze_x, y / EYE_RADIUS - shot.gaze_y


def teeth_colour(head: Head, x: Tensor, y: Tensor) -> Tensor:
    """Ivory, darker between the teeth and towards the lower lip."""
    _, _, lower, _ = head.mouth_curves(x / head.mouth_width)
    shade = (1 - 0.30 * gauss((x / 0.042) % 1 - 0.5, 0.12)) * smoothstep(-0.30, 0.10, y - lower)
    return shade.unsqueeze(-1) * shade.new_tensor([1.10, 1.05, 0.96])


def hair_colour(head: Head, x: Tensor, y: Tensor, z: Tensor, skin: Tensor) -> tuple[Tensor, Tensor]:
    """Hair with strands running down from the crown, thinning out to skin at the hairline; and the strands [B, N]."""
    w = head.who
    azimuth = torch.atan2(x, z + 0.12)
    coarse = value_noise(azimuth * 26 + w.phase + 100, y * 1.6 + 60)
    fine = value_noise(azimuth * 75 + w.phase + 300, y * 2.5 + 60)
    strands = 0.45 * coarse + 0.55 * fine
    curls = 0.5 * strands + 0.5 * value_noise(x * 17 + 3 * fine + 60, y * 17 + z * 9 + 60)
    strands = torch.lerp(strands, curls, (w.curl > 0.4).float().expand_as(strands))
    colour = w.hair_colour * (0.45 + 1.1 * strands).unsqueeze(-1)
    shaved = smoothstep(0.03, 0.02, w.hair_thickness).unsqueeze(-1)
    colour = colour + (0.72 * skin - 0.72 * colour) * shaved
    above = head.hairline(x, y, z) + 0.17 * (fine - 0.5)
    bald = ((y >= 0.2) | (w.long_hair < 0.1)).float() * (1 - w.fringe * (z > 0.4))
    return mix(colour, skin, smoothstep(0.13, 0.02, above) * bald), strands


def clothes_colour(head: Head, x: Tensor, y: Tensor, z: Tensor) -> Tensor:
    return head.shot.clothes_colour * (0.9 + 0.2 * value_noise(x * 30 + 50, y * 30 + z * 20 + 90)).unsqueeze(-1)


def worn_colour(worn: WornMask, p: list[Tensor], s: Tensor, t: Tensor, strap: Tensor, scarf: Tensor) -> Tensor:
    """Cloth, straps and scarf; p in the head frame, (s, t) on the mask, `strap` and `scarf` 0 or 1 per point."""
    w = worn.wear
    fibres = value_noise(s * 90 + 200, t * 60 + 200)
    stains = value_noise(s * 4 + w.phase, t * 4 + 50)
    colour = w.colour * (1 + 0.07 * (fibres - 0.5) + 0.03 * (stains - 0.5)).unsqueeze(-1)
    seams = torch.maximum(gauss(t - 0.05, 0.010), torch.maximum(gauss(t - 0.95, 0.010), gauss(s.abs() - 0.95, 0.012)))
    colour = colour * (1 - 0.12 * seams * w.surgical).unsqueeze(-1)
    pattern = smoothstep(0.45, 0.55, value_noise(s * 9 + w.phase, t * 6 + w.phase))
    colour = mix(colour, w.print_colour, pattern * w.patterned * 0.8)
    strap_colour = w.colour * 0.4 + 0.45 * w.light.unsqueeze(-1) + 0.01
    knit = 0.8 + 0.4 * value_noise(p[0] * 14 + 40, p[1] * 50 + 90)
    return mix(mix(colour, strap_colour, strap), w.scarf_colour * knit.unsqueeze(-1), scarf)
