"""What a run was asked for: its options, the seed of each face, the name of each output, and the refusals.

Everything here is decided before the first picture is read, so that a mistyped command costs a second, not an hour.
"""

import hashlib
import os
import unicodedata
from collections import Counter
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from lib.data.files import read_json, sha256
from lib.data.images import IMAGE_SUFFIXES, list_images
from lib.warp import IMFD_SHARES, WarpConfig, preset, template
from lib.warp.landmarks import predictor_path
from lib.warp.looks import parse_mix
from lib.warp.sources import open_source

FORMAT = 2  # of the output folder; a run never goes on in a folder of another format


class AugmentError(ValueError):
    """The command cannot be carried out as given; the message is one line that says what to change."""


@dataclass(frozen=True)
class Options:
    """How a folder is augmented.

    Args:
        checkpoint: Weights of the generator: rule-based mask, then translation. A file (`net_G_AB.safetensors`), the
            checkpoint folder that holds it, or a released model's name or folder; None for the default released model.
        rule_only: True for the rule-based mask alone; then no checkpoint is given.
        seed: The run's seed; the seed of each face derives from it (see `face_seed`).
        margin: Width of the soft border around the rule-based mask that the translated picture may change too, as a
            fraction of the face's width. Not used with rule_only.
        crop_scale: Side of the square that is translated, as a multiple of the face's larger extent (brows to chin,
            ear to ear). Not used with rule_only.
        size: Side of the square in pixels as the generator sees it; None for the size it was trained on, as its file
            tells. Not used with rule_only.
        batch_size: Faces translated at once.
        device: "auto" (CUDA where there is one), "cpu", "cuda", "cuda:1" … for the translation.
        workers: Processes for reading, detecting, warping; None for one per core, at most four; 0 for this process
            (then a crash inside a native library ends the run).
        largest_only: Mask only the largest face of a picture.
        copy_missed: Also write pictures in which nothing was masked, unchanged.
        upsample: Times the picture is doubled in size before the detector looks at it: finds smaller faces, slower.
        detect_side: But it never sees a picture longer than this, px, and the smallest face it finds is about 80 px
            there. 2048 because smaller ones lose faces of groups, and a picture that large takes longer to write.
        min_score: A fainter detection counts only in a picture without a surer one. 0.4 because badges and folds of
            cloth scored up to 0.34 beside true faces of 1.0 and more.
        landmarks: Where faces come from: "dlib" (the three options above are its), FFHQ's .json, or a landmark table of
            the pictures in IN, see `lib.warp.sources.open_source`.
        landmark_cache: A folder that keeps what dlib found by the picture file's hash, for further runs; None for none.
        preset: How masks are put on by rule, one of `lib.warp.PRESETS`; None for "ours" with rule_only, otherwise for
            the one that the generator was trained on.
        masks: Which masks, as `lib.warp.looks.parse_mix` reads them ("surgical_blue=5, cloth/floral=2, kn95";
            "cloth#aa3355@0.6/stripes@0.5=2": a colour and a print on it, how much of each the cloth takes, how often);
            None for the preset's own.
        wear: How they are worn: "Mask", another of `lib.warp.geometry.WEAR_TYPES`, or "imfd" for a mixture of the three
            wrong ways in MaskedFace-Net's proportions.
        limit: Only the first pictures of the sorted list.
        force: Start afresh in a folder that holds a run with other options; removes only files this tool wrote.
        progress: Show a progress bar on stderr.
    """

    checkpoint: Path | str | None = None
    rule_only: bool = False
    seed: int = 0
    margin: float = 0.02
    crop_scale: float = 1.65
    size: int | None = None
    batch_size: int = 8
    device: str = "auto"
    workers: int | None = None
    largest_only: bool = False
    copy_missed: bool = False
    upsample: int = 1
    detect_side: int = 2048
    min_score: float = 0.4
    landmarks: Path | str = "dlib"
    landmark_cache: Path | str | None = None
    preset: str | None = None
    masks: str | None = None
    wear: str = "Mask"
    limit: int | None = None
    force: bool = False
    progress: bool = True

    def checked(self) -> "Options":
        """The same options with `workers` filled in and `checkpoint` resolved to a file or a released model's folder.

        Raises AugmentError for a value that cannot be meant, and where there are no such weights.
        """
        if self.checkpoint is not None and self.rule_only:
            raise AugmentError("--rule-only and --checkpoint exclude each other: give one of them")
        low = {
            "batch_size": 1,
            "upsample": 0,
            "detect_side": 80,
            "limit": 1,
            "workers": 0,
            "seed": 0,
            "margin": 0,
            "crop_scale": 1,
        }
        for name, least in low.items():
            value = getattr(self, name)
            if value is not None and not value >= least:
                raise AugmentError(f"--{name.replace('_', '-')} must be at least {least}, got {value}")
        if not self.margin <= 1 or not self.crop_scale <= 10:
            raise AugmentError("--margin is a fraction of the face's width (at most 1), --crop-scale at most 10")
        if self.size is not None and (self.size < 24 or self.size % 4):
            raise AugmentError(f"--size must be at least 24 and divisible by 4, got {self.size}")
        weights = None if self.rule_only else _weights(self.checkpoint)
        filled = replace(self, checkpoint=weights, preset=self.preset or _preset_of(weights))
        filled.warp_config()
        try:
            open_source(self.landmarks)
            if self.landmarks == "dlib":
                predictor_path()
        except (ValueError, OSError) as error:
            raise AugmentError(f"--landmarks: {error}") from None
        workers = min(os.cpu_count() or 1, 4) if self.workers is None else self.workers
        return replace(filled, workers=workers)

    def warp_config(self) -> WarpConfig:
        """What may be drawn in step one. AugmentError for a preset, mask or way of wearing that does not exist."""
        try:
            changes = {"mix": parse_mix(self.masks)} if self.masks is not None else {}
            for item in changes.get("mix", ()):
                template(item.template)
            changes["wear"] = IMFD_SHARES if self.wear == "imfd" else {self.wear: 1.0}
            return preset(self.preset or "ours", **changes)
        except (ValueError, OSError) as error:
            raise AugmentError(" ".join(str(error).split())) from None

    def fingerprint(self, in_dir: Path) -> dict:
        """The options that shape the outputs: a run may only go on in a folder whose fingerprint is the same."""
        given = asdict(self)
        names = [
            "seed",
            "largest_only",
            "copy_missed",
            "upsample",
            "detect_side",
            "min_score",
            "preset",
            "masks",
            "wear",
        ]
        names += [] if self.rule_only else ["margin", "crop_scale", "size"]
        checkpoint, digest = ("rule-only", "") if self.rule_only else _named(Path(self.checkpoint))
        return {
            "format": FORMAT,
            "input": str(in_dir.resolve()),
            "checkpoint": checkpoint,
            "checkpoint_sha256": digest,
            **{name: given[name] for name in names},
            "landmarks": "dlib" if self.landmarks == "dlib" else open_source(self.landmarks).fingerprint(),
        }


