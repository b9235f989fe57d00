"""The fixed samples are shown after every pass, and their attention is that of the checkpoint."""

import matplotlib.pyplot as plt
import numpy as np
import pytest

from lib.data.images import to_tensor
from lib.gan import TrainConfig, load_generator
from lib.gan.records import translate_samples
from lib.study import samples
from lib.study.config import STAGES
from lib.study.datasets import train_data
from lib.study.display import as_pixels
from lib.study.timeline import load_stage


@pytest.fixture(scope="module")
def stage5(trained):
    return load_stage(trained, "stage5")


@pytest.fixture(scope="module")
def data(trained):
    return train_data(trained, STAGES["stage5"], trained.profile.sample_count)[0]


def sample_faces(run, data):
    return np.moveaxis(np.array(data.samples), 1, -1), TrainConfig.from_dict(run.manifest["config"])


def shown(fig):
    return [np.asarray(ax.images[0].get_array()) for ax in fig.axes if ax.images]


def test_what_goes_in_counts_and_measures_the_arrays(trained, data):
    table = samples.what_goes_in(data)
    assert table["count"].tolist() == [len(data.A), len(data.B), len(data.A), 2]
    assert table["each"].tolist() == ["3 × 32 × 32", "3 × 32 × 32", "1 × 32 × 32", "3 × 32 × 32"]
    assert table.loc["set B", ["lowest", "highest"]].tolist() == [data.B.min(), data.B.max()]
    scenes = train_data(trained, STAGES["pretraining"], 2)[0]
    assert "non-mask tensors of A" not in samples.what_goes_in(scenes).index


def test_tiles_are_cut_where_the_trainer_put_them(stage5, data):
    path = stage5.sample_image(510)
    tiles = samples.strip_tiles(path, 32)
    assert tiles.shape == (3, 2, 32, 32, 3)
    assert np.array_equal(tiles[0], np.moveaxis(data.samples, 1, -1))
    assert np.array_equal(tiles[2, 1], as_pixels(path)[-32:, -32:])


def test_every_pass_has_its_column_behind_the_input(stage5):
    fig = samples.every_pass(stage5, faces=1, per_row=3)
    labels = [[text.get_text() for text in ax.get_xticklabels()] for ax in fig.axes]
    epochs = [str(epoch) for epoch in stage5.samples["epoch"]]
    assert labels == [["input", *epochs[:3]], ["input", *epochs[3:]]]
    first, second = shown(fig)
    assert first.shape == second.shape == (32, 4 * 32, 3)
    last = samples.strip_tiles(stage5.sample_image(510), 32)
    assert np.array_equal(second[:, :32], last[0, 0])
    assert np.array_equal(second[:, 32:64], last[1, 0])
    assert (second[:, 64:] == 255).all()
    assert plt.get_fignums() == []


def test_of_a_long_stage_some_passes_are_drawn_with_both_ends(stage5):
    fig = samples.every_pass(stage5, most=2)
    assert [text.get_text() for text in fig.axes[0].get_xticklabels()] == ["input", "299", "510"]


def test_the_inside_is_the_generators_own(stage5, data):
    faces, config = sample_faces(stage5, data)
    inside = samples.look_inside(stage5.last_checkpoint, faces, config, "cpu")
    # The strip of the last pass shows the same outputs and the same attention, up to rounding.
    strip = samples.strip_tiles(stage5.sample_image(510), 32).astype(int)
    assert np.abs(np.array(inside["output"]) - strip[1]).max() <= 1
    assert np.abs(np.array(inside["kept"]) * 255 - strip[2, ..., 0]).max() <= 1
    parts = translate_samples(load_generator(stage5.last_checkpoint), to_tensor(faces), config)
    for k, taken in enumerate(inside["taken"]):
        means = parts.attention[k, :-1].mean((1, 2))
        assert taken.mean() == pytest.approx(means.max().item(), abs=1e-5)


def test_the_figure_has_a_row_for_all_of_it(trained, stage5, data):
    fig = samples.attention_maps(trained, stage5, "cpu")
    first, last = min(stage5.checkpoints), max(stage5.checkpoints)
    labels = [ax.get_ylabel() for ax in fig.axes if ax.get_ylabel()]
    checkpoints = [f"{what}, {epoch}" for epoch in (first, last) for what in ("output", "kept")]
    named = [label.split("\n(mean")[0] for label in labels]
    assert named == ["input", *checkpoints, "strongest\ncontent", "its attention"]
    kept = samples.look_inside(stage5.checkpoints[last], *sample_faces(stage5, data))["kept"]
    assert labels[4].endswith(f"(mean {np.mean(kept):.2f})")
    assert len(shown(fig)) == 2 * len(labels)
