"""Ballots are fair, votes are on disk at once whoever writes beside, and the tally is a second way's."""

import multiprocessing
from collections import Counter
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy.stats import binomtest

from lib.study import votes
from lib.study.votes import COLUMNS, Voting, append_vote, in_words, read_votes, tally

PAIR = (("stage5", 313), ("stage5", 476))
NAMES = ("stage5 · 313", "stage5 · 476")


def row(**changes):
    return dict.fromkeys(COLUMNS, "") | {"by": "ann", "left": NAMES[0], "right": NAMES[1], "vote": "left"} | changes


def test_every_face_is_asked_before_one_comes_again_and_sides_are_a_coin(tmp_path):
    voting, seen = Voting(PAIR, 5, tmp_path / "votes.csv", "ann", np.random.default_rng(0)), []
    for _ in range(200):
        assert {voting.now.left, voting.now.right} == {0, 1}
        seen.append(voting.now)
        voting.now, voting.coming = voting.coming, voting._draw()
    for start in range(0, 200, 5):
        assert sorted(ballot.face for ballot in seen[start : start + 5]) == [0, 1, 2, 3, 4]
    lefts = Counter(ballot.left for ballot in seen)
    assert binomtest(lefts[0], 200).pvalue > 0.001
    assert [ballot.number for ballot in seen] == list(range(1, 201))


def test_a_vote_is_a_row_with_the_sides_it_was_asked_with(tmp_path):
    path = tmp_path / "new" / "votes.csv"
    voting = Voting(PAIR, 3, path, " ann ", np.random.default_rng(1))
    asked = voting.now
    voting.vote("right", "test_000001.png", [7, None], [1.0, 0.2])
    assert voting.now.number == asked.number + 1
    (got,) = read_votes(path).to_dict("records")
    sides = {"left": NAMES[asked.left], "right": NAMES[asked.right]}
    assert got.pop("time").endswith("+00:00")
    assert got == {"by": "ann", "face": "test_000001.png", "seed_left": "7", "seed_right": "", "sigma_2": "1.0",
                   "sigma_3": "0.2", "vote": "right"} | sides  # fmt: skip


@pytest.mark.parametrize(
    ("pair", "by", "message"), [(PAIR, " ", "needs a name"), ([PAIR[0]] * 2, "ann", "are both stage5")]
)
def test_no_vote_without_a_name_or_on_one_checkpoint(tmp_path, pair, by, message):
    with pytest.raises(ValueError, match=message):
        Voting(pair, 3, tmp_path / "votes.csv", by, np.random.default_rng())


def test_a_vote_that_is_none_is_not_written(tmp_path):
    with pytest.raises(ValueError, match="expected one of left, right, tie"):
        append_vote(tmp_path / "votes.csv", row(vote="both"))
    assert not (tmp_path / "votes.csv").exists()


def test_names_with_commas_quotes_and_line_breaks_stay_one_row(tmp_path):
    path = tmp_path / "votes.csv"
    append_vote(path, row(by='Ann "A",\nof B'))
    append_vote(path, row(by="=1+1"))
    assert read_votes(path)["by"].tolist() == ['Ann "A", of B', "=1+1"]


def test_a_row_cut_short_spoils_no_later_one_and_is_named(tmp_path):
    path = tmp_path / "votes.csv"
    append_vote(path, row())
    path.write_bytes(path.read_bytes() + b"ann,2026")
    append_vote(path, row(vote="tie"))
    with pytest.raises(ValueError, match=r"votes.csv, line 3: vote '' is none of"):
        read_votes(path)
    lines = path.read_text().splitlines(keepends=True)
    path.write_text("".join(lines[:2] + lines[3:]))
    assert read_votes(path)["vote"].tolist() == ["left", "tie"]


def test_a_full_disk_leaves_the_file_as_it_was(tmp_path, monkeypatch):
    path = tmp_path / "votes.csv"
    append_vote(path, row())
    before = path.read_bytes()

    def full(_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(votes.os, "fsync", full)
    with pytest.raises(OSError, match="No space"):
        append_vote(path, row())
    assert path.read_bytes() == before


def _many(path, by):
    for _ in range(25):
        append_vote(Path(path), row(by=by))


def test_several_pages_lose_no_vote(tmp_path):
    path = tmp_path / "votes.csv"
    context = multiprocessing.get_context("fork")
    pages = [context.Process(target=_many, args=(path, name)) for name in ("ann", "ben", "eve")]
    for page in pages:
        page.start()
    for page in pages:
        page.join(60)
    assert read_votes(path)["by"].value_counts().to_dict() == {"ann": 25, "ben": 25, "eve": 25}


@pytest.mark.parametrize("text", ["a,b\n1,2\n", '"', ",".join(COLUMNS[::-1]) + "\n", ",".join(COLUMNS) + ",more\n"])
def test_another_table_is_refused_by_name_in_one_line_before_anyone_votes(tmp_path, text):
    path = tmp_path / "votes.csv"
    path.write_text(text)
    with pytest.raises(ValueError, match=r"votes\.csv.*; mend or move it$") as told:
        read_votes(path)
    assert "\n" not in str(told.value)
    before = path.read_bytes()
    with pytest.raises(ValueError, match=r"votes\.csv"):
        Voting(PAIR, 3, path, "ann", np.random.default_rng())
    assert path.read_bytes() == before


def test_the_tally_counts_by_name_not_by_side_and_ties_apart(tmp_path):
    swapped = {"left": NAMES[1], "right": NAMES[0]}
    rows = [row(), row(vote="right"), row(**swapped), row(**swapped, vote="right"), row(vote="tie", by="ben"),
            row(**swapped, vote="left"), row(right="stage4 · 298")]  # fmt: skip
    result = tally(pd.DataFrame(rows), NAMES)
    assert (result["wins"], result["ties"], result["votes"], result["people"]) == ([2, 3], 1, 6, 2)
    assert result["share"] == 2 / 5
    assert in_words(result) == (
        "stage5 · 313 against stage5 · 476: votes by 2 people: 2 for stage5 · 313, 3 for stage5 · 476, 1 could not "
        "tell; undecided at 95 %."
    )
    assert "nobody has voted yet" in in_words(tally(pd.DataFrame(columns=COLUMNS), NAMES))
    again = tally(pd.DataFrame(rows), NAMES[::-1])
    assert again["wins"] == [3, 2]
    assert again["low"] == pytest.approx(1 - result["high"])


@pytest.mark.parametrize(("wins", "losses"), [(0, 0), (3, 0), (4, 0), (10, 5), (15, 5), (5, 15), (0, 9)])
def test_the_interval_is_wilsons_and_the_verdict_follows_it(wins, losses):
    table = pd.DataFrame([row()] * wins + [row(vote="right")] * losses, columns=COLUMNS)
    result = tally(table, NAMES)
    if wins + losses == 0:
        assert (result["share"], result["low"], result["high"]) == (None, 0, 1)
        assert result["verdict"] == "undecided at 95 %"
        return
    oracle = binomtest(wins, wins + losses).proportion_ci(0.95, "wilson")
    assert (result["low"], result["high"]) == pytest.approx((oracle.low, oracle.high), abs=1e-4)
    decided = oracle.low > 0.5 or oracle.high < 0.5
    better = NAMES[0] if wins > losses else NAMES[1]
    assert result["verdict"] == (f"decided for {better} at 95 %" if decided else "undecided at 95 %")
