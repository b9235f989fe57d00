"""The history of fakes."""

import numpy as np
import pytest
import torch

from lib.gan import ImagePool


def numbered(start: int, count: int) -> torch.Tensor:
    """Images whose every value is their number."""
    return torch.arange(start, start + count, dtype=torch.float32).view(-1, 1, 1, 1).expand(-1, 3, 2, 2)


def numbers(images: torch.Tensor) -> list[int]:
    return images[:, 0, 0, 0].int().tolist()


def test_new_images_pass_while_the_pool_fills():
    pool = ImagePool(5)
    assert numbers(pool.query(numbered(0, 5), np.random.default_rng(0))) == [0, 1, 2, 3, 4]
    assert numbers(pool.state()) == [0, 1, 2, 3, 4]


def test_a_full_pool_swaps_about_half_and_loses_nothing():
    pool, rng = ImagePool(10), np.random.default_rng(0)
    seen = numbers(pool.query(numbered(0, 10), rng))
    handed = []
    for start in range(10, 2010, 4):
        handed += numbers(pool.query(numbered(start, 4), rng))
    new = sum(number >= 10 + 4 * (i // 4) for i, number in enumerate(handed))
    assert 0.46 < new / len(handed) < 0.54
    # What was not handed back as new is either still stored or was handed back later, once.
    assert sorted(handed + numbers(pool.state())) == sorted([*seen, *range(10, 2010)])


def test_size_zero_is_off():
    images = numbered(0, 3).requires_grad_(True)
    out = ImagePool(0).query(images, np.random.default_rng(0))
    assert numbers(out) == [0, 1, 2]
    assert not out.requires_grad


def test_stored_images_are_copies_without_history():
    pool, leaf = ImagePool(2), numbered(0, 2).clone().requires_grad_(True)
    fakes = leaf * 1
    out = pool.query(fakes, np.random.default_rng(0))
    fakes.data.fill_(9)
    assert numbers(pool.state()) == [0, 1]
    assert not pool.state().requires_grad
    assert not out.requires_grad


def test_state_and_seed_decide_everything():
    first, second = ImagePool(3), ImagePool(3)
    first.query(torch.rand(3, 3, 2, 2), np.random.default_rng(0))
    second.load(first.state())
    new = torch.rand(8, 3, 2, 2)
    assert torch.equal(first.query(new, np.random.default_rng(4)), second.query(new, np.random.default_rng(4)))
    assert torch.equal(first.state(), second.state())


def test_empty_and_oversized_states():
    pool = ImagePool(2)
    assert pool.state() is None
    pool.load(None)
    assert pool.images == []
    with pytest.raises(ValueError, match="holds 2 images, got 3"):
        pool.load(torch.zeros(3, 3, 2, 2))
