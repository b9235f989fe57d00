"""Weights of the public AttentionGAN-v2 code (Tang et al. 2021) in our generator.

Both name their parameters alike and compute the same function, so the way back is `net.state_dict()`.
"""

import re
import warnings
from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors.torch import load_file

from .checkpoints import CheckpointError
from .networks import Generator

UNPICKLED = (".pth", ".pt")
RUNNING = ("running_mean", "running_var", "num_batches_tracked")
DTYPES = (torch.float16, torch.bfloat16, torch.float32, torch.float64)
LISTED = 6  # keys in a message; the rest are counted


def load_attentiongan(path: Path | str) -> Generator:
    """The generator of a state dict of the public code, e.g. latest_net_G_A.pth (A → B): on the CPU, eval, noise off.

    Keys as conv1.weight, resnet_blocks.0.conv1.weight, deconv3_attention.bias, with or without "module." before all
    of them, bare or under "state_dict"; ngf, n_blocks and n_content are read off the shapes. float32 whatever the file
    holds. To translate with noise replace `.noise` of the result.
    A .safetensors file is read as such. A .pth or .pt file is a pickle, the one exception to this package's rule to
    read none: it is opened with torch's weights_only unpickler, which builds tensors and plain containers and refuses
    everything else before it is run.
    Raises CheckpointError that names the file where it is missing, damaged, no such state dict (missing and unexpected
    keys are listed), not finite, or of a generator with affine norms or running statistics, another function.
    """
    path = Path(path)
    tensors = _tensors(_read(path), path)
    _refuse_other_norms(tensors, path)
    with torch.device("meta"):  # whatever the shapes say, nothing is allocated before they are compared
        try:
            net = Generator(**_sizes(tensors))
        except (RuntimeError, TypeError, OverflowError):  # larger than torch can count: no such file is sound
            net = Generator()
    _refuse_other_keys(tensors, net, path)
    for key, value in tensors.items():
        if not (value.dtype in DTYPES and value.layout == torch.strided and value.device.type == "cpu"):
            raise CheckpointError(
                f"{path}: {key}: expected a dense floating-point tensor of 16 to 64 bits, got {_kind(value)}"
            )
        if not value.isfinite().all():
            raise CheckpointError(f"{path}: {key} holds values that are not finite; use an earlier checkpoint")
    like = {"dtype": torch.float32, "copy": True, "memory_format": torch.contiguous_format}
    net.load_state_dict({key: value.detach().to(**like) for key, value in tensors.items()}, assign=True)
    return net.eval()


def _read(path: Path) -> object:
    if not path.is_file():
        raise CheckpointError(f"{path}: no such file; expected a state dict as .pth, .pt or .safetensors")
    kind = path.suffix.lower()
    if kind not in (*UNPICKLED, ".safetensors"):
        raise CheckpointError(f"{path}: expected a .pth, .pt or .safetensors file, got {path.suffix or 'no suffix'}")
    try:
        with warnings.catch_warnings():  # on sparse, quantised and old tensors: refused by name later, or fine
            warnings.simplefilter("ignore", UserWarning)
            return torch.load(path, map_location="cpu", weights_only=True) if kind in UNPICKLED else load_file(path)
    except Exception as error:  # a damaged or hostile file raises almost anything
        # Not chained: torch's message advises to unpickle the file without restriction.
        raise CheckpointError(
            f"{path}: damaged, or more than tensors ({type(error).__name__}); nothing in it was run. If you trust its "
            "source, write only net.state_dict() where the file was made, best as .safetensors"
        ) from None


def _tensors(loaded: object, path: Path) -> dict[str, torch.Tensor]:
    if isinstance(loaded, Mapping) and isinstance(loaded.get("state_dict"), Mapping):
        loaded = loaded["state_dict"]
    if not isinstance(loaded, Mapping):
        raise CheckpointError(f"{path}: expected a state dict (name → tensor), got a {type(loaded).__name__}")
    for key, value in loaded.items():
        if not (isinstance(key, str) and isinstance(value, torch.Tensor)):
            got = f"{key!r}: {type(value).__name__}"
            raise CheckpointError(f"{path}: expected a state dict (name → tensor), got {got}")
    prefix = "module." if all(key.startswith("module.") for key in loaded) else ""  # left by nn.DataParallel
    return {key.removeprefix(prefix): value for key, value in loaded.items()}


def _refuse_other_norms(tensors: dict[str, torch.Tensor], path: Path) -> None:
    running = [key for key in tensors if key.endswith(RUNNING)]
    if running:
        raise CheckpointError(
            f"{path}: running statistics of norms ({_some(running)}): a generator that uses them in eval is another "
            "function; if yours does not (files of PyTorch before 0.4), delete these keys and save it again"
        )
    affine = [key for key in tensors if "norm" in key]
    if affine:
        raise CheckpointError(
            f"{path}: norms with weights ({_some(affine)}): another function; the public AttentionGAN-v2 has none"
        )


def _sizes(tensors: dict[str, torch.Tensor]) -> dict[str, int]:
    """Arguments of the generator whose shapes these could be; the published ones where nothing tells."""
    first = {key: value.shape[0] for key, value in tensors.items() if value.ndim}
    blocks = {found[1] for key in tensors if (found := re.match(r"resnet_blocks\.(\d+)\.", key))}
    ngf, maps = first.get("conv1.weight", 64), first.get("deconv3_attention.weight", 10)
    return {"ngf": max(ngf, 1), "n_blocks": len(blocks) or 9, "n_content": max(maps - 1, 1)}


def _refuse_other_keys(tensors: dict[str, torch.Tensor], net: Generator, path: Path) -> None:
    expected = {key: list(value.shape) for key, value in net.state_dict().items()}
    got = {key: list(value.shape) for key, value in tensors.items()}
    faults = {
        "missing": [key for key in expected if key not in got],
        "unexpected": [key for key in got if key not in expected],
        "of another shape": [
            f"{key} {got[key]} for {expected[key]}" for key in expected if key in got and got[key] != expected[key]
        ],
    }
    if any(faults.values()):
        told = "; ".join(f"{len(keys)} {fault}: {_some(keys)}" for fault, keys in faults.items() if keys)
        raise CheckpointError(f"{path}: no generator of the public AttentionGAN-v2 ({told})")


def _kind(value: torch.Tensor) -> str:
    return f"{value.dtype} ({value.layout}, {value.device.type})".replace("torch.", "")


def _some(keys: list[str]) -> str:
    more = len(keys) - LISTED
    return ", ".join(keys[:LISTED]) + (f" and {more} more" if more > 0 else "")
