"""One step of training: the four networks with their optimisers and pools, the losses of a step, the step itself.

A step gives the same numbers for the same configuration, data, step and state: its noise and its draws from the pools
are seeded by what they are for (config.stable_seed).
"""

import math
from collections.abc import Callable
from contextlib import contextmanager

import numpy as np
import torch
from torch import nn

from .batches import ALONE, Batch
from .config import TrainConfig, stable_seed
from .losses import adversarial_d, adversarial_g, l1, non_mask_change
from .networks import Discriminator, Generator, NoiseConfig, NoiseSource, init_weights
from .pool import ImagePool
from .ranks import RankNoise, Ranks

LOSSES = (
    *("loss_G", "loss_G_adv_AB", "loss_G_adv_BA", "loss_cycle_A", "loss_cycle_B", "loss_idt_A", "loss_idt_B"),
    *("loss_nmc", "loss_D_A", "loss_D_B", "score_D_A_real", "score_D_A_fake", "score_D_B_real", "score_D_B_fake"),
)
GENERATORS = ("net_G_AB", "net_G_BA")
DISCRIMINATORS = ("net_D_A", "net_D_B")


class LossesOf(nn.Module):
    """A function of a model as a module that owns the networks it trains: one forward pass, as DDP wants it."""

    def __init__(self, function: Callable, model: "Model", names: tuple[str, ...]) -> None:
        super().__init__()
        self.function, self.model = function, model
        self.trained = nn.ModuleList(getattr(model, name) for name in names)

    def forward(self, *inputs):
        return self.function(self.model, *inputs)


class Model:
    """The four networks, their two optimisers and the two pools of fakes; fresh from the stage's seed."""

    def __init__(self, cfg: TrainConfig, device: torch.device | str = "cpu", ranks: Ranks = ALONE) -> None:
        self.ranks = ranks
        noise_BA = cfg.noise if cfg.noise_in_G_BA else NoiseConfig()
        self.net_G_AB = Generator(cfg.ngf, cfg.n_blocks, noise=cfg.noise, upsampling=cfg.upsampling)
        self.net_G_BA = Generator(cfg.ngf, cfg.n_blocks, noise=noise_BA, upsampling=cfg.upsampling)
        self.net_D_A = Discriminator(cfg.ndf)
        self.net_D_B = Discriminator(cfg.ndf)
        for name, net in self.networks.items():
            init_weights(net, torch.Generator().manual_seed(stable_seed(cfg.seed, cfg.stage, "init", name)))
            net.to(device)
            if cfg.compile:
                # dynamic=False: two batch sizes come by (one set, or two joined), each worth kernels of its own.
                net.compile(dynamic=False)
                if next(net.parameters()).is_cuda:  # what tensor cores want; on CPUs it was slower (LOG.md)
                    net.to(memory_format=torch.channels_last)
        # Fresh at the start of a stage: the published code never saved its optimisers. eps is torch's 1e-8, as there.
        adam = {"lr": cfg.lr, "betas": cfg.betas, "fused": True}
        self.opt_G = torch.optim.Adam(self.named_parameters(GENERATORS).values(), **adam)
        self.opt_D = torch.optim.Adam(self.named_parameters(DISCRIMINATORS).values(), **adam)
        self.pool_A, self.pool_B = ImagePool(cfg.pool_size), ImagePool(cfg.pool_size)
        self.losses_G = ranks.share(LossesOf(generator_losses, self, GENERATORS), device)
        self.losses_D = ranks.share(LossesOf(discriminator_losses, self, DISCRIMINATORS), device)

    @property
    def networks(self) -> dict[str, nn.Module]:
        """The four networks by name."""
        return {name: getattr(self, name) for name in (*GENERATORS, *DISCRIMINATORS)}

    def named_parameters(self, names: tuple[str, ...]) -> dict[str, nn.Parameter]:
        """Parameters of some of the networks, "net_G_AB.conv1.weight" → parameter."""
        return {f"{n}.{key}": value for n in names for key, value in getattr(self, n).named_parameters()}

    def trainer_state(self) -> dict[str, torch.Tensor]:
        """Optimisers and pools as flat tensors: "opt_G/net_G_AB.conv1.weight/exp_avg", …, "pool_A"."""
        tensors = {}
        for opt, names in (("opt_G", GENERATORS), ("opt_D", DISCRIMINATORS)):
            for key, parameter in self.named_parameters(names).items():
                state = getattr(self, opt).state[parameter]
                tensors |= {f"{opt}/{key}/{kind}": value for kind, value in state.items()}
        pools = {"pool_A": self.pool_A.state(), "pool_B": self.pool_B.state()}
        return tensors | {name: images for name, images in pools.items() if images is not None}

    def load_trainer_state(self, tensors: dict[str, torch.Tensor]) -> None:
        """Inverse of `trainer_state`; tensors lie on the model's device."""
        for opt, names in (("opt_G", GENERATORS), ("opt_D", DISCRIMINATORS)):
            for key, parameter in self.named_parameters(names).items():
                stored = {kind: tensors[f"{opt}/{key}/{kind}"] for kind in ("step", "exp_avg", "exp_avg_sq")}
                # In the parameter's own memory format, which the fused optimiser expects.
                moments = {k: torch.empty_like(parameter).copy_(stored[k]) for k in ("exp_avg", "exp_avg_sq")}
                getattr(self, opt).state[parameter] = {"step": stored["step"].clone(), **moments}
        self.pool_A.load(tensors.get("pool_A"))
        self.pool_B.load(tensors.get("pool_B"))


