"""Known distances, second ways to compute them, and the loading of published weights on stand-ins of random ones."""

import hashlib

import numpy as np
import pytest
import torch
import torchvision
from PIL import Image
from scipy.linalg import sqrtm

from lib.data.faceworld import render
from lib.study import feature_net, realism
from lib.study.config import StudyError
from lib.warp import apply_warps, preset, sample_warp_params


@pytest.fixture(scope="module")
def net(tmp_path_factory):
    """The small network, trained once for this session (test_feature_net asks for the same file)."""
    return feature_net.load(tmp_path_factory.getbasetemp() / "nets" / "faceworld", small=True, progress=False)


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    """torch's cache, empty; and no file named in the environment."""
    monkeypatch.delenv("INCEPTION_WEIGHTS", raising=False)
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path / "hub"))
    (tmp_path / "hub" / "checkpoints").mkdir(parents=True)
    return tmp_path / "hub" / "checkpoints"


@pytest.fixture
def pictures():
    return np.random.default_rng(0).integers(0, 256, (3, 40, 48, 3), dtype=np.uint8)


@pytest.fixture(scope="module")
def inception_file(tmp_path_factory):
    """A file like the published one with random weights, and the network that was saved in it."""
    from torch_fidelity.feature_extractor_inceptionv3 import FeatureExtractorInceptionV3

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(FeatureExtractorInceptionV3, "load_state_dict", lambda *_: None)
        patch.setattr(torch, "load", lambda *_, **__: None)
        with torch.random.fork_rng():
            torch.manual_seed(0)
            whole = FeatureExtractorInceptionV3("stand-in", ["2048"], feature_extractor_weights_path="none")
            for layer in whole.modules():  # torch's own start would let the signal die in so many layers
                if isinstance(layer, torch.nn.Conv2d):
                    torch.nn.init.kaiming_normal_(layer.weight)
    path = tmp_path_factory.mktemp("inception") / "named.pth"
    torch.save(whole.state_dict(), path)
    return path, whole


def published(monkeypatch, name, path):
    """From now on this file is the published one of that name."""
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    monkeypatch.setattr(realism, name, getattr(realism, name)._replace(sha256=digest))


# ------------------------------------------------------------------------------------------------ known distances
def test_kernel_distance_equals_three_loops():
    rng = np.random.default_rng(0)
    x, y = rng.normal(0, 1, (6, 4)), rng.normal(0.5, 1, (9, 4))
    kernel = lambda a, b: (a @ b / 4 + 1) ** 3  # noqa: E731
    within = [np.mean([kernel(a, b) for i, a in enumerate(s) for j, b in enumerate(s) if i != j]) for s in (x, y)]
    across = np.mean([kernel(a, b) for a in x for b in y])
    assert realism.kernel_distance(x, y) == pytest.approx(sum(within) - 2 * across, rel=1e-12)
    with pytest.raises(ValueError, match="two pictures"):
        realism.kernel_distance(x[:1], y)


def test_kernel_distance_is_torchmetrics_for_equal_counts():
    from torchmetrics.image.kid import poly_mmd

    rng = np.random.default_rng(1)
    x, y = rng.normal(0, 1, (20, 8)), rng.normal(0.3, 1.2, (20, 8))
    expected = poly_mmd(torch.from_numpy(x), torch.from_numpy(y)).item()
    assert realism.kernel_distance(x, y) == pytest.approx(expected, rel=1e-10)


def test_kernel_distance_of_one_distribution_is_zero_on_average_at_any_count():
    rng = np.random.default_rng(2)
    for count in (5, 40):
        values = [realism.kernel_distance(*rng.normal(0, 1, (2, count, 6))) for _ in range(400)]
        assert abs(np.mean(values)) < 4 * np.std(values) / 20  # no bias: within 4 standard errors of 0
        assert min(values) < 0
    # Against a shift δ the mean is that of (x·y / D + 1)³ for Gaussians: with q = |δ|² / D it is q³ + 3 q² + 3 q + …
    assert realism.kernel_distance(*(rng.normal(m, 1e-6, (50, 4)) for m in (0, 2))) == pytest.approx(5**3 + 1 - 2)


# --------------------------------------------------------------------------------------------------- face world
@pytest.fixture(scope="module")
def faces():
    """Sets of the face world, uint8 [32, 64, 64, 3]: the target and others of the same kind, one group of people bare,
    truly masked, and masked by rule."""
    shot = {"yaw": 25, "pitch": 5, "roll": 4, "mask_kinds": (1, 0, 0), "light_share": 1.0}
    pixels = lambda t: (t.permute(0, 2, 3, 1) * 255).round().byte().numpy()  # noqa: E731
    sets = {}
    for name, first, what in (
        ("target", 2_100_000, "masked"), ("real", 2_200_000, "masked"), ("truth", 2_300_000, ("masked", "full"))
    ):  # fmt: skip
        ids = range(first, first + 32)
        out = render(ids, ids, 64, what, 1.0, **shot)
        sets[name] = pixels(out.masked)
    full = list(pixels(out.full))
    params = [sample_warp_params(np.random.default_rng(k), preset("study")) for k in range(32)]
    rule = apply_warps(full, list(zip(range(32), out.landmarks.numpy(), params)))[0]
    return sets | {"rule": np.stack(rule), "bare": np.stack(full)}


