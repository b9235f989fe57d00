"""Where a generator fails: painted faults are found in their kind of face, shown, and told."""

import json
from dataclasses import replace
from functools import partial

import numpy as np
import pandas as pd
import pytest

from lib.gan import CheckpointError
from lib.gan.released import find_weights, read_model
from lib.study import failures
from lib.study.card import _failures as section
from lib.study.config import StudyError
from lib.study.failures import _caption, examine, score
from lib.study.kinds import MEASURES, groups, rates
from lib.study.traits import held_out
from lib.study.truths import load_truths


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
    scores = found.scores.assign(identity_cosine=1.0, pattern=np.arange(12) / 5)  # the last ones are seen: 2.0, 2.2
    given = replace(found, scores=scores.assign(attention_iou=np.linspace(0.1, 0.8, 12)))
    figure = given.gallery(["pattern", "identity_cosine", "attention_iou", "unknown"], count=4)
    shown = [ax for ax in figure.axes if ax.images]
    assert len(shown) == 2 * 2 * 3  # a fifth of twelve, rounded up, of each
    assert np.array_equal(shown[0].images[0].get_array(), found.test.rule[11])
    assert np.array_equal(shown[3].images[0].get_array(), found.images[11])
    assert shown[0].get_title() == "2.2"
    face = found.traits.iloc[11]
    assert shown[3].get_title() == f"{face['skin']}, {face['|yaw|']:.0f}°"
    assert figure.get_suptitle() == "No face failed by identity_cosine."
    assert given.gallery(["identity_cosine"]) == "No face failed by identity_cosine."


def test_captions_tell_what_is_known():
    assert _caption("000294_a", pd.Series({"skin": "tan", "|yaw|": 12.4})) == "tan, 12°"
    assert _caption("000294_a", pd.Series({"skin": np.nan, "|yaw|": 3.0})) == "3°"
    assert _caption("a name far too long for a picture", pd.Series({"pitch": 3.0})) == "a name far too l"


def test_a_kind_is_named_only_where_it_fails_more_often(found):
    def most_like(**changes):
        rates = pd.DataFrame([
            {"metric": metric, "trait": "beard", "kind": "none", "faces": 7, "failed": 5, "rate": 5 / 7, "rest": 0.1,
             "p": 0.2} | changes for metric in found.scores
        ])  # fmt: skip
        return replace(found, rates=rates).summary()["most like"].unique().tolist()

    assert most_like() == ["beard none: 5 of 7 failed (71%), of the others 10%; p 0.2"]
    assert most_like(p=0.5) == ["nothing"]
    assert most_like(failed=0, rate=0.0, rest=0.6) == ["nothing"]
    assert most_like(p=np.nan) == ["not tested: nothing seen, or too few faces"]


def test_the_rule_based_input_and_known_traits(trained):
    known = pd.DataFrame({"glasses": ["yes", "no"]}, index=["test_000000.png", "test_000002.png"])
    found = examine(trained, "rule-based", known=known)
    assert found.traits["glasses"].fillna("?").tolist() == ["yes", "?", "no"]
    assert "attention_iou" not in found.scores
    assert (found.scores["outside_l1"] == 0).all()
    assert (found.summary()["worse than input"].dropna() == 0).all()
    with pytest.raises(CheckpointError):
        examine(trained, "no-such-model")
    with pytest.raises(StudyError, match=r"none of the 1 rows is of a held-out .* 'a\.png', expected .* 'test_000000"):
        examine(trained, "rule-based", known=pd.DataFrame({"glasses": ["yes"]}, index=["a.png"]))
    with pytest.raises(StudyError, match="expected at least 1, got -5"):
        examine(trained, "rule-based", count=-5)


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
    told = replace(found, rates=found.rates.assign(found=found.rates.index == row.name)).facts()
    text = "\n".join(section(json.loads(json.dumps(told, allow_nan=False))))
    assert "Kinds of face that do worse" in text
    assert (
        f"- {row['trait']} {row['kind']}: {MEASURES[row['metric']][0]}. On average worse than {row['place']:.0%}"
        in text
    )


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
    use = read_model(find_weights("evening-128"))["use_px"]
    assert (
        failures._other_size(trained, "evening-128")
        == f"note: evening-128 is used at {use} px, these pictures have 32 px"
    )
    assert failures._other_size(trained, "rule-based") is None
    assert failures._other_size(trained, trained.stage_dir("stage5") / "checkpoints" / "epoch_0510") is None
    assert failures.main(["--name", "nobody", "--weights", "rule-based", *where]) == 2
    assert capsys.readouterr().err.startswith("error: ")
