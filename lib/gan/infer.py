"""Use a trained generator: no optimiser, no discriminator, no non-mask tensors (paper §4.1, last lines)."""

import statistics
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch

from lib.data.files import read_json, sha256
from lib.data.images import to_pixels, to_tensor

from .checkpoints import CheckpointError, load_network
from .config import pick_device
from .networks import Generator
from .released import find_weights, load_released


def load_generator(path: Path | str | None = None, device: torch.device | str = "cpu") -> Generator:
    """A generator, ready to translate.

    path: a net_G_*.safetensors file, a checkpoint folder (its net_G_AB), a released model's name or folder; None for
    the released model that is the default (see `released`).
    Raises CheckpointError where a file is missing, damaged or no generator, and for an unknown name.
    """
    path = find_weights(path)
    if path.is_dir():
        return load_released(path, device)
    beside = path.with_name("meta.json")
    expected = read_json(beside).get("files", {}).get(path.name) if beside.is_file() else None
    if expected and sha256(path) != expected:
        raise CheckpointError(f"{path}: damaged (its content is not what {beside.name} lists); use another checkpoint")
    net = load_network(path, device)
    if not isinstance(net, Generator):
        raise CheckpointError(f"{path}: expected a generator, got a {type(net).__name__}; use net_G_AB.safetensors")
    return net.eval().requires_grad_(False)


@dataclass
class Translation:
    """images: uint8 [N, H, W, 3] RGB. attention: float32 [N, H, W] in [0, 1], where the network changes the input

    (1 − the attention map of the input: 0 keeps a pixel as it was, 1 draws it anew)."""

    images: np.ndarray
    attention: np.ndarray


class Translator:
    """Translates pictures with one generator.

    source: a generator, or a path as for `load_generator`; None for the default released model. device: "auto" = CUDA
    where there is one. batch_size: pictures at a time; it changes speed and memory only.
    """

    def __init__(
        self, source: Generator | Path | str | None = None, device: str = "auto", batch_size: int = 16
    ) -> None:
        self.device = pick_device(device)
        given = isinstance(source, Generator)
        self.generator = source.to(self.device).eval() if given else load_generator(source, self.device)
        self.noise = self.generator.noise
        self.batch_size = batch_size

    def translate(
        self, images: np.ndarray, seeds: Sequence[int] | None = None, sigma: Sequence[float] | None = None
    ) -> Translation:
        """uint8 [N, H, W, 3] RGB, H and W divisible by 4 → `Translation` of the same size.

        seeds: one per image, in [0, 2**32): each image has a noise stream of its own, so its result does not hang on
        its neighbours or the batch size. None only where there is no noise.
        sigma: overrides the standard deviations at the content layers 1, 2, 3; (0, 0, 0) turns noise off.
        Raises ValueError for another shape or type, and for seeds that are missing or do not match.
        """
        if images.ndim != 4 or images.shape[-1] != 3 or images.dtype != np.uint8:
            raise ValueError(f"images: expected uint8 [N, H, W, 3], got {images.dtype} {list(images.shape)}")
        noise = self.noise if sigma is None else replace(self.noise, sigma=tuple(sigma))
        if noise.active and (seeds is None or len(seeds) != len(images)):
            got = "none" if seeds is None else len(seeds)
            raise ValueError(f"seeds: expected one per image ({len(images)}), got {got}; sigma (0, 0, 0) needs none")
        self.generator.noise = noise
        out = np.empty_like(images)
        attention = np.empty(images.shape[:3], np.float32)
        for start in range(0, len(images), self.batch_size):
            part = slice(start, start + self.batch_size)
            streams = [torch.Generator().manual_seed(int(s)) for s in seeds[part]] if noise.active else None
            with torch.inference_mode():
                result = self.generator(to_tensor(images[part]).to(self.device), streams, return_parts=True)
            out[part] = to_pixels(result.output.cpu())
            attention[part] = (1 - result.attention[:, -1]).clamp(0, 1).cpu().numpy()
        return Translation(out, attention)


def seconds_per_face(translator: Translator, size: int, batch_size: int, repeats: int = 3) -> float:
    """Wall-clock seconds one size² picture costs in full batches: the median of `repeats`, after one to warm up.

    All that `Translator.translate` does counts: to the device, noise, network, back to uint8. Faces are not looked for.
    """
    pictures = np.random.default_rng(0).integers(0, 256, (batch_size, size, size, 3), dtype=np.uint8)
    before, translator.batch_size = translator.batch_size, batch_size
    times = []
    try:
        for _ in range(1 + repeats):
            started = time.perf_counter()
            translator.translate(pictures, range(batch_size))
            times.append(time.perf_counter() - started)
    finally:
        translator.batch_size = before
    return statistics.median(times[1:]) / batch_size
