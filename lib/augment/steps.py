"""One picture's way: read, find faces, put a rule-based mask on each (step one), take translated masks in (step two).

Runs in worker processes, so functions take and give plain, picklable things. Nothing here raises for a bad picture:
what went wrong comes back as failures of its record. Only a failing *output* folder stops the run.
"""

import errno
import functools
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from lib.augment.composite import Layer, cut_square, extend, merge, paste, quantise, square_around
from lib.augment.options import AugmentError, Options, Task, face_seed
from lib.data.files import sha256, write_png
from lib.data.images import ImageError, read_image, resize
from lib.warp import Face, WarpError, apply_warps, sample_warp_params
from lib.warp.faces import find_in, open_cache
from lib.warp.sources import open_source

REDUCED = "faces looked for at"  # begins the note on a picture larger than the detector's limit


@dataclass
class Masked:
    """A face that got its rule-based mask. `square` (x, y, side) and `crop` uint8 [S, S, 3], the rule-based picture in
    it, are what step two translates."""

    index: int
    weight: Layer
    square: tuple[int, int, int] = (0, 0, 0)
    crop: np.ndarray | None = None
    noise_seed: int = 0


@dataclass
class Stepped:
    """A picture after step one. `pixels` uint8 [H, W, 3]: with the rule-based masks on it when they are the result,
    the untouched original when a translation follows. `faces` in the order in which they are laid on it."""

    task: Task
    record: dict
    pixels: np.ndarray | None = None
    alpha: np.ndarray | None = None
    faces: list[Masked] = field(default_factory=list)


@functools.lru_cache(maxsize=1)
def _source(landmarks, upsample: int, max_side: int, min_score: float, in_dir: Path, cache) -> tuple:
    """Where faces come from, and the cache of what was found: once per process."""
    dlib = {"upsample": upsample, "max_side": max_side, "min_score": min_score}
    source = open_source(landmarks, in_dir, **(dlib if landmarks == "dlib" else {}))
    return source, open_cache(cache, source)


def _find(stepped: Stepped, in_dir: Path, o: Options) -> tuple[list[Face], str]:
    """The faces of a picture, and what to say where there is none."""
    source, kept = _source(o.landmarks, o.upsample, o.detect_side, o.min_score, in_dir, o.landmark_cache)
    key, digest = Path(stepped.task.source).as_posix(), stepped.record["source_sha256"]
    return find_in(stepped.pixels, source, key, kept, digest), source.nothing


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
    record, source = stepped.record, stepped.task.source
    picture = read_image(in_dir / source)
    record["source_sha256"] = sha256(in_dir / source)
    stepped.pixels, stepped.alpha = picture.pixels, picture.alpha
    height, width = picture.pixels.shape[:2]
    record["size"], record["notes"] = [width, height], list(picture.notes)
    by_dlib = options.landmarks == "dlib"
    if by_dlib and (share := options.detect_side / max(height, width)) < 1:  # a face missed for this is no silent miss
        record["notes"].append(f"{REDUCED} {share:.0%} of the size")
    try:
        found, nothing = _find(stepped, in_dir, options)
    except ValueError as error:  # landmarks that were given, but not for this picture
        fail(record, "landmarks", str(error))
        return
    faces = list(enumerate(found))
    if not faces:
        fail(record, "no face", nothing)
        return
    # Near faces last: their mask covers a far one's.
    faces.sort(key=lambda item: (item[1].box[2] * item[1].box[3], -item[0]))
    faces = faces[-1:] if options.largest_only else faces
    config, asked = options.warp_config(), []
    for order, (index, face) in enumerate(faces):
        row = _describe(index, face, options.seed, source) | {"order": order}
        record["faces"].append(row)
        params = sample_warp_params(np.random.default_rng(row["warp_seed"]), config)
        row["params"] = params.to_dict()
        asked.append((0, face.landmarks, params))
    (masked,), worn = apply_warps([picture.pixels], asked)
    for (index, face), row, mask in zip(faces, record["faces"], worn, strict=True):
        if isinstance(mask, WarpError):
            fail(record, mask.kind, mask.reason, index)
            continue
        rule = quantise(np.maximum(mask.alpha, mask.shadow), mask.window[:2])
        weight = rule if size is None else extend(rule, options.margin * _width(face), (height, width))
        row["mask_box"], row["status"] = list(weight.box), "masked"
        stepped.faces.append(Masked(index, weight, noise_seed=row["noise_seed"]))
    record["faces"].sort(key=lambda row: row["face"])
    if size is None:
        stepped.pixels = masked
        return
    landmarks = {index: face.landmarks for index, face in faces}
    for face in stepped.faces:
        face.square = square_around(landmarks[face.index], face.weight.box, options.crop_scale)
        face.crop = resize(cut_square(masked, face.square), size)


