"""Step two in training: the masks of a collated batch, drawn by rule in the loader, made realistic by the generator."""

import threading
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from safetensors.numpy import load, save

from lib.augment.composite import Layer, paste
from lib.augment.samples import picture_like, picture_pixels

CROPS = "mask_crops"  # the entry of a target that step one keeps for step two


@dataclass(frozen=True, eq=False)
class Crop:
    """A masked face for the second step. pixels: uint8 [S, S, 3], the picture with its rule-based masks in `square`
    (x, y, side). weight: where the translation may return. below: uint8 [h, w, 3], the picture without masks in the
    weight's box. check: `checksum` of the picture there."""

    pixels: np.ndarray
    square: tuple[int, int, int]
    weight: Layer
    below: np.ndarray
    seed: int
    check: int


def checksum(pixels: np.ndarray, layer: Layer) -> int:
    """Of a picture uint8 [H, W, 3] where the layer is."""
    return zlib.crc32(pixels[layer.window].tobytes())


def pack(crops: Sequence[Crop]) -> bytes:
    """A sample's crops as bytes (safetensors; b"" for none): any collate function makes a list of those."""
    arrays = {}
    for n, crop in enumerate(crops):
        numbers = np.array([*crop.square, *crop.weight.box, crop.seed, crop.check], np.int64)
        face = {"pixels": crop.pixels, "numbers": numbers, "weight": crop.weight.values, "below": crop.below}
        arrays |= {f"{n}.{name}": np.ascontiguousarray(value) for name, value in face.items()}
    return save(arrays) if arrays else b""


def unpack(packed: bytes) -> list[Crop]:
    """The inverse of `pack`."""
    arrays = load(packed) if packed else {}
    crops = []
    for n in range(len(arrays) // 4):
        pixels, numbers, weight, below = (arrays[f"{n}.{name}"] for name in ("pixels", "numbers", "weight", "below"))
        x, y, side, *box, seed, check = numbers.tolist()
        crops.append(Crop(pixels, (x, y, side), Layer(tuple(box), weight), below, seed, check))
    return crops


class SecondStep:
    """Make the masks of a collated batch realistic, on the device of the training.

    Call it with the pictures and the targets of samples that went through a `MaskTransform(checkpoint=…)`. Only mask
    pixels with their soft border change. The generator is in eval mode, computes in float32 without gradient, and
    takes nothing from torch's own generators; threads take turns.

    Args:
        checkpoint: The same as the transform's; None for the released model that is the default.
        device: Of the generator; "auto" is CUDA where there is one. Pictures may be on any.
        batch_size: Faces at once. A face's noise depends on its sample and epoch alone; its pixels may differ by
            rounding with the number of faces in a batch (none seen with "evening-128" at 256² on one CPU thread).

    *Cost*: with "evening-128" 0.18 s a face of 256² on one thread of a busy x86-64 machine, mean of 8.
    """

    def __init__(self, checkpoint: Any = None, device: str = "auto", batch_size: int = 16) -> None:
        from lib.gan.infer import Translator  # here: step one in the loader's workers needs no network

        self.translator, self._lock = Translator(checkpoint, device, batch_size), threading.Lock()

    @torch.no_grad()
    def __call__(self, images: torch.Tensor | Sequence[torch.Tensor], targets: Any) -> torch.Tensor | list:
        """The pictures with translated masks, new tensors of the same kind.

        images: [B, 3, H, W], or a list of [3, H, W] of any sizes; uint8, or float in [0, 1]: not yet normalised.
        targets: the samples' dicts, the dict that `default_collate` made of them, or their "mask_crops" alone.

        Raises ValueError for targets without crops or of another number, and for a picture that was flipped, cut,
        resized or recoloured since step one: do that after this step.
        """
        crops = [unpack(one) for one in _packed(targets, len(images))]
        out = images.detach().clone() if isinstance(images, torch.Tensor) else [im.detach().clone() for im in images]
        flat = [crop for own in crops for crop in own]
        if not flat:
            return out
        if len(sizes := {len(crop.pixels) for crop in flat}) > 1:
            raise ValueError(f"{CROPS}: expected one size, got {sorted(sizes)} px: made for several checkpoints?")
        device = self.translator.device.type
        with self._lock, torch.autocast(device, enabled=False):  # float32, whatever the training computes in
            result = self.translator.translate(np.stack([crop.pixels for crop in flat]), [crop.seed for crop in flat])
        fakes = iter(result.images)
        for k, own in enumerate(crops):
            if own:
                _finish(out[k].as_subclass(torch.Tensor), own, [next(fakes) for _ in own], f"images[{k}]")
        return out


def _finish(image: torch.Tensor, crops: list[Crop], fakes: list[np.ndarray], told: str) -> None:
    """Paste the translated squares into a picture [3, H, W], in place; one transfer from its device and one back."""
    boxes = np.array([crop.weight.box for crop in crops])
    (left, top), (right, bottom) = boxes[:, :2].min(0).tolist(), (boxes[:, :2] + boxes[:, 2:]).max(0).tolist()
    part = image[:, top:bottom, left:right]
    fits = part.shape[1:] == (bottom - top, right - left)
    seen = picture_pixels(part, told) if fits else None
    layers = [Layer((x - left, y - top, w, h), c.weight.values) for c, (x, y, w, h) in zip(crops, boxes.tolist())]
    if not fits or any(checksum(seen, layer) != crop.check for layer, crop in zip(layers, crops)):
        raise ValueError(f"{told}: not as step one left it; flips, resizes, changes of colour go after this step")
    pixels = seen.copy()
    for layer, crop in zip(layers, crops):
        pixels[layer.window] = crop.below  # a rule-based mask below would shine through at the rim
    for layer, crop, fake in zip(layers, crops, fakes):
        x, y, side = crop.square
        paste(pixels, fake, (x - left, y - top, side), layer)
    part.copy_(picture_like(part, seen, pixels))


def _packed(targets: Any, count: int) -> list[bytes]:
    try:
        packed = targets[CROPS] if isinstance(targets, dict) else targets
        packed = [one[CROPS] if isinstance(one, dict) else one for one in packed]
    except KeyError:
        raise ValueError(f"targets: no entry {CROPS!r}; give MaskTransform the checkpoint of the second step") from None
    if len(packed) != count or not all(isinstance(one, bytes) for one in packed):
        raise ValueError(f"targets: expected {CROPS!r} of {count} pictures, got {len(packed)}")
    return packed
