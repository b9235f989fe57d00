"""The page for crops from Python's side: squares, credits, undo, proposals, two windows on one file."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from lib.study.crop_stock import SMALLEST_PX, crop_stock, export_crops, fit, propose, read_crops
from lib.warp.landmarks import Face


class TwoFaces:
    """A detector that sees two faces in any picture."""

    by_pixels, nothing = True, "none"

    def find(self, key, pixels):
        return [Face((100, 80, 60, 60), np.zeros((68, 2), np.float32), 1.0), Face((0, 0, 40, 40), None, 1.0)]

    def fingerprint(self):
        return "two faces"


@pytest.fixture
def photos(tmp_path):
    root = tmp_path / "photos"
    root.mkdir()
    for name in ("a.jpg", "b.png"):
        Image.fromarray(np.random.default_rng(0).integers(0, 256, (200, 300, 3), dtype=np.uint8)).save(root / name)
    (root / "broken.jpg").write_bytes(b"no picture")
    return root


@pytest.fixture
def page(photos, tmp_path):
    return crop_stock(photos, tmp_path / "crops.csv", "ann", landmarks=TwoFaces())


def rows(page):
    return read_crops(page.csv)[["image", "crop", "x", "y", "w"]].values.tolist()


def test_squares_are_on_disk_at_once_whole_and_inside(page):
    assert not page.csv.exists()
    page.put([[-1, 10.4, 20.6, 50.2]])
    assert rows(page) == [["a.jpg", 0, 10, 21, 50]]
    page.put([[0, 290, -40, 50], [-1, 0, 0, 5000]])
    assert rows(page) == [["a.jpg", 0, 250, 0, 50], ["a.jpg", 1, 0, 0, 200]]
    assert page.squares == [[0, 250, 0, 50], [1, 0, 0, 200]]
    page.put([[1, 0, 0, 200], [-1, 5, 5, 30]])
    assert rows(page) == [["a.jpg", 1, 0, 0, 200], ["a.jpg", 2, 5, 5, 30]]  # an index is not given to another


def test_credit_is_remembered_for_each_picture_and_needed_for_the_export(page):
    page.note(credit="Jane Doe", source=" https://example.org ")  # before there is a square
    page.put([[-1, 0, 0, 50]])
    assert page.fields == {"credit": "Jane Doe", "source": "https://example.org", "licence": ""}
    page.handle({"do": "export"})
    assert "a.jpg (licence)" in page.state["message"]
    assert page.state["lacking"] == 1
    page.note(licence="CC0")
    page.go(1)
    assert page.fields == {"credit": "", "source": "", "licence": ""}
    page.put([[-1, 0, 0, 80]])
    page.copy_note()
    assert page.fields == {"credit": "Jane Doe", "source": "https://example.org", "licence": "CC0"}
    page.export()
    assert page.state["message"].startswith("2 crops written")
    assert len(list((page.csv.parent / "crops").glob("*.png"))) == 2
    export_crops(page.csv, page.root, page.csv.parent / "again")
    for path in (page.csv.parent / "again").iterdir():
        assert path.read_bytes() == (page.csv.parent / "crops" / path.name).read_bytes()


def test_undo_goes_back_also_to_another_picture(page):
    page.put([[-1, 0, 0, 50]])
    page.note(credit="Jane Doe")
    page.go(1)
    page.put([[-1, 9, 9, 60]])
    page.put([[0, 9, 9, 70]])
    page.undo()
    assert rows(page)[1] == ["b.png", 0, 9, 9, 60]
    page.undo()
    page.undo()
    assert page.name == "a.jpg"
    assert page.fields["credit"] == ""
    page.undo()
    assert rows(page) == []
    page.undo()
    assert "nothing to undo" in page.state["message"]


def test_it_goes_on_with_the_first_picture_without_crops(page, photos):
    page.put([[-1, 0, 0, 50]])
    again = crop_stock(photos, page.csv, "bob")
    assert again.name == "b.png"
    again.go(0)
    assert again.squares == [[0, 0, 0, 50]]
    again.put([[0, 0, 0, 50], [-1, 60, 60, 40]])
    assert read_crops(page.csv)["by"].tolist() == ["ann", "bob"]  # what one did not touch keeps its name


def test_two_windows_keep_each_others_pictures(page, photos):
    other = crop_stock(photos, page.csv, "bob")
    other.go(1)
    page.put([[-1, 0, 0, 50]])
    other.put([[-1, 5, 5, 60]])
    page.put([[0, 1, 1, 50]])
    assert rows(page) == [["a.jpg", 0, 1, 1, 50], ["b.png", 0, 5, 5, 60]]


def test_proposals_are_squares_around_the_faces(page):
    page.propose()
    first, second = page.proposals
    assert first[2] == round(1.3 * 60)
    assert abs(first[0] + first[2] / 2 - 130) <= 1  # centred, and higher up than the detector's box
    assert first[1] + first[2] / 2 < 110
    assert second[:2] == [0, 0]
    page.put([[-1, *first]])
    assert page.proposals == [second]
    page.propose()
    assert page.proposals == [second]
    assert propose(page.pixels, TwoFaces()) == [first, second]


def test_a_picture_that_cannot_be_read_says_so(page):
    page.go(2)
    assert "picture" in page.picture["fault"]
    page.put([[-1, 0, 0, 50]])
    page.propose()
    assert not page.csv.exists()


def test_bad_calls(photos, tmp_path):
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match="no pictures in it"):
        crop_stock(tmp_path / "empty", tmp_path / "crops.csv")
    with pytest.raises(FileNotFoundError):
        crop_stock(tmp_path / "none", tmp_path / "crops.csv")
    (tmp_path / "crops.csv").write_text("image\n")
    with pytest.raises(ValueError, match="lacks the column crop"):
        crop_stock(photos, tmp_path / "crops.csv")


@given(st.tuples(*[st.floats(-1e4, 1e4)] * 3), st.integers(SMALLEST_PX, 400), st.integers(SMALLEST_PX, 400))
def test_a_square_always_fits(square, width, height):
    x, y, side = fit(square, (height, width, 3))
    assert min(x, y) >= 0
    assert side >= SMALLEST_PX
    assert x + side <= width
    assert y + side <= height
    assert fit((x, y, side), (height, width, 3)) == [x, y, side]


def test_without_a_browser_squares_and_proposals_are_drawn(page):
    page.put([[-1, 0, 0, 40]])
    page.propose()
    figure = page.static()
    assert figure.axes[0].get_title() == "a.jpg: 1 drawn, 1 proposed"
    assert [patch.get_linestyle() for patch in figure.axes[0].patches] == ["-", "--"]
