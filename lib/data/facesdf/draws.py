"""The draws behind a picture, each a pure function of integers: the person, the shot, the mask.

Numbers are offsets from an average face, tuned by eye; none comes from a measured population.
"""

import numpy as np
import torch

from .params import CLOTH, CUP, MASK_KINDS, SURGICAL, Identity, Ranges, Shot, Wear
from .sdf import rotation

SKIN_TONES = np.array(  # linear RGB, light to dark; tones between neighbours are mixed
    [
        [0.86, 0.62, 0.50],
        [0.80, 0.54, 0.40],
        [0.70, 0.44, 0.30],
        [0.55, 0.33, 0.21],
        [0.38, 0.21, 0.13],
        [0.25, 0.14, 0.09],
    ]
)
HAIR_COLOURS = np.array(
    [
        [0.03, 0.025, 0.02],
        [0.06, 0.04, 0.03],
        [0.12, 0.07, 0.04],
        [0.22, 0.13, 0.07],
        [0.42, 0.27, 0.13],
        [0.55, 0.42, 0.25],
        [0.28, 0.1, 0.05],
        [0.45, 0.45, 0.44],
    ]
)
IRIS_COLOURS = np.array(
    [
        [0.10, 0.055, 0.03],
        [0.16, 0.09, 0.04],
        [0.24, 0.16, 0.07],
        [0.13, 0.22, 0.12],
        [0.14, 0.27, 0.42],
        [0.28, 0.34, 0.38],
    ]
)
LIGHT_MASKS = np.array(  # light-coloured medical masks: the blues and whites first, as in the paper's set B
    [
        [0.42, 0.66, 0.82],
        [0.55, 0.76, 0.86],
        [0.86, 0.88, 0.88],
        [0.50, 0.74, 0.66],
        [0.80, 0.60, 0.64],
        [0.74, 0.84, 0.90],
    ]
)
LIGHT_WEIGHTS = (0.30, 0.18, 0.26, 0.10, 0.08, 0.08)
DARK_MASKS = np.array(
    [
        [0.035, 0.035, 0.04],
        [0.14, 0.15, 0.17],
        [0.05, 0.08, 0.17],
        [0.30, 0.05, 0.07],
        [0.07, 0.16, 0.11],
        [0.32, 0.34, 0.36],
    ]
)


GROUNDS = np.array([[0.16, 0.20, 0.10], [0.20, 0.19, 0.18], [0.30, 0.26, 0.20]])  # foliage, street, sand


def person(identity: int) -> dict:
    """One identity's numbers, a pure function of the integer."""
    rng = np.random.default_rng([101, identity])

    def normal(sd: float) -> float:
        return float(np.clip(rng.normal(), -2, 2) * sd)

    male = float(rng.random() < 0.5)
    heavy, age = normal(1.0), float(rng.random()) ** 1.5  # heavy: one axis for cheeks, jaw and neck together
    grey = age > 0.68 and rng.random() < 0.6
    tone = float(rng.random()) * (len(SKIN_TONES) - 1.001)
    low, share = int(tone), tone % 1
    dark = tone / (len(SKIN_TONES) - 1)
    hair = int(rng.choice(7, p=[0.3, 0.22, 0.17, 0.12, 0.09, 0.06, 0.04])) if dark < 0.5 else int(rng.integers(3))
    iris = int(rng.integers(6)) if hair > 2 and dark < 0.45 else int(rng.integers(3))
    style = rng.choice(5, p=[0.14, 0.56, 0.22, 0.05, 0.03] if male else [0.02, 0.20, 0.18, 0.40, 0.20])
    tilt = normal(0.06) + 0.07 - 0.03 * male
    return {
        "male": male,
        "head_width": 1 + normal(0.04) + 0.02 * heavy + 0.02 * male,
        "face_length": 0.985 + normal(0.05) + 0.03 * male,
        "jaw_width": 1.0 + normal(0.07) + 0.03 * heavy + 0.08 * male,
        "chin_length": normal(0.045) - 0.015 + 0.02 * male,
        "chin_forward": normal(0.035) + 0.02 * male,
        "cheekbone_forward": normal(0.03) - 0.005 * male,
        "fat": 0.015 + 0.045 * heavy + normal(0.02),
        "brow_ridge": 0.004 + normal(0.010) + 0.018 * male,
        "eye_x": 0.315 + normal(0.014),
        "eye_size": 1.12 + normal(0.07),
        "eye_tilt_cos": np.cos(tilt),
        "eye_tilt_sin": np.sin(tilt),
        "nose_width": 1.04 + normal(0.14) + 0.07 * male,
        "nose_length": normal(0.035) - 0.01 + 0.015 * male,
        "nose_forward": normal(0.035) + 0.005 + 0.02 * male,
        "nose_bridge": normal(0.035),
        "nose_up": normal(0.028) + 0.008,
        "mouth_width": 1.02 + normal(0.08) + 0.03 * male,
        "mouth_y": normal(0.022),
        "upper_lip": 1.02 + normal(0.24) - 0.12 * male,
        "lower_lip": 1.05 + normal(0.22) - 0.12 * male,
        "muzzle": normal(0.022),
        "brow_y": 0.012 + normal(0.02) - 0.018 * male,
        "brow_thickness": 1.15 + normal(0.22) + 0.25 * male,
        "brow_arch": normal(0.014) + 0.012 - 0.010 * male,
        "brow_slope": normal(0.016) - 0.018,
        "ear_size": 1 + normal(0.09) + 0.05 * male,
        "forehead": normal(0.06),
        "age": age,
        "hair_thickness": [0.012, 0.075, 0.15, 0.10, 0.11][style] + abs(normal(0.025)),
        "curl": (style == 2) * rng.uniform(0.4, 1.0) + (style > 2) * rng.uniform(0, 0.4),
        "long_hair": (style > 2) * rng.uniform(0.2, 1.0),
        "fringe": (style == 4) * rng.uniform(0.5, 0.9) + (style == 1) * (rng.random() < 0.3) * rng.uniform(0.2, 0.6),
        "recession": male * rng.uniform(0, 0.10) * (0.5 + age),
        "parting": float(rng.choice([-0.22, -0.1, 0.0, 0.1, 0.22])),
        "beard": male * float(rng.choice([0.0, 0.12, 0.3, 0.9], p=[0.40, 0.28, 0.18, 0.14])),
        "lip_tint": (1 - male) * rng.random(),
        "blush": rng.random(),
        "liner": (1 - male) * rng.uniform(0.3, 1.0),
        "phase": rng.uniform(0, 900),
        "skin_colour": SKIN_TONES[low] * (1 - share) + SKIN_TONES[low + 1] * share,
        "hair_colour": HAIR_COLOURS[7 if grey else hair] * (1 + normal(0.15)),
        "iris_colour": IRIS_COLOURS[iris],
    }


