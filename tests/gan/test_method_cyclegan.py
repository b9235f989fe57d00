"""CycleGAN: the same losses on another generator."""

import pytest
import torch

from lib.gan import make_batch
from lib.gan.method_parts import PlainGenerator
from lib.gan.methods import build


def test_both_generators_are_plain_and_their_noise_is_as_configured(tiny):
    model = build(tiny(method="cyclegan", noise_in_G_BA=False))
    assert type(model.net_G_AB) is type(model.net_G_BA) is PlainGenerator
    assert model.net_G_AB.noise.active
    assert not model.net_G_BA.noise.active
    assert not torch.equal(model.net_G_AB.conv1.weight, model.net_G_BA.conv1.weight)


def test_the_loss_is_cyclegans(tiny, toy_data):
    """Zhu et al. 2017, eq. 3 with least squares, and the identity loss of §5.2, each from passes of its own."""
    cfg = tiny(method="cyclegan", lambda_A=8.0, lambda_B=5.0, lambda_nmc=0.0, noise=tiny().noise.__class__())
    model, batch = build(cfg), make_batch(cfg, toy_data, 0)
    A, B = batch.real_A, batch.real_B
    AB, BA = model.net_G_AB, model.net_G_BA
    with torch.no_grad():
        parts = {
            "loss_G_adv_AB": (model.net_D_B(AB(A)) - 1).square().mean(),
            "loss_G_adv_BA": (model.net_D_A(BA(B)) - 1).square().mean(),
            "loss_cycle_A": (BA(AB(A)) - A).abs().mean(),
            "loss_cycle_B": (AB(BA(B)) - B).abs().mean(),
            "loss_idt_A": (BA(A) - A).abs().mean(),
            "loss_idt_B": (AB(B) - B).abs().mean(),
        }
    weights = dict(zip(parts, (1, 1, 8, 5, 4, 2.5)))
    parts["loss_G"] = sum(weights[name] * value for name, value in parts.items())
    values = dict(zip(model.losses, model.step(batch, 0).tolist()))
    for name, value in parts.items():
        assert values[name] == pytest.approx(value.item(), rel=1e-4), name


def test_steps_lower_the_losses(tiny, toy_data):
    cfg = tiny(method="cyclegan", lr=2e-3, ngf=8, ndf=8, flip=False, lambda_nmc=0.0, noise=tiny().noise.__class__())
    model, batch = build(cfg), make_batch(cfg, toy_data, 0)
    values = torch.stack([model.step(batch, step) for step in range(40)])
    for name in ("loss_cycle_A", "loss_cycle_B", "loss_idt_A", "loss_idt_B"):
        column = values[:, model.losses.index(name)]
        assert column[-5:].mean() < 0.85 * column[:3].mean(), name
