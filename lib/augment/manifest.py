"""What lies beside the pictures when a run ends: tables made from the journal's records, labels, pairs, the report."""

import json
import platform
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import numpy as np
import pandas as pd

from lib.augment import pairs, replay, report, scenes
from lib.augment.faces import NOT_CHOSEN, REDUCED
from lib.augment.options import Options
from lib.augment.tables import ROWS, PartedTable
from lib.augment.tasks import AugmentError, hidden_folders, list_sources
from lib.data.files import write_json, write_table
from lib.warp.landmarks import LANDMARK_COLUMNS

COLUMNS = (
    *("source", "identity", "output", "region", "tensor", "original"),
    *("source_sha256", "output_sha256", "region_sha256", "tensor_sha256"),
    *("face", "variant", "status", "kind", "reason", "x", "y", "w", "h", "score", "template", "colour", "texture"),
    *("wear", "params", "order", "seed", "warp_seed", "noise_seed", "checkpoint", "checkpoint_sha256", "margin"),
    *("crop_scale", "size", "mask_x", "mask_y", "mask_w", "mask_h", "mask_rle", "width", "height", "notes", "seconds"),
)
WHOLE = (
    *("face", "variant", "mask_x", "mask_y", "mask_w", "mask_h", "width", "height", "size"),
    *("order", "seed", "warp_seed", "noise_seed"),
)
FRACTIONS = ("x", "y", "w", "h", "score", "margin", "crop_scale", "seconds")
# What each of them reads of the manifest: its longest columns stay on the disk.
PAIRS = ("source", "variant", "status", "output", "original")
SCENES = (*PAIRS, "face", "mask_x", "mask_y", "mask_w", "mask_h", "mask_rle", "width", "height")
REPORT = (*PAIRS, "identity", "face", "kind", "reason", "x", "y", "w", "h", "template", "colour", "texture", "wear")
FAILURES = ("file", "face", "kind", "reason")
PACKAGES = ("numpy", "torch", "pillow", "scipy", "dlib-bin", "pandas", "safetensors")


@dataclass
class Summary:
    """What a run came to. Counts are over everything in OUT, also what an earlier run had done; `seconds` and
    `done_now` are of this run. `model`: which weights made the masks, in words. `pictures_gone`: no longer in IN.
    `faces_labelled`: None without labels; then `faces_found` are those of them whose landmarks are known. `faces_left`:
    not among --share. `masks`: on all variants. `pairs`: written of each kind, and left out. `notes`: what else is to
    be told."""

    out_dir: Path
    model: str = ""
    pictures: int = 0
    pictures_with_faces: int = 0
    pictures_masked: int = 0
    pictures_copied: int = 0
    pictures_reduced: int = 0
    pictures_gone: int = 0
    faces_labelled: int | None = None
    faces_found: int = 0
    faces_masked: int = 0
    faces_left: int = 0
    masks: int = 0
    pairs: dict[str, int] = field(default_factory=dict)
    failures: dict[str, int] = field(default_factory=dict)
    done_now: int = 0
    seconds: float = 0.0
    notes: list[str] = field(default_factory=list)

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
        were = f"{self.pictures_reduced} large picture{' was' if self.pictures_reduced == 1 else 's were'}"
        hint = f"{were} searched at reduced size: --detect-side finds smaller faces there"
        labelled = "" if self.faces_labelled is None else f"{self.faces_labelled} labelled, "
        left = f", {self.faces_left} left without by --share" if self.faces_left else ""
        masks = f", {self.masks} masks in all variants" if self.masks != self.faces_masked else ""
        paired = ", ".join(f"{kind} {count}" for kind, count in self.pairs.items())
        with_face = f"with a face {self.pictures_with_faces}{share}"
        return "\n".join(
            [
                f"pictures   {self.pictures}, {with_face}, masked {self.pictures_masked}{copied}",
                f"faces      {labelled}{self.faces_found} found, {self.faces_masked} masked{left}{masks}",
                f"failures   {reasons}" + ("; each with its reason in failures.csv" if self.failures else ""),
                *(f"note       {note}" for note in ([hint] * bool(self.pictures_reduced) + self.notes)),
                *([f"pairs      {paired}"] if self.pairs else []),
                *([f"model      {self.model}"] if self.model else []),
                f"this run   {pace}" + (f"; {earlier} were done before" if earlier > 0 else ""),
                f"output     {self.out_dir}",
            ]
        )


