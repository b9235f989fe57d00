"""Labels of rendered faces: MAFA's orientation codes, binary regions, rows of the face table."""

import numpy as np
from scipy import ndimage

from .picture import Rendered

FRONTAL_DEG, HALF_TURNED_DEG = 15.0, 45.0
MIN_COMPONENT_PX = 4


def binary_region(coverage: np.ndarray, threshold: float = 0.5) -> np.ndarray:
    """Coverage (uint8 0 to 255, or float 0 to 1) [H, W] -> bool [H, W]: True on the mask. Specks and pinholes of fewer
    than 4 px, which rims leave at low resolution, are dropped and filled."""
    coverage = np.asarray(coverage)
    if coverage.ndim != 2:
        raise ValueError(f"binary_region: expected one picture [H, W], got shape {list(coverage.shape)}")
    region = coverage > threshold * (255 if coverage.dtype == np.uint8 else 1)
    for value in (True, False):
        labels, count = ndimage.label(region == value, structure=np.ones((3, 3)) if value else None)
        sizes = np.bincount(labels.ravel(), minlength=count + 1)
        small = sizes < MIN_COMPONENT_PX
        small[0] = False
        region[small[labels]] = not value
    return region


def orientation(yaw_deg: float) -> int:
    """MAFA's code of a yaw: 1 left, 2 left-frontal, 3 frontal, 4 right-frontal, 5 right (edges of the picture)."""
    if abs(yaw_deg) <= FRONTAL_DEG:
        return 3
    turned = 1 if abs(yaw_deg) <= HALF_TURNED_DEG else 2
    return 3 + turned if yaw_deg > 0 else 3 - turned


def rows(out: Rendered, where: list[tuple[str, int]], bare: bool) -> tuple[list[dict], list[dict]]:
    """Rows of faces.csv and landmarks.csv for the (image, face) pairs of `where`; `bare`: the faces wear no mask.

    Boxes are square, around brows and chin with a margin, as MAFA's are.
    """
    points, pose = out.landmarks.cpu().numpy(), out.pose.cpu().numpy()
    faces, landmarks = [], []
    for k, (image, face) in enumerate(where):
        low, high = points[k].min(0), points[k].max(0)
        side = float((high - low).max()) * 1.2
        x, y = (low + high) / 2 - side / 2 - np.array([0, 0.06 * side])
        row = {
            "image": image,
            "face": face,
            "x": x,
            "y": y,
            "w": side,
            "h": side,
            "identity": int(out.identity[k]),
            "split": "train",
        }
        row |= {"occluder_type": -1, "occlusion_degree": -1} if bare else {
            "occluder_type": 2 if bool(out.patterned[k]) else 1, "occlusion_degree": 2 if bool(out.below_nose[k]) else 3
        }  # fmt: skip
        row |= {
            "orientation": orientation(float(pose[k, 0])),
            "yaw": pose[k, 0],
            "pitch": pose[k, 1],
            "roll": pose[k, 2],
        }
        row |= {"mask_kind": out.mask_kind[k], "light": bool(out.light[k]), "occluded": bool(out.occluded[k])}
        faces.append({key: round(float(v), 2) if isinstance(v, float | np.floating) else v for key, v in row.items()})
        flat = {f"{axis}{j}": round(float(points[k, j, a]), 3) for j in range(68) for a, axis in enumerate("xy")}
        landmarks.append({"image": image, "face": face} | flat)
    return faces, landmarks
