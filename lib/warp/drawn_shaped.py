"""Masks with a form of their own, drawn by code: N95, KN95, FFP2 duckbill, cloth, half-mask respirator.

Each drawing carries the relief of the mask itself (seams, folds, roundness); the light of the scene comes when it is
worn.
"""

from __future__ import annotations

import numpy as np

from lib.warp.sheet import Canvas, Template, cornered_outline, smooth_outline

_P100 = (168.0, 98.0, 122.0)  # the magenta that marks such filters, as felt has it, not as plastic does


def _line(distance: np.ndarray, width: float) -> np.ndarray:
    """1 on a line, 0 away from it."""
    return np.exp(-((distance / width) ** 2))


def _step(value: np.ndarray, width: float) -> np.ndarray:
    """0 where value is negative, 1 where positive, smooth over `width`."""
    return 1 / (1 + np.exp(-np.clip(value / width, -30, 30)))


def _rounded(canvas: Canvas, middle: float, half: tuple[float, float], fall: float) -> np.ndarray:
    """Brightness of a bulging form: 1 in front, falling off towards its sides and below."""
    across, down = canvas.x / half[0], (canvas.y - middle) / half[1]
    return 1.04 - fall * (
        np.abs(across) ** 2.4 + 0.75 * np.clip(down, 0, None) ** 2.2 + 0.25 * np.clip(-down, 0, None) ** 2
    )


def _nose_clip(canvas: Canvas, at: float, drop: float, length: float) -> np.ndarray:
    """Coverage of a metal strip bent over the nose: its middle at height `at`, its ends `drop` lower."""
    y = at + drop * (canvas.x / length) ** 2
    return _step(0.011 - np.abs(canvas.y - y), 0.002) * _step(length - np.abs(canvas.x), 0.004)


def n95(size: int) -> Template:
    """A moulded N95 cup: white, an embossed ring, a metal nose clip, two bands round the head."""
    canvas = Canvas(size)
    half = [(0, -0.035), (0.085, -0.005), (0.17, 0.085), (0.285, 0.17), (0.365, 0.29), (0.372, 0.41), (0.30, 0.555),
            (0.165, 0.665), (0, 0.70)]  # fmt: skip
    alpha = canvas.fill(smooth_outline(half))
    depth = canvas.depth(alpha)
    shade = _rounded(canvas, 0.30, (0.42, 0.44), 0.20)
    shade = shade - 0.10 * _line(depth - 0.030, 0.006) + 0.04 * _line(depth - 0.042, 0.008)  # the welded rim
    shade = shade - 0.05 * _line(depth - 0.105, 0.005) + 0.03 * _line(depth - 0.116, 0.007)  # the embossed ring
    shade = shade - 0.09 * np.exp(-depth / 0.010)
    for y in (0.22, 0.42):  # two shallow ribs across
        arc = canvas.y - y - 0.10 * canvas.x**2
        shade = shade + (0.035 * _line(arc + 0.008, 0.008) - 0.05 * _line(arc - 0.006, 0.007)) * _step(
            depth - 0.12, 0.01
        )
    dots = np.cos(2 * np.pi * 62 * canvas.x) * np.cos(2 * np.pi * 62 * canvas.y)
    shade = shade + 0.010 * dots * _step(depth - 0.035, 0.004)
    clip = _nose_clip(canvas, 0.045, 0.075, 0.125)
    rgb = np.array([238.0, 238.0, 234.0]) * shade[..., None]
    rgb = (
        rgb * (1 - clip[..., None])
        + clip[..., None] * np.array([176.0, 180.0, 186.0]) * (0.9 + 0.25 * _line(canvas.x, 0.05))[..., None]
    )
    bands = [(0.350, 0.265, "crown"), (0.352, 0.455, "nape")]
    dye = np.rint(255 * (1 - clip)).astype(np.uint8)
    return canvas.template(
        "n95", rgb, alpha, surface="cup", dye=dye, straps=canvas.straps(bands, 0.030, (226, 205, 128))
    )


