"""Experiments of a tiny study: what they train on, their table, and the command."""

import json
import shutil
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

import lib.study
from lib.study import experiments
from lib.study.config import STAGES, StudyError
from lib.study.datasets import train_data
from lib.study.experiments import COLUMNS, collect, overview, reserved, run_cases
from lib.study.plans import PLANS, Case, Plan, cases_of


@pytest.fixture(autouse=True)
def _tiny_plan(monkeypatch):
    seeds = {"corners": 2, "filters": 1, "noise": 1}
    monkeypatch.setitem(PLANS, "tiny", Plan(3, 1, 1, seeds, (1.0,), "transposed", "fp32"))


@pytest.fixture
def study(trained, copy_of):
    return copy_of(trained)


def measure(study, source, seed):
    return [
        {"metric": "outside_l1", "value": np.float32(seed), "n": np.int64(3)},
        {"metric": "lost", "value": np.nan, "n": 0},
    ]


def run(study, *cases):
    return run_cases(study, cases, workers=0, progress=False, measure=measure)


PLAIN = Case("corners", "plain", 0, at=(313,))


def names(study, stack):
    return set(json.loads((study.data_dir / "stacks" / f"{stack}.json").read_text())["names"])


def test_every_third_picture_of_stage_3_is_reserved_and_trained_on_by_none(study):
    names_A, names_B = reserved(study)
    table_B = pd.read_csv(study.data_dir / "B" / "faces.csv").query("stage3 and split == 'train'")["image"].tolist()
    table_A = pd.read_csv(study.data_dir / "A" / "rule" / "faces.csv").query("split == 'train'")["image"].tolist()
    assert names_B == table_B[2::3]
    assert names_A == table_A[: len(table_B)][2::3]
    shutil.rmtree(study.data_dir / "stacks")
    run(study, PLAIN, Case("filters", "stage1", 0, set_B="stage1"))
    used = {
        side: [names(study, path.stem) for path in sorted((study.data_dir / "stacks").glob(f"{side}_*.json"))]
        for side in "AB"
    }
    assert len(used["A"]) == 2
    assert used["A"][0] == used["A"][1] == set(table_A[: len(table_B)]) - set(names_A)  # filters differ in B alone
    assert all(not part & set(names_B) for part in used["B"])
    assert used["B"][1] == set(table_B) - set(names_B)
    assert used["B"][0] > used["B"][1]


def test_pictures_left_out_make_a_stack_of_its_own(study):
    before, facts = train_data(study, STAGES["stage5"], 2)
    A, B = reserved(study)
    less, others = train_data(study, STAGES["stage5"], 2, (A, B))
    assert len(less.A) == len(less.non_mask) == len(before.A) - len(A)
    assert len(less.B) == len(before.B) - len(B)
    assert others["hash_A"] != facts["hash_A"]
    keep = [k for k in range(len(before.A)) if k % 3 != 2]
    np.testing.assert_array_equal(less.A, before.A[keep])
    np.testing.assert_array_equal(less.non_mask, before.non_mask[keep])
    assert train_data(study, STAGES["stage5"], 2)[1] == facts


def test_the_table_is_tidy_and_the_same_from_disk(study):
    table = run(study, Case("reference", "rule-based", 0), PLAIN, Case("corners", "plain", 1))
    assert table.columns.tolist() == COLUMNS
    rows = table.query("metric == 'outside_l1'").set_index(["experiment", "seed", "epoch"])
    assert rows.loc[("corners", 0), "value"].to_dict() == {313: 0.0, 510: 0.0}
    assert rows.loc[("corners", 1), "value"].to_dict() == {510: 1.0}
    assert set(rows["n"]) == {3}
    assert rows["steps"].tolist() == [3, 3, 3, 0]
    reference = table.query("experiment == 'reference'")
    assert reference["seed"].isna().all()
    assert reference["epoch"].isna().all()
    assert table.query("metric == 'lost'")["value"].isna().all()
    assert set(table["status"]) == {"finished"}
    pd.testing.assert_frame_equal(collect(study), table)
    pd.testing.assert_frame_equal(pd.read_parquet(study.root / "experiments" / "results.parquet"), table)
    assert len(pd.read_csv(study.root / "experiments" / "results.csv")) == len(table)


def test_a_case_that_broke_is_in_the_table_with_every_measure_missing(study, monkeypatch):
    run(study, PLAIN)
    monkeypatch.setattr("lib.gan.trainer.EXPLODED", 0.0)
    table = run(study, PLAIN, Case("corners", "nmc", 0, {"lambda_nmc": 10.0}, at=(313,)))
    broken = table.query("variant == 'nmc'")
    assert broken["status"].str.startswith("diverged: experiment: loss_").all()
    assert broken["value"].isna().all()
    assert set(zip(broken["epoch"], broken["metric"])) == {(e, m) for e in (313, 510) for m in ("outside_l1", "lost")}


