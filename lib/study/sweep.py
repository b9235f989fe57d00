"""The two unknowns of the non-mask change loss (paper §4.1): short trainings of stage 4 for some weights and norms.

The paper gives neither. Every run starts from the last weights of stage 3 and differs from the others in nothing but
the weight, the norm and the seed:

    sweeps/nmc/<norm>_<weight>_<steps>x<batch>_<precision>_seed<seed>/result.json    with metrics.csv and samples/

Its weights are dropped once they are measured. A second call reads the results and trains what is missing.
"""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
from tqdm import tqdm

from lib.data.files import read_json, write_json
from lib.gan import TrainConfig, TrainData, Translator, train
from lib.study.config import LAMBDA_NMC, STAGES
from lib.study.datasets import TestSet, load_test_set, train_data
from lib.study.metrics import attention_split, outside_change
from lib.study.runs import Study
from lib.study.timeline import parent_checkpoint, train_config

STAGE = STAGES["stage4"]
REGION_WEIGHTS = (0.0, 1.0, 3.0, 10.0, 30.0)
MEASURES = ("outside_change", "inside_change", "attention_ratio", "loss_cycle", "loss_G_adv_AB")
TAIL = 0.25  # share of the steps, at the end, whose mean is the loss of a run


class Setting(NamedTuple):
    """One weight of the loss under one norm (see `lib.gan.losses.non_mask_change`)."""

    norm: str
    weight: float


def equal_weight(norm: str, region_weight: float, share: float, size: int) -> float:
    """The weight under `norm` that pulls as strongly as `region_weight` does under "region".

    share: the average share of pixels outside the mask. "region" divides an image's sum of differences by its 3·share·
    size² values outside the mask, "image" by all 3·size² values, "sum" by 1.
    """
    return region_weight * {"region": 1.0, "image": 1 / share, "sum": 1 / (3 * share * size**2)}[norm]


def plan_of(study: Study, steps: int = 0, seeds: int = 0) -> tuple[list[Setting], int, range]:
    """Settings, steps of each run and seeds; 0 stands for what the profile has time for.

    That is one pass; at the paper's width every setting and two seeds, at the narrower ones three settings and one.
    """
    wide, (data, _) = study.profile.ngf >= 64, _data(study)
    passes = train_config(study, STAGE).steps_in_epoch(len(data.A), len(data.B))
    return settings_of(study, every=wide or steps > 0), steps or passes, range(seeds or (2 if wide else 1))


def settings_of(study: Study, every: bool = True) -> list[Setting]:
    """The settings to compare: weights under "region", the default's equals under the others; or three of them."""
    share = float(np.mean(_data(study)[0].non_mask))
    others = [Setting(norm, equal_weight(norm, LAMBDA_NMC, share, study.profile.size)) for norm in ("image", "sum")]
    if not every:
        return [Setting("region", 0.0), Setting("region", LAMBDA_NMC), others[-1]]
    return [*(Setting("region", weight) for weight in REGION_WEIGHTS), *others]


def run_sweep(
    study: Study, settings: Sequence[Setting], steps: int, seeds: Sequence[int] = (0,), progress: bool = True, **changes
) -> pd.DataFrame:
    """Train every setting with every seed, or read what is there.

    steps: of each run. changes: fields of TrainConfig that replace the study's (batch_size, precision, device, …).

    Returns:
        One row per run: norm, weight, seed, and `MEASURES`: changes (mean |output − input| in [0, 1]) and attention
        inside over outside on all held-out faces; losses before their λ, over the last quarter of the steps. The first
        row, norm "start", is measured on the weights that all runs start from.

    Raises StudyError where stage 3 has not been trained; see `lib.gan.train` for the rest.
    """
    parent = parent_checkpoint(study, STAGE)
    start, test = study.root / parent["checkpoint"], load_test_set(study)
    data, facts = _data(study)
    base = train_config(study, STAGE, epochs=1, steps_per_epoch=steps, compile="off")
    base = replace(base, **{"tick_steps": max(1, steps // 20), "keep_epochs": ()} | changes)
    runs = [(setting, seed) for seed in seeds for setting in settings]
    rows = [{"norm": "start", "weight": 0.0} | _changes(start, test, base.device)]
    for setting, seed in tqdm(runs, "NMC sweep", disable=not progress, ascii=True, mininterval=5):
        config = replace(base, nmc_norm=setting.norm, lambda_nmc=setting.weight, seed=seed)
        row = _run(_folder(study, config, steps), config, data, start, {"parent": parent, "data": facts}, test)
        rows.append({"norm": setting.norm, "weight": setting.weight, "seed": seed} | row)
    return pd.DataFrame(rows)


def summary(rows: pd.DataFrame) -> pd.DataFrame:
    """Of every setting: its number of seeds, and mean and spread of every measure over them.

    Columns "outside_change", "± outside_change" (standard deviation; NaN for one seed), and so on.
    """
    groups = rows.groupby(["norm", "weight"], sort=False)
    columns = {"seeds": groups.size()}
    for name in MEASURES:
        columns |= {name: groups[name].mean(), f"± {name}": groups[name].std()}
    return pd.DataFrame(columns)


def _data(study: Study) -> tuple[TrainData, dict]:
    return train_data(study, STAGE, study.profile.sample_count)


def _folder(study: Study, config: TrainConfig, steps: int) -> Path:
    name = f"{config.nmc_norm}_{config.lambda_nmc:.4g}_{steps}x{config.batch_size}_{config.precision}_seed{config.seed}"
    return study.root / "sweeps" / "nmc" / name


def _run(folder: Path, config: TrainConfig, data: TrainData, start: Path, origin: dict, test: TestSet) -> dict:
    path, facts = folder / "result.json", {"config_hash": config.hash(), **origin}
    if path.exists() and {key: read_json(path)[key] for key in facts} == facts:
        return read_json(path)["measured"]
    result = train(config, data, folder, init_from=start, parent=origin["parent"], progress=False)
    last = pd.read_csv(folder / "metrics.csv").query("step > @result.steps * (1 - @TAIL)")
    measured = _changes(result.checkpoint, test, config.device) | {
        "loss_cycle": float(last["loss_cycle_A"].mean() + last["loss_cycle_B"].mean()),
        "loss_G_adv_AB": float(last["loss_G_adv_AB"].mean()),
    }
    write_json(path, {**facts, "config": config.to_dict(), "measured": measured})
    shutil.rmtree(folder / "checkpoints")
    return measured


def _changes(checkpoint: Path, test: TestSet, device: str) -> dict[str, float]:
    made = Translator(checkpoint, device).translate(test.rule)
    return {
        "outside_change": float(np.nanmean(outside_change(test.rule, made.images, test.non_mask))),
        "inside_change": float(np.nanmean(outside_change(test.rule, made.images, ~test.non_mask))),
        "attention_ratio": float(attention_split(made.attention, test.non_mask)["ratio"].mean()),
    }
