"""The face table keeps its contract on the way in, on disk, and back."""

import numpy as np
import pandas as pd
import pytest

from lib.data.files import write_table
from lib.data.table import BOX, COLUMNS, box_reason, make_table, read_table, usable, validate

ROWS = [
    {"image": "a/1.jpg", "face": 0, "x": -3, "y": 2.5, "w": 10, "h": 12, "identity": "007", "orientation": 3},
    {"image": "a/1.jpg", "face": 1, "x": 5, "y": 5, "w": 0, "h": 12, "reason": "empty box", "orientation": -1},
    {"image": "名前, ñ.png", "identity": "NA", "orientation": np.nan},
]


def test_missing_columns_become_unknown_and_the_fixed_ones_come_first():
    table = make_table(ROWS)
    assert tuple(table.columns) == (*COLUMNS, "orientation")
    assert table["identity"].tolist() == ["007", "", "NA"]
    assert table["reason"].tolist() == ["", "empty box", ""]
    assert table.loc[2, list(BOX)].isna().all()
    assert table.dtypes[list(BOX)].eq(float).all()
    assert tuple(make_table([]).columns) == COLUMNS
    assert len(make_table([])) == 0


def test_boxes_that_leave_the_picture_are_kept_as_they_are():
    assert make_table(ROWS)["x"][0] == -3


@pytest.mark.parametrize("suffix", ["csv", "parquet"])
def test_what_is_written_comes_back(tmp_path, suffix):
    table = make_table([{**row, "face": k} for k, row in enumerate(ROWS)])
    back = read_table(write_table(tmp_path / f"faces.{suffix}", table))
    pd.testing.assert_frame_equal(back, table)


def test_people_called_na_or_null_and_numbers_with_zeros_stay_text(tmp_path):
    names = ["NA", "null", "nan", "None", "0012", "", "1e5", "True"]
    table = make_table([{"image": f"{k}.png", "identity": n} for k, n in enumerate(names)])
    assert read_table(write_table(tmp_path / "faces.csv", table))["identity"].tolist() == names


def test_a_table_saved_by_a_spreadsheet_is_read(tmp_path):
    text = make_table(ROWS[:1]).to_csv(index=False)
    (tmp_path / "faces.csv").write_text(text, encoding="utf-8-sig")
    assert read_table(tmp_path / "faces.csv")["image"].tolist() == ["a/1.jpg"]


def test_a_face_index_that_another_tool_wrote_as_a_fraction_is_a_whole_number_again(tmp_path):
    table = make_table(ROWS[:1])
    back = read_table(write_table(tmp_path / "faces.csv", table.assign(face=table["face"].astype(float))))
    pd.testing.assert_frame_equal(back, table)


def test_a_name_that_is_not_utf8_is_spelled_out_and_given_a_reason():
    table = make_table([{"image": "b\udcff.jpg", "identity": "b\udcff"}, {"image": "ok.jpg"}])
    assert table["image"].tolist() == ["b\\xff.jpg", "ok.jpg"]
    assert table["reason"].tolist() == ["name is not UTF-8; rename it", ""]
    assert usable(table)["image"].tolist() == ["ok.jpg"]


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([{"face": 0}], "every row needs `image`"),
        ([{"image": "a.png"}, {"image": None}], "row 1: has no image"),
        ([{"image": "a.png", "face": 0.5}], "row 0: face is 0.5, not an index"),
        ([{"image": "a.png", "face": -1}], "row 0: face is -1, not an index"),
        ([{"image": "a.png", "x": "left"}], "row 0: x is 'left', not a number"),
    ],
)
def test_rows_that_are_none_are_refused(rows, message):
    with pytest.raises(ValueError, match=message):
        make_table(rows)


def change(**values):
    return make_table([{**ROWS[0], "face": k} for k in range(3)]).assign(**values)


@pytest.mark.parametrize(
    ("table", "message"),
    [
        (change().drop(columns=["w", "reason"]), "lacks the columns w, reason"),
        (change(face=[0, 1, 1]), "line 4: face 1 of a/1.jpg is listed twice"),
        (change(face=[0, -1, 1]), "line 3: face is -1, not an index"),
        (change(w=[5, 5, 0]), "line 4: face 2 of a/1.jpg has an empty box but no reason"),
        (change(h=[5, "tall", 5]), "line 3: h is 'tall', not a number"),
        (change(image=["a", "", "b"]), "line 3: has no image"),
    ],
)
def test_a_bad_table_is_refused_by_file_and_line(tmp_path, table, message):
    path = write_table(tmp_path / "faces.csv", table)
    with pytest.raises(ValueError, match=f"faces.csv[:,] {message}"):
        read_table(path)
    with pytest.raises(ValueError, match=message.split(": ")[-1]):
        validate(table)


