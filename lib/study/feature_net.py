"""A small network that has learned what the face world shows: features for distances where Inception's weights are not
had, and a perceptual distance of two pictures.

It is trained here, on people no study uses, to tell: is a mask worn, of which kind, is it light, its colour, and how
the head is turned (yaw, pitch). It sees bare faces, faces that truly wear a mask, and faces with a rule-based one. Both
masks count as worn: it is never asked to tell them apart, or a distance in its features would be a critic in disguise.
It knows drawn faces only; on photographs its numbers are a rough order at best.

Every picture, of whatever size, is brought to 64² the same way: Pillow's antialiased bicubic filter, as clean-fid's,
to uint8 (`lib.data.images.resize`).

    cache/feature_net/<digest>.safetensors   weights, mean and spread of the features
    cache/feature_net/<digest>.json          the recipe, and what the network gets right on held-out people
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from safetensors import SafetensorError
from safetensors.torch import load as from_bytes
from safetensors.torch import save as to_bytes
from torch import Tensor, nn
from tqdm import tqdm

from lib.data import faceworld
from lib.data.files import read_json, write_bytes, write_json
from lib.data.images import resize, to_pixels, to_tensor
from lib.study import metrics
from lib.study.config import StudyError
from lib.study.runs import Study, config_hash
from lib.study.selection_file import locked
from lib.warp import WarpConfig, WarpError, apply_warps, preset, sample_warp_params

VERSION = 1  # part of the digest: raise it whenever a change here changes the features
SIZE = 64  # px
# A covariance of D features has D (D + 1) / 2 numbers, and a study holds out 12 to 200 pictures: of Inception's 2,048
# features it would tell little but which pictures were drawn.
FEATURES = 32
CHANNELS = (16, 48, 64, 96, FEATURES)
FIRST_IDENTITY = 3_000_000  # sets of the face world use people below two million (`faceworld.SetSpec`)
SMALL_BELOW = 24  # held-out faces: a profile with fewer proves the code only, and the small recipe will do

KINDS = ("surgical", "cloth", "cup")
RANGES = {
    "yaw": 60, "pitch": 15, "roll": 15, "heterogeneity": 0.2, "mask_kinds": (0.5, 0.28, 0.22), "light_share": 0.65,
    "below_nose": 0.05,
}  # fmt: skip
RULES = ("study", "ours")  # presets of the rule-based masks, in turns, each with the street's colours
LABELS = ("worn", "kind", "light", "L", "a", "b", "yaw", "pitch")
_UNITS = torch.tensor([25.0, 25.0, 25.0, 30.0, 10.0])  # of L, a, b, yaw and pitch while learning: about their spread
_BATCH = 64


@dataclass(frozen=True)
class Recipe:
    """How much a network is trained: people, of whom three pictures each, rays per pixel side, passes over them."""

    people: int
    supersample: float
    passes: int
    batch_size: int = 32
    learning_rate: float = 3e-3


SMALL = Recipe(people=96, supersample=1.0, passes=8, batch_size=16)
FULL = Recipe(people=840, supersample=2.0, passes=20)


class _Network(nn.Module):
    """Five blocks, each on half the size of the one before, and ten answers from the mean of the last one's maps."""

    def __init__(self):
        super().__init__()
        self.blocks = nn.ModuleList(
            nn.Sequential(nn.Conv2d(before, after, 3, padding=1, bias=False), nn.BatchNorm2d(after), nn.ReLU())
            for before, after in zip((3, *CHANNELS), CHANNELS)
        )
        self.answers = nn.Linear(FEATURES, 10)  # worn, three kinds, light, L, a, b, yaw, pitch
        self.register_buffer("centre", torch.zeros(FEATURES))
        self.register_buffer("spread", torch.ones(FEATURES))

    def maps(self, x: Tensor) -> list[Tensor]:
        """float32 [N, 3, 64, 64] in [−1, 1] → the maps of each block, 64² down to 4²."""
        found = []
        for k, block in enumerate(self.blocks):
            x = block(F.avg_pool2d(x, 2) if k else x)
            found.append(x)
        return found

    def pooled(self, x: Tensor) -> Tensor:
        """float32 [N, 3, 64, 64] → [N, 32]."""
        return self.maps(x)[-1].mean((2, 3))

    def forward(self, x: Tensor) -> Tensor:
        return self.answers(self.pooled(x))


