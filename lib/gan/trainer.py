"""Train one stage of step two: losses of a step, the loop, resume.

A stage writes into its run folder:
    metrics.csv                one row per tick: means since the tick before (losses unweighted, except loss_G, the sum)
    samples.csv, samples/      see records
    checkpoints/epoch_NNNN/    see checkpoints
A stage that was stopped goes on from its newest checkpoint. All randomness is seeded by what it is for (see
config.stable_seed), so on a CPU with the same number of threads the result equals that of a run never stopped, bit for
bit.
"""

import json
import math
import time
from collections.abc import Callable
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import nn
from tqdm import tqdm

from . import checkpoints
from .batches import Batch, TrainData, make_batch
from .checkpoints import CheckpointError
from .config import TrainConfig, pick_device, stable_seed
from .losses import adversarial_d, adversarial_g, l1, non_mask_change
from .networks import Discriminator, Generator, NoiseConfig, init_weights
from .pool import ImagePool
from .records import SAMPLE_COLUMNS, CsvLog, snapshot

LOSSES = (
    *("loss_G", "loss_G_adv_AB", "loss_G_adv_BA", "loss_cycle_A", "loss_cycle_B", "loss_idt_A", "loss_idt_B"),
    *("loss_nmc", "loss_D_A", "loss_D_B", "score_D_A_real", "score_D_A_fake", "score_D_B_real", "score_D_B_fake"),
)
METRIC_COLUMNS = ("epoch", "step", *LOSSES, "seconds")
# Least-squares losses sit near 1, and above 0.25 only while one side wins: a thousand is beyond recovery.
# Not given in the paper; chosen because a diverged night should stop early.
EXPLODED = 1e3
GENERATORS = ("net_G_AB", "net_G_BA")
DISCRIMINATORS = ("net_D_A", "net_D_B")


class TrainError(RuntimeError):
    """Training cannot go on; the message names the step, the loss and the last good checkpoint."""


@dataclass(frozen=True)
class Result:
    """Where a finished stage left its files. steps: of the whole stage; trained_s: seconds this call trained."""

    run_dir: Path
    checkpoint: Path
    epoch: int
    steps: int
    trained_s: float
    already_finished: bool


class Model:
    """The four networks, their two optimisers and the two pools of fakes; fresh from the stage's seed."""

    def __init__(self, cfg: TrainConfig, device: torch.device | str = "cpu") -> None:
        noise_BA = cfg.noise if cfg.noise_in_G_BA else NoiseConfig()
        self.net_G_AB = Generator(cfg.ngf, cfg.n_blocks, noise=cfg.noise, upsampling=cfg.upsampling)
        self.net_G_BA = Generator(cfg.ngf, cfg.n_blocks, noise=noise_BA, upsampling=cfg.upsampling)
        self.net_D_A = Discriminator(cfg.ndf)
        self.net_D_B = Discriminator(cfg.ndf)
        for name, net in self.networks.items():
            init_weights(net, torch.Generator().manual_seed(stable_seed(cfg.seed, cfg.stage, "init", name)))
            net.to(device)
        # Fresh at the start of a stage: the published code never saved its optimisers.
        adam = {"lr": cfg.lr, "betas": cfg.betas, "fused": True}
        self.opt_G = torch.optim.Adam(self.named_parameters(GENERATORS).values(), **adam)
        self.opt_D = torch.optim.Adam(self.named_parameters(DISCRIMINATORS).values(), **adam)
        self.pool_A, self.pool_B = ImagePool(cfg.pool_size), ImagePool(cfg.pool_size)

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
                kinds = ("step", "exp_avg", "exp_avg_sq")
                getattr(self, opt).state[parameter] = {k: tensors[f"{opt}/{key}/{k}"].clone() for k in kinds}
        self.pool_A.load(tensors.get("pool_A"))
        self.pool_B.load(tensors.get("pool_B"))


