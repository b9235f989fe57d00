"""Own mask templates: a picture and a small JSON file; and MaskTheFace's template packs, read as they are.

The JSON file (paths are relative to it):

    {"name": "my mask", "picture": "mask.png", "surface": "drape",
     "points": {"top_left": [21, 97], "nose_bridge": [307, 22], …},
     "background": "#ffffff",                       only for a picture without transparency: the colour to take out
     "straps": [{"start": [30, 110], "to": "ear_top", "side": "left", "width": 0.012, "colour": [236, 238, 240]}],
     "left": "mask_left.json", "right": "mask_right.json"}

`points` holds the twelve places of `KEY_POINTS` or the six of `SIX_POINTS`, (x, y) px of the picture; where straps are
not given, ear loops begin at the mask's corners. `python -m lib.warp.own --help` tells the commands.
"""

from __future__ import annotations

import argparse
import configparser
import difflib
import json
import sys
from pathlib import Path

import numpy as np
from scipy.ndimage import distance_transform_edt

from lib.data.files import write_json, write_png
from lib.data.images import ImageError, read_image
from lib.warp.looks import parse_colour
from lib.warp.sheet import KEY_POINTS, SIX_POINTS, Strap, Template

_KEYS = ("name", "picture", "surface", "points", "background", "straps", "left", "right")
_MOST_PX = 4096  # of a side; a template is seldom shown larger than 1024
_LOOP = (236, 238, 240)
_PACK_POINTS = dict(zip("abcdef", SIX_POINTS, strict=True))  # MaskTheFace's mask_a … mask_f


class TemplateError(ValueError):
    """An own template cannot be used; the message names the file, what is wrong and what to do."""


def load_template(path: str | Path) -> Template:
    """Read an own template: a .json file as described above, or "…/masks.cfg#NAME" for one of a MaskTheFace pack.

    Raises TemplateError.
    """
    text = str(path)
    if ".cfg#" in text:
        file, _, name = text.rpartition("#")
        return read_pack(file, [name])[name]
    return _load(Path(path), ())


def _load(path: Path, above: tuple[Path, ...]) -> Template:
    try:
        fields = json.loads(path.read_text("utf-8"))
    except FileNotFoundError:
        raise TemplateError(f"{path}: no such template file") from None
    except (json.JSONDecodeError, UnicodeDecodeError, IsADirectoryError) as error:
        raise TemplateError(f"{path}: not a JSON file ({error})") from None
    if not isinstance(fields, dict) or not isinstance(fields.get("picture"), str):
        raise TemplateError(f"{path}: expected an object with picture and points; {_make_hint()}")
    if unknown := sorted(set(fields) - set(_KEYS)):
        raise TemplateError(
            f"{path}: unknown {', '.join(unknown)}{_guess(unknown[0], _KEYS)}; known: {', '.join(_KEYS)}"
        )
    rgba = _picture(path.parent / fields["picture"], fields.get("background"))
    points = _points(fields.get("points"), rgba.shape[:2], str(path))
    sides = {}
    for side in ("left", "right"):
        if fields.get(side) is not None:
            file = path.parent / str(fields[side])
            if file.resolve() in (*above, path.resolve()):
                raise TemplateError(f"{path}: its {side} view refers back to {file.name}")
            sides[side] = _load(file, (*above, path.resolve()))
    name = str(fields.get("name", path.stem))
    return _template(rgba, points, name, str(path), fields.get("surface", "drape"), fields.get("straps"), sides)


def _template(rgba, points, name: str, where: str, surface: str = "drape", straps=None, sides=None) -> Template:
    from lib.warp.face3d import SURFACES

    if surface not in SURFACES:
        raise TemplateError(
            f"{where}: surface {surface!r}{_guess(str(surface), SURFACES)}; known: {', '.join(SURFACES)}"
        )
    try:
        worn = _loops(points) if straps is None else tuple(
            Strap(tuple(map(float, s["start"])), s["to"], s["side"], float(s.get("width", 0.024)),
                  tuple(int(v) for v in s.get("colour", _LOOP)))
            for s in straps
        )  # fmt: skip
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise TemplateError(f"{where}: straps: each needs start [x, y], to, side ({error})") from None
    for array in (rgba, points):
        array.flags.writeable = False
    return Template(rgba=rgba, points=points, name=name, surface=surface, straps=worn, **(sides or {}))


