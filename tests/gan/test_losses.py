"""Each loss against the same formula in NumPy, in float64."""

import math

import numpy as np
import pytest
import torch
from scipy.ndimage import distance_transform_edt

from lib.gan import adversarial_d, adversarial_g, l1, non_mask_change
from lib.gan.losses import (
    Spread,
    attention_error,
    distance_change,
    distance_weights,
    distances,
    mask_distance,
)

RNG = np.random.default_rng(0)
REAL, FAKE = RNG.uniform(-1, 1, (2, 3, 3, 8, 8))
SCORE_REAL, SCORE_FAKE = RNG.normal(size=(2, 3, 1, 5, 5))
KEEP = RNG.random((3, 1, 8, 8)) < 0.7


def exactly(value: float):
    return pytest.approx(value, rel=1e-12)


def t(array: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(array)


def test_adversarial_losses():
    assert adversarial_g(t(SCORE_FAKE)).item() == exactly(np.mean((SCORE_FAKE - 1) ** 2))
    expected = 0.5 * (np.mean((SCORE_REAL - 1) ** 2) + np.mean(SCORE_FAKE**2))
    assert adversarial_d(t(SCORE_REAL), t(SCORE_FAKE)).item() == exactly(expected)


def test_l1():
    assert l1(t(FAKE), t(REAL)).item() == exactly(np.mean(np.abs(FAKE - REAL)))


def test_non_mask_change_under_each_norm():
    total = sum(np.abs(FAKE[b, :, y, x] - REAL[b, :, y, x]).sum() for b, _, y, x in zip(*np.nonzero(KEEP)))
    for norm, divisor in {"region": 3 * KEEP.sum(), "image": 3 * 3 * 64, "sum": 3}.items():
        fake = t(FAKE).requires_grad_(True)
        loss = non_mask_change(t(REAL), fake, t(KEEP), norm)
        assert loss.item() == exactly(total / divisor)
        loss.backward()
        assert np.allclose(fake.grad, np.sign(FAKE - REAL) * KEEP / divisor, rtol=1e-12, atol=0)


@pytest.mark.parametrize("norm", ["region", "image", "sum"])
def test_changes_inside_the_mask_cost_nothing_and_give_no_gradient(norm):
    fake = torch.where(t(KEEP), t(REAL), t(FAKE)).requires_grad_(True)
    loss = non_mask_change(t(REAL), fake, t(KEEP), norm)
    assert loss.item() == 0
    fake = t(FAKE).clone().requires_grad_(True)
    non_mask_change(t(REAL), fake, t(KEEP), norm).backward()
    touched = fake.grad != 0
    assert torch.equal(touched, t(KEEP).expand_as(touched))


def test_uint8_tensors_count_as_bool():
    as_bool, as_uint8 = (non_mask_change(t(REAL), t(FAKE), t(KEEP.astype(kind))) for kind in (bool, np.uint8))
    assert as_bool == as_uint8


def test_a_batch_without_non_mask_pixels_is_zero_not_nan():
    assert non_mask_change(t(REAL), t(FAKE), torch.zeros(3, 1, 8, 8)).item() == 0


def test_errors_say_what_was_expected():
    with pytest.raises(ValueError, match=r"expected \[3, 1, 8, 8\], got \[3, 3, 8, 8\]"):
        non_mask_change(t(REAL), t(FAKE), torch.ones(3, 3, 8, 8))
    with pytest.raises(ValueError, match=r"expected one of .*got 'pixels'"):
        non_mask_change(t(REAL), t(FAKE), t(KEEP), "pixels")


# ---- the paper's future work ---------------------------------------------------------------------------------------

WIDE = RNG.random((3, 1, 12, 20)) < 0.9
LOGITS = RNG.normal(size=(3, 10, 8, 8))


def gradients_hold(function, *inputs: np.ndarray) -> bool:
    return torch.autograd.gradcheck(function, [t(x).requires_grad_(True) for x in inputs])


def test_mask_distance_is_exact():
    """Against every pixel with every mask pixel, and against SciPy."""
    found = mask_distance(t(WIDE)).numpy()
    for b in range(3):
        masked = np.argwhere(~WIDE[b, 0])
        for y, x in np.ndindex(12, 20):
            nearest = min(math.hypot(y - v, x - u) for v, u in masked)
            assert found[b, 0, y, x] == pytest.approx(nearest, rel=1e-6)
    large = np.ones((1, 1, 256, 192), bool)
    large[0, 0, 250:, :3] = False
    assert np.allclose(mask_distance(t(large))[0, 0], distance_transform_edt(large[0, 0]), rtol=1e-6)


def test_without_a_mask_or_beside_it_no_distance_counts():
    masks = torch.ones(2, 1, 8, 8, dtype=torch.bool)
    masks[1] = False
    assert (mask_distance(masks) == 0).all()
    for profile in ("linear", "exponential"):
        assert torch.equal(distance_weights(masks, profile, 3.0), masks.float())


@pytest.mark.parametrize("growth", [0.5, 8.0, 1e5])
def test_weights_grow_with_the_distance_and_have_mean_one(growth):
    for profile in ("linear", "exponential"):
        found = distance_weights(t(WIDE), profile, growth, torch.float64).numpy()
        for weight, outside in zip(found[:, 0], WIDE[:, 0]):
            d = distance_transform_edt(outside)[outside] / 20
            raw = 1 + growth * d if profile == "linear" else np.exp(growth * (d - d.max()))
            assert np.allclose(weight[outside], raw / raw.mean(), rtol=1e-6)
            assert (weight[~outside] == 0).all()
            assert weight[outside].mean() == exactly(1)


def test_flat_weights_are_the_region_itself():
    assert torch.equal(distance_weights(t(KEEP), "flat", 0.0), t(KEEP).float())
    with pytest.raises(ValueError, match=r"nmc_profile: expected one of .*got 'steep'"):
        distance_weights(t(KEEP), "steep", 1.0)


@pytest.mark.parametrize(("norm", "divisor"), [("region", 3 * KEEP.sum()), ("image", 3 * 3 * 64), ("sum", 3)])
def test_a_weighted_change(norm, divisor):
    weight = distance_weights(t(KEEP), "linear", 4.0, torch.float64)
    expected = (np.abs(FAKE - REAL) * weight.numpy()).sum() / divisor
    assert non_mask_change(t(REAL), t(FAKE), weight, norm).item() == exactly(expected)
    # A change that is the same everywhere costs what it costs without: λ keeps its meaning.
    even = [non_mask_change(t(REAL), t(REAL) + 0.3, w, norm).item() for w in (weight, t(KEEP))]
    assert even[0] == exactly(even[1])
    assert gradients_hold(lambda fake: non_mask_change(t(REAL), fake, weight, norm), FAKE)


def test_attention_error_is_its_formula():
    attention = np.exp(LOGITS) / np.exp(LOGITS).sum(1, keepdims=True)
    drawn, region = 1 - attention[:, -1], ~KEEP[:, 0]
    cross_entropy = -(region * np.log(drawn) + ~region * np.log(1 - drawn))
    assert attention_error(t(attention), t(KEEP), "l1").item() == exactly(np.abs(drawn - region).mean())
    assert attention_error(t(attention), t(KEEP), "bce").item() == exactly(cross_entropy.mean())
    for kind in ("l1", "bce"):
        assert gradients_hold(lambda x: attention_error(x.softmax(1), t(KEEP), kind), LOGITS)  # noqa: B023
    with pytest.raises(ValueError, match=r"attention_loss: expected one of .*got 'l2'"):
        attention_error(t(attention), t(KEEP), "l2")


def test_attention_that_is_right_costs_nothing_and_one_that_is_sure_and_wrong_can_still_learn():
    logits = torch.zeros(3, 10, 8, 8)
    logits[:, -1:] = torch.where(t(KEEP), 80.0, -80.0)
    right, wrong = logits, (-logits).requires_grad_(True)
    for kind in ("l1", "bce"):
        assert attention_error(right.softmax(1), t(KEEP), kind).item() == pytest.approx(0, abs=1e-6)
    loss = attention_error(wrong.softmax(1), t(KEEP), "bce")
    loss.backward()
    assert 60 < loss.item() < 90
    assert wrong.grad.isfinite().all()
    assert (wrong.grad[:, -1].sign() == torch.where(t(KEEP[:, 0]), -1, 1)).all()


def test_distances_are_their_formulas():
    halves = [np.abs(x[:, :, :4] - x[:, :, 4:]).mean() for x in REAL]
    assert np.allclose(distances(t(REAL)), halves, rtol=1e-12)
    assert torch.allclose(distances(t(REAL).flip(-1)), distances(t(REAL)))
    pairs = {np.abs(REAL[i] - REAL[j]).mean() for i in range(3) for j in range(i)}
    found = distances(t(REAL), "pairs")
    assert found.shape == (2, 3)
    assert np.allclose(sorted(found.flatten()), sorted([*pairs, *pairs]), rtol=1e-12)
    with pytest.raises(ValueError, match=r"distance_of: expected one of .*got 'thirds'"):
        distances(t(REAL), "thirds")


def change(fake: torch.Tensor, kind: str) -> torch.Tensor:
    return distance_change(distances(t(REAL), kind), distances(fake, kind), Spread(0.7, 0.2), Spread(0.5, 0.1))


def test_distance_change_is_its_formula():
    halves = [[np.abs(x[:, :, :4] - x[:, :, 4:]).mean() for x in images] for images in (REAL, FAKE)]
    pairs = [[np.abs(x[i] - x[j]).mean() for i, j in ((0, 1), (0, 2), (1, 2))] for x in (REAL, FAKE)]
    for kind, (before, after) in {"halves": halves, "pairs": pairs}.items():
        scaled = (np.array(before) - 0.7) / 0.2, (np.array(after) - 0.5) / 0.1
        assert change(t(FAKE), kind).item() == exactly(np.abs(scaled[0] - scaled[1]).mean())
        assert gradients_hold(lambda fake: change(fake, kind), FAKE)  # noqa: B023


def test_distances_that_grow_as_their_sets_do_cost_nothing():
    """What the constraint asks for is a distance's place among those of its set, not its size."""
    before = t(RNG.random(7))
    after = 3 * before - 0.2
    spreads = [Spread(x.mean().item(), x.std(correction=0).item()) for x in (before, after)]
    assert distance_change(before, after, *spreads).item() == pytest.approx(0, abs=1e-12)
    assert distance_change(before, 1 - before, *spreads).item() > 0.1


def test_pairs_of_shares_have_the_batchs_mean_and_gradient():
    """Three processes with a picture each."""
    whole = t(FAKE).requires_grad_(True)
    loss = change(whole, "pairs")
    loss.backward()
    values = []
    for rank in range(3):
        fake = t(FAKE)[rank : rank + 1].requires_grad_(True)
        mine = slice(rank, rank + 1)
        before = distances(t(REAL)[mine], "pairs", lambda _: t(REAL), mine)
        after = distances(fake, "pairs", lambda _: t(FAKE), mine)
        share = distance_change(before, after, Spread(0.7, 0.2), Spread(0.5, 0.1))
        (share / 3).backward()  # averaged over the processes
        assert torch.allclose(fake.grad[0], whole.grad[rank], rtol=1e-12)
        values.append(share.item())
    assert np.mean(values) == exactly(loss.item())
