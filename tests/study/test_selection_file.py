"""The file under the hand-picking: rows added by several windows, taken back, mended; what counts is `merge`'s."""

import os
import subprocess
import sys

import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lib.data.curation import COLUMNS, make_selection, merge, read_selection, write_selection
from lib.study.runs import REPOSITORY
from lib.study.selection_file import SelectionFile

A, B, C = ("a.png", 0), ("b.png", 0), ("b.png", 1)


def counts(file):
    return {key: row["decision"] for key, row in file.latest.items()}


def test_a_decision_is_a_row_on_disk_at_once(tmp_path):
    path = tmp_path / "deep" / "selection.csv"
    file = SelectionFile(path, by=" ann ")
    assert not path.exists()  # nothing decided, no file: a study would take an empty one for a picking
    file.add([(A, "reject", 'dark,\n"black"'), (C, "accept", "")])
    table = read_selection(path)
    assert table[["image", "face", "decision", "reason", "by"]].values.tolist() == [
        ["a.png", 0, "reject", 'dark, "black"', "ann"],
        ["b.png", 1, "accept", "", "ann"],
    ]
    assert counts(SelectionFile(path)) == {A: "reject", C: "accept"}


@pytest.mark.parametrize(("key", "decision"), [(A, "maybe"), (A, ""), (("", 0), "accept"), (("a.png", -1), "accept")])
def test_what_is_no_decision_never_reaches_the_file(tmp_path, key, decision):
    file = SelectionFile(tmp_path / "s.csv")
    file.add([(A, "accept", "")])
    before = file.path.read_bytes()
    with pytest.raises(ValueError, match=r"s\.csv: .*nothing was written"):
        file.add([(B, "reject", ""), (key, decision, "")])
    assert file.path.read_bytes() == before
    assert counts(file) == {A: "accept"}


def test_the_latest_decision_counts_and_earlier_ones_stay_in_the_file(tmp_path):
    file = SelectionFile(tmp_path / "s.csv", "ann")
    for decision in ("accept", "reject", "unsure"):
        file.add([(A, decision, "")])
    assert counts(file) == {A: "unsure"}
    assert merge([read_selection(file.path)])[0]["decision"].tolist() == ["unsure"]
    assert len(read_selection(file.path)) == 3


def test_a_decision_overrules_one_from_a_clock_that_runs_ahead(tmp_path):
    ahead = make_selection([{"image": "a.png", "decision": "reject", "by": "bob", "time": "2999-01-01T00:00:00+02:00"}])
    write_selection(tmp_path / "s.csv", ahead)
    SelectionFile(tmp_path / "s.csv", "ann").add([(A, "accept", "")])
    assert merge([read_selection(tmp_path / "s.csv")])[0]["by"].tolist() == ["ann"]


def test_undo_leaves_the_file_as_if_nothing_had_been_done(tmp_path):
    file = SelectionFile(tmp_path / "s.csv", "ann")
    first = file.add([(A, "accept", "")])
    before = file.path.read_bytes()
    second = file.add([(A, "reject", "roll"), (B, "reject", "roll")])
    assert file.undo(second)
    assert file.path.read_bytes() == before
    assert counts(file) == counts(SelectionFile(file.path)) == {A: "accept"}
    assert not file.undo(second)  # it is not there any more
    assert file.undo(first)
    assert not file.path.exists()
    assert file.latest == {}


def test_undo_keeps_what_somebody_else_added_meanwhile(tmp_path):
    ann, bob = SelectionFile(tmp_path / "s.csv", "ann"), SelectionFile(tmp_path / "s.csv", "bob")
    step = ann.add([(A, "accept", "")])
    bob.add([(B, "reject", "yaw")])
    assert ann.undo(step)
    assert counts(ann) == {B: "reject"}
    bob.refresh()
    assert counts(bob) == {B: "reject"}


def test_two_windows_see_each_other_and_opinions_keep_their_names(tmp_path):
    ann, bob = SelectionFile(tmp_path / "s.csv", "ann"), SelectionFile(tmp_path / "s.csv", "bob")
    ann.add([(A, "accept", "")])
    bob.add([(A, "reject", "roll")])
    ann.refresh()
    assert counts(ann) == {A: "reject"}
    assert {who: row["decision"] for who, row in ann.opinions[A].items()} == {"ann": "accept", "bob": "reject"}


def test_others_are_read_and_never_written(tmp_path):
    theirs = SelectionFile(tmp_path / "bob.csv", "bob")
    theirs.add([(A, "reject", "pitch")])
    content = theirs.path.read_bytes()
    mine = SelectionFile(tmp_path / "ann.csv", "ann", [theirs.path])
    assert mine.latest == {}
    mine.add([(A, "accept", "")])
    assert {who: row["decision"] for who, row in mine.opinions[A].items()} == {"bob": "reject", "ann": "accept"}
    assert theirs.path.read_bytes() == content


