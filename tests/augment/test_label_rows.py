"""What the writers of labels share."""

import math

import pytest

from lib.augment.label_rows import Paths, by_picture, classes_of, copied_path, export_table, file_word, mask_box, plain
from lib.data.boxes import box_table

BOX = {"x": 1.0, "y": 2.0, "w": 3.0, "h": 4.0}


def test_pictures_come_in_order_with_all_their_rows():
    table = box_table([{"image": name, "label": "face"} | BOX for name in ("b", "a", "b")])
    assert [[row.image for row in rows] for rows in by_picture(export_table(table, copied=False))] == [
        ["b", "b"],
        ["a"],
    ]
    assert list(by_picture(table.iloc[:0])) == []


def test_a_box_without_a_class_is_a_face_unless_it_is_copied():
    table = box_table([{"image": "a", "label": "", "label_file": "x", "label_entry": 1} | BOX])
    assert export_table(table, copied=False)["label"].tolist() == ["face"]
    assert export_table(table, copied=True)["label"].tolist() == [""]
    assert table["label"].tolist() == [""]  # the caller's own


def test_face_and_face_mask_come_first():
    table = box_table([{"image": "a", "label": label} | BOX for label in ("dog", "face_mask", "cat", "dog")])
    assert classes_of(table) == ["face", "face_mask", "dog", "cat"]
    assert classes_of(table[table["label"] == "dog"]) == ["dog"]


def test_numbers_and_names():
    assert [plain(value) for value in (3.0, 3.25, -0.0, 1e20)] == [3, 3.25, 0, 1e20]
    assert file_word("../a b/ü") == ".._a_b_ü"
    row = next(
        export_table(box_table([{"image": "i/a_1.png", "label": "", "label_file": "l/a.txt"}]), False).itertuples()
    )
    assert (copied_path(row, False), copied_path(row, True)) == ("l/a.txt", "l/a_1.txt")
    assert mask_box(row) is None
    assert mask_box(row._replace(mask_x=1.0, mask_y=2.5, mask_w=3.0, mask_h=math.inf)) is None
    assert mask_box(row._replace(mask_x=1.0, mask_y=2.5, mask_w=3.0, mask_h=4.0)) == [1, 2.5, 3, 4]


def test_no_file_is_written_twice(tmp_path):
    paths = Paths(tmp_path)
    assert paths.new("a", "1.png") == tmp_path / "a"
    with pytest.raises(ValueError, match=r"labels of 1\.png and of 2\.png"):
        paths.new("a", "2.png")
    assert paths.all() == [tmp_path / "a"]
