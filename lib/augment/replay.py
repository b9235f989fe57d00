"""A run made again from its manifest: the same masks on the same pictures, without drawing or looking for anything.

Beside the manifest lies its landmarks.csv. Everything else that shaped the pictures stands in the manifest's rows, so
defaults that have changed since do not matter.
"""

from __future__ import annotations

import json
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import fields, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from lib.augment.tasks import AugmentError, Task
from lib.data.files import leaves_root, sha256
from lib.warp.landmarks import landmarks_array, read_landmarks

if TYPE_CHECKING:
    from lib.augment.options import Options

NEEDED = ("source", "identity", "output", "region", "original", "source_sha256", "face", "variant", "status", "kind",
          "reason", "x", "y", "w", "h", "score", "params", "order", "seed", "warp_seed", "noise_seed", "checkpoint",
          "checkpoint_sha256", "margin", "crop_scale", "size")  # fmt: skip
# What the manifest tells instead, and what would change nothing.
FIXED = ("seed", "margin", "crop_scale", "size", "per_image", "originals")
DRAWN = ("identity", "preset", "masks", "wear", "share", "min_face", "max_face", "max_yaw", "largest_only",
         "copy_missed", "landmarks", "landmark_cache")  # fmt: skip
_TEXT = ("source", "identity", "output", "region", "original", "source_sha256", "status", "kind", "reason", "params",
         "checkpoint", "checkpoint_sha256", "mask_rle")  # fmt: skip
_TOLD = 20  # pictures named in a refusal


def read_manifest(path: Path | str) -> pd.DataFrame:
    """A manifest of `lib.augment`, .csv or .parquet. AugmentError where it is none."""
    path = Path(path)
    try:
        if path.suffix == ".parquet":
            table = pd.read_parquet(path)
        elif path.suffix == ".csv":
            text, whole = dict.fromkeys(_TEXT, str), dict.fromkeys(("seed", "warp_seed", "noise_seed"), "Int64")
            table = pd.read_csv(path, dtype=text | whole, keep_default_na=False, na_values=_missing(path))
        else:
            raise AugmentError(f"--replay {path}: expected the manifest.csv or manifest.parquet of a run")
    except (OSError, ValueError) as error:
        if isinstance(error, AugmentError):
            raise
        raise AugmentError(f"--replay {path}: cannot be read ({' '.join(str(error).split())[:200]})") from None
    if missing := [name for name in NEEDED if name not in table]:
        raise AugmentError(f"--replay {path}: no manifest of this version, it lacks {', '.join(missing)}")
    if table.empty:
        raise AugmentError(f"--replay {path}: holds no face, there is nothing to make again")
    for name in set(_TEXT) & set(table):
        table[name] = table[name].fillna("")
    return table


def _missing(path: Path) -> dict[str, list[str]]:
    return {name: [""] for name in pd.read_csv(path, nrows=0).columns if name not in _TEXT}


def restored(options: Options) -> Options:
    """The options of the run that wrote the manifest. AugmentError for options that contradict it."""
    table = read_manifest(options.replay)
    first = table.iloc[0]
    rule_only = first["checkpoint_sha256"] == ""
    told = {
        "seed": int(first["seed"]),
        "per_image": int(table["variant"].max()),
        "originals": bool((table["original"] != "").any()),
    }
    if not rule_only:
        told |= {"margin": float(first["margin"]), "crop_scale": float(first["crop_scale"]), "size": int(first["size"])}
    default = {field.name: field.default for field in fields(options)}
    for name in (*FIXED, *DRAWN):
        if getattr(options, name) not in (default[name], told.get(name, default[name])):
            option = "--" + name.replace("_", "-")
            raise AugmentError(f"{option}: --replay takes it from the manifest; leave it out")
    if rule_only and options.checkpoint is not None:
        raise AugmentError("--checkpoint: the manifest is of masks drawn by rule; leave it out")
    if options.rule_only and not rule_only:
        raise AugmentError(f"--rule-only: the manifest is of {first['checkpoint']}; leave it out")
    return replace(options, rule_only=rule_only, **told)


def check_weights(options: Options, name: str, digest: str) -> None:
    """AugmentError unless these are the weights that the manifest names."""
    first = read_manifest(options.replay).iloc[0]
    if first["checkpoint_sha256"] != digest:
        raise AugmentError(
            f"--replay: made with {first['checkpoint']} (sha256 {first['checkpoint_sha256'][:12]}…), not with {name} "
            f"({digest[:12]}…); give it with --checkpoint"
        )


