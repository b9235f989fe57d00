import dataclasses
import json

import numpy as np
import pytest
from PIL import Image

from lib.warp import geometry, wear
from lib.warp.templates import blue_surgical
from lib.warp.wear import WarpConfig, WarpError, WarpParams, apply_warp, sample_warp_params

TRANSFORMS = wear.TRANSFORMS


def iou(a, b):
    return (a & b).sum() / (a | b).sum()


@pytest.mark.parametrize("transform", TRANSFORMS)
@pytest.mark.parametrize("shape", [(256, 256), (300, 219), (64, 64)])
def test_shapes_kinds_and_ranges(plain_face, noise_picture, transform, shape):
    picture = np.ascontiguousarray(noise_picture(max(shape))[: shape[0], : shape[1]])
    warped = apply_warp(picture, plain_face(min(shape)), WarpParams(transform=transform))
    assert warped.image.shape == picture.shape
    assert warped.image.dtype == np.uint8
    assert warped.alpha.shape == shape
    assert warped.alpha.dtype == np.float32
    assert warped.alpha.min() == 0
    assert 0.99 < warped.alpha.max() <= 1
    x, y, w, h = warped.box
    rows, columns = np.nonzero(warped.alpha)
    assert (x, y, x + w - 1, y + h - 1) == (columns.min(), rows.min(), columns.max(), rows.max())


@pytest.mark.parametrize("transform", TRANSFORMS)
@pytest.mark.parametrize("yaw", [0, 25])
def test_nothing_outside_the_mask_changes_and_the_input_stays(plain_face, noise_picture, transform, yaw):
    picture = noise_picture(256)
    before = picture.copy()
    picture.flags.writeable = False
    warped = apply_warp(picture, plain_face(yaw_deg=yaw), WarpParams(transform=transform))
    outside = warped.alpha == 0
    assert np.array_equal(warped.image[outside], before[outside])
    assert np.array_equal(picture, before)
    assert (warped.image != before).any(axis=-1)[warped.alpha > 0.5].mean() > 0.95


@pytest.mark.parametrize("transform", TRANSFORMS)
def test_template_on_its_own_key_points_is_itself(monkeypatch, transform):
    """The identity: goals are the template's own points, so the picture drawn is the template's."""
    template = blue_surgical(512)
    monkeypatch.setattr(geometry, "mask_points", lambda landmarks: template.points.astype(np.float64))
    monkeypatch.setattr(wear, "_check_landmarks", lambda landmarks, params: landmarks)
    grey = np.full((384, 512, 3), 90, np.uint8)
    warped = apply_warp(grey, np.zeros((68, 2)), WarpParams(transform=transform, feather_px=0.0))
    alpha = template.rgba[..., 3:] / 255.0
    expected = grey * (1 - alpha) + template.rgba[..., :3] * alpha
    assert np.abs(warped.image - expected).max() <= 1.01
    assert np.abs(warped.alpha - alpha[..., 0]).max() < 0.01


def test_homography_oracle_by_inverse_warping_with_skimage(plain_face):
    from skimage.transform import ProjectiveTransform
    from skimage.transform import warp as skimage_warp

    template = blue_surgical(512)
    face = plain_face(560, yaw_deg=15, roll_deg=8)  # mask about as large as the template, so no prefilter is at work
    grey = np.full((560, 560, 3), 128, np.uint8)
    warped = apply_warp(grey, face, WarpParams(transform="homography", feather_px=0.0))
    inverse = ProjectiveTransform.from_estimate(geometry.mask_points(face), template.points)
    alpha = skimage_warp(template.rgba[..., 3] / 255.0, inverse, output_shape=(560, 560), order=1)
    assert iou(warped.alpha > 0.5, alpha > 0.5) > 0.99


def test_tps_carries_key_points_to_the_face(plain_face):
    """A dot painted at a key point appears at its goal: the outline meets the jaw."""
    face = plain_face(512, yaw_deg=20)
    warped = apply_warp(np.zeros((512, 512, 3), np.uint8), face)
    for x, y in geometry.mask_points(face):
        x, y = round(x), round(y)
        around = warped.alpha[y - 4 : y + 5, x - 4 : x + 5]
        assert around.min() < 0.5 < around.max()


