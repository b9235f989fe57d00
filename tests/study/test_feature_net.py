"""A network that is trained once and kept: what it knows, whether it comes out the same, and its distances by hand."""

import json
import multiprocessing
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image

from lib.data import faceworld
from lib.data.images import resize, to_pixels, to_tensor
from lib.study import feature_net, sources
from lib.study.config import PROFILES, StudyError
from lib.study.feature_net import LABELS, Recipe, _cached, _loss, _right, _varied

TINY = Recipe(people=6, supersample=1.0, passes=1, batch_size=8)


@pytest.fixture(scope="module")
def net(tmp_path_factory):
    """The small network, trained once for this session (test_realism asks for the same file)."""
    return feature_net.load(tmp_path_factory.getbasetemp() / "nets" / "faceworld", small=True, progress=False)


@pytest.fixture(scope="module")
def tiny_folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("tiny")
    _cached(folder, TINY, 0, False)
    return folder


@pytest.fixture(scope="module")
def faces():
    """Eight people bare, then with a true mask, then by rule: uint8 [N, 64, 64, 3], and what they wear."""
    x, y, _ = feature_net._pictures(replace(TINY, people=8), seed=7, progress=False)
    return to_pixels(x), y


@pytest.fixture
def pictures():
    return np.random.default_rng(0).integers(0, 256, (5, 48, 48, 3), dtype=np.uint8)


def test_it_learned_what_the_face_world_shows(net):
    held_out = net.facts["held_out"]
    assert held_out["worn"]["share right"] > held_out["worn"]["guessing"] + 0.1
    for task in ("colour", "yaw"):
        assert held_out[task]["mean error"] < 0.9 * held_out[task]["guessing"]
    assert net.facts["parameters"] == sum(p.numel() for p in net.network.parameters()) <= 400_000
    assert net.facts["people"] == 80


def test_no_study_uses_its_people():
    last = 2 * faceworld.B_IDENTITIES  # SetSpec refuses people from here on
    with pytest.raises(ValueError, match="identities"):
        faceworld.SetSpec("B", 1, first_identity=last)
    used = [*faceworld.FIRST_IDENTITY.values(), sources.FIRST_TEST_A, sources.FIRST_WIDE_B, sources.FIRST_TIDY_B]
    assert max(used) < last <= feature_net.FIRST_IDENTITY
    assert feature_net.FULL.people <= 10_000  # the next seed's people begin there


def test_features_are_in_units_of_their_spread_and_follow_the_mask(net, faces):
    images, y = faces
    features = net.features(images)
    assert (features.shape, features.dtype) == ((len(images), feature_net.FEATURES), np.float64)
    assert 0.3 < features.std(0).mean() < 2
    assert abs(features.mean()) < 0.5
    bare = y[:, 0].numpy() == 0
    axis = features[~bare].mean(0) - features[bare].mean(0)
    assert np.linalg.norm(axis) > 0.5


def test_the_size_of_a_picture_changes_little_and_only_by_the_filter(net, pictures):
    big = np.stack([np.asarray(Image.fromarray(p).resize((128, 128), Image.Resampling.BICUBIC)) for p in pictures])
    small = np.stack([np.asarray(Image.fromarray(p).resize((64, 64), Image.Resampling.BICUBIC)) for p in big])
    assert np.array_equal(net.features(big), net.features(small))
    assert np.allclose(net.features(big)[2], net.features(big[2:3])[0], atol=1e-4)


def test_perceptual_is_the_equation_of_zhang(net, pictures):
    other, mask = pictures[::-1].copy(), np.zeros((5, 48, 48), bool)
    mask[:, 20:40, 10:30] = True
    got, inside = net.perceptual(pictures, other), net.perceptual(pictures, other, mask)
    with torch.inference_mode():
        maps = [net.network.maps(to_tensor(np.stack([resize(p, 64) for p in x]))) for x in (pictures, other)]
    for n in range(len(pictures)):
        whole = part = 0.0
        for one, two in zip(*maps):
            a, b = one[n].double().numpy(), two[n].double().numpy()
            norms = [np.linalg.norm(v, axis=0) for v in (a, b)]
            cosine = (a * b).sum(0) / np.maximum(norms[0] * norms[1], 1e-30)
            apart = (norms[0] > 0).astype(float) + (norms[1] > 0) - 2 * cosine
            share = torch.nn.functional.adaptive_avg_pool2d(torch.from_numpy(mask[n][None].astype(float)), apart.shape)
            whole += apart.mean()
            part += np.average(apart, weights=share[0].numpy())
        assert got[n] == pytest.approx(whole, abs=1e-4)
        assert inside[n] == pytest.approx(part, abs=1e-4)


