"""Verification against counting pairs by hand, and a network that learns whom it is shown."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from lib.data.files import write_png
from lib.study.config import StudyError
from lib.study.recogniser import Pairs, Recogniser, _varied, all_pairs, named_pairs, render_people, verification


@pytest.fixture(scope="module")
def people():
    return render_people(4_900_000, 2, 2, 32, 1.0, progress=False)


def some_pairs(seed, people=8, pictures=3, levels=40):
    rng = np.random.default_rng(seed)
    pairs = all_pairs(np.repeat(np.arange(people), pictures))
    return rng.integers(0, levels, len(pairs.same)) / levels + 0.2 * pairs.same, pairs


@given(st.integers(0, 10_000))
def test_the_area_is_the_share_of_pairs_in_the_right_order(seed):
    scores, pairs = some_pairs(seed, people=4)
    yes, no = scores[pairs.same][:, None], scores[~pairs.same][None]
    assert verification(scores, pairs, 1)[0]["auc"] == pytest.approx(((yes > no) + 0.5 * (yes == no)).mean())


@given(st.integers(0, 10_000))
def test_tar_is_what_the_best_allowed_threshold_accepts(seed):
    scores, pairs = some_pairs(seed, people=12)  # 1,188 false pairs: 0.01 of them are 11
    far = np.array([(scores[~pairs.same] >= t).mean() for t in np.unique(scores)])
    tar = np.array([(scores[pairs.same] >= t).mean() for t in np.unique(scores)])
    values = verification(scores, pairs, 1)[0]
    assert values["tar_0.01"] == pytest.approx(tar[far <= 0.01].max(initial=0))
    assert "tar_0.001" not in values  # one false pair would decide


def test_a_sample_counts_a_pair_as_often_as_its_people_were_drawn():
    scores, pairs = some_pairs(3, people=5)
    _, samples, _ = verification(scores, pairs, 20)
    rng = np.random.default_rng(5)
    for auc in samples["auc"]:
        drawn = rng.multinomial(5, [0.2] * 5)
        times = [drawn[a] if a == b else drawn[a] * drawn[b] for a, b in pairs.people]
        fields = (pairs.first, pairs.second, pairs.same, pairs.people)
        again = Pairs(*(np.repeat(field, times, axis=0) for field in fields))
        expected = verification(np.repeat(scores, times), again, 0)[0]["auc"]
        assert np.allclose(auc, expected, equal_nan=True)


def test_the_interval_is_wider_with_fewer_people():
    wide, narrow = (verification(*some_pairs(1, people=n), 100)[1]["auc"].std() for n in (6, 40))
    assert wide > 1.5 * narrow > 0


def test_no_picture_is_compared_with_its_own_shot():
    pairs = all_pairs(np.array([7, 7, 9]))
    assert (pairs.first != pairs.second).all()
    assert len(pairs.same) == 6
    assert pairs.same.sum() == 2


def test_rendered_pictures_are_the_same_shots_with_and_without_a_mask(people):
    assert people.bare.shape == people.worn.shape == (4, 32, 32, 3)
    assert people.identity.tolist() == [4_900_000] * 2 + [4_900_001] * 2
    changed = (people.bare != people.worn).any(3)
    assert (changed[:, 16:].mean((1, 2)) > 0.1).all()
    assert changed[:, :8].mean() < 0.02
    assert (people.bare[0] != people.bare[1]).any()


def test_it_learns_whom_it_is_shown_and_gives_unit_vectors():
    rng = np.random.default_rng(0)
    person = np.repeat(np.arange(4), 8)
    colours = rng.integers(40, 216, (4, 1, 1, 3))
    images = (colours[person] + rng.normal(0, 12, (32, 32, 32, 3))).clip(0, 255).astype(np.uint8)
    torch.manual_seed(0)
    net = Recogniser(4, 32)
    adam = torch.optim.AdamW(net.parameters(), 3e-3)
    before = None
    for _ in range(40):
        adam.zero_grad()
        loss = net.loss(torch.from_numpy(images).permute(0, 3, 1, 2), [{"person": int(k)} for k in person])
        before = before or loss.item()
        loss.backward()
        adam.step()
    vectors, pairs = net.embed(images), all_pairs(person)
    assert loss.item() < 0.5 * before
    assert np.allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-5)
    scores = (vectors[pairs.first] * vectors[pairs.second]).sum(1)
    assert verification(scores, pairs, 1)[0]["auc"] > 0.95
    assert np.allclose(net.embed(images[:, :, ::-1].copy()), vectors, atol=1e-5)  # a mirror image is the same face


def test_varied_pictures_keep_shape_and_range():
    x = torch.rand(6, 3, 32, 32) * 2 - 1
    made = _varied(x)
    assert made.shape == x.shape
    assert made.abs().max() <= 1
    assert (made != x).any()


@pytest.fixture
def mfr2(tmp_path):
    for name in ("Ann_Bee/Ann_Bee_0001", "Ann_Bee/Ann_Bee_0002", "Cy/Cy_0001"):
        write_png(tmp_path / "mfr2" / f"{name}.png", np.full((20, 20, 3), len(name) * 9, np.uint8))
    (tmp_path / "mfr2" / "Cy" / "Cy_0002.png").write_bytes(b"broken")
    (tmp_path / "pairs.txt").write_text("Ann_Bee 1 2\nAnn_Bee 1 Cy 1\nAnn_Bee 1 Cy 2\nAnn_Bee 2 Cy 9\n")
    return tmp_path


def test_a_set_the_user_has_is_read_and_what_is_missing_is_counted(mfr2):
    images, pairs, unusable = named_pairs("mfr2", mfr2, mfr2 / "pairs.txt", 32)
    assert images.shape == (3, 32, 32, 3)
    assert pairs.same.tolist() == [True, False]
    assert unusable == 2
    assert pairs.people[0, 0] == pairs.people[0, 1] == pairs.people[1, 0] != pairs.people[1, 1]


def test_pairs_of_one_kind_alone_are_refused(mfr2):
    (mfr2 / "pairs.txt").write_text("Ann_Bee 1 2\n")
    with pytest.raises(StudyError, match="of both kinds"):
        named_pairs("mfr2", mfr2, mfr2 / "pairs.txt", 32)
