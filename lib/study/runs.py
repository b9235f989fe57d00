"""Run folders: where a study lives, what it is, and who made what from what.

`runs/<study>/study.json` says what the study is; `runs/<study>/<stage>/manifest.json` says how a stage was made
(resolved config, its hash, git commit, versions, device, seed, data, parent checkpoint, times, status).
"""

from __future__ import annotations

import hashlib
import json
import platform
import re
import subprocess
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

import pandas as pd
from tqdm import tqdm

import lib
from lib.data.files import read_json, write_json, write_table
from lib.study.config import (
    DATA_SOURCES,
    OPTIONAL_ROOTS,
    ROOTS,
    STAGES,
    Profile,
    StudyError,
    get_profile,
    profile_dict,
)

REPOSITORY = Path(lib.__file__).resolve().parents[1]
RUNS = REPOSITORY / "runs"
PACKAGES = ("torch", "torchvision", "numpy", "pillow", "dlib-bin", "safetensors", "papermill")
FAILURE_COLUMNS = ["step", "file", "reason"]
# What fields of a profile were before they existed: a study made then stays what it was.
BEFORE = {
    "upsampling": "transposed",
    "precision": "fp32",
    "identity_ratio": 0.5,
    "lambda_attention": 0.0,
    "average": 0.0,
}
REMEMBERED = ("epochs", "batch_size")  # settings of `train_config` that change results
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")


@dataclass(frozen=True)
class Study:
    """One study: a name, a profile, a data source and a seed, and the folder they live in."""

    name: str
    profile: Profile
    data: str
    seed: int
    root: Path
    roots: dict[str, str] = field(default_factory=dict)
    training: dict[str, int] = field(default_factory=dict)  # `REMEMBERED` settings that were given once

    @property
    def data_dir(self) -> Path:
        """Prepared sets A and B of this study."""
        return self.root / "data"

    @property
    def cache_dir(self) -> Path:
        """Rendered face-world sets, shared by every study beside this one."""
        return self.root.parent / "cache" / "faceworld"

    @property
    def figures_dir(self) -> Path:
        """Figures made from this study's runs."""
        return self.root / "figures"

    def stage_dir(self, stage: str) -> Path:
        """Run folder of a stage of the timeline."""
        return self.root / stage

    def source(self, key: str) -> Path:
        """A folder or file the user named. Raises StudyError that says how to name it."""
        path = Path(self.roots.get(key, ""))
        if not self.roots.get(key) or not path.exists():
            raise StudyError(f"{path}: named as --{key.replace('_', '-')} but not there")
        return path

    def to_dict(self) -> dict:
        """What study.json holds."""
        return {
            "name": self.name,
            "profile": self.profile.name,
            "data": self.data,
            "seed": self.seed,
            "roots": dict(self.roots),
            "resolved_profile": profile_dict(self.profile),
        } | ({"training": dict(self.training)} if self.training else {})


