"""Step one of the method: find landmarks, warp a mask onto the face by rule, and mark what must not change."""

from lib.warp.landmarks import (
    DlibLandmarks,
    Face,
    landmarks_array,
    landmarks_table,
    read_landmarks,
    write_landmarks,
)
from lib.warp.regions import load_non_mask, non_mask_by_comparison, non_mask_path, save_non_mask
from lib.warp.templates import Template, blue_surgical
from lib.warp.wear import WarpConfig, Warped, WarpError, WarpParams, apply_warp, sample_warp_params

__all__ = [
    "DlibLandmarks",
    "Face",
    "Template",
    "WarpConfig",
    "WarpError",
    "WarpParams",
    "Warped",
    "apply_warp",
    "blue_surgical",
    "landmarks_array",
    "landmarks_table",
    "load_non_mask",
    "non_mask_by_comparison",
    "non_mask_path",
    "read_landmarks",
    "sample_warp_params",
    "save_non_mask",
    "write_landmarks",
]
