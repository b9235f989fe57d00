"""What is known of faces: the draws behind the rendered ones, and what pixels and landmarks say of the same."""

import numpy as np
import pandas as pd
import pytest
from scipy.stats import spearmanr

from lib.study.datasets import load_test_set
from lib.study.traits import SKIN, _ita, _of_picture, held_out, traits
from lib.study.truths import load_truths


@pytest.fixture(scope="module")
def faces(trained):
    return held_out(trained, 14)


def test_more_faces_are_like_the_held_out_ones(trained, faces):
    test, landmarks = faces
    few, own = held_out(trained)
    assert few.names == load_test_set(trained).names == test.names[:3]
    assert held_out(trained, 2)[0].names == few.names
    assert len(test.names) == len(set(test.names)) == len(landmarks) == 14
    assert test.full.shape == test.rule.shape == (14, 32, 32, 3)
    assert np.array_equal(test.full[:3], few.full)
    assert np.array_equal(landmarks[0], own[0])
    shares = (~test.non_mask).mean((1, 2))
    assert shares[3:].min() > 0.5 * shares[:3].min()  # they wear masks, too
    assert len({face.tobytes() for face in test.full}) == 14


def test_the_truth_of_more_faces_is_of_those_faces(trained, faces):
    test, _ = faces
    pick = test.take([0, 9])
    true = load_truths(trained, pick, masks=1).images[:, 0].astype(float)
    outside = pick.non_mask[:, :8]  # hair and background above the mask
    own, other = (np.abs(true[:, :8] - pick.full[order, :8])[outside].mean() for order in ([0, 1], [1, 0]))
    assert own < 3 < other


def test_traits_come_from_the_draws(trained, faces):
    table = traits(trained, *faces)
    assert table.index.tolist() == faces[0].names
    assert set(table["beard"]) <= {"none", "stubble", "full"}
    assert not ((table["sex"] == "woman") & (table["beard"] != "none")).any()
    assert set(table["skin"]) <= {name for _, name in SKIN[:-1]}
    known = pd.read_csv(trained.data_dir / "A" / "faces.csv").set_index("image").loc[faces[0].names[:3]]
    for angle, name in (("yaw", "|yaw|"), ("roll", "|roll|")):
        assert np.allclose(table[name].iloc[:3], known[angle].abs(), atol=0.01)
    assert np.allclose(table["pitch"].iloc[:3], known["pitch"], atol=0.01)
    assert table.notna().all(axis=None)


def test_pixels_and_landmarks_say_about_the_same(trained, faces):
    known = traits(trained, *faces)
    measured = pd.DataFrame([_of_picture(*face) for face in zip(faces[0].full, faces[1])], index=known.index)
    assert np.abs(measured["|yaw|"] - known["|yaw|"]).mean() < 4
    order = [name for _, name in SKIN[:-1]]
    assert spearmanr(known["skin"].map(order.index), measured["skin"]).statistic > 0.7


def test_skin_by_hand():
    assert _ita(np.array([70.0, 10, 20])) == pytest.approx(45)
    assert _ita(np.array([30.0, 10, 20])) == pytest.approx(-45)
    assert [edge for edge, _ in SKIN] == sorted(edge for edge, _ in SKIN)


def test_a_face_without_landmarks_keeps_what_its_mask_says(trained, faces):
    test, landmarks = faces
    photographs = type("Study", (), {"data": "folders"})()
    table = traits(photographs, test.take([0, 1]), [None, landmarks[1]])
    assert table["mask size"].notna().all()
    assert table["framing"].isna().tolist() == [True, False]
    assert pd.isna(table["skin"].iloc[0])
    assert "beard" not in table


def test_patches_outside_the_picture_are_left_out():
    points = np.random.default_rng(0).uniform(-200, -100, (68, 2))
    found = _of_picture(np.full((32, 32, 3), 128, np.uint8), points)
    assert all(np.isnan(found[name]) for name in ("skin", "brightness", "side light", "sharpness"))
