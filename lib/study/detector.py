"""A small detector of faces and masked faces, and its average precision.

The detector is torchvision's FCOS (Tian et al. 2019: every place of a map says whether it lies on a face and how far
the face's four edges are) on a small network, trained from random weights: minutes on a CPU. It has two classes, and
it is
measured in five ways, each as the average precision at IoU ½ with COCO's 101 points of recall:

    ap_any         every face, whatever class is told
    ap_masked      the masked ones alone, whatever class is told; what finds a bare face counts neither way
    ap75_masked    the same at IoU ¾: is the box right, too?
    ap_face        bare faces that are told to be bare
    ap_face_mask   masked ones that are told to be masked: 0 for a detector that never saw any
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np
import pandas as pd
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.models.detection.fcos import FCOS, FCOSHead
from torchvision.ops import box_iou, nms
from tqdm import tqdm

from lib.data.facesdf import picture
from lib.data.facesdf.labels import rows
from lib.data.faceworld import Ranges
from lib.data.images import ImageError, read_image, resize
from lib.data.mafa import INVALID, read_mafa
from lib.study.config import StudyError
from lib.study.sources import CMFD_POSE
from lib.study.truths import WORN

FACE, MASKED, IGNORED = 1, 2, 0  # labels; ignored: neither right nor wrong to find it
VIEWS = {  # name of the measure: labels that count, whether the class must be right, IoU
    "ap_any": ((FACE, MASKED), False, 0.5),
    "ap_masked": ((MASKED,), False, 0.5),
    "ap75_masked": ((MASKED,), False, 0.75),
    "ap_face": ((FACE,), True, 0.5),
    "ap_face_mask": ((MASKED,), True, 0.5),
}
WIDTH = 64  # channels of the maps at 1/8, 1/16 and 1/32 of the picture


@dataclass(frozen=True, eq=False)
class Scenes:
    """N pictures uint8 [N, S, S, 3]; of each a box float32 [n, 4] (x0, y0, x1, y1 px) and a label int64 [n] per face;
    landmarks float32 [n, 68, 2] and who it is int64 [n], where known. `worn`: the same scenes with a mask on all."""

    images: np.ndarray
    boxes: list[np.ndarray]
    labels: list[np.ndarray]
    landmarks: list[np.ndarray] | None = None
    identity: list[np.ndarray] | None = None
    worn: np.ndarray | None = None

    def with_true_masks(self, masked: Sequence[np.ndarray]) -> Scenes:
        """The scenes with a truly worn mask on some faces, bool [n] each."""
        images = self.images.copy()
        for image, worn, points, wears in zip(images, self.worn, self.landmarks, masked):
            on = wears[_nearest_face(points, len(image))]
            image[on] = worn[on]
        labels = [np.where(wears, MASKED, FACE) for wears in masked]
        return Scenes(images, self.boxes, labels, self.landmarks, self.identity)


def _nearest_face(points: np.ndarray, size: int) -> np.ndarray:
    """Whose mask a pixel may belong to: landmarks [n, 68, 2] → int [S, S], the face whose middle is nearest in units
    of that face's extent. Masks of two faces of a scene touch at most."""
    low, high = points.min(1), points.max(1)
    y, x = np.indices((size, size))
    away = [np.hypot(x - cx, y - cy) / extent for (cx, cy), extent in zip((low + high) / 2, (high - low).max(1))]
    return np.argmin(away, axis=0)


def render_scenes(first: int, count: int, size: int, supersample: float, progress: bool) -> Scenes:
    """Scenes of 2 to 5 people of the face world, `first` … (five numbers each), bare and, in `worn`, all masked.

    About 0.4 s a scene of 128² on one core with supersample 1.
    """
    ranges, found = Ranges(**CMFD_POSE | WORN), []
    for index in tqdm(range(count), desc="scenes", disable=not progress, ascii=True, leave=False):
        seed = first + index
        people = 2 + int(np.random.default_rng([606, seed]).integers(4))
        ids = [first + 5 * index + k for k in range(people)]
        (bare, out), (worn, _) = (
            picture.group(ids, seed, size, masked, supersample, "cpu", ranges) for masked in (False, True)
        )
        table = pd.DataFrame(rows(out, [("", k) for k in range(people)], True)[0])[["x", "y", "w", "h"]].to_numpy()
        corners = np.concatenate([table[:, :2], table[:, :2] + table[:, 2:]], 1).clip(0, size)
        pixels = [(one[0].permute(1, 2, 0).clamp(0, 1) * 255).round().to(torch.uint8).numpy() for one in (bare, worn)]
        points = out.landmarks.float().numpy()
        found.append((*pixels, corners.astype(np.float32), points, np.array(ids)))
    bare, worn, boxes, points, ids = zip(*found)
    labels = [np.full(len(own), FACE) for own in ids]
    return Scenes(np.stack(bare), list(boxes), labels, list(points), list(ids), np.stack(worn))


