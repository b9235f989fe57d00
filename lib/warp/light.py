"""Light for a mask, taken from the face that wears it: a low-resolution field of gains, a colour cast, the picture's
grain and softness, and the shadow that the mask throws.

Everything is estimated from the covered skin in a window around the mask, before any mask is on it. Skin carries two
things, its own colour and the light on it; only the light may pass to the mask. How the light *changes* over the lower
face is read off directly. Its overall strength and colour are not: dark skin in good light looks like light skin in the
shade, so both pass on only in part, by exponents fitted where the truth is known (`lib.study.step_one` measures the
result).

*Convention.* Batched torch, float32, sRGB-encoded values in [0, 1]; nothing loops over faces; any device.
"""

from __future__ import annotations

import math
from functools import lru_cache

import torch
import torch.nn.functional as F

NODES = 12  # per side of the field of gains
GAIN_RANGE = (0.30, 1.45)
_KNEE, _WHITE = 0.86, 0.98  # cloth brighter than the one is lit ever less, and never beyond the other
_LUMINANCE = (0.299, 0.587, 0.114)
# Fitted on 192 faces of the face world with truly worn masks (identities 40,000 to 40,191), by least squares on the
# logarithms of (masked picture / mask's own colour).
_SHADING = 0.8  # exponent on the relative shading
_EXPOSURE = 0.12  # exponent on the face's brightness against an average one's
_CAST = (0.1, 0.0, 0.2)  # exponents on the skin's red/green and blue/green against an average skin's
_MEAN_SKIN = (0.72, 0.58, 0.51)  # under even light
_LEVEL = 0.93  # gain on the average face
# Not fitted, because no picture of the face world is underexposed: where the brightest thirty-second of the window is
# darker than this, the mask is too, nearly in proportion.
_BRIGHT, _DARKNESS = 0.62, 0.8
_GREY, _COLOUR = (
    0.006,
    0.02,
)  # spread of a pixel's channels; 520 colour photographs had 0.036 and more, faded ones 0.008
_SHARP_SIGMA = 0.62  # px, of a picture that is as sharp as its pixels allow


