"""Questions beyond the paper on made-up results of which the right answer is known."""

import numpy as np
import pandas as pd
import pytest

from lib.study import answers, claims
from lib.study.parts import HOLDS, UNDECIDED, UNMEASURED
from lib.study.plans import BEYOND, FUTURE, cases_of
from tests.study.test_claims import COLUMNS, results
from tests.study.test_plans import at

# Where everything asked for is so; for variants not named, the first.
TRUE = {
    "outside_l1": {"": 0.01, "nmc": 0.02, "one-sided": 0.0205, "one-sided distance": 0.0205},
    "outside_l1_any": {"": 0.01, "nmc": 0.02, "nmc+noise": 0.02},
    "truth_nearest_l1": {"": 0.05, "nmc": 0.1, "nmc+noise": 0.1, "one-sided": 0.102, "one-sided distance": 0.102},
    "truth_ssim": {"": 0.9, "nmc": 0.5, "nmc+noise": 0.5},
    "attention_iou": {"": 0.6, "nmc": 0.3, "attention bce": 0.9},
    "colour_spread": {"": 6.0, "nmc": 3.0},
}


def beyond(values=TRUE, seeds=3, jitter=0.002, profile="laptop"):
    draw, rows = np.random.default_rng(0), []
    kinds = [("corners", "nmc"), ("corners", "nmc+noise"), *(("future", name) for name in FUTURE)]
    kinds += [("generators", name) for name in ("cyclegan direct", "attentiongan direct", "iamgan direct", "cut+nmc")]
    for seed in range(seeds):
        for experiment, variant in kinds:
            for metric, of in values.items():
                value = of.get(variant, of[""]) * (1 + jitter * draw.standard_normal())
                facts = ["finished", profile, "CPU", 1200, 64, ""]
                rows.append([experiment, variant, seed, 510, metric, value, 12, *facts])
    return pd.DataFrame(rows, columns=COLUMNS).astype({"seed": "Int64", "epoch": "Int64"})


def changed(**kinds):
    return {metric: of | kinds.get(metric, {}) for metric, of in TRUE.items()}


def told(table):
    return answers.told(table).set_index("variant")["answer"].to_dict()


def test_every_variant_is_asked_about_once_and_every_measure_is_one_that_is_made(empty):
    cases = {(case.experiment, case.variant) for case in cases_of(at(empty, "laptop"), BEYOND)}
    asked = [(question.experiment, question.variant) for question in answers.QUESTIONS]
    assert sorted(asked) == sorted(cases)
    assert all(any(part.decides for part in question.parts) for question in answers.QUESTIONS)


def test_where_all_is_so_all_is_answered():
    found = told(beyond())
    assert found.pop("one-sided") == "no: without it not worse by 10%"
    assert found.pop("one-sided distance") == "yes: not worse by 10%"
    assert set(found.values()) == {"yes"}
    rows = answers.table(beyond())
    assert set(rows.loc[rows["note"] == "", "verdict"]) == {HOLDS}


@pytest.mark.parametrize(
    ("variant", "values", "answer"),
    [
        ("linear", changed(outside_l1={"linear": 0.03}), "no: worse (outside_l1)"),
        ("attention l1", changed(outside_l1={"attention l1": 0.03}), "no: worse (outside_l1)"),
        ("attention bce", changed(attention_iou={"attention bce": 0.5}), "no: worse (attention_iou)"),
        ("one-sided", changed(outside_l1={"one-sided": 0.03}), "yes: without it worse by more than 10% (outside_l1)"),
        ("cut+nmc", changed(truth_ssim={"cut+nmc": 0.2}), "no: worse (truth_ssim)"),
    ],
)
def test_where_one_measure_says_otherwise(variant, values, answer):
    assert told(beyond(values))[variant] == answer


def test_what_stands_beside_decides_nothing_and_is_told():
    table = beyond(changed(truth_nearest_l1={"linear": 0.2}))
    assert told(table)["linear"] == "yes"
    row = answers.table(table).query("variant == 'linear' and metric == 'truth_nearest_l1'").iloc[0]
    assert (row["says"], row["note"]) == ("worse", "stands beside")


def test_holm_is_the_textbooks():
    p = pd.Series([0.01, 0.04, np.nan, 0.03, 0.005])
    assert answers.holm(p).tolist() == pytest.approx([0.03, 0.06, np.nan, 0.06, 0.02], nan_ok=True)
    assert answers.holm(pd.Series([0.4, 0.9])).tolist() == [0.8, 0.9]


def test_what_does_not_outlast_the_correction_is_told_as_taken_alone():
    """One difference at p 0.02 among twenty that are nothing."""
    table = beyond({metric: {"": 1.0} for metric in TRUE}, jitter=0.05)
    mine = (table["metric"] == "outside_l1") & table["variant"].isin(["linear", "nmc"])
    table.loc[mine, "value"] = [1.0, 0.90, 1.0, 0.91, 1.0, 0.94]
    row = answers.table(table).query("variant == 'linear' and metric == 'outside_l1'").iloc[0]
    assert row["p"] < 0.05 < row["p_holm"]
    assert row["says"] == "better, taken alone"
    assert told(table)["linear"] == "yes, taken alone"


def test_of_pure_noise_nothing_is_found():
    """Without the correction one in twenty would be."""
    draw, found, alone = np.random.default_rng(1), 0, 0
    table = beyond({metric: {"": 1.0} for metric in TRUE})
    for _ in range(6):
        table["value"] = 1 + 0.1 * draw.standard_normal(len(table))
        rows = answers.table(table).dropna(subset="p").query("not variant.str.contains('one-sided')")
        found += (rows["p_holm"] < answers.LEVEL).sum()
        alone += (rows["p"] < answers.LEVEL).sum()
    assert (found, alone > 0) == (0, True)


def test_missing_and_diverged_runs_decide_nothing():
    table = beyond()
    assert told(table[(table["variant"] != "linear") | (table["seed"] > 0)])["linear"] == UNDECIDED
    lost = (table["variant"] == "distance") & (table["seed"] == 1)
    table.loc[lost, "status"] = "diverged: …"
    assert told(table)["distance"] == UNDECIDED
    assert told(table[table["metric"] != "truth_nearest_l1"])["distance"] == UNMEASURED  # photographs
    assert set(told(beyond(seeds=1)).values()) == {UNDECIDED}


def test_markdown_counts_the_comparisons_and_is_part_of_the_claims():
    assert answers.markdown(results()) == ""
    assert answers.table(results(seeds=0)).columns.tolist() == answers.COLUMNS
    text = answers.markdown(beyond())
    counts = [sum(len(q.parts) for q in answers.QUESTIONS if q.experiment == name) for name in BEYOND]
    assert f"{counts[0]} of `future` and {counts[1]} of `generators` of the differences" in text
    assert "| linear | Does a penalty that grows" in text
    whole = claims.markdown(pd.concat([results(), beyond().query("experiment in @BEYOND")]))
    assert whole.count("<details>") == whole.count("</details>") == 2
    assert "36 trainings" in whole  # the claims' own
    with_two = pd.concat([beyond(), beyond(profile="gpu")])
    assert answers.told(with_two).groupby("profile").size().tolist() == [len(answers.QUESTIONS)] * 2
