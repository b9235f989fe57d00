"""The head as distance fields: skull and skin, nose, eyes, mouth, hair, neck and clothes.

`Head` bakes the primitives of a batch of people and answers distances in the head frame. Skin is modelled in canonical
coordinates (x / head_width, y / face_length, z), lips and lids are cut along analytic curves which the colours
(`colour.py`) and the landmarks (`landmarks.py`) share.
"""

import math

import torch
from torch import Tensor

from .params import Identity, Shot
from .sdf import capsule, ellipsoid, gauss, smooth_max, smooth_min, smoothstep

EYE_Z, EYE_RADIUS, LID_THICKNESS = 0.690, 0.125, 0.016
EYE_HALF_LENGTH, MOUTH_HALF_LENGTH = 0.152, 0.262
PIVOT = (0.0, -0.13, 0.12)  # the head turns about this point, which the camera looks at
EAR_COS, EAR_SIN = math.cos(0.45), math.sin(0.45)  # ears stand off the head by 26 degrees
LIPSCHITZ = 0.92  # fields overestimate distances a little where ellipsoids are flat
TORSO_BOTTOM = -2.15  # below, the body goes on as a column: a picture never shows where a bust ends


class Head:
    """Fields of B heads. A point is a list of three tensors [B, N] in the head frame; distances are [B, N]."""

    def __init__(self, who: Identity, shot: Shot):
        self.who, self.shot = who, shot
        self.inverse_width, self.inverse_length = 1 / who.head_width, 1 / who.face_length
        self.nose_base_y = -0.408 - who.nose_length
        self.mouth_width = MOUTH_HALF_LENGTH * who.mouth_width * (1 + 0.16 * shot.smile)
        self._place_body()
        self._build_face()
        self._build_features()
        self._build_hair()

    # ---- construction ------------------------------------------------------------------------------------------

    def _place_body(self):
        rotation, pivot = self.shot.rotation, self.shot.rotation.new_tensor(PIVOT)
        self.to_body = self.shot.body_rotation.transpose(1, 2) @ rotation
        self.body_shift = pivot - self.to_body @ pivot
        neck = pivot.new_tensor([0.0, -1.72, -0.30]) - self.body_shift
        neck_base = (neck.unsqueeze(1) @ self.to_body).squeeze(1)  # in the head frame
        ends = (0.0, -0.50, -0.20), tuple(neck_base[:, i : i + 1] for i in range(3))
        self.neck = capsule(*ends, 0.42 + 0.04 * self.who.male + 0.5 * self.who.fat, 0.50)
        self.torso = ellipsoid((0, -2.35, -0.2), (1.2, 0.82, 0.52))
        self.shoulder = capsule((0.30, -1.66, -0.36), (1.35, -1.98, -0.36), 0.24, 0.36)

    def _build_face(self):
        w, jaw_drop = self.who, self.shot.mouth_open * 0.13
        chin = -1.01 - jaw_drop - w.chin_length
        self.cranium = ellipsoid((0, 0.30, -0.06), (0.73, 0.82, 0.91))
        self.forehead = ellipsoid((0, 0.22, 0.20), (0.60, 0.62, 0.66))
        self.mid_face = ellipsoid((0, -0.25, 0.20), (0.57 + 0.5 * w.fat, 0.70, 0.60))
        cheek_radius = 0.25 + 0.5 * w.fat, 0.33, 0.30 + 0.3 * w.fat
        self.cheek = ellipsoid((0.27, -0.56 - 0.3 * jaw_drop, 0.42), cheek_radius)
        self.chin = ellipsoid((0, chin, 0.72 + w.chin_forward), (0.16, 0.12, 0.14))
        self.cheekbone = ellipsoid(
            (0.43, -0.27 + 0.02 * self.shot.smile, 0.52 + w.cheekbone_forward), (0.17, 0.14, 0.20)
        )
        self.muzzle = ellipsoid((0, -0.70 - 0.3 * jaw_drop, 0.66 + w.muzzle), (0.31, 0.26, 0.22))
        self.socket = ellipsoid((w.eye_x - 0.01, -0.01, 0.94), (0.19, 0.125, 0.16))
        jaw_front = 0.15 * w.jaw_width, chin + 0.01, 0.62 + w.chin_forward
        jaw_angle = 0.44 * w.jaw_width, -0.56 - 0.3 * jaw_drop, 0.08
        self.mandible = capsule(jaw_angle, jaw_front, 0.11 + 0.4 * w.fat, 0.12)
        self.brow_ridge = capsule((0.10, 0.13, 0.755 + w.brow_ridge), (0.42, 0.17, 0.62 + w.brow_ridge), 0.07, 0.07)
        tip = self.nose_base_y
        self.nose_tip = ellipsoid(
            (0, tip + 0.005 + w.nose_up, 0.965 + w.nose_forward), (0.088 * w.nose_width, 0.078, 0.092)
        )
        nostril_wing = 0.125 * w.nose_width, tip - 0.025, 0.885 + 0.4 * w.nose_forward
        self.nostril_wing = ellipsoid(nostril_wing, (0.065 * w.nose_width, 0.068, 0.095))
        self.nose_bridge = capsule(
            (0, 0.03, 0.745 + w.nose_bridge), (0, tip + 0.04, 0.945 + w.nose_forward), 0.062, 0.086
        )
        self.columella = capsule((0, tip - 0.05, 0.98 + w.nose_forward), (0, tip - 0.10, 0.86), 0.04, 0.045)
        self.ear = ellipsoid((0.03, -0.06, -0.07), (0.055, 0.285 * w.ear_size, 0.155 * w.ear_size))
        self.concha = ellipsoid((0.118, -0.04, -0.03), (0.075, 0.19 * w.ear_size, 0.095))

    def _build_features(self):
        w, open_ = self.who, self.shot.mouth_open
        nostril = 0.062 * w.nose_width, self.nose_base_y - 0.085, 0.945 + 0.6 * w.nose_forward
        self.nostril = ellipsoid(nostril, (0.034 * w.nose_width, 0.038, 0.055))
        lip_y = -0.70 + w.mouth_y
        self.upper_teeth = ellipsoid((0, lip_y - 0.015, 0.66), (0.20 * w.mouth_width, 0.065, 0.165))
        self.lower_teeth = ellipsoid((0, lip_y - 0.165 * open_ - 0.04, 0.61), (0.17 * w.mouth_width, 0.05, 0.15))
        smile = self.shot.smile.clamp(min=0)
        self.fold_depth = 0.005 + 0.012 * smile + 0.012 * w.age  # nasolabial fold
        self.lip_line = -0.715 + w.mouth_y

    def _build_hair(self):
        w = self.who
        self.hair_cap = ellipsoid((0, 0.30, -0.08), (0.73, 0.82, 0.91))
        self.hair_back = ellipsoid((0, -0.30 - 0.4 * w.long_hair, -0.42), (0.66, 0.85 + 0.45 * w.long_hair, 0.50))
        self.hair_side = capsule((0.63, 0.35, -0.16), (0.64, -0.70 - 1.0 * w.long_hair, -0.12), 0.17, 0.13)
        self.any_long_hair = bool((w.long_hair > 0).any())
        self.has_long_hair = (w.long_hair > 0).float()

    # ---- curves shared by geometry, colour and landmarks ---------------------------------------------------------

    def mouth_curves(self, u: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Heights (canonical y) at mouth coordinate u in [-1, 1]: top of the upper lip, its lower edge, top of the
        lower lip, its bottom."""
        u2 = u * u
        arc = (1 - u2).clamp_(min=0)
        round_ = arc.sqrt()
        round_ = round_ * (1.6 - 0.6 * round_)
        line = self.lip_line + self.shot.smile * (0.066 * u2 - 0.010) + 0.008 * torch.cos(u * 7) * arc - 0.002 * u2
        gape = self.shot.mouth_open * round_
        upper, lower = line + 0.015 * gape, line - 0.155 * gape
        cupids_bow = 1 - 0.22 * gauss(u, 0.13) + 0.10 * gauss(u.abs() - 0.27, 0.15)
        top = upper + self.who.upper_lip * 0.062 * (arc * (1.15 - 0.15 * arc) * cupids_bow)
        bottom = lower - self.who.lower_lip * 0.080 * (0.6 * round_ + 0.4 * arc)
        return top, upper, lower, bottom

    def eye_curves(self, u: Tensor) -> tuple[Tensor, Tensor]:
        """Heights of the upper and lower lid (eye frame) at u in [-1, 1], inner to outer corner."""
        arc = (1 - u * u).clamp_(min=0)
        arc = arc * (1.3 - 0.3 * arc)
        droop = 0.012 * (1 - self.shot.lid_open)
        return 0.057 * arc * (1 - 0.18 * u) * self.shot.lid_open - droop, -0.040 * arc * (1 + 0.15 * u) - droop

    def eye_frame(self, abs_x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        """Coordinates along (u, 1 = outer corner) and across (v) the eye opening."""
        w = self.who
        s = abs_x - w.eye_x
        u = s * w.eye_tilt_cos + y * w.eye_tilt_sin
        v = y * w.eye_tilt_cos - s * w.eye_tilt_sin
        return u * (1 / (EYE_HALF_LENGTH * w.eye_size)), v * (1 / w.eye_size)

    def brow_curve(self, t: Tensor) -> Tensor:
        """Height of the brow at t in [0, 1], inner to outer end."""
        w = self.who
        arch = (0.052 + w.brow_arch) * torch.sin(t.clamp(0, 1.2) * 2.5)
        return 0.150 + w.brow_y + self.shot.brow_raise + arch + t * (2 * w.brow_arch - 0.025 + w.brow_slope)

    def hairline(self, x: Tensor, y: Tensor, z: Tensor) -> Tensor:
        """Signed height above the hairline; negative on the bare face (canonical coordinates)."""
        w = self.who
        side = gauss(x, 0.5)
        f = y + (0.25 - w.forehead) - 1.22 * z + 2 * w.recession * gauss(x.abs() - 0.42, 0.18)
        f = f + w.fringe * 0.30 * side * smoothstep(0.35, 0.6, z) + 0.10 * (1 - side) * smoothstep(0.3, 0.7, z)
        return f + 0.022 * torch.sin(17 * x + w.phase) * torch.sin(7 * x - 9 * y)

    # ---- fields --------------------------------------------------------------------------------------------------

    def canonical(self, p: list[Tensor]) -> list[Tensor]:
        return [p[0] * self.inverse_width, p[1] * self.inverse_length, p[2]]

    def bare(self, x: Tensor, y: Tensor, z: Tensor, ears: bool = True) -> Tensor:
        """Skin without lips, lids, folds and neck (canonical coordinates)."""
        soft_x, abs_x = (x * x).add_(1e-3).sqrt_(), x.abs()
        d = smooth_min(self.cranium.distance(x, y, z), self.forehead.distance(x, y, z), 0.2)
        d = smooth_min(d, self.mid_face.distance(x, y, z), 0.25)
        d = smooth_min(d, self.mandible.distance(soft_x, y, z), 0.32)
        d = smooth_min(d, self.cheek.distance(soft_x, y, z), 0.22)
        d = smooth_min(d, self.chin.distance(x, y, z), 0.16)
        d = smooth_min(d, self.cheekbone.distance(soft_x, y, z), 0.22)
        d = smooth_min(d, self.muzzle.distance(x, y, z), 0.16)
        d = smooth_min(d, self.brow_ridge.distance(soft_x, y, z), 0.16)
        d = smooth_max(d, self.socket.distance(soft_x, y, z).neg_(), 0.14)
        nose = smooth_min(self.nose_bridge.distance(x, y, z), self.nose_tip.distance(x, y, z), 0.07)
        nose = smooth_min(nose, self.nostril_wing.distance(soft_x, y, z), 0.07)
        nose = smooth_min(nose, self.columella.distance(x, y, z), 0.05)
        d = smooth_min(d, nose, 0.13)
        if ears:
            d = smooth_min(d, self._ear(abs_x, y, z), 0.05)
        return d

    def _ear(self, abs_x: Tensor, y: Tensor, z: Tensor) -> Tensor:
        off_x, off_z = abs_x - 0.715, z + 0.10
        across = off_x * EAR_COS + off_z * EAR_SIN
        along = off_z * EAR_COS - off_x * EAR_SIN - 0.15 * (y + 0.08)
        return smooth_max(self.ear.distance(across, y, along), -self.concha.distance(across, y, along), 0.03)

    def featured(self, x: Tensor, y: Tensor, z: Tensor, ears: bool = True) -> tuple[Tensor, Tensor, Tensor]:
        """Skin with lips, lids, nostrils and expression creases; the eyeballs; the teeth (canonical coordinates)."""
        abs_x = x.abs()
        d = self.bare(x, y, z, ears)
        d = smooth_max(d, self.nostril.distance(abs_x, y, z).neg_(), 0.025)
        d = d - self._creases(x, abs_x, y) * smoothstep(0.45, 0.6, z)
        u = x / self.mouth_width
        _, upper, lower, _ = self.mouth_curves(u)
        gape = torch.maximum(y - upper, lower - y).mul_(0.7).add_(0.004).add_((u.abs() - 0.93).clamp_(min=0), alpha=0.3)
        gape = torch.maximum(gape, 0.55 - z) + (self.shot.mouth_open < 0.02) * 9.0  # closed: nothing to cut
        d = smooth_max(d, gape.neg_(), 0.012)
        d, eye = self._lids(d, abs_x, y, z)
        teeth = torch.minimum(self.upper_teeth.distance(x, y, z), self.lower_teeth.distance(x, y, z))
        return d, eye, teeth

    def _creases(self, x: Tensor, abs_x: Tensor, y: Tensor) -> Tensor:
        """Relief of the front of the face (canonical units, outwards): lips, philtrum, chin groove, folds."""
        w, smile = self.who, self.shot.smile
        u = x / self.mouth_width
        top, upper, lower, bottom = self.mouth_curves(u)
        middle, reach = 0.5 * (upper + lower), (1.06 - u * u).clamp_(0, 1).sqrt_()
        relief = 0.034 * w.upper_lip * reach * gauss(y - (0.45 * top + 0.55 * upper), 0.040)
        relief += 0.042 * w.lower_lip * reach * gauss(y - 0.5 * (lower + bottom), 0.046)
        relief -= 0.022 * gauss(y - middle, 0.014) * smoothstep(1.10, 0.8, u.abs())  # line between the lips
        relief -= 0.010 * gauss(u.abs() - 1.06, 0.16) * gauss(y - middle, 0.06)  # corners of the mouth
        relief -= 0.010 * gauss(x, 0.035) * gauss(y - (top + 0.07), 0.06)  # philtrum
        relief -= 0.02 * gauss(y - (bottom - 0.05), 0.05) * gauss(x, 0.2)  # groove above the chin
        fold = abs_x - (0.17 + 0.55 * (-0.42 - y).clamp_(-0.1, 0.3))
        span = smoothstep(-0.40, -0.46, y) * smoothstep(-0.80, -0.66, y)
        relief -= self.fold_depth * gauss(fold, 0.045) * span
        relief += 0.03 * smile * gauss(abs_x - 0.36, 0.15) * gauss(y + 0.42, 0.14)  # cheeks rise on smiling
        return relief

    def _lids(self, d: Tensor, abs_x: Tensor, y: Tensor, z: Tensor) -> tuple[Tensor, Tensor]:
        """Unites a lid ball with the face, then cuts the almond opening out of it (hollowing it looks like goggles)."""
        rel = [abs_x - self.who.eye_x, y, z - EYE_Z]
        eye = rel[0].square().addcmul_(y, y).addcmul_(rel[2], rel[2]).sqrt_().sub_(EYE_RADIUS)
        u, v = self.eye_frame(abs_x, y)
        upper, lower = self.eye_curves(u)
        over = v - upper
        opening = torch.maximum(over, lower - v).mul_(0.8).add_((u.abs() - 1).clamp_(min=0), alpha=0.2)
        crease = gauss(over - 0.040 - 0.01 * u, 0.014) * smoothstep(1.35, 0.7, u.abs())
        ball = eye - LID_THICKNESS - 0.008 * gauss(over - 0.012, 0.02) + 0.012 * crease
        return smooth_max(smooth_min(d, ball, 0.05), torch.maximum(opening, EYE_Z - z).neg_(), 0.010), eye

    def hair(self, x: Tensor, y: Tensor, z: Tensor) -> Tensor:
        """Hair: a cap whose thickness grows from the hairline, with tufts, lumps and curtains of long hair."""
        w = self.who
        line = self.hairline(x, y, z)
        lump = torch.sin(9 * x + 4 * torch.sin(5 * y + w.phase)) * torch.sin(9 * y + 3 * torch.sin(7 * z))
        lump += 0.5 * torch.sin(19 * x + 2 * y) * torch.sin(17 * z + 3 * y)
        azimuth = torch.atan2(x, z + 0.12)
        tufts = 0.10 * torch.sin(9 * azimuth + w.phase + 2 * y) + 0.09 * torch.sin(23 * azimuth + 4 * y + w.phase)
        quiff = 0.55 * gauss(z - 0.62, 0.30) * smoothstep(0.55, 0.85, y) * (1 - w.fringe)
        sideways = 0.25 * (x + 2 * w.parting) * (w.parting.sign()) * smoothstep(0.5, 0.9, y)  # combed to one side
        rise = smoothstep(-0.02, 0.30, line)
        thick = (w.hair_thickness + 0.05) * smoothstep(-0.02, 0.42, line) - 0.05
        thick = thick + w.hair_thickness * (0.4 * smoothstep(0.4, 1.1, y) + rise * tufts + quiff - rise * sideways)
        thick = thick + 0.022 * lump * (w.curl + 0.15) * rise
        thick = thick - 0.03 * gauss(x - w.parting, 0.03) * w.long_hair * smoothstep(0.5, 0.8, y)
        d = self.hair_cap.distance(x, y, z) - thick
        if not self.any_long_hair:
            return d
        side = self.hair_side.distance((x * x + 1e-3).sqrt_(), y, z) - 0.03 * lump * w.curl
        loose = smooth_min(side, self.hair_back.distance(x, y, z), 0.1)
        return smooth_min(d, loose + 9.0 * (1 - self.has_long_hair), 0.14)

    def clothes(self, p: list[Tensor]) -> Tensor:
        """Shoulders and chest, in a frame that follows the head's turn only partly."""
        m, shift = self.to_body, self.body_shift
        body = [m[:, i, 0:1] * p[0] + m[:, i, 1:2] * p[1] + m[:, i, 2:3] * p[2] + shift[:, i : i + 1] for i in range(3)]
        x, y, z = (body[0] * body[0] + 0.01).sqrt_(), body[1].clamp(min=TORSO_BOTTOM), body[2]
        return smooth_min(self.shoulder.distance(x, y, z), self.torso.distance(x, y, z), 0.3)

    def coarse(self, p: list[Tensor]) -> Tensor:
        """Everything but the fine features: for cone marching, soft shadows and ambient occlusion."""
        x, y, z = self.canonical(p)
        skin = smooth_min(self.bare(x, y, z), self.neck.distance(x, y, z), 0.16)
        return torch.minimum(torch.minimum(skin, self.hair(x, y, z)), self.clothes(p)).mul_(LIPSCHITZ)

    def parts_of_front(self, p: list[Tensor]) -> dict[str, Tensor]:
        """Distances to skin, eyes and teeth: exact where `front_zone` holds."""
        x, y, z = self.canonical(p)
        skin, eye, teeth = self.featured(x, y, z, ears=False)
        return {"skin": smooth_min(skin, self.neck.distance(x, y, z), 0.16), "eye": eye, "teeth": teeth}

    def parts_of_rest(self, p: list[Tensor]) -> dict[str, Tensor]:
        """Distances to skin, hair and clothes: exact where no feature is near (`feature_zone` is False)."""
        x, y, z = self.canonical(p)
        skin = smooth_min(self.bare(x, y, z), self.neck.distance(x, y, z), 0.16)
        return {"skin": skin, "hair": self.hair(x, y, z), "clothes": self.clothes(p)}

    def parts(self, p: list[Tensor]) -> dict[str, Tensor]:
        """Distances to all five materials."""
        x, y, z = self.canonical(p)
        skin, eye, teeth = self.featured(x, y, z)
        skin = smooth_min(skin, self.neck.distance(x, y, z), 0.16)
        return {"skin": skin, "eye": eye, "teeth": teeth, "hair": self.hair(x, y, z), "clothes": self.clothes(p)}

    def zones(self, p: list[Tensor]) -> tuple[Tensor, Tensor]:
        """bool [B, N] twice: where only skin with features matters; where no feature does. Elsewhere all parts do."""
        x, y, z = self.canonical(p)
        near = (z > 0.45) & (x.abs() < 0.62) & (y < 0.32) & (y > -1.25)
        return near & (self.hairline(x, y, z) < -0.12) & (x.abs() < 0.55) & (y > -1.15), ~near


def union(parts: dict[str, Tensor]) -> Tensor:
    """Distance to the nearest of several parts."""
    first, *others = parts.values()
    for other in others:
        first = torch.minimum(first, other)
    return first * LIPSCHITZ
