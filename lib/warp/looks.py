"""How a mask looks: colours, textures, and mixes of both to draw from.

A mix is a text such as "surgical_blue=5, cloth/floral=2, n95#333333, cloth#aa3355@0.6/stripes@0.5": items separated by
commas, each a template, then perhaps `#rrggbb` or `#name` for a colour, `/texture`, and `=weight`, how often it comes
relative to the others (1 where none is given). `@share` after a colour or a texture says how much of it the cloth
takes, from 0 to 1 (1 where none is given). An own template's file takes them too, "my/mask.json#navy/dots"; a mask of a
pack, "masks.cfg#NAME", in the JSON form only.

A colour is the cloth's ground, a texture what is printed on it. Without a colour, a built-in texture brings its own
ground; with one, of its two colours the print has the one whose brightness is farther from the ground's, or the second
of two that were asked for (`dots:navy,white`). Of a picture the transparent parts show the ground.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path

import numpy as np
from PIL import ImageColor

from lib.data.images import ImageError, read_image
from lib.warp.sheet import Template

TEXTURES = {  # built in, with the two colours that are used where none are chosen
    "checks": ("#24344f", "#f2f0ea"),
    "dots": ("#f4f1ea", "#9c2f3f"),
    "stripes": ("#f5f5f2", "#3e5f8a"),
    "floral": ("#f3ead9", "#b8485f"),
}
_LUMINANCE = np.array([0.299, 0.587, 0.114])
_TILE = 96  # px of a built-in texture at scale 1 on a template 512 px wide


@dataclass(frozen=True)
class MixItem:
    """template: its name or file; colour: "#rrggbb", or "" for its own; texture: built-in name (with two colours of
    your own after a colon: "dots:navy,white") or picture file, or ""; weight: how often, relative to the others;
    colour_weight, texture_weight: how much of either the cloth takes, in [0, 1]."""

    template: str
    colour: str = ""
    texture: str = ""
    weight: float = 1.0
    colour_weight: float = 1.0
    texture_weight: float = 1.0

    def to_dict(self) -> dict:
        return asdict(self)


@functools.lru_cache(maxsize=256)
def parse_colour(text: str) -> tuple[int, int, int]:
    """(r, g, b), 0…255, of "#rrggbb", "#rgb" or a CSS colour name. Raises ValueError for another text."""
    try:
        return ImageColor.getrgb(text.strip())[:3]
    except ValueError:
        raise ValueError(f"colour {text!r}: expected #rrggbb or a CSS name such as navy") from None


def parse_mix(given: str | Sequence[dict]) -> tuple[MixItem, ...]:
    """A mix from its text form, from JSON text, or from a list of dictionaries with the fields of `MixItem`.

    Raises ValueError that names the item which is wrong and what is expected.
    """
    if isinstance(given, str):
        if given.lstrip().startswith("["):
            try:
                given = json.loads(given)
            except json.JSONDecodeError as error:
                raise ValueError(f"mix: not JSON ({error})") from None
        else:
            given = [_item(part.strip()) for part in _split(given)]
    items = []
    for entry in given:
        try:
            item = MixItem(**entry)
        except TypeError:
            known = ", ".join(field.name for field in fields(MixItem)[1:])
            raise ValueError(f"mix: {entry!r}: expected template, and perhaps {known}") from None
        if not item.template:
            raise ValueError(f"mix: {entry!r} names no template")
        if not isinstance(item.weight, int | float) or not 0 <= item.weight < 1e9:
            raise ValueError(f"mix: {item.template}: the weight must be a number of at least 0, got {item.weight!r}")
        for what, share in (("colour", item.colour_weight), ("texture", item.texture_weight)):
            if not isinstance(share, int | float) or not 0 <= share <= 1:
                raise ValueError(f"mix: {item.template}: the share of its {what} must be from 0 to 1, got {share!r}")
        if item.colour:
            parse_colour(item.colour)
        if item.texture:
            _check_texture(item.texture)
        items.append(item)
    if not items:
        raise ValueError("mix: it names no mask; expected e.g. surgical_blue=5, cloth/floral")
    if not sum(item.weight for item in items) > 0:
        raise ValueError("mix: no mask with a weight above 0")
    return tuple(items)


def _split(text: str) -> list[str]:
    """Parts between commas; a comma belongs to the part before it where that is a texture with its first colour."""
    parts: list[str] = []
    for part in text.split(","):
        waiting = parts and ":" in parts[-1].split("/")[-1] and parts[-1].split("/")[-1].split(":")[0] in TEXTURES
        if waiting and parts[-1].count("\0") == 0 and "=" not in parts[-1]:
            parts[-1] += "\0" + part
        else:
            parts.append(part)
    return [part.replace("\0", ",") for part in parts if part.strip()]


def _item(text: str) -> dict:
    body, _, weight = text.rpartition("=") if "=" in text else (text, "", "")
    try:
        number = float(weight) if weight else 1.0
    except ValueError:
        raise ValueError(f"mix: {text!r}: the weight after = must be a number") from None
    body = body.strip()
    if not body:
        raise ValueError(f"mix: {text!r} names no template")
    if ".cfg#" in body:  # the part after # is a mask's name; colour and texture only in the JSON form
        return {"template": body, "weight": number}
    if body.endswith(".cfg"):
        from lib.warp.own import pack_names  # it reads colours with this module

        names = ", ".join(pack_names(body)) or "none that has a picture"
        raise ValueError(f"mix: {body}: which of its masks? Write {body}#NAME; there are {names}")
    end = body.rfind(".json") + len(".json") if ".json" in body else 0  # of an own template: slashes of its path
    name, slash, texture = body[end:].partition("/")
    name, mark, colour = name.partition("#")
    name = body[:end] + name
    colour, much = _share(colour)
    texture, strong = _share(texture)
    if not name.strip():
        raise ValueError(f"mix: {text!r} names no template")
    if (mark and not colour) or (slash and not texture):
        raise ValueError(f"mix: {text!r}: nothing after the # or /; expected e.g. cloth#333333 or cloth/dots")
    if mark and all(c in "0123456789abcdefABCDEF" for c in colour):
        colour = "#" + colour
    return {"template": name.strip(), "colour": colour, "texture": texture, "weight": number,
            "colour_weight": much, "texture_weight": strong}  # fmt: skip


def _share(text: str) -> tuple[str, float]:
    """ "stripes@0.5" → ("stripes", 0.5); 1 where no number follows an @, which may well be part of a file's name."""
    name, mark, share = text.rpartition("@")
    try:
        return (name.strip(), float(share)) if mark else (text.strip(), 1.0)
    except ValueError:
        return text.strip(), 1.0


