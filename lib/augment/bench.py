"""How many pictures a second: `python -m lib.augment.bench`, see `--help`.

Faces of the face world in a temporary folder, so nothing has to be downloaded. Pictures a second are those of whole
runs without their start: from the first record to the last.
"""

import argparse
import os
import platform
import statistics
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from lib.augment.journal import Journal
from lib.augment.options import Options
from lib.augment.pipeline import augment_folder
from lib.data.faceworld import render
from lib.data.files import write_json, write_png
from lib.gan.config import pick_device
from lib.gan.infer import Translator
from lib.gan.networks import Generator


def write_faces(folder: Path, count: int, size: int) -> None:
    """`count` pictures of a face each, size² px, of which every 16th is drawn and the others are copies."""
    folder.mkdir(parents=True)
    drawn = render(range(16), range(16), size=size, what=("full",), supersample=1).full
    pixels = (drawn.permute(0, 2, 3, 1) * 255).round_().clamp_(0, 255).byte().numpy()
    for k in range(count):
        write_png(folder / f"{k:05}.png", pixels[k % 16])


def pictures_per_second(in_dir: Path, out_dir: Path, options: Options) -> float:
    """Of one run, between the first record and the last: the start is left out."""
    times: list[float] = []
    add = Journal.add

    def timed(journal: Journal, record: dict) -> None:
        add(journal, record)
        times.append(time.perf_counter())

    Journal.add = timed
    try:
        augment_folder(in_dir, out_dir, options)
    finally:
        Journal.add = add
    return (len(times) - 1) / (times[-1] - times[0])


def faces_per_second(translator: Translator, size: int, batch_size: int, repeats: int) -> float:
    """Of step two alone in bfloat16, uint8 in and out, in full batches: median of `repeats` after one to warm up."""
    pictures = np.random.default_rng(0).integers(0, 256, (batch_size, size, size, 3), dtype=np.uint8)
    translator.batch_size = batch_size
    times = []
    for _ in range(1 + repeats):
        started = time.perf_counter()
        with torch.autocast(translator.device.type, torch.bfloat16):
            translator.translate(pictures, range(batch_size))
        times.append(time.perf_counter() - started)
    return batch_size / statistics.median(times[1:])


def machine(device: torch.device) -> str:
    """Facts in a line."""
    load = f", load {os.getloadavg()[0]:.1f}" if hasattr(os, "getloadavg") else ""
    gpu = f", {torch.cuda.get_device_name(device)}" if device.type == "cuda" else ""
    versions = f"Python {platform.python_version()}, torch {torch.__version__}"
    return f"{platform.machine()}, {os.cpu_count()} cores{gpu}, {versions}{load}"


def main(argv: list[str] | None = None) -> int:
    """Measure, print a table."""
    p = argparse.ArgumentParser(prog="python -m lib.augment.bench", description=__doc__.splitlines()[0])
    p.add_argument("--pictures", type=int, default=48, metavar="N", help="in a run (default: %(default)s)")
    p.add_argument("--picture-size", type=int, default=256, metavar="PX", help="default: %(default)s")
    p.add_argument("--workers", type=int, nargs="*", default=[1, 2], metavar="N", help="default: 1 2")
    p.add_argument("--checkpoint", metavar="WEIGHTS", help="default: the released model that is the default")
    p.add_argument("--device", default="auto", help="of step two: auto, cpu, cuda, … (default: %(default)s)")
    p.add_argument("--size", type=int, default=256, metavar="PX", help="of step two alone (default: %(default)s)")
    p.add_argument("--batch-size", type=int, metavar="N", help="of step two alone (default: 1, on a GPU 64)")
    p.add_argument("--repeats", type=int, default=2, metavar="N", help="of step two alone (default: %(default)s)")
    p.add_argument("--json", type=Path, metavar="FILE", help="write the numbers there too")
    args = p.parse_args(argv)

    device = pick_device(args.device)
    facts, numbers = machine(device), {}
    print(facts)
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        write_faces(root / "in", args.pictures, args.picture_size)
        common = {"device": args.device, "progress": False, "dashboard": False}
        rule, both = Options(rule_only=True, **common), Options(checkpoint=args.checkpoint, **common)
        for name, options in {"rule-only": rule, "both steps": both}.items():
            for workers in args.workers:
                out = root / f"{name} {workers}"
                told = f"{name}, {args.picture_size}² px, {workers} worker{'s' * (workers != 1)}"
                numbers[told] = pictures_per_second(root / "in", out, replace(options, workers=workers))
                print(f"{told:64} {numbers[told]:8.2f} pictures/s", flush=True)
    batch = args.batch_size or (64 if device.type == "cuda" else 1)
    networks = {"the model": both.checked().checkpoint, "the paper's network": Generator()}
    for name, source in networks.items():
        translator = Translator(source, args.device, batch)
        told = f"step two alone, {name}, {args.size}² px, bf16, {batch} at once"
        numbers[told] = faces_per_second(translator, args.size, batch, args.repeats)
        print(f"{told:64} {numbers[told]:8.2f} faces/s", flush=True)
    if args.json:
        write_json(args.json, {"machine": facts, **numbers})
    return 0


if __name__ == "__main__":
    sys.exit(main())
