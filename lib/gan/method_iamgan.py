"""An IAMGAN-style method (Geng et al. 2020, as the paper's §2 and §5.2 sum it up; no code of it is public).

CycleGAN and an identity preserving module: a predictor says where the masked one of two pictures (input and output)
shows a mask; that region is taken out of both; a net that knows who is who compares the rest at several levels. In both
directions. IAMGAN trained predictor and identity net on annotated masks and named people; here both learn beside the
generators, from the training sets alone:

    net_region    real_A with the masked half of a face pasted in: a shape of the lower face filled from real_B. Of a
                  second picture, real_A filled from its own mirror image, nothing is mask: a seam is no sign of one.
    net_identity  every picture of set A is somebody (in the face world that is so; a data set's second picture of a
                  person would be taken for another's). Two views of it, flipped, moved, lit otherwise and with a shape
                  of the lower face taken out, must be more alike than views of those of the last steps.

Neither is ever shown an output: they cannot be talked round.
"""

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from .batches import ALONE, Batch, flip_where
from .config import TrainConfig, stable_seed
from .method_cyclegan import CycleGAN
from .method_parts import IdentityNet, RegionNet
from .networks import NoiseSource
from .ranks import Ranks
from .step import GENERATORS, LossesOf, adam, autocast, frozen, generator_losses

# None of these is given in the paper.
LAMBDA_IP = 10.0  # chosen as the cycle's
TEACH_LR = 1e-3  # chosen because the small nets must be of use after some hundred steps
TAU = 0.1  # chosen as contrastive learning commonly has it
BANK = 64  # vectors of past steps; chosen below the size of the smallest set, so that few are of the same picture


class IAMGAN(CycleGAN):
    """CycleGAN's four networks, predictor and identity net."""

    def __init__(self, cfg: TrainConfig, device: torch.device | str = "cpu", ranks: Ranks = ALONE) -> None:
        super().__init__(cfg, device, ranks)
        self.losses += ("loss_ip_A", "loss_ip_B", "loss_region", "loss_identity_net")
        self.opt_region = adam(self.net_region.parameters(), cfg, TEACH_LR)
        self.opt_identity = adam(self.net_identity.parameters(), cfg, TEACH_LR)
        self.trained |= {"opt_region": ("net_region",), "opt_identity": ("net_identity",)}
        self.bank = torch.empty(0, self.net_identity.size, device=device)
        self.losses_G = ranks.share(LossesOf(_generator_losses, self, GENERATORS), device)
        self.preserved: dict[str, torch.Tensor] = {}  # values of the step that `train_step` does not pass on

    @classmethod
    def make(cls, cfg: TrainConfig) -> dict[str, nn.Module]:
        """The method's networks by name, with whatever weights torch gives them."""
        return super().make(cfg) | {"net_region": RegionNet(cfg.ndf), "net_identity": IdentityNet(cfg.ndf)}

    @property
    def networks(self) -> dict[str, nn.Module]:
        """All networks by name."""
        return super().networks | {name: getattr(self, name) for name in ("net_region", "net_identity")}

    def trainer_state(self) -> dict[str, torch.Tensor]:
        """Optimisers, pools and bank as flat tensors."""
        return super().trainer_state() | {"bank": self.bank}

    def load_trainer_state(self, tensors: dict[str, torch.Tensor]) -> None:
        """Inverse of `trainer_state`; tensors lie on the model's device."""
        super().load_trainer_state(tensors)
        self.bank = tensors["bank"].clone()

    def step(self, batch: Batch, step: int) -> torch.Tensor:
        """One step of all six networks; values of `losses` on the device, NaN for those not computed."""
        values = super().step(batch, step)
        taught = self._teach(batch, np.random.default_rng(stable_seed(self.cfg.seed, self.cfg.stage, "teach", step)))
        return torch.cat([values, torch.stack([v.detach() for v in (*self.preserved.values(), *taught)])])

    def _teach(self, batch: Batch, rng: np.random.Generator) -> tuple[torch.Tensor, torch.Tensor]:
        """A step of predictor and identity net on real pictures."""
        real_A, device = batch.real_A, batch.real_A.device
        with autocast(self.cfg, device):
            images, region = pasted(real_A, batch.real_B, rng)
            loss_region = F.binary_cross_entropy_with_logits(self.net_region(images), region)
            one, two = (self.net_identity(_view(real_A, rng))[-1] for _ in range(2))
            loss_identity = instance_loss(one, two, self.bank)
        for optimiser, loss in ((self.opt_region, loss_region), (self.opt_identity, loss_identity)):
            optimiser.zero_grad(set_to_none=True)
            loss.backward()
            optimiser.step()
        self.bank = torch.cat([self.bank, two.detach()])[-BANK:]
        return loss_region, loss_identity


