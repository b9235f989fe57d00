"""One picture's way: read, find faces, put a rule-based mask on each (step one), take translated masks in (step two).

Runs in worker processes, so functions take and give plain, picklable things. Nothing here raises for a bad picture:
what went wrong comes back as failures of its record. Only a failing *output* folder stops the run.
"""

import errno
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from lib.augment.composite import Layer, cropped, cut_square, merge, paste, square_around
from lib.augment.faces import Asked, drawn, fail, found_faces, labelled_faces, stored_faces
from lib.augment.laying import lay_masks
from lib.augment.options import Options, tensor_path
from lib.augment.polygons import THRESHOLD, region_rle
from lib.augment.scenes import UNUSABLE
from lib.augment.tasks import AugmentError, Task
from lib.data.files import sha256, write_png
from lib.data.images import ImageError, read_image, resize
from lib.warp import WarpError, save_non_mask


@dataclass
class Masked:
    """A face that got its rule-based mask. `patch` uint8 [h, w, 3]: the picture with all its rule-based masks, in the
    weight's box, where they are the result. Else `crop` uint8 [S, S, 3], that picture in `square` (x, y, side), is what
    step two translates."""

    index: int
    weight: Layer
    square: tuple[int, int, int] = (0, 0, 0)
    crop: np.ndarray | None = None
    noise_seed: int = 0
    variant: int = 1
    patch: np.ndarray | None = None


@dataclass
class Stepped:
    """A picture after step one. `pixels` uint8 [H, W, 3]: the untouched original. `faces`: the masks of all variants,
    in the order in which they are laid on."""

    task: Task
    record: dict
    pixels: np.ndarray | None = None
    alpha: np.ndarray | None = None
    faces: list[Masked] = field(default_factory=list)


def step_one(task: Task, in_dir: Path, options: Options, size: int | None) -> Stepped:
    """Read the picture, find its faces, lay a mask on each.

    Args:
        task: The picture.
        in_dir: The folder that `task.source` is relative to.
        options: The run's options.
        size: The generator's training size, px; None where no translation follows.
    """
    started = time.perf_counter()
    stepped = empty(task)
    record = stepped.record
    try:
        _lay_masks(stepped, in_dir, options, size)
    except ImageError as error:
        fail(record, "unreadable", error.reason)
    except Exception as error:  # whatever a strange picture sets off costs that picture, not the run
        stepped.faces = []
        fail(record, "error", f"{type(error).__name__}: {error}")
    record["seconds"] = time.perf_counter() - started
    return stepped


def _lay_masks(stepped: Stepped, in_dir: Path, options: Options, size: int | None) -> None:
    record, task = stepped.record, stepped.task
    picture = read_image(in_dir / task.source)
    record["source_sha256"] = sha256(in_dir / task.source)
    height, width = picture.pixels.shape[:2]
    record["size"], record["notes"] = [width, height], list(picture.notes)
    stepped.pixels, stepped.alpha = picture.pixels, picture.alpha
    if task.stored is not None:
        if record["source_sha256"] != task.sha256:
            fail(record, "changed", "the picture is not the one of the manifest any more")
            stepped.pixels = None
            return
        asked = stored_faces(task, record)
    else:
        find = found_faces if task.labels is None else labelled_faces
        try:
            faces = find(task, record, picture.pixels, in_dir, options)
        except ValueError as error:  # landmarks that were given, but not for this picture
            fail(record, "landmarks", str(error))
            return
        asked = drawn(faces, task.source, options)
        record["faces"] += [face.row for face in asked if face.row["variant"] > 1]
    record["faces"].sort(key=lambda row: (row["variant"], row["face"]))
    for variant in task.variants:
        _lay(stepped, [face for face in asked if face.row["variant"] == variant], options, size)


def _lay(stepped: Stepped, asked: list[Asked], options: Options, size: int | None) -> None:
    """Put the masks of one variant on the picture."""
    if not asked:
        return
    known = {row["face"]: row["box"] for row in stepped.record["faces"] if row["box"] and row["kind"] != UNUSABLE}
    places = {number: place for place, number in enumerate(sorted(known))}
    boxes = np.array([known[number] for number in places], float).round(2)  # a table's last digit must not matter
    own = [places[face.row["face"]] for face in asked]
    margins = None if size is None else [options.margin * _width(face.landmarks) for face in asked]
    masked, weights = lay_masks(stepped.pixels, [(f.landmarks, f.params) for f in asked], boxes, own, margins)
    laid = []
    for face, weight in zip(asked, weights, strict=True):
        row = face.row
        if isinstance(weight, WarpError):
            row["kind"], row["reason"] = weight.kind, weight.reason
            if weight.kind in ("too small", "turned too far"):  # left as it is, as by --min-face
                row["status"] = "left"
            fail(stepped.record, weight.kind, weight.reason, row["face"])
            continue
        row["status"] = "masked"
        laid.append(Masked(row["face"], weight, noise_seed=row["noise_seed"], variant=row["variant"]))
        if size is not None:
            laid[-1].square = square_around(face.landmarks, weight.box, options.crop_scale)
            laid[-1].crop = resize(cut_square(masked, laid[-1].square), size)
        else:
            laid[-1].patch = masked[weight.window].copy()
    stepped.faces += laid


