import pickle
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from skimage.transform import SimilarityTransform, warp

from lib.warp import DlibLandmarks, landmarks_array, landmarks_table, read_landmarks, write_landmarks
from lib.warp import landmarks as module


@pytest.fixture(scope="module")
def finder():
    return DlibLandmarks()


def resized(pixels, size):
    return np.asarray(Image.fromarray(pixels).resize((size, size), Image.Resampling.LANCZOS))


# --- dlib


def test_the_astronaut_has_one_face_where_it_is(astronaut, finder):
    faces = finder.find(astronaut)
    assert len(faces) == 1
    face = faces[0]
    assert face.landmarks.shape == (68, 2)
    assert face.landmarks.dtype == np.float32
    assert face.score > 1
    assert all(isinstance(v, int) for v in face.box)
    # Read off the photograph by eye: pupils, tip of the nose, corner of the mouth.
    eyes = face.landmarks[36:42].mean(axis=0), face.landmarks[42:48].mean(axis=0)
    np.testing.assert_allclose(eyes, [(201, 102), (246, 102)], atol=6)
    np.testing.assert_allclose(face.landmarks[30], (226, 124), atol=8)
    x, y, w, h = face.box
    assert x < 201 < 246 < x + w
    assert y < 102 < y + h


def test_finding_is_deterministic(astronaut, finder):
    one, two = finder.find(astronaut)[0], DlibLandmarks().find(astronaut)[0]
    assert one.box == two.box
    assert np.array_equal(one.landmarks, two.landmarks)


@pytest.mark.parametrize("size", [256, 1500])
def test_landmarks_are_in_pixels_of_the_given_picture(astronaut, astronaut_landmarks, finder, size):
    found = finder.find(resized(astronaut, size))[0].landmarks
    expected = (astronaut_landmarks + 0.5) * (size / 512) - 0.5
    assert np.abs(found - expected).mean() < 0.08 * 43 * size / 512  # 43 px: the distance of the eyes at 512


def test_large_pictures_are_detected_at_a_bounded_size(finder, monkeypatch):
    seen = []

    class Detector:
        def run(self, pixels, upsample, threshold):
            seen.append(pixels.shape)
            return [], [], []

    small = DlibLandmarks(pad=0, turn_deg=0, closer=False, cnn="never")
    small.__dict__["_models"] = (Detector(), None, None)
    for shape in [(3000, 2000), (40, 50), (400, 300), (900, 1200)]:
        small.find(np.zeros((*shape, 3), np.uint8))
    assert seen == [(1024, 683, 3), (256, 320, 3), (800, 600, 3), (768, 1024, 3)]


def test_several_faces_come_largest_first(astronaut, finder):
    head = astronaut[:230, 100:330]
    scene = np.full((600, 900, 3), 128, np.uint8)
    scene[20:250, 20:250] = head
    scene[100:560, 400:860] = np.asarray(Image.fromarray(head).resize((460, 460), Image.Resampling.BICUBIC))
    faces = finder.find(scene)
    assert len(faces) == 2
    assert faces[0].box[0] > 400 > faces[1].box[0]
    assert faces[0].box[2] > 1.5 * faces[1].box[2]


def test_an_aligned_112_crop_is_found(astronaut, astronaut_landmarks, finder):
    """The crop that face recognition uses: eyes, nose and mouth at fixed places of 112², the chin cut close."""
    places = np.array([[38.3, 51.7], [73.5, 51.5], [56.0, 71.7], [41.5, 92.4], [70.7, 92.2]])
    p = astronaut_landmarks.astype(float)
    five = np.stack([p[36:42].mean(axis=0), p[42:48].mean(axis=0), p[30], p[48], p[54]])
    align = SimilarityTransform.from_estimate(five, places)
    crop = np.rint(warp(astronaut, align.inverse, output_shape=(112, 112), order=1) * 255).astype(np.uint8)
    face = finder.find(crop)[0]
    assert np.abs(face.landmarks - align(p)).mean() < 3
    x, y, w, h = face.box
    assert 0 <= x < x + w <= 112
    assert 0 <= y < y + h <= 112


