"""The faces of many pictures: found or looked up, counted, kept in a cache; what was not found is listed openly.

On the command line: `python -m lib.warp.faces PICTURES landmarks.csv`, see `--help`.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import signal
import sys
import warnings
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from functools import partial
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import pandas as pd
from tqdm import tqdm

from lib.data.files import read_json, sha256, write_table, write_text
from lib.data.images import ImageError, list_images, read_image
from lib.warp.landmarks import Face, landmarks_table, write_landmarks
from lib.warp.params import Style
from lib.warp.sources import LandmarkSource, open_source

FACE_COLUMNS = ("image", "face", "x", "y", "w", "h", "eye_px", "score", "detector")
FAILURE_COLUMNS = ("image", "face", "kind", "reason")


@dataclass(frozen=True, eq=False)
class FaceReport:
    """What `find_faces` found, all in the order of the pictures given.

    landmarks: the usable faces, as `landmarks_table`. faces: the same rows as image, face, x, y, w, h (box, px),
    eye_px (distance of the eyes), score, detector. failures: image, face (−1: the whole picture), kind ("no face",
    "too small", "unreadable", "error"), reason. pictures: how many were asked for. cached: of these, from the cache.
    """

    landmarks: pd.DataFrame
    faces: pd.DataFrame
    failures: pd.DataFrame
    pictures: int
    cached: int = 0

    def count(self, kind: str) -> int:
        """How many rows of `failures` are of a kind."""
        return int((self.failures["kind"] == kind).sum())

    @property
    def covered(self) -> int:
        """Pictures with a usable face."""
        return int(self.faces["image"].nunique())

    def summary(self) -> str:
        """One line: all counts."""
        share = f" ({self.covered / self.pictures:.1%})" if self.pictures else ""
        by = ", ".join(f"{n} {name}" for name, n in Counter(self.faces["detector"]).most_common())
        kinds = [f"{self.count(k)} {k}" for k in ("no face", "too small", "unreadable", "error")]
        line = f"{self.pictures} pictures, {self.covered} with a usable face{share}; {len(self.faces)} faces"
        return f"{line}{f' ({by})' if by else ''}; {', '.join(kinds)}; {self.cached} from the cache"


def find_faces(
    paths: Iterable[Path | str],
    source: str | Path | LandmarkSource = "dlib",
    root: Path | str | None = None,
    cache: Path | str | None = None,
    min_eye_px: float = Style().min_eye_distance_px,
    workers: int = 0,
    progress: bool = False,
) -> FaceReport:
    """The faces of many pictures. The result does not depend on `workers` or on the cache.

    paths: the pictures. root: the folder their names in the report are relative to; None: named by their whole path.
    source: see `open_source`. cache: a folder; what was found is kept there by the file's SHA-256 and the source's
        fingerprint, for sources that depend on the pixels alone. A damaged entry counts for nothing and is replaced.
    min_eye_px: faces with a smaller distance of the eyes (px of the picture) are listed as too small.
    workers: processes; 0 does everything in this one.

    Raises:
        ValueError: a picture outside `root`, one given twice, or a source that cannot be opened.
        FileNotFoundError: a source's file or dlib's models are missing.
        RuntimeError: a worker process died; what was found before is in the cache.
    """
    source = open_source(source, root)
    tasks = [(_key(path, root), Path(path)) for path in paths]
    if doubled := [key for key, n in Counter(key for key, _ in tasks).items() if n > 1]:
        raise ValueError(f"{len(doubled)} pictures given more than once, first {doubled[0]}")
    kept = open_cache(cache, source)
    rows, faces, failures, cached = [], [], [], 0
    bar = tqdm(_ask_all(tasks, source, kept, workers), "faces", len(tasks), disable=not progress, leave=False)
    for (key, _), (found, failure, hit) in zip(tasks, bar, strict=True):
        cached += hit
        failures += [(key, -1, *failure)] if failure else []
        for k, face in enumerate(found):
            left, right = (face.landmarks[eye].mean(axis=0) for eye in (slice(36, 42), slice(42, 48)))
            if (eyes := float(np.linalg.norm(right - left))) < min_eye_px:
                failures.append((key, k, "too small", f"eyes {eyes:.1f} px apart, limit {min_eye_px:g}"))
                continue
            rows.append((key, k, face.landmarks))
            faces.append((key, k, *face.box, eyes, face.score, face.detector))
    tables = pd.DataFrame(faces, columns=FACE_COLUMNS), pd.DataFrame(failures, columns=FAILURE_COLUMNS)
    return FaceReport(landmarks_table(rows), *tables, len(tasks), cached)


def _ask_all(tasks: Sequence, source: LandmarkSource, kept: FaceCache | None, workers: int) -> Iterator[tuple]:
    """`_ask` of each task, in order."""
    if workers <= 0 or len(tasks) < 2:
        yield from map(partial(_ask, source, kept), tasks)
        return
    # A started process is fresh (spawn): safe beside threads and CUDA. The source goes to each process once.
    pool = ProcessPoolExecutor(min(workers, len(tasks)), get_context("spawn"), _start, (source, kept))
    try:
        yield from pool.map(_ask_started, tasks, chunksize=max(1, min(16, len(tasks) // (4 * workers))))
    except BrokenProcessPool:
        raise RuntimeError(
            "a worker died: out of memory, a crash in native code, or it was called from a script of yours outside of "
            "`if __name__ == '__main__':`; try again with workers=0"
        ) from None
    finally:
        pool.shutdown(cancel_futures=True)


_started: tuple = ()


def _start(*source_and_cache) -> None:
    global _started
    _started = source_and_cache
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the main process's business


def _ask_started(task: tuple[str, Path]) -> tuple:
    return _ask(*_started, task)


def _ask(source: LandmarkSource, kept: FaceCache | None, task: tuple[str, Path]) -> tuple:
    """Faces, failure (kind, reason) or None, whether they come from the cache."""
    key, path = task
    try:
        digest = _digest(path) if kept else ""
        cached = bool(digest) and (faces := kept.get(digest)) is not None
        if not cached:
            faces = find_in(read_image(path).pixels, source, key, kept, digest)
    except ImageError as error:
        return [], ("unreadable", error.reason), False
    except FileNotFoundError:  # dlib's models: no other picture would fare better
        raise
    except Exception as error:  # whatever a strange picture sets off costs that picture, not the run
        words = " ".join(str(error).split())
        return [], ("error", words if isinstance(error, ValueError) else f"{type(error).__name__}: {words}"), False
    return faces, None if faces else ("no face", source.nothing), cached


def _digest(path: Path) -> str:
    try:
        return sha256(path)
    except OSError:
        return ""  # `read_image` says what is wrong with it


def find_in(
    pixels: np.ndarray, source: LandmarkSource, key: str, cache: FaceCache | None = None, digest: str = ""
) -> list[Face]:
    """The faces of one picture: as the cache holds them, or from the source, and then into the cache.

    pixels: uint8 [H, W, 3]. key: what the source knows the picture by (path relative to the root). digest: the file's
    SHA-256; without it nothing is cached. Raises ValueError for landmarks that do not belong to the picture.
    """
    faces = cache.get(digest) if cache and digest else None
    if faces is None:
        faces = source.find(key, pixels)
        if cache and digest:
            cache.put(digest, faces)
    return faces


def open_cache(folder: Path | str | None, source: LandmarkSource) -> FaceCache | None:
    """The cache in a folder; None where no folder is given or the source does not depend on the pixels alone."""
    return FaceCache(Path(folder), source.fingerprint()) if folder is not None and source.by_pixels else None


@dataclass(frozen=True)
class FaceCache:
    """Faces by the picture file's SHA-256: `xx/<sha256>-<fingerprint>.json` under `folder`, one small file each."""

    folder: Path
    fingerprint: str

    def _path(self, digest: str) -> Path:
        return self.folder / digest[:2] / f"{digest}-{hashlib.sha256(self.fingerprint.encode()).hexdigest()[:16]}.json"

    def get(self, digest: str) -> list[Face] | None:
        """What was found in the picture, to the bit; None where there is no sound entry."""
        try:
            entry = read_json(self._path(digest))
            if (entry["sha256"], entry["fingerprint"]) != (digest, self.fingerprint):
                return None
            faces = []
            for row in entry["faces"]:
                points, (x, y, w, h) = np.array(row["landmarks"], np.float32), map(int, row["box"])
                if points.shape != (68, 2) or not np.isfinite(points).all():
                    return None
                faces.append(Face((x, y, w, h), points, float(row["score"]), str(row["detector"])))
            return faces
        except (OSError, ValueError, TypeError, KeyError):
            return None

    def put(self, digest: str, faces: list[Face]) -> None:
        """Keep what was found. Where the folder cannot be written a warning says so: a cache only saves time."""
        # The shortest text that gives the same float32 again.
        points = [[[float(str(c)) for c in point] for point in face.landmarks] for face in faces]
        rows = [{**vars(face), "landmarks": p} for face, p in zip(faces, points)]
        text = json.dumps({"sha256": digest, "fingerprint": self.fingerprint, "faces": rows})
        try:
            write_text(self._path(digest), text + "\n")
        except OSError as error:
            warnings.warn(f"{self.folder}: the cache cannot be written ({error.strerror or error})", stacklevel=2)