def finish(stepped: Stepped, fakes: Sequence[np.ndarray], out_dir: Path, options: Options) -> dict:
    """Write the pictures, their regions and tensors; gives the record, ready for the journal.

    Args:
        stepped: From `step_one`.
        fakes: The translated crops, one per face of `stepped.faces`; empty where the rule-based picture is the result.
        out_dir: OUT.
        options: The run's options.

    Raises:
        AugmentError: The output cannot be written (disk full, no permission): no other picture would fare better.
    """
    started = time.perf_counter()
    record = stepped.record
    try:
        _write_variants(stepped, fakes, out_dir, options)
    except AugmentError:
        raise
    except Exception as error:
        fail(record, "error", f"{type(error).__name__}: {error}")
    there = {(face.variant, face.index) for face in stepped.faces if str(face.variant) in record["variants"]}
    for row in record["faces"]:
        if row["status"] == "masked" and (row["variant"], row["face"]) not in there:
            row["status"] = "failed"
    record["seconds"] = round(record["seconds"] + time.perf_counter() - started, 4)
    return record


def _write_variants(stepped: Stepped, fakes: Sequence[np.ndarray], out_dir: Path, o: Options) -> None:
    """Compose and write each variant; noted in the record when its files are in place."""
    record, task = stepped.record, stepped.task
    if stepped.pixels is None:
        return
    alpha = [] if stepped.alpha is None else [stepped.alpha]
    if task.original:
        record["original"] = f"images/{task.original}"
        array = np.dstack([stepped.pixels, *alpha]) if alpha else stepped.pixels
        record["files"][record["original"]] = _write(out_dir, record["original"], array)
    copied = o.copy_missed or o.labels is not None
    for variant, paths in task.variants.items():
        faces = [(k, face) for k, face in enumerate(stepped.faces) if face.variant == variant]
        if task.stored is not None:
            copied = any(row["written"] for row in task.stored if row["variant"] == variant)
        if not (faces or copied):
            continue
        pixels, region = stepped.pixels.copy(), np.zeros(stepped.pixels.shape[:2], np.uint8)
        for k, face in faces:
            if len(fakes):
                paste(pixels, fakes[k], face.square, face.weight)
            else:
                pixels[face.weight.window] = face.patch
            merge(region, face.weight)
        written = dict(zip(paths, (np.dstack([pixels, *alpha]) if alpha else pixels, region)))
        if o.tensors:
            written[tensor_path(paths[1])] = region == 0
        for path, array in written.items():
            record["files"][path] = _write(out_dir, path, array)
        _tell_regions(record, variant, [face for _, face in faces], region.shape, codes=o.labels is not None)
        record["variants"][str(variant)] = list(written)


def _tell_regions(record: dict, variant: int, faces: list[Masked], shape: tuple[int, int], codes: bool) -> None:
    """Each mask's own region, `THRESHOLD` and more where no nearer mask covers it: the box of its pixels (none where
    there are none), with `codes` also COCO's run lengths."""
    top = np.zeros(shape, np.uint16)
    for number, face in enumerate(faces, 1):
        top[face.weight.window][face.weight.values >= THRESHOLD] = number
    rows = {row["face"]: row for row in record["faces"] if row["variant"] == variant}
    for number, face in enumerate(faces, 1):
        own = cropped((top[face.weight.window] == number).astype(np.uint8), face.weight.box[:2])
        rows[face.index]["mask_box"] = list(own.box) if own.values.size else None
        if codes:
            rows[face.index]["mask_rle"] = region_rle((top == number).astype(np.uint8) * np.uint8(255))


def rule_based(task: Task, in_dir: Path, out_dir: Path, options: Options) -> dict:
    """`step_one` and `finish` in one go: all of the work where no translation follows."""
    return finish(step_one(task, in_dir, options, None), (), out_dir, options)


def empty(task: Task) -> Stepped:
    """A picture of which nothing is known yet."""
    record = {"source": task.source, "name": task.name, "source_sha256": "", "size": None, "notes": [], "files": {}}
    record |= {"identity": task.identity, "original": "", "variants": {}, "faces": [], "failures": []}
    return Stepped(task, {**record, "seconds": 0.0})


def _width(landmarks: np.ndarray) -> float:
    """Ear to ear, px: the distance of the jaw's two ends."""
    return float(np.linalg.norm(landmarks[16] - landmarks[0]))


def _write(out_dir: Path, path: str, array: np.ndarray) -> str:
    target = out_dir / path
    try:
        (save_non_mask if array.dtype == np.bool_ else write_png)(target, array)
        return sha256(target)
    except OSError as error:
        if error.errno == errno.ENAMETOOLONG:
            raise
        raise AugmentError(f"{target}: cannot be written ({error.strerror or error}); the run stops here") from None
