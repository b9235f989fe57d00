"""What there is to do: the pictures, the names of their outputs, the seed of each face; and which folders are refused.

Everything here is decided before the first picture is read, so that a mistyped command costs a second, not an hour.
"""

import contextlib
import hashlib
import os
import re
import unicodedata
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import NamedTuple

from lib.data.images import IMAGE_SUFFIXES, list_images

_NUMBERED = re.compile(r"(?P<name>.+)_(?P<number>[0-9]{4,8})")  # of LFW and MFR2: Ann_Lee/Ann_Lee_0001
INNERMOST = -1  # the folder that holds a picture
STEP = 1000  # between the numbers of an original and of its first variant


class AugmentError(ValueError):
    """The command cannot be carried out as given; the message is one line that says what to change."""


class Labelled(NamedTuple):
    """A face that a label file tells of: its number in the picture, its box in px, and why it gets no mask: `kind` and
    `reason`, empty where it may get one."""

    face: int
    x: float
    y: float
    w: float
    h: float
    kind: str = ""
    reason: str = ""


@dataclass(frozen=True)
class Task:
    """One picture to do. Paths are relative and POSIX.

    source: of the picture in IN. name: of the PNG in `OUT/images` and `OUT/regions`. more: those of further variants.
    original: of the untouched picture in `OUT/images`, "" for none. identity: who it is, see `identity_of`.
    labels: its faces, where label files tell them. stored: its faces as a manifest has them, where they are to be made
    again (`lib.augment.replay`); sha256: of the picture they were made from.
    """

    source: str
    name: str
    more: tuple[str, ...] = ()
    original: str = ""
    identity: str = ""
    labels: tuple[Labelled, ...] | None = None
    stored: tuple[dict, ...] | None = None
    sha256: str = ""

    @property
    def variants(self) -> dict[int, tuple[str, str]]:
        """Paths of picture and region of each variant that is to be written, counted from 1, relative to OUT."""
        return {v: (f"images/{name}", f"regions/{name}") for v, name in enumerate((self.name, *self.more), 1) if name}

    @property
    def outputs(self) -> tuple[str, ...]:
        """Paths of all files that may be written, relative to OUT."""
        paths = [path for pair in self.variants.values() for path in pair]
        return (*paths, f"images/{self.original}") if self.original else tuple(paths)


def face_seed(seed: int, source: str, face: int, use: str = "warp") -> int:
    """A seed in [0, 2**63) for one face, from the run's seed, the picture's relative path and the face's index alone.

    So a face looks the same whatever else is in the folder, in which order and by how many workers it is done. The
    path is taken in Unicode's composed form: macOS hands out names in the decomposed one.
    """
    key = "\0".join([str(seed), unicodedata.normalize("NFC", source), str(face), use])
    return int.from_bytes(hashlib.sha256(key.encode("utf-8", "surrogateescape")).digest()[:8], "big") >> 1


def variant_seed(seed: int, source: str, face: int, variant: int, use: str = "warp") -> int:
    """`face_seed` for a variant; the first has the face's own, so that more variants leave it as it is."""
    return face_seed(seed, source, face, use if variant == 1 else f"{use} {variant}")


def name_tasks(
    sources: Sequence[str], per_image: int = 1, originals: bool = False, identity: int = INNERMOST
) -> list[Task]:
    """A task for each picture, in the order given.

    The PNG keeps the picture's name: `a/b.jpg` → `a/b.png`; only the last suffix is dropped. With several variants, or
    beside its original, a masked picture gets another: `b_mask1.png`, `b_mask2.png`; in sets numbered like LFW and MFR2
    a number of its own, `Ann/Ann_0001.jpg` → `Ann_1001.png`, `Ann_2001.png` (10001, 20001 where numbers reach 1000),
    so that tools find it by name and number. Where two pictures of a folder would end as the same file (`b.jpg` and
    `b.png`, or `B.jpg` on a file system that ignores case) all of them keep their suffix: `b.jpg.png`.

    identity: the level that `identity_of` takes.
    """
    stems = {source: source[: -len(PurePosixPath(source).suffix)] for source in sources}
    step = STEP
    while any(number >= step for number in map(_number, stems.values())):
        step *= 10
    kept: set[str] = set()
    while True:
        names = {}
        for source in sources:
            stem = source if source in kept else stems[source]
            plain = per_image == 1 and not originals
            variants = [stem] if plain else [_variant(stem, v, step) for v in range(1, per_image + 1)]
            names[source] = [f"{name}.png" for name in (*variants, *[stem] * originals)]
        uses = Counter(name.casefold() for own in names.values() for name in own)
        clashing = {s for s, own in names.items() if any(uses[name.casefold()] > 1 for name in own)} - kept
        if not clashing:
            break
        kept |= clashing
    cut = per_image if originals else None
    return [
        Task(source, own[0], tuple(own[1:cut]), own[-1] if originals else "", identity_of(source, identity))
        for source, own in names.items()
    ]


def identity_of(source: str, level: int = INNERMOST) -> str:
    """Who is on a picture of a recognition set: the name of a folder on its path, "" where there is no such folder.

    level: counted from IN, 1 is the first, or from the picture, −1 is the folder that holds it: right for LFW
    (Ann/Ann_0001.jpg), CASIA (0000045/001.jpg) and VGGFace2 (train/n000002/0001_01.jpg). Where there are folders within
    a person's (YouTube Faces, Ann/0/1.jpg), it is 1, or −2.
    """
    folders = source.split("/")[:-1]
    place = level - 1 if level > 0 else len(folders) + level
    return folders[place] if 0 <= place < len(folders) else ""


