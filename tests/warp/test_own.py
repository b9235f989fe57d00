import json
import os

import numpy as np
import pytest
from PIL import Image

from lib.warp import WarpParams, apply_warp
from lib.warp.own import TemplateError, load_template, main, pack_names, read_pack, save_template
from lib.warp.sheet import KEY_POINTS, SIX_POINTS
from lib.warp.templates import template


@pytest.fixture
def picture(tmp_path):
    """A KN95 with a binary alpha and black under it, as picture editors leave it."""
    rgba = template("kn95", 256).rgba.copy()
    rgba[..., 3] = 255 * (rgba[..., 3] > 127)
    rgba[rgba[..., 3] == 0] = 0
    Image.fromarray(rgba).save(tmp_path / "mask.png")
    return tmp_path / "mask.png"


@pytest.fixture
def points():
    return dict(zip(KEY_POINTS, template("kn95", 256).points.tolist(), strict=True))


@pytest.fixture
def pack(tmp_path):
    """A pack in MaskTheFace's layout, drawn here."""
    folder = tmp_path / "pack" / "masks" / "templates"
    folder.mkdir(parents=True)
    rgba = template("surgical_green", 256).rgba
    text = "; comment\n"
    for name, squeeze in (("green", 1.0), ("green_left", 0.8), ("green_right", 0.8)):
        Image.fromarray(rgba).resize((int(256 * squeeze), 192)).save(folder / f"{name}.png")
        text += f"[{name}]\ntemplate:   masks/templates/{name}.png\n"
        for letter, (x, y) in zip("abcdef", ((19, 63), (128, -1), (236, 63), (46, 121), (128, 168), (209, 121))):
            text += f"mask_{letter}:     {int(x * squeeze)}, {y}\n"
    (folder.parent / "masks.cfg").write_text(text + "\n[empty]\n[empty_left]\n[inpaint]\n")
    return tmp_path / "pack"


def test_a_saved_template_is_read_back_and_worn(picture, points, tmp_path, plain_face):
    file = save_template(tmp_path / "mine.json", picture, points, surface="fold")
    mask = load_template(file)
    assert mask.name == "mine"
    assert mask.surface == "fold"
    np.testing.assert_allclose(mask.points, [points[n] for n in KEY_POINTS], atol=0.01)
    assert {s.to for s in mask.straps} == {"ear_top", "ear_bottom"}
    warped = apply_warp(np.full((256, 256, 3), 90, np.uint8), plain_face(), WarpParams(template=str(file)))
    assert warped.alpha.max() > 0.99


def test_no_dark_fringe_from_what_lies_under_transparent_pixels(picture, points, tmp_path):
    mask = load_template(save_template(tmp_path / "m.json", picture, points))
    ring = (mask.rgba[..., 3] == 0) & (np.roll(mask.rgba[..., 3], 3, axis=0) == 255)
    assert ring.any()
    assert mask.rgba[ring][:, :3].min() > 150


def test_a_picture_without_transparency_needs_its_background(picture, points, tmp_path):
    flat = Image.new("RGB", (256, 192), (0, 200, 0))
    flat.paste(Image.open(picture), mask=Image.open(picture).getchannel("A"))
    flat.save(tmp_path / "flat.png")
    with pytest.raises(TemplateError, match=r"flat\.png: nothing of it is transparent"):
        save_template(tmp_path / "f.json", tmp_path / "flat.png", points)
    assert not (tmp_path / "f.json").exists()
    mask = load_template(save_template(tmp_path / "f.json", tmp_path / "flat.png", points, background="#00c800"))
    truth = np.asarray(Image.open(picture))[..., 3] > 127
    assert ((mask.rgba[..., 3] > 127) == truth).mean() > 0.99


BAD = {
    "missing": (lambda f: f["points"].pop("chin"), "1 of 12 points are missing: chin"),
    "misspelt": (lambda f: f["points"].update(chinn=f["points"].pop("chin")), r"'chinn' .* \(did you mean chin\?\)"),
    "not numbers": (lambda f: f["points"].update(chin=["a", 2]), "two numbers"),
    "not finite": (lambda f: f["points"].update(chin=[1e400, 2]), "two numbers"),
    "on a line": (lambda f: f["points"].update({n: [k * 9, 20] for k, n in enumerate(KEY_POINTS)}), "on a line"),
    "one place": (lambda f: f["points"].update(chin=f["points"]["bottom_left"]), "in one place"),
    "mirrored": (lambda f: f["points"].update({n: [256 - x, y] for n, (x, y) in f["points"].items()}), "lies right of"),
    "upside down": (lambda f: f["points"].update({n: [x, 192 - y] for n, (x, y) in f["points"].items()}), "below"),
    "far outside": (lambda f: f["points"].update(chin=[128, 90000]), "far outside"),
    "both kinds": (lambda f: f["points"].update({n: [1, 2] for n in SIX_POINTS}), "either the twelve"),
    "surface": (lambda f: f.update(surface="drap"), r"did you mean drape\?"),
    "unknown key": (lambda f: f.update(pointz=1), r"unknown pointz \(did you mean points\?\)"),
    "no picture": (lambda f: f.update(picture="other.png"), r"other\.png: no such picture"),
    "strap": (lambda f: f.update(straps=[{"to": "ear_top"}]), "straps: each needs start"),
    "strap end": (lambda f: f.update(straps=[{"start": [1, 2], "to": "moon", "side": "left"}]), "must be one of"),
    "loop": (lambda f: f.update(left="m.json"), "refers back"),
}  # fmt: skip


