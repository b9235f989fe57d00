"""A folder of photographs in, the same folder masked out: `python -m lib.augment IN OUT`.

In training: `MaskTransform`, `MaskedDataset` and `SecondStep`.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from lib.augment.manifest import Summary
from lib.augment.options import AugmentError, Options
from lib.augment.pipeline import augment_folder

if TYPE_CHECKING:
    from lib.augment.second_step import SecondStep
    from lib.augment.transform import MaskedDataset, MaskTransform

__all__ = ["AugmentError", "MaskTransform", "MaskedDataset", "Options", "SecondStep", "Summary", "augment_folder"]

_LATER = {"MaskTransform": "transform", "MaskedDataset": "transform", "SecondStep": "second_step"}  # with torchvision


def __getattr__(name: str) -> Any:
    if name in _LATER:
        return getattr(import_module(f"lib.augment.{_LATER[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