def _loops(points: np.ndarray) -> tuple[Strap, ...]:
    """Ear loops from the corners of a mask."""
    if len(points) == 12:
        corners = {"left": (points[0], points[10]), "right": (points[4], points[6])}
    else:
        corners = {"left": (points[0], points[3]), "right": (points[2], points[5])}
    return tuple(
        Strap(tuple((0.95 * corner + 0.05 * points.mean(0)).tolist()), to, side, 0.024, _LOOP)
        for side, pair in corners.items()
        for corner, to in zip(pair, ("ear_top", "ear_bottom"))
    )


def _picture(path: Path, background: str | None = None) -> np.ndarray:
    """uint8 [h, w, 4]: the colour of transparent pixels is that of the nearest opaque one, so that no fringe shows."""
    if not path.is_file():
        raise TemplateError(f"{path}: no such picture")
    try:
        picture = read_image(path, max_pixels=_MOST_PX * _MOST_PX)
    except ImageError as error:
        raise TemplateError(f"{error}; save it again as PNG with transparency, at most {_MOST_PX} px wide") from None
    rgb, alpha = picture.pixels, picture.alpha
    if alpha is None or alpha.min() == 255:
        if not background:
            raise TemplateError(
                f"{path}: nothing of it is transparent; cut the mask out (PNG with alpha), or give the colour "
                'around it as "background": "#ffffff" (--background \'#ffffff\' with `make`)'
            )
        try:
            away = np.abs(rgb.astype(int) - parse_colour(background)).max(-1)
        except ValueError as error:
            raise TemplateError(f"{path}: background: {error}") from None
        alpha = np.clip((away - 12) * 8, 0, 255).astype(np.uint8)
    if not (alpha > 127).any():
        raise TemplateError(f"{path}: all of it is transparent, there is no mask in it")
    nearest = (
        distance_transform_edt(alpha < 250, return_distances=False, return_indices=True)
        if (alpha >= 250).any()
        else None
    )
    bled = rgb if nearest is None else rgb[tuple(nearest)]
    return np.ascontiguousarray(np.dstack([bled, alpha]))


def _points(given, shape: tuple[int, int], where: str) -> np.ndarray:
    """float32 [12 or 6, 2] from {name: [x, y]}, checked to be the points of a mask that is the right way up."""
    if not isinstance(given, dict):
        raise TemplateError(f"{where}: points: expected names with [x, y] each; {_make_hint()}")
    known = {*KEY_POINTS, *SIX_POINTS}
    if unknown := [name for name in given if name not in known]:
        raise TemplateError(f"{where}: point {unknown[0]!r} is unknown{_guess(unknown[0], known)}")
    names = KEY_POINTS if len(set(given) & set(KEY_POINTS)) > len(set(given) & set(SIX_POINTS)) else SIX_POINTS
    if missing := [name for name in names if name not in given]:
        raise TemplateError(f"{where}: {len(missing)} of {len(names)} points are missing: {', '.join(missing)}")
    if len(given) > len(names):
        raise TemplateError(f"{where}: give either the twelve points or the six, not both")
    try:
        points = np.array([[float(v) for v in given[name]] for name in names], dtype=np.float32)
        sound = points.shape == (len(names), 2) and np.isfinite(points).all()
    except (TypeError, ValueError):
        sound = False
    if not sound:
        raise TemplateError(f"{where}: every point needs two numbers, [x, y] px of the picture")
    if (np.abs(points) > 4 * max(shape)).any():
        raise TemplateError(f"{where}: a point lies far outside the picture ({shape[1]} × {shape[0]} px)")
    centred = points - points.mean(axis=0)
    if np.linalg.svd(centred, compute_uv=False)[1] < 0.05 * max(shape):
        raise TemplateError(f"{where}: the points lie (nearly) on a line; click them on the mask itself")
    gaps = np.linalg.norm(points[:, None] - points[None], axis=-1) + 1e9 * np.eye(len(points))
    if gaps.min() < 1:
        i, j = np.unravel_index(gaps.argmin(), gaps.shape)
        raise TemplateError(f"{where}: {names[i]} and {names[j]} are in one place")
    left, right, top, bottom = (names.index(n) for n in
                                (("top_left", "top_right", "nose_bridge", "chin") if names is KEY_POINTS else
                                 ("nose_line_left", "nose_line_right", "bridge", "chin")))  # fmt: skip
    if points[left, 0] >= points[right, 0]:
        raise TemplateError(f"{where}: {names[left]} lies right of {names[right]}; left is the picture's left")
    if points[top, 1] >= points[bottom, 1]:
        raise TemplateError(f"{where}: {names[top]} lies below the chin; y grows downwards")
    return points


