"""FDDB's ellipse lists: any white space, boxes from ellipses, clipped; the whole archive as a listing."""

import math

import numpy as np
import pytest

from lib.data.fddb import PUBLISHED, ellipse_box, pictures, read_fddb
from lib.data.table import validate

LIST = """2002/08/11/big/img_591
1
123.583300 85.549500 1.265839 269.693400 161.781200  1
2002/08/26/big/img_265
3
67.363819 44.511485 -1.476417 105.249970 87.209036  1
41.936870\t27.064477 1.471906 184.070915 129.345601 1
70.993052 43.355200 1.370217 340.894300 117.498951   1
"""


@pytest.fixture
def root(tmp_path, touch_picture):
    (tmp_path / "FDDB-folds").mkdir()
    (tmp_path / "FDDB-folds" / "FDDB-fold-01-ellipseList.txt").write_text(LIST)
    (tmp_path / "FDDB-folds" / "FDDB-fold-01.txt").write_text("2002/08/11/big/img_591\n2002/08/26/big/img_265\n")
    touch_picture("2002/08/11/big/img_591.jpg", (400, 300))
    touch_picture("2002/08/26/big/img_265.jpg", (360, 250))
    touch_picture("2003/01/13/big/img_1087.jpg")
    return tmp_path


@pytest.mark.parametrize("seed", range(5))
def test_ellipse_box_touches_the_drawn_ellipse(seed):
    """Oracle: walk along the ellipse and take the extremes."""
    rng = np.random.default_rng(seed)
    major, minor, angle = rng.uniform(40, 90), rng.uniform(10, 40), rng.uniform(-4, 4)
    t = np.linspace(0, 2 * math.pi, 20_001)
    x = 100 + major * np.cos(t) * math.cos(angle) - minor * np.sin(t) * math.sin(angle)
    y = 70 + major * np.cos(t) * math.sin(angle) + minor * np.sin(t) * math.cos(angle)
    expected = (x.min(), y.min(), x.max() - x.min(), y.max() - y.min())
    assert ellipse_box(major, minor, angle, 100, 70) == pytest.approx(expected, abs=1e-3)


def test_the_angle_is_in_radians_from_the_horizontal():
    assert ellipse_box(30, 10, 0, 50, 50) == pytest.approx((20, 40, 60, 20))
    assert ellipse_box(30, 10, math.pi / 2, 50, 50) == pytest.approx((40, 20, 20, 60))


def test_rows_follow_the_lists(root):
    table = validate(read_fddb(root))
    assert len(table) == 4
    assert table["face"].tolist() == [0, 0, 1, 2]
    assert table["image"][0] == "2002/08/11/big/img_591.jpg"
    assert (table["split"] == "fold-01").all()
    assert (table["reason"] == "").all()
    assert table["ellipse_minor"][2] == 27.064477  # split at a tab too
    row = table.iloc[2]
    assert tuple(row[["x", "y", "w", "h"]]) == pytest.approx(
        ellipse_box(41.936870, 27.064477, 1.471906, 184.070915, 129.345601)
    )


def test_boxes_are_clipped_to_the_picture(root):
    table = read_fddb(root)
    whole = ellipse_box(70.993052, 43.355200, 1.370217, 340.894300, 117.498951)
    assert whole[0] + whole[2] > 360
    assert table["x"][3] + table["w"][3] == pytest.approx(360)
    assert table["x"][3] == pytest.approx(whole[0])
    assert (table["x"] >= 0).all()
    assert (table["y"] >= 0).all()


def test_folds_are_read_in_order_and_blank_lines_do_not_matter(root):
    (root / "FDDB-folds" / "FDDB-fold-10-ellipseList.txt").write_text(
        "\n2003/01/13/big/img_1087\r\n 1 \r\n4 3 0 4 3  1\r\n\n"
    )
    table = read_fddb(root)
    assert table["split"].tolist() == ["fold-01"] * 4 + ["fold-10"]


def test_missing_and_damaged_pictures_keep_their_rows(root):
    (root / "2002/08/11/big/img_591.jpg").unlink()
    (root / "2002/08/26/big/img_265.jpg").write_bytes(b"no picture")
    table = validate(read_fddb(root))
    assert len(table) == 4
    assert table["reason"][0] == "picture missing"
    assert table["reason"][1:].eq("picture is no picture that can be read").all()
    assert table["w"].gt(0).all()