def _background(rng: np.random.Generator) -> np.ndarray:
    """Control grid [3, 6, 6] (linear RGB) of an out-of-focus wall, room or street: near grey, lit from one side."""
    warmth = 1 + rng.normal(0, 0.05) * np.array([1.0, 0.1, -1.0])
    base = rng.uniform(0.06, 0.75) * warmth
    rows, columns = np.linspace(-1, 1, 6)[:, None], np.linspace(-1, 1, 6)[None]
    light = 1 + rng.uniform(-0.35, 0.35) * columns + rng.uniform(-0.35, 0.2) * rows
    grid = base[:, None, None] * light
    scene = rng.random()
    if scene < 0.35:  # outdoors: sky above, foliage or street below, the horizon anywhere
        below = GROUNDS[rng.integers(3)] * rng.uniform(0.5, 1.4)
        sky = np.array([0.55, 0.66, 0.80]) * rng.uniform(0.6, 1.15)
        share = np.clip((rows - rng.uniform(-0.7, 0.6)) * 2.5 + 0.5, 0, 1) * np.ones((1, 6))
        grid = sky[:, None, None] * (1 - share) + below[:, None, None] * share
    elif scene < 0.65:  # indoors: a door, window or shelf as soft vertical bands
        grid = grid * (1 + rng.uniform(0.1, 0.6) * rng.choice([-1, 1], size=(1, 1, 6)))
    blobs = rng.normal(0, rng.uniform(0.02, 0.16), size=(1, 6, 6)) + rng.normal(0, 0.015, size=(3, 6, 6))
    return np.clip(grid * (1 + blobs), 0.012, 1.1)


def _sphere(azimuth: float, elevation: float) -> np.ndarray:
    return np.array([np.sin(azimuth) * np.cos(elevation), np.sin(elevation), np.cos(azimuth) * np.cos(elevation)])


