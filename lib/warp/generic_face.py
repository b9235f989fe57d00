"""The generic 3-D face that masks are draped over: how it was made, and the file it is kept in.

It is the average head of the face world (`lib.data.facesdf`; numbers tuned by eye, no scan and no photograph of anyone
went into it), sampled once, so that step one does not need the renderer and gives the same bytes whatever becomes of
it. `python -m lib.warp.generic_face` makes the file again; a test compares the two.

*Convention.* The head frame: x to the picture's right for a face that looks at the camera, y up, z towards the camera;
one unit is about 10 cm. "Left" is the picture's left.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
from safetensors.numpy import load, save
from scipy.ndimage import distance_transform_edt, gaussian_filter

FILE = Path(__file__).with_name("generic_face.safetensors")
X_RANGE, Y_RANGE, CELLS = (-0.82, 0.82), (-1.42, 0.28), (84, 84)  # of the height map, head units; (rows, columns)
PEOPLE = 4000  # averaged
_SKIRT = 2.5


@dataclass(frozen=True, eq=False)
class GenericFace:
    """sheet: float32 [84, 84], z of a taut sheet over the bare face (nose, cheeks, chin) above the frontal plane; rows
    run down from y = 0.28 to −1.42, columns from x = −0.82 to 0.82. landmarks: float32 [68, 3], the iBUG points; jaw:
    float32 [17, 14, 3], for each jaw point the places on the skin of which the one farthest out is its contour, the one
    farthest along outwards, float32 [17, 3]. ears: float32 [4, 3], where loops end: left top, left bottom, right top,
    right bottom."""

    sheet: np.ndarray
    landmarks: np.ndarray
    jaw: np.ndarray
    outwards: np.ndarray
    ears: np.ndarray


@lru_cache(maxsize=1)
def generic_face() -> GenericFace:
    """The face in the file beside this module."""
    arrays = load(FILE.read_bytes())
    for array in arrays.values():
        array.flags.writeable = False  # shared by every caller
    return GenericFace(**arrays)


def build() -> GenericFace:
    """Sample the average head of the face world. Takes about a second."""
    import torch

    from lib.data.facesdf import draws, landmarks, mask
    from lib.data.facesdf.head import Head
    from lib.data.facesdf.params import Identity, Ranges, Shot, Wear

    people = [draws.person(k) for k in range(PEOPLE)]
    mean = {name: np.mean([person[name] for person in people], axis=0) for name in Identity._fields}
    mean |= {"head_width": 1.0, "face_length": 1.0}
    shot = draws.shot(0, Ranges(yaw=0, pitch=0, roll=0), hard=False) | {
        "smile": 0.1, "mouth_open": 0.0, "brow_raise": 0.0, "lid_open": 1.0
    }  # fmt: skip
    plain = {"surgical": 1.0, "width": 1.0, "gap": 0.027}
    wear = {name: plain.get(name, 0.0) for name in Wear._fields} | {"colour": np.ones(3), "print_colour": np.ones(3),
                                                                    "scarf_colour": np.ones(3)}  # fmt: skip
    stack = lambda cls, row: draws._stack(cls, [row], "cpu")  # noqa: E731
    with torch.no_grad():
        head = Head(stack(Identity, mean), stack(Shot, shot))
        worn = mask.WornMask(head, stack(Wear, wear))
        y, x = np.meshgrid(np.linspace(*Y_RANGE[::-1], CELLS[0]), np.linspace(*X_RANGE, CELLS[1]), indexing="ij")
        x, y = (torch.tensor(v.reshape(1, -1), dtype=torch.float32) for v in (x, y))
        depths = torch.linspace(1.4, -0.6, 401)
        height = torch.stack([_height(worn, x, y, z + 0 * x) for z in depths])  # [401, 1, N], positive outside
        sheet = _first_crossing(height[:, 0], depths).view(CELLS)
        sheet = torch.from_numpy(_skirted(sheet.double().numpy(), x.view(CELLS).numpy(), y.view(CELLS).numpy()))
        points = landmarks.landmarks(head)[0]
        outwards, jaw = landmarks.jaw_candidates(head)
    ears = [[side * 0.735, y, z] for side in (-1, 1) for y, z in ((0.02, 0.08), (-0.26, 0.10))]
    arrays = sheet, points, jaw[0], outwards, torch.tensor(ears)
    return GenericFace(*(np.ascontiguousarray(a.numpy(), dtype=np.float32) for a in arrays))


def _height(worn, x, y, z) -> np.ndarray:
    """How far outside the sheet (negative: inside) points of the head frame lie, [1, N]; without pleats and hems."""
    from lib.data.facesdf.mask import _look_up, _polar

    radius, azimuth, elevation = _polar(x, y, z)
    return radius - _look_up(worn.sheet_map, azimuth, elevation)


def _first_crossing(height, depths):
    """The first z, going back from the camera, where `height` [K, N] passes to 0 or less: [N]; NaN where it never
    does."""
    import torch

    inside = height <= 0
    first = inside.int().argmax(0).clamp(min=1)
    columns = torch.arange(height.shape[1])
    before, after = height[first - 1, columns], height[first, columns]
    z = depths[first - 1] + (depths[first] - depths[first - 1]) * before / (before - after)
    return torch.where(inside.any(0), z, torch.nan)


def _skirted(sheet: np.ndarray, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Below the jaw the sheet ends; a skirt that falls away from its edge at a slope of 2.5 goes on from there, so that
    a mask that hangs from the chin has something to lie on, and no cliff spoils the interpolation."""
    known = np.isfinite(sheet.ravel())
    places = np.stack([x.ravel(), y.ravel()], 1)
    out = np.where(known, sheet.ravel(), -np.inf)
    for k in np.flatnonzero(known):
        out = np.maximum(out, sheet.ravel()[k] - _SKIRT * np.linalg.norm(places - places[k], axis=1))
    out = out.reshape(sheet.shape)
    # Its edge is a staircase of cells; smooth it there, and only there.
    sure = np.clip(distance_transform_edt(np.isfinite(sheet)) / 6, 0, 1)
    return sure * out + (1 - sure) * gaussian_filter(out, 2.0, mode="nearest")


def main() -> None:
    """Write the file."""
    FILE.write_bytes(save(vars(build())))


if __name__ == "__main__":
    main()
