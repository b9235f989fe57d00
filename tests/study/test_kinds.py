"""Which kinds of face do worse: a failure planted in one kind is found, and nothing is where nothing is."""

import numpy as np
import pandas as pd
import pytest

from lib.study.kinds import ALPHA, LEAST, failing, groups, place_needed, rates

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


def test_those_as_bad_as_the_worst_fifth_fail_if_it_can_be_seen():
    scores = pd.DataFrame(
        {"pattern": [*np.linspace(0, 1, 8), 1.5, 2.0], "attention_iou": [0.0] * 6 + [0.5, 0.8, 0.95, 1.0]}
    )
    assert failing(scores)["pattern"].tolist() == [False] * 8 + [True] * 2
    assert failing(scores)["attention_iou"].tolist() == [True] * 6 + [False] * 4  # an attention that is nowhere
    assert not failing(scores / 2)["pattern"].any()
    assert not failing(scores.iloc[:1])["pattern"].any()


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
