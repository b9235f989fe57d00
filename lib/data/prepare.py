"""Many pictures worked through by all cores, streaming: at any moment only a few are in memory, what is done is noted
in a journal, and a run that was stopped goes on where it was.

`work_through` runs any function over jobs in that way; `prepare_pictures` is the common case: decode, crop, scale,
write a PNG. `python -m lib.data prepare IN OUT` does it for a folder or the boxes of a face table.
"""

from __future__ import annotations

import argparse
import fcntl
import hashlib
import json
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from tqdm.auto import tqdm

from lib.data.files import LEAVES, leaves_root, write_png, write_table
from lib.data.folder import read_folder
from lib.data.images import ImageError, read_image, resize
from lib.data.table import BOX, read_table
from lib.data.workers import Pool, WorkerCrashed

JOURNAL = "prepared.jsonl"
_FEW = 400  # jobs that are done before processes have started


@dataclass(frozen=True)
class Job:
    """name: of the result, unique in a run. inputs: files it is made from. outputs: files it makes. options: all else
    that decides the result, as plain values."""

    name: str
    inputs: tuple[Path, ...]
    outputs: tuple[Path, ...]
    options: tuple = ()

    def key(self) -> str:
        """Changes when an option changes, or the name, size or time of an input."""
        state = [(str(p), s.st_size, s.st_mtime_ns) if (s := _stat(p)) else str(p) for p in self.inputs]
        return hashlib.sha256(repr((state, self.options)).encode()).hexdigest()[:20]


def work_through(
    function: Callable[[Job], str],
    jobs: Sequence[Job],
    journal: Path | str,
    workers: int | None = None,
    progress: bool = True,
    what: str = "pictures",
) -> dict[str, str]:
    """Run `function` on every job that is not done yet; name → reason, "" where it succeeded.

    function: module-level (it is sent to other processes); returns "" or why there is no result. Its results must be
        whole or not there. An exception stops the run; what was done stays done.
    journal: JSON lines, appended; locked against a second run. A job is done when its line has the job's key, an empty
        reason, and its outputs are there: a changed input or option is done again, and so is what failed.
    workers: processes; None takes one per core, or none where there are few jobs. Results do not depend on it.

    Raises ValueError for two jobs of one name or workers below 0, BlockingIOError when another run has the journal.
    """
    asked: dict[str, Job] = {}
    for job in jobs:
        if job.name in asked:
            sources = " and ".join(", ".join(map(str, j.inputs)) for j in (asked[job.name], job))
            raise ValueError(f"{journal}: {job.name} is asked for twice, from {sources}")
        asked[job.name] = job
    journal = Path(journal)
    journal.parent.mkdir(parents=True, exist_ok=True)
    with journal.open("a+b") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise BlockingIOError(f"{journal}: another run is working there; wait for it or stop it") from None
        noted = _read(file)
        keys = {job.name: job.key() for job in jobs}
        todo = [j for j in jobs if noted.get(j.name) != [keys[j.name], ""] or not all(p.is_file() for p in j.outputs)]
        for folder in {path.parent for job in todo for path in job.outputs}:
            for left in folder.glob(".*.tmp"):  # of a killed run; nobody else works here
                left.unlink(missing_ok=True)
        # A job whose result never came is none that succeeded, whatever kept it from being done.
        reasons = dict.fromkeys(asked, "") | {job.name: "not done" for job in todo}
        if workers is None:
            workers = (os.cpu_count() or 1) if len(todo) > _FEW else 0
        bar = tqdm(total=len(jobs), initial=len(jobs) - len(todo), desc=what, unit="picture", disable=not progress,
                   ascii=True, mininterval=2, delay=2)  # fmt: skip
        with bar, Pool(function, workers, backlog=4) as pool:
            for job, reason in pool.run(todo):
                reason = str(reason) if isinstance(reason, WorkerCrashed) else reason
                reasons[job.name] = reason
                file.write(json.dumps([job.name, keys[job.name], reason]).encode() + b"\n")
                file.flush()
                bar.update()
    return reasons


def prepare_pictures(
    table: pd.DataFrame,
    out: Path | str,
    size: int,
    workers: int | None = None,
    progress: bool = True,
    what: str = "pictures",
) -> pd.Series:
    """Write each row's picture to `out` at `size` × `size` (paper §4: resized, not cropped; boxes are MAFA's, §3).

    table: `image`, the file to write, relative to `out`, ending in .png; `source`, the file to read; where a column
        `crop` is true, the box x y w h (px) is cut out first, clipped at the picture.

    Returns why a row has no picture, with the table's index; "" where it has one. Pictures are read with
    `images.read_image`; a run that was stopped goes on (`work_through`, whose other arguments these are).

    Raises ValueError for a target that leaves `out`, is no .png or is named twice; OSError when it cannot be written.
    """
    out = Path(out)
    for name in table["image"]:
        if leaves_root(name) or not name.endswith(".png"):
            raise ValueError(f"{out}: {name!r} is no place for a picture: expected a relative path ending in .png")
    cut = table["crop"].fillna(False).astype(bool) if "crop" in table else pd.Series(False, table.index)
    rows = zip(table["image"], table["source"], cut, table[list(BOX)].to_numpy() if cut.any() else [()] * len(table))
    jobs = [
        Job(image, (Path(source),), (out / image,), (size, *(map(float, box) if crop else ())))
        for image, source, crop, box in rows
    ]
    reasons = work_through(_prepare, jobs, out / JOURNAL, workers, progress, what)
    return pd.Series([reasons[name] for name in table["image"]], table.index, dtype=object)