@dataclass(frozen=True, eq=False)
class FeatureNet:
    """A trained network. facts: what its JSON file holds; `facts["held_out"]`: what it gets right on held-out people,
    and what guessing would."""

    network: _Network
    facts: dict

    def features(self, images: np.ndarray) -> np.ndarray:
        """uint8 [N, H, W, 3] → float64 [N, 32], each feature in units of its spread over the training pictures."""
        with torch.inference_mode():
            found = torch.cat([self.network.pooled(x) for x in _batches(images)])
            return ((found.double() - self.network.centre) / self.network.spread).numpy()

    def perceptual(self, a: np.ndarray, b: np.ndarray, mask: np.ndarray | None = None) -> np.ndarray:
        """Distance of two pictures in the maps of all blocks: uint8 [N, H, W, 3] twice → float64 [N], 0 for equal ones.

        The equation of LPIPS (Zhang et al. 2018, eq. 1) with all weights 1: each place's vector of channels is brought
        to length 1, squared differences are summed over channels, averaged over places, summed over blocks. Not LPIPS:
        another network, and no weights fitted to what people see.

        mask: bool [N, H, W]; only its area counts, a place of a coarse map by its share of it. NaN: an empty mask.
        Raises ValueError for shapes that differ.
        """
        if a.shape != b.shape or (mask is not None and mask.shape != a.shape[:3]):
            shapes = ", ".join(str(list(x.shape)) for x in (a, b, mask) if x is not None)
            raise ValueError(
                f"perceptual: expected pictures [N, H, W, 3] of one shape and masks [N, H, W], got {shapes}"
            )
        area = torch.ones(len(a), 1, 1, 1) if mask is None else torch.from_numpy(mask)[:, None].float()
        found = []
        with torch.inference_mode():
            for x, y, inside in zip(_batches(a), _batches(b), area.split(_BATCH)):
                total = 0
                for one, other in zip(self.network.maps(x), self.network.maps(y)):
                    apart = (_unit(one) - _unit(other)).square().sum(1, keepdim=True).double()
                    share = F.interpolate(inside, apart.shape[2:], mode="area").double()
                    total += (apart * share).sum((1, 2, 3)) / share.sum((1, 2, 3))
                found.append(total)
        return torch.cat(found).numpy()


def _batches(images: np.ndarray) -> Iterator[Tensor]:
    for start in range(0, len(images), _BATCH):
        yield to_tensor(np.stack([resize(image, SIZE) for image in images[start : start + _BATCH]]))


def _unit(maps: Tensor) -> Tensor:
    return maps / (maps.square().sum(1, keepdim=True).sqrt() + 1e-10)  # a place where all channels are silent stays 0


def load(where: Study | Path | str, small: bool | None = None, seed: int = 0, progress: bool = True) -> FeatureNet:
    """The network of a study, from the cache, or trained once: `SMALL` in seconds, `FULL` in minutes, on one thread.

    where: a study, or its `cache_dir`, beside which the network is kept. small: None chooses by the study's profile.
    One network serves all seeds of a study: a ruler does not change with what is measured. Processes that ask at once
    wait for the first to train it. A recipe and a seed give the same weights, bit by bit on the same kind of machine.

    Raises StudyError for a damaged file, ValueError for a folder without `small`.
    """
    if small is None:
        if not isinstance(where, Study):
            raise ValueError("feature_net.load: a folder tells no profile; say small=True or small=False")
        small = where.profile.count_test < SMALL_BELOW
    cache = where.cache_dir if isinstance(where, Study) else Path(where)
    return _cached(cache.parent / "feature_net", SMALL if small else FULL, seed, progress)


def _cached(folder: Path, recipe: Recipe, seed: int, progress: bool) -> FeatureNet:
    asked = _asked(recipe, seed)
    path = folder / f"{config_hash(asked)}.safetensors"
    about = path.with_suffix(".json")
    with locked(path):
        if not about.exists():
            network, facts = _train(recipe, seed, progress)
            write_bytes(path, to_bytes(network.state_dict()))
            write_json(about, asked | facts)  # last: where it is, the weights are whole
    network = _empty()
    try:
        network.load_state_dict(from_bytes(path.read_bytes()), assign=True)
        return FeatureNet(network.eval(), read_json(about))
    except (OSError, SafetensorError, RuntimeError, ValueError) as error:
        raise StudyError(f"{path}: damaged ({error}); delete {about.name} beside it: it is trained anew") from error


