"""68 facial landmarks: dlib's detectors and predictor, and the table they are stored in.

The landmarks are the 68 iBUG points, (x, y) pixels of the image named, pixel centres at integers; jaw points may lie
outside the picture. dlib's model files come with the package face_recognition_models; the package itself is not
imported (it needs setuptools' old pkg_resources), only its files are looked up.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
from PIL import Image

from lib.data.files import write_table

_PACKAGE = "face_recognition_models"
MODEL = "models/shape_predictor_68_face_landmarks.dat"
CNN_MODEL = "models/mmod_human_face_detector.dat"
VERSION = 4  # part of the fingerprint in caches: raise it whenever a change of this file changes what is found
_SMALL_SIDE = 320  # the detector needs faces of 80 px, and enlarging a small picture costs little
_CLOSER_SIDE = 2048  # the closer look never sees a longer picture: 0.3 s and 0.3 GB
_CNN_PIXELS = 80_000  # the CNN takes 6 to 7 µs a pixel on one core: about half a second
_SURE = 0.3  # second looks multiply the chances of a false find: nothing fainter counts there
_LEVEL_DEG = 12.0  # the predictor is trained on upright faces; its error grows from here on
_HINTS = {3: -30.0, 4: 30.0}  # the parts of the HOG detector that were trained on rolled faces: their roll, degrees
_BOX_SIDE, _BOX_RISE = 1.03, 0.08  # the detector's box from 68 points, mean over 190 faces: see `_level`
# Landmarks that move when the cut-out does (a little turned, a little to the side) were made up, not found. As a share
# of the face's size: 90 in 100 photographs of upright faces move by less than 0.007; turned by 90°, upright landmarks
# move by 0.017 and more, right ones by less than 0.010. Faces seen from the side move too: this alone refuses none but
# the faintest.
_STEADY, _UNSTEADY = 0.010, 0.012
_SHAKEN_PX = 200  # side of the cut-outs that tell it
_DOUBTFUL = 1.0  # scores: all false finds in photographs turned by up to 180° lay below
_QUARTERS = (90.0, -90.0, 180.0)

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


def predictor_path(model: str = MODEL) -> Path:
    """dlib's 68-point model file, or another of the package's. Raises FileNotFoundError that says how to get it."""
    spec = importlib.util.find_spec(_PACKAGE)
    for folder in (spec.submodule_search_locations or ()) if spec else ():
        if (path := Path(folder) / model).is_file():
            return path
    raise FileNotFoundError(f"dlib's model was not found: install the package {_PACKAGE} (it holds {model})")


@dataclass(eq=False)
class DlibLandmarks:
    """dlib's face detectors (HOG, and King's CNN) and its 68-point predictor (Kazemi & Sullivan 2014). Deterministic;
    CPU; not for several threads at once.

    The HOG detector looks at the picture as it is. Where it finds nothing, second looks follow until one finds a face:
    padded, turned, closer, the CNN. A face rolled by more than 12° gets its landmarks from a levelled cut-out. A faint
    find whose landmarks are not steady has to hold out against what is found in the picture turned.

    upsample: pictures are enlarged 2**upsample times before detection, small ones further, to 320 px; the detector's
        smallest face is then about 80 / 2**upsample px.
    max_side: but the detector never sees a picture longer than this many pixels; large ones are reduced.
    pad: second look with this share of the picture reflected around it; tight crops (aligned 112²) need that. 0: off.
    min_score: fainter detections count for nothing, save the surest one of the first two looks in a picture where no
        look finds better; the other looks ask for 0.3 at least. Not given in the paper; chosen because in scenes
        scores of 0.1 are mostly false, while 4 of 520 portraits scored less than this.
    turn_deg: second look with the picture turned by this much either way, for heads on one side, and by quarter turns,
        for photographs that are. 0: off.
    closer: second look at twice the size (but at most 2048 px), for faces half as large.
    thorough: every look is taken, whatever the ones before have found, and the finds are put together: faces in one
        picture may need different looks. A later find of a face that is known counts for nothing, and a faint one has
        to be steady. 0.7 to 1 s a picture at 256² instead of 20 ms.
    cnn: "missed" asks the CNN about pictures without a face so far, reduced to 80,000 pixels (half a second on one
        core); "never" does not.
    """

    upsample: int = 1
    max_side: int = 1024
    pad: float = 0.5
    min_score: float = 0.15
    turn_deg: float = 30.0
    closer: bool = True
    cnn: str = "missed"
    thorough: bool = False

    def __post_init__(self):
        if self.upsample < 0 or self.max_side < 80 or not 0 <= self.pad <= 1 or not 0 <= self.turn_deg <= 90:
            raise ValueError(f"expected upsample ≥ 0, max_side ≥ 80, 0 ≤ pad ≤ 1, 0 ≤ turn_deg ≤ 90; got {self}")
        if self.cnn not in ("missed", "never"):
            raise ValueError(f'cnn: expected "missed" or "never", got {self.cnn!r}')

    def __getstate__(self) -> dict:
        return asdict(self)  # a worker process loads the models itself

    @cached_property
    def _models(self) -> tuple:
        import dlib  # here, so that work with stored landmarks does not need it

        cnn = self.cnn == "missed" and dlib.cnn_face_detection_model_v1(str(predictor_path(CNN_MODEL)))
        return dlib.get_frontal_face_detector(), dlib.shape_predictor(str(predictor_path())), cnn

    def find(self, pixels: np.ndarray) -> list[Face]:
        """The faces of a picture, largest first (equal sizes: surest first); an empty list if there is none.

        pixels: uint8 [H, W, 3] RGB; another kind raises ValueError, a missing model file FileNotFoundError.
        """
        if not isinstance(pixels, np.ndarray) or pixels.dtype != np.uint8 or pixels.ndim != 3 or pixels.shape[2] != 3:
            got = f"{pixels.dtype} {pixels.shape}" if isinstance(pixels, np.ndarray) else type(pixels).__name__
            raise ValueError(f"pixels: expected uint8 [H, W, 3], got {got}")
        if min(pixels.shape[:2]) < 16:
            return []
        # Second looks have no use for more than they may see; turning or padding 100 megapixels takes gigabytes.
        less = min(1.0, max(_CLOSER_SIDE, self.max_side) / max(pixels.shape[:2]))
        faint: list[Face] = []
        found: list[tuple] = []
        for name, on, look in self._looks():
            first = name in ("hog", "hog padded")
            on_side = self.turn_deg > 0 and name != "hog turned"
            rows = _at_scale(pixels, 1.0 if name == "hog" else less, look) if on else []
            rows = _without_duplicates(_inside(rows, pixels.shape))
            surer = [row for row in rows if row[2] >= (self.min_score if first else max(self.min_score, _SURE))]
            if surer and on_side and surer[0][2] < _DOUBTFUL and (moved := self._moved(pixels, surer[0])) > _UNSTEADY:
                again = _without_duplicates(_inside(_at_scale(pixels, less, self._turned), pixels.shape))
                if again and again[0][2] > surer[0][2] and self._moved(pixels, again[0]) < 0.5 * moved:
                    name, surer = "hog turned", [row for row in again if row[2] > surer[0][2]]
            if surer and not self.thorough:
                return _faces(surer, pixels.shape, name)
            new = [row for row in surer if not any(_same_face(row, other) for other in found)]
            if found:
                new = [row for row in new if row[2] >= _DOUBTFUL or self._moved(pixels, row) < _UNSTEADY]
            found += [(*row, name) for row in new]
            if first and rows and not faint and self._moved(pixels, rows[0]) < _UNSTEADY:
                faint = _faces(rows[:1], pixels.shape, name)
        return _faces(found, pixels.shape) if found else faint

    def _looks(self) -> list[tuple]:
        """(name, on?, function of the picture). All give rows: corners of the box [2, 2], landmarks [68, 2], score;
        float64 px of the picture given, wherever they lie."""
        return [
            ("hog", True, self._hog),
            ("hog padded", self.pad > 0, lambda pixels: _padded(pixels, self.pad, self._hog)),
            ("hog turned", self.turn_deg > 0, self._turned),
            ("hog closer", self.closer, self._closer),
            ("cnn", self.cnn == "missed", lambda pixels: _padded(pixels, self.pad / 2, self._ask_cnn)),
        ]

    def _scale(self, pixels: np.ndarray) -> float:
        long_side = max(pixels.shape[:2])
        return min(max(2.0**self.upsample, _SMALL_SIDE / long_side), self.max_side / long_side)

    def _hog(self, pixels: np.ndarray, scale: float | None = None) -> list[tuple]:
        return _at_scale(pixels, scale or self._scale(pixels), self._run)

    def _run(self, seen: np.ndarray) -> list[tuple]:
        found = zip(*self._models[0].run(seen, 0, 0.0), strict=True)
        return [self._row(seen, box, score, _HINTS.get(part, 0.0)) for box, score, part in found]

    def _turned(self, pixels: np.ndarray) -> list[tuple]:
        rows = []
        for degrees in (-self.turn_deg, self.turn_deg, *_QUARTERS):
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
        scale = min(2.0 * 2.0**self.upsample, (_CNN_PIXELS / (pixels.shape[0] * pixels.shape[1])) ** 0.5)
        run = self._models[2]
        return _at_scale(pixels, scale, lambda seen: [self._rolled(seen, m.rect, m.confidence) for m in run(seen, 0)])

    def _rolled(self, seen: np.ndarray, box, score: float) -> tuple:
        """A row for a face of any roll: the CNN finds them all, and does not tell it."""
        middle = np.array([box.left() + box.right(), box.top() + box.bottom()]) / 2
        tried = []
        for roll in np.deg2rad(range(0, 360, 30)):
            found = self._shaken(seen, middle, box.width(), roll)
            tried.append((_spread(found), found[0]))
        upright = min(tried[k][0] for k in (0, 1, -1))
        spread, points = min(tried, key=lambda one: one[0])
        if spread < min(_STEADY, 0.5 * upright):
            return self._row(seen, box, score, points=points)
        return self._row(seen, box, score)

    def _moved(self, pixels: np.ndarray, row: tuple) -> float:
        """How far a row's landmarks move with the cut-out, as a share of the face's size."""
        roll = _roll(row[1])
        return _spread(self._shaken(np.ascontiguousarray(pixels), *_frame(row[1], roll), roll))

    def _shaken(self, seen: np.ndarray, middle: np.ndarray, side: float, roll: float) -> list[np.ndarray]:
        """Landmarks of one face from cut-outs: as given, a little turned, a little to the side."""
        return [
            self._predict(seen, middle + [aside * side, 0] @ _rotation(roll), side, roll + turned, _SHAKEN_PX)
            for turned, aside in ((0, 0), (0.2, 0), (-0.2, 0), (0, 0.07), (0, -0.07))
        ]

    def _row(self, seen: np.ndarray, box, score: float, hint_deg: float = 0.0, points=None) -> tuple:
        corners = np.array([[box.left(), box.top()], [box.right() + 1, box.bottom() + 1]])
        points = _parts(self._models[1](seen, box)) if points is None else points
        if hint_deg and abs(_roll(points)) < np.deg2rad(_LEVEL_DEG):  # beyond 35° the predictor sees no roll at all
            level = self._level(seen, points, np.deg2rad(hint_deg))
            points = level if _roll(level) * hint_deg > 0 else points
        for _ in range(3):
            roll = _roll(points)
            if abs(roll) < np.deg2rad(_LEVEL_DEG):
                break
            points = self._level(seen, points, roll)
            if abs(_roll(points) - roll) < np.deg2rad(5):
                break
        return corners, points, score

    def _level(self, seen: np.ndarray, points: np.ndarray, roll: float) -> np.ndarray:
        """The landmarks again, from a cut-out in which the eyes are level. On faces of known truth, rolled by 35 to
        45°, the median error falls from 0.15 to 0.09 of the distance of the eyes: what upright faces have there."""
        return self._predict(seen, *_frame(points, roll), roll)

    def _predict(self, seen: np.ndarray, middle: np.ndarray, side: float, roll: float, most: int = 400) -> np.ndarray:
        """Landmarks of the face in a square (middle, side, px) of the picture that is turned by roll, radians, from a
        cut-out of at most that many px."""
        import dlib

        (x, y), size = middle, int(np.clip(round(2 * side), 64, most))
        place = dlib.drectangle(x - side, y - side, x + side, y + side)
        cut = dlib.extract_image_chip(seen, dlib.chip_details(place, dlib.chip_dims(size, size), roll))
        box = dlib.rectangle(size // 4, size // 4, size - size // 4, size - size // 4)
        found = _parts(self._models[1](cut, box))
        return (found - (size - 1) / 2) * (2 * side / (size - 1)) @ _rotation(roll) + [x, y]


def _frame(points: np.ndarray, roll: float) -> tuple[np.ndarray, float]:
    """Middle and side of the box that the detector would have put around landmarks, level at a roll."""
    turn = _rotation(roll)
    low, high = (points @ turn.T).min(axis=0), (points @ turn.T).max(axis=0)
    side = max(_BOX_SIDE * float(np.sqrt(np.prod(high - low))), 8.0)
    return ((low + high) / 2 - [0, _BOX_RISE * side]) @ turn, side


def _spread(found: list[np.ndarray]) -> float:
    """How far landmarks of one face lie apart, without the jaw, as a share of the face's size."""
    points = np.array(found)
    middle = points.mean(axis=0)
    size = np.sqrt(np.prod(np.ptp(middle, axis=0)))
    return float(np.linalg.norm(points - middle, axis=-1)[:, 17:].mean() / max(size, 1e-9))


