"""Sheets are as wide as asked, every picture stands in its place, and no text meets another."""

from itertools import combinations

import numpy as np
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg

from lib.study import sheet as module
from lib.study.sheet import COLUMN, FONT, SMALL, TEXT, Panel, Row, Scale, fitting, sheet, text_size


@pytest.fixture
def faces():
    return list(np.random.default_rng(0).integers(0, 256, (6, 16, 16, 3), dtype=np.uint8))


def places(fig):
    """Left, right, bottom, top of every picture, inches."""
    return [tuple(round(float(v), 4) for v in image.get_extent()) for image in fig.axes[0].images]


def full(faces):
    """A sheet with everything on it."""
    rows = [
        Row("rule-based\nΔE 1.7", faces[:3], ["0.001", "0.020", "0.300"], boxes=[(4, 4, 8), None, None]),
        Row("noise 1", [faces[3], None, faces[4]], swatches=[faces[0][0, 0], None, faces[1][0, 0]]),
    ]
    panels = [Panel(rows, ["input", "output,\nenlarged", "change"], "(a) left"), Panel([Row("", faces[:2])])]
    return sheet(panels, TEXT, Scale("change outside the mask, share of the full range", 0.2))


def test_a_sheet_is_exactly_as_wide_as_it_is_printed(faces):
    assert sheet(Panel([Row("a", faces)]), TEXT).get_figwidth() == TEXT
    assert sheet(Panel([Row("a", faces[:1])]), COLUMN).get_figwidth() == COLUMN
    assert [fitting(n) for n in (1, 4, 5, 12)] == [COLUMN, COLUMN, TEXT, TEXT]


def test_pictures_are_square_alike_in_order_and_apart(faces):
    fig = full(faces)
    boxes, edge = places(fig)[:-1], None  # the last is the colour bar
    assert len(boxes) == 3 + 2 + 2
    for left, right, bottom, top in boxes:
        edge = edge or right - left
        assert right - left == pytest.approx(top - bottom, abs=1e-3) == pytest.approx(edge, abs=1e-3)
        assert left >= 0
        assert bottom >= 0
        assert right <= TEXT
        assert top <= fig.get_figheight()
    for (l1, r1, b1, t1), (l2, r2, b2, t2) in combinations(boxes, 2):
        assert r1 <= l2 or r2 <= l1 or t1 <= b2 or t2 <= b1
    shown = [image.get_array() for image in fig.axes[0].images]
    for image, expected in zip(shown, (*faces[:5], *faces[:2])):
        assert np.array_equal(image, expected)


def test_no_text_leaves_the_sheet_or_meets_another_or_a_picture(faces):
    fig = full(faces)
    FigureCanvasAgg(fig).draw()
    texts = [text.get_window_extent() for text in fig.axes[0].texts]
    pictures = [image.get_window_extent() for image in fig.axes[0].images]
    for box in texts:
        assert fig.bbox.x0 <= box.x0
        assert box.x1 <= fig.bbox.x1
        assert fig.bbox.y0 <= box.y0
        assert box.y1 <= fig.bbox.y1
    assert not any(a.overlaps(b) for a, b in combinations(texts, 2))
    assert not any(a.overlaps(b) for a in texts for b in pictures)


def test_letters_are_black_of_one_font_and_no_smaller_than_seven_points(faces):
    for text in full(faces).axes[0].texts:
        assert text.get_fontsize() >= SMALL == 7
        assert text.get_fontname() == FONT
        assert text.get_color() == "black"


def test_colours_and_squares_stand_where_they_belong(faces):
    patches = full(faces).axes[0].patches
    bars = [p for p in patches if p.get_height() == pytest.approx(0.06)]
    assert [tuple(round(255 * c) for c in bar.get_facecolor()[:3]) for bar in bars] == [
        tuple(faces[0][0, 0]), tuple(faces[1][0, 0])
    ]  # fmt: skip
    edge = places(full(faces))[0]
    square = next(p for p in patches if p.get_edgecolor()[:3] == (1, 1, 1))
    assert square.get_width() == pytest.approx((edge[1] - edge[0]) / 2, abs=1e-3)
    assert square.get_x() == pytest.approx(edge[0] + (edge[1] - edge[0]) / 4, abs=1e-3)


def test_a_colour_bar_tells_its_values(faces):
    words = {text.get_text() for text in full(faces).axes[0].texts}
    assert {"0", "0.1", "0.2 or more", "change outside the mask, share of the full range"} <= words


def test_the_measured_width_of_a_text_is_its_drawn_width(faces):
    fig, ax = module.blank(4, 1)
    module.write(ax, 0.1, 0.5, "rule-based", module.NORMAL, ha="left", fontname=FONT)
    drawn = ax.texts[0].get_window_extent(FigureCanvasAgg(fig).get_renderer()).width / fig.dpi
    assert text_size("rule-based", module.NORMAL)[0] == pytest.approx(drawn, abs=0.03)
    assert text_size("a\nrule-based", module.NORMAL)[0] == text_size("rule-based", module.NORMAL)[0]
    assert text_size("", module.NORMAL)[0] == 0


def test_nothing_or_too_much_is_refused(faces):
    with pytest.raises(ValueError, match="no pictures"):
        sheet(Panel([Row("a", [])]))
    with pytest.raises(ValueError, match="draw fewer"):
        sheet(Panel([Row("a", faces * 5)]), COLUMN)
