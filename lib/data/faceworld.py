"""The face world: procedural faces from integer seeds, with and without a worn mask (the study's embedded data).

`render` gives pictures and their truth; `render_set` writes a whole set to a cache folder, resumable. Everything here
is synthetic: numbers measured on it say nothing about accuracy on photographs.

Yaw > 0 turns the face to the right edge of the picture. Orientation codes follow MAFA's five (1 left, 2 left-frontal,
3 frontal, 4 right-frontal, 5 right); MAFA gives no angles, so the limits are ours: frontal up to 15 degrees, half
turned up to 45.
"""

import hashlib
import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from tqdm import tqdm

from . import files
from .facesdf import picture
from .facesdf.labels import binary_region, orientation, rows
from .facesdf.params import Ranges
from .facesdf.picture import Rendered
from .table import make_table

__all__ = ["KIND_RANGES", "Ranges", "Rendered", "SetSpec", "binary_region", "orientation", "render", "render_set"]

VERSION = 1  # part of a set's hash: raise it whenever a change of the renderer changes pixels
PRODUCTS = ("full", "masked", "region", "straps", "occluder", "head")
CHUNK_RAYS, CHUNK_MAX = 131_072, 16
B_IDENTITIES = 1_000_000  # sets A use identities below, sets B from here on
FIRST_IDENTITY = {"A": 0, "scenes_A": 500_000, "B": B_IDENTITIES, "scenes_B": B_IDENTITIES + 500_000}

WIDE = Ranges(
    yaw=60, pitch=15, roll=15, heterogeneity=0.35, mask_kinds=(0.62, 0.28, 0.10), light_share=0.75, below_nose=0.08
)
KIND_RANGES = {  # not given in the paper; A like FFHQ crops, B like MAFA before filtering
    "A": Ranges(),
    "B": WIDE,
    "scenes_A": Ranges(yaw=40),
    "scenes_B": Ranges(yaw=40, mask_kinds=(0.62, 0.28, 0.10), light_share=0.75),
}


def default_supersample(size: int) -> float:
    """Small pictures need it most: thin lids, straps and rims are below a pixel there."""
    return 2.0 if size <= 96 else 1.5 if size <= 160 else 1.0


