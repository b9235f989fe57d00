"""Every kind of picture a user may have: decoded right, with a note, or refused with a reason."""

import os
import pickle
import struct
import warnings
import zlib
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
from PIL import Image

from lib.data import images
from lib.data.images import ImageError, find_picture, image_size, list_images, read_image, resize, to_pixels, to_tensor


def save(path, image, **options):
    (Image.fromarray(image) if isinstance(image, np.ndarray) else image).save(path, **options)
    return path


def exif(orientation):
    tags = Image.Exif()
    tags[0x0112] = orientation
    return tags


# -------------------------------------------------------------------------------------------------------- listing
def test_lists_any_depth_and_case_sorted_without_hidden_ones(tmp_path):
    names = ["b/c/1.JPG", "a.png", "b/2.jpeg", "b/x.y.z.WebP", "名前/ñ é.TIFF", "z.bmp", "z.tif"]
    for name in [*names, ".hidden.jpg", ".cache/3.jpg", "notes.txt", "jpg", "b/.x/y/4.png"]:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(b"")
    (tmp_path / "folder.jpg").mkdir()
    (tmp_path / "folder.jpg" / "5.png").write_bytes(b"")
    assert list_images(tmp_path) == sorted(tmp_path / name for name in [*names, "folder.jpg/5.png"])
    assert list_images(str(tmp_path / "b" / "c")) == [tmp_path / "b" / "c" / "1.JPG"]


def test_listing_follows_links_once(tmp_path):
    real = tmp_path / "real"
    real.mkdir()
    (real / "1.png").write_bytes(b"")
    root = tmp_path / "root"
    root.mkdir()
    (root / "link").symlink_to(real)
    (root / "loop").symlink_to(root)
    assert list_images(root) == [root / "link" / "1.png"]


def test_listing_errors_name_the_folder(tmp_path, monkeypatch):
    with pytest.raises(FileNotFoundError, match="nothing: no such folder"):
        list_images(tmp_path / "nothing")
    (tmp_path / "file").write_text("")
    with pytest.raises(NotADirectoryError, match="file: is a file"):
        list_images(tmp_path / "file")

    def refuse(path):
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(os, "scandir", refuse)
    with pytest.raises(PermissionError, match=str(tmp_path)):
        list_images(tmp_path)


# -------------------------------------------------------------------------------------------- what comes out right
@pytest.mark.parametrize("name", ["x.png", "x.bmp", "x.tif", "x.TIFF", "a.b.c.PNG", "名前 ñ.png"])
def test_lossless_rgb_comes_back_unchanged_without_notes(tmp_path, noise, name):
    picture = read_image(save(tmp_path / name, noise()))
    np.testing.assert_array_equal(picture.pixels, noise())
    assert picture.pixels.dtype == np.uint8
    assert picture.alpha is None
    assert picture.notes == ()


@pytest.mark.parametrize("name", ["x.jpg", "x.JPEG", "x.webp", "x.y.jpg"])
def test_lossy_formats_come_back_near(tmp_path, name):
    ramp = np.stack([*np.meshgrid(np.arange(64) * 3, np.arange(48) * 4), np.full((48, 64), 90)], -1).astype(np.uint8)
    picture = read_image(save(tmp_path / name, ramp, quality=95))
    assert picture.pixels.shape == (48, 64, 3)
    assert np.abs(picture.pixels.astype(int) - ramp).mean() < 3
    assert picture.notes == ()


def test_the_suffix_does_not_decide_the_format(tmp_path, noise):
    path = save(tmp_path / "x.png", noise()).rename(tmp_path / "x.jpg")
    np.testing.assert_array_equal(read_image(path).pixels, noise())


UPRIGHT = {  # oracle in numpy: what a viewer does with each EXIF orientation
    1: lambda a: a,
    2: lambda a: a[:, ::-1],
    3: lambda a: a[::-1, ::-1],
    4: lambda a: a[::-1],
    5: lambda a: a.transpose(1, 0, 2),
    6: lambda a: np.rot90(a, -1),
    7: lambda a: a[::-1, ::-1].transpose(1, 0, 2),
    8: lambda a: np.rot90(a),
}