def _preset_of(weights: Path | None) -> str:
    """What a generator's training pictures were made with: told by its model card, or by the study it lies in."""
    if weights is None:
        return "ours"
    if (weights / "model.json").is_file():
        return read_json(weights / "model.json").get("preset", "study")
    for folder in weights.resolve().parents:
        if (folder / "study.json").is_file():
            made = folder / "data" / "A" / "rule" / "done.json"
            return read_json(made).get("preset", "study") if made.is_file() else "study"
    return "study"


def _weights(which: Path | str | None) -> Path:
    """See `lib.gan.released.find_weights`, which takes torch with it: not needed for the rule-based mask."""
    from lib.gan.checkpoints import CheckpointError
    from lib.gan.released import default_released, find_weights

    try:
        if which is None and default_released() is None:
            raise AugmentError(
                "choose one: --rule-only (a mask drawn onto each face by rule, no training needed) or --checkpoint "
                "FILE (the same, then made realistic by a generator you trained; no released model to use by default)"
            )
        return find_weights(which)
    except CheckpointError as error:
        raise AugmentError(str(error)) from None


def _named(weights: Path) -> tuple[str, str]:
    """Name and SHA-256 of weights, as the tables tell them."""
    if weights.is_file():
        return weights.name, sha256(weights)
    from lib.gan.released import read_model

    model = read_model(weights)
    return model["name"], model["sha256"]