def open_study(
    name: str,
    profile: str = "smoke",
    data: str = "faceworld",
    seed: int = 0,
    roots: dict[str, str] | None = None,
    runs_dir: str | Path | None = None,
) -> Study:
    """Open `runs/<name>`, or make it.

    An existing study keeps the folders it was made with; another profile, data source, seed or other folders under the
    same name are refused, since its files would no longer belong together. Optional ones (a hand-picking, stock
    photographs, scenes) may be named later or anew.

    Raises:
        StudyError: unknown profile or data source, a name that is no folder name, missing folders, or a study of that
            name that is something else.
    """
    if not _NAME.fullmatch(name):
        raise StudyError(f"name {name!r}: use letters, digits, '.', '_' and '-' (at most 64, no leading sign)")
    if name == "cache":
        raise StudyError("the name 'cache' is taken by the rendered pictures; choose another")
    if data not in DATA_SOURCES:
        raise StudyError(f"data source {data!r} is unknown; choose one of {', '.join(DATA_SOURCES)}")
    root = Path(runs_dir or RUNS).resolve() / name
    resolved = get_profile(profile)
    given = {key: str(Path(value).resolve()) for key, value in (roots or {}).items() if value}
    allowed = set(ROOTS[data]) | set(OPTIONAL_ROOTS[data])
    if extra := sorted(set(given) - allowed):
        raise StudyError(f"data source {data!r} does not use {', '.join('--' + k.replace('_', '-') for k in extra)}")
    known = read_json(root / "study.json") if (root / "study.json").exists() else None
    if known:
        then = {key: value for key, value in BEFORE.items() if key not in known["resolved_profile"]}
        known["resolved_profile"] |= then
        resolved = replace(resolved, **then)
    if int(seed) < 0:
        raise StudyError(f"seed {seed}: must be 0 or more")
    before = known or {}
    study = Study(
        name, resolved, data, int(seed), root, before.get("roots", {}) | given, dict(before.get("training", {}))
    )
    if missing := [key for key in ROOTS[data] if not study.roots.get(key)]:
        options = " ".join(f"--{key.replace('_', '-')} FOLDER" for key in missing)
        raise StudyError(f"data source {data!r} needs {options}")
    for key in study.roots:
        study.source(key)
    if known is None:
        write_json(root / "study.json", study.to_dict())
        return study

    def fixed(content: dict) -> dict:  # what may not change under a name
        content = {key: value for key, value in content.items() if key != "training"}
        return content | {"roots": {k: v for k, v in content.get("roots", {}).items() if k in ROOTS[data]}}

    for key, value in fixed(study.to_dict()).items():
        there = fixed(known).get(key)
        if isinstance(there, dict) and isinstance(value, dict):  # only what differs is told
            same = {k for k in there if k in value and there[k] == value[k]}
            there, value = ({k: v for k, v in each.items() if k not in same} for each in (there, value))
        if there != value:
            raise StudyError(
                f"{root}: is a study with {key} = {there!r}, not {value!r}; "
                f"choose another --name, or delete that folder"
            )
    if known["roots"] != study.roots:
        write_json(root / "study.json", study.to_dict())
    return study


def find_study(name: str, runs_dir: str | Path | None = None) -> Study:
    """Open an existing study by its name alone. Raises StudyError when there is none."""
    runs = Path(runs_dir or RUNS).resolve()
    root = runs / name
    if not name.strip() or not (root / "study.json").exists():
        found = ", ".join(sorted(p.parent.name for p in runs.glob("*/study.json"))) or "none"
        raise StudyError(f"{f'{root}: no study there' if name.strip() else 'no study was named'}; found: {found}")
    known = read_json(root / "study.json")
    return open_study(name, known["profile"], known["data"], known["seed"], known["roots"], runs)


def remember(study: Study, settings: dict) -> Study:
    """Keep those of the settings that change results in study.json: later calls use them until others are given."""
    training = study.training | {key: settings[key] for key in REMEMBERED if settings.get(key)}
    if training != study.training:
        study = replace(study, training=training)
        write_json(study.root / "study.json", study.to_dict())
    return study


def add_failure(study: Study, step: str, file: str, reason: str) -> None:
    """Add a row to the study's data/failures.csv (once per step and file)."""
    add_failures(study, step, [(file, reason)])


def add_failures(study: Study, step: str, failures: Iterable[tuple[str, str]]) -> None:
    """Add rows (file, reason) to the study's data/failures.csv, once per step and file; nothing for none."""
    if new := [(step, file, reason) for file, reason in failures]:
        rows = pd.concat([read_failures(study), pd.DataFrame(new, columns=FAILURE_COLUMNS)])
        write_table(study.data_dir / "failures.csv", rows.drop_duplicates(["step", "file"], keep="last"))


def read_failures(study: Study) -> pd.DataFrame:
    """Every picture that could not be used so far: step, file, reason."""
    path = study.data_dir / "failures.csv"
    return pd.read_csv(path) if path.exists() else pd.DataFrame(columns=FAILURE_COLUMNS)


def progress_bar(table: pd.DataFrame, what: str, shown: bool = True):
    """Iterate a table's rows under a progress bar."""
    return tqdm(table.itertuples(), total=len(table), desc=what, disable=not shown, ascii=True, mininterval=2, delay=2)