def finish(stepped: Stepped, fakes: Sequence[np.ndarray], out_dir: Path, options: Options) -> dict:
    """Write the picture and its region; gives the record, ready for the journal.

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
        arrays = _compose(stepped, fakes, options.copy_missed)
        record["files"] = {path: _write(out_dir, path, array) for path, array in zip(stepped.task.outputs, arrays)}
    except AugmentError:
        raise
    except Exception as error:
        fail(record, "error", f"{type(error).__name__}: {error}")
    if not (record["files"] and stepped.faces):
        for face in record["faces"]:
            face["status"] = "failed"
    record["seconds"] = round(record["seconds"] + time.perf_counter() - started, 4)
    return record


def _compose(stepped: Stepped, fakes: Sequence[np.ndarray], copy_missed: bool) -> tuple[np.ndarray, ...]:
    """The output picture, uint8 [H, W, 3 or 4], and its region, uint8 [H, W]; nothing where no output is due."""
    if stepped.pixels is None or not (stepped.faces or copy_missed):
        return ()
    pixels, region = stepped.pixels.copy(), np.zeros(stepped.pixels.shape[:2], np.uint8)
    for k, face in enumerate(stepped.faces):
        if len(fakes):
            paste(pixels, fakes[k], face.square, face.weight)
        merge(region, face.weight)
    return pixels if stepped.alpha is None else np.dstack([pixels, stepped.alpha]), region


def rule_based(task: Task, in_dir: Path, out_dir: Path, options: Options) -> dict:
    """`step_one` and `finish` in one go: all of the work where no translation follows."""
    return finish(step_one(task, in_dir, options, None), (), out_dir, options)


def empty(task: Task) -> Stepped:
    """A picture of which nothing is known yet."""
    record = {"source": task.source, "name": task.name, "source_sha256": "", "size": None, "notes": [], "files": {}}
    return Stepped(task, {**record, "faces": [], "failures": [], "seconds": 0.0})


def fail(record: dict, kind: str, reason: str, face: int = -1) -> None:
    """Note a failure of the picture (face −1) or of one face in its record, on one line."""
    record["failures"].append({"face": face, "kind": kind, "reason": " ".join(reason.split())})


def _describe(index: int, face: Face, seed: int, source: str) -> dict:
    """What the manifest tells of a found face; JSON-able."""
    return {
        "face": index,
        "status": "failed",
        "box": [int(edge) for edge in face.box],
        "score": round(float(face.score), 6),
        # The shortest text that gives the same float32 again: with `params` the warp can be replayed to the bit.
        "landmarks": [[float(str(c)) for c in point] for point in np.asarray(face.landmarks, np.float32)],
        "params": None,
        "mask_box": None,
        "warp_seed": face_seed(seed, source, index),
        "noise_seed": face_seed(seed, source, index, "noise") % 2**32,  # the translator takes 32 bits
    }


def _width(face: Face) -> float:
    """Ear to ear, px: the distance of the jaw's two ends."""
    return float(np.linalg.norm(face.landmarks[16] - face.landmarks[0]))


def _write(out_dir: Path, path: str, array: np.ndarray) -> str:
    target = out_dir / path
    try:
        write_png(target, array)
        return sha256(target)
    except OSError as error:
        if error.errno == errno.ENAMETOOLONG:
            raise
        raise AugmentError(f"{target}: cannot be written ({error.strerror or error}); the run stops here") from None
