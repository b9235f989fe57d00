"""Landmarks from dlib, FFHQ's json and tables, through one interface."""

import json

import numpy as np
import pytest

from lib.data import faceworld
from lib.warp import DlibLandmarks, landmarks_array, landmarks_table, read_landmarks, write_landmarks
from lib.warp.sources import DlibSource, FfhqSource, TableSource, open_source


@pytest.fixture
def ffhq(tmp_path, plain_face):
    path = tmp_path / "ffhq-dataset-v2.json"
    path.write_text(json.dumps({"7": {"image": {"face_landmarks": plain_face(1024.0).tolist()}}}))
    return path


@pytest.fixture
def table(tmp_path, plain_face):
    rows = [
        ("a/x.png", 1, plain_face(64.0) + 9),
        ("a/x.png", 0, plain_face(64.0)),
        ("y.png", 0, np.full((68, 2), np.nan)),
    ]
    write_landmarks(tmp_path / "landmarks.csv", landmarks_table(rows))
    return tmp_path / "landmarks.csv"


def test_dlib_is_the_default_detector_with_settings(astronaut):
    source = open_source("dlib", min_score=0.4, cnn="never")
    assert isinstance(source, DlibSource)
    assert (source.finder.min_score, source.finder.cnn, source.by_pixels) == (0.4, "never", True)
    (found,), (expected,) = source.find("any", astronaut), DlibLandmarks(min_score=0.4).find(astronaut)
    assert np.array_equal(found.landmarks, expected.landmarks)
    assert open_source(source) is source
    assert open_source(source.finder).finder is source.finder


def test_the_fingerprint_tells_settings_apart():
    prints = {open_source("dlib", **s).fingerprint() for s in ({}, {"min_score": 0.4}, {"cnn": "never"}, {"pad": 0})}
    assert len(prints) == 4
    assert open_source("dlib", thorough=True).fingerprint() not in prints
    assert all("thorough" not in told for told in prints), "caches from before the setting stay good"
    assert open_source("dlib").fingerprint() == open_source(DlibLandmarks()).fingerprint()


@pytest.mark.parametrize("size", [1024, 256, 128])
def test_ffhq_s_json_fits_every_size_of_its_pictures(ffhq, plain_face, size):
    source = open_source(ffhq)
    assert isinstance(source, FfhqSource)
    (face,) = source.find("thumbs/00000/00007.png", np.zeros((size, size, 3), np.uint8))
    np.testing.assert_allclose(face.landmarks, plain_face(float(size)), atol=0.05)  # the same span of the picture
    assert (face.detector, face.landmarks.dtype) == ("ffhq", np.float32)


def test_ffhq_s_json_says_what_is_not_its_own(ffhq):
    source = open_source(ffhq)
    square = np.zeros((256, 256, 3), np.uint8)
    assert source.find("00008.png", square) == source.find("7.png", square) == source.find("00007x.png", square) == []
    assert source.nothing == "no landmarks for it in ffhq-dataset-v2.json"
    with pytest.raises(ValueError, match="aligned square pictures, this one is 256 × 200"):
        source.find("00007.png", square[:200])


def test_a_table_gives_its_faces_by_number_and_leaves_out_those_without_points(table, plain_face):
    source = open_source(table)
    assert isinstance(source, TableSource)
    picture = np.zeros((64, 64, 3), np.uint8)
    faces = source.find("a/x.png", picture)
    assert [face.detector for face in faces] == ["table", "table"]
    np.testing.assert_allclose([f.landmarks for f in faces], [plain_face(64.0), plain_face(64.0) + 9], atol=1e-4)
    x, y, w, h = faces[0].box
    low, high = plain_face(64.0).min(axis=0).clip(0), plain_face(64.0).max(axis=0).clip(None, 63)
    assert (np.array([x, y]) <= low).all()
    assert (np.array([x + w, y + h]) > high).all()
    assert source.find("y.png", picture) == source.find("x.png", picture) == []


def test_a_table_elsewhere_needs_the_root_its_names_are_relative_to(table, tmp_path):
    picture = np.zeros((64, 64, 3), np.uint8)
    assert len(TableSource(table, tmp_path).find("a/x.png", picture)) == 2
    assert len(TableSource(table, tmp_path / "a").find("x.png", picture)) == 2  # a part of what the table covers
    assert TableSource(table).find("x.png", picture) == []


def test_points_of_another_size_are_refused(table):
    with pytest.raises(ValueError, match=r"outside the picture of 16 × 16: are they of another size\?"):
        open_source(table).find("a/x.png", np.zeros((16, 16, 3), np.uint8))


def test_the_face_world_is_a_source(tmp_path):
    spec = faceworld.SetSpec("A", 2, 32, 0, 0)
    folder = faceworld.render_set(spec, tmp_path, progress=False)
    source = open_source(folder)
    expected = read_landmarks(folder / "landmarks.csv")
    for name, points in zip(expected["image"], landmarks_array(expected)):
        (face,) = source.find(name, np.zeros((32, 32, 3), np.uint8))
        assert np.array_equal(face.landmarks, points)
    other = faceworld.render_set(faceworld.SetSpec("A", 2, 32, 1, 0), tmp_path, progress=False)
    assert source.fingerprint() != open_source(other).fingerprint()


def test_what_is_no_source_is_named(tmp_path, table):
    with pytest.raises(FileNotFoundError, match=r'nothing\.csv: no such file; landmarks come from "dlib", FFHQ'):
        open_source(tmp_path / "nothing.csv")
    (tmp_path / "empty").mkdir()
    with pytest.raises(FileNotFoundError, match=r"empty/landmarks\.csv: no such file"):
        open_source(tmp_path / "empty")
    with pytest.raises(ValueError, match="pad: settings of dlib's detectors, the landmarks come from"):
        open_source(table, pad=0)
    (tmp_path / "list.json").write_text("[1, 2]")
    with pytest.raises(ValueError, match=r"list\.json: expected FFHQ's object"):
        open_source(tmp_path / "list.json")
    (tmp_path / "torn.json").write_text('{"7": ')
    with pytest.raises(ValueError, match=r"torn\.json"):
        open_source(tmp_path / "torn.json")
