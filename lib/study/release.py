"""`python -m lib.study.release --name STUDY --epoch 476 --as MODEL --trained-on TEXT`: a study's generator as a model.

Writes `lib/gan/weights/MODEL` (weights in bfloat16, model.json, the model card) and lists it in the registry there.
What the card tells is read from the study's run folders or given here; none of it may name a path of this machine.
"""

from __future__ import annotations

import argparse
import re
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import torch

from lib.data.files import read_json
from lib.data.images import ImageError, read_image
from lib.gan import CheckpointError, Translator, list_checkpoints
from lib.gan.checkpoints import folder_name
from lib.gan.networks import AVERAGE
from lib.gan.released import CARD, SOURCE, WEIGHTS, pack_released, register_released
from lib.study.card import LICENCE, render_card
from lib.study.config import STAGES, TABLE_1, StudyError
from lib.study.runs import RUNS

LARGEST_FIGURE = 2**20  # bytes
ROUNDING_FACES = 4
# An absolute path: a slash that begins a word, but none inside a word, a link or a tag.
_PATH = re.compile(r"(?<![\w.:/<)])/[A-Za-z_.]\S*|(?<!\w)(?:~/|[A-Za-z]:\\|\\\\)\S*")


def stage_of(epoch: int) -> str:
    """The row of Table 1 that an epoch label belongs to. StudyError where there is none."""
    for stage in TABLE_1:
        if stage.first_epoch <= epoch <= stage.last_epoch:
            return stage.name
    raise StudyError(f"epoch {epoch}: Table 1 goes from {TABLE_1[0].first_epoch} to {TABLE_1[-1].last_epoch}")


def timeline_of(root: Path, stage: str, epoch: int) -> list[dict]:
    """How the weights of a checkpoint came about: a row per stage, the oldest first.

    Args:
        root: The study's folder.
        stage, epoch: Of the checkpoint; the stage may still be in training.

    Raises:
        StudyError: the checkpoint or a stage before it is not there.
    """
    rows = []
    while stage:
        manifest = _manifest(root, stage)
        config, parent = manifest["config"], manifest["parent"] or {}
        step = _step(root, stage, epoch, manifest)
        labels = [label for label in config["epochs"] if label <= epoch]
        rows.append(
            {
                "stage": stage,
                "epochs": [labels[0], epoch],
                "passes": len(labels),
                "steps": step,
                "batch_size": config["batch_size"],
                "lambda_cycle": config["lambda_A"],
                "lambda_nmc": config["lambda_nmc"],
                "noise": config["noise"]["sigma"],
                "images": {side: manifest["data"][side] for side in "AB"},
                "data_sha256": {side: manifest["data"][f"hash_{side}"] for side in "AB"},
                "seconds": _seconds(root / stage / "metrics.csv", step),
                "device": manifest["device"],
                "precision": config.get("precision", "fp32"),
                "config_hash": manifest["config_hash"],
                "starts_from": parent.get("checkpoint", "random weights"),
            }
        )
        stage, epoch = parent.get("stage"), parent.get("epoch")
    return rows[::-1]


def facts_of(root: Path, stage: str, epoch: int) -> dict:
    """run, timeline and measured of model.json, read from the study's folder `root`."""
    study, manifest, timeline = read_json(root / "study.json"), _manifest(root, stage), timeline_of(root, stage, epoch)
    run = {
        "study": study["name"],
        "data": study["data"],
        "profile": study["profile"],
        "seed": manifest["seed"],
        "stage": stage,
        "epoch": epoch,
        "status": "trained to its end" if manifest["status"] == "finished" else "not trained to its end",
        "config_hash": manifest["config_hash"],
        "commit": manifest["git"]["commit"],
        "dirty": manifest["git"]["dirty"],
        "versions": manifest["versions"],
        "precision": ", ".join(dict.fromkeys(row["precision"] for row in timeline)),
        "devices": list(dict.fromkeys(row["device"] for row in timeline)),
        "end": manifest["end"],
    }
    return {"run": run, "timeline": timeline, "measured": _measured(root, stage, epoch, manifest)}


def rounding_effect(checkpoint: Path, pictures: np.ndarray) -> float:
    """Mean change, in levels of 255, that rounding the weights to bfloat16 makes to translated pictures.

    pictures: uint8 [N, H, W, 3]. Noise is the same for both.
    """
    exact, rounded = (Translator(checkpoint, "cpu", batch_size=1) for _ in range(2))
    for parameter in rounded.generator.parameters():
        parameter.copy_(parameter.to(torch.bfloat16))
    a, b = (t.translate(pictures, range(len(pictures))).images.astype(float) for t in (exact, rounded))
    return float(np.abs(a - b).mean())


