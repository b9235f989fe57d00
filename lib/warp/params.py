"""What is drawn for a mask (`WarpParams`), what may be drawn (`WarpConfig`), and the families' ways as named presets.

All chance is in `sample_warp_params`; `lib.warp.wear.apply_warp` has none. Parameters go through JSON unchanged.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, field, fields, replace
from numbers import Real

import numpy as np

from lib.warp.geometry import WEAR_TYPES
from lib.warp.looks import MixItem, draw_item, parse_colour, parse_mix

TRANSFORMS = ("surface", "tps", "triangles", "homography", "similarity")
LIGHTS = ("none", "picture", "face", "local")
EDGES = ("soft", "hard")
IMFD_SHARES = {"Mask_Mouth_Chin": 0.8, "Mask_Nose_Mouth": 0.1, "Mask_Chin": 0.1}  # cabani2021maskedface, Table 2


class WarpError(ValueError):
    """A mask cannot be put on this face. `reason` is one short line, fit for a list of failures; `kind` is what it is
    counted under: "too small", "turned too far" or "warp"."""

    def __init__(self, reason: str, kind: str = "warp"):
        super().__init__(reason)
        self.reason, self.kind = reason, kind


@dataclass(frozen=True)
class Style:
    """How a mask is put on: the part that a preset fixes and chance does not touch.

    transform: how the template's points are brought to the face. "surface" drapes the mask over a generic head in the
        face's pose, tied to its landmarks; "tps" and "triangles" bend the flat template so that each key point meets
        its place; "homography" and "similarity" fit it by least squares.
    key_points: 12 (CMFD's number) or 6 (MaskTheFace's). side_views: take the template's left or right view where the
        head is turned beyond 13° (MaskTheFace).
    light: "none"; "picture", one gain from the whole picture's mean (MaskTheFace); "face", one gain from the face's
        mean (MLFW); "local", a field from the face's lower half, with its cast (`lib.warp.light`).
    grain, blur: share of the picture's own grain and softness that the mask is given, in [0, 1]. shadow: strength of
        the contact shadow, in [0, 1].
    relief: exponent on the template's own shading, 1 as drawn; more makes deeper pleats. crumple: strength of fine
        folds all over the cloth, as a share of its brightness.
    straps: draw them to the ears.
    edge: "soft", or "hard" for a coverage of 0 or 1 only. feather_px: softness of the edge on a 256² face; grows and
        shrinks with the face.
    max_yaw: degrees of head yaw beyond which the face is refused, as `face3d.estimate_pose` tells it; beyond 40° its
        estimate is 4° too large on average (standard deviation 2°). 67 takes 76 of 77 of the face world's faces
        truly turned by 55 to 60° and 25 of 54 turned by 60 to 65°.
    min_eye_distance_px: faces smaller than this are refused.

    Where the paper or the family gives no value it was chosen by eye on photographs.
    """

    transform: str = "surface"
    key_points: int = 12
    side_views: bool = False
    light: str = "local"
    grain: float = 1.0
    blur: float = 1.0
    shadow: float = 0.2
    relief: float = 1.6
    crumple: float = 0.02
    straps: bool = True
    edge: str = "soft"
    feather_px: float = 1.0
    max_yaw: float = 67.0
    min_eye_distance_px: float = 4.0

    def __post_init__(self) -> None:
        _check_choice("transform", self.transform, TRANSFORMS)
        _check_choice("light", self.light, LIGHTS)
        _check_choice("edge", self.edge, EDGES)
        _check_choice("key_points", self.key_points, (6, 12))
        if self.side_views and (self.key_points != 6 or self.transform == "surface"):
            raise ValueError("side_views: only with six key points and a flat transform; a surface needs no side views")
        high = {"grain": 1, "blur": 1, "shadow": 1, "relief": 4, "crumple": 0.5, "feather_px": 50, "max_yaw": 90}
        for name, most in (*high.items(), ("min_eye_distance_px", 1e6)):
            _check_number(name, getattr(self, name), 0, most)


def parse_wear(text: str) -> dict[str, float]:
    """How often each way of wearing comes, from a text: a name ("Mask", "imfd" for `IMFD_SHARES`), or names with
    weights, "Mask=3, Mask_Chin=1"; imfd among others gives its weight to its three ways. As `WarpConfig.wear` takes it.

    Raises ValueError that names the part which is wrong and what is expected.
    """
    wear: dict[str, float] = {}
    for part in filter(None, map(str.strip, text.split(","))):
        name, mark, weight = (word.strip() for word in part.partition("="))
        _check_choice("wear", name, (*WEAR_TYPES, "imfd"))
        try:
            times = float(weight) if mark else 1.0
        except ValueError:
            raise ValueError(f"wear: {part!r}: the weight after = must be a number") from None
        _check_number(f"wear: the weight of {name}", times, 0, 1e9)
        shares = IMFD_SHARES if name == "imfd" else {name: 1.0}
        if doubled := sorted(shares.keys() & wear.keys()):
            raise ValueError(f"wear: {text!r} names {doubled[0]} twice")
        wear |= {way: share * times for way, share in shares.items()}
    if not sum(wear.values()) > 0:
        raise ValueError(f"wear: {text!r} names no way with a weight above 0; expected e.g. Mask=3,Mask_Chin=1")
    return wear


@dataclass(frozen=True)
class WarpConfig:
    """What may be drawn. None of the spreads is given in the paper, which used CMFD as published; they are chosen so
    that masks stay as alike as CMFD's ("uniformly blue … with rare occasions of misplacement", §3).

    style: see `Style`. mix: masks with colour, texture and weight, from `looks.parse_mix` (its text form is accepted).
    wear: how the masks are worn and how often, e.g. {"Mask": 1} or `IMFD_SHARES`. Spreads are standard deviations,
    lengths in mask widths; brightness is one gain for all channels, tint a further one for each.
    """

    style: Style = field(default_factory=Style)
    mix: tuple[MixItem, ...] | str = "surgical_blue"
    wear: dict[str, float] = field(default_factory=lambda: {"Mask": 1.0})
    brightness: float = 0.025
    tint: float = 0.006
    shift: float = 0.006
    rotate_deg: float = 0.7
    scale: float = 0.010
    misplaced_share: float = 0.02  # how many masks are put on carelessly
    misplaced_shift: float = 0.045
    misplaced_rotate_deg: float = 4.0

    def __post_init__(self) -> None:
        if isinstance(self.mix, str):
            object.__setattr__(self, "mix", parse_mix(self.mix))
        for name, weight in self.wear.items():
            _check_choice("wear", name, tuple(WEAR_TYPES))
            _check_number(f"wear: the weight of {name}", weight, 0, 1e9)
        # Draws reach 2.5 standard deviations: beyond these a mask could have no light or no size.
        high = {"brightness": 0.4, "tint": 0.4, "shift": 1, "rotate_deg": 70, "scale": 0.35, "misplaced_share": 1}
        for name, most in (*high.items(), ("misplaced_shift", 1), ("misplaced_rotate_deg", 70)):
            _check_number(name, getattr(self, name), 0, most)
        if not sum(self.wear.values()) > 0:
            raise ValueError("wear: at least one way of wearing needs a weight above 0")


@dataclass(frozen=True)
class WarpParams:
    """One drawn warp, all that `apply_warp` needs besides picture and landmarks. The defaults: no jitter at all.

    template: a name of `templates.TEMPLATES` or the path of an own one. wear: one of `geometry.WEAR_TYPES`. colour:
    "#rrggbb" or "" for the template's own; texture: a name or picture file or "", printed on that colour by the rule
    of `lib.warp.looks`; their weights in [0, 1]; texture_scale: in [0.05, 20].
    gain: factors on R, G, B. shift: (right, down) along the face's own axes in mask widths; rotate_deg: clockwise as
    seen; scale: factor; all three about the middle of the mask. grain_seed: of the grain's pattern.
    """

    template: str = "surgical_blue"
    style: Style = field(default_factory=Style)
    wear: str = "Mask"
    colour: str = ""
    colour_weight: float = 1.0
    texture: str = ""
    texture_weight: float = 1.0
    texture_scale: float = 1.0
    gain: tuple[float, float, float] = (1.0, 1.0, 1.0)
    shift: tuple[float, float] = (0.0, 0.0)
    rotate_deg: float = 0.0
    scale: float = 1.0
    misplaced: bool = False
    grain_seed: int = 0

    def __post_init__(self) -> None:
        _check_choice("wear", self.wear, tuple(WEAR_TYPES))
        if self.colour:
            parse_colour(self.colour)
        for name, low, high in (
            ("colour_weight", 0, 1), ("texture_weight", 0, 1), ("texture_scale", 0.05, 20), ("rotate_deg", -180, 180),
            ("scale", 0.1, 10), ("grain_seed", 0, 2**63 - 1),
        ):  # fmt: skip
            _check_number(name, getattr(self, name), low, high)
        if self.grain_seed != int(self.grain_seed):
            raise ValueError(f"grain_seed: expected a whole number, got {self.grain_seed!r}")
        for name, length, low, high in (("gain", 3, 0, 100), ("shift", 2, -3, 3)):
            if len(value := getattr(self, name)) != length:
                raise ValueError(f"warp parameters: {name} needs {length} numbers, got {value!r}")
            for part in value:
                _check_number(name, part, low, high)

    def to_dict(self) -> dict:
        """Plain values only, ready for JSON."""
        return {k: list(v) if isinstance(v, tuple) else v for k, v in asdict(self).items()}

    @classmethod
    def from_dict(cls, values: dict) -> WarpParams:
        """The inverse of `to_dict`. Raises ValueError naming an unknown key or a vector of the wrong length."""
        style = values.get("style", {})
        for part, given in ((cls, values), (Style, style)):
            known = {f.name for f in fields(part)}
            if unknown := sorted(set(given) - known):
                raise ValueError(
                    f"warp parameters: unknown {', '.join(unknown)}; expected some of {', '.join(sorted(known))}"
                )
        values = {k: tuple(v) if isinstance(v, list) else v for k, v in values.items()}
        return cls(**{**values, "style": Style(**style)})


def _check_choice(name: str, value, known: tuple) -> None:
    if value not in known:
        raise ValueError(f"{name}: expected one of {', '.join(map(str, known))}, got {value!r}")


def _check_number(name: str, value, low: float, high: float) -> None:
    if isinstance(value, bool) or not isinstance(value, Real) or not low <= value <= high:
        raise ValueError(f"{name}: expected a number from {low:g} to {high:g}, got {value!r}")


def sample_warp_params(rng: np.random.Generator, cfg: WarpConfig | None = None) -> WarpParams:
    """Draw one warp. Takes the same number of draws whatever comes out, so that a later draw does not depend on it."""
    cfg = cfg or WarpConfig()
    misplaced = bool(rng.random() < cfg.misplaced_share)
    normal = np.clip(rng.standard_normal(8), -2.5, 2.5)  # no outliers: a mask is never green or on the forehead
    item = draw_item(rng, cfg.mix)
    edges = np.cumsum(list(cfg.wear.values()))
    wear = list(cfg.wear)[min(int(np.searchsorted(edges, rng.random() * edges[-1], side="right")), len(edges) - 1)]
    shift_by, rotate_by = (cfg.misplaced_shift, cfg.misplaced_rotate_deg) if misplaced else (cfg.shift, cfg.rotate_deg)
    gain = (1 + cfg.brightness * normal[0]) * (1 + cfg.tint * normal[1:4])
    return WarpParams(
        template=item.template,
        style=cfg.style,
        wear=wear,
        colour=item.colour,
        colour_weight=item.colour_weight,
        texture=item.texture,
        texture_weight=item.texture_weight,
        gain=tuple(float(g) for g in gain),
        shift=tuple(float(s) for s in shift_by * normal[4:6]),
        rotate_deg=float(rotate_by * normal[6]),
        scale=float(1 + cfg.scale * normal[7]),
        misplaced=misplaced,
        grain_seed=int(rng.integers(2**31)),
    )


_PLAIN = Style(light="none", grain=0.0, blur=0.0, shadow=0.0, relief=1.0, crumple=0.0, straps=False)
# Not counted anywhere; weighted so that light medical masks prevail, as in the paper's set B.
_STREET = (
    "surgical_blue=6, surgical_white=3, surgical_green=0.6, surgical_pink=0.4, surgical_black=1, kn95=1.2, n95=0.6, "
    "ffp2=0.8, cloth=0.5, cloth#2b2f3a=0.5, cloth#6d2e3a=0.2, cloth/checks=0.15, cloth/stripes=0.15, cloth/floral=0.2"
)
# The ways of the rule-based families, as their papers and tools describe them, so that they can stand side by side.
# Their weak points are kept where they are the method (a hard edge, light from the whole picture), mended where they
# are bugs.
PRESETS: dict[str, WarpConfig] = {
    # MaskedFace-Net: twelve points, one homography, one blue mask, no light.
    "cmfd": WarpConfig(replace(_PLAIN, transform="homography", max_yaw=45.0)),
    # MaskTheFace: six points, a side view beyond ±13°, gain from the whole picture, coverage 0 or 1.
    "maskthe_face": WarpConfig(
        replace(_PLAIN, transform="homography", key_points=6, side_views=True, light="picture", edge="hard")
    ),
    # MLFW: bent over triangles, brightness of the face, blurred border.
    "mlfw": WarpConfig(replace(_PLAIN, transform="triangles", light="face", feather_px=3.0)),
    # SMFRD: a picture of a mask, copied and pasted.
    "smfrd": WarpConfig(replace(_PLAIN, transform="similarity", edge="hard")),
    # This study's: everything on, and masks as varied as in the street.
    "ours": WarpConfig(mix=_STREET),
    # CMFD's look with the bending of a spline: what the study trains on, and the released model was trained with.
    "study": WarpConfig(replace(_PLAIN, transform="tps", max_yaw=32.0)),
}


def preset(name: str, **changes) -> WarpConfig:
    """A named preset, with fields of `WarpConfig` or of its `Style` changed. Raises ValueError for an unknown name."""
    _check_choice("preset", name, tuple(PRESETS))
    config = PRESETS[name]
    styles = {f.name for f in fields(Style)}
    style = replace(config.style, **{k: v for k, v in changes.items() if k in styles})
    return replace(config, style=style, **{k: v for k, v in changes.items() if k not in styles})