def finish_run(out_dir: Path, in_dir: Path, journal, run: dict, summary: Summary, options: Options) -> Summary:
    """Write all that lies beside the pictures; gives the summary with its counts.

    After a run that was stopped these are the tables alone; labels, pairs files and report tell of finished ones.

    Args:
        out_dir, in_dir: OUT, IN.
        journal: The open `Journal`; the further files are noted in it.
        run: What run.json tells beside versions and counts: "fingerprint", "options", "status".
        summary: With `done_now` and `seconds` set.
        options: The run's.

    Raises:
        AugmentError: Labels or pairs cannot be read any more, or contradict the pictures.
    """
    finished, extra, table = run["status"] == "finished", [], None
    summary.faces_labelled = None if options.labels is None else 0
    if gone := summary.pictures_gone:
        which = "picture is" if gone == 1 else "pictures are"
        summary.notes += [f"{gone} {which} no longer in IN; what was made of them is still in OUT: --prune removes it"]
    if finished and options.labels is not None:
        table = scenes.read_scenes(in_dir, options)
        extra = scenes.labelled(table, in_dir)[1] + scenes.unlabelled(list_sources(in_dir), table)
    if options.replay is not None:
        extra += replay.missed(options, {(failure["file"], failure["kind"]) for failure in extra})
    failures = write_tables(out_dir, journal.read(), run, summary, extra)
    try:
        if finished:
            if hidden := hidden_folders(in_dir):
                which = "hidden folder" if len(hidden) == 1 else "hidden folders"
                summary.notes += [f"{len(hidden)} {which} with pictures in IN passed over ({hidden[0]}, …)"]
            paths = [] if table is None else scenes.write_scenes(out_dir, table, read_table(out_dir, SCENES), options)
            if options.pairs is not None:
                written, summary.pairs = pairs.write_pairs(out_dir, in_dir, options.pairs, read_table(out_dir, PAIRS))
                paths += written
                if not options.originals:
                    summary.notes += [pairs.NO_TEXT]
            report.write_report(out_dir, in_dir, read_table(out_dir, REPORT), failures, summary, options.seed)
            journal.note([path.relative_to(out_dir).as_posix() for path in paths])
    except (ValueError, OSError) as error:
        raise AugmentError(f"the pictures are done, but not what lies beside them: {error}") from error
    finally:
        write_run(out_dir, run, summary)
    return summary


def write_tables(
    out_dir: Path, records: Iterable[dict], run: dict, summary: Summary, extra: Iterable[dict] = ()
) -> pd.DataFrame:
    """Write manifest.csv and .parquet, landmarks.csv and failures.csv; gives the failures.

    records: the journal's, sorted by source. summary: its counts are filled in. extra: failures of pictures that are in
    no record.
    """
    failures = [tuple(failure[name] for name in FAILURES) for failure in extra]
    for _, _, kind, _ in failures:
        summary.failures[kind] = summary.failures.get(kind, 0) + 1
    reasons: dict[str, str] = {}  # one object for each
    files = [out_dir / name for name in ("manifest.csv", "manifest.parquet", "landmarks.csv")]
    with PartedTable(*files[:2]) as manifest, PartedTable(files[2]) as landmarks:
        rows, marks, parts = [], [], 0
        for record in map(_printable, records):  # in parts: a journal of a million faces does not fit into memory
            rows += _rows(record, run["fingerprint"])
            source = record["source"]
            known = [face for face in record["faces"] if face["landmarks"]]
            marks += [(source, face["face"], np.array(face["landmarks"], np.float32)) for face in known]
            for failure in record["failures"]:
                reason = reasons.setdefault(failure["reason"], failure["reason"])
                failures.append((source, failure["face"], failure["kind"], reason))
            _count(record, summary)
            if len(rows) >= ROWS:
                manifest.add(_manifest(rows))
                landmarks.add(_landmarks(marks))
                rows, marks, parts = [], [], parts + 1
        if rows or not parts:
            manifest.add(_manifest(rows))
            landmarks.add(_landmarks(marks))
    missed = pd.DataFrame(failures, columns=FAILURES).sort_values(["file", "face"], kind="stable", ignore_index=True)
    write_table(out_dir / "failures.csv", missed)
    return missed


def read_table(out_dir: Path, columns: Iterable[str]) -> pd.DataFrame:
    """Some columns of the manifest."""
    return pd.read_parquet(out_dir / "manifest.parquet", columns=list(columns))


def _landmarks(marks: list[tuple]) -> pd.DataFrame:
    points = np.array([mark[2] for mark in marks], np.float32).reshape(-1, 136)
    faces = pd.DataFrame([mark[:2] for mark in marks], columns=LANDMARK_COLUMNS[:2])
    return pd.concat([faces, pd.DataFrame(points, columns=LANDMARK_COLUMNS[2:])], axis=1)


def _manifest(rows: list[dict]) -> pd.DataFrame:
    """Of each column one type, whatever the rows hold: labelled boxes may be fractions, or 1e19."""
    # Objects first: pandas would make a column with a missing value float, and round the 63-bit seeds.
    manifest = pd.DataFrame(rows, columns=COLUMNS, dtype=object).astype(dict.fromkeys(WHOLE, "Int64"))
    manifest = manifest.astype(dict.fromkeys(FRACTIONS, float))
    text = [name for name in COLUMNS if name not in (*WHOLE, *FRACTIONS)]
    return manifest.astype(dict.fromkeys(text, object)).fillna(dict.fromkeys(text, "")).astype(dict.fromkeys(text, str))


