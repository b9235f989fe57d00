"""Landmarks nobody meant: a mask or a reason, never a crash, never another pixel. CI runs a part; all 10,000 cases of
the study's log: FUZZ_CASES=10000 python -m pytest tests/warp/test_fuzz.py -s"""

import os
from collections import Counter
from dataclasses import replace

import numpy as np
import pytest

from lib.data.faceworld import render
from lib.warp import PRESETS, TEMPLATES, WarpError, WarpParams, apply_warps
from lib.warp.geometry import WEAR_TYPES

CASES = int(os.environ.get("FUZZ_CASES", "480"))
KINDS = ("noise", "collinear", "outside", "not finite", "mirrored", "tiny", "huge", "one place", "swapped", "jittered")


def spoiled(points, kind, rng):
    p = points.astype(np.float64).copy()
    if kind == "noise":
        return rng.uniform(-50, 150, (68, 2))
    if kind == "collinear":
        return np.outer(rng.normal(size=68), rng.normal(size=2)) * 20 + 48
    if kind == "outside":
        return p + rng.normal(size=2) * rng.choice([60, 300, 1e5])
    if kind == "not finite":
        p[rng.integers(68, size=rng.integers(1, 5)), rng.integers(2)] = rng.choice([np.nan, np.inf, -np.inf])
        return p
    if kind == "mirrored":
        return p * [-1, 1] + [95, 0] if rng.random() < 0.5 else p * [1, -1] + [0, 95]
    if kind == "tiny":
        return (p - 48) * rng.choice([0.0, 1e-6, 0.02, 0.1]) + 48
    if kind == "huge":
        return (p - 48) * rng.choice([3, 20, 1000]) + 48
    if kind == "one place":
        return np.repeat(p[[rng.integers(68)]], 68, axis=0) + rng.choice([0, 1e-7, 0.3]) * rng.normal(size=(68, 2))
    if kind == "swapped":
        return p[rng.permutation(68)]
    return p + rng.normal(size=p.shape) * rng.choice([1, 4, 12])


@pytest.fixture(scope="module")
def face():
    out = render([8_000], [8_000], size=96, what=("full",), yaw=20)
    return (out.full[0].permute(1, 2, 0) * 255).round().byte().numpy(), out.landmarks[0].numpy()


def test_spoiled_landmarks_give_a_mask_or_a_reason_and_spare_the_neighbour(face):
    picture, points = face
    good = WarpParams(template="kn95")
    (alone,), _ = apply_warps([picture], [(0, points, good)])
    told = Counter()
    for case in range(CASES):
        rng = np.random.default_rng([77, case])
        kind = KINDS[case % len(KINDS)]
        style = PRESETS[list(PRESETS)[case // len(KINDS) % len(PRESETS)]].style
        params = WarpParams(
            template=str(rng.choice(list(TEMPLATES))), style=replace(style, max_yaw=float(rng.choice([30, 60, 90]))),
            wear=str(rng.choice(list(WEAR_TYPES))), grain_seed=int(rng.integers(2**31)),
        )  # fmt: skip
        bad = spoiled(points, kind, rng)
        images, worn = apply_warps([picture, picture], [(0, bad, params), (1, points, good)])
        assert np.array_equal(images[1], alone), f"case {case} ({kind}) changed its neighbour"
        if isinstance(worn[0], WarpError):
            assert np.array_equal(images[0], picture), f"case {case} ({kind}) failed and left a trace"
            assert worn[0].reason, f"case {case} ({kind}): no reason"
            assert "\n" not in worn[0].reason
        else:
            mask = worn[0]
            assert np.isfinite(mask.alpha).all(), f"case {case} ({kind})"
            assert 0 <= mask.alpha.min() <= mask.alpha.max() <= 1, f"case {case} ({kind})"
            untouched = np.ones(picture.shape[:2], bool)
            untouched[mask.slices] = (mask.alpha == 0) & (mask.shadow == 0)
            assert np.array_equal(images[0][untouched], picture[untouched]), f"case {case} ({kind})"
        told[kind, "reason" if isinstance(worn[0], WarpError) else "mask"] += 1
    print(dict(told))
    for kind in ("collinear", "not finite", "one place"):
        assert not told[kind, "mask"], f"{kind}: not a face"
    assert told["jittered", "mask"] > 0
