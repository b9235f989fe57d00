"""What a run has done so far: `OUT/.journal.jsonl`, append-only, one JSON object a line, written at once.

    {"kind": "run", …fingerprint…}                      first line: what the folder was made with
    {"kind": "start", "source": …, "files": […]}        before a picture is begun: the files it may leave behind
    {"kind": "picture", "source": …, "files": {…}, …}   after its files are in place, with their SHA-256, and what the
                                                        disk said of them: "seen": [[size, mtime_ns], …], source first

A run killed at any moment leaves whole files (outputs appear by rename) and at most one torn last line, which is cut
off. Going on means: what is recorded and still on disk as recorded is kept, everything else is done again. A file of
the same size and time of change is taken for the same; any other is read and its SHA-256 compared.
"""

import contextlib
import csv
import json
import os
import re
import time
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from pathlib import Path

from lib.augment.options import AugmentError, Task, tensor_path
from lib.augment.tasks import changes
from lib.data.detection import FORMATS
from lib.data.files import sha256

NAME = ".journal.jsonl"
OURS = ("images/", "regions/", "tensors/", "labels/", "pairs/")
SUFFIXES = {"images": ".png", "regions": ".png", "tensors": ".safetensors"}  # of all files in there
RETRIED = ("error", "crash")  # kinds of failure that another run may not meet
SYNC = 1.0  # s between two orders to the disk; a power cut may cost the records of that time, and so their work
TABLES = ("manifest.csv", "manifest.parquet", "landmarks.csv", "failures.csv", "report.html", "run.json")


