"""The same faces under other ways of putting masks on (paper Fig. 9): rules, the steps of the method, other weights."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from lib.data.files import read_json, sha256
from lib.data.images import resize
from lib.gan import CheckpointError, Translator
from lib.gan.released import find_weights, read_model
from lib.study import metrics
from lib.study.config import StudyError
from lib.study.datasets import TestSet
from lib.study.runs import Study
from lib.study.sources import landmarks_of
from lib.warp import DlibLandmarks, WarpError, apply_warps, preset, sample_warp_params

RULES = ("cmfd", "maskthe_face", "mlfw", "smfrd", "study", "ours")  # presets of lib.warp, others' ways first


@dataclass(frozen=True)
class Way:
    """A way of masking faces: its pictures, uint8 [S, S, 3] each or None where it gives none, with the reason."""

    pictures: list[np.ndarray | None]
    reasons: dict[str, str]  # name of the face → why it has no picture

    @classmethod
    def of(cls, pictures: np.ndarray) -> Way:
        """A way that masks every face."""
        return cls(list(pictures), {})


def find_landmarks(study: Study, test: TestSet) -> list[np.ndarray | None]:
    """68 landmarks of each held-out face, px; None where dlib finds no face. Those of step one, where it used any."""
    if (study.data_dir / "A" / "landmarks.csv").exists():
        known = landmarks_of(study)
        return [known.get(name) for name in test.names]
    finder = DlibLandmarks()  # the paper's set A comes with its masks already drawn
    found = [finder.find(picture) for picture in test.full]
    return [faces[0].landmarks if faces else None for faces in found]


def by_rule(study: Study, test: TestSet, names: Sequence[str] = RULES) -> dict[str, Way]:
    """Every preset of `lib.warp` on the same full faces, each with set A's blue mask: shape and light differ."""
    landmarks, ways = find_landmarks(study, test), {}
    for name in names:
        config = preset(name, mix="surgical_blue")
        faces = [k for k, points in enumerate(landmarks) if points is not None]
        params = [sample_warp_params(np.random.default_rng([study.seed, k]), config) for k in faces]
        images, worn = apply_warps(list(test.full), [(k, landmarks[k], p) for k, p in zip(faces, params)])
        refused = {k: str(mask) for k, mask in zip(faces, worn) if isinstance(mask, WarpError)}
        refused |= {k: "no face found" for k, points in enumerate(landmarks) if points is None}
        pictures = [None if k in refused else image for k, image in enumerate(images)]
        ways[name] = Way(pictures, {test.names[k]: reason for k, reason in sorted(refused.items())})
    return ways


def other_generator(which: str | Path, images: np.ndarray, seeds: Sequence[int]) -> tuple[str, np.ndarray, dict]:
    """Weights from elsewhere on rule-based pictures, uint8 [N, S, S, 3]: at the size they are used at, and back.

    which: a released model's name or a checkpoint folder. Returns a label, the outputs, and a record for the JSON.
    Raises StudyError where there are no such weights, or they are damaged.
    """
    try:
        path = find_weights(which)
        translator = Translator(path)
        if path.is_dir():
            model = read_model(path)
            label, size, digest = model["name"], model.get("use_px", model["size_px"]), model["sha256"]
        else:
            meta = read_json(path.with_name("meta.json"))
            label, size, digest = _label(path.parent, meta), meta["config"]["size"], sha256(path)
    except (CheckpointError, OSError, KeyError) as error:
        raise StudyError(f"another generator, {which}: {error}") from error
    larger = np.stack([resize(image, size) for image in images])
    outputs = translator.translate(larger, seeds).images
    back = np.stack([resize(output, images.shape[1]) for output in outputs])
    return label, back, {"generator": label, "size_px": size, "sha256": digest}


def _label(folder: Path, meta: dict) -> str:
    """`runs/first/stage5/checkpoints/epoch_0476` → "first, 476"."""
    return f"{folder.resolve().parents[2].name}, {meta['epoch']}"


def scores(test: TestSet, ways: dict[str, Way]) -> pd.DataFrame:
    """Numbers per way over the faces it masks: faces; colour_spread of the masks (ΔE); and where the truth is known the
    distance to it ([0, 1]) and the structural similarity with it, inside the true and the study's rule-based mask."""
    inside, rows = ~test.non_mask, {}
    for name, way in ways.items():
        has = [k for k, picture in enumerate(way.pictures) if picture is not None]
        rows[name] = {"faces": len(has)}
        if not has:
            continue
        pictures = np.stack([way.pictures[k] for k in has])
        rows[name]["colour_spread"] = metrics.colour_diversity(metrics.mask_colour_lab(pictures, inside[has]))
        if test.truth is not None:
            area, truth = (inside | test.region)[has], test.truth[has]
            rows[name]["truth_distance"] = float(np.nanmean(metrics.outside_change(truth, pictures, area)))
            rows[name]["truth_ssim"] = float(np.nanmean(metrics.ssim_inside(truth, pictures, area)))
    return pd.DataFrame.from_dict(rows, orient="index")
