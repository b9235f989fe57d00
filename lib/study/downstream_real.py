"""Truly masked photographs that the user has, for the tests of `lib.study.downstream`: read whole before any training.

    mafa    (root,)               the test part of MAFA: scenes for the detector
    mfr2    (root, pairs file)    pairs of pictures for the recogniser
    mlfw    (root, pairs file)    likewise

lib/data/README.md shows the folders that are expected.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from lib.study.config import StudyError
from lib.study.detector import FACE, MASKED, Scenes, mafa_scenes
from lib.study.downstream_sets import Plan
from lib.study.recogniser import Pairs, named_pairs

SETS = {"mafa": "detector", "mfr2": "recogniser", "mlfw": "recogniser"}  # and what is tested on them


@dataclass(frozen=True, eq=False)
class Photographs:
    """A set of pictures uint8 [N, S, S, 3] and what is true of them.

    units: people, or pictures, which bootstrap samples are drawn from. counts: what the set consists of.
    unusable, of: pairs, or pictures, that cannot be used, and how many there are in all.
    """

    kind: str
    images: np.ndarray
    truth: Scenes | Pairs
    units: int
    counts: dict[str, int]
    unusable: int
    of: int

    @property
    def digest(self) -> str:
        """Of the pictures and what is true of them: another one is another set."""
        truth = self.truth
        parts = [*truth.boxes, *truth.labels] if isinstance(truth, Scenes) else vars(truth).values()
        hashed = hashlib.sha256(repr(self.images.shape).encode())
        for part in (self.images, *parts):
            hashed.update(np.ascontiguousarray(part))
        return hashed.hexdigest()[:16]


def read_set(kind: str, paths: Sequence[Path | str], plan: Plan) -> Photographs:
    """Read a set, its pictures resized to the plan's size.

    Raises StudyError: no such kind, a path that was not named or is not there, files of another layout (which file,
    and what was expected), nothing in it that can be used.
    """
    if kind not in SETS:
        raise StudyError(f"{kind!r}: is no set of photographs; name one of {', '.join(SETS)}")
    wanted = ("its root folder",) if SETS[kind] == "detector" else ("its root folder", "its pairs file")
    if len(paths) != len(wanted) or not all(str(path).strip() for path in paths):
        raise StudyError(
            f"{kind}: name {' and '.join(wanted)}, not {', '.join(map(repr, map(str, paths))) or 'nothing'}"
        )
    for path, what in zip(paths, wanted):
        if not Path(path).exists():
            raise StudyError(f"{path}: not there; it was named for {kind}, {what}")
    try:
        if SETS[kind] == "detector":
            truth, unusable = mafa_scenes(paths[0], plan.scene_size)
            images, count = truth.images, len(truth.images)
            labels = np.concatenate(truth.labels)
            counts = {"pictures": count, "masked_faces": (labels == MASKED).sum(), "bare_faces": (labels == FACE).sum()}
        else:
            images, truth, unusable = named_pairs(kind, *paths, plan.face_size)
            count = len(np.unique(truth.people))
            counts = {"people": count, "true_pairs": truth.same.sum(), "false_pairs": (~truth.same).sum()}
    except (OSError, ValueError) as error:
        raise StudyError(f"{kind} cannot be read: {error}") from error
    of = unusable + (count if SETS[kind] == "detector" else len(truth.same))
    return Photographs(kind, images, truth, count, {name: int(n) for name, n in counts.items()}, unusable, of)
