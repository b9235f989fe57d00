"""Figures have the pictures, titles and colours asked for, and are drawn once."""

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
from PIL import Image

from lib.study import display


@pytest.fixture
def faces():
    return list(np.random.default_rng(0).integers(0, 256, (5, 16, 16, 3), dtype=np.uint8))


def shown(fig):
    return [ax.images[0].get_array() for ax in fig.axes if ax.images]


def test_as_pixels_takes_every_kind_of_picture(tmp_path, faces):
    Image.fromarray(faces[0]).save(tmp_path / "a.png")
    assert np.array_equal(display.as_pixels(tmp_path / "a.png"), faces[0])
    assert np.array_equal(display.as_pixels(str(tmp_path / "a.png")), faces[0])
    assert display.as_pixels(np.array([[True, False]])).tolist() == [[255, 0]]
    assert display.as_pixels(np.array([[0.0, 0.5, 1.0, 2.0]])).tolist() == [[0, 128, 255, 255]]
    assert display.as_pixels(faces[0]) is faces[0]


def test_a_grid_shows_its_pictures_in_order_and_leaves_gaps(faces):
    fig = display.grid([*faces[:3], None], columns=2, titles=["left", "right"], rows=["top", "bottom"])
    assert [np.array_equal(a, b) for a, b in zip(shown(fig), faces[:3])] == [True] * 3
    assert [ax.get_title() for ax in fig.axes] == ["left", "right", "", ""]
    assert [fig.axes[k].get_ylabel() for k in (0, 2)] == ["top", "bottom"]


def test_a_title_per_picture_and_at_most_eight_per_row(faces):
    fig = display.grid(faces * 2, titles=[str(k) for k in range(10)])
    assert [ax.get_title() for ax in fig.axes][:10] == [str(k) for k in range(10)]
    assert len(fig.axes) == 16


def test_a_grid_of_nothing_is_refused():
    with pytest.raises(ValueError, match="no pictures"):
        display.grid([])


def test_figures_are_out_of_pyplots_hands(faces):
    plt.close("all")
    display.grid(faces)
    display.funnel_chart(pd.DataFrame({"step": ["a"], "kept": [3], "removed": [0], "why": [""]}))
    assert plt.get_fignums() == []


def test_heat_is_dark_where_nothing_changed_and_brightest_at_the_limit():
    colours = display.heat(np.array([[0.0, 0.25, 0.5, 0.9]]), limit=0.5)
    brightness = colours.astype(int).sum(-1)[0]
    assert brightness[0] < brightness[1] < brightness[2] == brightness[3]
    assert display.heat(np.zeros((2, 2))).shape == (2, 2, 3)  # nothing to scale by


def test_loss_curves_leave_out_what_is_off():
    metrics = pd.DataFrame({"step": [1, 2, 3], "loss_G": [3.0, 2, 1], "loss_nmc": [0.0, 0, 0]})
    fig = display.loss_curves(metrics, ["loss_G", "loss_nmc", "loss_unknown"])
    labels = [text.get_text() for text in fig.axes[0].get_legend().get_texts()]
    assert labels == ["loss_G"]
    assert fig.axes[0].get_ylim()[0] == 0


def test_change_curves_mark_the_threshold():
    samples = pd.DataFrame({"epoch": [1, 2], "outside_change": [0.1, 0.2], "inside_change": [0.3, 0.4]})
    fig = display.change_curves(samples, threshold=0.15)
    assert any(np.allclose(line.get_ydata(), 0.15) for line in fig.axes[0].lines)


def test_the_funnel_writes_numbers_shares_and_reasons_and_shows_what_was_removed(faces):
    funnel = pd.DataFrame({"step": ["all faces", "stage2: front facing"], "kept": [9517, 8938], "removed": [0, 579],
                           "why": ["", "B varies more than A"]})  # fmt: skip
    fig = display.funnel_chart(funnel, {"stage2: front facing": [None, *faces[:2]]}, shown=4)
    words = {text.get_text() for ax in fig.axes for text in ax.texts}
    assert {"9,517", "8,938 · −579 (6%)", "stage2: front facing", "B varies more than A"} <= words
    assert [len(ax.images) for ax in fig.axes].count(1) == 2
    bars = [bar.get_width() for ax in fig.axes for bar in ax.patches]
    assert bars == [9517, 8938, 579]
    assert len(display.funnel_chart(funnel).axes) == 2


def test_strips_label_their_rows(tmp_path, faces):
    Image.fromarray(np.concatenate([np.concatenate(faces[:2], 1)] * 3)).save(tmp_path / "epoch_0001.png")
    fig = display.strips({"epoch 1": tmp_path / "epoch_0001.png"})
    assert fig.axes[0].get_title() == "epoch 1"
    assert [text.get_text() for text in fig.axes[0].get_yticklabels()] == ["input", "output", "kept"]


def test_the_style_keeps_text_as_text_in_a_pdf():
    with plt.rc_context():
        display.use_style()
        assert plt.rcParams["pdf.fonttype"] == 42
        assert plt.rcParams["font.sans-serif"] == ["DejaVu Sans"]  # the same letters on every machine
