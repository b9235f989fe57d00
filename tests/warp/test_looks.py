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
    mix = parse_mix("cloth#aa3355@0.6/stripes@0.5=2, n95#navy@.25, kn95/dots:white,red@0.5")
    assert [(m.colour, m.colour_weight, m.texture, m.texture_weight, m.weight) for m in mix] == [
        ("#aa3355", 0.6, "stripes", 0.5, 2.0),
        ("navy", 0.25, "", 1.0, 1.0),
        ("", 1.0, "dots:white,red", 0.5, 1.0),
    ]
    assert parse_mix([m.to_dict() for m in mix]) == mix
    own = parse_mix("my mask.json=2, packs/masks/masks.cfg#N95")
    assert [m.template for m in own] == ["my mask.json", "packs/masks/masks.cfg#N95"]
    own = parse_mix("my/own.json#ff0000@0.5/dots:red,white@0.25=3, own.json/stripes, own.json#navy")
    assert [(m.template, m.colour, m.colour_weight, m.texture, m.texture_weight, m.weight) for m in own] == [
        ("my/own.json", "#ff0000", 0.5, "dots:red,white", 0.25, 3.0),
        ("own.json", "", 1.0, "stripes", 1.0, 1.0),
        ("own.json", "navy", 1.0, "", 1.0, 1.0),
    ]


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
    ("=2", "'=2' names no template"),
    ("#navy", "'#navy' names no template"),
    ("", "it names no mask"),
    (" , ", "it names no mask"),
    ("cloth#navy@1.5", "cloth: the share of its colour must be from 0 to 1, got 1.5"),
    ("cloth/dots@-1", "cloth: the share of its texture must be from 0 to 1, got -1"),
    ("cloth/dots@nan", "share of its texture"),
    ("cloth#@0.5", "nothing after the # or /"),
])  # fmt: skip
def test_what_is_wrong_with_a_mix_is_told(text, told):
    with pytest.raises(ValueError, match=told):
        parse_mix(text)


def test_a_pack_without_a_name_is_told_its_names(tmp_path):
    (tmp_path / "masks.cfg").write_text("[N95]\ntemplate: N95.png\n[N95_left]\n[cloth]\ntemplate: cloth.png\n[none]\n")
    file = f"{tmp_path}/masks.cfg"
    with pytest.raises(ValueError, match=r"mix: .*masks\.cfg: which of its masks\? .*masks\.cfg#NAME; .* N95, cloth$"):
        parse_mix(f"{file}=2, n95")
    with pytest.raises(ValueError, match=r"which of its masks\? Add #NAME, one of N95, cloth$"):
        template(file)
    with pytest.raises(ValueError, match="no MaskTheFace pack there"):
        parse_mix("none/masks.cfg")


def test_a_file_may_have_an_at_in_its_name(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Image.new("RGB", (8, 8)).save("logo@2x.png")
    assert [(m.texture, m.texture_weight) for m in parse_mix("cloth/logo@2x.png, cloth/logo@2x.png@0.5")] == [
        ("logo@2x.png", 1.0),
        ("logo@2x.png", 0.5),
    ]


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
    assert sheet.shape == (384, 512, 4)
    assert sheet[..., :3].std(axis=(0, 1)).max() > 10
    assert (sheet[..., 3] == 255).all()
    tile = 96
    np.testing.assert_array_equal(sheet[:tile], sheet[tile : 2 * tile])
    step = np.abs(np.diff(sheet.astype(int), axis=1)).mean(axis=(0, 2))
    assert step[tile - 1] <= step.max(), "no seam where tiles meet"
    with pytest.raises(ValueError, match="read-only"):
        sheet[0, 0] = 1


def test_a_picture_as_texture(tmp_path):
    Image.new("RGB", (64, 48), (200, 30, 40)).save(tmp_path / "red.png")
    assert (texture_sheet(str(tmp_path / "red.png"), (96, 128)) == (200, 30, 40, 255)).all()
    Image.new("RGBA", (64, 48), (200, 100, 40, 51)).save(tmp_path / "faint.png")
    assert (texture_sheet(str(tmp_path / "faint.png"), (96, 128), ground="navy") == (40, 20, 8, 51)).all()
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


@pytest.mark.parametrize("name", TEXTURES)
def test_a_texture_is_printed_on_the_chosen_colour(plain_face, name):
    """The colour was dropped wherever there was a texture too."""
    from lib.warp import PRESETS

    def worn(**changes):
        params = WarpParams("cloth", PRESETS["study"].style, **changes)
        warped = apply_warp(np.full((256, 256, 3), 128, np.uint8), plain_face(), params)
        return warped.image[warped.alpha == 1].astype(float)

    plain, both = worn(colour="#aa3355"), worn(colour="#aa3355", texture=name)
    ground = np.abs(both - plain).max(axis=1) < 2
    assert 0.15 < ground.mean() < 0.9, "part of the cloth is bare"
    printed = both[np.abs(both - plain).max(axis=1) > 40]
    assert len(printed) > 0.04 * len(both)
    half = worn(colour="#aa3355", texture=name, texture_weight=0.5)
    unclipped = both < 250
    np.testing.assert_allclose(half[unclipped], ((plain + both) / 2)[unclipped], atol=1.01)
    np.testing.assert_allclose(worn(colour="#aa3355", texture=name, texture_weight=0.0), plain, atol=1.01)
    assert np.abs(worn(texture=name) - both).mean() > 10, "without a colour it has its own ground"


def test_the_print_is_the_colour_that_stands_out():
    for ground, ink in (("#101820", (245, 245, 242)), ("#f0f0f0", (62, 95, 138))):
        sheet = texture_sheet("stripes", (384, 512), ground=ground)
        assert (sheet[sheet[..., 3] == 255][:, :3] == ink).all()
        assert (sheet[sheet[..., 3] == 0] == 0).all()
    asked = texture_sheet("stripes:white,red", (384, 512), ground="white")
    assert (asked[asked[..., 3] == 255][:, :3] == (255, 0, 0)).all()


def test_what_takes_no_dye_keeps_its_colour():
    mask = template("gas")
    assert (mask.dye < 20).any()
    assert 0.1 < reference(mask) < 0.5


def test_filters_are_no_pleats_and_stay_magenta_in_bright_light(plain_face):
    """They came out glossy pink on every face, white on bright ones: the relief was taken against the rubber beside."""
    bright = np.full((256, 256, 3), (236, 206, 190), np.uint8)
    bright += np.random.default_rng(0).integers(0, 12, bright.shape, np.uint8)  # an even picture counts as a soft one
    worn = apply_warp(bright, plain_face(), WarpParams("gas"))
    inside = worn.image[worn.alpha == 1].astype(float)
    filters = inside[inside[:, 0] - inside[:, 1] > 30]
    assert len(filters) > 0.1 * len(inside)
    red, green, blue = np.median(filters, axis=0)
    assert red < 200
    assert green < 0.72 * red
    assert green < blue
