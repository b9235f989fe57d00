"""The mask templates by name: those drawn by code, so that nothing has to be downloaded and they are sharp at any size,
and own ones from a file.

The paper's first step is CMFD, which puts one light-blue surgical mask on every face by matching twelve key points of
the mask with the face's landmarks (paper §3; cabani2021maskedface); `surgical_blue` is drawn after it.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache, partial
from pathlib import Path

import numpy as np

from lib.warp import drawn_shaped
from lib.warp.drawn_surgical import COLOURS, surgical
from lib.warp.sheet import KEY_POINTS, MIRRORED_POINTS, SIX_POINTS, Strap, Template

__all__ = ["KEY_POINTS", "MIRRORED_POINTS", "SIX_POINTS", "TEMPLATES", "Strap", "Template", "preview", "template"]

# Name → function of the canvas's width in px (a multiple of 128).
TEMPLATES: dict[str, Callable[[int], Template]] = {
    **{name: partial(surgical, name) for name in COLOURS},
    "n95": drawn_shaped.n95,
    "kn95": drawn_shaped.kn95,
    "ffp2": drawn_shaped.ffp2,
    "cloth": drawn_shaped.cloth,
    "gas": drawn_shaped.gas,
}


def template(name: str, size: int = 512) -> Template:
    """A template by its name in `TEMPLATES`, `size` px wide, or an own one by its file (at the size it has).

    Raises ValueError for a name that is neither, naming those there are; for an own one, what `own.load_template`
    raises.
    """
    if name in TEMPLATES:
        return _drawn(name, size)
    if name.endswith(".cfg"):
        from lib.warp.own import pack_names

        raise ValueError(f"template {name}: which of its masks? Add #NAME, one of {', '.join(pack_names(name))}")
    if not (name.endswith(".json") or ".cfg#" in name):
        raise ValueError(
            f"template {name!r}: expected one of {', '.join(TEMPLATES)}, the .json file of an own one, or "
            "masks.cfg#NAME of a MaskTheFace pack"
        )
    path = Path(name.rpartition("#")[0] if ".cfg#" in name else name)
    return _own(name, path.stat().st_mtime_ns if path.is_file() else 0)


@lru_cache(maxsize=32)
def _drawn(name: str, size: int) -> Template:
    return TEMPLATES[name](size)


@lru_cache(maxsize=64)
def _own(name: str, changed: int) -> Template:
    from lib.warp.own import load_template

    return load_template(name)


def preview(mask: Template, path_or_name: str, size: int = 256) -> np.ndarray:
    """A picture to judge a template by: uint8 [size, 4·size, 3], the template with its points and the mask on three
    faces of the face world, frontal and turned by 30° to both sides."""
    import cv2

    from lib.data.faceworld import render
    from lib.warp.params import WarpParams
    from lib.warp.wear import apply_warps

    scale = 0.92 * size / max(mask.rgba.shape[:2])
    small = cv2.resize(mask.rgba, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA).astype(np.float32)
    sheet = np.full((size, size, 3), 205, np.float32)
    y, x = (size - small.shape[0]) // 2, (size - small.shape[1]) // 2
    part = sheet[y : y + small.shape[0], x : x + small.shape[1]]
    part += small[..., 3:] / 255 * (small[..., :3] - part)
    sheet = np.ascontiguousarray(sheet.astype(np.uint8))
    for place in mask.points * scale + (x, y):
        cv2.circle(sheet, [round(float(v)) for v in place], 4, (208, 32, 48), -1, cv2.LINE_AA)
    poses = [render([7], [seed], size=size, what=("full",), yaw=40, pitch=4, roll=4) for seed in (1, 2, 3)]
    faces = [(r.full[0].permute(1, 2, 0) * 255).round().byte().numpy() for r in poses]
    asked = [(k, r.landmarks[0].numpy(), WarpParams(template=path_or_name)) for k, r in enumerate(poses)]
    return np.concatenate([sheet, *apply_warps(faces, asked)[0]], axis=1)
