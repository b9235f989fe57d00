"""Pictures of the experiments: what is drawn is what was measured, and what is missing leaves a gap."""

import shutil

import numpy as np
import pandas as pd
import pytest

from lib.gan import Translator
from lib.study import claims
from lib.study import evidence_views as views
from lib.study.claims import Side
from lib.study.datasets import load_test_set
from lib.study.evidence import METRICS, SOURCES
from lib.study.experiments import Case
from lib.study.timeline import load_stage
from tests.study.test_claims import TRUE, changed, results

FULL, LOST = Case("corners", "nmc+noise", 0), Case("corners", "plain", 0)


@pytest.fixture
def study(trained, copy_of):
    """One case has left weights: those of the tiny study's stages 4 and 5, as of two epochs."""
    study = copy_of(trained)
    folder = study.root / "experiments" / FULL.experiment / FULL.folder_name
    for stage, epoch in (("stage4", 313), ("stage5", 510)):
        shutil.copytree(load_stage(study, stage).last_checkpoint, folder / "checkpoints" / f"epoch_{epoch:04d}")
    shutil.copy(study.stage_dir("stage5") / "samples.csv", folder / "samples.csv")
    shutil.copytree(study.stage_dir("stage5") / "samples", folder / "samples")
    return study


def test_a_case_translates_with_its_last_weights_or_those_of_an_epoch(study):
    rule = load_test_set(study).rule
    folder = study.root / "experiments" / FULL.experiment / FULL.folder_name / "checkpoints"
    last = Translator(folder / "epoch_0510").translate(rule, [2000 + n for n in range(len(rule))])
    assert np.array_equal(views.translate(study, FULL, rule, draw=2).images, last.images)
    former = Translator(folder / "epoch_0313").translate(rule)
    assert np.array_equal(views.translate(study, FULL, rule, epoch=313).images, former.images)
    assert views.translate(study, FULL, rule, epoch=476) is None
    assert views.translate(study, LOST, rule) is None


def test_changes_are_those_of_the_samples(study):
    found = views.changes(study, [FULL, LOST])
    wanted = pd.read_csv(study.stage_dir("stage5") / "samples.csv")
    assert found["outside_change"].tolist() == wanted["outside_change"].tolist()
    assert set(zip(found["variant"], found["seed"])) == {("nmc+noise", 0)}
    assert found["structure_lost"].gt(0).all()
    assert set(views.changes(study, [LOST])) == set(found) - {"step"}


def test_a_panel_has_a_point_per_seed_a_mean_and_the_references():
    table = results()
    lost = (table["variant"] == "noise") & (table["seed"] == 1)
    table.loc[lost, "status"] = "diverged: …"
    fig = views.over_seeds(table, ["outside_l1", "critic_pass", "nobody took this"])
    axes = [ax for ax in fig.axes if ax.axison]
    assert [ax.get_title().replace("\n", " ") for ax in axes] == [
        views.TITLES["outside_l1"],
        views.TITLES["critic_pass"],
    ]
    drawn = np.array([line.get_ydata() for line in axes[0].lines[:3]], float)  # a line per seed, four variants
    for place, variant in enumerate(views.CORNERS):
        wanted = claims.values_of(table, Side(variant), "outside_l1").to_numpy()
        assert np.allclose(drawn[:, place], wanted, equal_nan=True)
        mean = axes[0].collections[place].get_segments()[0][0][1]
        assert mean == pytest.approx(np.nanmean(wanted))
    assert np.isnan(drawn[1, 2])  # the diverged one
    level = claims.values_of(table, Side("rule-based", "reference"), "critic_pass").mean()
    assert [line.get_ydata()[0] for line in axes[1].lines[3:]] == [pytest.approx(level)]


def test_where_nothing_was_measured_a_sentence_says_so():
    table = results()
    table = table[table["experiment"] == "reference"]
    assert views.over_seeds(table, ["critic_pass"]) == views.noise_map(table, ["grain"]) == views.NOTHING
    assert views.margins(claims.table(table)) == views.NOTHING


def test_orders_that_must_be():
    rule, real = {"critic_pass": 0.1, "feature_fd": 5.0}, {"critic_pass": 0.9, "feature_fd": 7.0}
    known = pd.DataFrame({"rule-based": rule, "real B": real, "flat": {"critic_pass": 0.2}})
    found = views.known_orders(known).set_index("measure")
    assert found["as it must be"].to_dict() == {"critic_pass": "yes", "feature_fd": "no"}
    assert found.at["critic_pass", "lower"] == "rule-based 0.100, flat 0.200"
    known.at["critic_pass", "flat"] = 0.95  # one of several is enough to break it
    assert views.known_orders(known).set_index("measure").at["critic_pass", "as it must be"] == "no"
    assert {metric for metric, *_ in views.ORDERS} <= set(METRICS)
    assert {name for _, low, high in views.ORDERS for name in low + high} <= set(SOURCES)


