"""Comparisons in pairs, by hand, and figures that hold what they should."""

import json

import numpy as np
import pandas as pd
import pytest
import torch

from lib.study.detector import Detector
from lib.study.downstream_sets import PLANS, VARIANTS, Plan
from lib.study.downstream_views import compare, curves, detections, gains, line_style, photographs, with_intervals
from lib.study.evidence_views import NOTHING
from lib.study.plans import Case
from lib.study.runs import Study

VALUES = {"none": (0.5, 0.6), "truth": (0.7, 0.9)}


@pytest.fixture
def study(tmp_path, monkeypatch):
    """Two variants of two seeds, as if they had been trained."""
    from lib.study.config import PROFILES

    monkeypatch.setitem(PLANS, "tiny", Plan(2, (4, 3), (2, 2), 32, 1.0, 2, (3, 2), 64, 1, (4, 2)))
    study = Study("x", PROFILES["tiny"], "faceworld", 0, tmp_path / "x")
    for variant, each in VALUES.items():
        for seed, value in enumerate(each):
            folder = study.root / "experiments" / "recogniser" / Case("", variant, seed).folder_name
            folder.mkdir(parents=True)
            row = {"epoch": None, "metric": "auc", "value": value, "n": 3}
            (folder / "result.json").write_text(json.dumps({"status": "finished", "values": [row]}))
            pd.DataFrame({"auc": value + np.linspace(-1, 1, 101)}).to_parquet(folder / "bootstrap-faceworld.parquet")
            pd.DataFrame({"far": [0.0, 1], "tar": [0.0, 1]}).to_parquet(folder / "curve-faceworld.parquet")
    return study


def test_comparison_by_hand(study):
    table = compare(study, "recogniser", "auc").set_index("variant")
    assert table.loc["truth", ["value", "gain", "seeds"]].tolist() == pytest.approx([0.8, 0.25, 2])
    half = 12.706 * np.std([0.2, 0.3], ddof=1) / np.sqrt(2)  # t of one degree of freedom
    assert table.loc["truth", "seeds_high"] - 0.25 == pytest.approx(half, rel=1e-3)
    # The same samples on both sides: what they share takes nothing away from the difference.
    assert table.loc["truth", ["people_low", "people_high"]].tolist() == pytest.approx([0.25, 0.25])
    assert table.loc["none", ["gain", "people_low"]].tolist() == [0, 0]


def test_a_training_that_failed_or_has_no_partner_is_left_out(study):
    folder = study.root / "experiments" / "recogniser" / "none-seed1"
    (folder / "result.json").write_text(json.dumps({"status": "failed: x", "values": []}))
    table = compare(study, "recogniser", "auc").set_index("variant")
    assert table.loc["truth", ["value", "gain", "seeds"]].tolist() == pytest.approx([0.8, 0.2, 2])
    assert np.isnan(table.loc["truth", "seeds_low"])  # one pair tells nothing about seeds
    assert compare(study, "detector", "auc").empty


def test_curves_know_whose_they_are(study):
    assert curves(study, "recogniser").groupby(["variant", "seed"]).size().to_dict() == {
        (variant, seed): 2 for variant in VALUES for seed in (0, 1)
    }
    assert curves(study, "detector").empty


def test_gains_are_drawn_where_they_are(study):
    ax = gains(study, [("recogniser", "auc")], "none").axes[0]
    assert [label.get_text() for label in ax.get_yticklabels()] == ["truth"]
    assert ax.lines[-2].get_xdata().tolist() == pytest.approx([0.25])
    assert gains(study, [("detector", "ap_any")], "none") == NOTHING
    assert gains(study, [("recogniser", "auc")], "none", without=["truth"]) == NOTHING


def test_a_wide_interval_ends_in_arrows_and_one_without_width_is_seen(study):
    ax = gains(study, [("recogniser", "auc")], "none").axes[0]
    marks = [line.get_marker() for line in ax.lines[:4]]
    assert marks == ["<", ">", "|", "|"]  # seeds: 0.25 ± 0.64; people: 0.25 … 0.25
    seeds, people = (segments.get_segments()[0][:, 0] for segments in ax.collections)
    assert -0.2 < seeds[0] < 0
    assert 0.25 < seeds[1] < 0.5
    assert people.tolist() == pytest.approx([0.25, 0.25])
    assert np.diff(ax.get_xlim()).item() < 0.6
    handles = ax.get_legend_handles_labels()[1]
    assert handles == ["95 % over seeds", "95 % over people"]


def test_every_variant_has_a_line_of_its_own():
    style = line_style()
    assert len({style["palette"][variant] for variant in VARIANTS}) == len(VARIANTS)
    assert style["dashes"].keys() == set(VARIANTS)


def test_values_with_the_interval_of_the_people_tested_with(study):
    table = with_intervals(study, "recogniser", ["auc"])
    assert table["auc"].to_dict() == {"none": "0.550 [-0.400, 1.500]", "truth": "0.800 [-0.150, 1.750]"}
    assert with_intervals(study, "detector", ["ap_any"]).empty
    assert photographs(study).empty


def test_detections_are_drawn_in_a_row_for_each_detector():
    torch.manual_seed(0)
    images = np.random.default_rng(0).integers(0, 256, (3, 64, 64, 3)).astype(np.uint8)
    fig = detections({"one": Detector(64), "two": Detector(64)}, images, share=-1)
    assert len(fig.axes) == 6
    assert all(0 < len(ax.patches) <= 6 for ax in fig.axes)
    assert [ax.get_ylabel() for ax in fig.axes[::3]] == ["one", "two"]
    assert detections({}, images) == NOTHING
