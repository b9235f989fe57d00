"""What is there of each data set on disk, beside the published counts (each reader's PUBLISHED), and what is missing.

A data set is known by its layout; a folder may be one or hold several. MAFA's labels are also held against the counts
of the paper's funnel.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import pandas as pd

from lib.data import fddb, ffhq, mafa, maskedface_net, pairs, rmfd, wider
from lib.data.detection import read_detection
from lib.data.files import LEAVES, MISSING
from lib.data.filters import MINIMUM_PX, PAPER_COUNTS, funnel, paper_steps
from lib.data.folder import read_folder


@dataclass
class Report:
    """What was found of one part of a data set. Counts: what, found, published (or None), verdict, note."""

    name: str
    root: Path
    counts: list[dict] = field(default_factory=list)
    reasons: list[dict] = field(default_factory=list)  # reason, count, first (picture)
    problems: list[str] = field(default_factory=list)  # something is missing, damaged, or not as published
    notes: list[str] = field(default_factory=list)
    damaged: list[dict] = field(default_factory=list)  # image, reason
    table: pd.DataFrame | None = None
    more: list[Path] = field(default_factory=list)  # pictures that are in no row

    def count(self, what: str, found: int, published: int | None = None, note: str = "", exact: bool = False) -> None:
        """Note a number; fewer than published is a problem, with `exact` more is one, too."""
        verdict = "" if published is None else "OK" if found == published else f"differs by {found - published:+,}"
        self.counts.append({"what": what, "found": found, "published": published, "verdict": verdict, "note": note})
        if published is not None and (found < published or (exact and found > published)):
            self.problems.append(f"{what}: {found:,} found, {published:,} published")

    def read(
        self, read: Callable[[], pd.DataFrame], images: int | None = None, faces: int | None = None, needed: bool = True
    ) -> bool:
        """Take a reader's table and count it; an error is a problem, a missing part that is not `needed` a note."""
        try:
            self.table = table = read()
        except (OSError, ValueError) as error:
            optional = isinstance(error, FileNotFoundError) and not needed
            (self.notes if optional else self.problems).append(str(error))
            return False
        self.count("pictures", table["image"].nunique(), images)
        self.count("faces", len(table), faces)
        self.count("usable", int((table["reason"] == "").sum()))
        against = table[table["reason"] != ""]
        for _, rows in against.groupby(against["reason"].map(_kind_of), sort=False):
            kind = rows["reason"].iloc[0] if rows["reason"].nunique() == 1 else _kind_of(rows["reason"].iloc[0])
            self.reasons.append({"reason": kind, "count": len(rows), "first": rows["image"].iloc[0]})
            self._judge(rows)
        self.reasons.sort(key=lambda row: -row["count"])
        return True

    def _judge(self, rows: pd.DataFrame) -> None:
        reason, first = rows["reason"].iloc[0], self.root / rows["image"].iloc[0]
        count = rows["image"].nunique()
        if reason == MISSING:
            self.problems.append(f"{count:,} pictures are missing; the first is expected at {first}")
        elif reason == LEAVES:
            self.problems.append(f"{count:,} names lead out of the data set and are not followed; the first: {first}")
        elif reason.startswith("label file is damaged"):
            self.problems.append(f"{count:,} label files are damaged; the first is that of {first} ({reason[22:]})")
        elif reason.startswith("picture ") and reason != "picture listed again":
            self.problems.append(f"{count:,} pictures are damaged; the first: {first} ({reason.split(' ', 1)[1]})")


def _kind_of(reason: str) -> str:
    """Reasons that differ only in names and numbers are one kind."""
    return re.sub(r"\S*\d\S*", "…", reason)


# --------------------------------------------------------------------------------------- one function per data set
def _mafa(root: Path, deep: bool) -> list[Report]:
    reports = []
    for split, published in mafa.PUBLISHED.items():
        report = Report(f"MAFA, {split}", root)
        reports.append(report)
        read = lambda split=split: mafa.read_mafa(root, split, sizes=deep)  # noqa: E731
        if report.read(read, published["images"], published["faces"], needed=split == "train") and split == "train":
            small = int((report.table[["w", "h"]].min(axis=1) < MINIMUM_PX).sum())
            report.count(f"faces under {MINIMUM_PX} px", small, published["under_60px"], exact=True)
            marked, _ = funnel(report.table, paper_steps())
            for stage in ("stage1", "stage2"):  # of the label file, whether the pictures are there or not
                count = int(marked[stage].sum())
                report.count(f"paper's {stage}", count, PAPER_COUNTS[stage], "of the labels' rows", exact=True)
    return reports


