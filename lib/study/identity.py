"""Is it still the same person above the mask? dlib's face embedding of the upper face, with and without a mask.

Both pictures are aligned by the same landmarks, those of the bare face, and all that lies below the bridge of the nose
is blanked in both alike: what is left differs only by what changed where nothing may change.

The embedding (King 2017: a ResNet, 128 numbers of a face of 150²) was trained on whole photographed faces. Half a face
is foreign to it, a drawn one too; so a similarity means something only beside what other people score (`others`).
"""

from __future__ import annotations

import functools
from collections.abc import Sequence

import numpy as np

from lib.data.images import resize
from lib.warp.landmarks import predictor_path

MODEL = "models/dlib_face_recognition_resnet_model_v1.dat"
_BRIDGE = 28  # iBUG: the second of the four points down the bridge; surgical masks end below it
_ENLARGED = 512  # px: dlib takes whole pixels for landmarks, so that small pictures are enlarged before


@functools.cache
def _model():
    import dlib  # here, so that measures without it do not need it

    return dlib.face_recognition_model_v1(str(predictor_path(MODEL)))


def upper_face(image: np.ndarray, landmarks: np.ndarray) -> np.ndarray:
    """The aligned face, grey below the bridge of the nose: uint8 [S, S, 3] and float [68, 2] px → uint8 [150, 150, 3].

    The line is parallel to that through the eyes' middles.
    """
    import dlib

    scale = max(1.0, _ENLARGED / max(image.shape[:2]))
    large = image if scale == 1 else resize(image, _ENLARGED)
    points = (landmarks + 0.5) * scale - 0.5
    along = points[42:48].mean(0) - points[36:42].mean(0)
    y, x = np.indices(large.shape[:2])
    below = along[0] * (y - points[_BRIDGE, 1]) - along[1] * (x - points[_BRIDGE, 0]) > 0
    large = np.where(below[..., None], np.uint8(127), large)
    box = dlib.rectangle(0, 0, large.shape[1] - 1, large.shape[0] - 1)
    parts = [dlib.point(int(px), int(py)) for px, py in np.rint(points)]
    return dlib.get_face_chip(large, dlib.full_object_detection(box, parts), size=150)


def embed(images: Sequence[np.ndarray], landmarks: Sequence[np.ndarray | None]) -> np.ndarray:
    """Unit vectors of the upper faces: uint8 [S, S, 3] each, with its landmarks → float64 [N, 128]; NaN without."""
    found = np.full((len(images), 128), np.nan)
    known = [n for n, points in enumerate(landmarks) if points is not None]
    if known:
        chips = [upper_face(images[n], landmarks[n]) for n in known]
        vectors = np.array(_model().compute_face_descriptor(chips))
        found[known] = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    return found


def others(vectors: np.ndarray) -> float:
    """Mean cosine of different people's vectors, float [N, 128]: what a similarity has to be seen beside."""
    known = vectors[np.isfinite(vectors).all(1)]
    cosines = (known @ known.T)[~np.eye(len(known), dtype=bool)]
    return float(cosines.mean()) if len(cosines) else float("nan")
