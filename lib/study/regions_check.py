"""Non-mask tensors measured where the truth is known (`lib.study.odd_regions`: those of a study, where it is not).

Masks are put on by rule, so their coverage is known to the bit. The rule-based picture is then saved as JPEG, perhaps
scaled, and compared with the full face. Scores, per picture:

    touched    IoU of the region found (`coverage=TOUCHED`, the default) with all pixels the cloth covers by 1 % or more
    outline    IoU of the region found (`coverage=OUTLINE`) with all pixels the cloth covers by half or more
    lossless   IoU of the region found by default with what the same comparison finds without JPEG
    over       pixels found that are not touched; under: the reverse; shares of the touched ones
    contrast   between mask and skin along the outline, grey levels: where it is small the mask can hardly be seen

True coverage is scaled as the pictures are (bicubic); holes are filled. Straps and shadow belong to no true region,
JPEG leaves too little of them. `python -m lib.study.regions_check --out FOLDER` writes the tables and worst.png.
"""

from __future__ import annotations

import argparse
import io
import platform
import sys
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
from PIL import Image
from scipy import ndimage
from tqdm import tqdm

from lib.data.faceworld import render
from lib.data.files import write_json, write_png, write_table
from lib.data.images import ImageError, read_image, resize
from lib.study.odd_regions import marked, sheet
from lib.warp import (
    PRESETS,
    WarpError,
    apply_warp,
    landmarks_array,
    non_mask_by_comparison,
    read_landmarks,
    sample_warp_params,
)
from lib.warp.regions import OUTLINE, TOUCHED

FIRST_IDENTITY = 60_000
PROMISED = {85: 0.98, 60: 0.95}  # IoU from this quality on
_BAND = 28  # px: the line above each row of worst.png
SCORES = ("touched", "outline", "lossless", "over", "under")
LOOKS = {  # what is worn: preset, template, colour
    "cmfd": ("cmfd", "surgical_blue", ""),
    "study": ("study", "surgical_blue", ""),
    "study white": ("study", "surgical_white", ""),
    "study black": ("study", "surgical_black", ""),
    "study green": ("study", "surgical_green", ""),
    "study pink": ("study", "surgical_pink", ""),
    "study kn95": ("study", "kn95", ""),
    "study n95": ("study", "n95", ""),
    "study ffp2": ("study", "ffp2", ""),
    "study cloth": ("study", "cloth", ""),
    "study cloth dark": ("study", "cloth", "#2b2f3a"),
    "study cloth red": ("study", "cloth", "#6d2e3a"),
    "study gas": ("study", "gas", ""),
    "ours": ("ours", "surgical_blue", ""),
    "ours white": ("ours", "surgical_white", ""),
    "ours black": ("ours", "surgical_black", ""),
    "smfrd": ("smfrd", "surgical_blue", ""),  # a hard edge
    "mlfw": ("mlfw", "surgical_blue", ""),  # a wide one
}


@dataclass(frozen=True)
class Case:
    """Sides in px at which the mask is put on and saved as JPEG, and at which the pictures are compared. scaling: of
    the rule-based picture; the full face is always scaled as the study does. full_quality: JPEG of the full face."""

    drawn: int
    compared: int
    scaling: str = "bicubic"
    full_quality: int | None = None


CASES = {
    "1024": Case(1024, 1024),  # CMFD beside FFHQ
    "1024 to 256": Case(1024, 256),  # as a study sees them
    "256": Case(256, 256),
    "both JPEG": Case(256, 256, full_quality=92),
    "both JPEG, 1024 to 256": Case(1024, 256, full_quality=92),
    "bilinear": Case(1024, 256, "bilinear"),
    "Lanczos": Case(1024, 256, "lanczos"),
    "128": Case(128, 128),
    "64": Case(64, 64),
}
QUALITIES = (60, 75, 85, 92, 98)


@dataclass(frozen=True, eq=False)
class Faces:
    """full: uint8 [S, S, 3] each, landmarks: float32 [N, 68, 2] px of them."""

    names: list[str]
    full: list[np.ndarray]
    landmarks: np.ndarray

    def at(self, k: int, size: int) -> tuple[np.ndarray, np.ndarray]:
        """Face k scaled to size × size with its landmarks; enlarged by Lanczos' kernel."""
        full, points = self.full[k], self.landmarks[k]
        height, width = full.shape[:2]
        scaled = resize(full, size) if size <= height else _scaled(full, size, "lanczos")
        return scaled, (points + 0.5) * [size / width, size / height] - 0.5


