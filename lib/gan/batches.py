"""Training images in memory or on disk, and the batch that belongs to a step.

A batch is a function of (configuration, data, step) alone: order and flips come from generators seeded by what they
are for. Nothing has to be remembered between steps, so a resumed run sees exactly the batches it would have seen.
"""

from dataclasses import dataclass, replace
from functools import lru_cache
from typing import NamedTuple

import numpy as np
import torch

from .config import TrainConfig, stable_seed
from .ranks import Ranks

Images = np.ndarray | torch.Tensor
ALONE = Ranks()
RESIDENT_SHARE = 0.25  # of the device's free memory; not given in the paper; chosen to leave the step its room


@dataclass
class TrainData:
    """The two unpaired sets of a stage, all of one size S.

    A: uint8 [N_A, 3, S, S], rule-based masks (source). B: uint8 [N_B, 3, S, S], real masks (target).
    non_mask: bool or 0/1 uint8 [N_A, 1, S, S], True where A's image of the same index may not change; None without NMC.
    samples: uint8 [K, 3, S, S], pictures translated after every epoch; samples_non_mask: [K, 1, S, S] for them.
    Each is an array, a memory map or a tensor.
    """

    A: Images
    B: Images
    non_mask: Images | None = None
    samples: Images | None = None
    samples_non_mask: Images | None = None

    def check(self, cfg: TrainConfig) -> None:
        """ValueError naming the part whose shape or type the configuration cannot be trained on."""
        size = cfg.size
        parts = {"A": (3, "uint8"), "B": (3, "uint8"), "samples": (3, "uint8")}
        parts |= {"non_mask": (1, "bool or uint8"), "samples_non_mask": (1, "bool or uint8")}
        for name, (channels, kind) in parts.items():
            images = getattr(self, name)
            if images is None and name not in ("A", "B"):
                continue
            if not (hasattr(images, "shape") and hasattr(images, "dtype")):
                got = "None" if images is None else f"a {type(images).__name__}"
                raise ValueError(f"TrainData.{name}: expected {kind} [N, {channels}, {size}, {size}], got {got}")
            shape, dtype = tuple(images.shape), str(images.dtype).removeprefix("torch.")
            if len(shape) != 4 or shape[1:] != (channels, size, size) or dtype not in kind.split(" or "):
                raise ValueError(
                    f"TrainData.{name}: expected {kind} [N, {channels}, {size}, {size}], got {dtype} {list(shape)}"
                )
        for name in ("A", "B"):
            count = len(getattr(self, name))
            if count < 2:
                # One image is a mistake upstream: with nothing to tell it apart from, the networks learn it by heart.
                got = "no images" if count == 0 else "1 image"
                raise ValueError(f"TrainData.{name}: {got}, expected at least 2; check what was filtered out before")
        if self.samples is not None and len(self.samples) == 0:
            raise ValueError("TrainData.samples: no images; give None for a stage without a sample strip")
        for name, of in (("non_mask", "A"), ("samples_non_mask", "samples")):
            masks, images = getattr(self, name), getattr(self, of)
            if masks is not None and (images is None or len(masks) != len(images)):
                raise ValueError(f"TrainData.{name}: expected one per image of {of}, got {len(masks)}")
        for name in ("lambda_nmc", "lambda_attention"):
            if getattr(cfg, name) > 0 and self.non_mask is None:
                raise ValueError(
                    f"{name} is {getattr(cfg, name)} but TrainData.non_mask is None: compute the tensors first"
                )


def resident(data: TrainData, device: torch.device) -> TrainData:
    """The training images as uint8 on a CUDA device where they fit (the samples stay), else data as it is.

    What does not fit is read from its memory map batch by batch: the system keeps and drops pages as it sees fit, so
    a large set needs no more memory than a small one.
    """
    if device.type != "cuda":
        return data
    parts = {name: getattr(data, name) for name in ("A", "B", "non_mask") if getattr(data, name) is not None}
    if sum(part.nbytes for part in parts.values()) > RESIDENT_SHARE * torch.cuda.mem_get_info(device)[0]:
        return data
    return replace(data, **{name: _upload(part, device) for name, part in parts.items()})


def _upload(images: Images, device: torch.device, rows: int = 1024) -> torch.Tensor:
    whole = torch.empty(tuple(images.shape), dtype=torch.uint8, device=device)
    for start in range(0, len(images), rows):
        part = images[start : start + rows]
        whole[start : start + rows] = torch.as_tensor(part if isinstance(part, torch.Tensor) else np.array(part))
    return whole


class Batch(NamedTuple):
    """One step's input: images float32 [B, 3, S, S] in [−1, 1]; non_mask bool [B, 1, S, S] or None."""

    real_A: torch.Tensor
    real_B: torch.Tensor
    non_mask: torch.Tensor | None


def make_batch(
    cfg: TrainConfig, data: TrainData, step: int, device: torch.device | str = "cpu", ranks: Ranks = ALONE
) -> Batch:
    """The batch of a step (counted from 0 within the stage); of several ranks, this one's share of it.

    Either set is an endless chain of its own permutations of all images, cut into batches: the larger set is seen once
    per pass, the smaller comes round more often, and with steps_per_epoch below a full pass none is left out for long.
    """
    rng = np.random.default_rng(stable_seed(cfg.seed, cfg.stage, "flip", step))
    flips = rng.random((2, cfg.batch_size)) < (0.5 if cfg.flip else 0)
    pick_A = draw_order(len(data.A), step * cfg.batch_size, cfg.batch_size, cfg.seed, cfg.stage, "order_A")
    pick_B = draw_order(len(data.B), step * cfg.batch_size, cfg.batch_size, cfg.seed, cfg.stage, "order_B")
    mine = ranks.part(cfg.batch_size)
    flips, pick_A, pick_B = flips[:, mine], pick_A[mine], pick_B[mine]
    non_mask = None
    if data.non_mask is not None:
        non_mask = flip_where(take(data.non_mask, pick_A, device), flips[0]).bool()
    return Batch(
        to_float(flip_where(take(data.A, pick_A, device), flips[0])),
        to_float(flip_where(take(data.B, pick_B, device), flips[1])),
        non_mask,
    )


def draw_order(count: int, start: int, length: int, *purpose: str | int) -> np.ndarray:
    """Indices start … start + length of an endless chain of permutations of range(count), one seed per permutation."""
    positions = np.arange(start, start + length)
    return np.array([_permutation(count, stable_seed(*purpose, int(p // count)))[p % count] for p in positions])


@lru_cache(maxsize=8)
def _permutation(count: int, seed: int) -> np.ndarray:
    return np.random.default_rng(seed).permutation(count)


def take(images: Images, picks: np.ndarray, device: torch.device | str) -> torch.Tensor:
    """images[picks] as a new tensor on the device, type unchanged."""
    if isinstance(images, torch.Tensor):
        return images[torch.as_tensor(picks, device=images.device)].to(device)
    return torch.from_numpy(np.array(images[picks])).to(device)


def flip_where(images: torch.Tensor, flips: np.ndarray) -> torch.Tensor:
    """Mirror left and right those of [B, C, H, W] for which flips [B] is True."""
    chosen = torch.from_numpy(flips).to(images.device, non_blocking=True)
    return torch.where(chosen[:, None, None, None], images.flip(-1), images)


def to_float(images: torch.Tensor) -> torch.Tensor:
    """uint8 [B, 3, H, W] → float32 in [−1, 1]."""
    return images.float() / 127.5 - 1
