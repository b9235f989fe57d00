"""Labelled scenes: which faces get a mask, their landmarks inside their boxes, and the labels that are written.

A box says where a face is, so it is looked for there: in a cut-out of about twice the box, small ones enlarged. What is
found belongs to the box that it overlaps most, of all boxes of the picture, so that a neighbour's face is not taken.
"""

from __future__ import annotations

import functools
import hashlib
import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from lib.augment.polygons import decode_rle
from lib.augment.tasks import AugmentError, Labelled, face_seed
from lib.data.detection import FORMATS, MASKED, face_classes, guess_format, read_detection
from lib.data.files import leaves_root
from lib.warp import DlibLandmarks, Face
from lib.warp.face3d import estimate_pose
from lib.warp.faces import FaceCache, find_in, open_cache
from lib.warp.sources import DlibSource, LandmarkSource, open_source

if TYPE_CHECKING:
    from lib.augment.options import Options

OVERLAP = 0.2  # least intersection over union of a box and the landmarks found for it
CUTS = (2.2, 1.8, 1.4)  # sides of the cut-out, in longer sides of the box; the next where one shows others alone
SEEN_PX = 640  # longest side of a cut-out that the detector sees; a smaller one is enlarged to 320 px
SMALLEST_PX = 24  # default of --min-face in labelled scenes
DAMAGED = "label file is damaged"
UNUSABLE = "unusable box"  # kind of the labelled faces that are at no place in the picture


@dataclass(frozen=True)
class Share:
    """How many faces get a mask: `base`, or the share of the last of the `rules` that fits; each is ("px" or "deg",
    from, share): faces whose shorter side has so many pixels, heads turned by so many degrees."""

    base: float
    rules: tuple[tuple[str, float, float], ...] = ()

    @property
    def by_pose(self) -> bool:
        return any(unit == "deg" for unit, _, _ in self.rules)

    def of(self, side_px: float, yaw_deg: float) -> float:
        share = self.base
        for unit, least, other in self.rules:
            share = other if (side_px if unit == "px" else abs(yaw_deg)) >= least else share
        return share


@functools.lru_cache(maxsize=8)
def parse_share(text: str) -> Share:
    """ "0.5", or with rules "0.5, 64px=0.8, 30deg=0.2". AugmentError for another text."""
    expected = f"--share: expected a number from 0 to 1, and perhaps 64px=0.8 or 30deg=0.2 after commas, got {text!r}"
    base, rules = None, []
    for part in str(text).split(","):
        rule = re.fullmatch(r"\s*(?:(\d+(?:\.\d+)?)\s*(px|deg)\s*=)?\s*(\d*\.?\d+)\s*", part)
        if rule is None or not 0 <= float(rule[3]) <= 1 or (rule[2] is None and base is not None):
            raise AugmentError(expected)
        if rule[2]:
            rules.append((rule[2], float(rule[1]), float(rule[3])))
        else:
            base = float(rule[3])
    return Share(1.0 if base is None else base, tuple(rules))


def read_scenes(in_dir: Path, options: Options) -> pd.DataFrame:
    """The labels as `lib.data.detection` reads them, `image` relative to IN. AugmentError where they cannot be read."""
    try:
        return read_detection(options.labels, options.labels_format, in_dir)[0]
    except (ValueError, OSError) as error:
        raise AugmentError(f"--labels: {' '.join(str(error).split())}") from None


def check_formats(options: Options) -> list[str]:
    """The formats that labels are written in: the source's own first. AugmentError for one that is not known."""
    asked = [name.strip().lower() for name in (options.write or "").split(",") if name.strip()]
    for option, name in [("--labels-format", options.labels_format), *(("--write", name) for name in asked)]:
        if name is not None and name not in FORMATS:
            raise AugmentError(f"{option}: expected {', '.join(FORMATS)}, got {name!r}")
    try:
        own = options.labels_format or guess_format(options.labels)
    except (ValueError, OSError) as error:
        raise AugmentError(f"--labels: {' '.join(str(error).split())}") from None
    return list(dict.fromkeys([own, *asked]))