class Journal:
    """The journal of `out_dir`, opened for this run.

    Args:
        out_dir: Created if missing. A folder that is neither empty nor a run's is refused, with or without `force`.
        fingerprint: What shapes the outputs (`Options.fingerprint`).
        force: Remove the files the journal lists, where it is damaged also those of manifest.csv, and no others, and
            start afresh.

    Raises:
        AugmentError: A folder of somebody else, other options or a damaged journal without `force`, a second run at the
            same time.
    """

    def __init__(self, out_dir: Path, fingerprint: dict, force: bool = False) -> None:
        self.out_dir, self.path = out_dir, out_dir / NAME
        self.done: dict[str, int] = {}  # source → where its record begins; the records themselves stay on disk
        self.begun: dict[str, list[int]] = {}  # source → [size, mtime_ns] of the picture before it was read
        self.synced = 0.0
        try:
            out_dir.mkdir(parents=True, exist_ok=True)
            foreign = sorted(path.name for path in out_dir.iterdir() if not path.name.startswith("."))
            if not self.path.exists() and any((out_dir / name).exists() for name in ("run.json", "manifest.csv")):
                raise AugmentError(
                    f"{out_dir}: holds a run, but its {NAME} is missing (a copy without hidden files?); copy that too, "
                    "or choose another OUT"
                )
            if foreign and not self.path.exists():
                raise AugmentError(
                    f"{out_dir}: holds files this tool did not write ({foreign[0]}, …); choose an empty or new folder"
                )
            self.file = open(self.path, "a+b")  # noqa: SIM115  held open, and locked, as long as the run lasts
        except OSError as error:
            raise AugmentError(f"{out_dir}: cannot be written to ({error.strerror})") from None
        try:
            self._lock()
            self._read(fingerprint, force)
        except BaseException:
            self.file.close()
            raise

    def __enter__(self) -> "Journal":
        return self

    def __exit__(self, *_) -> None:
        with self.file:
            os.fsync(self.file.fileno())

    def start(self, task: Task, in_dir: Path) -> None:
        """Record that the task's files may appear from now on."""
        self.begun[task.source] = _seen(in_dir / task.source)
        tensors = [tensor_path(region) for _, region in task.variants.values()]  # with --tensors
        self._append({"kind": "start", "source": task.source, "files": [*task.outputs, *tensors]})

    def add(self, record: dict) -> None:
        """Record a picture as done; its files are in place."""
        # Noted before it is written: a Ctrl-C between the two must not hide a picture from the tables.
        self.done[record["source"]] = self.file.seek(0, os.SEEK_END)
        seen = [self.begun.pop(record["source"], None), *(_seen(self.out_dir / path) for path in record["files"])]
        self._append({**record, "seen": seen, "kind": "picture"})

    def note(self, files: list[str]) -> None:
        """Record files beside the pictures: labels and pairs, made when all are done."""
        self._append({"kind": "files", "files": files})

    def read(self) -> Iterator[dict]:
        """The records of all pictures that are done, sorted by source, one at a time."""
        for _, offset in sorted(self.done.items()):
            self.file.seek(offset)
            try:
                record = json.loads(self.file.readline())
            except ValueError:  # a Ctrl-C came before it was written
                continue
            yield record

    def keep_valid(self, in_dir: Path, tasks: Iterable[Task], prune: bool = False) -> int:
        """Drop the records that no longer hold, and remove their files: the picture changed or would now get another
        output name, an output is missing or differs, or the last attempt ended in an unexpected error (which may have
        passed). The record of a picture that has left IN stays as long as its outputs do.

        Args:
            in_dir: The folder of the pictures.
            tasks: Every picture in it.
            prune: Drop the records of pictures that have left IN.

        Returns:
            How many records of such pictures are left.
        """
        names = {task.source: task.name for task in tasks}
        taken = set(names.values())

        def holds(record: dict) -> bool:
            if any(failure["kind"] in RETRIED for failure in record["failures"]):
                return False
            seen = record.get("seen") or [None] * (1 + len(record["files"]))
            wanted = [(self.out_dir / path, digest) for path, digest in record["files"].items()]
            wanted = list(zip(wanted, seen[1:]))
            if record["source"] in names:
                wanted.append(((in_dir / record["source"], record["source_sha256"]), seen[0]))
                if record["name"] != names[record["source"]]:
                    return False
            elif prune or record["name"] in taken or not wanted:
                return False
            with contextlib.suppress(OSError):
                return all(_same(path, digest, known) for (path, digest), known in wanted)
            return False

        valid: set[str] = set()
        stale: set[str] = set()
        dropped: list[str] = []
        with ThreadPoolExecutor(4) as threads:  # reading and hashing both release the interpreter's lock
            stored = self.read()
            while records := list(islice(stored, 64)):
                for record, good in zip(records, threads.map(holds, records)):
                    (valid if good else stale).update(record["files"])
                    dropped += [] if good else [record["source"]]
        for source in dropped:
            del self.done[source]
        self._remove(sorted(stale - valid))
        return len(self.done.keys() - names.keys())

    def _lock(self) -> None:
        try:
            import fcntl
        except ImportError:  # Windows: no such lock; two runs in one folder are the user's care there
            return
        try:
            fcntl.flock(self.file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise AugmentError(f"{self.out_dir}: another run is writing here; wait for it or stop it") from None
        except OSError:
            return  # a file system without locks

    def _read(self, fingerprint: dict, force: bool) -> None:
        before, listed, done = None, set(), {}
        for offset, entry in self._lines():
            if entry.get("kind") == "run":
                before = entry
            listed.update(entry.get("files", ()))
            if entry.get("kind") == "picture" and "source" in entry:
                done[entry["source"]] = offset
        orphans = before is None and (listed or any((self.out_dir / name).exists() for name in TABLES))
        if orphans and not force:
            raise AugmentError(
                f"{self.path}: damaged, its first line does not tell which options the folder was made with; choose "
                "another OUT, or --force to remove what it and manifest.csv list and start afresh"
            )
        if before is None and not orphans:
            self.file.truncate(0)
            self._append({"kind": "run", **fingerprint})
            return
        if force:
            listed |= self._listed() if orphans else set()
            self.sweep(listed)
            self._remove(listed)
            self._remove(TABLES)
            self.file.truncate(0)
            self._append({"kind": "run", **fingerprint})
            return
        del before["kind"]
        if changed := changes(before, fingerprint):
            raise AugmentError(
                f"{self.out_dir}: holds a run with other options ({', '.join(changed)}); give the same options to go "
                "on, another OUT, or --force to remove that run's files and start afresh"
            )
        self.sweep(listed)
        self.done = done

    def _listed(self) -> set[str]:
        """The files that manifest.csv tells of, those of --pairs, and the labels in each format's folder."""
        found = {f"pairs/{path.name}" for path in self.out_dir.glob("pairs/pairs*") if path.suffix in (".csv", ".txt")}
        for folder in (self.out_dir / "labels" / name for name in FORMATS):
            found |= {path.relative_to(self.out_dir).as_posix() for path in folder.rglob("*") if path.is_file()}
        with (
            contextlib.suppress(OSError, ValueError, csv.Error),
            open(self.out_dir / "manifest.csv", encoding="utf-8", newline="") as file,
        ):
            for row in csv.DictReader(file):
                found |= {row.get(name) or "" for name in ("output", "region", "tensor", "original")}
        return found

    def _lines(self) -> Iterator[tuple[int, dict]]:
        """(offset, entry) of each line; cuts off a torn last one, passes over a damaged one (its picture is redone)."""
        self.file.seek(0)
        offset = 0
        while line := self.file.readline():
            if not line.endswith(b"\n"):
                self.file.truncate(offset)
                return
            with contextlib.suppress(ValueError):
                if isinstance(entry := json.loads(line), dict):
                    yield offset, entry
            offset += len(line)

    def _append(self, line: dict) -> None:
        self.file.seek(0, os.SEEK_END)
        self.file.write(json.dumps(line, ensure_ascii=True, separators=(",", ":")).encode() + b"\n")
        self.file.flush()
        if time.monotonic() - self.synced > SYNC:
            os.fsync(self.file.fileno())
            self.synced = time.monotonic()

    def _remove(self, paths: Iterable[str]) -> None:
        """Remove files of ours, and the folders that they leave empty; a path that leads elsewhere is ignored."""
        for relative in paths:
            if not _ours(relative):
                continue
            path = self.out_dir / relative
            path.unlink(missing_ok=True)
            with contextlib.suppress(OSError):  # not empty, or gone already
                while path.parent != self.out_dir:
                    path = path.parent
                    path.rmdir()

    def sweep(self, paths: Iterable[str] | None = None) -> None:
        """Remove the temporary files that killed processes left beside the files they were writing."""
        paths = [path for record in self.read() for path in record["files"]] if paths is None else paths
        names: dict[Path, set[str]] = {}
        for path in map(Path, filter(_ours, (*paths, *TABLES))):
            names.setdefault(self.out_dir / path.parent, set()).add(path.name[:80])  # as `write_bytes` names them
        for folder, expected in names.items():
            for path in folder.glob(".*.tmp"):
                partial = re.fullmatch(r"\.(.+)\.[0-9a-f]{8}\.tmp", path.name, re.DOTALL)
                if partial and partial[1] in expected:
                    path.unlink(missing_ok=True)


def _same(path: Path, digest: str, known: list[int] | None) -> bool:
    """Whether a file is as it was. Without a digest it could not be read then, which may have passed."""
    return bool(digest) and ((known is not None and known == _seen(path)) or sha256(path) == digest)


def _seen(path: Path) -> list[int] | None:
    """Size and time of change, ns; None where there is no such file."""
    try:
        status = path.stat()
    except OSError:
        return None
    return [status.st_size, status.st_mtime_ns]


def _ours(relative: str) -> bool:
    """A path that only this tool can have written, whatever a damaged journal says."""
    path = Path(relative)
    kind = SUFFIXES.get(path.parts[0] if path.parts else "", path.suffix) == path.suffix
    return relative in TABLES or (relative.startswith(OURS) and kind and ".." not in path.parts)
