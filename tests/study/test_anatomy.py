"""Shapes, receptive field and the response to noise, checked against what can be computed by hand."""

import pandas as pd
import pytest
import torch
from torch import nn

from lib.gan import Discriminator, Generator, NoiseConfig, init_weights
from lib.study import anatomy


@pytest.fixture
def net_G():
    return init_weights(Generator(ngf=4, n_blocks=2), torch.Generator().manual_seed(1))


@pytest.fixture
def x():
    return torch.rand(2, 3, 32, 32, generator=torch.Generator().manual_seed(2)) * 2 - 1


def test_layer_table_follows_the_execution_and_counts_every_parameter_once(net_G, x):
    table = anatomy.layer_table(net_G, x)
    assert list(table["layer"][:5]) == ["conv1", "conv2", "conv3", "resnet_blocks.0", "resnet_blocks.1"]
    assert table["parameters"].sum() == anatomy.count_parameters(net_G)
    shapes = table.set_index("layer")["output"]
    assert shapes["conv3"] == "16 × 8 × 8"
    assert shapes["deconv3_content"] == "27 × 32 × 32"
    assert table.set_index("layer")["kind"]["conv2"] == "Conv2d 3×3, stride 2"
    assert not any(module._forward_hooks for module in net_G.modules())


def test_hooks_are_removed_after_a_failure(net_G):
    with pytest.raises(ValueError, match="divisible by 4"):
        anatomy.layer_table(net_G, torch.zeros(1, 3, 30, 30))
    assert not any(module._forward_hooks for module in net_G.modules())


def test_parameters_of_the_published_size():
    parts = anatomy.parameters_by_part(Generator(ngf=64))
    assert parts["the whole generator"] == 11_822_949  # AttentionGAN-v2 with nine blocks
    assert sum(parts.values()) == 2 * parts["the whole generator"]


def test_receptive_field_is_the_one_of_kernels_and_strides():
    net_D = init_weights(Discriminator(ndf=4), torch.Generator().manual_seed(3))
    field, jump = 1, 1
    for layer in net_D.model:
        if isinstance(layer, nn.Conv2d):
            field, jump = field + (layer.kernel_size[0] - 1) * jump, jump * layer.stride[0]
    assert anatomy.extent_px(anatomy.receptive_field(net_D)) == (field, field) == (70, 70)
    assert anatomy.extent_px(anatomy.receptive_field(net_D, norm=True)) == (160, 160)


def test_extent_of_nothing_and_of_a_box():
    field = torch.zeros(9, 9)
    assert anatomy.extent_px(field) == (0, 0)
    field[2:5, 3:9] = 1
    assert anatomy.extent_px(field) == (3, 6)


def test_a_constant_per_channel_before_the_norm_changes_nothing(net_G, x):
    table = anatomy.noise_response(net_G, x, (16.0,)).pivot(index=["shape", "place"], columns="layer", values="change")
    assert len(table) == 9
    silent = table.loc[("channel", "pre_norm")]
    assert silent[1] < 1e-5
    assert silent[2] < 1e-5
    assert silent[3] > 1e-3  # no norm there
    assert (table.drop(("channel", "pre_norm")) > 1e-3).all().all()


def test_grain_tells_pixels_from_a_tone(net_G, x):
    rows = anatomy.noise_response(net_G, x, (1.0,), places=["post_norm"]).query("layer == 3").set_index("shape")
    assert rows.loc["pixel", "grain"] > 0.8
    assert rows.loc["full", "grain"] > 0.8
    assert rows.loc["channel", "grain"] < 0.3


def responses(**readings):
    """A table as noise_response gives it: name → (changes at layers 1, 2, 3 for σ 1, and for σ 64, grain)."""
    rows = []
    for shape, (quiet, loud, grain) in readings.items():
        for sigma, changes in ((1.0, quiet), (64.0, loud)):
            rows += [
                {"shape": shape, "place": "input", "layer": k, "sigma": sigma, "change": c, "grain": grain}
                for k, c in zip((1, 2, 3), changes)
            ]
    return pd.DataFrame(rows)


def test_verdicts_name_what_a_reading_fails_to_give():
    table = anatomy.noise_verdicts(
        responses(
            tones=((0.005, 0.02, 0.02), (0.3, 0.3, 0.3), 0.1),
            late=((0.005, 0.02, 0.02), (0.3, 0.3, 0.3), 0.9),
            early=((0.018, 0.02, 0.02), (0.3, 0.3, 0.3), 0.9),
            paper=((0.001, 0.05, 0.02), (0.001, 0.05, 0.02), 0.9),
            deaf=((0.0, 0.0, 0.02), (0.0, 0.0, 0.02), 0.9),
        )
    )
    assert table["verdict"].to_dict() == {
        "paper, input": "as in §4.2",
        "late, input": "layer 1 answers from σ 64",
        "early, input": "layer 1 answers from σ 1",
        "deaf, input": "layer 2 is silent",
        "tones, input": "layer 1 answers from σ 64; layer 2 gives no pixels; layer 3 gives no pixels",
    }
    assert list(table.index) == ["paper, input", "late, input", "early, input", "deaf, input", "tones, input"]
    assert table.loc["paper, input", "1 / 2, σ 1"] == pytest.approx(0.02)
    assert table.loc["late, input", "3 / 2, σ 64"] == pytest.approx(1.0)


def test_noise_is_replayed_and_the_networks_own_setting_kept(net_G, x):
    net_G.noise = NoiseConfig((0, 1, 0.2))
    once = anatomy.translate_with_noise(net_G, x, 2, 1.0, seed=7)
    assert torch.equal(once, anatomy.translate_with_noise(net_G, x, 2, 1.0, seed=7))
    assert not torch.equal(once, anatomy.translate_with_noise(net_G, x, 2, 1.0, seed=8))
    assert net_G.noise == NoiseConfig((0, 1, 0.2))
    alone = anatomy.translate_with_noise(net_G, x[1:], 2, 1.0, seed=8)  # second picture: seed 7 + 1
    torch.testing.assert_close(alone, once[1:])


def test_a_layer_that_does_not_exist_is_refused(net_G, x):
    with pytest.raises(ValueError, match="content layer"):
        anatomy.translate_with_noise(net_G, x, 4, 1.0)