def test_a_tight_crop_needs_the_padding_and_keeps_its_frame(astronaut, astronaut_landmarks):
    x, y = 180, 92
    crop = np.ascontiguousarray(astronaut[y:168, x:268])  # brows to chin, no margin at all
    assert DlibLandmarks(pad=0, cnn="never").find(crop) == []
    faces = DlibLandmarks().find(crop)
    assert len(faces) == 1
    assert faces[0].detector == "hog padded"
    assert np.abs(faces[0].landmarks + np.array([x, y]) - astronaut_landmarks).mean() < 3


def test_the_cnn_finds_what_the_others_miss(astronaut, astronaut_landmarks):
    crop = np.ascontiguousarray(astronaut[92:168, 180:268])
    faces = DlibLandmarks(pad=0).find(crop)
    assert [face.detector for face in faces] == ["cnn"]
    assert np.abs(faces[0].landmarks + np.array([180, 92]) - astronaut_landmarks).mean() < 4


@pytest.mark.parametrize(("degrees", "look"), [(35, "hog"), (60, "hog turned")])
def test_a_head_on_its_side_keeps_its_landmarks(astronaut, astronaut_landmarks, finder, degrees, look):
    turned = np.asarray(Image.fromarray(astronaut).rotate(degrees, Image.Resampling.BICUBIC))
    c, s = np.cos(np.deg2rad(degrees)), np.sin(np.deg2rad(degrees))
    middle = (astronaut.shape[0] - 1) / 2
    expected = (astronaut_landmarks - middle) @ np.array([[c, -s], [s, c]]) + middle  # counter-clockwise, y down
    faces = finder.find(turned)
    assert [face.detector for face in faces] == [look]
    assert np.abs(faces[0].landmarks - expected).mean() < 3


@pytest.mark.parametrize("degrees", [75, 90, -90, 120, 180, -165])
def test_in_a_turned_photograph_landmarks_turn_with_it_or_there_are_none(
    astronaut, astronaut_landmarks, finder, degrees
):
    """The CNN finds a face in any position; upright landmarks were then set across one eye and the cheek."""
    head = np.ascontiguousarray(astronaut[:256, 96:352])
    turned = np.asarray(Image.fromarray(head).rotate(degrees, Image.Resampling.BICUBIC, expand=True))
    c, s = np.cos(np.deg2rad(degrees)), np.sin(np.deg2rad(degrees))
    middle = (np.array(turned.shape[1::-1]) - 1) / 2
    expected = (astronaut_landmarks - [96 + 127.5, 127.5]) @ np.array([[c, -s], [s, c]]) + middle
    faces = finder.find(turned)
    assert len(faces) <= 1
    assert all(np.abs(face.landmarks - expected).mean() < 3 for face in faces)
    assert faces or abs(degrees) > 90


def test_the_cnns_faces_get_landmarks_at_their_own_roll(astronaut, astronaut_landmarks):
    head = np.ascontiguousarray(np.rot90(astronaut[:256, 96:352]))
    finder = DlibLandmarks(pad=0, turn_deg=0, closer=False)
    (face,) = finder.find(head)
    assert face.detector == "cnn"
    x, y = (astronaut_landmarks - [96, 0]).T
    assert np.abs(face.landmarks - np.stack([y, 255 - x], 1)).mean() < 3


def test_a_faint_upright_find_gives_way_to_a_surer_turned_one(astronaut, astronaut_landmarks):
    """A false find in an upside-down photograph: HOG sees one at a score up to 0.6 in two of twenty."""
    import dlib

    finder = DlibLandmarks(pad=0, closer=False, cnn="never")
    hog, predictor, _ = finder._models

    class Detector:
        def run(self, pixels, upsample, threshold):
            boxes, scores, parts = hog.run(pixels, upsample, threshold)
            found = list(zip(boxes, scores, parts))
            if not any(score > 1 for score in scores):
                found.append((dlib.rectangle(120, 300, 330, 510), 0.6, 0))
            return zip(*found) if found else ([], [], [])

    finder.__dict__["_models"] = (Detector(), predictor, None)
    face = finder.find(np.ascontiguousarray(astronaut[:256, 96:352][::-1, ::-1]))[0]
    assert face.detector == "hog turned"
    assert np.abs(face.landmarks - (255 - (astronaut_landmarks - [96, 0]))).mean() < 3