def face_light(photo: torch.Tensor, cover: torch.Tensor) -> torch.Tensor:
    """How the light on a face changes a mask's colour: gains float32 [B, 3, 12, 12], spread evenly over the window,
    corners included; 1 is the template as drawn. Within `GAIN_RANGE`.

    photo: [B, 3, n, m], the window in cells (about 40 across the mask). cover: [B, 1, n, m], where the mask will lie.
    """
    n, m = photo.shape[2:]
    inner = -F.max_pool2d(-F.pad(cover, (1, 1, 1, 1), value=1.0), 3, 1)  # away from hair and background
    weight = (inner > 0.5).float() + 1e-6 * (cover + 1e-3)
    luminance = (photo * photo.new_tensor(_LUMINANCE).view(1, 3, 1, 1)).sum(1, keepdim=True).clamp_(min=0.02)
    # Lips, nostrils, a moustache are dark on skin: close them, by the brightest nearby, then the darkest of those.
    reach = 2 * max(1, round(0.07 * m)) + 1
    lit = torch.where(weight > 0.5, luminance, 0.0)
    closed = F.max_pool2d(lit, reach, 1, reach // 2)
    closed = -F.max_pool2d(-torch.where(weight > 0.5, closed, 1.0), reach, 1, reach // 2)
    closed = torch.where(weight > 0.5, torch.maximum(0.35 * lit + 0.65 * closed, lit).clamp(max=1), luminance)

    rows, columns = _smoother(n).to(photo.device), _smoother(m).to(photo.device)

    def smooth(values: torch.Tensor) -> torch.Tensor:
        return torch.stack([rows @ one @ columns.T for one in values])  # one by one: see `sampling.each`

    total = smooth(weight)
    field = smooth(weight * closed.log()) / total
    skin = (photo.clamp(min=0.02).log() * weight).sum((2, 3), keepdim=True) / weight.sum((2, 3), keepdim=True)
    mean = (closed.log() * weight).sum((2, 3), keepdim=True) / weight.sum((2, 3), keepdim=True)
    average = photo.new_tensor(_MEAN_SKIN)
    grey = math.log(sum(a * b for a, b in zip(_MEAN_SKIN, _LUMINANCE)))
    # Against green, so that the cast changes no brightness to speak of.
    cast = (skin - skin[:, 1:2]) - (average.log() - average[1].log()).view(1, 3, 1, 1)
    gain = _SHADING * (field - mean) + _EXPOSURE * (mean - grey) + cast * cast.new_tensor(_CAST).view(1, 3, 1, 1)
    # A dark picture has nothing bright in it, whoever is shown.
    count = max(1, luminance[0].numel() // 32)
    bright = luminance.flatten(1).topk(count).values.mean(1).view(-1, 1, 1, 1)
    gain = gain + _DARKNESS * (bright / _BRIGHT).clamp(max=1).log()
    return (_LEVEL * gain.exp()).clamp_(*GAIN_RANGE)


def shoulder(gain: torch.Tensor, brightest: float) -> torch.Tensor:
    """Gains [3, n, n] under which a mask's brightest cloth keeps its folds: a soft shoulder, as film has it, where a
    camera's clip would leave plain white. brightest: that cloth's value as drawn, in [0, 1]. The cast stays."""
    lit = brightest * gain.amax(0, keepdim=True)
    over, room = (lit - _KNEE).clamp(min=0), _WHITE - _KNEE
    return gain * ((lit - over + over * room / (over + room)) / lit.clamp(min=1e-6))


@lru_cache(maxsize=64)
def _smoother(cells: int) -> torch.Tensor:
    """A Gaussian blur of an eighth of the window that also goes from `cells` to 12 nodes: float32 [12, cells]."""
    at, cell = torch.linspace(0, cells - 1, NODES)[:, None], torch.arange(cells)
    weights = torch.exp(-0.5 * ((at - cell) / max(0.11 * cells, 0.6)) ** 2)
    return weights / weights.sum(1, keepdim=True)


def picture_gain(
    kind: str, whole: torch.Tensor, photo: torch.Tensor, cover: torch.Tensor, brightness: float
) -> torch.Tensor:
    """The families' ways: one gain [1, 1, 1] for a mask.

    kind: "picture", by how much the whole picture's mean brightness differs from the mask's (MaskTheFace); "face", the
    covered face's (MLFW). whole: [1, 3, H, W]; photo, cover: as for `face_light`, of one face. brightness: the mask's
    own, in [0, 1]. Raises ValueError for another kind.
    """
    if kind not in ("picture", "face"):
        raise ValueError(f"light: expected picture or face, got {kind!r}")
    shades = photo.new_tensor(_LUMINANCE).view(1, 3, 1, 1)
    if kind == "picture":
        mean = (whole * shades).sum(1).mean()
    else:
        mean = ((photo * shades).sum(1, keepdim=True) * cover).sum() / cover.sum().clamp(min=1e-6)
    return (1 + mean - brightness).clamp(*GAIN_RANGE).view(1, 1, 1)


def saturation(photo: torch.Tensor) -> torch.Tensor:
    """How much of its colour a mask may show: [B] in [0, 1], 0 in a black-and-white picture, 1 in any coloured one.

    photo: [B, 3, n, m], the window in cells. Told by the mean of largest minus smallest channel.
    """
    apart = (photo.amax(1) - photo.amin(1)).mean((1, 2))
    return ((apart - _GREY) / (_COLOUR - _GREY)).clamp_(0, 1)


def fade(colour: torch.Tensor, share: torch.Tensor) -> torch.Tensor:
    """Colours [B, 3, h, w], premultiplied or not, with `share` [B] of their saturation; brightness stays."""
    grey = (colour * colour.new_tensor(_LUMINANCE).view(1, 3, 1, 1)).sum(1, keepdim=True)
    return torch.lerp(grey, colour, share.view(-1, 1, 1, 1))


def grain(photo: torch.Tensor, cover: torch.Tensor) -> torch.Tensor:
    """Standard deviation of a picture's noise on the covered skin, [B], in units of the photo's own range.

    photo: [B, 3, h, w] at its own resolution, 0…255 or 0…1; cover: [B, 1, n, m] over the same window. Immerkær's
    estimator (1996): the mean absolute response to the difference of two Laplacians, which skin's slow shading does not
    reach, taken where it is small (pores and stubble are not noise).
    """
    grey = photo[:, 1:2]
    if min(grey.shape[2:]) < 3:
        return photo.new_zeros(len(photo))
    rows = grey[:, :, :-2] - 2 * grey[:, :, 1:-1] + grey[:, :, 2:]
    response = (rows[..., :-2] - 2 * rows[..., 1:-1] + rows[..., 2:]).abs_()
    # Means of blocks, and of those the lower half: noise is everywhere, structure is not.
    blocks = F.avg_pool2d(response, max(1, min(response.shape[2:]) // 20))
    here = F.interpolate(cover, size=blocks.shape[2:]) > 0.5
    values = torch.where(here, blocks, torch.inf).flatten(1).sort(1).values
    count = here.flatten(1).sum(1)
    keep = torch.arange(values.shape[1], device=photo.device) < (count.unsqueeze(1) + 1) // 2
    low = torch.where(keep & values.isfinite(), values, 0.0).sum(1) / ((count + 1) // 2).clamp(min=1)
    return math.sqrt(math.pi / 2) / 6 * low


def softness(photo: torch.Tensor, cover: torch.Tensor) -> torch.Tensor:
    """How blurred a picture is, as the sigma (px, [B]) of a Gaussian over one that is sharp; 0 for a sharp one.

    photo: [B, 3, h, w] at its own resolution. Edges tell: a blur of known sigma takes less from an edge that is soft
    already (Zhuo & Sim 2011). With r the ratio of gradients before and after it, sigma² = 1 / (r² − 1) for the known
    sigma 1; the strongest edges count most (means of fourth powers). Noise makes it err towards sharp.
    """
    grey = photo[:, 1]
    if min(grey.shape[1:]) < 8:
        return photo.new_zeros(len(photo))
    soft = grey
    for _ in range(2):  # [1 2 1] twice along each axis: variance 1
        soft = 0.25 * (soft[:, :-2] + soft[:, 2:]) + 0.5 * soft[:, 1:-1]
        soft = 0.25 * (soft[:, :, :-2] + soft[:, :, 2:]) + 0.5 * soft[:, :, 1:-1]

    def edges(values: torch.Tensor) -> torch.Tensor:
        dx = (values[:, 1:-1, 2:] - values[:, 1:-1, :-2]).square_()
        return (dx + (values[:, 2:, 1:-1] - values[:, :-2, 1:-1]).square_()).square_().mean((1, 2))

    ratio = (edges(grey[:, 2:-2, 2:-2]) / edges(soft).clamp(min=1e-12)).sqrt()  # fourth root, squared
    sigma = 1 / (ratio - 1).clamp(min=0.02)  # squared
    return (sigma - _SHARP_SIGMA**2).clamp_(0, 36).sqrt_()


def contact_shadow(cover: torch.Tensor, strength: float, width_cells: float) -> torch.Tensor:
    """By how much a mask darkens what lies beside it: [B, 1, n, m] in [0, strength / 2] outside, below and at its sides
    more than above; 0 farther from it than a tenth of its width.

    cover: [B, 1, n, m]. width_cells: the mask's width in cells.
    """
    sigma = max(0.028 * width_cells, 0.5)
    radius = min(max(1, math.ceil(2.2 * sigma)), min(cover.shape[2:]) - 1)
    kernel = torch.exp(-0.5 * (torch.arange(-radius, radius + 1, device=cover.device) / sigma) ** 2)
    kernel = kernel / kernel.sum()
    drop = min(max(1, round(0.02 * width_cells)), cover.shape[2] - 1)
    fallen = torch.cat([cover[:, :, :1].expand(-1, -1, drop, -1), cover[:, :, :-drop]], 2)  # light comes from above
    padded = F.pad(fallen, (radius,) * 4, mode="replicate")
    blurred = F.conv2d(F.conv2d(padded, kernel.view(1, 1, -1, 1)), kernel.view(1, 1, 1, -1))
    return blurred.mul_(strength)
