"""Methods with two generators and a cycle: the paper's AttentionGAN, and CycleGAN (Zhu et al. 2017, arXiv 1703.10593).

Their losses are the same ones (CycleGAN eq. 3 and §5.2; AttentionGAN took them over): least-squares adversarial losses,
the cycle, the identity. They differ in the generator: CycleGAN's draws the whole picture anew, so that nothing but the
cycle and identity losses holds what is no mask.
"""

import torch

from .batches import ALONE, Batch
from .config import TrainConfig
from .method_parts import PlainGenerator
from .ranks import Ranks
from .step import Model, losses_of, train_step


class AttentionGAN(Model):
    """The paper's method: `step.Model` and `step.train_step`."""

    pools = 2

    def __init__(self, cfg: TrainConfig, device: torch.device | str = "cpu", ranks: Ranks = ALONE) -> None:
        super().__init__(cfg, device, ranks)
        self.cfg, self.losses = cfg, losses_of(cfg)

    def step(self, batch: Batch, step: int) -> torch.Tensor:
        """One step; values of `losses` on the device, NaN for those not computed."""
        return train_step(self, batch, self.cfg, step)


class CycleGAN(AttentionGAN):
    """The same with CycleGAN's generator."""

    generator = PlainGenerator