def test_perceptual_is_zero_for_equal_ones_symmetric_and_blind_outside_the_mask(net, pictures):
    assert net.perceptual(pictures, pictures).tolist() == [0] * 5
    other = np.roll(pictures, 1, axis=0)
    assert np.allclose(net.perceptual(pictures, other), net.perceptual(other, pictures))
    mask = np.zeros((5, 48, 48), bool)
    mask[:, :, :8] = True  # far from the change, for the fine maps
    changed = pictures.copy()
    changed[:, :, 40:] = 255 - changed[:, :, 40:]
    assert (net.perceptual(pictures, changed, mask) < 0.2 * net.perceptual(pictures, changed, ~mask)).all()
    assert np.isnan(net.perceptual(pictures, other, mask & False)).all()
    with pytest.raises(ValueError, match=r"one shape.*\[5, 48, 48, 3\], \[4, 48, 48, 3\]"):
        net.perceptual(pictures, pictures[:4])
    with pytest.raises(ValueError, match="masks"):
        net.perceptual(pictures, pictures, mask[:, :40])


def test_perceptual_grows_with_the_change(net, faces):
    images = faces[0][:12]
    noise = np.random.default_rng(1).normal(0, 1, images.shape)
    means = [net.perceptual(images, np.clip(images + s * noise, 0, 255).astype(np.uint8)).mean() for s in (4, 12, 36)]
    assert means == sorted(means)
    assert means[0] > 0


def test_recipe_and_seed_fix_the_weights_whatever_ran_before(tiny_folder, tmp_path):
    state, threads = torch.random.get_rng_state(), torch.get_num_threads()
    torch.rand(7)
    torch.set_num_threads(2)
    try:
        after = torch.random.get_rng_state()
        _cached(tmp_path, TINY, 0, False)
        assert torch.equal(torch.random.get_rng_state(), after)
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(threads)
        torch.random.set_rng_state(state)
    (mine,), (theirs,) = (sorted(folder.glob("*.safetensors")) for folder in (tmp_path, tiny_folder))
    assert mine.name == theirs.name
    assert mine.read_bytes() == theirs.read_bytes()


def test_what_shapes_it_names_it():
    asked = [feature_net._asked(TINY, 0), feature_net._asked(TINY, 1), feature_net._asked(replace(TINY, passes=2), 0)]
    assert len({feature_net.config_hash(each) for each in asked}) == 3
    assert json.loads(json.dumps(asked[0]))["renderer_version"] == faceworld.VERSION


def test_a_kept_network_is_read_not_trained(tiny_folder, monkeypatch):
    monkeypatch.setattr(feature_net, "_train", lambda *_: pytest.fail("trained again"))
    again = _cached(tiny_folder, TINY, 0, False)
    assert again.facts["recipe"]["people"] == 6
    assert not again.network.training


def test_a_damaged_file_is_named(tiny_folder, tmp_path):
    for path in tiny_folder.glob("*"):
        (tmp_path / path.name).write_bytes(path.read_bytes())
    (path,) = tmp_path.glob("*.safetensors")
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(StudyError, match=rf"{path.name}: damaged .*delete {path.stem}\.json"):
        _cached(tmp_path, TINY, 0, False)
    path.with_suffix(".json").unlink()
    assert _cached(tmp_path, TINY, 0, False).facts["people"] == 5


