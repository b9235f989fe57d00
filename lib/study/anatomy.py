"""Looking inside the networks: shapes layer by layer, what one score sees, and what noise at a content layer does."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd
import torch
from torch import nn

from lib.gan import Discriminator, Generator, NoiseConfig

NOISE_SHAPES = ("pixel", "channel", "full")
NOISE_PLACES = ("input", "pre_norm", "post_norm")


def layer_table(net: nn.Module, x: torch.Tensor) -> pd.DataFrame:
    """Send x through the network and note what leaves each layer.

    One row per layer in the order of execution (a residual block counts as one layer): its name, its kind, the shape of
    its output (channels × height × width) and its number of parameters.
    """
    rows, handles = [], []

    def note(name: str):
        def hook(module: nn.Module, inputs: tuple, output: torch.Tensor) -> None:
            shape = " × ".join(str(n) for n in output.shape[1:])
            rows.append({"layer": name, "kind": _kind(module), "output": shape, "parameters": count_parameters(module)})

        return hook

    for name, module in net.named_modules():
        if name and name.count(".") <= 1 and not isinstance(module, nn.ModuleList | nn.Sequential):
            handles.append(module.register_forward_hook(note(name)))
    try:
        with torch.no_grad():
            net(x)
    finally:
        for handle in handles:
            handle.remove()
    return pd.DataFrame(rows)


def count_parameters(net: nn.Module) -> int:
    """Number of trained values of a network or layer."""
    return sum(p.numel() for p in net.parameters())


def parameters_by_part(net_G: Generator) -> dict[str, int]:
    """Parameters of a generator's trunk, of its two pipelines and of the whole."""
    parts = {"trunk: convolutions": "conv", "trunk: residual blocks": "resnet"}
    counts = {
        part: sum(count_parameters(m) for key, m in net_G.named_children() if key.startswith(prefix))
        for part, prefix in parts.items()
    }
    for suffix in ("content", "attention"):
        layers = [m for key, m in net_G.named_children() if key.endswith(suffix)]
        counts[f"{suffix} pipeline"] = sum(count_parameters(m) for m in layers)
    return {**counts, "the whole generator": count_parameters(net_G)}


def _kind(module: nn.Module) -> str:
    name = type(module).__name__
    if not isinstance(module, nn.Conv2d | nn.ConvTranspose2d):
        return name
    step = f", stride {module.stride[0]}" if module.stride[0] > 1 else ""
    return f"{name} {module.kernel_size[0]}×{module.kernel_size[1]}{step}"


def receptive_field(net_D: Discriminator, size: int = 160, norm: bool = False) -> torch.Tensor:
    """How strongly each input pixel moves the middle score: |gradient|, float32 [size, size].

    norm=False leaves the instance norms out. Their means and variances run over the whole picture, so with them every
    pixel moves every score a little, and the field that the convolutions have is hidden.
    """
    layers = [layer for layer in net_D.model if norm or not isinstance(layer, nn.InstanceNorm2d)]
    x = torch.randn(1, 3, size, size, generator=torch.Generator().manual_seed(0)).requires_grad_()
    scores = nn.Sequential(*layers)(x)
    middle = scores[0, 0, scores.shape[2] // 2, scores.shape[3] // 2]
    (gradient,) = torch.autograd.grad(middle, x)
    return gradient[0].abs().sum(0)


def extent_px(field: torch.Tensor) -> tuple[int, int]:
    """Height and width of the smallest box that holds every non-zero value of [H, W]; (0, 0) where all are zero."""
    rows, columns = field.nonzero(as_tuple=True)
    if not len(rows):
        return 0, 0
    return int(rows.max() - rows.min() + 1), int(columns.max() - columns.min() + 1)


def translate_with_noise(
    net_G: Generator,
    x: torch.Tensor,
    layer: int,
    sigma: float,
    shape: str = "pixel",
    place: str = "input",
    seed: int = 0,
) -> torch.Tensor:
    """Translate [B, 3, H, W] with noise into content layer 1, 2 or 3 alone; the network's own setting is put back.

    Each picture draws from a generator of its own, seeded seed, seed + 1, …: the same draw for every sigma.
    """
    if layer not in (1, 2, 3):
        raise ValueError(f"layer: expected a content layer, 1, 2 or 3, got {layer}")
    before = net_G.noise
    net_G.noise = NoiseConfig(tuple(sigma if k == layer else 0.0 for k in (1, 2, 3)), shape, place)
    try:
        with torch.inference_mode():
            return net_G(x, [torch.Generator().manual_seed(seed + n) for n in range(len(x))])
    finally:
        net_G.noise = before


def noise_response(
    net_G: Generator,
    x: torch.Tensor,
    sigma: float,
    seed: int = 0,
    shapes: Sequence[str] = NOISE_SHAPES,
    places: Sequence[str] = NOISE_PLACES,
) -> pd.DataFrame:
    """Mean |change| of the output, in [0, 1] of the full range, for noise under every reading of paper §4.2.

    One row per shape and place, one column per content layer. Columns: shape, place, "layer 1" … "layer 3".
    """
    quiet = translate_with_noise(net_G, x, 1, 0.0)
    rows = []
    for shape in shapes:
        for place in places:
            outputs = {k: translate_with_noise(net_G, x, k, sigma, shape, place, seed) for k in (1, 2, 3)}
            changes = {f"layer {k}": ((out - quiet).abs().mean() / 2).item() for k, out in outputs.items()}
            rows.append({"shape": shape, "place": place, **changes})
    return pd.DataFrame(rows)