@pytest.mark.parametrize("transform", TRANSFORMS)
def test_twice_the_picture_gives_twice_the_mask(plain_face, transform):
    small, large = np.full((256, 256, 3), 60, np.uint8), np.full((512, 512, 3), 60, np.uint8)
    face = plain_face(256, yaw_deg=10)
    one = apply_warp(small, face, WarpParams(transform=transform))
    two = apply_warp(large, (face + 0.5) * 2 - 0.5, WarpParams(transform=transform))
    reduced = two.alpha.reshape(256, 2, 256, 2).mean(axis=(1, 3))
    assert iou(one.alpha > 0.5, reduced > 0.5) > 0.98
    colours = two.image.reshape(256, 2, 256, 2, 3).mean(axis=(1, 3))
    assert np.abs(one.image - colours).mean() < 1.0


@pytest.mark.parametrize("transform", TRANSFORMS)
def test_a_mirrored_face_gets_the_mirrored_mask(plain_face, mirrored, noise_picture, transform):
    picture, face = noise_picture(256), plain_face(yaw_deg=22, roll_deg=9)
    params = WarpParams(transform=transform)
    one = apply_warp(picture, face, params)
    two = apply_warp(np.ascontiguousarray(picture[:, ::-1]), mirrored(face, 256), params)
    assert np.abs(two.alpha[:, ::-1] - one.alpha).max() < 0.01
    assert np.abs(two.image[:, ::-1].astype(int) - one.image).max() <= 2


def test_edge_has_no_bright_or_dark_fringe(plain_face):
    """Blending with premultiplied alpha stays between cloth and skin, channel by channel."""
    skin = np.full((256, 256, 3), (200, 150, 120), np.uint8)
    warped = apply_warp(skin, plain_face())
    cloth = warped.image[warped.alpha == 1].astype(int)
    low = np.minimum(cloth.min(axis=0), 120)
    high = np.maximum(cloth.max(axis=0), 200)
    edge = warped.image[(warped.alpha > 0) & (warped.alpha < 1)].astype(int)
    assert len(edge) > 200
    assert (edge >= low - 1).all()
    assert (edge <= high + 1).all()


def test_feather_softens_the_edge_in_proportion_to_the_face(plain_face):
    def softness(size, feather):
        alpha = apply_warp(np.zeros((size, size, 3), np.uint8), plain_face(size), WarpParams(feather_px=feather)).alpha
        return ((alpha > 0.05) & (alpha < 0.95)).sum() / (alpha > 0.5).sum() ** 0.5

    assert softness(256, 3.0) > 1.5 * softness(256, 1.0)
    assert softness(512, 4.0) > 1.6 * softness(256, 4.0)  # in pixels of each picture
    assert softness(512, 4.0) < 2.4 * softness(256, 4.0)


def test_a_large_face_in_strips_equals_one_piece(plain_face, noise_picture, monkeypatch):
    picture, face = noise_picture(300), plain_face(300)
    whole = apply_warp(picture, face)
    monkeypatch.setattr(wear, "_STRIP_PIXELS", 2000)
    strips = apply_warp(picture, face)
    assert np.abs(whole.image.astype(int) - strips.image).max() <= 1
    assert np.abs(whole.alpha - strips.alpha).max() < 1e-4


def test_parts_beyond_the_border_are_cut_off(plain_face, noise_picture):
    picture = noise_picture(400)
    face = plain_face(256) + np.array([70, 60])
    whole = apply_warp(picture, face)
    cut = apply_warp(np.ascontiguousarray(picture[60:220, 130:400]), face - [130, 60])
    assert iou(cut.alpha > 0.5, whole.alpha[60:220, 130:400] > 0.5) > 0.995


