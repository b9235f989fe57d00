"""Time a training step as the field writes it against ours: `python -m lib.gan.bench`, see `--help`.

Both train the same networks with the same losses, optimiser settings, order of pictures and flips. `plain_step` is the
textbook loop: float32, eager, one call per picture set, Adam as torch builds it. Nothing in it is slowed down.
"""

import argparse
import os
import platform
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from torch.utils.flop_counter import FlopCounterMode

from lib.data.files import write_json

from .batches import Batch, TrainData, make_batch, resident
from .config import TrainConfig, pick_device, pick_precision, stable_seed
from .infer import Translator, seconds_per_face
from .losses import adversarial_d, adversarial_g, l1, non_mask_change
from .networks import NoiseConfig
from .step import DISCRIMINATORS, GENERATORS, LOSSES, Model, discriminator_losses, frozen, generator_losses, train_step


def plain_step(model: Model, batch: Batch, cfg: TrainConfig, step: int) -> torch.Tensor:
    """One step as CycleGAN-like code is commonly written; the values of `LOSSES` [14], as `train_step` gives them."""
    real_A, real_B, non_mask = batch
    noise = torch.Generator(real_A.device).manual_seed(stable_seed(cfg.seed, cfg.stage, "noise", step))
    rng = np.random.default_rng(stable_seed(cfg.seed, cfg.stage, "pool", step))
    net_G_AB, net_G_BA, net_D_A, net_D_B = (model.networks[name] for name in (*GENERATORS, *DISCRIMINATORS))
    out = {}

    fake_B = net_G_AB(real_A, noise)
    rec_A = net_G_BA(fake_B, noise)
    fake_A = net_G_BA(real_B, noise)
    rec_B = net_G_AB(fake_A, noise)
    with frozen(net_D_A, net_D_B):
        model.opt_G.zero_grad()
        out["loss_idt_B"] = l1(net_G_AB(real_B, noise), real_B)
        out["loss_idt_A"] = l1(net_G_BA(real_A, noise), real_A)
        out["loss_G_adv_AB"] = adversarial_g(net_D_B(fake_B))
        out["loss_G_adv_BA"] = adversarial_g(net_D_A(fake_A))
        out["loss_cycle_A"] = l1(rec_A, real_A)
        out["loss_cycle_B"] = l1(rec_B, real_B)
        out["loss_nmc"] = non_mask_change(real_A, fake_B, non_mask, cfg.nmc_norm)
        out["loss_G"] = (
            out["loss_G_adv_AB"]
            + out["loss_G_adv_BA"]
            + cfg.lambda_A * out["loss_cycle_A"]
            + cfg.lambda_B * out["loss_cycle_B"]
            + cfg.identity_ratio * (cfg.lambda_A * out["loss_idt_A"] + cfg.lambda_B * out["loss_idt_B"])
            + cfg.lambda_nmc * out["loss_nmc"]
        )
        out["loss_G"].backward()
        model.opt_G.step()

    model.opt_D.zero_grad()
    for name, net, real, fake, pool in (
        ("D_A", net_D_A, real_A, fake_A, model.pool_A),
        ("D_B", net_D_B, real_B, fake_B, model.pool_B),
    ):
        score_real, score_fake = net(real), net(pool.query(fake, rng))
        out[f"loss_{name}"] = adversarial_d(score_real, score_fake)
        out[f"loss_{name}"].backward()
        out[f"score_{name}_real"], out[f"score_{name}_fake"] = score_real.mean(), score_fake.mean()
    model.opt_D.step()
    return torch.stack([out[name].detach() for name in LOSSES])


def plain_model(cfg: TrainConfig, device: torch.device) -> Model:
    """The model of `plain_step`: the same weights, Adam as torch builds it."""
    model = Model(replace(cfg, compile=False, graphs=False), device)
    adam = {"lr": cfg.lr, "betas": cfg.betas}
    model.opt_G = torch.optim.Adam(model.named_parameters(GENERATORS).values(), **adam)
    model.opt_D = torch.optim.Adam(model.named_parameters(DISCRIMINATORS).values(), **adam)
    return model


