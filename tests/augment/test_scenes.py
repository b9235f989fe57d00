"""Labelled scenes: which faces get a mask, whose landmarks, and the labels that come of it."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from lib.augment import AugmentError, Options, augment_folder
from lib.augment import scenes as module
from lib.augment.polygons import decode_rle
from lib.augment.scenes import Share, chosen, overlap, parse_share, refusal
from lib.data.detection import face_classes, read_detection
from lib.data.images import read_image
from lib.warp import landmarks_table, read_landmarks, write_landmarks

RULE = Options(rule_only=True, workers=0, progress=False)


def files(folder: Path, *suffixes: str) -> dict[str, bytes]:
    """Every file under the folder with such a suffix, by its relative path."""
    found = sorted(path for path in folder.rglob("*") if path.is_file() and (path.suffix in suffixes or not suffixes))
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in found}


def pixels(path: Path) -> np.ndarray:
    with Image.open(path) as picture:
        return np.asarray(picture)


@pytest.fixture(scope="module")
def done(labelled, tmp_path_factory):
    """The labelled set with all of its faces masked, labels in every format."""
    out = tmp_path_factory.mktemp("done") / "out"
    options = replace(RULE, labels=labelled, write="voc, yolo,wider,fddb,coco")
    return out, augment_folder(labelled / "images", out, options), pd.read_parquet(out / "manifest.parquet")


def test_a_share_by_size_and_pose():
    assert parse_share("0.5") == Share(0.5)
    share = parse_share("0.3, 64px=0.8,30deg = 0.2")
    assert [share.of(side, yaw) for side, yaw in ((63, 0), (64, 29), (64, -30), (10, 45))] == [0.3, 0.8, 0.2, 0.2]
    assert parse_share("40px=0.1").of(39, 0) == 1
    for wrong in ("", "half", "1.1", "-0.1", "0.5, 0.6", "64=0.5", "64px", "5kg=1", "nan"):
        with pytest.raises(AugmentError, match="--share"):
            parse_share(wrong)


@given(st.floats(0, 1), st.floats(0, 1), st.integers(0, 99))
def test_a_larger_share_keeps_the_faces_of_a_smaller_one(one, other, face):
    low, high = (replace(RULE, share=f"{share:.6f}") for share in sorted((one, other)))
    assert not chosen("a.jpg", face, (0, 0, 50, 50), low, None) or chosen("a.jpg", face, (0, 0, 50, 50), high, None)


def test_the_share_is_kept_over_many_faces_and_changes_with_the_seed():
    def faces(**changes) -> list[bool]:
        options = replace(RULE, share="0.3", **changes)
        return [chosen(f"{k}.jpg", n, (0, 0, 50, 50), options, None) for k in range(300) for n in range(2)]

    assert abs(np.mean(faces()) - 0.3) < 0.05
    assert faces() == faces() != faces(seed=1)


def test_a_face_whose_pose_is_not_known_yet_is_kept_where_some_pose_would_be_chosen():
    options = replace(RULE, share="0, 30deg=1")
    assert chosen("a.jpg", 0, (0, 0, 50, 50), options, None)
    assert not chosen("a.jpg", 0, (0, 0, 50, 50), replace(RULE, share="0, 200px=1"), None)


def test_sizes_beyond_the_limits_are_refused():
    options = replace(RULE, min_face=20, max_face=50)
    kinds = [refusal((0, 0, *size), options)[0] for size in ((19.9, 90), (20, 20), (50, 90), (51, 51))]
    assert kinds == ["too small", "", "", "too large"]
    assert refusal((0, 0, 23, 23), RULE) == ("", "")
    assert refusal((0, 0, 23, 23), replace(RULE, labels="set"))[0] == "too small", "by default in scenes"


@given(st.lists(st.tuples(*[st.integers(0, 12)] * 4), min_size=1, max_size=4))
def test_overlap_equals_counting_pixels(boxes):
    points = np.array([[3, 4], [9, 11]], float)
    y, x = np.mgrid[:30, :30]
    own = (x >= 3) & (x < 9) & (y >= 4) & (y < 11)
    for (bx, by, w, h), share in zip(boxes, overlap(points, np.array(boxes, float))):
        other = (x >= bx) & (x < bx + w) & (y >= by) & (y < by + h)
        assert share == pytest.approx((own & other).sum() / (own | other).sum())


def test_every_face_is_masked_or_told_why_not(labelled, done):
    out, summary, manifest = done
    rows = manifest[manifest["source"] == "two.png"]
    expected = ["", "already masked", "no landmarks", "", "too small"]
    assert rows["kind"].tolist() == expected
    assert rows["status"].tolist() == ["masked", "left", "failed", "masked", "left"]
    failures = pd.read_csv(out / "failures.csv")
    assert failures[["file", "face", "kind"]].values.tolist() == [
        ["two.png", face, kind] for face, kind in enumerate(expected) if kind
    ]
    assert summary.failures == {"already masked": 1, "no landmarks": 1, "too small": 1}
    assert (summary.faces_labelled, summary.faces_found, summary.faces_masked) == (6, 3, 3)
    assert (summary.pictures_masked, summary.pictures_copied) == (2, 1)
    content = json.loads((labelled / "annotations" / "instances.json").read_text())
    boxes = [entry["bbox"] for entry in content["annotations"] if entry["category_id"] != 3]
    labelled_faces = manifest[manifest["face"] >= 0]
    assert sorted(labelled_faces[["x", "y", "w", "h"]].astype(float).values.tolist()) == sorted(boxes), "as labelled"


def test_everything_outside_the_masks_is_the_original_s(labelled, done):
    out, _, manifest = done
    assert set(files(out / "images")) == {"two.png", "b/one.png", "wall.png"}, "pictures without a mask, too"
    for row in manifest.itertuples():
        original = read_image(labelled / "images" / row.source).pixels
        result, region = pixels(out / row.output), pixels(out / row.region)
        np.testing.assert_array_equal(result[region == 0], original[region == 0])
    assert not pixels(out / "regions" / "wall.png").any()


def test_a_mask_lies_on_the_face_of_its_box(done):
    for row in done[2][done[2]["status"] == "masked"].itertuples():
        assert row.x < row.mask_x + row.mask_w / 2 < row.x + row.w
        assert row.y < row.mask_y + row.mask_h / 2 < row.y + row.h
        assert 0.5 < row.mask_w / row.w < 1.6


def test_labels_keep_boxes_and_other_classes_and_tell_the_masks(labelled, done):
    out, _, manifest = done
    before = json.loads((labelled / "annotations" / "instances.json").read_text())
    after = json.loads((out / "labels" / "coco" / "annotations" / "instances.json").read_text())
    assert after["info"] == before["info"]
    names = {category["id"]: category["name"] for category in after["categories"]}
    assert [entry["bbox"] for entry in after["annotations"]] == [entry["bbox"] for entry in before["annotations"]]
    told = [names[entry["category_id"]] for entry in after["annotations"]]
    assert told == ["face_mask", "face_mask", "face", "face_mask", "face", "dog", "face_mask"]
    assert ["mask_bbox" in entry for entry in after["annotations"]] == [True, False, False, True, False, False, True]
    masked = manifest[manifest["status"] == "masked"].sort_values(["source", "face"], ascending=[False, True])
    entries = [entry for entry in after["annotations"] if "mask_bbox" in entry]
    for entry, row in zip(entries, masked.itertuples(), strict=True):
        assert entry["mask_bbox"] == [row.mask_x, row.mask_y, row.mask_w, row.mask_h]
        assert entry["mask_segmentation"] == json.loads(row.mask_rle)
    codes = [json.loads(code) for code in masked.loc[masked["source"] == "two.png", "mask_rle"]]
    both = sum(decode_rle(code) for code in codes)
    np.testing.assert_array_equal(both, pixels(out / "regions" / "two.png") >= 128)


@pytest.mark.parametrize(("format", "masked"), [("coco", 4), ("voc", 4), ("yolo", 4), ("wider", 0), ("fddb", 0)])
def test_each_format_is_read_back_with_the_written_pictures(labelled, done, format, masked):
    table, _ = read_detection(done[0] / "labels" / format, format, done[0] / "images")
    classes = face_classes(table)
    assert int((classes == "face_mask").sum()) == masked
    assert int((classes != "").sum()) == 6
    assert set(table.loc[classes != "", "image"]) == {"two.png", "b/one.png"}


def test_a_share_leaves_others_as_they_are_whatever_else_is_done(labelled, done, tmp_path):
    options = replace(RULE, labels=labelled, share="0.5, 60px=0", write="yolo")
    summary = augment_folder(labelled / "images", tmp_path / "out", replace(options, limit=1))
    summary = augment_folder(labelled / "images", tmp_path / "out", options)
    manifest = pd.read_csv(tmp_path / "out" / "manifest.csv", keep_default_na=False)
    assert summary.faces_left == int((manifest["kind"] == "not chosen").sum()) >= 1
    assert "left without by --share" in str(summary)
    assert not set(pd.read_csv(tmp_path / "out" / "failures.csv")["kind"]) & {"not chosen"}
    whole = done[2].set_index(["source", "face"])
    for row in manifest[manifest["status"] == "masked"].itertuples():
        assert whole.loc[(row.source, row.face), "params"] == row.params
    left = manifest[(manifest["source"] == "two.png") & (manifest["kind"] == "not chosen")]
    assert 0 in set(left["face"]), "63 px wide: the share of large ones is 0"
    with pytest.raises(AugmentError, match="share was"):
        augment_folder(labelled / "images", tmp_path / "out", replace(options, share="0.6"))
    assert {"labels/yolo/labels/two.txt", "labels/coco/annotations/instances.json"} <= set(files(tmp_path / "out"))
    augment_folder(labelled / "images", tmp_path / "out", replace(RULE, labels=labelled, force=True, limit=1))
    assert not list((tmp_path / "out" / "labels").rglob("*.txt")), "--force removes labels, too"


def test_a_head_turned_further_than_asked_keeps_its_face(labelled, tmp_path):
    summary = augment_folder(labelled / "images", tmp_path / "out", replace(RULE, labels=labelled, max_yaw=0.0))
    assert summary.failures["turned too far"] == 3
    rows = pd.read_parquet(tmp_path / "out" / "manifest.parquet")
    assert set(rows.loc[rows["kind"].isin(["turned too far", "too small"]), "status"]) == {"left"}
    assert not summary.faces_masked
    assert set(files(tmp_path / "out" / "images")) == {"two.png", "b/one.png", "wall.png"}


def test_variants_of_scenes_have_labels_each(labelled, tmp_path):
    augment_folder(labelled / "images", tmp_path / "out", replace(RULE, labels=labelled, per_image=2))
    table, _ = read_detection(tmp_path / "out" / "labels" / "coco", images=tmp_path / "out" / "images")
    assert set(table["image"]) == {f"{name}_mask{v}.png" for name in ("two", "b/one", "wall") for v in (1, 2)}
    assert int((face_classes(table) == "face_mask").sum()) == 8


def test_landmarks_from_a_table_go_to_the_box_they_lie_in(labelled, done, tmp_path, monkeypatch):
    from lib.warp.landmarks import DlibLandmarks

    table = read_landmarks(done[0] / "landmarks.csv")
    points = table[table["image"] == "two.png"].iloc[::-1]  # in another order
    rows = [("two.png", k, row[2:].to_numpy(float)) for k, (_, row) in enumerate(points.iterrows())]
    write_landmarks(tmp_path / "points.csv", landmarks_table(rows))
    monkeypatch.setattr(DlibLandmarks, "find", None)
    options = replace(RULE, labels=labelled, landmarks=tmp_path / "points.csv")
    summary = augment_folder(labelled / "images", tmp_path / "out", options)
    assert (summary.faces_masked, summary.failures["no landmarks"]) == (2, 2)
    assert (tmp_path / "out" / "images" / "two.png").read_bytes() == (done[0] / "images" / "two.png").read_bytes()


def test_a_neighbour_s_face_is_not_taken(labelled):
    """A box without a face beside one with: what is found belongs to the box that it overlaps more."""
    picture = read_image(labelled / "images" / "two.png").pixels
    x, y, w, h = 77.0, 44.33, 63.33, 78.67
    labels = tuple(module.Labelled(k, x + shift, y, w, h) for k, shift in enumerate((0.0, 0.4 * w, -0.5 * w)))
    for wanted in ([0, 1, 2], [1, 2]):
        found = module.faces_of(picture, "two.png", "d", labels, wanted, RULE, labelled)
        assert set(found) == set(wanted) & {0}


def test_a_landmark_cache_saves_the_second_look(labelled, done, tmp_path, monkeypatch):
    from lib.warp.landmarks import DlibLandmarks

    cached = replace(RULE, labels=labelled, landmark_cache=tmp_path / "cache")
    augment_folder(labelled / "images", tmp_path / "one", cached)
    monkeypatch.setattr(DlibLandmarks, "find", None)
    augment_folder(labelled / "images", tmp_path / "two", cached)
    for folder in ("images", "regions"):
        assert files(tmp_path / "two" / folder) == files(done[0] / folder)


def coco(root: Path, *names: str) -> Path:
    """A COCO file that names these pictures, a box in each."""
    images = [{"id": k, "file_name": name, "width": 160, "height": 160} for k, name in enumerate(names)]
    entries = [{"id": k, "image_id": k, "category_id": 1, "bbox": [50, 30, 60, 70]} for k in range(len(names))]
    content = {"images": images, "annotations": entries, "categories": [{"id": 1, "name": "face"}]}
    root.mkdir(exist_ok=True)
    (root / "labels.json").write_text(json.dumps(content))
    return root / "labels.json"


def test_names_of_label_files_never_leave_in_or_out(portrait, tmp_path):
    in_dir = tmp_path / "in"
    (in_dir / "x").mkdir(parents=True)
    for path in (in_dir / "a.png", tmp_path / "secret.png"):
        Image.fromarray(portrait(160)).save(path)
    outside = ["../secret.png", str(tmp_path / "secret.png"), "x/../../secret.png", "..\\secret.png", "C:\\secret.png"]
    labels = coco(tmp_path / "set", "a.png", *outside, "none.png")
    summary = augment_folder(in_dir, tmp_path / "out", replace(RULE, labels=labels))
    assert summary.faces_masked == 1
    assert set(files(tmp_path / "out", ".png")) == {"images/a.png", "regions/a.png"}
    assert summary.failures["missing"] == 6
    assert {path.name for path in tmp_path.iterdir()} == {"in", "out", "set", "secret.png"}
    text = (tmp_path / "out" / "labels" / "coco" / "labels.json").read_text()
    assert "secret" not in text


def test_pictures_without_labels_are_told_and_loops_of_links_end(labelled, done, tmp_path):
    shutil.copytree(labelled, tmp_path / "in")
    (tmp_path / "in" / "images" / "again").symlink_to(tmp_path / "in" / "images")
    (tmp_path / "in" / "annotations" / "again").symlink_to(tmp_path / "in")
    shutil.copy(labelled / "images" / "wall.png", tmp_path / "in" / "images" / "new.png")
    for name in ("labels.zip", "labels.pkl", "images/two.pkl"):
        (tmp_path / "in" / name).write_bytes(b"\x80\x04cposix\nsystem\n.")
    summary = augment_folder(tmp_path / "in" / "images", tmp_path / "out", replace(RULE, labels=tmp_path / "in"))
    assert summary.failures["not labelled"] == 1
    for folder in ("images", "regions"):
        assert files(tmp_path / "out" / folder) == files(done[0] / folder)
    with pytest.raises(AugmentError, match="no labels known here"):
        replace(RULE, labels=tmp_path / "in" / "labels.pkl").checked()


def test_labels_of_which_none_can_be_read_are_told_as_such(portrait, tmp_path):
    (tmp_path / "in").mkdir()
    (tmp_path / "set").mkdir()
    Image.fromarray(portrait(160)).save(tmp_path / "in" / "a.png")
    (tmp_path / "set" / "a.xml").write_text("<annotation><object></annot")
    with pytest.raises(AugmentError, match=r"none of their 1 files can be read .*label file is damaged, line 1"):
        augment_folder(tmp_path / "in", tmp_path / "out", replace(RULE, labels=tmp_path / "set"))


def test_a_picture_without_a_name_is_a_failure_not_a_stop(portrait, tmp_path):
    (tmp_path / "in").mkdir()
    Image.fromarray(portrait(160)).save(tmp_path / "in" / "a.png")
    labels = coco(tmp_path / "set", "", "a.png")
    summary = augment_folder(tmp_path / "in", tmp_path / "out", replace(RULE, labels=labels))
    assert summary.faces_masked == 1
    failures = pd.read_csv(tmp_path / "out" / "failures.csv")
    assert failures[["file", "kind", "reason"]].values.tolist() == [["(id 0)", "missing", "its file_name is empty"]]


def test_a_box_outside_of_the_picture_is_told_and_no_face_found(portrait, tmp_path):
    for name in ("images", "labels"):
        (tmp_path / "in" / name).mkdir(parents=True)
    Image.fromarray(portrait(160)).save(tmp_path / "in" / "images" / "a.png")
    (tmp_path / "in" / "labels" / "a.txt").write_text("0 1.5 .5 .3 .3\n0 0.51 0.4 .32 .4\n")
    (tmp_path / "in" / "data.yaml").write_text("names: [face]\n")
    summary = augment_folder(tmp_path / "in", tmp_path / "out", replace(RULE, labels=tmp_path / "in"))
    assert (summary.faces_labelled, summary.faces_found, summary.faces_masked) == (2, 1, 1)
    failures = pd.read_csv(tmp_path / "out" / "failures.csv")
    assert failures[["face", "kind", "reason"]].values.tolist() == [[0, "unusable box", "box outside the picture"]]


def test_a_box_without_numbers_is_a_failure(portrait, tmp_path):
    (tmp_path / "in").mkdir()
    Image.fromarray(portrait(160)).save(tmp_path / "in" / "a.png")
    labels = coco(tmp_path / "set", "a.png")
    told = json.loads(labels.read_text())
    for box in ([float("nan"), 1, 2, 3], [1, 1, None, 3]):
        told["annotations"].append(told["annotations"][0] | {"id": 90 + len(told["annotations"]), "bbox": box})
    labels.write_text(json.dumps(told))
    assert augment_folder(tmp_path / "in", tmp_path / "out", replace(RULE, labels=labels)).faces_masked == 1
    failures = pd.read_csv(tmp_path / "out" / "failures.csv")
    assert failures["kind"].tolist() == ["unusable box"] * 2
    assert failures["face"].tolist() == [1, 2]


def test_the_box_of_a_mask_is_that_of_its_region_in_every_format(labelled, done):
    """Also what the labels say; the manifest has the same."""
    out, _, manifest = done
    (path,) = (out / "labels" / "coco").rglob("*.json")
    entries = [entry for entry in json.loads(path.read_text())["annotations"] if "mask_bbox" in entry]
    assert len(entries) == 3
    for entry in entries:
        rows, columns = np.nonzero(decode_rle(entry["mask_segmentation"]))
        x, y = int(columns.min()), int(rows.min())
        assert entry["mask_bbox"] == [x, y, int(columns.max()) - x + 1, int(rows.max()) - y + 1]
    told = manifest.loc[manifest["status"] == "masked", ["mask_x", "mask_y", "mask_w", "mask_h"]].astype(int)
    assert sorted(told.values.tolist()) == sorted(entry["mask_bbox"] for entry in entries)
