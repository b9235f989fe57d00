"""In training: masks put on faces by rule inside a torchvision v2 pipeline, and made realistic on the batch.

`MaskTransform` stands in the data set's pipeline, `MaskedDataset` tells it which sample it is given, and `SecondStep`
is called on the collated batch where the training runs. What a face gets depends on the seed, the epoch and the
sample's key alone: not on workers, batches or the order.
"""

import hashlib
import operator
import warnings
from collections.abc import Callable, Collection, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch.utils._pytree import tree_flatten, tree_unflatten  # what v2's own transforms take samples apart with
from torch.utils.data import Dataset, get_worker_info
from torchvision import tv_tensors
from torchvision.transforms import v2

from lib.augment.composite import Layer, cut_square, square_around
from lib.augment.laying import HIDDEN, lay_masks
from lib.augment.options import Options, face_seed, preset_of
from lib.augment.samples import (
    dicts,
    face_boxes,
    holder_of,
    in_order,
    matched,
    picture_like,
    picture_pixels,
    relabelled,
    whole_number,
)
from lib.augment.second_step import CROPS, Crop, checksum, pack
from lib.augment.translate import training_size
from lib.data.images import resize
from lib.warp import WarpConfig, WarpError, WarpParams, sample_warp_params
from lib.warp.faces import find_in, open_cache
from lib.warp.sources import LandmarkSource, open_source

OUTPUTS = ("masked", "mask_regions")
KINDS = (
    *("masked", "left", "another class", "masked before", "no landmarks", "no face"),
    *("too small", "turned too far", HIDDEN, "warp", "error"),
)
_COUNTERS = 257  # rows of counts: one for the main process, one for each worker, so that none writes another's


