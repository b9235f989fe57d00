"""Generator and discriminator: size, shape, noise, field of view."""

import itertools

import numpy as np
import pytest
import torch
from torch import nn

from lib.gan import Discriminator, Generator, NoiseConfig, init_weights
from lib.gan.networks import UPSAMPLING, ResizeConv2d, instance_norm

PLACES = ("input", "pre_norm", "post_norm")
SHAPES = ("pixel", "channel", "full")


def seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def generator(noise: NoiseConfig | None = None, seed: int = 0, upsampling: str = "transposed") -> Generator:
    """Weights ten times the usual, so that contents leave the neighbourhood of zero and noise shows."""
    net = init_weights(Generator(4, n_blocks=2, noise=noise, upsampling=upsampling), seeded(seed))
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.mul_(10)
    return net.eval()


def picture(batch: int = 2, height: int = 32, width: int = 32) -> torch.Tensor:
    return torch.rand(batch, 3, height, width, generator=seeded(1)) * 2 - 1


def test_parameter_counts_of_the_published_sizes():
    """Counted by hand from kernel sizes: in · out · k² + out for each of the layers."""
    layers = [(3, 64, 7), (64, 128, 3), (128, 256, 3), *[(256, 256, 3)] * 18]
    layers += [(256, 128, 3), (128, 64, 3), (64, 27, 7), (256, 128, 3), (128, 64, 3), (64, 10, 1)]
    expected = sum(i * o * k * k + o for i, o, k in layers)
    assert sum(p.numel() for p in Generator().parameters()) == expected == 11_822_949
    layers = [(3, 64, 4), (64, 128, 4), (128, 256, 4), (256, 512, 4), (512, 1, 4)]
    assert sum(p.numel() for p in Discriminator().parameters()) == sum(i * o * k * k + o for i, o, k in layers)


def test_resize_convolutions_have_as_many_parameters_by_the_same_names():
    """3×3 either way; only the order of the two channel axes differs."""
    one, two = (Generator(4, upsampling=name).state_dict() for name in UPSAMPLING)
    assert one.keys() == two.keys()
    for key in one:
        swap = key in {f"deconv{i}_{kind}.weight" for i in (1, 2) for kind in ("content", "attention")}
        assert (one[key].transpose(0, 1) if swap else one[key]).shape == two[key].shape


def test_names_are_those_of_the_published_network():
    names = {key.rpartition(".")[0] for key in Generator(4).state_dict()}
    blocks = {f"resnet_blocks.{i}.conv{j}" for i in range(9) for j in (1, 2)}
    pipelines = {f"deconv{i}_{kind}" for i in (1, 2, 3) for kind in ("content", "attention")}
    assert names == {"conv1", "conv2", "conv3"} | blocks | pipelines


@pytest.mark.parametrize("upsampling", UPSAMPLING)
@pytest.mark.parametrize(("height", "width"), [(32, 32), (36, 64), (8, 12)])
def test_parts_blend_to_the_output(height, width, upsampling):
    x = picture(2, height, width)
    parts = generator(upsampling=upsampling)(x, return_parts=True)
    assert parts.output.shape == x.shape
    assert parts.contents.shape == (2, 9, 3, height, width)
    assert parts.attention.shape == (2, 10, height, width)
    assert torch.allclose(parts.attention.sum(1), torch.ones(2, height, width), atol=1e-6)
    assert parts.contents.abs().max() <= 1
    blend = x * parts.attention[:, 9:10]
    for i in range(9):
        blend = blend + parts.contents[:, i] * parts.attention[:, i : i + 1]
    assert torch.allclose(parts.output, blend, atol=1e-6)


def test_resize_convolution_by_hand():
    """Every pixel repeated, one reflected row around, nine taps summed up: in NumPy."""
    layer = init_weights(ResizeConv2d(4, 3), seeded(0)).double()
    with torch.no_grad():
        layer.bias.copy_(torch.tensor([0.1, -0.2, 0.3]))
    x = np.random.default_rng(0).normal(size=(2, 4, 5, 6))
    got = layer(torch.from_numpy(x)).detach().numpy()
    weight, bias = layer.weight.detach().numpy(), layer.bias.detach().numpy()
    padded = np.pad(x.repeat(2, axis=2).repeat(2, axis=3), ((0, 0), (0, 0), (1, 1), (1, 1)), mode="reflect")
    assert got.shape == (2, 3, 10, 12)
    for b, o, row, column in itertools.product(range(2), range(3), range(10), range(12)):
        expected = (padded[b, :, row : row + 3, column : column + 3] * weight[o]).sum() + bias[o]
        assert abs(got[b, o, row, column] - expected) < 1e-12