def test_processes_that_ask_at_once_train_it_once(tmp_path):
    context = multiprocessing.get_context("fork")
    asking = [context.Process(target=_cached, args=(tmp_path, TINY, 3, False)) for _ in range(2)]
    for process in asking:
        process.start()
    for process in asking:
        process.join(60)
    assert [process.exitcode for process in asking] == [0, 0]
    assert len(list(tmp_path.glob("*.safetensors"))) == 1


def test_the_profile_chooses_the_recipe(empty, monkeypatch, tmp_path):
    asked = []
    monkeypatch.setattr(feature_net, "_cached", lambda folder, recipe, *_: asked.append((folder, recipe)))
    for name, recipe in (("smoke", feature_net.SMALL), ("laptop", feature_net.FULL), ("gpu", feature_net.FULL)):
        feature_net.load(replace(empty, profile=PROFILES[name]))
        assert asked.pop() == (empty.cache_dir.parent / "feature_net", recipe)
    feature_net.load(empty, small=False)
    feature_net.load(tmp_path / "faceworld", small=True)
    assert asked == [
        (empty.cache_dir.parent / "feature_net", feature_net.FULL),
        (tmp_path / "feature_net", feature_net.SMALL),
    ]
    with pytest.raises(ValueError, match="tells no profile"):
        feature_net.load(tmp_path)


def test_labels_are_those_of_what_is_shown(faces):
    images, y = faces
    column = dict(zip(LABELS, y.T))
    assert column["worn"].tolist() == [0] * 8 + [1] * (len(images) - 8)
    assert 20 <= len(images) <= 24  # the rule refuses a face now and then
    for name in LABELS[1:6]:  # a bare face has no mask to tell of
        assert column[name][:8].isnan().all()
    assert set(column["kind"][8:].tolist()) <= {0, 1, 2}
    assert column["light"][8:16].isnan().sum() == 0
    assert column["light"][16:].isnan().all()
    assert torch.equal(column["yaw"][8:16], column["yaw"][:8])  # one head, one pose
    assert set(column["pitch"][16:].tolist()) <= set(column["pitch"][:8].tolist())
    middle = images[8:, 44:46, 31:33].reshape(len(images) - 8, -1).mean(1)  # a lighter mask is lighter in the picture
    assert np.corrcoef(middle, column["L"][8:])[0, 1] > 0.6


def test_unknown_labels_count_for_nothing():
    labels = torch.full((4, len(LABELS)), float("nan"))
    answers = torch.randn(4, 10, generator=torch.Generator().manual_seed(0), requires_grad=True)
    assert _loss(answers, labels) == 0
    labels[1, LABELS.index("worn")] = 1
    _loss(answers, labels).backward()
    assert answers.grad.nonzero().tolist() == [[1, 0]]


def test_right_answers_are_counted_as_such():
    labels = torch.tensor([[1, 2, 1, 50, 5, -5, 30, -10], [0, *[float("nan")] * 5, -30, 10]])
    answers = torch.tensor([[9, 0, 0, 9, 9, 2, 0.2, -0.2, 1, -1.0], [-9, 0, 0, 0, 0, 0, 0, 0, -1, 1]])
    table = _right(answers, labels, labels)
    assert [table[task]["share right"] for task in ("worn", "kind", "light")] == [1, 1, 1]
    assert [table[task]["mean error"] for task in ("colour", "yaw", "pitch")] == pytest.approx([0, 0, 0], abs=1e-5)
    assert (table["worn"]["pictures"], table["kind"]["pictures"]) == (2, 1)
    assert table["yaw"]["guessing"] == pytest.approx(30)


def test_a_mirrored_picture_looks_the_other_way():
    x = torch.arange(64.0).expand(6, 3, 64, 64)
    y = torch.full((6, len(LABELS)), 7.0)
    torch.manual_seed(0)
    moved, labels = _varied(x, y)
    mirrored = moved[:, 0, 0, 30] > moved[:, 0, 0, 34]
    assert 0 < mirrored.sum() < 6
    assert labels[:, LABELS.index("yaw")].tolist() == torch.where(mirrored, -7.0, 7.0).tolist()
    assert labels[:, LABELS.index("pitch")].tolist() == [7] * 6
    assert moved.shape == x.shape