def toy_data(size: int, count: int = 32) -> TrainData:
    """Random pictures with a mask region in the lower half: what a step costs does not hang on what it shows."""
    rng = np.random.default_rng(0)
    A, B = (rng.integers(0, 256, (count, 3, size, size), dtype=np.uint8) for _ in range(2))
    non_mask = np.ones((count, 1, size, size), np.uint8)
    non_mask[:, :, size // 2 :, size // 4 : -size // 4] = 0
    return TrainData(A, B, non_mask)


def step_flops(cfg: TrainConfig) -> int:
    """Floating-point operations of one training step (convolutions, forward and backward), counted without computing.

    Joining passes does not change the number, and noise, norms and Adam are left out: below a thousandth.
    """
    device = torch.device("meta")
    model = Model(replace(cfg, noise=NoiseConfig(), compile=False, graphs=False), device)
    images = torch.empty(cfg.batch_size, 3, cfg.size, cfg.size, device=device)
    non_mask = torch.ones(cfg.batch_size, 1, cfg.size, cfg.size, dtype=torch.bool, device=device)
    with FlopCounterMode(display=False) as counter:
        with frozen(model.net_D_A, model.net_D_B):
            generator_losses(model, Batch(images, images, non_mask), cfg)[0]["loss_G"].backward()
        terms = discriminator_losses(model, images, images, images, images)
        (terms["loss_D_A"] + terms["loss_D_B"]).backward()
    return counter.get_total_flops()


def matrix_ceiling(device: torch.device, side: int = 8192, repeats: int = 20) -> float:
    """Operations per second of a large bfloat16 matrix product on a CUDA device, best of `repeats`."""
    a, b = (torch.randn(side, side, device=device, dtype=torch.bfloat16) for _ in range(2))
    best = min(_timed(lambda: a @ b, device) for _ in range(repeats))
    return 2 * side**3 / best


def compare(cfg: TrainConfig, rounds: int, steps: int) -> dict:
    """Seconds per step of every variant, measured in turns (plain, ours, plain, …), so that all meet the same machine.

    rounds: turns after one to warm up (compilers, caches); steps: per turn. Gives {variant: {seconds, images_per_s,
    spread, peak_bytes (CUDA)}}; images_per_s counts both sets' pictures, spread is (largest − least) / median of turns.
    """
    device = pick_device(cfg.device)
    data = resident(toy_data(cfg.size), device)
    variants = _variants(cfg)
    runs = {name: (make(config, device), step, config) for name, (make, step, config) in variants.items()}
    turns: dict[str, list[float]] = {name: [] for name in runs}
    peaks = dict.fromkeys(runs, 0)
    at = 0
    for turn in range(rounds + 1):
        for name, (model, step, config) in runs.items():
            if device.type == "cuda":
                torch.cuda.reset_peak_memory_stats(device)
                idle = torch.cuda.memory_allocated(device)

            seconds = _timed(lambda: _steps(model, step, config, data, range(at, at + steps)), device) / steps  # noqa: B023
            if turn:
                turns[name].append(seconds)
            if device.type == "cuda":  # what the other variants hold is not this one's
                own = sum(p.nbytes for net in model.networks.values() for p in net.parameters())
                peaks[name] = torch.cuda.max_memory_allocated(device) - idle + 3 * own
        at += steps
    return {
        name: {
            "seconds": statistics.median(times),
            "images_per_s": 2 * cfg.batch_size / statistics.median(times),
            "spread": (max(times) - min(times)) / statistics.median(times),
            "peak_bytes": peaks[name],
        }
        for name, times in turns.items()
    }


def _steps(model: Model, step: Callable, cfg: TrainConfig, data: TrainData, numbers: range) -> list[torch.Tensor]:
    device = next(model.net_G_AB.parameters()).device
    return [step(model, make_batch(cfg, data, k, device), cfg, k) for k in numbers]


def _variants(cfg: TrainConfig) -> dict[str, tuple[Callable, Callable, TrainConfig]]:
    """Name → how its model is made, its step, its configuration."""
    fp32 = replace(cfg, precision="fp32", compile=False, graphs=False)
    variants = {"plain": (plain_model, plain_step, fp32), "ours, fp32": (Model, train_step, fp32)}
    settings = {"": {}, ", graphs": {"graphs": True}, ", compiled": {"compile": True}}
    settings[", compiled, graphs"] = {"compile": True, "graphs": True}
    for name, fields in settings.items():
        config = replace(fp32, precision=cfg.precision, **fields)
        if config != fp32 and config.compile <= cfg.compile and config.graphs <= cfg.graphs:
            variants[f"ours, {cfg.precision}{name}"] = (Model, train_step, config)
    return variants


def _timed(call: Callable, device: torch.device) -> float:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    started = time.perf_counter()
    call()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter() - started


def face_cost(cfg: TrainConfig, batch_sizes: tuple[int, ...]) -> dict[int, float]:
    """Seconds a face takes in `Translator`, by batch size, for a generator of this configuration."""
    translator = Translator(Model(replace(cfg, compile=False)).net_G_AB, cfg.device)
    return {size: seconds_per_face(translator, cfg.size, size) for size in batch_sizes}


def memory_of(variant: str, arguments: list[str]) -> int:
    """Largest resident memory, in bytes, of a process of its own that takes three steps of one variant (CPU)."""
    command = [sys.executable, "-m", "lib.gan.bench", *arguments, "--only", variant]
    env = os.environ | {"PYTHONPATH": str(Path(__file__).resolve().parents[2])}
    return int(subprocess.run(command, env=env, check=True, capture_output=True, text=True).stdout.split()[-1])


def parser() -> argparse.ArgumentParser:
    """The command line."""
    p = argparse.ArgumentParser(
        prog="python -m lib.gan.bench",
        description="Time a training step of the plain loop against ours, in turns, on the device that is there; "
        "measure peak memory, the share of a GPU's matrix ceiling, and what translating a face costs.",
    )
    p.add_argument("--device", default="auto", help="auto: CUDA where there is one (default), cpu, cuda, cuda:1, …")
    p.add_argument("--size", type=int, help="px (default: 64 on a CPU, 256 on a GPU)")
    p.add_argument("--ngf", type=int, help="width of generators and discriminators (default: 16 on a CPU, 64 on a GPU)")
    p.add_argument("--batch-size", type=int, default=4, help="pictures of each set in a step (default: 4)")
    p.add_argument("--rounds", type=int, default=5, help="turns of every variant, after one to warm up (default: 5)")
    p.add_argument("--steps", type=int, help="steps a turn (default: 3 on a CPU, 20 on a GPU)")
    p.add_argument(
        "--precision",
        choices=("auto", "fp32", "bf16"),
        default="auto",
        help="of the fast variant; auto: bf16 where the device computes in it (default)",
    )
    p.add_argument("--compile", choices=("auto", "on", "off"), default="auto", help="auto: on a GPU (default)")
    p.add_argument(
        "--graphs", choices=("auto", "on", "off"), default="auto", help="CUDA graphs; auto: on a GPU (default)"
    )
    p.add_argument("--json", type=Path, metavar="FILE", help="write the numbers there too")
    p.add_argument("--only", help=argparse.SUPPRESS)
    return p


def _plan(args: argparse.Namespace) -> tuple[torch.device, TrainConfig, int]:
    """Device, configuration and steps a turn of a command line; ValueError for what cannot be run."""
    for name in ("rounds", "steps"):
        value = getattr(args, name)
        if value is not None and value < 1:
            raise ValueError(f"--{name}: expected at least 1, got {value}")
    device = pick_device(args.device)
    cuda = device.type == "cuda"
    size, width, steps = (256, 64, 20) if cuda else (64, 16, 3)
    ngf = width if args.ngf is None else args.ngf
    cfg = TrainConfig(
        stage="bench",
        size=size if args.size is None else args.size,
        ngf=ngf,
        ndf=ngf,
        batch_size=args.batch_size,
        lambda_A=8.0,
        lambda_B=8.0,
        lambda_nmc=10.0,
        noise=NoiseConfig((0, 1, 0.2)),
        precision=pick_precision(device) if args.precision == "auto" else args.precision,
        compile=args.compile == "on" or (args.compile == "auto" and cuda),
        graphs=args.graphs != "off" and cuda,
        device=args.device,
    )
    return device, cfg, steps if args.steps is None else args.steps


def main(argv: list[str] | None = None) -> int:
    """Run the bench; gives the exit status (2 for arguments that cannot be run)."""
    argv = sys.argv[1:] if argv is None else argv
    args = parser().parse_args(argv)
    try:
        device, cfg, steps = _plan(args)
    except ValueError as error:
        print(f"lib.gan.bench: {error}", file=sys.stderr)
        return 2
    cuda = device.type == "cuda"
    if args.only:
        make, step, config = _variants(cfg)[args.only]
        model, data = make(config, device), toy_data(cfg.size)
        _steps(model, step, config, data, range(3))
        print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024)
        return 0

    threads = torch.get_num_threads()
    name = torch.cuda.get_device_name(device) if cuda else f"CPU, {threads} thread{'s' if threads > 1 else ''}"
    flops = step_flops(cfg)
    print(
        f"{name} ({platform.machine()}), torch {torch.__version__}; {cfg.size}², ngf {cfg.ngf}, batch {cfg.batch_size}"
    )
    print(f"one step: {flops / 1e12:.3g} TFLOP")
    results = compare(cfg, args.rounds, steps)
    ceiling = matrix_ceiling(device) if cuda else None
    for variant, row in results.items():
        row["ratio"] = results["plain"]["seconds"] / row["seconds"]
        row["peak_bytes"] = row["peak_bytes"] or memory_of(variant, argv)
        row["share_of_ceiling"] = flops / row["seconds"] / ceiling if ceiling else None
        ms, gib = row["seconds"] * 1e3, row["peak_bytes"] / 2**30
        share = f"  {row['share_of_ceiling']:.0%} of the bf16 ceiling" if ceiling else ""
        print(
            f"{variant:<27}{ms:9.1f} ms a step ±{row['spread'] / 2:.0%}{row['images_per_s']:9.1f} images/s"
            f"{row['ratio']:7.2f} × plain{gib:7.2f} GiB at most{share}"
        )
    if ceiling:
        print(f"bf16 ceiling (8192³ matrix product): {ceiling / 1e12:.0f} TFLOP/s")
    faces = face_cost(cfg, (1, 16))
    print("translating a face: " + ", ".join(f"{s * 1e3:.1f} ms in batches of {n}" for n, s in faces.items()))
    if args.json:
        note = {"device": name, "torch": torch.__version__, "config": cfg.to_dict(), "flops": flops, "ceiling": ceiling}
        write_json(args.json, note | {"variants": results, "seconds_per_face": faces})
    return 0


if __name__ == "__main__":
    sys.exit(main())