class MaskTransform(v2.Transform):
    """Put rule-based masks on a share of a sample's faces.

    A sample is what v2 transforms take: a picture alone, with a target dict, or inside a dict, in any nesting of dicts,
    lists and tuples. The one picture is a PIL image (RGB, L, RGBA), a `tv_tensors.Image` or, without such, the first
    other tensor; uint8 or float in [0, 1], [3, H, W] (or 1 or 4 planes). The same structure comes back, nothing in the
    sample given is changed. Outside of masks and their shadows the picture keeps every bit, float ones too.

    >>> from lib.data.faceworld import render
    >>> face = render([3], [5], 96, "full")
    >>> image = tv_tensors.Image((face.full[0] * 255).round().byte())
    >>> boxes = tv_tensors.BoundingBoxes([[20, 20, 76, 90]], format="XYXY", canvas_size=(96, 96))
    >>> target = {"image_id": 7, "boxes": boxes, "labels": torch.tensor([1]), "landmarks": face.landmarks}
    >>> mask = MaskTransform(p=1.0, masked_label=2, outputs=("masked",))
    >>> pipeline = v2.Compose([mask, v2.RandomHorizontalFlip(), v2.ToDtype(torch.float32, scale=True)])
    >>> masked, told = pipeline(image, target)
    >>> told["labels"].tolist(), told["masked"].tolist(), told["boxes"].shape, mask.counts
    ([2], [True], torch.Size([1, 4]), {'masked': 1})

    *Which faces.* A row per box where the sample has `tv_tensors.BoundingBoxes` (any format; they are kept), else per
    face. Landmarks are the 68 iBUG points in px of the picture as it is here: of the sample (entry `landmarks`), or
    else of `source`; its faces are given to the boxes that they overlap most, faces without a box stay as they are.
    A table's landmarks fit the picture as it lies on the disk: put this transform before those that resize or flip.

    *Chance.* Everything is drawn from (seed, epoch, key, row). The key is `key=` of the call (`MaskedDataset` gives
    it), or the sample's entry `key`. Where there is neither, it is a number from torch's generator in the worker: then
    masks differ with workers and order. Call `set_epoch(n)` before each `iter(loader)`; it also reaches workers that
    are kept (persistent_workers), whether forked or spawned.

    A face that cannot be masked (turned away, too small, no landmarks) stays as it is and is counted. Of two faces the
    one with the larger box is taken for the nearer: no mask covers it, and a face whose mask it would hide for the most
    part gets none ("hidden"). Faces without a box are where their landmarks are, those without landmarks do not count.

    Args:
        p: Share of the faces to be masked, each drawn by itself.
        masked_label: Class that masked faces get; faces that have it already stay as they are. None: labels are kept.
        face_labels: Classes that mean a face without a mask; None: all but masked_label.
        seed: As in `lib.augment.Options`, but the masks are others than that command's.
        preset, masks, wear: As in `lib.augment.Options`; `preset` may be a `WarpConfig`, which tells the other two.
        landmarks: Entry of the sample with landmarks, [N, 68, 2] (NaN: a face without), a row per box. A
            `tv_tensors.KeyPoints` there follows v2's flips and resizes, which then may come before this transform.
        source: Where landmarks come from in samples without such an entry: "dlib", a table or any other source of
            `lib.warp.sources.open_source`; None: from nowhere. dlib takes long, see below.
        cache: A folder in which what dlib found is kept by the picture's content, for later epochs and runs.
        name: Entry with the picture's name in a table (a path relative to the table's folder); without it the key.
        labels: Entry with the classes, [N]; a single one is the whole picture's.
        key: Entry that tells samples apart, a number or text; None: "image_id" where there is one.
        outputs: Entries to add beside `labels`: "masked" bool [N]; "mask_regions" `tv_tensors.Mask` uint8 [N, H, W],
            how much each pixel of each face was changed, 0 untouched (N·H·W bytes: mind scenes of hundreds of faces).
        checkpoint: Weights for `SecondStep`, a file, a folder or a released model's name: keeps in the entry
            "mask_crops" what it needs, and takes its training's preset and size. None: there is no second step.
        margin, crop_scale: As in `lib.augment.Options`, of the second step.

    Raises ValueError here for options that do not exist, and in a call, with the sample's key, for a sample of another
    kind: no picture or several, normalised pixels, landmarks or labels that do not match the boxes.

    *Cost*, processor time on one thread of a busy x86-64 machine, landmarks given, one face, p=1: 8 ms a picture of
    112² and 9 ms one of 256² with the preset "ours", 6 ms with "study", 2 ms more for a second step at 256²; 0.1 and
    0.3 ms with p=0. The first masks of each process take 0.5 s together (templates are drawn): keep the workers. With
    dlib 20 to 30 ms in all where it finds the face at once (512²: 80 ms), 0.5 to 1.2 s where there is none; 11 ms for a
    picture of 512² from the cache. Medians of 64 pictures, those of dlib of 1 to 8.
    """

    def __init__(
        self,
        p: float = 0.5,
        *,
        masked_label: Any = None,
        face_labels: Collection | None = None,
        seed: int = 0,
        preset: str | WarpConfig | None = None,
        masks: str | None = None,
        wear: str = "Mask",
        landmarks: str = "landmarks",
        source: str | Path | LandmarkSource | None = None,
        cache: Path | str | None = None,
        name: str = "file_name",
        labels: str = "labels",
        key: str | None = None,
        outputs: Collection[str] = (),
        checkpoint: Path | str | None = None,
        margin: float = Options.margin,
        crop_scale: float = Options.crop_scale,
    ) -> None:
        super().__init__()
        if not 0 <= p <= 1:
            raise ValueError(f"p: expected a share from 0 to 1, got {p!r}")
        if unknown := sorted(set(outputs) - set(OUTPUTS)):
            raise ValueError(f"outputs: expected some of {', '.join(OUTPUTS)}, got {unknown[0]!r}")
        if isinstance(preset, WarpConfig) and (masks is not None or wear != "Mask"):
            raise ValueError("masks and wear: a WarpConfig tells them itself; use dataclasses.replace on it")
        self.p, self.masked_label, self.face_labels, self.seed = p, masked_label, face_labels, seed
        self.landmarks, self.name, self.labels, self.key = landmarks, name, labels, key
        self.outputs, self.margin, self.crop_scale, self.size = tuple(outputs), margin, crop_scale, None
        weights = None
        if checkpoint is not None:
            from lib.gan.released import find_weights  # the first step alone needs no network

            weights = find_weights(checkpoint)
            self.size = training_size(weights)
        options = Options(preset=preset or preset_of(weights), masks=masks, wear=wear)
        self.config = preset if isinstance(preset, WarpConfig) else options.warp_config()
        self.source = None if source is None else open_source(source)
        self.cache = None if self.source is None else open_cache(cache, self.source)
        self._epoch, self._counts = torch.zeros((), dtype=torch.int64), torch.zeros(_COUNTERS, len(KINDS)).long()
        self._share()

    def _share(self) -> None:
        # Shared tensors rather than multiprocessing's values: those cannot be copied or pickled outside of a start.
        self._epoch.share_memory_()
        self._counts.share_memory_()

    def __setstate__(self, state: dict) -> None:
        super().__setstate__(state)
        self._share()

    @property
    def epoch(self) -> int:
        """The epoch that masks are drawn for."""
        return int(self._epoch)

    def set_epoch(self, epoch: int) -> None:
        """Draw other masks from now on, in this process and in all workers. Before `iter(loader)`: it looks ahead."""
        self._epoch.fill_(operator.index(epoch))

    @property
    def counts(self) -> dict[str, int]:
        """Faces by what became of them, over all workers and epochs so far: "masked", "left" (not drawn), "another
        class", "masked before", and those drawn in vain: "no landmarks", "too small", "turned too far", "hidden",
        "warp" (other reasons), "error"; "no face": pictures without boxes in which none was found."""
        return {kind: int(n) for kind, n in zip(KINDS, self._counts.sum(0)) if n}

    def _count(self, kind: str) -> None:
        worker = get_worker_info()
        row = 0 if worker is None else 1 + worker.id % (_COUNTERS - 1)
        self._counts[row, KINDS.index(kind if kind in KINDS else "warp")] += 1

    def forward(self, *inputs: Any, key: Any = None) -> Any:
        """The sample with masks on. key: tells it apart from others; goes before an entry of the sample."""
        sample = inputs if len(inputs) > 1 else inputs[0]
        key = self._key_of(sample, key)
        told = "a sample without a key" if key is None else f"sample {key}"
        chance = f"{self.epoch}\0" + (f"torch {int(torch.randint(2**62, ()))}" if key is None else key)
        leaves, structure = tree_flatten(sample)
        place = self._place(leaves, sample, told)
        if self.outputs or self.size is not None:
            self._target(sample, told)  # refused before any work, where there is none
        before = picture_pixels(leaves[place], told)
        if self.size is not None and before.shape[2] != 3:
            raise ValueError(f"{told}: the second step needs an RGB picture, got one of {before.shape[2]} planes")
        rgb = np.ascontiguousarray(before[..., :3] if before.shape[2] > 1 else before.repeat(3, 2))
        boxes = next((leaf for leaf in leaves if isinstance(leaf, tv_tensors.BoundingBoxes)), None)
        points, classes = self._given(sample, told), self._classes(sample, told)
        if points is None and self.source is None and (boxes is None or len(boxes)):
            raise ValueError(f"{told}: no entry {self.landmarks!r} with landmarks [N, 68, 2]: add it, or give a source")
        if points is None and boxes is None:
            if isinstance(classes, list):
                raise ValueError(f"{told}: whose are the {len(classes)} labels? Add BoundingBoxes, a row per label")
            points = self._find(sample, rgb, key, told)
            if not len(points):
                self._count("no face")
        count = len(boxes) if points is None else len(points)
        classes = classes if isinstance(classes, list) else [classes] * count
        for what, rows in (("boxes", boxes), ("labels", classes)):
            if rows is not None and len(rows) != count:
                raise ValueError(f"{told}: expected {what} and landmarks in pairs, got {len(rows)} {what} for {count}")

        status, drawn = self._draw(chance, classes)
        if points is None:
            points = matched(self._find(sample, rgb, key, told), boxes, told) if drawn else [None] * count
        after, layers = self._lay(rgb, points, boxes, drawn, status, told)
        for kind in status:
            self._count(kind)
        if layers:
            leaves[place] = picture_like(leaves[place], before, after)
        out = tree_unflatten(leaves, structure)  # new containers: the ones given stay as they were
        self._tell(out, [kind == "masked" for kind in status], layers, rgb.shape[:2], told)
        if self.size is not None:
            self._target(out, told)[CROPS] = self._crops(rgb, after, points, layers, chance)
        return out

    def _key_of(self, sample: Any, key: Any) -> str | None:
        name = self.key or "image_id"
        if key is None and (holder := holder_of(sample, name)) is not None:
            key = holder[name]
        if key is None and self.key is not None:
            raise ValueError(f"a sample without the entry {self.key!r} that tells samples apart; add it, or key=None")
        if isinstance(key, str | Path | None):
            return None if key is None else str(key)
        try:
            return str(whole_number(key))
        except (TypeError, ValueError, RuntimeError):
            raise ValueError(f"{name}: expected a whole number or a text for each sample, got {key!r}") from None

    def _place(self, leaves: list, sample: Any, told: str) -> int:
        """Which leaf is the picture, by the rule of v2's transforms, except that named entries are none."""
        found = [k for k, leaf in enumerate(leaves) if isinstance(leaf, tv_tensors.Image | Image.Image)]
        if not found:
            names = (self.landmarks, self.labels, self.key or "image_id")
            named = [holder[name] for name in names if (holder := holder_of(sample, name)) is not None]
            pure = [k for k, leaf in enumerate(leaves) if v2.functional.is_pure_tensor(leaf)]
            found = [k for k in pure if not any(leaves[k] is value for value in named)][:1]
        if len(found) != 1:
            raise ValueError(f"{told}: expected one picture (PIL, tv_tensors.Image or a tensor), got {len(found)}")
        return found[0]

    def _given(self, sample: Any, told: str) -> np.ndarray | None:
        """The landmarks that the sample holds, float32 [N, 68, 2]."""
        holder = holder_of(sample, self.landmarks)
        if holder is None or (value := holder[self.landmarks]) is None:
            return None
        try:
            points = torch.as_tensor(value).detach().cpu().float().numpy()
        except (TypeError, ValueError, RuntimeError):
            raise ValueError(f"{told}: {self.landmarks}: expected numbers [N, 68, 2], got {type(value)}") from None
        if (points.size and points.shape[-2:] != (68, 2)) or points.ndim > 3:
            raise ValueError(f"{told}: {self.landmarks}: expected [N, 68, 2], got {list(points.shape)}")
        return in_order(points.reshape(-1, 68, 2))

    def _classes(self, sample: Any, told: str) -> Any:
        """The labels as a list, or the picture's only one; None where they do not matter."""
        if self.masked_label is None and self.face_labels is None:
            return None
        if (holder := holder_of(sample, self.labels)) is None:
            raise ValueError(f"{told}: no entry {self.labels!r}; masked_label and face_labels need it")
        value = holder[self.labels]
        value = value.tolist() if isinstance(value, torch.Tensor | np.ndarray) else value
        return list(value) if isinstance(value, tuple) else value

    def _find(self, sample: Any, rgb: np.ndarray, key: str | None, told: str) -> list[np.ndarray]:
        """What the source knows of the picture: landmarks [68, 2] of each face."""
        holder = holder_of(sample, self.name)
        name = key if holder is None else str(holder[self.name])
        if name is None and not self.source.by_pixels:
            raise ValueError(f"{told}: no entry {self.name!r}, the picture's name in the table of landmarks")
        digest = hashlib.sha256(f"{rgb.shape}".encode() + rgb.tobytes()).hexdigest() if self.cache else ""
        try:
            return [face.landmarks for face in find_in(rgb, self.source, name or "", self.cache, digest)]
        except ValueError as error:
            raise ValueError(f"{told}: {error}") from error

    def _draw(self, chance: str, classes: list) -> tuple[list[str], dict[int, WarpParams]]:
        """What is to become of each row, and what was drawn for those that are to get a mask."""
        status, drawn = ["left"] * len(classes), {}
        for k, own in enumerate(classes):
            rng = np.random.default_rng(face_seed(self.seed, chance, k))
            asked = rng.random() < self.p  # before the rest, so that another share leaves the masks as they are
            if self.masked_label is not None and own == self.masked_label:
                status[k] = "masked before"
            elif self.face_labels is not None and own not in self.face_labels:
                status[k] = "another class"
            elif asked:
                drawn[k] = sample_warp_params(rng, self.config)
        return status, drawn

    def _lay(
        self, rgb: np.ndarray, points: Sequence, boxes: Any, drawn: dict[int, WarpParams], status: list[str], told: str
    ) -> tuple[np.ndarray, dict[int, Layer]]:
        """The picture with its masks, and by row what each changed, in the order laid on. Fills `status` in."""
        rows = {k: points[k] for k in drawn if points[k] is not None and np.isfinite(points[k]).all()}
        for k in drawn.keys() - rows.keys():
            status[k] = "no landmarks"
        if not rows:
            return rgb, {}
        places = face_boxes(points, boxes)
        places[[kind == "another class" for kind in status]] = np.nan
        order = sorted(rows, key=lambda k: (places[k, 2:].prod(), -k))  # near faces last, as in lib.augment
        widths = [float(np.linalg.norm(rows[k][16] - rows[k][0])) for k in order]  # ear to ear
        margins = None if self.size is None else [self.margin * width for width in widths]
        try:
            after, weights = lay_masks(rgb, [(rows[k], drawn[k]) for k in order], places, order, margins)
        except Exception as error:  # whatever a strange picture sets off costs its masks, not the training
            warnings.warn(f"{told}: left as it is ({type(error).__name__}: {error})", stacklevel=2)
            for k in order:
                status[k] = "error"
            return rgb, {}
        layers = {}
        for k, weight in zip(order, weights, strict=True):
            if isinstance(weight, WarpError):
                status[k] = weight.kind
            else:
                status[k], layers[k] = "masked", weight
        return after, layers

    def _tell(self, out: Any, masked: list[bool], layers: dict[int, Layer], size: tuple[int, int], told: str) -> None:
        """Labels and further entries of the new sample."""
        if self.masked_label is not None and any(masked):
            holder = holder_of(out, self.labels)
            holder[self.labels] = relabelled(holder[self.labels], masked, self.masked_label)
        if "masked" in self.outputs:
            self._target(out, told)["masked"] = torch.tensor(masked, dtype=torch.bool)
        if "mask_regions" in self.outputs:
            regions = np.zeros((len(masked), *size), np.uint8)
            for k, layer in layers.items():
                regions[k][layer.window] = layer.values
            self._target(out, told)["mask_regions"] = tv_tensors.Mask(torch.from_numpy(regions))

    def _target(self, out: Any, told: str) -> dict:
        """The dict that further entries go into: beside the labels, the landmarks or the boxes, or the first."""
        beside = [holder for name in (self.labels, self.landmarks) if (holder := holder_of(out, name)) is not None]
        beside += [d for d in dicts(out) if any(isinstance(value, tv_tensors.BoundingBoxes) for value in d.values())]
        for target in (*beside, *dicts(out)):
            return target
        raise ValueError(f"{told}: expected a dict in the sample for {', '.join(self.outputs) or CROPS}, there is none")

    def _crops(self, rgb: np.ndarray, after: np.ndarray, points: Sequence, layers: dict[int, Layer], chance: str):
        faces = []
        for k, layer in layers.items():
            square = square_around(points[k], layer.box, self.crop_scale)
            crop = resize(cut_square(after, square), self.size)
            seed = face_seed(self.seed, chance, k, "noise") % 2**32  # the translator takes 32 bits
            faces.append(Crop(crop, square, layer, rgb[layer.window], seed, checksum(after, layer)))
        return pack(faces)


