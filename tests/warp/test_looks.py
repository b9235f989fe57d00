from dataclasses import asdict

import numpy as np
import pytest
from PIL import Image

from lib.warp import WarpParams, apply_warp
from lib.warp.looks import TEXTURES, MixItem, draw_item, parse_colour, parse_mix, reference, texture_sheet
from lib.warp.templates import template


def test_colours():
    assert parse_colour("#8fb8d8") == (143, 184, 216)
    assert parse_colour("navy") == (0, 0, 128)
    with pytest.raises(ValueError, match=r"colour 'blueish': expected #rrggbb or a CSS name"):
        parse_colour("blueish")


def test_a_mix_in_words():
    mix = parse_mix("surgical_blue=5, cloth/floral=2, n95#333333, kn95#navy/dots:white,red=0.5,gas")
    assert [(m.template, m.colour, m.texture, m.weight) for m in mix] == [
        ("surgical_blue", "", "", 5.0),
        ("cloth", "", "floral", 2.0),
        ("n95", "#333333", "", 1.0),
        ("kn95", "navy", "dots:white,red", 0.5),
        ("gas", "", "", 1.0),
    ]
    assert parse_mix([asdict(m) for m in mix]) == mix
    own = parse_mix("my mask.json=2, packs/masks/masks.cfg#N95")
    assert [m.template for m in own] == ["my mask.json", "packs/masks/masks.cfg#N95"]


@pytest.mark.parametrize(("text", "told"), [
    ("cloth=many", "weight after = must be a number"),
    ("cloth=-1", "weight must be a number of at least 0"),
    ("cloth=0", "no mask with a weight above 0"),
    ("cloth/plaid", "texture 'plaid': neither one of checks"),
    ("cloth#nocolour", "colour 'nocolour'"),
    ("cloth/", "nothing after the # or /"),
    ("cloth/dots:red", "two colours"),
    ("[{", "not JSON"),
    ('[{"mask": "cloth"}]', "expected template"),
    ("=2", "names no template"),
])  # fmt: skip
def test_what_is_wrong_with_a_mix_is_told(text, told):
    with pytest.raises(ValueError, match=told):
        parse_mix(text)


def test_items_are_drawn_by_weight_with_one_draw_each():
    mix = parse_mix("surgical_blue=3, n95=1, kn95=0")
    rng, other = np.random.default_rng(0), np.random.default_rng(0)
    names = [draw_item(rng, mix).template for _ in range(4000)]
    other.random(4000)
    assert rng.random() == other.random()
    assert names.count("kn95") == 0
    assert 0.70 < names.count("surgical_blue") / 4000 < 0.80


@pytest.mark.parametrize("name", TEXTURES)
def test_built_in_textures_are_seamless_and_two_coloured(name):
    sheet = texture_sheet(name, (384, 512))
    assert sheet.shape == (384, 512, 3)
    assert sheet.std(axis=(0, 1)).max() > 10
    tile = 96
    np.testing.assert_array_equal(sheet[:tile], sheet[tile : 2 * tile])
    step = np.abs(np.diff(sheet.astype(int), axis=1)).mean(axis=(0, 2))
    assert step[tile - 1] <= step.max(), "no seam where tiles meet"
    with pytest.raises(ValueError, match="read-only"):
        sheet[0, 0] = 1


def test_a_picture_as_texture(tmp_path):
    Image.new("RGB", (64, 48), (200, 30, 40)).save(tmp_path / "red.png")
    assert (texture_sheet(str(tmp_path / "red.png"), (96, 128)) == (200, 30, 40)).all()
    (tmp_path / "bad.png").write_text("no picture")
    with pytest.raises(ValueError, match=r"texture .*bad\.png"):
        texture_sheet(str(tmp_path / "bad.png"), (96, 128))
    with pytest.raises(ValueError, match="scale"):
        texture_sheet("dots", (96, 128), 0)


def test_a_mask_takes_its_colour_with_the_weight_and_keeps_its_folds(plain_face):
    from dataclasses import replace

    from lib.warp import PRESETS

    style = PRESETS["study"].style
    grey = np.full((256, 256, 3), 128, np.uint8)

    def cloth(**changes):
        warped = apply_warp(grey, plain_face(), WarpParams(style=style, **changes))
        return warped.image[warped.alpha == 1].astype(float)

    red = cloth(colour="#b01020")
    np.testing.assert_allclose(np.median(red, axis=0), (0xB0, 0x10, 0x20), atol=9)
    assert red[:, 0].std() > 3, "pleats stay"
    half = np.median(cloth(colour="#b01020", colour_weight=0.5), axis=0)
    own = np.median(cloth(), axis=0)
    np.testing.assert_allclose(half, (own + np.median(red, axis=0)) / 2, atol=6)
    assert cloth(texture="dots").std(axis=0).max() > 20
    assert replace(MixItem("a"), colour="x").to_dict()["colour"] == "x"


def test_what_takes_no_dye_keeps_its_colour():
    mask = template("gas")
    assert (mask.dye < 20).any()
    assert 0.1 < reference(mask) < 0.5
