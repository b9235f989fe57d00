import json

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from lib.study import step_one


@pytest.fixture(scope="module")
def measured():
    faces = step_one.known_faces(6, size=96)
    return faces, step_one.measure(faces, ("ours", "cmfd", "smfrd"))


def disc(radius=20, n=64, soft=0.5, value=(90, 140, 190)):
    y, x = np.mgrid[:n, :n] - n / 2
    r = np.hypot(x, y)
    cover = np.clip((radius - r) / (2 * soft) + 0.5, 0, 1)[..., None]
    ground = np.full((n, n, 3), (190, 150, 130), float)
    ground += 3 * np.sin(x)[..., None]
    return np.rint(ground + cover * (np.array(value) - ground) + cover * 3 * np.sin(1.3 * y)[..., None]).astype(
        np.uint8
    ), r < radius


def test_the_truth_against_itself_is_perfect():
    image, region = disc()
    found = step_one.score(image, region, image, region)
    assert found["iou"] == 1
    assert found["lightness"] == found["chroma"] == found["seam_error"] == 0


def test_a_known_gain_has_its_known_error():
    from skimage.color import rgb2lab

    image, region = disc()
    darker = (image * 0.8).astype(np.uint8)
    expected = np.abs(rgb2lab(image)[region] - rgb2lab(darker)[region])[:, 0].mean()
    assert step_one.score(darker, region, image, region)["lightness"] == pytest.approx(expected)


def test_shifted_regions_overlap_in_part():
    image, region = disc()
    other = np.roll(region, 10, axis=1)
    found = step_one.score(image, other, image, region)["iou"]
    assert found == pytest.approx((region & other).sum() / (region | other).sum())
    assert step_one.score(image, np.zeros_like(region), image, region)["iou"] == 0


def test_a_hard_edge_has_the_larger_seam():
    hard, region = disc(soft=0.3)
    soft, _ = disc(soft=4.0)
    assert step_one.seam(hard, region) > 1.5 * step_one.seam(soft, region)


def test_dlib_s_landmarks_are_worse_than_the_truth_and_a_missed_face_is_listed(measured):
    faces = dict(measured[0])
    faces["full"] = faces["full"].copy()
    faces["full"][0] = 90  # nobody there
    found = step_one.with_dlib(faces)
    assert np.isnan(found["landmarks"][0]).all()
    table = step_one.measure(found, ("ours",)).set_index("face")
    assert "not finite" in table.loc[0, "reason"]
    truth = measured[1].query("preset == 'ours'").set_index("face")
    assert 0.4 < table["iou"][1:].mean() < truth["iou"][1:].mean()


def test_every_preset_sees_the_same_faces_and_seeds_repeat(measured):
    faces, table = measured
    assert table.groupby("preset").size().tolist() == [6, 6, 6]
    again = step_one.measure(step_one.known_faces(6, size=96), ("ours",))
    pd.testing.assert_frame_equal(again, table[table["preset"] == "ours"].reset_index(drop=True))
    assert all(c.startswith("#") and len(c) == 7 for c in faces["colour"])


def test_summary_and_comparison(measured):
    _, table = measured
    summary = step_one.summary(table)
    whole = summary[summary["|yaw|"] == "all"].set_index("preset")
    own = table[table["preset"] == "ours"]["iou"]
    assert whole.loc["ours", "iou"] == pytest.approx(own.mean())
    assert whole.loc["ours", "iou p5"] == pytest.approx(own.quantile(0.05))
    assert whole.loc["ours", "iou"] > whole.loc["cmfd", "iou"]
    compared = step_one.compare(table).set_index(["against", "score"])
    row = compared.loc["smfrd", "iou"]
    assert row["low"] <= row["advantage"] <= row["high"]
    assert row["verdict"] == "beats"
    worse = step_one.compare(table, best="smfrd").set_index(["against", "score"])
    assert worse.loc["ours", "iou"]["verdict"] == "loses"


def test_the_command_writes_its_tables(tmp_path, capsys):
    assert step_one.main(["--out", str(tmp_path), "--count", "2", "--size", "64"]) == 0
    assert len(pd.read_csv(tmp_path / "faces.csv")) == 2 * 6
    assert json.loads((tmp_path / "facts.json").read_text())["count"] == 2
    with Image.open(tmp_path / "step_one.png") as shown:
        size = shown.height // 3
        bare, masked, _ = np.asarray(shown).reshape(3, size, 2 * size, 3)
    assert 0.05 < (bare != masked).any(axis=2).mean() < 0.5
    assert step_one.main(["--out", str(tmp_path), "--count", "0"]) == 2
    assert "at least 1" in capsys.readouterr().err