def generator_losses(
    model: Model, batch: Batch, cfg: TrainConfig, noise: NoiseSource | None = None
) -> tuple[dict[str, torch.Tensor], torch.Tensor, torch.Tensor]:
    """Losses of both generators (loss_G is their weighted sum), fake_A and fake_B.

    Translation and identity go through a generator together, since nothing in it mixes samples: two passes per
    generator instead of three. Noise is drawn in the order G_AB, G_BA, then the cycles' G_BA, G_AB.
    """
    real_A, real_B, non_mask = batch
    n = len(real_A)
    with_identity = cfg.identity_ratio > 0
    out_B = model.net_G_AB(torch.cat([real_A, real_B]) if with_identity else real_A, noise)
    out_A = model.net_G_BA(torch.cat([real_B, real_A]) if with_identity else real_B, noise)
    fake_B, idt_B, fake_A, idt_A = out_B[:n], out_B[n:], out_A[:n], out_A[n:]
    rec_A = model.net_G_BA(fake_B, noise)
    rec_B = model.net_G_AB(fake_A, noise)

    losses = {
        "loss_G_adv_AB": adversarial_g(model.net_D_B(fake_B)),
        "loss_G_adv_BA": adversarial_g(model.net_D_A(fake_A)),
        "loss_cycle_A": l1(rec_A, real_A),
        "loss_cycle_B": l1(rec_B, real_B),
    }
    loss_G = losses["loss_G_adv_AB"] + losses["loss_G_adv_BA"]
    loss_G = loss_G + cfg.lambda_A * losses["loss_cycle_A"] + cfg.lambda_B * losses["loss_cycle_B"]
    if with_identity:
        losses |= {"loss_idt_A": l1(idt_A, real_A), "loss_idt_B": l1(idt_B, real_B)}
        idt = cfg.lambda_A * losses["loss_idt_A"] + cfg.lambda_B * losses["loss_idt_B"]
        loss_G = loss_G + cfg.identity_ratio * idt
    if non_mask is not None:
        # Measured even where it is off, so that stages with and without it can be compared.
        losses["loss_nmc"] = non_mask_change(real_A, fake_B, non_mask, cfg.nmc_norm, model.ranks.mean)
        if cfg.lambda_nmc > 0:
            loss_G = loss_G + cfg.lambda_nmc * losses["loss_nmc"]
    return {"loss_G": loss_G, **losses}, fake_A, fake_B


def discriminator_losses(
    model: Model, real_A: torch.Tensor, real_B: torch.Tensor, seen_A: torch.Tensor, seen_B: torch.Tensor
) -> dict[str, torch.Tensor]:
    """Losses and mean scores of both discriminators on real images and on fakes out of the pools (detached)."""
    terms = {}
    for name, net, real, fake in (("D_A", model.net_D_A, real_A, seen_A), ("D_B", model.net_D_B, real_B, seen_B)):
        score_real, score_fake = net(torch.cat([real, fake])).split([len(real), len(fake)])
        terms[f"loss_{name}"] = adversarial_d(score_real, score_fake)
        terms[f"score_{name}_real"], terms[f"score_{name}_fake"] = score_real.mean(), score_fake.mean()
    return terms


def train_step(model: Model, batch: Batch, cfg: TrainConfig, step: int) -> torch.Tensor:
    """One step of both optimisers. Gives the values of `LOSSES` [14] on the device, NaN for those not computed.

    Of several ranks, batch is this one's share, and so are the values.
    """
    device, ranks = batch.real_A.device, model.ranks
    # On the batch's device: drawing millions of values on the CPU would cost a GPU more than its step.
    noise = torch.Generator(device).manual_seed(stable_seed(cfg.seed, cfg.stage, "noise", step))
    if ranks.world > 1:
        noise = RankNoise(noise, ranks, len(batch.real_A))
    rng = np.random.default_rng(stable_seed(cfg.seed, cfg.stage, "pool", step))

    # Generators; the discriminators only pass the gradient on.
    with frozen(model.net_D_A, model.net_D_B):
        with autocast(cfg, device):
            losses, fake_A, fake_B = model.losses_G(batch, cfg, noise)
        model.opt_G.zero_grad(set_to_none=True)
        losses["loss_G"].backward()
        model.opt_G.step()

    # Discriminators, on fakes out of the history of all ranks.
    fakes = (ranks.gather(fake_A.detach()), ranks.gather(fake_B.detach()))
    mine = ranks.part(len(fakes[0]))
    seen_A, seen_B = model.pool_A.query(fakes[0], rng)[mine], model.pool_B.query(fakes[1], rng)[mine]
    with autocast(cfg, device):
        losses |= model.losses_D(batch.real_A, batch.real_B, seen_A, seen_B)
    model.opt_D.zero_grad(set_to_none=True)
    (losses["loss_D_A"] + losses["loss_D_B"]).backward()
    model.opt_D.step()

    missing = losses["loss_G"].new_tensor(math.nan)
    return torch.stack([losses.get(name, missing).detach() for name in LOSSES])


def autocast(cfg: TrainConfig, device: torch.device) -> torch.autocast:
    """Convolutions in bfloat16 where the configuration says so; the networks give float32 either way."""
    return torch.autocast(device.type, torch.bfloat16, enabled=cfg.precision == "bf16")


@contextmanager
def frozen(*networks: nn.Module):
    """Within the block, no gradients of these networks' own weights are computed."""
    for net in networks:
        net.requires_grad_(False)
    try:
        yield
    finally:
        for net in networks:
            net.requires_grad_(True)