def _faces(rows: list[tuple], shape: tuple[int, ...], name: str = "") -> list[Face]:
    """The rows of one look, or rows with its name as a fourth entry, as faces, largest first."""
    rows = sorted(rows, key=lambda row: (-_size_step(row[0]), -row[2], *row[0][0]))
    return [
        Face(_clipped(box, shape), np.float32(points), float(score), *own or (name,))
        for box, points, score, *own in rows
    ]


def _parts(shape) -> np.ndarray:
    return np.array([[p.x, p.y] for p in shape.parts()], dtype=np.float64)


def _roll(points: np.ndarray) -> float:
    """Angle of the line through the eyes, radians, > 0 clockwise as seen."""
    return float(np.arctan2(*(points[42:48].mean(axis=0) - points[36:42].mean(axis=0))[::-1]))


def _rotation(angle: float) -> np.ndarray:
    """[2, 2]: `offset @ R.T` turns an (x, y) offset counter-clockwise as seen, `@ R` turns it back."""
    return np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]])


def _at_scale(pixels: np.ndarray, scale: float, look) -> list[tuple]:
    """Look at the picture at about `scale` times its size; rows in px of the picture itself."""
    if scale == 1:
        return look(np.ascontiguousarray(pixels))
    w, h = (max(1, round(side * scale)) for side in pixels.shape[1::-1])
    seen = cv2.resize(pixels, (w, h), interpolation=cv2.INTER_CUBIC if scale > 1 else cv2.INTER_AREA)
    factor = np.array([w / pixels.shape[1], h / pixels.shape[0]])
    return [(corners / factor, (points + 0.5) / factor - 0.5, score) for corners, points, score in look(seen)]


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
        if not any(_same_face(row, other) for other in kept):
            kept.append(row)
    return kept