def release(
    root: Path,
    epoch: int,
    name: str,
    trained_on: str,
    stage: str | None = None,
    note: str = "",
    measured: dict | None = None,
    failures: dict | None = None,
    limits: tuple[str, ...] = (),
    licence: str | None = None,
    figure: tuple[bytes, str] | None = None,
    default: bool = False,
    use_px: int | None = None,
    average: bool = False,
    weights: Path = WEIGHTS,
) -> Path:
    """Make a released model out of a checkpoint of a study, and list it; gives its folder.

    Args:
        root: The study's folder, runs/STUDY.
        epoch: Label of a kept checkpoint; `stage` only where it is not that of Table 1.
        name: Of the model.
        trained_on: What the pictures are and where they come from, in words.
        measured: Further numbers for the card, by name; nested as you like.
        failures: Where it fails, for the card: failures.json of `python -m lib.study.failures`.
        limits: Further limits.
        licence: Replaces the words for the study's data source.
        figure: PNG that may be shown (face world only) and its caption.
        default: Make it the model that is used when none is named.
        use_px: Size to translate at, where that is not the size it was trained at; a multiple of 4.
        average: The running mean of the generator's weights instead, which profile gpu_short keeps.

    Raises:
        StudyError: the study lacks something, or a text names a path of this machine.
        lib.gan.CheckpointError: the checkpoint is damaged.
    """
    folder = weights / name
    if folder.name != name or not folder.resolve().is_relative_to(weights.resolve()):
        raise StudyError(f"name {name!r}: a folder's name, without slashes")
    if use_px is not None and (use_px < 8 or use_px % 4):
        raise StudyError(f"use size {use_px}: expected a multiple of 4, at least 8")
    if not trained_on.strip():
        raise StudyError("what it was trained on is empty: say what the pictures are and where they come from")
    stage = stage or stage_of(epoch)
    checkpoint = _checkpoint(root, stage, epoch)
    facts = facts_of(root, stage, epoch)
    source = f"{AVERAGE}.safetensors" if average else SOURCE
    if average and not (checkpoint / source).is_file():
        raise StudyError(f"{checkpoint / source}: not there; stage {stage} was trained without a running mean")
    facts["measured"] |= _rounding(root, checkpoint / source)
    facts["measured"] |= measured or {}
    facts |= {"trained_on": trained_on, "note": note, "limits": list(limits), "use_px": use_px}
    facts |= {"failures": failures} if failures else {}
    facts |= {"average": _manifest(root, stage)["config"]["average"]} if average else {}
    made = root / "data" / "A" / "rule" / "done.json"
    facts["preset"] = read_json(made).get("preset", "study") if made.is_file() else "study"
    facts |= {"licence": licence or LICENCE[facts["run"]["data"]], "figure": None}
    files = {}
    if figure:
        facts["figure"] = {"file": "figure.png", "caption": figure[1]}
        files["figure.png"] = figure[0]
    for text in _texts(facts):
        if found := _PATH.search(text):
            raise StudyError(f"{found.group()!r} looks like a path of one machine; a model card must not name one")
    pack_released(checkpoint, folder, facts, card=render_card, files=files, source=source)
    register_released(folder, default)
    return folder


def _texts(value: object) -> list[str]:
    """Every string in plain JSON values, keys too."""
    if isinstance(value, dict):
        value = [*value.keys(), *value.values()]
    if isinstance(value, list):
        return [text for part in value for text in _texts(part)]
    return [value] if isinstance(value, str) else []


def _manifest(root: Path, stage: str) -> dict:
    path = root / stage / "manifest.json"
    if not path.is_file():
        raise StudyError(f"{path}: not there; run notebook {STAGES[stage].notebook} first")
    return read_json(path)


def _checkpoint(root: Path, stage: str, epoch: int) -> Path:
    folder = root / stage / "checkpoints" / folder_name(epoch)
    if not folder.is_dir():
        kept = ", ".join(path.name for path in list_checkpoints(folder.parent)) or "none"
        raise StudyError(f"{folder}: no such checkpoint; kept are: {kept}")
    return folder


def _step(root: Path, stage: str, epoch: int, manifest: dict) -> int:
    """Steps of the stage up to an epoch's checkpoint, which for an older stage may be pruned: then from its end."""
    meta = root / stage / "checkpoints" / folder_name(epoch) / "meta.json"
    if meta.is_file():
        return read_json(meta)["step"]
    if manifest.get("last_epoch") == epoch:
        return manifest["steps"]
    raise StudyError(f"{meta}: not there, and {stage} did not end at epoch {epoch}")


def _seconds(path: Path, step: int) -> float | None:
    """Seconds spent on the steps up to `step`; None without metrics."""
    if not path.is_file():
        return None
    metrics = pd.read_csv(path)
    return round(float(metrics.loc[metrics["step"] <= step, "seconds"].sum()), 1)