def test_feature_distances_are_those_of_the_features(faces, net):
    a, b = (np.concatenate([faces[name] for name in names]) for names in (("real", "truth"), ("rule", "bare")))
    found = realism.distances(a, b, net)
    x, y = net.features(a), net.features(b)
    root = sqrtm(np.cov(x, rowvar=False) @ np.cov(y, rowvar=False)).real
    trace = np.trace(np.cov(x, rowvar=False) + np.cov(y, rowvar=False) - 2 * root)
    assert found["feature_fd"] == pytest.approx(((x.mean(0) - y.mean(0)) ** 2).sum() + trace, rel=1e-4)
    assert found["feature_kid"] == realism.kernel_distance(x, y)
    assert set(found) == {"feature_fd", "feature_kid"}
    assert realism.distances(a, a, net)["feature_fd"] == pytest.approx(0, abs=1e-6)
    with pytest.raises(ValueError, match="two pictures"):
        realism.distances(a[:1], b, net)


def test_real_pictures_come_nearer_than_rule_based_ones_and_those_than_bare_faces(faces, net):
    found = {name: realism.distances(faces[name], faces["target"], net) for name in ("real", "truth", "rule", "bare")}
    for key in ("feature_fd", "feature_kid"):
        values = {name: each[key] for name, each in found.items()}
        assert max(values["real"], values["truth"]) < 0.7 * values["rule"] < 0.7 * values["bare"], (key, values)


def test_perceptual_puts_the_rule_based_mask_nearer_to_the_truth_than_the_bare_face(faces, net):
    assert (
        net.perceptual(faces["rule"], faces["truth"]).mean()
        < 0.8 * net.perceptual(faces["bare"], faces["truth"]).mean()
    )


# -------------------------------------------------------------------------------------------- published weights
def test_without_weights_it_says_where_to_get_and_put_them(net, faces, cache, monkeypatch, tmp_path):
    found = realism.available()
    assert [name for name, reason in found.items() if not reason] == ["feature_fd", "feature_kid", "perceptual"]
    for name, weights in (("fid", realism.INCEPTION), ("kid", realism.INCEPTION), ("lpips", realism.ALEXNET)):
        assert "\n" not in found[name]
        assert weights.url in found[name]
        assert str(cache) in found[name]
        assert weights.sha256.startswith(weights.url[-12:-4])  # the published name carries the hash
    assert "INCEPTION_WEIGHTS" in found["fid"]
    assert "fid" not in realism.distances(faces["real"][:3], faces["target"][:3], net)
    assert realism.lpips(faces["real"][:1], faces["target"][:1]) is None
    monkeypatch.setenv("INCEPTION_WEIGHTS", str(tmp_path / "nowhere.pth"))
    assert "nowhere.pth: named, but no file is there" in realism.available()["fid"]


def test_a_file_of_another_hash_is_not_even_opened(cache, monkeypatch, tmp_path):
    monkeypatch.setattr(torch, "load", lambda *_, **__: pytest.fail("opened"))
    for weights in (realism.INCEPTION, realism.ALEXNET):
        (cache / weights.names[0]).write_bytes(b"something else")
    found = realism.available()
    assert f"{realism.INCEPTION.names[0]}: not the published file" in found["kid"]
    assert realism.lpips(np.zeros((1, 64, 64, 3), np.uint8), np.zeros((1, 64, 64, 3), np.uint8)) is None
    with pytest.raises(StudyError, match="changed while it was read"):
        realism._read(cache / realism.ALEXNET.names[0], realism.ALEXNET)


def test_a_pickle_that_runs_code_is_refused_even_with_the_right_hash(tmp_path, monkeypatch):
    torch.save({"a": torch.ones(1), "b": Image.new("L", (1, 1))}, path := tmp_path / "code.pth")
    published(monkeypatch, "ALEXNET", path)
    with pytest.raises(Exception, match=r"(?i)weights.only"):
        realism._read(path, realism.ALEXNET)


@pytest.mark.parametrize("way", ["argument", "environment", "cache", "other name in the cache"])
def test_inception_is_found_wherever_it_may_lie(way, cache, inception_file, monkeypatch):
    path, _ = inception_file
    published(monkeypatch, "INCEPTION", path)
    given = path if way == "argument" else None
    if way == "environment":
        monkeypatch.setenv("INCEPTION_WEIGHTS", str(path))
    elif "cache" in way:
        (cache / realism.INCEPTION.names[way.startswith("other")]).symlink_to(path)
    assert realism.available(given)["fid"] == ""
    assert realism.available(given)["lpips"]


