"""Put masks on faces (step one of the paper, §3 and §4.1): apply drawn parameters to pictures and landmarks.

There is no chance here: the same picture, landmarks and parameters give the same bytes. Many faces are done at once, in
one picture or in many; each may wear another mask. What lies outside a mask, its straps and its shadow keeps every bit.

*Convention.* Pictures are uint8 [H, W, 3] RGB; inside, planes are float32 in [0, 1], colours multiplied by their
coverage (premultiplied), so that soft edges show no fringe.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import cv2
import numpy as np
import torch
import torch.nn.functional as F

from lib.warp import light
from lib.warp.params import WarpError, WarpParams
from lib.warp.place import Placed, place_all
from lib.warp.sampling import brightest, brightness, sample_cloth, spread
from lib.warp.straps import Strands, draw_straps, lay_straps

_BATCH_PIXELS = 3_000_000  # of windows computed at once; bounds the memory (about 100 bytes each)
_NOISE_OFFSETS = 512


@dataclass(frozen=True, eq=False)
class Worn:
    """One mask on one face. window: (x, y, w, h) px of the picture. alpha: float32 [h, w] in [0, 1], coverage by cloth
    and straps in that window. shadow: float32 [h, w] in [0, 1], by how much the mask's shadow darkens the skin beside
    it. box: (x, y, w, h) whole pixels of the picture around alpha > 0. yaw, pitch, roll: of the head, degrees."""

    window: tuple[int, int, int, int]
    alpha: np.ndarray
    shadow: np.ndarray
    box: tuple[int, int, int, int]
    yaw: float
    pitch: float
    roll: float

    @property
    def slices(self) -> tuple[slice, slice]:
        """Rows and columns of the picture that the window covers."""
        x, y, w, h = self.window
        return slice(y, y + h), slice(x, x + w)


@dataclass(frozen=True, eq=False)
class Warped:
    """image: uint8 [H, W, 3] RGB, equal to the input wherever alpha and shadow are 0. alpha, shadow: float32 [H, W] in
    [0, 1], coverage by mask and straps, and the darkening beside them. box: (x, y, w, h) whole pixels around
    alpha > 0."""

    image: np.ndarray
    alpha: np.ndarray
    shadow: np.ndarray
    box: tuple[int, int, int, int]

    @property
    def region(self) -> np.ndarray:
        """uint8 [H, W]: the mask's soft coverage, 0 only where no pixel changed (shadows count with their strength)."""
        return np.ceil(255 * np.maximum(self.alpha, self.shadow)).astype(np.uint8)

    @property
    def non_mask(self) -> np.ndarray:
        """bool [H, W], True where the picture is unchanged: the non-mask tensor of the paper (§4.1), exactly."""
        return (self.alpha == 0) & (self.shadow == 0)


def apply_warp(image: np.ndarray, landmarks: np.ndarray, params: WarpParams | None = None) -> Warped:
    """Warp a mask onto one face of a picture; call again with the result for the next face, or see `apply_warps`.

    image: uint8 [H, W, 3] RGB, any size. landmarks: [68, 2], (x, y) px of that image; they may lie outside it.
    params: None means no jitter. Only a window around the face is computed.

    Raises WarpError, with the reason, for landmarks that are no face, too small, turned too far or outside the picture;
    ValueError for an image of another kind. Method: cabani2021maskedface (twelve points, homography), paper §3.
    """
    (out,), (worn,) = apply_warps([image], [(0, landmarks, params or WarpParams())])
    if isinstance(worn, WarpError):
        raise worn
    alpha, shadow = (np.zeros(image.shape[:2], np.float32) for _ in range(2))
    alpha[worn.slices], shadow[worn.slices] = worn.alpha, worn.shadow
    return Warped(out, alpha, shadow, worn.box)