def _key(path: Path | str, root: Path | str | None) -> str:
    if root is None:
        return Path(path).as_posix()
    place, top = Path(os.path.abspath(path)), Path(os.path.abspath(root))
    if not place.is_relative_to(top):
        raise ValueError(f"{path}: lies outside of {root}, which names in the report are relative to")
    return place.relative_to(top).as_posix()


def main(argv: list[str] | None = None) -> int:
    """Run the command; gives the exit status: 0 a usable face was found, 1 none, 2 it cannot be carried out, 130
    it was stopped."""
    p = argparse.ArgumentParser(
        prog="python -m lib.warp.faces",
        description="Find the faces in a folder of pictures. Beside the table OUT, as .failures.csv: every "
        "picture without a face, every face too small, with the reason.",
    )
    p.add_argument("pictures", metavar="PICTURES", type=Path, help="folder, any depth")
    p.add_argument("out", metavar="OUT", type=Path, help="landmark table to write, .csv or .parquet: 68 points a face")
    p.add_argument("--source", default="dlib", help="dlib (default), FFHQ's .json, or a landmark table to look up")
    p.add_argument(
        "--cache",
        type=Path,
        metavar="FOLDER",
        help="keep what is found by the file's hash, and use it; lib.augment's --landmark-cache is one, of use to both "
        "as long as the next three are the same in both",
    )
    # As in lib.augment, whose defaults are others than those of `DlibLandmarks`: see there.
    p.add_argument("--upsample", type=int, default=1, help="how often dlib sees the picture doubled (default: 1)")
    p.add_argument("--detect-side", type=int, default=2048, help="but never beyond this length, px (default: 2048)")
    p.add_argument("--min-score", type=float, default=0.4, help="fainter faces count only alone (default: 0.4)")
    p.add_argument(
        "--thorough",
        action="store_true",
        help="let all detectors look at every picture and put their finds together, for groups in which some faces are "
        "small, turned or in profile: finds more, not all; about a second more at 256², six at 2000 px",
    )
    default = Style().min_eye_distance_px
    p.add_argument("--min-eye-px", type=float, default=default, help="distance of the eyes, px (default: %(default)s)")
    p.add_argument("--workers", type=int, default=0, help="processes (default: none beside this one)")
    args = p.parse_args(argv)
    try:
        if args.out.suffix.lower() not in (".csv", ".parquet"):
            raise ValueError(f"{args.out}: expected a name that ends in .csv or .parquet")
        paths = list_images(args.pictures)
        if not paths:
            raise ValueError(f"{args.pictures}: holds no pictures")
        dlib = {"upsample": args.upsample, "max_side": args.detect_side, "min_score": args.min_score}
        dlib["thorough"] = args.thorough
        source = open_source(args.source, args.pictures, **(dlib if args.source == "dlib" else {}))
        options = {"min_eye_px": args.min_eye_px, "workers": args.workers, "progress": True}
        report = find_faces(paths, source, args.pictures, args.cache, **options)
        write_landmarks(args.out, report.landmarks)
        failures = args.out.with_suffix(".failures.csv")
        write_table(failures, report.failures)
    except (ValueError, OSError, RuntimeError) as error:
        print(f"lib.warp.faces: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        kept = f"; what was found is kept in {args.cache}" if args.cache else ""
        print(f"lib.warp.faces: stopped, {args.out} was not written{kept}", file=sys.stderr)
        return 130
    print(report.summary())
    print(f"{args.out}, {failures}")
    return 0 if len(report.faces) else 1


if __name__ == "__main__":
    sys.exit(main())
