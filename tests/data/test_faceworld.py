"""The face world's public door: pictures, truth, sets, resume."""

import importlib.metadata
import importlib.util
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image

from lib.data.faceworld import KIND_RANGES, SetSpec, binary_region, orientation, render, render_set
from lib.data.table import read_table

PRODUCTS = ("full", "masked", "region", "straps", "occluder", "head")


@pytest.fixture(scope="module", autouse=True)
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def frontal():
    return render(range(10), range(10), 40, PRODUCTS, yaw=8, pitch=5, roll=5)


def test_shapes_dtypes_and_ranges(frontal):
    for name in PRODUCTS:
        value = getattr(frontal, name)
        assert value.dtype == torch.float32
        assert value.shape == (10, 3 if name in ("full", "masked") else 1, 40, 40)
        assert torch.isfinite(value).all()
        assert value.min() >= 0
        assert value.max() <= 1
    assert frontal.landmarks.shape == (10, 68, 2)
    assert frontal.landmarks.dtype == torch.float32
    assert frontal.pose.shape == (10, 3)
    assert frontal.pose[:, 0].abs().max() <= 8
    assert frontal.identity.tolist() == list(range(10))
    assert frontal.mask_colour.shape == (10, 3)
    assert set(frontal.mask_kind) <= {"surgical", "cloth", "cup"}
    assert frontal.light.dtype == torch.bool


def test_pictures_have_contrast_and_differ(frontal):
    assert (frontal.full.flatten(1).std(1) > 0.05).all()
    pictures = frontal.full.flatten(1)
    distance = torch.cdist(pictures, pictures) + torch.eye(10) * 1e6
    assert distance.min() > 3  # no two people look alike


def test_only_what_was_asked_is_rendered():
    out = render([1], [1], 32, what="full")
    assert out.full is not None
    assert out.masked is None
    assert out.region is None
    assert render([1], [1], 32, what=()).landmarks.shape == (1, 68, 2)


def test_a_picture_does_not_depend_on_its_batch():
    kw = {"size": 32, "what": PRODUCTS, "heterogeneity": 0.5, "yaw": 45}
    together = render([3, 4, 5, 6, 7], [13, 14, 15, 16, 17], **kw)
    for pick in ([0], [4, 2]):
        apart = render([3 + k for k in pick], [13 + k for k in pick], **kw)
        for name in (*PRODUCTS, "landmarks"):
            a, b = getattr(together, name)[pick], getattr(apart, name)
            assert torch.equal((a * 255).round(), (b * 255).round()), name


def test_sizes_that_are_no_multiple_of_the_tracers_blocks():
    odd = render([2], [2], 37, supersample=1.3)
    assert odd.full.shape == (1, 3, 37, 37)
    big = render([2], [2], 74, supersample=1)
    assert torch.allclose(odd.landmarks, (big.landmarks + 0.5) / 2 - 0.5, atol=1e-3)
    reduced = torch.nn.functional.avg_pool2d(big.full, 2)
    assert (reduced - odd.full).abs().mean() < 0.04


def test_region_is_where_masked_differs_from_full(frontal):
    changed = (frontal.full - frontal.masked).abs().amax(1) > 0.06
    worn = (frontal.region + frontal.straps)[:, 0] > 0.5
    union = (changed | worn).flatten(1).sum(1)
    iou = (changed & worn).flatten(1).sum(1) / union
    assert iou.median() > 0.75  # the rest is the mask's shadow, and cloth of the skin's brightness
    assert iou.min() > 0.5
    untouched = torch.nn.functional.max_pool2d(worn[:, None].float(), 9, 1, 4)[:, 0] == 0
    assert (frontal.full - frontal.masked).abs().amax(1)[untouched].mean() < 0.01


def test_mask_covers_mouth_and_nose_and_frees_eyes(frontal):
    points = frontal.landmarks.round().long().clamp(0, 39)
    for k in range(10):
        cloth = frontal.region[k, 0]
        assert all(cloth[points[k, j, 1], points[k, j, 0]] > 0.5 for j in (48, 54, 57, 33, 30))
        assert all(cloth[points[k, j, 1], points[k, j, 0]] < 0.5 for j in (36, 39, 42, 45, 19, 24))


def test_worn_below_the_nose():
    out = render(range(4), range(4), 40, ("region",), yaw=5, pitch=5, below_nose=1.0)
    points = out.landmarks.round().long()
    assert out.below_nose.all()
    for k in range(4):
        assert out.region[k, 0, points[k, 30, 1], points[k, 30, 0]] < 0.5
        assert out.region[k, 0, points[k, 57, 1], points[k, 57, 0]] > 0.5


def test_straps_show_on_frontal_faces(frontal):
    assert (frontal.straps.flatten(1).sum(1) > 1).float().mean() >= 0.8


def test_heterogeneity_brings_occluders():
    plain = render(range(6), range(6), 32, ("occluder",), heterogeneity=0.0)
    mixed = render(range(6), range(6), 32, ("occluder",), heterogeneity=1.0)
    assert plain.occluder.max() == 0
    assert not plain.occluded.any()
    assert mixed.occluder.mean() > 0.03
    seen = mixed.occluder.flatten(1).amax(1) > 0.5
    assert torch.equal(seen & mixed.occluded, seen)