def write_run(out_dir: Path, run: dict, summary: Summary) -> None:
    """Write run.json: `run`, versions and counts."""
    counts = {name: value for name, value in asdict(summary).items() if name not in ("out_dir", "model", "notes")}
    finished = datetime.now(UTC).isoformat(timespec="seconds")
    write_json(out_dir / "run.json", {**run, "finished": finished, "versions": _versions(), "counts": counts})


def _count(record: dict, summary: Summary) -> None:
    """Add a record to the summary's counts."""
    faces = record["faces"]
    masked = {face["face"] for face in faces if face["status"] == "masked"}
    summary.pictures += 1
    summary.pictures_with_faces += bool(faces)
    summary.pictures_masked += bool(masked)
    summary.pictures_copied += bool(record["variants"]) and not masked
    room = min(record["size"] or [0]) >= scenes.SMALLEST_PX  # else a face does not fit in, at whatever size
    summary.pictures_reduced += room and any(note.startswith(REDUCED) for note in record["notes"])
    told = {face["face"] for face in faces}
    if summary.faces_labelled is not None:
        summary.faces_labelled += len(told)
        told = {face["face"] for face in faces if face["landmarks"]}
    summary.faces_found += len(told)
    summary.faces_masked += len(masked)
    summary.faces_left += sum(face["kind"] == NOT_CHOSEN for face in faces)
    summary.masks += sum(face["status"] == "masked" for face in faces)
    for failure in record["failures"]:
        summary.failures[failure["kind"]] = summary.failures.get(failure["kind"], 0) + 1


def _rows(record: dict, fingerprint: dict) -> list[dict]:
    """A row per face and variant; a variant copied untouched, or an original alone, has one with face −1, a picture
    without output and face none."""
    files, variants = record["files"], record["variants"]
    width, height = record["size"] or (None, None)
    common = {
        "source": record["source"],
        "identity": record["identity"],
        "original": record["original"],
        "source_sha256": record["source_sha256"],
        **{name: fingerprint.get(name) for name in ("seed", "checkpoint", "checkpoint_sha256", "margin", "crop_scale")},
        "size": fingerprint.get("size"),
        "width": width,
        "height": height,
        "notes": "; ".join(record["notes"]),
        "seconds": record["seconds"],
    }
    rows = []
    told = {variant: dict(zip(("output", "region", "tensor"), paths)) for variant, paths in variants.items()}
    for paths in told.values():
        paths |= {f"{name}_sha256": files[path] for name, path in [*paths.items()]}
    for face in record["faces"]:
        params = face["params"] or {}
        row = {name: face[name] for name in ("face", "variant", "status", "kind", "reason", "score", "order")}
        row |= {name: face[name] for name in ("warp_seed", "noise_seed")}
        row |= {name: params.get(name, "") for name in ("template", "colour", "texture", "wear")}
        row["params"] = json.dumps(params, sort_keys=True) if params else ""
        row["mask_rle"] = json.dumps(face["mask_rle"]) if "mask_rle" in face else ""
        row |= dict(zip(("mask_x", "mask_y", "mask_w", "mask_h"), face["mask_box"] or ()))
        rows.append({**common, **told.get(str(face["variant"]), {}), **row, **dict(zip("xywh", face["box"]))})
    seen = {str(face["variant"]) for face in record["faces"]}
    copied = {variant: paths for variant, paths in told.items() if variant not in seen}
    if record["original"] and not rows and not copied:
        copied = {"1": {}}
    failure = next((failure for failure in record["failures"] if failure["face"] < 0), {"kind": "", "reason": ""})
    for variant, paths in copied.items():
        row = {"face": -1, "variant": int(variant), "status": "copied", "kind": failure["kind"]}
        rows.append({**common, **paths, **row, "reason": failure["reason"]})
    return rows


def _printable(record: dict) -> dict:
    """The record with file names that UTF-8 can hold: on Linux a name may be any bytes, `caf\\xe9.jpg` in Latin-1."""

    def told(name: str) -> str:
        return name.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")

    return {
        **record,
        "source": told(record["source"]),
        "identity": told(record["identity"]),
        "original": told(record["original"]),
        "files": {told(path): digest for path, digest in record["files"].items()},
        "variants": {variant: [told(path) for path in paths] for variant, paths in record["variants"].items()},
    }


def _versions() -> dict:
    versions = {"python": platform.python_version()}
    for name in PACKAGES:
        try:
            versions[name] = version(name)
        except PackageNotFoundError:
            versions[name] = ""
    return versions