def test_a_face_outside_its_picture_keeps_its_row(root):
    (root / "FDDB-folds" / "FDDB-fold-02-ellipseList.txt").write_text("2003/01/13/big/img_1087\n1\n4 3 0 500 500  1\n")
    row = validate(read_fddb(root)).iloc[-1]
    assert row["reason"] == "box outside the picture"
    assert row["x"] == pytest.approx(496)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a/b\n2\n4 3 0 5 5 1\n", "line 3: the list breaks off after a/b"),
        ("a/b\n", "line 1: the list breaks off after a/b"),
        ("a/b\none\n", "line 2: 'one' is not what belongs after a/b"),
        ("a/b\n1\n4 3 0 5\n", "line 3: '4 3 0 5' is not what belongs"),
        ("a/b\n1\n4 3 zero 5 5 1\n", "line 3: .* is not what belongs"),
        ("a/b\n1\n0 3 0 5 5 1\n", "line 3: .* is not what belongs"),
        ("a/b\n1\n4 nan 0 5 5 1\n", "line 3: .* is not what belongs"),
    ],
)
def test_bad_lists_are_refused_by_file_and_line(root, text, message):
    (root / "FDDB-folds" / "FDDB-fold-03-ellipseList.txt").write_text(text)
    with pytest.raises(ValueError, match=f"FDDB-fold-03-ellipseList.txt, {message}"):
        read_fddb(root)


def test_errors_name_the_root(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"no FDDB-folds/FDDB-fold-01-ellipseList\.txt"):
        read_fddb(tmp_path)
    with pytest.raises(FileNotFoundError, match="neither 2002/ nor 2003/"):
        pictures(tmp_path)


def test_the_archive_lists_every_picture_annotated_or_not(root, touch_picture):
    touch_picture("elsewhere/1.jpg")
    assert [path.name for path in pictures(root)] == ["img_591.jpg", "img_265.jpg", "img_1087.jpg"]
    assert PUBLISHED == {"images": 2_845, "faces": 5_171, "archive": 28_204}


def test_box_of_a_rasterised_ellipse():
    """Oracle: every tenth of a pixel asked whether it lies inside."""
    major, minor, angle, cx, cy = 30.0, 18.0, 0.7, 50.0, 40.0
    y, x = np.mgrid[0:1000, 0:1000] / 10.0
    along = (x - cx) * math.cos(angle) + (y - cy) * math.sin(angle)
    across = -(x - cx) * math.sin(angle) + (y - cy) * math.cos(angle)
    inside = (along / major) ** 2 + (across / minor) ** 2 <= 1
    bx, by, bw, bh = ellipse_box(major, minor, angle, cx, cy)
    assert (x[inside].min(), y[inside].min()) == pytest.approx((bx, by), abs=0.15)
    assert (x[inside].max(), y[inside].max()) == pytest.approx((bx + bw, by + bh), abs=0.15)


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("a/b\n-1\n", 2),
        ("a/b\n2\n4 3 0 5 5 1\na/c\n1\n4 3 0 5 5 1\n", 4),  # one ellipse too few
        ("a/b\n1\n4 3 0 5 5 1\n4 3 0 9 9 1\na/c\n", 5),  # one too many
    ],
)
def test_wrong_counts_are_refused_by_line(root, text, line):
    (root / "FDDB-folds" / "FDDB-fold-03-ellipseList.txt").write_text(text)
    with pytest.raises(ValueError, match=rf"FDDB-fold-03-ellipseList\.txt, line {line}\b"):
        read_fddb(root)


def test_a_picture_without_faces_and_a_byte_order_mark(root):
    path = root / "FDDB-folds" / "FDDB-fold-01-ellipseList.txt"
    path.write_text("2003/01/13/big/img_1087\n1\n2 1 0 4 3 1\na/none\n0\n", encoding="utf-8-sig")
    assert read_fddb(root)["image"].tolist() == ["2003/01/13/big/img_1087.jpg"]


def test_pictures_listed_again_and_names_that_leave_have_a_reason(root, touch_picture):
    (root / "FDDB-folds" / "FDDB-fold-02-ellipseList.txt").write_text(
        "2002/08/11/big/img_591\n1\n12 8 1.2 26 16 1\n../x\n1\n4 3 0 4 3 1\n"
    )
    table = validate(read_fddb(root))
    assert table["reason"].tolist()[-2:] == ["picture listed again", "path leaves the data set"]
    assert table["face"].tolist()[-2:] == [1, 0]


def test_the_archive_may_lie_in_the_folder_it_is_packed_in(root):
    (root / "originalPics").mkdir()
    (root / "2002").rename(root / "originalPics" / "2002")
    assert read_fddb(root)["image"][0] == "originalPics/2002/08/11/big/img_591.jpg"
    assert [path.name for path in pictures(root)] == ["img_1087.jpg", "img_591.jpg", "img_265.jpg"]


def test_an_ellipse_that_is_no_face_of_any_picture_has_a_reason(root):
    (root / "FDDB-folds" / "FDDB-fold-02-ellipseList.txt").write_text("2003/01/13/big/img_1087\n1\n1e300 3 0 5 5  1\n")
    assert read_fddb(root)["reason"].iloc[-1] == "box out of range"
