"""Labelled scenes of five formats as one kind of table."""

import json

import pytest

from lib.data.boxes import box_table
from lib.data.detection import (
    FACE_LABELS,
    FORMATS,
    MASKED_LABELS,
    face_classes,
    guess_format,
    list_blocks,
    read_detection,
)
from lib.data.table import validate


def put(path, text=""):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


COCO = json.dumps({"images": [{"id": 1, "file_name": "a.png"}], "categories": [{"id": 1, "name": "face"}],
                   "annotations": [{"id": 4, "image_id": 1, "bbox": [1, 2, 3, 4], "category_id": 1}]})  # fmt: skip
VOC = ("<annotation><object><name>face</name><bndbox><xmin>2</xmin><ymin>3</ymin><xmax>4</xmax><ymax>6</ymax></bndbox>"
       "</object></annotation>")  # fmt: skip


@pytest.fixture
def five(tmp_path, touch_picture):
    """A folder of five sets, a box (1, 2, 3, 4) in each."""
    put(tmp_path / "coco" / "annotations" / "a.json", COCO)
    touch_picture("coco/images/a.png", (40, 20))
    put(tmp_path / "voc" / "Annotations" / "a.xml", VOC)
    touch_picture("voc/JPEGImages/a.png", (40, 20))
    put(tmp_path / "yolo" / "a.txt", "0 0.0625 0.2 0.075 0.2")
    touch_picture("yolo/a.png", (40, 20))
    put(
        tmp_path / "wider" / "wider_face_split" / "wider_face_train_bbx_gt.txt", "0--P/a.jpg\n1\n1 2 3 4 0 0 0 0 0 0 \n"
    )
    touch_picture("wider/WIDER_train/images/0--P/a.jpg", (40, 20))
    put(tmp_path / "fddb" / "FDDB-folds" / "FDDB-fold-03-ellipseList.txt", "2002/a\n1\n1.5 2 0 2.5 4  1\n")
    touch_picture("fddb/2002/a.jpg", (40, 20))
    return tmp_path


@pytest.mark.parametrize("format", FORMATS)
def test_five_formats_one_table(five, format):
    assert guess_format(five / format) == format
    table, root = read_detection(five / format)
    assert root == five / format
    validate(table)
    assert table[["x", "y", "w", "h"]].to_numpy().tolist() == [[pytest.approx(v) for v in (1, 2, 3, 4)]]
    assert table[["face", "width", "height", "reason"]].to_numpy().tolist() == [[0, 40, 20, ""]]
    assert (root / table["image"].iloc[0]).is_file()
    assert (root / table["label_file"].iloc[0]).is_file()
    assert face_classes(table).tolist() == ["face"]


def test_a_label_file_stands_for_its_set(five):
    files = {"coco": "annotations/a.json", "wider": "wider_face_split/wider_face_train_bbx_gt.txt",
             "fddb": "FDDB-folds/FDDB-fold-03-ellipseList.txt"}  # fmt: skip
    for format, name in files.items():
        assert guess_format(five / format / name) == format
        table, root = read_detection(five / format / name)
        assert root == five / format
        assert table.equals(read_detection(root)[0])
    put(five / "yolo" / "data.yaml", "names: [face]")
    assert read_detection(five / "yolo" / "data.yaml")[0]["label"].tolist() == ["face"]


def test_the_folder_of_the_labels_stands_for_its_set(five):
    folders = {"coco": "annotations", "voc": "Annotations", "wider": "wider_face_split", "fddb": "FDDB-folds"}
    for format, name in folders.items():
        assert guess_format(five / format / name) == format
        table, root = read_detection(five / format / name)
        assert root == five / format
        assert table.equals(read_detection(root)[0])
        assert table.equals(read_detection(five / format / name, images=five / format)[0]) or format == "fddb"