def labelled(table: pd.DataFrame, in_dir: Path) -> tuple[dict[str, tuple[Labelled, ...]], list[dict]]:
    """The faces of each picture in IN, sorted by its path, and failures for those that are not to be had."""
    grouped: dict[str, list[tuple]] = {}
    for row in table.assign(kind=face_classes(table)).itertuples():
        grouped.setdefault(row.image, []).append(row)
    pictures, missing = {}, []
    for image, rows in sorted(grouped.items()):
        damaged = next((row.reason for row in rows if row.reason.startswith(DAMAGED)), "")
        if damaged or leaves_root(image) or not (in_dir / image).is_file():
            kind = "labels" if damaged else "missing"
            reason = damaged or rows[0].reason or "no such file"
            missing.append({"file": image, "face": -1, "kind": kind, "reason": reason})
            continue
        pictures[image] = tuple(_labelled(row) for row in rows if row.kind)
        # Entries whose box is no four numbers; a row without an entry says that the picture has no face.
        lost = [row for row in rows if row.label_entry >= 0 and np.isnan(row.w)]
        missing += [{"file": image, "face": row.face, "kind": UNUSABLE, "reason": row.reason} for row in lost]
    return pictures, missing


def _labelled(row: tuple) -> Labelled:
    kind, reason = (UNUSABLE, row.reason) if row.reason else ("", "")
    if row.kind == MASKED:
        kind, reason = "already masked", f"labelled {row.label}"
    return Labelled(int(row.face), *(float(getattr(row, side)) for side in "xywh"), kind, reason)


def unlabelled(sources: list[str], table: pd.DataFrame) -> list[dict]:
    """Failures for the pictures of IN that no label file tells of."""
    known = set(table["image"])
    row = {"face": -1, "kind": "not labelled", "reason": "no label file tells of it; it is left out"}
    return [{"file": source, **row} for source in sources if source not in known]


def least_side(options: Options) -> int:
    """What --min-face is, given or by default, px."""
    return options.min_face if options.min_face is not None else SMALLEST_PX * (options.labels is not None)


def refusal(box: tuple[float, ...], options: Options) -> tuple[str, str]:
    """(kind, reason) against a mask on a face of this size; two empty texts where it may have one."""
    least, side = least_side(options), min(box[2:])
    if side < least:
        return "too small", f"the box is {side:.4g} px on its shorter side, --min-face {least}"
    if options.max_face is not None and side > options.max_face:
        return "too large", f"the box is {side:.4g} px on its shorter side, --max-face {options.max_face}"
    return "", ""


def chosen(source: str, face: int, box: tuple[float, ...], options: Options, landmarks: np.ndarray | None) -> bool:
    """Whether a face is among the share that gets a mask. Drawn for each face by itself, from the run's seed.

    landmarks: None before they are known; then the answer is no only where it is no whatever the pose.
    """
    share = parse_share(options.share)
    drawn = np.random.default_rng(face_seed(options.seed, source, face, "share")).random()
    if landmarks is None and share.by_pose:
        return drawn < max(share.of(min(box[2:]), yaw) for yaw in range(91))
    return drawn < share.of(min(box[2:]), _yaw(landmarks) if share.by_pose else 0.0)


def _yaw(landmarks: np.ndarray) -> float:
    try:
        return estimate_pose(landmarks).yaw
    except ValueError:  # step one says what is wrong with them
        return 0.0


@functools.lru_cache(maxsize=1)
def _source(landmarks, min_score: float, in_dir: Path, cache) -> tuple[LandmarkSource, FaceCache | None]:
    """Once per process. The cut-out's scale takes the place of `upsample` and `detect_side`."""
    dlib = {"upsample": 0, "max_side": SEEN_PX, "min_score": min_score}
    source = DlibSource(DlibLandmarks(**dlib)) if landmarks == "dlib" else open_source(landmarks, in_dir)
    return source, open_cache(cache, source)


def faces_of(
    pixels: np.ndarray, key: str, digest: str, labels: tuple[Labelled, ...], wanted: list[int], o: Options, in_dir: Path
) -> dict[int, Face]:
    """The faces found for some of the boxes, by their place in `labels`; a box without one is left out.

    pixels: uint8 [H, W, 3]. key: the picture's path in IN. digest: its SHA-256, for the cache. wanted: places.

    Raises ValueError for given landmarks that do not belong to the picture.
    """
    source, cache = _source(o.landmarks, o.min_score, in_dir, o.landmark_cache)
    boxes = np.array([label[1:5] for label in labels], float).reshape(-1, 4)
    boxes = np.nan_to_num(boxes, nan=-1.0, posinf=1e9, neginf=-1e9)
    everywhere = find_in(pixels, source, key) if wanted and not source.by_pixels else None
    found = {}
    for k in wanted:
        for cut in CUTS:
            faces = _look(pixels, boxes[k], cut, source, cache, digest) if everywhere is None else everywhere
            shares = [overlap(face.landmarks, boxes) for face in faces]
            own = [n for n, share in enumerate(shares) if share.argmax() == k and share[k] >= OVERLAP]
            if own:
                found[k] = faces[max(own, key=lambda n: shares[n][k])]
            if own or not faces or everywhere is not None:
                break  # where only others were found, they may hide it: the detector stops at its first find
    return found