def mafa_scenes(root: Path | str, size: int, limit: int | None = None) -> tuple[Scenes, int]:
    """MAFA's test part, its longer side resized to `size` and the rest grey, and how many pictures cannot be used.

    limit: the first so many that can be. Invalid faces are ignored. Raises as `read_mafa` does,
    and StudyError where none can be used.
    """
    table, missing, found = read_mafa(root, "test"), 0, []
    for name, faces in table.groupby("image", sort=False):
        if len(found) == limit:
            break
        faces = faces[faces["reason"].isin(["", "marked invalid"])]
        try:
            pixels = read_image(Path(root) / name).pixels if len(faces) else None
        except ImageError:
            pixels = None
        if pixels is None:
            missing += 1
            continue
        longer, (height, width) = max(pixels.shape[:2]), pixels.shape[:2]
        square = np.full((longer, longer, 3), 127, np.uint8)
        square[:height, :width] = pixels
        boxes = faces[["x", "y", "w", "h"]].to_numpy(np.float32)
        boxes = np.concatenate([boxes[:, :2], boxes[:, :2] + boxes[:, 2:]], 1) * (size / longer)
        labels = faces["face_type"].map({1: MASKED, 2: FACE, INVALID: IGNORED}).to_numpy(int)
        found.append((resize(square, size), boxes.clip(0, size), labels))
    if not found:
        raise StudyError(f"{root}: none of {missing} pictures of MAFA's test part can be used")
    images, boxes, labels = zip(*found)
    return Scenes(np.stack(images), list(boxes), list(labels)), missing


class _Maps(nn.Module):
    """Three maps of `WIDTH` channels; what coarse ones know is added to finer ones (a small feature pyramid)."""

    out_channels = WIDTH

    def __init__(self) -> None:
        super().__init__()
        widths = (3, 16, 32, 48, 64, 64)  # the picture, then 1/2 … 1/32 of its side
        block = lambda a, b: nn.Sequential(  # noqa: E731
            nn.Conv2d(a, b, 3, 2, 1, bias=False), nn.BatchNorm2d(b), nn.ReLU(),
            nn.Conv2d(b, b, 3, 1, 1, bias=False), nn.BatchNorm2d(b), nn.ReLU(),
        )  # fmt: skip
        self.blocks = nn.ModuleList(block(a, b) for a, b in pairwise(widths))
        self.across = nn.ModuleList(nn.Conv2d(width, WIDTH, 1) for width in widths[3:])

    def forward(self, x: Tensor) -> OrderedDict[str, Tensor]:
        found = []
        for block in self.blocks:
            x = block(x)
            found.append(x)
        maps = [across(own) for across, own in zip(self.across, found[2:])]
        for k in (1, 0):
            maps[k] = maps[k] + F.interpolate(maps[k + 1], size=maps[k].shape[2:])
        return OrderedDict((str(k), own) for k, own in enumerate(maps))


class Detector(nn.Module):
    """FCOS with the classes face (1) and face_mask (2). size: side of its pictures, px, a multiple of 32."""

    def __init__(self, size: int) -> None:
        super().__init__()
        self.size = size
        self.fcos = FCOS(
            _Maps(), 3, size, size, (0.5,) * 3, (0.25,) * 3, AnchorGenerator(((8,), (16,), (32,)), ((1.0,),) * 3),
            FCOSHead(WIDTH, 1, 3, num_convs=2), score_thresh=0.02, nms_thresh=0.5, detections_per_img=50,
            topk_candidates=200,
        )  # fmt: skip

    def loss(self, images: Tensor, targets: Sequence[dict]) -> Tensor:
        """Of a batch: images uint8 [B, 3, S, S], each with a dict of boxes and labels. Half of them are mirrored."""
        pictures, told = [], []
        for image, target in zip(images.float() / 255, targets, strict=True):
            boxes = torch.as_tensor(target["boxes"], device=image.device).float()
            if torch.rand(()) < 0.5:
                image, boxes = image.flip(2), boxes[:, [2, 1, 0, 3]] * boxes.new_tensor([-1, 1, -1, 1])
                boxes = boxes + boxes.new_tensor([self.size, 0, self.size, 0])
            pictures.append((image * (0.9 + 0.2 * torch.rand(3, 1, 1, device=image.device))).clamp(0, 1))
            told.append({"boxes": boxes, "labels": torch.as_tensor(target["labels"], device=image.device)})
        return sum(self.fcos(pictures, told).values())

    def detect(self, images: np.ndarray) -> list[dict[str, np.ndarray]]:
        """Of each picture, uint8 [N, S, S, 3]: boxes [n, 4], scores [n], labels [n]."""
        self.eval()
        device = next(self.parameters()).device
        with torch.inference_mode():
            found = []
            for part in torch.from_numpy(images).split(16):
                found += self.fcos(list(part.to(device).permute(0, 3, 1, 2).float() / 255))
        return [{key: value.cpu().numpy() for key, value in one.items()} for one in found]


