"""A stage as a file, so that other processes than the one that planned it can train it, several at once.

    RUN/job.json   config (TrainConfig), data (raw uint8 files with their shapes), init_from, parent: `train`'s inputs

Paths are relative to RUN. `python -m lib.gan.train RUN` trains it in one process, torchrun in several.
"""

import gc
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
import torch.distributed as dist

from lib.data.files import read_json, write_json, write_text

from .batches import TrainData
from .checkpoints import CheckpointError
from .config import TrainConfig, pick_device
from .trainer import Result, TrainError, train

PARTS = ("A", "B", "non_mask", "samples", "samples_non_mask")
ERROR = "error.txt"  # why the processes of `launch` failed, on its way from them to it
LAUNCHED = "LIB_GAN_LAUNCHED"  # in the environment of those processes


def write_job(
    run_dir: Path, cfg: TrainConfig, data: TrainData, init_from: Path | None = None, parent: dict | None = None
) -> Path:
    """Write RUN/job.json. The parts of data must be memory maps, as lib.data.stack makes them (TypeError)."""
    run_dir = Path(run_dir)
    parts = {}
    for name in PARTS:
        images = getattr(data, name)
        if images is None:
            continue
        if not isinstance(images, np.memmap):
            raise TypeError(f"TrainData.{name}: expected a memory-mapped stack, got {type(images).__name__}")
        whole = np.memmap(images.filename, np.uint8, "r")
        # It will be read from its file's beginning, which a cut-out need not be.
        if whole.size != images.size and not np.array_equal(whole[: images.size], images.ravel()):
            raise TypeError(f"TrainData.{name}: expected the beginning of {images.filename}, got a later part")
        parts[name] = {"file": _relative(images.filename, run_dir), "shape": list(images.shape)}
    start = None if init_from is None else _relative(init_from, run_dir)
    write_json(run_dir / "job.json", {"config": cfg.to_dict(), "data": parts, "init_from": start, "parent": parent})
    return run_dir / "job.json"


def read_job(run_dir: Path) -> dict:
    """`train`'s arguments cfg, data, init_from and parent. Raises CheckpointError naming what is missing or damaged."""
    path = Path(run_dir) / "job.json"
    try:
        job = read_json(path)
        data = {name: _open(path.parent / part["file"], part["shape"]) for name, part in job["data"].items()}
        cfg, parent = TrainConfig.from_dict(job["config"]), job["parent"]
        start = None if job["init_from"] is None else path.parent / job["init_from"]
        return {"cfg": cfg, "data": TrainData(**data), "init_from": start, "parent": parent}
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise CheckpointError(f"{path}: no usable job ({error}); the notebook of the stage writes it") from error


def train_job(run_dir: Path, progress: bool = True) -> Result:
    """Train RUN's job in this process, or as one rank of several where torchrun started it."""
    world, local = int(os.environ.get("WORLD_SIZE", 1)), int(os.environ.get("LOCAL_RANK", 0))
    job = read_job(run_dir)
    device = pick_device(job["cfg"].device)
    if world > 1:
        if device.type == "cuda":
            if local >= torch.cuda.device_count():
                raise TrainError(f"{world} processes but {torch.cuda.device_count()} GPUs: start one for each")
            device = torch.device("cuda", local)
            torch.cuda.set_device(device)
        dist.init_process_group("nccl" if device.type == "cuda" else "gloo")
    try:
        return train(**job | {"cfg": replace(job["cfg"], device=str(device))}, run_dir=run_dir, progress=progress)
    finally:
        if world > 1:
            leave_group()


def leave_group() -> None:
    """Leave the process group for good.

    Networks wrapped for DDP lie in reference cycles and hold the group: were they alive at the interpreter's end, so
    would gloo's threads be, and abort the process now and then ("terminate called without an active exception").
    """
    gc.collect()
    dist.destroy_process_group()


def launch(run_dir: Path, devices: int) -> None:
    """Train RUN's job in `devices` processes (torchrun on this machine), its output passed on.

    Raises TrainError with the reason where they fail; the same call goes on where they stopped.
    """
    run_dir = Path(run_dir)
    (run_dir / ERROR).unlink(missing_ok=True)
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(devices)]
    root = str(Path(__file__).resolve().parents[2])
    path = os.pathsep.join(filter(None, (root, os.environ.get("PYTHONPATH"))))
    env = os.environ | {"PYTHONPATH": path, LAUNCHED: "1"}
    env.setdefault("OMP_NUM_THREADS", str(max(1, torch.get_num_threads() // devices)))
    with subprocess.Popen(
        [*command, "-m", "lib.gan.train", str(run_dir)],
        env=env, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
    ) as process:  # fmt: skip
        last = ""
        try:
            for line in process.stdout:
                last = line.strip() or last
                print(line, end="")
        except BaseException:  # an interrupted cell must not leave processes behind
            process.terminate()
            raise
    if process.returncode:
        error = run_dir / ERROR
        reason = error.read_text(encoding="utf-8").strip() if error.exists() else last
        error.unlink(missing_ok=True)
        raise TrainError(f"{run_dir}: training in {devices} processes failed: {reason}")


def main(argv: list[str]) -> int:
    """`python -m lib.gan.train RUN`; gives the exit status."""
    if len(argv) != 1 or argv[0].startswith("-"):
        asked = argv in (["-h"], ["--help"])
        print(USAGE, file=sys.stdout if asked else sys.stderr)
        return 0 if asked else 2
    try:
        result = train_job(Path(argv[0]))
    except (TrainError, CheckpointError, ValueError) as error:
        print(f"lib.gan.train: {error}", file=sys.stderr)
        if LAUNCHED in os.environ and Path(argv[0]).is_dir():
            write_text(Path(argv[0]) / ERROR, f"{error}\n")
        return 2
    if int(os.environ.get("RANK", 0)) == 0:
        (Path(argv[0]) / ERROR).unlink(missing_ok=True)
        print(f"{'already finished' if result.already_finished else 'finished'}: {result.checkpoint}")
    return 0


USAGE = """\
usage: python -m lib.gan.train RUN
       torchrun --nproc-per-node N -m lib.gan.train RUN

Trains the stage whose job.json lies in RUN, a stage's run folder such as runs/first/stage4 (the notebook of a stage
writes it when it starts), to its end, from where it was stopped. With torchrun N processes share every batch: the
batch size in job.json is that of all together, so N must divide it; the learning rate belongs to that batch."""


def _relative(path: Path | str, run_dir: Path) -> str:
    return Path(os.path.relpath(path, run_dir)).as_posix()


def _open(path: Path, shape: list[int]) -> np.memmap:
    images = np.memmap(path, np.uint8, "r")
    if images.size != int(np.prod(shape)):
        raise ValueError(f"{path}: {images.size:,} bytes, expected shape {shape}")
    return images.reshape(shape)