def test_a_reference_far_away_is_told_in_words():
    table = results(jitter=0.0)
    far = table["variant"].eq("rule-based") & table["metric"].eq("critic_pass")
    table.loc[far, "value"] = 50.0
    ax = views.over_seeds(table, ["critic_pass"]).axes[0]
    assert ax.get_ylim()[1] < 2
    assert ax.get_xlabel() == "rule-based: 50.0 ↑"
    assert not ax.get_legend_handles_labels()[1]


def test_what_stands_out_is_told_with_what_chance_gives():
    rng = np.random.default_rng(0)
    traits = pd.DataFrame(rng.normal(size=(40, 5)), columns=list("abcde"))
    traits["same"], traits["unknown"] = 1.0, np.nan
    traits.loc[:3, "c"] += 8
    table, chance = views.stand_out(traits, range(4))
    assert table.index[0] == "c"
    assert set(table.index) == set("abcde")
    assert table.loc["c", "these"] == traits.loc[:3, "c"].mean()
    assert table.loc["c", "apart"] > chance > 0.8
    table, chance = views.stand_out(traits, [5, 6, 7, 8])
    assert abs(table["apart"].iloc[0]) < chance + 0.5


def test_parts_lie_where_their_verdict_says():
    judged = claims.table(results(changed(attention_iou={"stage1": 0.9})))
    lines = {line.get_label(): np.asarray(line.get_xdata()) for line in views.margins(judged).axes[0].lines}
    assert (lines[claims.HOLDS] > 1).all()
    assert len(lines[claims.FAILS]) == 1
    assert (lines[claims.FAILS] < -1).all()
    undecided = claims.table(results({metric: {"": 1.0} for metric in TRUE}, jitter=0.3))
    lines = {line.get_label(): np.asarray(line.get_xdata()) for line in views.margins(undecided).axes[0].lines}
    away = (np.abs(lines[claims.UNDECIDED]) > 1).sum()
    assert away <= 3  # the parts of C5, undecided wherever they lie


def test_the_noise_map_has_the_measures_and_frames_the_papers_settings():
    table = results(jitter=0.0)
    mine = table["variant"].eq("layer2 σ1") & table["metric"].eq("noise_pixel_std")
    table.loc[mine, "value"] = 0.077
    ax = views.noise_map(table, ["noise_pixel_std"]).axes[0]
    texts = [text.get_text() for text in ax.texts]
    assert texts == ["0.03", "0.001", "0.001", "0.03", "0.03", "0.077", "0.03", "0.03", "0.03"]  # σ 0, 0.2, 1
    assert [frame.get_xy() for frame in ax.patches] == [(2, 1), (1, 2)]
    assert "0.03" in ax.get_title()
    assert ax.collections[0].get_clim() == (0, 0.077)
    table.loc[table["metric"].eq("noise_delta_e"), "value"] = 0.18
    assert views.noise_map(table, ["noise_delta_e"]).axes[0].collections[0].get_clim() == (0, 1)


def test_forced_noise_is_a_row_per_seed_layer_and_sigma():
    table = results()
    table = table[~table["metric"].str.startswith("forced")]
    mine = table[(table["variant"] == "nmc") & (table["metric"] == "outside_l1")].drop_duplicates("seed")
    forced = [
        mine.assign(metric=f"forced_{name}_l{k}_s{sigma:g}", value=mine["seed"].astype(float) + k + sigma)
        for name in ("delta_e", "pixel_std") for k in (1, 2) for sigma in (0.2, 4.0)
    ]  # fmt: skip
    rows = views.forced_rows(pd.concat([table, *forced])).set_index(["seed", "layer", "sigma"])
    assert len(rows) == 4 * len(mine)
    assert rows.at[(1, 2, 0.2), "noise_delta_e"] == rows.at[(1, 2, 0.2), "noise_pixel_std"] == pytest.approx(3.2)
    empty = views.forced_rows(table)
    assert empty.empty
    assert {"seed", "layer", "sigma", "noise_delta_e", "noise_pixel_std"} == set(empty)
