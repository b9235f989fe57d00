"""Samples as torchvision's v2 transforms take them: the dicts in them, their pictures as pixels, their labels."""

import operator
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch.utils._pytree import tree_is_leaf  # what v2's own transforms take samples apart with
from torchvision import tv_tensors
from torchvision.transforms import v2

from lib.augment.scenes import OVERLAP, overlap

_MIRRORED = np.array([
    *range(16, -1, -1), *range(26, 16, -1), *range(27, 31), *range(35, 30, -1), *range(45, 41, -1), 47, 46,
    *range(39, 35, -1), 41, 40, *range(54, 47, -1), *range(59, 54, -1), *range(64, 59, -1), 67, 66, 65,
])  # fmt: skip  # which of the 68 points takes a point's place in a mirrored picture


def whole_number(value: Any) -> int:
    """An int of whatever stands for one, a tensor of one number too. Raises TypeError, ValueError, RuntimeError."""
    return operator.index(value.item() if isinstance(value, torch.Tensor | np.ndarray) else value)


def dicts(sample: Any) -> Iterator[dict]:
    """All dicts of a sample that v2's transforms look into, outer ones first."""
    if tree_is_leaf(sample):  # such as classes derived from dict: they are handed on, not copied
        return
    if isinstance(sample, dict):
        yield sample
    for part in sample.values() if isinstance(sample, dict) else sample:
        yield from dicts(part)


def holder_of(sample: Any, name: str) -> dict | None:
    """The first dict of a sample with such an entry."""
    return next((d for d in dicts(sample) if name in d), None)


def relabelled(labels: Any, masked: list[bool], label: Any) -> Any:
    """A copy of the labels in which masked rows, or the picture's only one, have another class."""
    if isinstance(labels, torch.Tensor | np.ndarray) and labels.ndim:
        labels = labels.clone() if isinstance(labels, torch.Tensor) else labels.copy()
        labels[np.flatnonzero(masked)] = label
        return labels
    if isinstance(labels, list | tuple):
        return type(labels)(label if hit else own for own, hit in zip(labels, masked, strict=True))
    return torch.full_like(labels, label) if isinstance(labels, torch.Tensor) else label


def picture_pixels(image: Any, told: str) -> np.ndarray:
    """uint8 [H, W, C] of a PIL image or a tensor, C = 1, 3 or 4. ValueError for others; told: names it there."""
    if isinstance(image, Image.Image):
        if image.mode not in ("L", "RGB", "RGBA"):
            raise ValueError(f'{told}: expected a picture of mode RGB, L or RGBA, got {image.mode}; use convert("RGB")')
        pixels = np.asarray(image)
        return pixels.reshape(*pixels.shape[:2], -1)
    if image.ndim != 3 or image.shape[0] not in (1, 3, 4) or not image.numel():
        raise ValueError(f"{told}: expected a picture [3, H, W], got {list(image.shape)}")
    planes = image.detach().cpu()
    if planes.is_floating_point():
        low, high = (float(edge) for edge in planes.aminmax())
        if not (low >= 0 and high <= 1):
            raise ValueError(f"{told}: expected values in [0, 1], got {low:g} … {high:g}; Normalize comes later")
        planes = (planes.float() * 255).round().to(torch.uint8)
    if planes.dtype != torch.uint8:
        raise ValueError(f"{told}: expected a picture of uint8 or float, got {planes.dtype}")
    return np.ascontiguousarray(planes.permute(1, 2, 0).numpy())


def picture_like(image: Any, before: np.ndarray, after: np.ndarray) -> Any:
    """The picture as it was given, with those values that changed; `after` uint8 [H, W, 3]."""
    if before.shape[2] == 1:
        after = np.array(Image.fromarray(after).convert("L"))[..., None]  # equal planes give themselves
    elif before.shape[2] == 4:
        after = np.dstack([after, before[..., 3]])
    if isinstance(image, Image.Image):
        return Image.fromarray(after[..., 0] if after.shape[2] == 1 else after)
    plain = image.as_subclass(torch.Tensor)
    new, changed = (torch.from_numpy(np.ascontiguousarray(a.transpose(2, 0, 1))) for a in (after, after != before))
    new = new if plain.dtype == torch.uint8 else v2.functional.to_dtype(new, plain.dtype, scale=True)
    return tv_tensors.wrap(torch.where(changed.to(plain.device), new.to(plain.device), plain), like=image)


def matched(faces: list[np.ndarray], boxes: tv_tensors.BoundingBoxes, told: str) -> list[np.ndarray | None]:
    """For each box the landmarks that belong to it: pairs of the largest overlap first."""
    if (upright := _upright(boxes)) is None:
        raise ValueError(f"{told}: found faces go to upright boxes only, these are {boxes.format}; give landmarks")
    pairs, found, taken = [], [None] * len(boxes), set()
    for j, points in enumerate(faces):
        pairs += [(-share, k, j) for k, share in enumerate(overlap(points, upright)) if share >= OVERLAP]
    for _, k, j in sorted(pairs):
        if found[k] is None and j not in taken:
            found[k] = faces[j]
            taken.add(j)
    return found


def face_boxes(points: Sequence[np.ndarray | None], boxes: tv_tensors.BoundingBoxes | None) -> np.ndarray:
    """float [N, 4] (x, y, w, h): where the face of each row is. Its box, unless its landmarks fill little of it (a
    person's) or boxes stand askew; then the box around them. NaN without landmarks: such a box may be anything."""
    found = np.full((len(points), 4), np.nan)
    upright = found if boxes is None or (told := _upright(boxes)) is None else told
    for k, own in enumerate(points):
        if own is not None and np.isfinite(own).all():
            fits = overlap(own, upright[k : k + 1])[0] >= OVERLAP
            found[k] = upright[k] if fits else (*own.min(0), *np.ptp(own, axis=0))
    return found


def _upright(boxes: tv_tensors.BoundingBoxes) -> np.ndarray | None:
    """float64 [N, 4] (x, y, w, h); None for a format that tells of angles."""
    if tv_tensors.is_rotated_bounding_format(boxes.format):
        return None
    upright = v2.functional.convert_bounding_box_format(boxes, new_format="XYWH")
    return upright.as_subclass(torch.Tensor).cpu().double().numpy()


def in_order(points: np.ndarray) -> np.ndarray:
    """float32 [N, 68, 2]: landmarks that were flipped with their picture, numbered as the 68 points are again.

    Seen from the eyes' line, first eye to second, a chin lies to the right; after a flip of coordinates alone, left.
    """
    eyes, chin = points[:, 45] - points[:, 36], points[:, 8] - points[:, 36]
    flipped = eyes[:, 0] * chin[:, 1] < eyes[:, 1] * chin[:, 0]
    return np.where(flipped[:, None, None], points[:, _MIRRORED], points)
