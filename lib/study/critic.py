"""A critic that training never saw: a small network that tells real masked faces from rule-based ones.

It learns from the pictures of sets A and B that no experiment trains on (`experiments.reserved`), and is asked about
held-out faces. An output *passes* when the critic calls it real. The fakes it learns from are of five kinds, as many of
each: rule-based masks; none at all; rule-based ones in the colour of a real one; flat patches of such colours in their
place; and real masks, blurred (σ = S/32 px). With the first alone "not that blue" would be enough, and anything that is
no rule-based mask would pass.

Several critics, from different seeds, because one may hang on an accident; and two kinds, because set A's masks are all
of one blue while set B's are not:

    colour   sees the picture as it is: it may pass or fail a mask for its colour alone
    grey     sees the luma, standardised per picture: shape, shading, folds, edges are all it has

Pictures are brought to 64 or, from 128 px on, 128 px. While learning they are flipped, shifted, scaled, and their
channels weighted a little; half of them are not resampled, so that a little softness is no sign either way.

The recipe is fixed: AdamW, at most 200 passes, a quarter of the pictures set aside, the weights of the pass that loses
least on them, stop 30 passes after it.

    evidence/critics/<kind>-<seed>.safetensors  .json (data's hash, recipe's version, passes, loss set aside)
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor, nn

from lib.data.files import read_json, write_bytes, write_json
from lib.data.images import read_image, resize, to_tensor
from lib.gan import pick_device
from lib.study import metrics
from lib.study.config import StudyError
from lib.study.runs import Study
from lib.study.selection_file import locked
from lib.warp.regions import OUTLINE, non_mask_by_comparison

VERSION = 2  # raise it whenever a change here changes the weights
KINDS = ("colour", "grey")
PASSES, PATIENCE, BATCH = 200, 30, 16
FAKES = 5  # kinds
_LUMA = (0.299, 0.587, 0.114)


class _Network(nn.Module):
    """Four halvings and the mean over what is left: 60,000 weights. Group norm: no picture hangs on its batch."""

    def __init__(self, kind: str):
        super().__init__()
        self.kind, layers, before = kind, [], 3 if kind == "colour" else 1
        for width in (16, 32, 48, 64):
            layers += [nn.Conv2d(before, width, 3, 2, 1), nn.GroupNorm(width // 8, width), nn.ReLU()]
            before = width
        self.layers = nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Dropout(0.2), nn.Linear(64, 1))

    def forward(self, x: Tensor) -> Tensor:
        """float32 [N, 3, S, S] in [−1, 1] → logits [N], above 0: real."""
        if self.kind == "grey":
            x = (x * x.new_tensor(_LUMA).view(1, 3, 1, 1)).sum(1, keepdim=True)
            x = (x - x.mean((2, 3), keepdim=True)) / (x.std((2, 3), keepdim=True) + 1e-3)
        return self.layers(x)[:, 0]


@dataclass(frozen=True, eq=False)
class Critic:
    """A trained critic. facts: what its JSON file holds."""

    network: _Network
    facts: dict

    def calls_real(self, images: np.ndarray) -> np.ndarray:
        """Whether it takes each picture for real: uint8 [N, H, W, 3] → bool [N]."""
        with torch.inference_mode():
            parts = [self.network(part.to(_device(self.network))) for part in _tensor(images).split(128)]
        return (torch.cat(parts) > 0).cpu().numpy()


def _device(network: nn.Module) -> torch.device:
    return next(network.parameters()).device


def _tensor(images: np.ndarray) -> Tensor:
    size = 128 if images.shape[1] >= 128 else 64
    return to_tensor(images if images.shape[1] == size else np.stack([resize(image, size) for image in images]))


class LearningSet(NamedTuple):
    """What critics learn from, uint8 [N, S, S, 3] each: rule-based pictures, the bare faces under them, real ones."""

    rule: np.ndarray
    bare: np.ndarray
    real: np.ndarray


def learning_set(study: Study) -> LearningSet:
    """The reserved pictures. Raises StudyError when the sets have not been prepared, or leave fewer than two."""
    from lib.study.experiments import reserved  # it measures with what is measured here

    names_A, names_B = reserved(study)
    if min(len(names_A), len(names_B)) < 2:
        raise StudyError(f"{study.name}: too few pictures for a critic: {len(names_A)} and {len(names_B)} are reserved")
    places = (("A/rule", names_A), ("A/full", names_A), ("B/images", names_B))
    read = lambda folder, names: np.stack([read_image(study.data_dir / folder / n).pixels for n in names])  # noqa: E731
    return LearningSet(*(read(*place) for place in places))


def load_critic(study: Study, seed: int, kind: str = "colour", pictures: LearningSet | None = None) -> Critic:
    """A study's critic of this seed and kind, trained where it is not there or its pictures are others now.

    pictures: from `learning_set`, where it has been read already. Processes that ask at once wait for one to train it.
    """
    pictures = pictures or learning_set(study)
    digest = hashlib.sha256(f"{VERSION} {kind} {seed} {[side.shape for side in pictures]}".encode())
    for side in pictures:
        digest.update(np.ascontiguousarray(side))
    path, key = study.root / "evidence" / "critics" / f"{kind}-{seed}.json", digest.hexdigest()[:16]
    with locked(path):
        if (found := _read(path, kind, key)) is None:
            network, facts = train(pictures, seed, kind)
            write_bytes(path.with_suffix(".safetensors"), save({k: v.cpu() for k, v in network.state_dict().items()}))
            write_json(path, {"key": key, "kind": kind, "seed": seed, **facts})  # last: it says that both are there
            found = Critic(network, read_json(path))
    return found


def _read(path: Path, kind: str, key: str) -> Critic | None:
    try:
        facts, network = read_json(path), _Network(kind)
        if facts["key"] != key:
            return None
        network.load_state_dict(load(path.with_suffix(".safetensors").read_bytes()))
    except (OSError, ValueError, KeyError, RuntimeError, SafetensorError):  # not there, damaged: made anew
        return None
    return Critic(network.eval(), facts)


def fakes(pictures: LearningSet, rng: np.random.Generator) -> list[np.ndarray]:
    """The five kinds, uint8 [N, S, S, 3] each: on the same faces rule-based, none, recoloured, flat; blurred real ones.

    Where a real mask lies is not known: its colour and its blur are taken where nine in ten rule-based masks lie.
    """
    rule, bare, real = pictures
    outside = np.stack([non_mask_by_comparison(*pair, coverage=OUTLINE) for pair in zip(bare, rule)])
    core = metrics.core_region(~outside)
    wanted = rng.choice(real[:, core].mean(1), len(rule))[:, None, None]
    recoloured = (rule + wanted - rule[:, core].mean(1)[:, None, None]).clip(0, 255)
    painted = [metrics.composited(bare, mask, outside) for mask in (recoloured, np.broadcast_to(wanted, rule.shape))]
    return [rule, bare, *painted, blurred_masks(real, np.broadcast_to(core, real.shape[:3]))]


def blurred_masks(images: np.ndarray, region: np.ndarray) -> np.ndarray:
    """Pictures, uint8 [N, S, S, 3], blurred by σ = S/32 px in a region of each, bool [N, S, S], with a soft border."""
    return metrics.composited(images, metrics.blurred(images, images.shape[1] / 32), ~region)


def train(pictures: LearningSet, seed: int, kind: str) -> tuple[_Network, dict]:
    """One critic by the fixed recipe, and facts about it. Real and fake weigh the same, whatever their counts."""
    rng = np.random.default_rng([seed, KINDS.index(kind)])
    sides, device = [*fakes(pictures, rng), pictures.real], pick_device("auto")
    of_A, of_B = (rng.permutation(len(side)) for side in (pictures.bare, pictures.real))  # a face is aside in all kinds
    starts = np.cumsum([0, *map(len, sides)])
    orders = [order + start for order, start in zip((*[of_A] * (FAKES - 1), of_B, of_B), starts)]
    aside = [order[: max(1, len(order) // 4)] for order in orders]
    learned = [order[len(held) :] for order, held in zip(orders, aside)]
    each = -(-min(map(len, learned)) // FAKES)
    taken = (*[each] * FAKES, FAKES * each)  # of each side in a pass, as far as there are so many
    x = torch.cat([_tensor(side) for side in sides]).to(device)
    y = (torch.arange(len(x), device=device) >= len(x) - len(pictures.real)).float()
    noise = torch.Generator().manual_seed(seed)

    def loss_aside() -> float:
        network.eval()
        with torch.inference_mode():
            losses = [F.binary_cross_entropy_with_logits(network(x[side]), y[side]) for side in aside]
        return float(sum(losses[:-1]) / FAKES + losses[-1])

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network, least, best, at = _Network(kind).to(device), np.inf, {}, 0
        optimiser = torch.optim.AdamW(network.parameters(), lr=2e-3, weight_decay=1e-2)
        for epoch in range(PASSES):
            network.train()
            order = rng.permutation(np.concatenate([rng.permutation(side)[:n] for side, n in zip(learned, taken)]))
            for picks in np.array_split(order, -(-len(order) // BATCH)):
                optimiser.zero_grad()
                F.binary_cross_entropy_with_logits(network(_jitter(x[picks], noise)), y[picks]).backward()
                optimiser.step()
            if (loss := loss_aside()) < least:
                least, at, best = loss, epoch, {k: v.detach().clone() for k, v in network.state_dict().items()}
            if epoch - at == PATIENCE:
                break
    network.load_state_dict(best)
    counts = [len(side) for side in pictures]
    return network.eval(), {"version": VERSION, "passes": at + 1, "loss_aside": least, "pictures": counts}


def _jitter(x: Tensor, noise: torch.Generator) -> Tensor:
    """Flips; channels weighted by 0.9 to 1.1 and the whole shifted by 0.05; half of them scaled by 0.85 to 1.15 and
    moved by up to a twentieth."""
    n = len(x)
    u = (torch.rand(n, 9, generator=noise) * 2 - 1).to(x.device)
    x = torch.where(u[:, 0, None, None, None] > 0, x.flip(3), x)
    gain, shift = 1 + 0.1 * u[:, 1:4, None, None], 0.05 * u[:, 4, None, None, None]
    x = ((x + 1) * gain - 1 + shift).clamp(-1, 1)
    scale, zero = 1 + 0.15 * u[:, 5], torch.zeros(n, device=x.device)
    rows = [torch.stack([scale, zero, 0.1 * u[:, 6]], 1), torch.stack([zero, scale, 0.1 * u[:, 7]], 1)]
    grid = F.affine_grid(torch.stack(rows, 1), list(x.shape), align_corners=False)
    moved = F.grid_sample(x, grid, padding_mode="reflection", align_corners=False)
    return torch.where(u[:, 8, None, None, None] > 0, moved, x)
