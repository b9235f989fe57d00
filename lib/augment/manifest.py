"""The tables beside the pictures, made from the journal's records, and the summary of a run."""

import json
import platform
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import numpy as np
import pandas as pd

from lib.augment.steps import REDUCED
from lib.data.files import write_json, write_table
from lib.warp.landmarks import LANDMARK_COLUMNS, write_landmarks

COLUMNS = (
    *("source", "output", "region", "source_sha256", "face", "status", "x", "y", "w", "h", "score", "params", "order"),
    *("seed", "warp_seed", "noise_seed", "checkpoint", "checkpoint_sha256", "mask_x", "mask_y", "mask_w", "mask_h"),
    *("width", "height", "notes", "reason", "seconds"),
)
WHOLE = (
    *("face", "x", "y", "w", "h", "mask_x", "mask_y", "mask_w", "mask_h", "width", "height"),
    *("order", "seed", "warp_seed", "noise_seed"),
)
FAILURES = ("file", "face", "kind", "reason")
PACKAGES = ("numpy", "torch", "pillow", "scipy", "dlib-bin", "pandas", "safetensors")


@dataclass
class Summary:
    """What a run came to. Counts are over everything in OUT, also what an earlier run had done; `seconds` and
    `done_now` are of this run. `model`: which weights made the masks, in words."""

    out_dir: Path
    model: str = ""
    pictures: int = 0
    pictures_with_faces: int = 0
    pictures_masked: int = 0
    pictures_copied: int = 0
    pictures_reduced: int = 0
    faces_found: int = 0
    faces_masked: int = 0
    failures: dict[str, int] = field(default_factory=dict)
    done_now: int = 0
    seconds: float = 0.0

    @property
    def seconds_per_picture(self) -> float:
        """Wall-clock seconds per picture of this run, all workers together; 0 where there was nothing left to do."""
        return self.seconds / self.done_now if self.done_now else 0.0

    def __str__(self) -> str:
        """One screen."""
        share = f" ({self.pictures_with_faces / self.pictures:.1%})" if self.pictures else ""
        reasons = ", ".join(f"{kind} {count}" for kind, count in sorted(self.failures.items())) or "none"
        earlier = self.pictures - self.done_now
        pace = f"{self.done_now} pictures in {self.seconds:.1f} s, {self.seconds_per_picture:.2f} s each"
        copied = f", copied untouched {self.pictures_copied}" if self.pictures_copied else ""
        hint = "large pictures were searched at reduced size: --detect-side finds smaller faces in them"
        with_face = f"with a face {self.pictures_with_faces}{share}"
        return "\n".join(
            [
                f"pictures   {self.pictures}, {with_face}, masked {self.pictures_masked}{copied}",
                f"faces      {self.faces_found} found, {self.faces_masked} masked",
                f"failures   {reasons}" + ("; each with its reason in failures.csv" if self.failures else ""),
                *([f"note       {self.pictures_reduced} {hint}"] if self.pictures_reduced else []),
                *([f"model      {self.model}"] if self.model else []),
                f"this run   {pace}" + (f"; {earlier} were done before" if earlier > 0 else ""),
                f"output     {self.out_dir}",
            ]
        )


