"""The sweep of the non-mask change loss: equal strengths, one start, results that are read and not trained again."""

import shutil

import numpy as np
import pandas as pd
import pytest
import torch

from lib.data.files import read_json
from lib.gan.losses import non_mask_change
from lib.study import runner, sweep
from lib.study.config import StudyError
from lib.study.datasets import train_data
from lib.study.sweep import Setting, equal_weight, plan_of, run_sweep, summary

SETTINGS = [Setting("region", 0.0), Setting("region", 1000.0)]


@pytest.fixture
def study(trained, copy_of):
    copy = copy_of(trained)
    shutil.rmtree(copy.root / "sweeps", ignore_errors=True)
    return copy


def test_equal_weights_pull_equally_where_every_picture_has_the_average_share():
    non_mask = torch.ones(4, 1, 16, 16)
    non_mask[..., 12:, :] = 0
    real, fake = torch.rand(2, 4, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    pulls = [
        equal_weight(norm, 10.0, 0.75, 16) * non_mask_change(real, fake, non_mask, norm).item()
        for norm in ("region", "image", "sum")
    ]
    assert pulls == pytest.approx([pulls[0]] * 3, rel=1e-5)


def test_the_plan_holds_the_default_and_the_loss_switched_off(trained):
    few, steps, seeds = plan_of(trained)
    assert (len(few), steps, list(seeds)) == (3, trained.profile.steps_per_epoch, [0])
    every, steps, seeds = plan_of(trained, steps=40, seeds=2)
    assert (steps, list(seeds)) == (40, [0, 1])
    assert {Setting("region", 0.0), Setting("region", 10.0)} < set(few) < set(every)
    assert every[:5] == [Setting("region", weight) for weight in (0.0, 1.0, 3.0, 10.0, 30.0)]
    assert [s.norm for s in every[5:]] == ["image", "sum"]
    share = train_data(trained, sweep.STAGE, 2)[0].non_mask.mean()
    assert every[5].weight == pytest.approx(10 / share)


def test_a_strong_loss_keeps_the_face_and_a_second_call_trains_nothing(study, monkeypatch):
    rows = run_sweep(study, SETTINGS, 25, progress=False, lr=2e-3)
    assert rows["norm"].tolist() == ["start"] + ["region"] * 2
    assert rows[list(sweep.MEASURES[:3])].notna().all(axis=None)
    off, on = rows["outside_change"][1:]
    assert on < 0.9 * off
    folders = sorted((study.root / "sweeps" / "nmc").glob("*/"))
    assert len(folders) == 2
    assert all((f / "result.json").is_file() and not (f / "checkpoints").exists() for f in folders)
    assert read_json(folders[0] / "result.json")["parent"]["stage"] == "stage3"

    def fail(*args, **more):
        raise AssertionError("trained again")

    monkeypatch.setattr(runner, "train", fail)
    again = run_sweep(study, SETTINGS, 25, progress=False, lr=2e-3)
    pd.testing.assert_frame_equal(again, rows)
    with pytest.raises(StudyError, match="failed: AssertionError: trained again"):  # another rate is another run
        run_sweep(study, SETTINGS, 25, progress=False, lr=1e-3)


def test_an_interrupted_sweep_goes_on_with_the_settings_that_are_missing(study, monkeypatch):
    run_sweep(study, SETTINGS[:1], 2, progress=False)
    trained = []
    whole = runner.train
    monkeypatch.setattr(runner, "train", lambda cfg, **more: trained.append(cfg.lambda_nmc) or whole(cfg, **more))
    rows = run_sweep(study, SETTINGS, 2, seeds=(0, 1), progress=False)
    assert trained == [1000.0, 0.0, 1000.0]
    assert rows["seed"][1:].tolist() == [0, 0, 1, 1]


def test_the_summary_has_mean_and_spread_over_seeds():
    rows = pd.DataFrame({"norm": ["start", "region", "region"], "weight": [0.0, 1.0, 1.0], "seed": [np.nan, 0, 1]})
    rows = rows.assign(**{name: [1.0, 2.0, 4.0] for name in sweep.MEASURES})
    table = summary(rows)
    assert table.loc[("region", 1.0), "outside_change"] == 3
    assert table.loc[("region", 1.0), "± outside_change"] == pytest.approx(2**0.5)
    assert table["seeds"].tolist() == [1, 2]
    assert np.isnan(table.loc[("start", 0.0), "± loss_cycle"])


def test_a_study_without_stage_3_is_told_what_to_run(empty):
    with pytest.raises(StudyError, match="run notebook 07_stage3"):
        run_sweep(empty, SETTINGS, 2, progress=False)
