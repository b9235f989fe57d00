"""Light, shadow and the two layers of a picture: the head, and what is worn over it.

Light is one soft key, a weak fill from the other side and a hemispheric ambient term. Skin is lit with a wrapped cosine
whose width differs per channel (red light travels farthest under the skin).
"""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from . import colour
from .head import EYE_RADIUS, Head, union
from .march import (
    FAR,
    Field,
    Rays,
    every_second,
    find_surface,
    normals,
    put,
    resize,
    scatter_map,
    take,
    trace,
    zone,
)  # fmt: skip
from .mask import WornMask
from .params import Shot
from .sdf import dot, gauss, mix, smoothstep

SHADOW_FLOOR = 0.16  # soft boxes and bright rooms: no shadow is black
SKIN_WRAP = (0.38, 0.17, 0.10)
MATERIALS = ("skin", "eye", "teeth", "hair", "clothes")
GLOSS = {"skin": (0.14, 16.0), "eye": (0.5, 90.0), "teeth": (0.22, 60.0), "hair": (0.0, 8.0), "clothes": (0.02, 8.0)}


@dataclass
class HeadLayer:
    """The rendered head: its rays, surface points and what the mask's shadow needs."""

    rays: Rays
    p: list[Tensor]
    n: list[Tensor]
    coverage: Tensor
    shadow: Tensor
    colour: Tensor


def to_head(shot: Shot, direction: Tensor) -> list[Tensor]:
    """World directions [B, 3] as three [B, 1] in the head frame."""
    local = (shot.rotation * direction.unsqueeze(2)).sum(1)
    return [local[:, i : i + 1] for i in range(3)]


def lit(
    shot: Shot, n, view, occlusion, shadow, wrap: Tensor, gloss: Tensor, power
) -> tuple[Tensor, Tensor, list, Tensor]:
    """Diffuse light [B, N, 3], highlight [B, N], half vector and its length. wrap: [B, N, 1 or 3]."""
    key, fill = to_head(shot, shot.light_direction), to_head(shot, shot.fill_direction)
    up = [shot.rotation[:, 1, i : i + 1] for i in range(3)]
    facing = dot(n, key).unsqueeze(-1)
    reach = ((facing + wrap) / (1 + wrap)).clamp(min=0) * shot.key.unsqueeze(-1) * shot.light_colour
    bleed = shadow.unsqueeze(-1)
    diffuse = 1.15 * reach * (bleed + (bleed.sqrt() - bleed) * (1.5 * wrap))  # shadows fade out reddish in skin
    sky = shot.ambient * (0.64 + 0.36 * dot(n, up)) * occlusion
    diffuse = diffuse + (sky + shot.fill * dot(n, fill).clamp(min=0) * occlusion).unsqueeze(-1) * shot.ambient_colour
    half = [k - v for k, v in zip(key, view)]
    length = dot(half, half).sqrt()
    fresnel = (1 + dot(n, view)).clamp(0, 1).square().square()
    shine = (dot(n, half) / length).clamp(1e-4, 1) ** power
    return diffuse, gloss * (shine * shadow * shot.key + 0.10 * fresnel * occlusion), half, length


def cast_shadow(field: Field, shot: Shot, p, n, steps: int = 8, bias: float = 0.03) -> Tensor:
    """Soft shadow of the key light in [SHADOW_FLOOR, 1] (narrowest passage along the way to the light)."""
    key = to_head(shot, shot.light_direction)
    start = [a + bias * b for a, b in zip(p, n)]
    way = torch.full_like(p[0], 0.03)
    passage = torch.ones_like(way)
    for _ in range(steps):
        gap = field([a + way * k for a, k in zip(start, key)])
        passage = torch.minimum(passage, shot.shadow_softness * gap / way + 0.12)
        way = way + gap.clamp_(0.02, 0.22)
    return SHADOW_FLOOR + (1 - SHADOW_FLOOR) * smoothstep(0.0, 1.0, passage)


