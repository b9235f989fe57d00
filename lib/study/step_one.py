"""Step one measured where the truth is known: every preset on the same faces of the face world, against the same faces
truly wearing a mask.

All presets get the same landmarks and the true mask's own colour, so that geometry and light are compared, not luck
with colours. Scores, per face:

    iou         of the cloth's region (coverage ≥ ½, straps left out on both sides) with the true one's
    lightness   mean |ΔL*| (CIE Lab) between picture and truth where both regions overlap
    chroma      the same for the distance in a*, b*
    seam        mean gradient across the region's border over the mean gradient inside it; seam_error: |log| of its
                ratio to the same number of the truth, whose border is as soft as a real one

`python -m lib.study.step_one --out FOLDER` writes the tables, and step_one.png, which shows what was measured.
"""

from __future__ import annotations

import argparse
import platform
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from scipy import ndimage
from skimage.color import rgb2lab
from tqdm import tqdm

from lib.data.faceworld import render
from lib.data.files import write_json, write_png, write_table
from lib.warp import PRESETS, DlibLandmarks, WarpError, WarpParams, apply_warps, sample_warp_params

FIRST_IDENTITY = 20_000  # geometry and light were fitted on other people: 3,000 to 3,095 and 40,000 to 40,191
YAW_BINS = ((0, 20), (20, 40), (40, 60))
SCORES = {"iou": 1, "lightness": -1, "chroma": -1, "seam_error": -1}  # 1: larger is better
_CHUNK = 16


def known_faces(count: int, size: int = 128, first: int = FIRST_IDENTITY, yaw: float = 60.0) -> dict:
    """Faces with and without a surgical mask: full, masked uint8 [N, S, S, 3], region bool [N, S, S] (cloth alone),
    landmarks float32 [N, 68, 2], yaw float32 [N] degrees, colour (hex) of each true mask.

    Yaw is uniform up to ±`yaw` degrees. Deterministic; about half a second a face at 128 px.
    """
    ids = range(first, first + count)
    out = render(
        ids, ids, size=size, what=("full", "masked", "region"), yaw=yaw, pitch=12, roll=10, mask_kinds=(1, 0, 0)
    )
    pictures = {
        name: (getattr(out, name).permute(0, 2, 3, 1) * 255).round_().clamp_(0, 255).byte().numpy()
        for name in ("full", "masked")
    }
    linear = out.mask_colour.numpy()
    encoded = np.where(linear <= 0.0031308, 12.92 * linear, 1.055 * np.clip(linear, 0, None) ** (1 / 2.4) - 0.055)
    colours = ["#" + "".join(f"{v:02x}" for v in rgb) for rgb in np.rint(255 * encoded.clip(0, 1)).astype(int)]
    return {
        **pictures,
        "region": out.region[:, 0].numpy() >= 0.5,
        "landmarks": out.landmarks.numpy(),
        "yaw": out.pose[:, 0].numpy(),
        "colour": colours,
    }


def with_dlib(faces: dict) -> dict:
    """The same faces with the landmarks that dlib finds in the full pictures; NaN where it finds no face."""
    finder, landmarks = DlibLandmarks(), np.full_like(faces["landmarks"], np.nan)
    for points, picture in zip(landmarks, faces["full"]):
        if found := finder.find(picture):
            points[:] = found[0].landmarks
    return faces | {"landmarks": landmarks}


def seam(image: np.ndarray, region: np.ndarray) -> float:
    """How much a region's border stands out: the mean gradient of lightness on it (a band of ±1.5 px) over the mean
    gradient well inside (deeper than 4 px). image: uint8 [H, W, 3]; region: bool [H, W]. NaN where there is no inside.
    """
    light = rgb2lab(image)[..., 0]
    gradient = np.hypot(ndimage.sobel(light, 0), ndimage.sobel(light, 1)) / 8
    depth = ndimage.distance_transform_edt(region) - ndimage.distance_transform_edt(~region)
    border, inside = np.abs(depth) <= 1.5, depth > 4
    if not border.any() or not inside.any():
        return float("nan")
    return float(gradient[border].mean() / max(gradient[inside].mean(), 1e-3))


def score(image: np.ndarray, region: np.ndarray, truth: np.ndarray, true_region: np.ndarray) -> dict[str, float]:
    """The scores of one picture with its mask's region against the truth; see the module."""
    both = region & true_region
    union = (region | true_region).sum()
    if not both.any():
        return {"iou": 0.0, "lightness": np.nan, "chroma": np.nan, "seam": np.nan, "seam_error": np.nan}
    apart = rgb2lab(image)[both] - rgb2lab(truth)[both]
    ours, real = seam(image, region), seam(truth, true_region)
    return {
        "iou": float(both.sum() / union),
        "lightness": float(np.abs(apart[:, 0]).mean()),
        "chroma": float(np.hypot(apart[:, 1], apart[:, 2]).mean()),
        "seam": ours,
        "seam_error": float(abs(np.log(max(ours, 1e-6) / max(real, 1e-6)))),
    }


