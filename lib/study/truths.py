"""True masks on the held-out faces of a face-world study: many on each face, since no single one is the truth.

The rule-based input says nothing about colour or wear, so a picture is judged by its distance to a set of pictures: the
very same head, pose, light and camera, each time wearing another mask, drawn as those of stage 3's set B are (light
surgical ones). The first mask of each face is no target: it stands for a perfect output, to be measured like one.

    cache/faceworld/worn_<hash>/worn/000012_3.png    the fourth mask on held-out face 12
                                region/000012_3.png  8-bit coverage of its cloth and straps
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
from skimage.color import rgb2lab
from skimage.metrics import structural_similarity
from tqdm import tqdm

from lib.data import faceworld
from lib.data.files import write_png
from lib.data.images import read_image
from lib.study import metrics
from lib.study.config import StudyError
from lib.study.datasets import TestSet
from lib.study.runs import Study, config_hash
from lib.study.sources import CMFD_POSE, FIRST_TEST_A
from lib.study.step_one import seam
from lib.warp.regions import OUTLINE, non_mask_by_comparison

K_TRUTH = 8  # targets of each face
# What the hand-picking of the face world leaves in stage 3 (lib.study.sources), of the mask alone: no scarf or hood.
WORN = {"mask_kinds": (1.0, 0.0, 0.0), "light_share": 1.0, "below_nose": 0.0}


@dataclass(frozen=True, eq=False)
class Truths:
    """K + 1 true masks on each of N faces: images uint8 [N, K + 1, S, S, 3], region bool [N, K + 1, S, S] (cloth and
    straps). Number 0 stands for a perfect output, the others are the targets."""

    images: np.ndarray
    region: np.ndarray
    rule_region: np.ndarray  # bool [N, S, S]: the rule-based masks, see `outlines`
    touched: np.ndarray  # bool [N, S, S]: all that they changed, shadow and straps with them

    @cached_property
    def area(self) -> np.ndarray:
        """Where any mask of a face is, and all that the rule-based one touched: bool [N, S, S]. Distances are taken
        here, so that every picture of a face is judged on the same pixels."""
        return self.region.any(1) | self.touched

    @cached_property
    def _lab(self) -> np.ndarray:
        return rgb2lab(self.images[:, 1:]).astype(np.float32)

    @cached_property
    def _seams(self) -> np.ndarray:
        """log of `step_one.seam` of each target [N, K]."""
        cloth = [metrics.cloth(region) for region in self.region[:, 1:]]
        return np.log([[seam(x, c) for x, c in zip(*one)] for one in zip(self.images[:, 1:], cloth)])

    def distances(self, images: np.ndarray, region: np.ndarray | None = None) -> dict[str, np.ndarray]:
        """How far pictures of these faces, uint8 [N, S, S, 3], lie from the targets: float64 [N] each.

        l1, nearest_l1: mean |difference| over `area` in [0, 1], mean over the targets and of the nearest one; nearest:
        its number in `images`. ssim: structural similarity of the lightness there, mean over the targets. lightness:
        mean |ΔL*| where `region` (the pictures' own masks, bool [N, S, S]; None: the rule-based ones) and a target's
        overlap, of the nearest target: the colour is free, what light does to it is not. seam: |log| of the border's
        strength (`step_one.seam`) over the targets' mean. NaN where there is nothing to compare.
        """
        region = self.rule_region if region is None else region
        lightness, cloth = rgb2lab(images)[..., 0].astype(np.float32), metrics.cloth(region)
        rows = []
        for n, image in enumerate(images):
            area, targets = self.area[n], self.images[n, 1:]
            l1 = np.abs(targets[:, area].astype(np.float32) - image[area]).mean((1, 2)) / 255
            similar = [_ssim(lightness[n], target[..., 0])[area].mean() for target in self._lab[n]]
            both = cloth[n] & self.region[n, 1:]
            apart = np.abs(self._lab[n, ..., 0] - lightness[n])
            light = [a[b].mean() for a, b in zip(apart, both) if b.any()]
            edge = abs(np.log(max(seam(image, cloth[n]), 1e-6)) - self._seams[n].mean())
            rows.append((l1.mean(), l1.min(), 1 + l1.argmin(), np.mean(similar), min(light, default=np.nan), edge))
        return dict(zip(("l1", "nearest_l1", "nearest", "ssim", "lightness", "seam"), np.array(rows, float).T))

    def perceptual(self, images: np.ndarray, distance: Callable[..., np.ndarray]) -> np.ndarray:
        """The same by a learned distance(a, b, mask) → [N] (`feature_net`): mean over the targets, float64 [N]."""
        columns = range(1, self.images.shape[1])
        return np.mean([distance(images, self.images[:, k], self.area) for k in columns], axis=0)


def _ssim(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    return structural_similarity(a, b, data_range=100.0, full=True)[1]


def held_out_spec(study: Study) -> faceworld.SetSpec:
    """How the face world draws the study's held-out faces of set A: face k is person k of this set."""
    p = study.profile
    return faceworld.SetSpec("A", p.count_test, p.size, study.seed, FIRST_TEST_A, **CMFD_POSE)


def load_truths(study: Study, test: TestSet, masks: int = K_TRUTH, progress: bool = False) -> Truths | None:
    """`masks` targets of each held-out face and one more, rendered where they are not in the cache; None where the
    truth is not known. About 0.1 s a picture of 64² on one core, 0.2 s at 128².

    Raises StudyError where the renderer does not draw the study's own faces any more.
    """
    if study.data != "faceworld":
        return None
    p, spec = study.profile, held_out_spec(study)
    what = {key: value for key, value in spec.resolved().items() if key != "count"} | {"worn": {**WORN}}
    folder = study.cache_dir / f"worn_{config_hash(what)[:12]}"
    faces = [int(Path(name).stem.removeprefix("test_")) for name in test.names]
    names = ("worn", "region")
    there = [all(_file(folder, name, i, k).exists() for name in names for k in range(masks + 1)) for i in faces]
    missing = [n for n, found in enumerate(there) if not found]
    for n in tqdm(missing, desc=f"true masks {p.size} px", disable=not progress, leave=False):
        _render(spec, faces[n], masks + 1, folder, test.full[n] if n == missing[0] else None)
    read = {
        name: np.stack([[read_image(_file(folder, name, i, k)).pixels for k in range(masks + 1)] for i in faces])
        for name in names
    }
    return Truths(read["worn"], read["region"][..., 0] > 127, outlines(test), ~test.non_mask)


def outlines(test: TestSet) -> np.ndarray:
    """The rule-based masks themselves: bool [N, S, S], covered by half and more. What training calls mask is wider: it
    holds all that was touched, the skin in the mask's shadow with it (`lib.warp.regions`)."""
    return np.stack([~non_mask_by_comparison(*pair, coverage=OUTLINE) for pair in zip(test.full, test.rule)])


def _file(folder: Path, name: str, face: int, mask: int) -> Path:
    return folder / name / f"{face:06d}_{mask}.png"


def _render(spec: faceworld.SetSpec, face: int, count: int, folder: Path, known: np.ndarray | None) -> None:
    """Write one face with `count` masks; `known`: its bare picture, to make sure that it is the same face."""
    seed = spec.picture_seed(face)
    what = ("masked", "region", "straps", *(("full",) if known is not None else ()))
    out = faceworld.render(
        [spec.start + face] * count,
        [seed] * count,
        spec.size,
        what,
        wear_seeds=[1_000 * seed + k + 1 for k in range(count)],
        **CMFD_POSE | WORN,
    )
    if known is not None:
        bare = (out.full[0].permute(1, 2, 0).numpy() * 255).round()
        if np.abs(bare - known).max() > 2:  # a grey level or two: another processor may round otherwise
            raise StudyError(
                f"held-out face {face}: the renderer draws another face now than when set A was made; its truth cannot "
                "be rendered; make the study anew under another --name"
            )
    worn = (out.masked.permute(0, 2, 3, 1).numpy() * 255).round().astype(np.uint8)
    region = ((out.region + out.straps)[:, 0].clamp(0, 1).numpy() * 255).round().astype(np.uint8)
    for k in range(count):
        write_png(_file(folder, "worn", face, k), worn[k])
        write_png(_file(folder, "region", face, k), region[k])
