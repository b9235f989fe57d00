"""What a run was asked for: its options, the tasks that follow from them, and the refusals.

Everything here is decided before the first picture is read, so that a mistyped command costs a second, not an hour.
"""

import os
import re
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from lib.augment import pairs, replay, scenes
from lib.augment.tasks import INNERMOST, AugmentError, Task, check_folders, face_seed, list_sources, name_tasks
from lib.data.files import read_json, sha256
from lib.warp import WarpConfig, non_mask_path, preset, template
from lib.warp.landmarks import predictor_path
from lib.warp.looks import parse_mix
from lib.warp.params import parse_wear
from lib.warp.sources import open_source

__all__ = ["AugmentError", "Options", "Task", "face_seed", "find_pictures"]

FORMAT = 4  # of the output folder; a run never goes on in a folder of another format

SHAPING = (  # the outputs, in either step
    *("seed", "largest_only", "copy_missed", "upsample", "detect_side", "min_score", "thorough", "preset", "masks"),
    *("wear", "tensors", "per_image", "originals", "identity", "share", "min_face", "max_face", "max_yaw"),
)


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
        scheduler: Address of a Dask scheduler ("tcp://host:8786") whose workers do that instead; then no `workers`.
        dashboard: Serve Dask's dashboard of the run's own workers, on this machine only, and tell its address.
        largest_only: Mask only the largest face of a picture.
        copy_missed: Also write pictures in which nothing was masked, unchanged. With labels they always are.
        per_image: Variants of each picture, with different masks.
        originals: Also write the untouched pictures, into the same tree.
        identity: Which folder on a picture's path tells who is on it, see `lib.augment.tasks.identity_of`.
        pairs: A pairs file of a recognition set (see `lib.data.pairs`), to be extended to masked faces.
        labels: Label files of scenes (see `lib.data.detection`): their faces are masked, and the labels written anew.
        labels_format: Of `lib.data.detection.FORMATS`; None: told by the files' names.
        write: Further formats to write labels in, parted by commas.
        share: How many of the faces that could have a mask get one, as `lib.augment.scenes.parse_share` reads it.
        min_face, max_face: Faces whose box is smaller or larger than this on its shorter side, px, get no mask. None:
            no limit, but 24 px with labels.
        max_yaw: Degrees beyond which a turned head gets no mask; None: the preset's limit.
        replay: The manifest of a run that is to be made again.
        upsample: Times the picture is doubled in size before the detector looks at it: finds smaller faces, slower.
        detect_side: But it never sees a picture longer than this, px, and the smallest face it finds is about 80 px
            there. 2048 because smaller ones lose faces of groups, and a picture that large takes longer to write.
        min_score: A fainter detection counts only in a picture without a surer one. 0.4 because badges and folds of
            cloth scored up to 0.34 beside true faces of 1.0 and more.
        thorough: All of dlib's detectors look at every picture, see `DlibLandmarks`. Not with labels or `landmarks`.
        landmarks: Where faces come from: "dlib" (the three options above are its), FFHQ's .json, or a landmark table of
            the pictures in IN, see `lib.warp.sources.open_source`.
        landmark_cache: A folder that keeps what dlib found by the picture file's hash, for further runs; None for none.
        preset: How masks are put on by rule, one of `lib.warp.PRESETS`; None for "ours" with rule_only, otherwise for
            the one that the generator was trained on.
        masks: Which masks, as `lib.warp.looks.parse_mix` reads them ("surgical_blue=5, cloth/floral=2, kn95";
            "cloth#aa3355@0.6/stripes@0.5=2": a colour and a print on it, how much of each the cloth takes, how often);
            None for the preset's own.
        wear: How they are worn: "Mask", another of `lib.warp.geometry.WEAR_TYPES`, "imfd" for a mixture of the three
            wrong ways in MaskedFace-Net's proportions, or "Mask=3, Mask_Chin=1" (see `lib.warp.params.parse_wear`).
        tensors: Also write the boolean non-mask tensor of each picture, `OUT/tensors/NAME.safetensors`
            (`lib.warp.load_non_mask`): bool [H, W], True where the region is 0, so where nothing changed.
        limit: Only the first pictures of the sorted list.
        prune: Remove what an earlier run made of pictures that are no longer in IN, files and rows.
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
    scheduler: str | None = None
    dashboard: bool = True
    largest_only: bool = False
    copy_missed: bool = False
    per_image: int = 1
    originals: bool = False
    identity: int = INNERMOST
    pairs: Path | str | None = None
    labels: Path | str | None = None
    labels_format: str | None = None
    write: str | None = None
    share: str = "1"
    min_face: int | None = None
    max_face: int | None = None
    max_yaw: float | None = None
    replay: Path | str | None = None
    upsample: int = 1
    detect_side: int = 2048
    min_score: float = 0.4
    thorough: bool = False
    landmarks: Path | str = "dlib"
    landmark_cache: Path | str | None = None
    preset: str | None = None
    masks: str | None = None
    wear: str = "Mask"
    tensors: bool = False
    limit: int | None = None
    prune: bool = False
    force: bool = False
    progress: bool = True

    def checked(self) -> "Options":
        """The same options with `workers` filled in and `checkpoint` resolved to a file or a released model's folder.

        Raises AugmentError for a value that cannot be meant, and where there are no such weights.
        """
        if self.checkpoint is not None and self.rule_only:
            raise AugmentError("--rule-only and --checkpoint exclude each other: give one of them")
        if self.scheduler is not None and self.workers is not None:
            raise AugmentError("--workers starts workers here, --scheduler uses those of a cluster: give one of them")
        if self.scheduler is not None and "://" not in self.scheduler:
            raise AugmentError(f"--scheduler: expected an address such as tcp://host:8786, got {self.scheduler!r}")
        low = {
            "batch_size": 1,
            "upsample": 0,
            "detect_side": 80,
            "limit": 1,
            "workers": 0,
            "seed": 0,
            "margin": 0,
            "crop_scale": 1,
            "per_image": 1,
            "min_face": 0,
            "max_face": 1,
            "max_yaw": 0,
        }
        for name, least in low.items():
            value = getattr(self, name)
            if value is not None and not value >= least:
                raise AugmentError(f"--{name.replace('_', '-')} must be at least {least}, got {value}")
        if not self.margin <= 1 or not self.crop_scale <= 10:
            raise AugmentError("--margin is a fraction of the face's width (at most 1), --crop-scale at most 10")
        if self.size is not None and (self.size < 24 or self.size % 4):
            raise AugmentError(f"--size must be at least 24 and divisible by 4, got {self.size}")
        if self.identity == 0:
            raise AugmentError("--identity counts from 1, the first folder, or from -1, the one that holds the picture")
        if not re.fullmatch(r"auto|cpu|cuda(:\d+)?", str(self.device)):
            raise AugmentError(f"--device: expected auto, cpu, cuda or cuda:1, …, got {self.device!r}")
        self._check_uses()
        if self.replay is not None:
            return replay.restored(self)._filled()
        return self._filled()

    def _check_uses(self) -> None:
        scenes.parse_share(self.share)
        if self.thorough and (self.labels is not None or self.landmarks != "dlib" or self.replay is not None):
            raise AugmentError("--thorough is for dlib on whole pictures: not with --labels, --landmarks, --replay")
        least = scenes.least_side(self)
        if self.max_face is not None and self.max_face < least:
            raise AugmentError(f"--max-face {self.max_face} lies below --min-face {least}: no face could be masked")
        if self.originals and self.copy_missed:
            raise AugmentError("--originals writes every picture; leave out --copy-missed")
        if self.labels is not None:
            scenes.check_formats(self)
            recognition = {"--pairs": self.pairs, "--originals": self.originals, "--largest-only": self.largest_only}
            for option in [option for option, value in recognition.items() if value]:
                raise AugmentError(f"--labels is for scenes, {option} for pictures of single people: give one of them")
        elif self.labels_format or self.write:
            raise AugmentError("--labels-format and --write need --labels: the label files to read")

    def _filled(self) -> "Options":
        weights = None if self.rule_only else _weights(self.checkpoint)
        if weights is not None and self.scheduler is None:  # else the workers' matter, which may be elsewhere
            from lib.gan.config import pick_device  # here: takes torch with it

            try:
                pick_device(str(self.device))
            except ValueError as error:
                raise AugmentError(f"--{error}") from None
        filled = replace(self, checkpoint=weights, preset=self.preset or preset_of(weights))
        filled.warp_config()
        if self.replay is not None:
            if weights is not None:
                replay.check_weights(self, *_named(weights))
            return replace(filled, preset=self.preset, workers=self._workers())
        try:
            open_source(self.landmarks)
            if self.landmarks == "dlib":
                predictor_path()
        except (ValueError, OSError) as error:
            raise AugmentError(f"--landmarks: {error}") from None
        return replace(filled, workers=self._workers())

    def _workers(self) -> int:
        return min(os.cpu_count() or 1, 4) if self.workers is None else self.workers

    def warp_config(self) -> WarpConfig:
        """What may be drawn in step one. AugmentError for a preset, mask or way of wearing that does not exist."""
        try:
            changes = {"mix": parse_mix(self.masks)} if self.masks is not None else {}
            for item in changes.get("mix", ()):
                template(item.template)
            changes |= {} if self.max_yaw is None else {"max_yaw": self.max_yaw}
            changes["wear"] = parse_wear(self.wear)
            return preset(self.preset or "ours", **changes)
        except (ValueError, OSError) as error:
            raise AugmentError(" ".join(str(error).split())) from None

    def fingerprint(self, in_dir: Path) -> dict:
        """The options that shape the outputs: a run may only go on in a folder whose fingerprint is the same."""
        given = asdict(self)
        names = [*SHAPING, *(() if self.rule_only else ("margin", "crop_scale", "size"))]
        checkpoint, digest = ("rule-only", "") if self.rule_only else _named(Path(self.checkpoint))
        return {
            "format": FORMAT,
            "input": str(in_dir.resolve()),
            "checkpoint": checkpoint,
            "checkpoint_sha256": digest,
            **{name: given[name] for name in names},
            "landmarks": "dlib" if self.landmarks == "dlib" else open_source(self.landmarks).fingerprint(),
        }


