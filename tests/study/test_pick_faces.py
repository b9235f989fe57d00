"""The hand-picking page from Python's side: what it shows, what it writes, and that it stays quick with 9,000 faces."""

import base64
import io
import time

import numpy as np
import pandas as pd
import pytest
from matplotlib.colors import to_hex
from PIL import Image

from lib.data import curation
from lib.study.pick_faces import MARKS, REASONS, pick_faces, static


def candidates(count=10):
    return pd.DataFrame({
        "image": [f"{k}.png" for k in range(count)], "face": 0, "score": np.linspace(0, 1, count),
        "yaw": [(-1) ** k * k for k in range(count)],
    })  # fmt: skip


def picture(row):
    """Grey, as bright as its number."""
    return np.full((40, 60, 3), 20 * row.Index, np.uint8)


@pytest.fixture
def opened(tmp_path):
    """opened(**arguments) → a page on the same file each time, as if the kernel had been started anew."""

    def opener(table=None, pictures=picture, **arguments):
        table = candidates() if table is None else table
        return pick_faces(table, pictures, tmp_path / "s.csv", **{"by": "ann", "page_size": 4, **arguments})

    return opener


def shown(page):
    return [tile["name"] for tile in page.tiles]


def decided(page):
    return {row.image: (row.decision, row.reason) for row in curation.read_selection(page.file.path).itertuples()}


def test_a_page_holds_its_pictures_and_no_others(opened):
    page = opened()
    assert shown(page) == ["9.png", "8.png", "7.png", "6.png"]  # by score, high first
    assert page.state["pages"] == 3
    pixels = np.asarray(Image.open(io.BytesIO(base64.b64decode(page.tiles[0]["src"].split(",")[1]))))
    assert pixels.shape == (40, 60, 3)
    assert abs(int(pixels.mean()) - 180) <= 2
    assert page.tiles[1]["facts"] == [["score", "0.89"], ["yaw", "8°"]]
    page.turn(2)
    assert shown(page) == ["1.png", "0.png"]
    assert page.tiles[0]["facts"][1] == ["yaw", "−1°"]
    page.resize(5)
    assert shown(page) == ["4.png", "3.png", "2.png", "1.png", "0.png"]
    page.enlarge(3)
    assert page.zoom["row"] == 3


def test_decisions_reasons_and_several_at_once(opened):
    page = opened()
    page.decide([9], "accept")
    page.decide([8, 7], "reject", "dark mask")
    page.decide([6], "unsure")
    page.decide([6, 9, 5], reason="roll")  # what is unsure stays so, all else is rejected
    assert page.state["counts"] == {
        "accept": 0, "reject": 4, "unsure": 1, "undecided": 5, "disagreeing": 0, "all": 10,
    }  # fmt: skip
    latest = {row["image"]: (row["decision"], row["reason"]) for row in page.file.latest.values()}
    assert latest["6.png"] == ("unsure", "roll")
    assert latest["9.png"] == latest["5.png"] == ("reject", "roll")
    assert page.marks[0] == {"decision": "reject", "reason": "roll", "by": "ann", "others": [], "differ": False}
    before = page.file.path.read_bytes()
    page.decide([9], "reject")  # it is
    page.decide([9], "reject", "roll")
    assert page.file.path.read_bytes() == before
    table = pd.DataFrame({"image": [f"{k}.png" for k in range(10)], "face": 0})
    assert not curation.accepted(table, curation.read_selection(page.file.path)).any()


def test_undo_goes_back_step_by_step_to_nothing(opened):
    page = opened()
    page.decide([9], "accept")
    page.decide([8, 7, 6], "reject", "yaw")
    page.decide([9], "unsure")
    page.undo()
    assert decided(page)["9.png"] == ("accept", "")
    assert page.state["back_to"] == 9
    page.undo()
    assert list(decided(page)) == ["9.png"]
    assert page.state["message"] == "taken back: 3 decisions"
    page.undo()
    assert not page.file.path.exists()
    page.undo()
    assert "nothing to undo" in page.state["message"]


def test_it_goes_on_where_it_was(opened):
    opened().decide([9, 8, 7, 6, 5], "accept")
    page = opened()
    assert page.state["filter"] == "undecided"
    assert shown(page) == ["4.png", "3.png", "2.png", "1.png"]
    assert "going on" in page.state["message"]
    page.decide([4, 3, 2, 1, 0], "reject")
    assert opened().state["filter"] == "all"
    few = opened(candidates().head(3))
    assert "7 of its faces are not among these" in few.state["message"]


def test_nothing_jumps_away_while_one_decides_and_nothing_is_skipped(opened):
    page = opened()
    page.decide([9, 8, 7, 6], "accept")
    assert shown(page) == ["9.png", "8.png", "7.png", "6.png"]
    page.turn(1)
    assert shown(page) == ["5.png", "4.png", "3.png", "2.png"]
    page.turn(2)
    page.turn(3)  # past the end: what is still undecided
    assert shown(page) == ["5.png", "4.png", "3.png", "2.png"]
    assert page.state["listed"] == 6


def test_filters_and_orders(opened):
    page = opened()
    page.decide([1, 2], "reject")
    page.decide([3], "unsure")
    for chosen, rows in (("reject", [2, 1]), ("unsure", [3]), ("accept", []), ("disagreeing", [])):
        page.choose(chosen, "score", True)
        assert page.listed == rows
    assert page.tiles == []
    page.choose("all", "yaw", False)
    assert page.listed == list(range(10))  # by its distance from 0
    page.choose("all", "", False)
    assert page.listed == list(range(10))
    table = candidates().assign(score=[np.nan, *np.linspace(1, 0, 9)])
    last = opened(table)
    last.choose("all", "score", True)
    assert last.listed[0] == 1
    assert last.listed[-1] == 0  # what has no score comes last in either direction
    last.choose("all", "score", False)
    assert last.listed[-1] == 0


