"""Look the cloth up in its template: the part of step one that touches every pixel.

*Convention.* As in `lib.warp.wear`: planes float32 in [0, 1], colours premultiplied by coverage. A batch shares one
size; each face's lattice (`Placed.nodes`) is spread over the whole of it, corners included.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import torch
import torch.nn.functional as F
from scipy.ndimage import gaussian_filter

from lib.warp.looks import parse_colour, reference, texture_sheet
from lib.warp.params import WarpParams
from lib.warp.place import Placed
from lib.warp.templates import Template, template

_REFERENCE_MASK_PX = 160.0  # a mask's usual width on a 256² face, at which `feather_px` is meant
_BASES = (512, 1024, 2048)  # sizes at which a template is drawn: the smallest that is not enlarged
_STEPS_PER_OCTAVE = 2
_SHARPER = -0.35  # octaves; a bilinear look-up blurs by itself
_CONTOUR = 1.6  # px over which coverage goes from 0 to 1 across the face's own contour, in a sharp picture
_LUMINANCE = (0.299, 0.587, 0.114)


@dataclass(eq=False)
class Cloth:
    """colour: float32 [B, 3, h, w] premultiplied, as lit in the template; cover: float32 [B, 1, h, w]."""

    colour: torch.Tensor
    cover: torch.Tensor


@lru_cache(maxsize=24)
def _pyramid(mask: Template, feather_px: float, relief: float, crumple: float) -> tuple[torch.Tensor, ...]:
    """A template, its edge feathered, at sizes a factor √2 apart: float32 [1, 4 or 5, h, w] each: colour premultiplied,
    coverage, and where it takes dye (if not everywhere).

    The feather is applied here, in the template's frame, so it costs nothing per face and has the same width on the
    face whatever the picture's resolution.
    """
    rgba = mask.rgba.astype(np.float32) / 255
    width = float(np.ptp(mask.points[:, 0]))
    alpha = gaussian_filter(rgba[..., 3], sigma=feather_px / 2 * width / _REFERENCE_MASK_PX, mode="constant")
    shade = (np.maximum(rgba[..., :3] @ np.array(_LUMINANCE, np.float32), 0.02) / reference(mask)) ** (relief - 1)
    shade = shade.clip(0.4, 1.6) * (1 + crumple * _crumples(rgba.shape[:2]))
    if mask.dye is not None:  # what is no cloth (a filter, a clip) has no pleats, and another brightness
        shade = 1 + (shade - 1) * (mask.dye.astype(np.float32) / 255)
    planes = [rgba[..., :3] * (shade * alpha)[..., None], alpha[..., None]]
    if mask.dye is not None:
        planes.append(mask.dye[..., None].astype(np.float32) / 255)
    full = torch.from_numpy(np.ascontiguousarray(np.concatenate(planes, -1).transpose(2, 0, 1), dtype=np.float32))[None]
    return tuple(_shrunk(full, mask.rgba.shape[:2]))


@lru_cache(maxsize=8)
def _crumples(shape: tuple[int, int]) -> np.ndarray:
    """Fine folds over a template's canvas, mostly across the face: float32 [h, w], mean 0, standard deviation 1."""
    noise = np.random.default_rng(5).standard_normal(shape)
    unit = shape[1] / 512
    fine, broad = (gaussian_filter(noise, (a * unit, b * unit), mode="wrap") for a, b in ((2.5, 6), (6, 16)))
    folds = 0.6 * fine / fine.std() + 0.8 * broad / broad.std()
    return (folds / folds.std()).astype(np.float32)


def _shrunk(full: torch.Tensor, shape: tuple[int, int]) -> list[torch.Tensor]:
    out, k = [full], 1
    while min(shape) / 2 ** (k / _STEPS_PER_OCTAVE) >= 12:
        size = [round(side / 2 ** (k / _STEPS_PER_OCTAVE)) for side in shape]
        out.append(F.interpolate(full, size=size, mode="bilinear", antialias=True, align_corners=False))
        k += 1
    return out


@lru_cache(maxsize=16)
def _sheet(name: str, mask: Template, scale: float, ground: str) -> tuple[torch.Tensor, ...]:
    sheet = texture_sheet(name, mask.rgba.shape[:2], scale, ground)
    full = torch.from_numpy(sheet.transpose(2, 0, 1).astype(np.float32) / 255)[None]
    return tuple(_shrunk(full, mask.rgba.shape[:2]))


def _level(levels: tuple[torch.Tensor, ...], detail: float, blur_px: float) -> torch.Tensor:
    """The level of a pyramid whose pixels are about as large as the photograph's, or as its blur."""
    octaves = math.log2(max(levels[0].shape[-1] * detail, 1e-6)) + 0.5 * math.log2(1 + 3.0 * blur_px**2) + _SHARPER
    return levels[min(max(round(octaves * _STEPS_PER_OCTAVE), 0), len(levels) - 1)]


def _drawn(item: Placed) -> Template:
    """The template at a size that is not enlarged on this face."""
    if item.template is not template(item.params.template):
        return item.template  # a side view
    size = next((s for s in _BASES if s * item.detail >= 0.9), _BASES[-1])
    return template(item.params.template, size)


