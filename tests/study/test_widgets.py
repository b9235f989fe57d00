"""The comparison draws without a browser, and its controls change the pictures."""

import io

import ipywidgets
import numpy as np
import pytest
from PIL import Image

from lib.study.datasets import load_test_set
from lib.study.widgets import Comparison


@pytest.fixture(scope="module")
def comparison(trained):
    return Comparison(trained, load_test_set(trained))


def controls(root, kind):
    found = [root] if isinstance(root, kind) else []
    return found + [hit for child in getattr(root, "children", ()) for hit in controls(child, kind)]


def named(root, description):
    return next(w for w in controls(root, ipywidgets.Widget) if getattr(w, "description", "") == description)


def pictures(root):
    return [np.asarray(Image.open(io.BytesIO(pane.value))) for pane in controls(root, ipywidgets.Image)]


def test_every_kept_checkpoint_is_a_choice(comparison):
    assert ("pretraining", 60) in comparison.choices
    assert comparison.picked() == [("stage5", 313), ("stage5", 476)]


def test_nothing_trained_has_nothing_to_compare(empty, trained):
    with pytest.raises(ValueError, match="notebooks 04 to 09"):
        Comparison(empty, load_test_set(trained))


def test_the_widget_shows_input_and_both_picks(comparison):
    shown = pictures(comparison.widget())
    assert np.array_equal(shown[0], comparison.test.rule[0])
    assert np.array_equal(shown[1], comparison.view(("stage5", 313), 0, 0, (0.0, 1.0, 0.2)))
    assert np.array_equal(shown[2], comparison.view(("stage5", 476), 0, 0, (0.0, 1.0, 0.2)))


@pytest.mark.parametrize(
    ("control", "value", "changed"),
    [
        ("face", 1, [True, True, True]),
        ("noise seed", 7, [False, True, True]),
        ("σ layer 3", 4.0, [False, True, True]),
        ("view", "difference", [False, True, True]),
        ("view", "attention", [False, True, True]),
        ("right", "stage3 · 140", [False, False, True]),
    ],
)
def test_a_control_changes_its_pictures_and_no_other(comparison, control, value, changed):
    root = comparison.widget()
    before = pictures(root)
    named(root, control).value = value
    assert [not np.array_equal(a, b) for a, b in zip(before, pictures(root))] == changed


def test_noise_sliders_do_not_move_what_was_trained_without_noise(comparison):
    root = comparison.widget()
    named(root, "right").value = "stage3 · 140"
    before = pictures(root)[2]
    named(root, "noise seed").value = 9
    named(root, "σ layer 2").value = 4.0
    assert np.array_equal(pictures(root)[2], before)


def test_the_caption_tells_the_change_outside_the_mask(comparison):
    captions = [w.value for w in controls(comparison.widget(), ipywidgets.HTML)]
    assert captions[0] == "rule-based"
    assert captions[1].startswith("stage5 · 313: 0.")


def test_the_static_grid_shows_the_same_pictures(comparison):
    fig = comparison.static([("stage4", 298), ("stage5", 476)], faces=range(2))
    shown = [ax.images[0].get_array() for ax in fig.axes]
    assert np.array_equal(shown[1], comparison.test.rule[1])
    assert np.array_equal(shown[2], comparison.view(("stage4", 298), 0))
    assert np.array_equal(shown[5], comparison.view(("stage5", 476), 1, seed=1))
    assert fig.axes[4].get_ylabel() == "stage5\n476"


def test_a_picture_is_computed_once(comparison):
    comparison.output.cache_clear()
    for kind in ("output", "difference", "attention"):
        comparison.view(("stage5", 313), 0, 0, None, kind)
    assert comparison.output.cache_info().misses == 1