def _maskedface_net(kind: str) -> Callable[[Path, bool], list[Report]]:
    def look(root: Path, deep: bool) -> list[Report]:
        report = Report(kind, root)
        published = maskedface_net.PUBLISHED[kind]
        report.read(lambda: maskedface_net.read_maskedface_net(root, kind), published)
        return [report]

    return look


def _ffhq(root: Path, deep: bool) -> list[Report]:
    report, labels = Report("FFHQ", root), root / "ffhq-dataset-v2.json"
    report.read(lambda: ffhq.read_ffhq(root), ffhq.PUBLISHED["images"])
    if not labels.is_file():
        report.notes.append(f"no landmarks: {labels} is not there; without it they are detected")
    elif deep:
        try:
            report.count("faces with landmarks", len(ffhq.ffhq_landmarks(labels)), ffhq.PUBLISHED["images"])
        except (OSError, ValueError) as error:
            report.problems.append(str(error))
    return [report]


def _fddb(root: Path, deep: bool) -> list[Report]:
    report, published = Report("FDDB", root), fddb.PUBLISHED
    report.read(lambda: fddb.read_fddb(root), published["images"], published["faces"])
    report.count("folds", len(list(root.glob("FDDB-folds/FDDB-fold-*-ellipseList.txt"))), 10)
    try:
        report.more = fddb.pictures(root)
        report.count("pictures of the archive", len(report.more), published["archive"])
    except (OSError, ValueError) as error:
        report.problems.append(str(error))
    return [report]


def _wider(root: Path, deep: bool) -> list[Report]:
    reports = []
    for split, published in wider.PUBLISHED.items():
        reports.append(Report(f"WIDER FACE, {split}", root))
        read = lambda split=split: wider.read_wider(root, split, sizes=deep)  # noqa: E731
        reports[-1].read(read, published["images"], needed=split == "train")
    return reports


def _rmfd(root: Path, deep: bool) -> list[Report]:
    reports = []
    for kind in rmfd.KINDS:
        report = Report(kind, root)
        if not report.read(lambda kind=kind: rmfd.read_rmfd(root, kind), needed=False) or kind != "RMFRD":
            reports.append(report)
            continue
        published, table = rmfd.PUBLISHED["RMFRD"], report.table.query("reason == ''")
        people = {masked: set(table.loc[table["masked"] == masked, "identity"]) for masked in (0, 1)}
        note = f"{rmfd.CLAIMED_MASKED:,} are claimed, but no more are published"
        report.count("normal", int((table["masked"] == 0).sum()), published["normal"])
        report.count("masked", int((table["masked"] == 1).sum()), published["masked"], note)
        report.count("people, normal", len(people[0]), published["people"])
        report.count("people, masked", len(people[1]), published["masked_people"])
        report.count("people in both", len(people[0] & people[1]), published["people_in_both"])
        reports.append(report)
    if all(report.table is None for report in reports):
        reports[0].problems, reports[0].notes = reports[0].problems + reports[0].notes, []
    return reports


def _recognition(kind: str) -> Callable[[Path, bool], list[Report]]:
    def look(root: Path, deep: bool) -> list[Report]:
        report, published = Report(kind.upper(), root), pairs.PUBLISHED[kind]
        read = {"mfr2": pairs.read_mfr2, "lfw": pairs.read_lfw, "mlfw": read_folder}[kind]
        if report.read(lambda: read(root), published.get("images")) and "people" in published:
            report.count("people", report.table["identity"].replace("", None).nunique(), published["people"])
        places = [root / "pairs.txt", root / kind / "pairs.txt"]
        path = next((place for place in places if place.is_file()), None)
        if path is None:
            report.problems.append(f"no pairs: {' or '.join(map(str, places))} is not there")
            return [report]
        try:
            found = pairs.read_pairs(path, root, kind)
        except (OSError, ValueError) as error:
            report.problems.append(str(error))
            return [report]
        report.count("pairs", len(found), published["pairs"])
        for reason, count in found["reason"].value_counts().items():
            if reason:
                report.problems.append(f"{path}: {count:,} of {len(found):,} pairs cannot be used: {reason}")
        return [report]

    return look


