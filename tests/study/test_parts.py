"""Intervals over seeds on made-up results: pairs, ratios, what is missing, and p values."""

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from lib.study import claims
from lib.study.parts import FAILS, HOLDS, UNDECIDED, UNMEASURED, Part, Side, noise_rows, number, rows_of
from tests.study.test_claims import changed, part, results, told


def test_the_interval_is_the_paired_t_test_of_scipy():
    table = results(jitter=0.2, seeds=5)
    last = table[table["epoch"] == 510].set_index(["variant", "metric", "seed"])["value"]
    of, against = last["nmc"]["outside_l1"], last["plain"]["outside_l1"]
    wanted = stats.ttest_rel(of.to_numpy(), against.to_numpy())
    row, between = part(table, "C2", "outside_l1"), wanted.confidence_interval(0.95)
    assert (row["low"], row["high"]) == pytest.approx(between)
    assert (row["against"], row["of"], row["n"]) == (pytest.approx(against.mean()), pytest.approx(of.mean()), 5)
    assert row["p"] == pytest.approx(wanted.pvalue)


def test_seeds_are_paired_and_not_averaged_apart():
    """Every seed has another level, and the loss takes a tenth off each: hidden by the levels, plain in pairs."""
    table = results(jitter=0.0)
    for seed, level in enumerate((0.01, 0.1, 0.5)):
        for variant, factor in (("plain", 1.0), ("nmc", 0.9), ("noise", 1.0), ("nmc+noise", 0.9)):
            mine = (table["seed"] == seed) & (table["variant"] == variant) & (table["metric"] == "redrawn_share")
            table.loc[mine, "value"] = level * factor
    row = part(table, "C2", "redrawn_share")
    assert row["value"] == pytest.approx(-0.1 * np.mean((0.01, 0.1, 0.5)))
    shuffled = table.sample(frac=1, random_state=0)
    pd.testing.assert_frame_equal(
        claims.table(shuffled).drop(columns="device"), claims.table(table).drop(columns="device")
    )


def test_a_diverged_run_may_have_no_row_but_its_status():
    table = results()
    gone = (table["variant"] == "plain") & (table["seed"] == 2)
    row = table[gone].iloc[[0]].assign(metric=pd.NA, value=np.nan, epoch=pd.NA, status="diverged: …")
    found = part(pd.concat([table[~gone], row]), "C6", "attention_iou")
    assert (found["n"], found["verdict"], found["note"]) == (2, UNDECIDED, "1 of plain diverged")


def test_a_ratio_is_taken_at_equal_sigma():
    table = results(jitter=0.0)
    values = {"layer1 σ0.2": 0.001, "layer1 σ1": 0.01, "layer2 σ0.2": 0.01, "layer2 σ1": 0.4}
    table = table[~table["variant"].isin(["layer3 σ0.2", "layer3 σ1"])]
    mine = table["metric"] == "noise_pixel_std"
    table.loc[mine, "value"] = table.loc[mine, "variant"].map(values)
    row = part(table, "C4", "noise_pixel_std")
    assert row["value"] == pytest.approx(np.sqrt(0.1 * 0.025))  # the geometric mean of both ratios
    assert row["note"] == "the same in every seed"
    assert part(table, "C4", "noise_pixel_std", 1)["verdict"] == UNMEASURED


def test_nothing_at_all_is_below_any_ratio_only_where_the_later_layer_does_something():
    assert told(results(changed(noise_pixel_std={"layer1": 0.0})))["C4"] == HOLDS
    assert told(results(changed(noise_pixel_std={"": 1e-6, "layer1": 0.0})))["C4"] == FAILS


def test_shares_that_are_zero_everywhere_decide_nothing():
    row = part(results(changed(redrawn_share={"": 0.0, "plain": 0.0, "noise": 0.0})), "C2", "redrawn_share")
    assert (row["low"], row["high"], row["verdict"]) == (0.0, 0.0, UNDECIDED)


