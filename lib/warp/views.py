"""Side views of a template, for the families that keep one picture for a face turned left and one for a face turned
right: a front view draped over the generic head and seen from the side.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import torch
import torch.nn.functional as F

from lib.warp import face3d, geometry
from lib.warp.frontal import fit_frontal, spline_at
from lib.warp.templates import Template

YAW = 35.0  # degrees; in the middle of what a side view is used for
_HEIGHT = 384


def side_view(mask: Template, right: bool) -> Template:
    """The template as seen on a head turned to the picture's right (or left) edge, with MaskTheFace's six key points.

    An own side view (`Template.left`, `.right`) comes first; otherwise the front view is draped and turned by 35°.
    """
    own = mask.right if right else mask.left
    return own if own is not None else _turned(mask, right)


@lru_cache(maxsize=32)
def _turned(mask: Template, right: bool) -> Template:
    yaw = YAW if right else -YAW
    pose = face3d.Pose(face3d.rotation(yaw, 0, 0), 1.0, np.zeros(2), yaw, 0.0, 0.0)
    landmarks = face3d.project_landmarks(pose)
    low, high = landmarks[:, 0].min() - 0.25, landmarks[:, 0].max() + 0.25
    top, bottom = landmarks[27, 1] - 0.15, landmarks[8, 1] + 0.25
    scale = _HEIGHT / (bottom - top)
    width = round((high - low) * scale)
    x = (torch.arange(width) / scale + low).float()
    y = (torch.arange(_HEIGHT) / scale + top).float()
    plane = torch.stack(torch.meshgrid(x, -y, indexing="xy"), -1)[None]
    matrix = torch.from_numpy(pose.rotation).float()[None]
    met = face3d.trace(plane, matrix, face3d.surface(mask.surface)[None, None])
    x, y = met.places(met.depth.clamp(min=0).sqrt())
    places = torch.stack([x[0], -y[0]], -1).view(-1, 2)
    grid = spline_at(fit_frontal(mask).tps, places).view(1, _HEIGHT, width, 2)
    rgba = torch.from_numpy(mask.rgba.copy()).permute(2, 0, 1)[None].float()
    seen = F.grid_sample(rgba, grid, padding_mode="border", align_corners=False)[0]
    inside = F.grid_sample(torch.ones_like(rgba[:, :1]), grid, align_corners=False)[0, 0]
    seen[3] *= inside * (0.5 + met.under[0] * scale).clamp(0, 1)
    picture = seen.round().clamp(0, 255).byte().permute(1, 2, 0).numpy()
    picture.flags.writeable = False
    points = (geometry.six_points(landmarks) - (low, top)) * scale
    return Template(rgba=picture, points=points.astype(np.float32), name=f"{mask.name}_{'right' if right else 'left'}",
                    surface=mask.surface, dye=None, straps=(), left=None, right=None)  # fmt: skip
