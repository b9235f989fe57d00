"""One step of training: the four networks with their optimisers and pools, the losses of a step, the step itself.

A step gives the same numbers for the same configuration, data, step and state: its noise and its draws from the pools
are seeded by what they are for (config.stable_seed).
"""

import math
from collections.abc import Callable, Iterable
from contextlib import contextmanager
from functools import partial

import numpy as np
import torch
from torch import nn

from .batches import ALONE, Batch, Images, TrainData, draw_order, take, to_float
from .config import TrainConfig, stable_seed
from .graphs import Recorded
from .losses import (
    Spread,
    adversarial_d,
    adversarial_g,
    attention_error,
    distance_change,
    distance_weights,
    distances,
    l1,
    non_mask_change,
)
from .networks import AVERAGE, Discriminator, Generator, NoiseConfig, NoiseSource, init_weights
from .pool import ImagePool
from .ranks import RankNoise, Ranks

LOSSES = (
    *("loss_G", "loss_G_adv_AB", "loss_G_adv_BA", "loss_cycle_A", "loss_cycle_B", "loss_idt_A", "loss_idt_B"),
    *("loss_nmc", "loss_D_A", "loss_D_B", "score_D_A_real", "score_D_A_fake", "score_D_B_real", "score_D_B_fake"),
)
OF_TWO_SIDES = {
    *("loss_G_adv_BA", "loss_cycle_A", "loss_cycle_B", "loss_idt_A"),
    *("loss_D_A", "score_D_A_real", "score_D_A_fake"),
}
GENERATORS = ("net_G_AB", "net_G_BA")
DISCRIMINATORS = ("net_D_A", "net_D_B")
# Pictures of a set whose distances are measured; chosen because 2000 settle a standard deviation to 2 %.
MOST_MEASURED = 2000


def losses_of(cfg: TrainConfig) -> tuple[str, ...]:
    """What a step tells: `LOSSES`, and as far as the configuration has them, "loss_attention" and "loss_distance";
    with one_sided without `OF_TWO_SIDES`."""
    told = tuple(name for name in LOSSES if not (cfg.one_sided and name in OF_TWO_SIDES))
    further = {"loss_attention": cfg.lambda_attention, "loss_distance": cfg.lambda_distance}
    return (*told, *(name for name, weight in further.items() if weight > 0))


class LossesOf(nn.Module):
    """A function of a model as a module that owns the networks it trains: one forward pass, as DDP wants it."""

    def __init__(self, function: Callable, model: "Model", names: tuple[str, ...]) -> None:
        super().__init__()
        self.function, self.model = function, model
        self.trained = nn.ModuleList(getattr(model, name) for name in names)

    def forward(self, *inputs):
        return self.function(self.model, *inputs)


def start(name: str, net: nn.Module, cfg: TrainConfig, device: torch.device | str) -> nn.Module:
    """A network at the start of a stage: weights from the stage's seed and its name, on the device."""
    init_weights(net, torch.Generator().manual_seed(stable_seed(cfg.seed, cfg.stage, "init", name)))
    net.to(device)
    if cfg.compile:
        # dynamic=False: two batch sizes come by (one set, or two joined), each worth kernels of its own.
        net.compile(dynamic=False)
        if next(net.parameters()).is_cuda:  # what tensor cores want; on CPUs it was slower (LOG.md)
            net.to(memory_format=torch.channels_last)
    return net


def adam(parameters: Iterable[nn.Parameter], cfg: TrainConfig, lr: float | None = None) -> torch.optim.Adam:
    """An optimiser; lr: other than the configuration's.

    Fresh at the start of a stage: the published code never saved its optimisers. eps is torch's 1e-8, as there.
    """
    trained = list(parameters)
    return torch.optim.Adam(trained, lr=lr or cfg.lr, betas=cfg.betas, fused=True, capturable=trained[0].is_cuda)