@pytest.mark.parametrize("kind", BAD)
def test_what_is_wrong_with_a_file_is_told(picture, points, tmp_path, kind):
    spoil, told = BAD[kind]
    fields = {"picture": "mask.png", "points": points}
    spoil(fields)
    (tmp_path / "m.json").write_text(json.dumps(fields))
    with pytest.raises(TemplateError, match=told) as caught:
        load_template(tmp_path / "m.json")
    assert "\n" not in str(caught.value)


def test_files_that_are_none(tmp_path):
    (tmp_path / "a.json").write_text("{")
    (tmp_path / "b.json").write_text("[1]")
    (tmp_path / "c.json").write_bytes(b"\xff\xfe\x00")
    for name, told in (
        ("a", "not a JSON"),
        ("b", "expected an object"),
        ("c", "not a JSON"),
        ("d", "no such template"),
    ):
        with pytest.raises(TemplateError, match=told):
            load_template(tmp_path / f"{name}.json")
    Image.new("RGBA", (60, 40)).save(tmp_path / "empty.png")
    with pytest.raises(TemplateError, match="all of it is transparent"):
        save_template(tmp_path / "e.json", tmp_path / "empty.png", {})


def test_a_pack_is_read_as_it_is(pack, plain_face):
    assert pack_names(pack) == ["green"]
    mask = read_pack(pack)["green"]
    assert mask.points.shape == (6, 2)
    assert mask.left.rgba.shape[1] == 204
    assert mask.right is not None
    key = f"{pack}/masks/masks.cfg#green"
    assert template(key).name == "green"
    for style in ("ours", "maskthe_face"):
        from lib.warp import PRESETS

        params = WarpParams(template=key, style=PRESETS[style].style)
        assert apply_warp(np.full((256, 256, 3), 90, np.uint8), plain_face(yaw_deg=20), params).alpha.max() > 0.99


def test_what_is_wrong_with_a_pack_is_told(pack, tmp_path):
    with pytest.raises(TemplateError, match=r"no template 'gren' \(did you mean green\?\)"):
        template(f"{pack}/masks/masks.cfg#gren")
    with pytest.raises(TemplateError, match="no MaskTheFace pack there"):
        read_pack(tmp_path / "nothing")
    config = pack / "masks" / "masks.cfg"
    config.write_text(config.read_text().replace("mask_e:     128, 168", "mask_e:     128"))
    os.utime(config, ns=(5, 5))
    with pytest.raises(TemplateError, match=r"\[green\]: mask_e: expected x, y in pixels, got '128'"):
        read_pack(pack)
    config.write_text("[green]\ntemplate: gone.png\n" + "".join(f"mask_{k}: 1, 2\n" for k in "abcdef"))
    with pytest.raises(TemplateError, match=r"\[green\]: .*gone\.png: no such picture"):
        read_pack(pack)
    config.write_text("[blank]\ntemplate:\n\n[blank_left]\ntemplate:\n")
    assert pack_names(pack) == []
    assert read_pack(pack) == {}
    config.write_text("no sections")
    with pytest.raises(TemplateError, match=r"not a masks\.cfg"):
        read_pack(pack)


def test_commands(picture, points, pack, tmp_path, capsys):
    words = " ".join(f"{n}={x},{y}" for n, (x, y) in points.items())
    assert main(["make", str(picture), str(tmp_path / "m.json"), "--points", words]) == 0
    assert main(["check", str(tmp_path / "m.json"), str(tmp_path / "look.png")]) == 0
    assert Image.open(tmp_path / "look.png").size == (1024, 256)
    assert main(["pack", str(pack)]) == 0
    assert "masks.cfg#green  with left and right view" in capsys.readouterr().out
    assert main(["make", str(picture), str(tmp_path / "n.json"), "--points", "chin=1"]) == 2
    assert "expected name=x,y" in capsys.readouterr().err
    Image.open(picture).convert("RGB").save(tmp_path / "flat.png")
    assert main(["make", str(tmp_path / "flat.png"), str(tmp_path / "n.json"), "--points", words]) == 2
    told = capsys.readouterr().err
    assert "n.json was not written: " in told
    assert "(--background '#ffffff' with `make`)" in told
    assert not (tmp_path / "n.json").exists()
    assert main(["check", "nothing.json", str(tmp_path / "x.png")]) == 2
