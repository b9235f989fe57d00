"""Pairs files of recognition sets, extended to masked faces.

Of every pair two are made: its second picture masked (`unmasked-masked`), and both (`masked-masked`), each with the
pictures' first variants. A picture without a mask, or whose file is missing, leaves its pairs out; they are counted.

`OUT/pairs/pairs.csv` lists all with the paths of their files. Beside it, for tools that read nothing else, a text of
each kind in the style of the source, for OUT/images as the root: by name and number (LFW, MFR2) where all of its files
are called so, else by the files' names and 1 or 0 (MLFW). With folds in the source, the text keeps LFW's header and
equally many pairs in all of them: what is too much is in the CSV alone.
"""

from __future__ import annotations

import os
import re
from pathlib import Path, PurePosixPath

import pandas as pd

from lib.augment.tasks import AugmentError
from lib.data.files import write_table, write_text
from lib.data.images import IMAGE_SUFFIXES
from lib.data.pairs import read_pairs

KINDS = ("unmasked-masked", "masked-masked")
COLUMNS = ("kind", "fold", "same", "path1", "path2", "source1", "source2")
NO_TEXT = "pairs_unmasked_masked.txt is not written: it needs the untouched pictures in OUT, --originals"
_SETS = ("lfw", "mfr2", "mlfw")
_NUMBERED = re.compile(r"(.+)_([0-9]{4,9})")


def read_any(path: Path | str, in_dir: Path) -> pd.DataFrame:
    """`lib.data.pairs.read_pairs` by the set whose layout finds most pictures in IN. AugmentError where none fits."""
    try:
        with Path(path).open("rb") as file:
            if b"\0" in file.read(4096):
                raise AugmentError(f"--pairs {path}: is no text; give the list of pairs, as LFW's pairs.txt")
        tables = [read_pairs(path, in_dir, kind) for kind in _SETS]
    except AugmentError:
        raise
    except (ValueError, OSError) as error:
        raise AugmentError(f"--pairs: {' '.join(str(error).split())}") from None
    return min(tables, key=lambda table: int((table["reason"] != "").sum()))


def write_pairs(
    out_dir: Path, in_dir: Path, path: Path | str, manifest: pd.DataFrame
) -> tuple[list[Path], dict[str, int]]:
    """Write the extended pairs; gives the files, and how many pairs there are of each kind and "left out" of which
    reason.

    manifest: of the run, with `output` and `original`. Where the originals are not in OUT, the CSV names those of IN.
    """
    table = read_any(path, in_dir)
    first = manifest[(manifest["variant"] == 1) & (manifest["status"] == "masked")]
    masked = dict(zip(first["source"], first["output"]))
    originals = {row.source: row.original for row in manifest.itertuples() if row.original}
    rows, counts = [], dict.fromkeys(KINDS, 0)

    def bare(source: str) -> str:
        return originals.get(source) or Path(os.path.relpath(in_dir / source, out_dir)).as_posix()

    def left_out(reason: str) -> None:
        counts[f"left out ({reason})"] = counts.get(f"left out ({reason})", 0) + 1

    for pair in table.itertuples():
        if pair.reason:
            left_out(pair.reason)
            continue
        for kind in KINDS:
            if pair.image2 not in masked or (kind == KINDS[1] and pair.image1 not in masked):
                left_out(f"{kind}, no mask")
                continue
            one = masked[pair.image1] if kind == KINDS[1] else bare(pair.image1)
            rows.append((kind, pair.fold, pair.same, one, masked[pair.image2], pair.image1, pair.image2))
            counts[kind] += 1
    extended = pd.DataFrame(rows, columns=COLUMNS)
    paths = [write_table(out_dir / "pairs" / "pairs.csv", extended)]
    header = _header(Path(path))
    for kind in KINDS:
        text = _text(extended[extended["kind"] == kind], header, _named_by_file(Path(path)))
        if text:
            paths.append(write_text(out_dir / "pairs" / f"pairs_{kind.replace('-', '_')}.txt", text))
    return paths, counts


def _lines(path: Path) -> list[list[str]]:
    text = path.read_text(encoding="utf-8-sig", errors="replace")
    return [line.split("\t") if "\t" in line else line.split() for line in text.split("\n") if line.strip()]


def _header(path: Path) -> int:
    """Numbers in the first line, if it holds nothing else: 2 of `10 300`, 1 of `1100`."""
    first = _lines(path)[0]
    return len(first) if len(first) <= 2 and all(field.strip().isdigit() for field in first) else 0


def _named_by_file(path: Path) -> bool:
    return any(Path(field.strip()).suffix.lower() in IMAGE_SUFFIXES for line in _lines(path) for field in line)


def _text(pairs: pd.DataFrame, header: int, by_file: bool) -> str:
    """ "" where a file is not below OUT/images."""
    under = [path.startswith("images/") for name in ("path1", "path2") for path in pairs[name]]
    if pairs.empty or not all(under):
        return ""
    lines = [_line(row, by_file) for row in pairs.itertuples()]
    if None in lines:
        lines = [_line(row, by_file=True) for row in pairs.itertuples()]
    if not header:
        return "".join(f"{line}\n" for line in lines)
    parts = [(fold, same) for fold in sorted(set(pairs["fold"])) for same in (True, False)]
    keys = list(zip(pairs["fold"], pairs["same"]))
    sizes = [keys.count(part) for part in parts]
    if not (most := min(sizes)):
        return ""
    head = f"{len(parts) // 2}\t{most}" if header == 2 else str(most)
    chosen = [[line for line, key in zip(lines, keys) if key == part][:most] for part in parts]
    return "".join(f"{line}\n" for line in (head, *(line for part in chosen for line in part)))


def _line(row: tuple, by_file: bool) -> str | None:
    """None where a file has no number."""
    files = [path.removeprefix("images/") for path in (row.path1, row.path2)]
    if by_file:
        return "\t".join((*files, str(int(row.same))))
    named = []
    for file in files:
        path = PurePosixPath(file)
        match = _NUMBERED.fullmatch(path.stem)
        if match is None or match[1] != path.parent.name:
            return None
        named.append((match[1], str(int(match[2]))))
    (name1, number1), (name2, number2) = named
    return "\t".join((name1, number1, number2) if row.same else (name1, number1, name2, number2))