def unreadable(
    paths: Sequence[str], journal: Path | str, workers: int | None = None, progress: bool = True, what: str = "pictures"
) -> dict[str, str]:
    """Which of some pictures cannot be decoded: path → reason. Those found whole are noted and not read again."""
    jobs = [Job(path, (Path(path),), ()) for path in paths]
    reasons = work_through(_damage, jobs, journal, workers, progress, what)
    return {path: reason for path, reason in reasons.items() if reason}


def _damage(job: Job) -> str:
    try:
        read_image(job.inputs[0])
    except ImageError as error:
        return error.reason
    return ""


def _prepare(job: Job) -> str:
    size, *box = job.options
    try:
        pixels = read_image(job.inputs[0]).pixels
        write_png(job.outputs[0], resize(crop_box(pixels, *box) if box else pixels, size))
    except ImageError as error:
        return error.reason
    except ValueError as error:  # a box outside its picture
        return str(error)
    return ""


def crop_box(pixels: np.ndarray, x: float, y: float, w: float, h: float) -> np.ndarray:
    """The part of a picture inside a box, clipped at the picture (paper §3: "extracted MAFA bounding boxes").

    Raises ValueError where nothing of the box lies inside, or it is no box.
    """
    height, width = pixels.shape[:2]
    if not np.isfinite([x, y, w, h]).all():
        raise ValueError(f"box {x:g}, {y:g}, {w:g} × {h:g} is no box")
    left, top = max(round(x), 0), max(round(y), 0)
    right, bottom = min(round(x + w), width), min(round(y + h), height)
    if right <= left or bottom <= top:
        raise ValueError(f"box {x:g}, {y:g}, {w:g} × {h:g} lies outside a picture of {width} × {height}")
    return pixels[top:bottom, left:right]


def _stat(path: Path) -> os.stat_result | None:
    try:
        return path.stat()
    except OSError:
        return None


def _read(file) -> dict[str, list[str]]:
    """What a journal notes: name → [key, reason]; a line cut short by a kill is cut off."""
    file.seek(0)
    content = file.read()
    whole = content.rfind(b"\n") + 1
    file.truncate(whole)
    noted = {}
    for line in content[:whole].splitlines():
        try:
            name, *rest = json.loads(line)
            noted[name] = rest
        except (ValueError, TypeError):
            continue  # a damaged line: that job is done again
    return noted


# ---------------------------------------------------------------------------------- python -m lib.data prepare
def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of the command."""
    parser.description = (
        "Read every picture of a folder, or every box of a face table, scale it to a square without cropping further, "
        "and write PNGs. A run that was stopped goes on. Beside the pictures: prepared.csv (image, source), "
        "failures.csv (source, reason)."
    )
    parser.add_argument("pictures", metavar="IN", type=Path, help="folder of pictures, any depth; only read")
    parser.add_argument("out", metavar="OUT", type=Path, help="folder to write to")
    parser.add_argument("--size", type=int, default=256, help="side in px (default: %(default)s, the paper's)")
    parser.add_argument("--table", type=Path, help="face table (.csv, .parquet): cut out its boxes, a picture each")
    parser.add_argument("--workers", type=int, help="processes (default: one per core)")


def run(args: argparse.Namespace) -> int:
    """The command; gives the exit status: 0 all written, 1 some not. Raises ValueError, OSError."""
    if not 8 <= args.size <= 4096:
        raise ValueError(f"--size: expected 8 to 4096, got {args.size}")
    if args.workers is not None and args.workers < 0:
        raise ValueError(f"--workers: expected 0 or more, got {args.workers}")
    source, out = args.pictures.resolve(), args.out.resolve()
    if out.is_relative_to(source):
        raise ValueError(f"{args.out}: lies inside {args.pictures}; choose another folder")
    if source.is_relative_to(out):
        raise ValueError(
            f"{args.out}: holds {args.pictures}, whose pictures could be overwritten; choose another folder"
        )
    table = _faces_of(args.table) if args.table else _files_of(args.pictures)
    table["source"] = [str(args.pictures / name) for name in table["original"]]
    bad = [leaves_root(name) for name in table["original"]]
    table.loc[bad, "reason"] = LEAVES
    sound = table[table["reason"] == ""]
    table.loc[sound.index, "reason"] = prepare_pictures(sound, args.out, args.size, args.workers)
    failed = table["reason"] != ""
    columns = ["image", "source", *([*BOX] if args.table else [])]
    write_table(args.out / "prepared.csv", table.loc[~failed, columns])
    write_table(args.out / "failures.csv", table.loc[failed, ["source", "reason"]])
    print(f"{len(table):,} pictures: {int((~failed).sum()):,} in {args.out}, {int(failed.sum()):,} failed")
    return int(failed.any())


def _files_of(folder: Path) -> pd.DataFrame:
    table = read_folder(folder).rename(columns={"image": "original"})
    return table.assign(image=_targets(table["original"], ""))


def _faces_of(path: Path) -> pd.DataFrame:
    table = read_table(path).rename(columns={"image": "original"})
    if not (table["reason"] == "").any():
        raise ValueError(f"{path}: has no usable face")
    table["image"] = _targets(table["original"], "_" + table["face"].astype(str))
    return table.assign(crop=table[list(BOX)].notna().all(axis=1))


def _targets(originals: pd.Series, end: pd.Series | str) -> pd.Series:
    """PNG names for pictures: `end` instead of the suffix; where two would get the same (a.jpg, a.png), behind it."""
    whole = originals + end + ".png"
    names = originals.map(lambda name: Path(name).with_suffix("").as_posix()) + end + ".png"
    while (doubled := names.duplicated(keep=False) & (names != whole)).any():  # a.jpg.jpg may now meet a.jpg
        names = names.mask(doubled, whole)
    return names
