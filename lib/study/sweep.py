"""The two unknowns of the non-mask change loss (paper §4.1): short trainings of stage 4 for some weights and norms.

Every run starts from the last weights of stage 3 and differs from the others in the weight, the norm and the seed only:

    sweeps/nmc/<norm>_<weight>_<steps>x<batch>_<precision>_seed<seed>/result.json    with metrics.csv and samples/

Its weights are dropped once they are measured. A second call reads the results and trains what is missing
(lib.study.runner).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd

from lib.gan import TrainData, Translator
from lib.study.config import LAMBDA_NMC, STAGES, StudyError
from lib.study.datasets import TestSet, load_test_set, train_data
from lib.study.metrics import attention_split, outside_change
from lib.study.runner import Task, read_result, run_tasks
from lib.study.runs import Study
from lib.study.timeline import parent_checkpoint, train_config

STAGE = STAGES["stage4"]
MEASURES = ("outside_change", "inside_change", "attention_ratio", "loss_cycle", "loss_G_adv_AB")


class Setting(NamedTuple):
    """One weight of the loss under one norm (see `lib.gan.losses.non_mask_change`)."""

    norm: str
    weight: float


def equal_weight(norm: str, region_weight: float, share: float, size: int) -> float:
    """The weight under `norm` that pulls as strongly as `region_weight` does under "region".

    share: of an average picture, the pixels outside the mask. "region" divides the sum of a picture's differences by
    its own 3·share·size² values there, "image" by all its 3·size², "sum" by 1.
    """
    return region_weight * {"region": 1.0, "image": 1 / share, "sum": 1 / (3 * share * size**2)}[norm]


def plan_of(study: Study, steps: int = 0, seeds: int = 0) -> tuple[list[Setting], int, range]:
    """Settings, steps of each run and seeds; 0 stands for what the profile has time for: one pass, and at the paper's
    width every setting with two seeds, at narrower ones three settings with one.

    At equal strength "image" and "sum" are one loss in two units. So "sum" takes part with the weight 1 that §4.1 has,
    read to the letter.
    """
    wide, (data, _) = study.profile.ngf >= 64, _data(study)
    image = equal_weight("image", LAMBDA_NMC, float(np.mean(data.non_mask)), study.profile.size)
    settings = [Setting("region", 0.0), Setting("region", LAMBDA_NMC), Setting("image", image)]
    if wide or steps:
        settings += [*(Setting("region", weight) for weight in (1.0, 3.0, 30.0)), Setting("sum", 1.0)]
    one_pass = train_config(study, STAGE).steps_in_epoch(len(data.A), len(data.B))
    settings.sort(key=lambda setting: (setting.norm != "region", setting))
    return settings, steps or one_pass, range(seeds or (2 if wide else 1))


def run_sweep(
    study: Study, settings: Sequence[Setting], steps: int, seeds: Sequence[int] = (0,), progress: bool = True, **changes
) -> pd.DataFrame:
    """Train every setting with every seed, or read what is there. changes: TrainConfig's fields, e.g. batch_size.

    Returns one row per run: norm, weight, seed and `MEASURES`: changes (mean |output − input| in [0, 1]) and attention,
    inside over outside, on all held-out faces; losses before their λ, over the last quarter of the steps. The first
    row, norm "start", is measured on the weights that all runs start from.

    Raises StudyError where stage 3 has not been trained, and where a run failed. One that diverged has NaN.
    """
    parent = parent_checkpoint(study, STAGE)
    start, test = study.root / parent["checkpoint"], load_test_set(study)
    data, facts = _data(study)
    origin = {"parent": parent, "data": facts}
    base = train_config(study, STAGE, epochs=1, steps_per_epoch=steps, compile="off")
    base = replace(base, **{"tick_steps": max(1, steps // 20)} | changes)
    runs = [(setting, seed) for seed in seeds for setting in settings]
    root, tasks = study.root / "sweeps" / "nmc", []
    for setting, seed in runs:
        config = replace(base, nmc_norm=setting.norm, lambda_nmc=setting.weight, seed=seed)
        name = f"{setting.norm}_{setting.weight:.4g}_{steps}x{config.batch_size}_{config.precision}_seed{seed}"
        facts = {"config_hash": config.hash(), **origin}
        tasks.append(
            Task(root / name, facts, partial(_measure, test), config, data, start, parent, config.epochs, keep=False)
        )
    run_tasks(root, tasks, 0, progress, "NMC sweep")
    rows = [{"norm": "start", "weight": 0.0} | _changes(start, test, base.device)]
    for (setting, seed), task in zip(runs, tasks):
        rows.append({"norm": setting.norm, "weight": setting.weight, "seed": seed} | _measured(task.folder))
    return pd.DataFrame(rows)


def summary(rows: pd.DataFrame) -> pd.DataFrame:
    """One row per setting: its seeds, and of each measure m the mean and, as "± m", its standard deviation."""
    groups = rows.groupby(["norm", "weight"], sort=False)
    columns = {"seeds": groups.size()}
    for name in MEASURES:
        columns |= {name: groups[name].mean(), f"± {name}": groups[name].std()}
    return pd.DataFrame(columns)


def _data(study: Study) -> tuple[TrainData, dict]:
    return train_data(study, STAGE, study.profile.sample_count)


def _measure(test: TestSet, task: Task) -> list[dict]:
    last = pd.read_csv(task.folder / "metrics.csv").query("step > 0.75 * @task.steps")
    values = _changes(task.checkpoint(task.labels[-1]), test, task.config.device) | {
        "loss_cycle": float(last["loss_cycle_A"].mean() + last["loss_cycle_B"].mean()),
        "loss_G_adv_AB": float(last["loss_G_adv_AB"].mean()),
    }
    return [{"metric": name, "value": value} for name, value in values.items()]


def _measured(folder: Path) -> dict[str, float]:
    """The measures of a run; NaN where it diverged. StudyError where it failed."""
    result = read_result(folder)
    if result.get("status", "").startswith("failed"):
        raise StudyError(f"{folder}: {result['status']}")
    if "measured" in result:  # as the first releases wrote it
        return result["measured"]
    return dict.fromkeys(MEASURES, np.nan) | {row["metric"]: row["value"] for row in result["values"]}


def _changes(checkpoint: Path, test: TestSet, device: str) -> dict[str, float]:
    made = Translator(checkpoint, device).translate(test.rule)
    return {
        "outside_change": float(np.nanmean(outside_change(test.rule, made.images, test.non_mask))),
        "inside_change": float(np.nanmean(outside_change(test.rule, made.images, ~test.non_mask))),
        "attention_ratio": float(attention_split(made.attention, test.non_mask)["ratio"].mean()),
    }
