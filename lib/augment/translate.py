"""Step two over many pictures: crops of their faces go through the generator in full batches."""

import functools
import json
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from safetensors import SafetensorError, safe_open

from lib.augment.options import AugmentError
from lib.augment.steps import Stepped

if TYPE_CHECKING:
    from lib.gan.infer import Translator

PAPER_SIZE = 256  # px, paper §4: for a checkpoint that does not tell its own


def training_size(checkpoint: Path) -> int:
    """The size, in px, of the pictures that a generator is to see.

    A released model's folder tells it (`use_px`, else the size of its training); for a file it is `size` in its own
    metadata or in the `meta.json` beside it, else the paper's 256. AugmentError where the file is no safetensors file.
    """
    if checkpoint.is_dir():
        from lib.gan.released import read_model

        model = read_model(checkpoint)
        return model.get("use_px", model["size_px"])
    try:
        with safe_open(checkpoint, framework="np") as file:
            notes = file.metadata() or {}
    except (OSError, SafetensorError) as error:
        raise AugmentError(f"{checkpoint}: not a safetensors checkpoint ({error})") from None
    places = [notes.get("config", "{}")]
    beside = checkpoint.with_name("meta.json")
    if beside.is_file():
        places.append(beside.read_text(encoding="utf-8"))
    for place in places:
        try:
            meta = json.loads(place)
            size = meta.get("size") or meta.get("config", {}).get("size")
        except (ValueError, AttributeError):
            continue
        if isinstance(size, int) and size > 0:
            return size
    return PAPER_SIZE


@functools.lru_cache(maxsize=1)
def load_translator(checkpoint: Path, digest: str, device: str, batch_size: int) -> "Translator":
    """The generator of step two, loaded once per process. digest: of the weights; other weights are loaded anew.

    AugmentError for weights that cannot be loaded and for a device that is not there.
    """
    from lib.gan.checkpoints import CheckpointError  # here, because the rule-based step alone needs no network
    from lib.gan.infer import Translator

    try:
        return Translator(checkpoint, device, batch_size)
    except (CheckpointError, RuntimeError, OSError, ValueError) as error:
        raise AugmentError(" ".join(str(error).split())) from None


def translate_batch(faces: Sequence[tuple[np.ndarray, int]], translator: "Translator", batch_size: int) -> np.ndarray:
    """Translate at most `batch_size` faces, (crop uint8 [S, S, 3], noise seed) each; gives uint8 [N, S, S, 3].

    The generator always gets `batch_size` of them (a crop is repeated): convolution routines are chosen by batch size
    and may round differently, and a face must not depend on how many others came along. AugmentError where the device
    fails.
    """
    crops, seeds = zip(*faces, *[faces[-1]] * (batch_size - len(faces)))
    try:
        return translator.translate(np.stack(crops), list(seeds)).images[: len(faces)]
    except RuntimeError as error:  # torch's; most often the device's memory
        what = " ".join(str(error).split())[:200]
        raise AugmentError(f"the translation failed ({what}); try a smaller --batch-size or --device cpu") from None


def translate(
    stepped: Iterable[Stepped], translator: "Translator", batch_size: int
) -> Iterator[tuple[Stepped, list[np.ndarray]]]:
    """Yield each picture with its translated crops, uint8 [S, S, 3] each, as soon as they are all there.

    Args:
        stepped: Pictures after step one; those without a masked face pass through.
        translator: With `translate(uint8 [B, S, S, 3], seeds) -> .images`.
        batch_size: Faces at once.
    """
    waiting: list[tuple[Stepped, int]] = []
    results: dict[int, list] = {}

    def run() -> Iterator[tuple[Stepped, list[np.ndarray]]]:
        batch = waiting[:batch_size]
        del waiting[:batch_size]
        faces = [(picture.faces[k].crop, picture.faces[k].noise_seed) for picture, k in batch]
        for (picture, k), fake in zip(batch, translate_batch(faces, translator, batch_size)):
            done = results.setdefault(id(picture), [])
            done.append(fake)
            if k == len(picture.faces) - 1:
                yield picture, results.pop(id(picture))

    for picture in stepped:
        if not picture.faces:
            yield picture, []
        waiting.extend((picture, k) for k in range(len(picture.faces)))
        while len(waiting) >= batch_size:
            yield from run()
    while waiting:
        yield from run()