def known_faces(count: int, size: int = 1024, first: int = FIRST_IDENTITY) -> Faces:
    """Bare faces of the face world, deterministic; about four seconds a face at 1024 px, a third at 256."""
    ids = range(first, first + count)
    out = render(ids, ids, size=size, what=("full",))
    full = (out.full.permute(0, 2, 3, 1) * 255).round_().clamp_(0, 255).byte().numpy()
    return Faces([str(k) for k in ids], list(full), out.landmarks.numpy())


def photographs(folder: Path, landmarks: Path, count: int, seed: int = 0) -> Faces:
    """`count` pictures drawn by seed from those with landmarks: a table as `lib.warp.write_landmarks` writes it, or an
    .npz with `names` and `landmarks` [N, 68, 2]. Raises ValueError, with the file, for what cannot be read."""
    if landmarks.suffix == ".npz":
        with np.load(landmarks, allow_pickle=False) as stored:
            if not {"names", "landmarks"} <= set(stored):
                raise ValueError(f"{landmarks}: expected arrays names and landmarks, found {', '.join(stored)}")
            names, points = stored["names"].astype(str).tolist(), stored["landmarks"]
        if points.shape != (len(names), 68, 2):
            raise ValueError(f"{landmarks}: expected landmarks [{len(names)}, 68, 2], got {list(points.shape)}")
    else:
        table = read_landmarks(landmarks)
        names, points = table["image"].tolist(), landmarks_array(table)
    usable = np.flatnonzero(np.isfinite(points).all(axis=(1, 2)))
    picks = np.sort(np.random.default_rng(seed).permutation(usable)[:count])
    if not len(picks):
        raise ValueError(f"{landmarks}: no face with landmarks in it")
    pictures = [read_image(folder / names[k]).pixels for k in picks]
    return Faces([names[k] for k in picks], pictures, points[picks].astype(np.float32))


def worn(faces: Faces, k: int, look: str, size: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Face k at a size, the same with a mask, and how far the cloth covers each pixel: uint8 [S, S, 3] twice, float32
    [S, S]. Jitter is drawn with the face's number. Raises WarpError."""
    name, template, colour = LOOKS[look]
    full, landmarks = faces.at(k, size)
    drawn = sample_warp_params(np.random.default_rng(k), PRESETS[name])
    style = replace(PRESETS[name].style, max_yaw=60.0)  # that the looks are compared on the same faces
    params = replace(drawn, template=template, colour=colour, texture="", style=style)
    image = apply_warp(full, landmarks, params)
    cloth = image
    if style.straps or style.shadow:
        cloth = apply_warp(full, landmarks, replace(params, style=replace(style, straps=False)))
    return full, image.image, cloth.alpha


@dataclass(frozen=True, eq=False)
class Pair:
    """What is compared, and the truth. full, rule: uint8 [S, S, 3]; coverage: float32 [S, S]; lossless: bool [S, S],
    the region found without JPEG; contrast: float32 [S, S], grey levels, without JPEG."""

    full: np.ndarray
    rule: np.ndarray
    coverage: np.ndarray
    lossless: np.ndarray
    contrast: np.ndarray

    def true(self, level: float) -> np.ndarray:
        """bool [S, S]: covered by at least this much."""
        return ndimage.binary_fill_holes(self.coverage >= level)


def pairs(
    full: np.ndarray, rule: np.ndarray, coverage: np.ndarray, case: Case, stored: Iterable[np.ndarray]
) -> Iterator[Pair]:
    """A case's pair for each of the rule-based pictures in `stored`, `rule` as it came back from a file."""
    size, way = case.compared, case.scaling
    before = resize(full, size), _scaled(rule, size, way)
    contrast = np.abs(before[1].astype(np.float32) - before[0]).max(axis=-1)
    lossless = ~non_mask_by_comparison(*before)
    if case.full_quality:
        full = as_jpeg(full, case.full_quality)
    full, coverage = resize(full, size), _scaled(coverage, size, "bicubic")
    for picture in stored:
        yield Pair(full, _scaled(picture, size, way), coverage, lossless, contrast)


def as_jpeg(pixels: np.ndarray, quality: int, subsampling: int = 2) -> np.ndarray:
    """A picture, uint8 [H, W, 3], as it comes back from a JPEG file."""
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "JPEG", quality=quality, subsampling=subsampling)
    return np.array(Image.open(buffer))


