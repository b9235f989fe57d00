"""The other methods' networks."""

import pytest
import torch
import torch.nn.functional as F

from lib.gan import Generator, NoiseConfig, init_weights
from lib.gan.checkpoints import KINDS
from lib.gan.method_parts import IdentityNet, PatchProjection, PlainGenerator, RegionNet


@pytest.fixture
def x():
    return torch.rand((2, 3, 32, 48), generator=torch.Generator().manual_seed(0)) * 2 - 1


def test_the_plain_generator_is_the_content_branch_alone(x):
    """The same weights in an AttentionGAN of one content give the same content; the input never shows through."""
    noise = NoiseConfig((0, 1, 0.2))
    both = init_weights(Generator(4, 3, n_content=1, noise=noise), torch.Generator().manual_seed(1))
    plain = PlainGenerator(4, 3, noise)
    plain.load_state_dict({key: value for key, value in both.state_dict().items() if "attention" not in key})
    expected = both(x, torch.Generator().manual_seed(2), return_parts=True).contents[:, 0]
    parts = plain(x, torch.Generator().manual_seed(2), return_parts=True)
    assert torch.equal(parts.output, expected)
    blended = (parts.contents * parts.attention[:, :-1, None]).sum(1) + x * parts.attention[:, -1:]
    assert torch.equal(blended, parts.output)
    assert not torch.equal(parts.output, plain(x, torch.Generator().manual_seed(3)))


@pytest.mark.parametrize(("n_blocks", "blocks"), [(1, [0]), (2, [0, 1]), (9, [0, 4])])
def test_levels_are_what_the_encoder_passes_through(x, n_blocks, blocks):
    net = init_weights(PlainGenerator(4, n_blocks), torch.Generator().manual_seed(1))
    seen = {}
    for name in ("conv3", *(f"resnet_blocks.{k}" for k in range(n_blocks))):
        net.get_submodule(name).register_forward_hook(lambda _, __, out, name=name: seen.update({name: out}))
    levels = net.levels(x)
    assert [level.shape[1] for level in levels] == net.level_channels
    assert [level.shape[-1] for level in levels] == [48, 24, *[12] * (1 + len(blocks))]
    assert levels[0] is x
    for level, block in zip(levels[3:], blocks, strict=True):
        assert torch.equal(level, seen[f"resnet_blocks.{block}"])
    net(x)
    assert torch.equal(net._encode(x), seen[f"resnet_blocks.{n_blocks - 1}"])


def test_projections_are_unit_vectors_of_their_places():
    net = init_weights(PatchProjection([3, 5], width=7), torch.Generator().manual_seed(0))
    levels = [torch.randn(2, 3, 8, 8), torch.randn(2, 5, 4, 4)]
    places = [torch.tensor([9, 0, 63]), torch.tensor([6])]
    found = net(levels, places)
    assert [tuple(z.shape) for z in found] == [(2, 3, 7), (2, 1, 7)]
    assert torch.allclose(found[0].norm(dim=-1), torch.ones(2, 3))
    one = F.normalize(net.layers[1](levels[1][1, :, 1, 2]), dim=0)
    assert torch.allclose(found[1][1, 0], one, atol=1e-6)


def test_region_and_identity_nets(x):
    logits = init_weights(RegionNet(4))(x)
    assert logits.shape == (2, 1, 32, 48)
    *maps, vectors = init_weights(IdentityNet(4, size=6))(x)
    assert [tuple(level.shape[1:]) for level in maps] == [(4, 16, 24), (8, 8, 12), (16, 4, 6), (16, 2, 3)]
    assert torch.allclose(vectors.norm(dim=1), torch.ones(2))


@pytest.mark.parametrize(
    "net",
    [
        PlainGenerator(4, 2, NoiseConfig((0, 1, 0)), "resize"),
        PatchProjection([3, 8], 5),
        RegionNet(3),
        IdentityNet(3, 5),
    ],
)
def test_a_config_builds_the_network_again(net):
    twin = KINDS[type(net).__name__].from_config(net.config())
    assert type(twin) is type(net)
    assert twin.config() == net.config()
    assert [tuple(p.shape) for p in twin.parameters()] == [tuple(p.shape) for p in net.parameters()]
