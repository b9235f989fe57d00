"""The mask templates by name: those drawn by code, so that nothing has to be downloaded and they are sharp at any size,
and own ones from a file.

The paper's first step is CMFD, which puts one light-blue surgical mask on every face by matching twelve key points of
the mask with the face's landmarks (paper §3; cabani2021maskedface); `surgical_blue` is drawn after it.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache, partial
from pathlib import Path

from lib.warp import drawn_shaped
from lib.warp.drawn_surgical import COLOURS, surgical
from lib.warp.sheet import KEY_POINTS, MIRRORED_POINTS, SIX_POINTS, Strap, Template

__all__ = ["KEY_POINTS", "MIRRORED_POINTS", "SIX_POINTS", "TEMPLATES", "Strap", "Template", "template"]

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
