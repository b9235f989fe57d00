"""A small face recogniser, and how well it tells a masked face's person from others: verification of pairs.

A convolutional network gives a unit vector for a picture; it learns its people by CosFace (Wang et al. 2018: a softmax
over cosines, from which the right one has to stand out by a margin). Two pictures show one person where their cosine is
above a threshold. Measured is a face without a mask against one with a mask: the area under the ROC curve, and the
share of true pairs accepted where a given share of false ones is (TAR@FAR).

Pictures are taken as they are, resized to a square: they are not aligned by landmarks, which a mask hides.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from tqdm import tqdm

from lib.data import faceworld
from lib.data.images import ImageError, read_image, resize
from lib.data.pairs import read_pairs
from lib.study.config import StudyError
from lib.study.sources import CMFD_POSE
from lib.study.truths import WORN

CHANNELS = (32, 48, 64, 96)  # of blocks that halve the picture
EMBEDDING = 64
SCALE, MARGIN = 16.0, 0.2  # of CosFace: the paper's 64 and 0.35 are for 10,000 people and did worse on a few hundred
FARS = (1e-2, 1e-3)
EXAMPLES = {"mfr2": "mfr2/Name/Name_0001.png", "mlfw": "aligned/Name_0001_0000.jpg"}  # where pictures of a set lie
LEAST_FALSE = 10  # false pairs that must be accepted at a FAR for its TAR to be told


@dataclass(frozen=True, eq=False)
class People:
    """N pictures of some people: bare and truly masked uint8 [N, S, S, 3], the very same shots; landmarks float32
    [N, 68, 2] px; identity int64 [N]."""

    bare: np.ndarray
    worn: np.ndarray
    landmarks: np.ndarray
    identity: np.ndarray


def render_people(first: int, people: int, pictures: int, size: int, supersample: float, progress: bool) -> People:
    """Render people `first` … of the face world, some pictures each: poses and masks as in the study's held-out faces.

    About 0.04 s a picture of 64² on one core with supersample 1, 0.09 s with 2.
    """
    ids, parts = np.repeat(np.arange(first, first + people), pictures), []
    what, shots = ("full", "masked"), first * pictures + np.arange(len(ids))
    for start in tqdm(range(0, len(ids), 16), desc="people", disable=not progress, ascii=True, leave=False):
        one = slice(start, start + 16)
        out = faceworld.render(ids[one], shots[one], size, what, supersample, **CMFD_POSE | WORN)
        parts.append([_bytes(out.full), _bytes(out.masked), out.landmarks.float().numpy()])
    return People(*map(np.concatenate, zip(*parts)), ids)


def _bytes(pictures: Tensor) -> np.ndarray:
    return (pictures.permute(0, 2, 3, 1).clamp(0, 1) * 255).round().to(torch.uint8).numpy()


class Recogniser(nn.Module):
    """The network, and the directions of the people it is trained on. size: side of its pictures, px, a multiple
    of 16."""

    def __init__(self, people: int, size: int) -> None:
        super().__init__()
        layers, before = [], 3
        for width in CHANNELS:
            layers += [nn.Conv2d(before, width, 3, 2, 1, bias=False), nn.BatchNorm2d(width), nn.ReLU()]
            before = width
        # Not the mean over places: what lies where tells faces apart, and lets a network look above the mask.
        layers += [nn.AdaptiveAvgPool2d(4), nn.Flatten(), nn.Dropout(0.2), nn.Linear(16 * before, EMBEDDING)]
        self.layers, self.size = nn.Sequential(*layers), size
        self.people = nn.Parameter(torch.randn(people, EMBEDDING))

    def forward(self, x: Tensor) -> Tensor:
        """float32 [N, 3, S, S] in [−1, 1] → unit vectors [N, D]."""
        return F.normalize(self.layers(x))

    def loss(self, images: Tensor, targets: Sequence[dict]) -> Tensor:
        """Of a batch: images uint8 [B, 3, S, S]; targets with "person", from 0 to the number of people."""
        person = torch.tensor([target["person"] for target in targets], device=images.device)
        cosines = self(_varied(images.float() / 127.5 - 1)) @ F.normalize(self.people).T
        right = F.one_hot(person, len(self.people))
        return F.cross_entropy(SCALE * (cosines - MARGIN * right), person)

    def embed(self, images: np.ndarray) -> np.ndarray:
        """Unit vectors of pictures: uint8 [N, S, S, 3] → float32 [N, D]. A picture and its mirror image, averaged."""
        self.eval()
        device, found = self.people.device, []
        with torch.inference_mode():
            for part in torch.from_numpy(images).split(256):
                x = part.to(device).permute(0, 3, 1, 2).float() / 127.5 - 1
                found.append(F.normalize(self(x) + self(x.flip(3))).cpu())
        return torch.cat(found).numpy()


def _varied(x: Tensor) -> Tensor:
    """Half of the pictures mirrored, channels weighted by 0.9 to 1.1, all moved by up to a sixteenth."""
    n, size = len(x), x.shape[2]
    x = torch.where((torch.rand(n, device=x.device) < 0.5)[:, None, None, None], x.flip(3), x)
    x = ((x + 1) * (0.9 + 0.2 * torch.rand(n, 3, 1, 1, device=x.device)) - 1).clamp(-1, 1)
    reach = size // 16
    down, right = torch.randint(0, 2 * reach + 1, (2,)).tolist()
    return F.pad(x, (reach,) * 4, "reflect")[..., down : down + size, right : right + size]


@dataclass(frozen=True, eq=False)
class Pairs:
    """P pairs of pictures: their places in the two stacks, whether they show one person, and who is on each."""

    first: np.ndarray
    second: np.ndarray
    same: np.ndarray
    people: np.ndarray  # int [P, 2]; −1 unknown


def all_pairs(identity: np.ndarray) -> Pairs:
    """Every picture without a mask with every one with, int [N] people; but not the same shot twice, which would be
    one head in one light."""
    first, second = np.nonzero(~np.eye(len(identity), dtype=bool))
    people = np.column_stack([identity[first], identity[second]])
    return Pairs(first, second, people[:, 0] == people[:, 1], people)


def named_pairs(kind: str, root: Path | str, path: Path | str, size: int) -> tuple[np.ndarray, Pairs, int]:
    """Pictures and pairs of a set the user has: uint8 [N, S, S, 3], `Pairs` of places in it, and how many pairs cannot
    be used (a missing or unreadable picture, a contradiction).

    kind, path: as `lib.data.pairs.read_pairs` takes them. People are told by the folder or the name of a picture.
    Raises StudyError where no pair can be used or all are of one kind.
    """
    table, places, images = read_pairs(path, root, kind), {}, []
    for name in pd.unique(table.loc[table["reason"] == "", ["image1", "image2"]].to_numpy().ravel()):
        try:
            images.append(resize(read_image(Path(root) / name).pixels, size))
            places[name] = len(images) - 1
        except ImageError:
            continue
    good = table["image1"].isin(list(places)) & table["image2"].isin(list(places)) & (table["reason"] == "")
    used = table[good]
    if used["same"].nunique() < 2:
        lost = [f" ({row.image1}, {row.image2}: {row.reason or 'unreadable'})" for row in table[~good].itertuples()]
        raise StudyError(
            f"{path}: {len(used)} of {len(table)} pairs can be used, of both kinds there must be some; pictures of "
            f"{kind.upper()} are looked for as {root}/{EXAMPLES[kind]}{''.join(lost[:1])}"
        )
    # Name_0001, Name_0001_0000: what stands before the numbers.
    who = [used[c].map(lambda name: Path(name).stem.rstrip("0123456789_")) for c in ("image1", "image2")]
    codes, _ = pd.factorize(pd.concat(who))
    first, second = (used[c].map(places).to_numpy() for c in ("image1", "image2"))
    people = codes.reshape(2, -1).T
    return np.stack(images), Pairs(first, second, used["same"].to_numpy(), people), len(table) - len(used)


def verification(scores: np.ndarray, pairs: Pairs, draws: int = 500) -> tuple[dict, pd.DataFrame, pd.DataFrame]:
    """How well scores [P] tell pairs of one person from others.

    Returns:
        The values: "auc", and "tar_0.01", … as far as the false pairs suffice (`LEAST_FALSE`).
        The same of `draws` bootstrap samples of the people, a row each: a pair counts as often as both of its people
        were drawn (a true one as often as its person). One set of people gives the same samples in every call.
        The ROC curve: far, tar.
    """
    codes, people = np.unique(pairs.people, return_inverse=True)
    people = people.reshape(-1, 2)
    levels = [far for far in FARS if far * (~pairs.same).sum() >= LEAST_FALSE]
    _, place = np.unique(-scores, return_inverse=True)  # from the highest score down, ties together
    values, curve = _measures(place, pairs.same, np.ones(len(scores)), levels)
    rng, rows = np.random.default_rng(len(codes)), []
    for _ in range(draws):
        drawn = rng.multinomial(len(codes), np.full(len(codes), 1 / len(codes)))[people]
        weights = np.where(people[:, 0] == people[:, 1], drawn[:, 0], drawn.prod(1))
        rows.append(_measures(place, pairs.same, weights, levels)[0])
    return values, pd.DataFrame(rows), curve


def _measures(place: np.ndarray, same: np.ndarray, weights: np.ndarray, levels: Sequence[float]):
    tar, far = (np.concatenate([[0.0], np.bincount(place, weights * kind).cumsum()]) for kind in (same, ~same))
    if not (tar[-1] and far[-1]):
        return dict.fromkeys(["auc", *(f"tar_{level:g}" for level in levels)], np.nan), None
    tar, far = tar / tar[-1], far / far[-1]
    found = {"auc": float(np.trapezoid(tar, far))}
    found |= {f"tar_{level:g}": float(tar[np.searchsorted(far, level + 1e-12, side="right") - 1]) for level in levels}
    return found, pd.DataFrame({"far": far, "tar": tar})