def precision(found: Sequence[dict], scenes: Scenes, draws: int = 500) -> tuple[dict, pd.DataFrame, pd.DataFrame]:
    """How good detections are.

    Returns:
        The values of `VIEWS`; NaN where there is nothing to find.
        The same of `draws` bootstrap samples of the scenes, a row each; the same samples for as many scenes.
        The curves: view, recall, precision.
    """
    values, samples, curves, rng = {}, {}, [], np.random.default_rng(len(scenes.boxes))
    weights = rng.multinomial(len(scenes.boxes), np.full(len(scenes.boxes), 1 / len(scenes.boxes)), draws)
    for view in VIEWS:
        scores, hits, where, counts = _matched(found, scenes, view)
        order = np.argsort(-scores, kind="stable")
        hits, where = hits[order], where[order]
        ap = lambda w: average_precision(hits, w[where], float(w @ counts))  # noqa: B023, E731
        values[view], curve = ap(np.ones(len(counts)))
        samples[view] = [ap(w)[0] for w in weights]
        curves.append(curve.assign(view=view))
    return values, pd.DataFrame(samples), pd.concat(curves, ignore_index=True)


def _matched(found: Sequence[dict], scenes: Scenes, view: str) -> tuple[np.ndarray, ...]:
    """Scores of all detections that count in a view, whether each hits, its scene; and the faces in each scene."""
    wanted, classed, iou = VIEWS[view]
    scores, hits, where, counts = [], [], [], []
    for n, (one, boxes, labels) in enumerate(zip(found, scenes.boxes, scenes.labels)):
        if classed:
            keep = np.flatnonzero(one["labels"] == wanted[0])
        else:  # a face found in both classes was found once
            keep = nms(torch.from_numpy(one["boxes"]), torch.from_numpy(one["scores"]), 0.5).numpy()
        counted = np.isin(labels, wanted)
        # Where classes are told, a face of the other class is no face of this one: to find it is wrong.
        known = counted | (labels == IGNORED) if classed else np.ones(len(labels), bool)
        hit = match(one["boxes"][keep], one["scores"][keep], boxes[known], counted[known], iou)
        use = hit >= 0
        scores.append(one["scores"][keep][use])
        hits.append(hit[use])
        where.append(np.full(use.sum(), n))
        counts.append(counted.sum())
    return np.concatenate(scores), np.concatenate(hits) > 0, np.concatenate(where), np.array(counts)


def match(boxes: np.ndarray, scores: np.ndarray, truth: np.ndarray, counted: np.ndarray, iou: float) -> np.ndarray:
    """Which detections [D, 4] hit which faces [G, 4]: 1 a hit, 0 a false alarm, −1 neither. In the order of their
    scores, each takes the face it overlaps most, of those that are counted and free, and by `iou` at least; as COCO
    does, what meets only faces that are not counted is left out."""
    hit = np.zeros(len(boxes), np.int8)
    if not len(boxes) or not len(truth):
        return hit
    overlap = box_iou(torch.from_numpy(boxes).double(), torch.from_numpy(truth).double()).numpy()
    free = counted.copy()
    for k in np.argsort(-scores, kind="stable"):
        own = np.where(free, overlap[k], 0)
        if own.max() >= iou:
            hit[k], free[own.argmax()] = 1, False
        elif (overlap[k][~counted] >= iou).any():
            hit[k] = -1
    return hit


def average_precision(hits: np.ndarray, weights: np.ndarray, total: float) -> tuple[float, pd.DataFrame]:
    """COCO's average precision of detections from the highest score down (bool [D], weights [D]) among `total` faces,
    and the curve at its 101 points of recall. NaN without faces."""
    recall = np.linspace(0, 1, 101)
    if not total:
        return float("nan"), pd.DataFrame({"recall": recall, "precision": np.nan})
    right, every = np.cumsum(hits * weights), np.cumsum(weights)
    precise = np.maximum.accumulate((right / np.maximum(every, 1e-9))[::-1])[::-1]
    place = np.searchsorted(right / total, recall, side="left")
    found = np.append(precise, 0.0)[place]
    return float(found.mean()), pd.DataFrame({"recall": recall, "precision": found})
