"""WIDER FACE's lists, as they are published: blanks at line ends, a row of zeros under 0 faces, marks, empty boxes."""

import pytest

from lib.data.table import validate
from lib.data.wider import PUBLISHED, read_wider

LIST = """0--Parade/0_Parade_marchingband_1_849.jpg
1
449 330 122 149 0 0 0 0 0 0 
0--Parade/0_Parade_Parade_0_452.jpg
0
0 0 0 0 0 0 0 0 0 0 
0--Parade/0_Parade_Parade_0_904.jpg
4
361 98 263 339 0 1 0 0 2 0 
7 9 0 12 2 0 0 0 2 0 
30 40 50 60 1 0 1 1 0 1 
-60 40 50 60 1 0 0 0 0 0 
"""  # noqa: W291
NAMES = [LIST.splitlines()[k] for k in (0, 3, 6)]


@pytest.fixture
def root(tmp_path, touch_picture):
    (tmp_path / "wider_face_split").mkdir()
    (tmp_path / "wider_face_split" / "wider_face_train_bbx_gt.txt").write_text(LIST)
    for name in NAMES:
        touch_picture(f"WIDER_train/images/{name}", (600, 450))
    return tmp_path


def test_every_row_of_the_list_in_its_order(root):
    table = validate(read_wider(root))
    assert table["image"].tolist() == [f"WIDER_train/images/{NAMES[k]}" for k in (0, 1, 2, 2, 2, 2)]
    assert table["face"].tolist() == [0, 0, 0, 1, 2, 3]
    assert table.loc[2, ["x", "y", "w", "h"]].tolist() == [361, 98, 263, 339]
    assert table.loc[2, ["blur", "expression", "illumination", "invalid", "occlusion", "pose"]].tolist() == [
        0,
        1,
        0,
        0,
        2,
        0,
    ]
    assert (root / table["image"][0]).is_file()
    assert (table["split"] == "train").all()


def test_what_cannot_be_used_has_a_reason(root):
    assert read_wider(root)["reason"].tolist() == [
        "", "no face in the picture", "", "empty box", "marked invalid", "box outside the picture"
    ]  # fmt: skip


def test_with_sizes_boxes_beyond_the_right_edge_and_damaged_pictures_are_known(root, touch_picture):
    touch_picture(f"WIDER_train/images/{NAMES[0]}", (449, 450))
    (root / "WIDER_train/images" / NAMES[2]).write_bytes(b"no picture")
    reasons = read_wider(root, sizes=True)["reason"]
    assert reasons[0] == "box outside the picture"
    assert reasons[2:].eq("picture is no picture that can be read").all()


@pytest.mark.parametrize("where", ["WIDER_val/images", "WIDER_val", "val/images", "val", "images", "."])
def test_folders_of_other_copies(tmp_path, touch_picture, where):
    (tmp_path / "wider_face_val_bbx_gt.txt").write_text("a/1.jpg\n1\n1 1 5 5 0 0 0 0 0 0\n")
    path = touch_picture(f"{where}/a/1.jpg")
    row = read_wider(tmp_path, "val").iloc[0]
    assert (tmp_path / row["image"], row["reason"]) == (path, "")


def test_boxes_alone_and_no_row_under_no_face(tmp_path, touch_picture):
    (tmp_path / "wider_face_train_bbx_gt.txt").write_text("1.jpg\n0\n2.jpg\n1\n1 2 3.5 4\n")
    touch_picture("2.jpg")
    table = read_wider(tmp_path)
    assert table["reason"].tolist() == ["picture missing", ""]
    assert table["image"].tolist() == ["WIDER_train/images/1.jpg", "2.jpg"]
    assert table.loc[1, ["x", "y", "w", "h", "blur", "pose"]].tolist() == [1, 2, 3.5, 4, -1, -1]


def test_the_test_part_is_a_list_without_boxes(tmp_path, touch_picture):
    (tmp_path / "wider_face_split").mkdir()
    (tmp_path / "wider_face_split" / "wider_face_test_filelist.txt").write_text("0--Parade/a.jpg\n0--Parade/b.jpg\n")
    touch_picture("WIDER_test/images/0--Parade/a.jpg")
    table = validate(read_wider(tmp_path, "test"))
    assert table["reason"].tolist() == ["", "picture missing"]
    assert table["w"].isna().all()


def test_names_that_leave_the_root_are_not_followed(tmp_path, touch_picture):
    touch_picture("outside.jpg")
    root = tmp_path / "root"
    (root / "WIDER_train" / "images").mkdir(parents=True)
    names = ["../../../outside.jpg", str(tmp_path / "outside.jpg"), "C:\\outside.jpg", "a\\..\\..\\..\\..\\outside.jpg"]
    lines = [f"{name}\n1\n1 1 4 4 0 0 0 0 0 0\n" for name in names]
    (root / "wider_face_train_bbx_gt.txt").write_text("".join(lines))
    assert read_wider(root, sizes=True)["reason"].tolist() == ["path leaves the data set"] * 4


def test_a_picture_listed_again_is_not_used_twice(root):
    path = root / "wider_face_split" / "wider_face_train_bbx_gt.txt"
    path.write_text(LIST + LIST[: LIST.index("0--Parade/0_Parade_Parade_0_452")])
    table = validate(read_wider(root))
    assert table.iloc[-1][["face", "reason"]].tolist() == [1, "picture listed again"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a.jpg\n2\n1 1 5 5 0 0 0 0 0 0\n", "line 3: the list breaks off after a.jpg"),
        ("a.jpg\n1\n1 1 5 5 0 0 0\n", "line 3: '1 1 5 5 0 0 0' is not what belongs after a.jpg .expected x1 y1 w h"),
        ("a.jpg\n1\n1 1 five 5\n", "line 3: .* is not what belongs"),
        ("a.jpg\n-1\n", "line 2: '-1' is not what belongs"),
    ],
)
def test_bad_lists_are_refused_by_file_and_line(root, text, message):
    (root / "wider_face_split" / "wider_face_train_bbx_gt.txt").write_text(text)
    with pytest.raises(ValueError, match=f"wider_face_train_bbx_gt.txt, {message}"):
        read_wider(root)


@pytest.mark.parametrize("number", ["nan", "inf", "1e300", "2000000"])
def test_numbers_that_are_no_pixels_have_a_reason(root, number):
    path = root / "wider_face_split" / "wider_face_train_bbx_gt.txt"
    path.write_text(LIST.replace("449", number))
    assert read_wider(root)["reason"][0] == "box out of range"


def test_errors_name_the_root(tmp_path):
    with pytest.raises(ValueError, match="expected 'train', 'val' or 'test', got 'all'"):
        read_wider(tmp_path, "all")
    with pytest.raises(FileNotFoundError, match=r"no wider_face_split/wider_face_val_bbx_gt\.txt in it"):
        read_wider(tmp_path, "val")
    assert [PUBLISHED[split]["images"] for split in ("train", "val", "test")] == [12_880, 3_226, 16_097]
