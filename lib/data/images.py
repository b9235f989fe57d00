"""Pictures as they lie on users' disks: found at any depth, turned upright, made 8-bit RGB, or refused by name."""

from __future__ import annotations

import os
import threading
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image, UnidentifiedImageError

from lib.data.files import LEAVES, MISSING, leaves_root

if TYPE_CHECKING:
    import torch  # imported where it is used: listing and decoding pictures should not wait for it

IMAGE_SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".webp", ".bmp", ".gif", ".tif", ".tiff"})
_FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "DIB", "TIFF", "GIF")  # whatever the suffix; no EPS, which runs a program
MAX_PIXELS = 120_000_000  # about 360 MB decoded; beyond that a file is more likely an accident or an attack
_EXIF_ORIENTATION = 0x0112
_TURNS = {  # EXIF orientation → what makes the picture upright
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
_MODE_WORDS = {"L": "grey", "LA": "grey", "1": "black and white", "P": "palette", "PA": "palette"}


class ImageError(ValueError):
    """A picture that cannot be used. `path` names it, `reason` says why, in words fit for a list of failures."""

    def __init__(self, path: Path | str, reason: str):
        super().__init__(f"{path}: {reason}")
        self.path, self.reason = Path(path), reason

    def __reduce__(self):  # so that a worker process can hand it back
        return type(self), (self.path, self.reason)


@dataclass(frozen=True, eq=False)
class Picture:
    """A decoded picture: `pixels` uint8 [H, W, 3] RGB, upright; `alpha` uint8 [H, W] or None; `notes`: what was done.

    Notes are short phrases for a manifest, like "EXIF orientation 6 applied" or "CMYK converted to RGB".
    """

    pixels: np.ndarray
    alpha: np.ndarray | None = None
    notes: tuple[str, ...] = ()


def list_images(root: Path | str) -> list[Path]:
    """All pictures under a folder, any depth, by suffix whatever its case, sorted; hidden files and folders skipped.

    Linked folders are followed, each real folder once. Raises FileNotFoundError / NotADirectoryError that names `root`,
    PermissionError that names a folder which cannot be listed: a part of a data set is never left out silently.
    """
    root = Path(root)
    if not root.exists():
        raise FileNotFoundError(f"{root}: no such folder")
    if not root.is_dir():
        raise NotADirectoryError(f"{root}: is a file, a folder of pictures is needed")
    found, seen = [], set()
    for folder, subfolders, names in os.walk(root, onerror=_refuse, followlinks=True):
        real = os.path.realpath(folder)
        if real in seen:  # a link that leads back
            subfolders.clear()
            continue
        seen.add(real)
        subfolders[:] = sorted(name for name in subfolders if not name.startswith("."))
        found += [Path(folder, n) for n in names if n[0] != "." and Path(n).suffix.lower() in IMAGE_SUFFIXES]
    return sorted(found)


def _refuse(error: OSError) -> None:
    raise error


def read_image(path: Path | str, max_pixels: int = MAX_PIXELS) -> Picture:
    """Decode a picture completely.

    EXIF orientation is applied; grey, palette, CMYK and 16-bit pictures become 8-bit RGB with a note; transparency is
    returned beside the RGB under it; of an animation the first frame is taken. Safe to call from several threads.

    Raises ImageError: missing, empty, no picture, truncated, a PNG whose checksums do not hold, or more than
    `max_pixels` (checked before decoding; Pillow's own limit, 178,956,970 pixels, cannot be exceeded). A cut is told
    by the missing end: JPEG has no checksum, so one closed again by a repair tool passes for whole.
    """
    return _opened(Path(path), max_pixels, _decode)


def image_size(path: Path | str) -> tuple[int, int]:
    """(width, height) of a picture as `read_image` would give it, from the header alone. Raises ImageError."""

    def size(path: Path, image: Image.Image) -> tuple[int, int]:
        w, h = image.size
        # A TIFF tells its upright size itself; a whole PNG would be decoded to look for EXIF that its header lacks.
        asked = image.format != "TIFF" and (image.format != "PNG" or "exif" in image.info)
        return (h, w) if asked and _orientation(image) >= 5 else (w, h)

    return _opened(Path(path), MAX_PIXELS, size)


def find_picture(
    root: Path, folders: Sequence[str], names: Sequence[str], sizes: bool = False
) -> tuple[str, tuple[int, int] | None, str]:
    """A picture that a label file names: its path relative to `root`, its (width, height), and "".

    It is the first of the `names` that is a file, looked for in each of the `folders` (relative to `root`) in turn.
    Where there is none: the first name in the first folder, None, and why. A name that leads out of its folder is not
    looked at. The size is read only with `sizes` (the header is opened); a picture that cannot be opened has none.
    """
    places = [name if folder == "." else f"{folder}/{name}" for folder in folders for name in names]
    if any(map(leaves_root, names)):
        return places[0], None, LEAVES
    for image in places:
        path = os.path.join(root, image)
        if not os.path.isfile(path):  # unlike Path.is_file it takes names that are too long or hold a NUL
            continue
        try:
            return image, image_size(path) if sizes else None, ""
        except ImageError as error:
            return image, None, f"picture {error.reason}"
    return places[0], None, MISSING


def _opened(path: Path, max_pixels: int, use):
    try:
        if not path.is_file():
            other = "is a folder" if path.is_dir() else "is not a file" if path.exists() else "no such file"
            raise ImageError(path, other)
        if path.stat().st_size == 0:
            raise ImageError(path, "file is empty")
        # Opened here, not by Pillow: given a path it maps some TIFFs into memory and then mixes up width and height
        # of those that are to be turned by 90 degrees.
        with _quiet, path.open("rb") as file, Image.open(file, formats=_FORMATS) as image:
            if image.width * image.height > max_pixels:
                size = f"{image.width} × {image.height}"
                raise ImageError(path, f"{size} pixels, more than the limit of {max_pixels:,}; scale it down")
            return use(path, image)
    except ImageError:
        raise
    except UnidentifiedImageError:
        raise ImageError(path, "is no picture that can be read") from None
    except Image.DecompressionBombError:
        limit = min(max_pixels, 2 * (Image.MAX_IMAGE_PIXELS or max_pixels))
        raise ImageError(path, f"more pixels than the limit of {limit:,}; scale it down") from None
    except MemoryError:
        raise ImageError(path, "does not fit into memory") from None
    except PermissionError:
        raise ImageError(path, "no permission to read it") from None
    except Exception as error:  # damaged files make the decoders raise nearly anything
        words = str(error).splitlines()[0] if str(error) else type(error).__name__
        truncated = isinstance(error, EOFError) or any(w in words.lower() for w in ("truncated", "unexpected end"))
        raise ImageError(path, f"is truncated ({words})" if truncated else f"cannot be decoded ({words})") from None


class _Quiet:
    """Silences Pillow's warnings while any thread is inside: `warnings.catch_warnings` alone is not thread-safe."""

    def __init__(self):
        self.lock, self.inside, self.saved = threading.Lock(), 0, None

    def __enter__(self):
        with self.lock:
            if not self.inside:
                self.saved = warnings.catch_warnings()
                self.saved.__enter__()
                warnings.filterwarnings("ignore", module=r"PIL\.")
            self.inside += 1

    def __exit__(self, *_):
        with self.lock:
            self.inside -= 1
            if not self.inside:
                self.saved.__exit__(None, None, None)


_quiet = _Quiet()


def _orientation(image: Image.Image) -> int:
    try:
        value = image.getexif().get(_EXIF_ORIENTATION, 1)
    except Exception:  # damaged EXIF costs the turn, not the picture
        return 1
    return value if isinstance(value, int) and value in _TURNS else 1


def _decode(path: Path, image: Image.Image) -> Picture:
    frames = getattr(image, "n_frames", 1)  # before loading: counting the pages of a TIFF drops what was loaded
    notes = [f"first of {frames} frames"] if frames > 1 else []
    deep = any(";16" in str(tile.args if isinstance(tile.args, str) else tile.args[:1]) for tile in image.tile)
    if image.format == "PNG":
        with Image.open(path, formats=("PNG",)) as whole:
            whole.verify()  # checksums and the end mark; loading alone fills what a damaged file lacks with black
    # Pillow turns a TIFF while loading it. Others are asked later: asked too early, a PNG is decoded on the way, and
    # the error of a damaged one would be lost with those of its EXIF.
    before = _orientation(image) if image.format == "TIFF" else 1
    image.load()
    left = _orientation(image)
    if left != 1:
        image = image.transpose(_TURNS[left])
    if max(before, left) > 1:
        notes.append(f"EXIF orientation {max(before, left)} applied")
    if image.mode.startswith("I;16") or image.mode in ("I", "F"):
        return _from_deep_grey(path, image, notes)
    if deep:
        notes.append("16-bit scaled to 8")
    mode, alpha = image.mode, None
    if mode in ("RGBA", "LA", "PA", "La", "RGBa") or "transparency" in image.info:
        rgba = (image.convert("LA") if mode == "La" else image).convert("RGBA")
        alpha = np.array(rgba.getchannel("A"))
        image = rgba.convert("RGB")
        notes.append("transparency set apart")
    if mode not in ("RGB", "RGBA", "RGBa"):
        notes.append(f"{_MODE_WORDS.get(mode, mode)} converted to RGB")
    return Picture(np.array(image if image.mode == "RGB" else image.convert("RGB")), alpha, tuple(notes))


def _from_deep_grey(path: Path, image: Image.Image, notes: list[str]) -> Picture:
    """16-bit grey spans 0 … 65535. 32-bit files do not tell their range: the smallest usual one that fits is taken."""
    values = np.asarray(image).astype(np.float64)
    if not np.isfinite(values).all() or values.min() < 0 or values.max() > 65535:
        raise ImageError(path, f"{image.mode} values outside 0 … 65535; save it as 8-bit or 16-bit")
    ranges = {"I": (255, 65535), "F": (1, 255, 65535)}.get(image.mode, (65535,))
    top = next(r for r in ranges if values.max() <= r)
    grey = (values * 255 / top).round().astype(np.uint8)
    depth = "16-bit" if image.mode.startswith("I;16") else "32-bit"
    notes += [f"{depth} scaled to 8"]
    alpha, clear = None, image.info.get("transparency")  # PNG: the one grey value that is transparent
    if isinstance(clear, int):
        alpha = np.where(values == clear, 0, 255).astype(np.uint8)
        notes += ["transparency set apart"]
    return Picture(np.repeat(grey[..., None], 3, axis=2), alpha, (*notes, "grey converted to RGB"))


def resize(pixels: np.ndarray, size: int) -> np.ndarray:
    """uint8 [H, W, 3] → uint8 [size, size, 3], antialiased, without cropping (paper §4: resized "with no cropping").

    Bicubic: not given in the paper; chosen because AttentionGAN's default is bicubic. A picture that already has the
    size comes back as it is, not copied. ValueError for another dtype or shape.
    """
    if pixels.dtype != np.uint8 or pixels.ndim != 3 or pixels.shape[2] != 3 or not pixels.size:
        raise ValueError(f"resize: expected uint8 [H, W, 3], got {pixels.dtype} {list(pixels.shape)}")
    if pixels.shape[:2] == (size, size):
        return pixels
    return np.array(Image.fromarray(pixels).resize((size, size), Image.Resampling.BICUBIC))


def to_tensor(pixels: np.ndarray) -> torch.Tensor:
    """uint8 [..., H, W, 3] → float32 [..., 3, H, W] in [−1, 1]. ValueError for another dtype or shape."""
    if pixels.dtype != np.uint8 or pixels.ndim < 3 or pixels.shape[-1] != 3:
        raise ValueError(f"to_tensor: expected uint8 [..., H, W, 3], got {pixels.dtype} {list(pixels.shape)}")
    channels_first = np.array(np.moveaxis(pixels, -1, -3), order="C")  # a copy: torch warns of read-only memory maps
    import torch

    return torch.from_numpy(channels_first).float() / 127.5 - 1


def to_pixels(tensor: torch.Tensor) -> np.ndarray:
    """float [..., 3, H, W] in [−1, 1] → uint8 [..., H, W, 3], rounded and clamped; inverse of `to_tensor`."""
    import torch

    if not tensor.is_floating_point() or tensor.ndim < 3 or tensor.shape[-3] != 3:
        raise ValueError(f"to_pixels: expected float [..., 3, H, W], got {tensor.dtype} {list(tensor.shape)}")
    scaled = ((tensor.detach().float().cpu() + 1) * 127.5).round().clamp(0, 255).to(torch.uint8)
    return np.ascontiguousarray(np.moveaxis(scaled.numpy(), -3, -1))
