"""What is drawn from the integer seeds: who it is, how the picture was taken, which mask is worn.

`identity` integers fix the person (`Identity`), `seed` integers fix everything else (`Shot`, `Wear`). All draws are
made on the host in float64, so that a picture does not depend on device or batch.
"""

from collections import namedtuple
from dataclasses import dataclass

SURGICAL, CLOTH, CUP = "surgical", "cloth", "cup"
MASK_KINDS = (SURGICAL, CLOTH, CUP)


@dataclass(frozen=True)
class Ranges:
    """Spread of pose, framing and wear. Angles are half ranges in degrees: yaw is uniform in [-yaw, yaw].

    heterogeneity: share of pictures with what the paper's set B suffers from (§5): tight framing that cuts the
        forehead, and in part of them an outdoor scarf or a hood.
    mask_kinds: weights of surgical, cloth and cup (respirator-like) masks.
    light_share: share of light-coloured masks among surgical and cup masks; pattern_share: of prints among cloth ones.
    below_nose: share of masks worn with the nose out (occlusion degree 2).
    """

    yaw: float = 30.0
    pitch: float = 12.0
    roll: float = 10.0
    zoom: tuple[float, float] = (1.0, 1.25)
    heterogeneity: float = 0.0
    mask_kinds: tuple[float, float, float] = (0.72, 0.18, 0.10)
    light_share: float = 0.85
    pattern_share: float = 0.5
    below_nose: float = 0.0

    def __post_init__(self):
        for name, limit in (("yaw", 75), ("pitch", 30), ("roll", 45)):
            if not 0 <= getattr(self, name) <= limit:
                raise ValueError(
                    f"{name} is a half range in degrees, expected 0 to {limit}, got {getattr(self, name)!r}"
                )
        for name in ("heterogeneity", "light_share", "pattern_share", "below_nose"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"{name} is a share, expected 0 to 1, got {getattr(self, name)!r}")
        if len(self.zoom) != 2 or not 0.2 <= self.zoom[0] <= self.zoom[1] <= 3:
            raise ValueError(f"zoom: expected (low, high) with 0.2 <= low <= high <= 3, got {self.zoom!r}")
        if len(self.mask_kinds) != 3 or min(self.mask_kinds) < 0 or sum(self.mask_kinds) <= 0:
            raise ValueError(f"mask_kinds: expected three weights >= 0 for {MASK_KINDS}, got {self.mask_kinds!r}")


Identity = namedtuple(
    "Identity",
    """
    male head_width face_length jaw_width chin_length chin_forward cheekbone_forward fat brow_ridge eye_x eye_size
    eye_tilt_cos eye_tilt_sin nose_width nose_length nose_forward nose_bridge nose_up mouth_width mouth_y upper_lip
    lower_lip muzzle brow_y brow_thickness brow_arch brow_slope ear_size forehead age hair_thickness curl long_hair
    fringe recession parting beard lip_tint blush liner phase skin_colour hair_colour iris_colour
    """,
)
Identity.__doc__ = (
    """The person. Lengths in units of 10 cm, offsets from an average face; numbers [B, 1], colours [B, 1, 3] linear."""
)


Shot = namedtuple(
    "Shot",
    """
    yaw pitch roll rotation body_rotation zoom centre_x centre_y mouth_open smile lid_open brow_raise gaze_x gaze_y
    light_direction fill_direction light_azimuth key ambient fill shadow_softness light_colour ambient_colour
    background clothes_colour grain grain_seed
    """,
)
Shot.__doc__ = (
    """Expression, pose (degrees), camera, light and background. rotation, body_rotation: [B, 3, 3] head to world."""
)


Wear = namedtuple(
    "Wear",
    """
    surgical cloth cup colour light patterned print_colour below_nose top_shift bottom_shift tilt width pleats
    wrinkles gap phase phase_sin scarf hood scarf_colour
    """,
)
Wear.__doc__ = (
    """The mask. surgical, cloth, cup: 0 or 1 [B, 1]; angles in degrees; light, patterned, below_nose: 0 or 1."""
)
