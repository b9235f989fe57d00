"""AttentionGAN-v2's generator with noise inputs, and the PatchGAN discriminator (paper §4, Figures 2 and 3).

Tensors are float32 [B, 3, H, W], RGB, range [−1, 1]. Instance normalisation has no affine parameters and no running
statistics, so every sample of a batch is treated alone: passing two batches joined equals passing them apart.

Where the published AttentionGAN-v2 and the paper's words differ we follow the published form: the paper says three
transposed convolutions per pipeline; the third is a plain convolution (7×7 for contents, 1×1 for attention).
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import NamedTuple, Protocol

import torch
import torch.nn.functional as F
from torch import nn

AVERAGE = "net_G_AB_average"  # name of the running mean of net_G_AB's weights, a generator, too


class NoiseStream(Protocol):
    """Anything that draws unit Gaussian noise of a shape (`ranks.RankNoise` does, for one rank of several)."""

    def draw(self, shape: tuple[int, ...]) -> torch.Tensor: ...


NoiseSource = torch.Generator | Sequence[torch.Generator] | NoiseStream


@dataclass(frozen=True)
class NoiseConfig:
    """Zero-mean Gaussian noise into the three content layers (paper §4.2, Figure 2).

    sigma: standard deviations at content layers 1, 2, 3. Paper §4.2: (0, 1, 0.2) in the last stage, (0, 0, 0) before.
    shape: "pixel" one value per pixel, the same for all channels; "channel" one value per channel, the same for all
        pixels; "full" one value each. Not given in the paper; "pixel" chosen because StyleGAN, which §4.2 names as the
        model, draws one value per pixel and because §4.2 sees "random noise pixels" in Figure 3.
    place: "input" adds to what the layer receives; "pre_norm" to what its convolution gives; "post_norm" after the
        instance norm and before the activation. Layer 3 has no norm: both mean before its tanh. Not given in the
        paper; "input" chosen because §4.2 speaks of "noise input to the … layer".
    """

    sigma: tuple[float, float, float] = (0.0, 0.0, 0.0)
    shape: str = "pixel"
    place: str = "input"

    def __post_init__(self) -> None:
        object.__setattr__(self, "sigma", tuple(float(s) for s in self.sigma))
        if len(self.sigma) != 3 or any(not 0 <= s < float("inf") for s in self.sigma):
            raise ValueError(
                f"noise sigma: expected three finite numbers ≥ 0 (content layers 1, 2, 3), got {self.sigma}"
            )
        if self.shape not in ("pixel", "channel", "full"):
            raise ValueError(f"noise shape: expected 'pixel', 'channel' or 'full', got {self.shape!r}")
        if self.place not in ("input", "pre_norm", "post_norm"):
            raise ValueError(f"noise place: expected 'input', 'pre_norm' or 'post_norm', got {self.place!r}")

    @property
    def active(self) -> bool:
        """True where any content layer receives noise."""
        return any(s > 0 for s in self.sigma)


class Parts(NamedTuple):
    """What a generator made its output of: output = Σ contents[:, i]·attention[:, i] + input·attention[:, −1]."""

    output: torch.Tensor  # [B, 3, H, W] in [−1, 1]
    contents: torch.Tensor  # [B, n_content, 3, H, W] in [−1, 1]
    attention: torch.Tensor  # [B, n_content + 1, H, W], sums to 1 over dim 1; the last map keeps the input


def instance_norm(x: torch.Tensor) -> torch.Tensor:
    """Zero mean, unit variance per sample and channel, [B, C, H, W] → same shape. eps 1e-5: as published."""
    return F.instance_norm(x, eps=1e-5)


def reflect(x: torch.Tensor, pad_px: int) -> torch.Tensor:
    """Reflection padding by pad_px on all four sides."""
    return F.pad(x, (pad_px,) * 4, mode="reflect")


def full(x: torch.Tensor) -> torch.Tensor:
    """Autocast's half precision → float32; float32 and float64 as they are."""
    return x.float() if x.dtype in (torch.bfloat16, torch.float16) else x


