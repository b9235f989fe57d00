"""Many pictures: counts, lists of what failed, cache, workers, the command."""

import json

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from lib.data.files import sha256, write_png
from lib.warp import Face, faces, landmarks_array, landmarks_table, read_landmarks, write_landmarks
from lib.warp.faces import FaceCache, find_faces, find_in, open_cache
from lib.warp.sources import open_source


@pytest.fixture
def folder(tmp_path, astronaut):
    """Five pictures: a face, the same smaller, no face, no picture at all, one in a subfolder."""
    root = tmp_path / "pictures"
    head = astronaut[20:220, 120:320]
    write_png(root / "a.png", head)
    write_png(root / "b.png", np.asarray(Image.fromarray(head).resize((100, 100), Image.Resampling.LANCZOS)))
    write_png(root / "c.png", np.full((64, 64, 3), 128, np.uint8))
    (root / "d.png").write_bytes(b"no picture")
    write_png(root / "sub" / "e.png", head[:, ::-1])
    return root


class Counting:
    """The source given, with a count of how often it was asked."""

    by_pixels, nothing = True, "no face found"

    def __init__(self, source, mark="one"):
        self.source, self.mark, self.asked = source, mark, []

    def find(self, key, pixels):
        self.asked.append(key)
        return self.source.find(key, pixels)

    def fingerprint(self):
        return self.mark


def paths(root):
    return sorted(root.rglob("*.png"))


def test_found_missed_and_too_small_are_counted_and_listed(folder):
    report = find_faces(paths(folder), root=folder, min_eye_px=30)
    assert report.landmarks["image"].tolist() == report.faces["image"].tolist() == ["a.png", "sub/e.png"]
    assert list(report.faces.columns) == list(faces.FACE_COLUMNS)
    assert report.faces["eye_px"].between(35, 55).all()
    assert dict(zip(report.failures["image"], report.failures["kind"])) == {
        "b.png": "too small", "c.png": "no face", "d.png": "unreadable"
    }  # fmt: skip
    small = report.failures.set_index("image").loc["b.png"]
    assert small["face"] == 0
    assert small["reason"].startswith("eyes 2")
    assert small["reason"].endswith("px apart, limit 30")
    assert (report.pictures, report.covered, report.count("no face")) == (5, 2, 1)
    assert report.summary() == (
        "5 pictures, 2 with a usable face (40.0%); 2 faces (2 hog); 1 no face, 1 too small, 1 unreadable, 0 error; "
        "0 from the cache"
    )


def test_the_default_limit_is_that_of_the_masks(folder):
    assert "b.png" in find_faces(paths(folder), root=folder).faces["image"].tolist()


def test_a_second_run_asks_the_detector_nothing_and_finds_the_same(folder, tmp_path):
    source = Counting(open_source("dlib", cnn="never"))
    first = find_faces(paths(folder), source, folder, tmp_path / "cache")
    assert source.asked == ["a.png", "b.png", "c.png", "sub/e.png"]
    second = find_faces(paths(folder), source, folder, tmp_path / "cache")
    assert len(source.asked) == 4
    assert (first.cached, second.cached) == (0, 4)
    pd.testing.assert_frame_equal(first.landmarks, second.landmarks)
    pd.testing.assert_frame_equal(first.faces, second.faces)
    pd.testing.assert_frame_equal(first.failures, second.failures)


def test_the_cache_goes_by_content_and_settings(folder, tmp_path):
    source = Counting(open_source("dlib", cnn="never"))
    find_faces(paths(folder), source, folder, tmp_path / "cache")
    (folder / "a.png").rename(folder / "renamed.png")
    report = find_faces(paths(folder), source, folder, tmp_path / "cache")
    assert report.cached == 4
    assert "renamed.png" in report.faces["image"].tolist()
    write_png(folder / "c.png", np.full((64, 64, 3), 129, np.uint8))
    assert find_faces(paths(folder), source, folder, tmp_path / "cache").cached == 3
    source.mark = "other settings"
    assert find_faces(paths(folder), source, folder, tmp_path / "cache").cached == 0


