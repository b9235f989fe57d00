"""What several figures share: the faces they show, outputs of a checkpoint, rows that tell the masks' colours."""

from __future__ import annotations

import numpy as np

from lib.gan import Translator
from lib.study import metrics
from lib.study.datasets import TestSet, load_test_set
from lib.study.printed import checkpoint
from lib.study.runs import Study
from lib.study.sheet import Row

FACES = 6  # pictures per row of a figure
SPREAD = "ΔE: spread of the masks' mean colours over the faces (CIE Lab); bars under the pictures: these colours."


def translate(study: Study, stage: str, epoch: int | None, images: np.ndarray, seed: int = 0, sigma=None) -> np.ndarray:
    """Outputs of a checkpoint on uint8 [N, S, S, 3]; image n gets noise seed `seed + n`."""
    seeds = [seed + n for n in range(len(images))]
    return Translator(checkpoint(study, stage, epoch)).translate(images, seeds, sigma).images


def held_out(study: Study, count: int = FACES) -> tuple[TestSet, str]:
    """The first held-out faces, and the words that say so."""
    whole = load_test_set(study)
    test, every = whole.take(range(count)), len(whole.names)
    shown = f"the first {len(test.names)} of {every}" if len(test.names) < every else f"all {every}"
    return test, f"Held-out faces, not chosen: {shown}."


def colour_row(label: str, images: np.ndarray, inside: np.ndarray) -> tuple[Row, float]:
    """A row with the masks' colours as bars and their spread in its label; and that spread, ΔE."""
    value = metrics.colour_diversity(metrics.mask_colour_lab(images, inside))
    colours = [image[mask].mean(0) if mask.any() else None for image, mask in zip(images, inside)]
    return Row(f"{label}\nΔE {value:.1f}", images, swatches=colours), value


def round_limit(values: np.ndarray) -> float:
    """A round number that all but a hundredth of a map stays below: where its colours end."""
    top = float(np.quantile(values, 0.99)) if values.size else 0.0
    return next(limit for limit in (0.05, 0.1, 0.2, 0.4, 0.6, 0.8, 1.0) if top <= limit)