@pytest.mark.parametrize("suffix", ["png", "tif", "webp"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation_is_applied_once_and_noted(tmp_path, noise, orientation, suffix):
    options = {"lossless": True} if suffix == "webp" else {}
    path = save(tmp_path / f"x.{suffix}", noise(), exif=exif(orientation), **options)
    picture = read_image(path)
    np.testing.assert_array_equal(picture.pixels, UPRIGHT[orientation](noise()))
    assert picture.notes == ((f"EXIF orientation {orientation} applied",) if orientation > 1 else ())
    assert image_size(path) == picture.pixels.shape[1::-1]


@pytest.mark.parametrize("orientation", [3, 6])
def test_exif_orientation_of_jpeg(tmp_path, orientation):
    block = np.zeros((32, 64, 3), np.uint8)
    block[:16, :16] = 255
    picture = read_image(save(tmp_path / "x.jpg", block, quality=95, exif=exif(orientation)))
    assert np.abs(picture.pixels.astype(int) - UPRIGHT[orientation](block)).mean() < 3


@pytest.mark.parametrize(
    "payload", [b"Exif\0\0garbage", b"Exif\0\0II*\0\xff\xff\xff\x7f", b"Exif\0\0MM\0*\0\0\0\x08\xff\xff"]
)
def test_damaged_exif_costs_the_turn_not_the_picture(tmp_path, noise, payload):
    assert read_image(save(tmp_path / "x.jpg", noise(), exif=payload)).pixels.shape == (24, 32, 3)


@pytest.mark.parametrize("orientation", [0, 9, 65535])
def test_nonsense_orientation_is_ignored(tmp_path, noise, orientation):
    np.testing.assert_array_equal(read_image(save(tmp_path / "x.png", noise(), exif=exif(orientation))).pixels, noise())


def grey_rgb(grey):
    return np.repeat(grey[..., None], 3, axis=2)


def test_grey_and_black_and_white(tmp_path, noise):
    grey = noise()[..., 0]
    picture = read_image(save(tmp_path / "x.png", grey))
    np.testing.assert_array_equal(picture.pixels, grey_rgb(grey))
    assert picture.notes == ("grey converted to RGB",)
    picture = read_image(save(tmp_path / "1.png", Image.fromarray(grey > 127)))
    np.testing.assert_array_equal(picture.pixels, grey_rgb(np.where(grey > 127, 255, 0)))
    assert picture.notes == ("black and white converted to RGB",)


@pytest.mark.parametrize("name", ["x.png", "x.tif"])
def test_16_bit_grey_is_scaled_to_8(tmp_path, name):
    deep = np.linspace(0, 65535, 24 * 32).astype(np.uint16).reshape(24, 32)
    picture = read_image(save(tmp_path / name, deep))
    np.testing.assert_array_equal(picture.pixels, grey_rgb(np.round(deep / 257).astype(np.uint8)))
    assert picture.notes == ("16-bit scaled to 8", "grey converted to RGB")


@pytest.mark.parametrize("orientation", [1, 3, 5, 6, 7, 8])
@pytest.mark.parametrize("mode", ["L", "RGBA", "CMYK", "I;16", "P"])
def test_uncompressed_tiffs_of_every_mode_are_turned(tmp_path, noise, orientation, mode):
    """Pillow alone scrambles these where it maps the file into memory."""
    deep = Image.fromarray(noise()[..., 0].astype(np.uint16) * 257)
    plain = deep if mode == "I;16" else Image.fromarray(noise()).convert(mode)
    upright = read_image(save(tmp_path / "upright.tif", plain)).pixels
    path = save(tmp_path / "x.tif", plain, exif=exif(orientation))
    np.testing.assert_array_equal(read_image(path).pixels, UPRIGHT[orientation](upright))
    assert image_size(path) == read_image(path).pixels.shape[1::-1]


def test_16_bit_grey_big_endian_and_turned(tmp_path):
    deep = np.arange(24 * 32, dtype=np.uint16).reshape(24, 32) * 80
    header = b"MM\0*\0\0\0\x08"
    tags = [(256, 4, 32), (257, 4, 24), (258, 3, 16 << 16), (259, 3, 1 << 16), (262, 3, 1 << 16), (273, 4, 122)]
    tags += [(274, 3, 6 << 16), (278, 4, 24), (279, 4, 24 * 32 * 2)]
    body = struct.pack(">H", len(tags)) + b"".join(
        struct.pack(">HHII", tag, kind, 1, value) for tag, kind, value in tags
    )
    content = header + body + struct.pack(">I", 0)
    (tmp_path / "x.tif").write_bytes(content.ljust(122, b"\0") + deep.astype(">u2").tobytes())
    picture = read_image(tmp_path / "x.tif")
    np.testing.assert_array_equal(picture.pixels, np.rot90(grey_rgb(np.round(deep / 257).astype(np.uint8)), -1))
    assert "EXIF orientation 6 applied" in picture.notes
    assert "16-bit scaled to 8" in picture.notes


def png(width, height, depth, colour, raw, extra=b""):
    """A PNG by hand: what Pillow reads but does not write."""

    def chunk(kind, content):
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    header = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0)
    stream = chunk(b"IHDR", header) + extra + chunk(b"IDAT", zlib.compress(raw)) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + stream


@pytest.mark.parametrize(("colour", "channels"), [(2, 3), (4, 2), (6, 4)])
def test_16_bit_colour_png_is_scaled_to_8(tmp_path, colour, channels):
    deep = np.random.default_rng(0).integers(0, 65536, (5, 4, channels), dtype=np.uint16)
    raw = b"".join(b"\0" + row.astype(">u2").tobytes() for row in deep)
    (tmp_path / "x.png").write_bytes(png(4, 5, 16, colour, raw))
    picture = read_image(tmp_path / "x.png")
    expected = deep[..., :3] if channels >= 3 else np.repeat(deep[..., :1], 3, axis=2)
    assert np.abs(picture.pixels.astype(int) - expected / 257).max() <= 1
    assert "16-bit scaled to 8" in picture.notes
    if channels in (2, 4):
        assert np.abs(picture.alpha.astype(int) - deep[..., -1] / 257).max() <= 1


@pytest.mark.parametrize(("dtype", "top"), [(np.int32, 255), (np.int32, 65535), (np.float32, 1.0), (np.float32, 255.0)])
def test_32_bit_tiff_takes_the_smallest_usual_range(tmp_path, dtype, top):
    values = np.linspace(0, top, 24 * 32).reshape(24, 32).astype(dtype)
    picture = read_image(save(tmp_path / "x.tif", values))
    np.testing.assert_array_equal(picture.pixels, grey_rgb(np.round(values.astype(float) * 255 / top).astype(np.uint8)))
    assert "32-bit scaled to 8" in picture.notes


@pytest.mark.parametrize("value", [-1.0, 70000.0, np.nan, np.inf])
def test_32_bit_values_without_a_known_range_are_refused(tmp_path, value):
    save(tmp_path / "x.tif", np.full((4, 4), value, np.float32))
    with pytest.raises(ImageError, match="values outside 0 … 65535"):
        read_image(tmp_path / "x.tif")


def test_alpha_is_set_apart_and_the_colours_under_it_stay(tmp_path, noise):
    rgba = np.dstack([noise(), np.tile(np.arange(32, dtype=np.uint8) * 8, (24, 1))])
    picture = read_image(save(tmp_path / "x.png", rgba))
    np.testing.assert_array_equal(picture.pixels, rgba[..., :3])
    np.testing.assert_array_equal(picture.alpha, rgba[..., 3])
    assert picture.notes == ("transparency set apart",)
    picture = read_image(save(tmp_path / "la.png", Image.fromarray(rgba[..., 2:]).convert("LA")))
    assert picture.alpha.shape == (24, 32)


def test_grey_with_alpha(tmp_path, noise):
    la = np.ascontiguousarray(noise()[..., :2])
    picture = read_image(save(tmp_path / "x.png", Image.fromarray(la)))
    np.testing.assert_array_equal(picture.pixels, grey_rgb(la[..., 0]))
    np.testing.assert_array_equal(picture.alpha, la[..., 1])
    assert picture.notes == ("transparency set apart", "grey converted to RGB")


def test_alpha_turns_with_the_picture(tmp_path, noise):
    rgba = np.dstack([noise(), noise(seed=1)[..., 0]])
    picture = read_image(save(tmp_path / "x.png", rgba, exif=exif(8)))
    np.testing.assert_array_equal(picture.alpha, np.rot90(rgba)[..., 3])


def test_palette_with_and_without_transparency(tmp_path):
    index = np.arange(24 * 32, dtype=np.uint8).reshape(24, 32) % 4
    image = Image.fromarray(index)
    image.putpalette([255, 0, 0, 0, 255, 0, 0, 0, 255, 9, 9, 9])
    colours = np.array([[255, 0, 0], [0, 255, 0], [0, 0, 255], [9, 9, 9]], np.uint8)
    picture = read_image(save(tmp_path / "x.png", image))
    np.testing.assert_array_equal(picture.pixels, colours[index])
    assert picture.alpha is None
    assert picture.notes == ("palette converted to RGB",)
    picture = read_image(save(tmp_path / "t.png", image, transparency=2))
    np.testing.assert_array_equal(picture.pixels, colours[index])
    np.testing.assert_array_equal(picture.alpha, np.where(index == 2, 0, 255))
    picture = read_image(save(tmp_path / "b.png", image, transparency=bytes([255, 128, 0, 7])))
    np.testing.assert_array_equal(picture.alpha, np.array([255, 128, 0, 7])[index])


def test_rgb_with_a_transparent_colour(tmp_path):
    pixels = np.zeros((4, 4, 3), np.uint8)
    pixels[0] = (1, 2, 3)
    picture = read_image(save(tmp_path / "x.png", pixels, transparency=(1, 2, 3)))
    np.testing.assert_array_equal(picture.pixels, pixels)
    np.testing.assert_array_equal(picture.alpha, [[0] * 4] + [[255] * 4] * 3)


@pytest.mark.parametrize("name", ["x.jpg", "x.tif"])  # inverted in the JPEG, as Adobe stores it
def test_cmyk(tmp_path, name):
    image = Image.new("CMYK", (16, 16), (0, 255, 255, 0))
    image.paste((255, 0, 0, 0), (8, 0, 16, 16))
    picture = read_image(save(tmp_path / name, image))
    assert np.abs(picture.pixels[8, 2].astype(int) - (255, 0, 0)).max() < 12
    assert np.abs(picture.pixels[8, 13].astype(int) - (0, 255, 255)).max() < 12
    assert picture.notes == ("CMYK converted to RGB",)


def test_ycbcr_tiff(tmp_path):
    picture = read_image(save(tmp_path / "x.tif", Image.new("RGB", (16, 16), (200, 30, 60)).convert("YCbCr")))
    assert np.abs(picture.pixels.astype(int) - (200, 30, 60)).max() <= 3


@pytest.mark.parametrize("name", ["x.webp", "x.png", "x.tif"])
def test_of_an_animation_the_first_frame_is_taken(tmp_path, noise, name):
    frames = [Image.fromarray(noise(seed=k)) for k in range(3)]
    options = {"lossless": True} if name == "x.webp" else {}
    frames[0].save(tmp_path / name, save_all=True, append_images=frames[1:], **options)
    picture = read_image(tmp_path / name)
    np.testing.assert_array_equal(picture.pixels, noise(seed=0))
    assert "first of 3 frames" in picture.notes


# ---------------------------------------------------------------------------------------------------- what is refused
def refused(path, reason, **options):
    with pytest.raises(ImageError, match=reason) as caught:
        read_image(path, **options)
    assert caught.value.path == path
    assert str(path) in str(caught.value)
    assert str(path) not in caught.value.reason
    assert "\n" not in caught.value.reason


def test_what_is_no_picture_is_refused_with_a_reason(tmp_path):
    (tmp_path / "empty.jpg").write_bytes(b"")
    refused(tmp_path / "empty.jpg", "file is empty")
    (tmp_path / "text.jpg").write_text("<html>404</html>")
    refused(tmp_path / "text.jpg", "is no picture")
    (tmp_path / "magic.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    refused(tmp_path / "magic.png", "is no picture|truncated|cannot be decoded")
    (tmp_path / "folder.jpg").mkdir()
    refused(tmp_path / "folder.jpg", "is a folder")
    refused(tmp_path / "gone.jpg", "no such file")
    (tmp_path / "link.jpg").symlink_to(tmp_path / "gone.jpg")
    refused(tmp_path / "link.jpg", "no such file")


@pytest.mark.parametrize(
    ("name", "options"),
    [("x.jpg", {}), ("p.jpg", {"progressive": True}), ("x.png", {}), ("x.bmp", {}), ("x.webp", {}), ("x.tif", {}),
     ("z.tif", {"compression": "tiff_lzw"})],
)  # fmt: skip
@pytest.mark.parametrize("share", [0.15, 0.5, 0.9, 0.98])
def test_truncated_pictures_are_refused_not_padded(tmp_path, noise, name, options, share):
    whole = save(tmp_path / name, noise(48, 64), **options).read_bytes()
    (tmp_path / name).write_bytes(whole[: int(len(whole) * share)])
    with pytest.raises(ImageError):
        read_image(tmp_path / name)


def test_a_truncated_jpeg_says_so(tmp_path, noise):
    whole = save(tmp_path / "x.jpg", noise(48, 64)).read_bytes()
    (tmp_path / "x.jpg").write_bytes(whole[: len(whole) // 2])
    refused(tmp_path / "x.jpg", "is truncated")


def test_flipped_bytes_give_a_picture_or_an_image_error(tmp_path, noise):
    rng = np.random.default_rng(0)
    for name in ("x.jpg", "x.png", "x.tif", "x.webp", "x.bmp"):
        whole = np.frombuffer(save(tmp_path / name, noise()).read_bytes(), np.uint8)
        for _ in range(25):
            damaged = whole.copy()
            damaged[rng.integers(0, min(len(whole), 400), 6)] = rng.integers(0, 256, 6)
            (tmp_path / name).write_bytes(damaged.tobytes())
            try:
                assert read_image(tmp_path / name, 10_000_000).pixels.dtype == np.uint8
            except ImageError as error:
                assert error.reason  # noqa: PT017 - either outcome is right, anything else is not


def test_a_png_with_a_flipped_bit_in_its_pixels_is_refused(tmp_path, noise):
    whole = bytearray(save(tmp_path / "x.png", noise()).read_bytes())
    whole[len(whole) // 2] ^= 1
    (tmp_path / "x.png").write_bytes(whole)
    with pytest.raises(ImageError):
        read_image(tmp_path / "x.png")


def test_size_is_judged_by_the_header_before_decoding(tmp_path, noise, monkeypatch):
    path = save(tmp_path / "x.png", noise(24, 32))
    assert read_image(path, max_pixels=24 * 32).pixels.shape == (24, 32, 3)
    monkeypatch.setattr(images, "_decode", None)  # would fail if reached
    refused(path, r"32 × 24 pixels, more than the limit of 767; scale it down", max_pixels=767)


@pytest.mark.parametrize("side", [10_000, 11_000, 30_000])  # Pillow: warns above 89 million, refuses above 179 million
def test_decompression_bombs_are_refused_without_pillows_warning(tmp_path, side):
    header = png(side, side, 8, 0, b"\0" * 100)
    (tmp_path / "bomb.png").write_bytes(header)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        refused(tmp_path / "bomb.png", "more (pixels )?than the limit of 90,000,000", max_pixels=90_000_000)


def test_no_permission(tmp_path, noise, monkeypatch):
    path = save(tmp_path / "x.png", noise())

    def deny(*_, **__):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Image, "open", deny)  # a chmod would not stop root
    refused(path, "no permission to read it")


def test_threads_leak_no_warning_and_restore_the_filters(tmp_path, noise):
    (tmp_path / "bomb.png").write_bytes(png(10_000, 10_000, 8, 0, b"\0" * 100))
    good = save(tmp_path / "x.png", noise())

    def read(k):
        try:
            return read_image(good if k % 2 else tmp_path / "bomb.png", 90_000_000).pixels.shape
        except ImageError:
            return None

    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        before = warnings.filters[:]
        with ThreadPoolExecutor(4) as pool:
            shapes = list(pool.map(read, range(60)))
        assert warnings.filters == before
        assert caught == []
        warnings.warn("still heard", stacklevel=1)
        assert len(caught) == 1
    assert shapes == [None, (24, 32, 3)] * 30


def test_image_error_survives_a_worker_process():
    error = pickle.loads(pickle.dumps(ImageError("a/b.jpg", "is a folder")))
    assert (str(error.path), error.reason, str(error)) == ("a/b.jpg", "is a folder", "a/b.jpg: is a folder")


# ---------------------------------------------------------------------------------------------------- arrays, tensors
def test_resize_squeezes_without_cropping(noise):
    halves = np.zeros((40, 120, 3), np.uint8)
    halves[:, 60:] = 255
    small = resize(halves, 16)
    assert small.shape == (16, 16, 3)
    assert small[:, :6].max() < 10
    assert small[:, 10:].min() > 245
    np.testing.assert_array_equal(resize(np.full((7, 9, 3), 77, np.uint8), 32), np.full((32, 32, 3), 77))
    np.testing.assert_array_equal(resize(noise(16, 16), 16), noise(16, 16))


def test_resize_is_antialiased():
    stripes = np.zeros((64, 64, 3), np.uint8)
    stripes[:, ::2] = 255
    assert np.abs(resize(stripes, 16).astype(int) - 127.5).max() < 10


@pytest.mark.parametrize("bad", [np.zeros((4, 4), np.uint8), np.zeros((4, 4, 3)), np.zeros((0, 4, 3), np.uint8)])
def test_resize_refuses_other_arrays(bad):
    with pytest.raises(ValueError, match="resize: expected uint8"):
        resize(bad, 8)


def test_tensors_round_trip_every_value():
    pixels = np.arange(256 * 3, dtype=np.uint32).astype(np.uint8).reshape(2, 8, 16, 3)
    tensor = to_tensor(pixels)
    assert tensor.shape == (2, 3, 8, 16)
    assert tensor.dtype == torch.float32
    assert (tensor.min().item(), tensor.max().item()) == (-1.0, 1.0)
    assert tensor[1, 2, 3, 4].item() == pytest.approx(pixels[1, 3, 4, 2] / 127.5 - 1)
    np.testing.assert_array_equal(to_pixels(tensor), pixels)


def test_to_pixels_rounds_and_clamps_and_takes_gradients():
    tensor = torch.tensor([-3.0, -1.0, -0.9999, 0.003, 1.0, 7.0], requires_grad=True).reshape(1, 1, 6).expand(3, 1, 6)
    assert to_pixels(tensor)[0, :, 0].tolist() == [0, 0, 0, 128, 255, 255]


def test_conversions_refuse_the_wrong_layout():
    with pytest.raises(ValueError, match="to_tensor: expected uint8"):
        to_tensor(np.zeros((3, 8, 8), np.uint8))
    with pytest.raises(ValueError, match="to_pixels: expected float"):
        to_pixels(torch.zeros(8, 8, 3))


# ------------------------------------------------------------------------------------------ damage that loading hides
def test_a_png_cut_anywhere_is_refused(tmp_path, noise):
    whole = save(tmp_path / "x.png", noise(6, 8)).read_bytes()
    for length in range(1, len(whole) - 4):  # without the very last checksum its end mark is still there
        (tmp_path / "x.png").write_bytes(whole[:length])
        with pytest.raises(ImageError):
            read_image(tmp_path / "x.png")


def test_a_png_with_a_flipped_byte_is_refused_not_filled_with_black(tmp_path, noise):
    """Looking for the EXIF of such a file too early decodes it, and a second decoding hides the error."""
    whole = save(tmp_path / "x.png", noise(64, 64)).read_bytes()
    for at in (len(whole) // 4, len(whole) // 2, len(whole) - 30):
        (tmp_path / "x.png").write_bytes(whole[:at] + bytes([whole[at] ^ 255]) + whole[at + 1 :])
        with pytest.raises(ImageError, match=r"cannot be decoded|truncated"):
            read_image(tmp_path / "x.png")


@pytest.mark.parametrize("options", [{}, {"progressive": True}], ids=["baseline", "progressive"])
def test_a_jpeg_without_its_last_bytes_is_truncated(tmp_path, noise, options):
    whole = save(tmp_path / "x.jpg", noise(48, 64), **options).read_bytes()
    for cut in (1, 2, 3, 10, 100):
        (tmp_path / "x.jpg").write_bytes(whole[:-cut])
        refused(tmp_path / "x.jpg", "is truncated")


def test_image_size_needs_the_header_only(tmp_path, noise):
    for name in ("x.png", "x.jpg"):
        whole = save(tmp_path / name, noise(48, 64)).read_bytes()
        (tmp_path / name).write_bytes(whole[: len(whole) - 500])
        assert image_size(tmp_path / name) == (64, 48)
        with pytest.raises(ImageError):
            read_image(tmp_path / name)


def test_cmyk_jpeg_without_adobes_mark(tmp_path):
    """Read like a marked one, inks inverted, as browsers and Pillow do."""
    whole = save(tmp_path / "x.jpg", Image.new("RGB", (16, 16), (200, 30, 60)).convert("CMYK"), quality=100)
    content = whole.read_bytes()
    mark = content.index(b"\xff\xee")
    assert content[mark + 4 : mark + 9] == b"Adobe"
    (length,) = struct.unpack(">H", content[mark + 2 : mark + 4])
    (tmp_path / "y.jpg").write_bytes(content[:mark] + content[mark + 2 + length :])
    for name in ("x.jpg", "y.jpg"):
        assert np.abs(read_image(tmp_path / name).pixels.astype(int) - (200, 30, 60)).max() <= 3


@pytest.mark.parametrize("scale", [1, 257])
def test_one_transparent_value_of_grey(tmp_path, scale):
    grey = np.arange(200, dtype=np.uint8).reshape(10, 20)
    stored = grey if scale == 1 else grey.astype(np.uint16) * 257
    picture = read_image(save(tmp_path / "x.png", stored, transparency=100 * scale))
    np.testing.assert_array_equal(picture.alpha, np.where(grey == 100, 0, 255))
    np.testing.assert_array_equal(picture.pixels, grey_rgb(grey))
    assert "transparency set apart" in picture.notes


def test_only_pillows_warnings_are_silenced(tmp_path, noise, monkeypatch):
    path, real = save(tmp_path / "x.png", noise()), images._decode

    def decode(*args):
        warnings.warn("somebody else's", UserWarning, stacklevel=1)
        return real(*args)

    monkeypatch.setattr(images, "_decode", decode)
    with pytest.warns(UserWarning, match="somebody else's"):
        read_image(path)


def test_to_tensor_of_read_only_memory_warns_of_nothing_and_copies():
    stack = np.zeros((3, 8, 8), np.uint8)
    stack.flags.writeable = False
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        tensor = to_tensor(np.moveaxis(stack, 0, -1))
    tensor += 1
    assert stack.max() == 0


# --------------------------------------------------------------------------------------- names from label files
def test_a_picture_is_looked_for_in_every_folder_under_every_name(tmp_path, noise):
    (tmp_path / "b").mkdir()
    save(tmp_path / "b" / "1.png", noise(24, 32))
    assert find_picture(tmp_path, ["a", "b"], ["1.jpg", "1.png"]) == ("b/1.png", None, "")
    assert find_picture(tmp_path, ["a", "b"], ["1.jpg", "1.png"], sizes=True) == ("b/1.png", (32, 24), "")
    assert find_picture(tmp_path / "b", ["."], ["1.png"]) == ("1.png", None, "")
    assert find_picture(tmp_path, ["a", "b"], ["2.jpg", "2.png"]) == ("a/2.jpg", None, "picture missing")


@pytest.mark.parametrize("name", ["../x.png", "b/../../x.png", "/etc/x.png", "C:\\x.png"])
def test_a_name_that_leads_out_is_not_looked_at(tmp_path, noise, name):
    save(tmp_path / "x.png", noise())
    (tmp_path / "root" / "b").mkdir(parents=True)
    assert find_picture(tmp_path / "root", ["."], [name], sizes=True) == (name, None, "path leaves the data set")


@pytest.mark.parametrize("name", ["x" * 300 + ".png", "a\0b.png", "", "b", "\ud83d.png"])
def test_a_name_no_file_can_have_is_missing(tmp_path, name):
    (tmp_path / "b").mkdir()
    assert find_picture(tmp_path, ["."], [name], sizes=True)[2] == "picture missing"


def test_a_picture_that_cannot_be_opened_has_a_reason(tmp_path, noise):
    save(tmp_path / "x.png", noise())
    (tmp_path / "x.png").write_bytes((tmp_path / "x.png").read_bytes()[:20])
    image, size, reason = find_picture(tmp_path, ["."], ["x.png"], sizes=True)
    assert (image, size) == ("x.png", None)
    assert reason.startswith("picture ")


def test_postscript_is_not_run_whatever_its_name(tmp_path, noise):
    save(tmp_path / "x.eps", noise()).rename(tmp_path / "x.jpg")
    with pytest.raises(ImageError, match="is no picture that can be read"):
        read_image(tmp_path / "x.jpg")
