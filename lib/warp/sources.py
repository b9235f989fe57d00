"""Where landmarks come from: dlib, FFHQ's json, a table (a user's, the face world's), behind one interface."""

from __future__ import annotations

import os
import re
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Protocol

import numpy as np

from lib.data.ffhq import JSON_FRAME, ffhq_landmarks
from lib.data.files import sha256
from lib.warp.landmarks import (
    CNN_MODEL,
    VERSION,
    DlibLandmarks,
    Face,
    landmarks_array,
    predictor_path,
    read_landmarks,
)


class LandmarkSource(Protocol):
    """Faces of a picture. by_pixels: they depend on the pixels alone, so results can be kept by the file's hash;
    nothing: the reason given for a picture without a face."""

    by_pixels: bool
    nothing: str

    def find(self, key: str, pixels: np.ndarray) -> list[Face]:
        """The faces of the picture called `key` (path relative to the root), pixels uint8 [H, W, 3], in the order in
        which they are numbered; [] if there is none. ValueError with a reason fit for a list of failures."""

    def fingerprint(self) -> str:
        """What the result depends on besides the picture: settings and the hashes of models or files."""


@dataclass(eq=False)
class DlibSource:
    """dlib's detectors: see `DlibLandmarks`."""

    finder: DlibLandmarks
    by_pixels, nothing = True, "no face found"

    def find(self, key: str, pixels: np.ndarray) -> list[Face]:
        return self.finder.find(pixels)

    def fingerprint(self) -> str:
        settings = asdict(self.finder)
        if not settings["thorough"]:  # caches from before it was there stay good
            del settings["thorough"]
        return f"{self._models} {settings}"

    @cached_property
    def _models(self) -> str:
        import dlib

        hashes = [sha256(path)[:16] for path in (predictor_path(), predictor_path(CNN_MODEL))]
        return f"dlib {dlib.__version__} find {VERSION} models {' '.join(hashes)}"


class FfhqSource:
    """`ffhq-dataset-v2.json`, for the aligned pictures (1024² or reduced) named by their five-digit id."""

    by_pixels = False

    def __init__(self, path: Path | str) -> None:
        self.path, self.known = Path(path), ffhq_landmarks(path)
        self.nothing = f"no landmarks for it in {self.path.name}"

    def find(self, key: str, pixels: np.ndarray) -> list[Face]:
        points = self.known.get(Path(key).stem) if re.fullmatch(r"\d{5}", Path(key).stem) else None
        if points is None:
            return []
        if pixels.shape[0] != pixels.shape[1]:
            raise ValueError(f"FFHQ's landmarks are for its aligned square pictures, this one is {_size(pixels)}")
        return [_given((points + 0.5) * np.float32(pixels.shape[0] / JSON_FRAME) - np.float32(0.5), pixels, "ffhq")]

    def fingerprint(self) -> str:
        return f"ffhq {sha256(self.path)}"


class TableSource:
    """A landmark table (`read_landmarks`), in px of the pictures as they are now; the face world writes one.

    Its `image` is a path relative to `root`, or else to the table's own folder. Faces with NaN are left out.
    """

    by_pixels = False

    def __init__(self, path: Path | str, root: Path | str | None = None) -> None:
        self.path, self.root, self.known = Path(path), root, {}
        self.nothing = f"no landmarks for it in {self.path.name}"
        table = read_landmarks(path).sort_values(["image", "face"], kind="stable")
        for image, points in zip(table["image"], landmarks_array(table)):
            self.known.setdefault(Path(image).as_posix(), []).append(points)

    def find(self, key: str, pixels: np.ndarray) -> list[Face]:
        faces = self.known.get(key)
        if faces is None:
            place, own = (Path(os.path.abspath(p)) for p in (Path(self.root or "") / key, self.path.parent))
            faces = self.known.get(place.relative_to(own).as_posix(), ()) if place.is_relative_to(own) else ()
        return [_given(points, pixels, "table") for points in faces if np.isfinite(points).all()]

    def fingerprint(self) -> str:
        return f"table {sha256(self.path)}"


def open_source(what: str | Path | LandmarkSource, root: Path | str | None = None, **settings) -> LandmarkSource:
    """A source of landmarks by what is given.

    what: "dlib" (`settings`: those of `DlibLandmarks`), a `DlibLandmarks`, FFHQ's .json, a landmark table (.csv,
        .parquet), a folder that holds a landmarks.csv (a set of the face world), or a source, which comes back as is.
    root: the folder that the pictures' names are relative to; tables of another folder need it.

    Raises FileNotFoundError, or ValueError that names the file and what is wrong.
    """
    if what == "dlib":
        return DlibSource(DlibLandmarks(**settings))
    if settings:
        raise ValueError(f"{', '.join(settings)}: settings of dlib's detectors, the landmarks come from {what}")
    if not isinstance(what, str | Path):
        return DlibSource(what) if isinstance(what, DlibLandmarks) else what
    path = Path(what)
    if path.is_dir():
        path = path / "landmarks.csv"
    if not path.is_file():
        raise FileNotFoundError(f'{path}: no such file; landmarks come from "dlib", FFHQ\'s .json, a .csv or .parquet')
    if path.suffix.lower() == ".json":
        return FfhqSource(path)
    return TableSource(path, root)


def _given(points: np.ndarray, pixels: np.ndarray, detector: str) -> Face:
    """A face of known landmarks; its box spans them. ValueError where they cannot belong to the picture."""
    size = np.array(pixels.shape[1::-1])
    middle = points.mean(axis=0)
    if (middle < 0).any() or (middle >= size).any():
        raise ValueError(f"the landmarks lie outside the picture of {_size(pixels)}: are they of another size?")
    (x0, y0), (x1, y1) = np.clip([np.floor(points.min(axis=0)), np.ceil(points.max(axis=0)) + 1], 0, size).astype(int)
    return Face((int(x0), int(y0), int(x1 - x0), int(y1 - y0)), points.astype(np.float32), 1.0, detector)


def _size(pixels: np.ndarray) -> str:
    return f"{pixels.shape[1]} × {pixels.shape[0]}"