@pytest.mark.parametrize(("upsampling", "kinds"), [("transposed", 4), ("resize", 1)])
def test_only_transposed_convolutions_draw_a_checker_on_a_plain_picture(upsampling, kinds):
    layer = init_weights(UPSAMPLING[upsampling](4, 3), seeded(0)).double()
    plain = torch.rand(1, 4, 1, 1, generator=seeded(1)).double().expand(1, 4, 8, 8)
    out = layer(plain)
    assert out.shape == (1, 3, 16, 16)
    inner = out[0, :, 2:14, 2:14]  # away from the zeros around a transposed convolution's input
    phases = torch.stack([inner[:, i::2, j::2] for i in (0, 1) for j in (0, 1)])
    assert (phases - phases[..., :1, :1]).abs().max() < 1e-12  # every second pixel is the same
    values = phases[:, :, 0, 0]  # [phase, channel]
    for channel in range(3):
        assert len({round(v, 9) for v in values[:, channel].tolist()}) == kinds
    if upsampling == "resize":
        assert (out - out[..., :1, :1]).abs().max() < 1e-12  # to the very edge


def test_unknown_upsampling_is_refused():
    with pytest.raises(ValueError, match="upsampling: expected one of transposed, resize, got 'bilinear'"):
        Generator(4, upsampling="bilinear")


@pytest.mark.parametrize("upsampling", UPSAMPLING)
def test_a_generator_is_built_again_from_its_config(upsampling):
    net = Generator(4, 3, 5, NoiseConfig((0, 1, 0.2), "full"), upsampling)
    again = Generator.from_config(net.config())
    assert again.config() == net.config()
    again.load_state_dict(net.state_dict())
    x = picture()
    assert torch.equal(net(x, seeded(0)), again(x, seeded(0)))


def test_a_config_from_before_upsampling_means_transposed():
    config = Generator(4).config()
    del config["upsampling"]
    assert Generator.from_config(config).upsampling == "transposed"


def test_double_precision_stays_double():
    assert generator().double()(picture().double()).dtype == torch.float64
    assert Discriminator(4).double()(picture().double()).dtype == torch.float64


@pytest.mark.parametrize("upsampling", UPSAMPLING)
def test_half_precision_within_comes_out_as_float(upsampling):
    net, disc = generator(upsampling=upsampling), init_weights(Discriminator(4), seeded(0))
    with torch.no_grad():
        expected = net(picture(), return_parts=True)
        with torch.autocast("cpu", torch.bfloat16):
            parts, score = net(picture(), return_parts=True), disc(picture())
    assert {part.dtype for part in (*parts, score)} == {torch.float32}
    assert (parts.attention.sum(1) - 1).abs().max() < 1e-6  # the softmax itself is not rounded
    assert 0 < (parts.output - expected.output).abs().mean() < 0.02


def test_attention_on_the_input_alone_gives_the_input_back():
    net = generator()
    with torch.no_grad():
        net.deconv3_attention.weight.zero_()
        net.deconv3_attention.bias.copy_(torch.tensor([-200.0] * 9 + [200.0]))
    assert torch.equal(net(picture()), picture())


@pytest.mark.parametrize(("height", "width"), [(30, 32), (32, 33), (4, 4)])
def test_sizes_that_do_not_fit_are_refused_in_words(height, width):
    with pytest.raises(ValueError, match=f"divisible by 4 .* got {height}×{width}"):
        generator()(picture(1, height, width))


def test_wrong_channels_are_refused():
    with pytest.raises(ValueError, match=r"expects \[B, 3, H, W\], got \[1, 4, 32, 32\]"):
        generator()(torch.zeros(1, 4, 32, 32))
    with pytest.raises(ValueError, match="at least 24"):
        Discriminator(4)(picture(1, 20, 20))


def test_init_is_gaussian_with_zero_biases():
    net = init_weights(Generator(16), seeded(3))
    weights = torch.cat([p.flatten() for n, p in net.named_parameters() if n.endswith("weight")])
    assert abs(weights.std().item() - 0.02) < 2e-4
    assert abs(weights.mean().item()) < 2e-4
    assert all((p == 0).all() for n, p in net.named_parameters() if n.endswith("bias"))


def test_instance_norm_by_hand():
    x = picture(2).double()
    mean = x.mean((2, 3), keepdim=True)
    variance = ((x - mean) ** 2).mean((2, 3), keepdim=True)
    assert torch.allclose(instance_norm(x), (x - mean) / (variance + 1e-5).sqrt(), atol=1e-12)


def test_joined_batches_equal_single_ones():
    net, x = generator().double(), picture(4).double()
    assert torch.allclose(net(x), torch.cat([net(one[None]) for one in x]), atol=1e-12)
    disc = init_weights(Discriminator(4), seeded(0)).double()
    assert torch.allclose(disc(x), torch.cat([disc(one[None]) for one in x]), atol=1e-12)


