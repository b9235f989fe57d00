"""YOLO's texts: layouts, names, lines of other lengths."""

import pytest

from lib.data.table import validate
from lib.data.yolo import label_places, parse_yolo, read_names, read_yolo


def put(path, text=""):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


@pytest.mark.parametrize(
    ("text", "picture"),
    [("labels/a.txt", "images/a.png"), ("labels/train/a.txt", "images/train/a.jpg"), ("a.txt", "a.png"),
     ("train/labels/a.txt", "train/images/a.png"), ("labels/sub/a.txt", "sub/a.png"),
     ("images/x/labels/a.txt", "images/x/images/a.png")],
)  # fmt: skip
def test_layouts(tmp_path, touch_picture, text, picture):
    put(tmp_path / text, "0 0.5 0.5 0.25 0.5\n")
    touch_picture(picture, (40, 20))
    table = validate(read_yolo(tmp_path))
    assert table["image"].tolist() == [picture]
    assert table[["x", "y", "w", "h", "width", "height"]].to_numpy().tolist() == [[15, 5, 10, 10, 40, 20]]
    assert table[["label", "label_file", "label_entry", "reason"]].to_numpy().tolist() == [["0", text, 1, ""]]
    assert table["split"].tolist() == ["train" if "train" in picture else ""]
    assert text in label_places(picture)


def test_no_text_and_an_empty_one_are_no_box(tmp_path, touch_picture):
    for name in ("a", "b", "c"):
        touch_picture(f"images/{name}.png")
    put(tmp_path / "labels" / "a.txt")
    put(tmp_path / "labels" / "b.txt", "\n \n")
    put(tmp_path / "labels" / "z.txt", "0 0.5 0.5 1 1")
    put(tmp_path / "labels" / "classes.txt", "face\n")
    table = validate(read_yolo(tmp_path))
    assert table["reason"].tolist() == ["no face in the picture"] * 3 + ["picture missing"]
    assert table["image"].tolist() == ["images/a.png", "images/b.png", "images/c.png", "images/z"]
    assert table["label_file"].tolist() == ["labels/a.txt", "labels/b.txt", "", "labels/z.txt"]


@pytest.mark.parametrize(
    ("name", "text", "names", "key_points"),
    [("data.yaml", "names: [face, face_mask]", {0: "face", 1: "face_mask"}, False),
     ("data.yaml", "names:\n  0: face\n  3: no\nkpt_shape: [5, 3]", None, True),
     ("data.yaml", "names:\n  0: face\n  '3': 7", {0: "face", 3: "7"}, False),
     ("masks.yml", "nc: 1\nnames: ['without mask']", {0: "without mask"}, False),
     ("classes.txt", "face\n\nmask\n", {0: "face", 2: "mask"}, False),
     ("labels/classes.txt", "face", {0: "face"}, False), ("other.yaml", "a: 1", {}, False)],
)  # fmt: skip
def test_names(tmp_path, name, text, names, key_points):
    path = put(tmp_path / name, text)
    if names is None:  # `no` is false in YAML 1.1: not guessed what was meant
        with pytest.raises(ValueError, match="names must be") as caught:
            read_names(tmp_path)
        assert str(path) in str(caught.value)
        return
    assert read_names(tmp_path) == (names, key_points)


@pytest.mark.parametrize(
    "text",
    ["names: [a, [b]]", "names: 5", "names: {x: face}", "names: [a", "names: !!python/name:os.x", "names: ~",
     "a: &a [x, x]\nb: &b [*a, *a]\nnames: *b"],
)  # fmt: skip
def test_names_that_are_none(tmp_path, text):
    put(tmp_path / "data.yaml", text)
    with pytest.raises(ValueError, match=r"data\.yaml"):
        read_names(tmp_path)


def test_lines_of_other_lengths(tmp_path):
    path = put(
        tmp_path / "a.txt", "0 .5 .5 .2 .2\n1 .5 .5 .2 .2 0.9\n2 0 0 1 0 .5 1\n3 .5 .5 .2 .2 .1 .1 2\n\n4.0 1 1 1 1"
    )
    assert parse_yolo(path) == [(1, 0, (0.5, 0.5, 0.2, 0.2)), (2, 1, (0.5, 0.5, 0.2, 0.2)), (3, 2, (0.5, 0.5, 1, 1)),
                                (4, 3, (0.5, 0.5, 0.2, 0.2)), (6, 4, (1, 1, 1, 1))]  # fmt: skip
    assert parse_yolo(put(path, "0 .5 .5 .2 .2 .1 .1"), key_points=True) == [(1, 0, (0.5, 0.5, 0.2, 0.2))]


@pytest.mark.parametrize(
    "line", ["0 1 1 1", "x 1 1 1 1", "0 1 1 1 x", "-1 1 1 1 1", "0.5 1 1 1 1", "nan 1 1 1 1", "face"]
)
def test_a_damaged_text_costs_only_its_picture(tmp_path, touch_picture, line):
    touch_picture("a.png")
    touch_picture("b.png")
    put(tmp_path / "b.txt", "0 .5 .5 1 1")
    path = put(tmp_path / "a.txt", f"0 .5 .5 1 1\n{line}\n")
    table = validate(read_yolo(tmp_path))
    assert table["reason"].iloc[0].startswith(f"label file is damaged, line 2: {line!r} is not 'class cx cy w h'")
    assert table["reason"].iloc[1] == ""
    with pytest.raises(ValueError, match="line 2") as caught:
        parse_yolo(path)
    assert str(path) in str(caught.value)


def test_values_out_of_range_have_a_reason(tmp_path, touch_picture):
    touch_picture("a.png", (100, 100))
    put(
        tmp_path / "a.txt",
        "0 1.5 .5 .2 .2\n0 .5 .5 -1 .2\n0 nan .5 .2 .2\n0 .5 1e300 .2 .2\n0 1 1 .2 .2\n0 50 50 20 20",
    )
    table = validate(read_yolo(tmp_path))
    outside, out_of_range = "box outside the picture", "box out of range"
    assert table["reason"].tolist() == [outside, "empty box", out_of_range, out_of_range, "", outside]


def test_a_damaged_picture_keeps_its_boxes_rows(tmp_path):
    put(tmp_path / "a.png", "no picture")
    put(tmp_path / "a.txt", "0 .5 .5 .2 .2\n")
    table = validate(read_yolo(tmp_path))
    assert table["reason"].tolist() == ["picture is no picture that can be read"]


def test_nothing_there(tmp_path):
    with pytest.raises(ValueError, match="neither pictures nor labels"):
        read_yolo(tmp_path)
    with pytest.raises(FileNotFoundError, match="gone"):
        read_yolo(tmp_path / "gone")