class Model:
    """The four networks, their two optimisers and the two pools of fakes; fresh from the stage's seed."""

    generator = Generator

    def __init__(self, cfg: TrainConfig, device: torch.device | str = "cpu", ranks: Ranks = ALONE) -> None:
        self.ranks = ranks
        for name, net in self.make(cfg).items():
            setattr(self, name, start(name, net, cfg, device))
        self.net_G_AB_average = None
        if cfg.average > 0:
            self.net_G_AB_average = self.generator.from_config(self.net_G_AB.config()).to(device).requires_grad_(False)
            self.net_G_AB_average.load_state_dict(self.net_G_AB.state_dict())
        if torch.device(device).type == "cuda":
            torch.backends.cudnn.benchmark = True  # shapes never change: the fastest kernels are worth a search
        generators, discriminators = (("net_G_AB",), ("net_D_B",)) if cfg.one_sided else (GENERATORS, DISCRIMINATORS)
        self.trained = {"opt_G": generators, "opt_D": discriminators}
        self.opt_G = adam(self.named_parameters(generators).values(), cfg)
        self.opt_D = adam(self.named_parameters(discriminators).values(), cfg)
        self.pool_A, self.pool_B = ImagePool(0 if cfg.one_sided else cfg.pool_size), ImagePool(cfg.pool_size)
        self.losses_G = ranks.share(LossesOf(generator_losses, self, generators), device)
        self.losses_D = ranks.share(LossesOf(discriminator_losses, self, discriminators), device)
        self.spreads: tuple[Spread, Spread] | None = None  # of sets A and B; only with lambda_distance
        self.recorded = None
        # Several ranks average their gradients on streams of their own, which a recording would not hold.
        if cfg.graphs and torch.device(device).type == "cuda" and ranks.world == 1:
            self.recorded = record_step(self, cfg, torch.cuda.graph_pool_handle())

    @classmethod
    def make(cls, cfg: TrainConfig) -> dict[str, nn.Module]:
        """The method's networks by name, with whatever weights torch gives them."""
        noises = (cfg.noise, cfg.noise if cfg.noise_in_G_BA else NoiseConfig())
        nets = {
            name: cls.generator(cfg.ngf, cfg.n_blocks, noise=noise, upsampling=cfg.upsampling)
            for name, noise in zip(GENERATORS, noises)
        }
        return nets | {name: Discriminator(cfg.ndf) for name in DISCRIMINATORS}

    @property
    def networks(self) -> dict[str, nn.Module]:
        """The four networks by name, and the mean of net_G_AB where one is kept."""
        kept = {} if self.net_G_AB_average is None else {AVERAGE: self.net_G_AB_average}
        return {name: getattr(self, name) for name in (*GENERATORS, *DISCRIMINATORS)} | kept

    def named_parameters(self, names: tuple[str, ...]) -> dict[str, nn.Parameter]:
        """Parameters of some of the networks, "net_G_AB.conv1.weight" → parameter."""
        return {f"{n}.{key}": value for n in names for key, value in getattr(self, n).named_parameters()}

    def prepare(self, cfg: TrainConfig, data: TrainData) -> None:
        """Measure how far apart the pictures of both sets are, which lambda_distance needs before the first step.

        The same numbers whatever the device, the processes and the step that a stage goes on from.
        """
        self.spreads = tuple(spread_of(images, cfg, name) for name, images in (("A", data.A), ("B", data.B)))

    def trainer_state(self) -> dict[str, torch.Tensor]:
        """Optimisers and pools as flat tensors: "opt_G/net_G_AB.conv1.weight/exp_avg", …, "pool_A"."""
        tensors = {}
        for opt, names in self.trained.items():
            for key, parameter in self.named_parameters(names).items():
                state = getattr(self, opt).state[parameter]
                tensors |= {f"{opt}/{key}/{kind}": value for kind, value in state.items()}
        pools = {"pool_A": self.pool_A.state(), "pool_B": self.pool_B.state()}
        return tensors | {name: images for name, images in pools.items() if images is not None}

    def load_trainer_state(self, tensors: dict[str, torch.Tensor]) -> None:
        """Inverse of `trainer_state`; tensors lie on the model's device."""
        for opt, names in self.trained.items():
            for key, parameter in self.named_parameters(names).items():
                stored = {kind: tensors[f"{opt}/{key}/{kind}"] for kind in ("step", "exp_avg", "exp_avg_sq")}
                # In the parameter's own memory format, which the fused optimiser expects.
                moments = {k: torch.empty_like(parameter).copy_(stored[k]) for k in ("exp_avg", "exp_avg_sq")}
                getattr(self, opt).state[parameter] = {"step": stored["step"].clone(), **moments}
        self.pool_A.load(tensors.get("pool_A"))
        self.pool_B.load(tensors.get("pool_B"))


