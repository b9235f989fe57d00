"""A ranking of masked faces for the person who hand-picks set B: likely ones first. It helps, it never decides.

The paper kept frontal faces "with no pitch or roll" in "light-coloured medical masks" (§3). What of that can be guessed
from a crop becomes a column, and all of it one `score`:

    lightness   median L* (0 … 100) of the lower face, where the mask lies
    chroma      median distance from grey there (CIE a*, b*): mint and light blue stay below 25, red is at 60
    symmetry    how alike the left and the right half are, −1 … 1: falls with yaw and roll, needs no landmarks
    sharpness   log10 of the variance of the Laplacian of the eyes' half, at 128 px: under 2 looks blurred
    yaw, pitch, roll   degrees from landmarks (`lib.warp.face3d`), where they are asked for and found, else NaN

Prints, child's drawings and hands before the face are for the eye: nothing here sees them.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pandas as pd

from lib.data.files import write_table
from lib.data.images import read_image
from lib.data.prepare import crop_box
from lib.study.runs import progress_bar
from lib.warp.face3d import estimate_pose
from lib.warp.faces import FaceCache, find_in, open_cache
from lib.warp.sources import LandmarkSource, open_source

FEATURES = ("lightness", "chroma", "symmetry", "sharpness", "yaw", "pitch", "roll")
VERSION = 1  # part of the cache's key: raise it whenever a change of this file changes a feature
# part of the score → weight, and the values of its feature at which it is 0 and 1, linear between. Not given in the
# paper; chosen by the meaning of the columns (the pose counts by its distance from 0), not fitted.
PARTS = {
    "lightness": (3.0, 35.0, 85.0),
    "chroma": (1.0, 50.0, 25.0),
    "symmetry": (1.0, 0.4, 0.95),
    "sharpness": (0.5, 1.5, 2.3),
    "yaw": (1.0, 35.0, 5.0),
    "pitch": (0.5, 25.0, 5.0),
    "roll": (0.5, 20.0, 3.0),
}
_SIDE = 128
_MASK = slice(70, 115), slice(32, 96)  # rows, columns at 128²: of a face box like MAFA's, the lower face
_LONGEST = 256  # px: enough for landmarks, and the time no longer depends on the picture
_KEEP_EVERY = 250  # rows between two writes of the cache

Pictures = Path | str | Callable[..., np.ndarray]


def reader(pictures: Pictures) -> Callable[..., np.ndarray]:
    """A function from a row (as of `table.itertuples()`) to its crop, uint8 [H, W, 3].

    pictures: such a function (it may give None for a row it cannot read), or the folder that `image` is relative to:
        then the box x y w h is cut out where it is known. What comes back raises ValueError for an unreadable row.
    """
    if callable(pictures):

        def asked(row) -> np.ndarray:
            if (pixels := pictures(row)) is None:
                raise ValueError("cannot be read")
            return pixels

        return asked
    root = Path(pictures)

    def read(row) -> np.ndarray:
        pixels = read_image(root / row.image).pixels
        box = _box(row)
        return crop_box(pixels, *box) if np.isfinite(box).all() else pixels

    return read


def ranked(
    table: pd.DataFrame,
    pictures: Pictures,
    cache: Path | str | None = None,
    landmarks: str | LandmarkSource | None = None,
    progress: bool = True,
) -> pd.DataFrame:
    """The table with the columns of `FEATURES` and `score`, in its own order; NaN where a crop cannot be read.

    Args:
        table: `image`, `face` and whatever `pictures` needs. pictures: see `reader`.
        cache: a table (.csv or .parquet) of what was measured, written every 250 faces: a run that was stopped goes on,
            and a picture whose file (or, with a function, whose pixels) changed is measured anew. Landmarks that were
            found are kept in a folder beside it.
        landmarks: None measures no pose, at some milliseconds a face. "dlib" (or another of `lib.warp.sources`, which
            then has to know the crop) takes up to half a second a face and finds about half of the masked ones.
    """
    read, source = reader(pictures), open_source(landmarks) if landmarks is not None else None
    settings = f"{VERSION} {source.fingerprint() if source else ''}"
    beside = Path(cache).with_name(f"{Path(cache).stem}_landmarks") if cache else None
    found = open_cache(beside, source) if source else None
    known, new = _read_cache(cache), 0
    rows = []
    for row in progress_bar(table, "ranking", progress):
        try:
            pixels = read(row) if callable(pictures) else None
            key = (str(row.image), int(getattr(row, "face", 0)), _state(row, pictures, pixels, settings))
            if key not in known:
                known[key] = measure(read(row) if pixels is None else pixels, source, found, row.image)
                new += 1
        except (ValueError, OSError):  # the reader of the set lists what cannot be read, with its reason
            rows.append(dict.fromkeys(FEATURES, np.nan))
            continue
        rows.append(known[key])
        if cache and new == _KEEP_EVERY:
            new = _write_cache(cache, known)
    if cache and new:
        _write_cache(cache, known)
    measured = pd.DataFrame(rows, index=table.index, columns=list(FEATURES), dtype=float)
    table = table.drop(columns=[c for c in (*FEATURES, "score") if c in table])
    return table.join(measured).assign(score=score(measured))


def measure(
    pixels: np.ndarray, source: LandmarkSource | None = None, cache: FaceCache | None = None, key: str = ""
) -> dict[str, float]:
    """The `FEATURES` of one crop, uint8 [H, W, 3]; the pose is NaN without a source, or where it finds no face."""
    small = cv2.resize(pixels, (_SIDE, _SIDE), interpolation=cv2.INTER_AREA)
    L, a, b = cv2.split(cv2.cvtColor(np.float32(small[_MASK]) / 255, cv2.COLOR_RGB2LAB))
    grey = cv2.cvtColor(small, cv2.COLOR_RGB2GRAY)
    edges = cv2.Laplacian(np.float32(grey[_SIDE // 8 : _SIDE // 2]), cv2.CV_32F)
    values = {
        "lightness": float(np.median(L)),
        "chroma": float(np.median(np.hypot(a, b))),
        "symmetry": _symmetry(grey),
        "sharpness": float(np.log10(edges.var() + 1e-3)),
    }
    pose = _pose(pixels, source, cache, key) if source else None
    return values | {name: getattr(pose, name) if pose else np.nan for name in ("yaw", "pitch", "roll")}


def parts(features: pd.DataFrame) -> pd.DataFrame:
    """Each feature as a part of the score, 0 … 1 (see `PARTS`); NaN stays NaN."""
    values = {}
    for name, (_, low, high) in PARTS.items():
        feature = features[name].abs() if name in ("yaw", "pitch", "roll") else features[name]
        values[name] = ((feature - low) / (high - low)).clip(0, 1)
    return pd.DataFrame(values)


def score(features: pd.DataFrame) -> pd.Series:
    """The weighted mean of the parts, 0 … 1, higher is likelier to be picked. A part that is missing counts as 0.5,
    neither for nor against; NaN where nothing is known."""
    values, weights = parts(features), pd.Series({name: weight for name, (weight, *_) in PARTS.items()})
    mean = (values.fillna(0.5) * weights).sum(axis=1) / weights.sum()
    return mean.where(values.notna().any(axis=1))


def agreement(
    features: pd.DataFrame,
    accepted: pd.Series,
    groups: pd.Series | None = None,
    draws: int = 1000,
    seed: int = 0,
) -> pd.DataFrame:
    """How well the score and each of its parts tell a person's accepted faces from the others.

    Returns one row each: part, auc (area under the ROC curve: 0.5 is chance), low, high (95 % bootstrap interval over
    groups, say of one person's pictures; without groups over faces), faces (on which the part is known).

    Raises ValueError where all faces or none are accepted.
    """
    wanted = accepted.to_numpy(bool)
    if wanted.all() or not wanted.any():
        raise ValueError(f"agreement: {wanted.sum()} of {len(wanted)} faces are accepted; some of both are needed")
    codes = pd.factorize(groups)[0] if groups is not None else np.arange(len(wanted))
    rng = np.random.default_rng(seed)
    size = codes.max() + 1
    weights = np.stack([rng.multinomial(size, np.full(size, 1 / size)) for _ in range(draws)])[:, codes]
    rows = []
    for name, values in {"score": score(features), **parts(features)}.items():
        known = values.notna().to_numpy()
        _, place = np.unique(values[known].to_numpy(), return_inverse=True)
        areas = [_auc(place, wanted[known], w[known]) for w in (np.ones_like(weights[0]), *weights)]
        low, high = np.nanquantile(areas[1:], (0.025, 0.975)) if np.isfinite(areas).any() else (np.nan, np.nan)
        rows.append((name, areas[0], low, high, int(known.sum())))
    return pd.DataFrame(rows, columns=["part", "auc", "low", "high", "faces"])


def _auc(place: np.ndarray, wanted: np.ndarray, weights: np.ndarray) -> float:
    """Share of (accepted, other) pairs in the right order, ties half; NaN where one kind is missing."""
    yes, no = (np.bincount(place, weights * kind, minlength=1) for kind in (wanted, ~wanted))
    pairs = yes.sum() * no.sum()
    return float((yes * (no.cumsum() - no / 2)).sum() / pairs) if pairs else float("nan")


def _symmetry(grey: np.ndarray) -> float:
    """The best correlation of the face with its mirror image, the axis being sought around the middle."""
    half = np.float64(cv2.resize(grey, None, fx=0.5, fy=0.5, interpolation=cv2.INTER_AREA))[8:60]
    best = -1.0
    for axis in range(24, 41):
        reach = min(axis, 64 - axis)
        left, right = half[:, axis - reach : axis], half[:, axis : axis + reach][:, ::-1]
        left, right = left - left.mean(), right - right.mean()
        best = max(best, float((left * right).sum() / np.sqrt((left**2).sum() * (right**2).sum() + 1e-6)))
    return best


def _pose(pixels: np.ndarray, source: LandmarkSource, cache: FaceCache | None, key: str):
    scale = _LONGEST / max(pixels.shape[:2])
    if scale < 1:  # a pose does not depend on the size
        pixels = cv2.resize(pixels, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
    try:
        faces = find_in(pixels, source, key, cache, _digest(pixels) if cache else "")
        return estimate_pose(faces[0].landmarks) if faces else None
    except ValueError:  # landmarks that fit no head, or belong to another picture
        return None


def _digest(pixels: np.ndarray) -> str:
    return hashlib.sha256(np.array(pixels.shape).tobytes() + np.ascontiguousarray(pixels).tobytes()).hexdigest()


def _box(row) -> tuple[float, ...]:
    return tuple(float(getattr(row, name, np.nan)) for name in "xywh")


def _state(row, pictures: Pictures, pixels: np.ndarray | None, settings: str) -> str:
    """Changes whenever the features may: with the file (or the pixels, where a function reads them), box, settings."""
    if pixels is None:
        stat = (Path(pictures) / row.image).stat()
        what = f"{stat.st_size} {stat.st_mtime_ns} {_box(row)}"
    else:
        what = _digest(pixels)
    return hashlib.sha256(f"{settings} {what}".encode()).hexdigest()[:16]


def _read_cache(path: Path | str | None) -> dict[tuple, dict[str, float]]:
    """(image, face, state) → features; empty where there is no sound file: a cache only saves time."""
    try:
        if path is None or not Path(path).is_file():
            return {}
        text = {"image": str, "state": str}
        if Path(path).suffix == ".csv":
            table = pd.read_csv(path, dtype=text, keep_default_na=False, na_values=dict.fromkeys(FEATURES, ""))
        else:
            table = pd.read_parquet(path)
        keys = zip(table["image"], table["face"].astype(int), table["state"])
        return dict(zip(keys, table[list(FEATURES)].astype(float).to_dict("records")))
    except (ValueError, KeyError, OSError):
        return {}


def _write_cache(path: Path | str, known: dict[tuple, dict[str, float]]) -> int:
    latest = {key[:2]: (key[2], values) for key, values in known.items()}  # of a face that changed, the last measure
    rows = [{"image": k[0], "face": k[1], "state": state} | values for k, (state, values) in latest.items()]
    write_table(path, pd.DataFrame(rows))
    return 0