@pytest.mark.parametrize("damage", ["", "{", "null", '{"sha256": 1}', "other", "short", "nan"])
def test_a_damaged_entry_is_replaced(folder, tmp_path, damage):
    source = Counting(open_source("dlib", cnn="never"))
    expected = find_faces([folder / "a.png"], source, folder, tmp_path / "cache")
    (entry,) = (tmp_path / "cache").rglob("*.json")
    sound = entry.read_text()
    content = json.loads(sound)
    if damage == "other":
        content["sha256"] = "0" * 64
    elif damage == "short":
        content["faces"][0]["landmarks"].pop()
    elif damage == "nan":
        content["faces"][0]["landmarks"][3][0] = float("nan")
    entry.write_text(json.dumps(content) if damage in ("other", "short", "nan") else damage)
    report = find_faces([folder / "a.png"], source, folder, tmp_path / "cache")
    assert report.cached == 0
    pd.testing.assert_frame_equal(report.landmarks, expected.landmarks)
    assert entry.read_text() == sound


def test_a_cache_that_cannot_be_written_is_told_and_costs_nothing(folder, tmp_path):
    (tmp_path / "cache").write_text("a file")
    with pytest.warns(UserWarning, match="cache: the cache cannot be written"):
        report = find_faces([folder / "a.png"], root=folder, cache=tmp_path / "cache")
    assert report.covered == 1


def test_given_landmarks_are_not_cached(folder, tmp_path, plain_face):
    write_landmarks(folder / "landmarks.csv", landmarks_table([("a.png", 0, plain_face(200.0))]))
    source = open_source(folder)
    assert open_cache(tmp_path / "cache", source) is None
    report = find_faces(paths(folder), folder, folder, tmp_path / "cache")
    assert report.faces["detector"].tolist() == ["table"]
    np.testing.assert_allclose(landmarks_array(report.landmarks)[0], plain_face(200.0), atol=1e-4)
    assert report.failures.set_index("image").loc["c.png", "reason"] == "no landmarks for it in landmarks.csv"
    assert not (tmp_path / "cache").exists()


def test_landmarks_of_another_picture_are_an_error_of_that_picture(folder, plain_face):
    rows = [("a.png", 0, plain_face(900.0)), ("b.png", 0, plain_face(100.0))]
    write_landmarks(folder / "landmarks.csv", landmarks_table(rows))
    report = find_faces([folder / "a.png", folder / "b.png"], folder, folder)
    assert report.faces["image"].tolist() == ["b.png"]
    assert report.failures[["image", "kind"]].to_numpy().tolist() == [["a.png", "error"]]
    assert "outside the picture of 200 × 200" in report.failures["reason"][0]


def test_what_a_picture_sets_off_costs_that_picture(folder):
    class Odd(Counting):
        def find(self, key, pixels):
            if key == "a.png":
                raise MemoryError("not enough")
            return super().find(key, pixels)

    report = find_faces(paths(folder), Odd(open_source("dlib", cnn="never")), folder)
    assert report.failures.set_index("image").loc["a.png", "reason"] == "MemoryError: not enough"
    assert report.covered == 2


def test_a_missing_model_stops_at_once(folder, monkeypatch):
    from lib.warp import landmarks

    monkeypatch.setattr(landmarks, "_PACKAGE", "a_package_that_is_not_there")
    with pytest.raises(FileNotFoundError, match="install the package"):
        find_faces(paths(folder), root=folder)


def test_workers_and_cache_change_nothing(folder, tmp_path):
    alone = find_faces(paths(folder), root=folder)
    several = find_faces(paths(folder), root=folder, cache=tmp_path / "cache", workers=2)
    pd.testing.assert_frame_equal(alone.landmarks, several.landmarks)
    pd.testing.assert_frame_equal(alone.failures, several.failures)
    assert find_faces(paths(folder), root=folder, cache=tmp_path / "cache", workers=2).cached == 4


def test_names_are_relative_to_the_root_and_unique(folder):
    with pytest.raises(ValueError, match=r"a\.png: lies outside of"):
        find_faces([folder / "a.png"], root=folder / "sub")
    with pytest.raises(ValueError, match=r"1 pictures given more than once, first a\.png"):
        find_faces([folder / "a.png", folder / "sub" / ".." / "a.png"], root=folder)
    assert find_faces([folder / "a.png"]).faces["image"].tolist() == [(folder / "a.png").as_posix()]


