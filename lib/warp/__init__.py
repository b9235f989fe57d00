"""Step one of the method: find landmarks, warp a mask onto the face by rule, and mark what must not change."""

from lib.warp.landmarks import (
    DlibLandmarks,
    Face,
    landmarks_array,
    landmarks_table,
    read_landmarks,
    write_landmarks,
)
from lib.warp.params import (
    IMFD_SHARES,
    PRESETS,
    Style,
    WarpConfig,
    WarpError,
    WarpParams,
    preset,
    sample_warp_params,
)
from lib.warp.regions import load_non_mask, non_mask_by_comparison, non_mask_path, save_non_mask
from lib.warp.templates import TEMPLATES, Template, template
from lib.warp.wear import Warped, Worn, apply_warp, apply_warps

__all__ = [
    "IMFD_SHARES",
    "PRESETS",
    "TEMPLATES",
    "DlibLandmarks",
    "Face",
    "Style",
    "Template",
    "WarpConfig",
    "WarpError",
    "WarpParams",
    "Warped",
    "Worn",
    "apply_warp",
    "apply_warps",
    "landmarks_array",
    "landmarks_table",
    "load_non_mask",
    "non_mask_by_comparison",
    "non_mask_path",
    "preset",
    "read_landmarks",
    "sample_warp_params",
    "save_non_mask",
    "template",
    "write_landmarks",
]