def _empty() -> _Network:
    with torch.device("meta"):  # draws no weights, and leaves torch's chance alone
        return _Network()


def _asked(recipe: Recipe, seed: int) -> dict:
    """All that shapes a network, as plain JSON values."""
    versions = {"version": VERSION, "renderer_version": faceworld.VERSION, "network": str(_empty())}
    rules = [asdict(rule) for rule in _rules()]
    return versions | {"recipe": asdict(recipe), "seed": seed, "ranges": RANGES, "rules": rules}


def _rules() -> list[WarpConfig]:
    """The presets as they are used here: with all the street's masks, on heads however far turned."""
    return [preset(name, mix=preset("ours").mix, max_yaw=90.0) for name in RULES]


# ------------------------------------------------------------------------------------------------------- training
def _train(recipe: Recipe, seed: int, progress: bool) -> tuple[_Network, dict]:
    """Train a network, and look how it does on a sixth of the people, whom it never saw."""
    start = time.process_time()
    with _one_thread(seed):
        x, y, person = _pictures(recipe, seed, progress)
        held_out = person % 6 == 5
        (seen_x, seen_y), (new_x, new_y) = (x[~held_out], y[~held_out]), (x[held_out], y[held_out])
        network = _Network()
        batches = len(seen_x) // recipe.batch_size
        adam = torch.optim.Adam(network.parameters(), recipe.learning_rate)
        schedule = torch.optim.lr_scheduler.OneCycleLR(adam, recipe.learning_rate, total_steps=recipe.passes * batches)
        for _ in tqdm(range(recipe.passes), desc="feature network", disable=not progress, ascii=True, leave=False):
            for pick in torch.randperm(len(seen_x)).split(recipe.batch_size)[:batches]:
                images, labels = _varied(seen_x[pick], seen_y[pick])
                adam.zero_grad()
                _loss(network(images), labels).backward()
                adam.step()
                schedule.step()
        network.eval()
        with torch.inference_mode():
            pooled = torch.cat([network.pooled(part) for part in seen_x.split(_BATCH)])
            network.centre.copy_(pooled.mean(0))
            # A feature that hardly ever moves would be blown up to the size of the others.
            network.spread.copy_(pooled.std(0).clamp_min(0.05 * pooled.std(0).mean()))
            answers = torch.cat([network(part) for part in new_x.split(_BATCH)])
    facts = {"pictures": len(seen_x), "people": recipe.people - len(set(person[held_out].tolist()))}
    facts |= {"parameters": sum(p.numel() for p in network.parameters()), "cpu_seconds": time.process_time() - start}
    return network, facts | {"held_out": _right(answers, new_y, seen_y)}


