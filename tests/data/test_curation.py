"""Selections: read, checked line by line, merged by time, applied."""

import pandas as pd
import pytest

from lib.data.curation import COLUMNS, accepted, apply, make_selection, merge, read_selection, write_selection
from lib.data.table import make_table

HEADER = ",".join(COLUMNS)


def row(image, decision, time="", face=0, by=""):
    return {"image": image, "face": face, "decision": decision, "time": time, "by": by}


def written(tmp_path, *lines, header=HEADER):
    path = tmp_path / "selection.csv"
    path.write_text("\n".join([header, *lines]) + "\n", encoding="utf-8")
    return path


def test_what_is_written_comes_back(tmp_path):
    rows = [
        row("a, b/ñ.png", "accept", "2024-05-31T18:00:00+02:00", by="Éva"),
        row("NA", "reject"),
        row("c", "unsure", face=3),
    ]
    rows[1]["reason"] = 'says "no",\nloudly'
    selection = make_selection(rows)
    assert tuple(selection.columns) == COLUMNS
    write_selection(tmp_path / "s.csv", selection)
    pd.testing.assert_frame_equal(read_selection(tmp_path / "s.csv"), selection)
    assert [p.name for p in tmp_path.iterdir()] == ["s.csv"]


def test_an_empty_selection_is_one_too(tmp_path):
    write_selection(tmp_path / "s.csv", make_selection([]))
    assert len(read_selection(tmp_path / "s.csv")) == 0


def test_a_spreadsheets_mark_blank_lines_and_left_out_columns_do_no_harm(tmp_path):
    path = tmp_path / "s.csv"
    path.write_bytes(b"\xef\xbb\xbfimage,face,decision\r\na.png,0,accept\r\n,,\r\n\r\nb.png,1,reject\r\n")
    selection = read_selection(path)
    assert selection["image"].tolist() == ["a.png", "b.png"]
    assert selection["face"].tolist() == [0, 1]
    assert selection["by"].tolist() == ["", ""]


@pytest.mark.parametrize(
    ("line", "fault"),
    [
        ("b.png,0,maybe,,,", "line 3: decision 'maybe', expected accept, reject, unsure"),
        ("b.png,0,,,,", "line 3: decision ''"),
        ("b.png,one,accept,,,", "line 3: face 'one' is no index"),
        ("b.png,-1,accept,,,", "line 3: face '-1' is no index"),
        ("b.png,0.5,accept,,,", "line 3: face '0.5' is no index"),
        (",0,accept,,,", "line 3: no image"),
        ("b.png,0,accept,,,yesterday", "line 3: time 'yesterday' is not ISO 8601"),
        ("b.png,0,accept", "line 3 has other than 6 fields"),
        ("b.png,0,accept,a,b,,extra", "line 3 has other than 6 fields"),
    ],
)
def test_a_bad_row_is_refused_by_file_and_line(tmp_path, line, fault):
    path = written(tmp_path, "a.png,0,accept,,,", line)
    with pytest.raises(ValueError, match=rf"selection.csv.*{fault}"):
        read_selection(path)


def test_line_numbers_count_blank_and_broken_lines(tmp_path):
    path = written(tmp_path, 'a.png,0,accept,"two', 'lines",,', "", "b.png,0,maybe,,,")
    with pytest.raises(ValueError, match="line 5: decision 'maybe'"):
        read_selection(path)


def test_several_bad_rows_are_listed_and_the_rest_counted(tmp_path):
    path = written(tmp_path, *[f"{k}.png,0,maybe,,," for k in range(8)])
    with pytest.raises(ValueError, match=r"line 2: .*line 6: .*and 3 more") as caught:
        read_selection(path)
    assert "line 7" not in str(caught.value)


def test_files_that_are_no_selection_are_refused_by_name(tmp_path):
    with pytest.raises(ValueError, match=r"none.csv: no selection there"):
        read_selection(tmp_path / "none.csv")
    with pytest.raises(ValueError, match="lacks the column decision"):
        read_selection(written(tmp_path, "a.png,0", header="image,face"))
    for content in (b"", b"\xff\xfe\x00\x00", b'image,face,decision\n"a'):
        (tmp_path / "s.csv").write_bytes(content)
        with pytest.raises(ValueError, match=r"s\.csv"):
            read_selection(tmp_path / "s.csv")


def test_a_bad_selection_is_not_written_over_a_good_one(tmp_path):
    good = make_selection([row("a.png", "accept")])
    write_selection(tmp_path / "s.csv", good)
    with pytest.raises(ValueError, match="row 0: decision 'yes'"):
        write_selection(tmp_path / "s.csv", good.assign(decision="yes"))
    pd.testing.assert_frame_equal(read_selection(tmp_path / "s.csv"), good)