def occlusion(field: Field, p, n, probes: tuple[tuple[float, float], ...], scale: float = 0.92) -> Tensor:
    """Ambient occlusion: 1 minus what (distance, weight) probes along the normal miss of free space."""
    open_ = torch.ones_like(p[0])
    for reach, weight in probes:
        free = field([a + reach * b for a, b in zip(p, n)]) / (reach * scale)
        open_ = open_ - weight * (1 - free).clamp_(0, 1)
    return open_


def head_layer(head: Head, size: int) -> HeadLayer:
    """Traces and shades the bare head; `size` in pixels, a multiple of 8. Colours are linear."""
    shot = head.shot
    rays = find_surface(head.coarse, shot, size, margin=0.045, steps=(13, 9))
    front, rest = head.zones(rays.points())
    fields = [(front, lambda p: union(head.parts_of_front(p))), (rest, lambda p: union(head.parts_of_rest(p)))]
    coverage = trace(rays, fields, lambda p: union(head.parts(p)))
    p = rays.points()

    # materials, normals and albedo, per zone with only the parts that matter there
    ones = torch.ones_like(rays.t)
    surface = {name: torch.zeros_like(ones) for name in ("nx", "ny", "nz", "open", "strands", *MATERIALS)}
    albedo = torch.zeros(*ones.shape, 3, device=ones.device)
    front, rest = head.zones(p)
    seen = coverage > 0
    groups = ((front, head.parts_of_front), (rest, head.parts_of_rest), (~(front | rest), head.parts))
    for keep, parts in groups:
        part = zone(keep & seen)
        if part is None:
            continue
        blur = rays.pixel * take(rays.t, part)
        local, local_albedo = _surface(head, parts, [take(c, part) for c in p], blur)
        surface = {name: put(grid, part, local[name]) if name in local else grid for name, grid in surface.items()}
        albedo = put(albedo, part, local_albedo)
    n = [surface["nx"], surface["ny"], surface["nz"]]

    def soft(p: list[Tensor], n: list[Tensor]) -> list[Tensor]:
        probes = ((0.09, 0.34), (0.20, 0.28), (0.42, 0.28))
        return [occlusion(head.coarse, p, n, probes), cast_shadow(head.coarse, shot, p, n)]

    wide, shadow = every_second(soft, rays, p, n)
    open_ = (wide + surface["open"] - 1).clamp(0.2, 1)
    open_, shadow = torch.maximum(open_, 0.60 * surface["teeth"]), torch.maximum(shadow, 0.5 * surface["teeth"])
    wrap = surface["skin"].unsqueeze(-1) * ones.new_tensor(SKIN_WRAP) + 0.06
    gloss = sum(surface[m] * GLOSS[m][0] for m in MATERIALS)
    power = sum(surface[m] * GLOSS[m][1] for m in MATERIALS)
    diffuse, shine, half, half_length = lit(shot, n, rays.direction, open_, shadow, wrap, gloss, power)
    picture = albedo * diffuse + (shine * (0.4 + 0.6 * open_)).unsqueeze(-1) * shot.light_colour
    glow = _hair_shine(head, p, n, half, half_length, surface["strands"]) * shadow * surface["hair"]
    picture = picture + glow.unsqueeze(-1) * (head.who.hair_colour * 1.5 + 0.2)
    picture = mix(picture, 1.0, 0.85 * surface["eye"] * _catch_light(head, p, rays.pixel * rays.t))
    return HeadLayer(rays, p, n, coverage, shadow, picture)


