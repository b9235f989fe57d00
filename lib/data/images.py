"""Pictures as they lie on users' disks: found at any depth, turned upright, made 8-bit RGB, or refused with a reason."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageOps, UnidentifiedImageError

IMAGE_SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".webp", ".bmp", ".tif", ".tiff"})
MAX_PIXELS = 120_000_000  # about 360 MB decoded; beyond that a file is more likely an accident or an attack


class ImageError(ValueError):
    """A picture that cannot be used. `path` names it, `reason` says why, in words fit for a list of failures."""

    def __init__(self, path: Path | str, reason: str):
        super().__init__(f"{path}: {reason}")
        self.path, self.reason = Path(path), reason


@dataclass(frozen=True)
class Picture:
    """A decoded picture: `pixels` uint8 [H, W, 3] RGB, upright; `alpha` uint8 [H, W] or None; `notes` on conversions."""

    pixels: np.ndarray
    alpha: np.ndarray | None = None
    notes: tuple[str, ...] = ()


def list_images(root: Path | str) -> list[Path]:
    """All pictures under a folder, any depth, by suffix whatever its case, sorted; hidden files and folders skipped.

    Raises FileNotFoundError / NotADirectoryError that names `root`.
    """
    root = Path(root)
    if not root.exists():
        raise FileNotFoundError(f"{root}: no such folder")
    if not root.is_dir():
        raise NotADirectoryError(f"{root}: is a file, a folder of pictures is needed")
    found = []
    for folder, subfolders, files in root.walk() if hasattr(root, "walk") else _walk(root):
        subfolders[:] = sorted(name for name in subfolders if not name.startswith("."))
        found += [
            folder / name for name in files if not name.startswith(".") and Path(name).suffix.lower() in IMAGE_SUFFIXES
        ]
    return sorted(found)


def _walk(root: Path):  # Path.walk came with Python 3.12
    import os

    for folder, subfolders, files in os.walk(root):
        yield Path(folder), subfolders, files


def read_image(path: Path | str, max_pixels: int = MAX_PIXELS) -> Picture:
    """Decode a picture completely.

    EXIF orientation is applied; grey, palette, CMYK and 16-bit pictures become 8-bit RGB with a note; transparency is
    returned beside the RGB under it; of an animation the first frame is taken.

    Raises ImageError: missing, empty, no picture, truncated, or more than `max_pixels` (checked before decoding).
    """
    path = Path(path)
    try:
        if not path.is_file():
            raise ImageError(path, "is a folder" if path.is_dir() else "no such file")
        if path.stat().st_size == 0:
            raise ImageError(path, "file is empty")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Pillow's own size warning: the limit here is max_pixels
            with Image.open(path) as image:
                if image.width * image.height > max_pixels:
                    size = f"{image.width} × {image.height}"
                    raise ImageError(path, f"{size} pixels, more than the limit of {max_pixels:,}; scale it down")
                image.load()
                return _convert(path, image)
    except ImageError:
        raise
    except UnidentifiedImageError:
        raise ImageError(path, "is no picture that can be read") from None
    except Image.DecompressionBombError:
        raise ImageError(path, f"far more pixels than the limit of {max_pixels:,}; scale it down") from None
    except MemoryError:
        raise ImageError(path, "does not fit into memory") from None
    except PermissionError:
        raise ImageError(path, "no permission to read it") from None
    except (OSError, SyntaxError, ValueError, EOFError, IndexError, TypeError, NotImplementedError) as error:
        words = str(error).splitlines()[0] if str(error) else type(error).__name__
        truncated = "truncated" in words.lower() or isinstance(error, EOFError)
        raise ImageError(path, f"is truncated ({words})" if truncated else f"cannot be decoded ({words})") from None


def _convert(path: Path, image: Image.Image) -> Picture:
    notes, alpha = [], None
    if getattr(image, "n_frames", 1) > 1:
        notes.append(f"first of {image.n_frames} frames")
    orientation = image.getexif().get(0x0112, 1)
    if orientation in range(2, 9):
        image = ImageOps.exif_transpose(image)
        notes.append(f"EXIF orientation {orientation} applied")
    if image.mode.startswith("I;16") or image.mode in ("I", "F"):
        values = np.asarray(image).astype(np.float64)
        top = 65535.0 if image.mode != "F" else (1.0 if values.max() <= 1 else 255.0)
        if image.mode == "I" and values.max() <= 255:
            top = 255.0
        grey = np.clip(np.nan_to_num(values) * 255 / top, 0, 255).round().astype(np.uint8)
        notes.append("16-bit scaled to 8" if top > 255 else "converted to 8-bit")
        return Picture(np.repeat(grey[..., None], 3, axis=2), None, (*notes, "grey converted to RGB"))
    if image.mode in ("RGBA", "LA", "PA", "La", "RGBa") or "transparency" in image.info:
        rgba = image.convert("RGBA")
        alpha = np.array(rgba.getchannel("A"))
        notes.append(f"{image.mode} with transparency")
        image = rgba.convert("RGB")
    if image.mode != "RGB":
        words = {"L": "grey", "1": "black and white", "P": "palette"}.get(image.mode, image.mode)
        notes.append(f"{words} converted to RGB")
        image = image.convert("RGB")
    return Picture(np.array(image), alpha, tuple(notes))


def resize(pixels: np.ndarray, size: int) -> np.ndarray:
    """uint8 [H, W, 3] → uint8 [size, size, 3], antialiased, without cropping (paper §4: resized "with no cropping")."""
    if pixels.shape[:2] == (size, size):
        return pixels
    return np.array(Image.fromarray(pixels).resize((size, size), Image.Resampling.BICUBIC))


def to_tensor(pixels: np.ndarray) -> torch.Tensor:
    """uint8 [..., H, W, 3] → float32 [..., 3, H, W] in [−1, 1]."""
    if pixels.dtype != np.uint8 or pixels.ndim < 3 or pixels.shape[-1] != 3:
        raise ValueError(f"expected uint8 [..., H, W, 3], got {pixels.dtype} {list(pixels.shape)}")
    return torch.from_numpy(np.ascontiguousarray(np.moveaxis(pixels, -1, -3))).float() / 127.5 - 1


def to_pixels(tensor: torch.Tensor) -> np.ndarray:
    """float [..., 3, H, W] in [−1, 1] → uint8 [..., H, W, 3], rounded and clamped; inverse of `to_tensor`."""
    scaled = ((tensor.detach().float().cpu() + 1) * 127.5).round().clamp(0, 255).to(torch.uint8)
    return np.ascontiguousarray(np.moveaxis(scaled.numpy(), -3, -1))
