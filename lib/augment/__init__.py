"""A folder of photographs in, the same folder masked out: `python -m lib.augment IN OUT`."""

from lib.augment.manifest import Summary
from lib.augment.options import AugmentError, Options
from lib.augment.pipeline import augment_folder

__all__ = ["AugmentError", "Options", "Summary", "augment_folder"]
