"""The pictures that detectors and recognisers are trained on and tested with (`lib.study.downstream`).

People and scenes are rendered once for all seeds and variants; half of the faces of a training set then get the masks
of its variant. Nobody tested with is on any other picture: not on those trained on here, nor on the generator's.

    cache/downstream/<hash>.safetensors     people and scenes, bare and truly masked
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from safetensors.numpy import load, save
from torch import Tensor
from torch.utils.data import Dataset
from torchvision import tv_tensors

from lib.augment import MaskedDataset, MaskTransform, SecondStep
from lib.augment.options import preset_of
from lib.data.faceworld import VERSION as RENDERER
from lib.data.files import write_bytes
from lib.gan.released import find_weights
from lib.study.config import StudyError
from lib.study.detector import FACE, MASKED, Scenes, render_scenes
from lib.study.recogniser import People, render_people
from lib.study.runs import Study, config_hash
from lib.study.selection_file import locked
from lib.warp import preset

FLY = "two-step on the fly"
COLOURS = "rule, many colours"
VARIANTS = ("none", "rule", COLOURS, "two-step", "truth", FLY)
SHARE = 0.5  # of the faces that wear a mask

# Sets A and B have people below two million, the feature network's are some above three.
FIRST = {("recogniser", "train"): 4_000_000, ("recogniser", "test"): 4_500_000,
         ("detector", "train"): 6_000_000, ("detector", "test"): 7_000_000}  # fmt: skip
SEEDS_APART = 10_000_000  # between the people of one study's seed and the next


@dataclass(frozen=True)
class Plan:
    """What a profile has time for. Trained on and tested with: people with some pictures each, and scenes."""

    seeds: int
    people: tuple[int, int]
    pictures: tuple[int, int]
    face_size: int  # px
    face_supersample: float
    recogniser_passes: int
    scenes: tuple[int, int]
    scene_size: int  # px
    detector_passes: int
    batch_size: tuple[int, int] = (32, 8)  # of the recogniser, the detector
    learning_rate: float = 3e-3


_LAPTOP = Plan(3, (160, 80), (6, 4), 64, 2.0, 25, (120, 80), 96, 20)
_GPU = Plan(3, (600, 150), (8, 4), 112, 1.0, 30, (300, 150), 128, 40)
PLANS = {
    "smoke": Plan(2, (16, 12), (3, 3), 64, 1.0, 3, (12, 8), 64, 2, (16, 4)),
    "laptop": _LAPTOP,
    "evening": _LAPTOP,
    "gpu_short": _GPU,
    "gpu": _GPU,
    "paper": _GPU,
}


def plan_of(study: Study) -> Plan:
    """The plan of a study's profile. Raises StudyError for a profile that has none."""
    if study.profile.name not in PLANS:
        raise StudyError(f"profile {study.profile.name!r} has no plan of detectors; choose {', '.join(PLANS)}")
    return PLANS[study.profile.name]


# ------------------------------------------------------------------------------------------------------- pictures
def people_of(study: Study, part: str) -> People:
    """The recogniser's pictures; part: "train" or "test". Rendered once, kept in runs/cache/downstream."""
    plan, test = plan_of(study), part == "test"
    asked = (plan.people[test], plan.pictures[test], plan.face_size, plan.face_supersample)
    first = _first(study, "recogniser", part)
    return People(**_kept(study, ["people", first, *asked], lambda: vars(render_people(first, *asked, progress=False))))


def scenes_of(study: Study, part: str) -> Scenes:
    """The detector's scenes; part: "train", all of them bare, or "test", where half of the faces truly wear a mask."""
    plan, test = plan_of(study), part == "test"
    first, asked = _first(study, "detector", part), (plan.scenes[test], plan.scene_size, 1.0)

    def make() -> dict[str, np.ndarray]:
        made = render_scenes(first, *asked, progress=False)
        every = {name: np.concatenate(getattr(made, name)) for name in ("boxes", "landmarks", "identity")}
        counts = np.array([len(own) for own in made.boxes])
        return {"images": made.images, "worn": made.worn, "counts": counts, **every}

    kept = _kept(study, ["scenes", first, *asked], make)
    cuts = np.cumsum(kept["counts"])[:-1]
    boxes, landmarks, identity = (np.split(kept[name], cuts) for name in ("boxes", "landmarks", "identity"))
    labels = [np.full(len(own), FACE) for own in boxes]
    scenes = Scenes(kept["images"], boxes, labels, landmarks, identity, kept["worn"])
    rng = np.random.default_rng(study.seed)
    return scenes.with_true_masks([rng.random(len(own)) < SHARE for own in boxes]) if test else scenes


def _first(study: Study, experiment: str, part: str) -> int:
    return FIRST[experiment, part] + SEEDS_APART * study.seed


def _kept(study: Study, what: list, make: Callable[[], dict[str, np.ndarray]]) -> dict[str, np.ndarray]:
    """Arrays from the cache, or made once: processes that ask at once wait for the first."""
    path = study.cache_dir.parent / "downstream" / f"{config_hash({'what': what, 'renderer': RENDERER})}.safetensors"
    with locked(path):
        if not path.exists():
            write_bytes(path, save({name: np.ascontiguousarray(array) for name, array in make().items()}))
    return load(path.read_bytes())


