"""FFHQ's folders in every layout that is about, and the landmarks of its json."""

import json

import numpy as np
import pytest

from lib.data.ffhq import PUBLISHED, ffhq_landmarks, read_ffhq
from lib.data.images import resize
from lib.data.table import validate


@pytest.mark.parametrize(
    "layout", ["images1024x1024/00000/", "thumbnails128x128/00000/", "images1024x1024/", "00000/", ""]
)
def test_layouts(tmp_path, touch_picture, layout):
    paths = [touch_picture(f"{layout}{k:05d}.png") for k in (0, 7)]
    table = validate(read_ffhq(tmp_path))
    assert [tmp_path / image for image in table["image"]] == paths
    assert table["identity"].tolist() == ["00000", "00007"]
    assert (table["reason"] == "").all()


def test_large_pictures_win_over_thumbnails(tmp_path, touch_picture):
    touch_picture("thumbnails128x128/00000/00000.png")
    touch_picture("images1024x1024/00000/00000.png")
    assert read_ffhq(tmp_path)["image"].tolist() == ["images1024x1024/00000/00000.png"]


def test_originals_and_other_names_keep_their_row_with_a_reason(tmp_path, touch_picture):
    for name in ("00000/00001.png", "in-the-wild-images/00000/00001.png", "00000/sample.png", "00000/123.png"):
        touch_picture(name)
    reasons = dict(read_ffhq(tmp_path)[["image", "reason"]].itertuples(index=False))
    assert len(reasons) == 4
    assert reasons["00000/00001.png"] == ""
    assert reasons["in-the-wild-images/00000/00001.png"].startswith("uncropped original")
    assert reasons["00000/sample.png"] == reasons["00000/123.png"] == "name is not a five-digit id"


def test_errors_name_the_folder(tmp_path):
    with pytest.raises(ValueError, match="no pictures in images1024x1024"):
        read_ffhq(tmp_path)
    with pytest.raises(FileNotFoundError, match="gone"):
        read_ffhq(tmp_path / "gone")
    assert PUBLISHED == {"images": 70_000}


@pytest.fixture
def points():
    return np.random.default_rng(0).uniform(0, 1024, (2, 68, 2)).round(2)


@pytest.fixture
def labels(tmp_path, points):
    def entry(k):
        return {"category": "training", "image": {"pixel_size": [1024, 1024], "face_landmarks": points[k].tolist()}}

    path = tmp_path / "ffhq-dataset-v2.json"
    path.write_text(
        json.dumps({"0": entry(0), "41192": entry(1), "3": {"image": {"face_landmarks": [[1, 2]] * 5}}, "4": {}})
    )
    return path


def test_landmarks_by_id(labels, points):
    found = ffhq_landmarks(labels, ["41192", "00000"])
    assert list(found) == ["41192", "00000"]
    assert found["00000"].dtype == np.float32
    np.testing.assert_array_equal(found["41192"], points[1].astype(np.float32))
    assert list(ffhq_landmarks(labels, [0])) == ["00000"]


def test_landmarks_scale_with_the_picture(labels, points):
    """Oracle: the picture spans −0.5 … size − 0.5; its corners and centre must land on those of the small picture."""
    small = ffhq_landmarks(labels, ["0"], size=256)["00000"]
    np.testing.assert_allclose(small, (points[0] + 0.5) / 4 - 0.5, atol=1e-3)
    assert np.interp(-0.5, [-0.5, 1023.5], [-0.5, 255.5]) == -0.5
    expected = np.interp(points[0], [-0.5, 1023.5], [-0.5, 255.5])
    np.testing.assert_allclose(small, expected, atol=1e-3)


@pytest.mark.parametrize(
    ("ids", "message"),
    [
        (["00009"], "has no face '00009'"),
        (["x1"], "has no face 'x1'"),
        (["00003"], "face 00003 has landmarks of shape .5, 2., expected .68, 2."),
        (["00004"], "face 00004 has no usable"),
    ],
)
def test_landmark_errors_name_the_file_and_the_id(labels, ids, message):
    with pytest.raises(ValueError, match=f"ffhq-dataset-v2.json: {message}"):
        ffhq_landmarks(labels, ids)


def test_another_json_is_refused(tmp_path):
    (tmp_path / "x.json").write_text("[1, 2]")
    with pytest.raises(ValueError, match=r"x.json: expected FFHQ's object"):
        ffhq_landmarks(tmp_path / "x.json")
    (tmp_path / "x.json").write_text('{"0": ')
    with pytest.raises(ValueError, match=r"x.json: not valid JSON"):
        ffhq_landmarks(tmp_path / "x.json")


def test_an_empty_folder_for_the_large_ones_does_not_hide_thumbnails(tmp_path, touch_picture):
    touch_picture("thumbnails128x128/00000/00000.png")
    (tmp_path / "images1024x1024" / "00000").mkdir(parents=True)
    assert read_ffhq(tmp_path)["image"].tolist() == ["thumbnails128x128/00000/00000.png"]


def test_a_second_picture_of_an_id_has_a_reason(tmp_path, touch_picture):
    touch_picture("00000/00001.png")
    touch_picture("copy/00001.jpg")
    assert read_ffhq(tmp_path)["reason"].tolist() == ["", "second picture of 00001"]


def test_landmarks_mark_the_same_place_in_a_resized_picture(labels):
    """Oracle: a bright square, found again by its centre of mass after resizing."""
    content = json.loads(labels.read_text())
    content["0"]["image"]["face_landmarks"][0] = [607.5, 303.5]
    labels.write_text(json.dumps(content))
    picture = np.zeros((1024, 1024, 3), np.uint8)
    picture[280:328, 584:632] = 255
    small = resize(picture, 128)[..., 0].astype(float)
    y, x = np.mgrid[:128, :128]
    centre = (small * x).sum() / small.sum(), (small * y).sum() / small.sum()
    assert ffhq_landmarks(labels, ["0"], 128)["00000"][0] == pytest.approx(centre, abs=0.02)


def test_ids_that_ffhq_does_not_have(tmp_path, touch_picture):
    for name in ("69999.png", "70000.png", "٠٠٠٠١.png"):
        touch_picture(name)
    assert read_ffhq(tmp_path)["reason"].tolist() == ["", "FFHQ has no face 70000", "name is not a five-digit id"]


@pytest.mark.parametrize("value", ["NaN", "Infinity", "-1e30", "1" + "0" * 400, "1e999"])
def test_landmarks_that_are_no_pixels_are_refused_by_id(labels, value):
    content = json.loads(labels.read_text())
    content["0"]["image"]["face_landmarks"][5][1] = "here"
    labels.write_text(json.dumps(content).replace('"here"', value))
    with pytest.raises(ValueError, match=r"ffhq-dataset-v2.json: face 0 has"):
        ffhq_landmarks(labels, ["0"])