def _number(stem: str) -> int:
    path = PurePosixPath(stem)
    match = _NUMBERED.fullmatch(path.name)
    return int(match["number"]) if match and match["name"] == path.parent.name else -1


def _variant(stem: str, variant: int, step: int) -> str:
    if (number := _number(stem)) < 0:
        return f"{stem}_mask{variant}"
    return f"{stem.rpartition('_')[0]}_{number + variant * step:04d}"


def check_folders(in_dir: Path, out_dir: Path, others: Iterable[tuple[str, Path]] = ()) -> None:
    """Refuse folders that are not there or lie in each other. others: (option, path) of what is read besides.

    Raises AugmentError.
    """
    if not in_dir.exists():
        raise AugmentError(f"{in_dir}: no such folder")
    if not in_dir.is_dir():
        raise AugmentError(f"{in_dir}: is a file; give the folder that holds the pictures")
    source, target = in_dir.resolve(), out_dir.resolve()
    if source == target:
        raise AugmentError(f"{out_dir}: IN and OUT are the same folder; give OUT a folder of its own")
    if target.is_relative_to(source):
        raise AugmentError(f"{out_dir}: lies inside IN, its pictures would be taken for input; choose another folder")
    if source.is_relative_to(target):
        raise AugmentError(f"{in_dir}: lies inside OUT, originals and outputs would mix; choose another OUT")
    if out_dir.exists() and not out_dir.is_dir():
        raise AugmentError(f"{out_dir}: is a file; OUT must be a folder (it is created)")
    for option, path in others:
        if not path.exists():
            raise AugmentError(f"{option} {path}: no such file or folder")
        if (other := path.resolve()).is_relative_to(target):
            raise AugmentError(f"{option} {path}: lies inside OUT, where it would be overwritten; choose another OUT")
        if path.is_dir() and target.is_relative_to(other):
            raise AugmentError(f"{out_dir}: lies inside the folder of {option}; choose another OUT")


def list_sources(in_dir: Path) -> list[str]:
    """Relative paths of all pictures under `in_dir`, sorted. AugmentError where there are none."""
    try:
        paths = [path.relative_to(in_dir).as_posix() for path in list_images(in_dir)]
    except OSError as error:  # a folder in it that may not be listed
        raise AugmentError(f"{error}; make it readable or move it out of {in_dir}") from None
    if not paths:
        raise AugmentError(f"{in_dir}: no pictures found (looked at any depth for {' '.join(sorted(IMAGE_SUFFIXES))})")
    return paths


def hidden_folders(in_dir: Path) -> list[str]:
    """Relative paths of the folders that `list_sources` passes over and that hold pictures, sorted."""
    found, seen = [], set()
    for folder, subfolders, _ in os.walk(in_dir, followlinks=True):
        real = os.path.realpath(folder)
        hidden = [Path(folder, name) for name in subfolders if name.startswith(".")]
        subfolders[:] = [] if real in seen else [name for name in subfolders if not name.startswith(".")]
        for path in hidden if real not in seen else ():
            with contextlib.suppress(OSError):
                found += [path.relative_to(in_dir).as_posix()] * bool(list_images(path))
        seen.add(real)
    return sorted(found)


def work_digest(tasks: Sequence[Task]) -> dict[str, str]:
    """What a run's fingerprint tells of the faces that --labels or --replay name: a hash; nothing where neither is."""
    labels, replay = hashlib.sha256(), hashlib.sha256()
    for task in tasks:
        for digest, given in ((labels, task.labels), (replay, task.stored)):
            if given is not None:
                digest.update(repr((task.source, given, task.sha256)).encode("utf-8", "surrogateescape"))
    none = hashlib.sha256().digest()
    named = (("labels", labels), ("replay", replay))
    return {option: digest.hexdigest() for option, digest in named if digest.digest() != none}


def changes(before: dict, now: dict) -> list[str]:
    """Where the fingerprints of two runs differ, in words of the command line."""
    if before.get("format") != now.get("format"):
        return [f"written by another version of this tool, format {before.get('format')}, now {now.get('format')}"]
    differing = [name for name in dict.fromkeys((*now, *before)) if before.get(name) != now.get(name)]
    if "checkpoint" in differing:  # what follows from it; each of them has a name of its own where it alone differs
        differing = [name for name in differing if name not in ("checkpoint_sha256", "preset")]
        if "rule-only" in (before["checkpoint"], now["checkpoint"]):
            differing = [name for name in differing if name not in ("margin", "crop_scale", "size")]
    if "replay" in differing:
        differing = [name for name in differing if name != "preset"]
    return [_told(name, before.get(name), now.get(name)) for name in differing]


def _told(name: str, was: object, now: object) -> str:
    option = f"--{name.replace('_', '-')}"
    if name == "input":
        return f"IN was {was}, now {now}"
    if name in ("labels", "replay") and was and now:  # hashes of what they tell
        return f"{option} tells of other faces now"
    if name == "checkpoint_sha256":
        return "--checkpoint has other weights now"
    if name == "checkpoint" and "rule-only" in (was, now):
        was, now = ("--rule-only" if value == "rule-only" else f"--checkpoint {value}" for value in (was, now))
        return f"it was {was}, now {now}"

    def word(value: object) -> str:
        given = value is True or (value and name in ("labels", "replay"))
        return "given" if given else "not given" if value is None or value is False else str(value)

    return f"{option} was {word(was)}, now {word(now)}"