def _generator_losses(
    model: IAMGAN, batch: Batch, cfg: TrainConfig, noise: NoiseSource | None = None
) -> tuple[dict[str, torch.Tensor], torch.Tensor, torch.Tensor]:
    losses, fake_A, fake_B = generator_losses(model, batch, cfg, noise)
    with frozen(model.net_region, model.net_identity):
        losses |= {
            "loss_ip_A": identity_preserving(model, batch.real_A, fake_B, masked=fake_B),
            "loss_ip_B": identity_preserving(model, batch.real_B, fake_A, masked=batch.real_B),
        }
    losses["loss_G"] = losses["loss_G"] + LAMBDA_IP * (losses["loss_ip_A"] + losses["loss_ip_B"])
    model.preserved = {name: losses[name].detach() for name in ("loss_ip_A", "loss_ip_B")}
    return losses, fake_A, fake_B


def identity_preserving(model: IAMGAN, real: torch.Tensor, fake: torch.Tensor, masked: torch.Tensor) -> torch.Tensor:
    """How far two pictures of one person are apart without the mask region of the `masked` one of them.

    Mean over the identity net's levels: L1 of the maps, and 1 − cosine of the unit vectors. The region passes no
    gradient on, or a generator would be paid for covering the face.
    """
    with torch.no_grad():
        kept = 1 - torch.sigmoid(model.net_region(masked))
    n = len(real)
    *maps, vectors = model.net_identity(torch.cat([real * kept, fake * kept]))
    apart = [(level[n:] - level[:n].detach()).abs().mean() for level in maps]
    return torch.stack([*apart, 1 - (vectors[n:] * vectors[:n].detach()).sum(1).mean()]).mean()


def instance_loss(one: torch.Tensor, two: torch.Tensor, bank: torch.Tensor, tau: float = TAU) -> torch.Tensor:
    """Cross-entropy of telling a picture's other view from other pictures (InfoNCE; van den Oord et al. 2018, eq. 4).

    one, two: unit vectors [B, C] of two views; bank: [n, C] of other pictures. Others in the batch count as well.
    """
    scores = one @ torch.cat([two, bank]).T / tau
    return F.cross_entropy(scores, torch.arange(len(one), device=one.device))


def pasted(real_A: torch.Tensor, real_B: torch.Tensor, rng: np.random.Generator) -> tuple[torch.Tensor, torch.Tensor]:
    """What the predictor learns from: pictures [2·B, 3, S, S], and 1 where they show real_B, float [2·B, 1, S, S]."""
    shape, other = (lower_face(len(real_A), real_A.shape[-1], rng).to(real_A.device) for _ in range(2))
    images = torch.cat([torch.where(shape, real_B, real_A), torch.where(other, real_A.flip(-1), real_A)])
    return images, torch.cat([shape, torch.zeros_like(other)]).float()


def lower_face(count: int, size: int, rng: np.random.Generator) -> torch.Tensor:
    """Shapes about where masks are in pictures of one face: bool [count, 1, size, size].

    Superellipses, tilted by up to 10°, their upper edge from above the nose's tip to the eyes. Drawn to cover masks on
    square face crops; wrong pictures only make the lesson harder.
    """
    x, y, wide, high, power, tilt = (
        torch.from_numpy(rng.uniform(low, top, (count, 1, 1, 1)).astype(np.float32))
        for low, top in ((0.42, 0.58), (0.66, 0.78), (0.2, 0.34), (0.14, 0.25), (2.0, 5.0), (-0.17, 0.17))
    )
    at = (torch.arange(size) + 0.5) / size
    down, right = at[:, None] - y, at[None, :] - x
    along, across = right * tilt.cos() + down * tilt.sin(), down * tilt.cos() - right * tilt.sin()
    return (along / wide).abs() ** power + (across / high).abs() ** power < 1


def _view(images: torch.Tensor, rng: np.random.Generator) -> torch.Tensor:
    """Another look at the same people: mirrored or not, moved by a sixteenth or less, lit otherwise, lower face out."""
    count, size = len(images), images.shape[-1]
    room = size // 16
    down, right = rng.integers(0, 2 * room + 1, 2)
    images = flip_where(images, rng.random(count) < 0.5)
    images = F.pad(images, (room,) * 4, "reflect")[..., down : down + size, right : right + size]
    gain, lift = (torch.from_numpy(rng.uniform(low, top, (count, 1, 1, 1)).astype(np.float32)).to(images)
                  for low, top in ((0.8, 1.2), (-0.1, 0.1)))  # fmt: skip
    return (images * gain + lift) * ~lower_face(count, size, rng).to(images.device)
