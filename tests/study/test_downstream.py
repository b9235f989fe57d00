"""Detectors and recognisers as tasks of the runner: made once, tested again where a set is named, compared in pairs."""

import json

import numpy as np
import pandas as pd
import pytest
import torch

from lib.data.files import write_png
from lib.study import downstream, downstream_real
from lib.study.config import StudyError
from lib.study.downstream import EXPERIMENTS, cases_of, fit, generator_of, load_model, overview, run
from lib.study.downstream_sets import PLANS, VARIANTS, Plan, people_of, scenes_of
from lib.study.downstream_views import compare, curves, photographs
from lib.study.experiments import COLUMNS, collect
from lib.study.plans import Case

TINY = Plan(2, (4, 3), (2, 2), 32, 1.0, 2, (3, 2), 64, 1, (4, 2))


@pytest.fixture
def study(trained, copy_of, monkeypatch):
    monkeypatch.setitem(PLANS, "tiny", TINY)
    return copy_of(trained)


@pytest.fixture
def few():
    return [Case("recogniser", "none", 0), Case("recogniser", "truth", 0), Case("detector", "two-step", 0)]


@pytest.fixture
def mfr2(tmp_path):
    rng = np.random.default_rng(0)
    for name in ("Ann/Ann_0001", "Ann/Ann_0002", "Cy/Cy_0001", "Cy/Cy_0002"):
        write_png(tmp_path / "mfr2" / f"{name}.png", rng.integers(0, 256, (20, 20, 3)).astype(np.uint8))
    (tmp_path / "pairs.txt").write_text("Ann 1 2\nCy 1 2\nAnn 1 Cy 1\nAnn 2 Cy 2\nAnn 1 Cy 9\n")
    return {"mfr2": (tmp_path, tmp_path / "pairs.txt")}


def test_every_variant_of_both_for_each_seed(study):
    cases = cases_of(study)
    assert len(cases) == len(set(map(str, cases))) == 2 * 2 * len(VARIANTS)
    assert [case.seed for case in cases] == sorted(case.seed for case in cases)


def test_rows_are_found_by_collect_and_nothing_is_trained_twice(study, few, monkeypatch):
    table = run(study, few, workers=0, progress=False)
    assert table.columns.tolist() == COLUMNS
    assert set(table["experiment"]) == {"recogniser", "detector"}
    assert {"auc", "bare_auc", "seconds_per_pass", "data_seconds_per_pass"} <= set(table["metric"])
    assert table[table["metric"] == "ap_face_mask"]["value"].between(0, 1).all()
    assert table["n"].gt(0).all()
    told = overview(study)
    assert told["state"].value_counts().to_dict() == {"finished": 3, "new": len(cases_of(study)) - 3}
    assert told.query("variant == 'two-step'")["step two"].str.contains("stage 5").all()
    monkeypatch.setattr(downstream, "fit", None)
    assert run(study, few, workers=0, progress=False).equals(table)
    assert len(collect(study)) == len(table)
    other = sorted((study.stage_dir("stage4") / "checkpoints").iterdir())[-1]  # other weights of step two
    told = overview(study, other).set_index(["experiment", "variant", "seed"])["state"]
    assert told["detector", "two-step", 0] == "other"
    assert told["recogniser", "none", 0] == "finished"


def test_a_set_named_later_is_only_tested_on_and_stays_while_others_are_named(study, few, mfr2, tmp_path, monkeypatch):
    monkeypatch.setattr(downstream_real, "mafa_scenes", lambda root, size: (scenes_of(study, "test"), 3))
    before = run(study, few, workers=0, progress=False)
    monkeypatch.setattr(downstream, "fit", None)
    after = run(study, few, real=mfr2, workers=0, progress=False)
    assert after[after["experiment"].isin(EXPERIMENTS)].reset_index(drop=True).equals(before)
    found = after[after["experiment"] == "mfr2"]
    assert found["variant"].unique().tolist() == ["none", "truth"]
    assert found.query("variant == 'none'").set_index("metric")["value"].drop("auc").to_dict() == {
        "people": 2, "true_pairs": 2, "false_pairs": 2, "unusable": 1,
    }  # fmt: skip
    assert found.query("metric == 'unusable'")["n"].tolist() == [5, 5]
    assert len(compare(study, "recogniser", "auc", tested="mfr2")) == 2
    assert set(curves(study, "recogniser", "mfr2").columns) == {"far", "tar", "variant", "seed"}

    both = run(study, few, real={"mafa": (tmp_path,)}, workers=0, progress=False)
    assert both[both["experiment"] != "mafa"].reset_index(drop=True).equals(after)
    seen = both[both["experiment"] == "mafa"].set_index("metric")
    assert seen.loc["unusable", ["value", "n"]].tolist() == [3, TINY.scenes[1] + 3]
    same = before.query("experiment == 'detector' and metric == 'ap_any'")["value"].item()
    assert seen.loc["ap_any", "value"] == same
    assert run(study, few, workers=0, progress=False).equals(both)
    assert pd.read_csv(study.root / "experiments" / "results.csv")["experiment"].value_counts()["mfr2"] == len(found)
    told = photographs(study).set_index("set")
    assert told.loc["mfr2", "tested with"] == "2 people, 2 true pairs, 2 false pairs"
    assert told.loc["mfr2", "unusable"] == "1 of 5"
    assert "tar_0.01 needs 1,000 false pairs" in told.loc["mfr2", "not told"]
    assert told["finished"].to_dict() == {"mafa": 1, "mfr2": 2}


