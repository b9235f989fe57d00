"""CUT: contrastive unpaired translation (Park et al. 2020, arXiv 2007.15651), with the non-mask change loss if asked.

One direction only: one generator, one discriminator, no cycle. What holds the picture together is PatchNCE: a place of
the output must look, in the generator's own encoder, more like the same place of the input than like other places.

    loss_G = adversarial + λ_X · PatchNCE(real_A, G(real_A)) + λ_Y · PatchNCE(real_B, G(real_B)) + lambda_nmc · NMC

lambda_A, lambda_B, identity_ratio and pool_size of the configuration mean nothing here.
"""

import math

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from .batches import ALONE, Batch
from .config import TrainConfig, stable_seed
from .losses import adversarial_d, adversarial_g, non_mask_change
from .method_parts import PatchProjection, PlainGenerator
from .networks import Discriminator
from .pool import ImagePool
from .ranks import Ranks
from .step import Model, adam, autocast, frozen, start

LAMBDA_X = LAMBDA_Y = 1.0  # CUT, §4
TAU = 0.07  # CUT, §3
PLACES = 256  # of each level and step: CUT, appendix


def patch_nce(query: torch.Tensor, key: torch.Tensor, tau: float = TAU) -> torch.Tensor:
    """PatchNCE of one level (CUT, eq. 3 and 4): query and key, unit vectors [B, S, C] of the same S places.

    A query's positive is the key of its own place, its negatives are those of the S − 1 other places of the same
    picture. Mean cross-entropy over places and pictures; the paper sums, the mean depends on no count.
    """
    scores = query @ key.transpose(1, 2) / tau
    own = torch.arange(scores.shape[1], device=scores.device).expand(len(scores), -1)
    return F.cross_entropy(scores.flatten(0, 1), own.flatten())


class CUT(Model):
    """Generator, projections and discriminator with an optimiser each; of `Model` only the keeping of their state."""

    losses: tuple[str, ...] = (
        *("loss_G", "loss_G_adv_AB", "loss_nce_A", "loss_nce_B", "loss_nmc"),
        *("loss_D_B", "score_D_B_real", "score_D_B_fake"),
    )
    pools = 0  # CUT's discriminator sees the newest fakes only

    def __init__(self, cfg: TrainConfig, device: torch.device | str = "cpu", ranks: Ranks = ALONE) -> None:
        self.cfg, self.ranks = cfg, ranks
        self.net_G_AB, self.net_F, self.net_D_B = (start(n, net, cfg, device) for n, net in self.make(cfg).items())
        self.opt_G, self.opt_F, self.opt_D = (adam(net.parameters(), cfg) for net in self.networks.values())
        self.trained = {"opt_G": ("net_G_AB",), "opt_F": ("net_F",), "opt_D": ("net_D_B",)}
        self.pool_A = self.pool_B = ImagePool(0)

    @classmethod
    def make(cls, cfg: TrainConfig) -> dict[str, nn.Module]:
        """The method's networks by name, with whatever weights torch gives them."""
        net_G = PlainGenerator(cfg.ngf, cfg.n_blocks, cfg.noise, cfg.upsampling)
        return {"net_G_AB": net_G, "net_F": PatchProjection(net_G.level_channels), "net_D_B": Discriminator(cfg.ndf)}

    @property
    def networks(self) -> dict[str, nn.Module]:
        """The three networks by name."""
        return {name: getattr(self, name) for name in ("net_G_AB", "net_F", "net_D_B")}

    def step(self, batch: Batch, step: int) -> torch.Tensor:
        """One step; values of `losses` on the device, NaN for those not computed."""
        cfg, device = self.cfg, batch.real_A.device
        with frozen(self.net_D_B):
            with autocast(cfg, device):
                losses, fake_B = self.generator_losses(batch, step)
            _update(losses["loss_G"], self.opt_G, self.opt_F)
        with autocast(cfg, device):
            seen = torch.cat([batch.real_B, fake_B.detach()])
            score_real, score_fake = self.net_D_B(seen).split([len(batch.real_B), len(fake_B)])
        losses["loss_D_B"] = adversarial_d(score_real, score_fake)
        losses["score_D_B_real"], losses["score_D_B_fake"] = score_real.mean(), score_fake.mean()
        _update(losses["loss_D_B"], self.opt_D)
        missing = fake_B.new_tensor(math.nan)
        return torch.stack([losses.get(name, missing).detach() for name in self.losses])

    def generator_losses(self, batch: Batch, step: int) -> tuple[dict[str, torch.Tensor], torch.Tensor]:
        """Losses of generator and projections (loss_G is their weighted sum), and fake_B. Both sets pass together."""
        cfg, (real_A, real_B, non_mask) = self.cfg, batch
        device, n = real_A.device, len(real_A)
        noise = torch.Generator(device).manual_seed(stable_seed(cfg.seed, cfg.stage, "noise", step))
        real = torch.cat([real_A, real_B])
        fake = self.net_G_AB(real, noise)
        # Keys pass no gradient on, as in the contrastive learning CUT builds on: the output moves towards the input.
        with torch.no_grad():
            of_real = self.net_G_AB.levels(real)
        places = self._places(of_real, step)
        with torch.no_grad():
            keys = self.net_F(of_real, places)
        pairs = list(zip(self.net_F(self.net_G_AB.levels(fake), places), keys))
        losses = {
            "loss_G_adv_AB": adversarial_g(self.net_D_B(fake[:n])),
            "loss_nce_A": torch.stack([patch_nce(query[:n], key[:n]) for query, key in pairs]).mean(),
            "loss_nce_B": torch.stack([patch_nce(query[n:], key[n:]) for query, key in pairs]).mean(),
        }
        loss_G = losses["loss_G_adv_AB"] + LAMBDA_X * losses["loss_nce_A"] + LAMBDA_Y * losses["loss_nce_B"]
        if non_mask is not None:
            losses["loss_nmc"] = non_mask_change(real_A, fake[:n], non_mask, cfg.nmc_norm)
            if cfg.lambda_nmc > 0:
                loss_G = loss_G + cfg.lambda_nmc * losses["loss_nmc"]
        return {"loss_G": loss_G, **losses}, fake[:n]

    def _places(self, levels: list[torch.Tensor], step: int) -> list[torch.Tensor]:
        """Up to `PLACES` places of each level, the same for input and output."""
        rng = np.random.default_rng(stable_seed(self.cfg.seed, self.cfg.stage, "places", step))
        counts = [level.shape[2] * level.shape[3] for level in levels]
        picks = [rng.choice(count, min(PLACES, count), replace=False) for count in counts]
        return [torch.from_numpy(pick).to(levels[0].device) for pick in picks]


def _update(loss: torch.Tensor, *optimisers: torch.optim.Optimizer) -> None:
    for optimiser in optimisers:
        optimiser.zero_grad(set_to_none=True)
    loss.backward()
    for optimiser in optimisers:
        optimiser.step()
