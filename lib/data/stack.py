"""Pictures packed into one memory-mapped file, so that training reads pixels, not PNGs, and memory stays flat.

NAME.u8     raw uint8 [N, 3, S, S]; tensors: [N, 1, S, S], 0 or 1
NAME.json   names, shape, failures, the content's sha256, and a key over the sources' names, sizes and times

The stack is up to date while the key holds. Size and time instead of a hash of every source: hashing costs as much as
packing, and a rewritten picture changes its time; at worst a stack is packed again without need. The content's own
sha256 is taken while writing and names the data in a run's manifest.
"""

from __future__ import annotations

import glob
import hashlib
import os
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from tqdm.auto import tqdm

from lib.data.files import read_json, sha256, write_json
from lib.data.images import ImageError, read_image, resize

VERSION = 1  # part of the key: raise it when a change of decoding or resizing changes pixels
_CHUNK = 64  # pictures decoded at a time: bounds the memory, whatever the size of the set
_THREADS = 8  # at most: each holds a whole decoded picture
_ABANDONED_S = 3600  # a temporary file not written to for so long belongs to a killed call


class StackError(ValueError):
    """A stack that is missing, damaged or of another kind; the message names the file."""


@dataclass(frozen=True, eq=False)
class ImageStack:
    """A packed set. `images` is a read-only memory map, uint8 [N, 3, S, S] (tensors: [N, 1, S, S], 0 or 1).

    `names` are paths relative to the sources' common folder; `sha256` names the content; `failures` lists what could
    not be read as (path, reason).
    """

    images: np.ndarray
    names: tuple[str, ...]
    sha256: str
    failures: tuple[tuple[str, str], ...] = ()

    def __len__(self) -> int:
        return len(self.names)

    @classmethod
    def open(cls, path: Path | str, verify: bool = False) -> ImageStack:
        """Open `path`.u8 with its `path`.json; with `verify` the content is hashed too (reads all of it).

        Raises StackError when either is missing or damaged, or they do not belong together.
        """
        data, meta = _files(path)
        try:
            note = read_json(meta)
            shape, names = tuple(map(int, note["shape"])), tuple(map(str, note["names"]))
            digest, failures = str(note["sha256"]), tuple((str(p), str(r)) for p, r in note["failures"])
            size = data.stat().st_size
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise StackError(f"{meta}: no usable stack ({error}); delete it and pack again") from error
        expected = int(np.prod(shape))
        if len(shape) != 4 or not names or len(names) != shape[0] or size != expected:
            raise StackError(
                f"{data}: {size:,} bytes and {len(names)} names, expected {expected:,} bytes of shape {list(shape)}; "
                "delete it and pack again"
            )
        if verify and sha256(data) != digest:
            raise StackError(f"{data}: its content has changed since it was packed; delete it and pack again")
        return cls(np.memmap(data, np.uint8, "r", shape=shape), names, digest, failures)


def pack(paths: Sequence[Path], size: int, out: Path | str, progress: bool = True) -> ImageStack:
    """Decode pictures to `size` × `size` RGB and pack them into `out`.u8 and `out`.json; at once if up to date.

    A picture that cannot be read is left out and listed in `failures` as (path, reason). Memory is flat: one chunk of
    pictures at a time. A killed call leaves only a temporary file.

    Raises ValueError when there is nothing to pack.
    """

    def decode(path: Path) -> np.ndarray:
        return resize(read_image(path).pixels, size).transpose(2, 0, 1)

    return _pack(paths, (3, size, size), out, progress, decode)


def pack_tensors(
    paths: Sequence[Path], size: int, out: Path | str, load: Callable[[Path], np.ndarray], progress: bool = True
) -> ImageStack:
    """Pack bool [size, size] tensors (non-mask regions, paper §4.1) as uint8 0/1 [N, 1, size, size]; else like `pack`.

    `load` reads one file and raises ValueError or OSError where it cannot; another shape or dtype is a failure too.
    """

    def decode(path: Path) -> np.ndarray:
        try:
            tensor = np.asarray(load(path))
        except (ValueError, OSError) as error:
            raise ImageError(path, str(error)) from error
        if tensor.dtype != bool or tensor.shape != (size, size):
            got = f"{tensor.dtype} {list(tensor.shape)}"
            raise ImageError(path, f"expected bool [{size}, {size}], got {got}")
        return tensor[None].astype(np.uint8)

    return _pack(paths, (1, size, size), out, progress, decode)


