"""The generators that one trainer trains: the paper's, and others to compare it with under the same protocol.

    attentiongan   the paper's (lib.gan.step); on bare faces as set A it is the "direct" AttentionGAN
    cyclegan       Zhu et al. 2017: a plain generator, no attention
    iamgan         CycleGAN, mask-region predictor and identity features, after Geng et al. 2020
    cut            Park et al. 2020: one-sided, PatchNCE; with the non-mask change loss where lambda_nmc is above 0

Each is written from its paper's equations. What a method trains on is not its own affair: without step one set A is
bare faces.
"""

from typing import Protocol

import torch
from torch import nn

from .batches import ALONE, Batch
from .config import TrainConfig
from .method_cut import CUT
from .method_cyclegan import AttentionGAN, CycleGAN
from .method_iamgan import IAMGAN
from .ranks import Ranks

METHODS = {"attentiongan": AttentionGAN, "cyclegan": CycleGAN, "iamgan": IAMGAN, "cut": CUT}


class Method(Protocol):
    """What the trainer needs. Networks have `config` and `from_config`; "net_G_AB" is always one, a `Generator`.

    losses: the values of a step, columns of metrics.csv; "loss_G" first. pools: image pools in the trainer's state.
    """

    losses: tuple[str, ...]
    pools: int
    net_G_AB: nn.Module

    @classmethod
    def make(cls, cfg: TrainConfig) -> dict[str, nn.Module]: ...
    @property
    def networks(self) -> dict[str, nn.Module]: ...
    def step(self, batch: Batch, step: int) -> torch.Tensor: ...
    def trainer_state(self) -> dict[str, torch.Tensor]: ...
    def load_trainer_state(self, tensors: dict[str, torch.Tensor]) -> None: ...


def build(cfg: TrainConfig, device: torch.device | str = "cpu", ranks: Ranks = ALONE) -> Method:
    """The configuration's method, fresh from its seed. Raises ValueError where it cannot share a batch."""
    if ranks.world > 1 and cfg.method in ("iamgan", "cut"):
        raise ValueError(f"method {cfg.method!r} trains in one process only, got {ranks.world}: start one")
    return METHODS[cfg.method](cfg, device, ranks)