def test_a_face_of_half_the_size_is_found_closer_up(astronaut, astronaut_landmarks, finder):
    faces = finder.find(resized(astronaut, 96))
    assert [face.detector for face in faces] == ["hog closer"]
    assert np.abs(faces[0].landmarks - ((astronaut_landmarks + 0.5) * 96 / 512 - 0.5)).mean() < 1.5


def test_a_faint_find_does_not_keep_a_second_look_from_a_surer_one(astronaut, finder):
    turned = np.asarray(Image.fromarray(astronaut).rotate(45, Image.Resampling.BICUBIC))
    assert 0 < max(score for *_, score in finder._hog(turned)) < 0.15
    assert finder.find(turned)[0].score > 0.15


def test_the_picture_does_not_change_and_a_view_of_it_will_do(astronaut, finder):
    before = astronaut.copy()
    flipped = finder.find(astronaut[:, ::-1])
    assert len(flipped) == 1
    assert np.array_equal(astronaut, before)


def test_a_copy_for_a_worker_finds_the_same(astronaut, finder):
    other = pickle.loads(pickle.dumps(finder))
    assert np.array_equal(other.find(astronaut)[0].landmarks, finder.find(astronaut)[0].landmarks)


@pytest.mark.parametrize("shape", [(1, 1), (15, 200), (64, 64), (200, 90)])
def test_no_face_is_an_empty_list(finder, shape):
    assert finder.find(np.full((*shape, 3), 128, np.uint8)) == []


def test_faint_faces_count_only_without_a_surer_one(astronaut):
    class Detector:
        scores = (0.9, 0.1)

        def run(self, pixels, upsample, threshold):
            import dlib

            boxes = [dlib.rectangle(366, 120, 532, 286), dlib.rectangle(600, 600, 860, 860)]
            return boxes[: len(self.scores)], self.scores, [0] * len(self.scores)

    finder = DlibLandmarks()
    detector = Detector()
    finder.__dict__["_models"] = (detector, *finder._models[1:])
    assert [f.score for f in finder.find(astronaut)] == [0.9]
    detector.scores = (0.5, 0.9)
    assert [f.score for f in finder.find(astronaut)] == [0.9, 0.5]  # the second is larger
    detector.scores = (0.1,)
    assert [f.score for f in finder.find(astronaut)] == [0.1]
    assert finder.find(np.ascontiguousarray(astronaut[::-1])) == [], "nor does the faintest where no face holds still"


def test_overlapping_detections_are_one_face():
    def row(x, y, side, score):
        return np.array([[x, y], [x + side, y + side]], float), None, score

    kept = module._without_duplicates(
        [row(0, 0, 100, 0.3), row(5, 5, 100, 0.8), row(30, 30, 40, 0.2), row(90, 90, 100, 0.1)]
    )
    assert [r[2] for r in kept] == [0.8, 0.1]


@pytest.mark.parametrize("picture", [np.zeros((64, 64), np.uint8), np.zeros((64, 64, 3)), None])
def test_other_pictures_are_refused(finder, picture):
    with pytest.raises(ValueError, match=r"expected uint8 \[H, W, 3\]"):
        finder.find(picture)


def test_settings_are_checked():
    with pytest.raises(ValueError, match="pad"):
        DlibLandmarks(pad=2.0)
    with pytest.raises(ValueError, match='"missed" or "never"'):
        DlibLandmarks(cnn="always")


def test_missing_model_says_what_to_install(monkeypatch):
    monkeypatch.setattr(module, "_PACKAGE", "a_package_that_is_not_there")
    with pytest.raises(FileNotFoundError, match="install the package a_package_that_is_not_there"):
        module.predictor_path()