def spread_of(images: Images, cfg: TrainConfig, name: str, together: int = 8) -> Spread:
    """Mean and standard deviation of `distances` in a training set: uint8 [N, 3, S, S], of `MOST_MEASURED` at most.

    together: pictures of which every pair counts, with distance_of "pairs". Raises ValueError where nothing varies.
    """
    together = min(together, len(images))
    count = min(len(images), MOST_MEASURED) // together * together
    picks = draw_order(len(images), 0, count, cfg.seed, "distance", name)
    parts = np.split(picks, len(picks) // together)
    found = [distances(to_float(take(images, part, "cpu")), cfg.distance_of).flatten() for part in parts]
    std, mean = torch.std_mean(torch.cat(found).double(), correction=0)
    if not std > 0:
        raise ValueError(
            f"TrainData.{name}: all distances (distance_of {cfg.distance_of!r}) are {mean:g}; lambda_distance needs a "
            "set in which they vary, of at least three pictures"
        )
    return Spread(mean.item(), std.item())


def generator_losses(
    model: Model, batch: Batch, cfg: TrainConfig, noise: NoiseSource | None = None
) -> tuple[dict[str, torch.Tensor], torch.Tensor, torch.Tensor]:
    """Losses of both generators (loss_G is their weighted sum), fake_A and fake_B.

    With one_sided there is no fake_A: real_B stands in its place, and nothing judges it.
    Translation and identity go through a generator together, since nothing in it mixes samples: two passes per
    generator instead of three. Noise is drawn in the order G_AB, G_BA, then the cycles' G_BA, G_AB.
    """
    real_A, real_B, non_mask = batch
    n = len(real_A)
    with_identity = cfg.identity_ratio > 0
    two_sided = not cfg.one_sided
    out_B, _, attention = model.net_G_AB(torch.cat([real_A, real_B]) if with_identity else real_A, noise, True)
    fake_B, idt_B, fake_A = out_B[:n], out_B[n:], real_B
    if two_sided:
        out_A = model.net_G_BA(torch.cat([real_B, real_A]) if with_identity else real_B, noise)
        fake_A, idt_A = out_A[:n], out_A[n:]
        rec_A = model.net_G_BA(fake_B, noise)
        rec_B = model.net_G_AB(fake_A, noise)

    losses = {"loss_G_adv_AB": adversarial_g(model.net_D_B(fake_B))}
    loss_G = losses["loss_G_adv_AB"]
    if two_sided:
        losses |= {
            "loss_G_adv_BA": adversarial_g(model.net_D_A(fake_A)),
            "loss_cycle_A": l1(rec_A, real_A),
            "loss_cycle_B": l1(rec_B, real_B),
        }
        loss_G = loss_G + losses["loss_G_adv_BA"]
        loss_G = loss_G + cfg.lambda_A * losses["loss_cycle_A"] + cfg.lambda_B * losses["loss_cycle_B"]
    if with_identity:
        idt = 0
        if two_sided:
            losses["loss_idt_A"] = l1(idt_A, real_A)
            idt = cfg.lambda_A * losses["loss_idt_A"]
        losses["loss_idt_B"] = l1(idt_B, real_B)
        loss_G = loss_G + cfg.identity_ratio * (idt + cfg.lambda_B * losses["loss_idt_B"])
    if non_mask is not None:
        # Measured even where it is off, so that stages with and without it can be compared.
        weights = distance_weights(non_mask, cfg.nmc_profile, cfg.nmc_growth, real_A.dtype)
        losses["loss_nmc"] = non_mask_change(real_A, fake_B, weights, cfg.nmc_norm, model.ranks.mean)
        if cfg.lambda_nmc > 0:
            loss_G = loss_G + cfg.lambda_nmc * losses["loss_nmc"]
    if cfg.lambda_attention > 0:
        losses["loss_attention"] = attention_error(attention[:n], non_mask, cfg.attention_loss)
        loss_G = loss_G + cfg.lambda_attention * losses["loss_attention"]
    if cfg.lambda_distance > 0:
        if model.spreads is None:
            raise ValueError(f"lambda_distance is {cfg.lambda_distance}: call Model.prepare before the first step")
        ranks, (of_A, of_B) = model.ranks, model.spreads
        apart = partial(distances, kind=cfg.distance_of, gather=ranks.gather, mine=ranks.part(n * ranks.world))
        losses["loss_distance"] = distance_change(apart(real_A), apart(fake_B), of_A, of_B)
        if two_sided:
            back = distance_change(apart(real_B), apart(fake_A), of_B, of_A)
            losses["loss_distance"] = losses["loss_distance"] + back
        loss_G = loss_G + cfg.lambda_distance * losses["loss_distance"]
    return {"loss_G": loss_G, **losses}, fake_A, fake_B


def discriminator_losses(
    model: Model, real_A: torch.Tensor, real_B: torch.Tensor, seen_A: torch.Tensor, seen_B: torch.Tensor
) -> dict[str, torch.Tensor]:
    """Losses and mean scores of both discriminators on real images and on fakes out of the pools (detached).

    With one_sided the loss of D_A is 0 and it has no scores.
    """
    terms = {}
    for name, net, real, fake in (("D_A", model.net_D_A, real_A, seen_A), ("D_B", model.net_D_B, real_B, seen_B)):
        if f"net_{name}" not in model.trained["opt_D"]:
            terms[f"loss_{name}"] = real.new_zeros(())
            continue
        score_real, score_fake = net(torch.cat([real, fake])).split([len(real), len(fake)])
        terms[f"loss_{name}"] = adversarial_d(score_real, score_fake)
        terms[f"score_{name}_real"], terms[f"score_{name}_fake"] = score_real.mean(), score_fake.mean()
    return terms


def train_step(model: Model, batch: Batch, cfg: TrainConfig, step: int) -> torch.Tensor:
    """One step of both optimisers. Gives the values of `losses_of(cfg)` on the device, NaN for those not computed.

    Of several ranks, batch is this one's share, and so are the values.
    """
    device, ranks = batch.real_A.device, model.ranks
    # On the batch's device: drawing millions of values on the CPU would cost a GPU more than its step.
    noise = torch.Generator(device).manual_seed(stable_seed(cfg.seed, cfg.stage, "noise", step))
    if ranks.world > 1:
        noise = RankNoise(noise, ranks, len(batch.real_A))
    rng = np.random.default_rng(stable_seed(cfg.seed, cfg.stage, "pool", step))
    generators, discriminators = model.recorded or (
        partial(generators_step, model, cfg),
        partial(discriminators_step, model, cfg),
    )

    made = generators({name: value for name, value in batch._asdict().items() if value is not None}, noise)
    # The discriminators see fakes out of the history of all ranks.
    fakes = [ranks.gather(made.pop(name)) for name in ("fake_A", "fake_B")]
    mine = ranks.part(len(fakes[0]))
    seen = {
        "seen_A": model.pool_A.query(fakes[0], rng)[mine],
        "seen_B": model.pool_B.query(fakes[1], rng)[mine],
    }
    made |= discriminators({"real_A": batch.real_A, "real_B": batch.real_B, **seen}, noise)

    missing = made["loss_G"].new_tensor(math.nan)
    return torch.stack([made.get(name, missing) for name in losses_of(cfg)])


def generators_step(
    model: Model, cfg: TrainConfig, batch: dict[str, torch.Tensor], noise: NoiseSource
) -> dict[str, torch.Tensor]:
    """One step of the generators' optimiser: their losses by name, fake_A and fake_B (all detached)."""
    batch = Batch(batch["real_A"], batch["real_B"], batch.get("non_mask"))
    # The discriminators only pass the gradient on.
    with frozen(model.net_D_A, model.net_D_B):
        with autocast(cfg, batch.real_A.device):
            losses, fake_A, fake_B = model.losses_G(batch, cfg, noise)
        model.opt_G.zero_grad(set_to_none=True)
        losses["loss_G"].backward()
        model.opt_G.step()
    if model.net_G_AB_average is not None:
        mean, now = (list(net.parameters()) for net in (model.net_G_AB_average, model.net_G_AB))
        torch._foreach_lerp_(mean, [p.detach() for p in now], 1 - cfg.average)
    return {name: value.detach() for name, value in {**losses, "fake_A": fake_A, "fake_B": fake_B}.items()}


def discriminators_step(
    model: Model, cfg: TrainConfig, images: dict[str, torch.Tensor], noise: NoiseSource | None = None
) -> dict[str, torch.Tensor]:
    """One step of the discriminators' optimiser on real_A, real_B, seen_A, seen_B: losses and scores (detached)."""
    with autocast(cfg, images["real_A"].device):
        losses = model.losses_D(*(images[name] for name in ("real_A", "real_B", "seen_A", "seen_B")))
    model.opt_D.zero_grad(set_to_none=True)
    (losses["loss_D_A"] + losses["loss_D_B"]).backward()
    model.opt_D.step()
    return {name: value.detach() for name, value in losses.items()}


def record_step(model: Model, cfg: TrainConfig, pool: object) -> tuple[Recorded, Recorded]:
    """The generators' and the discriminators' part of a step as recordings (lib.gan.graphs) in one memory pool."""
    return tuple(Recorded(partial(part, model, cfg), pool) for part in (generators_step, discriminators_step))


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