class MaskedDataset(Dataset):
    """A map-style data set whose samples go through a `MaskTransform`, which is told the index of each.

    Args:
        dataset: With `[index]` and `len`; without masks, in the same order in every epoch.
        transform: The `MaskTransform`.
        then: What comes after it, such as a `v2.Compose`; called as `then(sample)`.
        keys: What tells samples apart instead of their index, one each: the pictures' names, for a table of landmarks.
    """

    def __init__(
        self, dataset: Any, transform: MaskTransform, then: Callable | None = None, keys: Sequence | None = None
    ) -> None:
        if not isinstance(transform, MaskTransform):
            raise ValueError(f"transform: expected a MaskTransform, got {type(transform).__name__}; others go to then=")
        if keys is not None and len(keys) != len(dataset):
            raise ValueError(f"keys: expected one for each of the {len(dataset)} samples, got {len(keys)}")
        self.dataset, self.transform, self.then, self.keys = dataset, transform, then, keys

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, index: int) -> Any:
        index = range(len(self))[operator.index(index)]  # −1 is the last one's key too
        sample = self.transform(self.dataset[index], key=index if self.keys is None else self.keys[index])
        return sample if self.then is None else self.then(sample)

    def set_epoch(self, epoch: int) -> None:
        """As `MaskTransform.set_epoch`."""
        self.transform.set_epoch(epoch)