def tensor_path(region: str) -> str:
    """Where the non-mask tensor beside a region lies, relative to OUT: regions/a/b.png → tensors/a/b.safetensors."""
    return non_mask_path(Path("tensors", *Path(region).parts[1:])).as_posix()


def preset_of(weights: Path | None) -> str:
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


def find_pictures(in_dir: Path, out_dir: Path, options: Options | None = None) -> list[Task]:
    """All there is to do, sorted by path: every picture under `in_dir`, those that label files tell of, or those of a
    manifest. AugmentError where there are none, a picture is not the manifest's, or folders lie in each other."""
    o = options or Options()
    others = (("--labels", o.labels), ("--pairs", o.pairs), ("--replay", o.replay))
    check_folders(in_dir, out_dir, [(option, Path(path)) for option, path in others if path is not None])
    if o.pairs is not None:
        pairs.read_any(o.pairs, in_dir)  # a damaged file is told now, not when all pictures are done
    if o.replay is not None:
        return replay.replay_tasks(in_dir, o)
    if o.labels is None:
        return name_tasks(list_sources(in_dir), o.per_image, o.originals, o.identity)
    faces, missing = scenes.labelled(scenes.read_scenes(in_dir, o), in_dir)
    if not faces:
        first = f" (the first: {missing[0]['file']}, {missing[0]['reason']})" if missing else ""
        if missing and all(row["kind"] == "labels" for row in missing):
            raise AugmentError(f"--labels {o.labels}: none of their {len(missing)} files can be read{first}")
        raise AugmentError(f"--labels {o.labels}: none of their {len(missing)} pictures is in {in_dir}{first}")
    tasks = name_tasks(list(faces), o.per_image)
    return [replace(task, labels=faces[task.source], identity="") for task in tasks]