def test_landmarks_are_on_the_head_and_in_anatomical_order(frontal):
    x, y = frontal.landmarks.unbind(-1)
    assert (y[:, 36:48].mean(1) < y[:, 30]).all()  # eyes above nose above mouth above chin
    assert (y[:, 30] < y[:, 51]).all()
    assert (y[:, 57] < y[:, 8]).all()
    assert (y[:, 17:27].mean(1) < y[:, 36:48].mean(1)).all()
    assert (x[:, 36] < x[:, 39]).all()  # left in the picture comes first
    assert (x[:, 39] < x[:, 42]).all()
    assert (x[:, 42] < x[:, 45]).all()
    assert (x[:, 0] < x[:, 8]).all()
    assert (x[:, 8] < x[:, 16]).all()
    inner = frontal.landmarks[:, 17:].round().long().clamp(0, 39)
    for k in range(10):
        assert frontal.head[k, 0][inner[k, :, 1], inner[k, :, 0]].min() > 0.5


def test_landmarks_turn_with_yaw():
    turned = render([5] * 12, range(12), 32, what=(), yaw=60, pitch=2, roll=2)
    nose = turned.landmarks[:, 30, 0] - turned.landmarks[:, [36, 45], 0].mean(1)
    assert torch.corrcoef(torch.stack([nose, turned.pose[:, 0]]))[0, 1] > 0.9


def test_orientation_codes():
    assert [orientation(v) for v in (-60, -30, 0, 30, 60)] == [1, 2, 3, 4, 5]


def test_binary_region_drops_specks_and_pinholes():
    coverage = np.zeros((20, 20), np.uint8)
    coverage[5:15, 5:15] = 255
    coverage[0, 0:3] = 255  # speck
    coverage[9, 9] = 0  # pinhole
    coverage[18:20, 0:2] = 255  # 4 px stay
    region = binary_region(coverage)
    assert region.dtype == bool
    assert region.sum() == 104
    assert np.array_equal(region, binary_region(coverage / 255.0))


@pytest.mark.parametrize(
    ("kwargs", "message"),
    [
        ({"ids": [1], "seeds": [1, 2]}, "equally many"),
        ({"ids": [-1], "seeds": [1]}, "non-negative"),
        ({"ids": [1], "seeds": [1], "what": ("fulll",)}, "fulll"),
        ({"ids": [1], "seeds": [1], "size": 8}, "size"),
        ({"ids": [1], "seeds": [1], "supersample": 9}, "supersample"),
        ({"ids": [1], "seeds": [1], "yaw": 120}, "yaw"),
        ({"ids": [1], "seeds": [1], "heterogeneity": 2.0}, "heterogeneity"),
        ({"ids": [1], "seeds": [1], "yow": 1}, "yow"),
    ],
)
def test_bad_arguments_are_named(kwargs, message):
    with pytest.raises(ValueError, match=message):
        render(**kwargs)


# ---- sets -------------------------------------------------------------------------------------------------------