def test_model_is_found_without_importing_its_package_and_dlib_is_lazy():
    code = (
        "import sys; import lib.warp as w; from lib.warp.landmarks import predictor_path; w.DlibLandmarks(); "
        "assert predictor_path().stat().st_size > 1e7; "
        "assert 'dlib' not in sys.modules and 'face_recognition_models' not in sys.modules"
    )
    root = str(module.Path(module.__file__).parents[2])
    subprocess.run([sys.executable, "-c", code], check=True, cwd=root, timeout=60)


# --- tables


def some_table():
    rng = np.random.default_rng(0)
    points = rng.uniform(-20, 300, (3, 68, 2)).astype(np.float32)
    rows = [("a/x.jpg", 0, points[0]), ("a/x.jpg", 1, points[1]), ("NA.png", 0, points[2])]
    return landmarks_table(rows), points


@pytest.mark.parametrize("suffix", [".csv", ".parquet"])
def test_table_round_trip_is_exact(tmp_path, suffix):
    table, points = some_table()
    path = tmp_path / f"landmarks{suffix}"
    write_landmarks(path, table)
    found = read_landmarks(path)
    assert list(found.columns) == list(module.LANDMARK_COLUMNS)
    assert found["image"].tolist() == ["a/x.jpg", "a/x.jpg", "NA.png"]
    assert found["face"].tolist() == [0, 1, 0]
    assert np.array_equal(landmarks_array(found), points)
    assert found[["x5", "y5"]].to_numpy()[1].tolist() == points[1, 5].tolist()


def test_face_without_landmarks_is_nan(tmp_path):
    write_landmarks(tmp_path / "l.csv", landmarks_table([("x.jpg", 0, np.full((68, 2), np.nan))]))
    assert np.isnan(landmarks_array(read_landmarks(tmp_path / "l.csv"))).all()


def test_empty_table(tmp_path):
    write_landmarks(tmp_path / "l.csv", landmarks_table([]))
    assert landmarks_array(read_landmarks(tmp_path / "l.csv")).shape == (0, 68, 2)


def test_an_image_named_like_a_missing_value_keeps_its_name(tmp_path):
    points = np.zeros((68, 2))
    write_landmarks(tmp_path / "l.csv", landmarks_table([("NA", 0, points), ("007", 0, points)]))
    assert read_landmarks(tmp_path / "l.csv")["image"].tolist() == ["NA", "007"]


def test_faulty_tables_are_named(tmp_path):
    table, _ = some_table()
    path = tmp_path / "l.csv"
    table.drop(columns=["x3", "y67"]).to_csv(path, index=False)
    with pytest.raises(ValueError, match=r"l\.csv: missing columns x3, y67"):
        read_landmarks(path)
    pd.concat([table, table.iloc[:1]]).to_csv(path, index=False)
    with pytest.raises(ValueError, match=r"1 faces listed twice, first a/x\.jpg face 0"):
        read_landmarks(path)
    table.astype({"x0": object}).assign(x0="left").to_csv(path, index=False)
    with pytest.raises(ValueError, match=r"l\.csv: face must be a whole number"):
        read_landmarks(path)
    with pytest.raises(ValueError, match=r"\.csv or \.parquet"):
        read_landmarks(tmp_path / "l.txt")
    with pytest.raises(FileNotFoundError):
        read_landmarks(tmp_path / "none.csv")


def test_a_thorough_look_finds_a_small_face_beside_a_large_one(astronaut):
    wall = np.full((256, 400, 3), 110, np.uint8)
    wall[:, :256], wall[90:160, 310:380] = resized(astronaut, 256), resized(astronaut[:256, 90:346], 70)
    settings = {"cnn": "never", "turn_deg": 0}
    once = DlibLandmarks(**settings).find(wall)
    both = DlibLandmarks(**settings, thorough=True).find(wall)
    assert [face.detector for face in once] == ["hog"]
    assert len(both) == 2, "the large one, found by every look, is one face"
    np.testing.assert_array_equal(both[0].landmarks, once[0].landmarks)
    assert 310 < both[1].landmarks[:, 0].mean() < 380
    assert both[1].detector != "hog"