def draw_item(rng: np.random.Generator, mix: Sequence[MixItem]) -> MixItem:
    """One item by its weight; takes exactly one draw."""
    edges = np.cumsum([item.weight for item in mix])
    return mix[min(int(np.searchsorted(edges, rng.random() * edges[-1], side="right")), len(mix) - 1)]


@functools.lru_cache(maxsize=64)
def reference(mask: Template) -> float:
    """Mean luminance (Rec. 601, 0…1) of a template's cloth where it takes dye: what counts as unshaded cloth."""
    where = mask.rgba[..., 3] > 127
    if mask.dye is not None and (where & (mask.dye > 127)).any():
        where = where & (mask.dye > 127)
    return max(float((mask.rgba[..., :3][where] @ _LUMINANCE).mean() / 255), 0.02)


def _check_texture(name: str) -> None:
    base, _, colours = name.partition(":")
    if base in TEXTURES:
        if colours and len(colours.split(",")) != 2:
            raise ValueError(f"texture {name!r}: expected two colours after the colon, as in {base}:navy,white")
        for colour in filter(None, colours.split(",")):
            parse_colour(colour)
    elif not Path(name).is_file():
        raise ValueError(f"texture {name!r}: neither one of {', '.join(TEXTURES)} nor a picture file")


@functools.lru_cache(maxsize=32)
def texture_sheet(name: str, shape: tuple[int, int], scale: float = 1.0, ground: str = "") -> np.ndarray:
    """A texture over a template's canvas: uint8 [h, w, 4], colour multiplied by coverage, and coverage; read-only.

    name: as in `MixItem.texture`. shape: (h, w) of the canvas. scale: size of the pattern; 1 repeats a built-in one
    about five times across the mask, a picture file once. ground: a colour that the print is to stand out from; then a
    built-in texture covers the print alone, otherwise everything. Raises ValueError for a texture, scale or colour that
    cannot be.
    """
    _check_texture(name)
    if not 0.05 <= scale <= 20:
        raise ValueError(f"texture scale: expected 0.05 to 20, got {scale!r}")
    base, _, own = name.partition(":")
    if base in TEXTURES:
        colours = tuple(own.split(",")) if own else TEXTURES[base]
        tile = _print(base, _ink(colours, ground, bool(own))) if ground else _opaque(_tile(base, colours))
        step = len(tile) / (_TILE * scale * shape[1] / 512)
    else:
        try:
            picture = read_image(name)
        except ImageError as error:
            raise ValueError(f"texture {error}") from None
        tile = _opaque(picture.pixels)
        if picture.alpha is not None:
            tile = np.rint(tile * (picture.alpha[..., None] / 255)).astype(np.uint8)
        step = tile.shape[1] / (shape[1] * scale)
    rows, columns = ((np.arange(n) * step).astype(int) % m for n, m in zip(shape, tile.shape))
    out = np.ascontiguousarray(tile[np.ix_(rows, columns)])
    out.flags.writeable = False
    return out


