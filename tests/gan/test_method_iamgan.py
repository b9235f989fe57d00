"""The identity preserving module: its losses, what it learns from, what passes a gradient."""

import numpy as np
import pytest
import torch
from torch import nn

from lib.gan import make_batch
from lib.gan.method_iamgan import BANK, LAMBDA_IP, TAU, identity_preserving, instance_loss, lower_face, pasted
from lib.gan.methods import build


def unit(count, seed):
    z = np.random.default_rng(seed).normal(size=(count, 6))
    return z / np.linalg.norm(z, axis=1, keepdims=True)


class Everywhere(nn.Module):
    """Says mask of the columns from `start` on, and of nothing else."""

    def __init__(self, start: int) -> None:
        super().__init__()
        self.start = start

    def forward(self, x):
        logits = torch.full_like(x[:, :1], -50.0)
        logits[..., self.start :] = 50.0
        return logits


@pytest.fixture
def model(tiny):
    return build(tiny(method="iamgan", ngf=8, ndf=8, lr=2e-3, flip=False, lambda_nmc=0.0))


@pytest.fixture
def batch(tiny, toy_data):
    return make_batch(tiny(flip=False), toy_data, 0)


def test_instance_loss_is_the_equation():
    one, two, bank = unit(2, 0), unit(2, 1), unit(4, 2)
    others = np.concatenate([two, bank])
    scores = np.exp(one @ others.T / TAU)
    expected = np.mean([-np.log(scores[k, k] / scores[k].sum()) for k in range(2)])
    got = instance_loss(*(torch.from_numpy(z) for z in (one, two, bank)))
    assert got.item() == pytest.approx(expected, rel=1e-12)
    # The very first picture has nothing to be told apart from.
    assert instance_loss(torch.from_numpy(one[:1]), torch.from_numpy(two[:1]), torch.empty(0, 6).double()) == 0


def test_identity_loss_compares_what_the_mask_leaves(model, batch):
    """Mean over levels of the maps' L1 and 1 − cosine, on pictures whose mask region is 0."""
    real, fake = batch.real_A, batch.real_B
    model.net_region = Everywhere(20)
    bare = [x.clone() for x in (real, fake)]
    for x in bare:
        x[..., 20:] = 0
    with torch.no_grad():
        (*maps_1, one), (*maps_2, two) = ([level.numpy() for level in model.net_identity(x)] for x in bare)
    apart = [np.abs(a - b).mean() for a, b in zip(maps_1, maps_2)]
    expected = np.mean([*apart, np.mean([1 - a @ b for a, b in zip(one, two)])])
    got = identity_preserving(model, real, fake, fake)
    assert got.item() == pytest.approx(expected, rel=1e-4)

    changed = real.clone()
    changed[..., 20:] = 0.3
    assert identity_preserving(model, real, changed, changed).item() == pytest.approx(0, abs=1e-6)


def test_only_the_output_is_moved_by_it_and_only_outside_the_mask(model, batch):
    fake = batch.real_B.clone().requires_grad_(True)
    real = batch.real_A.clone().requires_grad_(True)
    model.net_region = Everywhere(20)
    identity_preserving(model, real, fake, fake).backward()
    assert real.grad is None or not real.grad.any()
    assert fake.grad[..., :20].abs().sum() > 0
    assert not fake.grad[..., 20:].any()


def test_generators_get_its_gradient_and_the_small_nets_do_not(model, batch):
    losses, *_ = model.losses_G(batch, model.cfg, torch.Generator().manual_seed(0))
    model.preserved.clear()
    (losses["loss_ip_A"] + losses["loss_ip_B"]).backward()
    for net in (model.net_G_AB, model.net_G_BA):
        assert all(p.grad is not None for p in net.parameters())
    assert all(p.grad is None for net in (model.net_region, model.net_identity) for p in net.parameters())


def test_the_sum_holds_both_directions(model, batch):
    plain = build(model.cfg.__class__.from_dict(model.cfg.to_dict() | {"method": "cyclegan"}))
    values, without = (dict(zip(m.losses, m.step(batch, 0).tolist())) for m in (model, plain))
    added = LAMBDA_IP * (values["loss_ip_A"] + values["loss_ip_B"])
    assert added > 0.1
    assert values["loss_G"] == pytest.approx(without["loss_G"] + added, rel=1e-5)
    assert values["loss_cycle_A"] == without["loss_cycle_A"]


def test_what_is_pasted_is_labelled_and_a_seam_is_not(batch):
    A, B = batch.real_A, batch.real_B
    images, region = pasted(A, B, np.random.default_rng(0))
    n = len(A)
    inside = region[:n].bool().expand(-1, 3, -1, -1)
    assert torch.equal(images[:n][inside], B[inside])
    assert torch.equal(images[:n][~inside], A[~inside])
    assert not region[n:].any()
    assert ((images[n:] == A) | (images[n:] == A.flip(-1))).all()
    assert not torch.equal(images[n:], A)


def test_shapes_lie_where_masks_do():
    shapes = lower_face(200, 64, np.random.default_rng(0))[:, 0].numpy()
    share = shapes.mean((1, 2))
    assert 0.06 < share.min() < 0.15
    assert 0.2 < share.max() < 0.35
    assert shapes[:, 45, 32].all()  # the mouth
    assert not shapes[:, :24].any()  # eyes and forehead
    assert len({shape.tobytes() for shape in shapes}) == 200


def test_steps_lower_the_losses(model, tiny, toy_data):
    """B is green cloth here: the predictor must find it; people must be told apart; the cycle must close."""
    cfg = tiny(flip=False)
    toy_data.B[:] = np.array([40, 220, 90], np.uint8)[:, None, None]
    values = torch.stack([model.step(make_batch(cfg, toy_data, step), step) for step in range(40)])
    for name, share in (("loss_region", 0.5), ("loss_ip_A", 0.9), ("loss_cycle_B", 0.9)):
        column = values[:, model.losses.index(name)]
        assert column[-5:].mean() < share * column[:3].mean(), name
    assert len(model.bank) == min(BANK, 40 * cfg.batch_size)
    before = model.bank
    model.step(make_batch(cfg, toy_data, 40), 40)
    assert torch.equal(model.bank[: -cfg.batch_size], before[cfg.batch_size :])  # the oldest two make room
    assert not torch.equal(model.bank[-cfg.batch_size :], before[-cfg.batch_size :])
    chance = np.log(BANK + cfg.batch_size)
    assert values[-5:, model.losses.index("loss_identity_net")].mean() < 0.8 * chance
