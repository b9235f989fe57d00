"""Where each pixel around a mask looks it up: from landmarks and parameters to a coarse lattice of template
coordinates, per face, and the straps' paths.

*Convention.* As in `lib.warp.geometry` (photograph, px, y down) and `lib.warp.face3d` (head frame, y up). The frontal
plane is used with y **down** here, as (x, −y) of the head frame, so that it is a picture like any other. Template
coordinates are in [−1, 1] over its canvas, the outer edges of its border pixels (`grid_sample` without aligned
corners), so they do not depend on the size at which the template is drawn.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch

from lib.warp import face3d, geometry
from lib.warp.frontal import PATH, fit_frontal, frontal_landmarks, goals_of, in_view, to_unit
from lib.warp.params import WarpError, WarpParams
from lib.warp.templates import Template, template
from lib.warp.ties import Ties
from lib.warp.views import side_view

NODES, TURNED_NODES = 21, 31  # per side of the lattice: every 7 px of a 256² face; turned faces have a contour in it
_TURNED_YAW = 12.0  # degrees
_FLAT_NODES = 65
_DEEP_PX = 8.0  # beyond that a node is as far inside a contour as any
_STIFFNESS = (0.0, 0.01, 0.03, 0.1, 0.3, 1.0)  # of the plain spline, tried in turn until it does not fold
_TIE_STIFFNESS = (0.02, 0.2, 2.0)  # of the spline that ties the generic face to this one; landmarks are noisy
_MARGIN_PX = 3
_ROWS = 96  # places are padded to a multiple of this, so that sums are rounded the same in any company
_CANVAS_STEP = 32  # px
_SURFACE_YAW = {"half": 45.0}  # degrees; cartridges are drawn flat, beyond that they would be seen from the side
_SIX_POINTS_WORN_YAW = 35.0  # degrees: six points say nothing of a far jaw, past which a lowered mask would hang
_SIDE_VIEW_YAW = 13.0  # degrees; MaskTheFace's limit


@dataclass(eq=False)
class Placed:
    """A face with its mask in place.

    window: (x, y, w, h) px of the photograph around the cloth, cut to the photograph; reach: the same around cloth and
    straps. canvas: (w, h) px, the window's sides rounded up, so that faces can be computed in batches. nodes: float32
    [5, n, n], spread evenly over the canvas, corners included: a, b, in, with (x, y) of the template in [−1, 1] being
    a + b √in, and in how far inside the mask's contour that is, px, at most 8 (negative: hidden); or [2, n, n], x and y
    alone, where nothing is hidden. width: the mask's width, px. detail: template widths per photograph px at the middle
    of the mask. straps: (path float32 [k, 2] px of the photograph, width px, colour (r, g, b) 0…255) each. pose: of the
    head.
    """

    template: Template
    params: WarpParams
    window: tuple[int, int, int, int]
    reach: tuple[int, int, int, int]
    canvas: tuple[int, int]
    nodes: torch.Tensor
    width: float
    detail: float
    straps: list[tuple[np.ndarray, float, tuple[int, int, int]]]
    pose: face3d.Pose


def check_landmarks(landmarks: np.ndarray, params: WarpParams) -> tuple[np.ndarray, face3d.Pose]:
    """float64 [68, 2] and the head's pose, or WarpError with what is wrong."""
    try:
        landmarks = np.asarray(landmarks, dtype=np.float64)
    except (TypeError, ValueError):
        raise WarpError("landmarks: expected 68 points (x, y), got something that is not numbers") from None
    if landmarks.shape != (68, 2):
        raise WarpError(f"landmarks: expected 68 points (x, y), got an array of shape {landmarks.shape}")
    if not np.isfinite(landmarks).all():
        raise WarpError(f"landmarks: {int((~np.isfinite(landmarks)).any(axis=1).sum())} of 68 points are not finite")
    if np.abs(landmarks).max() > 1e6:
        raise WarpError("landmarks: a coordinate beyond a million pixels")
    style = params.style
    try:
        pose = face3d.estimate_pose(landmarks)
    except ValueError as error:
        raise WarpError(f"landmarks: {error}") from None
    eyes = geometry.eye_distance(landmarks) / max(math.cos(math.radians(pose.yaw)), 0.2)
    if eyes < style.min_eye_distance_px:
        limit = f"limit {style.min_eye_distance_px:g} px"
        raise WarpError(f"face too small: the eyes are {eyes:.1f} px apart, {limit}", "too small")
    if abs(pose.yaw) > style.max_yaw:
        raise WarpError(f"face turned too far: yaw {pose.yaw:+.0f}°, limit {style.max_yaw:g}°", "turned too far")
    if abs(pose.pitch) > 60:
        raise WarpError(f"face tipped too far: pitch {pose.pitch:+.0f}°, limit 60°", "turned too far")
    return landmarks, pose