def draw_noise(shape: tuple[int, ...], source: NoiseSource, like: torch.Tensor) -> torch.Tensor:
    """Unit Gaussian noise [B, …] in like's dtype on like's device.

    One generator draws the whole batch in one go: reproducible for the same batch, but a sample's noise then depends
    on its place in it. A sequence of generators (one per sample) gives each sample a stream of its own, whatever else
    is in the batch. Values are drawn in float32 on the generator's device, so CPU generators give the same noise for
    every device the network runs on.
    """
    if isinstance(source, torch.Generator):
        values = torch.randn(shape, generator=source, device=source.device)
    elif hasattr(source, "draw"):
        values = source.draw(shape)
    else:
        if len(source) != shape[0]:
            raise ValueError(f"expected one noise generator per sample, {shape[0]}, got {len(source)}")
        values = torch.stack([torch.randn(shape[1:], generator=g, device=g.device) for g in source])
    return values.to(like)


class ResidualBlock(nn.Module):
    """x + IN(conv2(ReLU(IN(conv1(x))))), 3×3 convolutions on reflection-padded input; shape unchanged."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, channels, 3)
        self.conv2 = nn.Conv2d(channels, channels, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        h = F.relu(instance_norm(self.conv1(reflect(x, 1))), inplace=True)
        return x + instance_norm(self.conv2(reflect(h, 1)))


class ResizeConv2d(nn.Conv2d):
    """Nearest-neighbour doubling and a 3×3 convolution in the place of a transposed one (Odena et al. 2016).

    A transposed convolution with kernel 3 and stride 2 reaches its output pixels through 1, 2 or 4 taps in turn: a
    checker that training has to unlearn. Here every pixel has nine. [B, C_in, H, W] → [B, C_out, 2·H, 2·W].
    Not given in the paper: kernel 3 chosen as that of the layer replaced, the reflected rim as everywhere else here.
    """

    def __init__(self, channels: int, narrower: int) -> None:
        super().__init__(channels, narrower, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return super().forward(reflect(F.interpolate(x, scale_factor=2, mode="nearest"), 1))


def _transposed(channels: int, narrower: int) -> nn.ConvTranspose2d:
    return nn.ConvTranspose2d(channels, narrower, 3, stride=2, padding=1, output_padding=1)


UPSAMPLING = {"transposed": _transposed, "resize": ResizeConv2d}


class Generator(nn.Module):
    """AttentionGAN-v2: n_content RGB contents and the input, blended by n_content + 1 attentions (paper §4, Fig. 2).

    ngf 64, n_blocks 9, n_content 9: paper §4 and AttentionGAN's defaults. `noise` is a plain attribute: it holds no
    weights and may be replaced at any time (a stage with noise starts from weights trained without it).
    upsampling: "transposed" (paper Fig. 2, "TC") or "resize", see `ResizeConv2d`: a deviation that draws no checker.
    Parameter names are those of the published network, so that its state dicts map one to one.
    """

    def __init__(
        self,
        ngf: int = 64,
        n_blocks: int = 9,
        n_content: int = 9,
        noise: NoiseConfig | None = None,
        upsampling: str = "transposed",
    ) -> None:
        super().__init__()
        if upsampling not in UPSAMPLING:
            raise ValueError(f"upsampling: expected one of {', '.join(UPSAMPLING)}, got {upsampling!r}")
        self.ngf, self.n_blocks, self.n_content, self.upsampling = ngf, n_blocks, n_content, upsampling
        self.noise = noise or NoiseConfig()
        self.conv1 = nn.Conv2d(3, ngf, 7)
        self.conv2 = nn.Conv2d(ngf, 2 * ngf, 3, stride=2, padding=1)
        self.conv3 = nn.Conv2d(2 * ngf, 4 * ngf, 3, stride=2, padding=1)
        self.resnet_blocks = nn.ModuleList(ResidualBlock(4 * ngf) for _ in range(n_blocks))
        up = UPSAMPLING[upsampling]
        self.deconv1_content = up(4 * ngf, 2 * ngf)
        self.deconv2_content = up(2 * ngf, ngf)
        self.deconv3_content = nn.Conv2d(ngf, 3 * n_content, 7)
        self.deconv1_attention = up(4 * ngf, 2 * ngf)
        self.deconv2_attention = up(2 * ngf, ngf)
        self.deconv3_attention = nn.Conv2d(ngf, n_content + 1, 1)

    def config(self) -> dict:
        """The arguments that build this network again, JSON-able."""
        sizes = {name: getattr(self, name) for name in ("ngf", "n_blocks", "n_content", "upsampling")}
        return sizes | {"noise": asdict(self.noise)}

    @classmethod
    def from_config(cls, config: dict) -> "Generator":
        """Inverse of `config` (fresh weights)."""
        return cls(**{**config, "noise": NoiseConfig(**config["noise"])})

    def forward(
        self, x: torch.Tensor, noise: NoiseSource | None = None, return_parts: bool = False
    ) -> torch.Tensor | Parts:
        """Translate [B, 3, H, W] in [−1, 1], H and W divisible by 4 and at least 8, to the same shape and range.

        noise: a generator, or one per sample (see `draw_noise`). Where every sigma is 0 it is not touched and may be
        None; where a sigma is above 0 it must be given (ValueError), so that noise is never unseeded. Draws are made
        in the order of the layers; a layer with sigma 0 draws nothing.
        return_parts: give `Parts` (output, contents, attention) instead of the output alone.
        """
        self._check(x, noise)
        draws = [self._draw(index, x, noise) for index in range(3)]
        parts = self._translate(x, *draws)
        return parts if return_parts else parts.output

    def _translate(
        self, x: torch.Tensor, noise_1: torch.Tensor | None, noise_2: torch.Tensor | None, noise_3: torch.Tensor | None
    ) -> Parts:
        """The whole network as one function of tensors; `compile` replaces it by its compiled form."""
        h = self._encode(x)
        contents = self._contents(h, (noise_1, noise_2, noise_3)).unflatten(1, (self.n_content, 3))
        attention = self._attention(h)
        output = (contents * attention[:, :-1, None]).sum(dim=1) + x * attention[:, -1:]
        return Parts(output, contents, attention)

    def compile(self, **options) -> None:
        """Have torch.compile take the network from here on; weights and their names stay."""
        self._translate = torch.compile(self._translate, **options)

    def _check(self, x: torch.Tensor, noise: NoiseSource | None) -> None:
        if x.ndim != 4 or x.shape[1] != 3:
            raise ValueError(f"the generator expects [B, 3, H, W], got {list(x.shape)}")
        height, width = x.shape[2:]
        if height % 4 or width % 4 or min(height, width) < 8:
            raise ValueError(
                f"the generator expects height and width divisible by 4 and at least 8, got {height}×{width}: "
                "resize the picture first"
            )
        if self.noise.active and noise is None:
            raise ValueError(
                f"this generator takes noise (sigma {self.noise.sigma}) but got no torch.Generator: pass a seeded one, "
                "or one per sample; for a noise-free output set its sigma to (0, 0, 0)"
            )

    def _encode(self, x: torch.Tensor) -> torch.Tensor:
        h = F.relu(instance_norm(self.conv1(reflect(x, 3))), inplace=True)
        h = F.relu(instance_norm(self.conv2(h)), inplace=True)
        h = F.relu(instance_norm(self.conv3(h)), inplace=True)
        for block in self.resnet_blocks:
            h = block(h)
        return h

    def _contents(self, h: torch.Tensor, noise: Sequence[torch.Tensor | None]) -> torch.Tensor:
        for index, layer in enumerate((self.deconv1_content, self.deconv2_content)):
            h = layer(self._noisy(h, noise[index], "input"))
            h = instance_norm(self._noisy(h, noise[index], "pre_norm"))
            h = F.relu(self._noisy(h, noise[index], "post_norm"), inplace=True)
        h = self.deconv3_content(reflect(self._noisy(h, noise[2], "input"), 3))
        if self.noise.place != "input":
            h = self._noisy(h, noise[2], self.noise.place)
        return torch.tanh(full(h))  # blended in full precision, whatever autocast did before

    def _attention(self, h: torch.Tensor) -> torch.Tensor:
        h = F.relu(instance_norm(self.deconv1_attention(h)), inplace=True)
        h = F.relu(instance_norm(self.deconv2_attention(h)), inplace=True)
        return torch.softmax(full(self.deconv3_attention(h)), dim=1)

    def _noisy(self, h: torch.Tensor, noise: torch.Tensor | None, place: str) -> torch.Tensor:
        """h + noise where the configuration puts it at this place, else h itself."""
        return h if noise is None or place != self.noise.place else h + noise.to(h.dtype)

    def _draw(self, index: int, x: torch.Tensor, source: NoiseSource | None) -> torch.Tensor | None:
        """sigma·noise for content layer `index` (0, 1, 2), in the shape of what it is added to; None for sigma 0."""
        sigma = self.noise.sigma[index]
        if sigma == 0:
            return None
        # (channels, part of x's side) before and after each layer
        ngf, ends = self.ngf, [(4, 4), (2, 2), (1, 1), (None, 1)]
        at_input = self.noise.place == "input"
        wide, shrink = ends[index] if at_input else ends[index + 1]
        batch, channels = len(x), 3 * self.n_content if wide is None else wide * ngf
        height, width = (side // shrink for side in x.shape[2:])
        shapes = {
            "pixel": (batch, 1, height, width),
            "channel": (batch, channels, 1, 1),
            "full": (batch, channels, height, width),
        }
        return sigma * draw_noise(shapes[self.noise.shape], source, like=x)


class Discriminator(nn.Module):
    """Three-layer PatchGAN with 4×4 kernels (paper §4): one score per patch, 1 = real, 0 = fake.

    "Three-layer" counts the stride-2 convolutions; two stride-1 ones follow. The paper says that it judges "each
    4 × 4 patch": 4×4 is the kernel, and each score sees 70×70 pixels. ndf 64 and the leak 0.2: AttentionGAN's defaults.
    """

    def __init__(self, ndf: int = 64) -> None:
        super().__init__()
        self.ndf = ndf
        layers: list[nn.Module] = [nn.Conv2d(3, ndf, 4, stride=2, padding=1), nn.LeakyReLU(0.2, inplace=True)]
        for channels, wider, stride in ((ndf, 2 * ndf, 2), (2 * ndf, 4 * ndf, 2), (4 * ndf, 8 * ndf, 1)):
            layers += [
                nn.Conv2d(channels, wider, 4, stride=stride, padding=1),
                nn.InstanceNorm2d(wider),
                nn.LeakyReLU(0.2, inplace=True),
            ]
        layers.append(nn.Conv2d(8 * ndf, 1, 4, stride=1, padding=1))
        self.model = nn.Sequential(*layers)

    def config(self) -> dict:
        """The arguments that build this network again, JSON-able."""
        return {"ndf": self.ndf}

    @classmethod
    def from_config(cls, config: dict) -> "Discriminator":
        """Inverse of `config` (fresh weights)."""
        return cls(**config)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """[B, 3, H, W] in [−1, 1], H and W at least 24 → scores [B, 1, H/8 − 2, W/8 − 2] (256 → 30)."""
        if x.ndim != 4 or x.shape[1] != 3 or min(x.shape[2:]) < 24:
            raise ValueError(f"the discriminator expects [B, 3, H, W] with H and W at least 24, got {list(x.shape)}")
        return full(self.model(x))


def init_weights(net: nn.Module, generator: torch.Generator | None = None) -> nn.Module:
    """Draw every weight from N(0, 0.02) (paper §4: "Gaussian"; 0.02 and biases 0 are AttentionGAN's defaults)."""
    with torch.no_grad():
        for name, parameter in net.named_parameters():
            if name.endswith("bias"):
                parameter.zero_()
            else:
                # Drawn on the CPU so that one seed gives the same weights for every device.
                parameter.copy_(torch.randn(parameter.shape, generator=generator) * 0.02)
    return net