@pytest.mark.parametrize(
    ("broken", "told"),
    [
        ({"case": ...}, "to do anew: its result.json is damaged"),
        ({"values": [{"metric": "outside_l1", "value": "x", "n": 3}]}, "to do anew: its result.json is damaged"),
        ({"config_hash": "x"}, "to do anew: made with other settings or data"),
        ("{", "to do anew: its result.json is damaged"),
        ("", "to do anew: its result.json is damaged"),
    ],
    ids=str,
)
def test_what_is_not_in_the_table_is_not_called_finished(study, broken, told):
    run(study, PLAIN)
    path = study.root / "experiments" / "corners" / PLAIN.folder_name / "result.json"
    if isinstance(broken, dict):
        found = json.loads(path.read_text()) | broken
        broken = json.dumps({key: value for key, value in found.items() if value is not ...})
    path.write_text(broken)
    assert overview(study, [PLAIN], measure)["state"].tolist() == [told]
    if "damaged" in told:
        assert collect(study).empty


def test_a_copy_of_a_run_beside_it_counts_for_nothing(study):
    table = run(study, PLAIN)
    folder = study.root / "experiments" / "corners" / PLAIN.folder_name
    shutil.copytree(folder, folder.with_name("plain-seed0 (copy)"))
    shutil.copytree(folder, study.root / "experiments" / "filters" / folder.name)
    pd.testing.assert_frame_equal(collect(study), table)


def test_the_overview_tells_states_and_guesses_times(study):
    cases = cases_of(study, ["corners"])
    assert overview(study, cases, measure)["minutes"].isna().all()
    run(study, cases[0])
    table = overview(study, cases, measure)
    assert table["state"].tolist() == ["finished"] + ["to do"] * 7
    assert table["minutes"].nunique() == 1
    assert table["minutes"][0] > 0


def test_the_command_lists_runs_and_tells_what_is_missing(study, empty, monkeypatch, capsys):
    prepared = []
    evidence = SimpleNamespace(
        VERSION=1, prepare=prepared.append, measure_run=measure,
        redrawn=lambda study, folder: [
            {"metric": "redrawn_share", "value": 0.5, "n": len(pd.read_csv(folder / "samples.csv"))}
        ],
        forced_noise=lambda study, path: [{"metric": "forced_delta_e_l1_s1", "value": 2.0, "n": len(path.name)}],
    )  # fmt: skip
    monkeypatch.setattr(lib.study, "evidence", evidence, raising=False)
    runs = ["--name", "tiny", "--runs-dir", str(study.root.parent), "--only", "filters,reference", "--workers", "0"]
    assert experiments.main([*runs, "--list"]) == 0
    assert "5 cases, 5 to do" in capsys.readouterr().out
    assert experiments.main(runs) == 0
    assert "5 of 5 cases finished" in capsys.readouterr().out
    assert len(prepared) == 1
    redrawn = collect(study).query("metric == 'redrawn_share'")
    assert (set(redrawn["epoch"]), set(redrawn["n"]), len(redrawn)) == ({510}, {3}, 2)
    assert experiments.main([*runs[:-3], "corners", "--workers", "0"]) == 0
    forced = collect(study).query("metric == 'forced_delta_e_l1_s1'")
    assert (set(forced["variant"]), set(forced["epoch"]), len(forced)) == ({"nmc"}, {510}, 2)
    capsys.readouterr()
    for more, told in (
        (["--workers", "-3"], "--workers -3: expected 0 or more"),
        (["--workers", "-3", "--list"], "--workers -3: expected 0 or more"),
        (["--device", "tpu"], "device 'tpu': expected auto, cpu"),
        (["--only", ","], "no experiment is called ''; choose from"),
        (["--only", ""], "no experiment is called ''; choose from"),
    ):  # all is done, and yet what is asked for is looked at
        assert experiments.main([*runs, *more]) == 2
        assert told in capsys.readouterr().err
    assert experiments.main([*runs, "--only", "filters, reference,filters"]) == 0
    assert "5 of 5 cases finished" in capsys.readouterr().out
    with pytest.raises(SystemExit, match="2"):
        experiments.main([*runs, "--name", ""])
    assert "a study's name is not empty" in capsys.readouterr().err
    assert experiments.main([*runs, "--profile", "smoke"]) == 2
    assert "is a study with profile = 'tiny', not 'smoke'" in capsys.readouterr().err
    assert experiments.main(["--name", "empty", "--runs-dir", str(empty.root.parent), "--only", "noise"]) == 2
    assert "run notebook 01_data_filtering first" in capsys.readouterr().err
    with pytest.raises(StudyError, match="01_data_filtering"):
        reserved(empty)
