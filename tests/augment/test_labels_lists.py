"""What WIDER FACE's and FDDB's lists of augmented sets hold, and the table beside them."""

import math

import numpy as np
import pandas as pd

from lib.augment.labels import write_labels
from lib.augment.polygons import decode_rle
from lib.data.boxes import box_table
from lib.data.detection import read_detection

REGION = np.zeros((30, 40), np.uint8)
REGION[5:9, 6:12] = 255


def put(path, text):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


WIDER = "0--P/a.jpg\n2\n1 2.50 3 4 2 0 0 0 1 0 \n 7 7 7 7 0 0 0 1 0 0\n0--P/b.jpg\n0\n0 0 0 0 0 0 0 0 0 0 \nc.jpg\n0\n"
FDDB = "2002/a\n1\n85.4 60.10 -1.5 20 3e1  1\n2002/b\n2\n1 1 0 5 5 1\n9 1 0 5 5  1\n"


def test_lists_stay_line_for_line(tmp_path):
    for format, name, text in (("wider", "wider_face_split/wider_face_train_bbx_gt.txt", WIDER),
                               ("fddb", "FDDB-folds/FDDB-fold-02-ellipseList.txt", FDDB)):  # fmt: skip
        root = tmp_path / format
        put(root / name, text)
        table = read_detection(root)[0]
        table["image"] = table["image"].str.replace(".jpg", ".png")
        write_labels(format, tmp_path / "out" / format, table, lambda row: None, root)
        assert (tmp_path / "out" / format / name).read_text() == text.replace(".jpg", ".png")
    assert (tmp_path / "out" / "fddb" / "FDDB-folds" / "FDDB-fold-02.txt").read_text() == "2002/a\n2002/b\n"


def test_pictures_without_a_row_are_left_out(tmp_path):
    put(tmp_path / "wider_face_split" / "wider_face_train_bbx_gt.txt", WIDER)
    table = read_detection(tmp_path)[0]
    table = table[(table["label_record"] != 5) & (table["label_entry"] != 3)]
    path, _ = write_labels("wider", tmp_path / "out", table, lambda row: None, tmp_path)
    assert path.read_text() == "0--P/a.jpg\n1\n 7 7 7 7 0 0 0 1 0 0\nc.jpg\n0\n"


def test_classes_and_masks_stand_in_a_table(tmp_path):
    box = {"image": "a.png", "x": 1, "y": 2, "w": 3, "h": 4, "width": 40, "height": 30}
    mask = {"mask_x": 6, "mask_y": 5, "mask_w": 6, "mask_h": 4}
    rows = [box | {"label": "face"}, box | {"label": "face_mask", "face": 1} | mask, box | {"label": "dog", "face": 2}]
    for format in ("wider", "fddb"):
        paths = write_labels(format, tmp_path / format, box_table(rows), lambda row: REGION)
        assert paths[-1].name == "face_labels.csv"
        found = pd.read_csv(paths[-1])
        assert found[["image", "face", "label"]].to_numpy().tolist() == [
            ["a.png", 0, "face"],
            ["a.png", 1, "face_mask"],
        ]
        assert found.loc[1, list(mask)].tolist() == [6, 5, 6, 4]
        assert math.isnan(found.loc[0, "mask_x"])
        code = {"size": [30, 40], "counts": found.loc[1, "mask_rle"]}
        np.testing.assert_array_equal(decode_rle(code), REGION > 0)


def test_lists_of_its_own(tmp_path):
    box = {"image": "s/a.png", "x": 1, "y": 2.5, "w": 3, "h": 4, "label": "face"}
    rows = [box | {"split": "val", "blur": 2}, box | {"split": "val", "face": 1, "reason": "marked invalid", "blur": 0},
            {"image": "b.png", "label": "", "reason": "no face in the picture"}]  # fmt: skip
    table = box_table(rows).assign(blur=[2, 0, -1])
    val, train, _ = write_labels("wider", tmp_path / "w", table, lambda row: None)
    assert val.read_text() == "s/a.png\n2\n1 2.5 3 4 2 0 0 0 0 0 \n1 2.5 3 4 0 0 0 1 0 0 \n"
    assert train.read_text() == "b.png\n0\n0 0 0 0 0 0 0 0 0 0 \n"
    pictures, ellipses, _ = write_labels("fddb", tmp_path / "f", table, lambda row: None)
    assert (pictures.name, ellipses.name) == ("FDDB-fold-01.txt", "FDDB-fold-01-ellipseList.txt")
    assert pictures.read_text() == "s/a\nb\n"
    assert ellipses.read_text() == f"s/a\n1\n2.0 1.5 {math.pi / 2} 2.5 4.5  1\nb\n0\n"