def _guess(name: str, known) -> str:
    close = difflib.get_close_matches(name, list(known), 1)
    return f" (did you mean {close[0]}?)" if close else ""


def _make_hint() -> str:
    return "make it with `python -m lib.warp.own make` or click the points in a notebook (lib.warp.picker)"


def save_template(path: str | Path, picture: str | Path, points: dict, **fields) -> Path:
    """Write an own template's JSON file, atomically, after checking that it can be read. Gives its path.

    picture: its picture; stored relative to the JSON's folder where it lies below it. points: {name: (x, y)}. fields:
    the others of the format. Raises TemplateError, and writes nothing, where `load_template` would.
    """
    path, picture = Path(path), Path(picture)
    if path.suffix.lower() != ".json":
        raise TemplateError(f"{path}: a template's file ends in .json")
    rgba = _picture(picture, fields.get("background"))
    plain = {name: [round(float(v), 2) for v in place] for name, place in points.items()}
    _template(
        rgba,
        _points(plain, rgba.shape[:2], str(path)),
        path.stem,
        str(path),
        fields.get("surface", "drape"),
        fields.get("straps"),
    )
    here = path.resolve().parent
    target = picture.resolve()
    shown = target.relative_to(here).as_posix() if target.is_relative_to(here) else target.as_posix()
    write_json(path, {"name": fields.pop("name", path.stem), "picture": shown, "points": plain, **fields})
    return path


# --- MaskTheFace packs ------------------------------------------------------------------------------------------------


def read_pack(root: str | Path, names: list[str] | None = None) -> dict[str, Template]:
    """The templates of a MaskTheFace pack: its masks.cfg, or the folder that holds masks/masks.cfg or masks.cfg.

    Sections NAME, NAME_left, NAME_right become one template with side views; empty sections are skipped. names: only
    these. Raises TemplateError for a pack or a name that is not there, and for a template that cannot be used.
    """
    config, file = _config(Path(root))
    base = file.parent.parent if file.parent.name == "masks" else file.parent
    fronts = pack_names(root)
    out = {}
    for name in fronts if names is None else names:
        if name not in fronts:
            raise TemplateError(
                f"{file}: no template {name!r}{_guess(name, fronts)}; it has {', '.join(fronts) or 'none'}"
            )
        sides = {
            s: _section(config, file, base, f"{name}_{s}")
            for s in ("left", "right")
            if config.get(f"{name}_{s}", "template", fallback="").strip()
        }
        out[name] = _section(config, file, base, name, sides)
    return out


def pack_names(root: str | Path) -> list[str]:
    """Names of the templates in a pack that have a picture."""
    config, _ = _config(Path(root))
    return [
        s
        for s in config.sections()
        if config.get(s, "template", fallback="").strip() and not s.endswith(("_left", "_right"))
    ]


def _config(root: Path) -> tuple[configparser.ConfigParser, Path]:
    tries = [root] if root.is_file() else [root / "masks" / "masks.cfg", root / "masks.cfg"]
    file = next((t for t in tries if t.is_file()), None)
    if file is None:
        hint = "; a pack's mask takes colour and print in the JSON form, see --help" if "#" in str(root) else ""
        raise TemplateError(f"{root}: no MaskTheFace pack there (looked for {' and '.join(map(str, tries))}){hint}")
    config = configparser.ConfigParser(interpolation=None, strict=False)
    config.optionxform = str
    try:
        config.read_string(file.read_text("utf-8"))
    except (configparser.Error, UnicodeDecodeError) as error:
        raise TemplateError(f"{file}: not a masks.cfg ({' '.join(str(error).split())})") from None
    return config, file