def test_two_faces_one_after_the_other(plain_face, noise_picture):
    picture = np.concatenate([noise_picture(256), noise_picture(256, seed=1)], axis=1)
    first = apply_warp(picture, plain_face())
    second = apply_warp(first.image, plain_face() + np.array([256, 0]))
    assert np.array_equal(second.image[:, :256], first.image[:, :256])
    assert (second.alpha[:, :256] == 0).all()


# --- a real photograph


@pytest.mark.parametrize("size", [512, 64])
@pytest.mark.parametrize("transform", TRANSFORMS)
def test_mask_covers_mouth_and_chin_but_not_the_eyes(astronaut, astronaut_landmarks, size, transform):
    picture = np.asarray(Image.fromarray(astronaut).resize((size, size), Image.Resampling.LANCZOS))
    landmarks = (astronaut_landmarks + 0.5) * (size / 512) - 0.5
    alpha = apply_warp(picture, landmarks, WarpParams(transform=transform)).alpha

    def cover(points):
        x, y = np.rint(points).astype(int).T
        return alpha[y, x]

    assert cover(landmarks[48:68]).min() > 0.95
    assert cover(landmarks[30:36]).min() > 0.95
    assert cover(landmarks[8:9]).min() > 0.5
    assert cover(landmarks[36:48]).max() < 0.02  # at 64² the eyes end a pixel and a half above the mask
    assert cover(landmarks[17:27]).max() == 0


# --- parameters


def test_parameters_through_json_give_the_same_bytes(plain_face, noise_picture):
    params = sample_warp_params(np.random.default_rng(5), WarpConfig(misplaced_share=1.0))
    again = WarpParams.from_dict(json.loads(json.dumps(params.to_dict())))
    assert again == params
    one, two = (apply_warp(noise_picture(256), plain_face(), p) for p in (params, again))
    assert one.image.tobytes() == two.image.tobytes()
    assert one.alpha.tobytes() == two.alpha.tobytes()
    assert one.box == two.box


def test_same_seed_same_draw_and_other_seed_another():
    draw = [sample_warp_params(np.random.default_rng(seed)) for seed in (3, 3, 4)]
    assert draw[0] == draw[1] != draw[2]


def test_every_draw_takes_the_same_share_of_the_stream():
    never, always = np.random.default_rng(0), np.random.default_rng(0)
    sample_warp_params(never, WarpConfig(misplaced_share=0.0))
    sample_warp_params(always, WarpConfig(misplaced_share=1.0))
    assert never.random() == always.random()


def test_jitter_is_small_and_misplacement_rare():
    rng = np.random.default_rng(0)
    draws = [sample_warp_params(rng) for _ in range(2000)]
    assert 0.01 < np.mean([d.misplaced for d in draws]) < 0.035
    gains = np.array([d.gain for d in draws])
    assert 0.9 < gains.min() < gains.max() < 1.1
    usual = np.array([d.shift for d in draws if not d.misplaced])
    rare = np.array([d.shift for d in draws if d.misplaced])
    assert np.abs(usual).max() < 0.02
    assert rare.std() > 4 * usual.std()


def test_shift_rotation_scale_and_gain_do_what_they_say(plain_face):
    picture, face = np.full((512, 512, 3), 100, np.uint8), plain_face(512)

    def centre(warped):
        return np.argwhere(warped.alpha > 0.5).mean(axis=0)[::-1]

    plain = apply_warp(picture, face)
    goal = geometry.mask_points(face)
    width = np.linalg.norm(goal[4] - goal[0])
    moved = centre(apply_warp(picture, face, WarpParams(shift=(0.1, -0.05)))) - centre(plain)
    np.testing.assert_allclose(moved, [0.1 * width, -0.05 * width], atol=0.6)
    larger = apply_warp(picture, face, WarpParams(scale=1.1))
    assert (larger.alpha.sum() / plain.alpha.sum()) == pytest.approx(1.21, rel=0.01)
    turned = apply_warp(picture, face, WarpParams(rotate_deg=10))
    (x0, y0), (x1, y1) = wear._place(goal, WarpParams(rotate_deg=10))[[0, 4]]
    assert np.rad2deg(np.arctan2(y1 - y0, x1 - x0)) == pytest.approx(10, abs=0.01)  # y down: clockwise as seen
    assert iou(turned.alpha > 0.5, plain.alpha > 0.5) < 0.95
    darker = apply_warp(picture, face, WarpParams(gain=(0.5, 1.0, 1.0)))
    cloth = plain.alpha == 1
    np.testing.assert_allclose(darker.image[cloth][:, 0], plain.image[cloth][:, 0] * 0.5, atol=1)
    assert np.array_equal(darker.image[..., 1:], plain.image[..., 1:])
    bright = apply_warp(picture, face, WarpParams(gain=(9.0, 9.0, 9.0)))
    assert (bright.image[cloth] == 255).all()  # saturates, does not wrap round


