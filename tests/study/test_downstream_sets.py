"""Training sets that differ in their masks alone, and test sets of people whom nothing else has seen."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from lib.augment import MaskedDataset
from lib.study import downstream_sets as sets
from lib.study.config import PROFILES, StudyError
from lib.study.detector import FACE, MASKED, Scenes
from lib.study.downstream import generator_of
from lib.study.downstream_sets import (
    FLY,
    PLANS,
    VARIANTS,
    Plan,
    batches,
    people_of,
    scenes_of,
    shared_people,
    training_set,
)

TINY = Plan(2, (4, 3), (2, 2), 32, 1.0, 2, (3, 2), 64, 1, (4, 2))


@pytest.fixture
def study(trained, monkeypatch):
    monkeypatch.setitem(PLANS, "tiny", TINY)
    return trained


@pytest.fixture(params=["people", "scenes"])
def pictures(request, study):
    return (people_of if request.param == "people" else scenes_of)(study, "train")


@pytest.fixture
def weights(study):
    return generator_of(study)[0]


def of(pictures, variant, weights, seed=0):
    return training_set(pictures, variant, seed, weights, "cpu")[0]


def as_pixels(samples):
    return torch.stack([image.as_subclass(torch.Tensor) for image, _ in samples]).numpy()


def who_wears(samples):
    return np.concatenate([target["masked"].numpy() for _, target in samples])


def test_every_profile_has_a_plan():
    assert PLANS.keys() == PROFILES.keys() - {"tiny"}


def test_a_profile_without_a_plan_is_told(trained):
    with pytest.raises(StudyError, match="'tiny' has no plan"):
        people_of(trained, "train")


def test_the_sets_differ_in_their_masks_alone(pictures, weights):
    made = {variant: of(pictures, variant, weights) for variant in VARIANTS if variant != FLY}
    pixels = {variant: as_pixels(samples) for variant, samples in made.items()}
    wears = who_wears(made["rule"])
    assert 0 < wears.sum() < len(wears)
    for variant in ("two-step", "truth", *([] if isinstance(pictures, Scenes) else [sets.COLOURS])):
        assert (who_wears(made[variant]) == wears).all()  # in a scene, masks of another shape may be hidden elsewhere
    names = list(pixels)
    for k, one in enumerate(names):
        for other in names[k + 1 :]:
            changed = (pixels[one] != pixels[other]).any(1)
            assert changed.any((1, 2)).sum() >= 1, (one, other)
            assert changed.mean() < 0.5
    if not isinstance(pictures, Scenes):  # a face a picture: only those that wear a mask differ
        for variant in ("rule", sets.COLOURS, "two-step", "truth"):
            differs = (pixels[variant] != pixels["none"]).any((1, 2, 3))
            assert (differs == wears).all(), variant


def test_scenes_tell_who_is_masked_and_people_who_they_are(study, weights):
    for variant in ("rule", sets.COLOURS, "two-step", "truth"):
        for _, target in of(scenes_of(study, "train"), variant, weights):
            assert (target["labels"].numpy() == np.where(target["masked"].numpy(), MASKED, FACE)).all()
        assert [target["person"] for _, target in of(people_of(study, "train"), variant, weights)] == [
            0, 0, 1, 1, 2, 2, 3, 3
        ]  # fmt: skip
    assert all((target["labels"] == FACE).all() for _, target in of(scenes_of(study, "train"), "none", weights))


def test_another_seed_masks_other_faces(study, weights):
    people = people_of(study, "train")
    one, again, other = (as_pixels(of(people, "rule", weights, seed)) for seed in (0, 0, 1))
    assert (one == again).all()
    assert (one != other).any()


def test_on_the_fly_the_first_pass_is_the_prepared_set_and_later_ones_are_not(pictures, weights):
    samples, second = training_set(pictures, FLY, 0, weights, "cpu")
    assert isinstance(samples, MaskedDataset)
    prepared = batches(of(pictures, "two-step", weights), None, 4, 0)
    flying = batches(samples, second, 4, 0)
    for number, same in ((0, True), (1, False)):
        one, other = (torch.cat([images for images, _ in each(number)]) for each in (prepared, flying))
        apart = (one.int() - other.int()).abs().max()
        assert (apart <= 1) == same  # a generator may round otherwise in another batch


def test_the_order_hangs_on_seed_and_pass_alone(study, weights):
    samples = of(people_of(study, "train"), "none", weights)

    def order(seed, number):
        return [target["person"] for _, targets in batches(samples, None, 4, seed)(number) for target in targets]

    assert sorted(order(0, 0)) == [0, 0, 1, 1, 2, 2, 3, 3]
    assert order(0, 1) == order(0, 1) != order(0, 0)
    assert order(1, 0) != order(0, 0)


def test_nobody_tested_with_is_on_another_picture(study):
    table = shared_people(study)
    assert table["set"].tolist()[-2:] == ["generator, set A", "generator, set B"]
    assert (table["people"] > 0).all()
    assert (table.filter(like="also in") == 0).all(axis=None)


def test_someone_tested_with_who_is_trained_on_is_told(study, monkeypatch):
    monkeypatch.setitem(sets.FIRST, ("recogniser", "test"), sets.FIRST["recogniser", "train"])
    table = shared_people(study).set_index("set")
    assert table.loc["recogniser, train", "also in recogniser, test"] == TINY.people[1]


def test_half_of_the_faces_tested_with_truly_wear_a_mask(study):
    test = scenes_of(study, "test")
    labels = np.concatenate(test.labels)
    assert set(labels.tolist()) == {FACE, MASKED}
    assert (np.concatenate(scenes_of(study, "train").labels) == FACE).all()
    people = people_of(study, "test")
    assert (people.bare != people.worn).any((1, 2, 3)).all()


def test_pictures_are_rendered_once(study, monkeypatch):
    before = people_of(study, "test")
    monkeypatch.setattr(sets, "render_people", None)
    assert (people_of(study, "test").bare == before.bare).all()


def test_another_study_seed_has_other_people(study):
    one, other = (set(people_of(each, "train").identity.tolist()) for each in (study, replace(study, seed=1)))
    assert not one & other


def test_an_unknown_variant_is_refused(study, weights):
    with pytest.raises(StudyError, match="expected one of none"):
        training_set(people_of(study, "train"), "blue", 0, weights)
