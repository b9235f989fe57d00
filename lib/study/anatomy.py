"""Looking inside the networks: shapes layer by layer, what one score sees, and what noise at a content layer does."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product

import pandas as pd
import torch
import torch.nn.functional as F
from torch import nn

from lib.gan import Discriminator, Generator, NoiseConfig

NOISE_SHAPES = ("pixel", "channel", "full")
NOISE_PLACES = ("input", "pre_norm", "post_norm")
NOISE_SIGMAS = (1.0, 4.0, 16.0, 64.0)  # §4.2: "no matter how we amplified"; its own last stage has σ 1
# Not given in the paper, which looked at pictures. Ours: a hundredth of the range is about what the eye notices; and
# half of what changes is finer than 8 pixels.
SEEN, GRAINY = 0.01, 0.5


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
    sigmas: Sequence[float] = NOISE_SIGMAS,
    seed: int = 0,
    shapes: Sequence[str] = NOISE_SHAPES,
    places: Sequence[str] = NOISE_PLACES,
) -> pd.DataFrame:
    """How the output for [B, 3, H, W] answers to noise, under every reading of paper §4.2, layer by layer.

    One row per shape, place, layer (1, 2, 3) and sigma, with the means over pictures and two draws:
        change: mean |noisy − quiet|, in [0, 1] of the full range.
        grain: of what differs between two draws of a picture, the share of energy finer than 8 pixels: near 1 for
            independent pixels, near 0 for a tone that the whole picture takes on.
    """
    twice = x.repeat_interleave(2, dim=0)  # two draws of each picture
    quiet = translate_with_noise(net_G, twice, 1, 0.0)
    rows = []
    for shape, place, layer, sigma in product(shapes, places, (1, 2, 3), sigmas):
        noisy = translate_with_noise(net_G, twice, layer, sigma, shape, place, seed)
        apart = noisy[::2] - noisy[1::2]
        energy = apart.square().mean().item()
        coarse = F.avg_pool2d(apart, 8).square().mean().item()
        rows.append(
            {
                "shape": shape,
                "place": place,
                "layer": layer,
                "sigma": sigma,
                "change": (noisy - quiet).abs().mean().item() / 2,
                "grain": 1 - coarse / energy if energy > 0 else 0.0,
            }
        )
    return pd.DataFrame(rows)


def noise_verdicts(response: pd.DataFrame) -> pd.DataFrame:
    """Hold every reading against what §4.2 saw in weights trained without noise.

    It saw the same images however amplified the noise at the first layer was, and "random noise pixels" at the second
    and at the third. Seen is a change above `SEEN`, pixels are a grain above `GRAINY`.

    Returns one row per reading, the nearest first: the change at layers 1 and 3 over that at layer 2, at the lowest and
    at the highest sigma of `response`; grain of layers 2 and 3, the less grainy of its sigmas; "misses", how many of
    the three findings the reading fails to give, and the verdict in words.
    """
    rows = []
    for (shape, place), reading in response.groupby(["shape", "place"], sort=False):
        change = reading.pivot(index="sigma", columns="layer", values="change")
        grain = reading.pivot(index="sigma", columns="layer", values="grain").min()
        low, high = change.iloc[0], change.iloc[-1]
        answers = change.index[change[1] > SEEN]
        against = [f"layer 1 answers from σ {answers[0]:g}"] if len(answers) else []
        for layer in (2, 3):
            if change[layer].max() <= SEEN:
                against.append(f"layer {layer} is silent")
            elif grain[layer] < GRAINY:
                against.append(f"layer {layer} gives no pixels")
        rows.append(
            {
                "reading": f"{shape}, {place}",
                f"1 / 2, σ {low.name:g}": _ratio(low[1], low[2]),
                f"3 / 2, σ {low.name:g}": _ratio(low[3], low[2]),
                f"1 / 2, σ {high.name:g}": _ratio(high[1], high[2]),
                f"3 / 2, σ {high.name:g}": _ratio(high[3], high[2]),
                "grain 2": grain[2],
                "grain 3": grain[3],
                "misses": len(against),
                "verdict": "; ".join(against) or "as in §4.2",
            }
        )
    table = pd.DataFrame(rows).set_index("reading")
    return table.sort_values(["misses", table.columns[0]], kind="stable")


def _ratio(change: float, of: float) -> float:
    return change / of if of > 1e-4 else float("nan")