def _same_face(row: tuple, other: tuple) -> bool:
    """Whether the boxes of two rows share over half of the smaller one."""
    overlap = np.minimum(row[0][1], other[0][1]) - np.maximum(row[0][0], other[0][0])
    smaller = min(np.prod(one[0][1] - one[0][0]) for one in (row, other))
    return bool((overlap > 0).all() and np.prod(overlap) > 0.5 * smaller)


def landmarks_table(rows: Iterable[tuple[str, int, np.ndarray]]) -> pd.DataFrame:
    """A table from (image, face, landmarks [68, 2]): columns image, face, x0, y0, …, x67, y67."""
    flat = [(str(image), int(face), *np.asarray(points, dtype=np.float64).reshape(136)) for image, face, points in rows]
    return pd.DataFrame(flat, columns=list(LANDMARK_COLUMNS))


def landmarks_array(table: pd.DataFrame) -> np.ndarray:
    """The landmarks of a table as float32 [N, 68, 2], in the table's order."""
    return table[list(LANDMARK_COLUMNS[2:])].to_numpy(dtype=np.float32).reshape(-1, 68, 2)


def write_landmarks(path: str | Path, table: pd.DataFrame) -> None:
    """Write a table from `landmarks_table` as CSV or Parquet, by suffix, atomically. ValueError: a column missing."""
    write_table(path, _checked(table, "landmark table")[list(LANDMARK_COLUMNS)])


def read_landmarks(path: str | Path) -> pd.DataFrame:
    """Read a landmark table (CSV or Parquet); a face without landmarks holds NaN.

    Raises FileNotFoundError, or ValueError that names the file and what is missing or doubled."""
    path = Path(path)
    suffix = path.suffix.lower()
    if suffix == ".csv":
        # Only coordinates can be missing: an image may well be named "NA".
        missing = {column: ["", "nan", "NaN"] for column in LANDMARK_COLUMNS[2:]}
        try:
            table = pd.read_csv(path, dtype={"image": str}, keep_default_na=False, na_values=missing)
        except ValueError as error:  # an open quote, other bytes than UTF-8
            raise ValueError(f"{path}: cannot be read as CSV in UTF-8 ({' '.join(str(error).split())})") from None
    elif suffix == ".parquet":
        try:
            table = pd.read_parquet(path)
        except (ValueError, OSError) as error:
            if isinstance(error, FileNotFoundError):
                raise
            raise ValueError(f"{path}: cannot be read as Parquet ({' '.join(str(error).split())})") from None
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
