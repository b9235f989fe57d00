"""What the readers of detection labels share."""

import math

import pytest

from lib.data.boxes import BoxRows, box_table, list_files, numbers, positive_size, split_of
from lib.data.table import validate


@pytest.mark.parametrize(
    ("path", "split"),
    [("annotations/instances_train2017.json", "train"), ("train/_annotations.coco.json", "train"),
     ("images/valid/a.jpg", "val"), ("test/labels/a.txt", "test"), ("a.json", ""), ("trainer/a.xml", ""),
     ("train/val/a.txt", "val"), ("", "")],
)  # fmt: skip
def test_the_split_is_the_last_folder_or_name_that_tells_one(path, split):
    assert split_of(path) == split


def test_numbers_may_be_texts_but_must_be_finite():
    assert numbers(["1", 2, 3.5, " 4 "]) == (1, 2, 3.5, 4)
    for bad in ([1, 2, 3], [1, 2, 3, "x"], [1, 2, 3, None], [1, 2, 3, math.nan], [1, 2, 3, True], "1234", None,
                [1, 2, 3, 10**400], [[1], 2, 3, 4]):  # fmt: skip
        assert numbers(bad) is None
    assert positive_size("640", 480.0) == (640, 480)
    assert positive_size(0, 480) is positive_size(None, None) is positive_size(1e30, 5) is None


def test_a_size_that_leaves_boxes_outside_is_asked_of_the_picture(touch_picture, tmp_path):
    touch_picture("a.png", (100, 50))
    rows = BoxRows(tmp_path)
    box = {"x": 80.0, "y": 5.0, "w": 9.0, "h": 9.0, "label": "face", "label_entry": 0}
    rows.add("a.png", "", (50, 100), [box])
    rows.add("a.png", "", (100, 50), [box])
    rows.add("gone.png", "picture missing", None, [])
    table = validate(rows.table())
    assert table[["width", "height"]].to_numpy().tolist() == [[100, 50], [100, 50], [-1, -1]]
    assert table["reason"].tolist() == ["", "picture listed again", "picture missing"]
    assert table["face"].tolist() == [0, 1, 0]


def test_a_table_without_rows_has_the_columns():
    assert {"label", "width", "height", "label_file", "label_record", "label_entry"} <= set(box_table([]))


def test_files_are_listed_once_however_links_lead(tmp_path):
    (tmp_path / "b" / ".hidden").mkdir(parents=True)
    for name in ("b/2.XML", "1.xml", "b/.hidden/3.xml", "b/4.txt"):
        (tmp_path / name).touch()
    (tmp_path / "b" / "loop").symlink_to(tmp_path)
    assert list_files(tmp_path, ".xml") == ["1.xml", "b/2.XML"]
    with pytest.raises(FileNotFoundError, match="gone"):
        list_files(tmp_path / "gone", ".xml")