def generator_losses(
    model: Model, batch: Batch, cfg: TrainConfig, noise: torch.Generator | None = None
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
        losses["loss_nmc"] = non_mask_change(real_A, fake_B, non_mask, cfg.nmc_norm)
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
    """One step of both optimisers. Gives the values of `LOSSES` [14] on the device, NaN for those not computed."""
    noise = torch.Generator().manual_seed(stable_seed(cfg.seed, cfg.stage, "noise", step))
    rng = np.random.default_rng(stable_seed(cfg.seed, cfg.stage, "pool", step))

    # Generators; the discriminators only pass the gradient on.
    with frozen(model.net_D_A, model.net_D_B):
        with autocast(cfg, batch.real_A.device):
            losses, fake_A, fake_B = generator_losses(model, batch, cfg, noise)
        model.opt_G.zero_grad(set_to_none=True)
        losses["loss_G"].backward()
        model.opt_G.step()

    # Discriminators, on fakes out of the history.
    seen_A, seen_B = model.pool_A.query(fake_A, rng), model.pool_B.query(fake_B, rng)
    with autocast(cfg, batch.real_A.device):
        losses |= discriminator_losses(model, batch.real_A, batch.real_B, seen_A, seen_B)
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


def train(
    cfg: TrainConfig,
    data: TrainData,
    run_dir: Path | str,
    init_from: Path | str | None = None,
    parent: dict | None = None,
    progress: bool = True,
    on_epoch: Callable[[int, dict], None] | None = None,
) -> Result:
    """Train a stage to its end, from its start or from where it was stopped; a finished stage returns at once.

    init_from: checkpoint folder whose weights (all four networks, nothing else) the stage starts from; used only when
    the stage has no checkpoint of its own yet. parent: JSON-able note kept in every meta.json on where the stage comes
    from; by default the stage, epoch and config hash of init_from. progress: show a bar.
    on_epoch(label, row): called after each epoch's checkpoint with the epoch's last metrics row (not again for epochs
    that were trained before a resume).
    On resume the configuration, the number of images and a given parent must be those of the run; that the images are
    the same ones is for the caller to know.
    Raises ValueError for data that does not fit cfg, CheckpointError for a run folder of another configuration or data
    and for an unusable init_from, TrainError where a loss is not finite or has exploded.
    """
    data.check(cfg)
    run_dir, device = Path(run_dir), pick_device(cfg.device)
    root = run_dir / "checkpoints"
    steps_per_epoch = cfg.steps_in_epoch(len(data.A), len(data.B))
    total_steps = len(cfg.epochs) * steps_per_epoch
    counts = {"A": len(data.A), "B": len(data.B)}
    parent = json.loads(json.dumps(parent))  # as it will be read back, tuples as lists

    # Finished already?
    checkpoints.clean(root)
    found = checkpoints.newest_usable(root, total_steps)
    if found:
        _check_same(found, cfg, counts, parent)
    step = found[1]["step"] if found else 0
    if found and step == total_steps:
        return Result(run_dir, found[0], cfg.epochs[-1], step, 0.0, already_finished=True)

    # Networks: from this stage's checkpoint, from the parent's weights, or from scratch.
    model = Model(cfg, device)
    if found:
        checkpoints.load_weights(model.networks, found[0])
        model.load_trainer_state(checkpoints.load_trainer(found[0], device))
        parent = found[1]["parent"]
    elif init_from is not None:
        checkpoints.load_weights(model.networks, Path(init_from))
        origin = checkpoints.read_meta(Path(init_from))
        parent = parent or {"stage": origin["config"]["stage"]} | {k: origin[k] for k in ("epoch", "config_hash")}

    # Records: rows written after the checkpoint belong to steps that are done again.
    run_dir.mkdir(parents=True, exist_ok=True)
    metrics = CsvLog(run_dir / "metrics.csv", METRIC_COLUMNS)
    samples = CsvLog(run_dir / "samples.csv", SAMPLE_COLUMNS)
    metrics.cut(step)
    samples.cut(step)

    good = found[0] if found else None
    started = tick_started = time.perf_counter()
    pending: list[torch.Tensor] = []
    bar = tqdm(total=total_steps, initial=step, desc=cfg.stage, disable=not progress, mininterval=5, ascii=True)
    with bar:
        for label in cfg.epochs[step // steps_per_epoch :]:
            bar.set_description(f"{cfg.stage} epoch {label}", refresh=False)

            for _ in range(steps_per_epoch):
                pending.append(train_step(model, make_batch(cfg, data, step, device), cfg, step))
                step += 1
                bar.update()
                if len(pending) == cfg.tick_steps or step % steps_per_epoch == 0:
                    # The only wait for the device: values of all steps of the tick at once.
                    values = torch.stack(pending).cpu().double().numpy()
                    _check_losses(values, step, label, cfg, good)
                    now = time.perf_counter()
                    row = {"epoch": label, "step": step, **_means(values), "seconds": now - tick_started}
                    metrics.append(row)
                    bar.set_postfix(_shown(row), refresh=False)
                    pending, tick_started = [], now

            # Before the checkpoint: whatever is on disk after a kill, a checkpoint's epoch has its samples.
            if data.samples is not None and cfg.sample_count > 0:
                measured = snapshot(model.net_G_AB, data, cfg, run_dir / "samples" / f"epoch_{label:04d}.png")
                samples.append({"epoch": label, "step": step, **measured})

            meta = {"step": step, "config": cfg.to_dict(), "config_hash": cfg.hash(), "images": counts}
            try:
                good = checkpoints.write_checkpoint(
                    root, label, model.networks, model.trainer_state(), {**meta, "parent": parent}
                )
            except CheckpointError as error:
                raise TrainError(f"{cfg.stage}: step {step} (epoch {label}): {error}; {_last_good(good)}") from error
            checkpoints.prune(root, cfg.keep_epochs)
            if on_epoch:
                on_epoch(label, row)
            tick_started = time.perf_counter()

    return Result(run_dir, good, cfg.epochs[-1], step, time.perf_counter() - started, already_finished=False)


def _check_same(found: tuple[Path, dict], cfg: TrainConfig, counts: dict, parent: dict | None) -> None:
    folder, meta = found
    lines = cfg.differences(TrainConfig.from_dict(meta["config"]))
    if meta["images"] != counts:
        lines.append(f"images: {counts}, not {meta['images']}")
    if parent is not None and parent != meta["parent"]:
        lines.append(f"parent: {parent}, not {meta['parent']}")
    if lines:
        raise CheckpointError(
            f"{folder} belongs to another configuration ({'; '.join(lines)}): go on with that one, "
            "use another run folder, or delete this one to start the stage anew"
        )


def _check_losses(values: np.ndarray, step: int, label: int, cfg: TrainConfig, good: Path | None) -> None:
    """values [steps, losses] of the tick that ends at `step`. TrainError at the first that has gone wrong."""
    optional = ("loss_nmc", "loss_idt_A", "loss_idt_B")  # NaN where not computed; were they broken, so is loss_G
    names = (*LOSSES[1:], "loss_G")  # the sum last: the message names what went wrong first
    for at, row in enumerate(values):
        for name in names:
            value = row[LOSSES.index(name)]
            broken = not math.isfinite(value) and name not in optional
            exploded = name.startswith(("loss_G_adv", "loss_D")) and value > EXPLODED
            if broken or exploded:
                raise TrainError(
                    f"{cfg.stage}: {name} is {value:g} at step {step - len(values) + at + 1} (epoch {label}); "
                    f"{_last_good(good)}; try a lower lr or lambda, or look for a broken image"
                )


def _last_good(good: Path | None) -> str:
    return f"last good checkpoint: {good or 'none in this stage'}"


def _means(values: np.ndarray) -> dict[str, float | None]:
    return {name: None if np.isnan(column).all() else float(column.mean()) for name, column in zip(LOSSES, values.T)}


def _shown(row: dict) -> dict[str, str]:
    cycle = row["loss_cycle_A"] + row["loss_cycle_B"]
    shown = {"G": row["loss_G"], "D_B": row["loss_D_B"], "cycle": cycle, "nmc": row["loss_nmc"]}
    return {name: f"{value:.3f}" for name, value in shown.items() if value is not None}
