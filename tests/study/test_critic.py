"""Critics: they learn what tells the sides apart, grey ones without colour, and are kept."""

import numpy as np
import pytest
import torch

from lib.study import critic
from lib.study.critic import LearningSet, load_critic


def pictures(seed: int, count: int = 12) -> LearningSet:
    """Rule-based: a blue square; bare: the same without; real: a square of any colour with stripes."""
    rng = np.random.default_rng(seed)
    ground = rng.integers(60, 200, (3, count, 1, 1, 3)) + rng.normal(0, 6, (3, count, 64, 64, 3))
    ground[0] = ground[1]  # the same faces
    stripes = np.where(np.arange(26) % 6 < 3, 40, -40)[:, None, None]
    ground[0, :, 30:56, 18:46] = (90, 140, 200)
    ground[2, :, 30:56, 18:46] = rng.integers(90, 180, (count, 1, 1, 3)) + stripes
    return LearningSet(*ground.clip(0, 255).astype(np.uint8))


@pytest.fixture(scope="module")
def learned():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(critic, "PASSES", 60)
        return {kind: critic.train(pictures(0), 0, kind) for kind in critic.KINDS}


@pytest.mark.parametrize("kind", critic.KINDS)
def test_a_critic_learns_what_tells_them_apart(learned, kind):
    network, facts = learned[kind]
    one, fresh = critic.Critic(network, facts), pictures(1)
    assert one.calls_real(fresh.real).mean() > 0.8
    assert one.calls_real(fresh.rule).mean() < 0.2
    assert one.calls_real(fresh.bare).mean() < 0.4
    for fake in critic.fakes(fresh, np.random.default_rng(0)):
        assert one.calls_real(fake).mean() < 0.4
    assert facts["pictures"] == [12, 12, 12]
    assert 1 <= facts["passes"] <= critic.PASSES


def test_fakes_are_what_they_are_called():
    given = pictures(3)
    rule, bare, recoloured, flat, blurred = critic.fakes(given, np.random.default_rng(0))
    assert rule is given.rule
    assert bare is given.bare
    square, stripe = (slice(None), slice(34, 52), slice(22, 42)), (slice(None), slice(34, 52), slice(28, 36))
    colours = given.real[square].mean((1, 2))
    assert flat[square].std((1, 2)).max() == 0
    for image in (*flat, *recoloured):
        assert np.abs(colours - image[square[1:]].mean((0, 1))).sum(1).min() < 20  # a real mask's
    assert np.array_equal(flat[:, :24], bare[:, :24])
    assert blurred[stripe].std(1).mean() < 0.7 * given.real[stripe].std(1).mean()
    assert np.array_equal(blurred[:, :24], given.real[:, :24])


def test_a_grey_critic_sees_neither_colour_nor_brightness(learned):
    x = torch.rand(2, 3, 64, 64, generator=torch.Generator().manual_seed(0)) - 0.5
    grey = (x * x.new_tensor((0.299, 0.587, 0.114)).view(1, 3, 1, 1)).sum(1, keepdim=True).expand(-1, 3, -1, -1)
    with torch.no_grad():
        network = learned["grey"][0]
        assert torch.allclose(network(x), network(grey * 0.8 + 0.1), atol=0.05)
        colour = learned["colour"][0]
        assert not torch.allclose(colour(x), colour(grey), atol=0.05)


def test_larger_pictures_are_reduced_alike():
    images = pictures(2).real
    large = images.repeat(3, 1).repeat(3, 2)
    assert critic._tensor(large).shape[-1] == 128
    assert critic._tensor(images).shape[-1] == critic._tensor(images[:, ::2, ::2]).shape[-1] == 64


def test_critics_are_kept_and_made_anew_for_other_pictures(empty, monkeypatch):
    monkeypatch.setattr(critic, "PASSES", 1)
    first = load_critic(empty, 3, "grey", pictures(0, 4))
    again = load_critic(empty, 3, "grey", pictures(0, 4))
    fresh = pictures(1, 5)
    logits = [one.network(critic._tensor(fresh.real)) for one in (first, again)]
    assert torch.equal(*logits)
    path = empty.root / "evidence" / "critics" / "grey-3.safetensors"
    content = path.read_bytes()
    path.write_bytes(b"damaged")
    load_critic(empty, 3, "grey", pictures(0, 4))
    assert path.read_bytes() == content  # trained anew, to the same weights
    trained = []
    real_train = critic.train
    monkeypatch.setattr(critic, "train", lambda *a: trained.append(a) or real_train(*a))
    load_critic(empty, 3, "grey", pictures(0, 4))
    assert not trained
    load_critic(empty, 3, "grey", fresh)
    assert len(trained) == 1
    assert path.read_bytes() != content


def test_the_learning_set_is_what_no_experiment_trains_on(trained, monkeypatch):
    from lib.study import experiments

    names_A, names_B = experiments.reserved(trained)
    found = critic.learning_set(trained)
    assert [len(side) for side in found] == [len(names_A), len(names_A), len(names_B)]
    assert (found.rule != found.bare).any()
    monkeypatch.setattr(experiments, "reserved", lambda study: (names_A, names_B[:1]))
    with pytest.raises(critic.StudyError, match="too few pictures"):
        critic.learning_set(trained)