def spread(lattice: torch.Tensor, height: int, width: int) -> torch.Tensor:
    """A lattice [B, C, n, m] spread linearly over height × width px, corners included. Two products of matrices: on a
    CPU four times as fast as torch's own bilinear interpolation."""
    n, m = lattice.shape[2:]
    down, across = (_hats(size, k).to(lattice.device) for size, k in ((height, n), (width, m)))
    out = lattice.new_empty(*lattice.shape[:2], height, width)
    for one, place in zip(lattice, out, strict=True):  # one by one: see `each`
        wide = one.reshape(-1, m) @ across.T
        for plane, there in zip(wide.view(-1, n, width), place, strict=True):
            torch.mm(down, plane, out=there)
    return out


def each(do: Callable[..., torch.Tensor], *batches: torch.Tensor) -> torch.Tensor:
    """A function of single items over batches. Products of matrices go through it: how they are rounded depends on how
    many there are at once, and a face must come out the same in any company."""
    return torch.stack([do(*items) for items in zip(*batches, strict=True)])


@lru_cache(maxsize=256)
def _hats(length: int, nodes: int) -> torch.Tensor:
    """Weights float32 [length, nodes] of linear interpolation at 0…length−1 between nodes spread evenly over it."""
    place = np.arange(length) * ((nodes - 1) / max(length - 1, 1))
    return torch.from_numpy(np.clip(1 - np.abs(place[:, None] - np.arange(nodes)), 0, None)).float()


def sample_cloth(
    placed: list[Placed], height: int, width: int, blur_px: list[float] | None, device: torch.device
) -> Cloth:
    """The masks of a batch on a canvas of height × width px. blur_px: the pictures' softness, sigma in px; None where
    the canvas is not the photographs' own but a smaller one of the same shape."""
    dense = spread(torch.stack([item.nodes for item in placed]).to(device), height, width)
    grid = dense[:, :2]
    if dense.shape[1] > 2:  # see `Placed.nodes`
        grid.addcmul_(dense[:, 2:4], dense[:, 4:].clamp(min=0).sqrt_())
    grid = grid.permute(0, 2, 3, 1)
    planes = torch.empty(len(placed), 4, height, width, device=device)
    for k, item in enumerate(placed):
        params, mask = item.params, item.template if blur_px is None else _drawn(item)
        detail, blur = item.detail * item.canvas[0] / width, blur_px[k] if blur_px else 0.0
        levels = _pyramid(mask, params.style.feather_px, params.style.relief, params.style.crumple)
        look = grid[k : k + 1]
        found = F.grid_sample(_level(levels, detail, blur).to(device), look, align_corners=False)[0]
        if params.colour or params.texture:
            found[:3] = _dyed(found, params, mask, look, detail, blur)
        if params.style.edge == "hard":
            sharp = (found[3:4] >= 0.5).float()
            found[:3] *= sharp / found[3:4].clamp(min=0.5)
            found[3:4] = sharp
        planes[k] = found[:4]
    if dense.shape[1] > 2:
        # As wide as the photograph's own edges: a blurred step has its steepest slope in the middle.
        width = dense.new_tensor(
            [math.hypot(_CONTOUR, math.sqrt(2 * math.pi) * b) for b in blur_px or [0.0] * len(placed)]
        )
        planes *= dense[:, 4:].div_(width.view(-1, 1, 1, 1)).add_(0.5).clamp_(0, 1)
    cover = planes[:, 3:].clamp_(max=1)
    cover[cover < 3 / 256] = 0  # a trace that nobody could see
    return Cloth(planes[:, :3], cover)


def _dyed(found, params, mask: Template, look, detail: float, blur: float) -> torch.Tensor:
    """The cloth's colour [3, h, w] with the chosen colour and texture, the template's own relief kept."""
    rgb, dye = found[:3], found[4:5] if len(found) > 4 else 1.0
    relief = (rgb * rgb.new_tensor(_LUMINANCE).view(3, 1, 1)).sum(0, keepdim=True) / reference(mask)
    if params.colour:
        chosen = rgb.new_tensor(parse_colour(params.colour)).view(3, 1, 1) / 255
        rgb = rgb + params.colour_weight * dye * (relief * chosen - rgb)
    if params.texture:
        sheets = _sheet(params.texture, mask, params.texture_scale, params.colour)
        sheet = F.grid_sample(
            _level(sheets, detail, blur).to(look.device), look, padding_mode="border", align_corners=False
        )
        rgb = rgb + params.texture_weight * dye * (relief * sheet[0, :3] - sheet[0, 3:] * rgb)
    return rgb


def brightness(mask: Template, colour: str) -> float:
    """Luminance of a mask's cloth, in its own colour or a chosen one, in [0, 1]."""
    return sum(a * b / 255 for a, b in zip(parse_colour(colour), _LUMINANCE)) if colour else reference(mask)


def brightest(params: WarpParams, mask: Template) -> float:
    """The largest channel of a mask's brightest cloth under even light, in [0, 1]."""
    own = _brightest(mask)
    if params.colour:  # the relief goes on from the chosen colour's brightness
        own += params.colour_weight * (max(parse_colour(params.colour)) / 255 - own)
    return max(own, params.texture_weight) if params.texture else own


@lru_cache(maxsize=64)
def _brightest(mask: Template) -> float:
    return float(np.quantile(mask.rgba[..., :3][mask.rgba[..., 3] > 127].max(-1), 0.9)) / 255