@torch.inference_mode()
def apply_warps(
    images: Sequence[np.ndarray],
    faces: Sequence[tuple[int, np.ndarray, WarpParams]],
    device: str | torch.device = "cpu",
) -> tuple[list[np.ndarray], list[Worn | WarpError]]:
    """Warp masks onto many faces of many pictures at once.

    Args:
        images: uint8 [H, W, 3] RGB each, any sizes; not changed.
        faces: (number of the image, landmarks [68, 2] px of it, parameters) each. Several faces of one image are put on
            in this order, the later over the earlier; light is taken from the image without any mask.
        device: where the pixels are computed; "cuda" for many large faces.

    Returns:
        New images, and for every face its `Worn`, or the WarpError that says why it has none; a face that fails leaves
        its image as it would be without it. Results do not depend on what else is in the call.

    Raises ValueError for an image of another kind, an image number that does not exist, or a device that is not there.
    """
    device = _device(device)
    for k, image in enumerate(images):
        if not isinstance(image, np.ndarray) or image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3:
            got = f"{image.dtype} {image.shape}" if isinstance(image, np.ndarray) else type(image).__name__
            raise ValueError(f"image {k}: expected uint8 [H, W, 3], got {got}")
    for index, _, _ in faces:
        if not 0 <= index < len(images):
            raise ValueError(f"faces name image {index}, but there are {len(images)}")
    out = [image.copy() for image in images]
    result: list = place_all([(landmarks, params, images[k].shape[:2]) for k, landmarks, params in faces])
    layers: dict[int, _Layer] = {}
    for group in _groups(result):
        pictures = [images[faces[k][0]] for k in group]
        for k, layer in zip(group, _render([result[k] for k in group], pictures, device), strict=True):
            layers[k] = layer
    taken: list[list[tuple]] = [[] for _ in images]
    for k, (index, _, _) in enumerate(faces):
        if k in layers:
            result[k] = _lay(out[index], result[k], layers.pop(k), taken[index])
    return out, result


def _device(name: str | torch.device) -> torch.device:
    try:
        device = torch.device(name)
    except RuntimeError:
        raise ValueError(f'device {name!r}: expected "cpu", "cuda" or "cuda:1" …') from None
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise ValueError(f'device "{device}": torch sees {torch.cuda.device_count()} CUDA devices here; use "cpu"')
    return device


@dataclass(eq=False)
class _Layer:
    """What a mask does to its window: out = below · keep + colour. keep float32 [1, h, w], colour float32 [3, h, w],
    premultiplied; cover, shadow float32 [h, w]; mixed uint8 [3, h, w], the result over the untouched picture. strands:
    the straps, which come after it."""

    colour: torch.Tensor
    keep: torch.Tensor
    cover: np.ndarray
    shadow: np.ndarray
    mixed: np.ndarray
    strands: Strands | None


def _mix(below: torch.Tensor, keep: torch.Tensor, colour: torch.Tensor) -> torch.Tensor:
    """uint8 [..., 3, h, w] from below (0…255), keep and premultiplied colour (0…1)."""
    return (below * keep).add_(colour, alpha=255).round_().clamp_(0, 255).to(torch.uint8)