def _look(pixels: np.ndarray, box: np.ndarray, cut: float, source, cache, digest: str) -> list[Face]:
    """The faces in a cut-out around the box, in px of the whole picture."""
    x, y, w, h = box
    reach = cut / 2 * max(w, h)
    low = np.maximum(np.floor((x + w / 2 - reach, y + h / 2 - reach)), 0).astype(int)
    high = np.minimum(np.ceil((x + w / 2 + reach, y + h / 2 + reach)), pixels.shape[1::-1]).astype(int)
    if (high - low < 1).any():
        return []
    part = np.ascontiguousarray(pixels[low[1] : high[1], low[0] : high[0]])
    key = hashlib.sha256(f"{digest} {low.tolist()} {high.tolist()}".encode()).hexdigest()
    found = []
    for face in find_in(part, source, "", cache, key):
        place = (face.box[0] + int(low[0]), face.box[1] + int(low[1]), *face.box[2:])
        found.append(Face(place, (face.landmarks + low).astype(np.float32), face.score, face.detector))
    return found


def overlap(landmarks: np.ndarray, boxes: np.ndarray) -> np.ndarray:
    """Intersection over union of the box around landmarks [68, 2] with each of `boxes` [N, 4] (x, y, w, h)."""
    low, high = landmarks.min(0), landmarks.max(0)
    both = np.clip(np.minimum(high, boxes[:, :2] + boxes[:, 2:]) - np.maximum(low, boxes[:, :2]), 0, None).prod(1)
    either = (high - low).prod() + np.clip(boxes[:, 2:], 0, None).prod(1) - both
    return np.where(either > 0, both / np.where(either > 0, either, 1), 0.0)


def write_scenes(out_dir: Path, table: pd.DataFrame, manifest: pd.DataFrame, options: Options) -> list[Path]:
    """Write the labels of the pictures that are in OUT, in every format asked for; gives the files.

    table: from `read_scenes`. manifest: its rows; `mask_rle` holds the regions.
    """
    from lib.augment.labels import write_labels

    classes, parts, regions = face_classes(table), [], {}
    for _, rows in manifest[manifest["output"] != ""].groupby("variant", sort=True):
        images = dict(zip(rows["source"], rows["output"].str.removeprefix("images/")))
        sizes = {row.source: (row.width, row.height) for row in rows.itertuples()}
        masked = {(row.source, row.face): row for row in rows[rows["status"] == "masked"].itertuples()}
        part = table[table["image"].isin(images)].copy()
        found = [masked.get(key) for key in zip(part["image"], part["face"])]
        own = zip(found, classes[part.index], part["label"])
        part["label"] = [MASKED if row or kind == MASKED else kind or label for row, kind, label in own]
        for name in ("mask_x", "mask_y", "mask_w", "mask_h"):
            values = [getattr(row, name) if row else float("nan") for row in found]
            part[name] = pd.to_numeric(pd.Series(values, part.index, dtype="Float64")).astype(float)
        part["width"], part["height"] = ([int(sizes[source][k]) for source in part["image"]] for k in (0, 1))
        part["image"] = part["image"].map(images)
        parts.append(part)
        regions |= {(images[source], face): row.mask_rle for (source, face), row in masked.items()}
    if not parts:
        return []
    table = pd.concat(parts, ignore_index=True)

    def region_of(row: tuple) -> np.ndarray:
        return decode_rle(json.loads(regions[(row.image, row.face)])) * np.uint8(255)

    paths = []
    for name in check_formats(options):
        given = (options.labels, options.labels_format, out_dir / "images")
        paths += write_labels(name, out_dir / "labels" / name, table, region_of, *given)
    return paths