def test_a_reference_without_seeds_stands_beside_every_seed():
    table = results()
    once = (table["variant"] != "rule-based") | (table["seed"] == 0)
    table = table[once]
    table.loc[table["variant"] == "rule-based", "seed"] = pd.NA
    row = part(table, "C1", "truth_nearest_l1")
    assert (row["n"], row["verdict"]) == (3, HOLDS)


@pytest.mark.parametrize(
    ("value", "text"),
    [(0.0, "0"), (123.4, "123"), (-1.2345, "−1.23"), (0.0012345, "0.00123"), (3e-9, "0.000000"), (np.nan, "–")],
)
def test_numbers(value, text):
    assert number(value) == text


def test_p_is_below_a_twentieth_where_the_interval_leaves_the_bar_out():
    for jitter in (0.03, 0.2, 0.5):
        rows = claims.table(results(jitter=jitter)).query("n > 1")
        judged = rows["verdict"].where(~rows["note"].str.contains("313|diverged"), UNDECIDED)
        decided = rows["p"] < 0.05
        assert (decided[judged != UNDECIDED]).all()
        assert not decided[(judged == UNDECIDED) & ~rows["note"].str.contains("313")].any()
    assert part(results(jitter=0.0), "C2", "redrawn_share")["p"] < 1e-9
    assert part(results(changed(redrawn_share={"": 0, "plain": 0, "noise": 0})), "C2", "redrawn_share")["p"] == 1
    assert np.isnan(part(results(seeds=1), "C6", "attention_iou")["p"])


@pytest.mark.parametrize(("of", "verdict"), [(0.09, HOLDS), (0.105, HOLDS), (0.11, UNDECIDED), (0.12, FAILS)])
def test_no_worse_than_by_a_tenth(of, verdict):
    table = results(changed(truth_nearest_l1={"plain": 0.1, "nmc": of}), jitter=0.002)
    row = rows_of(table, [Part("?", "?", "truth_nearest_l1", -1, Side("nmc"), Side("plain"), slack=0.1)])[0]
    assert row["verdict"] == verdict
    assert row["value"] == pytest.approx(of - 0.1, abs=1e-3)  # the difference itself, as it was measured


@pytest.mark.parametrize(("of", "verdict"), [(0.11, HOLDS), (0.095, HOLDS), (0.09, UNDECIDED), (0.08, FAILS)])
def test_no_less_than_by_a_tenth(of, verdict):
    table = results(changed(truth_ssim={"plain": 0.1, "nmc": of}), jitter=0.002)
    part = Part("?", "?", "truth_ssim", 1, Side("nmc"), Side("plain"), slack=0.1)
    assert rows_of(table, [part])[0]["verdict"] == verdict


def test_forced_noise_is_read_by_layer_and_sigma():
    table = results(jitter=0.0)
    rows = noise_rows(table, "forced_pixel_std")
    assert rows.groupby(["layer", "sigma"])["value"].agg(["first", "size"]).loc[(2, 0.2)].tolist() == [0.03, 3]
    assert len(rows) == 27
    assert noise_rows(table, "forced_delta_e").empty
    lost = (table["variant"] == "nmc") & (table["seed"] == 0)
    table.loc[lost, "status"] = "diverged: …"
    row = part(table, "C4", "forced_pixel_std")
    assert (row["n"], row["verdict"], row["note"]) == (2, UNDECIDED, "1 of nmc diverged; the same in every seed")


def test_a_run_with_noise_of_another_strength_is_not_counted_for_the_papers():
    table = results()
    table.loc[table["variant"] == "layer2 σ0.2", "status"] = "failed: …"
    assert part(table, "C4", "noise_pixel_std", 2)["note"] == ""
    table = table[(table["variant"] != "layer2 σ1") | (table["seed"] != 2)]
    assert part(table, "C4", "noise_pixel_std", 2)["note"] == "seeds missing: 1"


def test_detectors_have_seeds_of_their_own_plan():
    table = results(seeds=5, profile="gpu")
    assert part(table, "C7", "auc")["n"] == 5
    few = table[(table["experiment"] != "recogniser") | (table["seed"] < 2)]
    assert part(few, "C7", "auc")["note"] == "seeds missing: 1"  # of three; the corners have five