def shared_people(study: Study) -> pd.DataFrame:
    """Who is on what: a row per set with its number of people, and how many of them are also tested with (`tested`: in
    the recogniser's test, the detector's test)."""
    of = {f"recogniser, {part}": people_of(study, part).identity for part in ("train", "test")}
    of |= {f"detector, {part}": np.concatenate(scenes_of(study, part).identity) for part in ("train", "test")}
    if study.data == "faceworld":
        for side in "AB":
            table = study.data_dir / side / "faces.csv"
            of[f"generator, set {side}"] = pd.read_csv(table)["identity"].to_numpy() if table.exists() else []
    sets = {name: set(map(int, identity)) for name, identity in of.items()}
    tests = {name: people for name, people in sets.items() if "test" in name}
    rows = [
        {"set": name, "people": len(people)}
        | {f"also in {test}": len(people & who) if test != name else 0 for test, who in tests.items()}
        for name, people in sets.items()
    ]
    return pd.DataFrame(rows)


# ------------------------------------------------------------------------------------------------------- training sets
class _Samples(Dataset):
    """Bare pictures as `MaskTransform` takes them: (picture, target with landmarks, person or boxes and labels)."""

    def __init__(self, pictures: People | Scenes) -> None:
        self.pictures = pictures
        if isinstance(pictures, People):
            self.person = np.unique(pictures.identity, return_inverse=True)[1]

    def __len__(self) -> int:
        return len(self.pictures.landmarks)

    def __getitem__(self, k: int) -> tuple[tv_tensors.Image, dict]:
        p = self.pictures
        if isinstance(p, People):
            target = {"landmarks": torch.from_numpy(p.landmarks[k : k + 1]), "person": int(self.person[k])}
            return _image(p.bare[k]), target
        boxes = tv_tensors.BoundingBoxes(torch.from_numpy(p.boxes[k]), format="XYXY", canvas_size=p.images.shape[1:3])
        labels = torch.from_numpy(p.labels[k])
        return _image(p.images[k]), {"boxes": boxes, "labels": labels, "landmarks": torch.from_numpy(p.landmarks[k])}


def _image(pixels: np.ndarray) -> tv_tensors.Image:
    return tv_tensors.Image(torch.from_numpy(pixels).permute(2, 0, 1))


# Number of a pass → its batches: pictures uint8 [B, 3, S, S] and their targets.
Batches = Callable[[int], Iterator[tuple[Tensor, list[dict]]]]


def training_set(pictures: People | Scenes, variant: str, seed: int, weights: Path | str | None, device: str = "auto"):
    """The samples of a variant, (picture uint8 [3, S, S], target) each, and what finishes their batches.

    weights: of the generator; the rule-based masks are drawn as for it, but in `COLOURS`, where they are of as many
    kinds and colours as in the preset "ours". With one seed the same faces wear a mask in all variants, "none" apart
    (`COLOURS`: but for masks that a nearer face hides), and those of "rule" are what "two-step" translates.
    Raises StudyError for a variant that does not exist.
    """
    if variant not in VARIANTS:
        raise StudyError(f"variant {variant!r}: expected one of {', '.join(VARIANTS)}")
    bare = _Samples(pictures)
    if variant == "none":
        return [bare[k] for k in range(len(bare))], None
    scenes, translated = isinstance(pictures, Scenes), variant in ("two-step", FLY)
    rules = preset(preset_of(find_weights(weights)))
    if variant == COLOURS:
        rules = replace(rules, mix=preset("ours").mix)
    mask = MaskTransform(
        SHARE, seed=seed, preset=rules, masked_label=MASKED if scenes else None,
        checkpoint=weights if translated else None, outputs=("masked",),
    )  # fmt: skip
    samples = MaskedDataset(bare, mask)
    second = SecondStep(weights, device) if translated else None
    if variant == FLY:
        return samples, second
    ready = [samples[k] for k in range(len(samples))]
    if variant == "truth":
        masked = [target["masked"].numpy() for _, target in ready]
        if scenes:
            worn = pictures.with_true_masks(masked).images
        else:
            worn = np.where(np.array(masked)[:, :, None, None], pictures.worn, pictures.bare)
        return [(_image(pixels), target) for pixels, (_, target) in zip(worn, ready)], None
    if second:
        images, targets = zip(*ready)
        ready = [*zip(second(list(images), list(targets)), targets)]
    return ready, None


def batches(samples, second: SecondStep | None, batch_size: int, seed: int) -> Batches:
    """The batches of each pass, in an order that hangs on seed and pass alone; the last one may be smaller."""

    def of(number: int) -> Iterator[tuple[Tensor, list[dict]]]:
        order = torch.randperm(len(samples), generator=torch.Generator().manual_seed(1000 * seed + number))
        if isinstance(samples, MaskedDataset):
            samples.set_epoch(number)
        for picks in order.split(batch_size):
            images, targets = zip(*(samples[k] for k in picks.tolist()))
            images = torch.stack([image.as_subclass(Tensor) for image in images])
            yield (second(images, list(targets)) if second else images), list(targets)

    return of