@pytest.mark.parametrize(("shape", "place"), list(itertools.product(SHAPES, PLACES)))
def test_noise_off_is_the_noise_free_network_and_draws_nothing(shape, place):
    source = seeded(5)
    before = source.get_state()
    noisy_form = generator(NoiseConfig((0, 0, 0), shape, place))
    assert torch.equal(noisy_form(picture(), source), generator()(picture()))
    assert torch.equal(source.get_state(), before)


@pytest.mark.parametrize(("shape", "place"), list(itertools.product(SHAPES, PLACES)))
def test_noise_repeats_by_seed_and_differs_between_seeds(shape, place):
    net = generator(NoiseConfig((0, 0, 0.5), shape, place))
    first, again, other = (net(picture(), seeded(s)) for s in (7, 7, 8))
    assert torch.equal(first, again)
    assert (first - other).abs().max() > 1e-3


@pytest.mark.parametrize(("shape", "place"), list(itertools.product(SHAPES, PLACES)))
def test_noise_is_fresh_in_every_call_and_the_calls_repeat_in_turn(shape, place):
    net, x = generator(NoiseConfig((0, 1, 0.2), shape, place)), picture()
    source, again = seeded(7), seeded(7)
    first, second = net(x, source), net(x, source)
    assert (first - second).abs().max() > 1e-3
    assert (first[0] - net(x[:1].expand(2, -1, -1, -1), seeded(7))[1]).abs().max() > 1e-3  # and in every sample
    assert torch.equal(first, net(x, again))
    assert torch.equal(second, net(x, again))


@pytest.mark.parametrize("layer", [0, 1, 2])
@pytest.mark.parametrize("place", PLACES)
def test_pixel_noise_reaches_the_contents_but_never_the_attention(layer, place):
    sigma = tuple(1.0 if i == layer else 0.0 for i in range(3))
    clean = generator()(picture(), return_parts=True)
    noisy = generator(NoiseConfig(sigma, "pixel", place))(picture(), seeded(0), return_parts=True)
    assert (noisy.contents - clean.contents).abs().max() > 1e-3
    assert torch.equal(noisy.attention, clean.attention)


@pytest.mark.parametrize("layer", [0, 1])
def test_noise_constant_over_pixels_is_removed_by_the_norm_after_it(layer):
    sigma = tuple(1.0 if i == layer else 0.0 for i in range(3))
    noisy = generator(NoiseConfig(sigma, "channel", "pre_norm")).double()(picture().double(), seeded(0))
    assert torch.allclose(noisy, generator().double()(picture().double()), atol=1e-9)


def test_noise_at_the_last_layer_has_the_stated_spread():
    """Before the tanh of layer 3, "full": undoing the tanh gives the noise itself."""
    net = generator(NoiseConfig((0, 0, 0.2), "full", "pre_norm"))
    with torch.no_grad():
        net.deconv3_content.weight.zero_()
        net.deconv3_content.bias.zero_()
    contents = net(picture(4), seeded(0), return_parts=True).contents
    assert abs(torch.atanh(contents).std().item() - 0.2) < 0.002


def test_one_stream_per_sample_does_not_depend_on_the_batch():
    net, x = generator(NoiseConfig((0, 1, 0.2))).double(), picture(3).double()
    together = net(x, [seeded(s) for s in (1, 2, 3)])
    alone = torch.cat([net(x[i : i + 1], [seeded(i + 1)]) for i in range(3)])
    assert torch.allclose(together, alone, atol=1e-12)


def test_noise_must_be_given_explicitly():
    net = generator(NoiseConfig((0, 1, 0.2)))
    with pytest.raises(ValueError, match=r"sigma \(0.0, 1.0, 0.2\).*pass a seeded one"):
        net(picture())
    with pytest.raises(ValueError, match="one noise generator per sample, 2, got 1"):
        net(picture(2), [seeded(0)])


@pytest.mark.parametrize("wrong", [{"sigma": (0, 1)}, {"sigma": (0, -1, 0)}, {"shape": "row"}, {"place": "end"}])
def test_noise_config_refuses_nonsense(wrong):
    with pytest.raises(ValueError, match="expected"):
        NoiseConfig(**wrong)


def test_a_score_sees_70_by_70_pixels():
    """Convolutions only: instance norm would add the statistics of the whole picture to every score."""
    net = Discriminator(4)
    for i, layer in enumerate(net.model):
        if isinstance(layer, nn.InstanceNorm2d):
            net.model[i] = nn.Identity()
        elif isinstance(layer, nn.Conv2d):
            nn.init.constant_(layer.weight, 0.01)
    x = torch.zeros(1, 3, 128, 128, requires_grad=True)
    scores = net(x)
    assert scores.shape == (1, 1, 14, 14)
    scores[0, 0, 7, 7].backward()
    rows = x.grad[0, 0].abs().sum(1).nonzero().flatten()
    columns = x.grad[0, 0].abs().sum(0).nonzero().flatten()
    assert rows[-1] - rows[0] + 1 == columns[-1] - columns[0] + 1 == 70