def kn95(size: int) -> Template:
    """A folded KN95: white, a welded ridge down the middle, ear loops."""
    canvas = Canvas(size)
    half = [(0, -0.050), (0.10, 0.000), (0.24, 0.070), (0.40, 0.118), (0.468, 0.150), (0.452, 0.300), (0.405, 0.415),
            (0.27, 0.575), (0.12, 0.680), (0, 0.715)]  # fmt: skip
    alpha = canvas.fill(cornered_outline(half, (0, 4, 6, 9)))
    depth = canvas.depth(alpha)
    side = np.abs(canvas.x) + 0 * canvas.y
    shade = 1.03 - 0.17 * (side / 0.47) ** 1.6 - 0.10 * np.clip((canvas.y - 0.38) / 0.34, 0, None) ** 1.7
    shade = shade + 0.035 * _line(side, 0.010) - 0.055 * _line(side - 0.017, 0.006)  # the ridge and its weld
    stitch = 0.5 + 0.5 * np.cos(2 * np.pi * 70 * (canvas.y + 0.5 * side))
    shade = shade - 0.055 * _line(side - 0.017, 0.006) * stitch
    for at, strength in ((0.022, 0.075), (0.036, 0.060)):  # two rows of weld points along the edge
        shade = shade - strength * _line(depth - at, 0.004) * (0.4 + 0.6 * stitch)
    crease = canvas.y - 0.135 - 0.62 * side  # from the corner of the jaw up to the ridge
    shade = shade - 0.035 * _line(crease, 0.010) * _step(0.42 - side, 0.02) * _step(side - 0.06, 0.02)
    shade = shade - 0.08 * np.exp(-depth / 0.008)
    clip = _nose_clip(canvas, 0.012, 0.055, 0.15)
    shade = shade + clip * (0.02 - 0.06 * _line(canvas.y - 0.025 - 0.055 * (canvas.x / 0.15) ** 2, 0.004))
    loops = [(0.455, 0.170, "ear_top"), (0.405, 0.400, "ear_bottom")]
    rgb = np.array([240.0, 241.0, 242.0]) * shade[..., None]
    return canvas.template("kn95", rgb, alpha, surface="fold", straps=canvas.straps(loops, 0.024, (238, 239, 240)))


def ffp2(size: int) -> Template:
    """An FFP2 duckbill: two panels that meet in a fold across the mouth, side seams, ear loops."""
    canvas = Canvas(size)
    half = [
        (0, -0.040),
        (0.11, 0.005),
        (0.27, 0.085),
        (0.430, 0.140),
        (0.425, 0.345),
        (0.330, 0.500),
        (0.18, 0.640),
        (0, 0.690),
    ]
    alpha = canvas.fill(cornered_outline(half, (3, 4)))
    depth = canvas.depth(alpha)
    side = np.abs(canvas.x) + 0 * canvas.y
    fold = canvas.y - 0.335 + 0.03 * (side / 0.42) ** 2
    shade = 1.03 - 0.10 * (side / 0.44) ** 2 - 0.16 * _step(fold, 0.006) - 0.05 * np.clip(fold / 0.35, 0, None)
    shade = shade + 0.05 * _line(fold + 0.012, 0.010) - 0.06 * _line(fold - 0.008, 0.006)  # the bill's edge, its shadow
    stitch = 0.5 + 0.5 * np.cos(2 * np.pi * 66 * canvas.y)
    seam = side - 0.385 + 0.16 * np.abs(canvas.y - 0.30)
    shade = shade - 0.070 * _line(seam, 0.005) * (0.4 + 0.6 * stitch)
    for at in (0.020, 0.034):
        shade = shade - 0.060 * _line(depth - at, 0.004) * (0.5 + 0.5 * np.cos(2 * np.pi * 60 * canvas.x))
    shade = shade - 0.08 * np.exp(-depth / 0.008)
    clip = _nose_clip(canvas, 0.018, 0.060, 0.14)
    shade = shade - 0.05 * clip * _line(canvas.y - 0.03 - 0.060 * (canvas.x / 0.14) ** 2, 0.004)
    loops = [(0.420, 0.165, "ear_top"), (0.400, 0.370, "ear_bottom")]
    rgb = np.array([232.0, 238.0, 242.0]) * shade[..., None]
    return canvas.template("ffp2", rgb, alpha, surface="beak", straps=canvas.straps(loops, 0.024, (238, 239, 240)))