def test_no_pictures_are_an_empty_report():
    report = find_faces([])
    assert (len(report.landmarks), len(report.faces), len(report.failures)) == (0, 0, 0)
    assert report.summary().startswith("0 pictures, 0 with a usable face; 0 faces; ")


def test_one_picture_comes_from_the_cache_to_the_bit(tmp_path, astronaut):
    source = Counting(open_source("dlib", cnn="never"))
    cache = FaceCache(tmp_path, source.fingerprint())
    write_png(tmp_path / "a.png", astronaut)
    digest = sha256(tmp_path / "a.png")
    (found,), (kept,) = (find_in(astronaut, source, "a.png", cache, digest) for _ in range(2))
    assert source.asked == ["a.png"]
    assert isinstance(kept, Face)
    assert np.array_equal(found.landmarks, kept.landmarks)
    assert (found.box, found.score, found.detector) == (kept.box, kept.score, kept.detector)
    find_in(astronaut, source, "a.png")  # without a cache
    assert len(source.asked) == 2


def test_the_command_writes_the_table_and_the_list_of_failures(folder, tmp_path, capsys):
    out = tmp_path / "found" / "landmarks.csv"
    assert faces.main([str(folder), str(out), "--cache", str(tmp_path / "cache"), "--min-eye-px", "30"]) == 0
    told = capsys.readouterr().out
    assert "5 pictures, 2 with a usable face (40.0%)" in told
    assert read_landmarks(out)["image"].tolist() == ["a.png", "sub/e.png"]
    failures = pd.read_csv(out.with_suffix(".failures.csv"))
    assert sorted(failures["kind"]) == ["no face", "too small", "unreadable"]
    assert faces.main([str(folder), str(out), "--source", str(out)]) == 0  # its own table, looked up again
    assert "2 table" in capsys.readouterr().out


def test_the_command_and_the_tool_share_a_cache(folder, tmp_path, capsys):
    from lib.augment.__main__ import main as augment

    cache = str(tmp_path / "cache")
    out = [str(folder), str(tmp_path / "out"), "--rule-only", "--workers", "0", "--quiet"]
    assert augment([*out, "--landmark-cache", cache]) == 0
    assert faces.main([str(folder), str(tmp_path / "l.csv"), "--cache", cache]) == 0
    assert "4 from the cache" in capsys.readouterr().out
    assert faces.main([str(folder), str(tmp_path / "l.csv"), "--cache", cache, "--min-score", "0.2"]) == 0
    assert "0 from the cache" in capsys.readouterr().out


def test_the_command_says_what_is_wrong(folder, tmp_path, capsys):
    (tmp_path / "none").mkdir()
    for arguments, reason in (
        ([tmp_path / "no", tmp_path / "l.csv"], "no: no such folder"),
        ([tmp_path / "none", tmp_path / "l.csv"], "none: holds no pictures"),
        ([folder, tmp_path / "l.txt"], r"l.txt: expected a name that ends in .csv or .parquet"),
        ([folder, tmp_path / "l.csv", "--source", "x.json"], "x.json: no such file"),
    ):
        assert faces.main([str(a) for a in arguments]) == 2
        told = capsys.readouterr()
        assert told.err.startswith("lib.warp.faces: ")
        assert reason in told.err
    assert not (tmp_path / "l.csv").exists()
    write_png(tmp_path / "none" / "grey.png", np.full((64, 64, 3), 128, np.uint8))
    assert faces.main([str(tmp_path / "none"), str(tmp_path / "l.csv")]) == 1


def test_ctrl_c_ends_in_one_line(tmp_path, monkeypatch, capsys):
    Image.new("RGB", (20, 20)).save(tmp_path / "one.png")

    def stop(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr(faces, "find_faces", stop)
    assert faces.main([str(tmp_path), str(tmp_path / "out.csv"), "--cache", str(tmp_path / "kept")]) == 130
    told = capsys.readouterr().err
    assert len(told.splitlines()) == 1
    assert "out.csv was not written" in told
    assert "kept" in told
