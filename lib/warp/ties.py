"""Splines that tie the generic face to the faces of a batch, so that a mask draped over it fits them."""

from __future__ import annotations

import numpy as np
import torch

from lib.warp import face3d


def times(a, b):
    """[B, N, 2] @ [B, 2, 2], element by element."""
    return a[..., :1] * b[:, None, 0] + a[..., 1:] * b[:, None, 1]


class Ties:
    """The thin-plate splines of a batch of faces that carry places of the photograph to where they would be on the
    generic face in the same pose: place + what the spline adds. Photograph px scaled to head units about the pose."""

    def __init__(self, seen: np.ndarray, poses: list[face3d.Pose], stiffness: float):
        self.offset = np.stack([pose.offset for pose in poses])[:, None]
        self.scale = np.array([pose.scale for pose in poses])[:, None, None]
        ties = list(face3d.TIES)
        here = (seen[:, ties] - self.offset) / self.scale
        there = (np.stack([face3d.project_landmarks(pose) for pose in poses])[:, ties] - self.offset) / self.scale
        b, n = here.shape[:2]
        system = np.zeros((b, n + 3, n + 3))
        squared = ((here[:, :, None] - here[:, None]) ** 2).sum(-1)
        system[:, :n, :n] = squared * np.log(squared + 1e-12) + stiffness * np.eye(n)
        system[:, :n, n], system[:, n, :n] = 1, 1
        system[:, :n, n + 1 :], system[:, n + 1 :, :n] = here, here.transpose(0, 2, 1)
        system[:, n:, n:] -= 1e-9 * np.eye(3)  # points on a line have no answer; keep the others'
        solved = np.linalg.solve(system, np.concatenate([there - here, np.zeros((b, 3, 2))], 1))
        self.centres, self.weights, self.affine = here, solved[:, :n], solved[:, n:]

    def __call__(self, places: np.ndarray) -> np.ndarray:
        """float64 [B, N, 2] px → px; in float64 for a few places."""
        p = (places - self.offset) / self.scale
        squared = ((p[:, :, None] - self.centres[:, None]) ** 2).sum(-1)
        added = (squared * np.log(squared + 1e-12)) @ self.weights
        return places + self.scale * (added + self.affine[:, :1] + times(p, self.affine[:, 1:]))

    def dense(self, units: torch.Tensor) -> torch.Tensor:
        """float32 [B, N, 2] in head units about the pose → the same on the generic face; for lattices."""
        centres, weights, affine = (torch.from_numpy(a).float() for a in (self.centres, self.weights, self.affine))
        squared = (units[:, :, None, 0] - centres[:, None, :, 0]).square_()
        squared += (units[:, :, None, 1] - centres[:, None, :, 1]).square_()
        kernel = squared * (squared + 1e-12).log_()
        bent = torch.stack([k @ w for k, w in zip(kernel, weights, strict=True)])  # one by one: see `sampling.each`
        return units + bent + affine[:, :1] + times(units, affine[:, 1:])

    def inverse(self, places: np.ndarray) -> np.ndarray:
        """Places [B, N, 2] px of the generic face → the photograph, by fixed-point steps."""
        found = places
        for _ in range(2):
            found = found + (places - self(found))
        return found