def test_several_coco_files_in_one_folder(five):
    for split in ("train", "valid"):
        put(five / "rf" / split / "_annotations.coco.json", COCO)
        (five / "rf" / split / "a.png").write_bytes((five / "coco" / "images" / "a.png").read_bytes())
    put(five / "rf" / "again.json", COCO.replace("a.png", "train/a.png"))
    table, _ = read_detection(five / "rf")
    validate(table)
    assert table["image"].tolist() == ["train/a.png", "train/a.png", "valid/a.png"]
    assert table["label_file"].tolist() == [
        "again.json",
        "train/_annotations.coco.json",
        "valid/_annotations.coco.json",
    ]
    assert table["split"].tolist() == ["", "train", "val"]
    assert table.equals(read_detection(five / "rf", images=five / "rf")[0])
    assert table["reason"].tolist() == ["", "picture listed again", ""]


def test_lists_of_pictures_elsewhere(five, touch_picture):
    touch_picture("out/WIDER_train/images/0--P/a.png", (40, 20))
    touch_picture("out/2002/a.png", (40, 20))
    for format in ("wider", "fddb"):
        table, root = read_detection(five / format, format, five / "out")
        assert root == five / "out"
        assert table["reason"].tolist() == [""]
        assert (root / table["image"].iloc[0]).is_file()


def test_pictures_without_faces_and_boxes_outside(five):
    path = five / "fddb" / "FDDB-folds" / "FDDB-fold-03-ellipseList.txt"
    path.write_text("2002/a\n0\n\n2002/b\n1\n1 1 0 5 5 1\n2002/a\n1\n1 1 0 5 5 1\n")
    table = validate(read_detection(five / "fddb")[0])
    assert table["reason"].tolist() == ["no face in the picture", "picture missing", ""]
    path = five / "wider" / "wider_face_split" / "wider_face_train_bbx_gt.txt"
    path.write_text("0--P/a.jpg\n2\n100 2 3 4 0 0 0 0 0 0\n1 2 3 4 0 0 0 1 0 0\n0--P/b.jpg\n0\n0 0 0 0 0 0 0 0 0 0\n")
    table = validate(read_detection(five / "wider")[0])
    assert table["reason"].tolist() == ["box outside the picture", "marked invalid", "picture missing"]
    assert table["label_entry"].tolist() == [3, 4, -1]
    assert table["label_record"].tolist() == [1, 1, 5]


def test_blocks_tell_their_lines(tmp_path):
    path = put(tmp_path / "list.txt", "a.jpg\n0\n0 0 0 0 0\n\nb.jpg\n2\n1 2 3 4\n5 6 7 8\nc.jpg\n0\n")
    assert list(list_blocks(path)) == [("a.jpg", 1, [], True), ("b.jpg", 5, [7, 8], False), ("c.jpg", 9, [], False)]


def test_which_labels_are_faces():
    labels = ["Face", "With Mask", "without-mask", "mask_weared_incorrect", "person", "0", ""]
    rows = [{"image": "a", "face": k, "x": 1, "y": 1, "w": 1, "h": 1, "label": label} for k, label in enumerate(labels)]
    assert face_classes(box_table(rows)).tolist() == ["face", "face_mask", "face", "face_mask", "", "", "face"]
    assert face_classes(box_table([rows[5], {"image": "b", "label": ""}])).tolist() == ["face", ""]
    assert not FACE_LABELS & MASKED_LABELS


def test_what_is_wrong_is_told(five):
    with pytest.raises(ValueError, match="format: expected one of coco, voc, yolo, wider, fddb, got 'csv'"):
        read_detection(five, "csv")
    put(five / "empty" / "x.txt")
    with pytest.raises(ValueError, match="no labels known here"):
        read_detection(five / "empty")
    for format in FORMATS:
        with pytest.raises((FileNotFoundError, ValueError), match="empty"):
            read_detection(five / "empty", format)
    with pytest.raises(FileNotFoundError, match="gone"):
        read_detection(five / "gone", "coco")
    with pytest.raises(FileNotFoundError, match="no such folder of pictures"):
        read_detection(five / "coco", "coco", five / "gone")
