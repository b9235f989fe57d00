"""A plain face for the tests: 68 points with depth, so that it can be turned, and a photograph in the public domain."""

from __future__ import annotations

import numpy as np
import pytest
import torch

# Index of the point that takes the place of point i when the picture is mirrored.
_MIRROR = [
    *range(16, -1, -1), *range(26, 16, -1), 27, 28, 29, 30, 35, 34, 33, 32, 31,
    45, 44, 43, 42, 47, 46, 39, 38, 37, 36, 41, 40,
    54, 53, 52, 51, 50, 49, 48, 59, 58, 57, 56, 55, 64, 63, 62, 61, 60, 67, 66, 65,
]  # fmt: skip


def _plain_face(size: float = 256.0, yaw_deg: float = 0.0, roll_deg: float = 0.0) -> np.ndarray:
    """float64 [68, 2] px: a symmetric face of average proportions in the middle of a picture of `size`."""
    xyz = np.zeros((68, 3))
    angle = np.linspace(-0.12, np.pi + 0.12, 17)
    xyz[:17] = np.stack([-0.5 * np.cos(angle), 0.66 * np.sin(angle), -0.45 + 0.5 * np.sin(angle) ** 2], axis=1)
    brow = np.linspace(-0.40, -0.10, 5)
    xyz[17:22] = np.stack([brow, np.full(5, -0.24), np.full(5, 0.08)], axis=1)
    xyz[22:27] = xyz[21:16:-1] * [-1, 1, 1]
    xyz[27:31] = np.stack([np.zeros(4), np.linspace(-0.15, 0.12, 4), np.linspace(0.10, 0.28, 4)], axis=1)
    xyz[31:36] = np.stack([np.linspace(-0.09, 0.09, 5), np.full(5, 0.19), np.full(5, 0.16)], axis=1)
    turn = np.deg2rad([180, 240, 300, 0, 60, 120])
    eye = np.stack([0.09 * np.cos(turn), 0.03 * np.sin(turn), np.zeros(6)], axis=1)
    xyz[36:42] = eye + np.array([-0.22, -0.13, 0.03])
    xyz[42:48] = (xyz[36:42] * [-1, 1, 1])[[3, 2, 1, 0, 5, 4]]
    lips = np.pi + np.arange(12) * (2 * np.pi / 12)
    xyz[48:60] = np.stack([0.19 * np.cos(lips), 0.36 + 0.08 * np.sin(lips), np.full(12, 0.12)], axis=1)
    lips = np.pi + np.arange(8) * (2 * np.pi / 8)
    xyz[60:68] = np.stack([0.13 * np.cos(lips), 0.36 + 0.03 * np.sin(lips), np.full(8, 0.12)], axis=1)
    yaw, roll = np.deg2rad([yaw_deg, roll_deg])
    x, y = xyz[:, 0] * np.cos(yaw) + xyz[:, 2] * np.sin(yaw), xyz[:, 1] - 0.15
    x, y = x * np.cos(roll) - y * np.sin(roll), x * np.sin(roll) + y * np.cos(roll)
    return np.stack([x, y], axis=1) * 0.62 * size + (size - 1) / 2


def _mirrored(landmarks: np.ndarray, width: int) -> np.ndarray:
    """Landmarks of the picture mirrored left to right."""
    return (np.asarray(landmarks) * [-1, 1] + [width - 1, 0])[_MIRROR]


def _noise_picture(size: int, seed: int = 0) -> np.ndarray:
    """uint8 [size, size, 3]; every pixel differs, so an unwanted change cannot hide."""
    return np.random.default_rng(seed).integers(0, 256, (size, size, 3), dtype=np.uint8)


@pytest.fixture(scope="session")
def plain_face():
    return _plain_face


@pytest.fixture(scope="session")
def mirrored():
    return _mirrored


@pytest.fixture(scope="session")
def noise_picture():
    return _noise_picture


@pytest.fixture(scope="session", autouse=True)
def _one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="session")
def astronaut() -> np.ndarray:
    """NASA's portrait of Eileen Collins, public domain, shipped inside scikit-image: uint8 [512, 512, 3]."""
    from skimage.data import astronaut as picture

    return picture()


@pytest.fixture(scope="session")
def astronaut_landmarks(astronaut) -> np.ndarray:
    """dlib's landmarks of the astronaut, float32 [68, 2]."""
    from lib.warp import DlibLandmarks

    return DlibLandmarks().find(astronaut)[0].landmarks