def _groups(placed: list) -> list[list[int]]:
    """Numbers of faces to be computed together: canvases of one size, within the bound on memory."""
    keys: dict[tuple, list[int]] = {}
    for k, item in enumerate(placed):
        if isinstance(item, Placed):
            keys.setdefault((*item.canvas, item.nodes.shape[-1]), []).append(k)
    out = []
    for (w, h, _), members in keys.items():
        step = max(1, _BATCH_PIXELS // (w * h))
        out += [members[i : i + step] for i in range(0, len(members), step)]
    return out


def _render(placed: list[Placed], pictures: list[np.ndarray], device: torch.device) -> list[_Layer]:
    """The layers of faces whose canvases have one size."""
    width, height = placed[0].canvas
    photo = torch.from_numpy(_cut(placed, pictures)).to(device).float()
    styles = [item.params.style for item in placed]
    step = _cell(placed[0].canvas)
    small = F.avg_pool2d(photo, step).mul_(1 / 255)
    rough = sample_cloth(placed, height // step, width // step, None, device).cover  # where the masks will lie

    blur = [0.0] * len(placed)
    if any(style.blur for style in styles):
        blur = [style.blur * s for style, s in zip(styles, light.softness(photo, rough).tolist(), strict=True)]
    cloth = sample_cloth(placed, height, width, blur, device)
    colour, cover = cloth.colour, cloth.cover
    gain = _gains(placed, small, rough, pictures, device)
    field = spread(gain, height, width)
    colour *= field
    local = torch.tensor([style.light == "local" for style in styles], device=device)
    share = torch.where(local, light.saturation(small), 1.0)
    if float(share.min()) < 1:
        colour = light.fade(colour, share)
    if any(style.grain for style in styles):
        _add_grain(colour, cover, placed, light.grain(photo, rough))
    torch.minimum(colour, cover, out=colour)  # premultiplied: never brighter than white
    keep = 1 - cover
    shadow = _shadows(placed, rough)
    if shadow is None:
        shadow = torch.zeros_like(cover)
    else:
        shadow = spread(shadow, height, width).clamp_(0, 1).mul_(keep)
        shadow.masked_fill_(shadow < 1 / 256, 0)  # a trace that could not change a byte by more than one
        keep -= shadow
    mixed = _mix(photo, keep, colour).cpu().numpy()
    cover, shadow = cover.cpu().numpy(), shadow.cpu().numpy()
    lights, shares, out = gain.cpu().numpy(), share.tolist(), []
    for k, item in enumerate(placed):
        at = (k, ..., slice(item.window[3]), slice(item.window[2]))
        strands = draw_straps(item, lights[k], blur[k], shares[k])
        out.append(_Layer(colour[at], keep[at], cover[at][0], shadow[at][0], mixed[at], strands))
    return out


def _cell(canvas: tuple[int, int]) -> int:
    """Side in px of the cells in which light and shadow are worked out: about 48 of them across, a power of two."""
    return int(2 ** np.clip(np.floor(np.log2(max(canvas) / 40)), 0, 4))


def _cut(placed: list[Placed], pictures: list[np.ndarray]) -> np.ndarray:
    """The canvases around faces, uint8 [B, 3, h, w]; beyond a picture its border goes on."""
    width, height = placed[0].canvas
    out = np.empty((len(placed), 3, height, width), np.uint8)
    for planes, item, picture in zip(out, placed, pictures, strict=True):
        x, y = item.window[:2]
        seen = picture[y : y + height, x : x + width]
        h, w = seen.shape[:2]
        for plane, channel in zip(planes, cv2.split(seen), strict=True):
            plane[:h, :w] = channel
        planes[:, h:, :w] = planes[:, h - 1 : h, :w]
        planes[:, :, w:] = planes[:, :, w - 1 : w]
    return out


def _gains(placed, small, rough, pictures, device) -> torch.Tensor:
    """The light on each mask, float32 [B, 3, n, n], spread evenly over the canvas, corners included."""
    gain = torch.tensor([item.params.gain for item in placed], device=device, dtype=torch.float32).view(-1, 3, 1, 1)
    kinds = [item.params.style.light for item in placed]
    if "local" in kinds:
        here = torch.tensor([kind == "local" for kind in kinds], device=device).view(-1, 1, 1, 1)
        halves = (F.avg_pool2d(t, 2) for t in (small, rough))  # light is smooth
        gain = gain * torch.where(here, light.face_light(*halves), 1.0)
        for one, item in zip(gain, placed, strict=True):
            if item.params.style.light == "local":
                one.copy_(light.shoulder(one, brightest(item.params, item.template)))
    for kind in ("picture", "face"):
        for k in (k for k, own in enumerate(kinds) if own == kind):
            gain = gain.clone()
            whole = _thumbnail(pictures[k], device)
            own = brightness(placed[k].template, placed[k].params.colour)
            gain[k] *= light.picture_gain(kind, whole, small[k : k + 1], rough[k : k + 1], own)
    return gain


def _thumbnail(picture: np.ndarray, device: torch.device) -> torch.Tensor:
    """Every so many pixels of a whole picture, float32 [1, 3, h, w] in [0, 1]: enough for its mean."""
    step = max(1, max(picture.shape) // 256)
    return torch.from_numpy(picture[::step, ::step].copy()).to(device).permute(2, 0, 1)[None].float() / 255


def _add_grain(colour: torch.Tensor, cover: torch.Tensor, placed: list[Placed], sigma: torch.Tensor) -> None:
    """Noise as strong as the picture's own (sigma [B], 0…255); its pattern comes from each face's seed alone."""
    height, width = colour.shape[2:]
    tile = _noise(max(height, width)).to(colour.device)
    for one, under, item, strength in zip(colour, cover, placed, sigma.tolist(), strict=True):
        if strength := strength * item.params.style.grain / 255:
            top, left = ((item.params.grain_seed >> shift) % _NOISE_OFFSETS for shift in (0, 9))
            one.addcmul_(tile[top : top + height, left : left + width], under, value=strength).clamp_(min=0)


@lru_cache(maxsize=4)
def _noise(side: int) -> torch.Tensor:
    """Gaussian noise with the same values at the same place, whatever the side."""
    reach = _NOISE_OFFSETS * (-(-side // _NOISE_OFFSETS) + 1)
    tile = np.random.default_rng(0).standard_normal((_NOISE_OFFSETS, _NOISE_OFFSETS)).astype(np.float32)
    return torch.from_numpy(np.tile(tile, (reach // _NOISE_OFFSETS,) * 2))


def _shadows(placed, rough) -> torch.Tensor | None:
    """By how much each mask darkens what lies beside it, float32 [B, 1, n, m] in [0, 1] over the canvas."""
    if not any(item.params.style.shadow for item in placed):
        return None
    cells = rough.shape[3]
    return torch.cat([
        light.contact_shadow(one[None], item.params.style.shadow, item.width / item.canvas[0] * cells)
        for one, item in zip(rough, placed, strict=True)
    ])  # fmt: skip


def _lay(picture: np.ndarray, placed: Placed, layer: _Layer, taken: list[tuple]) -> Worn | WarpError:
    """Put a layer on a picture, in place. taken: `reach` of the masks already on it."""
    if not layer.cover.any():
        return WarpError("mask outside the picture")
    rx, ry, rw, rh = placed.reach
    x, y, w, h = placed.window
    inner = slice(y - ry, y - ry + h), slice(x - rx, x - rx + w)
    part = picture[ry : ry + rh, rx : rx + rw]
    cover, shadow = (np.zeros((rh, rw), np.float32) for _ in range(2))
    cover[inner], shadow[inner] = layer.cover, layer.shadow
    if layer.strands:
        below = part[layer.strands.rows, layer.strands.columns]
    if any(rx < x2 + w2 and x2 < rx + rw and ry < y2 + h2 and y2 < ry + rh for x2, y2, w2, h2 in taken):
        planes = np.ascontiguousarray(part[inner].transpose(2, 0, 1))
        seen = torch.from_numpy(planes).to(layer.colour.device).float()
        part[inner] = cv2.merge([*_mix(seen, layer.keep, layer.colour).cpu().numpy()])
    else:
        part[inner] = cv2.merge([*layer.mixed])
    if layer.strands:
        lay_straps(part, below, layer.strands, cover, shadow)
    taken.append(placed.reach)
    rows, columns = np.flatnonzero(cover.any(axis=1)), np.flatnonzero(cover.any(axis=0))
    box = (rx + columns[0], ry + rows[0], columns[-1] - columns[0] + 1, rows[-1] - rows[0] + 1)
    pose = placed.pose
    return Worn(placed.reach, cover, shadow, tuple(int(v) for v in box), pose.yaw, pose.pitch, pose.roll)
