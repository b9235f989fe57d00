"""Where a generator fails: a failure planted in one kind of face is found, and nothing is where nothing is."""

import json
from functools import partial

import numpy as np
import pandas as pd
import pytest

from lib.gan import CheckpointError
from lib.study import failures
from lib.study.card import _failures as section
from lib.study.config import StudyError
from lib.study.failures import ALPHA, LEAST, MEASURES, examine, groups, place_needed, rates, score
from lib.study.traits import held_out
from lib.study.truths import load_truths

FACES = 60


def noise(seed: int, faces: int = FACES) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Scores that hang together, as those of one face do, and traits that have nothing to do with them."""
    rng = np.random.default_rng(seed)
    scores = rng.normal(10, 1, (faces, 3)) @ rng.uniform(0, 1, (3, 4))
    table = pd.DataFrame(rng.normal(size=(faces, 3)), columns=["|yaw|", "pitch", "framing"])
    table["skin"] = rng.choice(["light", "tan", "brown"], faces, p=[0.5, 0.35, 0.15])
    scores[:, 0] /= 100  # an overlap is at most 1
    return pd.DataFrame(scores, columns=["attention_iou", "pattern", "truth_nearest_l1", "seam_error"]), table


def test_under_pure_noise_nothing_is_found_more_often_than_stated():
    tries = 200
    wrong = sum(rates(*_kinds(noise(k)), seed=k, permutations=99)[0]["found"].any() for k in range(tries))
    assert wrong <= tries * ALPHA + 3 * np.sqrt(tries * ALPHA * (1 - ALPHA))
    assert wrong > 0  # 200 at 5 %: a test that never finds anything would pass above


def _kinds(pair):
    scores, table = pair
    return scores, groups(table)


@pytest.mark.parametrize(("metric", "shift"), [("pattern", 6.0), ("attention_iou", -0.06)])
def test_a_planted_failure_is_found_in_its_group_alone(metric, shift):
    scores, table = noise(5)
    brown = table["skin"] == "brown"
    assert brown.sum() >= LEAST
    scores.loc[brown, metric] += shift
    found, z = rates(scores, groups(table), permutations=999)
    first = found.iloc[0]
    assert (first["metric"], first["trait"], first["kind"]) == (metric, "skin", "brown")
    assert first["p"] <= 0.01
    assert first["found"]
    assert first["z"] > z
    assert first["low"] < first["rate"] <= first["high"]
    assert first["rate"] > 3 * first["rest"]
    assert found["found"].sum() == 1


def test_better_is_not_worse():
    scores, table = noise(5)
    scores.loc[table["skin"] == "brown", "pattern"] -= 8
    found, _ = rates(scores, groups(table), permutations=499)
    rows = found.query("metric == 'pattern' and kind == 'brown'")
    assert rows["p"].item() == 1
    assert rows["place"].item() < 0.2


def test_rates_by_hand():
    scores = pd.DataFrame({"pattern": np.arange(1.0, 11), "attention_iou": [np.nan] * 5 + [0.5, 0.4, 0.3, 0.2, 0.1]})
    table = pd.DataFrame({"glasses": ["yes"] * 5 + ["no"] * 5})
    found, _ = rates(scores, groups(table), permutations=99)
    row = found.set_index(["metric", "kind"])
    no = row.loc[("pattern", "no")]
    assert (no["faces"], no["failed"], no["rate"], no["rest"]) == (5, 2, 0.4, 0.0)  # a fifth of ten: the two largest
    assert no["place"] == pytest.approx(0.5 + (8 - 5.5) / 10)
    assert no["z"] == pytest.approx(
        12.5 / np.sqrt(5 * 5 / 10 * (np.arange(10) - 4.5) @ (np.arange(10) - 4.5) / 9), abs=1e-3
    )
    assert row.loc[("attention_iou", "yes"), "faces"] == 0
    assert np.isnan(row.loc[("attention_iou", "no"), "p"])  # there is nobody to compare with


def test_what_nobody_would_see_is_no_failure():
    scores, table = noise(1)
    scores = pd.DataFrame({"outside_l1": scores["pattern"] * 1e-5, "identity_cosine": 1 - scores["pattern"] * 1e-5})
    scores.loc[table["skin"] == "brown"] += [1e-3, -1e-3]
    found, z = rates(scores, groups(table), permutations=99)
    assert found["failed"].sum() == 0
    assert found["p"].isna().all()
    assert z == -np.inf


def test_kinds_of_face():
    table = pd.DataFrame({"framing": [0.1, 0.2, 0.3, 0.4, 0.5, 0.6, np.nan], "flat": 1.0,
                          "beard": ["none", "full", None, "none", "none", "full", "none"]})  # fmt: skip
    kinds = groups(table)
    assert kinds.columns.get_level_values("trait").tolist() == ["framing"] * 3 + ["beard"] * 2
    assert kinds["framing"].sum().tolist() == [2, 2, 2]
    assert not kinds["framing"].loc[6].any()
    flat = groups(pd.DataFrame({"framing": [0.0, 0.0, 0.0, 0.5, 1.0]}))
    assert list(flat["framing"]) == ["0 to 0.333", "above 0.333"]
    assert kinds["beard", "full"].tolist() == [False, True, False, False, False, True, False]


def test_the_place_that_is_needed_is_the_one_at_which_rows_are_found():
    assert place_needed(0, 30) == 0.5
    scores, table = noise(3)
    found, z = rates(scores, groups(table), permutations=99)
    row = found.query("trait == 'pitch' and kind.str.startswith('below')").iloc[0]
    assert row["faces"] == FACES / 3
    assert 0.5 + (row["place"] - 0.5) * z / row["z"] == pytest.approx(place_needed(z, FACES), abs=0.01)


@pytest.fixture(scope="module")
def faces(trained):
    return held_out(trained, 30)


def test_spots_painted_on_some_faces_are_found_by_their_kind(faces):
    test, _ = faces
    spotted = np.random.default_rng(0).permutation(len(test.names)) < 8
    images = test.rule.copy()
    images[spotted, :6, :6] = 255 - images[spotted, :6, :6]  # a corner of the background
    scores = score(test, images)
    table = pd.DataFrame({"glasses": np.where(spotted, "yes", "no"), "framing": np.arange(len(spotted)) % 7.0})
    found, _ = rates(scores[["outside_l1", "far_change", "pattern"]], groups(table), permutations=499)
    assert set(found[found["found"]]["metric"]) == {"outside_l1", "far_change"}
    assert set(found[found["found"]]["kind"]) == {"yes"}
    assert (scores["pattern"] == 0).all()


@pytest.fixture(scope="module")
def found(trained):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(failures, "AT_ONCE", 5)  # looked at in three parts
        patch.setattr(failures, "load_truths", partial(load_truths, masks=1))  # a picture of it takes its time
        yield examine(trained, trained.stage_dir("stage5") / "checkpoints" / "epoch_0510", count=12)


def test_a_generator_is_looked_through(found):
    assert list(found.scores) == list(MEASURES)
    assert list(found.before) == ["truth_nearest_l1", "lightness_error", "seam_error"]
    assert found.scores.notna().all(axis=None)
    summary = found.summary().set_index("measure")
    assert (summary["faces"] == 12).all()
    worse = (found.scores["lightness_error"] > found.before["lightness_error"]).sum()
    assert summary.loc["lightness_error", "worse than input"] == worse
    worst = found.worst("attention_iou", 4)
    assert worst["attention_iou"].is_monotonic_increasing
    assert worst["attention_iou"].iloc[0] == found.scores["attention_iou"].min() == summary["worst"]["attention_iou"]
    assert found.worst("pattern")["pattern"].iloc[0] == found.scores["pattern"].max()


def test_the_gallery_shows_the_worst_first(found):
    figure = found.gallery(["pattern", "attention_iou", "unknown"], count=4)
    shown = [ax for ax in figure.axes if ax.images]
    assert len(shown) == 2 * 2 * 4
    first = found.scores.index.get_loc(found.worst("pattern").index[0])
    assert np.array_equal(shown[0].images[0].get_array(), found.test.rule[first])
    assert np.array_equal(shown[4].images[0].get_array(), found.images[first])
    assert shown[0].get_title() == f"{found.scores['pattern'].max():.4g}"


def test_the_rule_based_input_and_known_traits(trained):
    known = pd.DataFrame({"glasses": ["yes", "no"]}, index=["test_000000.png", "test_000002.png"])
    found = examine(trained, "rule-based", known=known)
    assert found.traits["glasses"].fillna("?").tolist() == ["yes", "?", "no"]
    assert "attention_iou" not in found.scores
    assert (found.scores["outside_l1"] == 0).all()
    assert (found.summary()["worse than input"].dropna() == 0).all()
    with pytest.raises(CheckpointError):
        examine(trained, "no-such-model")


def test_no_rule_based_images(empty):
    with pytest.raises(StudyError, match="notebook 02"):
        examine(empty, "rule-based")


def test_facts_for_the_card_are_plain_json_and_tell_all(found):
    facts = json.loads(json.dumps(found.facts(), allow_nan=False))
    assert facts["found"] == []
    text = "\n".join(section(facts))
    assert "12 rendered faces of the face world, 32 px" in text
    assert "No kind of face was found to do worse" in text
    assert "nan" not in text
    assert all(row["what"] in text for row in facts["measures"])
    row = found.rates[found.rates["p"].notna()].iloc[0]
    told = failures.Failures(**vars(found) | {"rates": found.rates.assign(found=found.rates.index == row.name)}).facts()
    text = "\n".join(section(json.loads(json.dumps(told, allow_nan=False))))
    assert "Kinds of face that do worse" in text
    assert f"- {row['trait']} {row['kind']}: {MEASURES[row['metric']][0]}. {row['failed']} of {row['faces']}" in text


def test_the_command(trained, tmp_path, capsys):
    where = ["--runs-dir", str(trained.root.parent), "--out", str(tmp_path)]
    (tmp_path / "known.csv").write_text("image,glasses\ntest_000000.png,yes\ntest_000001.png,no\n")
    command = ["--name", trained.name, "--weights", "rule-based", "--known", str(tmp_path / "known.csv"), *where]
    assert failures.main(command) == 0
    assert {"failures.json", "rates.csv", "summary.csv", "scores.csv", "gallery.png"} <= {
        p.name for p in tmp_path.iterdir()
    }
    assert "glasses" in pd.read_csv(tmp_path / "scores.csv")
    assert "seam_error" in capsys.readouterr().out
    assert failures.main(["--name", "nobody", "--weights", "rule-based", *where]) == 2
    assert capsys.readouterr().err.startswith("error: ")
