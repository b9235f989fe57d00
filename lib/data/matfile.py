"""MATLAB's files (version 5, packed or not), as much of the format as label files use: structs, cells, text, numbers.

SciPy has a full reader, but on a damaged file it brings the whole process down (a segmentation fault within 4,000
spoiled files, SciPy 1.17), and it unpacks whatever size a file claims. This one can only raise. Format: MathWorks,
"MAT-File Format", chapter "Level 5 MAT-Files".
"""

from __future__ import annotations

import math
import zlib
from pathlib import Path

import numpy as np

LIMIT = 2**27  # bytes of a file, and of what it unpacks to; MAFA's have about a tenth
_DEPTH = 8  # cells in cells
_MATRIX, _COMPRESSED = 14, 15  # kinds of elements
_NUMBERS = {1: "i1", 2: "u1", 3: "i2", 4: "u2", 5: "i4", 6: "u4", 7: "f4", 9: "f8", 12: "i8", 13: "u8"}
_TEXT = {1: "latin-1", 2: "latin-1", 4: "utf-16", 16: "utf-8", 17: "utf-16"}
_CELL, _STRUCT, _CHAR, _NUMERIC = 1, 2, 4, range(6, 16)  # classes of matrices
_COMPLEX = 0x800
_EMPTY = np.zeros((0, 0))


def read_mat(path: Path | str, name: str) -> list | str | np.ndarray:
    """The array `name` of a MATLAB file.

    A struct array comes as a list with a tuple of its fields' values for each element, a cell array as a list, text as
    str (several rows as a list), numbers as an array of the shape in the file.

    Raises ValueError that names the file: no such array, another version, damaged, or beyond LIMIT.
    """
    path = Path(path)
    try:
        if path.stat().st_size > LIMIT:
            raise ValueError(f"it is larger than {LIMIT:,} bytes")
        content = path.read_bytes()
        order = {b"IM": "little", b"MI": "big"}.get(content[126:128])
        if order is None:
            raise ValueError("it does not begin like a MATLAB file of version 5")
        if int.from_bytes(content[124:126], order) != 0x0100:
            raise ValueError("it is of another version; save it with -v7")
        file, held = _Elements(content[128:], order), []
        while file.left():
            kind, body = file.next()
            if kind == _COMPRESSED:
                kind, body = _Elements(_unpacked(body), order).next()
            if kind != _MATRIX:
                raise ValueError(f"it holds an element of kind {kind} where an array belongs")
            matrix = _Elements(body, order)
            flags, dims, called = _head(matrix)
            if called == name:
                return _values(matrix, flags, dims, 0)
            held.append(called)
    except (ValueError, zlib.error) as error:
        raise ValueError(f"{path}: cannot be read as a MATLAB label file ({error})") from error
    raise ValueError(f"{path}: has no array {name!r}; it holds {', '.join(map(repr, held)) or 'nothing'}")


class _Elements:
    """The elements of a stretch of the file, one after the other: (kind, content)."""

    def __init__(self, content: bytes, order: str) -> None:
        self.content, self.order, self.at = content, order, 0

    def left(self) -> bool:
        return self.at < len(self.content)

    def next(self) -> tuple[int, bytes]:
        tag = self.content[self.at : self.at + 8]
        if len(tag) < 8:
            raise ValueError("it breaks off")
        kind = int.from_bytes(tag[:4], self.order)
        if size := kind >> 16:  # a small element: its content is in the tag
            body, kind = tag[4 : 4 + size], kind & 0xFFFF
            self.at += 8
        else:
            size = int.from_bytes(tag[4:], self.order)
            body = self.content[self.at + 8 : self.at + 8 + size]
            self.at += 8 + size + (-size % 8 if kind != _COMPRESSED else 0)
        if len(body) < size:
            raise ValueError("it breaks off")
        return kind, body


def _unpacked(body: bytes) -> bytes:
    unpacker = zlib.decompressobj()
    content = unpacker.decompress(body, LIMIT)
    if not unpacker.eof:
        raise ValueError(f"it breaks off, or unpacks to more than {LIMIT:,} bytes")
    return content


def _head(matrix: _Elements) -> tuple[int, list[int], str]:
    """Flags, dimensions and name of a matrix."""
    _, flags = matrix.next()
    kind, dims = matrix.next()
    _, name = matrix.next()
    if len(flags) != 8 or kind != 5 or len(dims) < 8 or len(dims) % 4:
        raise ValueError("an array's head is damaged")
    shape = [int.from_bytes(dims[k : k + 4], matrix.order, signed=True) for k in range(0, len(dims), 4)]
    if min(shape) < 0:
        raise ValueError(f"an array has the dimensions {shape}")
    return int.from_bytes(flags[:4], matrix.order), shape, name.decode("latin-1")


def _values(matrix: _Elements, flags: int, dims: list[int], depth: int) -> list | str | np.ndarray:
    kind, count = flags & 0xFF, math.prod(dims)
    if depth > _DEPTH:
        raise ValueError(f"arrays in arrays, more than {_DEPTH} deep")
    if kind == _CELL:
        return [_nested(matrix, depth) for _ in range(count)]
    if kind == _STRUCT:
        length = int.from_bytes(matrix.next()[1], matrix.order)
        names = len(matrix.next()[1])
        if not length or names % length:
            raise ValueError("a struct's names of fields are damaged")
        return [tuple(_nested(matrix, depth) for _ in range(names // length)) for _ in range(count)]
    if kind not in (_CHAR, *_NUMERIC) or flags & _COMPLEX:
        raise ValueError(f"an array of class {kind}{' with complex numbers' if flags & _COMPLEX else ''}")
    stored, body = matrix.next()
    little = matrix.order == "little"
    if kind == _CHAR:
        if stored not in _TEXT:
            raise ValueError(f"text of kind {stored}")
        coding = _TEXT[stored]
        text = body.decode(coding + ("-le" if little else "-be") if coding == "utf-16" else coding)
        if dims[0] < 2:
            return text
        if len(text) != count:
            raise ValueError(f"text of {len(text)} characters for the dimensions {dims}")
        return [text[row :: dims[0]] for row in range(dims[0])]  # column by column
    if stored not in _NUMBERS:
        raise ValueError(f"numbers of kind {stored}")
    numbers = np.frombuffer(body, ("<" if little else ">") + _NUMBERS[stored])
    if numbers.size != count:
        raise ValueError(f"{numbers.size} numbers for the dimensions {dims}")
    return numbers.reshape(dims, order="F")


def _nested(matrix: _Elements, depth: int) -> list | str | np.ndarray:
    kind, body = matrix.next()
    if kind != _MATRIX:
        raise ValueError(f"an element of kind {kind} where an array belongs")
    if not body:  # how MATLAB writes an element never set
        return _EMPTY
    inner = _Elements(body, matrix.order)
    flags, dims, _ = _head(inner)
    return _values(inner, flags, dims, depth + 1)
