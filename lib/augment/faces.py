"""The faces of one picture: found, labelled or stored; which of them get a mask, and which mask.

What is known of a face is a row of the picture's record: a dict of plain values, ready for the journal.
"""

import functools
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from lib.augment import scenes
from lib.augment.options import Options
from lib.augment.tasks import Task, variant_seed
from lib.warp import Face, WarpParams, sample_warp_params
from lib.warp.faces import find_in, open_cache
from lib.warp.looks import MixItem
from lib.warp.sources import open_source

REDUCED = "faces looked for at"  # begins the note on a picture larger than the detector's limit
NOT_CHOSEN = "not chosen"  # kind of the faces that --share left out: no failure


@dataclass
class Asked:
    """A face that is to get a mask: its row in the record, landmarks [68, 2], what was drawn for it."""

    row: dict
    landmarks: np.ndarray
    params: WarpParams | None = None


@functools.lru_cache(maxsize=1)
def _source(landmarks, upsample: int, max_side: int, min_score: float, thorough: bool, in_dir: Path, cache) -> tuple:
    """Where faces come from, and the cache of what was found: once per process."""
    dlib = {"upsample": upsample, "max_side": max_side, "min_score": min_score, "thorough": thorough}
    source = open_source(landmarks, in_dir, **(dlib if landmarks == "dlib" else {}))
    return source, open_cache(cache, source)


def found_faces(task: Task, record: dict, pixels: np.ndarray, in_dir: Path, o: Options) -> list[Asked]:
    """The faces of a picture that are to get masks."""
    source = task.source
    if o.landmarks == "dlib" and (share := o.detect_side / max(record["size"])) < 1:  # a miss for this is not silent
        record["notes"].append(f"{REDUCED} {share:.0%} of the size")
    where, cache = _source(o.landmarks, o.upsample, o.detect_side, o.min_score, o.thorough, in_dir, o.landmark_cache)
    found = find_in(pixels, where, Path(source).as_posix(), cache, record["source_sha256"])
    if not found:
        fail(record, "no face", where.nothing)
    faces = list(enumerate(found))
    if o.largest_only:
        faces = sorted(faces, key=lambda item: (item[1].box[2] * item[1].box[3], -item[0]))[-1:]
    asked = []
    for index, face in faces:
        row = _row(record, index, [int(edge) for edge in face.box], face)
        kind, reason = scenes.refusal(face.box, o)
        if kind:
            _leave(record, row, kind, reason)
        elif not scenes.chosen(source, index, face.box, o, face.landmarks):
            _leave(record, row, NOT_CHOSEN, f"--share {o.share}")
        else:
            asked.append(Asked(row, face.landmarks))
    return asked


def labelled_faces(task: Task, record: dict, pixels: np.ndarray, in_dir: Path, o: Options) -> list[Asked]:
    """The labelled faces that are to get masks and whose landmarks are known; all get a row."""
    source, labels = task.source, task.labels
    rows, wanted = [], []
    for k, label in enumerate(labels):
        rows.append(_row(record, label.face, list(label[1:5])))
        kind, reason = (label.kind, label.reason) if label.kind else scenes.refusal(label[1:5], o)
        if kind:
            _leave(record, rows[k], kind, reason)
        elif not scenes.chosen(source, label.face, label[1:5], o, None):
            _leave(record, rows[k], NOT_CHOSEN, f"--share {o.share}")
        else:
            wanted.append(k)
    found = scenes.faces_of(pixels, source, record["source_sha256"], labels, wanted, o, in_dir)
    asked = []
    for k in wanted:
        if (face := found.get(k)) is None:
            rows[k] |= {"kind": "no landmarks", "reason": "no face found in the box"}
            fail(record, rows[k]["kind"], rows[k]["reason"], labels[k].face)
            continue
        rows[k] |= _told(face)
        if scenes.chosen(source, labels[k].face, labels[k][1:5], o, face.landmarks):
            asked.append(Asked(rows[k], face.landmarks))
        else:
            _leave(record, rows[k], NOT_CHOSEN, f"--share {o.share}")
    return asked


def drawn(faces: list[Asked], source: str, o: Options) -> list[Asked]:
    """The faces of every variant with their masks, in the order of laying: near ones last, they cover far ones."""
    faces = sorted(faces, key=lambda face: (face.row["box"][2] * face.row["box"][3], -face.row["face"]))
    config, out = o.warp_config(), []
    for order, face in enumerate(faces):
        seen: set[tuple] = set()
        for variant in range(1, o.per_image + 1):
            index = face.row["face"]
            seeds = {f"{use}_seed": variant_seed(o.seed, source, index, variant, use) for use in ("warp", "noise")}
            seeds["noise_seed"] %= 2**32  # the translator takes 32 bits
            left = tuple(item for item in config.mix if item.weight > 0 and _look(item) not in seen)
            if not left:  # each mask was there once
                seen, left = set(), config.mix
            params = sample_warp_params(np.random.default_rng(seeds["warp_seed"]), replace(config, mix=left))
            seen.add(_look(params))
            told = seeds | {"variant": variant, "order": order, "params": params.to_dict()}
            if variant == 1:
                face.row |= told
                out.append(Asked(face.row, face.landmarks, params))
            else:
                out.append(Asked(face.row | told | {"landmarks": None}, face.landmarks, params))
    return out


def _look(mask: MixItem | WarpParams) -> tuple:
    return mask.template, mask.colour, mask.texture


def stored_faces(task: Task, record: dict) -> list[Asked]:
    """The faces of a manifest, as they were."""
    asked = []
    for row in task.stored:
        if row["face"] < 0:  # a picture without faces
            if row["kind"]:
                fail(record, row["kind"], row["reason"])
            continue
        row = {name: value for name, value in row.items() if name != "written"} | {"mask_box": None}
        points = np.array(row["landmarks"], np.float32) if row["landmarks"] else None
        row["landmarks"] = row["landmarks"] if row["variant"] == 1 else None
        record["faces"].append(row)
        if row["status"] == "masked":
            row["status"] = "failed"
            asked.append(Asked(row, points, WarpParams.from_dict(row["params"])))
        elif row["kind"] not in ("", NOT_CHOSEN):
            fail(record, row["kind"], row["reason"], row["face"])
    return sorted(asked, key=lambda face: face.row["order"])


def fail(record: dict, kind: str, reason: str, face: int = -1) -> None:
    """Note a failure of the picture (face −1) or of one face in its record, on one line; the same one once."""
    failure = {"face": face, "kind": kind, "reason": " ".join(reason.split())}
    if failure not in record["failures"]:
        record["failures"].append(failure)


def _row(record: dict, index: int, box: list, face: Face | None = None) -> dict:
    """A new row of the record: what the manifest tells of a face; JSON-able."""
    row = {"face": index, "variant": 1, "status": "failed", "kind": "", "reason": "", "box": box, "score": None}
    row |= dict.fromkeys(("landmarks", "params", "order", "mask_box", "warp_seed", "noise_seed"))
    row |= _told(face) if face else {}
    record["faces"].append(row)
    return row


def _leave(record: dict, row: dict, kind: str, reason: str) -> None:
    """The face keeps its own looks; that it was not among the share is no failure."""
    row["status"], row["kind"], row["reason"] = "left", kind, reason
    if kind != NOT_CHOSEN:
        fail(record, kind, reason, row["face"])


def _told(face: Face) -> dict:
    # The shortest text that gives the same float32 again: with `params` the warp can be replayed to the bit.
    points = [[float(str(c)) for c in point] for point in np.asarray(face.landmarks, np.float32)]
    return {"score": round(float(face.score), 6), "landmarks": points}
