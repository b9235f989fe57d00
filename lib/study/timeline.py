"""The training timeline (paper §4.3, Table 1): each stage starts from the last weights of the stage before.

The optimiser starts fresh at every stage: the paper does not say, and the public AttentionGAN code it used never
saved it.
"""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from lib.data.files import read_json, sha256, write_json
from lib.gan import (
    CheckpointError,
    NoiseConfig,
    TrainConfig,
    TrainData,
    list_checkpoints,
    pick_device,
    pick_precision,
    read_meta,
    train,
)
from lib.gan.job import launch, write_job
from lib.study.config import (
    LAMBDA_NMC,
    NMC_NORM,
    PAPER_NOISE_SIGMA,
    PICKED_EPOCHS,
    STAGES,
    Stage,
    StudyError,
    epoch_labels,
)
from lib.study.datasets import train_data
from lib.study.runs import Study, finish_manifest, start_manifest

LOST = "lost from the text"  # §4.3 "set to , , and": a value that nobody can compare with


@dataclass(frozen=True)
class StageRun:
    """A trained stage, as the notebooks look at it."""

    stage: Stage
    folder: Path
    manifest: dict
    metrics: pd.DataFrame  # one row per tick
    samples: pd.DataFrame  # one row per epoch: changes of the fixed sample faces
    checkpoints: dict[int, Path]  # epoch label → folder

    def sample_image(self, epoch: int) -> Path:
        """The strip of fixed sample faces drawn after an epoch."""
        return self.folder / "samples" / f"epoch_{epoch:04d}.png"

    @property
    def milestones(self) -> tuple[int, ...]:
        """Labels of the first, the middle and the last pass (fewer where there are fewer passes)."""
        labels = [int(epoch) for epoch in self.samples["epoch"]]
        return tuple(sorted({labels[0], labels[len(labels) // 2], labels[-1]}))

    @property
    def last_checkpoint(self) -> Path:
        """Folder of the newest kept weights."""
        return self.checkpoints[max(self.checkpoints)]


def train_config(
    study: Study,
    stage: Stage,
    epochs: int | None = None,
    batch_size: int | None = None,
    steps_per_epoch: int | None = None,
    seed: int | None = None,
    device: str = "auto",
    compile: str = "auto",
) -> TrainConfig:
    """The resolved training configuration of a stage under the study's profile.

    `epochs`, `batch_size`, `steps_per_epoch` and `seed` replace the profile's values; None or 0 keeps them, or takes
    the passes and the batch size that the study remembers (`lib.study.runs.remember`).
    `compile`: torch.compile, "on", "off" or "auto": off too, for its gain has not been measured. On CUDA a step's
    kernels are recorded and replayed (lib.gan.graphs): 1.1 to 2.6 times as fast (LOG.md).

    Raises StudyError for another value of `compile`.
    """
    if compile not in ("auto", "on", "off"):
        raise StudyError(f"compile is {compile!r}; choose auto, on or off")
    profile = study.profile
    epochs, batch_size = epochs or study.training.get("epochs"), batch_size or study.training.get("batch_size")
    passes = epochs or (profile.passes[stage.name] if profile.passes else None)
    labels = epoch_labels(stage, passes)
    kept = [label for k, label in enumerate(labels) if (k + 1) % profile.keep_every == 0]
    steps = steps_per_epoch or profile.steps_per_epoch
    return TrainConfig(
        stage=stage.name,
        epochs=labels,
        steps_per_epoch=steps,
        batch_size=batch_size or profile.batch_size,
        lambda_A=stage.lambda_cycle,
        lambda_B=stage.lambda_cycle,
        lambda_nmc=LAMBDA_NMC if stage.nmc else 0.0,
        nmc_norm=NMC_NORM,
        noise=NoiseConfig(sigma=PAPER_NOISE_SIGMA if stage.noise else (0.0, 0.0, 0.0)),
        ngf=profile.ngf,
        ndf=profile.ndf,
        size=profile.size,
        upsampling=profile.upsampling,
        precision=_precision(study, stage, device),
        identity_ratio=profile.identity_ratio,
        lambda_attention=profile.lambda_attention if stage.set_A == "A" else 0.0,
        average=profile.average,
        seed=study.seed if seed is None or seed < 0 else seed,
        keep_epochs=tuple(sorted({*kept, labels[-1], *(set(labels) & set(PICKED_EPOCHS))})),
        sample_count=profile.sample_count,
        tick_steps=min(50, max(1, (steps or 250) // 5)),  # at least five points on the curves per pass
        device=device,
        compile=compile == "on",
        graphs=pick_device(device).type == "cuda",
    )


def _precision(study: Study, stage: Stage, device: str) -> str:
    """The profile's; where that is "auto", what the device computes faster. A stage that has begun keeps its own, so
    that it can go on on another machine."""
    if study.profile.precision != "auto":
        return study.profile.precision
    manifest = study.stage_dir(stage.name) / "manifest.json"
    if manifest.exists():
        return read_json(manifest)["config"].get("precision", "fp32")
    return pick_precision(pick_device(device))


def loss_weights(config: TrainConfig) -> dict[str, float]:
    """What each of the generators' losses is multiplied by: column of metrics.csv → weight."""
    identity = config.identity_ratio
    return {
        "loss_G_adv_AB": 1.0,
        "loss_G_adv_BA": 1.0,
        "loss_cycle_A": config.lambda_A,
        "loss_cycle_B": config.lambda_B,
        "loss_idt_A": identity * config.lambda_A,
        "loss_idt_B": identity * config.lambda_B,
        "loss_nmc": config.lambda_nmc,
    } | {f"loss_{k}": v for k in ("attention", "distance") if (v := getattr(config, f"lambda_{k}")) > 0}


def parent_checkpoint(study: Study, stage: Stage) -> dict | None:
    """The last checkpoint of the stage before: stage, label, folder, hash. None for the pretraining.

    Raises StudyError when the stage before has not been trained to its end.
    """
    if stage.parent is None:
        return None
    before = STAGES[stage.parent]
    manifest_path = study.stage_dir(before.name) / "manifest.json"
    if not manifest_path.exists() or read_json(manifest_path)["status"] != "finished":
        raise StudyError(
            f"{stage.name} starts from the last weights of {before.name}, which has not been trained to its end in "
            f"{study.root}: run notebook {before.notebook} first"
        )
    label, folder = max(checkpoints_of(study, before.name).items())
    return {
        "stage": before.name,
        "epoch": label,
        "checkpoint": f"{before.name}/checkpoints/{folder.name}",
        "sha256_net_G_AB": sha256(folder / "net_G_AB.safetensors"),
    }


def run_stage(study: Study, name: str, progress: bool = True, devices: int = 1, **overrides) -> StageRun:
    """Train a stage to its end, resume it where it was interrupted, or return it at once if it is finished.

    Args:
        name: "pretraining" or "stage1" … "stage5".
        devices: processes, one for each GPU, that share every batch; the batch size stays that of all together.
        overrides: see `train_config`.

    Raises:
        StudyError: the stage before is missing, or the data it needs; or `devices` cannot share the batch.
        lib.gan.CheckpointError: the stage was trained with other settings, other data or another parent.
        lib.gan.TrainError: training failed; the manifest then says so and names the last good checkpoint.
    """
    stage = STAGES[name]
    config = train_config(study, stage, **overrides)
    if devices < 1 or config.batch_size % devices:
        raise StudyError(f"devices is {devices}: expected a number that divides the batch size, {config.batch_size}")
    parent = parent_checkpoint(study, stage)
    data, facts = train_data(study, stage, config.sample_count)
    folder = study.stage_dir(name)
    path = folder / "manifest.json"
    before = read_json(path) if path.exists() else None
    start_manifest(study, name, config.to_dict(), str(pick_device(config.device)), facts, parent, devices)
    start = study.root / parent["checkpoint"] if parent else None
    write_job(folder, config, data, start, parent)
    if progress:
        print(f"{name}: {beginning(folder, config, data, parent)}")
    try:
        if devices > 1:
            launch(folder, devices)
        result = train(config, data, folder, init_from=start, parent=parent, progress=progress)
    except CheckpointError:  # refused before a step was taken: what is there keeps its manifest
        if before:
            write_json(path, before)
        else:
            finish_manifest(study, name, "failed: refused to start")
        raise
    except BaseException as error:
        with suppress(OSError):  # on a full disk the first error is the one to tell
            finish_manifest(study, name, f"failed: {type(error).__name__}: {error}")
        raise
    if result.already_finished and before and before["status"] == "finished":
        write_json(path, before)  # nothing was done: neither its times nor its code are today's
        return load_stage(study, name)
    finish_manifest(study, name, "finished", steps=result.steps, last_epoch=config.epochs[-1])
    return load_stage(study, name)


def beginning(folder: Path, config: TrainConfig, data: TrainData, parent: dict | None) -> str:
    """Where the training of a stage begins, in words: from another's weights, or from a checkpoint of its own."""
    total = len(config.epochs) * config.steps_in_epoch(len(data.A), len(data.B))
    for found in reversed(list_checkpoints(folder / "checkpoints")):
        with suppress(CheckpointError):  # a damaged one, which the trainer passes over, too
            step = read_meta(found)["step"]
            if step == total:
                return f"already finished (checkpoint {found.name})"
            return f"resumes at step {step} of {total} (checkpoint {found.name})"
    return f"starts from {parent['checkpoint'] if parent else 'random weights'}"


def load_stage(study: Study, name: str) -> StageRun:
    """Read a trained (or half-trained) stage from its run folder. Raises StudyError when there is none."""
    folder = study.stage_dir(name)
    if not (folder / "manifest.json").exists():
        raise StudyError(f"{folder}: {name} has not been trained; run notebook {STAGES[name].notebook}")
    return StageRun(
        STAGES[name],
        folder,
        read_json(folder / "manifest.json"),
        pd.read_csv(folder / "metrics.csv"),
        pd.read_csv(folder / "samples.csv"),
        checkpoints_of(study, name),
    )


def joined(runs: list[StageRun]) -> pd.DataFrame:
    """Metrics of consecutive stages as one table whose steps run on; column `stage` says which row is whose."""
    parts, done = [], 0
    for run in runs:
        parts.append(run.metrics.assign(stage=run.stage.name, step=run.metrics["step"] + done))
        done += int(run.metrics["step"].max())
    return pd.concat(parts, ignore_index=True)


def checkpoints_of(study: Study, name: str) -> dict[int, Path]:
    """The kept checkpoints of a stage, oldest first: epoch label → folder."""
    folders = list_checkpoints(study.stage_dir(name) / "checkpoints")
    return {int(folder.name.removeprefix("epoch_")): folder for folder in folders}


def all_checkpoints(study: Study) -> dict[tuple[str, int], Path]:
    """Every kept checkpoint of the timeline, oldest first: (stage, epoch label) → folder."""
    return {(name, label): path for name in STAGES for label, path in checkpoints_of(study, name).items()}


def config_of(study: Study, stage: Stage, **settings) -> TrainConfig:
    """What a stage was trained with, by its manifest; where it has not finished, what it would be trained with."""
    path = study.stage_dir(stage.name) / "manifest.json"
    manifest = read_json(path) if path.exists() else {}
    if manifest.get("status") == "finished":
        return TrainConfig.from_dict(manifest["config"])
    return train_config(study, stage, **settings)


def compressed(study: Study) -> pd.DataFrame:
    """What the profile makes of the timeline: one row per stage, the paper's numbers beside this study's."""
    rows = []
    for stage in STAGES.values():
        config = config_of(study, stage)
        steps = config.steps_per_epoch
        rows.append(
            {
                "stage": stage.name,
                "paper epochs": f"{stage.first_epoch}–{stage.last_epoch}",
                "paper images": stage.dataset_size,
                "passes here": len(config.epochs),
                "steps per pass": steps or "one pass over the data",
                "steps": len(config.epochs) * steps if steps else None,
                "λ": stage.lambda_cycle,
                "NMC": config.lambda_nmc,
                "noise σ": config.noise.sigma,
                "labels": ", ".join(map(str, config.epochs)) if len(config.epochs) <= 4 else
                f"{', '.join(map(str, config.epochs[:3]))} … {config.epochs[-1]}",
            }
        )  # fmt: skip
    return pd.DataFrame(rows)


def what_changed(study: Study, name: str, **settings) -> pd.DataFrame:
    """A stage beside the stage it starts from: one row per setting, of the paper and of this study.

    settings: those of `train_config` that the stage will be trained with; a trained one shows what it was trained with.

    Columns: the parent's name, the stage's name, and "changed".
    """
    stage = STAGES[name]
    columns = {}
    for row in (STAGES[stage.parent], stage) if stage.parent else (stage,):
        config = config_of(study, row, **settings)
        columns[row.name] = {
            "paper: epochs": f"{row.first_epoch}–{row.last_epoch}",
            "paper: λ of the cycle loss": f"{row.lambda_cycle:g}" if row.parent else LOST,
            "paper: non-mask change loss": "yes" if row.nmc else "no",
            "paper: noise input": "yes" if row.noise else "no",
            "paper: images per set": f"{row.dataset_size:,}",
            "paper: restriction added to B": row.restriction,
            "here: passes": str(len(config.epochs)),
            "here: steps per pass": str(config.steps_per_epoch or "one pass over the data"),
            "here: λ of the cycle loss": f"{config.lambda_A:g}",
            "here: weight of the identity loss": f"{config.identity_ratio * config.lambda_A:g}",
            "here: λ of the non-mask change loss": f"{config.lambda_nmc:g}",
            "here: noise σ at content layers 1, 2, 3": ", ".join(f"{s:g}" for s in config.noise.sigma),
            "here: batch size": str(config.batch_size),
        }
        if study.profile.lambda_attention:
            columns[row.name]["here: λ of the attention's error"] = f"{config.lambda_attention:g}"
    table = pd.DataFrame(columns)
    if stage.parent:
        table["changed"] = ["←" if a != b and a != LOST else "" for a, b in zip(table[stage.parent], table[name])]
    return table
