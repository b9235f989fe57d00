"""A selection (`lib.data.curation`) that several windows, and several people, add to at once.

Each decision appends a row, and the latest on a face counts. Undo takes the rows of a step out again, as if it had not
been made. All writers of a file take turns by a lock beside it (`.selection.csv.lock`), and each takes in what the
others wrote before it writes itself.
"""

from __future__ import annotations

import csv
import fcntl
import io
import os
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pandas as pd

from lib.data import curation
from lib.data.files import write_bytes, write_table

Key = tuple[str, int]  # image, face
_TAIL = 4096  # bytes: a longer row would be a strange one


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Nobody else writes to `path` meanwhile: an exclusive lock on `.<name>.lock` beside it, shared by processes."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.with_name(f".{path.name}.lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


class SelectionFile:
    """The file, and what it says now.

    latest: the row that counts for each face, as `curation.merge` has it. opinions: for each face, who decided what
    last, those of `others` (files that are only read) included. Raises ValueError for a file that is no selection.
    """

    def __init__(self, path: Path | str, by: str = "", others: Iterable[Path | str] = ()):
        self.path, self.by = Path(path), by.strip()
        self.latest: dict[Key, dict] = {}
        self.opinions: dict[Key, dict[str, dict]] = {}
        self._rows: dict[Key, list[dict]] = {}  # as they stand in the file
        self._seen: tuple = ()  # the file's state when `_rows` was read: inode, size, time of change
        self._tail = b""  # and its last bytes: a row is only ever added behind them, so that they show where it was
        self._others: dict[Key, list[dict]] = {}
        for other in others:
            _sort_in(self._others, curation.read_selection(other))
        with locked(self.path):
            self._mend()
            self._read()

    def refresh(self) -> None:
        """Take in what other windows wrote. Raises ValueError where the file is no selection any more."""
        with locked(self.path):
            self._refresh()

    def add(self, decisions: Iterable[tuple[Key, str, str]]) -> list[tuple[bytes, dict]]:
        """Append (face, decision, reason) rows in one write, flushed to disk. Returns what `undo` takes.

        Raises ValueError for what is no decision on a face, OSError where writing fails; the file then is as it was.
        """
        decisions = list(decisions)
        for (image, face), decision, _ in decisions:
            if fault := curation.fault(image, face, decision):
                raise ValueError(f"{self.path}: {fault}; nothing was written")
        with locked(self.path):
            self._refresh()
            now, rows = datetime.now(UTC), []
            for key, decision, reason in decisions:
                at = now
                if key in self.latest:  # later than what it overrules, even if that clock ran ahead
                    at = max(now, curation._instant(self.latest[key]["time"]) + timedelta(milliseconds=1))
                row = {"image": key[0], "face": key[1], "decision": decision, "reason": " ".join(reason.split())}
                rows.append(row | {"by": self.by, "time": at.isoformat(timespec="milliseconds")})
            header = self._header()
            lines = [_line(header, row) for row in rows]
            start = b"" if self._seen else _line(header, dict(zip(header, header)))
            size = self._seen[1] if self._seen else 0
            with self.path.open("ab") as file:
                try:
                    file.write(start + b"".join(lines))
                    file.flush()
                    os.fsync(file.fileno())
                except OSError:
                    os.truncate(self.path, size)
                    raise
            for row in rows:
                self._rows.setdefault((row["image"], row["face"]), []).append(row)
            self._settle((row["image"], row["face"]) for row in rows)
            self._remember()
        return list(zip(lines, rows))

    def undo(self, step: list[tuple[bytes, dict]]) -> bool:
        """Take the rows of a step out again. False where they are no longer there as they were written."""
        with locked(self.path):
            self._refresh()
            lines = self.path.read_bytes().splitlines(keepends=True) if self._seen else []
            for line, _ in reversed(step):
                if line not in lines:
                    return False
                del lines[len(lines) - 1 - lines[::-1].index(line)]
            if len(lines) > 1:
                write_bytes(self.path, b"".join(lines))
            else:
                self.path.unlink()
            for _, row in step:
                self._rows[row["image"], row["face"]].remove(row)
            self._settle((row["image"], row["face"]) for _, row in step)
            self._remember()
        return True

    def _refresh(self) -> None:
        if (state := self._state()) == self._seen:
            return
        added = b""
        if state and self._seen and state[1] > self._seen[1]:
            with self.path.open("rb") as file:
                file.seek(self._seen[1] - len(self._tail))
                added = file.read(state[1] - self._seen[1] + len(self._tail))
        if not added.startswith(self._tail) or not added.endswith(b"\n"):
            self._mend()
            self._read()  # not only added to: somebody undid something, or was cut short
            return
        text = added[len(self._tail) :].decode()
        try:
            rows = curation.make_selection(list(csv.DictReader(io.StringIO(text, newline=""), self._header())))
        except ValueError:
            self._read()  # names the line
            return
        self._settle(_sort_in(self._rows, rows))
        self._remember()

    def _read(self) -> None:
        self._rows, self.latest, self.opinions = {}, {}, {}
        _sort_in(self._rows, curation.read_selection(self.path) if self._state() else curation.make_selection([]))
        self._settle(self._rows.keys() | self._others.keys())
        self._remember()

    def _settle(self, keys: Iterable[Key]) -> None:
        """What counts for these faces, from their rows."""
        for key in keys:
            mine = sorted(self._rows.get(key, ()), key=lambda row: curation._instant(row["time"]))
            others = sorted(self._others.get(key, ()), key=lambda row: curation._instant(row["time"]))
            self.opinions[key] = {row["by"]: row for row in (*others, *mine)}
            if mine:
                self.latest[key] = mine[-1]
            else:
                self.latest.pop(key, None)

    def _state(self) -> tuple:
        try:
            stat = self.path.stat()
        except FileNotFoundError:
            return ()
        return (stat.st_ino, stat.st_size, stat.st_mtime_ns) if stat.st_size else ()

    def _remember(self) -> None:
        self._seen, self._tail = self._state(), b""
        if self._seen:
            with self.path.open("rb") as file:
                file.seek(max(0, self._seen[1] - _TAIL))
                self._tail = file.read()

    def _header(self) -> list[str]:
        if not self._seen:
            return list(curation.COLUMNS)
        with self.path.open(encoding="utf-8-sig", newline="") as file:
            return next(csv.reader(file))

    def _mend(self) -> None:
        """Make the file one that can be added to: it ends with a whole line and has all columns."""
        if not self._state():
            return
        content = self.path.read_bytes()
        try:
            curation.read_selection(self.path)
        except ValueError:
            whole = content[: content.rfind(b"\n") + 1]
            if not whole or whole == content:
                raise
            # Was the last line cut short, by a full disk or a crash? Then its decision was never confirmed.
            with tempfile.TemporaryDirectory() as folder:
                try:
                    curation.read_selection(write_bytes(Path(folder) / self.path.name, whole))
                except ValueError:
                    whole = b""
            if not whole:
                raise
            content = whole
            write_bytes(self.path, content)
        if not content.endswith(b"\n"):
            write_bytes(self.path, content + b"\n")
        self._seen = self._state()
        if added := {name: "" for name in curation.COLUMNS if name not in self._header()}:
            table = pd.read_csv(self.path, dtype=str, keep_default_na=False, encoding="utf-8-sig")
            write_table(self.path, table.assign(**added))


def _line(header: list[str], row: dict) -> bytes:
    text = io.StringIO()
    csv.DictWriter(text, header, restval="", lineterminator="\n").writerow(row)
    return text.getvalue().encode()


def _sort_in(rows: dict[Key, list[dict]], selection: pd.DataFrame) -> set[Key]:
    """Put a selection's rows behind those of the same faces; gives the faces."""
    keys = set()
    for row in selection.to_dict("records"):
        keys.add(key := (row["image"], row["face"]))
        rows.setdefault(key, []).append(row)
    return keys
