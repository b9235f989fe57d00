"""The 68 iBUG landmarks of the procedural head, from the same curves that shape it.

Brows, nose, eyes and mouth are points of the surface. The jaw (0-16) is the visible contour, as annotators draw it:
per angle the candidate surface point that lies farthest out in the picture.
"""

import numpy as np
import torch
from torch import Tensor

from .head import EYE_HALF_LENGTH, Head

NOSE_X = (0, 0, 0, 0, -0.125, -0.062, 0, 0.062, 0.125)
NOSE_Y = (0.01, -0.13, -0.25, 0.02, -0.075, -0.092, -0.10, -0.092, -0.075)  # first three absolute, others from the base
EYE_U = (-1.0, -0.45, 0.45, 1.0, 0.45, -0.45)  # inner corner, upper lid, outer corner, lower lid
LEFT_EYE, RIGHT_EYE = [3, 2, 1, 0, 5, 4], [0, 1, 2, 3, 4, 5]  # picture left is listed from its outer corner
OUTER_LIP_U = (-1.0, -0.62, -0.26, 0, 0.26, 0.62, 1, 0.62, 0.3, 0, -0.3, -0.62)
INNER_LIP_U = (-0.9, -0.4, 0, 0.4, 0.9, 0.4, 0, -0.4)
JAW_ANGLES = np.concatenate([np.linspace(-4, 90, 9), np.linspace(90, -4, 9)[1:]])
JAW_CANDIDATES = np.linspace(-14, 60, 14)  # degrees towards the camera


def landmarks(head: Head) -> Tensor:
    """68 points [B, 68, 3] in the head frame, ordered as in iBUG 300-W (left = left in the picture)."""
    return torch.cat([_jaw(head), _inner(head)], 1)


def _inner(head: Head) -> Tensor:
    w = head.who
    batch = w.head_width.shape[0]

    def row(values) -> Tensor:
        return w.head_width.new_tensor(values).view(1, -1).expand(batch, -1)

    t = row([1.0, 0.78, 0.52, 0.26, 0.02])
    brow_x, brow_y = 0.115 + 0.40 * t, head.brow_curve(t)
    base = torch.cat([torch.zeros_like(w.age).expand(-1, 3), head.nose_base_y.expand(-1, 6)], 1)
    nose_x, nose_y = row(NOSE_X) * w.nose_width, row(NOSE_Y) + base
    u = row(EYE_U)
    upper, lower = head.eye_curves(u)
    v = torch.cat([0 * upper[:, :1], upper[:, 1:3], 0 * upper[:, :1], lower[:, 4:]], 1) * w.eye_size
    s = u * EYE_HALF_LENGTH * w.eye_size
    eye_x = w.eye_x + s * w.eye_tilt_cos - v * w.eye_tilt_sin
    eye_y = s * w.eye_tilt_sin + v * w.eye_tilt_cos
    top, _, _, bottom = head.mouth_curves(row(OUTER_LIP_U))
    _, inner_top, inner_bottom, _ = head.mouth_curves(row(INNER_LIP_U))
    mouth_x = row(OUTER_LIP_U + INNER_LIP_U) * head.mouth_width
    mouth_y = torch.cat([top[:, :7], bottom[:, 7:], inner_top[:, :5], inner_bottom[:, 5:]], 1)
    x = torch.cat([-brow_x, brow_x.flip(1), nose_x, -eye_x[:, LEFT_EYE], eye_x[:, RIGHT_EYE], mouth_x], 1)
    y = torch.cat([brow_y, brow_y.flip(1), nose_y, eye_y[:, LEFT_EYE], eye_y[:, RIGHT_EYE], mouth_y], 1)
    z = torch.full_like(x, 1.35)
    for _ in range(14):  # march towards the back onto the surface
        z = z - head.featured(x, y, z, ears=False)[0] * 0.95
    return torch.stack([x * w.head_width, y * w.face_length, z], -1)


def _jaw(head: Head) -> Tensor:
    outwards, points = jaw_candidates(head)
    turned = (points.flatten(1, 2) - points.new_tensor([0, -0.35, 0.3])) @ head.shot.rotation.transpose(1, 2)
    image_direction = (outwards @ head.shot.rotation.transpose(1, 2))[..., :2]
    reach = (turned.view(points.shape)[..., :2] * image_direction.unsqueeze(2)).sum(-1)
    best = reach.argmax(2).view(-1, 17, 1, 1).expand(-1, -1, 1, 3)
    return points.gather(2, best).squeeze(2)


def jaw_candidates(head: Head) -> tuple[Tensor, Tensor]:
    """Of each jaw point its direction outwards, [17, 3], and the places on the skin that may be it, [B, 17, 14, 3]."""
    w = head.who
    count = len(JAW_CANDIDATES)
    side = np.sign(np.arange(17) - 8.0)
    side[8] = 0.0
    angle, lift = np.deg2rad(JAW_ANGLES), np.deg2rad(JAW_CANDIDATES)
    outwards = np.stack([np.cos(angle) * side, -np.sin(angle), np.zeros(17)], -1)  # [17, 3], in the face plane
    rays = outwards[:, None] * np.cos(lift)[:, None] + np.array([0, 0, 1.0]) * np.sin(lift)[:, None]
    direction = w.age.new_tensor(rays.reshape(-1, 3)).unsqueeze(0)  # [1, 17 * count, 3]
    radius = torch.full((w.age.shape[0], 17 * count), 1.35, device=w.age.device)
    for _ in range(10):
        x, y, z = (radius * direction[..., i] + shift for i, shift in enumerate((0.0, -0.06, 0.05)))
        radius = radius - head.bare(x, y, z, ears=False)
    points = torch.stack([x * w.head_width, y * w.face_length, z], -1)
    return w.age.new_tensor(outwards), points.view(-1, 17, count, 3)