def _surface(head: Head, parts, p: list[Tensor], blur: Tensor) -> tuple[dict[str, Tensor], Tensor]:
    """Normal, contact occlusion, material shares and albedo at surface points of one zone."""
    distances = parts(p)

    def field(q: list[Tensor]) -> Tensor:
        return union(parts(q))

    n = normals(field, p, union(distances), (0.35 * blur).clamp(min=0.0015))
    found = {"nx": n[0], "ny": n[1], "nz": n[2], "open": occlusion(field, p, n, ((0.035, 0.55),), 0.97)}
    shares = torch.softmax(-torch.stack(list(distances.values()), -1) / (0.25 * blur + 1e-3).unsqueeze(-1), -1)
    found |= dict(zip(distances, shares.unbind(-1)))
    x, y, z = head.canonical(p)
    colours = {"skin": colour.skin_colour(head, x, y, z, blur, features="eye" in distances)}
    if "eye" in distances:
        colours["eye"] = colour.eye_colour(head, x, y, blur)
        colours["teeth"] = colour.teeth_colour(head, x, y)
    if "hair" in distances:
        colours["hair"], found["strands"] = colour.hair_colour(head, x, y, z, colours["skin"])
        colours["clothes"] = colour.clothes_colour(head, x, y, z)
    return found, sum(found[name].unsqueeze(-1) * c for name, c in colours.items())


def _hair_shine(head: Head, p, n, half, half_length, strands) -> Tensor:
    """Anisotropic highlight along the strands (Kajiya and Kay's model)."""
    down = [p[0], torch.full_like(p[1], -0.5), p[2] + 0.12]
    off = dot(n, down)
    tangent = [a - b * off for a, b in zip(down, n)]
    along = dot(tangent, half) / ((dot(tangent, tangent).sqrt() + 1e-6) * half_length)
    lobe = (1 - along * along).clamp(0, 1)
    for _ in range(4):
        lobe = lobe * lobe  # to the 16th power
    return lobe * (0.3 + 1.4 * strands) * 0.18 * smoothstep(0.02, 0.06, head.who.hair_thickness)


def _catch_light(head: Head, p, blur: Tensor) -> Tensor:
    """Weight of the lamp's reflection in the eyes."""
    x, y, _ = head.canonical(p)
    gx, gy = colour.gaze_coordinates(head, x, y)
    offset = head.shot.light_azimuth.clamp(-0.5, 0.5) * 0.35
    return gauss(((gx - offset).square() + (gy - 0.17).square()).sqrt(), 0.085 + 0.3 * blur / EYE_RADIUS)


def paint(picture: Tensor, rays: Rays, colours: Tensor, alpha: Tensor) -> Tensor:
    """`colours` [B, M, 3] laid over `picture` [B, 3, H, H] at the rays' pixels with `alpha` [B, M]."""
    flat = picture.flatten(2)
    index = rays.index.unsqueeze(1).expand(-1, 3, -1)
    old = flat.gather(2, index)
    return flat.scatter(2, index, old + (colours.transpose(1, 2) - old) * alpha.unsqueeze(1)).view_as(picture)