def git_state(repository: Path = REPOSITORY) -> dict:
    """Commit and dirty flag of the code, or None outside a git checkout."""

    # A notebook's filter would start Python for each file whose time has changed; its text alone tells enough.
    plain = ("-c", "filter.nbstripout.clean=cat", "-c", "filter.nbstripout.required=false")

    def git(*args: str) -> str | None:
        try:
            done = subprocess.run(["git", *plain, *args], cwd=repository, capture_output=True, text=True, timeout=20)
        except (OSError, subprocess.TimeoutExpired):
            return None
        return done.stdout.strip() if done.returncode == 0 else None

    commit, status = git("rev-parse", "HEAD"), git("status", "--porcelain", "--untracked-files=no")
    return {"commit": commit, "dirty": None if status is None else bool(status)}


def versions() -> dict:
    """Versions of Python and of the packages that decide the numbers."""
    return {"python": platform.python_version(), **{name: version(name) for name in PACKAGES}}


def device_name(device: str) -> str:
    """The device in words: the GPU's name, or the processor with its number of threads."""
    import torch

    if device.startswith("cuda"):
        return torch.cuda.get_device_name(device)
    return f"CPU, {torch.get_num_threads()} threads ({platform.machine()})"


def now() -> str:
    """The time in UTC, to the second."""
    return datetime.now(UTC).isoformat(timespec="seconds")


def config_hash(config: dict) -> str:
    """A short, stable hash of plain JSON values."""
    return hashlib.sha256(json.dumps(config, sort_keys=True).encode()).hexdigest()[:16]


def start_manifest(
    study: Study, stage: str, config: dict, device: str, data: dict, parent: dict | None, devices: int = 1
) -> dict:
    """Write `manifest.json` of a stage with status "running".

    A resumed stage keeps its first start and counts its sessions.
    """
    path = study.stage_dir(stage) / "manifest.json"
    before = read_json(path) if path.exists() else {}
    manifest = {
        "study": study.to_dict(),
        "stage": stage,
        "config": config,
        "config_hash": config_hash(config),
        "git": git_state(),
        "versions": versions(),
        "device": device_name(device),
        "devices": devices,
        "seed": config.get("seed", study.seed),
        "data": data,
        "parent": parent,
        "lineage": _ancestors(study, parent),
        "start": before.get("start", now()),
        "sessions": before.get("sessions", 0) + 1,
        "end": None,
        "status": "running",
    }
    write_json(path, manifest)
    return manifest


def _ancestors(study: Study, parent: dict | None) -> list[dict]:
    """The checkpoints that a stage descends from, its parent first, the pretraining's last."""
    found = []
    while parent:
        found.append(parent)
        path = study.stage_dir(parent["stage"]) / "manifest.json"
        parent = read_json(path)["parent"] if path.exists() else None
    return found


def finish_manifest(study: Study, stage: str, status: str, **facts) -> dict:
    """Close a stage's manifest with a status ("finished" or "failed: …") and further facts."""
    path = study.stage_dir(stage) / "manifest.json"
    manifest = {**read_json(path), "end": now(), "status": status, **facts}
    write_json(path, manifest)
    return manifest


def lineage(study: Study, stage: str) -> list[dict]:
    """The stages a stage descends from, the stage itself first and the pretraining last."""
    rows, name = [], stage
    while name:
        path = study.stage_dir(name) / "manifest.json"
        if not path.exists():
            raise StudyError(f"{path}: not there; run notebook {STAGES[name].notebook} first")
        manifest = read_json(path)
        parent = manifest["parent"] or {}
        rows.append(
            {
                "stage": name,
                "status": manifest["status"],
                "config_hash": manifest["config_hash"],
                "starts from": parent.get("checkpoint", "random weights, N(0, 0.02)"),
            }
        )
        name = parent.get("stage")
    return rows


def describe(study: Study) -> str:
    """One paragraph for the top of a notebook: study, device, versions, code."""
    import torch

    device = "cuda" if torch.cuda.is_available() else "cpu"
    git, known = git_state(), versions()
    commit = (
        f"{git['commit'][:10]}{' (changed since)' if git['dirty'] else ''}" if git["commit"] else "not a git checkout"
    )
    packages = ", ".join(f"{name} {number}" for name, number in known.items())
    return (
        f"study {study.name!r}: profile {study.profile.name}, data {study.data}, seed {study.seed}\n"
        f"device: {device_name(device)}\nversions: {packages}\ncode: {commit}"
    )