def _detection(kind: str) -> Callable[[Path, bool], list[Report]]:
    def look(root: Path, deep: bool) -> list[Report]:
        report = Report(kind.upper(), root)
        if report.read(lambda: read_detection(root, kind)[0]):
            if not report.table["label_file"].fillna("").ne("").any():
                report.problems.append(f"{root}: no {kind.upper()} labels, only pictures; name the set's root folder")
            boxes = report.table[report.table["label_entry"] >= 0]
            report.count("boxes", len(boxes))
            for label, count in boxes["label"].value_counts().items():
                report.count(f"boxes, {label or 'without a class'}", count)
        return [report]

    return look


def _folder(root: Path, deep: bool) -> list[Report]:
    report = Report("folder of pictures", root)
    report.read(lambda: read_folder(root))
    return [report]


def _people(folder: Path) -> Path | None:
    """A picture `name/name_0001.jpg` of LFW without its folder's name above: beside pairs.txt, or in a folder lfw…"""
    if not ((folder / "pairs.txt").is_file() or folder.resolve().name.lower().startswith("lfw")):
        return None
    if (folder / pairs.LABELS).is_file():  # MFR2 is laid out alike
        return None
    return next((p for p in folder.glob("*/*_[0-9][0-9][0-9][0-9].*") if p.stem[:-5] == p.parent.name), None)


_D, _ID = "[0-9]", "[0-9]" * 5
Sign = str | Callable[[Path], Path | None]  # a pattern in the folder, or a function that looks there
KINDS: dict[str, tuple[tuple[Sign, ...], Callable[[Path, bool], list[Report]]]] = {  # name: known by, looked at by
    "mafa": (("MAFA-Label-*", "LabelTrainAll.mat", "LabelTestAll.mat"), _mafa),
    "cmfd": (("CMFD", f"{_ID}_Mask.*", f"{_ID}/{_ID}_Mask.*"), _maskedface_net("CMFD")),
    "imfd": (("IMFD", f"{_ID}_Mask_*", f"{_ID}/{_ID}_Mask_*"), _maskedface_net("IMFD")),
    "ffhq": (("images1024x1024", "thumbnails128x128", "ffhq-dataset-v2.json", f"{_ID}.png", f"{_ID}/{_ID}.png"), _ffhq),
    "fddb": (("FDDB-folds", "originalPics"), _fddb),
    "wider": (("wider_face_split", "wider_face_*_bbx_gt.txt", "WIDER_*"), _wider),
    "rmfd": (("self-built-masked-face-recognition-dataset", "AFDB_*face_dataset", "RWMFD_part_*", "SMFRD"), _rmfd),
    "mfr2": (("mfr2/mfr2_labels.txt", "mfr2_labels.txt"), _recognition("mfr2")),
    "lfw": (("lfw", "lfw[-_]*funneled", "pairsDev*.txt", _people), _recognition("lfw")),
    "mlfw": ((f"*_{_D * 4}_{_D * 4}.jpg", f"*/*_{_D * 4}_{_D * 4}.jpg"), _recognition("mlfw")),
    "coco": (("annotations/instances_*.json", "*.coco.json", "train/*.coco.json"), _detection("coco")),
    "voc": (("[Aa]nnotations/*.xml", "VOC*/Annotations"), _detection("voc")),
    "yolo": (("data.yaml", "labels/*.txt", "labels/*/*.txt", "train/labels/*.txt"), _detection("yolo")),
    "folder": ((), _folder),
}  # fmt: skip


def recognise(root: Path) -> list[tuple[str, Path]]:
    """(kind, folder) of every data set in `root` or one folder below; of none known: ("folder", root)."""

    def there(folder: Path, sign: Sign) -> Path | None:
        return next(folder.glob(sign), None) if isinstance(sign, str) else sign(folder)

    def kinds(folder: Path) -> list[str]:
        return [kind for kind, (signs, _) in KINDS.items() if any(there(folder, sign) for sign in signs)]

    found = [(kind, root) for kind in kinds(root)]
    here = {kind for kind, _ in found}
    below = sorted(path for path in root.iterdir() if path.is_dir() and path.name[0] != ".")
    found += [(kind, folder) for folder in below for kind in kinds(folder) if kind not in here]
    return found or [("folder", root)]