def write_tables(out_dir: Path, records: Iterable[dict], run: dict, summary: Summary) -> Summary:
    """Write manifest.csv and .parquet, landmarks.csv, failures.csv and run.json; gives the summary with its counts.

    Args:
        out_dir: OUT.
        records: The journal's records, sorted by source.
        run: What run.json tells beside versions and counts: "fingerprint", "options", "status".
        summary: With `done_now` and `seconds` set.
    """
    rows, failures, images, points = [], [], [], []
    for record in map(_printable, records):  # one at a time: a journal of a million faces does not fit into memory
        rows += _rows(record, run["fingerprint"])
        failures += [{"file": record["source"], **failure} for failure in record["failures"]]
        images += [(record["source"], face["face"]) for face in record["faces"]]
        points += [np.array(face["landmarks"], np.float32).ravel() for face in record["faces"]]
        _count(record, summary)

    # Objects first: pandas would make a column with a missing value float, and round the 63-bit seeds.
    manifest = pd.DataFrame(rows, columns=COLUMNS, dtype=object).astype(dict.fromkeys(WHOLE, "Int64")).infer_objects()
    write_table(out_dir / "manifest.csv", manifest)
    write_table(out_dir / "manifest.parquet", manifest)
    landmarks = pd.DataFrame(np.reshape(points, (-1, 136)), columns=LANDMARK_COLUMNS[2:], dtype=np.float32)
    faces = pd.DataFrame(images, columns=LANDMARK_COLUMNS[:2])
    write_landmarks(out_dir / "landmarks.csv", pd.concat([faces, landmarks], axis=1))
    write_table(out_dir / "failures.csv", pd.DataFrame(failures, columns=FAILURES))
    counts = {name: value for name, value in asdict(summary).items() if name not in ("out_dir", "model")}
    finished = datetime.now(UTC).isoformat(timespec="seconds")
    write_json(out_dir / "run.json", {**run, "finished": finished, "versions": _versions(), "counts": counts})
    return summary


def _count(record: dict, summary: Summary) -> None:
    """Add a record to the summary's counts."""
    masked = sum(face["status"] == "masked" for face in record["faces"])
    summary.pictures += 1
    summary.pictures_with_faces += bool(record["faces"])
    summary.pictures_masked += bool(masked)
    summary.pictures_copied += bool(record["files"]) and not masked
    summary.pictures_reduced += any(note.startswith(REDUCED) for note in record["notes"])
    summary.faces_found += len(record["faces"])
    summary.faces_masked += masked
    for failure in record["failures"]:
        summary.failures[failure["kind"]] = summary.failures.get(failure["kind"], 0) + 1


def _rows(record: dict, fingerprint: dict) -> list[dict]:
    """A row per face; a picture copied untouched has one with face −1, a picture without output and face none."""
    files = record["files"]
    output, region = files if files else ("", "")
    width, height = record["size"] or (None, None)
    reasons = {failure["face"]: failure["reason"] for failure in record["failures"]}
    common = {
        "source": record["source"],
        "source_sha256": record["source_sha256"],
        "output": output,
        "region": region,
        "seed": fingerprint["seed"],
        "checkpoint": fingerprint["checkpoint"],
        "checkpoint_sha256": fingerprint["checkpoint_sha256"],
        "width": width,
        "height": height,
        "notes": "; ".join(record["notes"]),
        "seconds": record["seconds"],
    }
    if files and not record["faces"]:
        return [{**common, "face": -1, "status": "copied", "reason": reasons.get(-1, "")}]
    rows = []
    for face in record["faces"]:
        mask = dict(zip(("mask_x", "mask_y", "mask_w", "mask_h"), face["mask_box"] or ()))
        params = json.dumps(face["params"], sort_keys=True)
        seeds = {name: face[name] for name in ("warp_seed", "noise_seed")}
        told = {"face": face["face"], "status": face["status"], "score": face["score"], "params": params}
        told |= {"order": face["order"]}  # masks were laid on in this order: where two overlap it matters
        told["reason"] = reasons.get(face["face"], "")
        rows.append({**common, **told, **seeds, **dict(zip("xywh", face["box"])), **mask})
    return rows


def _printable(record: dict) -> dict:
    """The record with file names that UTF-8 can hold: on Linux a name may be any bytes, `caf\\xe9.jpg` in Latin-1."""
    source, *files = (
        name.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
        for name in (record["source"], *record["files"])
    )
    return {**record, "source": source, "files": files}


def _versions() -> dict:
    versions = {"python": platform.python_version()}
    for name in PACKAGES:
        try:
            versions[name] = version(name)
        except PackageNotFoundError:
            versions[name] = ""
    return versions