def test_others_are_shown_once_one_has_decided(opened, tmp_path):
    theirs = curation.make_selection([
        {"image": "9.png", "decision": "reject", "reason": "roll", "by": "bob"},
        {"image": "8.png", "decision": "accept", "by": "bob"},
    ])  # fmt: skip
    curation.write_selection(tmp_path / "bob.csv", theirs)
    page = opened(others=[tmp_path / "bob.csv"])
    assert page.marks[0]["others"] == []
    page.decide([9, 8], "accept")
    assert page.marks[0]["others"] == ["bob: reject (roll)"]
    assert [mark["differ"] for mark in page.marks] == [True, False, False, False]
    page.choose("disagreeing", "score", True)
    assert shown(page) == ["9.png"]
    merged, conflicts = curation.merge([curation.read_selection(p) for p in (page.file.path, tmp_path / "bob.csv")])
    assert len(merged) == 2
    assert set(conflicts["by"]) == {"ann", "bob"}


def test_two_people_on_one_file(opened):
    ann, bob = opened(), opened(by="bob")
    ann.decide([9], "accept")
    bob.decide([8], "reject")
    ann.turn(0)
    assert [mark["decision"] for mark in ann.marks] == ["accept", "reject", "", ""]
    assert ann.marks[1]["by"] == "bob"


def test_a_picture_that_cannot_be_read_says_so_and_can_be_rejected(opened, tmp_path):
    Image.fromarray(picture(candidates().iloc[[3]].itertuples().__next__())).save(tmp_path / "3.png")
    page = opened(pictures=tmp_path)
    assert page.tiles[0]["fault"] == "no such file"
    assert page.tiles[0]["src"] == ""
    page.decide([9], "reject", "gone")
    page.turn(1)
    assert page.tiles[2]["src"].startswith("data:image/jpeg;base64,")


def test_what_goes_wrong_is_told_on_the_page(opened):
    page = opened()
    page.handle({"do": "decide", "rows": [9], "decision": "accept"})
    page.file.path.write_text("image,face,decision\n9.png,0,perhaps\n")
    page.handle({"do": "decide", "rows": [8], "decision": "accept"})
    assert page.state["message"].startswith("not done: ")
    assert "perhaps" in page.state["message"]
    page.handle({"do": "__init__"})  # nothing else can be asked for
    assert page.page_size == 4


def test_bad_calls(tmp_path):
    path = tmp_path / "s.csv"
    with pytest.raises(ValueError, match="column image"):
        pick_faces(pd.DataFrame({"face": [0]}), picture, path)
    with pytest.raises(ValueError, match=r"face 0 of 0\.png is listed twice"):
        pick_faces(pd.concat([candidates(1)] * 2), picture, path)
    with pytest.raises(ValueError, match="one of face, score, yaw"):
        pick_faces(candidates(), picture, path, order="beauty")
    path.write_text("image\n")
    with pytest.raises(ValueError, match="lacks the column"):
        pick_faces(candidates(), picture, path)


def test_the_contact_sheet_shows_what_was_decided(opened):
    page = opened()
    page.decide([9], "accept")
    page.decide([8], "reject", REASONS[0])
    figure = page.static(columns=4)
    titles = [ax.get_title() for ax in figure.axes]
    assert titles[:3] == [f"{MARKS['accept'][0]} accept", f"{MARKS['reject'][0]} pitch", "undecided"]
    frame = figure.axes[1].spines["left"]
    assert frame.get_visible()
    assert to_hex(frame.get_edgecolor()) == MARKS["reject"][1]
    page.decide([7], "reject", "a scarf over the mouth and a hand before it")
    long = page.static(columns=4)
    long.canvas.draw()
    for ax in long.axes:  # no title runs over its neighbour
        assert ax.title.get_window_extent().width <= ax.get_window_extent().width * 1.1
    assert long.axes[2].get_title().endswith("…")
    alone = static(candidates(3), picture, curation.read_selection(page.file.path))
    assert [ax.get_title() for ax in alone.axes] == ["undecided"] * 3
    gone = static(candidates(3), lambda row: None, page.file.path.with_name("none.csv"))
    assert not any(ax.images for ax in gone.axes)


def test_nine_thousand_faces_stay_quick(tmp_path):
    """A decision writes one row and sends one page's marks: far under 50 ms, whatever the file holds already."""
    table = pd.DataFrame({"image": [f"train-images/{k:08d}.jpg" for k in range(9000)], "face": 0})
    past = table.head(8000).assign(decision="accept", reason="", by="bob", time="2024-05-31T18:00:00+00:00")
    curation.write_selection(tmp_path / "s.csv", past)
    page = pick_faces(table, lambda row: np.zeros((60, 60, 3), np.uint8), tmp_path / "s.csv", by="ann")
    assert len(page.tiles) == 40
    took = []
    for row in page.listed[:15]:
        start = time.perf_counter()
        page.handle({"do": "decide", "rows": [row], "decision": "reject", "reason": "roll"})
        took.append(time.perf_counter() - start)
    assert sorted(took)[7] < 0.05
    assert len(page._thumbs) == 80  # this page and the next, not the set
    assert len(curation.read_selection(tmp_path / "s.csv")) == 8015