def place_all(faces: list[tuple[np.ndarray, WarpParams, tuple[int, int]]]) -> list[Placed | WarpError]:
    """Place one mask on each face.

    faces: (landmarks [68, 2] px, parameters, (height, width) of the photograph). Returns a `Placed` or a `WarpError`
    (not raised) per face, in order. Faces do not influence each other.
    """
    out: list[Placed | WarpError | None] = [None] * len(faces)
    ready: list[tuple[int, np.ndarray, face3d.Pose]] = []
    for k, (landmarks, params, shape) in enumerate(faces):
        try:
            seen, pose = check_landmarks(landmarks, params)
            if params.style.transform == "surface":
                limit = _SURFACE_YAW.get(_template(params, pose).surface, 90.0)
                if abs(pose.yaw) > limit:
                    told = f"face turned too far for {params.template}: yaw {pose.yaw:+.0f}°, limit {limit:g}°"
                    raise WarpError(told, "turned too far")
                ready.append((k, seen, pose))
            else:
                if params.style.key_points == 6 and params.wear != "Mask" and abs(pose.yaw) > _SIX_POINTS_WORN_YAW:
                    told = f"yaw {pose.yaw:+.0f}°, limit {_SIX_POINTS_WORN_YAW:g}° for {params.wear} by six points"
                    raise WarpError(f"face turned too far: {told}", "turned too far")
                out[k] = _place_flat(seen, pose, params, shape)
        except WarpError as error:
            out[k] = error
    for stiffness in _TIE_STIFFNESS:
        if not ready:
            break
        again = []
        for turned in (False, True):
            part = [item for item in ready if (abs(item[2].yaw) > _TURNED_YAW) == turned]
            if not part:
                continue
            asked = [(*faces[k], seen, pose) for k, seen, pose in part]
            found = _place_surfaces(asked, stiffness, TURNED_NODES if turned else NODES)
            again += [item for item, one in zip(part, found, strict=True) if one is None]
            for (k, _, _), one in zip(part, found, strict=True):
                out[k] = one
        ready = again
    for k, _, _ in ready:
        out[k] = WarpError(
            "landmarks: the mask would fold over itself (jaw, nose and chin are not in the order of a face)"
        )
    return out


# --- on the surface of a head -----------------------------------------------------------------------------------------