def _section(config, file: Path, base: Path, name: str, sides: dict | None = None) -> Template:
    where = f"{file} [{name}]"
    given = {}
    for letter, point in _PACK_POINTS.items():
        text = config.get(name, f"mask_{letter}", fallback="")
        try:
            x, y = (float(v) for v in text.split(","))
        except ValueError:
            raise TemplateError(f"{where}: mask_{letter}: expected x, y in pixels, got {text!r}") from None
        given[point] = [x, y]
    picture = Path(config.get(name, "template").strip())
    found = next(
        (p for p in (base / picture, file.parent / picture, file.parent / "templates" / picture.name) if p.is_file()),
        base / picture,
    )
    try:
        rgba = _picture(found)
    except TemplateError as error:
        raise TemplateError(f"{where}: {error}") from None
    return _template(rgba, _points(given, rgba.shape[:2], where), name, where, sides=sides)


# --- commands ---------------------------------------------------------------------------------------------------------


def _parse_points(text: str) -> dict:
    out = {}
    for part in text.split():
        name, _, place = part.partition("=")
        try:
            x, y = (float(v) for v in place.split(","))
        except ValueError:
            raise TemplateError(f"--points: {part!r}: expected name=x,y") from None
        out[name] = (x, y)
    return out


_EPILOG = f"""\
points, either twelve:
  {" ".join(KEY_POINTS[:6])}
  {" ".join(KEY_POINTS[6:])}
or six (MaskTheFace's a to f):
  {" ".join(SIX_POINTS)}

examples:
  python -m lib.warp.own make mask.png mask.json --points \\
    'nose_line_left=21,97 bridge=307,22 nose_line_right=600,99 lip_line_left=25,322 chin=295,470 lip_line_right=600,323'
  python -m lib.warp.own check mask.json look.png
  python -m lib.warp.own pack MaskTheFace
  python -m lib.augment photos masked --rule-only --masks 'mask.json=2, MaskTheFace/masks/masks.cfg#N95'

a mix: NAME[#COLOUR[@SHARE]][/TEXTURE[@SHARE]][=WEIGHT], … with the cloth's colour, a print on it, how much of either
it takes (0 to 1), and how often the mask comes: 'mask.json#aa3355@0.6/dots=2'. A pack's masks take them as JSON:
'[{{"template": "MaskTheFace/masks/masks.cfg#cloth", "colour": "#aa3355", "texture": "dots", "weight": 2}}]'
"""


def main(argv: list[str] | None = None) -> int:
    """`python -m lib.warp.own`; gives the exit status."""
    p = argparse.ArgumentParser(
        prog="python -m lib.warp.own",
        description="Make, check and import mask templates of your own.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog=_EPILOG,
    )
    commands = p.add_subparsers(dest="command", required=True)
    make = commands.add_parser("make", help="write a template's JSON file")
    for name in ("picture", "json"):
        make.add_argument(name, type=Path)
    make.add_argument("--points", required=True, help="name=x,y …, px of the picture; see below")
    make.add_argument("--surface", default="drape", help="drape, cup, fold, beak or half (default: drape)")
    make.add_argument("--background", help="colour to take out of a picture without transparency")
    check = commands.add_parser("check", help="draw a template with its points, and worn, to look at")
    check.add_argument("template", help="a .json file, masks.cfg#NAME, or the name of a built-in one")
    check.add_argument("png", type=Path)
    pack = commands.add_parser("pack", help="list the templates of a MaskTheFace pack, and how to name them")
    pack.add_argument("root", type=Path)
    args = p.parse_args(argv)
    try:
        if args.command == "make":
            more = {"background": args.background} if args.background else {}
            try:
                print(save_template(args.json, args.picture, _parse_points(args.points), surface=args.surface, **more))
            except TemplateError as error:
                raise TemplateError(f"{args.json} was not written: {error}") from None
        elif args.command == "check":
            from lib.warp.templates import preview, template

            mask = template(args.template)
            write_png(args.png, preview(mask, args.template))
            print(f"{args.png}: {mask.name}, {mask.rgba.shape[1]} × {mask.rgba.shape[0]} px, {len(mask.points)} points")
        else:
            _, file = _config(args.root)
            bad = 0
            for name in pack_names(args.root):
                try:
                    mask = read_pack(args.root, [name])[name]
                    views = " and ".join(side for side in ("left", "right") if getattr(mask, side) is not None)
                    print(f"{file}#{name}" + f"  with {views} view" * bool(views))
                except TemplateError as error:
                    bad += 1
                    print(f"not usable: {error}", file=sys.stderr)
            return 1 if bad else 0
    except (ValueError, OSError) as error:
        print(f"lib.warp.own: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