def _chunk(size: int, supersample: float) -> int:
    return int(np.clip(CHUNK_RAYS // picture.inner_size(size, supersample) ** 2, 1, CHUNK_MAX))


def render(
    ids: Sequence[int],
    seeds: Sequence[int],
    size: int = 64,
    what: Sequence[str] = ("full", "masked"),
    supersample: float | None = None,
    device: str | torch.device = "cpu",
    wear_seeds: Sequence[int] | None = None,
    **ranges,
) -> Rendered:
    """Render faces. `ids` fix the people, `seeds` everything else; a pure function of the integers.

    Args:
        ids, seeds: non-negative integers, equally many.
        wear_seeds: other masks on the same faces, drawn from as many integers more; None: `seeds`.
        size: side of the square pictures in pixels (16 or more).
        what: any of "full", "masked", "region", "straps", "occluder", "head"; () for landmarks and labels only.
        supersample: rays per pixel side; None chooses 2 up to 96 px, 1.5 up to 160 px, else 1.
        ranges: fields of `Ranges` (yaw, pitch, roll, zoom, heterogeneity, mask_kinds, light_share, ...).

    Returns:
        `Rendered`. Raises ValueError for bad arguments.
    """
    ids, seeds = [int(i) for i in ids], [int(s) for s in seeds]
    wears = seeds if wear_seeds is None else [int(s) for s in wear_seeds]
    what = (what,) if isinstance(what, str) else tuple(what)
    if not len(ids) == len(seeds) == len(wears) or not ids:
        counts = f"{len(ids)} and {len(seeds)}" + (f" and {len(wears)}" if wear_seeds is not None else "")
        raise ValueError(f"render: expected equally many ids and seeds, at least one, got {counts}")
    if min(ids + seeds + wears) < 0:
        raise ValueError("render: ids and seeds must be non-negative integers")
    unknown = sorted(set(what) - set(PRODUCTS))
    if unknown:
        raise ValueError(f"render: unknown product {unknown[0]!r} in what, expected some of {PRODUCTS}")
    if not isinstance(size, int) or size < 16:
        raise ValueError(f"render: size is the side in pixels, an integer of at least 16, got {size!r}")
    supersample = default_supersample(size) if supersample is None else supersample
    if not 1 <= supersample <= 4:
        raise ValueError(f"render: supersample must be between 1 and 4, got {supersample!r}")
    spread = _ranges(ranges)
    step = _chunk(size, supersample)
    chunks = [slice(k, k + step) for k in range(0, len(ids), step)]
    parts = [picture.faces(ids[c], seeds[c], size, what, supersample, device, spread, wears[c]) for c in chunks]
    return Rendered.cat(parts)


def _ranges(given: dict, base: Ranges | None = None) -> Ranges:
    known = {field.name for field in fields(Ranges)}
    for name in given:
        if name not in known:
            raise ValueError(f"unknown range {name!r}, expected some of {sorted(known)}")
    return replace(base or Ranges(), **given)


@dataclass(frozen=True)
class SetSpec:
    """What a set holds. Ranges left at None take the kind's default (`KIND_RANGES`).

    kind: "A" full faces with their truth (the same face truly masked); "B" masked faces of other people, with
        MAFA's labels; "scenes_A", "scenes_B": group pictures of 2 to 5 people, bare or masked (pretraining).
    first_identity: None starts the kind's own range; A and B never share people. per_identity: pictures per person
        (kinds A and B).
    """

    kind: str
    count: int
    size: int = 64
    seed: int = 0
    first_identity: int | None = None
    per_identity: int = 1
    supersample: float | None = None
    yaw: float | None = None
    pitch: float | None = None
    roll: float | None = None
    zoom: tuple[float, float] | None = None
    heterogeneity: float | None = None
    mask_kinds: tuple[float, float, float] | None = None
    light_share: float | None = None
    pattern_share: float | None = None
    below_nose: float | None = None

    def __post_init__(self):
        if self.kind not in FIRST_IDENTITY:
            raise ValueError(f"SetSpec: kind {self.kind!r} is unknown, expected one of {tuple(FIRST_IDENTITY)}")
        for name, low in (("count", 1), ("size", 16), ("seed", 0), ("per_identity", 1)):
            value = getattr(self, name)
            if not isinstance(value, int) or value < low:
                raise ValueError(f"SetSpec: {name} must be an integer of at least {low}, got {value!r}")
        low, high = (0, B_IDENTITIES) if self.kind in ("A", "scenes_A") else (B_IDENTITIES, 2 * B_IDENTITIES)
        if not low <= self.start or self.start + self.people > high:
            raise ValueError(
                f"SetSpec: kind {self.kind!r} uses identities {self.start} to {self.start + self.people - 1}, allowed "
                f"are {low} to {high - 1} (sets A and B share nobody); change first_identity or count"
            )
        self.ranges()

    @property
    def start(self) -> int:
        return FIRST_IDENTITY[self.kind] if self.first_identity is None else self.first_identity

    @property
    def people(self) -> int:
        """Number of identities the set may use."""
        return self.count * 5 if self.kind.startswith("scenes") else -(-self.count // self.per_identity)

    def picture_seed(self, index: int) -> int:
        """Seed of a picture: sets of different seed or kind share none."""
        return (list(FIRST_IDENTITY).index(self.kind) * 100_003 + self.seed) * 1_000_003 + index

    def ranges(self) -> Ranges:
        """The spread of pose, framing and wear, resolved."""
        names = [field.name for field in fields(Ranges)]
        return _ranges({n: getattr(self, n) for n in names if getattr(self, n) is not None}, KIND_RANGES[self.kind])

    def resolved(self) -> dict:
        """Every option as plain JSON values."""
        scale = default_supersample(self.size) if self.supersample is None else float(self.supersample)
        mine = {"first_identity": self.start, "supersample": scale, "renderer_version": VERSION}
        return json.loads(json.dumps(asdict(self) | asdict(self.ranges()) | mine))

    def digest(self) -> str:
        """Name of the set's folder."""
        return hashlib.sha256(json.dumps(self.resolved(), sort_keys=True).encode()).hexdigest()[:12]


def render_set(spec: SetSpec, root: Path | str, progress: bool = True, device: str = "cpu") -> Path:
    """Render a set to `<root>/<hash>/` and return that folder; pictures already there are kept.

    Kind A: full/, masked/, region/ (8-bit coverage of cloth, straps and occluder of the truth), faces.csv,
    landmarks.csv. Kind B: masked/, region/, faces.csv, landmarks.csv. Scenes: scenes/, both tables with one row
    per face. Pictures are rendered in fixed, aligned chunks, so an interrupted set ends up byte for byte like an
    uninterrupted one. `set.json` is written last.
    """
    folder = Path(root) / spec.digest()
    tables = all((folder / name).exists() for name in ("set.json", "faces.csv", "landmarks.csv"))
    if tables and not _missing(spec, folder, range(spec.count)):
        return folder
    faces, points = [], []
    with tqdm(
        total=spec.count, desc=f"face world {spec.kind} {spec.size} px", disable=not progress, leave=False
    ) as bar:
        for indices, writer in _chunks(spec):
            images, table, landmarks = writer(_missing(spec, folder, indices), device)
            for name, pixels in images:
                files.write_png(folder / name, pixels)
            faces += table
            points += landmarks
            bar.update(len(indices))
    files.write_table(folder / "faces.csv", make_table(faces))
    files.write_table(folder / "landmarks.csv", pd.DataFrame(points))
    files.write_json(folder / "set.json", spec.resolved())
    return folder


def _folders(spec: SetSpec) -> tuple[str, ...]:
    return {"A": ("full", "masked", "region"), "B": ("masked", "region")}.get(spec.kind, ("scenes",))


def _name(folder: str, index: int) -> str:
    return f"{folder}/{index:06d}.png"


def _missing(spec: SetSpec, folder: Path, indices: Sequence[int]) -> set[str]:
    names = (_name(sub, i) for i in indices for sub in _folders(spec))
    return {name for name in names if not (folder / name).exists()}


def _chunks(spec: SetSpec) -> Iterator[tuple[range, callable]]:
    """(indices, function of the missing names) per chunk; the function returns pictures to write and table rows."""
    scale = spec.resolved()["supersample"]
    scenes = spec.kind.startswith("scenes")
    step = 1 if scenes else _chunk(spec.size, scale)
    for start in range(0, spec.count, step):
        indices = range(start, min(start + step, spec.count))
        produce = _scene if scenes else _faces
        yield indices, lambda missing, device, i=indices, f=produce: f(spec, i, missing, device, scale)


def _faces(spec: SetSpec, indices: range, missing: set[str], device, scale: float):
    ids = [spec.start + i // spec.per_identity for i in indices]
    wanted = (*_folders(spec), "straps", "occluder") if missing else ()
    out = picture.faces(ids, [spec.picture_seed(i) for i in indices], spec.size, wanted, scale, device, spec.ranges())
    images = []
    if missing:
        out.region = (out.region + out.straps + out.occluder).clamp(0, 1)
        for folder in _folders(spec):
            pixels = _to_pixels(getattr(out, folder))
            images += [(_name(folder, i), p) for i, p in zip(indices, pixels) if _name(folder, i) in missing]
    shown = _folders(spec)[0]
    return images, *rows(out, [(_name(shown, i), 0) for i in indices], spec.kind == "A")


def _scene(spec: SetSpec, indices: range, missing: set[str], device, scale: float):
    (index,) = indices
    seed = spec.picture_seed(index)
    count = int(np.random.default_rng([606, seed]).integers(2, 6))
    ids = [spec.start + index * 5 + k for k in range(count)]
    scene, out = picture.group(ids, seed, spec.size, spec.kind == "scenes_B", scale, device, spec.ranges())
    name = _name("scenes", index)
    images = [(name, _to_pixels(scene)[0])] if missing else []
    return images, *rows(out, [(name, k) for k in range(count)], spec.kind == "scenes_A")


def _to_pixels(batch: torch.Tensor) -> np.ndarray:
    """float [B, C, H, W] in [0, 1] -> uint8 [B, H, W, 3] or [B, H, W]."""
    pixels = (batch * 255).round_().clamp_(0, 255).to(torch.uint8).permute(0, 2, 3, 1).cpu().numpy()
    return pixels[..., 0] if pixels.shape[-1] == 1 else pixels