def shot(seed: int, ranges: Ranges, hard: bool) -> dict:
    """Expression, pose, camera, light and background of a seed; `hard` frames tightly (heterogeneity)."""
    rng = np.random.default_rng([202, seed])
    uniform = rng.uniform
    yaw, pitch, roll = (uniform(-limit, limit) for limit in (ranges.yaw, ranges.pitch, ranges.roll))
    radians = np.deg2rad([yaw, pitch, roll])
    smile = uniform(0.25, 1.1) if rng.random() < 0.6 else uniform(-0.05, 0.35)
    mouth_open = uniform(0.1, 0.55) if rng.random() < 0.35 else 0.0
    azimuth = uniform(-1.1, 1.1)
    fill_azimuth = -azimuth - 0.3 * np.sign(azimuth)
    clothes = uniform(0.02, 0.6) * (1 + 0.22 * rng.normal(size=3).clip(-1.5, 1.5))
    return {
        "yaw": yaw,
        "pitch": pitch,
        "roll": roll,
        "rotation": rotation(*radians),
        "body_rotation": rotation(*(radians * (0.4, 0.25, 0.2))),  # the shoulders follow the head only partly
        "zoom": uniform(*ranges.zoom) * (1 + hard * uniform(0.15, 0.6)),
        "centre_x": uniform(-0.06, 0.06) * (1 + hard),
        "centre_y": uniform(-0.06, 0.06) - hard * uniform(0.0, 0.2),
        "mouth_open": mouth_open,
        "smile": smile,
        "lid_open": 1 - 0.25 * uniform(0, 1) - 0.12 * max(smile, 0),
        "brow_raise": uniform(-0.2, 1.0) * 0.035,
        "gaze_x": uniform(-0.22, 0.22),
        "gaze_y": uniform(-0.10, 0.12),
        "light_direction": _sphere(azimuth, uniform(0.0, 0.80)),
        "fill_direction": _sphere(fill_azimuth, 0.2),
        "light_azimuth": azimuth,
        "key": uniform(0.75, 1.25),
        "ambient": uniform(0.40, 0.78),
        "fill": uniform(0.08, 0.35),
        "shadow_softness": uniform(2.5, 7.0),
        "light_colour": np.array([1.0, uniform(0.88, 1.0), uniform(0.78, 1.05)]),
        "ambient_colour": np.array([uniform(0.87, 1.0), uniform(0.93, 1.0), uniform(0.95, 1.12)]),
        "background": _background(rng),
        "clothes_colour": clothes.clip(0.015, 0.8),
        "grain": uniform(0.002, 0.014),
        "grain_seed": float(seed % 100000),
    }


def wear(identity: int, seed: int, ranges: Ranges, hard: bool) -> dict:
    """The mask of a picture; `hard` may add a scarf or a hood."""
    rng = np.random.default_rng([303, seed, identity])
    uniform = rng.uniform
    weights = np.asarray(ranges.mask_kinds, float)
    kind = MASK_KINDS[rng.choice(3, p=weights / weights.sum())]
    light = bool(rng.random() < ranges.light_share) if kind != CLOTH else bool(rng.random() < 0.25)
    if kind == CUP:
        colour = np.array([0.86, 0.88, 0.88]) if light else DARK_MASKS[0]
    else:
        colour = LIGHT_MASKS[rng.choice(6, p=LIGHT_WEIGHTS)] if light else DARK_MASKS[rng.integers(6)]
    patterned = kind == CLOTH and rng.random() < ranges.pattern_share
    below_nose = rng.random() < ranges.below_nose
    phase = uniform(0, 900)
    scarf, hood = (hard and bool(rng.random() < 0.45) for _ in range(2))
    return {
        "surgical": float(kind == SURGICAL),
        "cloth": float(kind == CLOTH),
        "cup": float(kind == CUP),
        "colour": (colour * (1 + 0.05 * rng.normal())).clip(0.02, 0.9),
        "light": float(light),
        "patterned": float(patterned),
        "print_colour": np.clip(1.05 - colour * 0.9 + rng.normal(0, 0.15, 3), 0.02, 0.9),
        "below_nose": float(below_nose),
        "top_shift": uniform(-3.5, 2.5) - 25.0 * below_nose,
        "bottom_shift": uniform(-4, 3) - 2.0 * below_nose,
        "tilt": uniform(-2.5, 2.5),
        "width": uniform(0.93, 1.05),
        "pleats": uniform(0.7, 1.3),
        "wrinkles": uniform(0.4, 1.4),
        "gap": uniform(0.016, 0.038),
        "phase": phase,
        "phase_sin": np.sin(phase),
        "scarf": float(scarf),
        "hood": float(hood),
        "scarf_colour": (uniform(0.03, 0.5) * (1 + 0.3 * rng.normal(size=3))).clip(0.02, 0.7),
    }


def _stack(cls, rows: list[dict], device):
    """Rows -> a named tuple of float32 tensors: numbers [B, 1], colours [B, 1, 3], others [B, ...]."""
    out = {}
    for name in cls._fields:
        column = np.stack([np.asarray(row[name], np.float64) for row in rows])
        if column.ndim == 1:
            column = column[:, None]
        elif name.endswith("colour"):
            column = column[:, None, :]
        out[name] = torch.tensor(column, dtype=torch.float32, device=device)
    return cls(**out)


def sample(
    ids: list[int],
    seeds: list[int],
    ranges: Ranges,
    device="cpu",
    overrides: list[dict] | None = None,
    wear_seeds: list[int] | None = None,
) -> tuple[Identity, Shot, Wear]:
    """Draw the parameters of len(ids) pictures. `overrides[i]` replaces entries of picture i's shot (group scenes);
    `wear_seeds` draw the masks where they shall not hang on `seeds`."""
    shots, wears = [], []
    for i, (identity, seed, wear_seed) in enumerate(zip(ids, seeds, wear_seeds or seeds)):
        hard = bool(np.random.default_rng([404, seed]).random() < ranges.heterogeneity)
        shots.append(shot(seed, ranges, hard) | (overrides[i] if overrides else {}))
        wears.append(wear(identity, wear_seed, ranges, hard))
    people = [person(identity) for identity in ids]
    return _stack(Identity, people, device), _stack(Shot, shots, device), _stack(Wear, wears, device)