def _pack(
    paths: Sequence[Path], shape: tuple[int, int, int], out: Path | str, progress: bool, decode: Callable
) -> ImageStack:
    paths = [Path(path) for path in paths]
    data, meta = _files(out)
    if not paths:
        raise ValueError(f"{data}: no pictures to pack")
    names = _names(paths)
    key = _key(paths, names, shape)
    try:
        if meta.exists() and read_json(meta).get("key") == key:
            return ImageStack.open(out)
    except (ValueError, AttributeError):
        pass  # damaged: packed anew below
    data.parent.mkdir(parents=True, exist_ok=True)
    _sweep(data)
    partial = data.with_name(f".{data.name}.{os.getpid()}.tmp")
    try:
        with partial.open("wb") as file:
            kept, failures, digest = _write(file, paths, names, decode, _bar(data, len(paths), progress))
        if not kept:
            path, reason = failures[0]
            raise ValueError(f"{data}: none of {len(paths)} pictures can be read; the first: {path}: {reason}")
        meta.unlink(missing_ok=True)  # never an old description beside new pixels
        os.replace(partial, data)
    finally:
        partial.unlink(missing_ok=True)
    note = {"shape": [len(kept), *shape], "names": kept, "failures": failures, "key": key, "sha256": digest}
    write_json(meta, note)
    return ImageStack.open(out)


def _write(file, paths: list[Path], names: list[str], decode: Callable, bar) -> tuple[list[str], list, str]:
    """Decode in threads, write in order. Returns the names written, the failures and the content's sha256."""
    kept, failures, digest = [], [], hashlib.sha256()
    with bar, ThreadPoolExecutor(min(_THREADS, os.cpu_count() or 1)) as pool:
        for start in range(0, len(paths), _CHUNK):
            part = slice(start, start + _CHUNK)
            for path, name, result in zip(paths[part], names[part], pool.map(_caught(decode), paths[part])):
                if isinstance(result, ImageError):
                    failures.append((str(path), result.reason))
                else:
                    raw = np.ascontiguousarray(result).tobytes()
                    digest.update(raw)
                    file.write(raw)
                    kept.append(name)
                bar.update()
    file.flush()
    os.fsync(file.fileno())
    return kept, failures, digest.hexdigest()


def _bar(data: Path, total: int, progress: bool) -> tqdm:
    return tqdm(total=total, desc=f"packing {data.stem}", unit="picture", disable=not progress, mininterval=1)


def _caught(decode: Callable) -> Callable:
    def attempt(path: Path) -> np.ndarray | ImageError:
        try:
            return decode(path)
        except ImageError as error:
            return error

    return attempt


def _files(path: Path | str) -> tuple[Path, Path]:
    path = Path(path)
    return path.with_name(path.name + ".u8"), path.with_name(path.name + ".json")


def _names(paths: list[Path]) -> list[str]:
    """Each path relative to the folder all have in common: equal file names in two folders stay apart."""
    folder = os.path.commonpath([os.path.abspath(path.parent) for path in paths])
    return [Path(os.path.relpath(path, folder)).as_posix() for path in paths]


def _key(paths: list[Path], names: list[str], shape: tuple[int, ...]) -> str:
    digest = hashlib.sha256(f"{VERSION} {shape}".encode())
    for path, name in zip(paths, names):
        try:
            stat = path.stat()
            state = f"{stat.st_size}\0{stat.st_mtime_ns}"
        except OSError:
            state = "missing"
        digest.update(f"{os.fsencode(name)!r}\0{state}\n".encode())
    return digest.hexdigest()


def _sweep(data: Path) -> None:
    """Remove the temporary files of killed calls: each may be as large as the stack."""
    for path in data.parent.glob(f".{glob.escape(data.name)}.*.tmp"):
        if time.time() - path.stat().st_mtime > _ABANDONED_S:
            path.unlink(missing_ok=True)