def _opaque(rgb: np.ndarray) -> np.ndarray:
    return np.concatenate([rgb, np.full((*rgb.shape[:2], 1), 255, np.uint8)], axis=-1)


def _ink(colours: tuple[str, str], ground: str, asked: bool) -> str:
    """The colour of a print on a ground."""
    below = np.dot(parse_colour(ground), _LUMINANCE)
    return colours[1] if asked else max(colours, key=lambda c: abs(np.dot(parse_colour(c), _LUMINANCE) - below))


def _print(base: str, ink: str) -> np.ndarray:
    """A built-in texture without its ground, uint8 [192, 192, 4]: what is the same on black and on white."""
    black, white = (_tile(base, (ground, ink)).astype(int) for ground in ("black", "white"))
    return np.concatenate([black, 255 - (white - black).max(-1, keepdims=True)], axis=-1).astype(np.uint8)


def _tile(base: str, colours: tuple[str, str]) -> np.ndarray:
    """One seamless tile of a built-in texture, uint8 [192, 192, 3]."""
    ground, figure = (np.array(parse_colour(c), float) for c in colours)
    n = 192
    y, x = (np.mgrid[:n, :n] + 0.5) / n

    def soft(inside: np.ndarray) -> np.ndarray:  # a signed distance in tiles → coverage, an edge of two pixels
        return np.clip(0.5 + inside * n / 2, 0, 1)

    if base == "stripes":
        cover = soft(0.125 - np.abs((2 * y) % 1 - 0.5) / 2)
    elif base == "checks":  # two crossing bands of half strength, as woven
        bands = [soft(0.25 - np.abs(v - 0.5)) for v in (x, y)]
        cover = 1 - (bands[0] + bands[1]) / 2
    elif base == "dots":
        cover = np.maximum(
            *(soft(0.13 - np.hypot((x - c + 0.5) % 1 - 0.5, (y - c + 0.5) % 1 - 0.5)) for c in (0.25, 0.75))
        )
    else:
        return _floral(x, y, ground, figure, soft)
    return np.rint(ground + cover[..., None] * (figure - ground)).astype(np.uint8)


def _floral(x, y, ground, figure, soft) -> np.ndarray:
    """Five-petalled flowers with a yellow eye, and leaves."""
    rgb = np.broadcast_to(ground, (*x.shape, 3)).copy()

    def paint(cover: np.ndarray, colour) -> None:
        rgb[...] += cover[..., None] * (np.asarray(colour, float) - rgb)

    for cx, cy, size, turn in (
        (0.27, 0.30, 0.20, 0.2),
        (0.76, 0.72, 0.17, 0.9),
        (0.78, 0.20, 0.09, 0.5),
        (0.22, 0.80, 0.10, 1.3),
    ):
        dx, dy = (x - cx + 0.5) % 1 - 0.5, (y - cy + 0.5) % 1 - 0.5
        for leaf in (0.6, 3.6):
            u, v = (
                dx * np.cos(leaf + turn) + dy * np.sin(leaf + turn),
                dy * np.cos(leaf + turn) - dx * np.sin(leaf + turn),
            )
            paint(soft(0.35 * size - np.hypot((u - 1.15 * size) / 1.6, v * 1.3)), (108, 138, 92))
        r, angle = np.hypot(dx, dy), np.arctan2(dy, dx) + turn
        petals = size * (0.68 + 0.32 * np.abs(np.cos(2.5 * angle)))
        paint(soft(petals - r), figure * (0.80 + 0.20 * np.clip(r / size, 0, 1))[..., None])
        paint(soft(0.24 * size - r), (236, 190, 84))
    return np.rint(np.clip(rgb, 0, 255)).astype(np.uint8)
