import numpy as np
import pytest
import torch
import torch.nn.functional as F

from lib.warp import light


def window(n=44, tone=(0.72, 0.56, 0.48)):
    y, x = torch.meshgrid(torch.linspace(-1, 1, n), torch.linspace(-1, 1, n), indexing="ij")
    cover = ((x**2 + y**2) < 0.7).float()[None, None]
    return torch.tensor(tone).view(1, 3, 1, 1).expand(1, 3, n, n).clone(), cover, x


def middle(gain):
    return gain[..., 4:8, 4:8].mean((2, 3))


def test_flat_light_gives_a_flat_gain_and_a_ramp_its_ramp():
    photo, cover, x = window()
    flat = light.face_light(photo, cover)
    assert flat.shape == (1, 3, light.NODES, light.NODES)
    assert float((flat / flat.mean((2, 3), keepdim=True) - 1).abs().max()) < 0.02
    ramp = light.face_light(photo * (1 - 0.4 * x), cover)
    lum = ramp.mean(1)[0]
    assert float(lum[6, 3] / lum[6, 8]) > 1.2
    assert float(lum[6, 3]) > float(lum[6, 6]) > float(lum[6, 8])


def test_mirrored_light_gives_the_mirrored_gain_and_a_batch_equals_one_by_one():
    photo, cover, x = window()
    torch.manual_seed(0)
    photo = photo * (1 - 0.3 * x) * (1 + 0.05 * torch.randn(44, 44))
    one = light.face_light(photo, cover)
    two = light.face_light(photo.flip(3), cover.flip(3)).flip(3)
    torch.testing.assert_close(one, two, atol=1e-4, rtol=1e-4)
    both = light.face_light(torch.cat([photo, photo.flip(3)]), torch.cat([cover, cover.flip(3)]))
    assert torch.equal(both[:1], one)


def test_lips_and_nostrils_leave_no_ghost():
    photo, cover, _ = window()
    clean = light.face_light(photo, cover)
    photo[:, :, 25:28, 17:27] *= 0.45
    photo[:, :, 15:17, 18:20] *= 0.3
    assert float((light.face_light(photo, cover) / clean - 1).abs().max()) < 0.06


def test_what_lies_beside_the_face_does_not_leak_in():
    photo, cover, x = window()
    clean = light.face_light(photo, cover)
    changed = torch.where(cover > 0, photo, torch.where(x < 0, 1.0, 0.0))
    ratio = light.face_light(changed, cover) / clean
    assert float((middle(ratio) - 1).abs().max()) < 0.03


def test_dark_skin_in_good_light_gets_nearly_the_mask_of_fair_skin():
    fair, cover, _ = window()
    dark, _, _ = window(tone=(0.42, 0.30, 0.25))
    bright = torch.where(cover > 0, dark, 0.9)  # the picture has something bright in it: it is not underexposed
    gain = float((middle(light.face_light(bright, cover)) / middle(light.face_light(fair, cover))).mean())
    assert 0.85 < gain < 1.0
    night = light.face_light(dark * 0.4, cover)  # and a dark picture is dark
    assert float(middle(night).mean()) < 0.6 * float(middle(light.face_light(fair, cover)).mean())


def test_a_warm_cast_passes_on_in_part():
    photo, cover, _ = window()
    warm = light.face_light(photo * torch.tensor([1.1, 1.0, 0.7]).view(1, 3, 1, 1), cover)
    plain = light.face_light(photo, cover)
    shift = (middle(warm) / middle(plain))[0]
    assert 0.8 < float(shift[2] / shift[1]) < 0.99
    assert float(shift[0] / shift[1]) > 1.0


@pytest.mark.parametrize("photo", [0.0, 1.0])
@pytest.mark.parametrize("cover", [0.0, 1.0])
@pytest.mark.parametrize("size", [3, 7, 44])
def test_nothing_breaks_on_empty_or_even_pictures(photo, cover, size):
    picture, mask = torch.full((2, 3, size, size), photo), torch.full((2, 1, size, size), cover)
    gain = light.face_light(picture, mask)
    assert gain.isfinite().all()
    assert light.GAIN_RANGE[0] <= float(gain.min()) <= float(gain.max()) <= light.GAIN_RANGE[1]
    assert light.grain(picture, mask).isfinite().all()
    assert light.softness(picture, mask).isfinite().all()
    assert light.contact_shadow(mask, 0.5, 30.0).isfinite().all()