def test_merge_lets_the_latest_decision_win_and_lists_conflicts():
    one = make_selection([row("a", "accept", "2024-01-02"), row("b", "accept", "2024-01-02"), row("c", "unsure")])
    two = make_selection(
        [row("a", "reject", "2024-01-01"), row("b", "accept", "2024-01-03"), row("c", "accept", "2020-01-01")]
    )
    merged, conflicts = merge([one, two])
    assert dict(zip(merged["image"], merged["decision"])) == {"a": "accept", "b": "accept", "c": "accept"}
    assert merged["time"].tolist() == ["2024-01-02", "2024-01-03", "2020-01-01"]
    assert conflicts["image"].tolist() == ["a", "a", "c", "c"]
    assert conflicts["decision"].tolist() == ["reject", "accept", "unsure", "accept"]  # oldest first


def test_times_are_compared_as_instants_not_as_text():
    later = row("a", "accept", "2024-05-31T23:00:00-05:00")  # 04:00 UTC on the next day
    earlier = row("a", "reject", "2024-06-01T01:00:00Z")
    assert merge([make_selection([later]), make_selection([earlier])])[0]["decision"].tolist() == ["accept"]


def test_a_time_without_a_zone_is_utc():
    later, earlier = row("a", "accept", "2024-06-01T03:00:00"), row("a", "reject", "2024-06-01T02:59:00Z")
    assert merge([make_selection([later]), make_selection([earlier])])[0]["decision"].tolist() == ["accept"]


def test_at_equal_times_the_later_file_wins_and_faces_are_told_apart():
    merged, conflicts = merge(
        [make_selection([row("a", "accept"), row("a", "accept", face=1)]), make_selection([row("a", "reject")])]
    )
    assert merged[["face", "decision"]].to_numpy().tolist() == [[0, "reject"], [1, "accept"]]
    assert conflicts["face"].tolist() == [0, 0]


def test_merge_of_the_same_file_twice_is_that_file():
    selection = make_selection([row("a", "accept", "2024-01-01"), row("b", "reject", "2024-01-01", face=2)])
    merged, conflicts = merge([selection, selection])
    pd.testing.assert_frame_equal(merged, selection)
    assert conflicts.empty
    assert merge([])[0].empty


TABLE = make_table([{"image": "a", "face": 0}, {"image": "a", "face": 1}, {"image": "b"}, {"image": "c"}])


def test_apply_keeps_the_accepted_faces_in_the_tables_order():
    selection = make_selection(
        [row("c", "accept"), row("a", "accept", face=1), row("b", "unsure"), row("gone", "accept")]
    )
    kept = apply(TABLE, selection)
    assert kept[["image", "face"]].to_numpy().tolist() == [["a", 1], ["c", 0]]
    flags = accepted(TABLE.set_index(pd.Index([9, 8, 7, 6])), selection)
    assert flags.dtype == bool
    assert flags.to_dict() == {9: False, 8: True, 7: False, 6: True}


def test_a_decision_taken_back_in_the_same_file_counts():
    rows = [row("a", "accept", "2024-01-01"), row("a", "reject", "2024-01-02"), row("b", "accept", "2024-01-01")]
    assert apply(TABLE, make_selection(rows))["image"].tolist() == ["b"]


def test_a_selection_of_other_names_is_an_error_not_an_empty_set():
    with pytest.raises(ValueError, match=r"names pictures like 'root/a', the table like 'a'"):
        accepted(TABLE, make_selection([row("root/a", "accept")]))
    assert not accepted(TABLE, make_selection([row("a", "reject")])).any()
    assert len(apply(TABLE.head(0), make_selection([row("a", "accept")]))) == 0


def test_values_left_out_of_some_rows_get_their_defaults():
    selection = make_selection([{"image": "a.jpg", "decision": "accept"}, row("b.jpg", "reject", face=2, by="Éva")])
    assert selection[["face", "by"]].to_numpy().tolist() == [[0, ""], [2, "Éva"]]


def test_any_time_is_later_than_none():
    none, timed = make_selection([row("a", "accept")]), make_selection([row("a", "reject", "1999-01-01")])
    assert merge([timed, none])[0]["decision"].tolist() == ["reject"]


def test_carriage_returns_in_a_reason_come_back(tmp_path):
    selection = make_selection([{"image": "a\rb.jpg", "decision": "accept", "reason": "one\r\ntwo"}])
    write_selection(tmp_path / "s.csv", selection)
    pd.testing.assert_frame_equal(read_selection(tmp_path / "s.csv"), selection)


def test_a_column_named_twice_and_an_index_beyond_reason_are_refused(tmp_path):
    with pytest.raises(ValueError, match=r"selection.csv: .*line 1 names a column twice"):
        read_selection(written(tmp_path, "a,0,accept,b", header="image,face,decision,image"))
    with pytest.raises(ValueError, match=r"line 2: face '1e300' is no index"):
        read_selection(written(tmp_path, "a,1e300,accept,,,"))