def test_unknown_parameters_are_named():
    with pytest.raises(ValueError, match="unknown colour"):
        WarpParams.from_dict({"colour": "red"})
    with pytest.raises(ValueError, match="gain needs 3"):
        WarpParams.from_dict({"gain": [1.0, 1.0]})
    with pytest.raises(ValueError, match="expected one of tps, homography, got 'affine'"):
        WarpParams(transform="affine")
    with pytest.raises(ValueError, match="blue_surgical"):
        WarpConfig(template="red")


def test_parameters_are_frozen():
    with pytest.raises(dataclasses.FrozenInstanceError):
        WarpParams().scale = 2.0


# --- refusals


def broken(face, kind):
    face = face.copy()
    if kind == "nan":
        face[5, 0] = np.nan
    elif kind == "inf":
        face[8] = np.inf
    elif kind == "one place":
        face[:] = 100.0
    elif kind == "tiny":
        face = face * 0.02 + 50
    elif kind == "left of the picture":
        face[:, 0] -= 2000
    elif kind == "far below":
        face[:, 1] += 1e7
    elif kind == "67 points":
        face = face[:67]
    elif kind == "mirrored order":
        face[:, 0] = 255 - face[:, 0]
    elif kind == "upside-down chin":
        face[:17, 1] = 2 * face[27, 1] - face[:17, 1] - 40
    return face


@pytest.mark.parametrize(
    ("kind", "reason"),
    [
        ("nan", "1 of 68 points are not finite"),
        ("inf", "1 of 68 points are not finite"),
        ("one place", "face too small: the eyes are 0.0 px apart"),
        ("tiny", "face too small"),
        ("left of the picture", "outside the picture"),
        ("far below", "outside the picture"),
        ("67 points", "expected 68 points"),
        ("mirrored order", "fold"),
        ("upside-down chin", "fold"),
    ],
)
@pytest.mark.parametrize("transform", TRANSFORMS)
def test_landmarks_that_are_no_face(plain_face, noise_picture, kind, reason, transform):
    with pytest.raises(WarpError, match=reason) as caught:
        apply_warp(noise_picture(256), broken(plain_face(), kind), WarpParams(transform=transform))
    assert "\n" not in caught.value.reason
    assert caught.value.reason == str(caught.value)


def test_turned_too_far_is_told_with_the_limit(plain_face, noise_picture):
    face = plain_face(yaw_deg=28)
    turn = abs(geometry.face_turn(face))
    apply_warp(noise_picture(256), face, WarpParams(max_turn=turn + 0.01))
    with pytest.raises(WarpError, match="face turned too far") as caught:
        apply_warp(noise_picture(256), face, WarpParams(max_turn=turn - 0.01))
    assert f"limit {turn - 0.01:g}" in caught.value.reason


@pytest.mark.parametrize(
    "picture",
    [np.zeros((64, 64), np.uint8), np.zeros((64, 64, 4), np.uint8), np.zeros((64, 64, 3), np.float32), [[1]]],
)
def test_other_pictures_are_refused(plain_face, picture):
    with pytest.raises(ValueError, match=r"expected uint8 \[H, W, 3\]"):
        apply_warp(picture, plain_face(64))