@pytest.mark.parametrize("sigma", [2.0, 6.0, 15.0])
def test_grain_is_measured(sigma):
    rng = np.random.default_rng(0)
    y, x = np.mgrid[:160, :160]
    skin = 140 + 30 * np.sin(x / 40) + 20 * np.cos(y / 55)
    noisy = torch.tensor(skin + rng.normal(0, sigma, skin.shape)).float().expand(1, 3, 160, 160)
    found = float(light.grain(noisy, torch.ones(1, 1, 40, 40)))
    assert 0.6 * sigma < found < 1.3 * sigma


def test_softness_grows_with_blur():
    from scipy.ndimage import gaussian_filter
    from skimage.data import astronaut

    picture = astronaut()[:220, 120:340].astype(np.float32)
    found = []
    for sigma in (0.0, 1.0, 2.0, 4.0):
        blurred = gaussian_filter(picture, (sigma, sigma, 0)) if sigma else picture
        found.append(float(light.softness(torch.tensor(blurred).permute(2, 0, 1)[None], torch.ones(1, 1, 9, 9))))
    assert found[0] < 0.6
    assert found == sorted(found)
    assert 0.5 < found[1] < 1.7
    assert 1.3 < found[2] < 3.0
    assert 2.5 < found[3] < 6.0


def test_shadow_lies_outside_below_more_than_above_and_ends():
    cover = torch.zeros(1, 1, 48, 48)
    cover[:, :, 14:34, 10:38] = 1
    shadow = light.contact_shadow(cover, 0.5, 28.0)[0, 0]
    assert float(shadow[35, 24]) > 1.5 * float(shadow[12, 24])
    assert float(shadow[45:].max()) == 0
    assert float(shadow.max()) <= 0.5 + 1e-6
    assert float(light.contact_shadow(cover, 0.0, 28.0).max()) == 0


def test_the_families_gains():
    photo, cover, _ = window()
    whole = F.interpolate(photo, size=60) * 0.5
    dark, fair = (float(light.picture_gain("picture", p, photo, cover, 0.7)) for p in (whole, 2 * whole))
    assert dark < fair < 1
    assert float(light.picture_gain("face", whole, photo, cover, 0.59)) == pytest.approx(1.0, abs=0.03)
    with pytest.raises(ValueError, match="expected picture or face"):
        light.picture_gain("sun", whole, photo, cover, 0.7)


def test_a_black_and_white_picture_gets_a_grey_mask_and_a_coloured_one_keeps_its_colour():
    photo, _, _ = window()
    grey = photo.mean(1, keepdim=True).expand_as(photo)
    tinted = grey * torch.tensor([1.01, 1.0, 1.0]).view(1, 3, 1, 1)
    share = light.saturation(torch.cat([grey, tinted, photo]))
    assert share[0] == 0
    assert 0 <= share[1] < 0.5
    assert share[2] == 1
    cloth = torch.rand(2, 3, 5, 5, generator=torch.Generator().manual_seed(0))
    faded = light.fade(cloth, torch.tensor([0.0, 1.0]))
    assert float((faded[0].amax(0) - faded[0].amin(0)).max()) < 1e-6
    assert torch.equal(faded[1], cloth[1])
    shades = torch.tensor([0.299, 0.587, 0.114]).view(1, 3, 1, 1)
    torch.testing.assert_close((faded * shades).sum(1), (cloth * shades).sum(1))


def test_a_bright_mask_keeps_its_folds_and_its_cast():
    gain = torch.linspace(0.3, 1.45, 24).view(1, 4, 6) * torch.tensor([1.0, 0.98, 0.92]).view(3, 1, 1)
    for brightest in (0.2, 0.9, 1.0):
        under = light.shoulder(gain, brightest)
        lit = under[0].flatten() * brightest
        assert (lit.diff() > 0).all(), "more light is still brighter"
        assert float(lit.max()) < 0.98
        dim = gain[0] * brightest < 0.86
        torch.testing.assert_close(under[:, dim], gain[:, dim])
        torch.testing.assert_close(under / under[:1], gain / gain[:1])
