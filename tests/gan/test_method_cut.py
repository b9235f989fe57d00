"""CUT's losses and what they do."""

import numpy as np
import pytest
import torch

from lib.gan import NoiseConfig, make_batch
from lib.gan.losses import adversarial_g, non_mask_change
from lib.gan.method_cut import TAU, patch_nce
from lib.gan.methods import build


def unit(shape, seed):
    z = np.random.default_rng(seed).normal(size=shape)
    return z / np.linalg.norm(z, axis=-1, keepdims=True)


def test_patch_nce_is_the_equation():
    query, key = unit((2, 5, 8), 0), unit((2, 5, 8), 1)
    each = []
    for b in range(2):
        for s in range(5):
            scores = np.exp([query[b, s] @ key[b, other] / TAU for other in range(5)])
            each.append(-np.log(scores[s] / scores.sum()))
    got = patch_nce(torch.from_numpy(query), torch.from_numpy(key))
    assert got.item() == pytest.approx(np.mean(each), rel=1e-12)


def test_patch_nce_asks_for_the_own_place():
    z = torch.from_numpy(unit((1, 64, 32), 0))
    assert patch_nce(z, z) < 0.05
    assert patch_nce(z, z.roll(1, dims=1)) > 5


def test_the_sum_is_the_objective(tiny, toy_data):
    cfg = tiny(method="cut", lambda_nmc=7.0)
    model, batch = build(cfg), make_batch(cfg, toy_data, 0)
    losses, fake_B = model.generator_losses(batch, 0)
    assert len(fake_B) == len(batch.real_A)
    nmc = non_mask_change(batch.real_A, fake_B, batch.non_mask)
    adv = adversarial_g(model.net_D_B(fake_B))
    expected = adv + losses["loss_nce_A"] + losses["loss_nce_B"] + 7 * nmc
    assert losses["loss_G"].item() == pytest.approx(expected.item(), rel=1e-6)
    assert losses["loss_nmc"].item() == pytest.approx(nmc.item(), rel=1e-6)

    off = build(tiny(method="cut", lambda_nmc=0.0))
    losses, _ = off.generator_losses(batch, 0)
    assert losses["loss_nmc"] > 0  # told, but no part of the sum
    rest = losses["loss_G_adv_AB"] + losses["loss_nce_A"] + losses["loss_nce_B"]
    assert losses["loss_G"].item() == pytest.approx(rest.item(), rel=1e-6)


def test_places_are_no_place_twice_and_others_in_each_step(tiny, toy_data):
    cfg = tiny(method="cut")
    model = build(cfg)
    levels = model.net_G_AB.levels(make_batch(cfg, toy_data, 0).real_A)
    places = model._places(levels, 3)
    assert [len(set(at.tolist())) for at in places] == [256, 256, 64, 64, 64]  # of 32², 16², 8²
    assert all(torch.equal(a, b) for a, b in zip(places, model._places(levels, 3)))
    assert not torch.equal(places[0], model._places(levels, 4)[0])


def test_steps_lower_the_losses(tiny, toy_data):
    """One batch again and again: places are told apart, and what is outside the mask stays."""
    cfg = tiny(method="cut", lr=2e-3, ngf=8, ndf=8, flip=False, noise=NoiseConfig())
    y, x = np.mgrid[0:32, 0:32] / 31
    waves = [np.stack([np.sin((k + 1) * x + k), np.cos((k + 2) * y - k), x * y]) for k in range(12)]
    toy_data.A, toy_data.B = np.split(((np.stack(waves) + 1) * 127.5).astype(np.uint8), [7])  # noise cannot be kept
    model, batch = build(cfg), make_batch(cfg, toy_data, 0)
    values = torch.stack([model.step(batch, step) for step in range(40)])
    for name, share in (("loss_nce_A", 0.8), ("loss_nce_B", 0.8), ("loss_nmc", 0.85), ("loss_D_B", 0.9)):
        column = values[:, model.losses.index(name)]
        assert column[-5:].mean() < share * column[:3].mean(), name


def test_patch_nce_moves_the_output_and_the_projections(tiny, toy_data):
    """Through the output into the decoder; a discriminator has no part in it."""
    cfg = tiny(method="cut", noise=NoiseConfig())
    model = build(cfg)
    losses, _ = model.generator_losses(make_batch(cfg, toy_data, 0), 0)
    losses["loss_nce_A"].backward()
    assert model.net_G_AB.deconv3_content.weight.grad.any()
    assert all(p.grad.any() for key, p in model.net_F.named_parameters() if key.endswith("weight"))
    assert all(p.grad is None for p in model.net_D_B.parameters())
