"""Pictures packed into one memory-mapped file, so that training reads pixels, not PNGs, and memory stays flat.

NAME.u8     raw uint8 [N, 3, S, S]
NAME.json   names, shape, and a key over the sources' names, sizes and times: the stack is up to date while it holds
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from tqdm import tqdm

from lib.data.files import read_json, write_json
from lib.data.images import ImageError, read_image, resize

_CHUNK = 64  # pictures decoded at a time: bounds the memory, whatever the size of the set


class StackError(ValueError):
    """A stack that is missing, damaged or of another kind; the message names the file."""


@dataclass(frozen=True)
class ImageStack:
    """A packed set. `images` is a read-only memory map, uint8 [N, 3, S, S]; `sha256` names the content."""

    images: np.ndarray
    names: tuple[str, ...]
    sha256: str
    failures: tuple[tuple[str, str], ...] = ()

    def __len__(self) -> int:
        return len(self.names)

    @classmethod
    def open(cls, path: Path | str) -> ImageStack:
        """Open `path`.u8 with its `path`.json. Raises StackError when either is missing or they do not belong together."""
        data, meta = _files(path)
        try:
            note = read_json(meta)
            shape, names = tuple(note["shape"]), tuple(note["names"])
            size = data.stat().st_size
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise StackError(f"{meta}: no usable stack ({error}); delete it and pack again") from error
        if size != np.prod(shape) or len(names) != shape[0]:
            raise StackError(f"{data}: {size:,} bytes, expected {np.prod(shape):,}; delete it and pack again")
        images = np.memmap(data, np.uint8, "r", shape=shape)
        return cls(images, names, note["sha256"], tuple(map(tuple, note["failures"])))


def pack(paths: Sequence[Path], size: int, out: Path | str, progress: bool = True) -> ImageStack:
    """Decode pictures to `size` × `size` RGB and pack them into `out`.u8 and `out`.json; at once if up to date.

    A picture that cannot be read is left out and listed in `failures` as (path, reason). Memory is flat: one chunk of
    pictures at a time. A killed call leaves only a temporary file.

    Raises ValueError when there is nothing to pack.
    """
    paths = [Path(path) for path in paths]
    data, meta = _files(out)
    if not paths:
        raise ValueError(f"{data}: no pictures to pack")
    key = _key(paths, size)
    if meta.exists():
        try:
            if read_json(meta).get("key") == key:
                return ImageStack.open(out)
        except (StackError, ValueError):
            pass  # damaged: packed anew below
    data.parent.mkdir(parents=True, exist_ok=True)
    partial, digest = data.with_name(f".{data.name}.{os.getpid()}.tmp"), hashlib.sha256()
    names, failures = [], []
    try:
        with (
            partial.open("wb") as file,
            ThreadPoolExecutor(os.cpu_count() or 1) as pool,
            tqdm(total=len(paths), desc=f"packing {data.stem}", disable=not progress, ascii=True, mininterval=2) as bar,
        ):
            for start in range(0, len(paths), _CHUNK):
                part = paths[start : start + _CHUNK]
                for path, result in zip(part, pool.map(lambda path: _decode(path, size), part)):
                    if isinstance(result, ImageError):
                        failures.append((str(path), result.reason))
                        continue
                    raw = np.ascontiguousarray(result.transpose(2, 0, 1)).tobytes()
                    digest.update(raw)
                    file.write(raw)
                    names.append(path.name)
                bar.update(len(part))
            file.flush()
            os.fsync(file.fileno())
        meta.unlink(missing_ok=True)  # never an old description beside new pixels
        os.replace(partial, data)
    finally:
        partial.unlink(missing_ok=True)
    note = {"shape": [len(names), 3, size, size], "names": names, "failures": failures, "key": key}
    write_json(meta, note | {"sha256": digest.hexdigest()})
    if not names:
        raise ValueError(
            f"{data}: none of {len(paths)} pictures can be read; the first: {failures[0][0]}: {failures[0][1]}"
        )
    return ImageStack.open(out)


def _files(path: Path | str) -> tuple[Path, Path]:
    path = Path(path)
    return path.with_name(path.name + ".u8"), path.with_name(path.name + ".json")


def _decode(path: Path, size: int) -> np.ndarray | ImageError:
    try:
        return resize(read_image(path).pixels, size)
    except ImageError as error:
        return error


def _key(paths: list[Path], size: int) -> str:
    digest = hashlib.sha256(str(size).encode())
    for path in paths:
        try:
            stat = path.stat()
            digest.update(f"{path.name}\0{stat.st_size}\0{stat.st_mtime_ns}\n".encode())
        except OSError:
            digest.update(f"{path.name}\0missing\n".encode())
    return digest.hexdigest()