def measure(faces: dict, presets: tuple[str, ...] = tuple(PRESETS), progress: bool = False) -> pd.DataFrame:
    """A row per preset and face: preset, face, yaw, reason (why it has no mask, or ""), and the scores.

    faces: from `known_faces`. The presets' own limits on yaw are lifted, so that all are compared on the same faces;
    column `within` tells which faces the preset would take.
    """
    rows = []
    for name in tqdm(presets, desc="presets", disable=not progress):
        own = PRESETS[name].style
        style = replace(own, straps=False, max_yaw=90.0)
        for start in range(0, len(faces["full"]), _CHUNK):
            chunk = range(start, min(start + _CHUNK, len(faces["full"])))
            params = [WarpParams(style=style, colour=faces["colour"][k]) for k in chunk]
            asked = [(i, faces["landmarks"][k], p) for i, (k, p) in enumerate(zip(chunk, params))]
            images, worn = apply_warps([faces["full"][k] for k in chunk], asked)
            for k, image, mask in zip(chunk, images, worn):
                row = {"preset": name, "face": k, "yaw": float(faces["yaw"][k]), "reason": ""}
                row["within"] = bool(abs(row["yaw"]) <= own.max_yaw)
                if isinstance(mask, WarpError):
                    rows.append(row | {"reason": mask.reason})
                    continue
                region = np.zeros(image.shape[:2], bool)
                region[mask.slices] = mask.alpha >= 0.5
                rows.append(row | score(image, region, faces["masked"][k], faces["region"][k]))
    return pd.DataFrame(rows)


def summary(table: pd.DataFrame) -> pd.DataFrame:
    """Per preset and range of |yaw| ("all" last): faces, masked, and of each score mean and its worse end: the 5th
    percentile of IoU, the 95th of errors."""
    rows = []
    for name, part in table.groupby("preset", sort=False):
        for low, high in (*YAW_BINS, (0, 90)):
            inside = part[(part["yaw"].abs() >= low) & (part["yaw"].abs() < high + (high == YAW_BINS[-1][1]))]
            row = {"preset": name, "|yaw|": "all" if high == 90 else f"{low}–{high}°", "faces": len(inside)}
            row["masked"] = int((inside["reason"] == "").sum())
            for key, sign in SCORES.items():
                values = inside[key].dropna()
                if len(values):
                    row[key] = values.mean()
                    row[f"{key} {'p5' if sign > 0 else 'p95'}"] = values.quantile(0.05 if sign > 0 else 0.95)
            rows.append(row)
    return pd.DataFrame(rows)


def compare(table: pd.DataFrame, best: str = "ours", draws: int = 2000, seed: int = 0) -> pd.DataFrame:
    """`best` against every other preset, face by face: mean advantage in each score (positive: `best` is better), its
    95 % interval (bootstrap over faces) and a verdict: beats, loses, undecided."""
    rng = np.random.default_rng(seed)
    wide = {key: table.pivot(index="face", columns="preset", values=key) for key in SCORES}
    rows = []
    for other in (name for name in table["preset"].unique() if name != best):
        for key, sign in SCORES.items():
            gain = sign * (wide[key][best] - wide[key][other]).dropna().to_numpy()
            if not len(gain):
                continue
            means = gain[rng.integers(len(gain), size=(draws, len(gain)))].mean(axis=1)
            low, high = np.quantile(means, [0.025, 0.975])
            verdict = "beats" if low > 0 else "loses" if high < 0 else "undecided"
            rows.append({"against": other, "score": key, "advantage": gain.mean(), "low": low, "high": high,
                         "faces": len(gain), "verdict": verdict})  # fmt: skip
    return pd.DataFrame(rows)


def picture(faces: dict, count: int = 8) -> np.ndarray:
    """uint8 [3 S, count S, 3]: faces side by side, by yaw: bare, with the masks that preset `ours` draws, truly masked.
    The faces are evenly chosen over yaw; seeds are their numbers."""
    order = np.argsort(faces["yaw"])
    chosen = order[np.linspace(0, len(order) - 1, min(count, len(order))).round().astype(int)]
    config = PRESETS["ours"]
    asked = [(i, faces["landmarks"][k], sample_warp_params(np.random.default_rng(int(k)), config))
             for i, k in enumerate(chosen)]  # fmt: skip
    bare = [faces["full"][k] for k in chosen]
    rows = bare, apply_warps(bare, asked)[0], [faces["masked"][k] for k in chosen]
    return np.concatenate([np.concatenate(row, axis=1) for row in rows])


def main(argv: list[str] | None = None) -> int:
    """`python -m lib.study.step_one`; gives the exit status."""
    p = argparse.ArgumentParser(prog="python -m lib.study.step_one", description="Measure step one in the face world.")
    p.add_argument("--out", type=Path, required=True, help="folder for three tables, a picture, facts.json")
    p.add_argument("--count", type=int, default=192, help="faces (default: %(default)s)")
    p.add_argument("--size", type=int, default=128, help="px (default: %(default)s)")
    p.add_argument("--landmarks", choices=("truth", "dlib"), default="truth", help="where they are from")
    p.add_argument("--first", type=int, default=FIRST_IDENTITY, help="first identity and seed (default: %(default)s)")
    args = p.parse_args(argv)
    if args.count < 1 or args.size < 64:
        print("lib.study.step_one: --count must be at least 1, --size at least 64", file=sys.stderr)
        return 2
    started = time.monotonic()
    faces = known_faces(args.count, args.size, args.first)
    table = measure(with_dlib(faces) if args.landmarks == "dlib" else faces, progress=True)
    tables = {"faces": table, "summary": summary(table), "compare": compare(table)}
    for name, frame in tables.items():
        write_table(args.out / f"{name}.csv", frame)
    write_png(args.out / "step_one.png", picture(faces))
    facts = {
        **{name: value for name, value in vars(args).items() if name != "out"},
        "torch": torch.__version__,
        "machine": platform.platform(),
        "seconds": round(time.monotonic() - started, 1),
    }
    write_json(args.out / "facts.json", facts)
    print(tables["summary"].round(3).to_string(index=False))
    print(tables["compare"].round(3).to_string(index=False))
    return 0


if __name__ == "__main__":
    sys.exit(main())