def contents(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


def test_resumed_set_equals_uninterrupted_one(tmp_path, capsys):
    spec = SetSpec("A", 10, size=32, per_identity=2)
    whole = render_set(spec, tmp_path / "a", progress=False)
    before = contents(whole)
    assert {name.split("/")[0] for name in before} == {
        "full",
        "masked",
        "region",
        "faces.csv",
        "landmarks.csv",
        "set.json",
    }
    killed = render_set(spec, tmp_path / "b", progress=False)
    (killed / "set.json").unlink()
    for path in sorted(killed.rglob("*.png"))[::2]:
        path.unlink()
    stamp = {p: p.stat().st_mtime_ns for p in killed.rglob("*.png")}
    assert contents(render_set(spec, tmp_path / "b", progress=False)) == before
    assert all(p.stat().st_mtime_ns == t for p, t in stamp.items())  # what was there was not rendered again
    assert capsys.readouterr().err == ""


def test_set_A_tables(tmp_path):
    folder = render_set(SetSpec("A", 4, size=32, per_identity=2, seed=3), tmp_path, progress=False)
    faces, points = read_table(folder / "faces.csv"), pd.read_csv(folder / "landmarks.csv")
    assert faces.identity.tolist() == ["0", "0", "1", "1"]
    assert list(points.columns[:4]) == ["image", "face", "x0", "y0"]
    assert points.shape == (4, 2 + 136)
    for row, landmark in zip(faces.itertuples(), points.itertuples()):
        assert (folder / row.image).exists()
        x, y = np.array(landmark[3:]).reshape(68, 2).T
        assert row.x < x.min()
        assert x.max() < row.x + row.w
        assert row.y < y.min()
        assert y.max() < row.y + row.h
    pixels = np.asarray(Image.open(folder / "region/000000.png"))
    assert pixels.shape == (32, 32)
    assert pixels.max() == 255


def test_set_B_has_mafa_columns_and_other_people(tmp_path):
    spec = SetSpec("B", 6, size=32)
    folder = render_set(spec, tmp_path, progress=False)
    faces = pd.read_csv(folder / "faces.csv")
    assert set(faces.columns) >= {
        "x",
        "y",
        "w",
        "h",
        "occluder_type",
        "occlusion_degree",
        "orientation",
        "yaw",
        "pitch",
        "roll",
    }
    assert faces.identity.min() >= 1_000_000
    assert faces.occluder_type.isin([1, 2]).all()
    assert faces.occlusion_degree.isin([2, 3]).all()
    assert faces.orientation.equals(faces.yaw.map(orientation))
    assert KIND_RANGES["B"].yaw == 60
    assert len(list((folder / "masked").glob("*.png"))) == 6


def test_sets_A_and_B_cannot_share_people():
    with pytest.raises(ValueError, match="first_identity"):
        SetSpec("A", 10, first_identity=1_000_000)
    with pytest.raises(ValueError, match="first_identity"):
        SetSpec("B", 10, first_identity=0)
    with pytest.raises(ValueError, match="kind"):
        SetSpec("C", 10)
    with pytest.raises(ValueError, match="count"):
        SetSpec("A", 0)


def test_digest_follows_every_option():
    base = SetSpec("B", 6)
    assert base.digest() == SetSpec("B", 6).digest()
    others = [
        SetSpec("B", 7),
        SetSpec("B", 6, size=48),
        SetSpec("B", 6, seed=1),
        SetSpec("B", 6, yaw=10.0),
        SetSpec("A", 6),
    ]
    assert len({spec.digest() for spec in [base, *others]}) == 6


@pytest.mark.parametrize("kind", ["scenes_A", "scenes_B"])
def test_scenes_hold_several_people(tmp_path, kind):
    folder = render_set(SetSpec(kind, 2, size=48, supersample=1), tmp_path, progress=False)
    faces, points = pd.read_csv(folder / "faces.csv"), pd.read_csv(folder / "landmarks.csv")
    assert faces.groupby("image").size().between(2, 5).all()
    assert faces.identity.is_unique
    assert len(points) == len(faces)
    assert (faces.occlusion_degree == (-1 if kind == "scenes_A" else 3)).all()
    nose = points[["x30", "y30"]].to_numpy()
    assert (nose > 0).all()
    assert (nose < 48).all()


# ---- a photo-trained detector accepts the faces --------------------------------------------------------------------


def dlib_model(name: str) -> Path:
    spec = importlib.util.find_spec("face_recognition_models")  # finds the folder, executes nothing
    if spec is None or not spec.submodule_search_locations:
        pytest.skip("face_recognition_models is not installed")
    return Path(spec.submodule_search_locations[0]) / "models" / name


def test_dlib_detects_the_faces_and_agrees_on_the_landmarks():
    dlib = pytest.importorskip("dlib")
    detect = dlib.get_frontal_face_detector()
    predict = dlib.shape_predictor(str(dlib_model("shape_predictor_68_face_landmarks.dat")))
    out = render(range(900, 910), range(10), 128, "full", supersample=1, yaw=20)
    pixels = (out.full.permute(0, 2, 3, 1) * 255).round().byte().numpy()
    errors = []
    for picture, truth in zip(pixels, out.landmarks.numpy()):
        large = np.asarray(Image.fromarray(picture).resize((256, 256), Image.Resampling.BICUBIC))
        boxes = detect(large, 0)
        if not boxes:
            continue
        shape = predict(large, max(boxes, key=lambda box: box.area()))
        found = (np.array([(p.x, p.y) for p in shape.parts()]) + 0.5) / 2 - 0.5
        errors.append(np.linalg.norm(found - truth, axis=1).mean() / np.linalg.norm(truth[36] - truth[45]))
    assert len(errors) >= 9
    assert np.mean(errors) < 0.08  # mean error over outer-eye distance; 60 other people gave 0.058


@pytest.mark.gpu
def test_gpu_agrees_with_cpu():
    if not torch.cuda.is_available():
        pytest.skip("no CUDA device")
    cpu = render([1, 2], [1, 2], 48)
    gpu = render([1, 2], [1, 2], 48, device="cuda")
    assert (cpu.masked - gpu.masked.cpu()).abs().mean() < 0.01  # silhouette pixels may differ
    assert torch.allclose(cpu.landmarks, gpu.landmarks.cpu(), atol=0.05)


def test_other_masks_on_the_same_face():
    kw = {"size": 32, "what": ("full", "masked", "head"), "mask_kinds": (1, 0, 0)}
    plain = render([5], [7], **kw)
    others = render([5] * 3, [7] * 3, wear_seeds=[7, 8, 9], **kw)
    for name in ("full", "head"):
        assert (getattr(others, name) - getattr(plain, name)).abs().max() < 1e-3
    assert torch.equal((others.masked[0] * 255).round(), (plain.masked[0] * 255).round())
    assert (others.masked[1:] - others.masked[0]).abs().flatten(1).amax(1).min() > 0.05
    assert len({tuple(colour.tolist()) for colour in others.mask_colour}) == 3
    with pytest.raises(ValueError, match="1 and 1 and 2"):
        render([5], [7], wear_seeds=[1, 2])
