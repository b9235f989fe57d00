"""68 facial landmarks: dlib's detectors and predictor, and the table they are stored in.

The landmarks are the 68 iBUG points, (x, y) pixels of the image named, pixel centres at integers; jaw points may lie
outside the picture. dlib's model files come with the package face_recognition_models; the package itself is not
imported (it needs setuptools' old pkg_resources), only its files are looked up.
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

from lib.data.files import sha256, write_table

_PACKAGE = "face_recognition_models"
_MODEL = "models/shape_predictor_68_face_landmarks.dat"
_CNN_MODEL = "models/mmod_human_face_detector.dat"
_VERSION = 2  # part of the fingerprint: raise it whenever a change of this file changes what is found
_SMALL_SIDE = 320  # the detector needs faces of 80 px, and enlarging a small picture costs little
_CLOSER_SIDE = 2048  # the closer look never sees a longer picture: 0.3 s and 0.3 GB
_CNN_PIXELS = 80_000  # the CNN takes 6 to 7 µs a pixel on one core: about half a second
_SURE = 0.3  # second looks multiply the chances of a false find: nothing fainter counts there
_LEVEL_DEG = 12.0  # the predictor is trained on upright faces; its error grows from here on
_BOX_SIDE, _BOX_RISE = 1.03, 0.08  # the detector's box from 68 points, mean over 190 faces: see `_level`

LANDMARK_COLUMNS = ("image", "face", *(f"{axis}{i}" for i in range(68) for axis in "xy"))


@dataclass(frozen=True)
class Face:
    """One face. box: (x, y, w, h) px, clipped to the picture. landmarks: float32 [68, 2], not clipped. score: the
    detector's margin, larger is surer, comparable within one detector only. detector: what found it ("hog",
    "hog padded", "hog turned", "hog closer", "cnn"), or where it was given ("ffhq", "table")."""

    box: tuple[int, int, int, int]
    landmarks: np.ndarray
    score: float
    detector: str = ""


def predictor_path(model: str = _MODEL) -> Path:
    """dlib's 68-point model file, or another of the package's. Raises FileNotFoundError that says how to get it."""
    spec = importlib.util.find_spec(_PACKAGE)
    for folder in (spec.submodule_search_locations or ()) if spec else ():
        if (path := Path(folder) / model).is_file():
            return path
    raise FileNotFoundError(f"dlib's model was not found: install the package {_PACKAGE} (it holds {model})")


class DlibLandmarks:
    """dlib's face detectors (HOG, and the CNN of King 2015, "Max-Margin Object Detection") and its 68-point predictor
    (Kazemi & Sullivan 2014). Deterministic; CPU; one object per thread.

    The HOG detector looks at the picture as it is. Where it finds nothing, second looks follow until one finds a face,
    the cheap ones first: padded, turned, closer, then the CNN. A face rolled by more than 12° gets its landmarks from
    a levelled cut-out.

    upsample: pictures are enlarged 2**upsample times before detection, small ones further, to 320 px; the detector's
        smallest face is then about 80 / 2**upsample px.
    max_side: but the detector never sees a picture longer than this many pixels; large ones are reduced.
    pad: second look with this share of the picture reflected around it; tight crops (aligned 112²) need that. 0: off.
    min_score: a fainter detection counts only where the first two looks have no surer one, and never in the others,
        which ask for 0.3 at least. Not given in the paper; chosen because in scenes scores of 0.1 are mostly false,
        while 4 of 520 portraits scored less than this.
    turn_deg: second look with the picture turned by this much either way; faces rolled by 20 to 60°. 0: off.
    closer: second look at twice the size, at most 2048 px: half as large faces.
    cnn: "missed" asks the CNN about pictures without a face so far, reduced to 80,000 pixels (faces of about 40 px
        there; half a second on one core); "never" does not.
    """

    def __init__(
        self,
        upsample: int = 1,
        max_side: int = 1024,
        pad: float = 0.5,
        min_score: float = 0.15,
        turn_deg: float = 30.0,
        closer: bool = True,
        cnn: str = "missed",
    ):
        if upsample < 0 or max_side < 80 or not 0 <= pad <= 1:
            raise ValueError(f"expected upsample ≥ 0, max_side ≥ 80, 0 ≤ pad ≤ 1; got {upsample}, {max_side}, {pad}")
        if not 0 <= turn_deg <= 90 or cnn not in ("missed", "never"):
            raise ValueError(f'expected 0 ≤ turn_deg ≤ 90 and cnn "missed" or "never"; got {turn_deg}, {cnn!r}')
        self.upsample, self.max_side, self.pad, self.min_score = upsample, max_side, pad, min_score
        self.turn_deg, self.closer, self.cnn = turn_deg, closer, cnn

    def settings(self) -> dict:
        """The options, JSON-able."""
        return {key: value for key, value in vars(self).items() if not key.startswith("_")}

    def __getstate__(self) -> dict:
        return self.settings()  # a worker process loads the models itself

    def fingerprint(self) -> str:
        """What the result depends on, as text: options, version of this code and of dlib, the models' hashes."""
        import dlib

        models = [_MODEL] if self.cnn == "never" else [_MODEL, _CNN_MODEL]
        hashes = [sha256(predictor_path(model))[:16] for model in models]
        options = " ".join(f"{key}={value}" for key, value in self.settings().items())
        return f"dlib {dlib.__version__} v{_VERSION} {options} {' '.join(hashes)}"

    @cached_property
    def _models(self) -> tuple:
        import dlib  # here, so that work with stored landmarks does not need it

        return dlib.get_frontal_face_detector(), dlib.shape_predictor(str(predictor_path()))

    @cached_property
    def _cnn(self):
        import dlib

        return dlib.cnn_face_detection_model_v1(str(predictor_path(_CNN_MODEL)))

    def find(self, pixels: np.ndarray) -> list[Face]:
        """The faces of a picture, largest first (equal sizes: surest first); an empty list if there is none.

        pixels: uint8 [H, W, 3] RGB.

        Raises ValueError for another kind of array, FileNotFoundError if a model file is missing.
        """
        if not isinstance(pixels, np.ndarray) or pixels.dtype != np.uint8 or pixels.ndim != 3 or pixels.shape[2] != 3:
            got = f"{pixels.dtype} {pixels.shape}" if isinstance(pixels, np.ndarray) else type(pixels).__name__
            raise ValueError(f"pixels: expected uint8 [H, W, 3], got {got}")
        if min(pixels.shape[:2]) < 16:
            return []
        for name, look in self._looks():
            sure = self.min_score if name in ("hog", "hog padded") else max(self.min_score, _SURE)
            rows = _without_duplicates(_inside(look(pixels), pixels.shape))
            surer = [row for row in rows if row[2] >= sure]
            if found := surer or (rows if name in ("hog", "hog padded") else []):
                found.sort(key=lambda row: (-_size_step(row[0]), -row[2], *row[0][0]))
                return [Face(_clipped(box, pixels.shape), np.float32(p), float(s), name) for box, p, s in found]
        return []

    def _looks(self) -> list[tuple]:
        """(name, function of the picture) of each look, in their order. All give rows: corners of the box [2, 2],
        landmarks [68, 2], score; float64 px of the picture given, wherever they lie."""
        looks = [("hog", self._hog)]
        if self.pad:
            looks.append(("hog padded", lambda pixels: _padded(pixels, self.pad, self._hog)))
        if self.turn_deg:
            looks.append(("hog turned", self._turned))
        if self.closer:
            looks.append(("hog closer", self._closer))
        if self.cnn == "missed":
            looks.append(("cnn", lambda pixels: _padded(pixels, self.pad / 2, self._ask_cnn)))
        return looks

    def _scale(self, pixels: np.ndarray) -> float:
        long_side = max(pixels.shape[:2])
        return min(max(2.0**self.upsample, _SMALL_SIDE / long_side), self.max_side / long_side)

    def _hog(self, pixels: np.ndarray, scale: float | None = None) -> list[tuple]:
        seen, factor = _resized(pixels, scale or self._scale(pixels))
        boxes, scores, _ = self._models[0].run(seen, 0, 0.0)
        return [self._row(seen, box, score, factor) for box, score in zip(boxes, scores, strict=True)]

    def _turned(self, pixels: np.ndarray) -> list[tuple]:
        rows = []
        for degrees in (-self.turn_deg, self.turn_deg):
            turned = np.array(Image.fromarray(pixels).rotate(degrees, Image.Resampling.BICUBIC, expand=True))
            turn = _rotation(np.deg2rad(degrees))
            middles = [(np.array(picture.shape[1::-1]) - 1) / 2 for picture in (turned, pixels)]
            for corners, points, score in self._hog(turned):
                back = (corners.mean(axis=0) - 0.5 - middles[0]) @ turn + middles[1] + 0.5
                points = (points - middles[0]) @ turn + middles[1]
                rows.append((corners - corners.mean(axis=0) + back, points, score))
        return rows

    def _closer(self, pixels: np.ndarray) -> list[tuple]:
        scale = min(2 * self._scale(pixels), max(_CLOSER_SIDE, self.max_side) / max(pixels.shape[:2]))
        return self._hog(pixels, scale) if scale > 1.2 * self._scale(pixels) else []  # 1.2: a step of its pyramid

    def _ask_cnn(self, pixels: np.ndarray) -> list[tuple]:
        area = pixels.shape[0] * pixels.shape[1]
        seen, factor = _resized(pixels, min(2.0**self.upsample * 2, (_CNN_PIXELS / area) ** 0.5))
        return [self._row(seen, found.rect, found.confidence, factor) for found in self._cnn(seen, 0)]

    def _row(self, seen: np.ndarray, box, score: float, factor: np.ndarray) -> tuple:
        corners = np.array([[box.left(), box.top()], [box.right() + 1, box.bottom() + 1]]) / factor
        points = _parts(self._models[1](seen, box))
        for _ in range(3):
            roll = _roll(points)
            if abs(roll) < np.deg2rad(_LEVEL_DEG):
                break
            points = self._level(seen, points, roll)
            if abs(_roll(points) - roll) < np.deg2rad(5):
                break
        return corners, (points + 0.5) / factor - 0.5, score

    def _level(self, seen: np.ndarray, points: np.ndarray, roll: float) -> np.ndarray:
        """The landmarks again, from a cut-out in which the eyes are level.

        In truth-known faces (192 px, rolled by 35 to 45°) that takes the median error from 0.15 to 0.09 of the
        distance of the eyes, which is what upright faces have there.
        """
        import dlib

        turn = _rotation(roll)
        low, high = (points @ turn.T).min(axis=0), (points @ turn.T).max(axis=0)
        side = max(_BOX_SIDE * float(np.sqrt(np.prod(high - low))), 8.0)
        x, y = ((low + high) / 2 - [0, _BOX_RISE * side]) @ turn
        size = int(np.clip(round(2 * side), 64, 400))
        place = dlib.drectangle(x - side, y - side, x + side, y + side)
        cut = dlib.extract_image_chip(seen, dlib.chip_details(place, dlib.chip_dims(size, size), roll))
        box = dlib.rectangle(size // 4, size // 4, size - size // 4, size - size // 4)
        found = _parts(self._models[1](cut, box))
        return (found - (size - 1) / 2) * (2 * side / (size - 1)) @ turn + [x, y]


def _parts(shape) -> np.ndarray:
    return np.array([[p.x, p.y] for p in shape.parts()], dtype=np.float64)


def _roll(points: np.ndarray) -> float:
    """Angle of the line through the eyes, radians, > 0 clockwise as seen."""
    x, y = points[42:48].mean(axis=0) - points[36:42].mean(axis=0)
    return float(np.arctan2(y, x))


def _rotation(angle: float) -> np.ndarray:
    """[2, 2]: `offset @ R.T` turns an (x, y) offset counter-clockwise as seen, `@ R` turns it back."""
    cos, sin = np.cos(angle), np.sin(angle)
    return np.array([[cos, sin], [-sin, cos]])


def _resized(pixels: np.ndarray, scale: float) -> tuple[np.ndarray, np.ndarray]:
    """The picture at about `scale` times its size, and the exact factors (x, y)."""
    seen = pixels
    if scale != 1:
        w, h = (max(1, round(side * scale)) for side in pixels.shape[1::-1])
        seen = np.asarray(Image.fromarray(pixels).resize((w, h), Image.Resampling.BICUBIC, reducing_gap=3.0))
    return np.ascontiguousarray(seen), np.array([seen.shape[1] / pixels.shape[1], seen.shape[0] / pixels.shape[0]])


def _padded(pixels: np.ndarray, share: float, look) -> list[tuple]:
    """Look at the picture with a reflected border; rows in px of the picture itself."""
    border = max(1, int(share * min(pixels.shape[:2])) - 1)
    padded = np.pad(pixels, ((border, border), (border, border), (0, 0)), mode="reflect")
    return [(corners - border, points - border, score) for corners, points, score in look(padded)]


def _inside(rows: list[tuple], shape: tuple[int, ...]) -> list[tuple]:
    """Without the mirror images in a reflected border."""
    middles = [row[0].mean(axis=0) for row in rows]
    return [row for row, m in zip(rows, middles) if (m >= 0).all() and (m < shape[1::-1]).all()]


def _size_step(corners: np.ndarray) -> int:
    """Which step of the detector's pyramid a box comes from: each is 1.2 times the last, nearer sizes mean nothing."""
    return round(float(np.log(np.ptp(corners, axis=0).mean()) / np.log(1.2)))


def _clipped(corners: np.ndarray, shape: tuple[int, ...]) -> tuple[int, int, int, int]:
    (x0, y0), (x1, y1) = np.clip(np.rint(corners), 0, shape[1::-1]).astype(int)
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
