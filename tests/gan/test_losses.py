"""Each loss against the same formula in NumPy, in float64."""

import numpy as np
import pytest
import torch

from lib.gan import adversarial_d, adversarial_g, l1, non_mask_change

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