def _measured(root: Path, stage: str, epoch: int, manifest: dict) -> dict:
    path = root / stage / "samples.csv"
    row = pd.read_csv(path).query("epoch == @epoch") if path.is_file() else pd.DataFrame()
    if row.empty or row[["outside_change", "inside_change"]].isna().any(axis=None):
        return {}
    faces = manifest["config"]["sample_count"]
    where = f"mean change of the rule-based picture, in [0, 1], {faces} held-out faces"
    return {where: {f"{k} the mask": float(row[f"{k}_change"].iloc[0]) for k in ("outside", "inside")}}


def _rounding(root: Path, checkpoint: Path) -> dict:
    """What bfloat16 costs, on held-out faces of the study, where its prepared pictures are still there."""
    folder = root / "data" / "A" / "rule"
    if not (folder / "faces.csv").is_file():
        return {}
    names = pd.read_csv(folder / "faces.csv").query("split == 'test'")["image"].head(ROUNDING_FACES)
    try:
        pictures = np.stack([read_image(folder / image).pixels for image in names])
    except (ImageError, ValueError):
        return {}
    what = f"mean change by rounding the weights to bfloat16, in levels of 255, {len(pictures)} held-out faces"
    return {what: rounding_effect(checkpoint, pictures)}


def parser() -> argparse.ArgumentParser:
    """The command line of `python -m lib.study.release`."""
    p = argparse.ArgumentParser(prog="python -m lib.study.release", description=__doc__)
    p.add_argument("--name", required=True, metavar="STUDY", help="the study, its folder under runs/")
    p.add_argument("--epoch", required=True, type=int, help="label of a kept checkpoint, in the paper's numbering")
    p.add_argument("--stage", choices=tuple(STAGES), help="default: the one of Table 1 that the epoch belongs to")
    p.add_argument("--as", required=True, dest="model", metavar="MODEL", help="name of the released model")
    p.add_argument("--trained-on", required=True, metavar="TEXT", help="what the pictures are, where they come from")
    p.add_argument("--default", action="store_true", help="make it the model that is used when none is named")
    p.add_argument("--average", action="store_true", help="the weights' running mean (kept by profile gpu_short)")
    p.add_argument("--use-size", type=int, metavar="PX", help="size to translate at (default: that of its training)")
    p.add_argument("--note", default="", metavar="TEXT", help="a paragraph for the top of the card")
    p.add_argument("--measured", type=Path, metavar="JSON", help="further numbers: {name: value or {name: …}}")
    p.add_argument("--failures", type=Path, metavar="JSON", help="failures.json of python -m lib.study.failures")
    p.add_argument("--limits", type=Path, metavar="FILE", help="further limits, one a line")
    p.add_argument("--licence", metavar="TEXT", help="replaces the words for the study's data source")
    p.add_argument("--figure", type=Path, metavar="PNG", help="at most 1 MiB; rendered faces only, never a photograph")
    p.add_argument("--caption", default="Rendered faces", metavar="TEXT", help="what the figure shows")
    p.add_argument(
        "--runs-dir", type=Path, default=RUNS, help="folder of all studies (default: runs/ of the repository)"
    )
    p.add_argument("--weights-dir", type=Path, default=WEIGHTS, help="default: lib/gan/weights")
    return p


def main(argv: list[str] | None = None) -> int:
    """Run the command. Returns 0, or 2 with one line that says what is wrong."""
    args = parser().parse_args(argv)
    try:
        root = args.runs_dir.resolve() / args.name
        if not (root / "study.json").is_file():
            raise StudyError(f"{root}: no study there")
        limits = args.limits.read_text(encoding="utf-8").splitlines() if args.limits else []
        measured = read_json(args.measured) if args.measured else {}
        if not isinstance(measured, dict):
            raise StudyError(f"{args.measured}: expected {{name: value, …}}, got a {type(measured).__name__}")
        folder = release(
            root,
            args.epoch,
            args.model,
            args.trained_on,
            stage=args.stage,
            note=args.note,
            measured=measured,
            failures=read_json(args.failures) if args.failures else None,
            limits=tuple(line.removeprefix("- ").strip() for line in limits if line.strip()),
            licence=args.licence,
            figure=_figure(args.figure, args.caption),
            default=args.default,
            use_px=args.use_size,
            average=args.average,
            weights=args.weights_dir,
        )
    except (StudyError, CheckpointError, OSError, ValueError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    model = read_json(folder / "model.json")
    print(f"{model['name']}: {model['bytes']:,} bytes in {len(model['parts'])} part(s), sha256 {model['sha256'][:12]}…")
    print(f"card: {folder / CARD}")
    return 0


def _figure(path: Path | None, caption: str) -> tuple[bytes, str] | None:
    if path is None:
        return None
    read_image(path)
    content = path.read_bytes()
    if path.suffix.lower() != ".png" or len(content) > LARGEST_FIGURE:
        raise StudyError(f"{path}: {len(content):,} bytes; a card takes a PNG of at most {LARGEST_FIGURE:,}")
    return content, caption


if __name__ == "__main__":
    sys.exit(main())