WORK = """
import sys
from lib.study.selection_file import SelectionFile
path, name = sys.argv[1:]
file = SelectionFile(path, name)
for k in range(40):
    step = file.add([((f"{name}{k}.png", 0), "accept", "")])
    if k % 5 == 4:
        file.undo(step)
"""


def test_processes_that_write_at_once_lose_nothing(tmp_path):
    """Appends and undos (which rewrite the file) of three processes on one file."""
    crowd = [
        subprocess.Popen([sys.executable, "-c", WORK, tmp_path / "s.csv", name], cwd=REPOSITORY)
        for name in ("ann", "bob", "cleo")
    ]
    assert [one.wait(120) for one in crowd] == [0, 0, 0]
    expected = {f"{name}{k}.png" for name in ("ann", "bob", "cleo") for k in range(40) if k % 5 != 4}
    table = read_selection(tmp_path / "s.csv")
    assert sorted(table["image"]) == sorted(expected)
    assert not [p for p in tmp_path.iterdir() if p.suffix == ".tmp"]


@settings(max_examples=60, deadline=None)
@given(
    st.lists(
        st.tuples(
            st.integers(0, 1),  # which window
            st.sampled_from(["accept", "reject", "unsure", "undo", "refresh"]),
            st.sampled_from([A, B, C]),
            st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=8),
        ),
        max_size=14,
    )
)
def test_whatever_two_windows_do_what_counts_is_what_the_file_merges_to(tmp_path_factory, acts):
    path = tmp_path_factory.mktemp("picks") / "s.csv"
    windows = [SelectionFile(path, "ann"), SelectionFile(path, "bob")]
    steps, kept = [[], []], 0
    for which, act, key, reason in acts:
        if act == "undo" and steps[which]:
            assert windows[which].undo(steps[which].pop())
            kept -= 1
        elif act == "refresh":
            windows[which].refresh()
        elif act != "undo":
            steps[which].append(windows[which].add([(key, act, reason)]))
            kept += 1
    on_disk = read_selection(path) if path.exists() else make_selection([])
    assert len(on_disk) == kept
    expected = {(r.image, r.face): r.decision for r in merge([on_disk])[0].itertuples()}
    for window in windows:
        window.refresh()
        assert counts(window) == expected


def test_a_line_that_was_cut_short_is_dropped_the_others_stay(tmp_path):
    file = SelectionFile(tmp_path / "s.csv", "ann")
    file.add([(A, "accept", ""), (B, "reject", "roll")])
    whole = file.path.read_bytes()
    file.path.write_bytes(whole + b"c.png,0,acc")
    assert counts(SelectionFile(file.path)) == {A: "accept", B: "reject"}
    assert file.path.read_bytes() == whole
    file.path.write_bytes(whole + b"c.png,0,acc")  # by another process, while this window is open
    file.add([(C, "unsure", "")])
    assert counts(SelectionFile(file.path)) == {A: "accept", B: "reject", C: "unsure"}


def test_files_of_other_programs_are_gone_on_with(tmp_path):
    path = tmp_path / "s.csv"
    # A spreadsheet's: byte-order mark, CRLF, a column of its own, no last line end.
    path.write_bytes(b"\xef\xbb\xbfnote,image,face,decision\r\nmine,a.png,0,accept\r\nyours,b.png,0,reject")
    file = SelectionFile(path, "ann")
    assert counts(file) == {A: "accept", B: "reject"}
    step = file.add([(C, "unsure", "hm")])
    table = pd.read_csv(path, dtype=str, keep_default_na=False)
    assert set(COLUMNS) < set(table.columns)
    assert table["note"].tolist() == ["mine", "yours", ""]
    assert counts(SelectionFile(path)) == {A: "accept", B: "reject", C: "unsure"}
    assert file.undo(step)
    assert len(read_selection(path)) == 2


BAD = ["image,decision\na.png,perhaps\n", "nonsense", "image,face\na,0\n", "image,decision\na.png,accept\nb,accept"]


@pytest.mark.parametrize("content", BAD)
def test_what_is_no_selection_is_refused_and_left_alone(tmp_path, content):
    path = tmp_path / "s.csv"
    path.write_text(content)
    with pytest.raises(ValueError, match=r"s\.csv"):
        SelectionFile(path)
    assert path.read_text() == content


def test_a_disk_that_is_full_leaves_the_file_as_it_was(tmp_path, monkeypatch):
    file = SelectionFile(tmp_path / "s.csv", "ann")
    file.add([(A, "accept", "")])
    before = file.path.read_bytes()

    def full(_):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(os, "fsync", full)
        with pytest.raises(OSError, match="No space"):
            file.add([(B, "accept", "")])
    assert file.path.read_bytes() == before
    assert counts(file) == {A: "accept"}
    file.add([(B, "accept", "")])
    assert counts(SelectionFile(file.path)) == {A: "accept", B: "accept"}
