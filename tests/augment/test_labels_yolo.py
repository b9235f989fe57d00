"""What YOLO texts of augmented sets hold."""

import numpy as np
import pytest
import yaml
from PIL import Image

from lib.augment.labels import write_labels
from lib.augment.polygons import signed_area
from lib.data.boxes import box_table
from lib.data.detection import read_detection

REGION = np.zeros((30, 40), np.uint8)
REGION[5:9, 6:12] = 255
REGION[20:25, 30:33] = 255
MASK = {"mask_x": 6, "mask_y": 5, "mask_w": 27, "mask_h": 20}


def yolo_set(root, texts, **files):
    for name, text in texts.items():
        for place, content in ((root / "labels" / f"{name}.txt", text), *((root / n, c) for n, c in files.items())):
            place.parent.mkdir(parents=True, exist_ok=True)
            place.write_text(content)
        (root / "images").mkdir(exist_ok=True)
        Image.new("L", (40, 30)).save(root / "images" / f"{name}.png")
    return root


def test_only_the_class_changes_and_masks_stand_beside(tmp_path):
    text = "0 0.50 .5 1e-1 0.2 0.875\n1 .5 .5 .1 .1\n\n0 0 0 0.5 0 0.25 0.5"
    names = "nc: 2\nnames:\n- without_mask\n- dog\ntrain: ../train\n"
    root = yolo_set(tmp_path / "in", {"a": text, "b": ""}, **{"data.yaml": names})
    table, _ = read_detection(root)
    table.loc[0, "label"] = "face_mask"
    table.loc[0, list(MASK)] = list(MASK.values())
    paths = write_labels("yolo", tmp_path / "out", table, lambda row: REGION, root)
    assert sorted(path.relative_to(tmp_path / "out").as_posix() for path in paths) == [
        "data.yaml", "labels/a.txt", "labels/b.txt", "labels_seg/a.txt"]  # fmt: skip
    lines = (tmp_path / "out" / "labels" / "a.txt").read_text().splitlines()
    assert lines == ["3 0.50 .5 1e-1 0.2 0.875", "1 .5 .5 .1 .1", "0 0 0 0.5 0 0.25 0.5"]
    assert (tmp_path / "out" / "labels" / "b.txt").read_text() == ""
    assert yaml.safe_load((tmp_path / "out" / "data.yaml").read_text()) == {
        "nc": 4, "names": ["without_mask", "dog", "face", "face_mask"], "train": "../train"}  # fmt: skip
    number, *shares = (tmp_path / "out" / "labels_seg" / "a.txt").read_text().split()
    assert number == "3"
    ring = np.array(shares, float).reshape(-1, 2) * (40, 30)
    assert abs(signed_area(ring)) == pytest.approx((REGION > 0).sum())
    assert (ring.min(0).round(9).tolist(), ring.max(0).round(9).tolist()) == ([6, 5], [33, 25])
    assert len((tmp_path / "out" / "labels_seg" / "a.txt").read_text().splitlines()) == 1


def test_a_set_without_names_gets_them(tmp_path):
    root = yolo_set(tmp_path / "in", {"a": "0 .5 .5 .1 .1\n0 .2 .2 .1 .1"})
    table, _ = read_detection(root)
    write_labels("yolo", tmp_path / "same", table, lambda row: None, root)
    assert not (tmp_path / "same" / "data.yaml").exists()
    write_labels("yolo", tmp_path / "new", table.assign(label=["face_mask", "face"]), lambda row: None, root)
    assert (tmp_path / "new" / "labels" / "a.txt").read_text().split("\n")[0][0] == "1"
    assert yaml.safe_load((tmp_path / "new" / "data.yaml").read_text()) == {"names": {0: "face", 1: "face_mask"}}


def test_classes_txt_grows(tmp_path):
    root = yolo_set(tmp_path / "in", {"a": "0 .5 .5 .1 .1"}, **{"labels/classes.txt": "no_mask\n"})
    table = read_detection(root)[0].assign(label="face_mask")
    write_labels("yolo", tmp_path / "out", table, lambda row: None, root)
    assert (tmp_path / "out" / "labels" / "classes.txt").read_text() == "no_mask\nface\nface_mask\n"
    assert (tmp_path / "out" / "labels" / "a.txt").read_text()[0] == "2"


def test_files_of_its_own(tmp_path):
    box = {"x": 10, "y": 3, "w": 20, "h": 6, "label": "face", "width": 40, "height": 30}
    rows = [{"image": "s/a.png", "split": "val"} | box, {"image": "images/c.png", "split": "val", "label": ""},
            {"image": "s/a.png", "split": "val", "face": 1, "reason": "marked invalid"} | box]  # fmt: skip
    paths = write_labels("yolo", tmp_path, box_table(rows), lambda row: None)
    names = [path.relative_to(tmp_path).as_posix() for path in paths]
    assert names == ["labels/s/a.txt", "labels/c.txt", "val.txt", "data.yaml"]
    assert (tmp_path / "labels" / "s" / "a.txt").read_text() == "0 0.5 0.2 0.5 0.2\n"
    assert (tmp_path / "labels" / "c.txt").read_text() == ""
    assert (tmp_path / "val.txt").read_text() == "./images/s/a.png\n./images/c.png\n"
    assert yaml.safe_load((tmp_path / "data.yaml").read_text()) == {
        "path": ".", "val": "val.txt", "names": {0: "face", 1: "face_mask"}}  # fmt: skip
