"""Each picture of the page comes together with the words that belong to it."""

import base64
import io

import numpy as np
import pytest
from PIL import Image

from lib.study import tiles as module
from lib.study.checkpoint_views import Comparison, attention_map, difference
from lib.study.tiles import Tiles


def pixels(src):
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(src.split(",", 1)[1]))))


@pytest.fixture
def tiles(trained):
    return Tiles(Comparison(trained))


def test_a_pane_waits_for_what_it_needs_and_then_tells_it_all(tiles):
    comparison = tiles.comparison
    wish, other = (comparison.wish(("stage5", epoch), 1, 4) for epoch in (313, 476))
    assert tiles.pane(wish) is None
    result = comparison.result(wish)
    pane = tiles.pane(wish)
    assert np.array_equal(pixels(pane["src"]), result.image)
    assert (pane["label"], pane["face"]) == ("stage5 · 313", 1)
    assert pane["caption"] == f"{result.outside:.3f} changed outside the mask"
    assert pane["noise"].split() == ["face", "2", "·", "noise", "seed", "4,", "σ", "1", "and", "0.2"]
    beside = ("B, stage5 · 476", other)
    assert tiles.pane(wish, "difference", beside) is None
    expected = difference(result.image, comparison.result(other).image, 0.2)
    pane = tiles.pane(wish, "difference", beside, 0.2)
    assert np.array_equal(pixels(pane["src"]), expected)
    assert pane["what"] == "difference to B, stage5 · 476, brightest at 0.2"
    pane = tiles.pane(wish, "attention", attention="3")
    assert np.array_equal(pixels(pane["src"]), attention_map(result.attention, "3"))
    brighter = tiles.pane(wish, "attention", attention="3", attention_at=0.2)
    expected = np.minimum(np.rint(result.attention[2] / 0.2), 255)
    assert np.array_equal(pixels(brighter["src"]), expected)
    assert brighter["what"] == "attention map 3, brightest at 0.2"
    assert pane["what"] == "attention map 3"


def test_the_words_on_noise_follow_the_checkpoint(tiles):
    quiet = tiles.comparison.wish(("stage3", 140), 0, 4)
    off = tiles.comparison.wish(("stage5", 313), 0, 4, (0, 0, 0))
    for wish in (quiet, off):
        tiles.comparison.result(wish)
    assert tiles.pane(quiet)["noise"] == "face 1 · trained without noise"
    assert tiles.pane(off)["noise"] == "face 1 · noise off"


def test_choices_lie_on_the_axis_of_the_curves_and_say_whether_noise_moves_them(tiles):
    choices = {choice["label"]: choice for choice in tiles.choices()}
    assert choices["pretraining · 60"]["x"] == 0
    assert choices["stage5 · 476"] == {
        "label": "stage5 · 476",
        "stage": "stage5",
        "epoch": 476,
        "x": 476,
        "noise": True,
    }
    assert not choices["stage4 · 298"]["noise"]


def test_references_are_the_faces_and_what_is_not_known_is_none(tiles):
    test = tiles.comparison.test
    assert np.array_equal(pixels(tiles.reference("truth", 1)["src"]), test.truth[1])
    object.__setattr__(test, "truth", None)
    assert tiles.reference("truth", 1) is None
    assert [face["name"] for face in tiles.faces()] == test.names


def test_encoded_pictures_are_bounded(tiles, monkeypatch):
    monkeypatch.setattr(module, "_SOURCES", 2)
    for kind in ("rule", "full", "truth"):
        tiles.reference(kind, 0)
    assert len(tiles._sources) == 2


def test_numbers_are_counted_once_and_curves_tell_why_there_are_none(trained, copy_of, empty):
    tiles = Tiles(Comparison(copy_of(trained)))
    before = tiles.uncounted()
    assert ("pretraining", 60) not in before
    tiles.count(before[0])
    assert tiles.uncounted() == before[1:]
    assert tiles.curves()["fault"] == ""
    tiles.comparison.study = empty
    assert "notebooks 04 to 09" in tiles.curves()["fault"]