@contextmanager
def _one_thread(seed: int) -> Iterator[None]:
    """Sums then do not depend on the number of threads; torch's chance is seeded, and afterwards as it was."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            yield
    finally:
        torch.set_num_threads(threads)


def _pictures(recipe: Recipe, seed: int, progress: bool) -> tuple[Tensor, Tensor, Tensor]:
    """Of each person three pictures, bare, truly masked, masked by rule: float32 [N, 3, 64, 64] in [−1, 1]; their
    `LABELS` [N, 8], NaN where there is none; who it is [N]."""
    images, labels, people = [], [], []
    first = FIRST_IDENTITY + 10_000 * seed
    rules = _rules()
    for start in tqdm(range(0, recipe.people, 16), desc="faces", disable=not progress, ascii=True, leave=False):
        ids = range(first + start, first + min(start + 16, recipe.people))
        out = faceworld.render(ids, ids, SIZE, ("full", "masked", "region"), recipe.supersample, **RANGES)
        full, masked = (to_pixels(getattr(out, name) * 2 - 1) for name in ("full", "masked"))
        params = [sample_warp_params(np.random.default_rng([k, seed]), rules[k % len(rules)]) for k in ids]
        ruled, worn = apply_warps(list(full), list(zip(range(len(ids)), out.landmarks.numpy(), params)))
        where = [k for k, mask in enumerate(worn) if not isinstance(mask, WarpError)]
        ruled, covered = np.stack(ruled)[where], np.zeros((len(where), SIZE, SIZE), bool)
        for region, k in zip(covered, where):
            region[worn[k].slices] = worn[k].alpha >= 0.5
        k, pose, unknown = np.arange(len(ids)), out.pose[:, :2].numpy(), np.full(len(ids), np.nan)
        kinds = [KINDS.index(kind) for kind in out.mask_kind]
        drawn_kinds = [_kind(params[i].template) for i in where]
        true, drawn = (metrics.mask_colour_lab(*pair) for pair in ((masked, out.region[:, 0] >= 0.5), (ruled, covered)))
        for faces, of, labels_of in (  # what is shown, of whom, and its worn, kind, light, L, a, b
            (full, k, np.column_stack([0 * k, *[unknown] * 5])),
            (masked, k, np.column_stack([0 * k + 1, kinds, out.light, true])),
            (ruled, where, np.column_stack([[1] * len(where), drawn_kinds, unknown[where], drawn])),
        ):
            images.append(faces)
            labels.append(np.column_stack([labels_of, pose[of]]))
            people.append(start + k[of])
    y = torch.from_numpy(np.concatenate(labels)).float()
    return to_tensor(np.concatenate(images)), y, torch.from_numpy(np.concatenate(people))


def _kind(template: str) -> int:
    return 0 if template.startswith("surgical") else 1 if template.startswith("cloth") else 2


def _varied(x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    """Half of the pictures mirrored, with their yaw; all of them moved by up to 4 px."""
    mirrored = torch.rand(len(x)) < 0.5
    x, y = torch.where(mirrored[:, None, None, None], x.flip(3), x), y.clone()
    y[mirrored, LABELS.index("yaw")] *= -1
    down, right = torch.randint(0, 9, (2,)).tolist()
    return F.pad(x, (4, 4, 4, 4), "reflect")[..., down : down + SIZE, right : right + SIZE], y


def _loss(answers: Tensor, labels: Tensor) -> Tensor:
    """Cross entropies of what is one of several, squared errors of numbers in `_UNITS`, over what is known: a sum."""
    worn, kind, light, numbers = answers.split((1, 3, 1, 5), 1)
    known = ~labels.isnan()
    y = labels.nan_to_num(0)
    parts = [
        F.binary_cross_entropy_with_logits(worn[:, 0], y[:, 0], reduction="none"),
        F.cross_entropy(kind, y[:, 1].long(), reduction="none"),
        F.binary_cross_entropy_with_logits(light[:, 0], y[:, 2], reduction="none"),
        *(numbers - y[:, 3:] / _UNITS).square().T,
    ]
    return sum((part * here).sum() / here.sum().clamp_min(1) for part, here in zip(parts, known.T))


def _right(answers: Tensor, labels: Tensor, seen: Tensor) -> dict[str, dict]:
    """Of each task: share that is right, or the mean error (colour: ΔE; yaw and pitch: degrees); the same for guessing
    what is most frequent, or the mean, in the training pictures; and the number of pictures behind it."""
    worn, kind, light, numbers = answers.split((1, 3, 1, 5), 1)
    found = {"worn": (worn > 0).float(), "kind": kind.argmax(1, keepdim=True).float(), "light": (light > 0).float()}
    numbers = numbers * _UNITS
    found |= {"colour": numbers[:, :3], "yaw": numbers[:, 3:4], "pitch": numbers[:, 4:]}
    columns = {"worn": [0], "kind": [1], "light": [2], "colour": [3, 4, 5], "yaw": [6], "pitch": [7]}
    table = {}
    for task, column in columns.items():
        known, before = (part[:, column][~part[:, column[0]].isnan()] for part in (labels, seen))
        got = found[task][~labels[:, column[0]].isnan()]
        if task in ("worn", "kind", "light"):
            score = lambda guess: float((guess == known).float().mean())  # noqa: B023, E731
            table[task] = {"share right": score(got), "guessing": score(before.mode(0).values), "pictures": len(known)}
        else:
            score = lambda guess: float((guess - known).norm(dim=1).mean())  # noqa: B023, E731
            table[task] = {"mean error": score(got), "guessing": score(before.mean(0)), "pictures": len(known)}
    return table