def _scaled(plane: np.ndarray, size: int, way: str) -> np.ndarray:
    if plane.shape[:2] == (size, size):
        return plane
    return np.array(Image.fromarray(plane).resize((size, size), Image.Resampling[way.upper()]))


def iou(a: np.ndarray, b: np.ndarray) -> float:
    """Intersection over union of two bool arrays; 1 where both are empty."""
    union = (a | b).sum()
    return float((a & b).sum() / union) if union else 1.0


def score(pair: Pair) -> dict[str, float]:
    """The scores of one pair; see the module. `ms`: what the default comparison took."""
    started = time.perf_counter()
    found = ~non_mask_by_comparison(pair.full, pair.rule)
    spent = time.perf_counter() - started
    touched, outline = pair.true(TOUCHED), pair.true(OUTLINE)
    rim = outline & ~cv2.erode(outline.astype(np.uint8), np.ones((3, 3)), iterations=3).astype(bool)
    return {
        "touched": iou(found, touched),
        "outline": iou(~non_mask_by_comparison(pair.full, pair.rule, coverage=OUTLINE), outline),
        "lossless": iou(found, pair.lossless),
        "over": float((found & ~touched).sum() / touched.sum()),
        "under": float((touched & ~found).sum() / touched.sum()),
        "contrast": float(np.median(pair.contrast[rim])),
        "ms": 1000 * spent,
    }


def measure(
    faces: Faces,
    looks: Sequence[str] = tuple(LOOKS),
    cases: dict[str, Case] = CASES,
    qualities: Sequence[int] = QUALITIES,
    progress: bool = False,
) -> pd.DataFrame:
    """A row per case, look, face, quality and subsampling with its scores; faces that take no mask have `reason`."""
    settings = [(quality, subsampling) for quality in qualities for subsampling in (2, 0)]
    rows, asked = [], [(k, look, size) for size in sorted({c.drawn for c in cases.values()}) for look in looks
                       for k in range(len(faces.full))]  # fmt: skip
    for k, look, size in tqdm(asked, desc="masks", disable=not progress):
        here = {name: case for name, case in cases.items() if case.drawn == size}
        try:
            made = worn(faces, k, look, size)
        except WarpError as error:
            rows += [{"case": name, "look": look, "face": faces.names[k], "reason": error.reason} for name in here]
            continue
        stored = [as_jpeg(made[1], *setting) for setting in settings]
        for name, case in here.items():
            for (quality, subsampling), pair in zip(settings, pairs(*made, case, stored)):
                facts = {"case": name, "look": look, "face": faces.names[k], "reason": "", "quality": quality}
                rows.append(facts | {"subsampling": "4:4:4" if subsampling == 0 else "4:2:0"} | score(pair))
    return pd.DataFrame(rows)


def summary(table: pd.DataFrame, by: Sequence[str] = ("case", "quality")) -> pd.DataFrame:
    """Per group: pictures; of `touched`, `outline`, `lossless` mean, 5th percentile and worst, and the share that keeps
    the promise (`PROMISED`); means of over, under and ms."""
    rows = []
    for key, part in table[table["reason"] == ""].groupby(list(by), sort=False):
        row = dict(zip(by, key)) | {"pictures": len(part)}
        floor = np.where(part["quality"] >= max(PROMISED), PROMISED[85], PROMISED[60])
        for name in ("touched", "outline", "lossless"):
            values = part[name]
            row |= {name: values.mean(), f"{name} p5": values.quantile(0.05), f"{name} worst": values.min()}
            row[f"{name} kept"] = float((values >= floor).mean())
        rows.append(row | {name: part[name].mean() for name in ("over", "under")} | {"ms": part["ms"].median()})
    return pd.DataFrame(rows)