def mask_layer(layer: HeadLayer, worn: WornMask, picture: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
    """Wears the mask: its shadow on the head, then cloth, straps and scarf. `picture` [B, 3, H, H] is the background.

    Returns the linear picture and the coverage [B, 1, H, H] of "region", "straps" and "occluder".
    """
    head, rays, shot = worn.head, layer.rays, worn.head.shot

    def on_head(p: list[Tensor], n: list[Tensor]) -> list[Tensor]:
        return [
            cast_shadow(worn.distance, shot, p, n, steps=6, bias=0.012),
            occlusion(worn.distance, p, n, ((0.05, 0.5),), 1.0),
        ]

    shadow, contact = every_second(on_head, rays, layer.p, layer.n)
    # the shaded head holds its own shadow already: only what the mask takes in addition
    dimmed = layer.colour * ((0.32 + 0.68 * shadow) * contact).unsqueeze(-1)
    picture = paint(picture, rays, dimmed, layer.coverage)

    cloth = find_surface(worn.distance, shot, rays.size, margin=0.0, steps=(14, 8))
    coverage = trace(cloth, [(torch.ones_like(cloth.t, dtype=torch.bool), worn.distance)], worn.distance)
    head_depth = torch.where(layer.coverage > 0.3, rays.t, rays.t + 9)
    behind = (
        torch.full_like(picture[:, 0].flatten(1), FAR + 1).scatter(1, rays.index, head_depth).gather(1, cloth.index)
    )
    coverage = coverage * smoothstep(0.02, 0.0, cloth.t - behind)
    p = cloth.points()
    sheet, straps, occluder = worn.parts(p)
    is_strap, is_scarf = (
        ((straps < sheet) & (straps <= occluder)).float(),
        (occluder < torch.minimum(sheet, straps)).float(),
    )
    is_sheet = 1 - is_strap - is_scarf
    epsilon = (0.55 * cloth.pixel * cloth.t).clamp(min=0.002)

    def rimless(q: list[Tensor]) -> Tensor:
        others, scarf = worn.straps(q), worn.occluder(q)
        others = others if scarf is None else torch.minimum(others, scarf)
        return torch.lerp(others, worn.sheet(q, rim=False), is_sheet)

    n = normals(rimless, p, rimless(p), epsilon)

    def everything(q: list[Tensor]) -> Tensor:
        return torch.minimum(head.coarse(q), worn.distance(q))

    def soft(p: list[Tensor], n: list[Tensor]) -> list[Tensor]:
        own = cast_shadow(worn.distance, shot, p, n, steps=5, bias=0.02)
        from_head = cast_shadow(head.coarse, shot, p, n, steps=5, bias=0.10)
        return [
            torch.minimum(own, from_head),
            occlusion(everything, p, n, ((0.03, 0.25), (0.08, 0.30), (0.20, 0.25)), 0.72),
        ]

    shadow, open_ = every_second(soft, cloth, p, n)
    _, _, _, s, t, _, _ = worn.coordinates(p)
    albedo = colour.worn_colour(worn, p, s, t, is_strap, is_scarf)
    wrap = (0.18 * (1 - is_scarf)).unsqueeze(-1)
    diffuse, shine, _, _ = lit(
        shot, n, cloth.direction, open_.clamp(0.25, 1), shadow, wrap, torch.full_like(s, 0.05), 10.0
    )
    picture = paint(picture, cloth, albedo * diffuse + shine.unsqueeze(-1), coverage)
    shares = {"region": is_sheet, "straps": is_strap, "occluder": is_scarf}
    return picture, {name: scatter_map(cloth, coverage * share) for name, share in shares.items()}


def background(shot: Shot, size: int) -> Tensor:
    """Out-of-focus background [B, 3, size, size], linear."""
    return F.interpolate(shot.background, size=(size, size), mode="bicubic", align_corners=True).clamp(0.005, 1.2)


def film(picture: Tensor, shot: Shot, size: int) -> Tensor:
    """Linear [B, 3, H, H] -> display [B, 3, size, size] in [0, 1]: antialiasing, tone curve, gamma, sensor noise.

    The noise is an integer hash of pixel and seed, the same on every device.
    """
    tone = (1 - torch.exp(-1.35 * picture.clamp(min=0))).clamp(1e-5, 1) ** (1 / 2.2)
    tone = resize(tone, size)
    h = torch.arange(3 * size * size, device=tone.device).view(1, 3, size, size)
    h = h + shot.grain_seed.long().view(-1, 1, 1, 1) * 7919 + 12345
    for multiplier, shift in ((2654435761, 15), (2246822519, 13), (3266489917, 16)):
        h = (h * multiplier) & 0xFFFFFFFF
        h = h ^ (h >> shift)
    noise = ((h & 0xFFFF) + (h >> 16)).float() / 65535 - 1  # triangular, standard deviation 0.41
    return (tone + shot.grain.view(-1, 1, 1, 1) * 2.45 * noise).clamp(0, 1)