def cloth(size: int) -> Template:
    """A sewn cotton mask: two panels, a seam down the middle, a stitched hem, woven cloth, ear loops."""
    canvas = Canvas(size)
    half = [
        (0, -0.045),
        (0.10, -0.010),
        (0.25, 0.055),
        (0.475, 0.090),
        (0.470, 0.330),
        (0.34, 0.520),
        (0.17, 0.650),
        (0, 0.700),
    ]
    alpha = canvas.fill(cornered_outline(half, (3, 4)))
    depth = canvas.depth(alpha)
    side = np.abs(canvas.x) + 0 * canvas.y
    shade = 1.03 - 0.16 * (side / 0.47) ** 2 - 0.10 * np.clip((canvas.y - 0.36) / 0.34, 0, None) ** 1.6
    stitch = 0.5 + 0.5 * np.cos(2 * np.pi * 48 * (canvas.y + canvas.x**2))
    shade = (
        shade
        - 0.15 * _line(side, 0.0045)
        + 0.04 * _line(side - 0.012, 0.008)
        - 0.05 * _line(side - 0.020, 0.003) * stitch
    )
    hem = 0.5 + 0.5 * np.cos(2 * np.pi * 48 * (canvas.x**2 + canvas.y**2) ** 0.5)
    shade = shade - 0.09 * _line(depth - 0.030, 0.0035) * (0.4 + 0.6 * hem) - 0.11 * np.exp(-depth / 0.009)
    # Soft folds from the loops' corners, where cloth is pulled.
    for y, slope in ((0.13, 0.18), (0.30, -0.10)):
        fold = canvas.y - y - slope * (0.47 - side)
        shade = shade + (0.035 * _line(fold + 0.012, 0.014) - 0.045 * _line(fold - 0.010, 0.012)) * _step(
            side - 0.24, 0.05
        )
    thread = 128
    weave = np.cos(2 * np.pi * thread * canvas.x) * 0.5 + np.cos(2 * np.pi * thread * canvas.y) * 0.5
    shade = shade + 0.020 * weave
    loops = [(0.465, 0.115, "ear_top"), (0.455, 0.315, "ear_bottom")]
    rgb = np.array([168.0, 172.0, 180.0]) * shade[..., None]
    return canvas.template("cloth", rgb, alpha, straps=canvas.straps(loops, 0.027, (206, 208, 212)))


def gas(size: int) -> Template:
    """A half-mask respirator: a dark rubber face piece, two round filters, a valve in the middle, bands."""
    canvas = Canvas(size)
    half = [
        (0, -0.005),
        (0.075, 0.020),
        (0.135, 0.130),
        (0.215, 0.270),
        (0.255, 0.420),
        (0.205, 0.570),
        (0.105, 0.655),
        (0, 0.675),
    ]
    body = canvas.fill(smooth_outline(half))
    depth = canvas.depth(body)
    shade = _rounded(canvas, 0.34, (0.30, 0.38), 0.38)
    shade = shade + 0.22 * _line(canvas.x, 0.030) * _step(0.30 - canvas.y, 0.03) - 0.25 * np.exp(-depth / 0.012)
    shade = shade - 0.15 * _line(depth - 0.045, 0.006) + 0.10 * _line(depth - 0.056, 0.006)  # the sealing lip
    rgb = np.array([62.0, 64.0, 70.0]) * shade[..., None]
    alpha, dye = body.astype(np.float64), 255.0 + 0 * shade
    for sign in (-1, 1):
        r = np.hypot(canvas.x - sign * 0.285, 1.08 * (canvas.y - 0.430))
        disc = _step(0.150 - r, 0.0015)
        height = (canvas.y - 0.430) / 0.15
        cap = (
            1.02
            - 0.12 * height
            - 0.10 * (r / 0.15) ** 4
            - 0.14 * _line(r - 0.112, 0.006)
            + 0.05 * _line(r - 0.122, 0.006)
        )
        ribs = 0.05 * np.cos(2 * np.pi * r / 0.026) * _step(0.100 - r, 0.004)
        rgb = rgb * (1 - disc[..., None]) + disc[..., None] * np.array(_P100) * (cap + ribs)[..., None]
        alpha, dye = np.maximum(alpha, 255 * disc), dye * (1 - disc)
    r = np.hypot(canvas.x, canvas.y - 0.475)
    valve = _step(0.085 - r, 0.0015)
    grille = 0.16 * _line(np.sin(np.pi * canvas.y / 0.022), 0.5) * _step(0.065 - r, 0.003)
    tone = 1.0 - 0.5 * (canvas.y - 0.475) / 0.085 * 0.3 - 0.2 * _line(r - 0.070, 0.005) - grille
    rgb = rgb * (1 - valve[..., None]) + valve[..., None] * np.array([104.0, 107.0, 114.0]) * tone[..., None]
    bands = [(0.170, 0.230, "crown"), (0.225, 0.560, "nape")]
    alpha = np.rint(np.maximum(alpha, alpha[:, ::-1])).astype(np.uint8)
    dye = np.rint(dye * (1 - valve)).astype(np.uint8)
    return canvas.template("gas", rgb, alpha, surface="half", dye=dye, straps=canvas.straps(bands, 0.036, (58, 60, 66)))