@dataclass(frozen=True)
class Task:
    """One picture to do. `source` and `name` are relative POSIX paths: of the picture in IN, and of the PNG in
    `OUT/images` and `OUT/regions`."""

    source: str
    name: str

    @property
    def outputs(self) -> tuple[str, str]:
        """Paths of the picture and of its region, relative to OUT."""
        return f"images/{self.name}", f"regions/{self.name}"


def face_seed(seed: int, source: str, face: int, use: str = "warp") -> int:
    """A seed in [0, 2**63) for one face, from the run's seed, the picture's relative path and the face's index alone.

    So a face looks the same whatever else is in the folder, in which order and by how many workers it is done. The
    path is taken in Unicode's composed form: macOS hands out names in the decomposed one.
    """
    key = "\0".join([str(seed), unicodedata.normalize("NFC", source), str(face), use])
    return int.from_bytes(hashlib.sha256(key.encode("utf-8", "surrogateescape")).digest()[:8], "big") >> 1


def output_names(sources: list[str]) -> dict[str, str]:
    """Relative path of the PNG for each picture: `a/b.jpg` → `a/b.png`; where two pictures of a folder would end as
    the same file (`b.jpg` and `b.png`, or `B.jpg` on a file system that ignores case) all of them keep their suffix:
    `a/b.jpg.png`. Only the last suffix is dropped, so `img.01.jpg` → `img.01.png`.
    """
    kept: set[str] = set()
    while True:
        stems = {source: source if source in kept else source[: -len(Path(source).suffix)] for source in sources}
        names = {source: f"{stem}.png" for source, stem in stems.items()}
        uses = Counter(name.casefold() for name in names.values())
        clashing = {source for source, name in names.items() if uses[name.casefold()] > 1} - kept
        if not clashing:
            return names
        kept |= clashing


def find_pictures(in_dir: Path, out_dir: Path) -> list[Task]:
    """All pictures under `in_dir`, sorted; AugmentError where there are none or the two folders lie in each other."""
    if not in_dir.exists():
        raise AugmentError(f"{in_dir}: no such folder")
    if not in_dir.is_dir():
        raise AugmentError(f"{in_dir}: is a file; give the folder that holds the pictures")
    source, target = in_dir.resolve(), out_dir.resolve()
    if source == target:
        raise AugmentError(f"{out_dir}: IN and OUT are the same folder; give OUT a folder of its own")
    if target.is_relative_to(source):
        raise AugmentError(f"{out_dir}: lies inside IN, its pictures would be taken for input; choose another folder")
    if source.is_relative_to(target):
        raise AugmentError(f"{in_dir}: lies inside OUT, originals and outputs would mix; choose another OUT")
    if out_dir.exists() and not out_dir.is_dir():
        raise AugmentError(f"{out_dir}: is a file; OUT must be a folder (it is created)")
    try:
        paths = [path.relative_to(in_dir).as_posix() for path in list_images(in_dir)]
    except OSError as error:  # a folder in it that may not be listed
        raise AugmentError(f"{error}; make it readable or move it out of {in_dir}") from None
    if not paths:
        raise AugmentError(f"{in_dir}: no pictures found (looked at any depth for {' '.join(sorted(IMAGE_SUFFIXES))})")
    names = output_names(paths)
    return [Task(path, names[path]) for path in paths]
