"""`python -m lib.data check ROOT …`: which data sets are there, their pictures and faces, and what is missing where."""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path

from tqdm.auto import tqdm

from lib.data.files import NOT_OPENED, write_json
from lib.data.images import ImageError, read_image
from lib.data.maskedface_net import PUBLISHED as MASKED
from lib.data.survey import KINDS, Report, recognise
from lib.data.workers import Pool, WorkerCrashed

_LISTED = 10  # reasons and damaged files that are printed; --json has all
_FEW = 400  # pictures that are decoded before processes have started


def check(roots: list[Path], kind: str | None = None, deep: bool = False) -> list[Report]:
    """Look at every data set in the roots. Nothing is raised for bad data: it is in the reports."""
    reports = []
    for root in roots:
        for name, folder in [(kind, root)] if kind else recognise(root):
            reports += KINDS[name][1](folder, deep)
    full = {identity for r in reports if r.name == "FFHQ" for identity in _usable_ids(r)}
    for report in reports:
        if full and report.name in MASKED and (ids := _usable_ids(report)):
            matched = sum(identity in full for identity in ids)
            text = f"{matched:,} of {len(ids):,} have their full face in FFHQ, by id"
            (report.notes if matched == len(ids) else report.problems).append(text)
    if deep:
        _decode_all(reports)
    return reports


def _usable_ids(report: Report) -> list[str]:
    return [] if report.table is None else report.table.query("reason == ''")["identity"].tolist()


def _decode_all(reports: list[Report]) -> None:
    tasks = {}  # path → the report it is listed in, first come
    for report in reports:
        if report.table is not None:
            there = ~report.table["reason"].isin(NOT_OPENED)
            for name in report.table.loc[there, "image"].unique():
                tasks.setdefault(report.root / name, report)
        for path in report.more:
            tasks.setdefault(path, report)
    with Pool(_damage, os.cpu_count() or 1 if len(tasks) > _FEW else 0, backlog=8) as pool:
        for path, reason in tqdm(pool.run(tasks), total=len(tasks), desc="decoding", unit="picture", disable=None):
            if reason:
                reason = str(reason) if isinstance(reason, WorkerCrashed) else reason
                tasks[path].damaged.append({"image": str(path), "reason": reason})
    for report in reports:
        report.damaged.sort(key=lambda row: row["image"])
        if report.damaged:
            report.problems.append(f"{len(report.damaged):,} pictures cannot be decoded")


def _damage(path: Path) -> str:
    try:
        read_image(path)
    except ImageError as error:
        return error.reason
    return ""


# -------------------------------------------------------------------------------------- python -m lib.data check
def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of the command."""
    parser.description = "Say what is in data sets on disk, against the published counts, and what is missing where."
    parser.epilog = "exit status: 0 all as published, 1 something missing or damaged, 2 wrong usage"
    parser.add_argument("roots", metavar="ROOT", type=Path, nargs="+", help="a data set, or a folder of several")
    parser.add_argument("--kind", choices=KINDS, help="what every ROOT is (default: known by its layout)")
    parser.add_argument("--json", metavar="FILE", type=Path, help="write the findings there, too, in full")
    parser.add_argument("--deep", action="store_true", help="decode every picture, and see which boxes lie outside")


def run(args: argparse.Namespace) -> int:
    """The command; gives the exit status: 0 all right, 1 something missing or damaged, 2 a ROOT that is no folder."""
    for root in args.roots:
        if not root.is_dir():
            print(f"error: {root}: {'is a file' if root.exists() else 'no such folder'}", file=sys.stderr)
            return 2
    reports = check(args.roots, args.kind, args.deep)
    for report in reports:
        print("\n".join(_lines(report)), end="\n\n")
    bad = sum(bool(report.problems) for report in reports)
    parts = "1 part" if len(reports) == 1 else f"{len(reports)} parts"
    print(f"{parts}, {f'{bad} with problems' if bad else 'all right'}")
    if args.json:
        names = ("name", "counts", "reasons", "problems", "notes", "damaged")
        rows = [{"root": str(report.root)} | {name: getattr(report, name) for name in names} for report in reports]
        write_json(args.json, {"all_right": not bad, "reports": rows})
    return int(bad > 0)


def _lines(report: Report) -> list[str]:
    lines = [f"{report.name}   {report.root}"]
    for c in report.counts:
        published = "" if c["published"] is None else f"   published {c['published']:>7,}   {c['verdict']}"
        lines.append(f"  {c['what']:<24}{c['found']:>8,}{published}{'   (' + c['note'] + ')' if c['note'] else ''}")
    for row in report.reasons[:_LISTED]:
        lines.append(f"  not usable {row['count']:>21,}   {row['reason']} (first: {row['first']})")
    if len(report.reasons) > _LISTED:
        lines.append(f"  and {len(report.reasons) - _LISTED} more reasons (--json has all)")
    lines += [f"  ! {text}" for text in report.problems]
    lines += [f"  ! {row['image']}: {row['reason']}" for row in report.damaged[:_LISTED]]
    if len(report.damaged) > _LISTED:
        lines.append(f"  ! and {len(report.damaged) - _LISTED:,} more (--json has all)")
    return lines + [f"  {text}" for text in report.notes]