def replay_tasks(in_dir: Path, options: Options) -> list[Task]:
    """A task for each picture of the manifest.

    Raises AugmentError where a picture in IN is missing or another than it was (all are read for it), for paths that
    leave IN or OUT, and for landmarks that are missing.
    """
    table = read_manifest(options.replay)
    beside = Path(options.replay).with_name("landmarks.csv")
    try:
        points = read_landmarks(beside)
    except (OSError, ValueError) as error:
        raise AugmentError(f"--replay: {' '.join(str(error).split())}; it belongs beside the manifest") from None
    known = dict(zip(zip(points["image"], points["face"]), landmarks_array(points)))
    _check_paths(table)
    tasks = [_task(source, rows, known) for source, rows in table.groupby("source", sort=True)]
    _check_sources(in_dir, tasks)
    return tasks


def missed(options: Options, known: set[tuple[str, str]]) -> list[dict]:
    """Failures of the pictures that the manifest has no row of, from the failures.csv beside it, where there is one.

    known: (file, kind) of those that are told already.
    """
    path = Path(options.replay).with_name("failures.csv")
    if not path.is_file():
        return []
    try:
        table = pd.read_csv(path, dtype={"file": str, "kind": str, "reason": str}, keep_default_na=False)
        table = table[~table["file"].isin(read_manifest(options.replay)["source"])]
        rows = [dict(zip(table, row)) for row in table[["file", "face", "kind", "reason"]].values.tolist()]
    except (OSError, ValueError, KeyError) as error:
        raise AugmentError(f"--replay: {path} cannot be read ({error}); move it away") from None
    return [row for row in rows if (row["file"], row["kind"]) not in known]


def _task(source: str, rows: pd.DataFrame, known: dict) -> Task:
    names = {row.variant: row for row in rows.itertuples()}
    first = rows.iloc[0]
    stored = tuple(_stored(row, known) for row in rows.itertuples())
    outputs = [names[v].output for v in sorted(names)]
    name, *more = (path.removeprefix("images/") for path in outputs)
    original = first["original"].removeprefix("images/")
    return Task(source, name, tuple(more), original, first["identity"], stored=stored, sha256=first["source_sha256"])


def _stored(row: tuple, known: dict) -> dict:
    landmarks = known.get((row.source, row.face))
    if row.status == "masked" and landmarks is None:
        raise AugmentError(f"--replay: landmarks.csv has no face {row.face} of {row.source}")
    return {
        "face": int(row.face),
        "variant": int(row.variant),
        "written": row.output != "",
        "status": row.status,
        "kind": row.kind,
        "reason": row.reason,
        "box": None if pd.isna(row.x) else [float(getattr(row, side)) for side in "xywh"],
        "score": None if pd.isna(row.score) else float(row.score),
        "landmarks": None if landmarks is None else [[float(str(c)) for c in p] for p in np.float32(landmarks)],
        "params": json.loads(row.params) if row.params else None,
        "order": None if pd.isna(row.order) else int(row.order),
        "warp_seed": None if pd.isna(row.warp_seed) else int(row.warp_seed),
        "noise_seed": None if pd.isna(row.noise_seed) else int(row.noise_seed),
    }


def _check_paths(table: pd.DataFrame) -> None:
    """Paths that a run may have written, each of them once."""
    outputs = table.loc[table["output"] != ""].drop_duplicates(["source", "variant"])
    originals = table.loc[table["original"] != ""].drop_duplicates("source")
    written = [*outputs["output"], *originals["original"]]
    for name in (*table["source"], *written):
        if leaves_root(name):
            raise AugmentError(f"--replay: the manifest names {name!r}, which leads out of IN or OUT")
    for name, count in Counter(written).items():
        if count > 1 or not name.startswith("images/") or not name.endswith(".png"):
            raise AugmentError(f"--replay: the manifest names the output {name!r} twice, or it is no PNG in images/")


def _check_sources(in_dir: Path, tasks: list[Task]) -> None:
    with ThreadPoolExecutor(4) as threads:
        wrong = [found for found in threads.map(lambda task: _changed(in_dir, task), tasks) if found]
    if wrong:
        more = f" and {len(wrong) - _TOLD} more" if len(wrong) > _TOLD else ""
        raise AugmentError(
            f"--replay: {len(wrong)} of {len(tasks)} pictures in {in_dir} are not those of the manifest: "
            f"{', '.join(wrong[:_TOLD])}{more}"
        )


def _changed(in_dir: Path, task: Task) -> str:
    try:
        return "" if sha256(in_dir / task.source) == task.sha256 else f"{task.source} (changed)"
    except OSError:
        return f"{task.source} (missing)"