def _place_surfaces(faces: list[tuple], stiffness: float, nodes_across: int) -> list[Placed | WarpError | None]:
    """(landmarks, params, shape, seen, pose) each → placed; None where the mapping folds at this stiffness."""
    poses = [face[4] for face in faces]
    ties = Ties(np.stack([face[3] for face in faces]), poses, stiffness)
    masks = [_template(face[1], pose) for face, pose in zip(faces, poses, strict=True)]
    fits = [fit_frontal(mask, face[1].wear) for mask, face in zip(masks, faces, strict=True)]
    jitters = [_similarity(fit.goals, face[1]) for fit, face in zip(fits, faces, strict=True)]

    # Where the cloth and its straps come to lie, to know the window.
    longest = -(-max(len(fit.cloth) + fit.straps.shape[0] * PATH for fit in fits) // _ROWS) * _ROWS
    bodies = []
    for fit, pose, jitter in zip(fits, poses, jitters, strict=True):
        straps = in_view(fit.straps, pose.rotation[2])
        body = np.concatenate([fit.cloth, straps.reshape(-1, 3), np.repeat(fit.cloth[:1], longest, axis=0)])[:longest]
        body[:, :2] = _placed(body[:, :2] * (1, -1), jitter) * (1, -1)
        bodies.append(pose.project(body))
    outline = ties.inverse(np.stack(bodies))

    out: list[Placed | WarpError | None] = []
    for places, mask, fit, (_, params, shape, _, pose) in zip(outline, masks, fits, faces, strict=True):
        cloth, rest = places[: len(fit.cloth)], places[len(fit.cloth) :]
        straps = _paths(mask, params, rest, fit.normals, pose)
        try:
            window, reach = _windows(cloth, [path for path, _, _ in straps], shape)
        except WarpError as error:
            out.append(error)
            continue
        width = float(np.ptp(cloth[:, 0]))
        out.append(Placed(mask, params, window, reach, _canvas(window), torch.empty(0), width, 0.0, straps, pose))

    canvas = np.array([(*item.window[:2], *item.canvas) if isinstance(item, Placed) else (0, 0, 2, 2) for item in out])
    along = np.linspace(0, 1, nodes_across)
    x = (canvas[:, None, :1] + along * (canvas[:, None, 2:3] - 1) - ties.offset[..., :1]) / ties.scale  # [B, 1, n]
    y = (canvas[:, None, 1:2] + along * (canvas[:, None, 3:] - 1) - ties.offset[..., 1:]) / ties.scale
    lattice = np.stack(np.broadcast_arrays(x, y.transpose(0, 2, 1)), -1)
    plane = ties.dense(torch.from_numpy(lattice).float().flatten(1, 2)).view(len(faces), nodes_across, nodes_across, 2)
    rotations = torch.from_numpy(np.stack([pose.rotation for pose in poses])).float()
    tables = torch.stack([fit.table for fit in fits])
    met = face3d.trace(plane * torch.tensor([1.0, -1.0]), rotations, tables[:, :1])
    cell = torch.from_numpy((canvas[:, 2:] - 1) / (nodes_across - 1)).float()
    nodes = _nodes(met, tables[:, 1:], jitters, cell)
    places = nodes[:, :2] + nodes[:, 2:4] * nodes[:, 4:].clamp(min=0).sqrt()
    inside = (places.abs() < 1).all(1) & (nodes[:, 4] > 0)
    sound = (
        inside.any((1, 2)) & torch.isfinite(nodes).all((1, 2, 3)) & ~((_determinant(plane) <= 0) & inside).any((1, 2))
    )
    area = torch.where(inside, _determinant(places.permute(0, 2, 3, 1)).abs(), torch.nan)
    area = area.flatten(1).nanmedian(1).values.numpy() / 4 * (nodes_across - 1) ** 2 / (canvas[:, 2:] - 1).prod(1)
    for k, item in enumerate(out):
        if isinstance(item, Placed):
            item.nodes, item.detail = nodes[k], math.sqrt(max(float(area[k]), 1e-12)) if sound[k] else 0.0
            out[k] = item if sound[k] else None
    return out


def _nodes(met: face3d.Met, places: torch.Tensor, jitters: list[tuple], cell: torch.Tensor) -> torch.Tensor:
    """The lattice [B, 5, n, n] of `Placed`. places: template coordinates over the frontal plane. cell: [B, 2], px
    between nodes (x, y).

    A template's coordinate u along a ray, at the square root of `met.depth` before and behind its deepest place, is
    split into its even and odd part: u = even + √depth · odd, and both are smooth across the contour.
    """
    back = met.depth.clamp(min=0.02**2).sqrt()

    def found(way: torch.Tensor) -> torch.Tensor:
        x, y = met.places(way)
        x, down = _unplaced(x, -y, jitters)
        return face3d.look_up(places, x, -down)

    near, far = found(back), found(-back)
    # How far inside the contour, px: `under` over its slope, which is straight across the contour.
    dy, dx = torch.gradient(met.under, dim=(1, 2))
    slope = torch.hypot(dx / cell[:, 0, None, None], dy / cell[:, 1, None, None])
    inside = met.under / torch.maximum(slope, met.under.abs() / _DEEP_PX).clamp(min=1e-5)
    odd = (near - far) / (2 * back[:, None])
    root = (met.depth / torch.where(inside.abs() < 1e-3, 1e-3, inside)).clamp(1e-6, 1).sqrt()
    return torch.cat([(near + far) / 2, odd * root[:, None], inside[:, None]], 1)


def _template(params: WarpParams, pose: face3d.Pose) -> Template:
    try:
        mask = template(params.template)
    except (ValueError, OSError) as error:
        raise WarpError(f"template: {error}") from None
    # A side view is drawn for the mask where it belongs: worn otherwise it would be squeezed, and hang past the jaw.
    if params.style.side_views and params.wear == "Mask" and abs(pose.yaw) > _SIDE_VIEW_YAW:
        return side_view(mask, pose.yaw > 0)
    return mask


def _paths(mask: Template, params: WarpParams, places: np.ndarray, normals: np.ndarray, pose: face3d.Pose) -> list:
    if not params.style.straps or not len(normals):
        return []
    seen = normals @ pose.rotation[2] > 0.03
    width = 1.29 * pose.scale  # of a worn mask, px
    return [
        (places[PATH * k : PATH * (k + 1)].astype(np.float32), max(0.8, strap.width * width), tuple(strap.colour))
        for k, strap in enumerate(mask.straps)
        if seen[k]
    ]


def _determinant(lattice: torch.Tensor) -> torch.Tensor:
    """Sign and size of the area of each cell of mapped lattices [B, n, n, 2], at its nodes: [B, n, n]."""
    dx, dy = torch.gradient(lattice, dim=(2, 1))
    return dx[..., 0] * dy[..., 1] - dx[..., 1] * dy[..., 0]


def _detail(nodes: torch.Tensor, canvas: tuple[int, int], inside: torch.Tensor) -> float:
    """Template widths per photograph px, the median over the visible cloth."""
    n = nodes.shape[-1]
    area = _determinant(nodes[:2].permute(1, 2, 0)[None])[0].abs()[inside]
    cell = (canvas[0] - 1) * (canvas[1] - 1) / (n - 1) ** 2
    return math.sqrt(max(float(area.median()) / 4 / max(cell, 1e-9), 1e-12))


# --- jitter, windows --------------------------------------------------------------------------------------------------


def _similarity(goals: np.ndarray, params: WarpParams) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The drawn shift, turn and scale about the goals' middle, along the mask's own axes: q → (q − c) @ m + c + t."""
    across = goals[4] - goals[0] if len(goals) == 12 else goals[2] - goals[0]
    width = float(np.linalg.norm(across))
    if width < 1e-9:
        raise WarpError("landmarks: both ends of the jaw are in one place")
    axis = across / width
    axes = np.array([axis, [-axis[1], axis[0]]])
    c, s = math.cos(math.radians(params.rotate_deg)), math.sin(math.radians(params.rotate_deg))
    return params.scale * np.array([[c, s], [-s, c]]), goals.mean(axis=0), width * (np.asarray(params.shift) @ axes)


def _placed(places: np.ndarray, jitter: tuple) -> np.ndarray:
    m, centre, shift = jitter
    return (places - centre) @ m + centre + shift


def _unplaced(x: torch.Tensor, y: torch.Tensor, jitters: list[tuple]) -> tuple[torch.Tensor, torch.Tensor]:
    """The inverse of `_placed` for places [B, n, n], one jitter each."""
    inverse = np.stack([np.linalg.inv(m) for m, _, _ in jitters])
    centre = np.stack([c for _, c, _ in jitters])
    rest = centre - np.stack([(c + t) @ m for m, (_, c, t) in zip(inverse, jitters, strict=True)])
    m, t = (torch.from_numpy(v).float()[..., None, None] for v in (inverse, rest))
    return x * m[:, 0, 0] + y * m[:, 1, 0] + t[:, 0], x * m[:, 0, 1] + y * m[:, 1, 1] + t[:, 1]


def _windows(cloth: np.ndarray, paths: list[np.ndarray], shape: tuple[int, int]) -> tuple[tuple, tuple]:
    """The parts of the photograph that the mask can touch, and the mask with its straps; WarpError if most of the mask
    lies outside it."""
    low, high = cloth.min(axis=0), cloth.max(axis=0)
    if not np.isfinite(low).all() or (high - low).min() < 1:
        raise WarpError("landmarks: the mask would be less than a pixel wide")
    seen = np.minimum(high, (shape[1] - 1, shape[0] - 1)) - np.maximum(low, 0)
    if (seen <= 0).any() or np.prod(seen) < 0.25 * np.prod(high - low):
        raise WarpError(
            f"mask outside the picture: it would span x {low[0]:.0f}…{high[0]:.0f}, y {low[1]:.0f}…{high[1]:.0f}"
        )
    margin = 0.05 * (high - low).max() + _MARGIN_PX  # for the contact shadow and the bulge between outline points
    low, high = low - margin, high + margin
    ends = np.concatenate(
        [low[None], high[None], *(path - _MARGIN_PX for path in paths), *(path + _MARGIN_PX for path in paths)]
    )
    return _cut_to(low, high, shape), _cut_to(ends.min(axis=0), ends.max(axis=0), shape)


def _cut_to(low: np.ndarray, high: np.ndarray, shape: tuple[int, int]) -> tuple[int, int, int, int]:
    """(x, y, w, h) whole px of a photograph of `shape` between two corners."""
    (left, top), (right, bottom) = np.floor(low), np.ceil(high)
    x, y = int(max(left, 0)), int(max(top, 0))
    return x, y, int(min(right, shape[1] - 1)) - x + 1, int(min(bottom, shape[0] - 1)) - y + 1


def _canvas(window: tuple[int, int, int, int]) -> tuple[int, int]:
    return tuple(max(2, -(-side // _CANVAS_STEP) * _CANVAS_STEP) for side in window[2:])


# --- flat templates ---------------------------------------------------------------------------------------------------


def _place_flat(seen: np.ndarray, pose: face3d.Pose, params: WarpParams, shape: tuple[int, int]) -> Placed:
    """A flat template bent, or fitted, to its key points on the photograph."""
    mask = _template(params, pose)
    count = params.style.key_points
    points, canvas = to_unit(mask.points, mask.rgba.shape[:2]), np.array(mask.rgba.shape[1::-1])
    if len(points) != count:  # the other family's points, by way of the generic face
        front = frontal_landmarks()
        points = geometry.fit_tps(goals_of(front, len(points), "Mask"), points)(goals_of(front, count, "Mask"))
    if count == 6 and params.wear != "Mask":
        count, points = 12, fit_frontal(mask, "Mask").tps(geometry.mask_points(frontal_landmarks()))
    goals = goals_of(seen, count, params.wear)
    goals = _placed(goals, _similarity(goals, params))
    reach = 0.12 * np.ptp(goals, axis=0).max()
    _, window = _windows(goals, [goals - reach, goals + reach], shape)
    # Fitted in px: a similarity, or least squares, would not be the same where x and y have different units.
    grid = _flat_grid(goals, points * canvas, params.style.transform, (*window[:2], *_canvas(window)), canvas)
    lattice = torch.from_numpy(grid.nodes[:2] / canvas[:, None, None]).float()
    inside = (lattice.abs() < 1).all(0)
    detail = _detail(lattice, _canvas(window), inside) if inside.any() else 1e-6
    width = float(np.ptp(goals[:, 0]))
    return Placed(mask, params, window, window, _canvas(window), lattice, width, detail, [], pose)


def _flat_grid(goals, points, transform, window, canvas) -> geometry.CoarseGrid:
    """The mapping photograph → template as a lattice, checked not to fold where the template lies."""
    try:
        if transform == "tps":
            for stiffness in _STIFFNESS:
                grid = geometry.coarse_grid(geometry.fit_tps(goals, points, stiffness), window, _FLAT_NODES)
                on_template = (np.abs(grid.nodes[:2]) <= canvas[:, None, None]).all(axis=0)
                if on_template.any() and (grid.jacobian[on_template] > 0).all():
                    return grid
        elif transform == "triangles":
            grid = geometry.coarse_grid(geometry.fit_triangles(goals, points), window, _FLAT_NODES)
            on_template = (np.abs(grid.nodes[:2]) <= canvas[:, None, None]).all(axis=0)
            if on_template.any() and (np.median(grid.jacobian[on_template]) > 0):
                return grid
        else:
            fit = geometry.fit_homography if transform == "homography" else geometry.fit_similarity
            matrix = fit(goals, points)
            grid = geometry.coarse_grid(lambda places: geometry.apply_homography(matrix, places), window, _FLAT_NODES)
            if (grid.jacobian > 0).all():  # its sign changes at the horizon, which must not cross the window
                return grid
            raise WarpError(
                f"a {transform} through the mask's points would fold it on this face; another preset may do"
            )
    except ValueError as error:
        raise WarpError(f"landmarks: {error}") from None
    raise WarpError("landmarks: the mask would fold over itself (jaw, nose and chin are not in the order of a face)")