def worst_sheet(faces: Faces, table: pd.DataFrame, cases: dict[str, Case] = CASES, count: int = 12) -> np.ndarray:
    """The worst pictures of a table by `touched`, one per look and face: see `marked` and `sheet`. Above a row stands
    what it shows."""
    usable = table[table["reason"] == ""].sort_values("touched").drop_duplicates(["look", "face"])
    rows = []
    for row in usable.head(count).itertuples():
        case = cases[row.case]
        made = worn(faces, faces.names.index(row.face), row.look, case.drawn)
        stored = as_jpeg(made[1], int(row.quality), 0 if row.subsampling == "4:4:4" else 2)
        (pair,) = pairs(*made, case, [stored])
        found = ~non_mask_by_comparison(pair.full, pair.rule)
        shown = sheet([marked(pair.full, pair.rule, found, pair.true(TOUCHED))])
        band = np.full((_BAND, shown.shape[1], 3), 255, np.uint8)
        jpeg = f"quality {row.quality:g}, {row.subsampling}"
        what = f"IoU {row.touched:.3f}, {jpeg}, look {row.look}, case {row.case}, face {row.face}"
        cv2.putText(band, what, (6, _BAND - 8), cv2.FONT_HERSHEY_SIMPLEX, 0.55, (0, 0, 0), 1, cv2.LINE_AA)
        rows += [band, shown]
    return np.concatenate(rows)


def main(argv: list[str] | None = None) -> int:
    """`python -m lib.study.regions_check`; gives the exit status."""
    p = argparse.ArgumentParser(prog="python -m lib.study.regions_check", description="Measure non-mask tensors.")
    p.add_argument("--out", type=Path, required=True, help="folder for tables, worst.png, facts.json")
    p.add_argument("--images", type=Path, help="folder of full faces (default: the face world)")
    p.add_argument("--landmarks", type=Path, help="their landmarks, .npz, .csv or .parquet")
    p.add_argument("--count", type=int, default=8, help="faces (default: %(default)s)")
    p.add_argument("--cases", nargs="+", choices=tuple(CASES), default=tuple(CASES))
    p.add_argument("--looks", nargs="+", choices=tuple(LOOKS), default=tuple(LOOKS))
    p.add_argument("--seed", type=int, default=0, help="which pictures are drawn; of the face world, whose faces")
    p.add_argument("--smoke", action="store_true", help="two faces, two looks, three sizes up to 256: seconds")
    args = p.parse_args(argv)
    wrong = {
        f"--count must be at least 1, got {args.count}": args.count < 1,
        f"--seed must be at least 0, got {args.seed}": args.seed < 0,
        "--images and --landmarks belong together, only one is given": bool(args.images) != bool(args.landmarks),
        f"--landmarks: {args.landmarks} is not there": bool(args.landmarks) and not args.landmarks.is_file(),
    }
    if faults := [text for text, holds in wrong.items() if holds]:
        print(f"lib.study.regions_check: {faults[0]}", file=sys.stderr)
        return 2
    cases, looks, qualities, count = {c: CASES[c] for c in args.cases}, args.looks, QUALITIES, args.count
    if args.smoke:
        cases = {name: case for name, case in cases.items() if case.drawn <= 256}
        looks, qualities, count = looks[:2], (60, 85), 2
    started = time.monotonic()
    try:
        if args.images:
            faces = photographs(args.images, args.landmarks, count, args.seed)
        else:
            size = max((case.drawn for case in cases.values()), default=256)
            faces = known_faces(count, size, FIRST_IDENTITY + args.seed * 1000)
    except (ValueError, ImageError, OSError) as error:
        print(f"lib.study.regions_check: {error}", file=sys.stderr)
        return 2
    table = measure(faces, looks, cases, qualities, progress=True)
    tables = {
        "pictures": table,
        "by_case": summary(table),
        "by_look": summary(table, ("case", "look", "quality")),
        "by_subsampling": summary(table, ("case", "quality", "subsampling")),
    }
    for name, frame in tables.items():
        write_table(args.out / f"{name}.csv", frame)
    write_png(args.out / "worst.png", worst_sheet(faces, table, cases))
    facts = {
        **{name: str(value) if isinstance(value, Path) else value for name, value in vars(args).items()},
        "count": len(faces.full),
        "cases": list(cases),
        "looks": list(looks),
        "qualities": list(qualities),
        "machine": platform.platform(),
        "seconds": round(time.monotonic() - started, 1),
    }
    write_json(args.out / "facts.json", facts)
    print(tables["by_case"].round(3).to_string(index=False))
    return 0


if __name__ == "__main__":
    sys.exit(main())
