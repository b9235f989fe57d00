"""Set A as training sees it: the rule-based images and, beside each, its non-mask tensor (paper §4.1).

    data/A/rule/NAME.png  NAME.safetensors  params.json (how each mask was drawn)  faces.csv

The soft region and the mask's box are not kept: `apply_warp` with the parameters of params.json gives them again, to
the bit. Data source `paper` has CMFD's own images instead of drawn ones.
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd

from lib.data.files import read_json, write_json, write_png, write_table
from lib.data.images import ImageError, read_image, resize
from lib.data.prepare import JOURNAL, Job, work_through
from lib.study import sources
from lib.study.config import StudyError
from lib.study.datasets import finish, is_done, prepare_A
from lib.study.runs import Study, add_failures
from lib.warp import (
    WarpError,
    WarpParams,
    apply_warp,
    non_mask_by_comparison,
    non_mask_path,
    sample_warp_params,
    save_non_mask,
)
from lib.warp import preset as warp_preset


def warp_A(study: Study, progress: bool = True, preset: str = "study") -> pd.DataFrame:
    """Step one on every face of set A: the rule-based image and, by pixel comparison, its non-mask tensor (§4.1).

    preset: of `lib.warp.PRESETS`, how masks are put on; the mask is the blue surgical one under each of them, since the
    paper's set A "uses uniformly blue medical masks" (§3). Returns the table of faces that have both; the others are
    listed in failures.csv. Uses all cores; goes on where it was stopped. Raises StudyError for a set that was made with
    another preset.
    """
    folder = study.data_dir / "A" / "rule"
    if is_done(folder):
        if (made := read_json(folder / "done.json").get("preset", "study")) != preset:
            raise StudyError(
                f"{folder}: was made with the preset {made!r}, not {preset!r}; give this study another --name, or "
                "delete that folder and its stacks (data/stacks) and train its stages anew"
            )
        return pd.read_csv(folder / "faces.csv")
    table = prepare_A(study, progress)
    try:
        config = warp_preset(preset, mix="surgical_blue")
    except ValueError as error:
        raise StudyError(str(error)) from None
    drawn = [sample_warp_params(np.random.default_rng([study.seed, k]), config) for k in table.index]
    if study.data == "paper":
        function, pairs = _compare_cmfd, zip(table["image"], table["source"], table["rule_source"])
        jobs = [
            Job(name, (Path(full), Path(rule)), _outputs(folder, name), (study.profile.size,))
            for name, full, rule in pairs
        ]
    else:
        landmarks, full = sources.landmarks_of(study), study.data_dir / "A" / "full"
        function = _draw
        jobs = [
            Job(name, (full / name,), _outputs(folder, name), (landmarks[name].tolist(), json.dumps(params.to_dict())))
            for name, params in zip(table["image"], drawn)
        ]
    reasons = work_through(function, jobs, folder / JOURNAL, progress=progress, what="step one")
    add_failures(study, "step one", [(name, reason) for name, reason in reasons.items() if reason])
    kept = [k for k, name in table["image"].items() if not reasons[name]]
    if not kept:
        raise StudyError(f"step one gave no usable image; every reason is in {study.data_dir / 'failures.csv'}")
    table = table.loc[kept].reset_index(drop=True)
    if study.data != "paper":
        write_json(folder / "params.json", dict(zip(table["image"], [drawn[k].to_dict() for k in kept])))
    write_table(folder / "faces.csv", table)
    finish(folder, pictures=len(table), preset=preset)
    return table


def _outputs(folder: Path, name: str) -> tuple[Path, Path]:
    return folder / name, non_mask_path(folder / name)


def _draw(job: Job) -> str:
    """A mask drawn on a prepared full face."""
    landmarks, params = job.options
    try:
        full = read_image(job.inputs[0]).pixels
        rule = apply_warp(full, np.array(landmarks, np.float32), WarpParams.from_dict(json.loads(params))).image
    except (WarpError, ImageError) as error:
        return str(error)
    return _write(job, rule, non_mask_by_comparison(full, rule))


def _compare_cmfd(job: Job) -> str:
    """CMFD's picture beside its full face of FFHQ, both scaled to the study's size."""
    size = job.options[0]
    try:
        full, rule = (resize(read_image(path).pixels, size) for path in job.inputs)
    except ImageError as error:
        return str(error)
    return _write(job, rule, non_mask_by_comparison(full, rule))


def _write(job: Job, rule: np.ndarray, non_mask: np.ndarray) -> str:
    if non_mask.all():
        return "the rule-based image equals the full face: no mask region"
    write_png(job.outputs[0], rule)
    save_non_mask(job.outputs[1], non_mask)
    return ""
