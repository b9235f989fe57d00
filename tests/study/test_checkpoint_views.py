"""Results are the translator's, are computed once, and do not fill the memory; views show what they say."""

import os

import numpy as np
import pytest
import torch

from lib.data.images import to_tensor
from lib.gan import CheckpointError, Translator, load_generator
from lib.study.checkpoint_views import Comparison, attention_map, difference, runs_beside
from lib.study.config import StudyError
from lib.study.datasets import load_test_set
from lib.study.display import heat
from lib.study.metrics import change_map, outside_change
from lib.study.runs import open_study
from lib.study.selection import write_picks


@pytest.fixture
def comparison(trained):
    return Comparison(trained)


def test_every_kept_checkpoint_is_a_choice_and_the_picks_come_first(comparison):
    assert ("pretraining", 60) in comparison.choices
    assert comparison.picked() == [("stage5", 313), ("stage5", 476)]


def test_other_picks_are_followed(trained, copy_of):
    study = copy_of(trained)
    write_picks(study, (476, 510), "me")
    assert Comparison(study).picked() == [("stage5", 476), ("stage5", 510)]


def test_nothing_trained_has_nothing_to_compare(empty):
    with pytest.raises(StudyError, match="notebooks 04 to 09"):
        Comparison(empty)


@pytest.mark.parametrize("sigma", [None, (0.0, 3.0, 0.0), (0.0, 0.0, 0.0)])
def test_a_result_is_what_the_translator_gives(comparison, sigma):
    choice = ("stage5", 476)
    got = comparison.result(comparison.wish(choice, 1, 7, sigma))
    rule = comparison.test.rule[1:2]
    expected = Translator(comparison.choices[choice], device="cpu").translate(rule, [7], sigma)
    assert np.array_equal(got.image, expected.images[0])
    assert np.abs((255 - got.attention[-1]) / 255 - expected.attention[0]).max() < 1 / 255
    assert got.outside == outside_change(rule, got.image[None], comparison.test.non_mask[1:2])[0]


def test_the_maps_are_the_generators_and_sum_to_one(comparison):
    result = comparison.result(comparison.wish(("stage4", 298), 0))
    generator = load_generator(comparison.choices["stage4", 298])
    parts = generator(to_tensor(comparison.test.rule[:1]), return_parts=True)
    ten = parts.attention[0].detach().numpy()
    for k in range(10):
        shown = attention_map(result.attention, str(k + 1))
        assert np.abs(shown / 255 - ten[k]).max() < 1 / 255
    assert np.array_equal(attention_map(result.attention, "tenth"), attention_map(result.attention, "10"))
    assert np.abs(attention_map(result.attention, "others") / 255 - ten[:9].sum(0)).max() < 1 / 255
    size = result.image.shape[0]
    every = attention_map(result.attention, "all")
    assert every.shape == (4 * size, 3 * size)
    assert np.array_equal(every[size : 2 * size, size : 2 * size], attention_map(result.attention, "5"))
    assert np.array_equal(every[3 * size :, :size], attention_map(result.attention, "10"))


def test_noise_and_seeds_do_not_move_what_was_trained_without_noise(comparison):
    assert comparison.wish(("stage3", 140), 0, 1, (0, 4.0, 1.0)) == comparison.wish(("stage3", 140), 0, 9)
    assert comparison.wish(("stage5", 476), 0, 1) != comparison.wish(("stage5", 476), 0, 9)
    off = (0.0, 0.0, 0.0)
    assert comparison.wish(("stage5", 476), 0, 1, off) == comparison.wish(("stage5", 476), 0, 9, off)


def test_a_result_is_computed_once_for_all_views(comparison, monkeypatch):
    counted, compute = [], comparison._compute
    monkeypatch.setattr(comparison, "_compute", lambda wish: counted.append(wish) or compute(wish))
    for kind in ("output", "difference", "attention"):
        comparison.view(("stage5", 313), 0, 0, None, kind)
    assert len(counted) == 1


def test_memory_is_bounded_and_the_least_used_goes(trained):
    size = load_test_set(trained).rule.shape[1]
    comparison = Comparison(trained, memory=3 * 13 * size * size)
    wishes = [comparison.wish(("stage5", 313), 0, seed) for seed in range(5)]
    for wish in wishes[:3]:
        comparison.result(wish)
    comparison.result(wishes[0])
    comparison.result(wishes[3])
    assert [comparison.cached(wish) is not None for wish in wishes] == [True, False, True, True, False]


def test_weights_trained_anew_are_not_taken_for_the_old_ones(trained, copy_of):
    comparison = Comparison(copy_of(trained))
    before = comparison.wish(("stage5", 313), 0)
    os.utime(comparison.choices["stage5", 313] / "meta.json", ns=(1, 1))
    assert comparison.wish(("stage5", 313), 0) != before


def test_damaged_weights_are_named(trained, copy_of):
    comparison = Comparison(copy_of(trained))
    path = comparison.choices["stage5", 313] / "net_G_AB.safetensors"
    path.write_bytes(path.read_bytes()[:-4])
    with pytest.raises(CheckpointError, match=r"epoch_0313"):
        comparison.result(comparison.wish(("stage5", 313), 0))


def test_the_threads_of_torch_are_left_alone(comparison):
    before = torch.get_num_threads()
    comparison.result(comparison.wish(("stage5", 313), 0))
    assert torch.get_num_threads() == before


def test_the_static_grid_shows_the_same_pictures(comparison):
    fig = comparison.static([("stage4", 298), ("stage5", 476)], faces=range(2))
    shown = [ax.images[0].get_array() for ax in fig.axes]
    assert np.array_equal(shown[1], comparison.test.rule[1])
    assert np.array_equal(shown[2], comparison.view(("stage4", 298), 0))
    assert np.array_equal(shown[5], comparison.view(("stage5", 476), 1, seed=1))
    assert fig.axes[4].get_ylabel() == "stage5\n476"


def test_a_difference_is_black_where_nothing_changed():
    one = np.zeros((4, 4, 3), np.uint8)
    two = one.copy()
    two[1, 2] = 255
    shown = difference(one, two, 0.5)
    assert shown[0, 0].sum() < 10 < shown[1, 2].sum()
    assert np.array_equal(shown, difference(two, one, 0.5))
    rng = np.random.default_rng(0)
    one, two = rng.integers(0, 256, (2, 9, 9, 3), dtype=np.uint8)
    far = np.abs(difference(one, two, 0.3).astype(int) - heat(change_map(one, two), 0.3))
    assert far.max() <= 8  # the neighbouring colour of 256, where rounding decides


def test_runs_that_cannot_be_compared_say_why(trained, copy_of, tmp_path):
    root = copy_of(trained).root.parent
    open_study("fresh", "tiny", runs_dir=root)
    faceless = copy_of_name(root, trained.name, "faceless")
    (faceless / "data" / "A" / "rule" / "done.json").unlink()
    (root / "broken").mkdir()
    (root / "broken" / "study.json").write_text("{")
    found = runs_beside(root)
    assert found[trained.name] == ""
    assert "notebooks 04 to 09" in found["fresh"]
    assert "notebooks 01 and 02" in found["faceless"]
    assert "not valid JSON" in found["broken"]


def copy_of_name(root, name, new):
    import shutil

    shutil.copytree(root / name, root / new)
    path = root / new / "study.json"
    path.write_text(path.read_text().replace(f'"name": "{name}"', f'"name": "{new}"', 1))
    return root / new