def test_a_set_named_anew_or_a_model_trained_anew_takes_the_old_rows_away(study, few, mfr2, monkeypatch):
    run(study, few[:2], real=mfr2, workers=0, progress=False)
    tested = [study.root / "experiments" / "mfr2" / case.folder_name for case in few[:2]]
    files = {folder: (folder / "result.json").stat().st_mtime_ns for folder in tested}
    run(study, few[:2], real=mfr2, workers=0, progress=False)
    assert {folder: (folder / "result.json").stat().st_mtime_ns for folder in tested} == files, "nothing twice"
    with mfr2["mfr2"][1].open("a") as file:
        file.write("Ann 1 Cy 2\n")
    table = run(study, few[:1], real=mfr2, workers=0, progress=False)
    assert table.query("metric == 'false_pairs'")["value"].tolist() == [3], "not beside those of another set"
    path = downstream.folder_of(study, few[0]) / downstream.WEIGHTS
    path.write_bytes(path.read_bytes()[:-4] + bytes(4))
    assert "mfr2" not in set(run(study, few[:1], workers=0, progress=False)["experiment"])


def test_a_test_that_fails_is_told_and_takes_nothing_else_away(study, few, mfr2, monkeypatch):
    before = run(study, few[:2], workers=0, progress=False)
    monkeypatch.setattr(downstream.Recogniser, "embed", lambda *_: 1 / 0)
    table = run(study, few[:2], real=mfr2, workers=0, progress=False)
    assert table[table["experiment"] == "recogniser"].reset_index(drop=True).equals(before)
    assert table.query("experiment == 'mfr2'")["value"].isna().all()
    assert "2; failed: ZeroDivisionError" in photographs(study)["failed"].item()
    monkeypatch.undo()
    monkeypatch.setitem(PLANS, "tiny", TINY)
    assert run(study, few[:2], real=mfr2, workers=0, progress=False)["value"].notna().all()


@pytest.mark.parametrize(
    ("named", "told"),
    [
        (lambda d: {"faces": (d,)}, "no set of photographs; name one of mafa, mfr2, mlfw"),
        (lambda d: {"mfr2": (d,)}, "name its root folder and its pairs file"),
        (lambda d: {"mfr2": (d, "")}, "name its root folder and its pairs file"),
        (lambda d: {"mafa": ("/nowhere/at all",)}, "/nowhere/at all: not there"),
        (lambda d: {"mfr2": (d, d)}, "no such file; name the pairs file of MFR2"),
        (lambda d: {"mfr2": (d, d / "mfr2/Ann/Ann_0001.png")}, "line 1: .* is no pair"),
        (lambda d: {"mlfw": (d, d / "pairs.txt")}, "0 of 5 pairs .*aligned/Name_0001_0000.jpg"),
        (lambda d: {"mafa": (d,)}, "no MAFA-Label-Test/LabelTestAll.mat in it"),
    ],
)
def test_a_set_that_cannot_be_is_refused_before_any_work(study, few, mfr2, tmp_path, named, told):
    with pytest.raises(StudyError, match=told):
        run(study, few, real=named(tmp_path), workers=0, progress=False)
    assert not (study.root / "experiments" / "recogniser").exists()


def test_the_same_seed_gives_the_same_weights(study, few):
    run(study, few[:1], workers=0, progress=False)
    path = study.root / "experiments" / "recogniser" / few[0].folder_name
    first = (path / "model.safetensors").read_bytes()
    for file in path.iterdir():
        file.unlink()
    run(study, few[:1], workers=0, progress=False)
    assert (path / "model.safetensors").read_bytes() == first
    assert load_model(study, few[0]).embed(people_of(study, "test").bare).shape == (6, 64)
    assert load_model(study, few[1]) is None


def test_weights_of_step_two_by_preference(study, monkeypatch):
    def finished(seed, status="finished"):
        folder = study.root / "experiments" / "corners" / f"nmc+noise-seed{seed}"
        for epoch in ("0313", "0510"):
            (folder / "checkpoints" / f"epoch_{epoch}").mkdir(parents=True)
            (folder / "checkpoints" / f"epoch_{epoch}" / "net_G_AB.safetensors").touch()
        (folder / "result.json").write_text(json.dumps({"status": status}))

    assert "stage 5, epoch 510" in generator_of(study)[1]
    finished(2, "running")
    assert "stage 5" in generator_of(study, 2)[1]
    finished(0)
    assert generator_of(study, 1)[1] == "experiment nmc+noise, seed 0, epoch 0510"
    finished(1)
    assert generator_of(study, 1)[0].parts[-4:-1] == ("nmc+noise-seed1", "checkpoints", "epoch_0510")
    named = study.stage_dir("stage4") / "checkpoints"
    assert "as named" in generator_of(study, 0, sorted(named.iterdir())[-1])[1]
    monkeypatch.setattr(downstream, "checkpoints_of", lambda *_: {})
    (study.root / "experiments" / "corners").rename(study.root / "gone")
    assert "trained on other pictures" in generator_of(study)[1]
    monkeypatch.setattr(downstream, "default_released", lambda: None)
    with pytest.raises(StudyError, match="no weights of step two"):
        generator_of(study)


def test_fit_gives_a_row_for_each_pass_and_less_loss():
    torch.manual_seed(0)
    model = torch.nn.Linear(3, 1)
    model.loss = lambda x, y: (model(x.float()) - torch.tensor(y)[:, None]).square().mean()
    data = torch.randn(64, 3)

    def of_pass(number):
        yield from ((part, part.sum(1).tolist()) for part in data.split(16))

    told = fit(model, of_pass, 30, 4, 0.05)
    assert told.columns.tolist() == ["loss", "seconds", "data_seconds"]
    assert len(told) == 30
    assert told["loss"].iloc[-1] < 0.1 * told["loss"].iloc[0]
    assert (told["data_seconds"] <= told["seconds"]).all()