def test_an_empty_box_with_a_reason_is_fine():
    table = change(w=[5, 5, 0], reason=["", "", "empty box"])
    assert validate(table) is table


def test_files_that_are_no_tables_are_refused_by_name(tmp_path):
    with pytest.raises(ValueError, match=r"faces.txt: a face table is a .csv or .parquet"):
        read_table(tmp_path / "faces.txt")
    with pytest.raises(FileNotFoundError, match=r"faces.csv"):
        read_table(tmp_path / "faces.csv")
    for name, content in (
        ("e.csv", b""),
        ("b.csv", b"\xff\xfe\x00a,b\n"),
        ("p.parquet", b"PAR1 no"),
        ("q.csv", b'a\n"b'),
    ):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(ValueError, match=name):
            read_table(tmp_path / name)


def test_usable_keeps_rows_without_a_reason():
    assert usable(make_table(ROWS))["image"].tolist() == ["a/1.jpg", "名前, ñ.png"]


def test_a_row_without_a_face_index_is_the_first_face():
    assert make_table([{"image": "a.jpg"}, {"image": "b.jpg", "face": 2}])["face"].tolist() == [0, 2]


def test_the_frame_given_is_not_changed():
    frame = pd.DataFrame({"image": ["a.jpg"]}, index=[5])
    assert make_table(frame).index.tolist() == [0]
    assert list(frame.columns) == ["image"]


def test_an_empty_table_comes_back(tmp_path):
    for suffix in ("csv", "parquet"):
        back = read_table(write_table(tmp_path / f"t.{suffix}", make_table([])))
        assert len(back) == 0
        assert tuple(back.columns) == COLUMNS


def test_damaged_text_in_parquet_is_refused_by_name(tmp_path):
    path = write_table(tmp_path / "t.parquet", make_table([{"image": "a.png", "identity": "ñññññ"}]))
    path.write_bytes(path.read_bytes().replace("ñ".encode(), b"\xff\xff"))
    with pytest.raises(ValueError, match=r"t.parquet: cannot be read as a table"):
        read_table(path)


def test_carriage_returns_in_text_come_back(tmp_path):
    table = make_table([{"image": "a\rb.png", "identity": "\r"}, {"image": "c\r\n.png"}])
    pd.testing.assert_frame_equal(read_table(write_table(tmp_path / "t.csv", table)), table)


def test_a_reason_that_quotes_such_a_name_is_spelled_out_too():
    table = make_table([{"image": "b\udcff.jpg", "reason": "b\udcff is no id"}])
    assert table["reason"].tolist() == ["b\\xff is no id"]


def test_half_a_surrogate_pair_is_spelled_out():
    table = make_table([{"image": "a\ud83d.jpg"}])
    assert table[["image", "reason"]].to_numpy().tolist() == [["a\\ud83d.jpg", "name is not UTF-8; rename it"]]


@pytest.mark.parametrize(
    ("box", "size", "reason"),
    [
        ((5, 5, 10, 10), None, ""),
        ((-9, -9, 10, 10), (20, 20), ""),
        ((-10, 5, 10, 10), None, "box outside the picture"),
        ((5, 20, 10, 10), (20, 20), "box outside the picture"),
        ((20, 5, 10, 10), (20, 20), "box outside the picture"),
        ((20, 5, 10, 10), None, ""),
        ((5, 5, 0, 10), None, "empty box"),
        ((5, 5, 10, -1), None, "empty box"),
        ((np.nan, 5, 10, 10), None, "box out of range"),
        ((5, 5, np.inf, 10), None, "box out of range"),
        ((5, -1e7, 10, 1e7), None, "box out of range"),
    ],
)
def test_box_reason(box, size, reason):
    assert box_reason(*box, size) == reason


def test_endless_boxes_and_columns_named_twice_are_refused(tmp_path):
    path = write_table(tmp_path / "t.csv", change(x=[1, np.inf, 1]))
    with pytest.raises(ValueError, match=r"line 3: face 1 of a/1.jpg has an endless box"):
        read_table(path)
    path.write_text("image,image," + path.read_text().split(",", 2)[2])
    with pytest.raises(ValueError, match=r"t.csv: lacks the column face"):  # the second became image.1
        read_table(path)