def test_inception_is_torch_fidelitys_on_pictures_of_its_size(inception_file, monkeypatch):
    path, whole = inception_file
    published(monkeypatch, "INCEPTION", path)
    images = np.random.default_rng(0).integers(0, 256, (2, 299, 299, 3), dtype=np.uint8)
    with torch.inference_mode():
        (expected,) = whole(torch.from_numpy(images).permute(0, 3, 1, 2))
    got = realism._inception_features(images, path)
    assert (got.shape, got.dtype) == ((2, 2048), np.float64)
    assert np.allclose(got, expected.numpy(), rtol=1e-4, atol=1e-5)
    assert expected.std(0).max() > 1e-5  # the stand-in does tell pictures apart


def test_fid_and_kid_are_those_of_inceptions_features(inception_file, net, pictures, monkeypatch):
    path, _ = inception_file
    published(monkeypatch, "INCEPTION", path)
    monkeypatch.setattr(
        realism, "_inception_features", lambda x, where: np.arange(6).reshape(3, 2) * (1.0 + x[0, 0, 0, 0])
    )
    other = np.zeros_like(pictures)
    found = realism.distances(pictures, other, net, path)
    a, b = (realism._inception_features(x, path) for x in (pictures, other))
    assert found["fid"] == pytest.approx(realism.frechet_distance(a, b))
    assert found["kid"] == pytest.approx(realism.kernel_distance(a, b))


def test_clean_resize_keeps_fractions_and_is_smooth_where_it_makes_smaller():
    image = np.random.default_rng(0).integers(80, 180, (40, 48, 3), dtype=np.uint8)
    got = realism.clean_resize(image)
    rounded = np.asarray(Image.fromarray(image).resize((299, 299), Image.Resampling.BICUBIC))
    assert (got.shape, got.dtype) == ((299, 299, 3), np.float32)
    assert np.abs(got - rounded).max() < 1.5  # Pillow's uint8 filter rounds twice
    assert (got != np.rint(got)).mean() > 0.5
    wild = realism.clean_resize(np.where(image > 130, 255, 0).astype(np.uint8))
    assert (wild.min(), wild.max()) == (0, 255)  # bicubic would swing over
    stripes = np.tile(np.array([0, 255], np.uint8)[None, :, None], (600, 300, 3))
    assert np.abs(realism.clean_resize(stripes)[5:-5, 5:-5] - 127.5).max() < 10  # no moiré
    same = np.random.default_rng(1).integers(0, 256, (299, 299, 3), dtype=np.uint8)
    assert np.array_equal(realism.clean_resize(same), same)


def test_lpips_is_built_from_the_file_in_torchs_cache(cache, pictures, monkeypatch):
    """A stand-in AlexNet, and LPIPS by its equation, with the weights that torchmetrics has on the channels."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        features = torchvision.models.alexnet().features.eval()
    path = cache / realism.ALEXNET.names[0]
    torch.save({f"features.{name}": value for name, value in features.state_dict().items()}, path)
    published(monkeypatch, "ALEXNET", path)
    monkeypatch.setattr(torch.hub, "load_state_dict_from_url", lambda *_, **__: pytest.fail("asked the network"))
    assert realism.available()["lpips"] == ""
    a = np.random.default_rng(3).integers(0, 256, (3, 64, 64, 3), dtype=np.uint8)
    b = np.clip(a * 0.8 + 10, 0, 255).astype(np.uint8)
    got = realism.lpips(a, b)
    net = realism._alexnet(path, path.stat().st_mtime_ns)
    x, y = (torch.from_numpy(p).permute(0, 3, 1, 2).float() / 127.5 - 1 for p in (a, b))
    shift, scale = (torch.tensor(v)[:, None, None] for v in ([-0.030, -0.088, -0.188], [0.458, 0.448, 0.450]))
    x, y = (x - shift) / scale, (y - shift) / scale
    expected = 0
    with torch.inference_mode():
        for k, layer in enumerate(features):
            x, y = layer.requires_grad_(False)(x), layer(y)
            if k in (1, 4, 7, 9, 11):
                one, two = (v / v.norm(dim=1, keepdim=True).clamp_min(1e-9) for v in (x, y))
                weights = net.lins[(1, 4, 7, 9, 11).index(k)].model[-1].weight
                expected = expected + ((one - two) ** 2 * weights).sum(1).mean((1, 2))
    assert (got.shape, got.dtype) == ((3,), np.float64)
    assert np.allclose(got, expected.numpy(), rtol=1e-3)
    assert (got > 0).all()
    assert realism.lpips(a[:1], a[:1]).tolist() == [0]
